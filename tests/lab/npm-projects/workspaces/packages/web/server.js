const fs = require('node:fs');
const http = require('node:http');
const { text } = require('@page/text');

http.createServer((request, response) => {
  response.end(text(fs.readFileSync('page.txt', 'utf8').trim(), 'for', 'another'));
}).listen(process.env.PORT);
