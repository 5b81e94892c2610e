//! The dialects of SMB that a tier file may ask for. Of one dialect there are three words: the tier file's, the
//! kernel's, which is not always the same, and its number on the wire.

use std::fmt;

/// SMB dialects of the contract's `was.vers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    Smb3_0,
    Smb3_0_2,
    Smb3_1_1,
}

impl Dialect {
    /// Reads `3.0`, `3.0.2` (the kernel also says `3.02`) and `3.1.1`.
    pub fn parse(vers: &str) -> Option<Self> {
        match vers {
            "3.0" => Some(Self::Smb3_0),
            "3.0.2" | "3.02" => Some(Self::Smb3_0_2),
            "3.1.1" | "3.11" => Some(Self::Smb3_1_1),
            _ => None,
        }
    }

    /// Its number on the wire (MS-SMB2 2.2.3).
    pub(super) const fn number(self) -> u16 {
        match self {
            Self::Smb3_0 => 0x0300,
            Self::Smb3_0_2 => 0x0302,
            Self::Smb3_1_1 => 0x0311,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smb3_0 => "3.0",
            Self::Smb3_0_2 => "3.0.2",
            Self::Smb3_1_1 => "3.1.1",
        })
    }
}
