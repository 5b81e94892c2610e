//! A file that holds a secret: mode 0600, owned by root, its contents shown nowhere. A secret that does not work
//! never replaces a secret that works.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::CifsShare;
use crate::config::Secret;
use crate::engine::{Address, Diff, GuideStep, Kind, Resource, Step};
use crate::error::{Error, Result};
use crate::host::fs::{FileMeta, RegularFile, read_regular};
use crate::host::{Host, blocking, way};

const MODE: u32 = 0o600;
const MAX_SIZE: u64 = 64 << 10;

/// A secret in a file.
#[derive(Debug, Clone)]
pub struct SecretFile {
    pub path: PathBuf,
    pub contents: Secret,
    /// How every file of this kind begins. A file that begins otherwise is somebody else's.
    pub begins: &'static str,
    /// The share that the secret must open. The agent tries that before it overwrites an existing secret, because the
    /// next boot would use the new one.
    pub lets_in: CifsShare,
}

impl Resource for SecretFile {
    type Observed = Option<RegularFile>;

    fn address(&self) -> Address {
        Address::new(Kind::Secret, self.path.display())
    }

    async fn observe(&self, _host: &Host) -> Result<Self::Observed> {
        let path = self.path.clone();
        blocking(move || read_regular(&path, MAX_SIZE)).await
    }

    fn diff(&self, observed: &Self::Observed) -> Result<Diff> {
        let Some(file) = observed else {
            let mut diff = Diff::create("the file is missing");
            diff.secret("contents", false);
            return Ok(diff);
        };
        if !file.contents.starts_with(self.begins.as_bytes()) {
            return Err(Error::new(format!(
                "{} exists and was not written by wasagent",
                self.path.display()
            ))
            .hint("move it away if it is not needed, and apply again"));
        }
        let mut diff = Diff::update("the file differs from the tier file");
        if *file.contents != self.contents.expose().as_bytes() {
            diff.secret("contents", true);
        } else {
            diff.because("others than root could read or change it");
        }
        let owner_and_mode =
            |meta: FileMeta| format!("{}:{} {:04o}", meta.uid, meta.gid, meta.mode);
        diff.field(
            "owner and mode",
            Some(owner_and_mode(file.meta)),
            owner_and_mode(FileMeta::root(MODE)),
        );
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, _observed: &Self::Observed) -> Result<()> {
        let path = self.path.clone();
        blocking(move || way::to_file(&path)).await
    }

    fn guide(&self, diff: &Diff) -> Vec<GuideStep> {
        let path = self.path.display();
        let mut steps = Vec::new();
        if diff.changes("contents") {
            let edit = format!("vi {path}  # username=… and password=…");
            steps.push(GuideStep::new(14, edit));
        }
        steps.push(GuideStep::new(14, format!("chmod {MODE:o} {path}")));
        steps
    }

    async fn converge(&self, step: &Step, observed: &Self::Observed) -> Result<()> {
        let contents = Zeroizing::new(self.contents.expose().as_bytes().to_vec());
        let replaces = observed
            .as_ref()
            .is_some_and(|file| file.contents != contents);
        if replaces {
            self.lets_in.is_let_in().await?;
        }
        step.write_file(&self.path, contents, FileMeta::root(MODE))
            .await
    }
}
