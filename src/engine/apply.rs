//! Converges what differs: each resource after those that it needs, independent ones at the same
//! time, each observed again afterwards until it holds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::graph::{Graph, Node};
use super::report::{Event, Summary};
use super::resource::Managed;
use super::{Address, Diff, Plan};
use crate::error::{Error, Result};
use crate::host::Host;

/// How often, and how far apart, a converged resource is observed until it shows what it should:
/// the kernel and systemd tell of a change a moment after it happened.
const VERIFY_TRIES: u32 = 20;
const VERIFY_PAUSE: Duration = Duration::from_millis(100);

/// Where events go, in the order in which they happen.
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// What became of one resource.
#[derive(Debug, Clone)]
enum Outcome {
    Unchanged,
    Changed,
    Failed,
    Skipped,
}

/// What apply did.
pub struct Applied {
    pub summary: Summary,
    /// What was changed, in the order in which it ended.
    pub changes: Vec<(Address, Diff)>,
}

/// Converges the graph. `plan` was made of it a moment ago. When `stop` is set, the steps at hand
/// are finished and no other is begun.
pub async fn apply(
    graph: &Graph,
    host: &Arc<Host>,
    plan: Plan,
    stop: &AtomicBool,
    listener: &Listener,
) -> Applied {
    let (started, planning) = (Instant::now(), plan.took);
    let mut planned: HashMap<Address, Diff> = plan.diffs.into_iter().collect();
    let mut outcomes: Vec<Option<Outcome>> = graph.nodes().iter().map(|_| None).collect();
    let mut running = JoinSet::new();
    let mut begun = vec![false; graph.nodes().len()];
    let mut changes = Vec::new();

    loop {
        for (index, node) in graph.nodes().iter().enumerate() {
            if begun[index] {
                continue;
            }
            match readiness(node, &outcomes, stop.load(Ordering::Relaxed)) {
                Readiness::Wait => {}
                Readiness::Skip(because) => {
                    begun[index] = true;
                    outcomes[index] = Some(Outcome::Skipped);
                    listener(&Event::skipped(&node.address, because));
                }
                Readiness::Ready { a_need_changed } => {
                    begun[index] = true;
                    // A plan made before a need changed may no longer be true, nor one that
                    // foresaw a change that a need was then spared.
                    let diff = planned
                        .remove(&node.address)
                        .filter(|diff| !a_need_changed && !diff.foreseen);
                    let resource = Arc::clone(&node.resource);
                    let host = Arc::clone(host);
                    let listener = Arc::clone(listener);
                    running.spawn(async move {
                        let (outcome, diff) = step(resource, &host, diff, &listener).await;
                        (index, outcome, diff)
                    });
                }
            }
        }
        // A skip may have made others ready to be skipped: they come before in no case, since a
        // need is always older in the graph, so one pass saw them all.
        let Some(joined) = running.join_next().await else {
            break;
        };
        match joined {
            Ok((index, outcome, diff)) => {
                if let (Outcome::Changed, Some(diff)) = (&outcome, diff) {
                    changes.push((graph.nodes()[index].address.clone(), diff));
                }
                outcomes[index] = Some(outcome);
            }
            // A step that panicked: its resource stays without an outcome, and what needs it is
            // not begun. Release builds abort instead.
            Err(fault) => tracing::error!(%fault, "a step ended without a result"),
        }
    }

    let count = |wanted: fn(&Outcome) -> bool| -> usize {
        outcomes.iter().flatten().filter(|o| wanted(o)).count()
    };
    Applied {
        summary: Summary {
            changed: count(|o| matches!(o, Outcome::Changed)),
            unchanged: count(|o| matches!(o, Outcome::Unchanged)),
            failed: count(|o| matches!(o, Outcome::Failed))
                + outcomes.iter().filter(|o| o.is_none()).count(),
            skipped: count(|o| matches!(o, Outcome::Skipped)),
            took: planning + started.elapsed(),
        },
        changes,
    }
}

enum Readiness {
    Wait,
    Ready { a_need_changed: bool },
    Skip(String),
}

fn readiness(node: &Node, outcomes: &[Option<Outcome>], stop: bool) -> Readiness {
    if stop {
        return Readiness::Skip("interrupted".to_owned());
    }
    let mut a_need_changed = false;
    for &need in &node.needs {
        match &outcomes[need] {
            None => return Readiness::Wait,
            Some(Outcome::Failed | Outcome::Skipped) => {
                return Readiness::Skip("what it needs is not in place".to_owned());
            }
            Some(Outcome::Changed) => a_need_changed = true,
            Some(Outcome::Unchanged) => {}
        }
    }
    Readiness::Ready { a_need_changed }
}

async fn step(
    resource: Arc<dyn Managed>,
    host: &Host,
    diff: Option<Diff>,
    listener: &Listener,
) -> (Outcome, Option<Diff>) {
    let address = resource.address();
    let started = Instant::now();
    let diff = match diff {
        Some(diff) => Ok(diff),
        None => resource.inspect(host).await,
    };
    let diff = match diff {
        Ok(diff) if diff.is_empty() => {
            listener(&Event::unchanged(&address, started.elapsed(), diff.notes));
            return (Outcome::Unchanged, None);
        }
        Ok(diff) => diff,
        Err(error) => {
            listener(&Event::failed(&address, started.elapsed(), error));
            return (Outcome::Failed, None);
        }
    };
    listener(&Event::start(&address));
    match converge_and_verify(resource.as_ref(), host).await {
        Ok(()) => {
            listener(&Event::done(&address, started.elapsed(), &diff));
            (Outcome::Changed, Some(diff))
        }
        Err(error) => {
            listener(&Event::failed(&address, started.elapsed(), error));
            (Outcome::Failed, None)
        }
    }
}

async fn converge_and_verify(resource: &dyn Managed, host: &Host) -> Result<()> {
    resource.converge(host).await?;
    let mut left = resource.inspect(host).await?;
    for _ in 1..VERIFY_TRIES {
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(VERIFY_PAUSE).await;
        left = resource.inspect(host).await?;
    }
    if left.is_empty() {
        return Ok(());
    }
    let fields: Vec<String> = left
        .fields
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
