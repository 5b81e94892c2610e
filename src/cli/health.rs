//! `wasagent health`: probes this VM now and reports each check.

use std::sync::Arc;

use super::Failure;
use super::exit::{self, Code};
use super::output::{Ink, Output, seconds};
use crate::config::{Role, Tier};
use crate::error::Result;
use crate::health::{State, probe};
use crate::host::Host;

pub async fn run(role: Role, tier: &Tier, output: &Output) -> Result<Code, Failure> {
    let host = Arc::new(Host::connect().await?.without_records());
    let verdict = probe(role, tier, &host).await?;
    if output.is_json() {
        output.json(&verdict);
    } else {
        for check in &verdict.checks {
            let sign = if check.ok {
                output.ink(Ink::Green, "ok  ")
            } else {
                output.ink(Ink::Red, "FAIL")
            };
            output.line(&format!(
                "{sign} {:<10} {} ({})",
                check.name,
                check.detail,
                seconds(check.took_ms / 1000.0)
            ));
            if let Some(hint) = &check.hint {
                output.line(&format!("     hint: {hint}"));
            }
        }
        output.line(&format!(
            "{} {}: {}",
            verdict.role,
            verdict.node,
            verdict.state.as_str()
        ));
    }
    Ok(match verdict.state {
        State::Healthy => exit::DONE,
        State::Unhealthy => exit::UNHEALTHY,
    })
}
