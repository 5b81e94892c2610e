//! The way back: by what the container ran until now, should what it is to run by not come up.

use std::path::Path;

use super::{Container, Observed};
use crate::engine::Step;
use crate::engine::effect::{Effect, Sha256};
use crate::engine::journal;
use crate::error::Result;
use crate::host::blocking;
use crate::host::systemd::Job;
use crate::resource::ours;

/// By what a container ran, where that is not what it is to run by.
#[derive(Debug)]
pub(super) struct RanBefore {
    /// Its unit file.
    text: Option<String>,
    /// The id of its image.
    image: Option<String>,
}

impl RanBefore {
    pub(super) fn is_another(&self) -> bool {
        self.text.is_some() || self.image.is_some()
    }
}

/// By which image and which unit file a container ran that a killed run started anew, where it changed them.
fn ran_before_the_killed_run<'a>(
    effects: impl Iterator<Item = &'a Effect>,
    unit_name: &str,
    unit_file: &Path,
    image_name: &str,
) -> Option<(Option<&'a str>, Option<&'a Sha256>)> {
    let (mut image, mut file, mut ran) = (None, None, false);
    // The first of each kind tells what was there before all of them.
    for effect in effects {
        match effect {
            Effect::PullImage {
                image: name,
                before,
            } if name == image_name => {
                image = image.or(before.as_deref());
            }
            Effect::WriteFile { path, before, .. } if path == unit_file => {
                file = file.or(before.as_ref().map(|file| &file.contents));
            }
            Effect::Job {
                job: Job::Restart,
                unit,
                before,
            } if unit == unit_name => ran |= before == "active",
            _ => {}
        }
    }
    ran.then_some((image, file))
}

impl Container {
    /// By what the container ran until now. Where a run was killed while it watched the one that it had
    /// started, only the record can tell.
    pub(super) async fn ran_before(
        &self,
        step: &Step,
        observed: &Observed,
    ) -> Result<Option<RanBefore>> {
        if let Some(file) = observed.file.as_ref().filter(|_| observed.unit.is_active()) {
            let now = RanBefore {
                text: (file.text != self.text()).then(|| file.text.clone()),
                image: observed.images.older().map(|(runs, _)| runs.to_owned()),
            };
            if now.is_another() {
                return Ok(Some(now));
            }
        }
        let unfinished = step.left_unfinished().await?;
        let Some((image, saved)) = ran_before_the_killed_run(
            unfinished.iter().map(|recorded| &recorded.effect),
            &self.unit_name(),
            &self.path(),
            &self.image,
        ) else {
            return Ok(None);
        };
        let text = match saved {
            None => None,
            Some(saved) => {
                let saved = saved.clone();
                let contents = blocking(move || journal::saved(&saved)).await?;
                Some(String::from_utf8_lossy(&contents).into_owned())
            }
        };
        // One that was made by hand comes back whole, by undoing the run.
        let text = text.filter(|text| ours::is_ours(text));
        Ok(Some(RanBefore {
            text,
            image: image.map(str::to_owned),
        }))
    }

    /// Goes back to the definition by which the container ran before, and to the image.
    pub(super) async fn run_again(&self, step: &Step, before: &RanBefore) -> Result<()> {
        if let Some(id) = &before.image {
            step.tag_image(id, &self.image).await?;
        }
        if let Some(text) = &before.text {
            ours::write(step, &self.path(), text).await?;
        }
        step.reload_units().await?;
        step.job(Job::Restart, &self.unit_name()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::effect::SavedFile;
    use crate::host::fs::FileMeta;

    #[test]
    fn a_killed_run_tells_by_what_the_container_ran() {
        let (unit, file, image) = ("nodejs-server.service", Path::new("/x/n.container"), "img");
        let saved = |text: &str| SavedFile {
            contents: Sha256::of(text.as_bytes()),
            meta: FileMeta::root(0o644),
            modified: (0, 0),
            label: None,
        };
        let write = |before: Option<&str>| Effect::WriteFile {
            path: file.to_owned(),
            before: before.map(saved),
            after: Sha256::of(b"new"),
            meta: FileMeta::root(0o644),
        };
        let pull = |before: Option<&str>| Effect::PullImage {
            image: image.to_owned(),
            before: before.map(str::to_owned),
        };
        let restart = |before: &str| Effect::Job {
            job: Job::Restart,
            unit: unit.to_owned(),
            before: before.to_owned(),
        };
        let told = |effects: &[Effect]| {
            ran_before_the_killed_run(effects.iter(), unit, file, image)
                .map(|(image, file)| (image.map(str::to_owned), file.cloned()))
        };
        let old = Sha256::of(b"old");
        let all = [pull(Some("1")), write(Some("old")), restart("active")];
        assert_eq!(told(&all), Some((Some("1".to_owned()), Some(old.clone()))));
        // A second try was killed, too: the first knows best.
        let twice = [&all[..], &[write(Some("new")), restart("activating")]].concat();
        assert_eq!(told(&twice), Some((Some("1".to_owned()), Some(old))));
        // Nothing ran, or nothing was changed.
        assert_eq!(told(&[pull(Some("1")), restart("inactive")]), None);
        assert_eq!(told(&[pull(None), restart("active")]), Some((None, None)));
    }
}
