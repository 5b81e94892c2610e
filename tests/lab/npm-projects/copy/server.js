const fs = require('node:fs');
const http = require('node:http');

http.createServer((request, response) => {
  response.end(fs.readFileSync('dist/pages/index.html'));
}).listen(process.env.PORT);
