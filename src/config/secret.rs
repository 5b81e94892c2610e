//! A password: wiped from memory when its owner goes, and never printed.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A password. `Debug` and `Display` print `(secret)`; it is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes a password over; the caller's copy is gone.
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(password)
    }

    /// The password itself: for standard input of a helper, a kernel option or a file of mode 0600,
    /// and for nothing that is printed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::MASK)
    }
}

impl Secret {
    /// What stands in every output where a secret would.
    pub const MASK: &'static str = "(secret)";
}
