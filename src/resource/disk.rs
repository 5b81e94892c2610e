//! The data disk. A blank disk is given a file system, a disk that the agent formatted before is used,
//! and any other disk is refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::mount_unit::MountUnit;
use crate::config::{Device, Filesystem};
use crate::effect::disk::OnDisk;
use crate::effect::mount::OnMount;
use crate::effect::{Effect, history};
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::disk::{self, Blankness, BlockDevice, FsInfo, NewFilesystem};
use crate::host::mark::{self, OurFile};
use crate::host::mount::is_known_to_the_kernel;
use crate::host::{Answer, Host, blocking, until};

/// The label by which the agent recognizes its own file system, whatever the disk's name is now. An XFS
/// label has at most 12 bytes.
const LABEL: &str = "wasagent";

/// How long, and how often, a disk that is to be formatted is checked while it seems to be in use.
const SEEMS_USED: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(100);

/// A disk with a file system for the data.
#[derive(Debug, Clone)]
pub struct Disk {
    pub device: Device,
    pub filesystem: Filesystem,
    /// Where its file system will be mounted; also the disk's name in addresses.
    pub mount: PathBuf,
}

/// The disk that the tier file means.
#[derive(Debug)]
pub enum Observed {
    Formatted(BlockDevice, FsInfo),
    Blank(BlockDevice),
    /// Blank until the agent began to make a file system with this UUID, and was cut off.
    Unfinished(BlockDevice, String),
}

impl Observed {
    /// The disk, if it is to be formatted, and the UUID of what an interrupted mkfs left on it.
    fn to_format(&self) -> Option<(&BlockDevice, Option<&str>)> {
        match self {
            Self::Formatted(..) => None,
            Self::Blank(disk) => Some((disk, None)),
            Self::Unfinished(disk, uuid) => Some((disk, Some(uuid))),
        }
    }
}

/// The disk with the agent's file system on it, if there is one already.
pub fn formatted(device: &Device) -> Result<Option<(BlockDevice, FsInfo)>> {
    match device {
        Device::Auto => {
            let mut ours = Vec::new();
            for disk in disk::disks()? {
                // The agent has not written to a disk that cannot be read.
                if let Ok(Some(filesystem)) = our_filesystem(&disk) {
                    ours.push((disk, filesystem));
                }
            }
            if ours.len() > 1 {
                let disks: Vec<BlockDevice> = ours.into_iter().map(|(disk, _)| disk).collect();
                return Err(Error::new(format!(
                    "{} disks hold a file system that wasagent made:\n{}",
                    disks.len(),
                    disk::table(&disks)
                ))
                .hint("name the one to use: storage.disk.device = \"SERIAL\""));
            }
            Ok(ours.pop())
        }
        named => {
            let disk = disk::find(named)?;
            Ok(our_filesystem(&disk)?.map(|filesystem| (disk, filesystem)))
        }
    }
}

fn our_filesystem(disk: &BlockDevice) -> Result<Option<FsInfo>> {
    let found = disk::probe_filesystem(&disk.path)?;
    Ok(found.filter(|filesystem| filesystem.label.as_deref() == Some(LABEL)))
}

/// A blank disk does not take the place of a missing disk: the missing disk's data would seem gone.
fn refuse_if_served_before(mount: &Path) -> Result<()> {
    match mark::read(&MountUnit::path(mount))? {
        None => Ok(()),
        Some(unit) => Err(missing(mount, &unit)),
    }
}

/// The error for a disk that was mounted there before and is missing. It may be about to be attached.
pub fn missing(mount: &Path, unit: &OurFile) -> Error {
    let lines = unit.text.lines();
    let what = lines.filter_map(|line| line.strip_prefix("What=")).next();
    Error::new(format!(
        "the data disk of {} ({}) is missing, and no other disk is formatted in its place",
        mount.display(),
        what.unwrap_or_default()
    ))
    .hint(format!(
        "attach it again; if its data is not needed any more, remove {}",
        MountUnit::path(mount).display()
    ))
    .transient()
}

/// The disk whose formatting was cut off, if what is on it now provably comes from that. A run since the last revert
/// has proved it blank and begun to format it.
///
/// # Errors
/// When such a disk holds anything else by now, too: somebody may have used it since.
fn unfinished(device: &Device, record: &Path) -> Result<Option<(BlockDevice, String)>> {
    let effects = history::open_effects(&history::runs(record)?);
    let Some(begun) = effects
        .iter()
        .rposition(|recorded| matches!(recorded.effect, Effect::Disk(OnDisk::Format { .. })))
    else {
        return Ok(None);
    };
    let Effect::Disk(OnDisk::Format {
        device: path,
        serial,
        size_bytes,
        filesystem,
        uuid,
    }) = &effects[begun].effect
    else {
        return Ok(None);
    };
    // A disk that was formatted or mounted since had a complete file system, whatever became of that later.
    let was_mounted = effects[begun..]
        .iter()
        .any(|recorded| matches!(recorded.effect, Effect::Mount(OnMount::Mount { .. })));
    if effects[begun].done || was_mounted {
        return Ok(None);
    }
    let is_it = |disk: &BlockDevice| {
        disk.size_bytes == *size_bytes
            && disk.serial == *serial
            && (serial.is_some() || disk.path == *path)
    };
    let candidates = match device {
        Device::Auto => disk::disks()?,
        named => vec![disk::find(named)?],
    };
    let Some(found) = candidates.into_iter().find(is_it) else {
        return Ok(None);
    };
    match uuid {
        Some(uuid) if disk::holds_only(&found.path, uuid)? => Ok(Some((found, uuid.clone()))),
        _ => Err(perhaps_used_since(&found, filesystem)),
    }
}

fn perhaps_used_since(disk: &BlockDevice, filesystem: &str) -> Error {
    let path = disk.path.display();
    let what = match disk::prove_blank(&disk.path) {
        Ok(Blankness::Found { what }) => format!("holds {what}"),
        Ok(Blankness::InUse { by }) => format!("is in use: {by}"),
        Ok(Blankness::Blank) | Err(_) => "cannot be read in whole".to_owned(),
    };
    let force = if filesystem == "xfs" { "-f" } else { "-F" };
    Error::new(format!(
        "{path} {what}; it is left as it is: wasagent once began to format it and was cut off, and nothing proves that \
         nobody has used the disk since"
    ))
    .hint(format!(
        "name another disk in storage.disk.device, or, if nothing on {path} is needed, run: \
         mkfs.{filesystem} {force} -L {LABEL} {path}, and apply again"
    ))
}

/// The one partition that the guide makes on the disk, by the name that an operator would type.
pub fn partition(device: &Device) -> String {
    match device {
        // The disk is not known before it is found; mount(8) finds it by its label.
        Device::Auto => format!("LABEL={LABEL}"),
        Device::Path(path) => format!("{}1", path.display()),
        Device::Serial(serial) => format!("/dev/disk/by-id/virtio-{serial}-part1"),
    }
}

/// The disk, if it is blank, or the refusal.
fn blank(device: &Device) -> Result<BlockDevice> {
    let disk = disk::find(device)?;
    let path = disk.path.display();
    match disk::prove_blank(&disk.path)? {
        Blankness::Blank => Ok(disk),
        Blankness::InUse { by } => Err(Error::new(format!("{path} is in use: {by}"))
            .hint("name another disk in storage.disk.device")),
        Blankness::Found { what } => Err(Error::new(format!(
            "{path} is not blank: it holds {what}; it is left as it is"
        ))
        .hint(format!(
            "name another disk in storage.disk.device, or, if nothing on {path} is needed, erase it by hand"
        ))),
    }
}

/// Checks once more, right before the disk is written: mkfs.ext4(8) checks only if it can ask at a
/// terminal. The disk may seem used for a moment: a helper program that another step just started may
/// still hold the descriptor of an earlier check.
async fn still_free(path: &Path, unfinished: Option<&str>) -> Result<()> {
    let free = until(PAUSE, SEEMS_USED, || async {
        let (looked_at, unfinished) = (path.to_owned(), unfinished.map(str::to_owned));
        let is_free = move || match unfinished {
            Some(uuid) => disk::holds_only(&looked_at, &uuid),
            None => Ok(matches!(disk::prove_blank(&looked_at)?, Blankness::Blank)),
        };
        Ok::<_, Error>(Answer::is(blocking(is_free).await?))
    });
    free.await?.settled().ok_or_else(|| {
        Error::new(format!(
            "{} is used by somebody since it was looked at; it is left as it is",
            path.display()
        ))
        .hint("see who does (lsblk, fuser -v), and apply again")
    })
}

impl Disk {
    fn new_filesystem<'a>(
        &self,
        disk: &'a BlockDevice,
        uuid: &'a str,
        over_unfinished: bool,
    ) -> NewFilesystem<'a> {
        NewFilesystem {
            device: &disk.path,
            fs_type: self.filesystem.as_str(),
            label: LABEL,
            uuid,
            over_unfinished,
        }
    }
}

impl Resource for Disk {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Disk, self.mount.display())
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![Requirement::Program(match self.filesystem {
            Filesystem::Xfs => "mkfs.xfs",
            Filesystem::Ext4 => "mkfs.ext4",
        })]
    }

    async fn observe(&self, host: &Host) -> Result<Observed> {
        let record = host.state_directory.clone();
        let device = self.device.clone();
        let mount = self.mount.clone();
        blocking(move || match formatted(&device)? {
            Some((disk, filesystem)) => Ok(Observed::Formatted(disk, filesystem)),
            None => {
                refuse_if_served_before(&mount)?;
                match blank(&device) {
                    Ok(disk) => Ok(Observed::Blank(disk)),
                    Err(refused) => match unfinished(&device, &record)? {
                        Some((disk, uuid)) => Ok(Observed::Unfinished(disk, uuid)),
                        None => Err(refused),
                    },
                }
            }
        })
        .await
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        match observed {
            Observed::Formatted(disk, found) if found.fs_type != self.filesystem.as_str() => {
                Err(Error::new(format!(
                    "{} holds {} and the tier file says {}; it is not formatted again",
                    disk.path.display(),
                    found.fs_type,
                    self.filesystem
                ))
                .hint(format!(
                    "write filesystem = \"{}\" in [storage.disk]",
                    found.fs_type
                )))
            }
            Observed::Formatted(..) => Ok(Diff::update("the data disk holds a file system")),
            Observed::Blank(disk) | Observed::Unfinished(disk, _) => {
                let mut diff = Diff::create(match observed {
                    Observed::Unfinished(..) => format!(
                        "{} was blank, and its formatting was cut off",
                        disk.path.display()
                    ),
                    _ => format!("{} is blank", disk.path.display()),
                });
                diff.field("device", None, disk.path.display().to_string());
                diff.field("filesystem", None, self.filesystem.to_string());
                diff.field("label", None, LABEL.to_owned());
                diff.irreversible = true;
                Ok(diff)
            }
        }
    }

    async fn obstacles(&self, _host: &Host, observed: &Observed) -> Result<()> {
        let Some((disk, unfinished)) = observed.to_format() else {
            return Ok(());
        };
        let fs_type = self.filesystem.as_str();
        blocking(move || is_known_to_the_kernel(fs_type)).await?;
        let uuid = disk::new_uuid()?;
        disk::rehearse(self.new_filesystem(disk, &uuid, unfinished.is_some())).await
    }

    fn guide(&self, diff: &Diff) -> Vec<GuideStep> {
        let Some(disk) = diff.get("device").and_then(|field| field.to.as_deref()) else {
            return Vec::new();
        };
        vec![
            GuideStep::new(2, format!("fdisk {disk}")),
            GuideStep::new(2, format!("mkfs.{} {disk}1", self.filesystem)),
        ]
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        let Some((disk, unfinished)) = observed.to_format() else {
            return Ok(());
        };
        // The check comes before the record of the formatting: after a recorded failure, the disk may
        // hold an unfinished mkfs of the agent's.
        still_free(&disk.path, unfinished).await?;
        // The same again: after a second interruption, the disk may hold parts of both.
        let uuid = unfinished.map_or_else(disk::new_uuid, |uuid| Ok(uuid.to_owned()))?;
        let effect = OnDisk::Format {
            device: disk.path.clone(),
            serial: disk.serial.clone(),
            size_bytes: disk.size_bytes,
            filesystem: self.filesystem.to_string(),
            uuid: Some(uuid.clone()),
        };
        let new = self.new_filesystem(disk, &uuid, unfinished.is_some());
        step.effect(
            effect,
            |permit| async move { disk::format(&permit, new).await },
        )
        .await
    }
}
