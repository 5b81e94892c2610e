//! The account in Samba's own database, with the share's password.

use crate::config::Secret;
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::Result;
use crate::host::samba;
use crate::host::{Host, blocking, way};

/// A Samba account with this password, enabled.
#[derive(Debug, Clone)]
pub struct SambaUser {
    pub name: String,
    pub password: Secret,
}

impl Resource for SambaUser {
    type Observed = Option<samba::SambaUser>;

    fn address(&self) -> Address {
        Address::new(Kind::SambaUser, &self.name)
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![
            Requirement::Program("pdbedit"),
            Requirement::Program("smbpasswd"),
        ]
    }

    async fn observe(&self, _host: &Host) -> Result<Self::Observed> {
        samba::user(&self.name, &self.password).await
    }

    fn diff(&self, observed: &Self::Observed) -> Result<Diff> {
        let Some(user) = observed else {
            let mut diff = Diff::create("Samba has no such account");
            diff.secret("password", false);
            return Ok(diff);
        };
        let mut diff = Diff::update("Samba's account differs from the tier file");
        if !user.password_matches {
            diff.secret("password", true);
        }
        diff.field("disabled", Some(user.disabled), false);
        diff.because(if user.password_matches {
            "Samba's account is disabled"
        } else {
            "Samba has another password than the tier file"
        });
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, _observed: &Self::Observed) -> Result<()> {
        match samba::database().await? {
            Some(file) => blocking(move || way::to_file(&file)).await,
            None => Ok(()),
        }
    }

    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        vec![GuideStep::new(6, format!("smbpasswd -a {}", self.name))]
    }

    async fn converge(&self, step: &Step, observed: &Self::Observed) -> Result<()> {
        step.set_samba_password(&self.name, &self.password, observed.is_some())
            .await
    }
}
