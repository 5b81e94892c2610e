//! What apply would do: every resource observed and compared, nothing touched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use super::graph::Graph;
use super::{Action, Address, ChangedNeeds, Diff, Disturbance, Field, GuideStep, Requirement};
use crate::config::Role;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::process::find_program;

/// The diffs of all the resources of a graph, in its order.
pub struct Plan {
    pub diffs: Vec<(Address, Diff)>,
    /// For each diff, the guide's steps that it replaces.
    pub guides: Vec<Vec<GuideStep>>,
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
}

impl Plan {
    /// Observes all resources at the same time, and changes nothing. Everything that is missing on
    /// the guest, cannot be read or must not be touched is an error; all errors are returned at
    /// once.
    pub async fn make(graph: &Graph, host: &Arc<Host>) -> Result<Self, Refusals> {
        let started = Instant::now();
        if let Some(missing) = missing_requirements(graph, host) {
            return Err(Refusals(vec![(None, missing)]));
        }
        let mut tasks = JoinSet::new();
        for (index, node) in graph.nodes().iter().enumerate() {
            let resource = Arc::clone(&node.resource);
            let host = Arc::clone(host);
            tasks.spawn(async move { (index, resource.inspect(&host).await) });
        }
        let mut diffs: Vec<Option<Diff>> = graph.nodes().iter().map(|_| None).collect();
        let mut refusals = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok((index, Ok(diff))) => diffs[index] = Some(diff),
                Ok((index, Err(error))) => {
                    refusals.push((index, Some(graph.nodes()[index].address.clone()), error));
                }
                Err(fault) => {
                    refusals.push((usize::MAX, None, Error::new(format!("observe: {fault}"))));
                }
            }
        }
        if !refusals.is_empty() {
            refusals.sort_by_key(|(index, ..)| *index);
            return Err(Refusals(
                refusals
                    .into_iter()
                    .map(|(_, address, error)| (address, error))
                    .collect(),
            ));
        }
        let diffs = diffs.into_iter().flatten().collect();
        Ok(Self::of(graph, diffs, started.elapsed()))
    }

    /// The plan that follows from the current diffs, one for each resource in the graph's order.
    /// Needs precede dependents, so what is foreseen of a need is known to its dependents.
    pub fn of(graph: &Graph, mut diffs: Vec<Diff>, took: Duration) -> Self {
        let nodes = graph.nodes();
        for (index, node) in nodes.iter().enumerate() {
            let (older, rest) = diffs.split_at_mut(index);
            let needs = node.needs.iter().filter_map(|&need| {
                let diff = older.get(need)?;
                Some((&nodes[need].address, diff))
            });
            if let Some(diff) = rest.first_mut() {
                node.resource.foresee(&ChangedNeeds::new(needs), diff);
            }
        }
        let guides = nodes
            .iter()
            .zip(&diffs)
            .map(|(node, diff)| node.resource.guide(diff))
            .collect();
        let addresses = nodes.iter().map(|node| node.address.clone());
        Self {
            diffs: addresses.zip(diffs).collect(),
            guides,
            took,
        }
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

    /// The object of `plan --format json`, with the guide's steps if `explain` is set.
    pub fn to_json<'a>(&'a self, role: Role, node: &'a str, explain: bool) -> PlanJson<'a> {
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
            took_ms: milliseconds(self.took),
        }
    }
}

/// `plan --format json`.
#[derive(Serialize)]
pub struct PlanJson<'a> {
    version: u32,
    role: Role,
    node: &'a str,
    changes: Vec<ChangeJson<'a>>,
    unchanged: usize,
    took_ms: f64,
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
    let mut stopped = Vec::new();
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
            Requirement::Firewalld if find_program("firewalld").is_some() => {
                missing.push("a running firewalld");
                stopped.push("systemctl enable --now firewalld");
            }
            Requirement::Firewalld => {
                missing.push("firewalld");
                packages.push("firewalld");
                stopped.push("systemctl enable --now firewalld");
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
    commands.extend(stopped.into_iter().map(str::to_owned));
    Some(
        Error::new(format!("this VM lacks {}", missing.join(", ")))
            .hint(format!("run: {}", commands.join(" && "))),
    )
}

fn satisfies(host: &Host, requirement: Requirement) -> bool {
    match requirement {
        Requirement::Program(name) => find_program(name).is_some(),
        Requirement::Firewalld => host.firewalld.is_some(),
        Requirement::SambaServer => host.facts.samba_unit.is_some(),
    }
}
