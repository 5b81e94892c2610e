import { createServer } from 'node:http';
import { page } from './dist/page.cjs';

createServer((request, response) => {
  response.end(page());
}).listen(process.env.PORT);
