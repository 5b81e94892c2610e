//! The top-level modules are floors: a module uses those below its own, and none above.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From bottom to top.
const FLOORS: [&str; 11] = [
    "error",
    "config",
    "javascript",
    "host",
    "deploy",
    "effect",
    "engine",
    "resource",
    "role",
    "health",
    "cli",
];

/// The files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .flat_map(|entry| match entry.unwrap().path() {
            path if path.is_dir() => files(&path),
            path if path.extension().is_some_and(|kind| kind == "rs") => vec![path],
            _ => Vec::new(),
        })
        .collect()
}

/// A source text without its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

/// The floors that a source text uses, as `crate::host`. Its tests and comments do not count.
fn named(text: &str) -> Vec<&'static str> {
    let lines = without_tests(text)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let paths = lines.flat_map(|line| line.split("crate::").skip(1));
    paths
        .filter_map(|path| {
            let name = path
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next();
            FLOORS.into_iter().find(|floor| Some(*floor) == name)
        })
        .collect()
}

#[test]
fn no_module_uses_one_above_it() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let height = |floor: &str| FLOORS.iter().position(|other| *other == floor).unwrap();
    let mut upward = Vec::new();
    for (own, floor) in FLOORS.into_iter().enumerate() {
        let room = sources.join(floor);
        let all = if room.is_dir() {
            files(&room)
        } else {
            vec![room.with_extension("rs")]
        };
        assert!(!all.is_empty(), "{floor} has no file");
        for file in all.iter().filter(|file| !file.ends_with("tests.rs")) {
            for used in named(&fs::read_to_string(file).unwrap()) {
                if height(used) > own {
                    upward.push(format!("{} uses {used}", file.display()));
                }
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

/// The words that stand in quotes behind this text, in all sources but tests.
fn quoted_behind(text: &str) -> BTreeSet<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = files(&sources)
        .into_iter()
        .filter(|file| !file.ends_with("tests.rs"));
    sources
        .flat_map(|file| {
            let source = fs::read_to_string(file).unwrap();
            let found = without_tests(&source).split(text).skip(1);
            let found = found.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
            found.collect::<Vec<_>>()
        })
        .collect()
}

/// Else an apply or a revert would fail midway on a VM that lacks one.
#[test]
fn each_helper_program_is_asked_for_before_a_run() {
    // systemd's, which no VM lacks, and which only adds to an error.
    let mut asked = quoted_behind("Requirement::Program(\"");
    asked.insert("journalctl".to_owned());
    let run = quoted_behind("Helper::new(\"");
    assert!(run.len() > 10, "{run:?}");
    let missing: Vec<_> = run.difference(&asked).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_long_file_says_why_it_is_long() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut silent = Vec::new();
    for file in files(&sources) {
        let text = fs::read_to_string(&file).unwrap();
        let is_long = without_tests(&text).lines().count() > 500 && !file.ends_with("tests.rs");
        let mut comment = text.lines().take_while(|line| line.starts_with("//!"));
        if is_long && !comment.any(|line| line.contains("The file is long because")) {
            silent.push(file);
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn what_a_file_uses_is_seen() {
    let text = "//! crate::cli\nuse crate::host::{Host, blocking};\nfn f() { crate::engine::g() }\n\
                #[cfg(test)]\nmod tests {\n    use crate::role;\n}\n";
    assert_eq!(named(text), ["host", "engine"]);
}
