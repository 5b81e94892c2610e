//! The account in Samba's own database, with the share's password.

use crate::config::Secret;
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::samba::{self, bar::Bar};
use crate::host::{Host, blocking, way};

/// A Samba account with this password, which nothing in its entry keeps out.
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
            // Which VMs an account may be used from is set by it alone.
            Requirement::Program("net"),
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
        if user.bars.contains(&Bar::NoUser) {
            return Err(Error::new(format!(
                "Samba's account {} is a machine's or a domain's, which no client may use",
                self.name
            ))
            .hint(format!("run: pdbedit --delete --user {}", self.name)));
        }
        let mut diff = Diff::update("Samba's account differs from the tier file");
        if !user.password_matches {
            diff.secret("password", true);
            diff.because("Samba has another password than the tier file");
        }
        for bar in &user.bars {
            bar_field(&mut diff, bar);
        }
        if user.password_matches && !user.bars.is_empty() {
            let bars: Vec<String> = user.bars.iter().map(ToString::to_string).collect();
            diff.because(format!(
                "Samba's account refuses clients: {}",
                bars.join(", ")
            ));
        }
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
        let matches = observed.as_ref().is_some_and(|user| user.password_matches);
        if !matches {
            step.set_samba_password(&self.name, &self.password, observed.is_some())
                .await?;
        }
        match observed {
            Some(user) if !user.bars.is_empty() => {
                step.admit_samba_user(&self.name, &user.bars).await
            }
            _ => Ok(()),
        }
    }
}

/// What an entry says that keeps the account out, and what it says afterwards.
fn bar_field(diff: &mut Diff, bar: &Bar) {
    match bar {
        Bar::Disabled => diff.field("disabled", Some(true), false),
        Bar::Locked => diff.field("locked", Some(true), false),
        Bar::Expires { at, expired } => {
            let at = humantime::format_rfc3339_seconds(*at).to_string();
            if *expired {
                diff.field("expires", Some(at.as_str()), "never");
            } else {
                diff.improvement("expires", at, "never".to_owned());
            }
        }
        Bar::PasswordExpires => diff.field("password.expires", Some("now"), "never"),
        Bar::Hours => diff.field("logon_hours", Some("restricted"), "all"),
        Bar::Workstations(names) => diff.field("workstations", Some(names.as_str()), ""),
        Bar::NoUser => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::samba::SambaUser as Found;
    use std::time::{Duration, UNIX_EPOCH};

    fn diff(password_matches: bool, bars: Vec<Bar>) -> Result<Diff> {
        let user = SambaUser {
            name: "user1".to_owned(),
            password: Secret::new("x".to_owned()),
        };
        user.diff(&Some(Found {
            password_matches,
            bars,
        }))
    }

    #[test]
    fn what_keeps_the_account_out_is_a_difference() {
        assert!(diff(true, Vec::new()).unwrap().is_empty());
        let at = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let expires = |expired| Bar::Expires { at, expired };
        for (bar, field, from) in [
            (Bar::Disabled, "disabled", "true"),
            (Bar::Locked, "locked", "true"),
            (expires(true), "expires", "2001-09-09T01:46:40Z"),
            (Bar::PasswordExpires, "password.expires", "now"),
            (Bar::Hours, "logon_hours", "restricted"),
            (Bar::Workstations("PC1".to_owned()), "workstations", "PC1"),
        ] {
            let diff = diff(true, vec![bar.clone()]).unwrap();
            assert_eq!(diff.harmful(), [field]);
            assert_eq!(diff.fields[0].from.as_deref(), Some(from));
            assert!(diff.why.contains(&bar.to_string()), "{}", diff.why);
        }
        // Nobody is shut out yet.
        let later = diff(true, vec![expires(false)]).unwrap();
        assert!(!later.is_empty() && later.harmful().is_empty());
        let both = diff(false, vec![Bar::Disabled]).unwrap();
        assert_eq!(both.harmful(), ["password", "disabled"]);
        let machine = diff(true, vec![Bar::NoUser]).unwrap_err();
        assert!(machine.hint.unwrap().contains("pdbedit --delete"));
    }
}
