//! Images of podman's: a pull is undone by taking the image away, or, where the name stood for an older one, by
//! giving the name back to that.

use super::{Extent, Undone};
use crate::engine::Step;
use crate::engine::effect::Effect;
use crate::error::Result;
use crate::host::podman;

pub(super) async fn undo_image(
    step: &Step,
    image: &str,
    effects: &[&Effect],
    extent: Extent,
) -> Result<Undone> {
    if let Some(Effect::PullImage {
        before: Some(before),
        ..
    }) = effects.first()
    {
        return give_name_back(step, image, before).await;
    }
    // That was an undo itself, of a pull that stands under the image's own address.
    if let Some(Effect::TagImage { .. }) = effects.first() {
        return Ok(Undone::Already);
    }
    if extent == Extent::OneRun {
        return Ok(Undone::Kept(format!(
            "the image {image} stays for the next try"
        )));
    }
    if podman::image_id(image).await?.is_none() {
        return Ok(Undone::Already);
    }
    let effect = Effect::RemoveImage {
        image: image.to_owned(),
    };
    let removed = step
        .effect(effect, |permit| async move {
            podman::remove_image(&permit, image).await
        })
        .await?;
    Ok(if removed {
        Undone::Restored("removed".to_owned())
    } else {
        Undone::Kept(format!("the image {image} stays: a container uses it"))
    })
}

/// The newer image stays, without a name, until podman image prune(1) is told to remove such.
async fn give_name_back(step: &Step, image: &str, before: &str) -> Result<Undone> {
    if podman::image_id(image).await?.as_deref() == Some(before) {
        return Ok(Undone::Already);
    }
    if !podman::exists("image", before).await? {
        return Ok(Undone::Kept(format!(
            "{image} stays the newer image: the one of before ({before}) was removed"
        )));
    }
    step.tag_image(before, image).await?;
    Ok(Undone::Restored("the image of before".to_owned()))
}
