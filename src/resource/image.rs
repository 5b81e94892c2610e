//! The container's image, in podman's store. A tag may come to mean another image at its registry, and an archive may
//! be replaced. plan reports that, and the agent takes the other image only when asked to.

use crate::config;
use crate::effect::image::OnImage;
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::podman::archive;
use crate::host::podman::registry::{self, LocalImage, RegistryImage};
use crate::host::{Host, blocking, podman};

/// What to do if the name of a present image means another image by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NewerImage {
    /// The registry is not asked, so a registry that is down delays nothing.
    #[default]
    Ignore,
    Tell,
    Take,
}

/// An image that podman has.
#[derive(Debug, Clone)]
pub struct Image {
    pub image: config::Image,
    pub newer: NewerImage,
}

#[derive(Debug)]
pub struct Observed {
    /// The id of the image that podman has under the name.
    id: Option<String>,
    /// The image that the name means at its source, in short, if it is another one. An error if nobody can tell.
    newer: Result<Option<String>>,
}

/// The id as podman shows it.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

impl Image {
    fn reference(&self) -> String {
        podman::reference(&self.image)
    }

    /// The hint for what podman said of a failed pull.
    fn way_out(&self, said: &str) -> String {
        let said = said.to_lowercase();
        let who = [
            "unauthorized",
            "authentication required",
            "access to the resource is denied",
        ];
        match &self.image {
            // By default `podman login` writes to a file of one session, which is gone after a boot.
            config::Image::Registry(reference) if who.iter().any(|word| said.contains(word)) => {
                format!(
                    "is was.container.image right? Where its registry wants to know who asks: \
                     podman login --authfile /root/.config/containers/auth.json {}",
                    reference.split('/').next().unwrap_or_default()
                )
            }
            config::Image::Registry(_) => {
                "is was.container.image right, and its registry reachable from this VM?".to_owned()
            }
            config::Image::DockerArchive(path) => {
                format!("is {} an archive of `podman save`?", path.display())
            }
        }
    }

    /// The image that the name means at its source, if it is not the one that is here.
    async fn newer(&self, id: &str) -> Result<Option<String>> {
        match &self.image {
            // A digest never means another image.
            config::Image::Registry(reference) if reference.contains('@') => Ok(None),
            config::Image::Registry(reference) => {
                let (there, here) =
                    tokio::try_join!(registry::in_registry(reference), registry::here(reference))?;
                Ok((!there.is(&here)).then(|| match there {
                    RegistryImage::One(id) => short(&id).to_owned(),
                    RegistryImage::Several(_) => "another for this platform".to_owned(),
                }))
            }
            config::Image::DockerArchive(path) => {
                let path = path.clone();
                let there = blocking(move || archive::image_id(&path)).await?;
                Ok((there != id).then(|| short(&there).to_owned()))
            }
        }
    }
}

impl Resource for Image {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Image, &self.image)
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![Requirement::Program("podman")]
    }

    async fn observe(&self, _host: &Host) -> Result<Observed> {
        let id = podman::image_id(&self.reference()).await?;
        let newer = match (&id, &self.image) {
            (None, config::Image::DockerArchive(path)) => {
                let path = path.clone();
                blocking(move || {
                    if !path.exists() {
                        return Err(Error::new(format!("{} is missing", path.display())).hint(
                            "copy the archive there, or name a registry in was.container.image",
                        ));
                    }
                    // podman would read a damaged archive up to the fault, and leave layers behind.
                    archive::image_id(&path)
                })
                .await?;
                Ok(None)
            }
            (Some(id), _) if self.newer != NewerImage::Ignore => self.newer(id).await,
            _ => Ok(None),
        };
        Ok(Observed { id, newer })
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let Some(id) = &observed.id else {
            let mut diff = Diff::create("podman does not have the image");
            diff.field("image", None, self.image.to_string());
            return Ok(diff);
        };
        let mut diff = Diff::update("the name means another image by now");
        match (&observed.newer, self.newer) {
            (Ok(Some(newer)), NewerImage::Take) => {
                diff.field("id", Some(short(id)), newer);
            }
            (Ok(Some(newer)), _) => diff.notes.push(format!(
                "{} means another image by now ({newer}; here is {}): wasagent apply --pull takes it",
                self.image,
                short(id)
            )),
            (Ok(None), _) => {}
            (Err(error), NewerImage::Take) => return Err(error.clone()),
            (Err(error), _) => diff.notes.push(format!(
                "whether {} means another image by now cannot be told: {error}",
                self.image
            )),
        }
        Ok(diff)
    }

    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        vec![GuideStep::new(17, format!("podman pull {}", self.image))]
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        let effect = OnImage::PullImage {
            image: self.reference(),
            before: observed.id.clone(),
        };
        step.effect(effect, |permit| async move {
            podman::pull(&permit, &self.image, &|amount| step.progress(amount)).await
        })
        .await
        .map_err(|e| {
            let hint = self.way_out(&e.message);
            e.hint(hint)
        })?;
        // Nothing else records which image a tag meant on that day.
        let LocalImage { id, digests } = registry::here(&self.reference()).await?;
        step.learned("digest", digests.first().unwrap_or(&id));
        Ok(())
    }
}
