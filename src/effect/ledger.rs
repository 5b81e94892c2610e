//! The record of every run that did something: `/var/lib/wasagent/runs/NNNNNN.jsonl`. It has a line
//! before and a line after each effect, and each line is on the disk before the next thing happens.
//! Previous contents of files are kept beside it, named by their SHA-256.
//!
//! If a power cut left a line half-written, it is the last one, and the effect that it announces
//! has not happened. Reading the record skips that line ([`super::history`]).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::history::{self, Run};
use super::line::{Field, Line, Outcome, RUNS, VERSION, Work};
use super::{Address, Effect, prune};
use crate::config::Role;
use crate::error::{Doing, Error, Result};
use crate::host::fs::{make_own_directory, read_regular, sync_directory, write_own};
use crate::host::sha256::Sha256;

pub(super) const SAVED: &str = "saved";

/// No file that is kept for undo is larger.
const MAX_SAVED: u64 = 16 << 20;

/// The record of the current run. The first effect creates its file: a run that does nothing writes
/// nothing.
pub struct Ledger {
    directory: PathBuf,
    work: Work,
    role: Role,
    state: Mutex<State>,
    /// Of this run's file; 0 before there is one. Whoever asks for it does not wait for a line that is being synced.
    number: AtomicU32,
}

#[derive(Default)]
struct State {
    file: Option<(u32, File)>,
    effects: u32,
}

impl Ledger {
    pub fn new(directory: &Path, work: Work, role: Role) -> Self {
        Self {
            directory: directory.to_owned(),
            work,
            role,
            state: Mutex::default(),
            number: AtomicU32::new(0),
        }
    }

    /// The number of the run, once it has done something.
    pub fn number(&self) -> Option<u32> {
        match self.number.load(Ordering::Acquire) {
            0 => None,
            number => Some(number),
        }
    }

    /// Records what is about to be done. The effect may happen only when this is on the disk.
    pub fn begin(&self, resource: &Address, effect: &Effect, undoes: bool) -> Result<u32> {
        let mut state = self.lock();
        if state.file.is_none() {
            state.file = Some(self.open()?);
        }
        let number = state.effects + 1;
        append(
            &mut state,
            &Line::Begin {
                effect: number,
                resource: resource.to_string(),
                what: effect.clone(),
                undoes,
                at: now(),
            },
        )?;
        state.effects = number;
        Ok(number)
    }

    /// Records how the effect ended, and what it left ([`super::Reversible::left`]).
    pub fn end(
        &self,
        effect: u32,
        error: Option<&Error>,
        happened: Option<bool>,
        left: Option<String>,
    ) -> Result<()> {
        append(
            &mut self.lock(),
            &Line::End {
                effect,
                error: error.map(|error| error.message.clone()),
                happened,
                left,
                at: now(),
            },
        )
    }

    /// Records for the history that a resource is now as it should be.
    pub fn changed(&self, resource: &Address, fields: &[Field]) -> Result<()> {
        append(
            &mut self.lock(),
            &Line::Changed {
                resource: resource.to_string(),
                fields: fields.to_vec(),
            },
        )
    }

    /// Records how the run ended, if it did anything.
    pub fn close(&self, outcome: Outcome) -> Result<()> {
        append(&mut self.lock(), &Line::Ended { outcome, at: now() })
    }

    /// As [`Self::close`], but also for a run that did nothing, where it matters that the run took place.
    pub fn open_and_close(&self, outcome: Outcome) -> Result<()> {
        {
            let mut state = self.lock();
            if state.file.is_none() {
                state.file = Some(self.open()?);
            }
        }
        self.close(outcome)
    }

    /// Keeps contents for undo, readable by root alone.
    pub fn save(&self, contents: &[u8]) -> Result<Sha256> {
        let name = Sha256::on_record(contents);
        let path = self.directory.join(SAVED).join(&name.0);
        // One at a time: two files may have the same contents.
        let _state = self.lock();
        if !path.exists() {
            write_own(&path, contents)?;
        }
        Ok(name)
    }

    /// The contents that were kept under this name.
    pub fn saved(&self, name: &Sha256) -> Result<Zeroizing<Vec<u8>>> {
        let path = self.directory.join(SAVED).join(&name.0);
        let file = read_regular(&path, MAX_SAVED)?
            .ok_or_else(|| Error::new(format!("{} is missing", path.display())))?;
        if Sha256::on_record(&file.contents) != *name {
            return Err(Error::new(format!("{} was changed", path.display()))
                .hint("what was there before can no longer be told: restore it by hand"));
        }
        Ok(file.contents)
    }

    /// Every run on record, oldest first, including this one.
    pub fn runs(&self) -> Result<Vec<Run>> {
        history::runs(&self.directory)
    }

    /// [`prune::forget_what_is_not_needed`].
    pub fn forget_what_is_not_needed(&self) -> Result<()> {
        prune::forget_what_is_not_needed(&self.directory)
    }

    fn open(&self) -> Result<(u32, File)> {
        let directory = self.directory.join(RUNS);
        make_own_directory(&directory)?;
        let number = history::numbers(&directory)?
            .last()
            .map_or(1, |last| last + 1);
        let path = history::file(&directory, number);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .doing(format_args!("write {}", path.display()))?;
        sync_directory(&directory)?;
        let mut state = State {
            file: Some((number, file)),
            effects: 0,
        };
        append(
            &mut state,
            &Line::Run {
                version: VERSION,
                work: self.work,
                role: self.role,
                agent: env!("CARGO_PKG_VERSION").to_owned(),
                at: now(),
            },
        )?;
        self.number.store(number, Ordering::Release);
        state
            .file
            .ok_or_else(|| Error::new("the record of the run is gone"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append(state: &mut State, line: &Line) -> Result<()> {
    let Some((_, file)) = &mut state.file else {
        return Ok(());
    };
    let mut text = serde_json::to_vec(line).doing("write the record of this run")?;
    text.push(b'\n');
    // One write: a crash leaves the line or the beginning of it, and nothing after it. A full disk
    // may leave a beginning too; nothing may be appended to that.
    let length = file
        .metadata()
        .doing("look at the record of this run")?
        .len();
    let written = file.write_all(&text).and_then(|()| file.sync_data());
    if written.is_err() {
        file.set_len(length)
            .doing("take half a line out of the record of this run")?;
    }
    written.doing("write the record of this run")
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::effect::file::{OnFile, SavedFile};
    use crate::effect::history::{
        open_effects, read_all, runs, since_revert, sweep, without_an_end,
    };
    use crate::effect::image::OnImage;
    use crate::host::fs::FileMeta;

    fn x() -> Address {
        "file:/x".parse().unwrap()
    }

    fn write(path: &str, before: Option<&str>, after: &str) -> Effect {
        OnFile::WriteFile {
            path: path.into(),
            before: before.map(|contents| SavedFile {
                contents: Sha256::of(contents.as_bytes()),
                meta: FileMeta::root(0o644),
                modified: (1, 2),
                label: None,
            }),
            after: Sha256::of(after.as_bytes()),
            meta: FileMeta::root(0o644),
        }
        .into()
    }

    #[test]
    fn a_run_is_read_back_also_when_it_was_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(directory.path(), Work::Apply, Role::Storage);
        assert!(runs(directory.path()).unwrap().is_empty());
        let first = ledger.begin(&x(), &write("/x", None, "a"), false).unwrap();
        ledger.end(first, None, None, None).unwrap();
        ledger
            .begin(&x(), &write("/x", Some("a"), "b"), false)
            .unwrap();

        let path = directory.path().join("runs/000001.jsonl");
        let text = fs::read(&path).unwrap();
        for cut in 0..=text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            let effects = runs(directory.path()).unwrap().pop().map(|run| run.effects);
            let whole = text[..cut].iter().filter(|&&b| b == b'\n').count();
            assert_eq!(
                effects.map(|e| e.len()),
                [None, Some(0), Some(1), Some(1), Some(2)][whole]
            );
        }
        let run = runs(directory.path()).unwrap().pop().unwrap();
        assert!(run.effects[0].done && !run.effects[1].done && run.ended.is_none());
    }

    /// Lines that version 0.1.0 wrote on guests, with every effect: an agent installed over it must be able to revert
    /// them. The names in the snapshot are those of the fail points, and appear in errors.
    #[test]
    fn the_record_of_an_older_agent_is_read() {
        let mut told = String::new();
        for line in include_str!("testdata/records.jsonl").lines() {
            let read: Line = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            let written = serde_json::to_string(&read).unwrap();
            // Older lines lack fields that were added since.
            if written.len() == line.len() {
                assert_eq!(written, line);
            }
            assert_eq!(serde_json::from_str::<Line>(&written).unwrap(), read);
            if let Line::Begin { resource, what, .. } = &read {
                told.push_str(&format!("{resource}|{what}\n"));
            }
        }
        insta::assert_snapshot!("effects", told);
    }

    #[test]
    fn what_is_known_not_to_have_happened_is_not_undone() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(directory.path(), Work::Apply, Role::Was);
        let pull = Effect::from(OnImage::PullImage {
            image: "example.org/a:b".to_owned(),
            before: None,
        });
        let refused = Error::new("connection refused");
        for happened in [Some(false), Some(true), None] {
            let number = ledger.begin(&x(), &pull, false).unwrap();
            ledger.end(number, Some(&refused), happened, None).unwrap();
        }
        let open = open_effects(&runs(directory.path()).unwrap());
        let numbers: Vec<u32> = open.iter().map(|recorded| recorded.number).collect();
        assert_eq!(numbers, [2, 3]);
    }

    #[test]
    fn a_run_after_a_whole_revert_starts_afresh() {
        let directory = tempfile::tempdir().unwrap();
        for (work, outcome) in [
            (Work::Apply, Outcome::Done),
            (Work::Revert, Outcome::Failed),
            (Work::Revert, Outcome::Done),
            (Work::Apply, Outcome::Done),
        ] {
            let ledger = Ledger::new(directory.path(), work, Role::Was);
            ledger.begin(&x(), &write("/x", None, "a"), false).unwrap();
            ledger.close(outcome).unwrap();
        }
        let runs = runs(directory.path()).unwrap();
        let left: Vec<u32> = since_revert(&runs).iter().map(|run| run.number).collect();
        assert_eq!(left, [4]);
    }

    #[test]
    fn a_killed_apply_is_unfinished_until_one_ends_well() {
        let directory = tempfile::tempdir().unwrap();
        let run = |work, outcome: Option<Outcome>| {
            let ledger = Ledger::new(directory.path(), work, Role::Was);
            ledger.begin(&x(), &write("/x", None, "a"), false).unwrap();
            if let Some(outcome) = outcome {
                ledger.close(outcome).unwrap();
            }
            let runs = runs(directory.path()).unwrap();
            let left = without_an_end(&runs).iter().map(|run| run.number);
            left.collect::<Vec<u32>>()
        };
        assert_eq!(run(Work::Apply, Some(Outcome::Done)), [0; 0]);
        assert_eq!(run(Work::Apply, None), [2]);
        assert_eq!(run(Work::Apply, Some(Outcome::Failed)), [2, 3]);
        assert_eq!(run(Work::Apply, Some(Outcome::RolledBack)), [0; 0]);
        assert_eq!(run(Work::Apply, Some(Outcome::Interrupted)), [5]);
        assert_eq!(run(Work::Revert, Some(Outcome::Failed)), [0; 0]);
    }

    #[test]
    fn what_a_run_that_was_cut_off_left_half_made_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("smb.conf");
        let half = directory.path().join(".smb.conf.wasagent");
        let effect = write(target.to_str().unwrap(), None, "a");
        let ledger = Ledger::new(directory.path(), Work::Revert, Role::Storage);
        ledger.begin(&x(), &effect, false).unwrap();
        fs::write(&half, "a").unwrap();
        sweep(directory.path(), &runs(directory.path()).unwrap()).unwrap();
        assert!(!half.exists());
        // After a run that ended, nothing is swept.
        ledger.close(Outcome::Failed).unwrap();
        fs::write(&half, "somebody's").unwrap();
        sweep(directory.path(), &runs(directory.path()).unwrap()).unwrap();
        assert!(half.exists());
    }

    #[test]
    fn a_run_that_was_rolled_back_leaves_only_its_image() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(directory.path(), Work::Apply, Role::Was);
        let pull = Effect::from(OnImage::PullImage {
            image: "example.org/a:b".to_owned(),
            before: None,
        });
        ledger.begin(&x(), &write("/x", None, "a"), false).unwrap();
        ledger.begin(&x(), &pull, false).unwrap();
        ledger.close(Outcome::RolledBack).unwrap();
        let open = open_effects(&runs(directory.path()).unwrap());
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].effect, pull);
    }

    #[test]
    fn only_what_a_revert_comes_back_to_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(directory.path(), Work::Apply, Role::Was);
        let secret: Address = "secret:/cred".parse().unwrap();
        for effect in [
            write("/cred", None, "old password"),
            write("/cred", Some("old password"), "new password"),
        ] {
            ledger.begin(&secret, &effect, false).unwrap();
        }
        for effect in [
            write("/smb.conf", Some("operator's"), "ours"),
            write("/smb.conf", Some("changed by hand"), "ours again"),
        ] {
            ledger.begin(&x(), &effect, false).unwrap();
        }
        let removed = |contents: &str| {
            Effect::from(OnFile::RemoveFile {
                path: "/fstab".into(),
                before: SavedFile {
                    contents: Sha256::of(contents.as_bytes()),
                    meta: FileMeta::root(0o644),
                    modified: (1, 2),
                    label: None,
                },
            })
        };
        ledger.begin(&x(), &removed("by hand"), false).unwrap();
        ledger.begin(&x(), &removed("ours"), true).unwrap();
        for text in [
            "old password",
            "ours",
            "operator's",
            "changed by hand",
            "by hand",
        ] {
            ledger.save(text.as_bytes()).unwrap();
        }
        let kept = || {
            let needed = ["operator's", "changed by hand", "by hand"];
            let is_there = |text: &&str| ledger.saved(&Sha256::of(text.as_bytes())).is_ok();
            let others = ["old password", "ours"];
            (
                needed.iter().filter(|text| is_there(text)).count(),
                others.iter().filter(|text| is_there(text)).count(),
            )
        };
        // What a record that cannot be read would need, nobody knows.
        let odd = directory.path().join("runs/000009.jsonl");
        fs::write(&odd, "odd\n").unwrap();
        ledger.forget_what_is_not_needed().unwrap();
        assert_eq!(kept(), (3, 2));
        fs::remove_file(odd).unwrap();
        ledger.forget_what_is_not_needed().unwrap();
        assert_eq!(kept(), (3, 0));
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = |number| directory.path().join(format!("runs/{number:06}.jsonl"));
        for _ in 0..3 {
            let ledger = Ledger::new(directory.path(), Work::Apply, Role::Was);
            ledger.begin(&x(), &write("/x", None, "a"), false).unwrap();
            ledger.begin(&x(), &write("/y", None, "a"), false).unwrap();
            ledger.close(Outcome::Done).unwrap();
        }
        let good = fs::read_to_string(file(2)).unwrap();
        let half = good.replace("write-file", "write-file\n");
        let newer = good.replacen("\"version\":1", "\"version\":2", 1);
        let unknown = good.replacen("write-file", "write-something", 1);
        for (text, effects, why) in [
            (&good[..], 6, None),
            ("", 4, None),
            ("{\"run\":", 4, None),
            ("odd\n", 4, Some("its first line")),
            (&newer, 4, Some("a newer version")),
            (
                "{\"run\":{\"version\":3,\"of\":\"another form\"}}\n",
                4,
                Some("a newer version"),
            ),
            (&half, 4, Some("4 of its lines")),
            (&unknown, 5, Some("one of its lines")),
        ] {
            fs::write(file(2), text).unwrap();
            let read = open_effects(&runs(directory.path()).unwrap());
            assert_eq!(read.len(), effects, "{text}");
            let told = read_all(directory.path()).unwrap().1;
            assert_eq!(told.len(), usize::from(why.is_some()), "{text}: {told:?}");
            for told in told {
                let error = told.as_error();
                assert!(
                    told.why.contains(why.unwrap()) && error.hint.is_some(),
                    "{error}"
                );
                assert!(
                    error.message.contains("run 2 (") && error.message.contains("000002.jsonl")
                );
            }
            sweep(directory.path(), &runs(directory.path()).unwrap()).unwrap();
        }
        fs::remove_file(file(2)).unwrap();
        fs::create_dir(file(2)).unwrap();
        assert_eq!(read_all(directory.path()).unwrap().1.len(), 1);
        // The next run has a number of its own.
        let ledger = Ledger::new(directory.path(), Work::Apply, Role::Was);
        ledger.begin(&x(), &write("/x", None, "a"), false).unwrap();
        assert_eq!(ledger.number(), Some(4));
    }
}
