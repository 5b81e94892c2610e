// The WAS tier's sample application. It keeps nothing between two requests, so any node serves any of them.
var express = require('express');
var os = require('os');
var path = require('path');

var app = express();
app.set('view engine', 'ejs');
app.set('views', path.join(__dirname, 'views'));
app.use(express.static(path.join(__dirname, 'public')));
app.use(express.urlencoded({ extended: false }));

app.get('/', function (request, response) {
	response.render('index', { hostname: os.hostname() });
});
app.use('/login', require('./router/login'));
app.use('/signUp', require('./router/signUp'));

app.listen(3000, function () {
	console.log('listening on port 3000');
});
