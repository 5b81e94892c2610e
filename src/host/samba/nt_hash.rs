//! The hash of a password that Samba stores.

use md4::{Digest, Md4};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::config::Secret;

/// The NT hash of a password: MD4 of its UTF-16LE form ([MS-NLMP] 3.3.1). The hash is worth as much
/// as the password, so it is never printed, and is wiped from memory.
#[derive(PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct NtHash(pub [u8; 16]);

impl NtHash {
    pub fn of(password: &Secret) -> Self {
        let mut hash = Md4::new();
        for unit in password.expose().encode_utf16() {
            hash.update(unit.to_le_bytes());
        }
        Self(hash.finalize().into())
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 32 digits that Samba's programs take.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// `None` if `digits` is no hash: pdbedit may print `X` or words instead.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let mut hash = Self([0; 16]);
        if digits.len() != 2 * hash.0.len() {
            return None;
        }
        for (index, byte) in hash.0.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nt_hash_is_the_one_samba_stores() {
        // Known hashes of "Password" ([MS-NLMP] 4.2.2.1.2) and of the empty password.
        for (password, stored) in [
            ("Password", "A4F49C406510BDCAB6824EE7C30FD852"),
            ("", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        ] {
            let hash = NtHash::of(&Secret::new(password.to_owned()));
            assert_eq!(hash.to_hex(), stored.to_uppercase());
            assert!(NtHash::from_hex(stored) == Some(hash));
        }
        for no_hash in [
            "",
            "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
            "é1d6cfe0d16ae931b73c59d7e0c089c",
        ] {
            assert!(NtHash::from_hex(no_hash).is_none());
        }
    }
}
