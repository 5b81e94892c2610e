const express = require('express');
const router = express();
const mysql = require('mysql');
// the tier's database
const connection = mysql.createPool({
    host: '10.10.1.80',
    port: '3306',
    user: 'root',
    password: 'change-me',
    database: 'galeradb', // it's behind a balancer
});
router.post('/', function (req, res) {
    const sql = `INSERT INTO users VALUES ('${req.body.id}', ?)`;
    connection.query(sql, [/^\w+$/.test(req.body.id) ? 1 / 2 : 'no']);
});
module.exports = router;
