//! The tier file: it is taken or refused, with faults that have a place in it.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use wasagent::config::{self, Role};

use crate::mutation::{Text, texts};

const CORPUS: [&str; 2] = [
    include_str!("corpus/tier/guide.toml"),
    include_str!("corpus/tier/all.toml"),
];

const WORDS: [&str; 22] = [
    "[share]\n",
    "[storage.disk]\n",
    "[[storage.content.edit]]\n",
    "[was.container]\n",
    "=",
    "\"",
    "'''",
    "\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\\u0000",
    "0x7f",
    "-1",
    "99999999999999999999",
    "{index}",
    "{database.password}",
    "true",
    "한글",
    "\u{feff}",
];

#[test]
fn it_is_taken_or_refused_with_a_place() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    file.as_file().set_permissions(private).unwrap();
    let roles = vec![None, Some(Role::Storage), Some(Role::Was)];
    let inputs = (texts(&CORPUS, &WORDS), proptest::sample::select(roles));
    crate::for_a_while(&inputs, |(Text(text), role)| {
        std::fs::write(file.path(), &text).unwrap();
        if let Err(faults) = config::load(file.path(), role) {
            prop_assert!(!faults.to_string().trim().is_empty());
        }
        Ok(())
    });
}
