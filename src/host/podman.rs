//! podman's images, through its program: it has no daemon to ask.

use std::time::Duration;

use super::permit::Permit;
use super::process::Helper;
use crate::config::Image;
use crate::error::{Error, Result};

/// A pull unpacks some hundred megabytes: slow on a small guest.
const PULL_DEADLINE: Duration = Duration::from_secs(900);

/// The id of the image that podman stores under `reference`, if it has it.
pub async fn image_id(reference: &str) -> Result<Option<String>> {
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

/// Removes an image's name, and the image when that was its last; `false` when a container uses it.
pub async fn remove_image(_permit: &Permit, reference: &str) -> Result<bool> {
    let output = Helper::new("podman")
        .args(["image", "rm", reference])
        .output()
        .await?;
    // podman-rmi(1): 2 says that a container uses it.
    match output.code {
        Some(0) => Ok(true),
        Some(2) => Ok(false),
        _ => Err(Error::new(format!(
            "podman image rm {reference}: {}",
            output.stderr.trim()
        ))
        .hint("see podman images")),
    }
}

/// Brings an image from its registry, or from an archive on this VM.
pub async fn pull(_permit: &Permit, image: &Image) -> Result<()> {
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
