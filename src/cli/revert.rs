//! `wasagent revert`: undoes what apply did. A file that existed before is restored byte for byte.
//! Data stays: the disk stays formatted, and the share's files stay where they are.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::Failure;
use super::apply::{Viewers, stop_on_signals};
use super::exit::{self, Code};
use super::output::Output;
use super::view::{self, View};
use crate::engine::Work;
use crate::engine::run::{self, Audience};
use crate::host::Host;

/// What revert alone takes.
#[derive(Debug, Args)]
pub struct Options {
    /// How long to wait for another run of wasagent to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
}

pub async fn run(output: &Output) -> Result<Code, Failure> {
    let Some(what) = run::to_revert()? else {
        output.heading("nothing to revert: apply has done nothing here since the last revert");
        return Ok(exit::DONE);
    };
    let host = Arc::new(Host::connect().await?);
    let view = View::new(
        *output,
        view::Run {
            work: Work::Revert,
            role: what.role,
            rolls_back: false,
        },
    );
    let stop = stop_on_signals(&view)?;
    let audience: Arc<dyn Audience> = Arc::new(Viewers::new(*output, what.role, view));
    Ok(if run::revert(&host, &what, &stop, &audience).await? {
        exit::DONE
    } else {
        exit::FAILED
    })
}
