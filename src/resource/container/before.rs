//! The way back to what the container ran with until now, for when the new state does not come up.

use super::{Container, Observed};
use crate::effect::Effect;
use crate::effect::file::OnFile;
use crate::effect::image::OnImage;
use crate::effect::secret::OnSecret;
use crate::effect::unit::OnUnit;
use crate::engine::Step;
use crate::error::Result;
use crate::host::mark;
use crate::host::sha256::Sha256;
use crate::host::systemd::Job;

/// What a container ran with, where that differs from what it is to run with.
#[derive(Debug, Default)]
pub(super) struct RanBefore {
    /// Its unit file.
    text: Option<String>,
    /// The id of its image.
    image: Option<String>,
    /// The values of its secrets, by podman's name of each.
    secrets: Vec<(String, Sha256)>,
}

impl RanBefore {
    pub(super) fn is_another(&self) -> bool {
        self.text.is_some() || self.image.is_some() || !self.secrets.is_empty()
    }
}

/// What effects have changed for a container: the values from before all of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changed<'a> {
    unit_file: Option<&'a Sha256>,
    image: Option<&'a str>,
    secrets: Vec<(&'a str, &'a Sha256)>,
    /// A running container was restarted.
    ran: bool,
}

impl Container {
    /// What the container ran with until now.
    pub(super) async fn ran_before(
        &self,
        step: &Step,
        observed: &Observed,
    ) -> Result<Option<RanBefore>> {
        // If the container stopped with its share, it ran until this run mounted the share again.
        let runs = observed.unit.is_active() || observed.mount_is_newer();
        if let Some(file) = observed.file.as_ref().filter(|_| runs) {
            let effects = step.done_so_far().await?;
            let changed = self.changed_by(effects.iter().map(|recorded| &recorded.effect));
            let image = observed.images.older().map(|(runs, _)| runs);
            let now = RanBefore {
                text: (file.text != self.text()).then(|| file.text.clone()),
                image: image.or(changed.image).map(str::to_owned),
                secrets: owned(&changed.secrets),
            };
            if now.is_another() {
                return Ok(Some(now));
            }
        }
        // If a run was killed while it watched the container that it had started, only the record tells
        // what ran before.
        let effects = step.left_unfinished().await?;
        let changed = self.changed_by(effects.iter().map(|recorded| &recorded.effect));
        if !changed.ran {
            return Ok(None);
        }
        let text = match changed.unit_file.cloned() {
            None => None,
            Some(saved) => {
                let contents = step.saved(&saved).await?;
                Some(String::from_utf8_lossy(&contents).into_owned())
            }
        };
        Ok(Some(RanBefore {
            // Undoing the run brings back a container that was made by hand.
            text: text.filter(|text| mark::is_ours(text)),
            image: changed.image.map(str::to_owned),
            secrets: owned(&changed.secrets),
        }))
    }

    fn changed_by<'a>(&self, effects: impl Iterator<Item = &'a Effect>) -> Changed<'a> {
        let (unit_name, unit_file) = (self.unit_name(), self.path());
        let mut changed = Changed::default();
        // The first effect of each kind tells what was there before all of them.
        for effect in effects {
            match effect {
                Effect::Image(OnImage::PullImage { image, before }) if *image == self.image => {
                    changed.image = changed.image.or(before.as_deref());
                }
                Effect::File(OnFile::WriteFile { path, before, .. }) if *path == unit_file => {
                    let before = before.as_ref().map(|file| &file.contents);
                    changed.unit_file = changed.unit_file.or(before);
                }
                Effect::Secret(OnSecret::SetSecret {
                    name,
                    before: Some(before),
                    ..
                }) => {
                    let is_known = changed.secrets.iter().any(|(known, _)| known == name);
                    if !is_known && self.secrets.iter().any(|given| given.secret == *name) {
                        changed.secrets.push((name, before));
                    }
                }
                Effect::Unit(OnUnit::Job {
                    job: Job::Restart,
                    unit,
                    before,
                }) if *unit == unit_name => changed.ran |= before == "active",
                _ => {}
            }
        }
        changed
    }

    /// Goes back to the definition, the image and the secrets that the container ran with before.
    pub(super) async fn run_again(&self, step: &Step, before: &RanBefore) -> Result<()> {
        for (name, value) in &before.secrets {
            step.set_secret(name, step.saved(value).await?).await?;
        }
        if let Some(id) = &before.image {
            step.tag_image(id, &self.image).await?;
        }
        if let Some(text) = &before.text {
            step.write_text(&self.path(), text).await?;
        }
        step.reload_units().await?;
        self.start_anew(step, Job::Restart).await
    }
}

fn owned(secrets: &[(&str, &Sha256)]) -> Vec<(String, Sha256)> {
    let owned = secrets
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).clone()));
    owned.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::container;
    use super::*;
    use crate::effect::file::SavedFile;
    use crate::host::fs::FileMeta;

    #[test]
    fn a_record_tells_by_what_the_container_ran() {
        let container = container(true);
        let saved = |text: &str| SavedFile {
            contents: Sha256::of(text.as_bytes()),
            meta: FileMeta::root(0o644),
            modified: (0, 0),
            label: None,
        };
        let write = |before: Option<&str>| {
            Effect::from(OnFile::WriteFile {
                path: container.path(),
                before: before.map(saved),
                after: Sha256::of(b"new"),
                meta: FileMeta::root(0o644),
            })
        };
        let pull = |before: Option<&str>| {
            Effect::from(OnImage::PullImage {
                image: container.image.clone(),
                before: before.map(str::to_owned),
            })
        };
        let secret = |name: &str, before: Option<&str>| {
            Effect::from(OnSecret::SetSecret {
                name: name.to_owned(),
                before: before.map(|value| Sha256::of(value.as_bytes())),
                after: Sha256::of(b"new"),
            })
        };
        let restart = |before: &str| {
            Effect::from(OnUnit::Job {
                job: Job::Restart,
                unit: container.unit_name(),
                before: before.to_owned(),
            })
        };
        let (old, key) = (Sha256::of(b"old"), "nodejs-server.KEY.secret");
        let whole = Changed {
            unit_file: Some(&old),
            image: Some("1"),
            secrets: vec![(key, &old)],
            ran: true,
        };
        let all = [
            pull(Some("1")),
            secret(key, Some("old")),
            secret("another's", Some("old")),
            secret("nodejs-server.API_TOKEN.secret", None),
            write(Some("old")),
            restart("active"),
        ];
        assert_eq!(container.changed_by(all.iter()), whole);
        // A second try was killed, too: the record of the first one counts.
        let more = [
            write(Some("new")),
            secret(key, Some("new")),
            restart("activating"),
        ];
        assert_eq!(container.changed_by(all.iter().chain(&more)), whole);
        // Nothing ran, or nothing was changed.
        let effects = [pull(Some("1")), restart("inactive")];
        assert!(!container.changed_by(effects.iter()).ran);
        let effects = [pull(None), restart("active")];
        let changed = Changed {
            ran: true,
            ..Changed::default()
        };
        assert_eq!(container.changed_by(effects.iter()), changed);
    }
}
