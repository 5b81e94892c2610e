const http = require('node:http');
const { h } = require('preact');
const { render } = require('preact-render-to-string');

const Page = ({ tool }) => h('p', { class: 'page' }, 'rendered by ', tool);

http.createServer((request, response) => {
  response.end('<!doctype html>' + render(h(Page, { tool: 'preact' })));
}).listen(process.env.PORT);
