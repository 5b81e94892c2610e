//! `wasagent apply`: brings this VM to the state that the tier file describes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::exit::{self, Code};
use super::output::Output;
use super::view::{self, View};
use crate::config::{Role, Tier};
use crate::effect::history;
use crate::engine::Work;
use crate::engine::report::{Event, Summary};
use crate::engine::retry::RetryPolicy;
use crate::engine::role_record;
use crate::engine::run::{self, Audience, LastLook, NotApplied};
use crate::error::{Doing, Error, Result};
use crate::health::checks;
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
    plan: super::PlanOptions,
}

pub async fn run(
    role: Role,
    tier: &Tier,
    runs: Vec<history::Run>,
    options: &Options,
    output: &Output,
) -> Result<Code, Failure> {
    // Before the first chance to fail: `health` is asked next, and on this VM.
    role_record::tries(role)?;
    let host = Arc::new(Host::connect().await?);
    let wanted = options.plan.of(role, NewerImage::Ignore)?;
    let graph = role::resources(role, tier, &host.facts, &wanted)?;
    let view = View::new(
        *output,
        view::Run {
            work: Work::Apply,
            role,
            rolls_back: options.rollback_on_failure,
        },
    );
    let retry = Arc::new(RetryPolicy {
        budget: options.timeout,
        stop: stop_on_signals(&view)?,
    });
    let options = run::Options {
        runs,
        retry,
        rolls_back: options.rollback_on_failure,
        last_look: last_look(role, tier, &host),
    };
    let audience: Arc<dyn Audience> = Arc::new(Viewers::new(*output, role, view));
    match run::apply(&graph, &host, role, &options, &audience).await {
        Ok(true) => Ok(exit::DONE),
        Ok(false) => Ok(exit::FAILED),
        Err(NotApplied::Failed(error)) => Err(error.into()),
        Err(NotApplied::Refused(refusals, took)) => {
            output.refusals(&refusals, took);
            Err(Failure {
                code: exit::FAILED,
                error: None,
            })
        }
    }
}

/// A container may run as the tier file says, and its application still answer nobody.
fn last_look(role: Role, tier: &Tier, host: &Arc<Host>) -> LastLook {
    let (tier, node) = (Arc::new(tier.clone()), host.facts.node.clone());
    Arc::new(move || {
        let (tier, node) = (Arc::clone(&tier), node.clone());
        Box::pin(async move {
            let check = checks::application(role, &tier, &node).await?;
            let detail = check.detail;
            let note = format!(
                "the application does not answer as it should: {detail}; see wasagent health"
            );
            (!check.ok).then_some((check.resource, note))
        })
    })
}

/// The views of a run: one of the command and, when an apply is rolled back, one of the rollback.
pub struct Viewers {
    output: Output,
    role: Role,
    view: Arc<View>,
    roll_back: OnceLock<Arc<View>>,
}

impl Viewers {
    pub fn new(output: Output, role: Role, view: Arc<View>) -> Self {
        Self {
            output,
            role,
            view,
            roll_back: OnceLock::new(),
        }
    }

    fn of(&self, work: Work) -> &Arc<View> {
        match work {
            Work::Apply | Work::Revert => &self.view,
            Work::RollBack => self.roll_back.get_or_init(|| {
                let run = view::Run {
                    work,
                    role: self.role,
                    rolls_back: false,
                };
                View::new(self.output, run)
            }),
        }
    }
}

impl Audience for Viewers {
    fn event(&self, work: Work, event: &Event) {
        self.of(work).event(event);
    }

    fn plans_again(&self, error: &Error, pause: Duration) {
        self.output.retry(error, pause);
    }

    fn mended(&self, files: &[PathBuf]) {
        self.output.mended(files);
    }

    fn summary(&self, work: Work, summary: &Summary, interrupted: bool) {
        self.of(work).summary(summary, interrupted);
    }

    fn rolls_back(&self) {
        self.output.heading("rolling back what this run has done");
    }
}

/// SIGINT, SIGTERM and SIGHUP (a lost connection) let the running steps finish and begin no other. A second signal ends
/// the process at once. The record tells the next run where this run stopped.
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
