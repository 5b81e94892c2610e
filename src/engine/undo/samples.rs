//! Effects on a file, for the tests of whatever walks them back.

use crate::engine::effect::{Effect, SavedFile, Sha256};
use crate::engine::journal::Recorded;
use crate::host::fs::FileMeta;

pub(super) fn sha(text: &str) -> Sha256 {
    Sha256::of(text.as_bytes())
}

pub(super) fn file(text: &str) -> SavedFile {
    SavedFile {
        contents: sha(text),
        meta: FileMeta::root(0o644),
        modified: (0, 0),
        label: None,
    }
}

pub(super) fn write(before: Option<&str>, after: &str) -> Effect {
    Effect::WriteFile {
        path: "/x".into(),
        before: before.map(file),
        after: sha(after),
        meta: FileMeta::root(0o644),
    }
}

pub(super) fn recorded(effect: Effect, undoes: bool) -> Recorded {
    Recorded {
        resource: "file:/x".parse().unwrap(),
        effect,
        number: 1,
        undoes,
        done: true,
        failed: false,
    }
}
