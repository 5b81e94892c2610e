//! `wasagent start-lock`, which the container's unit runs before podman. It runs as a service of
//! its own, which is up once the lock is held: systemd ends everything else that a unit starts
//! before its main process before that process begins (systemd.service(5), `ExecStartPre=`).

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

/// The pause between two checks of the application.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the application may take to answer.
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
    // systemd also runs the remaining ExecStartPre= commands of a start that was called off.
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

/// Waits until the application answers, its start ends without an answer, or `LONGEST_START` is
/// over.
async fn wait_for_the_start(options: &Options, systemd: &Systemd, invocation: &[u8]) {
    let begun = Instant::now();
    while begun.elapsed() < LONGEST_START {
        tokio::time::sleep(PAUSE).await;
        let Ok(unit) = systemd.unit(&options.unit).await else {
            continue;
        };
        // A unit that is being stopped may read on until it is killed, so it still counts. The next
        // start takes a lock of its own, and may wait for a change of revision that waits for this
        // lock.
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
