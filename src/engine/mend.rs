//! What a power cut left of files that another program was writing for us: firewalld neither writes
//! a zone beside its place nor syncs it, so a cut in the moment before the effect's own sync leaves
//! the file empty. firewalld then comes up in its state FAILED and takes no change, ours or anybody's.
//! The record has the file as it was; apply and revert put it back before they begin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::apply::Listener;
use super::effect::{Effect, SavedFile};
use super::journal::{self, Journal, Recorded};
use super::{Address, Kind, Step};
use crate::error::{Error, Result};
use crate::host::firewalld::zone_file;
use crate::host::systemd::Job;
use crate::host::{Host, blocking, fs};

const FIREWALLD: &str = "firewalld.service";

/// A zone file holds a few lines.
const MAX_ZONE: u64 = 16 << 20;

/// Zones whose permanent settings were being changed when a run was cut off, and their files as they
/// were before that. Of a zone that was changed to the end since, the file is no longer ours to judge.
fn cut_off(effects: &[Recorded]) -> BTreeMap<&str, Option<&SavedFile>> {
    let mut zones = BTreeMap::new();
    for recorded in effects {
        if let Effect::Open {
            zone,
            zone_before: Some(before),
            ..
        }
        | Effect::Close {
            zone,
            zone_before: Some(before),
            ..
        } = &recorded.effect
        {
            let file = zone_file(zone);
            let was = before.files.iter().find(|(path, _)| *path == file);
            zones.remove(zone.as_str());
            if !recorded.done {
                zones.insert(zone.as_str(), was.and_then(|(_, was)| was.as_ref()));
            }
        }
    }
    zones
}

/// Puts back the zones of firewalld's that a power cut left empty, and lets firewalld read them; gives
/// back which.
///
/// # Errors
/// When a file cannot be read or put back, or firewalld does not come up again.
pub async fn zones(
    host: &Arc<Host>,
    journal: &Arc<Journal>,
    listener: &Listener,
) -> Result<Vec<PathBuf>> {
    let effects = journal::open_effects(&journal::runs()?);
    let zones = cut_off(&effects);
    let Some(first) = zones.keys().next() else {
        return Ok(Vec::new());
    };
    let step = |zone: &str| {
        let address = Address::new(Kind::Firewall, zone);
        Step::new(host, journal, listener, address).undoing()
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
        Some(was) => match journal::saved(&was.contents) {
            Ok(contents) => step.restore_file(file, contents, was.clone()).await,
            Err(error) => Err(error),
        },
    };
    put_back.map_err(|error: Error| {
        error.while_doing(format_args!(
            "put back {}, which a power cut left empty",
            file.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::effect::{Sha256, ZoneFiles};
    use crate::host::firewalld::{Opening, Settings};

    fn opened(zone: &str, done: bool) -> Recorded {
        Recorded {
            resource: Address::new(Kind::Firewall, zone),
            effect: Effect::Open {
                settings: Settings::Permanent,
                zone: zone.to_owned(),
                opening: Opening::Port {
                    port: 445,
                    protocol: "tcp".to_owned(),
                },
                zone_before: Some(ZoneFiles {
                    settings: Sha256::of(b""),
                    files: vec![(zone_file(zone), None)],
                }),
            },
            number: 1,
            undoes: false,
            done,
            failed: false,
        }
    }

    #[test]
    fn only_a_change_without_an_end_is_looked_after() {
        let effects = [
            opened("public", true),
            opened("internal", false),
            opened("dmz", false),
            opened("dmz", true),
        ];
        let zones = cut_off(&effects);
        assert_eq!(zones.keys().copied().collect::<Vec<_>>(), ["internal"]);
    }
}
