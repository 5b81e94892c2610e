//! A real registry that stands in for docker.io beside the guests, so that they pull as they would in production.
//! Its storage is a directory that may be kept: a later registry on the same storage serves without a push.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::balancer::{http_get, in_namespace};
use crate::image;
use crate::process::{Daemon, ok, ok_with, until};

/// Until a started registry has to answer.
const START: Duration = Duration::from_secs(20);

/// Until an image is in the registry.
const PUSH: Duration = Duration::from_secs(300);

/// A running registry. It is killed when this value goes, or with the thread that started it.
#[derive(Debug)]
pub struct Registry {
    netns: String,
    listen: String,
    _daemon: Daemon,
}

impl Registry {
    /// Starts Debian's `docker-registry` in the network namespace and waits until it answers (20 seconds at most).
    /// `listen` is `ADDRESS:PORT`, and the address must exist in the namespace; `storage` is the directory that holds
    /// the images; configuration and log go to `run_dir`. The guests reach it over plain HTTP.
    pub fn start(netns: &str, run_dir: &Path, storage: &Path, listen: &str) -> Result<Self> {
        for directory in [run_dir, storage] {
            fs::create_dir_all(directory)
                .with_context(|| format!("creating {}", directory.display()))?;
        }
        let storage = storage.canonicalize()?;
        let configuration = run_dir.join("registry.json");
        fs::write(&configuration, configuration_text(&storage, listen))?;
        let log = File::create(run_dir.join("registry.log"))?;
        let mut registry = in_namespace(netns, "docker-registry");
        registry
            .arg("serve")
            .arg(&configuration)
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut daemon = Daemon::start(registry)?;
        let url = format!("http://{listen}/v2/");
        until(&format!("the registry on {listen}"), START, || {
            if let Some(code) = daemon.ended() {
                let log = fs::read_to_string(run_dir.join("registry.log")).unwrap_or_default();
                bail!(
                    "the registry on {listen} ended with {code}: {}",
                    log.trim_end()
                );
            }
            let answer = http_get(netns, &url, Duration::from_secs(2));
            Ok(answer.is_ok_and(|(status, _)| status == 200).then_some(()))
        })?;
        Ok(Self {
            netns: netns.to_owned(),
            listen: listen.to_owned(),
            _daemon: daemon,
        })
    }

    /// Puts the image of an archive of [`image::container_image`] into the registry as `name` (`REPOSITORY:TAG`, see
    /// [`image::NAME_IN_REGISTRY`]). Nothing is sent where the storage already holds exactly this image; the return
    /// value says whether something was.
    pub fn push(&self, archive: &Path, name: &str) -> Result<bool> {
        if self.digest(name).ok() == Some(image::manifest_digest(archive)?) {
            return Ok(false);
        }
        let source = format!("oci-archive:{}:{}", archive.display(), image::TAG);
        let mut skopeo = in_namespace(&self.netns, "skopeo");
        skopeo
            .args(["--insecure-policy", "copy", "--quiet"])
            .args(["--preserve-digests", "--dest-tls-verify=false"])
            .arg(source)
            .arg(format!("docker://{}/{name}", self.listen));
        ok_with(skopeo, b"", PUSH)?;
        Ok(true)
    }

    /// Puts an image that the registry has there once more as `to`, with another configuration, and returns its id.
    pub fn push_changed(
        &self,
        name: &str,
        to: &str,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Result<String> {
        let directory = tempfile::tempdir()?;
        let at = directory.path();
        let (local, listen) = (format!("dir:{}", at.display()), &self.listen);
        self.copy(&format!("docker://{listen}/{name}"), &local)?;
        let manifest = at.join("manifest.json");
        let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&manifest)?)?;
        let before = text["config"]["digest"].as_str().context("no config")?;
        let before = at.join(before.trim_start_matches("sha256:"));
        let mut config = serde_json::from_slice(&fs::read(before)?)?;
        change(&mut config);
        let config = serde_json::to_vec(&config)?;
        let id = image::hex(&Sha256::digest(&config));
        fs::write(at.join(&id), &config)?;
        text["config"]["digest"] = format!("sha256:{id}").into();
        text["config"]["size"] = config.len().into();
        fs::write(manifest, serde_json::to_vec(&text)?)?;
        self.copy(&local, &format!("docker://{listen}/{to}"))?;
        Ok(id)
    }

    fn copy(&self, from: &str, to: &str) -> Result<()> {
        let mut skopeo = in_namespace(&self.netns, "skopeo");
        skopeo
            .args(["--insecure-policy", "copy", "--quiet"])
            .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
            .args([from, to]);
        ok_with(skopeo, b"", PUSH).map(drop)
    }

    /// The digest (`sha256:…`) of the manifest that the registry serves as `name`; an error where it has none.
    pub fn digest(&self, name: &str) -> Result<String> {
        let mut skopeo = in_namespace(&self.netns, "skopeo");
        skopeo
            .args([
                "--insecure-policy",
                "inspect",
                "--raw",
                "--tls-verify=false",
            ])
            .arg(format!("docker://{}/{name}", self.listen));
        let manifest = ok(skopeo)?.stdout;
        Ok(format!("sha256:{}", image::hex(&Sha256::digest(&manifest))))
    }
}

/// The configuration. JSON is YAML, and quotes any path rightly.
fn configuration_text(storage: &Path, listen: &str) -> String {
    serde_json::json!({
        "version": 0.1,
        "log": { "level": "warn" },
        "storage": {
            "filesystem": { "rootdirectory": storage },
            "cache": { "blobdescriptor": "inmemory" },
        },
        "http": { "addr": listen, "secret": "of no use to anybody outside the lab" },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_holds_the_storage_and_the_address() {
        let text = configuration_text(Path::new("/a: b"), "192.168.2.1:5001");
        assert!(text.contains(r#""rootdirectory":"/a: b""#), "{text}");
        assert!(text.contains(r#""addr":"192.168.2.1:5001""#), "{text}");
    }
}
