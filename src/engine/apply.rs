//! Converges what differs. Each resource follows those that it needs, and independent ones are
//! converged at the same time. Each is observed again afterwards until the change holds. A
//! transient fault is retried with growing pauses, within a time budget. Resources that do not need
//! the failed one go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::BackoffBuilder;
use tokio::task::JoinSet;

use super::graph::{Graph, Node};
use super::report::{Event, Listener, Summary, progress};
use super::resource::Managed;
use super::{Address, Diff, Plan, Step};
use crate::effect::Ledger;
use crate::error::{Error, Result};
use crate::host::{Answer, Host, until};

/// How long, and at which intervals, a converged resource is observed until it shows the change:
/// the kernel and systemd report a change a moment after it happened.
const VERIFY: Duration = Duration::from_secs(10);
const VERIFY_PAUSE: Duration = Duration::from_millis(100);

/// The pauses between two tries: they double from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How often a pause checks for a signal.
const LOOK_FOR_A_SIGNAL: Duration = Duration::from_millis(100);

/// How transient faults are retried.
pub struct RetryPolicy {
    /// How long transient faults are retried, from the first try of a resource on.
    pub budget: Duration,
    /// Set when a signal asks to stop: running steps are finished and no other is begun.
    pub stop: Arc<AtomicBool>,
}

impl RetryPolicy {
    /// Waits for the pause, or until a signal asks to stop; `true` after a signal.
    async fn is_stopped_within(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        while !self.stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            tokio::time::sleep(left.min(LOOK_FOR_A_SIGNAL)).await;
        }
        true
    }

    /// Tries until it succeeds, fails for good, or the budget is spent. No try is begun that would
    /// overrun the budget if it took as long as the last one.
    pub async fn retry<T, F: Future<Output = Result<T>>>(
        &self,
        mut attempt: impl FnMut() -> F,
        mut tell: impl FnMut(&Error, Duration),
    ) -> Result<T> {
        let started = Instant::now();
        let mut pauses = backon::ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .without_max_times()
            .build();
        loop {
            let begun = Instant::now();
            let error = match attempt().await {
                Err(error) if error.is_transient() => error,
                other => return other,
            };
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            let over = started.elapsed() + pause + begun.elapsed() > self.budget;
            if over || self.stop.load(Ordering::Relaxed) {
                return Err(error);
            }
            tell(&error, pause);
            if self.is_stopped_within(pause).await {
                return Err(error);
            }
        }
    }
}

/// What became of one resource.
#[derive(Debug, Clone)]
enum ResourceOutcome {
    Unchanged,
    Changed,
    Failed,
    Skipped,
}

/// Converges the graph. `plan` was made from it a moment ago.
pub async fn apply(
    graph: &Graph,
    host: &Arc<Host>,
    plan: Plan,
    retry: &Arc<RetryPolicy>,
    ledger: &Arc<Ledger>,
    listener: &Listener,
) -> Summary {
    let (started, planning) = (Instant::now(), plan.took);
    let mut planned: HashMap<Address, Diff> = plan.diffs.into_iter().collect();
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
                    let convergence = Convergence {
                        resource: Arc::clone(&node.resource),
                        step: Step::new(host, ledger, &progress, node.address.clone()),
                        retry: Arc::clone(retry),
                        ledger: Arc::clone(ledger),
                        listener: Arc::clone(listener),
                    };
                    running.spawn(async move { (index, convergence.run(diff).await) });
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
    /// `diff` is the one from the plan, if it still holds.
    async fn run(self, diff: Option<Diff>) -> ResourceOutcome {
        let started = Instant::now();
        let address = self.step.address();
        match self.converge(diff).await {
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
                let inspect = || self.resource.inspect(&self.step);
                self.retry.retry(inspect, tell).await?
            }
        };
        if diff.is_empty() {
            return Ok(diff);
        }
        (self.listener)(&Event::start(address));
        let converge = || converge_and_verify(self.resource.as_ref(), &self.step);
        self.retry.retry(converge, tell).await?;
        diff.fields.extend(self.step.take_learned());
        self.ledger.changed(address, &diff.fields)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(budget: Duration) -> RetryPolicy {
        RetryPolicy {
            budget,
            stop: Arc::default(),
        }
    }

    /// How often something that always fails is tried; `tell` is called before each pause.
    async fn tries(retry: &RetryPolicy, error: Error, tell: impl Fn()) -> u32 {
        let mut tries = 0;
        let result: Result<()> = retry
            .retry(
                || {
                    tries += 1;
                    std::future::ready(Err(error.clone()))
                },
                |_, _| tell(),
            )
            .await;
        assert!(result.is_err());
        tries
    }

    fn passing() -> Error {
        Error::new("not up yet").transient()
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_until_the_budget_is_spent() {
        let none = retry(Duration::ZERO);
        assert_eq!(tries(&none, passing(), || ()).await, 1);
        let some = retry(Duration::from_secs(2));
        assert!(tries(&some, passing(), || ()).await > 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_is_not_tried_again() {
        let retry = retry(Duration::from_secs(60));
        let error = Error::new("wrong password");
        assert_eq!(tries(&retry, error, || ()).await, 1);
    }

    #[tokio::test]
    async fn a_signal_ends_the_tries_also_in_a_pause() {
        let retry = retry(Duration::from_secs(60));
        let signal = || retry.stop.store(true, Ordering::Relaxed);
        assert_eq!(tries(&retry, passing(), signal).await, 1);
        // The signal stays set.
        assert_eq!(tries(&retry, passing(), || ()).await, 1);
    }
}
