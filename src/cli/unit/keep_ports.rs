//! `wasagent keep-ports`, a service beside the container's. A reload, restart or stop of firewalld removes the rules by
//! which podman publishes ports, and podman's older netavark does not notice.

use std::time::Duration;

use clap::Args;
use sd_notify::NotifyState;

use crate::cli::Failure;
use crate::cli::exit::Code;
use crate::error::{Doing, Error, Result};
use crate::host::firewalld::Reloads;
use crate::host::{Answer, podman, system_bus, until};

/// How long and how often podman is asked: firewalld may not be done yet.
const NOT_DONE_YET: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Options {
    /// The container
    name: String,
}

pub async fn run(options: &Options) -> Result<Code, Failure> {
    let bus = system_bus().await?;
    let mut reloads = Reloads::watch(&bus).await?;
    sd_notify::notify(&[NotifyState::Ready]).doing("tell systemd that firewalld is watched")?;
    loop {
        reloads.next().await?;
        publish_again(&options.name).await?;
        println!(
            "firewalld was reloaded or stopped: the ports of {} are published again",
            options.name
        );
    }
}

async fn publish_again(name: &str) -> Result<()> {
    let published = until(PAUSE, NOT_DONE_YET, || async {
        Ok::<_, Error>(match podman::publish_again(name).await {
            Ok(()) => Answer::Settled(()),
            Err(error) => Answer::NotYet(error),
        })
    });
    match published.await? {
        Answer::Settled(()) => Ok(()),
        // systemd restarts this service, and the container's next start publishes the ports.
        Answer::NotYet(error) => Err(error),
    }
}
