//! The JavaScript editor: Node.js reads and runs each program before and after an edit. The properties that were set have
//! their values, every other byte and all that the program does are the same, and what is refused could not be edited.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use wasagent::config::Secret;
use wasagent::javascript::set_properties;

use crate::mutation::{Text, texts};

/// Whole files, which are also what is changed at random.
const CORPUS: [&str; 7] = [
    include_str!("corpus/javascript/sign_up.js"),
    include_str!("corpus/javascript/module.js"),
    include_str!("corpus/javascript/strange.js"),
    include_str!("corpus/javascript/slashes.js"),
    include_str!("corpus/javascript/classes.js"),
    include_str!("corpus/javascript/pools.js"),
    include_str!("corpus/javascript/bundled.js"),
];

const WORDS: [&str; 37] = [
    "mysql.createPool(",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "host",
    "'",
    "\"",
    "`",
    "${",
    "/",
    "//",
    "/*",
    "*/",
    "\\",
    "\n",
    "\u{2028}",
    ":",
    ",",
    ";",
    "=>",
    "=",
    "...",
    "++",
    "return ",
    "class ",
    "#!",
    "\u{feff}",
    "?.",
    "#p",
    "async ",
    "get ",
    "\\u0068ost",
    "\r\n",
    "if (x) ",
];

/// What may stand before a call, and leaves quotes, slashes and braces that mislead who does not read it as the grammar
/// says.
const BEFORE: [&str; 58] = [
    "",
    "'use strict';",
    "let a = 4 / 2; // it's",
    "let b = /[/']/g;",
    "let c = `'${1 / 2}'${{}}'`;",
    "/* { host: 'x' } */",
    "function f() {} /'/.test('');",
    "let d = function () {} / 1; '/';",
    "if (1) /'/.test('');",
    "let e = { if() {}, get: 1, 'q': /'/ };",
    "let g = x => {}\n/'/.test('');",
    "{ a: { b: ; } }",
    "switch (1) { case 1 ? 2 : 3: {} default: {} /'/.test('') }",
    "class A { static x = {} / 1; 'y' = /'/; get z() { return `}` } }",
    "let h = [1, 2]\n;[3].map(String);",
    "let i = 1\n++i;",
    "for (const j of 'ab') /'/.test(j);",
    "do ; while (0) /'/.test('');",
    "let k = x => ({ host: 'no' });",
    "let l = 1..toFixed() / 2 / .5;",
    "let m = 'it\\'s' + \"\\\"\" + '\\\n';",
    "let n = typeof /'/;",
    "let o = async () => { for await (const p of []) /'/.test(p); };",
    "let q = String.raw`\\`;",
    "let r = a?.5:1;",
    "let s = 10 ** 2 / 3;",
    "let t = `a${`b${'}'}`}`;",
    "<!-- it's\n",
    "let aa = (1) / 2; /'/.test('');",
    "let ab = [1][0] / 2 / 1;",
    "var ac = {}\n/'/.test('')",
    "if (1) {} /'/.test('');",
    "while (0) {} /'/.test('');",
    "function ad() { return /'/.test('') }",
    "class B { #p = 1; q() { return this.#p / 2 / 1 } static { /'/.test('') } }",
    "class C { get = 1; set; async\n*[`}`]() {} 'h'\n= /'/ }",
    "let ae = a?.[0] / 2 / 1;",
    "let af = null ?? /'/;",
    "let ag = function* () { yield /'/; yield\n/'/; };",
    "let ah = async x => await /'/;",
    "let ai = x => { }\n, aj = 1 / 2 / 1;",
    "let of = 1; of / 2 / 1;",
    "var async = 1; async / 2 / 1;",
    "var get = 1, set = 2; get / set / 1;",
    "let ak = new Date / 2 / 1;",
    "let al = this / 2 / 1;",
    "let am = { return: 1, if: 2 }; am.return / 2 / am.if / 1;",
    "let an = `${{ a: `}` }.a}` / 2 / 1;",
    "let ao = 0x1f / 2 / 08.5 / 1_0 / 1n.x;",
    "try { throw /'/ } catch { } finally { } /'/.test('');",
    "l: { break l } /'/.test('');",
    "let ap = i => i++ / 2 / 1;",
    "var aq = 1; aq++\n/'/.test",
    "let ar = typeof function () {} / 2 / 1;",
    "export default function () {} /'/.test('');",
    "import x from 'x'; export { x as default };",
    "let as = /[\\]/]'/u, at = /a/gi / 2 / 1;",
    "--> it's\n",
];

/// The call; `@` is its object. What is no call of that name, or hands it no literal, never runs.
const CALL: [&str; 20] = [
    "mysql.createPool(@);",
    "mysql.createPool(@, () => {});",
    "mysql\n.createPool\n(@)",
    "mysql?.createPool?.(@)",
    "new mysql.createPool(@)",
    "let pool = [mysql.createPool(@)][0];",
    "`${mysql.createPool(@)}`;",
    "mysql/* ' */./* { */createPool/**/(/* ) */@/* } */);",
    "(() => { return mysql.createPool(@) })();",
    "for (let u of [1]) { mysql.createPool(@) }",
    "mysql.createPool(@) / 2 / 1",
    "() => (mysql.createPool)(@);",
    "() => mysql.createPool((@));",
    "() => mysql.createPool(@.x);",
    "() => mysql.createPool(@ || 1);",
    "x.mysql.createPool(@)",
    "() => mysql['createPool'](@);",
    "class D extends mysql.createPool(@) {}",
    "mysql.createPool(@)\nmysql.createPool({ host, port: 1, ssl: true })",
    "m\\u0079sql.createPool(@)`${1}`",
];

/// Members of the object. Names of outer variables are declared by the runner.
const MEMBER: [&str; 44] = [
    "host: 'old'",
    "host: \"old\"",
    "host: `old`",
    "host: process.env.HOST",
    "host: process.env.HOST || 'x'",
    "'host': 'old'",
    "['host']: 'old'",
    "h\\u006fst: 'old'",
    "host",
    "host: (1, 'old')",
    "host: 'a' + 'b'",
    "host: x => x",
    "host() { return 'old' }",
    "get host() { return 'old' }",
    "port: 3306",
    "port: '3306'",
    "port: 0x1f",
    "port: -1",
    "ssl: true",
    "ssl: { host: 'inner', port: 1 }",
    "user: 'root'",
    "...rest",
    "[computed]: 'old'",
    "list: [1, { host: 2 }]",
    "nested: mysql.createPool({ host: 'inner' })",
    "__proto__: { host: 'above' }",
    "host: 'ol\\\nd'",
    "host: /* ' */ 'old' // }\n",
    "host: (('old'))",
    "host: computed ? 'b' : { c: 'd' }",
    "host: async () => { return 'old' }",
    "host: function () { /'/ }",
    "host: class { host = 1 }",
    "host: `a${'b'}c`",
    "host: String.raw`old`",
    "host: +1",
    "port: 1n",
    "port: 33_06",
    "async host() { }",
    "*host() { }",
    "set host(x) { }",
    "[`host`]: 'old'",
    "get: 1, set: 2, async: 3",
    "3306: 'number'",
];

/// What is set: strings that need care in a literal, a number, a boolean.
const VALUES: [&str; 14] = [
    "db",
    "3306",
    "false",
    "it's \"quoted\"",
    "back\\slash`${x}",
    "",
    "줄\u{2028}바꿈",
    "</script>",
    "a\nb\0c",
    "9007199254740993",
    "007",
    "-0",
    "\u{1f600}\r\t\u{7f}\u{85}<!--",
    "'+process.exit()+'",
];

const RUN: &str = include_str!("run.js");

#[test]
fn node_sees_the_new_values_and_no_other_change() {
    let written = (
        vec(select(&BEFORE[..]), 0..4),
        select(&CALL[..]),
        vec(select(&MEMBER[..]), 0..6),
    )
        .prop_map(|(before, call, members)| {
            let object = format!("{{ {} }}", members.join(", "));
            let call = call.replace('@', &object);
            Text(format!("{}\n{call}", before.join("\n")).into_bytes())
        });
    let sources = prop_oneof![3 => written, 1 => texts(&CORPUS, &WORDS)];
    let inputs = (
        sources,
        select(&["host", "port", "ssl"][..]),
        select(&VALUES[..]),
    );
    let edited = RefCell::new(Vec::new());
    crate::for_a_while(&inputs, |(Text(source), name, value)| {
        let set = BTreeMap::from([(name.to_owned(), Secret::new(value.to_owned()))]);
        let result = set_properties("file.js", &source, "mysql.createPool", &set);
        let keep = |mut case: serde_json::Value| {
            case["before"] = std::str::from_utf8(&source).unwrap_or_default().into();
            case["name"] = name.into();
            case["value"] = value.into();
            edited.borrow_mut().push(case);
            if edited.borrow().len() >= 500 {
                run(&edited.take());
            }
        };
        let after = match result {
            Ok(after) => after,
            Err(error) => {
                prop_assert!(error.hint.is_some(), "{error:?}");
                let shows = value.len() > 8 && error.to_string().contains(value);
                prop_assert!(!shows, "it shows a value: {error:?}");
                keep(json!({ "refused": error.message }));
                return Ok(());
            }
        };
        let again = set_properties("file.js", &after, "mysql.createPool", &set);
        prop_assert!(
            again.is_ok_and(|again| again == after),
            "a second edit changes it"
        );
        keep(json!({ "after": std::str::from_utf8(&after).unwrap() }));
        Ok(())
    });
    run(&edited.take());
}

/// Runs the programs by Node.js, if there is one. What is no program before its edit proves nothing.
fn run(edited: &[serde_json::Value]) {
    let directory = tempfile::tempdir().unwrap();
    let (program, cases) = (
        directory.path().join("run.js"),
        directory.path().join("cases.json"),
    );
    std::fs::write(&program, RUN).unwrap();
    std::fs::write(&cases, serde_json::to_vec(edited).unwrap()).unwrap();
    let mut node = Command::new("node");
    node.arg("--expose-internals").arg(&program).arg(&cases);
    let Ok(output) = node.output() else {
        eprintln!("skipped: there is no node");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if let Some(signal) = output.status.signal() {
        eprintln!("skipped: node itself ended by signal {signal}");
        return;
    }
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    eprint!("{said}");
}
