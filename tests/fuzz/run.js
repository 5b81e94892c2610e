// Reads each program before and after its edit by Node's own parser (acorn, with --expose-internals), and runs both. What
// was refused could not have been edited, every byte outside of the values is the same, and the calls of mysql.createPool
// are handed the same.
'use strict';
const fs = require('fs');
const vm = require('vm');
const acorn = (() => {
  try {
    return require('internal/deps/acorn/acorn/dist/acorn');
  } catch {
    return null;
  }
})();

// A file is a script or a module, and what Node.js wraps a script in lets it return. The syntax tree keeps parentheses.
function parse(source, types) {
  for (const sourceType of types) {
    const options = { ecmaVersion: 'latest', sourceType, allowReturnOutsideFunction: true, allowHashBang: true, preserveParens: true };
    try {
      return { sourceType, tree: acorn.parse(source.replace(/^\ufeff/, ' '), options) };
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  return null;
}

const isCalled = (callee) => callee.type === 'MemberExpression' && !callee.computed
  && callee.property.type === 'Identifier' && callee.property.name === 'createPool'
  && callee.object.type === 'Identifier' && callee.object.name === 'mysql';

// The literals that are the first argument of a call, in the order in which they begin.
function literals(node, found = []) {
  if (Array.isArray(node)) {
    node.forEach((inner) => literals(inner, found));
  } else if (node && typeof node.type === 'string') {
    if ((node.type === 'CallExpression' || node.type === 'NewExpression') && isCalled(node.callee)) {
      if (node.arguments[0]?.type === 'ObjectExpression') found.push(node.arguments[0]);
    }
    Object.values(node).forEach((inner) => inner instanceof Object && literals(inner, found));
  }
  return found.sort((one, other) => one.start - other.start);
}

function key(property) {
  const { key, computed } = property;
  if (property.type === 'SpreadElement') return null;
  if (key.type === 'Literal' && typeof key.value === 'string') return key.value;
  if (computed) return null;
  return key.type === 'Identifier' ? key.name : String(key.raw);
}

// The property that gives a literal's property its value, or null where something else may.
function setter(literal, name) {
  const keys = literal.properties.map(key);
  const last = keys.lastIndexOf(name);
  if (last < 0 || keys.slice(last).includes(null)) return null;
  const property = literal.properties[last];
  return property.kind === 'init' && !property.method ? property : null;
}

// Where the values are that the edit sets: [from, to, property]. A value that is replaced has none in it.
function places(tree, name, shorthand) {
  const found = literals(tree).map((literal) => setter(literal, name));
  if (!found.length || found.includes(null)) return null;
  let end = 0;
  found.sort((one, other) => one.value.start - other.value.start);
  const outer = found.filter(({ value }) => value.start >= end && ((end = value.end), true));
  return outer.map((property, index) => {
    const short = shorthand ? shorthand[index] : property.shorthand;
    return [short ? property.key.end : property.value.start, property.value.end, property];
  });
}

function without(source, places) {
  let at = 0;
  const parts = places.map(([from, to]) => [source.slice(at, from), (at = to)][0]);
  return [...parts, source.slice(at)].join('\u0000');
}

function literal(node) {
  if (node.type === 'TemplateLiteral' && node.quasis.length === 1) return node.quasis[0].value.cooked;
  return node.type === 'Literal' && !node.regex && !node.bigint ? node.value : node;
}

function expected(value, old) {
  if (old.type === 'Literal' && (typeof old.value === 'number' || old.bigint) && Number.isSafeInteger(Number(value)) && String(Number(value)) === value && Number(value) >= 0) return Number(value);
  if (old.type === 'Literal' && typeof old.value === 'boolean' && (value === 'true' || value === 'false')) return value === 'true';
  return value;
}

// Says what is wrong with an edit or a refusal, or nothing.
function misread({ before, after, refused, name, value }) {
  const was = parse(before, ['script', 'module']);
  if (!was) return null;
  const from = places(was.tree, name);
  if (refused !== undefined) {
    const isComment = /a `<!--`/.test(refused);
    return from && !isComment ? `it is refused: ${refused}` : null;
  }
  if (!from) return 'it was edited, and could not be';
  const is = parse(after, [was.sourceType]);
  if (!is) return 'it is no program after the edit';
  const all = literals(was.tree).length === literals(is.tree).length || from.length !== literals(was.tree).length;
  if (!all) return 'another number of calls is there';
  // A literal within a value that was replaced is gone.
  const short = from.map(([, , property]) => property.shorthand);
  const to = places(is.tree, name, short);
  if (!to || to.length !== from.length) return 'another number of values is there';
  if (without(before, from.map(([a, b, property]) => [property.shorthand ? b : a, b])) !== without(after, to)) return 'another byte has changed';
  const wrong = to.find(([, , property], index) => literal(property.value) !== expected(value, from[index][2].value));
  return wrong ? `${name} is ${after.slice(wrong[0], wrong[1])}` : null;
}

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
    const late = error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';
    return { error: late ? 'late' : error.name, calls };
  }
  return { error: null, calls };
}

const typed = (value, old) => {
  if (typeof old === 'number' && /^(0|[1-9][0-9]*)$/.test(value)) return [value, Number(value)];
  if (typeof old === 'boolean' && (value === 'true' || value === 'false')) return [value === 'true', value];
  return [value, /^(0|[1-9][0-9]*)$/.test(value) ? Number(value) : value];
};

let compared = 0;
let read = 0;
for (const one of JSON.parse(fs.readFileSync(process.argv[2]))) {
  const { before, after, name, value } = one;
  const wrong = (why) => {
    console.log(`${why}\n--- before\n${before}\n--- after, ${name} = ${JSON.stringify(value)}\n${after}`);
    process.exit(1);
  };
  if (acorn) {
    const why = misread(one);
    if (why) wrong(why);
    read += 1;
  }
  if (after === undefined) continue;
  // Some errors of syntax end Node.js itself while it words them.
  if (acorn && !parse(before, ['script'])) continue;
  const [was, is] = [run(before), run(after)];
  // What is no program, or does not end, proves nothing.
  if (was.error === 'SyntaxError' || was.error === 'late' || is.error === 'late') continue;
  // A value that was replaced may have been the error.
  if (was.error !== is.error && is.error === null) continue;
  if (was.error !== is.error) wrong(`it ends by ${was.error} before, and by ${is.error} after`);
  // Behind the value that was the error the program went on, to a call and perhaps to another error.
  const isFurther = was.error !== null && was.calls.length < is.calls.length;
  if (was.calls.length !== is.calls.length && !isFurther) wrong('another number of calls');
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
console.log(`${compared} calls compared, ${read} files read by ${acorn ? 'acorn' : 'nothing'}`);
