//! What a power cut left of files that another program was writing for us: firewalld neither writes
//! a zone beside its place nor syncs it, so a cut in the moment before the effect's own sync leaves
//! the file empty. firewalld then comes up in its state FAILED and takes no change, ours or anybody's.
//! The record has the file as it was; apply and revert put it back before they begin.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::{Listener, progress};
use super::{Address, Kind, Step};
use crate::effect::file::SavedFile;
use crate::effect::opening::cut_off;
use crate::effect::{Ledger, history};
use crate::error::Result;
use crate::host::firewalld::zone_file;
use crate::host::systemd::Job;
use crate::host::{Host, blocking, fs};

const FIREWALLD: &str = "firewalld.service";

/// A zone file holds a few lines.
const MAX_ZONE: u64 = 16 << 20;

/// Puts back the zones of firewalld's that a power cut left empty, and lets firewalld read them; gives
/// back which.
///
/// # Errors
/// When a file cannot be read or put back, or firewalld does not come up again.
pub async fn zones(
    host: &Arc<Host>,
    ledger: &Arc<Ledger>,
    listener: &Listener,
) -> Result<Vec<PathBuf>> {
    let effects = history::open_effects(&ledger.runs()?);
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
    // Also after a mending that was cut off itself.
    let failed = match &host.firewalld {
        Some(firewalld) => firewalld.has_failed().await?,
        None => false,
    };
    if failed {
        step(first).job(Job::Restart, FIREWALLD).await?;
    }
    Ok(mended)
}

/// Whether the file is there and says nothing, which none that firewalld has written to its end does.
async fn is_empty(file: &Path) -> bool {
    let at = file.to_owned();
    // A link or whatever else is in its place is not what firewalld writes.
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
