//! Files that belong to the agent. Each begins with a line that says so. A file of the same name
//! without that line is somebody else's and is not overwritten. Only that first line counts: an
//! edited file that keeps it is the agent's. A revert decides by what it wrote ([`crate::effect`],
//! `file_target` in `file.rs`), and secrets have a rule of their own (`src/resource/secret.rs`).

use std::path::Path;
use std::time::SystemTime;

use super::fs::{FileMeta, read_regular};
use crate::error::{Error, Result};

/// The first line of every file that the agent writes into a directory that it shares with
/// others. `#` begins a comment for systemd, Samba, sysusers and Quadlet alike.
pub const MARK: &str = "# Written by wasagent from the tier file; changes made here are lost.";

/// No file of ours comes near this size.
const MAX_SIZE: u64 = 1 << 20;

/// A file of ours as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurFile {
    pub text: String,
    pub meta: FileMeta,
    pub modified: SystemTime,
}

/// Puts the mark above `body`.
pub fn marked(body: &str) -> String {
    format!("{MARK}\n{body}")
}

/// Whether a file begins with the mark.
pub fn is_ours(text: &str) -> bool {
    text.lines().next() == Some(MARK)
}

/// What stands where a file of ours belongs.
#[derive(Debug)]
pub enum Occupant {
    Nothing,
    Ours(OurFile),
    Foreign,
}

/// Looks at a file's place.
pub fn look(path: &Path) -> Result<Occupant> {
    let Some(file) = read_regular(path, MAX_SIZE)? else {
        return Ok(Occupant::Nothing);
    };
    let text = String::from_utf8_lossy(&file.contents).into_owned();
    if !is_ours(&text) {
        return Ok(Occupant::Foreign);
    }
    Ok(Occupant::Ours(OurFile {
        text,
        meta: file.meta,
        modified: file.modified,
    }))
}

/// Reads a file of ours. `None` where there is no file; an error where the file is somebody else's.
pub fn read(path: &Path) -> Result<Option<OurFile>> {
    match look(path)? {
        Occupant::Nothing => Ok(None),
        Occupant::Ours(file) => Ok(Some(file)),
        Occupant::Foreign => Err(foreign(path)),
    }
}

/// The error for somebody else's file, which is not overwritten.
pub fn foreign(path: &Path) -> Error {
    Error::new(format!(
        "{} exists and was not written by wasagent",
        path.display()
    ))
    .hint("move it away if it is not needed, and apply again")
}
