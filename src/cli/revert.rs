//! `wasagent revert`: undoes what apply did, to the byte where a file existed before. Data stays:
//! the disk formatted, the share's files where they are.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;

use super::Failure;
use super::apply::{listener, stop_on_signals};
use super::exit::{self, Code};
use super::output::Output;
use super::view::{self, View};
use crate::engine::journal::{self, Journal, Outcome};
use crate::engine::report::Work;
use crate::engine::undo::{self, Extent};
use crate::engine::{mend, record};
use crate::host::Host;

/// What revert alone takes.
#[derive(Debug, Args)]
pub struct Options {
    /// How long to wait for another run of wasagent to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub wait: Duration,
}

pub async fn run(output: &Output) -> Result<Code, Failure> {
    journal::sweep()?;
    let runs = journal::runs()?;
    let open = journal::since_revert(&runs);
    let effects = journal::open_effects(&runs);
    let Some(last) = open.last().filter(|_| !effects.is_empty()) else {
        record::forget()?;
        journal::forget_what_is_not_needed()?;
        output.heading("nothing to revert: apply has done nothing here since the last revert");
        return Ok(exit::DONE);
    };
    let host = Arc::new(Host::connect().await?);
    let view = View::new(
        *output,
        view::Run {
            work: Work::Revert,
            role: last.role,
            rolls_back: false,
        },
    );
    let stop = stop_on_signals(&view)?;
    let journal = Arc::new(Journal::new(Work::Revert, last.role));
    let listener = listener(&view, &journal, Work::Revert, last.role);
    output.mended(&mend::zones(&host, &journal, &listener).await?);
    let undoing = undo::Undoing::new(&host, &journal, &listener, Extent::Everything, &stop);
    let summary = undoing.run(&effects).await;
    let interrupted = stop.load(Ordering::Relaxed) && summary.skipped > 0;
    view.summary(&summary, interrupted);
    if summary.failed + summary.skipped > 0 {
        journal.close(if interrupted {
            Outcome::Interrupted
        } else {
            Outcome::Failed
        })?;
        return Ok(exit::FAILED);
    }
    // The role goes first: a crash between the two leaves a revert to be repeated, which finds
    // nothing to do.
    record::forget()?;
    journal.open_and_close(Outcome::Done)?;
    journal::forget_what_is_not_needed()?;
    Ok(exit::DONE)
}
