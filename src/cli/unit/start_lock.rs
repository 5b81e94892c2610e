//! `wasagent start-lock`, which the container's unit runs before podman, as a service of its own that
//! has come up when the lock is held: what else a unit runs before its main process is ended before
//! that begins (systemd.service(5), `ExecStartPre=`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::cli::Failure;
use crate::cli::exit::{self, Code};
use crate::error::{Doing, Result};
use crate::host::http;
use crate::host::start_lock::{LONGEST_START, Start};
use crate::host::{Systemd, blocking, system_bus};

/// Between two looks at the application.
const PAUSE: Duration = Duration::from_millis(250);
/// What one answer of it may take.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct Options {
    /// Where the share is mounted
    mount: PathBuf,
    /// The unit that starts
    #[arg(long)]
    unit: String,
    /// Where the application answers as soon as it has started
    #[arg(long)]
    answers: Option<SocketAddr>,
}

pub async fn run(options: &Options) -> Result<Code, Failure> {
    let systemd = Systemd::connect(&system_bus().await?).await?;
    let unit = systemd.unit(&options.unit).await?;
    let mount = options.mount.clone();
    // systemd runs what is left of ExecStartPre= for a start that was called off, too.
    let start = match unit.active.as_str() {
        "activating" => blocking(move || Start::begin(&mount)).await?,
        _ => None,
    };
    sd_notify::notify(&[sd_notify::NotifyState::Ready])
        .doing("tell systemd that the lock is held")?;
    if start.is_some() {
        wait_for_the_start(options, &systemd, &unit.invocation).await;
    }
    drop(start);
    Ok(exit::DONE)
}

/// Until the application answers, or will not.
async fn wait_for_the_start(options: &Options, systemd: &Systemd, invocation: &[u8]) {
    let begun = Instant::now();
    while begun.elapsed() < LONGEST_START {
        tokio::time::sleep(PAUSE).await;
        let Ok(unit) = systemd.unit(&options.unit).await else {
            continue;
        };
        // One that is being stopped may read on until it is killed. The next start has a lock of its
        // own, and may wait for a change that waits for this one.
        let ended = matches!(unit.active.as_str(), "inactive" | "failed");
        if ended || unit.sub == "auto-restart" || unit.invocation != invocation {
            break;
        }
        let Some(address) = options.answers.filter(|_| unit.is_active()) else {
            continue;
        };
        let answer = tokio::time::timeout(ANSWER, http::get(address, "/")).await;
        if matches!(answer, Ok(Ok(_))) {
            break;
        }
    }
}
