//! Repairs what a power cut left of files that another program was writing for the agent. firewalld writes a zone's
//! file in place and does not sync it, so a power cut just before the effect's own sync leaves the file empty.
//! firewalld then starts in its state FAILED and accepts no change, from the agent or anybody else. The record has the
//! file as it was; apply and revert put it back before they begin.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::{Listener, progress};
use super::{Address, Kind, Step};
use crate::effect::Ledger;
use crate::effect::file::SavedFile;
use crate::effect::history::{self, Run};
use crate::effect::opening::cut_off;
use crate::error::Result;
use crate::host::firewalld::zone_file;
use crate::host::systemd::Job;
use crate::host::{Host, blocking, fs};

const FIREWALLD: &str = "firewalld.service";

/// A zone file holds a few lines.
const MAX_ZONE: u64 = 16 << 20;

/// Restores firewalld's zone files that a power cut left empty, restarts a firewalld that failed, and returns the
/// restored files.
///
/// # Errors
/// When a file cannot be read or put back, or firewalld does not come up again.
pub async fn zones(
    host: &Arc<Host>,
    ledger: &Arc<Ledger>,
    runs: &[Run],
    listener: &Listener,
) -> Result<Vec<PathBuf>> {
    let effects = history::open_effects(runs);
    let zones = cut_off(&effects);
    let Some(first) = zones.keys().next() else {
        return Ok(Vec::new());
    };
    let progress = progress(listener);
    let step = |zone: &str| {
        let address = Address::new(Kind::Firewall, zone);
        Step::new(host, ledger, &progress, address).undoing()
    };
    let mut mended = Vec::new();
    for (zone, was) in &zones {
        let file = zone_file(zone);
        if is_empty(&file).await {
            put_back(&step(zone), &file, *was).await?;
            mended.push(file);
        }
    }
    // Also after a repair that was itself cut off.
    let failed = match &host.firewalld {
        Ok(firewalld) => firewalld.has_failed().await?,
        Err(_) => false,
    };
    if failed {
        step(first).job(Job::Restart, FIREWALLD).await?;
    }
    Ok(mended)
}

/// Whether the file exists but holds nothing or only zero bytes. A file that firewalld finished writing never does.
async fn is_empty(file: &Path) -> bool {
    let at = file.to_owned();
    // firewalld writes regular files only: a link or anything else is not from it.
    let found = blocking(move || Ok(fs::read_regular(&at, MAX_ZONE).unwrap_or_default())).await;
    found.is_ok_and(|file| file.is_some_and(|file| file.contents.iter().all(|&byte| byte == 0)))
}

async fn put_back(step: &Step, file: &Path, was: Option<&SavedFile>) -> Result<()> {
    let put_back = match was {
        None => step.remove_file(file).await,
        Some(was) => step.restore_file(file, was.clone()).await,
    };
    put_back.map_err(|error| {
        error.while_doing(format_args!(
            "put back {}, which a power cut left empty",
            file.display()
        ))
    })
}
