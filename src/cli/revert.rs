//! `wasagent revert`: undoes what apply did, to the byte where a file existed before. Data stays:
//! the disk formatted, the share's files where they are.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::Failure;
use super::apply::stop_on_signals;
use super::exit::{self, Code};
use super::output::Output;
use crate::engine::apply::Listener;
use crate::engine::journal::{self, Command, Journal, Outcome};
use crate::engine::record;
use crate::engine::undo::{self, Extent};
use crate::host::Host;

/// What revert alone takes.
#[derive(Debug, Args)]
pub struct Options {
    /// How long to wait for another run of wasagent to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
}

pub async fn run(output: &Output) -> Result<Code, Failure> {
    let runs = journal::runs()?;
    let open = journal::since_revert(&runs);
    let effects: Vec<_> = open.iter().flat_map(|run| run.effects.clone()).collect();
    let Some(last) = open.last().filter(|_| !effects.is_empty()) else {
        record::forget()?;
        output.heading("nothing to revert: apply has done nothing here since the last revert");
        return Ok(exit::DONE);
    };
    let host = Arc::new(Host::connect().await?);
    // A half-done revert is no better place to stop at than its end: signals are heard, once, and
    // the end is near.
    let _stop = stop_on_signals()?;
    let journal = Arc::new(Journal::new(Command::Revert, last.role));
    let listener: Listener = {
        let output = *output;
        Arc::new(move |event| output.event(event))
    };
    let summary = undo::undo(&effects, Extent::Everything, &host, &journal, &listener).await;
    output.summary(&summary);
    if summary.failed > 0 {
        journal.close(Outcome::Failed)?;
        return Ok(exit::FAILED);
    }
    // The role goes first: a crash between the two leaves a revert to be repeated, which finds
    // nothing to do.
    record::forget()?;
    journal.open_and_close(Outcome::Done)?;
    journal::forget_what_is_not_needed()?;
    Ok(exit::DONE)
}
