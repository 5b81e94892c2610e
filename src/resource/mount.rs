//! The data disk's file system, mounted now and at every boot. It is mounted by UUID: a disk's name may
//! change at a boot. The mount comes and goes with the disk, and the file system grows with it.

use std::path::{Path, PathBuf};

use super::device_unit::{self, DeviceUnit};
use super::disk::{formatted, missing, partition};
use super::mount_unit::{self, MountUnit};
use crate::config::{Device, Filesystem};
use crate::effect::disk::OnDisk;
use crate::engine::{Action, Address, Diff, GuideStep, Kind, Resource, Step};
use crate::error::{Error, Result};
use crate::host::disk::grow;
use crate::host::disk::{BlockDevice, FsInfo, size_in_words};
use crate::host::fs::FileMeta;
use crate::host::mount::{MountInfo, OPTIONS, mount_filesystem};
use crate::host::{Host, blocking};

/// The boot does not wait for the disk (systemd.mount(5)). Only what is on the disk waits for it.
const NOFAIL: &str = "nofail";

/// How much of its disk a file system may leave unused. ext4 does not begin a block group that would
/// hold little but its own tables; a block group has 128 MiB.
const LEFT_OVER: u64 = 128 << 20;

/// A local file system that is mounted.
#[derive(Debug, Clone)]
pub struct Mount {
    pub device: Device,
    pub filesystem: Filesystem,
    pub mount_point: PathBuf,
    /// Whether udev gives disks units of their own.
    pub udev: bool,
    /// The unit that serves what is mounted. It is started when the disk comes.
    pub serves: String,
}

/// What is mounted, and what should be.
#[derive(Debug)]
pub struct Observed {
    /// `None` while the disk is still blank.
    disk: Option<(BlockDevice, FsInfo)>,
    unit: mount_unit::Observed,
    /// `None` without a disk, and where there is no udev.
    device: Option<device_unit::Observed>,
}

/// Where udev puts a link to the file system's disk, whatever the disk's name.
fn by_uuid(filesystem: &FsInfo) -> PathBuf {
    Path::new("/dev/disk/by-uuid").join(&filesystem.uuid)
}

/// A size as a plan shows it: in words for the operator, and in bytes to compare two sizes.
fn shown(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", size_in_words(bytes))
}

impl Mount {
    fn unit(&self, filesystem: &FsInfo) -> MountUnit {
        let what = by_uuid(filesystem);
        let mut unit_lines = Vec::new();
        if let Some(device) = self.device_unit(filesystem) {
            // A file system whose disk is gone gives errors forever, so it is unmounted to make room
            // for the disk's return. Only BindsTo= does that when a disk goes unannounced.
            unit_lines.push(format!("BindsTo={}", device.name()));
            unit_lines.push(format!("After={}", device.name()));
        }
        MountUnit {
            description: format!("Data disk of {}", self.mount_point.display()),
            unit_lines,
            what: what.display().to_string(),
            mount_point: self.mount_point.clone(),
            fs_type: self.filesystem.to_string(),
            options: [OPTIONS.as_slice(), &[NOFAIL]].concat().join(","),
            wanted_by: "local-fs.target",
        }
    }

    fn device_unit(&self, filesystem: &FsInfo) -> Option<DeviceUnit> {
        self.udev.then(|| DeviceUnit {
            node: by_uuid(filesystem),
            mount_point: self.mount_point.clone(),
            serves: self.serves.clone(),
        })
    }

    /// The file system's size now. Only the kernel knows the size of a mounted xfs.
    fn with_size(&self, mut filesystem: FsInfo, is_mounted: bool) -> Result<FsInfo> {
        if is_mounted && filesystem.fs_type == "xfs" {
            filesystem.size_bytes = grow::xfs_size(&self.mount_point)?;
        }
        Ok(filesystem)
    }
}

/// Whether the disk has become larger than its file system.
fn is_outgrown(disk: &BlockDevice, filesystem: &FsInfo) -> bool {
    disk.size_bytes.saturating_sub(filesystem.size_bytes) >= LEFT_OVER
}

impl Resource for Mount {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Mount, self.mount_point.display())
    }

    async fn observe(&self, host: &Host) -> Result<Observed> {
        let unit = mount_unit::observe(host, &self.mount_point).await?;
        let mount = self.clone();
        let mounted = unit.mounted.as_ref().map(|m| m.major_minor.clone());
        let disk = blocking(move || match formatted(&mount.device)? {
            None => Ok(None),
            Some((disk, filesystem)) => {
                let is_mounted = mounted.as_deref() == Some(&disk.major_minor);
                Ok(Some((disk, mount.with_size(filesystem, is_mounted)?)))
            }
        })
        .await?;
        let device = match disk.as_ref().and_then(|(_, found)| self.device_unit(found)) {
            Some(device) => Some(device.observe(host).await?),
            None => None,
        };
        Ok(Observed { disk, unit, device })
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let mut diff = if observed.unit.mounted.is_some() {
            Diff::update(mount_unit::DIFFERS)
        } else {
            Diff::create("nothing is mounted there")
        };
        let Some((disk, filesystem)) = &observed.disk else {
            if let Some(unit) = &observed.unit.file {
                return Err(missing(&self.mount_point, unit));
            }
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
            // The kernel has the mount before systemd knows of it. Units ordered after the mount wait
            // for systemd, or systemd would mount a second time.
            diff.field(
                "unit.active",
                Some(observed.unit.state.active.as_str()),
                "active",
            );
        }
        if is_outgrown(disk, filesystem) {
            if observed.unit.mounted.is_some() {
                diff.because("the disk is larger than its file system");
            }
            diff.improvement("size", shown(filesystem.size_bytes), shown(disk.size_bytes));
        }
        diff.notes
            .extend(observed.unit.mounted.iter().filter_map(read_only));
        self.unit(filesystem).diff(&observed.unit, &mut diff);
        if let (Some(unit), Some(device)) = (self.device_unit(filesystem), &observed.device) {
            unit.diff(device, &mut diff);
        }
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, observed: &Observed) -> Result<()> {
        MountUnit::obstacles(&self.mount_point, &observed.unit).await
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
                blocking(move || mount_filesystem(&permit, &device, &mount_point, &fs_type))
            })
            .await?;
        }
        if is_outgrown(disk, filesystem) {
            self.grow(step, disk, filesystem).await?;
        }
        if let (Some(unit), Some(device)) = (self.device_unit(filesystem), &observed.device) {
            unit.converge(step, device).await?;
        }
        self.unit(filesystem).converge(step, &observed.unit).await
    }
}

impl Mount {
    async fn grow(&self, step: &Step, disk: &BlockDevice, filesystem: &FsInfo) -> Result<()> {
        let (mount_point, to_bytes) = (self.mount_point.clone(), disk.size_bytes);
        let fs_type = filesystem.fs_type.clone();
        let effect = OnDisk::Grow {
            mount_point: mount_point.clone(),
            filesystem: fs_type.clone(),
            from_bytes: filesystem.size_bytes,
            to_bytes,
        };
        step.effect(effect, |permit| {
            blocking(move || grow::grow(&permit, &mount_point, &fs_type, to_bytes))
        })
        .await
    }
}

/// What is to be said of a mount on which nobody can write. The kernel makes one read-only after errors of the disk, so
/// the agent does not make it writable.
fn read_only(mounted: &MountInfo) -> Option<String> {
    let at = mounted.mount_point.display();
    mounted.has_flag("ro").then(|| {
        format!(
            "{at} is mounted read-only, so nobody can write to the share; if dmesg shows no error of the disk, run: \
             mount -o remount,rw {at}"
        )
    })
}

fn in_the_way(mount_point: &Path, other: &MountInfo) -> Error {
    Error::new(format!(
        "{} on {} is another file system than the data disk's",
        other.source,
        mount_point.display()
    ))
    .hint("unmount it, or give the data disk another place in storage.disk.mount")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mount::parse;

    #[test]
    fn a_mount_on_which_nobody_can_write_is_told() {
        for (own, of_file_system, told) in
            [("rw", "rw", false), ("ro", "rw", true), ("ro", "ro", true)]
        {
            let line =
                format!("22 1 8:1 / /mnt/data {own},nodev - xfs /dev/sdb {of_file_system}\n");
            let mounts = parse(&line).unwrap();
            let said = read_only(&mounts[0]);
            assert_eq!(said.is_some(), told, "{line}");
            assert!(said.is_none_or(|said| said.contains("mount -o remount,rw /mnt/data")));
        }
    }
}
