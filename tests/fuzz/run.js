// Runs each program before and after its edit, and compares what the calls of mysql.createPool were handed.
'use strict';
const fs = require('fs');
const vm = require('vm');

// Each property of each object, in the order of the calls; getters and functions by their text.
function shown(value, depth = 0) {
  if (typeof value === 'function') return `function ${value}`;
  if (typeof value !== 'object' || value === null) return `${typeof value} ${String(value)}`;
  if (depth > 5) return '…';
  return Object.keys(value).map((key) => [key, shown(value[key], depth + 1)]);
}

function run(source) {
  const calls = [];
  const mysql = { createPool: function (pool) { calls.push(pool); return pool; } };
  const module = { exports: {} };
  const names = {
    mysql, module, exports: module.exports, host: 'outer', rest: { host: 'rest', port: 1 }, computed: 'port',
    require: (name) => (name === 'mysql' || name === 'mysql2' ? mysql : function () { return { get() {}, post() {}, use() {} } }),
    process: { env: { HOST: 'env' } }, console: { log() {} },
  };
  names.require.Router = undefined;
  try {
    vm.runInNewContext(source, names, { timeout: 5000 });
  } catch (error) {
    // Calls that happened before an error of the program still count.
    return { error: error.name, calls };
  }
  return { error: null, calls };
}

const typed = (value, old) => {
  if (typeof old === 'number' && /^(0|[1-9][0-9]*)$/.test(value)) return [value, Number(value)];
  if (typeof old === 'boolean' && (value === 'true' || value === 'false')) return [value === 'true', value];
  return [value, /^(0|[1-9][0-9]*)$/.test(value) ? Number(value) : value];
};

let compared = 0;
for (const { before, after, name, value } of JSON.parse(fs.readFileSync(process.argv[2]))) {
  const [was, is] = [run(before), run(after)];
  const wrong = (why) => {
    console.log(`${why}\n--- before\n${before}\n--- after, ${name} = ${JSON.stringify(value)}\n${after}`);
    process.exit(1);
  };
  // What is no program, or does not end, proves nothing.
  if (was.error === 'SyntaxError' || was.error === 'Error') continue;
  if (was.error !== is.error) wrong(`it ends by ${was.error} before, and by ${is.error} after`);
  if (was.calls.length !== is.calls.length) wrong('another number of calls');
  was.calls.forEach((pool, index) => {
    const set = is.calls[index];
    if (typeof pool !== 'object' || pool === null) return;
    compared += 1;
    const [one, other] = [{ ...pool }, { ...set }];
    if (name in one && !typed(value, one[name]).includes(other[name])) {
      // An object in the argument of a nested call is one of its own, and has been set as well.
      wrong(`call ${index}: ${name} is ${JSON.stringify(other[name])}`);
    }
    delete one[name];
    delete other[name];
    // What a nested call got is compared as a call.
    delete one.nested;
    delete other.nested;
    if (JSON.stringify(shown(one)) !== JSON.stringify(shown(other))) wrong(`call ${index}: something else changed`);
  });
}
console.log(`${compared} calls compared`);
