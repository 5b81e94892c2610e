//! The line of smb.conf that includes the agent's own file. Everything else in smb.conf is the
//! operator's and stays as it is, byte for byte.

use std::path::Path;

use super::samba_conflicts::{self, OurShare, share_exists};
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::anonymous_file::AnonymousFile;
use crate::host::fs::{RegularFile, read_regular};
use crate::host::samba;
use crate::host::samba::conf::{SmbConf, section_name};
use crate::host::samba::server::Machine;
use crate::host::{Host, blocking, way};

pub const SMB_CONF: &str = "/etc/samba/smb.conf";

const MAX_SIZE: u64 = 4 << 20;

/// smb.conf includes the file that defines our share.
#[derive(Debug, Clone)]
pub struct SambaInclude {
    pub share: OurShare,
}

#[derive(Debug)]
pub struct Observed {
    file: RegularFile,
    /// smb.conf with what it includes.
    conf: SmbConf,
    machine: Machine,
    /// Why Samba would not start again with smb.conf as it is.
    unreadable: Option<Error>,
    /// Other places that define the operator's shares, with the names of those shares and the way
    /// out: files whose names only Samba can tell, the registry, `net usershare`.
    elsewhere: Vec<(&'static str, Vec<String>, &'static str)>,
}

impl SambaInclude {
    fn line(&self) -> String {
        format!("include = {}", self.share.file.display())
    }

    /// The shares that are defined outside the files that smb.conf plainly includes.
    async fn elsewhere(
        &self,
        text: &str,
        conf: &SmbConf,
        registry: Option<&str>,
    ) -> Result<Vec<(&'static str, Vec<String>, &'static str)>> {
        let mut elsewhere = Vec::new();
        if let Some(registry) = registry {
            let shares = samba::sections(registry);
            elsewhere.push(("Samba's registry", shares, "run `net conf delshare` for it"));
        }
        let usershares = {
            let conf = conf.clone();
            blocking(move || samba::usershares(&conf)).await?
        };
        elsewhere.push((
            samba::USERSHARES,
            usershares,
            "run `net usershare delete` for it",
        ));
        // Without our line, testparm lists the operator's shares in every file that smb.conf
        // includes. With our line, it would list our share too.
        if !self.has_line(text) {
            let shares = samba::check_configuration(Path::new(SMB_CONF)).await?;
            elsewhere.push((SMB_CONF, shares, "remove that section"));
        }
        Ok(elsewhere)
    }

    /// smb.conf with the line at its end, after all of the operator's sections, so that none of
    /// their settings falls into another section.
    fn with_line(&self, text: &[u8]) -> Vec<u8> {
        let mut with = text.to_vec();
        if !text.is_empty() && !text.ends_with(b"\n") {
            with.push(b'\n');
        }
        let line = self.line();
        with.extend(format!("\n# wasagent: the share that this VM serves\n{line}\n").bytes());
        with
    }

    fn has_line(&self, text: &str) -> bool {
        // It is at the end, if nobody has added something since.
        text.lines().rev().any(|line| {
            line.trim().split_once('=').is_some_and(|(key, value)| {
                key.trim().eq_ignore_ascii_case("include")
                    && Path::new(value.trim()) == self.share.file
            })
        })
    }
}

/// smb.conf with what it includes, and Samba's registry if Samba takes shares from it.
async fn configuration() -> Result<(SmbConf, Option<String>)> {
    let read = |registry: Option<String>| {
        blocking(move || {
            let conf = SmbConf::read(Path::new(SMB_CONF), registry.as_deref())?;
            Ok((conf, registry))
        })
    };
    let (conf, _) = read(None).await?;
    if !samba::has_registry_shares(&conf) {
        return Ok((conf, None));
    }
    read(Some(samba::registry().await?)).await
}

/// Asks testparm about what Samba may be unable to read. It knows each version's values, so that one that the agent
/// does not know is not refused.
async fn unreadable(conf: &SmbConf) -> Option<Error> {
    let place = conf.unreadable()?;
    let refused = samba::check_configuration(Path::new(SMB_CONF))
        .await
        .err()?;
    let why = format!(
        "{place}: Samba cannot read this, and would not start again: {}",
        refused.message
    );
    Some(Error::new(why).hint("mend that line; `testparm -s` says whether Samba can read it"))
}

impl Resource for SambaInclude {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::File, SMB_CONF)
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![Requirement::Program("testparm")]
    }

    async fn observe(&self, _host: &Host) -> Result<Observed> {
        let file = blocking(|| {
            read_regular(Path::new(SMB_CONF), MAX_SIZE)?.ok_or_else(|| {
                Error::new(format!("{SMB_CONF} is missing")).hint(format!("run: {}", bring_back()))
            })
        })
        .await?;
        let text = String::from_utf8_lossy(&file.contents);
        let (conf, registry) = configuration().await?;
        let unreadable = unreadable(&conf).await;
        let elsewhere = match &unreadable {
            Some(_) => Vec::new(),
            None => self.elsewhere(&text, &conf, registry.as_deref()).await?,
        };
        Ok(Observed {
            file,
            machine: Machine::look(&conf, &self.share.name).await?,
            conf,
            unreadable,
            elsewhere,
        })
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        if let Some(unreadable) = &observed.unreadable {
            return Err(unreadable.clone());
        }
        let notes = samba_conflicts::check(&observed.conf, &self.share, &observed.machine)?;
        let name = section_name(&self.share.name);
        for (place, shares, way_out) in &observed.elsewhere {
            if shares.iter().any(|share| section_name(share) == name) {
                return Err(share_exists(place, &self.share.name, way_out));
            }
        }
        let text = String::from_utf8_lossy(&observed.file.contents);
        let mut diff = Diff::update("smb.conf does not take in the share's file");
        diff.notes = notes;
        if !self.has_line(&text) {
            diff.field("include", None, self.share.file.display().to_string());
        }
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, _observed: &Observed) -> Result<()> {
        blocking(|| way::to_file(Path::new(SMB_CONF))).await
    }

    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        let edit = format!("vi {SMB_CONF}  # the section [{}]", self.share.name);
        vec![GuideStep::new(10, edit)]
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        let text = self.with_line(&observed.file.contents);
        let candidate = AnonymousFile::holding(text.clone().into()).await?;
        let after = samba::check_configuration(candidate.path()).await?;
        let name = section_name(&self.share.name);
        if !after.iter().any(|section| section_name(section) == name) {
            return Err(Error::new(format!(
                "testparm does not find the share {} in smb.conf with {} included",
                self.share.name,
                self.share.file.display()
            ))
            .hint(format!("run: testparm -s {SMB_CONF}")));
        }
        step.write_file(Path::new(SMB_CONF), text, observed.file.meta)
            .await
    }
}

/// The command that makes the distribution's smb.conf anew. Debian's package does so once only.
fn bring_back() -> String {
    const SHIPPED: &str = "/usr/share/samba/smb.conf";
    if Path::new(SHIPPED).exists() {
        format!("cp {SHIPPED} {SMB_CONF}")
    } else {
        "dnf reinstall samba-common".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn include() -> SambaInclude {
        SambaInclude {
            share: OurShare {
                name: "user1".to_owned(),
                user: "user1".to_owned(),
                server: "192.168.2.13".to_owned(),
                file: "/etc/samba/wasagent.conf".into(),
                encrypt: true,
                clients: Vec::new(),
            },
        }
    }

    #[test]
    fn the_operators_text_stays_in_front_byte_for_byte() {
        let text = "[global]\n\tworkgroup = X\n[homes]\n   browseable = no";
        let with = include().with_line(text.as_bytes());
        assert!(with.starts_with(text.as_bytes()));
        let with = String::from_utf8(with).unwrap();
        assert!(!include().has_line(text) && include().has_line(&with));
    }

    #[test]
    fn the_line_is_known_however_it_is_spaced() {
        assert!(include().has_line("  Include=/etc/samba/wasagent.conf \n"));
        assert!(!include().has_line("# include = /etc/samba/wasagent.conf\n"));
        assert!(!include().has_line("include = /etc/samba/wasagent.conf.old\n"));
    }
}
