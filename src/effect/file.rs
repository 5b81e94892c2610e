//! Files, which others edit as well. How far an undo goes back depends on what the file holds now, and on what each
//! effect found and left. fstab(5) is shared by many: if it cannot be restored as a whole, it gets its lines back.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::unit::{is_unit_file, stop_what_a_boot_has_started};
use super::{Halt, Kind, Past, Reversible, Step, Undo, Undone};
use crate::error::Result;
use crate::host::fs::{self, FileMeta, NewFile, RegularFile};
use crate::host::fstab::{FSTAB, put_lines_back};
use crate::host::sha256::Sha256;
use crate::host::{blocking, mark};

/// Files that are kept for undo are small: configuration, not data.
const MAX_SAVED: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFile {
    WriteFile {
        path: PathBuf,
        before: Option<SavedFile>,
        /// The contents written.
        after: Sha256,
        /// Their owner and mode.
        meta: FileMeta,
    },
    RemoveFile {
        path: PathBuf,
        before: SavedFile,
    },
}

/// A file as it was; its contents are kept beside the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    pub contents: Sha256,
    pub meta: FileMeta,
    /// Seconds and nanoseconds since 1970.
    pub modified: (u64, u32),
    /// The SELinux label.
    pub label: Option<String>,
}

impl SavedFile {
    pub fn modified(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(self.modified.0, self.modified.1)
    }
}

impl fmt::Display for OnFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteFile { path, .. } => write!(f, "write {}", path.display()),
            Self::RemoveFile { path, .. } => write!(f, "remove {}", path.display()),
        }
    }
}

impl OnFile {
    fn path(&self) -> &Path {
        match self {
            Self::WriteFile { path, .. } | Self::RemoveFile { path, .. } => path,
        }
    }

    /// The file that the effect found, if any.
    pub fn before(&self) -> Option<&SavedFile> {
        match self {
            Self::WriteFile { before, .. } => before.as_ref(),
            Self::RemoveFile { before, .. } => Some(before),
        }
    }

    /// The contents that the effect left, if any.
    fn after(&self) -> Option<&Sha256> {
        match self {
            Self::WriteFile { after, .. } => Some(after),
            Self::RemoveFile { .. } => None,
        }
    }
}

impl Reversible for OnFile {
    fn target(&self) -> String {
        self.path().display().to_string()
    }

    fn made_beside(&self) -> Option<&Path> {
        match self {
            Self::WriteFile { path, .. } => Some(path),
            Self::RemoveFile { .. } => None,
        }
    }

    /// For a secret, contents that an earlier effect wrote are not kept: a replaced password is forgotten.
    fn needed(past: &[Past<'_, Self>]) -> Vec<Sha256> {
        let mut written = Vec::new();
        let mut needed = Vec::new();
        for one in past {
            let before = one.effect.before().map(|file| &file.contents);
            let leads_to_it = match one.effect {
                Self::WriteFile { .. } => {
                    one.resource.kind != Kind::Secret || !written.contains(&before)
                }
                Self::RemoveFile { .. } => !one.undoes,
            };
            if leads_to_it {
                needed.extend(before.cloned());
            }
            written.push(one.effect.after());
        }
        needed
    }

    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(first) = past.first() else {
            return Ok(Undone::Already);
        };
        let (path, step) = (first.effect.path(), undo.step);
        let is_unit = is_unit_file(path);
        if is_unit && first.effect.before().is_none() {
            stop_what_a_boot_has_started(step, path).await?;
        }
        let undone = match undo_file(step, path, past).await? {
            Undone::Kept(_) if path == Path::new(FSTAB) => put_back_in_fstab(step, past).await?,
            undone => undone,
        };
        // Also if the file was gone already: an undo that was cut off may not have reloaded the units.
        if is_unit {
            match undone {
                Undone::Kept(_) => undo.later.kept_units.push(path.to_owned()),
                _ => undo.later.reload_units = true,
            }
        }
        Ok(undone)
    }
}

impl Step {
    /// Writes a whole file, and makes missing parent directories.
    pub async fn write_file(
        &self,
        path: &Path,
        contents: impl Into<Zeroizing<Vec<u8>>>,
        meta: FileMeta,
    ) -> Result<()> {
        if let Some(directory) = path.parent() {
            self.make_directories(directory, FileMeta::root(0o755))
                .await?;
        }
        self.put_file(path, contents.into(), meta, None).await
    }

    /// Writes a text file that everybody may read.
    pub async fn write_text(&self, path: &Path, text: &str) -> Result<()> {
        let text = text.as_bytes().to_vec();
        self.write_file(path, text, FileMeta::root(0o644)).await
    }

    /// Restores a file as it was.
    pub async fn restore_file(&self, path: &Path, was: SavedFile) -> Result<()> {
        let contents = self.saved(&was.contents).await?;
        let meta = was.meta;
        self.put_file(path, contents, meta, Some(was)).await
    }

    async fn put_file(
        &self,
        path: &Path,
        contents: Zeroizing<Vec<u8>>,
        meta: FileMeta,
        was: Option<SavedFile>,
    ) -> Result<()> {
        let effect = OnFile::WriteFile {
            path: path.to_owned(),
            before: self.save_file(path).await?,
            after: Sha256::on_record(&contents),
            meta,
        };
        let path = path.to_owned();
        self.effect(effect, |permit| {
            blocking(move || {
                let file = NewFile {
                    label: was.as_ref().and_then(|was| was.label.as_deref()),
                    modified: was.as_ref().map(SavedFile::modified),
                    ..NewFile::new(&contents, meta)
                };
                fs::write_atomic(&permit, &path, &file)
            })
        })
        .await
    }

    /// Removes a file, and what an interrupted write of it may have left.
    pub async fn remove_file(&self, path: &Path) -> Result<()> {
        let Some(before) = self.save_file(path).await? else {
            return Ok(());
        };
        let effect = OnFile::RemoveFile {
            path: path.to_owned(),
            before,
        };
        let path = path.to_owned();
        self.effect(effect, |permit| {
            blocking(move || fs::remove_file(&permit, &path).map(drop))
        })
        .await
    }

    /// Removes the temporary file that an interrupted write left.
    pub(super) async fn remove_leftover(&self, path: &Path) -> Result<()> {
        let path = path.to_owned();
        blocking(move || fs::remove_leftover(&path)).await
    }

    /// Reads the file as it is, and keeps its contents.
    pub(super) async fn save_file(&self, path: &Path) -> Result<Option<SavedFile>> {
        let (path, ledger) = (path.to_owned(), self.ledger());
        blocking(move || {
            let Some(file) = fs::read_regular(&path, MAX_SAVED)? else {
                return Ok(None);
            };
            Ok(Some(SavedFile {
                contents: ledger.save(&file.contents)?,
                meta: file.meta,
                modified: since_1970(&file),
                label: fs::selinux_label(&path)?,
            }))
        })
        .await
    }
}

fn since_1970(file: &RegularFile) -> (u64, u32) {
    file.modified
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or((0, 0), |since| (since.as_secs(), since.subsec_nanos()))
}

/// What an undo brings a file back to, given what the file holds now.
#[derive(Debug, PartialEq, Eq)]
enum FileTarget<'a> {
    /// The file stays as it is.
    Unchanged,
    Absent,
    Was(&'a SavedFile),
    /// Somebody else wrote what is there.
    Foreign,
}

/// Walks the effects back from what the file holds now. If the file does not hold what an effect left, either the
/// effect did not happen and the walk passes over it, or somebody changed the file in between and the walk ends. If
/// somebody removed or edited (`is_ours`) the agent's file, the walk goes on to what was there before the agent's file.
/// What an undo wrote is never the target, only a step towards older contents.
fn file_target<'a>(
    now: Option<&Sha256>,
    past: &[Past<'a, OnFile>],
    is_ours: impl Fn(&SavedFile) -> bool,
) -> FileTarget<'a> {
    let first = past.first().map(|one| one.effect.before());
    if now.is_some() && first.map(contents) == Some(now) {
        return FileTarget::Unchanged;
    }
    let mut at: Option<&Sha256> = now;
    let mut target = None;
    let mut met = false;
    for one in past.iter().rev() {
        let (before, after) = (one.effect.before(), one.effect.after());
        let was = contents(before);
        let removed_or_edited = match target.flatten() {
            Some(file) => at == contents(Some(file)) && is_ours(file),
            None => at.is_none(),
        };
        if at == after || (removed_or_edited && after.is_some() && !one.undoes) {
            met = true;
            at = was;
            if !one.undoes {
                target = Some(before);
            }
        } else if at == was && !(one.undoes && one.done) {
            met |= !one.undoes;
        } else {
            break;
        }
    }
    match target {
        _ if !met => FileTarget::Foreign,
        None => FileTarget::Unchanged,
        Some(was) if contents(was) == now => FileTarget::Unchanged,
        Some(None) => FileTarget::Absent,
        Some(Some(was)) => FileTarget::Was(was),
    }
}

fn contents(file: Option<&SavedFile>) -> Option<&Sha256> {
    file.map(|file| &file.contents)
}

/// The file as it was before, if its contents are the same and the agent set its present owner, mode or time.
fn with_other_attributes<'a>(
    found: &RegularFile,
    past: &[Past<'a, OnFile>],
) -> Option<&'a SavedFile> {
    let was = match past.first()?.effect {
        OnFile::WriteFile { before, .. } => before.as_ref()?,
        OnFile::RemoveFile { .. } => return None,
    };
    let is_ours = matches!(past.last()?.effect, OnFile::WriteFile { after, meta, .. }
        if *after == Sha256::on_record(&found.contents) && *meta == found.meta);
    let differs = was.meta != found.meta || was.modified() != found.modified;
    (is_ours && differs && was.contents == Sha256::on_record(&found.contents)).then_some(was)
}

async fn undo_file(step: &Step, path: &Path, past: &[Past<'_, OnFile>]) -> Result<Undone> {
    let at = path.to_owned();
    let found = match blocking(move || fs::read_regular(&at, MAX_SAVED)).await {
        Ok(found) => found,
        // A link or a directory in its place is somebody else's.
        Err(error) => return Ok(Undone::Kept(format!("{error}; it is kept as it is"))),
    };
    let now = found.as_ref().map(|file| Sha256::on_record(&file.contents));
    let ledger = step.ledger();
    let is_ours = |file: &SavedFile| {
        let saved = ledger.saved(&file.contents);
        saved.is_ok_and(|text| mark::is_ours(&String::from_utf8_lossy(&text)))
    };
    let mut target = file_target(now.as_ref(), past, is_ours);
    if let (FileTarget::Unchanged, Some(found)) = (&target, &found)
        && let Some(was) = with_other_attributes(found, past)
    {
        target = FileTarget::Was(was);
    }
    let undone = match target {
        FileTarget::Unchanged => Undone::Already,
        FileTarget::Foreign if now.is_none() => Undone::Already,
        FileTarget::Foreign => Undone::Kept(format!(
            "{} was changed by somebody since apply wrote it, and is kept as it is",
            path.display()
        )),
        FileTarget::Absent => {
            step.remove_file(path).await?;
            Undone::Restored("removed".to_owned())
        }
        FileTarget::Was(_) if now.is_none() && stays_away(step, path) => Undone::Kept(format!(
            "{} was removed by somebody since apply wrote it, and stays away",
            path.display()
        )),
        FileTarget::Was(was) => {
            step.restore_file(path, was.clone()).await?;
            Undone::Restored("as it was before".to_owned())
        }
    };
    step.remove_leftover(path).await?;
    Ok(undone)
}

/// Whether a file that somebody removed stays away. True for a secret, for fstab(5), which is shared with others, and
/// for a file whose directory is gone.
fn stays_away(step: &Step, path: &Path) -> bool {
    step.address().kind == Kind::Secret
        || path == Path::new(FSTAB)
        || !path.parent().is_some_and(Path::is_dir)
}

/// fstab(5) is shared by many. If somebody changed it since, the lines that were taken out for the mount are put back
/// at its end, and the rest stays as it is.
async fn put_back_in_fstab(step: &Step, past: &[Past<'_, OnFile>]) -> Result<Undone> {
    let path = Path::new(FSTAB);
    let kept = || Ok(Undone::Kept(format!("{FSTAB} is kept as it is")));
    // An undo put the lines back already. Whoever took them out again meant to.
    if past.last().is_some_and(|last| last.undoes && last.done) {
        return kept();
    }
    // A link in its place is somebody else's.
    let Ok(Some(found)) = blocking(move || fs::read_regular(path, MAX_SAVED)).await else {
        return kept();
    };
    let mount_point = Path::new(&step.address().name);
    let ours = past.iter().rev().filter(|one| !one.undoes);
    let mut whole = None;
    for file in ours.filter_map(|one| one.effect.before()) {
        let before = step.saved(&file.contents).await?;
        if put_lines_back(&before, b"", mount_point).is_some() {
            whole = put_lines_back(&before, &found.contents, mount_point);
            break;
        }
    }
    let Some(whole) = whole else {
        return Ok(Undone::Already);
    };
    step.write_file(path, whole, found.meta).await?;
    Ok(Undone::Restored(format!(
        "somebody changed it since: the line for {} is at its end",
        mount_point.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Address;
    use crate::effect::samples::{file, sha, write};

    /// An effect, whether it is part of an undo, and whether it is known to have succeeded.
    type Did = (OnFile, bool, bool);

    fn past<'a>(effects: &'a [Did], resource: &'a Address) -> Vec<Past<'a, OnFile>> {
        let effects = effects.iter();
        effects
            .map(|(effect, undoes, done)| Past {
                effect,
                resource,
                undoes: *undoes,
                done: *done,
                left: None,
            })
            .collect()
    }

    fn resource() -> Address {
        "file:/x".parse().unwrap()
    }

    #[test]
    fn a_file_that_we_only_gave_another_mode_gets_its_own_back() {
        let found = |mode| RegularFile {
            contents: b"a".to_vec().into(),
            meta: FileMeta::root(mode),
            modified: std::time::SystemTime::UNIX_EPOCH,
        };
        let ours = OnFile::WriteFile {
            path: "/x".into(),
            before: Some(file("a")),
            after: sha("a"),
            meta: FileMeta::root(0o600),
        };
        let ours = [(ours, false, true)];
        let resource = resource();
        let ours = past(&ours, &resource);
        assert_eq!(
            with_other_attributes(&found(0o600), &ours),
            Some(&file("a"))
        );
        // Somebody changed the mode since, or the file is as it was.
        assert_eq!(with_other_attributes(&found(0o640), &ours), None);
        assert_eq!(with_other_attributes(&found(0o644), &ours), None);
        let made = [(write(None, "a"), false, true)];
        let made = past(&made, &resource);
        assert_eq!(with_other_attributes(&found(0o644), &made), None);
    }

    /// The effects (oldest first), what the file holds now, and what an undo brings back.
    #[test]
    fn a_file_comes_back_to_what_it_was_unless_somebody_changed_it() {
        let did = |before, after| (write(before, after), false, true);
        let undid = |before, after| (write(Some(before), after), true, true);
        let cut_off = |before, after| (write(Some(before), after), true, false);
        let made = [did(None, "a")];
        let twice = [did(Some("o"), "a"), did(Some("a"), "b")];
        let between = [did(Some("o"), "a"), did(Some("hand"), "b")];
        let undone = [did(Some("o"), "a"), undid("a", "o")];
        let half_undone = [did(Some("o"), "a"), cut_off("a", "o")];
        let rolled_back = [did(Some("o"), "a"), did(Some("a"), "b"), undid("b", "a")];
        // A shared file: the undo put lines back into what others had edited since.
        let put_back = [did(Some("o"), "a"), undid("a, hand", "o, hand")];
        let put_back_and_done = [
            did(Some("o"), "a"),
            undid("a, hand", "o, hand"),
            did(Some("o, hand"), "c"),
        ];
        let edited = [did(Some("o"), "a"), did(Some("a, edited"), "a")];
        let removed = [did(Some("o"), "a"), did(None, "b")];
        let taken_over_later = [did(None, "a"), did(Some("hand"), "b")];
        let taken_out = [
            (
                OnFile::RemoveFile {
                    path: "/x".into(),
                    before: file("o"),
                },
                false,
                true,
            ),
            (write(None, "o"), true, true),
        ];
        let was_o = file("o");
        let was_hand = file("hand");
        let was_both = file("o, hand");
        let table: [(&[Did], Option<&str>, FileTarget<'_>); 25] = [
            (&made, Some("a"), FileTarget::Absent),
            (&made, None, FileTarget::Unchanged),
            (&made, Some("hand"), FileTarget::Foreign),
            (&twice, Some("b"), FileTarget::Was(&was_o)),
            (&twice, Some("a"), FileTarget::Was(&was_o)),
            (&twice, Some("o"), FileTarget::Unchanged),
            (&twice, Some("hand"), FileTarget::Foreign),
            (&twice, None, FileTarget::Was(&was_o)),
            (&between, Some("b"), FileTarget::Was(&was_hand)),
            (&between, Some("hand"), FileTarget::Unchanged),
            (&undone, Some("o"), FileTarget::Unchanged),
            (&undone, Some("a"), FileTarget::Foreign),
            (&undone, None, FileTarget::Foreign),
            (&half_undone, Some("a"), FileTarget::Was(&was_o)),
            (&half_undone, Some("o"), FileTarget::Unchanged),
            (&rolled_back, Some("a"), FileTarget::Was(&was_o)),
            (&put_back, Some("o, hand"), FileTarget::Unchanged),
            (&put_back, Some("a, hand"), FileTarget::Foreign),
            (&put_back_and_done, Some("c"), FileTarget::Was(&was_both)),
            (&edited, Some("a"), FileTarget::Was(&was_o)),
            (&removed, Some("b"), FileTarget::Was(&was_o)),
            (&between, None, FileTarget::Was(&was_hand)),
            (&taken_over_later, None, FileTarget::Was(&was_hand)),
            (&taken_out, Some("o"), FileTarget::Unchanged),
            (&taken_out, None, FileTarget::Foreign),
        ];
        let edit = sha("a, edited");
        let resource = resource();
        for (effects, now, expected) in table {
            let effects = past(effects, &resource);
            let now = now.map(sha);
            assert_eq!(
                file_target(now.as_ref(), &effects, |file| file.contents == edit),
                expected,
                "{now:?} {effects:?}"
            );
        }
    }
}
