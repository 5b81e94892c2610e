//! A file of the agent's own, checked before it takes effect.

use std::path::PathBuf;

use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::anonymous_file::AnonymousFile;
use crate::host::mark::{self, OurFile};
use crate::host::samba;
use crate::host::{Host, blocking, way};

/// The check that a candidate must pass before it takes the file's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    None,
    /// testparm(1) reads it, and finds this section.
    SambaShare(String),
}

/// A file that belongs to the agent, mode 0644, owned by root.
#[derive(Debug, Clone)]
pub struct File {
    pub path: PathBuf,
    /// The file's text below the agent's mark.
    pub body: String,
    pub check: Check,
}

impl Resource for File {
    type Observed = Option<OurFile>;

    fn address(&self) -> Address {
        Address::new(Kind::File, self.path.display())
    }

    fn requirements(&self) -> Vec<Requirement> {
        match self.check {
            Check::None => Vec::new(),
            Check::SambaShare(_) => vec![Requirement::Program("testparm")],
        }
    }

    async fn observe(&self, _host: &Host) -> Result<Self::Observed> {
        let path = self.path.clone();
        blocking(move || mark::read(&path)).await
    }

    fn diff(&self, observed: &Self::Observed) -> Result<Diff> {
        let wanted = mark::marked(&self.body);
        let mut diff = match observed {
            None => Diff::create("the file is missing"),
            Some(_) => Diff::update("the file differs from the tier file"),
        };
        diff.field("text", observed.as_ref().map(|f| f.text.clone()), wanted);
        diff.field(
            "mode",
            observed.as_ref().map(|f| format!("{:04o}", f.meta.mode)),
            "0644".to_owned(),
        );
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, _observed: &Self::Observed) -> Result<()> {
        let path = self.path.clone();
        blocking(move || way::to_file(&path)).await?;
        self.check().await
    }

    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        match &self.check {
            Check::None => Vec::new(),
            Check::SambaShare(share) => vec![GuideStep::new(
                10,
                format!("vi /etc/samba/smb.conf  # the section [{share}]"),
            )],
        }
    }

    async fn converge(&self, step: &Step, _observed: &Self::Observed) -> Result<()> {
        self.check().await?;
        step.write_text(&self.path, &mark::marked(&self.body)).await
    }
}

impl File {
    async fn check(&self) -> Result<()> {
        match &self.check {
            Check::None => Ok(()),
            Check::SambaShare(section) => {
                check_samba_share(&mark::marked(&self.body), section).await
            }
        }
    }
}

async fn check_samba_share(text: &str, section: &str) -> Result<()> {
    let candidate = AnonymousFile::holding(text.as_bytes().to_vec().into()).await?;
    let sections = samba::check_configuration(candidate.path()).await?;
    if sections.iter().any(|found| found == section) {
        return Ok(());
    }
    Err(Error::new(format!(
        "testparm does not find the share {section} in the configuration made for it"
    ))
    .hint("is there a character in [share] that Samba does not take?"))
}
