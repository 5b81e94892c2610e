//! The VM's own name, before its container starts.
//!
//! On a VM that is a copy of another one, the container's unit is there before an apply has run, and would start the
//! container under the other one's name. It waits until the VM has the name for which it was written, or until an apply
//! starts it anew. Each try waits for a while and then fails by the unit's next command: systemd counts a boot as over only once no start
//! is under way.
//!
//! The name is looked at only until the container has run once since the boot: a VM that gets another name while it serves
//! goes on serving, over restarts of its container too. No condition of systemd can tell these two apart: systemd looks
//! at those at each start (systemd.unit(5), `ConditionHost=`).

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::signal::unix::Signal;

use crate::error::Result;
use crate::host::facts::node_name;
use crate::host::recent_starts::PAUSES;
use crate::host::{Systemd, system_bus};

/// How often the VM's name is looked at while it is another VM's.
const NAME_PAUSE: Duration = Duration::from_secs(1);
/// How long one start waits for it.
const NAME_WAIT: Duration = Duration::from_secs(20);

/// Waits until the container may start on this VM. Returns whether it goes on: not if the time is over, or if it was
/// called off.
pub async fn is_there(node: &str, container: &str, called_off: &mut Signal) -> bool {
    let begun = Instant::now();
    let (mut told, mut ran) = (false, None);
    loop {
        let name = node_name().unwrap_or_default();
        // The bus may not answer yet.
        if name != node && ran.is_none() {
            ran = has_run(container).await.ok();
        }
        if name == node || ran == Some(true) {
            break;
        }
        if !told {
            let why = format!(
                "{container} was set up on the VM {node}, and this one is {name}: {PAUSES} for wasagent apply"
            );
            println!("{why}");
            let _ = sd_notify::notify(&[NotifyState::Status(&why)]);
            told = true;
        }
        if begun.elapsed() > NAME_WAIT {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(NAME_PAUSE) => {}
            _ = called_off.recv() => return false,
        }
    }
    if told {
        let _ = sd_notify::notify(&[NotifyState::Status("")]);
    }
    true
}

/// Whether the container has run on this VM since the boot.
async fn has_run(container: &str) -> Result<bool> {
    let systemd = Systemd::connect(&system_bus().await?).await?;
    let unit = systemd.unit(&format!("{container}.service")).await?;
    Ok(unit.active_since.is_some())
}
