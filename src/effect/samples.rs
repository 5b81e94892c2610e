//! Sample effects on a file, for tests that walk effects back.

use super::file::{OnFile, SavedFile};
use super::{Effect, Recorded};
use crate::host::fs::FileMeta;
use crate::host::sha256::Sha256;

pub fn sha(text: &str) -> Sha256 {
    Sha256::of(text.as_bytes())
}

pub fn file(text: &str) -> SavedFile {
    SavedFile {
        contents: sha(text),
        meta: FileMeta::root(0o644),
        modified: (0, 0),
        label: None,
    }
}

pub fn write(before: Option<&str>, after: &str) -> OnFile {
    OnFile::WriteFile {
        path: "/x".into(),
        before: before.map(file),
        after: sha(after),
        meta: FileMeta::root(0o644),
    }
}

pub fn recorded(effect: impl Into<Effect>, undoes: bool) -> Recorded {
    Recorded {
        resource: "file:/x".parse().unwrap(),
        effect: effect.into(),
        number: 1,
        undoes,
        done: true,
        failed: false,
        left: None,
    }
}
