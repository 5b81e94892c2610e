//! Files that belong to the agent: each begins with a line that says so, and a file of the same
//! name without that line is somebody else's and is not overwritten.

use std::path::Path;
use std::time::SystemTime;

use super::fs::{FileMeta, read_regular};
use crate::error::{Error, Result};

/// The first line of every file that the agent writes into a directory that it shares with
/// others. `#` begins a comment for systemd, Samba, sysusers and Quadlet alike.
pub const MARK: &str = "# Written by wasagent from the tier file; changes made here are lost.";

/// No file of ours comes near this size.
const MAX_SIZE: u64 = 1 << 20;

/// A file of ours as it is.
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

/// Whether a file says so.
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

/// Reads a file of ours. `None` where there is none; an error where there is somebody else's.
pub fn read(path: &Path) -> Result<Option<OurFile>> {
    match look(path)? {
        Occupant::Nothing => Ok(None),
        Occupant::Ours(file) => Ok(Some(file)),
        Occupant::Foreign => Err(foreign(path)),
    }
}

/// What is somebody else's is not overwritten.
pub fn foreign(path: &Path) -> Error {
    Error::new(format!(
        "{} exists and was not written by wasagent",
        path.display()
    ))
    .hint("move it away if it is not needed, and apply again")
}
