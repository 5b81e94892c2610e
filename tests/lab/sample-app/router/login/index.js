// Checks a name and a password against the table that sign-up fills (schema.sql).
var crypto = require('crypto');
var express = require('express');
var mysql = require('mysql');

// A sixteenth of what is usual: on an emulated processor a balancer's patience ends before the usual cost is paid.
var COST = { N: 1024 };

var router = express.Router();

var connection = mysql.createPool({
	host: '10.10.1.80',
	user: 'root',
	password: 'change-me',
	port: '3306',
	database: 'galeradb'
});

router.get('/', function (request, response) {
	response.render('login', { message: '' });
});

router.post('/', function (request, response) {
	var name = String(request.body.name || '');
	var password = String(request.body.password || '');
	connection.query('SELECT salt, hash FROM users WHERE name = ?', [name], function (error, rows) {
		// Without its database this process has nothing to say, and ends.
		if (error) throw error;
		var known = rows.length === 1 && crypto.timingSafeEqual(
			crypto.scryptSync(password, rows[0].salt, 32, COST), Buffer.from(rows[0].hash, 'hex'));
		response.status(known ? 200 : 401);
		response.render('login', { message: known ? 'Welcome, ' + name + '.' : 'Unknown name or wrong password.' });
	});
});

module.exports = router;
