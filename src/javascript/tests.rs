use super::*;

/// The literal of `mysql.createPool` with the one property `host`, set to `db`.
fn set_host(source: &str) -> Result<String> {
    set(source, &[("host", "db")])
}

fn set(source: &str, properties: &[(&str, &str)]) -> Result<String> {
    set_in(source.as_bytes(), "mysql.createPool", properties)
}

fn set_in(source: &[u8], object: &str, properties: &[(&str, &str)]) -> Result<String> {
    let properties = properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned())))
        .collect();
    let edited = set_properties("app.js", source, object, &properties)?;
    let again = set_properties("app.js", &edited, object, &properties)?;
    assert_eq!(edited, again, "a second time changes nothing");
    Ok(String::from_utf8(edited.to_vec()).unwrap())
}

const LOGIN: &str = include_str!("../../tests/lab/sample-app/router/login/index.js");
const SIGN_UP: &str = include_str!("../../tests/lab/sample-app/router/signUp/index.js");

#[test]
fn the_guides_files_get_the_settings_and_nothing_else() {
    for before in [LOGIN, SIGN_UP] {
        let edited = set(
            before,
            &[
                ("host", "192.168.3.26"),
                ("user", "root"),
                ("password", r#"'"\${암호} #%$,"#),
                ("port", "3306"),
                ("database", "user1"),
            ],
        );
        let expected = before
            .replace("'10.10.1.80'", "'192.168.3.26'")
            .replace("'change-me'", r#"'\'"\\${암호} #%$,'"#)
            .replace("'galeradb'", "'user1'");
        assert_eq!(edited.unwrap(), expected);
    }
}

/// Sources in which `@` stands for the value of `host`. Before the edit the value is `'old'`.
#[test]
fn every_other_byte_stays() {
    let table = [
        "mysql.createPool({host:@})",
        "mysql.createPool({ host: @, })",
        "mysql.createPool({ host : @ , port: 1 }, callback)",
        "mysql.createPool({\r\n\thost: @,\r\n\tport: '1'\r\n});\r\n",
        "\u{feff}mysql.createPool({ host: @ });",
        "#!/usr/bin/env node '\nmysql.createPool({ host: @ });",
        "mysql/* { */ . // {\n createPool /**/ ( /* {host: 1} */ { /* a */ host /* b */ : /* c */ @ /* d */ } /* e */ )",
        "mysql\n\t.createPool\n({ 'host': @ })",
        "mysql?.createPool?.({ \"host\": @ })",
        "mysql.createPool({ ['host']: @ })",
        "mysql.createPool({ h\\u006fst: @ })",
        "mysql.createPool({ 'h\\x6f\\u{73}\\\nt': @ })",
        "mysql.cr\\u0065atePool({ host: @ })",
        "new mysql.createPool({ host: @ }).promise()",
        "var pool = await mysql.createPool({ host: @ }), x",
        "f(...mysql.createPool({ host: @ }))",
        "mysql.createPool(\u{a0}{\u{3000}host:\u{2028}@\u{2029}})",
        "`${mysql.createPool({ host: @ })}`",
        "`a${`b${{a: '}'}['a']}`}${mysql.createPool({ host: @ })}`",
        // Neither a nested literal's property nor another member's value.
        "mysql.createPool({ ssl: { host: 'x' }, host: @, f(host) { return { host: 1 } } })",
        "mysql.createPool({ a: f(1, { host: 2 }), b: [1, 2], host: @, c: (x, y) => { host: x } })",
        "mysql.createPool({ get a() { return 1 }, set: 1, get: 2, async: 3, host: @, async *b() {}, 7: 8 })",
        "mysql.createPool({ a: b ? c : d, host: @, class: 'x', function: 1, if: 2, e: class { host = 1 } })",
        "mysql.createPool({ port, host: @, user })",
        "mysql.createPool({ ...defaults, [name]: 1, host: @ })",
        // JavaScript takes the last property of a name.
        "mysql.createPool({ host: 'first', host: @ })",
        "mysql.createPool({ get host() { return 1 }, host: @ })",
        // All calls that are handed an object literal.
        "a = mysql.createPool({ host: @ }); mysql.createPool(url); b = mysql.createPool({ host: @ })",
        "mysql.createPool({ a: mysql.createPool({ host: @ }), host: @ })",
    ];
    for template in table {
        let edited = set_host(&template.replace('@', "'old'"));
        assert_eq!(edited.unwrap(), template.replace('@', "'db'"), "{template}");
    }
}

/// Text that would be taken for a string, a comment, a regular expression or a block if the goal
/// symbol were wrong.
#[test]
fn a_slash_and_a_brace_are_what_the_grammar_says() {
    let table = [
        "a = b / c; //'",
        "a = b\n/ c / d /* ' */;",
        "a = /'/g;",
        "a = /[/']/g;",
        r"a = /\/'\[/;",
        "a = [/'/, (/`/), b ? /'/ : /`/];",
        "if (a) /'/.test(b);",
        "while (a) /'/.test(b)\n",
        "for (a of /'/[Symbol.split](b)) c;",
        "for await (const a of b()) /'/.test(a);",
        "do a(); while (b) /'/.test(c);",
        "(a) / b; '/';",
        "a.if(b) / c; '/';",
        "a[b] / c; '/';",
        "a++ / b; '/';",
        "a\n++/'/.lastIndex;",
        "a = {} / b; '/';",
        "a = { b: 1 } / 2; '/';",
        "{ b: 1 } /'/.test(a);",
        "{ a: { b } /'/.test(c); }",
        "switch (a) { case b ? c : d: {} /'/.test(e); default: {} /'/.test(e) }",
        "a ? {} / b : '/';",
        "x = a ? b : {} / c; '/';",
        "a = function () {} / b; '/';",
        "function a() {} /'/.test(b);",
        "b\nfunction a() {} /'/.test(b);",
        "async function a() {} /'/.test(b);",
        "a = async function () {} / b; '/';",
        "export default async function () {} /'/.test(b);",
        "export default class extends {}.a {} /'/.test(b);",
        "a = class extends (b) { c() {} static {} d = {} / 1 } / 2; '/';",
        "class A { 'b' = /'/; get; set; static async *[`c`]() {} }\n/'/.test(d);",
        "a = b => {}\n/'/.test(c);",
        "a = b => ({}) / c; '/';",
        "f = () => { return\n{ a: 1 } /'/.test(b) };",
        "f = () => { return { a: 1 } / b }; '/';",
        "f = () => { return /'/ };",
        "f = () => typeof /'/;",
        "a.return / b; '/';",
        "function* g() { yield /'/ }",
        "a = { class: 1, function() {}, if() {}, return: /'/ };",
        "a = { class: 1, b() { c: {} /'/.test(d) } };",
        "a = { b() {}, get c() { return /'/ }, d: { e: {} / 1 } };",
        "a = b?.5:'/';",
        "a = b?.c / d; '/';",
        "a = 1..toFixed() / 2 / .5 / 0xf / 1e-5 / 1_0n / 01.length; '/';",
        r"a = 'it\'s' + '\\' + '\
' + '\u2028';",
        "a = `'${b / c}'${{}}'` / 2; '/';",
        "a = b`'` / c; '/';",
        r"a = `\`'\${'`;",
        "x--> 0; '//';",
        "a\n--> it's\n",
        "/* it's\n*/ --> it's\n",
        "한글 / b; '/';",
        "#a in b; '/';",
    ];
    for before in table {
        let template = format!("{before}\nmysql.createPool({{ host: @ }}); '/*`'");
        let edited = set_host(&template.replace('@', "'old'"));
        assert_eq!(edited.unwrap(), template.replace('@', "'db'"), "{before}");
    }
}

#[test]
fn a_value_takes_the_place_of_any_other() {
    let table = [
        ("'old'", "it's", r"'it\'s'"),
        ("'old'", "\"", "'\"'"),
        ("\"old\"", "it's", "\"it's\""),
        ("\"old\"", "\"", r#""\"""#),
        ("`old`", "`$ ${x} $", r"`\`$ \${x} $`"),
        ("'old'", "${x}", "'${x}'"),
        ("`a${b}c`", "db", "'db'"),
        ("process.env.HOST ||\n  'local,host'", "db", "'db'"),
        ("a ? { b: [c, '}'] } : (d, e)", "db", "'db'"),
        ("/[,}]/.exec(a)", "db", "'db'"),
        ("async (a, b) => { return a }", "db", "'db'"),
        ("function () { a, b }", "db", "'db'"),
        ("null", "db", "'db'"),
        ("mysql.createPool({ host: 'x' })", "db", "'db'"),
        // A literal that already has the value stays, however it is written.
        (r"'d\x62'", "db", r"'d\x62'"),
        ("'3306'", "3306", "'3306'"),
        // The type stays where a string would not do.
        ("3306", "3307", "3307"),
        ("3306", "0", "0"),
        ("0xcea", "3306", "3306"),
        ("3306", "03306", "'03306'"),
        ("3306", "+1", "'+1'"),
        ("3306", "", "''"),
        ("3306", "9007199254740993", "'9007199254740993'"),
        ("3306", "1e3", "'1e3'"),
        ("-1", "1", "'1'"),
        ("process.env.PORT || 3306", "3307", "'3307'"),
        ("true", "false", "false"),
        ("true", "yes", "'yes'"),
        ("null", "true", "'true'"),
        ("'true'", "false", "'false'"),
    ];
    for (old, value, new) in table {
        let source = |text| format!("mysql.createPool({{ host: {text}, port: 1 }})");
        let edited = set(&source(old), &[("host", value)]);
        assert_eq!(edited.unwrap(), source(new), "{old}");
    }
    let edited = set_host("mysql.createPool({ host /* the name */, port })");
    let expected = "mysql.createPool({ host: 'db' /* the name */, port })";
    assert_eq!(edited.unwrap(), expected);
}

#[test]
fn what_require_gives_may_stand_for_a_name() {
    let named = |source: &str| {
        set_in(
            source.as_bytes(),
            "require('mysql').createPool",
            &[("host", "db")],
        )
    };
    for source in [
        "var c = require('mysql').createPool({ host: 1 })",
        "require(\"mysql\")\n  .createPool({ host: 1 })",
        "require ( 'my\\x73ql' ) /* x */ ?. createPool({ host: 1 })",
    ] {
        let edited = named(source).expect(source);
        assert_eq!(edited, source.replace("host: 1", "host: 'db'"));
    }
    for source in [
        "a.require('mysql').createPool({ host: 1 })",
        "require('mysql2').createPool({ host: 1 })",
        "require(mysql).createPool({ host: 1 })",
        "require('mysql', 1).createPool({ host: 1 })",
    ] {
        let message = named(source).expect_err(source).message;
        assert!(message.contains("no call of require('mysql').createPool;"));
    }
}

#[test]
fn a_call_of_another_name_comes_with_the_name_that_works() {
    for (source, message, way_out) in [
        (
            "mysql.createPools(1);\nvar a = require('mysql').createPool({ host: 1 })",
            "app.js: no call of mysql.createPool; the nearest is require('mysql').createPool at 2:9",
            "object = \"require('mysql').createPool\"",
        ),
        (
            "const { createPool } = require('mysql'); createPool({ host: 1 })",
            "app.js: no call of mysql.createPool; the nearest is createPool at 1:42",
            "object = \"createPool\"",
        ),
        (
            "x = (await mysql()).createPool({ host: 1 })",
            "app.js: no call of mysql.createPool; at 1:21 createPool is called on what an expression gives, which has no name",
            "object = \"db.createPool\"",
        ),
    ] {
        let error = set_host(source).expect_err(source);
        assert_eq!(error.message, message);
        assert!(error.hint.unwrap().contains(way_out), "{source}");
    }
}

#[test]
fn what_is_no_call_of_that_name_is_none() {
    let table = [
        "xmysql.createPool({ host: 1 })",
        "mysql.createPool2({ host: 1 })",
        "mysql.createPools.x({ host: 1 })",
        "mysql.createPool.bind(x)({ host: 1 })",
        "other.mysql.createPool({ host: 1 })",
        "other?.mysql.createPool({ host: 1 })",
        "f().mysql.createPool({ host: 1 })",
        "this.#mysql.createPool({ host: 1 })",
        "mysql.createPool`{ host: 1 }`",
        "mysql.createPool",
        "mysql.createPool = { host: 1 }",
        "MySQL.createPool({ host: 1 })",
        "01.mysql.createPool({ host: 1 })",
        "'mysql.createPool({ host: 1 })'",
        "\"mysql.createPool({ host: 1 })\"",
        "`mysql.createPool({ host: 1 })`",
        "// mysql.createPool({ host: 1 })",
        "/* mysql.createPool({ host: 1 }) */",
        "#! mysql.createPool({ host: 1 })",
        "a = /mysql.createPool({ host: 1 })/",
        "",
    ];
    for source in table {
        let message = set_host(source).expect_err(source).message;
        assert!(
            message.starts_with("app.js: no call of mysql.createPool; "),
            "{message}"
        );
    }
}

#[test]
fn parameters_are_no_arguments() {
    let table = [
        "function connect({ host }) {}",
        "function* connect({ host }) {}",
        "a = async function connect({ host }) {}",
        "a = { connect({ host }) {} }",
        "class A { async connect({ host }) {} }",
        "connect = ({ host }) => 1",
    ];
    for source in table {
        let error = set_in(source.as_bytes(), "connect", &[("host", "db")]).expect_err(source);
        assert!(error.message.contains("no call of connect"), "{error}");
        let called = format!("{source}\nconnect({{ host: 1 }})");
        let edited = set_in(called.as_bytes(), "connect", &[("host", "db")]).unwrap();
        assert_eq!(edited, format!("{source}\nconnect({{ host: 'db' }})"));
    }
}

#[test]
fn what_is_not_there_is_an_error_with_the_nearest() {
    let table = [
        (
            "var a = require('a');\n\tmysql.createConnection({ host: 1 })\ncreate({})",
            "app.js: no call of mysql.createPool; the nearest is mysql.createConnection at 2:2",
        ),
        (
            "var a = 1",
            "app.js: no call of mysql.createPool; it calls nothing",
        ),
        (
            "mysql.createPool({\r\n  hots: '한글', /* é */ port: 1, h: 2 })",
            "app.js:1:18: the object literal of mysql.createPool has no property `host`; the nearest is `hots` at 2:3",
        ),
        (
            "mysql.createPool({})",
            "app.js:1:18: the object literal of mysql.createPool has no property `host`; it has none by name",
        ),
        (
            "mysql.createPool({ [host]: 1, ...host })",
            "app.js:1:18: the object literal of mysql.createPool has no property `host`; it has none by name",
        ),
        // Every call must have it, or a call would keep its old settings unnoticed.
        (
            "mysql.createPool({ host: 1 });\nmysql.createPool({ 'a-host': 1 })",
            "app.js:2:18: the object literal of mysql.createPool has no property `host`; the nearest is `a-host` at 2:20",
        ),
        (
            "한(); mysql.createPool(config)",
            "app.js:1:6: mysql.createPool is handed what begins with `config` instead of an object literal",
        ),
        (
            "mysql.createPool()",
            "app.js:1:1: mysql.createPool is handed nothing instead of an object literal",
        ),
        (
            "mysql.createPool('mysql://root:secret@db', { host: 1 })",
            "app.js:1:1: mysql.createPool is handed something else instead of an object literal",
        ),
        (
            "mysql.createPool({ host: 1 }.host)",
            "app.js:1:1: mysql.createPool is handed something else instead of an object literal",
        ),
        (
            "mysql.createPool({ get host() { return 1 } })",
            "app.js:1:20: `host` is a function here, and holds no value to set",
        ),
        (
            "mysql.createPool({ host: 1, host() {} })",
            "app.js:1:29: `host` is a function here, and holds no value to set",
        ),
        (
            "mysql.createPool({ host: })",
            "app.js:1:20: `host` is a function here, and holds no value to set",
        ),
        (
            "mysql.createPool({ host: 1,\n...config })",
            "app.js:2:1: `...` behind `host` may give `host` another value",
        ),
        (
            "mysql.createPool({ host: 1, [name]: 2 })",
            "app.js:1:29: a computed name behind `host` may give `host` another value",
        ),
    ];
    for (source, message) in table {
        let error = set_host(source).expect_err(source);
        assert_eq!(error.message, message);
        assert!(error.hint.is_some());
    }
}

#[test]
fn what_is_not_javascript_is_refused_with_its_place() {
    let table: [(&[u8], &str); 14] = [
        (b"a\r\n'", "2:1: a string that its line ends"),
        (b"'a\n'", "1:1: a string that its line ends"),
        (b"a = `b${c}", "1:10: a template that never ends"),
        (b"`b${c", "1:1: a `${` that nothing closes"),
        (b"`b${(}`", "1:5: a `(` that nothing closes"),
        (b"a /* b", "1:3: a comment that never ends"),
        (b"a = /b\n/", "1:5: a regular expression that its line ends"),
        (b"a = /[/", "1:5: a regular expression that its line ends"),
        (b"a = /\\", "1:5: a regular expression that its line ends"),
        (b"f(", "1:2: a `(` that nothing closes"),
        (b"(]", "1:1: a `(` that nothing closes"),
        (b"a\n}", "2:1: a `}` that closes nothing"),
        (b"a \\b", "1:3: a backslash that escapes nothing"),
        (b"a\0", "1:2: a character that means nothing here: '\\0'"),
    ];
    for (source, message) in table {
        let error = set_in(source, "mysql.createPool", &[("host", "db")]).unwrap_err();
        assert!(error.message.contains(message), "{error}: {message}");
    }
    let html = set_host("a <!-- b").unwrap_err();
    assert!(html.message.starts_with("app.js:1:3: a `<!--`"), "{html}");
    let latin1 = set_in(b"a\n\xed\x95\x9c '\xe9'", "f", &[]).unwrap_err();
    assert_eq!(latin1.message, "app.js:2:4: a byte that is not UTF-8");
}

#[test]
fn no_error_and_no_debug_holds_a_value() {
    let value = "hunter2";
    for source in [
        "mysql.createPool({ hots: 'hunter1' })",
        "mysql.createPool({ host: 'hunter1', ...a })",
        "mysql.createPool('hunter1')",
        "mysql.createPool({ host: 'hunter1'",
        "x('hunter1')",
    ] {
        let error = set(source, &[("host", value)]).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
    }
}

#[test]
fn a_missing_file_is_an_error_with_the_nearest() {
    let there = [
        "server.js",
        "router/login/index.js",
        "router/signUp/index.js",
    ];
    let error = |file: &str| missing_file(Path::new(file), there.map(Path::new)).message;
    let message = "router/signup/index.js: the content has no such file; the nearest is router/signUp/index.js";
    assert_eq!(error("router/signup/index.js"), message);
    let message =
        "login/index.js: the content has no such file; the nearest is router/login/index.js";
    assert_eq!(error("login/index.js"), message);
    let none = missing_file(Path::new("a.js"), []).message;
    assert_eq!(
        none,
        "a.js: the content has no such file; there is no file in it"
    );
}

#[test]
fn the_word_of_an_arrow_function_is_no_call() {
    let error = set_in(b"async ({ host }) => f()", "async", &[("host", "db")]).unwrap_err();
    assert!(
        error.message.ends_with("the nearest is f at 1:21"),
        "{error}"
    );
}

/// Passwords as people, generators and attackers make them.
const VALUES: [&str; 64] = [
    "",
    " ",
    "a",
    "'",
    "\"",
    "`",
    "\\",
    "\\\\",
    "'\"`",
    "\\'",
    "\\\"",
    "\\`",
    "''",
    "'+x+'",
    "');x('",
    "\"+x+\"",
    "${x}",
    "$${x}",
    "\\${x}",
    "$",
    "{",
    "$ {x}",
    "}",
    "`${`",
    "a\nb",
    "a\rb",
    "a\r\nb",
    "\n",
    "\t",
    "\u{b}\u{c}\u{8}",
    "\0",
    "\x000",
    "\x009",
    "a\x001b",
    "\u{1}",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{feff}a",
    "\u{200b}\u{202e}",
    "비밀번호",
    "각",
    "é",
    "日本",
    "😀",
    "👨\u{200d}👩",
    "\u{10ffff}",
    "</script>",
    "<!--",
    "-->",
    "]]>",
    "//",
    "/* */",
    "\\u0041",
    "\\x41",
    "\\0",
    "\\\n",
    "a,b#c%d$e\\f g'h\"i",
    "3306",
    "__proto__",
];

/// Old values of `host`: each is replaced in another way.
const OLD: [&str; 6] = ["'old'", "\"old\"", "`old`", "a || 'b'", "3306", "false"];

#[test]
fn every_value_reads_back_by_our_own_reader() {
    for value in VALUES {
        for quote in ['\'', '"'] {
            let literal = string::literal(value, quote);
            assert_eq!(*string::value(&literal).unwrap(), value, "{literal:?}");
            let unseen = |c: char| c.is_control() || "\u{2028}\u{2029}\u{feff}".contains(c);
            assert!(!literal.contains(unseen), "{literal:?}");
            let room = value.len() * 4 + 2;
            assert!(literal.len() <= room, "the string would have moved");
        }
    }
}

/// Node.js reads each edited file and says what the call was handed. Without Node.js, only the test
/// above remains.
#[test]
fn every_value_reads_back_by_node() {
    let directory = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let mut sources = Vec::new();
    for value in VALUES {
        for old in OLD {
            let source = format!("mysql.createPool({{ host: {old}, user: 'u' }})");
            sources.push(set(&source, &[("host", value)]).unwrap());
            expected.push(match (old, value) {
                ("3306", "3306") => serde_json::json!(3306),
                _ => serde_json::json!(value),
            });
        }
        sources.push(set("let host; mysql.createPool({ host })", &[("host", value)]).unwrap());
        expected.push(serde_json::json!(value));
    }
    let program = format!(
        "const read = source => {{ let host; const mysql = {{ createPool: pool => host = pool.host }};\n\
         Function('mysql', source)(mysql); return host }};\n\
         process.stdout.write(JSON.stringify({}.map(read)))",
        serde_json::to_string(&sources).unwrap()
    );
    let file = directory.path().join("read.js");
    std::fs::write(&file, program).unwrap();
    let Ok(output) = std::process::Command::new("node").arg(&file).output() else {
        eprintln!("skipped: there is no node");
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let read: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read.len(), VALUES.len() * (OLD.len() + 1));
    for ((read, expected), source) in read.iter().zip(&expected).zip(&sources) {
        assert_eq!(read, expected, "{source:?}");
    }
}

/// However the source is cut or put together, there is an error or an edit, and no panic.
#[test]
fn no_input_makes_it_panic() {
    let seed = "a = `b${c ? {d: /[/]\\//} : '\\u{61}'}` / 1e-5; mysql.createPool({ ['a']: x?.y, get b() {}, ...c, host: \"old\\\n\", host })";
    let ends: Vec<usize> = (0..=seed.len())
        .filter(|at| seed.is_char_boundary(*at))
        .collect();
    for from in &ends {
        for to in ends.iter().filter(|to| *to >= from) {
            _ = set_host(&seed[*from..*to]);
            _ = set_host(&format!("{}{}", &seed[..*from], &seed[*to..]));
        }
    }
    let deep = format!("{}{}", "[{a:(`${".repeat(20_000), "}`)}]".repeat(20_000));
    assert!(set_host(&deep).is_err());
}
