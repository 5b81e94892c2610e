//! What Samba knows of an account beside its password. The line of smbpasswd(5) by which an account is put back holds
//! none of it, and an import of that line makes all of it anew.

use serde::{Deserialize, Serialize};

use super::passdb;
use crate::error::Result;
use crate::host::blocking;
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
    /// The only clients that may use it; empty: all may. Missing in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workstations: Option<String>,
}

impl Identity {
    /// Whether `now` is this identity, as far as both are known.
    pub fn is_in(&self, now: &Self) -> bool {
        let known = Self {
            kickoff: self.kickoff.and(now.kickoff),
            workstations: self.workstations.as_ref().and(now.workstations.clone()),
            ..now.clone()
        };
        let wanted = Self {
            kickoff: now.kickoff.and(self.kickoff),
            workstations: now.workstations.as_ref().and(self.workstations.clone()),
            ..self.clone()
        };
        known == wanted
    }
}

/// The account's identity, if Samba has the account.
pub async fn identity(name: &str) -> Result<Option<Identity>> {
    let listing = Helper::new("pdbedit")
        .args(["--list", "--verbose", "--user", name])
        .output()
        .await?;
    let kickoff = kickoff(name).await?;
    Ok(parse(&String::from_utf8_lossy(&listing.stdout), kickoff).filter(|_| listing.success))
}

/// When the account expires, if the database can be read.
async fn kickoff(name: &str) -> Result<Option<u32>> {
    let (Some(file), name) = (super::database().await?, name.to_owned()) else {
        return Ok(None);
    };
    let account = blocking(move || Ok(passdb::account(&file, &name))).await?;
    Ok(account.ok().flatten().map(|account| account.kickoff))
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
        workstations: value("Workstations"),
    })
}

/// Gives the account this identity. It has no workstations before.
pub async fn identify(permit: &Permit, name: &str, identity: &Identity) -> Result<()> {
    let kickoff = identity.kickoff.map(|at| format!("--kickoff-time={at}"));
    Helper::new("pdbedit")
        .changes()
        .args(["--modify", "--user", name])
        .args([format!("--fullname={}", identity.full_name)])
        .args([format!("--account-desc={}", identity.description)])
        .args([format!("--user SID={}", identity.sid)])
        .args(kickoff)
        .run()
        .await?;
    match identity.workstations.as_deref() {
        None | Some("") => Ok(()),
        Some(names) => super::set_workstations(permit, name, names).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_pdbedit_prints_it() {
        let listing = "Unix username:        user1\nNT username:          \n\
                       User SID:             S-1-5-21-1-2-3-5555\n\
                       Primary Group SID:    S-1-5-21-1-2-3-513\n\
                       Full Name:            The share: of all\nAccount desc:         \n\
                       Workstations:         PC1,PC2\n";
        let identity = parse(listing, Some(7)).unwrap();
        assert_eq!(identity.sid, "S-1-5-21-1-2-3-5555");
        assert_eq!(identity.full_name, "The share: of all");
        assert_eq!(
            (identity.description.as_str(), identity.kickoff),
            ("", Some(7))
        );
        assert_eq!(identity.workstations.as_deref(), Some("PC1,PC2"));
        let other = |kickoff, names: Option<&str>| Identity {
            kickoff,
            workstations: names.map(str::to_owned),
            ..identity.clone()
        };
        assert!(identity.is_in(&other(None, None)) && other(None, None).is_in(&identity));
        assert!(!identity.is_in(&other(Some(8), None)));
        assert!(!identity.is_in(&other(None, Some("PC1"))));
        assert_eq!(parse("Username not found!\n", None), None);
    }
}
