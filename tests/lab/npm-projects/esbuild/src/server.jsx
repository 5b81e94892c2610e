import { createServer } from 'node:http';
import { element } from './element.js';

const tool = 'esbuild';

createServer((request, response) => {
  response.end(<p>bundled by {tool}</p>);
}).listen(process.env.PORT);
