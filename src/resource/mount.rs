//! The data disk's file system in its place, now and at every boot, by UUID: a disk's name may be
//! another one after the next boot.

use std::path::PathBuf;

use super::disk::{formatted, partition};
use super::mount_unit::{self, MountUnit};
use crate::config::{Device, Filesystem};
use crate::engine::{Action, Address, Diff, GuideStep, Kind, Resource, Step};
use crate::error::{Error, Result};
use crate::host::block::{BlockDevice, FsInfo};
use crate::host::fs::FileMeta;
use crate::host::mount::{MountInfo, mount_filesystem};
use crate::host::{Host, blocking};

/// A share holds data, not programs that gain rights and not devices.
const OPTIONS: [&str; 2] = ["nodev", "nosuid"];

/// A local file system that is mounted.
#[derive(Debug, Clone)]
pub struct Mount {
    pub device: Device,
    pub filesystem: Filesystem,
    pub mount_point: PathBuf,
}

/// What is in the place, and what should be.
#[derive(Debug)]
pub struct Observed {
    /// `None` while the disk is still blank.
    disk: Option<(BlockDevice, FsInfo)>,
    unit: mount_unit::Observed,
}

impl Mount {
    fn unit(&self, filesystem: &FsInfo) -> MountUnit {
        MountUnit {
            description: format!("Data disk of {}", self.mount_point.display()),
            unit_lines: Vec::new(),
            what: format!("/dev/disk/by-uuid/{}", filesystem.uuid),
            mount_point: self.mount_point.clone(),
            fs_type: self.filesystem.to_string(),
            options: OPTIONS.join(","),
            wanted_by: "local-fs.target",
        }
    }
}

impl Resource for Mount {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Mount, self.mount_point.display())
    }

    async fn observe(&self, host: &Host) -> Result<Observed> {
        let device = self.device.clone();
        let unit = mount_unit::observe(host, &self.mount_point).await?;
        blocking(move || {
            Ok(Observed {
                disk: formatted(&device)?,
                unit,
            })
        })
        .await
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let mut diff = if observed.unit.mounted.is_some() {
            Diff::update(mount_unit::DIFFERS)
        } else {
            Diff::create("nothing is mounted there")
        };
        let Some((disk, filesystem)) = &observed.disk else {
            if let Some(other) = &observed.unit.mounted {
                return Err(in_the_way(&self.mount_point, other));
            }
            diff.field("source", None, "the new file system");
            diff.field("options", None, OPTIONS.join(","));
            return Ok(diff);
        };
        if let Some(mounted) = &observed.unit.mounted
            && mounted.major_minor != disk.major_minor
        {
            return Err(in_the_way(&self.mount_point, mounted));
        }
        diff.field(
            "source",
            observed
                .unit
                .mounted
                .as_ref()
                .map(|_| format!("UUID={}", filesystem.uuid)),
            format!("UUID={}", filesystem.uuid),
        );
        if observed.unit.mounted.is_some() {
            // The kernel mounts before systemd knows: what is ordered after the mount waits for
            // systemd's word, or systemd would mount a second time.
            diff.field(
                "unit.active",
                Some(observed.unit.state.active.as_str()),
                "active",
            );
        }
        self.unit(filesystem).diff(&observed.unit, &mut diff);
        Ok(diff)
    }

    fn guide(&self, diff: &Diff) -> Vec<GuideStep> {
        let (mount_point, partition) = (self.mount_point.display(), partition(&self.device));
        let mut steps = Vec::new();
        if diff.action == Action::Create {
            steps.push(GuideStep::new(2, format!("mkdir -p {mount_point}")));
            steps.push(GuideStep::new(
                2,
                format!("mount {partition} {mount_point}"),
            ));
            steps.push(GuideStep::new(2, format!("chmod 1777 {mount_point}")));
        }
        if MountUnit::differs(diff) || diff.action == Action::Create {
            let line = format!("{partition} {mount_point} {} defaults 0 0", self.filesystem);
            steps.push(GuideStep::new(2, format!("echo '{line}' >> /etc/fstab")));
        }
        steps
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        let Some((disk, filesystem)) = &observed.disk else {
            return Err(Error::new("the disk holds no file system yet"));
        };
        if observed.unit.mounted.is_none() {
            let device = disk.path.clone();
            let mount_point = self.mount_point.clone();
            let fs_type = self.filesystem.to_string();
            step.make_directories(&mount_point, FileMeta::root(0o755))
                .await?;
            let source = device.display().to_string();
            step.mount(&self.mount_point, &source, |permit| {
                blocking(move || {
                    mount_filesystem(&permit, &device, &mount_point, &fs_type, &OPTIONS)
                })
            })
            .await?;
        }
        self.unit(filesystem).converge(step, &observed.unit).await
    }
}

fn in_the_way(mount_point: &std::path::Path, other: &MountInfo) -> Error {
    Error::new(format!(
        "{} on {} is another file system than the data disk's",
        other.source,
        mount_point.display()
    ))
    .hint("unmount it, or give the data disk another place in storage.disk.mount")
}
