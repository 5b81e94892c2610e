//! `wasagent apply`: brings this VM to the state that the tier file describes.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::exit::{self, Code};
use super::output::Output;
use super::view::{self, View};
use crate::config::{Role, Tier};
use crate::engine::apply::{Conduct, Listener, apply};
use crate::engine::graph::Graph;
use crate::engine::journal::{self, Journal, Outcome};
use crate::engine::report::Work;
use crate::engine::undo::{self, Extent};
use crate::engine::{Plan, entry, mend, record};
use crate::error::{Doing, Result};
use crate::host::Host;
use crate::resource::NewerImage;
use crate::role;

/// What apply alone takes.
#[derive(Debug, Args)]
pub struct Options {
    /// How long faults that may pass by themselves are tried again: a server that is not up yet
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// How long to wait for another run of wasagent to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
    /// When a step fails, undo what this run has done
    #[arg(long)]
    rollback_on_failure: bool,
    #[command(flatten)]
    wishes: super::WishArguments,
}

pub async fn run(
    role: Role,
    tier: &Tier,
    options: &Options,
    output: &Output,
) -> Result<Code, Failure> {
    let host = Arc::new(Host::connect().await?);
    let wishes = options.wishes.of(role, NewerImage::Ignore)?;
    let graph = role::resources(role, tier, &host.facts, &wishes)?;
    let view = View::new(
        *output,
        view::Run {
            work: Work::Apply,
            role,
            rolls_back: options.rollback_on_failure,
        },
    );
    let conduct = Arc::new(Conduct {
        budget: options.timeout,
        stop: stop_on_signals(&view)?,
    });
    let plan = plan(&graph, &host, &conduct, output).await?;

    journal::sweep()?;
    let journal = Arc::new(Journal::new(Work::Apply, role));
    let listener = listener(&view, &journal, Work::Apply, role);
    let mended = mend::zones(&host, &journal, &listener).await?;
    // What was planned before it may not be true any more.
    let plan = if mended.is_empty() {
        plan
    } else {
        output.mended(&mended);
        self::plan(&graph, &host, &conduct, output).await?
    };
    // What was taken away of somebody's work is brought back where nothing can take its place: also what
    // a run took away that was killed.
    let runs = journal::runs()?;
    let killed = killed_adoption(&runs);
    let adopts = killed.is_some() || plan.diffs.iter().any(|(_, diff)| diff.adopts());
    let rolls_back = options.rollback_on_failure || adopts;
    let summary = apply(&graph, &host, plan, &conduct, &journal, &listener).await;
    let succeeded = summary.failed == 0 && summary.skipped == 0;
    let interrupted = conduct.stop.load(Ordering::Relaxed);
    view.summary(&summary, interrupted);

    let outcome = if succeeded {
        Outcome::Done
    } else if rolls_back && journal.number().is_some() {
        roll_back(&host, &journal, role, killed, output).await?
    } else if interrupted {
        Outcome::Interrupted
    } else {
        Outcome::Failed
    };
    // What a killed run began is at its end by now, also where it had left nothing to do.
    if succeeded && journal.number().is_none() && !journal::without_an_end(&runs).is_empty() {
        journal.open_and_close(Outcome::Done)?;
    }
    // Before the end is told: a run that is cut off here is looked after by the next.
    if journal.number().is_some() && matches!(outcome, Outcome::Done | Outcome::RolledBack) {
        journal::forget_what_is_not_needed()?;
    }
    journal.close(outcome)?;
    if succeeded || journal.number().is_some() {
        record::remember(record::read()?.as_ref(), role, succeeded)?;
    }
    Ok(if succeeded { exit::DONE } else { exit::FAILED })
}

/// All is observed, and all refused that must be, before the first change.
async fn plan(
    graph: &Graph,
    host: &Arc<Host>,
    conduct: &Conduct,
    output: &Output,
) -> Result<Plan, Failure> {
    let started = Instant::now();
    let refused = RefCell::new(None);
    let attempt = async || {
        Plan::make(graph, host).await.map_err(|refusals| {
            let error = refusals.as_one();
            refused.replace(Some(refusals));
            error
        })
    };
    let plan = conduct
        .retry(attempt, |error, pause| output.retry(error, pause))
        .await;
    plan.map_err(|_| {
        if let Some(refusals) = &*refused.borrow() {
            output.refusals(refusals, started.elapsed());
        }
        Failure {
            code: exit::FAILED,
            error: None,
        }
    })
}

/// What hears of each event: the view, and systemd's journal.
pub fn listener(view: &Arc<View>, journal: &Arc<Journal>, work: Work, role: Role) -> Listener {
    let (view, journal) = (Arc::clone(view), Arc::clone(journal));
    Arc::new(move |event| {
        view.event(event);
        let number = journal.number();
        entry::send(event, &entry::Run { work, role, number });
    })
}

/// The number of the run that began to take over what was made by hand, if that is not at an end: no later
/// run was.
fn killed_adoption(runs: &[journal::Run]) -> Option<u32> {
    let mut unfinished = journal::without_an_end(runs).iter();
    let adopts = unfinished.find(|run| {
        let mut effects = run.effects.iter().filter(|recorded| !recorded.failed);
        effects.any(|recorded| recorded.effect.adopts())
    });
    adopts.map(|run| run.number)
}

/// Undoes what this run has done, and those since `first`.
async fn roll_back(
    host: &Arc<Host>,
    journal: &Arc<Journal>,
    role: Role,
    first: Option<u32>,
    output: &Output,
) -> Result<Outcome> {
    output.heading("rolling back what this run has done");
    let view = View::new(
        *output,
        view::Run {
            work: Work::RollBack,
            role,
            rolls_back: false,
        },
    );
    let listener = listener(&view, journal, Work::RollBack, role);
    let runs = journal::runs()?;
    let first = first.or(journal.number());
    let these = runs.iter().filter(|run| Some(run.number) >= first);
    let effects: Vec<_> = these.flat_map(|run| run.effects.clone()).collect();
    // What is begun to be undone is undone to its end.
    let go_on = AtomicBool::new(false);
    let undoing = undo::Undoing::new(host, journal, &listener, Extent::OneRun, &go_on);
    let summary = undoing.run(&effects).await;
    view.summary(&summary, false);
    Ok(if summary.failed == 0 {
        Outcome::RolledBack
    } else {
        Outcome::Failed
    })
}

/// SIGINT, SIGTERM and SIGHUP (a connection that is lost) let the steps at hand finish, and begin no other. A second signal ends the
/// process at once: the record tells the next run where this one stood.
pub fn stop_on_signals(view: &Arc<View>) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(AtomicU32::new(0));
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let mut signals = signal(kind).doing("listen for signals")?;
        let (stop, seen, view) = (Arc::clone(&stop), Arc::clone(&seen), Arc::clone(view));
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if seen.fetch_add(1, Ordering::Relaxed) > 0 {
                    eprintln!("wasagent: ended at once; run apply again, or revert");
                    std::process::exit(i32::from(u8::from(exit::FAILED)));
                }
                stop.store(true, Ordering::Relaxed);
                view.stopping();
            }
        });
    }
    Ok(stop)
}
