//! The API's keys: from the environment of the caller or from a file of its own, never from an argument.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

/// Who asks, and what proves it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    pub api_key: String,
    pub secret_key: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(secret)")
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.api_key.zeroize();
        self.secret_key.zeroize();
    }
}

impl Keys {
    /// Reads the keys from a file, or from `CLOUDSTACK_API_KEY` and `CLOUDSTACK_SECRET_KEY`.
    ///
    /// # Errors
    /// They are not there, or others can read the file.
    pub fn read(file: Option<&Path>) -> Result<Keys> {
        let keys = match file {
            Some(file) => Self::from_file(file)?,
            None => Keys {
                api_key: variable("CLOUDSTACK_API_KEY")?,
                secret_key: variable("CLOUDSTACK_SECRET_KEY")?,
            },
        };
        ensure!(
            !keys.api_key.is_empty() && !keys.secret_key.is_empty(),
            "a key of the API is empty"
        );
        Ok(keys)
    }

    fn from_file(file: &Path) -> Result<Keys> {
        let name = file.display();
        let mode = std::fs::metadata(file)
            .with_context(|| format!("read {name}"))?
            .permissions()
            .mode();
        ensure!(
            mode & 0o077 == 0,
            "{name} can be read by others: chmod 0600 {name}"
        );
        let text =
            Zeroizing::new(std::fs::read_to_string(file).with_context(|| format!("read {name}"))?);
        // The parser's error would quote the line.
        toml::from_str(&text).map_err(|_| anyhow::anyhow!("{name} is not as it should be: expected two lines, api_key = \"…\" and secret_key = \"…\""))
    }
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| {
        format!("{name} is not in the environment: set it, or name a file by --keys")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_read_is_refused_and_none_is_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys");
        std::fs::write(&file, "api_key = \"a\"\nsecret_key = \"hunter2\"\n").unwrap();
        let mode =
            |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(Keys::read(Some(&file)).is_err());
        mode(0o600);
        let keys = Keys::read(Some(&file)).unwrap();
        assert_eq!(keys.secret_key, "hunter2");
        assert!(!format!("{keys:?}").contains("hunter2"));
        std::fs::write(&file, "secret_key = hunter2\n").unwrap();
        let error = format!("{:#}", Keys::read(Some(&file)).unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
    }
}
