//! The ACL that sharesec(1) puts before a share. Samba looks at it at each connection, before any file's mode.

use std::path::Path;

use super::passdb;

/// The database in Samba's state directory (source3/lib/sharesec.c).
const SHARE_INFO: &str = "/var/lib/samba/share_info.tdb";

/// Whom the ACL of a share lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Everybody may write, as without an ACL.
    #[default]
    Open,
    /// Nobody may write.
    Closed,
    /// It depends on accounts.
    Some,
}

/// Whom the ACL of the share `name` lets in. Where there is no answer, Samba's default is taken.
pub fn access(name: &str) -> Access {
    let key = format!("SECDESC/{}\0", name.to_lowercase());
    let record = passdb::record(Path::new(SHARE_INFO), key.as_bytes());
    match record {
        Ok(Some(descriptor)) => of_descriptor(&descriptor).unwrap_or(Access::Some),
        _ => Access::Open,
    }
}

/// `ACCESS_ALLOWED_ACE_TYPE` and `ACCESS_DENIED_ACE_TYPE` of [MS-DTYP] 2.4.4.1.
const ALLOWED: u8 = 0;
const DENIED: u8 = 1;

/// Write and delete: what a share must allow to be of use ([MS-DTYP] 2.4.3).
const WRITE: u32 = 0x0001_0002;

/// S-1-1-0.
const EVERYONE: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

/// A self-relative security descriptor, [MS-DTYP] 2.4.6: its DACL is at the offset in bytes 16 to 20.
fn of_descriptor(bytes: &[u8]) -> Option<Access> {
    let dacl = bytes.get(word(bytes, 16)? as usize..)?;
    let mut left = dacl.get(8..)?;
    let mut allows = false;
    let mut denies = false;
    for _ in 0..word(dacl, 4)? {
        let size = u16::from_le_bytes(*left.get(2..)?.first_chunk()?);
        let (ace, rest) = left.split_at_checked(size.into())?;
        left = rest;
        let is_everyone = ace.get(8..)? == EVERYONE;
        let writes = word(ace, 4)? & WRITE;
        match *ace.first()? {
            DENIED if is_everyone && writes != 0 => return Some(Access::Closed),
            ALLOWED if is_everyone && writes == WRITE && !denies => return Some(Access::Open),
            DENIED => denies = true,
            ALLOWED => allows |= writes == WRITE,
            _ => return None,
        }
    }
    Some(if allows { Access::Some } else { Access::Closed })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u32 = 0x001f_01ff;
    const READ: u32 = 0x0012_00a9;
    /// S-1-5-21-1.
    const SOMEBODY: [u8; 16] = [1, 2, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0];

    fn descriptor(aces: &[(u8, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![1, 0, 4, 0x80];
        bytes.extend([0; 12]);
        bytes.extend(20_u32.to_le_bytes());
        bytes.extend([2, 0, 0, 0]);
        bytes.extend((aces.len() as u32).to_le_bytes());
        for (kind, mask, sid) in aces {
            bytes.extend([*kind, 0]);
            bytes.extend((8 + sid.len() as u16).to_le_bytes());
            bytes.extend(mask.to_le_bytes());
            bytes.extend(*sid);
        }
        bytes
    }

    #[test]
    fn an_acl_lets_in_everybody_nobody_or_some() {
        let everyone: &[u8] = &EVERYONE;
        for (aces, access) in [
            (vec![(ALLOWED, FULL, everyone)], Access::Open),
            (vec![(DENIED, FULL, everyone)], Access::Closed),
            (vec![(ALLOWED, READ, everyone)], Access::Closed),
            (vec![], Access::Closed),
            (vec![(ALLOWED, FULL, &SOMEBODY[..])], Access::Some),
            (
                vec![(DENIED, FULL, &SOMEBODY[..]), (ALLOWED, FULL, everyone)],
                Access::Some,
            ),
            (
                vec![(ALLOWED, FULL, &SOMEBODY[..]), (DENIED, FULL, everyone)],
                Access::Closed,
            ),
        ] {
            let bytes = descriptor(&aces);
            assert_eq!(of_descriptor(&bytes), Some(access), "{aces:?}");
            for cut in 0..bytes.len() {
                let _ = of_descriptor(&bytes[..cut]);
            }
        }
    }
}
