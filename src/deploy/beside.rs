//! Where the agent keeps what belongs to a shared directory: beside it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub(super) fn names(shared: &Path) -> Result<(&Path, &OsStr, OsString)> {
    let (Some(above), Some(name)) = (shared.parent(), shared.file_name()) else {
        return Err(Error::new(format!(
            "{} is no directory to share",
            shared.display()
        )));
    };
    let mut staging = OsString::from(".wasagent-");
    staging.push(name);
    Ok((above, name, staging))
}

/// The path of the staging directory of a shared directory.
pub fn path(shared: &Path) -> Result<PathBuf> {
    let (above, _, name) = names(shared)?;
    Ok(above.join(name))
}
