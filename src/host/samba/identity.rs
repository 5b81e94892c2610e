//! What Samba knows of an account beside its password. The line of smbpasswd(5) by which an account is put back holds
//! none of it, and an import of that line makes all of it anew.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{PASSDB, passdb};
use crate::error::Result;
use crate::host::permit::Permit;
use crate::host::process::Helper;

/// An account's SID, by which ACLs know it, and what pdbedit(8) can put back besides. None of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub sid: String,
    pub full_name: String,
    pub description: String,
    /// When the account expires, in seconds since 1970, where that is known.
    pub kickoff: Option<u32>,
}

/// The account's identity, if Samba has the account.
pub async fn identity(name: &str) -> Result<Option<Identity>> {
    let listing = Helper::new("pdbedit")
        .args(["--list", "--verbose", "--user", name])
        .output()
        .await?;
    let kickoff = passdb::account(Path::new(PASSDB), name).ok().flatten();
    let kickoff = kickoff.map(|account| account.kickoff);
    Ok(parse(&String::from_utf8_lossy(&listing.stdout), kickoff).filter(|_| listing.success))
}

fn parse(listing: &str, kickoff: Option<u32>) -> Option<Identity> {
    let value = |name: &str| {
        let mut lines = listing.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    };
    Some(Identity {
        sid: value("User SID")?,
        full_name: value("Full Name")?,
        description: value("Account desc")?,
        kickoff,
    })
}

/// Gives the account this identity.
pub async fn identify(_permit: &Permit, name: &str, identity: &Identity) -> Result<()> {
    let kickoff = identity.kickoff.map(|at| format!("--kickoff-time={at}"));
    Helper::new("pdbedit")
        .args(["--modify", "--user", name])
        .args([format!("--fullname={}", identity.full_name)])
        .args([format!("--account-desc={}", identity.description)])
        .args([format!("--user SID={}", identity.sid)])
        .args(kickoff)
        .run()
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_pdbedit_prints_it() {
        let listing = "Unix username:        user1\nNT username:          \n\
                       User SID:             S-1-5-21-1-2-3-5555\n\
                       Primary Group SID:    S-1-5-21-1-2-3-513\n\
                       Full Name:            The share: of all\nAccount desc:         \n";
        let identity = parse(listing, Some(7)).unwrap();
        assert_eq!(identity.sid, "S-1-5-21-1-2-3-5555");
        assert_eq!(identity.full_name, "The share: of all");
        assert_eq!(
            (identity.description.as_str(), identity.kickoff),
            ("", Some(7))
        );
        assert_eq!(parse("Username not found!\n", None), None);
    }
}
