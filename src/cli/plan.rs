//! `wasagent plan`: says what apply would change, and touches nothing.

use std::sync::Arc;

use super::Failure;
use super::exit::{self, Code};
use super::output::{Output, seconds};
use crate::config::{Role, Tier};
use crate::engine::Plan;
use crate::error::Result;
use crate::host::Host;
use crate::role;

pub async fn run(role: Role, tier: &Tier, all: bool, output: &Output) -> Result<Code, Failure> {
    let host = Arc::new(Host::connect().await?);
    let graph = role::resources(role, tier, &host.facts)?;
    let plan = Plan::make(&graph, &host).await.map_err(|refusals| {
        output.refusals_on_stderr(&refusals);
        Failure {
            code: exit::FAILED,
            error: None,
        }
    })?;
    if output.is_json() {
        output.json(&plan.to_json(role, &host.facts.node, false));
    } else {
        for (address, diff) in &plan.diffs {
            if all || !diff.is_empty() || !diff.notes.is_empty() {
                output.change(address, diff);
            }
        }
        output.line(&format!(
            "{role} on {}: {} to change, {} as they should be ({})",
            host.facts.node,
            plan.changes().count(),
            plan.unchanged(),
            seconds(plan.took.as_secs_f64())
        ));
    }
    Ok(if plan.changes().next().is_none() {
        exit::DONE
    } else {
        exit::CHANGES
    })
}
