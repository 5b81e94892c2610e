//! Jobs of systemd.

use serde::{Deserialize, Serialize};

/// What a job does to a unit, named like the verbs of systemctl(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    Start,
    Stop,
    Restart,
    ReloadOrRestart,
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::ReloadOrRestart => "reload-or-restart",
        })
    }
}
