const fs = require('node:fs');
const http = require('node:http');

http.createServer((request, response) => {
  response.end(fs.readFileSync('generated/again'));
}).listen(process.env.PORT);
