//! Undoes what runs did, in reverse order: each thing goes back to what it was before the first
//! effect on it, if it still is as the last one left it. What somebody changed since, and data, is
//! kept and told of.
//!
//! Everything is decided from the machine as it is now, so that an undo that was interrupted, or
//! that comes after an interrupted apply, is the same undo.

mod account;
mod container;
mod directory;
mod file;
mod file_context;
mod firewall;
mod image;
mod kept;
mod last_start;
mod mount;
#[cfg(test)]
mod samples;
mod secret;
mod unit;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use self::account::{undo_account, undo_samba_user};
use self::container::stop_what_took_its_place;
use self::directory::undo_directory;
use self::file::{put_back_in_fstab, undo_file};
use self::file_context::undo_file_context;
use self::firewall::undo_opening;
use self::image::undo_image;
use self::kept::kept_for_good;
use self::last_start::LastStart;
use self::mount::{undo_mount, was_by_fstab};
use self::secret::undo_secret;
use self::unit::{is_unit_file, stop_what_a_boot_has_started};
use super::apply::Listener;
use super::effect::{Effect, Thing};
use super::journal::{Journal, Recorded};
use super::report::{Event, Summary};
use super::step::Step;
use super::{Action, Address, Diff};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::systemd::mount_unit_name;
use crate::resource::FSTAB;

/// How much is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All that apply ever did here.
    Everything,
    /// What one run did: an image that it pulled stays, since the next try needs it again.
    OneRun,
}

/// Why nothing was begun any more.
const INTERRUPTED: &str = "interrupted";

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
                self.skipped(resource, INTERRUPTED.to_owned());
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
    use super::samples::{file, recorded, write};
    use super::*;

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
}
