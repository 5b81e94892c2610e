//! `wasagent plan`: says what apply would change, and touches nothing.

use std::sync::Arc;

use super::Failure;
use super::exit::{self, Code};
use super::output::Output;
use super::plan_text::{self, Telling};
use crate::config::{Role, Tier};
use crate::engine::Plan;
use crate::error::Result;
use crate::host::Host;
use crate::role::{self, Options};

pub async fn run(
    role: Role,
    tier: &Tier,
    options: &Options,
    telling: Telling,
    output: &Output,
) -> Result<Code, Failure> {
    let host = Arc::new(Host::connect().await?);
    let graph = role::resources(role, tier, &host.facts, options)?;
    let node = &host.facts.node;
    let plan = Plan::make(&graph, &host).await.map_err(|refusals| {
        if output.is_json() {
            output.json(&refusals.to_json(role, node));
        }
        output.refusals_on_stderr(&refusals);
        Failure {
            code: exit::FAILED,
            error: None,
        }
    })?;
    if output.is_json() {
        output.json(&plan.to_json(role, node, telling.all, telling.explain));
    } else {
        let text = plan_text::text(&plan, role, node, telling, *output);
        output.line(text.trim_end());
    }
    for (address, error) in &plan.failed {
        output.error(&error.clone().while_doing(address));
    }
    Ok(if !plan.failed.is_empty() {
        exit::FAILED
    } else if plan.changes().next().is_none() {
        exit::DONE
    } else {
        exit::CHANGES
    })
}
