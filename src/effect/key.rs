//! The key with which the contents on record are digested. It begins with the record: a record that began without one
//! goes on without, since its digests have to stay equal to newer ones.

use std::io::Read;
use std::path::Path;

use super::history;
use crate::error::{Doing, Error, Result};
use crate::host::fs::{read_regular, write_own};
use crate::host::sha256::{self, KEY};

const FILE: &str = "key";

/// Takes the key of the record in the agent's own directory into use. `begins`: something is about to
/// be recorded, so an empty record gets its key.
///
/// # Errors
/// When the key cannot be read or written.
pub fn take(directory: &Path, begins: bool) -> Result<()> {
    if let Some(key) = load(directory, begins)? {
        sha256::use_key(key);
    }
    Ok(())
}

fn load(directory: &Path, begins: bool) -> Result<Option<[u8; KEY]>> {
    let path = directory.join(FILE);
    if let Some(file) = read_regular(&path, KEY as u64)? {
        let key = <[u8; KEY]>::try_from(&file.contents[..]);
        return key.map(Some).map_err(|_| {
            Error::new(format!("{} is no key of {KEY} bytes", path.display())).hint(
                "restore it from a backup; without it, no revert can tell what was changed since",
            )
        });
    }
    if !begins || history::exists(directory)? {
        return Ok(None);
    }
    let mut key = [0; KEY];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .doing("read /dev/urandom")?;
    write_own(&path, &key)?;
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::effect::{Ledger, Outcome, Work};

    #[test]
    fn a_record_keeps_the_key_that_it_began_with_or_none() {
        let new = tempfile::tempdir().unwrap();
        assert_eq!(load(new.path(), false).unwrap(), None);
        let key = load(new.path(), true).unwrap().unwrap();
        assert_eq!(load(new.path(), false).unwrap(), Some(key));
        assert_eq!(load(new.path(), true).unwrap(), Some(key));

        let old = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(old.path(), Work::Apply, Role::Was);
        ledger.open_and_close(Outcome::Done).unwrap();
        assert_eq!(load(old.path(), true).unwrap(), None);
    }
}
