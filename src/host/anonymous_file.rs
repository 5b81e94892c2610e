//! A file for a helper program that accepts only a path. The file has no name, so it is gone when
//! this process ends, however it ends. A named file in `/run` would outlive a kill, and the
//! contents may be secret.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Doing, Result};
use crate::host::blocking;

/// A file in memory. Its path is valid while this value lives.
pub struct AnonymousFile {
    _file: File,
    path: PathBuf,
}

impl AnonymousFile {
    pub async fn holding(contents: Zeroizing<Vec<u8>>) -> Result<Self> {
        blocking(move || Self::write(&contents)).await
    }

    fn write(contents: &[u8]) -> Result<Self> {
        // O_TMPFILE; /run is a tmpfs.
        let mut file = tempfile::tempfile_in("/run").doing("make a file in /run")?;
        file.write_all(contents).doing("write a file in /run")?;
        // proc_pid_fd(5): opening this path opens the file itself, from the beginning.
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Ok(Self {
            _file: file,
            path: path.into(),
        })
    }

    /// The path by which another process of root opens the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_by_its_path_and_has_no_name() {
        let Ok(unnamed) = AnonymousFile::write(b"text") else {
            // Only root writes in /run.
            return;
        };
        assert_eq!(std::fs::read(unnamed.path()).unwrap(), b"text");
        let target = std::fs::read_link(unnamed.path()).unwrap();
        assert!(!target.exists(), "{}", target.display());
    }
}
