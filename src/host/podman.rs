//! podman's images, through its program where its store does not tell: it has no daemon to ask.

use std::time::Duration;

use super::image_store::Store;
use super::{blocking, process::Helper};
use crate::config::Image;
use crate::error::Result;

/// A pull unpacks some hundred megabytes: slow on a small guest.
const PULL_DEADLINE: Duration = Duration::from_secs(900);

/// The id of the image that podman stores under `reference`, if it has it. podman takes its time
/// to start, so it is asked only where its store does not tell.
pub async fn image_id(reference: &str) -> Result<Option<String>> {
    let wanted = reference.to_owned();
    let listed = blocking(move || Ok(Store::of_this_guest().and_then(|s| s.image_id(&wanted))));
    if let Some(id) = listed.await? {
        return Ok(Some(id));
    }
    let output = Helper::new("podman")
        .args(["image", "inspect", "--format", "{{.Id}}", reference])
        .output()
        .await?;
    Ok(output
        .success
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

/// The reference by which a container runs `image`. An archive has no name of its own that could
/// be relied on, so what was loaded from a path is tagged after that path.
pub fn reference(image: &Image) -> String {
    match image {
        Image::Registry(reference) => reference.clone(),
        Image::DockerArchive(path) => {
            use sha1::{Digest, Sha1};
            let hash = Sha1::digest(path.as_os_str().as_encoded_bytes());
            let tag: String = hash.iter().take(6).map(|b| format!("{b:02x}")).collect();
            format!("localhost/wasagent/archive:{tag}")
        }
    }
}

/// Brings an image from its registry, or from an archive on this VM.
pub async fn pull(image: &Image) -> Result<()> {
    let source = match image {
        Image::Registry(reference) => reference.clone(),
        Image::DockerArchive(path) => format!("docker-archive:{}", path.display()),
    };
    let printed = Helper::new("podman")
        .args(["pull", "--quiet", &source])
        .deadline(PULL_DEADLINE)
        .run()
        .await?;
    if let Image::DockerArchive(_) = image {
        let id = String::from_utf8_lossy(&printed);
        let id = id.lines().last().unwrap_or_default().trim().to_owned();
        Helper::new("podman")
            .args(["tag", &id, &reference(image)])
            .run()
            .await?;
    }
    Ok(())
}
