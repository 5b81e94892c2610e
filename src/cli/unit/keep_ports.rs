//! `wasagent keep-ports`, a service beside the container's: a reload, restart or stop of firewalld takes away
//! the rules by which podman publishes ports, and podman's older netavark does not notice.

use std::time::Duration;

use clap::Args;
use sd_notify::NotifyState;

use crate::cli::Failure;
use crate::cli::exit::Code;
use crate::error::{Doing, Error, Result};
use crate::host::firewalld::Reloads;
use crate::host::{Answer, podman, system_bus, until};

/// How long, and how far apart, podman is asked: it may meet a firewalld that is not done yet.
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
        // systemd starts this service anew, and with the container's next start all is well.
        Answer::NotYet(error) => Err(error),
    }
}
