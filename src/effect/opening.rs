//! Openings in firewalld's zones. firewalld rewrites a zone's file for each change, so closing an opening does not
//! restore the original file. The undo also restores that file, byte for byte.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::file::SavedFile;
use super::{Effect, Halt, Past, Recorded, Reversible, Step, Undo, Undone};
use crate::error::Result;
use crate::host::firewalld::{self, Opening, Settings, zone_file};
use crate::host::sha256::Sha256;
use crate::host::{Host, blocking, fs};

/// A zone file holds a few lines.
const MAX_ZONE: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOpening {
    Open {
        settings: Settings,
        zone: String,
        opening: Opening,
        /// For the permanent settings: how firewalld kept the zone before.
        zone_before: Option<ZoneFiles>,
    },
    Close {
        settings: Settings,
        zone: String,
        opening: Opening,
        /// As in `Open`. Missing in older records.
        #[serde(default)]
        zone_before: Option<ZoneFiles>,
    },
}

/// How firewalld kept the permanent settings of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneFiles {
    /// Hash of the settings, to see whether they changed.
    pub settings: Sha256,
    /// The files below `/etc/firewalld/zones` that firewalld writes for the zone, as they were.
    pub files: Vec<(PathBuf, Option<SavedFile>)>,
}

impl OnOpening {
    fn parts(&self) -> (Settings, &str, &Opening, Option<&ZoneFiles>) {
        match self {
            Self::Open {
                settings,
                zone,
                opening,
                zone_before,
            }
            | Self::Close {
                settings,
                zone,
                opening,
                zone_before,
            } => (*settings, zone, opening, zone_before.as_ref()),
        }
    }

    fn opens(&self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

impl fmt::Display for OnOpening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.opens() { "open" } else { "close" };
        let (settings, _, opening, _) = self.parts();
        write!(f, "{verb} {settings} {opening}")
    }
}

impl Reversible for OnOpening {
    fn target(&self) -> String {
        let (settings, zone, opening, _) = self.parts();
        format!("{settings} {zone} {opening}")
    }

    async fn has_happened(&self, host: &Host) -> Option<bool> {
        if !self.opens() {
            return None;
        }
        let (settings, zone, opening, _) = self.parts();
        let firewalld = host.running_firewalld().ok()?;
        firewalld.has(settings, zone, opening).await.ok()
    }

    /// The zone's files from before an opening, and from before a change that was cut off ([`cut_off`]).
    fn needed(past: &[Past<'_, Self>]) -> Vec<Sha256> {
        let needed = past.iter().filter(|one| one.effect.opens() || !one.done);
        let zones = needed.filter_map(|one| one.effect.parts().3);
        let files = zones.flat_map(|zone| &zone.files);
        files
            .filter_map(|(_, file)| Some(file.as_ref()?.contents.clone()))
            .collect()
    }

    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(first) = past.first().map(|first| first.effect) else {
            return Ok(Undone::Already);
        };
        let (settings, zone, opening, _) = first.parts();
        let step = undo.step;
        let firewalld = step.running_firewalld()?;
        let is_open = firewalld.has(settings, zone, opening).await?;
        // This may be the undo of one run that only closed what an older run had opened.
        if !first.opens() && !is_open {
            step.open(settings, zone, opening).await?;
            return Ok(Undone::Restored("open again".to_owned()));
        }
        let Some(opened) = past.iter().find(|one| one.effect.opens()) else {
            return Ok(Undone::Already);
        };
        if is_open {
            step.close(settings, zone, opening).await?;
        }
        if let (_, _, _, Some(before)) = opened.effect.parts() {
            restore_zone_files(step, zone, before).await?;
        }
        Ok(if is_open {
            Undone::Restored("closed".to_owned())
        } else {
            Undone::Already
        })
    }
}

impl Step {
    /// Opens something in firewalld's runtime or permanent settings.
    pub async fn open(&self, settings: Settings, zone: &str, opening: &Opening) -> Result<()> {
        let effect = OnOpening::Open {
            settings,
            zone: zone.to_owned(),
            opening: opening.clone(),
            zone_before: self.zone_before(settings, zone).await?,
        };
        self.change_opening(effect).await
    }

    /// Closes what was opened.
    pub async fn close(&self, settings: Settings, zone: &str, opening: &Opening) -> Result<()> {
        let effect = OnOpening::Close {
            settings,
            zone: zone.to_owned(),
            opening: opening.clone(),
            zone_before: self.zone_before(settings, zone).await?,
        };
        self.change_opening(effect).await
    }

    async fn change_opening(&self, effect: OnOpening) -> Result<()> {
        self.effect(effect.clone(), |permit| async move {
            let (settings, zone, opening, _) = effect.parts();
            let firewalld = self.running_firewalld()?;
            if effect.opens() {
                firewalld.add(&permit, settings, zone, opening).await
            } else {
                firewalld.remove(&permit, settings, zone, opening).await
            }
        })
        .await
    }

    /// How firewalld keeps a zone's permanent settings now, if they are about to change. For each
    /// change firewalld rewrites the zone's file, and keeps a copy of the last one beside it.
    async fn zone_before(&self, settings: Settings, zone: &str) -> Result<Option<ZoneFiles>> {
        if settings == Settings::Runtime {
            return Ok(None);
        }
        let settings = self.running_firewalld()?.permanent_settings(zone).await?;
        let mut files = Vec::new();
        for path in firewalld::zone_files(zone) {
            files.push((path.clone(), self.save_file(&path).await?));
        }
        Ok(Some(ZoneFiles {
            settings: Sha256::on_record(settings.text.as_bytes()),
            files,
        }))
    }
}

/// Restores the zone's files byte for byte, if its settings are as they were then: firewalld writes
/// the files in its own form, and leaves a copy behind. It notices the restored files by itself
/// (inotify), and they do not change what it has loaded.
async fn restore_zone_files(step: &Step, zone: &str, before: &ZoneFiles) -> Result<()> {
    let settings = step.running_firewalld()?.permanent_settings(zone).await?;
    let texts = [&settings.text, &settings.older_text];
    let is_as_before = |text: &&String| Sha256::on_record(text.as_bytes()) == before.settings;
    if !texts.iter().any(is_as_before) {
        return Ok(());
    }
    for (path, was) in &before.files {
        let Some(was) = was else {
            step.remove_file(path).await?;
            continue;
        };
        let at = path.clone();
        let now = blocking(move || fs::read_regular(&at, MAX_ZONE)).await?;
        let is_back = now.is_some_and(|file| {
            Sha256::on_record(&file.contents) == was.contents && file.modified == was.modified()
        });
        if !is_back {
            step.restore_file(path, was.clone()).await?;
        }
    }
    Ok(())
}

/// Zones whose permanent settings were being changed when a run was cut off, with their files from before that. A zone
/// that was completely changed since is left out: its file is no longer the agent's to judge.
pub fn cut_off(effects: &[Recorded]) -> BTreeMap<&str, Option<&SavedFile>> {
    let mut zones = BTreeMap::new();
    for recorded in effects {
        let Effect::Opening(effect) = &recorded.effect else {
            continue;
        };
        if let (_, zone, _, Some(before)) = effect.parts() {
            let file = zone_file(zone);
            let was = before.files.iter().find(|(path, _)| *path == file);
            zones.remove(zone);
            if !recorded.done {
                zones.insert(zone, was.and_then(|(_, was)| was.as_ref()));
            }
        }
    }
    zones
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::samples::recorded;

    fn opened(zone: &str, done: bool) -> Recorded {
        let effect = OnOpening::Open {
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
        };
        Recorded {
            done,
            ..recorded(effect, false)
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
