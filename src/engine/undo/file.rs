//! Files, which others edit as well: how far back one goes is decided from what it holds now and from what each
//! effect on it found and left. fstab(5) belongs to many, and gets lines back where it cannot go back as a whole.

use std::path::Path;

use super::Undone;
use crate::engine::effect::{Effect, SavedFile, Sha256};
use crate::engine::journal::{self, Recorded};
use crate::engine::{Kind, Step};
use crate::error::Result;
use crate::host::blocking;
use crate::host::fs::{self, RegularFile};
use crate::resource::{FSTAB, is_ours, put_lines_back};

/// What a file's effects come back to, given what it holds now.
#[derive(Debug, PartialEq, Eq)]
enum FileTarget<'a> {
    /// What it is.
    Unchanged,
    Absent,
    Was(&'a SavedFile),
    /// Somebody else wrote what is there.
    Foreign,
}

/// Walks the effects back from what is there now. An effect that the walk does not meet did not
/// happen, or somebody changed the file before it: the walk then ends where it has come to. Where they
/// removed a file of ours, or edited it (`is_ours`), it goes on to what was there before ours. What an
/// undo wrote is only a way to what is older.
fn file_target<'a>(
    now: Option<&Sha256>,
    effects: &[&'a Recorded],
    is_ours: impl Fn(&SavedFile) -> bool,
) -> FileTarget<'a> {
    let first = effects.iter().find_map(|recorded| before(&recorded.effect));
    if now.is_some() && first.map(contents) == Some(now) {
        return FileTarget::Unchanged;
    }
    let mut at: Option<&Sha256> = now;
    let mut target = None;
    let mut met = false;
    for recorded in effects.iter().rev() {
        let Some(before) = before(&recorded.effect) else {
            continue;
        };
        let after = match &recorded.effect {
            Effect::WriteFile { after, .. } => Some(after),
            _ => None,
        };
        let was = contents(before);
        let removed_or_edited = match target.flatten() {
            Some(file) => at == contents(Some(file)) && is_ours(file),
            None => at.is_none(),
        };
        if at == after || (removed_or_edited && after.is_some() && !recorded.undoes) {
            met = true;
            at = was;
            if !recorded.undoes {
                target = Some(before);
            }
        } else if at == was && !(recorded.undoes && recorded.done) {
            met |= !recorded.undoes;
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

/// What an effect on a file found there: nothing, or a file.
fn before(effect: &Effect) -> Option<Option<&SavedFile>> {
    match effect {
        Effect::WriteFile { before, .. } => Some(before.as_ref()),
        Effect::RemoveFile { before, .. } => Some(Some(before)),
        _ => None,
    }
}

fn contents(file: Option<&SavedFile>) -> Option<&Sha256> {
    file.map(|file| &file.contents)
}

/// What the file was before, if it held the same and we gave it the owner, mode or time that it has.
fn only_dressed_otherwise<'a>(
    found: &RegularFile,
    effects: &[&'a Recorded],
) -> Option<&'a SavedFile> {
    let was = match &effects.first()?.effect {
        Effect::WriteFile { before, .. } => before.as_ref()?,
        _ => return None,
    };
    let is_ours = matches!(&effects.last()?.effect, Effect::WriteFile { after, meta, .. }
        if *after == Sha256::of(&found.contents) && *meta == found.meta);
    let differs = was.meta != found.meta || was.modified() != found.modified;
    (is_ours && differs && was.contents == Sha256::of(&found.contents)).then_some(was)
}

pub(super) async fn undo_file(step: &Step, path: &Path, effects: &[&Recorded]) -> Result<Undone> {
    let at = path.to_owned();
    let found = match blocking(move || fs::read_regular(&at, 16 << 20)).await {
        Ok(found) => found,
        // A link or a directory in its place is somebody else's.
        Err(error) => return Ok(Undone::Kept(format!("{error}; it is kept as it is"))),
    };
    let now = found.as_ref().map(|file| Sha256::of(&file.contents));
    let is_ours = |file: &SavedFile| {
        journal::saved(&file.contents).is_ok_and(|text| is_ours(&String::from_utf8_lossy(&text)))
    };
    let mut target = file_target(now.as_ref(), effects, is_ours);
    if let (FileTarget::Unchanged, Some(found)) = (&target, &found)
        && let Some(was) = only_dressed_otherwise(found, effects)
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
            let contents = journal::saved(&was.contents)?;
            step.restore_file(path, contents, was.clone()).await?;
            Undone::Restored("as it was before".to_owned())
        }
    };
    step.remove_leftover(path).await?;
    Ok(undone)
}

/// What comes back for nobody who removed it: a secret, what others have in fstab(5), and a file whose directory is gone.
fn stays_away(step: &Step, path: &Path) -> bool {
    step.address().kind == Kind::Secret
        || path == Path::new(FSTAB)
        || !path.parent().is_some_and(Path::is_dir)
}

/// fstab(5) belongs to many: where somebody changed it since, the lines that were taken out for the mount come back
/// at its end, and the rest stays as it is.
pub(super) async fn put_back_in_fstab(step: &Step, effects: &[&Recorded]) -> Result<Undone> {
    let path = Path::new(FSTAB);
    let kept = || Ok(Undone::Kept(format!("{FSTAB} is kept as it is")));
    // Who took them out again has decided so.
    if effects.last().is_some_and(|last| last.undoes && last.done) {
        return kept();
    }
    // A link in its place is somebody else's.
    let Ok(Some(found)) = blocking(move || fs::read_regular(path, 16 << 20)).await else {
        return kept();
    };
    let mount_point = Path::new(&step.address().name);
    let ours = effects.iter().rev().filter(|recorded| !recorded.undoes);
    let mut whole = None;
    for file in ours.filter_map(|recorded| before(&recorded.effect).flatten()) {
        let before = journal::saved(&file.contents)?;
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
    use crate::engine::undo::samples::{file, recorded, sha, write};
    use crate::host::fs::FileMeta;

    #[test]
    fn a_file_that_we_only_gave_another_mode_gets_its_own_back() {
        let found = |mode| RegularFile {
            contents: b"a".to_vec(),
            meta: FileMeta::root(mode),
            modified: std::time::SystemTime::UNIX_EPOCH,
        };
        let ours = Effect::WriteFile {
            path: "/x".into(),
            before: Some(file("a")),
            after: sha("a"),
            meta: FileMeta::root(0o600),
        };
        let ours = recorded(ours, false);
        assert_eq!(
            only_dressed_otherwise(&found(0o600), &[&ours]),
            Some(&file("a"))
        );
        // Somebody changed it since, or it is as it was.
        assert_eq!(only_dressed_otherwise(&found(0o640), &[&ours]), None);
        assert_eq!(only_dressed_otherwise(&found(0o644), &[&ours]), None);
        let made = recorded(write(None, "a"), false);
        assert_eq!(only_dressed_otherwise(&found(0o644), &[&made]), None);
    }

    /// What is there now, what was done (oldest first), and what an undo comes back to.
    #[test]
    fn a_file_comes_back_to_what_it_was_unless_somebody_changed_it() {
        let did = |before, after| recorded(write(before, after), false);
        let undid = |before, after| recorded(write(Some(before), after), true);
        let cut_off = |before, after| Recorded {
            done: false,
            ..undid(before, after)
        };
        let made = [did(None, "a")];
        let twice = [did(Some("o"), "a"), did(Some("a"), "b")];
        let between = [did(Some("o"), "a"), did(Some("hand"), "b")];
        let undone = [did(Some("o"), "a"), undid("a", "o")];
        let half_undone = [did(Some("o"), "a"), cut_off("a", "o")];
        let rolled_back = [did(Some("o"), "a"), did(Some("a"), "b"), undid("b", "a")];
        // What was taken out of a file of many went back into what others had made of it since.
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
            recorded(
                Effect::RemoveFile {
                    path: "/x".into(),
                    before: file("o"),
                },
                false,
            ),
            recorded(write(None, "o"), true),
        ];
        let was_o = file("o");
        let was_hand = file("hand");
        let was_both = file("o, hand");
        let table: [(&[Recorded], Option<&str>, FileTarget<'_>); 25] = [
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
        for (effects, now, expected) in table {
            let effects: Vec<&Recorded> = effects.iter().collect();
            let now = now.map(sha);
            assert_eq!(
                file_target(now.as_ref(), &effects, |file| file.contents == edit),
                expected,
                "{now:?} {effects:?}"
            );
        }
    }
}
