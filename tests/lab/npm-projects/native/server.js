const http = require('node:http');
const path = require('node:path');
const { mask, unmask } = require('bufferutil');

// bufferutil does without its addon where that cannot be loaded.
const addon = Object.keys(require.cache).find((name) => name.endsWith('.node')) || 'no addon';

http.createServer((request, response) => {
  const key = Buffer.from([1, 2, 3, 4]);
  const text = Buffer.from('unmasked by ');
  mask(text, key, text, 0, text.length);
  unmask(text, key);
  response.end(text + path.relative('node_modules', addon));
}).listen(process.env.PORT);
