//! The shared directory, owned by the share's account.

use std::path::PathBuf;

use super::data_disk::{self, DataDisk, PathOnDisk};
use crate::engine::{Action, Address, Diff, GuideStep, Kind, Resource, Step};
use crate::error::{Error, Result};
use crate::host::account::{self, Account};
use crate::host::fs::{DirState, FileMeta, dir_state, missing_directories};
use crate::host::{Host, blocking, way};

/// A directory with its owner and mode. Its contents are not touched.
#[derive(Debug, Clone)]
pub struct Directory {
    pub path: PathBuf,
    /// The disk that the directory will be on.
    pub disk: Option<DataDisk>,
    /// The account that owns it, with its group.
    pub owner: String,
    pub mode: u32,
}

#[derive(Debug)]
pub struct Observed {
    state: DirState,
    /// Whether something is in it.
    is_used: bool,
    /// `None` while the account is still to be made.
    owner: Option<Account>,
    /// The account will get the number of the directory's owner.
    owner_is_kept: bool,
}

impl Resource for Directory {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Directory, self.path.display())
    }

    async fn observe(&self, _host: &Host) -> Result<Observed> {
        let (path, disk) = (self.path.clone(), self.disk.clone());
        let state = blocking(move || {
            let place = data_disk::find(&path, disk.as_ref())?;
            let Some(path) = place.path() else {
                return Ok((DirState::Absent, false));
            };
            let mut entries = std::fs::read_dir(&path);
            let is_used = entries
                .as_mut()
                .is_ok_and(|entries| entries.next().is_some());
            Ok((dir_state(&path)?, is_used))
        });
        let (state, is_used) = state.await?;
        let owner = account::look_up(&self.owner).await?;
        let owner_is_kept = match (state, &owner) {
            (DirState::Directory(meta), None) => {
                blocking(move || account::is_free_for_system(meta.uid, meta.gid)).await?
            }
            _ => false,
        };
        Ok(Observed {
            state,
            is_used,
            owner,
            owner_is_kept,
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
            None if observed.owner_is_kept => self.owner.clone(),
            _ => format!("{}:{}", meta.uid, meta.gid),
        });
        diff.field("owner", owner, self.owner.clone());
        if observed.is_used && diff.changes("owner") {
            diff.notes.push(format!(
                "what is in {0} keeps its owner; chown -R {1}: {0} gives it to {1}",
                self.path.display(),
                self.owner
            ));
        }
        diff.field(
            "mode",
            meta.map(|meta| format!("{:04o}", meta.mode)),
            format!("{:04o}", self.mode),
        );
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, observed: &Observed) -> Result<()> {
        if observed.state != DirState::Absent {
            return Ok(());
        }
        let (path, disk) = (self.path.clone(), self.disk.clone());
        blocking(move || match data_disk::find(&path, disk.as_ref())? {
            PathOnDisk::Mounted(path) => way::to_directory(&path),
            // It is looked into read-only.
            PathOnDisk::Unmounted(disk, inside) => missing_directories(&disk.path(&inside))
                .map(drop)
                .map_err(|error| error.while_doing(path.display())),
            PathOnDisk::Nowhere => Ok(()),
        })
        .await
    }

    fn guide(&self, diff: &Diff) -> Vec<GuideStep> {
        let path = self.path.display();
        let mut steps = Vec::new();
        if diff.action == Action::Create {
            steps.push(GuideStep::new(5, format!("mkdir -p {path}")));
        }
        steps.push(GuideStep::new(5, format!("chmod -R 777 {path}")));
        steps
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
