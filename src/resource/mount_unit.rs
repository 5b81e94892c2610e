//! The `.mount` unit (systemd.mount(5)) that makes a mount at every boot. The agent makes the
//! present mount by system calls. The unit file tells systemd what that mount is, and repeats it
//! after a reboot.

use std::path::{Path, PathBuf};

use super::fstab;
use crate::engine::{Diff, Step};
use crate::error::{Error, Result};
use crate::host::fs::{DirState, dir_state};
use crate::host::fstab::{Entry, on_this_guest};
use crate::host::mark::{self, OurFile};
use crate::host::mount::{MountInfo, mount_at};
use crate::host::systemd::{UnitState, mount_unit_name};
use crate::host::{Host, blocking, way};

const UNIT_DIRECTORY: &str = "/etc/systemd/system";

/// Why a mount is changed although it is there and right.
pub const DIFFERS: &str = "what mounts it at every boot is not as it should be";

/// A `.mount` unit: what `[Mount]` and `[Install]` say, and further lines of `[Unit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountUnit {
    pub description: String,
    /// Further lines of `[Unit]`.
    pub unit_lines: Vec<String>,
    pub what: String,
    pub mount_point: PathBuf,
    pub fs_type: String,
    /// As they stand in the unit, `%` doubled.
    pub options: String,
    pub wanted_by: &'static str,
}

/// The unit as it is.
#[derive(Debug)]
pub struct Observed {
    pub file: Option<OurFile>,
    pub state: UnitState,
    /// What is mounted there now.
    pub mounted: Option<MountInfo>,
    /// Entries of fstab(5) for the same place.
    pub fstab: Vec<Entry>,
    /// The directory holds something that the mount will hide.
    hides: bool,
}

#[cfg(test)]
impl Observed {
    pub fn of(file: Option<OurFile>, state: UnitState, mounted: Option<MountInfo>) -> Self {
        Self {
            file,
            state,
            mounted,
            fstab: Vec::new(),
            hides: false,
        }
    }
}

impl MountUnit {
    pub fn path(mount_point: &Path) -> PathBuf {
        Path::new(UNIT_DIRECTORY).join(mount_unit_name(mount_point))
    }

    /// The unit file. `%` begins a specifier in a unit file and is doubled.
    pub fn text(&self) -> String {
        let escape = |text: &str| text.replace('%', "%%");
        let unit_lines: String = self.unit_lines.iter().map(|l| format!("{l}\n")).collect();
        mark::marked(&format!(
            "[Unit]\nDescription={}\n{unit_lines}\n[Mount]\nWhat={}\nWhere={}\nType={}\nOptions={}\n\n[Install]\nWantedBy={}\n",
            escape(&self.description),
            escape(&self.what),
            escape(&self.mount_point.to_string_lossy()),
            self.fs_type,
            self.options,
            self.wanted_by,
        ))
    }

    /// Looks whether the unit can be written, and its mount point made.
    pub async fn obstacles(mount_point: &Path, observed: &Observed) -> Result<()> {
        let (at, is_mounted) = (mount_point.to_owned(), observed.mounted.is_some());
        blocking(move || {
            way::to_file(&Self::path(&at))?;
            if is_mounted {
                return Ok(());
            }
            way::to_directory(&at)
        })
        .await
    }

    /// Whether this diff changes the unit, and not only the mount itself.
    pub fn differs(diff: &Diff) -> bool {
        diff.changes("unit.file") || diff.changes("unit.enabled")
    }

    /// Makes the unit file, loads it and enables it. Does not start it.
    pub async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        let text = self.text();
        let name = mount_unit_name(&self.mount_point);
        if observed.file.as_ref().map(|file| &file.text) != Some(&text) {
            step.write_text(&Self::path(&self.mount_point), &text)
                .await?;
            step.reload_units().await?;
        } else if observed.state.need_daemon_reload {
            step.reload_units().await?;
        }
        if observed.state.file_state != "enabled" {
            step.enable(&name).await?;
        }
        Ok(())
    }

    /// Adds to `diff` what differs in the unit.
    pub fn diff(&self, observed: &Observed, diff: &mut Diff) {
        let on_disk = observed.file.as_ref().map(|file| file.text.as_str());
        let text = self.text();
        if on_disk != Some(text.as_str()) {
            diff.field("unit.file", on_disk, text.as_str());
        } else if observed.state.need_daemon_reload {
            diff.field("unit.loaded", Some("an older text"), "the file");
        }
        if observed.hides {
            diff.notes.push(format!(
                "{} is not empty: what is in it is hidden while something is mounted there",
                self.mount_point.display()
            ));
        }
        let enabled = &observed.state.file_state;
        diff.field(
            "unit.enabled",
            Some(enabled.as_str()).filter(|state| !state.is_empty()),
            "enabled",
        );
    }
}

/// Looks at the unit of a mount point. An entry of fstab(5) for the same place, or a unit that is
/// not the agent's, is an error: a mount must have only one master.
pub async fn observe(host: &Host, mount_point: &Path) -> Result<Observed> {
    let observed = observe_beside_fstab(host, mount_point).await?;
    match observed.fstab.first() {
        None => Ok(observed),
        Some(entry) => Err(fstab::refusal(entry, mount_point).hint(format!(
            "remove that line: wasagent keeps the mount as {}",
            mount_unit_name(mount_point)
        ))),
    }
}

/// The same, but an entry of fstab(5) for the same place is only reported.
pub async fn observe_beside_fstab(host: &Host, mount_point: &Path) -> Result<Observed> {
    let at = mount_point.to_owned();
    let files = blocking(move || {
        let fstab = on_this_guest(&at);
        refuse_symbolic_link(&at)?;
        let mounted = mount_at(&at)?;
        if mounted.is_none() {
            refuse_other_than_directory(&at)?;
        }
        // Only while nothing is mounted: a look into a dead share never ends.
        let hides = mounted.is_none()
            && std::fs::read_dir(&at).is_ok_and(|mut entries| entries.next().is_some());
        Ok((mark::read(&MountUnit::path(&at))?, mounted, fstab, hides))
    });
    let name = mount_unit_name(mount_point);
    let ((file, mounted, fstab, hides), state) = tokio::try_join!(files, host.systemd.unit(&name))?;
    Ok(Observed {
        file,
        mounted,
        fstab,
        hides,
        state,
    })
}

/// Where nothing is mounted, only a directory may stand, or nothing.
fn refuse_other_than_directory(mount_point: &Path) -> Result<()> {
    let DirState::Other(what) = dir_state(mount_point)? else {
        return Ok(());
    };
    let at = mount_point.display();
    Err(Error::new(format!(
        "{at} is {what}, not a directory: nothing can be mounted there"
    ))
    .hint(match std::fs::canonicalize(mount_point) {
        Ok(real) if real != mount_point => format!(
            "write {}, where it leads to, into the tier file, or move {at} away",
            real.display()
        ),
        _ => format!("move {at} away, and apply again"),
    }))
}

/// The kernel shows a mount under its real path: the agent would never find a mount again that it
/// made through a symbolic link. The mount point itself is not checked here, because what is mounted
/// there may be dead.
fn refuse_symbolic_link(mount_point: &Path) -> Result<()> {
    for ancestor in mount_point.ancestors().skip(1) {
        if let Ok(real) = std::fs::canonicalize(ancestor) {
            if real == ancestor {
                return Ok(());
            }
            return Err(Error::new(format!(
                "{} is really {}, through a symbolic link",
                ancestor.display(),
                real.display()
            ))
            .hint("write the real path into the tier file"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_disk_reads_as_documented() {
        let unit = MountUnit {
            description: "Data disk, 100% ours".to_owned(),
            unit_lines: vec!["Before=smbd.service".to_owned()],
            what: "/dev/disk/by-uuid/1234".to_owned(),
            mount_point: "/mnt/data".into(),
            fs_type: "xfs".to_owned(),
            options: "nodev,nosuid".to_owned(),
            wanted_by: "local-fs.target",
        };
        assert_eq!(
            unit.text(),
            format!(
                "{}\n[Unit]\nDescription=Data disk, 100%% ours\nBefore=smbd.service\n\n[Mount]\n\
                 What=/dev/disk/by-uuid/1234\nWhere=/mnt/data\nType=xfs\nOptions=nodev,nosuid\n\n\
                 [Install]\nWantedBy=local-fs.target\n",
                mark::MARK
            )
        );
    }
}
