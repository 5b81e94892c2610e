//! The checks of a role, run at the same time, and their verdict.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::checks::{self, Check};
use crate::config::{Role, Tier};
use crate::error::Result;
use crate::host::Host;

/// Whether the node can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Healthy,
    Unhealthy,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The object of `health --format json`.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    version: u32,
    pub role: Role,
    pub node: String,
    pub state: State,
    /// Since when the state holds, as far as this process knows: RFC 3339.
    pub since: String,
    /// When it was probed: RFC 3339.
    pub checked: String,
    pub checks: Vec<Check>,
}

/// Probes the VM. A check that fails is part of the verdict, not an error.
///
/// # Errors
/// When the role has no section in the tier file.
pub async fn probe(role: Role, tier: &Tier, host: &Arc<Host>) -> Result<Verdict> {
    let checks = checks::run(role, tier, host).await?;
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    Ok(Verdict {
        version: 1,
        role,
        node: host.facts.node.clone(),
        state: if checks.iter().all(|check| check.ok) {
            State::Healthy
        } else {
            State::Unhealthy
        },
        since: now.clone(),
        checked: now,
        checks,
    })
}
