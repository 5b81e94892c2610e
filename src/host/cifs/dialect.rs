//! A dialect has three notations: the tier file's, the kernel's, which sometimes differs, and its number on the wire.

use crate::config::Dialect;

/// Parses the kernel's notation: `3.0`, `3.0.2` or `3.02`, `3.1.1`, and `3` for a mount that was offered all of them and
/// got an older one (`SMB2_negotiate` in fs/smb/client/smb2pdu.c).
pub fn from_kernel(vers: &str) -> Option<Dialect> {
    match vers {
        "3.0" => Some(Dialect::V3_0),
        "3.0.2" | "3.02" => Some(Dialect::V3_0_2),
        "3.1.1" | "3.11" => Some(Dialect::V3_1_1),
        "3" => Some(Dialect::V3),
        _ => None,
    }
}

/// The dialects that a client offers, by their numbers on the wire (MS-SMB2 2.2.3), lowest first.
pub const fn offered(dialect: Dialect) -> &'static [(Dialect, u16)] {
    match dialect {
        Dialect::V3_0 => &[(Dialect::V3_0, 0x0300)],
        Dialect::V3_0_2 => &[(Dialect::V3_0_2, 0x0302)],
        Dialect::V3_1_1 => &[(Dialect::V3_1_1, 0x0311)],
        Dialect::V3 => &[
            (Dialect::V3_0, 0x0300),
            (Dialect::V3_0_2, 0x0302),
            (Dialect::V3_1_1, 0x0311),
        ],
    }
}

/// Whether a mount with `mounted` is what the tier file wants.
pub fn serves(wanted: Dialect, mounted: Dialect) -> bool {
    wanted == mounted || wanted == Dialect::V3
}
