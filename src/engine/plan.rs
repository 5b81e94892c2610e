//! What apply would do: every resource observed and compared, nothing touched. What must not be touched is a refusal of
//! everything. A resource that cannot be looked at, because a server is away, does not keep the others from being planned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use super::graph::Graph;
use super::report::EventError;
use super::{Action, Address, ChangedNeeds, Diff, Disturbance, Field, GuideStep, Requirement};
use crate::config::Role;
use crate::error::{Error, Result};
use crate::host::process::find_program;
use crate::host::{Host, way};

/// The diffs of the resources of a graph, in its order.
pub struct Plan {
    pub diffs: Vec<(Address, Diff)>,
    /// For each diff, the guide's steps that it replaces.
    pub guides: Vec<Vec<GuideStep>>,
    /// The resources that could not be looked at.
    pub failed: Vec<(Address, Error)>,
    /// The resources that need one of these, each with that one: apply leaves them.
    pub skipped: Vec<(Address, Address)>,
    pub took: Duration,
}

/// Why no plan could be made: each resource that could not be observed, or must not be touched.
#[derive(Debug)]
pub struct Refusals(pub Vec<(Option<Address>, Error)>);

impl Refusals {
    /// All of them as one error, which is transient only if each of them is.
    pub fn as_one(&self) -> Error {
        let messages: Vec<String> = self
            .0
            .iter()
            .map(|(address, error)| match address {
                Some(address) => format!("{address}: {}", error.message),
                None => error.message.clone(),
            })
            .collect();
        let error = Error::new(messages.join("; "));
        if self.0.iter().all(|(_, error)| error.is_transient()) {
            error.transient()
        } else {
            error
        }
    }

    /// The object of `plan --format json` where there is no plan.
    pub fn to_json<'a>(&'a self, role: Role, node: &'a str) -> PlanJson<'a> {
        let failed = self.0.iter().map(|(resource, error)| FailedJson {
            resource: resource.as_ref(),
            error: error.clone().into(),
        });
        PlanJson {
            version: 1,
            role,
            node,
            changes: Vec::new(),
            unchanged: 0,
            failed: failed.collect(),
            skipped: Vec::new(),
            unchanged_resources: None,
            took_ms: 0.0,
        }
    }
}

impl Plan {
    /// Observes all resources at the same time, and changes nothing. Everything that is missing on
    /// the guest or must not be touched is an error; all errors are returned at once. So is everything
    /// on this machine that could not be looked at, if the plan has a change that cannot be undone.
    pub async fn make(graph: &Graph, host: &Arc<Host>) -> Result<Self, Refusals> {
        let started = Instant::now();
        if let Some(missing) = missing_requirements(graph, host) {
            return Err(Refusals(vec![(None, missing)]));
        }
        let looked = look(graph, host).await?;
        let plan = Self::of(graph, looked, started.elapsed());
        if plan.changes().next().is_some() {
            takes_records(host).map_err(|error| Refusals(vec![(None, error)]))?;
        }
        if plan.failed.iter().all(|(_, error)| plan.goes_on(error)) {
            return Ok(plan);
        }
        let failed = plan.failed.into_iter();
        let failed = failed.map(|(address, error)| (Some(address), error));
        Err(Refusals(failed.collect()))
    }

    /// Whether the others are planned although this one failed.
    fn goes_on(&self, error: &Error) -> bool {
        let irreversible = self.diffs.iter().any(|(_, diff)| diff.irreversible);
        error.elsewhere || (error.is_transient() && !irreversible)
    }

    /// The plan that follows from a look at each resource, in the graph's order.
    /// Needs precede dependents, so what is foreseen of a need is known to its dependents.
    pub fn of(graph: &Graph, looked: Vec<Result<Diff>>, took: Duration) -> Self {
        let mut plan = Self {
            diffs: Vec::new(),
            guides: Vec::new(),
            failed: Vec::new(),
            skipped: Vec::new(),
            took,
        };
        let nodes = graph.nodes();
        // For each node its diff, or the node that could not be looked at.
        let mut planned: Vec<Result<Diff, usize>> = Vec::new();
        for (index, (node, looked)) in nodes.iter().zip(looked).enumerate() {
            let mut needs = node.needs.iter();
            let missing = needs.find_map(|&need| planned[need].as_ref().err().copied());
            planned.push(match (looked, missing) {
                (Err(error), _) => {
                    plan.failed.push((node.address.clone(), error));
                    Err(index)
                }
                (Ok(_), Some(missing)) => {
                    let missing_address = nodes[missing].address.clone();
                    plan.skipped.push((node.address.clone(), missing_address));
                    Err(missing)
                }
                (Ok(mut diff), None) => {
                    let needs = node.needs.iter();
                    let needs = needs.filter_map(|&need| {
                        Some((&nodes[need].address, planned[need].as_ref().ok()?))
                    });
                    node.resource.foresee(&ChangedNeeds::new(needs), &mut diff);
                    Ok(diff)
                }
            });
        }
        for (node, diff) in nodes.iter().zip(planned) {
            if let Ok(diff) = diff {
                plan.guides.push(node.resource.guide(&diff));
                plan.diffs.push((node.address.clone(), diff));
            }
        }
        plan
    }

    /// The failures, if all of them may pass by themselves.
    pub fn passing_failures(&self) -> Option<Error> {
        let failed = self.failed.iter().cloned();
        let failed = Refusals(
            failed
                .map(|(address, error)| (Some(address), error))
                .collect(),
        );
        let error = failed.as_one();
        (!failed.0.is_empty() && error.is_transient()).then_some(error)
    }

    /// The resources that differ.
    pub fn changes(&self) -> impl Iterator<Item = &(Address, Diff)> {
        self.diffs.iter().filter(|(_, diff)| !diff.is_empty())
    }

    /// All that the changes disturb, each once, in the order in which it happens.
    pub fn disturbs(&self) -> Vec<&Disturbance> {
        let mut all = Vec::new();
        for disturbance in self.changes().flat_map(|(_, diff)| &diff.disturbs) {
            if !all.contains(&disturbance) {
                all.push(disturbance);
            }
        }
        all
    }

    /// How many resources are as they should be.
    pub fn unchanged(&self) -> usize {
        self.diffs.len() - self.changes().count()
    }

    /// The object of `plan --format json`, with the guide's steps if `explain` is set, and with the
    /// resources that are as they should be if `all` is.
    pub fn to_json<'a>(
        &'a self,
        role: Role,
        node: &'a str,
        all: bool,
        explain: bool,
    ) -> PlanJson<'a> {
        let unchanged = self.diffs.iter().filter(|(_, diff)| diff.is_empty());
        let planned = self.diffs.iter().zip(&self.guides);
        PlanJson {
            version: 1,
            role,
            node,
            changes: planned
                .filter(|((_, diff), _)| !diff.is_empty())
                .map(|((address, diff), guide)| ChangeJson {
                    resource: address,
                    action: diff.action,
                    fields: &diff.fields,
                    why: &diff.why,
                    disturbs: &diff.disturbs,
                    guide: explain.then_some(guide),
                })
                .collect(),
            unchanged: self.unchanged(),
            failed: self.failed.iter().map(FailedJson::of).collect(),
            skipped: self.skipped.iter().map(SkippedJson::of).collect(),
            unchanged_resources: all.then(|| {
                unchanged
                    .map(|(address, diff)| UnchangedJson {
                        resource: address,
                        notes: &diff.notes,
                    })
                    .collect()
            }),
            took_ms: milliseconds(self.took),
        }
    }
}

/// Looks whether the record can be written, without which nothing is changed.
fn takes_records(host: &Host) -> Result<()> {
    let mut names = ["record.json", "runs/000001.jsonl", "saved/0"].into_iter();
    let written = names.try_for_each(|name| way::to_file(&host.state_directory.join(name)));
    written.map_err(|error| error.while_doing("record what apply does"))
}

/// Looks at every resource at the same time.
async fn look(graph: &Graph, host: &Arc<Host>) -> Result<Vec<Result<Diff>>, Refusals> {
    let mut tasks = JoinSet::new();
    for (index, node) in graph.nodes().iter().enumerate() {
        let resource = Arc::clone(&node.resource);
        let host = Arc::clone(host);
        tasks.spawn(async move { (index, resource.plan(&host).await) });
    }
    let mut looked: Vec<_> = graph.nodes().iter().map(|_| None).collect();
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((index, diff)) => looked[index] = Some(diff),
            Err(fault) => {
                let fault = Error::new(format!("observe: {fault}"));
                return Err(Refusals(vec![(None, fault)]));
            }
        }
    }
    Ok(looked.into_iter().flatten().collect())
}

/// `plan --format json`.
#[derive(Serialize)]
pub struct PlanJson<'a> {
    version: u32,
    role: Role,
    node: &'a str,
    changes: Vec<ChangeJson<'a>>,
    unchanged: usize,
    /// What could not be looked at, or must not be touched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<FailedJson<'a>>,
    /// What needs one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged_resources: Option<Vec<UnchangedJson<'a>>>,
    took_ms: f64,
}

#[derive(Serialize)]
struct FailedJson<'a> {
    resource: Option<&'a Address>,
    error: EventError,
}

impl<'a> FailedJson<'a> {
    fn of((resource, error): &'a (Address, Error)) -> Self {
        Self {
            resource: Some(resource),
            error: error.clone().into(),
        }
    }
}

#[derive(Serialize)]
struct UnchangedJson<'a> {
    resource: &'a Address,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
}

#[derive(Serialize)]
struct SkippedJson<'a> {
    resource: &'a Address,
    needs: &'a Address,
}

impl<'a> SkippedJson<'a> {
    fn of((resource, needs): &'a (Address, Address)) -> Self {
        Self { resource, needs }
    }
}

#[derive(Serialize)]
struct ChangeJson<'a> {
    resource: &'a Address,
    action: Action,
    fields: &'a [Field],
    why: &'a str,
    disturbs: &'a [Disturbance],
    #[serde(skip_serializing_if = "Option::is_none")]
    guide: Option<&'a Vec<GuideStep>>,
}

/// A duration as the JSON shows it: milliseconds, rounded to a tenth.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

/// One error that names every missing program and service, and the command that installs them.
fn missing_requirements(graph: &Graph, host: &Host) -> Option<Error> {
    let mut requirements: Vec<Requirement> = graph
        .nodes()
        .iter()
        .flat_map(|node| node.resource.requirements())
        .collect();
    requirements.sort_unstable();
    requirements.dedup();

    let mut missing = Vec::new();
    let mut packages = Vec::new();
    let (mut stopped, mut why) = (Vec::new(), Vec::new());
    for requirement in requirements {
        if satisfies(host, requirement) {
            continue;
        }
        match requirement {
            Requirement::Program(name) => {
                missing.push(name);
                packages.push(host.facts.packages.package_of(name));
            }
            Requirement::SambaServer => {
                missing.push("a Samba server");
                packages.push(host.facts.packages.package_of("smbd"));
            }
            Requirement::Firewalld => {
                let Err(error) = &host.firewalld else {
                    continue;
                };
                if find_program("firewalld").is_some() {
                    missing.push("a running firewalld");
                    why.push(error.message.clone());
                } else {
                    missing.push("firewalld");
                    packages.push("firewalld");
                }
                stopped.extend(error.hint.clone());
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    packages.sort_unstable();
    packages.dedup();
    let mut commands = Vec::new();
    if !packages.is_empty() {
        commands.push(host.facts.packages.install_command(&packages));
    }
    commands.extend(stopped);
    let why: String = why.iter().map(|why| format!("; {why}")).collect();
    let error = Error::new(format!("this VM lacks {}{why}", missing.join(", ")));
    if commands.is_empty() {
        // What is missing comes by itself.
        return Some(error.transient());
    }
    Some(error.hint(format!("run: {}", commands.join(" && "))))
}

fn satisfies(host: &Host, requirement: Requirement) -> bool {
    match requirement {
        Requirement::Program(name) => find_program(name).is_some(),
        Requirement::Firewalld => host.firewalld.is_ok(),
        Requirement::SambaServer => host.facts.samba_unit.is_some(),
    }
}
