//! Whether a container is held back: a file in its service's runtime directory, beside its recent starts. While the file is
//! there, a command of the unit fails each start.

use std::path::{Path, PathBuf};

use super::fs;
use super::recent_starts::runtime_directory;
use crate::error::Result;

/// The file that holds this container back.
pub fn file(container: &str) -> PathBuf {
    Path::new("/run")
        .join(runtime_directory(container))
        .join("waits")
}

/// Holds the container back, or lets it go.
///
/// # Errors
/// When the file cannot be made or removed.
pub fn set(container: &str, is_held: bool) -> Result<()> {
    let file = file(container);
    if is_held {
        fs::write_own(&file, b"")
    } else {
        fs::remove_own(&file)
    }
}
