//! The course of a run, from the plan to the closed record. Before its first change, what a killed run left is removed
//! and repaired. Then comes the apply or the revert. An
//! apply that must not stay half done is rolled back. At the end, kept contents that no revert can need are removed,
//! and the record is closed.

use std::cell::RefCell;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::converge::converge;
use super::graph::Graph;
use super::plan::Refusals;
use super::report::{Event, Listener, Summary};
use super::retry::RetryPolicy;
use super::undo::Undoing;
use super::{Address, Plan, Work, entry, mend, role_record};
use crate::config::Role;
use crate::effect::Outcome;
use crate::effect::history::{self, Run};
use crate::effect::{Extent, Ledger, Recorded, key, prune};
use crate::error::{Error, Result};
use crate::host::Host;

/// Receives the reports of a run while it goes on.
pub trait Audience: Send + Sync {
    fn event(&self, work: Work, event: &Event);
    /// Planning failed with a transient error, and is tried again after the pause.
    fn plans_again(&self, error: &Error, pause: Duration);
    /// Files that a power cut had left empty are restored.
    fn mended(&self, files: &[PathBuf]);
    /// `interrupted`: a signal came before everything was begun.
    fn summary(&self, work: Work, summary: &Summary, interrupted: bool);
    /// The apply failed. From now on its changes are undone.
    fn rolls_back(&self);
}

/// Why an apply was not completed.
pub enum NotApplied {
    /// Nothing was touched. The duration is how long it took to find out.
    Refused(Refusals, Duration),
    Failed(Error),
}

impl From<Error> for NotApplied {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Looks at what the role serves once all is as the tier file says, and returns what is wrong with it, if anything is.
pub type LastLook =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Option<(Address, String)>> + Send>> + Send + Sync>;

pub struct Options {
    /// The runs on record.
    pub runs: Vec<Run>,
    pub retry: Arc<RetryPolicy>,
    pub rolls_back: bool,
    pub last_look: LastLook,
}

/// Brings the machine to what the graph says, and returns whether that succeeded completely.
pub async fn apply(
    graph: &Graph,
    host: &Arc<Host>,
    role: Role,
    options: &Options,
    audience: &Arc<dyn Audience>,
) -> Result<bool, NotApplied> {
    let retry = &options.retry;
    let mut plan = plan_with_retries(graph, host, retry, audience).await?;

    let runs = &options.runs;
    history::sweep(&host.state_directory, runs)?;
    key::take(&host.state_directory, plan.changes().next().is_some())?;
    let ledger = Arc::new(Ledger::new(&host.state_directory, Work::Apply, role));
    let listener = listener(audience, &ledger, Work::Apply, role);
    let mended = mend::zones(host, &ledger, runs, &listener).await?;
    if !mended.is_empty() {
        audience.mended(&mended);
        // The earlier plan may be out of date.
        plan = plan_with_retries(graph, host, retry, audience).await?;
    }
    // An apply that took over something made by hand is rolled back if it fails, so that the original works again. That
    // includes what a killed run took over.
    let killed = killed_adoption(runs);
    if plan.changes().next().is_some() {
        role_record::remember(role, false)?;
    }
    let adopts = killed.is_some() || plan.diffs.iter().any(|(_, diff)| diff.adopts());
    let summary = converge(graph, host, plan, retry, &ledger, &listener).await;
    let succeeded = summary.failed == 0 && summary.skipped == 0;
    let interrupted = retry.stop.load(Ordering::Relaxed);
    if succeeded && let Some((address, note)) = (options.last_look)().await {
        listener(&Event::note(&address, note));
    }
    audience.summary(Work::Apply, &summary, interrupted);

    let has_done_something = ledger.number().is_some();
    let outcome = if succeeded {
        Outcome::Done
    } else if (options.rolls_back || adopts) && has_done_something {
        audience.rolls_back();
        roll_back(host, &ledger, role, killed, audience).await?
    } else if interrupted {
        Outcome::Interrupted
    } else {
        Outcome::Failed
    };
    // The work of a killed run is complete now, even if it had left nothing to do.
    if succeeded && !has_done_something && !history::without_an_end(runs).is_empty() {
        ledger.open_and_close(Outcome::Done)?;
    }
    // Forget before the end is recorded: if this run is cut off here, the next run forgets instead.
    if ledger.number().is_some() && matches!(outcome, Outcome::Done | Outcome::RolledBack) {
        ledger.forget_what_is_not_needed()?;
    }
    ledger.close(outcome)?;
    if succeeded {
        role_record::remember(role, true)?;
    }
    Ok(succeeded)
}

/// Observes everything, and makes every refusal, before the first change. What still cannot be looked at after all tries
/// is a failure of the plan.
async fn plan_with_retries(
    graph: &Graph,
    host: &Arc<Host>,
    retry: &RetryPolicy,
    audience: &Arc<dyn Audience>,
) -> Result<Plan, NotApplied> {
    let started = Instant::now();
    let last = RefCell::new(None);
    let attempt = async || {
        let made = Plan::make(graph, host).await;
        let again = match &made {
            Ok(plan) => plan.passing_failures(),
            Err(refusals) => Some(refusals.as_one()),
        };
        last.replace(Some(made));
        again.map_or(Ok(()), Err)
    };
    let tell = |error: &Error, pause| audience.plans_again(error, pause);
    let tried = retry.retry(attempt, tell).await;
    match (last.take(), tried) {
        (Some(made), _) => {
            made.map_err(|refusals| NotApplied::Refused(refusals, started.elapsed()))
        }
        (None, Err(error)) => Err(NotApplied::Failed(error)),
        (None, Ok(())) => Err(NotApplied::Failed(Error::new("no plan was made"))),
    }
}

/// The number of the run that began to take over what was made by hand, if neither that run nor a later one was
/// completed.
fn killed_adoption(runs: &[Run]) -> Option<u32> {
    let mut unfinished = history::without_an_end(runs).iter();
    let adopts = unfinished.find(|run| {
        let mut effects = run.effects.iter().filter(|recorded| !recorded.failed);
        effects.any(|recorded| recorded.effect.adopts())
    });
    adopts.map(|run| run.number)
}

/// Undoes what this run did, and what runs from `first` on did.
async fn roll_back(
    host: &Arc<Host>,
    ledger: &Arc<Ledger>,
    role: Role,
    first: Option<u32>,
    audience: &Arc<dyn Audience>,
) -> Result<Outcome> {
    let listener = listener(audience, ledger, Work::RollBack, role);
    let runs = ledger.runs()?;
    let first = first.or(ledger.number());
    let these = runs.iter().filter(|run| Some(run.number) >= first);
    let effects: Vec<_> = these.flat_map(|run| run.effects.clone()).collect();
    // A signal does not stop a roll-back.
    let go_on = AtomicBool::new(false);
    let undoing = Undoing::new(host, ledger, &listener, Extent::OneRun, &go_on);
    let summary = undoing.run(&effects).await;
    audience.summary(Work::RollBack, &summary, false);
    Ok(if summary.failed == 0 {
        Outcome::RolledBack
    } else {
        Outcome::Failed
    })
}

/// What is still to be undone, and the role that it was done for.
pub struct ToRevert {
    pub role: Role,
    effects: Vec<Recorded>,
}

/// Finds what is to be undone. If there is nothing, removes what may be left of the role.
pub fn to_revert() -> Result<Option<ToRevert>> {
    let directory = std::path::Path::new(crate::host::STATE_DIRECTORY);
    let runs = history::runs(directory)?;
    history::sweep(directory, &runs)?;
    let effects = history::open_effects(&runs);
    let last = history::since_revert(&runs).last();
    let Some(last) = last.filter(|_| !effects.is_empty()) else {
        role_record::forget()?;
        prune::forget_what_is_not_needed(directory)?;
        return Ok(None);
    };
    let role = last.role;
    Ok(Some(ToRevert { role, effects }))
}

/// Undoes `what`, and returns whether all of it is undone now.
pub async fn revert(
    host: &Arc<Host>,
    what: &ToRevert,
    stop: &AtomicBool,
    audience: &Arc<dyn Audience>,
) -> Result<bool> {
    key::take(&host.state_directory, false)?;
    let ledger = Arc::new(Ledger::new(&host.state_directory, Work::Revert, what.role));
    let listener = listener(audience, &ledger, Work::Revert, what.role);
    audience.mended(&mend::zones(host, &ledger, &ledger.runs()?, &listener).await?);
    let undoing = Undoing::new(host, &ledger, &listener, Extent::Everything, stop);
    let summary = undoing.run(&what.effects).await;
    let interrupted = stop.load(Ordering::Relaxed) && summary.skipped > 0;
    audience.summary(Work::Revert, &summary, interrupted);
    if summary.failed + summary.skipped > 0 {
        ledger.close(if interrupted {
            Outcome::Interrupted
        } else {
            Outcome::Failed
        })?;
        return Ok(false);
    }
    // The role goes first: after a crash between the two, the revert is repeated and finds nothing
    // to do.
    role_record::forget()?;
    ledger.open_and_close(Outcome::Done)?;
    ledger.forget_what_is_not_needed()?;
    Ok(true)
}

/// Passes each event to the audience and to systemd's journal.
fn listener(
    audience: &Arc<dyn Audience>,
    ledger: &Arc<Ledger>,
    work: Work,
    role: Role,
) -> Listener {
    let (audience, ledger) = (Arc::clone(audience), Arc::clone(ledger));
    Arc::new(move |event| {
        audience.event(work, event);
        let number = ledger.number();
        entry::send(event, &entry::EntryRun { work, role, number });
    })
}
