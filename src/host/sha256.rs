//! SHA-256 of contents. The record stores the contents under this name.
//!
//! Contents may be a secret, and a plain digest of a short secret can be guessed. So what goes on record is digested
//! together with a key of this VM, where the record began with one.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// The length of a key, in bytes.
pub const KEY: usize = 32;

/// The key of this VM's record. `None`: the record is older than keys.
static KEY_OF_RECORD: OnceLock<[u8; KEY]> = OnceLock::new();

/// Digests what goes on record with this key from now on.
pub fn use_key(key: [u8; KEY]) {
    let _ = KEY_OF_RECORD.set(key);
}

/// 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sha256(pub String);

impl Sha256 {
    /// The plain digest: every VM finds the same.
    pub fn of(contents: &[u8]) -> Self {
        Self::keyed(&[], contents)
    }

    /// The digest by which the record of this VM knows the contents.
    pub fn on_record(contents: &[u8]) -> Self {
        Self::keyed(KEY_OF_RECORD.get().map_or(&[], |key| &key[..]), contents)
    }

    /// All keys have the same length, so no two pairs of a key and contents read alike.
    fn keyed(key: &[u8], contents: &[u8]) -> Self {
        use sha2::Digest;
        let digest = sha2::Sha256::new_with_prefix(key)
            .chain_update(contents)
            .finalize();
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_changes_the_digest_and_no_key_is_plain_sha_256() {
        // FIPS 180-2, B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of(b"abc").0, abc);
        let keyed = |key: u8| Sha256::keyed(&[key; KEY], b"abc");
        assert_ne!(keyed(1).0, abc);
        assert_ne!(keyed(1), keyed(2));
    }
}
