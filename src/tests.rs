//! The top-level modules are floors: a module uses those below its own, and none above.

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
