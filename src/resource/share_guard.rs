//! The unit by which a container stops when its share goes: bound to the mount, it stops the
//! container when it is stopped itself. The container's own unit then tries again until the share is
//! back, as `Restart=always` has it.
//!
//! The container's unit is not bound to the mount itself (`BindsTo=`): systemd does not try again
//! what it stopped because of another unit, nor what failed because another unit did.

use std::path::PathBuf;

use super::ours::{self, OurFile};
use crate::engine::{Diff, Step};
use crate::error::Result;
use crate::host::systemd::{Job, UnitState, mount_unit_name};
use crate::host::{Host, blocking};

/// The guard of one container.
#[derive(Debug)]
pub struct ShareGuard<'a> {
    pub container: &'a str,
    /// Where the share is mounted on the VM.
    pub mount: PathBuf,
}

#[derive(Debug, Default)]
pub struct Observed {
    file: Option<OurFile>,
    unit: UnitState,
}

/// Whether this diff has the guard in it.
pub fn differs(diff: &Diff) -> bool {
    ["guard.unit", "guard.loaded", "guard.active"]
        .iter()
        .any(|field| diff.changes(field))
}

impl ShareGuard<'_> {
    pub fn unit_name(&self) -> String {
        format!("{}-share.service", self.container)
    }

    fn path(&self) -> PathBuf {
        format!("/etc/systemd/system/{}", self.unit_name()).into()
    }

    /// podman-stop(1) and not systemctl(1): a container that ends is started again by its unit, one
    /// that is stopped as a unit is not.
    fn text(&self) -> String {
        let mount = mount_unit_name(&self.mount);
        ours::marked(&format!(
            "[Unit]\nDescription=Stop of {name} when its share goes\n\
             BindsTo={mount}\nAfter={mount}\n\n\
             [Service]\nType=oneshot\nRemainAfterExit=yes\n\
             ExecStop=-/usr/bin/podman stop --ignore {name}\n",
            name = self.container
        ))
    }

    pub async fn observe(&self, host: &Host) -> Result<Observed> {
        let (path, name) = (self.path(), self.unit_name());
        let (file, unit) = tokio::try_join!(
            blocking(move || ours::read(&path)),
            host.systemd.unit(&name)
        )?;
        Ok(Observed { file, unit })
    }

    /// As it should be beside a container that runs.
    #[cfg(test)]
    pub fn in_place(&self) -> Observed {
        Observed {
            file: Some(OurFile {
                text: self.text(),
                meta: crate::host::fs::FileMeta::root(0o644),
                modified: std::time::SystemTime::UNIX_EPOCH,
            }),
            unit: UnitState {
                active: "active".to_owned(),
                ..UnitState::default()
            },
        }
    }

    /// Adds to `diff` what differs. The guard of a container that does not run is started with it.
    pub fn diff(&self, observed: &Observed, is_running: bool, diff: &mut Diff) {
        let on_disk = observed.file.as_ref().map(|file| file.text.clone());
        diff.field("guard.unit", on_disk, self.text());
        if observed.unit.need_daemon_reload {
            diff.field("guard.loaded", Some("an older text"), "the file");
        }
        if is_running {
            let active = Some(observed.unit.active.as_str());
            diff.field("guard.active", active, "active");
        }
    }

    /// Writes the unit, and says whether systemd has still to read it.
    pub async fn write(&self, step: &Step, observed: &Observed) -> Result<bool> {
        let text = self.text();
        let rewrite = observed.file.as_ref().map(|file| &file.text) != Some(&text);
        if rewrite {
            ours::write(step, &self.path(), &text).await?;
        }
        Ok(rewrite || observed.unit.need_daemon_reload)
    }

    /// Has it run beside a container that runs.
    pub async fn start(&self, step: &Step) -> Result<()> {
        let name = self.unit_name();
        if step.systemd.unit(&name).await?.is_active() {
            return Ok(());
        }
        step.job(Job::Start, &name).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit() {
        let guard = ShareGuard {
            container: "nodejs-server",
            mount: "/mnt/data/shared_folder".into(),
        };
        insta::assert_snapshot!(guard.text());
    }
}
