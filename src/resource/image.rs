//! The container's image, in podman's store.

use crate::config;
use crate::engine::effect::Effect;
use crate::engine::{Address, Diff, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::podman;

/// An image that podman has.
#[derive(Debug, Clone)]
pub struct Image {
    pub image: config::Image,
}

impl Resource for Image {
    type Observed = Option<String>;

    fn address(&self) -> Address {
        Address::new(Kind::Image, &self.image)
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![Requirement::Program("podman")]
    }

    async fn observe(&self, _host: &Host) -> Result<Self::Observed> {
        let id = podman::image_id(&podman::reference(&self.image)).await?;
        if let (None, config::Image::DockerArchive(path)) = (&id, &self.image)
            && !path.is_file()
        {
            return Err(Error::new(format!("{} is missing", path.display()))
                .hint("copy the archive there, or name a registry in was.container.image"));
        }
        Ok(id)
    }

    fn diff(&self, observed: &Self::Observed) -> Result<Diff> {
        let mut diff = Diff::create("podman does not have the image");
        if observed.is_none() {
            diff.field("image", None, self.image.to_string());
        }
        Ok(diff)
    }

    async fn converge(&self, step: &Step, _observed: &Self::Observed) -> Result<()> {
        let effect = Effect::PullImage {
            image: podman::reference(&self.image),
        };
        step.effect(effect, |permit| async move {
            podman::pull(&permit, &self.image).await
        })
        .await
        .map_err(|e| {
            e.hint("is was.container.image right, and its registry reachable from this VM?")
        })
    }
}
