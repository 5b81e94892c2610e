//! A mount that somebody made by hand: refused, or taken over with its line of fstab(5) and its credentials.

use std::path::PathBuf;

use super::super::fstab;
use super::{CifsShare, Observed};
use crate::engine::{Diff, Step};
use crate::error::{Error, Result};
use crate::host::fstab::{Entry, FSTAB, is_read_elsewhere};
use crate::host::mount::MountInfo;
use crate::host::systemd::mount_unit_name;

impl CifsShare {
    /// Whether somebody mounted the share by hand: neither fstab(5) nor the agent has a record of it.
    pub(super) fn is_by_hand(&self, observed: &Observed) -> bool {
        let unit = &observed.unit;
        unit.file.is_none() && unit.fstab.is_empty() && observed.has_no_credentials
    }

    pub(super) fn refusal(&self, mounted: &MountInfo) -> Error {
        Error::new(format!(
            "{} is mounted on {} by hand",
            mounted.source,
            self.mount_point.display()
        ))
        .hint(
            "unmount it; or `wasagent plan --adopt` shows how wasagent would put its own in the place, after which \
             no revert can mount this one again",
        )
    }

    /// Adds what is taken over from step 16 of the guide: the fstab(5) lines, and their credentials.
    pub(super) fn diff_fstab(&self, entries: &[Entry], diff: &mut Diff) -> Result<()> {
        for entry in entries {
            let unit = mount_unit_name(&self.mount_point);
            if entry.fs_type != "cifs" {
                return Err(fstab::refusal(entry, &self.mount_point).hint(format!(
                    "that is {}, and no share: remove the line, or mount the share elsewhere: was.mount",
                    entry.fs_type
                )));
            }
            if !self.adopt {
                return Err(fstab::refusal(entry, &self.mount_point).hint(format!(
                    "`wasagent plan --adopt` shows how wasagent would take the mount over as {unit}; \
                     or remove that line"
                )));
            }
            diff.adopt("fstab", format!("{} line {}", FSTAB, entry.line), None);
        }
        for credentials in self.credentials_by_hand(entries) {
            diff.adopt("credentials", credentials.display(), None);
        }
        Ok(())
    }

    /// The credentials files that only these lines read.
    fn credentials_by_hand(&self, entries: &[Entry]) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = entries
            .iter()
            .filter_map(|entry| entry.credentials.clone())
            .filter(|file| *file != self.credentials && file.is_absolute())
            .filter(|file| std::fs::symlink_metadata(file).is_ok_and(|found| found.is_file()))
            .filter(|file| !is_read_elsewhere(file, &self.mount_point))
            .collect();
        files.dedup();
        files
    }

    /// Removes what the unit replaces. The fstab line goes last: while it is there, the next run still knows what
    /// else to remove.
    pub(super) async fn clear_fstab(&self, step: &Step, entries: &[Entry]) -> Result<()> {
        for credentials in self.credentials_by_hand(entries) {
            step.remove_file(&credentials).await?;
        }
        if !entries.is_empty() {
            fstab::take_out(step, &self.mount_point).await?;
        }
        Ok(())
    }
}
