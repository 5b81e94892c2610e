//! `wasagent keep-ports`, a service beside the container's: a reload, restart or stop of firewalld takes away
//! the rules by which podman publishes ports, and podman's older netavark does not notice.

use std::time::Duration;

use clap::Args;
use sd_notify::NotifyState;

use crate::cli::Failure;
use crate::cli::exit::Code;
use crate::error::{Doing, Result};
use crate::host::firewalld::Reloads;
use crate::host::{podman, system_bus};

/// How often, and how far apart, podman is asked: it may meet a firewalld that is not done yet.
const TRIES: u32 = 5;
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
    let mut tries = 1;
    while let Err(error) = podman::publish_again(name).await {
        if tries == TRIES {
            // systemd starts this service anew, and with the container's next start all is well.
            return Err(error);
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
