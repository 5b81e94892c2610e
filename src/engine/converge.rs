//! Converges what differs. Each resource follows those that it needs, and independent ones are
//! converged at the same time. Each is observed again afterwards until the change holds. A
//! transient fault is retried with growing pauses, within a time budget. Resources that do not need
//! the failed one go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::graph::{Graph, Node};
use super::report::{Event, Listener, Summary, progress};
use super::resource::Managed;
use super::retry::RetryPolicy;
use super::{Address, Diff, Plan, Step};
use crate::effect::Ledger;
use crate::error::{Error, Result};
use crate::host::{Answer, Host, blocking, until};

/// How long, and at which intervals, a converged resource is observed until it shows the change:
/// the kernel and systemd report a change a moment after it happened.
const VERIFY: Duration = Duration::from_secs(10);
const VERIFY_PAUSE: Duration = Duration::from_millis(100);

/// What became of one resource.
#[derive(Debug, Clone)]
enum ResourceOutcome {
    Unchanged,
    Changed,
    Failed,
    Skipped,
}

/// Converges the graph. `plan` was made from it a moment ago.
pub async fn converge(
    graph: &Graph,
    host: &Arc<Host>,
    plan: Plan,
    retry: &Arc<RetryPolicy>,
    ledger: &Arc<Ledger>,
    listener: &Listener,
) -> Summary {
    let (started, planning) = (Instant::now(), plan.took);
    let mut planned: HashMap<Address, Diff> = plan.diffs.into_iter().collect();
    let mut failed: HashMap<Address, Error> = plan.failed.into_iter().collect();
    let mut outcomes: Vec<Option<ResourceOutcome>> = graph.nodes().iter().map(|_| None).collect();
    let mut running = JoinSet::new();
    let mut begun = vec![false; graph.nodes().len()];
    let progress = progress(listener);

    loop {
        for (index, node) in graph.nodes().iter().enumerate() {
            if begun[index] {
                continue;
            }
            match readiness(graph, node, &outcomes, retry.stop.load(Ordering::Relaxed)) {
                Readiness::Wait => {}
                Readiness::Skip(because) => {
                    begun[index] = true;
                    outcomes[index] = Some(ResourceOutcome::Skipped);
                    listener(&Event::skipped(&node.address, because));
                }
                Readiness::Ready { a_need_changed } => {
                    begun[index] = true;
                    // The plan may be out of date if a need changed, or if it foresaw a change that
                    // a need then did not make.
                    let diff = planned
                        .remove(&node.address)
                        .filter(|diff| !a_need_changed && !diff.foreseen);
                    // Another machine that was away a moment ago is not waited for a second time.
                    let failed = failed.remove(&node.address).filter(|error| error.elsewhere);
                    let planned = failed.map_or(Ok(diff), Err);
                    let convergence = Convergence {
                        resource: Arc::clone(&node.resource),
                        step: Step::new(host, ledger, &progress, node.address.clone()),
                        retry: Arc::clone(retry),
                        ledger: Arc::clone(ledger),
                        listener: Arc::clone(listener),
                    };
                    running.spawn(async move { (index, convergence.run(planned).await) });
                }
            }
        }
        // Needs precede dependents in the graph, so one pass propagates every skip.
        let Some(joined) = running.join_next().await else {
            break;
        };
        match joined {
            Ok((index, outcome)) => outcomes[index] = Some(outcome),
            // The step panicked: its resource stays without an outcome, and resources that need it
            // are not begun. Release builds abort instead.
            Err(fault) => tracing::error!(%fault, "a step ended without a result"),
        }
    }

    let count = |wanted: fn(&ResourceOutcome) -> bool| -> usize {
        outcomes.iter().flatten().filter(|o| wanted(o)).count()
    };
    Summary {
        changed: count(|o| matches!(o, ResourceOutcome::Changed)),
        unchanged: count(|o| matches!(o, ResourceOutcome::Unchanged)),
        failed: count(|o| matches!(o, ResourceOutcome::Failed))
            + outcomes.iter().filter(|o| o.is_none()).count(),
        skipped: count(|o| matches!(o, ResourceOutcome::Skipped)),
        took: planning + started.elapsed(),
    }
}

enum Readiness {
    Wait,
    Ready { a_need_changed: bool },
    Skip(String),
}

fn readiness(
    graph: &Graph,
    node: &Node,
    outcomes: &[Option<ResourceOutcome>],
    stop: bool,
) -> Readiness {
    if stop {
        return Readiness::Skip("interrupted".to_owned());
    }
    let mut a_need_changed = false;
    for &need in &node.needs {
        match &outcomes[need] {
            None => return Readiness::Wait,
            Some(ResourceOutcome::Failed | ResourceOutcome::Skipped) => {
                let need = &graph.nodes()[need].address;
                return Readiness::Skip(format!("it needs {need}"));
            }
            Some(ResourceOutcome::Changed) => a_need_changed = true,
            Some(ResourceOutcome::Unchanged) => {}
        }
    }
    Readiness::Ready { a_need_changed }
}

/// The convergence of one resource.
struct Convergence {
    resource: Arc<dyn Managed>,
    step: Step,
    retry: Arc<RetryPolicy>,
    ledger: Arc<Ledger>,
    listener: Listener,
}

impl Convergence {
    /// `planned` is the diff from the plan, if it still holds, or why the resource could not be looked at.
    async fn run(self, planned: Result<Option<Diff>>) -> ResourceOutcome {
        let started = Instant::now();
        let address = self.step.address();
        let converged = match planned {
            Ok(diff) => self.converge(diff).await,
            Err(error) => Err(error),
        };
        match converged {
            Ok(diff) if diff.is_empty() => {
                (self.listener)(&Event::unchanged(address, started.elapsed(), diff.notes));
                ResourceOutcome::Unchanged
            }
            Ok(diff) => {
                (self.listener)(&Event::done(address, started.elapsed(), &diff));
                ResourceOutcome::Changed
            }
            Err(error) => {
                (self.listener)(&Event::failed(
                    address,
                    started.elapsed(),
                    error.or_hint(AGAIN),
                ));
                ResourceOutcome::Failed
            }
        }
    }

    /// Converges the resource if it differs, and returns how it differed.
    async fn converge(&self, diff: Option<Diff>) -> Result<Diff> {
        let address = self.step.address();
        let tell = |error: &Error, pause: Duration| {
            (self.listener)(&Event::retry(address, error.clone(), pause));
        };
        let mut diff = match diff {
            Some(diff) => diff,
            None => {
                let plan = || self.resource.plan(&self.step);
                self.retry.retry(plan, tell).await?
            }
        };
        if diff.is_empty() {
            return Ok(diff);
        }
        (self.listener)(&Event::start(address));
        let converge = || converge_and_verify(self.resource.as_ref(), &self.step);
        self.retry.retry(converge, tell).await?;
        diff.fields.extend(self.step.take_learned());
        let (ledger, address, fields) = (
            Arc::clone(&self.ledger),
            address.clone(),
            diff.fields.clone(),
        );
        blocking(move || ledger.changed(&address, &fields)).await?;
        Ok(diff)
    }
}

/// The hint for any error of a step that has none.
const AGAIN: &str = "mend what the message names, and run apply again: what is done stays done";

async fn converge_and_verify(resource: &dyn Managed, step: &Step) -> Result<()> {
    resource.converge(step).await?;
    let held = until(VERIFY_PAUSE, VERIFY, || async {
        let left = resource.inspect(step).await?;
        Ok::<_, Error>(if left.is_empty() {
            Answer::Settled(())
        } else {
            Answer::NotYet(left.fields)
        })
    });
    let left = match held.await? {
        Answer::Settled(()) => return Ok(()),
        Answer::NotYet(fields) => fields,
    };
    let fields: Vec<String> = left
        .iter()
        .map(|field| {
            format!(
                "{} is {} and should be {}",
                field.name,
                field.from.as_deref().unwrap_or("not there"),
                field.to.as_deref().unwrap_or("not there"),
            )
        })
        .collect();
    Err(
        Error::new(format!("the change did not hold: {}", fields.join("; ")))
            .hint("something else on this VM may be managing the same thing"),
    )
}
