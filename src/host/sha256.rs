//! SHA-256 of contents. The record stores the contents under this name.

use serde::{Deserialize, Serialize};

/// 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sha256(pub String);

impl Sha256 {
    pub fn of(contents: &[u8]) -> Self {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(contents);
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
