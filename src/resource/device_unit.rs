//! What happens when the data disk appears, at a boot or when it is attached again after a boot
//! without it: its mount, and the unit that serves what is mounted, are started. A drop-in of the
//! disk's device unit (systemd.device(5)) does this. That unit is there whatever name the disk has
//! by then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::{Diff, Step};
use crate::error::{Error, Result};
use crate::host::mark::{self, OurFile};
use crate::host::systemd::{UnitState, device_unit_name, mount_unit_name};
use crate::host::{Answer, Host, blocking, until};

/// How long udev may take to look at a disk that was formatted a moment ago.
const SEEN: Duration = Duration::from_secs(30);
const SEEN_PAUSE: Duration = Duration::from_millis(100);

/// The device unit of a data disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceUnit {
    /// Below `/dev/disk`.
    pub node: PathBuf,
    pub mount_point: PathBuf,
    /// The unit that serves what is mounted.
    pub serves: String,
}

/// The drop-in as it is, and the unit as systemd has read it.
#[derive(Debug)]
pub struct Observed {
    file: Option<OurFile>,
    state: UnitState,
}

impl DeviceUnit {
    pub fn name(&self) -> String {
        device_unit_name(&self.node)
    }

    fn path(&self) -> PathBuf {
        let directory = format!("/etc/systemd/system/{}.d", self.name());
        Path::new(&directory).join("wasagent.conf")
    }

    fn text(&self) -> String {
        mark::marked(&format!(
            "[Unit]\nWants={} {}\n",
            mount_unit_name(&self.mount_point),
            self.serves
        ))
    }

    pub async fn observe(&self, host: &Host) -> Result<Observed> {
        let (path, name) = (self.path(), self.name());
        let file = blocking(move || mark::read(&path));
        let (file, state) = tokio::try_join!(file, host.systemd.unit(&name))?;
        Ok(Observed { file, state })
    }

    /// Adds to `diff` what differs.
    pub fn diff(&self, observed: &Observed, diff: &mut Diff) {
        let on_disk = observed.file.as_ref().map(|file| file.text.as_str());
        let text = self.text();
        if on_disk != Some(text.as_str()) {
            diff.field("device.file", on_disk, text.as_str());
        } else if !self.is_read(observed) {
            diff.field("device.loaded", Some("an older text"), "the file");
        }
    }

    /// Whether systemd has read the drop-in. Before version 256, systemd does not report an unread
    /// drop-in.
    fn is_read(&self, observed: &Observed) -> bool {
        let state = &observed.state;
        let path = self.path();
        !state.need_daemon_reload && state.drop_ins.iter().any(|read| Path::new(read) == path)
    }

    /// Makes the drop-in and lets systemd read it, once the disk's device unit is there. systemd
    /// would take away a mount that is bound to a device unit that is not there.
    pub async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        self.wait_until_seen(step).await?;
        let text = self.text();
        let is_right = observed.file.as_ref().map(|file| &file.text) == Some(&text);
        if !is_right {
            step.write_text(&self.path(), &text).await?;
        }
        if !is_right || !self.is_read(observed) {
            step.reload_units().await?;
        }
        Ok(())
    }

    async fn wait_until_seen(&self, host: &Host) -> Result<()> {
        let name = self.name();
        let is_seen = || async {
            let unit = host.systemd.unit(&name).await?;
            Ok::<_, Error>(Answer::is(unit.is_active()))
        };
        let seen = until(SEEN_PAUSE, SEEN, is_seen).await?;
        seen.settled().ok_or_else(|| {
            let node = self.node.display();
            Error::new(format!("udev has not told systemd of {node}"))
                .hint(format!(
                    "`udevadm info --query=all {node}` says what udev knows of it"
                ))
                .transient()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_starts_the_mount_and_what_serves_it() {
        let unit = DeviceUnit {
            node: "/dev/disk/by-uuid/12-ab".into(),
            mount_point: "/mnt/data".into(),
            serves: "smbd.service".to_owned(),
        };
        assert_eq!(
            unit.path(),
            Path::new(r"/etc/systemd/system/dev-disk-by\x2duuid-12\x2dab.device.d/wasagent.conf")
        );
        assert_eq!(
            unit.text(),
            format!(
                "{}\n[Unit]\nWants=mnt-data.mount smbd.service\n",
                mark::MARK
            )
        );
    }
}
