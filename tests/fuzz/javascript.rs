//! The JavaScript editor: Node.js runs each program before and after an edit. The properties that were set have their
//! values, and everything else that the program does is the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use wasagent::config::Secret;
use wasagent::javascript::set_properties;

use crate::mutation::{Text, texts};

/// Whole files, which are also what is changed at random.
const CORPUS: [&str; 3] = [
    include_str!("corpus/javascript/sign_up.js"),
    include_str!("corpus/javascript/module.js"),
    include_str!("corpus/javascript/strange.js"),
];

const WORDS: [&str; 30] = [
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
];

/// What may stand before a call, and leaves quotes, slashes and braces that mislead who does not read it as the grammar
/// says.
const BEFORE: [&str; 28] = [
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
];

/// The call; `@` is its object.
const CALL: [&str; 10] = [
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
];

/// Members of the object. Names of outer variables are declared by the runner.
const MEMBER: [&str; 26] = [
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
];

/// What is set: strings that need care in a literal, a number, a boolean.
const VALUES: [&str; 9] = [
    "db",
    "3306",
    "false",
    "it's \"quoted\"",
    "back\\slash`${x}",
    "",
    "줄\u{2028}바꿈",
    "</script>",
    "a\nb\0c",
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
        let Ok(after) = set_properties("file.js", &source, "mysql.createPool", &set) else {
            return Ok(());
        };
        let again = set_properties("file.js", &after, "mysql.createPool", &set);
        prop_assert!(
            again.is_ok_and(|again| again == after),
            "a second edit changes it"
        );
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        edited.borrow_mut().push(json!({
            "before": text(&source), "after": text(&after), "name": name, "value": value,
        }));
        if edited.borrow().len() >= 500 {
            run(&edited.take());
        }
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
    let Ok(output) = Command::new("node").arg(&program).arg(&cases).output() else {
        eprintln!("skipped: there is no node");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    eprint!("{said}");
}
