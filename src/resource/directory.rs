//! The directory that is shared, owned by the share's account.

use std::path::PathBuf;

use crate::engine::{Address, Diff, Kind, Resource, Step};
use crate::error::{Error, Result};
use crate::host::account::{self, Account};
use crate::host::fs::{DirState, FileMeta, dir_state};
use crate::host::{Host, blocking};

/// A directory with its owner and mode. What is in it is not touched.
#[derive(Debug, Clone)]
pub struct Directory {
    pub path: PathBuf,
    /// The account that owns it, with its group.
    pub owner: String,
    pub mode: u32,
}

#[derive(Debug)]
pub struct Observed {
    state: DirState,
    /// `None` while the account is still to be made.
    owner: Option<Account>,
}

impl Resource for Directory {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Directory, self.path.display())
    }

    async fn observe(&self, _host: &Host) -> Result<Observed> {
        let path = self.path.clone();
        Ok(Observed {
            state: blocking(move || dir_state(&path)).await?,
            owner: account::look_up(&self.owner).await?,
        })
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let meta = match observed.state {
            DirState::Absent => None,
            DirState::Directory(meta) => Some(meta),
            DirState::Other(what) => {
                return Err(Error::new(format!(
                    "{} is {what}, not a directory",
                    self.path.display()
                ))
                .hint("move it away, or share another directory: storage.path"));
            }
        };
        let mut diff = match meta {
            None => Diff::create("the directory is missing"),
            Some(_) => Diff::update("owner or mode differ"),
        };
        let owner = meta.map(|meta| match &observed.owner {
            Some(owner) if (owner.uid, owner.gid) == (meta.uid, meta.gid) => self.owner.clone(),
            _ => format!("{}:{}", meta.uid, meta.gid),
        });
        diff.field("owner", owner, self.owner.clone());
        diff.field(
            "mode",
            meta.map(|meta| format!("{:04o}", meta.mode)),
            format!("{:04o}", self.mode),
        );
        Ok(diff)
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        let Some(owner) = &observed.owner else {
            return Err(Error::new(format!("the account {} is missing", self.owner)));
        };
        let meta = FileMeta {
            mode: self.mode,
            uid: owner.uid,
            gid: owner.gid,
        };
        if observed.state == DirState::Absent {
            step.make_directories(&self.path, meta).await
        } else {
            step.own_directory(&self.path, meta).await
        }
    }
}
