//! The Linux account behind the share: a system account without login shell. systemd-sysusers(8)
//! makes it from a drop-in, and makes it again if `/etc/passwd` is made again.

use std::path::{Path, PathBuf};

use crate::effect::account::OnAccount;
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::account::{self, Unfit};
use crate::host::fs::{DirState, dir_state};
use crate::host::mark;
use crate::host::{Host, blocking, way};

const SYSUSERS: &str = "/etc/sysusers.d/wasagent.conf";

/// Stands for any free number in sysusers.d(5).
const NEXT_FREE: &str = "-";

/// An account of this name. An existing account is used as it is, if it is fit to own a share and
/// can do no more than that.
#[derive(Debug, Clone)]
pub struct Account {
    pub name: String,
    /// The directory that the account owns. It may be there before the account: its disk comes from
    /// another VM, or the account was removed. The account then gets the number of the directory's
    /// owner.
    pub owns: PathBuf,
}

impl Account {
    /// The account in the form of sysusers.d(5).
    fn line(&self, id: &str) -> String {
        format!(
            "u {} {id} \"Owner of the SMB share\" / {}",
            self.name,
            account::NO_LOGIN
        )
    }
}

impl Resource for Account {
    /// The existing account, and the reason if it must not be used.
    type Observed = Option<(account::Account, Option<Unfit>)>;

    fn address(&self) -> Address {
        Address::new(Kind::Account, &self.name)
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![
            Requirement::Program("systemd-sysusers"),
            Requirement::Program("getent"),
            // A revert runs it.
            Requirement::Program("userdel"),
        ]
    }

    async fn observe(&self, _host: &Host) -> Result<Self::Observed> {
        let found = account::look_up(&self.name).await?;
        let Some(found) = found else {
            // A drop-in of somebody else's is refused before anything changes.
            blocking(|| mark::read(Path::new(SYSUSERS)).map(drop)).await?;
            return Ok(None);
        };
        blocking(move || {
            let unfit = account::unfit(&found)?;
            Ok(Some((found, unfit)))
        })
        .await
    }

    fn diff(&self, observed: &Self::Observed) -> Result<Diff> {
        match observed {
            Some((account, Some(unfit))) => Err(Error::new(format!(
                "the account {} {}",
                account.name, unfit.why
            ))
            .hint(unfit.way_out.clone())),
            Some(_) => Ok(Diff::update("the account exists")),
            None => {
                let mut diff = Diff::create("the account is missing");
                diff.field("name", None, self.name.clone());
                diff.field("shell", None, account::NO_LOGIN.to_owned());
                Ok(diff)
            }
        }
    }

    async fn obstacles(&self, _host: &Host, _observed: &Self::Observed) -> Result<()> {
        let name = self.name.clone();
        blocking(move || {
            if let Some(unfit) = account::unfit_to_be(&name)? {
                let error = Error::new(format!("the account {name} {}", unfit.why));
                return Err(error.hint(unfit.way_out));
            }
            let files = ["/etc/passwd", "/etc/group", "/etc/shadow", SYSUSERS];
            files
                .iter()
                .try_for_each(|file| way::to_file(Path::new(file)))
        })
        .await
    }

    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        vec![
            GuideStep::new(6, format!("useradd {}", self.name)),
            GuideStep::new(6, format!("passwd {}", self.name)),
        ]
    }

    async fn converge(&self, step: &Step, _observed: &Self::Observed) -> Result<()> {
        let owns = self.owns.clone();
        let id = blocking(move || match dir_state(&owns)? {
            DirState::Directory(meta) if account::is_free_for_system(meta.uid, meta.gid)? => {
                Ok(meta.uid.to_string())
            }
            _ => Ok(NEXT_FREE.to_owned()),
        })
        .await?;
        let text = mark::marked(&format!("{}\n", self.line(NEXT_FREE)));
        step.write_text(Path::new(SYSUSERS), &text).await?;
        let effect = OnAccount::MakeAccount {
            name: self.name.clone(),
        };
        step.effect(effect, |permit| async move {
            account::make(&permit, &self.line(&id)).await
        })
        .await
    }
}
