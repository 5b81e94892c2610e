//! A mount that somebody made by hand: refused, or taken over with its line of fstab(5) and its credentials.

use std::path::PathBuf;

use super::super::fstab;
use super::{CifsShare, Observed};
use crate::engine::{Diff, Step};
use crate::error::{Error, Result};
use crate::host::blocking;
use crate::host::fstab::{Entry, FSTAB, is_read_elsewhere};
use crate::host::mentions::{self, Mention};
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
    pub(super) fn diff_fstab(&self, observed: &Observed, diff: &mut Diff) -> Result<()> {
        let entries = &observed.unit.fstab;
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
        for credentials in observed.credentials_to_remove() {
            diff.adopt("credentials", credentials.display(), None);
        }
        for (file, mention) in &observed.credentials {
            let file = file.display();
            let why = match mention {
                Mention::Nowhere => continue,
                Mention::In(user) => format!("{} names it", user.display()),
                Mention::Unknown => "there is too much on this VM to look for its users".to_owned(),
            };
            diff.notes.push(format!(
                "{file} stays, because {why}; if nothing needs it: rm {file}"
            ));
        }
        Ok(())
    }

    /// The credentials files of these lines that no other line of fstab(5) reads.
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

    /// Those files, each with what else on this VM may read it.
    pub(super) async fn find_credentials(
        &self,
        entries: &[Entry],
    ) -> Result<Vec<(PathBuf, Mention)>> {
        let (share, entries) = (self.clone(), entries.to_vec());
        blocking(move || {
            let files = share.credentials_by_hand(&entries).into_iter();
            files
                .map(|file| mentions::of(&file).map(|mention| (file, mention)))
                .collect()
        })
        .await
    }

    /// Removes what the unit replaces. The fstab line goes last: while it is there, the next run still knows what
    /// else to remove.
    pub(super) async fn clear_fstab(&self, step: &Step, observed: &Observed) -> Result<()> {
        for credentials in observed.credentials_to_remove() {
            step.remove_file(credentials).await?;
        }
        if !observed.unit.fstab.is_empty() {
            fstab::take_out(step, &self.mount_point).await?;
        }
        Ok(())
    }
}
