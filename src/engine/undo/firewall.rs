//! Openings in firewalld's zones. firewalld writes a zone's file anew for each change, so closing what was opened
//! does not bring back the file that was there, and that comes back to the byte, too.

use super::Undone;
use crate::engine::Step;
use crate::engine::effect::{Effect, Sha256, ZoneFiles};
use crate::engine::journal;
use crate::error::Result;
use crate::host::firewalld::{Opening, Settings};
use crate::host::{blocking, fs};

pub(super) async fn undo_opening(step: &Step, effects: &[&Effect]) -> Result<Undone> {
    // One run may only have closed what an older one had opened.
    if let Some(Effect::Close {
        settings,
        zone,
        opening,
        ..
    }) = effects.first()
        && !is_open(step, *settings, zone, opening).await?
    {
        step.open(*settings, zone, opening).await?;
        return Ok(Undone::Restored("open again".to_owned()));
    }
    let Some((settings, zone, opening, before)) = effects.iter().find_map(|effect| match effect {
        Effect::Open {
            settings,
            zone,
            opening,
            zone_before,
        } => Some((*settings, zone, opening, zone_before.as_ref())),
        _ => None,
    }) else {
        return Ok(Undone::Already);
    };
    let open = is_open(step, settings, zone, opening).await?;
    if open {
        step.close(settings, zone, opening).await?;
    }
    if let Some(before) = before {
        restore_zone_files(step, zone, before).await?;
    }
    Ok(if open {
        Undone::Restored("closed".to_owned())
    } else {
        Undone::Already
    })
}

async fn is_open(step: &Step, settings: Settings, zone: &str, opening: &Opening) -> Result<bool> {
    step.running_firewalld()?.has(settings, zone, opening).await
}

/// Puts the zone's files back to the byte, if they say now what they said then: firewalld writes
/// them in a form of its own, and leaves a copy behind. It sees the change by itself
/// (inotify), and it is none to what it has loaded.
async fn restore_zone_files(step: &Step, zone: &str, before: &ZoneFiles) -> Result<()> {
    let settings = step.running_firewalld()?.permanent_settings(zone).await?;
    if Sha256::of(settings.as_bytes()) != before.settings {
        return Ok(());
    }
    for (path, was) in &before.files {
        match was {
            Some(was) => {
                let at = path.clone();
                let now = blocking(move || fs::read_regular(&at, 16 << 20)).await?;
                if now.is_none_or(|file| {
                    Sha256::of(&file.contents) != was.contents || file.modified != was.modified()
                }) {
                    let contents = journal::saved(&was.contents)?;
                    step.restore_file(path, contents, was.clone()).await?;
                }
            }
            None => step.remove_file(path).await?,
        }
    }
    Ok(())
}
