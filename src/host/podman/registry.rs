//! Which image a tag means at its registry. podman is asked because mirrors, certificates and log-ins are
//! podman's settings, and what podman cannot reach cannot be pulled either.

use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::host::process::{Helper, over_network};

/// How long a silent registry is waited for.
const DEADLINE: Duration = Duration::from_secs(8);

/// What a registry has under a tag.
#[derive(Debug, PartialEq, Eq)]
pub enum RegistryImage {
    /// A single image: its id, which is the digest of its configuration.
    One(String),
    /// An image for each platform: the digests of their manifests.
    Several(Vec<String>),
}

/// What podman has under the same name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalImage {
    pub id: String,
    /// The digests of the image's manifest and of the list that the image was chosen from.
    pub digests: Vec<String>,
}

impl RegistryImage {
    pub fn is(&self, local: &LocalImage) -> bool {
        match self {
            Self::One(id) => *id == local.id,
            Self::Several(digests) => digests.iter().any(|digest| local.digests.contains(digest)),
        }
    }

    fn parse(manifest: &str) -> Option<Self> {
        let manifest: Manifest = serde_json::from_str(manifest).ok()?;
        let id = manifest.config.map(|config| config.digest);
        let id = id
            .as_deref()
            .and_then(|digest| digest.strip_prefix("sha256:"));
        let several = || manifest.manifests.into_iter().map(|m| m.digest).collect();
        match id {
            Some(id) => Some(Self::One(id.to_owned())),
            None => Some(Self::Several(several())).filter(|m| *m != Self::Several(Vec::new())),
        }
    }
}

/// An index or manifest of the OCI image specification, or docker's schema 2 equivalent.
#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

/// Asks the registry of `reference`.
///
/// # Errors
/// When the registry cannot be reached, refuses, or does not know the tag, in podman's words.
pub async fn in_registry(reference: &str) -> Result<RegistryImage> {
    let output = Helper::new("podman")
        .args(["manifest", "inspect", reference])
        .deadline(DEADLINE)
        .output()
        .await?;
    let text = if output.success {
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        shown_in_error(&output.stderr)
    };
    if let Some(image) = text.as_deref().and_then(RegistryImage::parse) {
        return Ok(image);
    }
    let said = output.stderr.trim();
    let last = said.lines().last().unwrap_or("it says nothing");
    let error = Error::new(format!("podman manifest inspect {reference}: {last}"))
        .hint("is its registry up, and does `podman manifest inspect` reach it from this VM?");
    Err(over_network(error))
}

/// podman 4.3 shows the manifest of a single OCI image only in its error that the manifest is no list
/// (github.com/containers/podman, pkg/domain/infra/abi/manifest.go), quoted as Go does.
fn shown_in_error(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("parsing manifest blob \"")?;
    let (quoted, _) = rest.split_once("\" as a \"")?;
    serde_json::from_str(&format!("\"{quoted}\"")).ok()
}

/// What podman has under `reference`.
pub async fn here(reference: &str) -> Result<LocalImage> {
    let format = "{{.Id}} {{.Digest}} {{range .RepoDigests}}{{.}} {{end}}";
    let shown = Helper::new("podman")
        .args(["image", "inspect", "--format", format, reference])
        .run()
        .await?;
    let shown = String::from_utf8_lossy(&shown);
    let mut words = shown.split_whitespace();
    Ok(LocalImage {
        id: words.next().unwrap_or_default().to_owned(),
        digests: words
            .map(|word| word.rsplit('@').next().unwrap_or(word).to_owned())
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"config":{"digest":"sha256:f13d","mediaType":"application/vnd.oci.image.config.v1+json","size":401},"layers":[],"schemaVersion":2}"#;

    #[test]
    fn one_image_is_known_by_its_id_also_from_an_error() {
        let f13d = RegistryImage::One("f13d".to_owned());
        assert_eq!(
            RegistryImage::parse(ONE),
            Some(RegistryImage::One("f13d".to_owned()))
        );
        let said = format!(
            "Error: parsing manifest blob {ONE:?} as a \"application/vnd.oci.image.manifest.v1+json\": Treating \
             single images as manifest lists is not implemented"
        );
        let shown = shown_in_error(&said).unwrap();
        assert_eq!(RegistryImage::parse(&shown), Some(f13d));
        assert_eq!(
            shown_in_error("Error: pinging container registry: refused"),
            None
        );
    }

    #[test]
    fn one_of_several_is_known_by_its_manifest() {
        let list = r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:a","platform":{"architecture":"amd64","os":"linux"}},{"digest":"sha256:b"}]}"#;
        let list = RegistryImage::parse(list).unwrap();
        let local = |digest: &str| LocalImage {
            id: "f13d".to_owned(),
            digests: vec!["sha256:list".to_owned(), digest.to_owned()],
        };
        assert!(list.is(&local("sha256:b")));
        assert!(!list.is(&local("sha256:c")));
        assert_eq!(RegistryImage::parse("{}"), None);
        assert_eq!(RegistryImage::parse("no JSON"), None);
    }
}
