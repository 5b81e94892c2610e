const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

http.createServer((request, response) => {
  const file = path.join(__dirname, 'dist', request.url === '/' ? 'index.html' : request.url);
  fs.createReadStream(file)
    .on('error', () => response.writeHead(404).end())
    .pipe(response);
}).listen(process.env.PORT);
