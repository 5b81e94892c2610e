//! Undoes what runs did, in reverse order: each thing goes back to what it was before the first
//! effect on it, if it still is as the last one left it. What somebody changed since, and data, is
//! kept and told of.
//!
//! Everything is decided from the machine as it is now, so that an undo that was interrupted, or
//! that comes after an interrupted apply, is the same undo.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::apply::Listener;
use super::effect::{Effect, SavedFile, Sha256, Thing, ZoneFiles};
use super::journal::{self, Journal, Recorded};
use super::report::{Event, Summary};
use super::step::Step;
use super::{Action, Address, Diff, Kind};
use crate::error::{Error, Result};
use crate::host::firewalld::{Opening, Settings};
use crate::host::fs::{self, DirState, FileMeta, RegularFile};
use crate::host::mount::{mount_at, mounts};
use crate::host::systemd::{Job, mount_unit_name};
use crate::host::{Host, account, blocking, podman, podman_secret, samba, selinux};
use crate::resource::{FSTAB, is_ours, put_lines_back};

/// How much is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All that apply ever did here.
    Everything,
    /// What one run did: an image that it pulled stays, since the next try needs it again.
    OneRun,
}

/// The way out of any error of undoing.
const AGAIN: &str =
    "mend what the message names, and run revert again: what is undone stays undone";

/// What became of one thing.
enum Undone {
    /// It is as it was before, and nothing was to be done.
    Already,
    /// It was brought back, in words.
    Restored(String),
    /// It stays as it is, and why.
    Kept(String),
}

/// Why a thing could not be undone.
enum Halt {
    Failed(Error),
    /// What has to come first has failed, and is told of already.
    Needs(Address),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The effects of each resource, resources in the order of their first effect.
fn by_resource(effects: &[Recorded]) -> Vec<(&Address, Vec<&Recorded>)> {
    let mut resources: Vec<(&Address, Vec<&Recorded>)> = Vec::new();
    for recorded in effects {
        match resources.iter_mut().find(|(r, _)| **r == recorded.resource) {
            Some((_, effects)) => effects.push(recorded),
            None => resources.push((&recorded.resource, vec![recorded])),
        }
    }
    resources
}

/// What reloads and restarts after others are told under.
fn systemd() -> Address {
    Address::new(Kind::Unit, "systemd")
}

/// The effects on each thing, things in the order of their first effect. What only an undo has
/// touched, in the course of undoing something else, is not to be undone.
fn by_thing<'a>(effects: &[&'a Recorded]) -> Vec<(Thing, Vec<&'a Recorded>)> {
    let mut things: Vec<(Thing, Vec<&Recorded>)> = Vec::new();
    for recorded in effects {
        let thing = recorded.effect.thing();
        match things.iter_mut().find(|(t, _)| *t == thing) {
            Some((_, effects)) => effects.push(recorded),
            None if recorded.undoes => {}
            None => things.push((thing, vec![recorded])),
        }
    }
    things
}

/// One run of undoing.
pub struct Undoing<'a> {
    host: &'a Arc<Host>,
    journal: &'a Arc<Journal>,
    listener: &'a Listener,
    extent: Extent,
    /// Set when a signal asks to stop: the resource at hand is finished and no other is begun.
    stop: &'a AtomicBool,
    /// Unit files have changed since systemd read them.
    reload_units: bool,
    /// Services that ran before us, and run with a configuration that is undone by now.
    restart: Vec<(Address, String)>,
    /// What was there by hand before us and starts once all is as it was: a mount before the container
    /// that sees it, so the one that was found last comes first.
    start_last: Vec<(Address, LastStart)>,
    /// Unit files of ours that stay, since somebody changed them.
    kept_units: Vec<PathBuf>,
    summary: Summary,
}

/// What is started at the end.
enum LastStart {
    Unit(String),
    Container(String),
}

impl<'a> Undoing<'a> {
    pub fn new(
        host: &'a Arc<Host>,
        journal: &'a Arc<Journal>,
        listener: &'a Listener,
        extent: Extent,
        stop: &'a AtomicBool,
    ) -> Self {
        Self {
            host,
            journal,
            listener,
            extent,
            stop,
            reload_units: false,
            restart: Vec::new(),
            start_last: Vec::new(),
            kept_units: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// Undoes the effects, which are in the order in which they were begun.
    pub async fn run(mut self, effects: &[Recorded]) -> Summary {
        let started = Instant::now();
        for (resource, effects) in by_resource(effects).into_iter().rev() {
            if self.stop.load(Ordering::Relaxed) {
                self.skipped(resource, "interrupted".to_owned());
            } else {
                self.resource(resource, &effects).await;
            }
        }
        // Where it fails it has told so itself, and nothing is left that needs it.
        if self.settle_units().await.is_ok() {
            self.start_what_was_there().await;
        }
        self.summary.took = started.elapsed();
        self.summary
    }

    fn skipped(&mut self, resource: &Address, because: String) {
        self.summary.skipped += 1;
        (self.listener)(&Event::skipped(resource, because));
    }

    fn failed(&mut self, resource: &Address, started: Instant, error: Error) {
        self.summary.failed += 1;
        (self.listener)(&Event::failed(
            resource,
            started.elapsed(),
            error.or_hint(AGAIN),
        ));
    }

    fn step(&self, address: &Address) -> Step {
        Step::new(self.host, self.journal, self.listener, address.clone()).undoing()
    }

    /// Undoes what was done for one resource.
    async fn resource(&mut self, address: &Address, effects: &[&Recorded]) {
        let started = Instant::now();
        let step = self.step(address);
        (self.listener)(&Event::start(address));
        let mut diff = Diff::new(Action::Remove, "what apply did is undone");
        if let Err(error) = stop_what_took_its_place(&step, effects).await {
            return self.failed(address, started, error);
        }
        for (thing, effects) in by_thing(effects).into_iter().rev() {
            match self.thing(&step, &thing, &effects).await {
                Ok(Undone::Already) => {}
                Ok(Undone::Restored(how)) => diff.undone(&thing.to_string(), how),
                Ok(Undone::Kept(why)) => diff.notes.push(why),
                Err(Halt::Failed(error)) => {
                    let error = error.while_doing(format_args!("undo {thing}"));
                    return self.failed(address, started, error);
                }
                Err(Halt::Needs(first)) => {
                    return self.skipped(address, format!("it needs {first}"));
                }
            }
        }
        if diff.is_empty() {
            self.summary.unchanged += 1;
            (self.listener)(&Event::unchanged(address, started.elapsed(), diff.notes));
            return;
        }
        let recorded = self.journal.changed(address, &diff.fields);
        (self.listener)(&Event::done(address, started.elapsed(), &diff));
        match recorded {
            Ok(()) => self.summary.changed += 1,
            Err(_) => self.summary.failed += 1,
        }
    }

    async fn thing(
        &mut self,
        step: &Step,
        thing: &Thing,
        recorded: &[&Recorded],
    ) -> Result<Undone, Halt> {
        let effects: Vec<&Effect> = recorded.iter().map(|recorded| &recorded.effect).collect();
        let effects = effects.as_slice();
        let undone = match thing {
            Thing::File(path) => {
                if is_unit_file(path) {
                    stop_what_a_boot_has_started(step, path, effects).await?;
                }
                let undone = match undo_file(step, path, recorded).await? {
                    Undone::Kept(_) if path == Path::new(FSTAB) => {
                        put_back_in_fstab(step, recorded).await?
                    }
                    undone => undone,
                };
                // Also when it was gone already: an undo that was cut off may not have come to it.
                if is_unit_file(path) {
                    match undone {
                        Undone::Kept(_) => self.kept_units.push(path.clone()),
                        _ => self.reload_units = true,
                    }
                }
                Ok(undone)
            }
            Thing::Directory(path) => undo_directory(step, path, effects).await,
            Thing::Enablement(unit) => return self.undo_enablement(step, unit, effects).await,
            Thing::RunState(unit) => self.undo_job(step, unit, effects).await,
            Thing::Opening(_) => undo_opening(step, effects).await,
            Thing::Mount(mount_point) => {
                // A service that serves files of the mount would keep it busy.
                self.settle_units().await?;
                let undone = undo_mount(step, mount_point, effects).await?;
                if was_by_fstab(effects) {
                    let unit = LastStart::Unit(mount_unit_name(mount_point));
                    self.start_last.push((step.address().clone(), unit));
                }
                Ok(undone)
            }
            Thing::Container(_) => self.undo_set_aside(step, effects).await,
            Thing::Account(name) => undo_account(step, name).await,
            Thing::SambaUser(name) => undo_samba_user(step, name, effects).await,
            Thing::FileContext(specification) => {
                undo_file_context(step, specification, effects).await
            }
            Thing::Image(image) => undo_image(step, image, effects, self.extent).await,
            Thing::Secret(name) => undo_secret(step, name, effects).await,
            Thing::Kept(_) => {
                if let Some(
                    Effect::StageContent { path, .. } | Effect::DeployContent { path, .. },
                ) = effects.first()
                {
                    crate::resource::put_away_content(step, path, self.extent == Extent::OneRun)
                        .await?;
                }
                Ok(kept_for_good(effects))
            }
        };
        Ok(undone?)
    }

    async fn undo_enablement(
        &mut self,
        step: &Step,
        unit: &str,
        effects: &[&Effect],
    ) -> Result<Undone, Halt> {
        if let Some(Effect::Disable { .. }) = effects.first() {
            // Its file is back by now; our own may have been enabled elsewhere.
            step.disable(unit).await?;
            step.enable(unit).await?;
            return Ok(Undone::Restored("enabled".to_owned()));
        }
        let now = step.systemd.unit(unit).await?;
        let rested = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Enable { was_active, .. } if !was_active));
        // An apply that was cut off before it started the unit, and then a boot that did.
        if rested && now.is_active() {
            self.settle_units().await?;
            step.job(Job::Stop, unit).await?;
        }
        self.reload_units = true;
        if now.file_state != "enabled" {
            return Ok(Undone::Already);
        }
        step.disable(unit).await?;
        Ok(Undone::Restored("disabled".to_owned()))
    }

    async fn undo_job(&mut self, step: &Step, unit: &str, effects: &[&Effect]) -> Result<Undone> {
        let before = effects.iter().find_map(|effect| match effect {
            Effect::Job { before, .. } => Some(before.as_str()),
            _ => None,
        });
        let now = step.systemd.unit(unit).await?;
        if matches!(before, Some("active" | "reloading" | "activating"))
            && !unit.ends_with(".mount")
        {
            // It goes on, with its configuration of before, once that is back.
            self.restart.push((step.address().clone(), unit.to_owned()));
            return Ok(Undone::Already);
        }
        // A stop also takes the mark of a failed start away.
        let is_at_rest = now.active == "inactive" || Some(now.active.as_str()) == before;
        if is_at_rest || !now.is_loaded() || unit.ends_with(".mount") {
            return Ok(Undone::Already);
        }
        step.job(Job::Stop, unit).await?;
        Ok(Undone::Restored("stopped".to_owned()))
    }

    /// Gives a container that was set aside its name again. It starts when the rest is as it was.
    async fn undo_set_aside(&mut self, step: &Step, effects: &[&Effect]) -> Result<Undone> {
        let Some(Effect::SetAsideContainer {
            name,
            kept_as,
            was_running,
            service,
            makes_its_own,
        }) = effects.first()
        else {
            return Ok(Undone::Already);
        };
        if let Some(file) = self.unit_that_would_replace(name) {
            return Err(Error::new(format!(
                "{} was changed by somebody and stays: started, it would put a container of its own in the place \
                 of the one that was there by hand ({kept_as})",
                file.display()
            ))
            .hint(format!("remove {}, and revert again", file.display())));
        }
        let is_kept = podman::exists("container", kept_as).await?;
        let has_its_name = podman::exists("container", name).await?;
        if !is_kept && !has_its_name && !makes_its_own {
            return Ok(Undone::Kept(format!(
                "the container {name} that was there by hand is gone: somebody removed {kept_as}"
            )));
        }
        if is_kept && has_its_name {
            return Err(Error::new(format!(
                "podman has a container {name} again, and the one of before is {kept_as}"
            ))
            .hint(format!("remove or rename {name}, and revert again")));
        }
        if *was_running {
            let start = match service {
                Some(unit) => LastStart::Unit(unit.clone()),
                None => LastStart::Container(name.clone()),
            };
            self.start_last.push((step.address().clone(), start));
        }
        if !is_kept {
            return Ok(Undone::Already);
        }
        let effect = Effect::TakeBackContainer {
            name: name.clone(),
            kept_as: kept_as.clone(),
        };
        step.effect(effect, |permit| async move {
            podman::rename_container(&permit, kept_as, name).await
        })
        .await?;
        Ok(Undone::Restored(format!("it is {name} again")))
    }

    /// A unit file that stays and makes containers of that name.
    fn unit_that_would_replace(&self, name: &str) -> Option<&PathBuf> {
        let mut kept = self.kept_units.iter();
        kept.find(|file| file.file_stem().is_some_and(|stem| stem == name))
    }

    /// Starts what was there by hand, the mount first. What fails stays to be done, and what comes after
    /// it as well.
    async fn start_what_was_there(&mut self) {
        while let Some((address, start)) = self.start_last.pop() {
            let started = Instant::now();
            let result = self.start_again(&self.step(&address), &start).await;
            if let Err(error) = result {
                self.failed(&address, started, error);
                for (address, _) in std::mem::take(&mut self.start_last) {
                    self.skipped(&address, "what it needs did not start".to_owned());
                }
            }
        }
    }

    async fn start_again(&self, step: &Step, start: &LastStart) -> Result<()> {
        match start {
            LastStart::Unit(unit) if step.systemd.unit(unit).await?.is_active() => Ok(()),
            LastStart::Unit(unit) => step.job(Job::Start, unit).await,
            LastStart::Container(name) => {
                if podman::container(name).await?.is_some_and(|c| c.is_running) {
                    return Ok(());
                }
                let effect = Effect::StartContainer { name: name.clone() };
                step.effect(effect, |permit| async move {
                    podman::start_container(&permit, name).await
                })
                .await
            }
        }
    }

    /// Lets systemd see the unit files that are left, and restarts what is to run with its
    /// configuration of before. What fails is told of under its own name, and stays to be done.
    async fn settle_units(&mut self) -> Result<(), Halt> {
        let started = Instant::now();
        if self.reload_units {
            if let Err(error) = self.step(&systemd()).reload_units().await {
                self.failed(&systemd(), started, error);
                return Err(Halt::Needs(systemd()));
            }
            self.reload_units = false;
        }
        while let Some((address, unit)) = self.restart.first().cloned() {
            let step = self.step(&address);
            if let Err(error) = step.job(Job::Restart, &unit).await {
                self.failed(&address, started, error);
                return Err(Halt::Needs(address));
            }
            self.restart.remove(0);
        }
        Ok(())
    }
}

/// Stops what stands in the place of a container that was set aside, whatever has started it.
async fn stop_what_took_its_place(step: &Step, effects: &[&Recorded]) -> Result<()> {
    for recorded in effects {
        if let Effect::SetAsideContainer { name, kept_as, .. } = &recorded.effect
            && podman::exists("container", kept_as).await?
        {
            let unit = format!("{name}.service");
            if step.systemd.unit(&unit).await?.active != "inactive" {
                return step.job(Job::Stop, &unit).await;
            }
        }
    }
    Ok(())
}

/// Stops a service whose file was not there before us: where apply was cut off before it started it,
/// a boot may have done so since.
async fn stop_what_a_boot_has_started(step: &Step, path: &Path, effects: &[&Effect]) -> Result<()> {
    let was_absent = matches!(
        effects.first(),
        Some(Effect::WriteFile { before: None, .. })
    );
    let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else {
        return Ok(());
    };
    if !was_absent || !(extension == "service" || extension == "container") {
        return Ok(());
    }
    let unit = format!("{}.service", stem.to_string_lossy());
    let now = step.systemd.unit(&unit).await?;
    if now.is_from(path) && now.active != "inactive" {
        step.job(Job::Stop, &unit).await?;
    }
    Ok(())
}

/// systemd makes units of fstab(5), too.
fn is_unit_file(path: &Path) -> bool {
    const DIRECTORIES: [&str; 5] = [
        "/etc/systemd/system",
        "/etc/containers/systemd",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    path == Path::new(FSTAB) || DIRECTORIES.iter().any(|above| path.starts_with(above))
}

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

async fn undo_file(step: &Step, path: &Path, effects: &[&Recorded]) -> Result<Undone> {
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
async fn put_back_in_fstab(step: &Step, effects: &[&Recorded]) -> Result<Undone> {
    let path = Path::new(FSTAB);
    let kept = || Ok(Undone::Kept(format!("{FSTAB} is kept as it is")));
    // Who took them out again has decided so.
    if effects.last().is_some_and(|last| last.undoes && last.done) {
        return kept();
    }
    let Some(found) = blocking(move || fs::read_regular(path, 16 << 20)).await? else {
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

async fn undo_directory(step: &Step, path: &Path, effects: &[&Effect]) -> Result<Undone> {
    step.remove_leftover(path).await?;
    let at = path.to_owned();
    let DirState::Directory(now) = blocking(move || fs::dir_state(&at)).await? else {
        return Ok(Undone::Already);
    };
    if effects
        .iter()
        .any(|effect| matches!(effect, Effect::MakeDirectory { .. }))
    {
        if blocking({
            let path = path.to_owned();
            move || mount_at(&path)
        })
        .await?
        .is_some()
        {
            return Ok(Undone::Kept(format!(
                "{} stays: something is mounted there",
                path.display()
            )));
        }
        return Ok(if step.remove_directory(path).await? {
            Undone::Restored("removed".to_owned())
        } else {
            Undone::Kept(format!("{} stays with what is in it", path.display()))
        });
    }
    undo_ownership(step, path, now, effects).await
}

async fn undo_ownership(
    step: &Step,
    path: &Path,
    now: FileMeta,
    effects: &[&Effect],
) -> Result<Undone> {
    let mut changes = effects.iter().filter_map(|effect| match effect {
        Effect::OwnDirectory { before, after, .. } => Some((*before, *after)),
        _ => None,
    });
    let Some((first, mut last)) = changes.next() else {
        return Ok(Undone::Already);
    };
    if let Some((_, after)) = changes.next_back() {
        last = after;
    }
    // Between the change of the owner and that of the mode, which drops the set-id bits.
    let cut_off =
        (now.uid, now.gid) == (last.uid, last.gid) && now.mode & 0o777 == first.mode & 0o777;
    if now == first {
        Ok(Undone::Already)
    } else if now == last || cut_off {
        step.own_directory(path, first).await?;
        Ok(Undone::Restored("owner and mode as before".to_owned()))
    } else {
        Ok(Undone::Kept(format!(
            "owner or mode of {} were changed by somebody since, and are kept",
            path.display()
        )))
    }
}

async fn undo_opening(step: &Step, effects: &[&Effect]) -> Result<Undone> {
    // One run may only have closed what an older one had opened.
    if let Some(Effect::Close {
        settings,
        zone,
        opening,
        ..
    }) = effects.first()
        && !is_open(step, *settings, zone, opening).await?
    {
        step.open(*settings, zone, opening).await?;
        return Ok(Undone::Restored("open again".to_owned()));
    }
    let Some((settings, zone, opening, before)) = effects.iter().find_map(|effect| match effect {
        Effect::Open {
            settings,
            zone,
            opening,
            zone_before,
        } => Some((*settings, zone, opening, zone_before.as_ref())),
        _ => None,
    }) else {
        return Ok(Undone::Already);
    };
    let open = is_open(step, settings, zone, opening).await?;
    if open {
        step.close(settings, zone, opening).await?;
    }
    if let Some(before) = before {
        restore_zone_files(step, zone, before).await?;
    }
    Ok(if open {
        Undone::Restored("closed".to_owned())
    } else {
        Undone::Already
    })
}

async fn is_open(step: &Step, settings: Settings, zone: &str, opening: &Opening) -> Result<bool> {
    step.running_firewalld()?.has(settings, zone, opening).await
}

/// Puts the zone's files back to the byte, if they say now what they said then: firewalld writes
/// them in a form of its own, and leaves a copy behind. It sees the change by itself
/// (inotify), and it is none to what it has loaded.
async fn restore_zone_files(step: &Step, zone: &str, before: &ZoneFiles) -> Result<()> {
    let settings = step.running_firewalld()?.permanent_settings(zone).await?;
    if Sha256::of(settings.as_bytes()) != before.settings {
        return Ok(());
    }
    for (path, was) in &before.files {
        match was {
            Some(was) => {
                let at = path.clone();
                let now = blocking(move || fs::read_regular(&at, 16 << 20)).await?;
                if now.is_none_or(|file| {
                    Sha256::of(&file.contents) != was.contents || file.modified != was.modified()
                }) {
                    let contents = journal::saved(&was.contents)?;
                    step.restore_file(path, contents, was.clone()).await?;
                }
            }
            None => step.remove_file(path).await?,
        }
    }
    Ok(())
}

async fn undo_mount(step: &Step, mount_point: &Path, effects: &[&Effect]) -> Result<Undone> {
    let at = mount_point.to_owned();
    let first = effects.first();
    let Some(mounted) = blocking(move || mount_at(&at)).await? else {
        return Ok(match first {
            Some(Effect::Unmount { by_fstab: true, .. }) => Undone::Already,
            Some(Effect::Unmount { source, .. }) => Undone::Kept(format!(
                "{source} was mounted on {} before; mount it again by hand",
                mount_point.display()
            )),
            _ => Undone::Already,
        });
    };
    // The first effect tells whether something was mounted there before us.
    let ours = effects.iter().any(|effect| {
        matches!(effect, Effect::Mount { source, .. } if source_is(source, &mounted.source))
    });
    if !ours
        || matches!(
            first,
            Some(Effect::Unmount {
                by_fstab: false,
                ..
            })
        )
    {
        return Ok(Undone::Kept(format!(
            "{} stays mounted on {}",
            mounted.source,
            mount_point.display()
        )));
    }
    let below = mount_point.to_owned();
    let inner: Option<PathBuf> = blocking(mounts).await?.into_iter().find_map(|other| {
        (other.mount_point != below && other.mount_point.starts_with(&below))
            .then_some(other.mount_point)
    });
    if let Some(inner) = inner {
        return Err(
            Error::new(format!("{} is mounted below it", inner.display())).hint(format!(
                "unmount {} first, and revert again",
                inner.display()
            )),
        );
    }
    step.unmount(mount_point, &mounted.source).await?;
    Ok(Undone::Restored("unmounted".to_owned()))
}

/// Whether an entry of fstab(5), which is back by the end, had mounted what was there.
fn was_by_fstab(effects: &[&Effect]) -> bool {
    matches!(
        effects.first(),
        Some(Effect::Unmount { by_fstab: true, .. })
    )
}

/// A device has several names.
fn source_is(recorded: &str, mounted: &str) -> bool {
    let real = |path: &str| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    recorded == mounted || (recorded.starts_with("/dev/") && real(recorded) == real(mounted))
}

async fn undo_account(step: &Step, name: &str) -> Result<Undone> {
    let Some(found) = account::look_up(name).await? else {
        return Ok(Undone::Already);
    };
    if found.shell != crate::host::account::NO_LOGIN {
        return Ok(Undone::Kept(format!(
            "the account {name} stays: its shell is {} now, which apply did not give it",
            found.shell
        )));
    }
    let effect = Effect::RemoveAccount {
        name: name.to_owned(),
    };
    step.effect(effect, |permit| async move {
        account::remove(&permit, name).await
    })
    .await?;
    Ok(Undone::Restored("removed".to_owned()))
}

async fn undo_samba_user(step: &Step, name: &str, effects: &[&Effect]) -> Result<Undone> {
    let before = effects.iter().find_map(|effect| match effect {
        Effect::SetSambaPassword { before, .. } => Some(before.as_ref()),
        _ => None,
    });
    let now = samba::smbpasswd_line(name).await?;
    let was = match before.flatten() {
        None => None,
        Some(saved) => Some(zeroize::Zeroizing::new(
            String::from_utf8_lossy(&journal::saved(saved)?).into_owned(),
        )),
    };
    if now.as_deref().map(String::as_str) == was.as_deref().map(String::as_str) {
        return Ok(Undone::Already);
    }
    let effect = Effect::RestoreSambaUser {
        name: name.to_owned(),
    };
    let restored = was.is_some();
    step.effect(effect, |permit| async move {
        match was {
            None => samba::remove_user(&permit, name).await,
            Some(line) => samba::restore_user(&permit, &line).await,
        }
    })
    .await?;
    Ok(Undone::Restored(
        if restored {
            "as it was before"
        } else {
            "removed"
        }
        .to_owned(),
    ))
}

/// Removes a rule of ours, if it still says what we had it say.
async fn undo_file_context(
    step: &Step,
    specification: &str,
    effects: &[&Effect],
) -> Result<Undone> {
    let ours = effects.iter().find_map(|effect| match effect {
        Effect::AddFileContext { label, .. } => Some(label),
        _ => None,
    });
    let of = specification.to_owned();
    match blocking(move || selinux::local_rule(&of)).await? {
        None => Ok(Undone::Already),
        Some(now) if Some(&now) != ours => Ok(Undone::Kept(format!(
            "the SELinux rule {specification} was changed by somebody to {now}, and is kept"
        ))),
        Some(_) => {
            let effect = Effect::RemoveFileContext {
                specification: specification.to_owned(),
            };
            step.effect(effect, |permit| async move {
                selinux::remove_rule(&permit, specification).await
            })
            .await?;
            Ok(Undone::Restored("removed".to_owned()))
        }
    }
}

/// Gives a secret of podman's what it held before, if it still holds what it got of us.
async fn undo_secret(step: &Step, name: &str, effects: &[&Effect]) -> Result<Undone> {
    let values = |effect: &&Effect| match effect {
        Effect::SetSecret { before, after, .. } => Some((before.clone(), after.clone())),
        _ => None,
    };
    let Some((before, _)) = effects.iter().find_map(values) else {
        return Ok(Undone::Already);
    };
    let found = podman_secret::look_up(name).await?;
    let now = found.as_ref().map(|found| Sha256::of(&found.value));
    if before == now {
        return Ok(Undone::Already);
    }
    let mut known = effects.iter().filter_map(values);
    let is_known = known.any(|(before, after)| before == now || Some(after) == now);
    // One that is gone may be so because a change of ours was cut off.
    if found.is_some_and(|found| !found.is_ours || !is_known) {
        return Ok(Undone::Kept(format!(
            "podman's secret {name} was changed by somebody since, and is kept"
        )));
    }
    if let Some(before) = before {
        let value = zeroize::Zeroizing::new(journal::saved(&before)?);
        step.set_secret(name, value).await?;
        return Ok(Undone::Restored("as it was before".to_owned()));
    }
    let effect = Effect::RemoveSecret {
        name: name.to_owned(),
    };
    step.effect(effect, |permit| async move {
        podman_secret::remove(&permit, name).await
    })
    .await?;
    Ok(Undone::Restored("removed".to_owned()))
}

async fn undo_image(
    step: &Step,
    image: &str,
    effects: &[&Effect],
    extent: Extent,
) -> Result<Undone> {
    if let Some(Effect::PullImage {
        before: Some(before),
        ..
    }) = effects.first()
    {
        return give_name_back(step, image, before).await;
    }
    // That was an undo itself, of a pull that stands under the image's own address.
    if let Some(Effect::TagImage { .. }) = effects.first() {
        return Ok(Undone::Already);
    }
    if extent == Extent::OneRun {
        return Ok(Undone::Kept(format!(
            "the image {image} stays for the next try"
        )));
    }
    if podman::image_id(image).await?.is_none() {
        return Ok(Undone::Already);
    }
    let effect = Effect::RemoveImage {
        image: image.to_owned(),
    };
    let removed = step
        .effect(effect, |permit| async move {
            podman::remove_image(&permit, image).await
        })
        .await?;
    Ok(if removed {
        Undone::Restored("removed".to_owned())
    } else {
        Undone::Kept(format!("the image {image} stays: a container uses it"))
    })
}

/// The newer image stays, without a name, until podman image prune(1) is told to remove such.
async fn give_name_back(step: &Step, image: &str, before: &str) -> Result<Undone> {
    if podman::image_id(image).await?.as_deref() == Some(before) {
        return Ok(Undone::Already);
    }
    if !podman::exists("image", before).await? {
        return Ok(Undone::Kept(format!(
            "{image} stays the newer image: the one of before ({before}) was removed"
        )));
    }
    step.tag_image(before, image).await?;
    Ok(Undone::Restored("the image of before".to_owned()))
}

/// Data is never undone.
fn kept_for_good(effects: &[&Effect]) -> Undone {
    match effects.first() {
        Some(Effect::Format { device, .. }) => Undone::Kept(format!(
            "{} stays formatted, with the files on it",
            device.display()
        )),
        Some(Effect::Relabel { tree }) => Undone::Kept(format!(
            "the files in {} keep their SELinux labels until restorecon -R gives them others",
            tree.display()
        )),
        Some(Effect::Grow {
            mount_point,
            filesystem,
            ..
        }) => Undone::Kept(format!(
            "the {filesystem} of {} keeps its new size: it cannot shrink while it holds files",
            mount_point.display()
        )),
        Some(Effect::DeployContent { path, .. }) => {
            Undone::Kept(format!("the files in {} stay", path.display()))
        }
        _ => Undone::Already,
    }
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) | Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Enablement(unit) => write!(f, "{unit} at boot"),
            Self::RunState(unit) => f.write_str(unit),
            Self::Opening(what) => f.write_str(what),
            Self::Mount(path) => write!(f, "mount on {}", path.display()),
            Self::Container(name) => write!(f, "container {name}"),
            Self::Account(name) => write!(f, "account {name}"),
            Self::SambaUser(name) => write!(f, "Samba account {name}"),
            Self::Image(image) => write!(f, "image {image}"),
            Self::Secret(name) => write!(f, "secret {name}"),
            Self::FileContext(specification) => write!(f, "SELinux rule {specification}"),
            Self::Kept(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(text: &str) -> Sha256 {
        Sha256::of(text.as_bytes())
    }

    fn file(text: &str) -> SavedFile {
        SavedFile {
            contents: sha(text),
            meta: FileMeta::root(0o644),
            modified: (0, 0),
            label: None,
        }
    }

    fn write(before: Option<&str>, after: &str) -> Effect {
        Effect::WriteFile {
            path: "/x".into(),
            before: before.map(file),
            after: sha(after),
            meta: FileMeta::root(0o644),
        }
    }

    fn recorded(effect: Effect, undoes: bool) -> Recorded {
        Recorded {
            resource: "file:/x".parse().unwrap(),
            effect,
            number: 1,
            undoes,
            done: true,
            failed: false,
        }
    }

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

    #[test]
    fn what_only_an_undo_has_touched_is_not_undone() {
        let removed = |path: &str| Effect::RemoveFile {
            path: path.into(),
            before: file("a"),
        };
        let effects = [
            recorded(write(None, "a"), false),
            recorded(removed("/x"), true),
            recorded(removed("/etc/firewalld/zones/public.xml"), true),
        ];
        let things = by_thing(&effects.iter().collect::<Vec<_>>());
        assert_eq!(things.len(), 1);
        assert_eq!(things[0].0, Thing::File("/x".into()));
        assert_eq!(things[0].1.len(), 2);
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
