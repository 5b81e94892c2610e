//! Undoes what runs did, in reverse order. Each thing goes back to its state before the first
//! effect on it, if it is still as the last effect left it. Data, and anything somebody else
//! changed since, is kept and reported. How each kind of thing is undone is in its file of
//! [`crate::effect`].
//!
//! Every decision is made from the machine's current state. An undo is therefore the same after an
//! undo that was interrupted, and after an interrupted apply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::report::{Event, Listener, Summary, progress};
use super::{Action, Address, Diff, Step};
use crate::effect::{
    self, Extent, Halt, Later, Ledger, Recorded, Target, Undo, Undone, before_undo, by_target,
};
use crate::error::{Error, Result};
use crate::host::Host;

/// Why resources are skipped after a signal.
const INTERRUPTED: &str = "interrupted";

/// The hint for any error of undoing that has none.
const AGAIN: &str =
    "mend what the message names, and run revert again: what is undone stays undone";

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

/// The effects on each thing. A thing that was only touched while undoing something else is left out.
fn to_undo<'a>(effects: &[&'a Recorded]) -> Vec<(Target, Vec<&'a Recorded>)> {
    by_target(effects, |first| !first.undoes)
}

/// One run of undoing.
pub struct Undoing<'a> {
    host: &'a Arc<Host>,
    ledger: &'a Arc<Ledger>,
    listener: &'a Listener,
    extent: Extent,
    /// Set when a signal asks to stop: the current resource is finished and no other is begun.
    stop: &'a AtomicBool,
    later: Later,
    summary: Summary,
}

impl<'a> Undoing<'a> {
    pub fn new(
        host: &'a Arc<Host>,
        ledger: &'a Arc<Ledger>,
        listener: &'a Listener,
        extent: Extent,
        stop: &'a AtomicBool,
    ) -> Self {
        Self {
            host,
            ledger,
            listener,
            extent,
            stop,
            later: Later::default(),
            summary: Summary::default(),
        }
    }

    /// Undoes the effects, which are in the order in which they were begun.
    pub async fn run(mut self, effects: &[Recorded]) -> Summary {
        let started = Instant::now();
        let mut last = None;
        for (resource, effects) in by_resource(effects).into_iter().rev() {
            if self.stop.load(Ordering::Relaxed) {
                self.skipped(resource, INTERRUPTED.to_owned());
            } else {
                self.resource(resource, &effects).await;
            }
            last = Some(resource);
        }
        if let Some(resource) = last {
            let step = self.step(resource);
            match self.later.settle_units(&step).await {
                Ok(()) => self.start_what_was_there().await,
                // No resource is left to be skipped.
                Err(Halt::Needs { first, error, took }) => self.failed(&first, took, error),
                Err(Halt::Failed(error)) => self.failed(resource, started.elapsed(), error),
                Err(Halt::Waits(first)) => self.skipped(resource, format!("it needs {first}")),
            }
        }
        self.summary.took = started.elapsed();
        self.summary
    }

    fn skipped(&mut self, resource: &Address, because: String) {
        self.summary.skipped += 1;
        self.later.not_undone.push(resource.clone());
        (self.listener)(&Event::skipped(resource, because));
    }

    fn failed(&mut self, resource: &Address, took: Duration, error: Error) {
        self.summary.failed += 1;
        self.later.not_undone.push(resource.clone());
        let error = error.or_hint(AGAIN);
        (self.listener)(&Event::failed(resource, took, error));
    }

    fn step(&self, address: &Address) -> Step {
        let progress = progress(self.listener);
        Step::new(self.host, self.ledger, &progress, address.clone()).undoing()
    }

    /// Undoes what was done for one resource.
    async fn resource(&mut self, address: &Address, effects: &[&Recorded]) {
        let started = Instant::now();
        let step = self.step(address);
        (self.listener)(&Event::start(address));
        let mut diff = Diff::new(Action::Remove, "what apply did is undone");
        if let Err(error) = prepare(effects, &step).await {
            return self.failed(address, started.elapsed(), error);
        }
        for (target, past) in to_undo(effects).into_iter().rev() {
            let undo = Undo {
                step: &step,
                extent: self.extent,
                later: &mut self.later,
            };
            match effect::undo(&past, undo).await {
                Ok(Undone::Already) => {}
                Ok(Undone::Restored(how)) => diff.undone(&target.to_string(), how),
                Ok(Undone::Kept(why)) => diff.notes.push(why),
                Err(Halt::Failed(error)) => {
                    let error = error.while_doing(format_args!("undo {target}"));
                    return self.failed(address, started.elapsed(), error);
                }
                Err(Halt::Needs { first, error, took }) => {
                    self.failed(&first, took, error);
                    return self.skipped(address, format!("it needs {first}"));
                }
                Err(Halt::Waits(first)) => {
                    return self.skipped(address, format!("it needs {first}"));
                }
            }
        }
        if diff.is_empty() {
            self.summary.unchanged += 1;
            (self.listener)(&Event::unchanged(address, started.elapsed(), diff.notes));
            return;
        }
        let recorded = self.ledger.changed(address, &diff.fields);
        (self.listener)(&Event::done(address, started.elapsed(), &diff));
        match recorded {
            Ok(()) => self.summary.changed += 1,
            Err(_) => self.summary.failed += 1,
        }
    }

    /// Starts what was there by hand, the mount first. After a failure, what comes later is skipped. After a signal
    /// everything is skipped, since not everything is restored then.
    async fn start_what_was_there(&mut self) {
        while let Some((address, start)) = self.later.start_last.pop() {
            if self.stop.load(Ordering::Relaxed) {
                self.skipped(&address, INTERRUPTED.to_owned());
                continue;
            }
            let started = Instant::now();
            if let Err(error) = start.start(&self.step(&address)).await {
                self.failed(&address, started.elapsed(), error);
                for (address, _) in std::mem::take(&mut self.later.start_last) {
                    self.skipped(&address, "what it needs did not start".to_owned());
                }
            }
        }
    }
}

async fn prepare(effects: &[&Recorded], step: &Step) -> Result<()> {
    for (_, past) in by_target(effects, |_| true) {
        before_undo(&past, step).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::file::OnFile;
    use crate::effect::samples::{file, recorded, write};

    #[test]
    fn what_only_an_undo_has_touched_is_not_undone() {
        let removed = |path: &str| OnFile::RemoveFile {
            path: path.into(),
            before: file("a"),
        };
        let effects = [
            recorded(write(None, "a"), false),
            recorded(removed("/x"), true),
            recorded(removed("/etc/firewalld/zones/public.xml"), true),
        ];
        let targets = to_undo(&effects.iter().collect::<Vec<_>>());
        assert_eq!(targets.len(), 1);
        assert_eq!(targets[0].0.to_string(), "/x");
        assert_eq!(targets[0].1.len(), 2);
    }
}
