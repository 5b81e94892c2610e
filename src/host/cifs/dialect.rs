//! A dialect has three notations: the tier file's, the kernel's, which sometimes differs, and its number on the wire.

use crate::config::Dialect;

/// Parses the kernel's notation: `3.0`, `3.0.2` or `3.02`, and `3.1.1`.
pub fn from_kernel(vers: &str) -> Option<Dialect> {
    match vers {
        "3.0" => Some(Dialect::V3_0),
        "3.0.2" | "3.02" => Some(Dialect::V3_0_2),
        "3.1.1" | "3.11" => Some(Dialect::V3_1_1),
        _ => None,
    }
}

/// The dialect's number on the wire (MS-SMB2 2.2.3).
pub const fn number(dialect: Dialect) -> u16 {
    match dialect {
        Dialect::V3_0 => 0x0300,
        Dialect::V3_0_2 => 0x0302,
        Dialect::V3_1_1 => 0x0311,
    }
}
