const http = require('node:http');
const { page } = require('./dist/page');

http.createServer((request, response) => {
  response.end(page());
}).listen(process.env.PORT);
