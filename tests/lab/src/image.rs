//! The container image that the guide pulls from a public registry, made here without one: Debian's node, the
//! libraries that it loads and nothing else, in a layer that is not compressed, because a guest under emulation unpacks it
//! slowly. One archive serves both ways in: it is an OCI archive and, by its `manifest.json`, what `docker save` writes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::node;
use crate::release::Release;

/// The image as `was.container.image` of the tier file names it.
pub const NAME: &str = "docker.io/ablecloudteam/nodejs-server:linux-0.1";

/// The image as a registry that stands in for docker.io names it: repository and tag.
pub const NAME_IN_REGISTRY: &str = "ablecloudteam/nodejs-server:linux-0.1";

/// The tag by which the OCI archive's index knows the image.
pub const TAG: &str = "linux-0.1";

/// Debian's release that the image is made of.
const RELEASE: Release = Release::Trixie;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The archive of the image [`NAME`], made on the first call (about half a minute) and kept in the cache. It can be
/// read as `oci-archive:PATH:linux-0.1` and as `docker-archive:PATH`. Needs `mmdebstrap` and the host's Debian mirror.
pub fn container_image(cache: &Cache) -> Result<PathBuf> {
    // The steps are these files, so a change of one makes a new image.
    let recipe = [include_str!("image.rs"), include_str!("node.rs")].concat();
    let artefact = cache.artefact("nodejs-server", &recipe, |into| {
        let work = tempfile::tempdir_in(into)?;
        let root = work.path().join("root");
        node::extract(RELEASE, "nodejs", &root)?;
        let layer = Layer::write(&image_entries(&root)?, &work.path().join("layer.tar"))?;
        write_archive(&into.join("image.tar"), &layer)
    })?;
    Ok(artefact.join("image.tar"))
}

/// The digest (`sha256:…`) of the image's manifest in an archive of [`container_image`].
pub fn manifest_digest(archive: &Path) -> Result<String> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.as_os_str() == "index.json" {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            let index: Value = serde_json::from_str(&text)?;
            let digest = index["manifests"][0]["digest"].as_str();
            return Ok(digest.context("index.json names no manifest")?.to_owned());
        }
    }
    bail!("the archive has no index.json")
}

/// What stands at a path of the image.
#[derive(Debug)]
enum Entry {
    Directory(u32),
    Link(&'static str),
    Text(&'static str),
    Copy(PathBuf, u32),
}

/// Everything in the image, by path.
fn image_entries(root: &Path) -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    for (link, target) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("sbin", "usr/sbin"),
    ] {
        entries.insert(link.to_owned(), Entry::Link(target));
    }
    for directory in [
        "dev",
        "etc",
        "proc",
        "run",
        "sys",
        "usr/src/app",
        "usr/sbin",
        "var/tmp",
    ] {
        entries.insert(directory.to_owned(), Entry::Directory(0o755));
    }
    entries.insert("root".to_owned(), Entry::Directory(0o700));
    for temporary in ["tmp", "var/tmp"] {
        entries.insert(temporary.to_owned(), Entry::Directory(0o1777));
    }
    for (file, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/usr/sbin/nologin\n"),
        ("etc/group", "root:x:0:\n"),
        (
            "etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n",
        ),
    ] {
        entries.insert(file.to_owned(), Entry::Text(text));
    }
    for file in node::files(root)? {
        let name = file.strip_prefix(root)?.to_string_lossy().into_owned();
        let executable = name.starts_with("usr/bin/") || name.contains("/ld-linux");
        let mode = if executable { 0o755 } else { 0o644 };
        let source = file
            .canonicalize()
            .with_context(|| format!("finding {name}"))?;
        ensure!(source.starts_with(root), "{name} leads out of the tree");
        entries.insert(name, Entry::Copy(source, mode));
    }
    let parents: Vec<String> = entries
        .keys()
        .flat_map(|path| Path::new(path).ancestors().skip(1))
        .filter(|parent| !parent.as_os_str().is_empty())
        .map(|parent| parent.to_string_lossy().into_owned())
        .collect();
    for parent in parents {
        entries.entry(parent).or_insert(Entry::Directory(0o755));
    }
    Ok(entries)
}

/// The image's one layer: a tar, whose digest is its name among the blobs and among the layers that a root is made of.
struct Layer {
    file: PathBuf,
    digest: String,
}

impl Layer {
    fn write(entries: &BTreeMap<String, Entry>, file: &Path) -> Result<Self> {
        let mut tar = tar::Builder::new(Hashing::new(File::create(file)?));
        for (path, entry) in entries {
            append(&mut tar, path, entry).with_context(|| format!("packing {path}"))?;
        }
        let (mut out, digest) = tar.into_inner()?.finish();
        out.flush()?;
        Ok(Self {
            file: file.to_owned(),
            digest,
        })
    }
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, entry: &Entry) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    match entry {
        Entry::Directory(mode) => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(*mode);
            header.set_size(0);
            tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
        }
        Entry::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, path, target)?;
        }
        Entry::Text(text) => {
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes())?;
        }
        Entry::Copy(source, mode) => {
            let file = File::open(source)?;
            header.set_mode(*mode);
            header.set_size(file.metadata()?.len());
            tar.append_data(&mut header, path, file)?;
        }
    }
    Ok(())
}

/// The archive: OCI's layout in a tar (image-spec, image-layout.md), and `manifest.json` beside it for
/// `docker-archive:`. The small files come first, so that reading one does not pass the layer.
fn write_archive(archive: &Path, layer: &Layer) -> Result<()> {
    let layer_size = fs::metadata(&layer.file)?.len();
    let config = image_config(&layer.digest).to_string();
    let config_digest = hex(&Sha256::digest(&config));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": { "mediaType": OCI_CONFIG, "digest": format!("sha256:{config_digest}"), "size": config.len() },
        "layers": [{ "mediaType": OCI_LAYER, "digest": format!("sha256:{}", layer.digest), "size": layer_size }],
    })
    .to_string();
    let manifest_digest = hex(&Sha256::digest(&manifest));
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{
            "mediaType": OCI_MANIFEST,
            "digest": format!("sha256:{manifest_digest}"),
            "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": TAG },
        }],
    });
    let docker = json!([{
        "Config": blob(&config_digest),
        "RepoTags": [NAME],
        "Layers": [blob(&layer.digest)],
    }]);

    let mut tar = tar::Builder::new(File::create(archive)?);
    for (path, text) in [
        (
            "oci-layout".to_owned(),
            json!({ "imageLayoutVersion": "1.0.0" }).to_string(),
        ),
        ("index.json".to_owned(), index.to_string()),
        ("manifest.json".to_owned(), docker.to_string()),
        (blob(&config_digest), config),
        (blob(&manifest_digest), manifest),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, path, text.as_bytes())?;
    }
    append(
        &mut tar,
        &blob(&layer.digest),
        &Entry::Copy(layer.file.clone(), 0o644),
    )?;
    tar.into_inner()?.flush()?;
    Ok(())
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn image_config(layer: &str) -> Value {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    json!({
        "created": "2024-01-01T00:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/bin"],
            "Cmd": ["node", "server.js"],
            "WorkingDir": "/usr/src/app",
            "ExposedPorts": { "3000/tcp": {} },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        "history": [{ "created": "2024-01-01T00:00:00Z", "comment": "node and the libraries that it loads" }],
    })
}

/// A writer that knows the SHA-256 of what went through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        let hash = Sha256::new();
        Self { inner, hash }
    }

    fn finish(self) -> (W, String) {
        (self.inner, hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(data)?;
        self.hash.update(&data[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Bytes in lower-case hexadecimal, as digests are written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_names_its_layer_in_both_ways() {
        let work = tempfile::tempdir().unwrap();
        let mut entries = BTreeMap::new();
        entries.insert("etc".to_owned(), Entry::Directory(0o755));
        entries.insert("etc/passwd".to_owned(), Entry::Text("root\n"));
        entries.insert("bin".to_owned(), Entry::Link("usr/bin"));
        let layer = Layer::write(&entries, &work.path().join("layer")).unwrap();
        let packed = fs::read(&layer.file).unwrap();
        assert_eq!(hex(&Sha256::digest(&packed)), layer.digest);
        let archive = work.path().join("image.tar");
        write_archive(&archive, &layer).unwrap();
        let mut names = Vec::new();
        for entry in tar::Archive::new(File::open(&archive).unwrap())
            .entries()
            .unwrap()
        {
            names.push(
                entry
                    .unwrap()
                    .path()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
        let digest = manifest_digest(&archive).unwrap();
        assert!(names.contains(&blob(digest.trim_start_matches("sha256:"))));
        assert!(names.contains(&blob(&layer.digest)));
    }
}
