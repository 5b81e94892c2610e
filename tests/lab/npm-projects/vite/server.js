import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';

createServer(async (request, response) => {
  const file = new URL(`dist${request.url === '/' ? '/index.html' : request.url}`, import.meta.url);
  try {
    response.end(await readFile(file));
  } catch {
    response.writeHead(404).end();
  }
}).listen(process.env.PORT);
