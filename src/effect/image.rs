//! podman's images. A pull is undone by removing the image. If an older image had the name before, that image gets its
//! name back instead.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Extent, Halt, Past, Reversible, Step, Undo, Undone, last_left};
use crate::error::Result;
use crate::host::{Host, podman};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnImage {
    PullImage {
        image: String,
        /// The id of the image that had the name before.
        #[serde(default)]
        before: Option<String>,
    },
    /// Gives the name to another image that podman has.
    TagImage {
        image: String,
        id: String,
    },
    RemoveImage {
        image: String,
    },
}

impl OnImage {
    fn image(&self) -> &str {
        match self {
            Self::PullImage { image, .. }
            | Self::TagImage { image, .. }
            | Self::RemoveImage { image } => image,
        }
    }
}

impl fmt::Display for OnImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PullImage { image, .. } => write!(f, "pull {image}"),
            Self::TagImage { image, id } => write!(f, "tag {id} {image}"),
            Self::RemoveImage { image } => write!(f, "remove image {image}"),
        }
    }
}

impl Reversible for OnImage {
    fn target(&self) -> String {
        format!("image {}", self.image())
    }

    async fn has_happened(&self, _host: &Host) -> Option<bool> {
        match self {
            Self::PullImage { image, before } => {
                let now = podman::image_id(image).await.ok()?;
                Some(now.is_some() && now != *before)
            }
            _ => None,
        }
    }

    /// The id of the image.
    async fn left(&self, _host: &Host) -> Option<String> {
        match self {
            Self::RemoveImage { .. } => None,
            _ => podman::image_id(self.image()).await.ok()?,
        }
    }

    /// The next try needs the image again.
    fn outlives_a_roll_back(&self) -> bool {
        matches!(self, Self::PullImage { .. })
    }

    async fn undo(past: &[Past<'_, Self>], undo: Undo<'_>) -> Result<Undone, Halt> {
        let image = match past.first().map(|first| first.effect) {
            Some(Self::PullImage {
                image,
                before: Some(before),
            }) => {
                let left = last_left(past);
                return Ok(give_name_back(undo.step, image, before, left).await?);
            }
            // This effect was itself an undo. The pull that it undid is recorded under the image's own address.
            Some(Self::TagImage { .. }) | None => return Ok(Undone::Already),
            Some(other) => other.image(),
        };
        if undo.extent == Extent::OneRun {
            return Ok(Undone::Kept(format!(
                "the image {image} stays for the next try"
            )));
        }
        let Some(now) = podman::image_id(image).await? else {
            return Ok(Undone::Already);
        };
        if is_named_anew(last_left(past), Some(&now)) {
            return Ok(named_by_somebody(image));
        }
        let effect = Self::RemoveImage {
            image: image.to_owned(),
        };
        let remove = |permit| async move { podman::remove_image(&permit, image).await };
        Ok(if undo.step.effect(effect, remove).await? {
            Undone::Restored("removed".to_owned())
        } else {
            Undone::Kept(format!("the image {image} stays: a container uses it"))
        })
    }
}

impl Step {
    /// Gives the image `id`, which podman has, the name `image`.
    pub async fn tag_image(&self, id: &str, image: &str) -> Result<()> {
        let effect = OnImage::TagImage {
            image: image.to_owned(),
            id: id.to_owned(),
        };
        self.effect(effect, |permit| async move {
            podman::tag(&permit, id, image).await
        })
        .await
    }
}

/// Gives the older image its name back. The newer image stays without a name until podman-image-prune(1) removes it.
async fn give_name_back(
    step: &Step,
    image: &str,
    before: &str,
    left: Option<&str>,
) -> Result<Undone> {
    let now = podman::image_id(image).await?;
    if now.as_deref() == Some(before) {
        return Ok(Undone::Already);
    }
    // Somebody may also have removed it.
    if is_named_anew(left, now.as_deref()) {
        return Ok(named_by_somebody(image));
    }
    if !podman::exists("image", before).await? {
        return Ok(Undone::Kept(format!(
            "{image} stays the newer image: the one of before ({before}) was removed"
        )));
    }
    step.tag_image(before, image).await?;
    Ok(Undone::Restored("the image of before".to_owned()))
}

/// Whether the name means another image now than apply left, or none. Of an effect that was cut off, and of an older
/// agent's, it is not known what it left.
fn is_named_anew(left: Option<&str>, now: Option<&str>) -> bool {
    left.is_some() && left != now
}

fn named_by_somebody(image: &str) -> Undone {
    Undone::Kept(format!(
        "the name {image} stays as it is: somebody has pulled, tagged or removed another image by it since apply did"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Address;

    #[test]
    fn an_image_that_somebody_has_named_since_is_known() {
        let pull = OnImage::PullImage {
            image: "example.org/a:b".to_owned(),
            before: None,
        };
        let resource: Address = "image:example.org/a:b".parse().unwrap();
        let past = |left: &[(Option<&'static str>, bool)]| {
            let effects = left.iter().map(|(left, undoes)| Past {
                effect: &pull,
                resource: &resource,
                undoes: *undoes,
                done: true,
                left: *left,
            });
            effects.collect::<Vec<_>>()
        };
        // The last pull counts, and no undo does.
        let pulled = past(&[
            (Some("one"), false),
            (Some("two"), false),
            (Some("one"), true),
        ]);
        let is_anew = |now| is_named_anew(last_left(&pulled), now);
        assert!(!is_anew(Some("two")));
        assert!(is_anew(Some("one")) && is_anew(Some("three")) && is_anew(None));
        let unknown = past(&[(Some("one"), false), (None, false)]);
        assert!(!is_named_anew(last_left(&unknown), Some("three")));
    }
}
