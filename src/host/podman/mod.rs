//! podman's images and containers. podman has no daemon, so its program is run where its store gives no answer.

pub mod archive;
pub mod conmon;
pub mod registry;
pub mod secret;
mod store;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use self::store::{GRAPH_ROOT, Store};
use crate::config::Image;
use crate::error::{Doing, Error, Result};
use crate::host::blocking;
use crate::host::permit::Permit;
use crate::host::process::{Helper, Tell, over_network};

/// A pull unpacks some hundred megabytes, which is slow on a small guest.
const PULL_DEADLINE: Duration = Duration::from_secs(900);

/// The id of the image that podman stores under `reference`, if any. podman is slow to start, so it
/// is asked only if its store gives no answer.
pub async fn image_id(reference: &str) -> Result<Option<String>> {
    let wanted = reference.to_owned();
    let listed = blocking(move || Ok(Store::of_this_guest().and_then(|s| s.image_id(&wanted))));
    if let Some(id) = listed.await? {
        return Ok(Some(id));
    }
    if !exists("image", reference).await? {
        return Ok(None);
    }
    let id = Helper::new("podman")
        .args(["image", "inspect", "--format", "{{.Id}}", reference])
        .run()
        .await?;
    Ok(Some(String::from_utf8_lossy(&id).trim().to_owned()))
}

/// podman with a command that changes its store, and leaves no process behind.
fn changing<'a>(arguments: &[&str]) -> Helper<'a> {
    Helper::new("podman").changes().args(arguments)
}

/// Whether podman has an `image` or `container` of that name. If podman cannot tell, that is an error:
/// the object may exist and belong to somebody.
pub async fn exists(kind: &str, name: &str) -> Result<bool> {
    let output = Helper::new("podman")
        .args([kind, "exists", name])
        .output()
        .await?;
    // podman-image-exists(1), podman-container-exists(1): 1 is "no", 125 that something went wrong.
    match output.code {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(Error::new(format!(
            "podman {kind} exists {name}: {}",
            output.stderr.trim()
        ))
        .hint("see podman info; mend its storage, and apply again")),
    }
}

/// A container as podman shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    pub id: String,
    pub is_running: bool,
    /// Made with `--restart always` (podman-run(1)): podman-restart.service starts it at boot.
    pub restarts_at_boot: bool,
    /// Made with `--rm`.
    pub goes_when_stopped: bool,
}

/// The container of that name, if podman has one.
pub async fn container(name: &str) -> Result<Option<ContainerState>> {
    if !exists("container", name).await? {
        return Ok(None);
    }
    let format = "{{.Id}} {{.State.Running}} {{.HostConfig.AutoRemove}} \
                  {{.HostConfig.RestartPolicy.Name}}";
    let shown = Helper::new("podman")
        .args(["container", "inspect", "--format", format, name])
        .run()
        .await?;
    let shown = String::from_utf8_lossy(&shown);
    let mut words = shown.split_whitespace();
    Ok(Some(ContainerState {
        id: words.next().unwrap_or_default().to_owned(),
        is_running: words.next() == Some("true"),
        goes_when_stopped: words.next() == Some("true"),
        restarts_at_boot: words.next() == Some("always"),
    }))
}

/// Stops a container, if it exists. It has 10 s to end by itself, whatever timeout it was made with.
pub async fn stop_container(_permit: &Permit, name: &str) -> Result<()> {
    let stop = ["stop", "--ignore", "--time=10", name];
    changing(&stop).run().await.map(drop)
}

/// Starts an existing container. podman leaves conmon behind, and sometimes aardvark-dns.
pub async fn start_container(_permit: &Permit, name: &str) -> Result<()> {
    let start = ["container", "start", name];
    Helper::new("podman").args(start).run().await.map(drop)
}

/// Renames a container, if it exists: a container made with `--rm` disappears when it stops.
pub async fn rename_container(_permit: &Permit, from: &str, to: &str) -> Result<()> {
    if !exists("container", from).await? {
        return Ok(());
    }
    let rename = ["container", "rename", from, to];
    changing(&rename).run().await.map(drop)
}

/// The reference by which a container runs `image`. An archive has no reliable name of its own, so
/// an image loaded from an archive is tagged with a hash of the archive's path.
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

/// Removes a name of an image, and the image with its last name; `false` if a container uses the image.
pub async fn remove_image(_permit: &Permit, reference: &str) -> Result<bool> {
    let output = changing(&["image", "rm", reference]).output().await?;
    // podman-rmi(1): 2 means that a container uses the image.
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

/// Pulls an image from its registry or from an archive on this VM, and reports progress to `tell`.
pub async fn pull(_permit: &Permit, image: &Image, tell: Tell<'_>) -> Result<()> {
    let source = match image {
        Image::Registry(reference) => reference.clone(),
        Image::DockerArchive(path) => format!("docker-archive:{}", path.display()),
    };
    let pull = Pull::default();
    let printed = changing(&["pull", &source])
        .watch(&|line| pull.is_progress(line, tell))
        .deadline(PULL_DEADLINE)
        .run()
        .await
        .map_err(over_network)?;
    if let Image::DockerArchive(_) = image {
        let id = String::from_utf8_lossy(&printed);
        let id = id.lines().last().unwrap_or_default().trim().to_owned();
        tag(_permit, &id, &reference(image)).await?;
    }
    blocking(sync_store).await
}

/// Gives an image a name, and takes the name from any image that had it.
pub async fn tag(_permit: &Permit, id: &str, reference: &str) -> Result<()> {
    let tag = ["tag", id, reference];
    changing(&tag).run().await.map(drop)
}

/// The id of the image that the container of that name was made from, if podman's store tells.
pub async fn image_of_container(name: &str) -> Result<Option<String>> {
    let name = name.to_owned();
    blocking(move || Ok(Store::of_this_guest().and_then(|s| s.image_of_container(&name)))).await
}

/// podman does not sync the files that it unpacks. After a power cut within the next half minute, the
/// image would exist with empty files, and its programs would die with SIGBUS.
pub(super) fn sync_store() -> Result<()> {
    let doing = || format!("sync {GRAPH_ROOT}");
    match std::fs::File::open(GRAPH_ROOT) {
        Ok(store) => rustix::fs::syncfs(&store).doing(doing()),
        // The operator keeps the store elsewhere (containers-storage.conf(5), `graphroot`).
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).doing(doing()),
    }
}

/// Recreates podman's rules for a container's ports (podman-network-reload(1)). The rules are podman's and
/// disappear with the container, so nothing has to be undone.
pub async fn publish_again(container: &str) -> Result<()> {
    Helper::new("podman")
        .args(["network", "reload", container])
        .run()
        .await
        .map(drop)
}

/// The progress of a running pull, as podman prints it.
#[derive(Default)]
struct Pull {
    layers: AtomicUsize,
}

impl Pull {
    /// Whether `line` is a progress line of a pull. If standard error is no terminal, the lines show
    /// neither bytes nor a total: podman prints a line when a layer begins, at most six at a time, and one
    /// when all are there (containers/image, copy/single.go; the same in podman 4.3 and 5).
    fn is_progress(&self, line: &str, tell: Tell<'_>) -> bool {
        if line.starts_with("Copying blob ") {
            let layers = self.layers.fetch_add(1, Ordering::Relaxed) + 1;
            tell(format!("{} begun", count_layers(layers)));
        } else if line.starts_with("Copying config ") {
            let layers = self.layers.load(Ordering::Relaxed);
            tell(format!(
                "{} copied, writing the image",
                count_layers(layers)
            ));
        } else {
            return [
                "Trying to pull ",
                "Getting image source signatures",
                "Writing manifest to image destination",
                "Storing signatures",
            ]
            .iter()
            .any(|known| line.starts_with(known));
        }
        true
    }
}

fn count_layers(layers: usize) -> String {
    match layers {
        1 => "1 layer".to_owned(),
        _ => format!("{layers} layers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_told_by_its_layers_and_its_error_is_kept() {
        let said = [
            "Trying to pull docker.io/ablecloudteam/nodejs-server:linux-0.1...",
            "Getting image source signatures",
            "Copying blob sha256:5c0f2f4a8a0d",
            "Copying blob sha256:9b1fd34c30b7",
            "Copying config sha256:0f3e4b1c2d5a",
            "Writing manifest to image destination",
            "Error: writing blob: no space left on device",
        ];
        let told = std::sync::Mutex::new(Vec::new());
        let tell = |amount| told.lock().unwrap().push(amount);
        let pull = Pull::default();
        let kept: Vec<&str> = said
            .into_iter()
            .filter(|line| !pull.is_progress(line, &tell))
            .collect();
        assert_eq!(kept, ["Error: writing blob: no space left on device"]);
        assert_eq!(
            *told.lock().unwrap(),
            [
                "1 layer begun",
                "2 layers begun",
                "2 layers copied, writing the image"
            ]
        );
    }
}
