//! podman's own list of its images, read without podman: a file of the library containers/storage
//! (images.go; storage.conf(5)). This module only tells that an image exists, and its id. Whatever
//! is not certain is left to podman.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

/// The first file that exists counts (types/options.go).
const CONFIGURATION: [&str; 2] = [
    "/etc/containers/storage.conf",
    "/usr/share/containers/storage.conf",
];
/// Where podman keeps images unless told otherwise.
pub const GRAPH_ROOT: &str = "/var/lib/containers/storage";

/// Where images are stored, and which driver keeps their layers.
#[derive(Debug, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
    driver: &'static str,
}

/// The needed fields of `Image` in images.go.
#[derive(Deserialize)]
struct StoredImage {
    id: String,
    names: Option<Vec<String>>,
    layer: Option<String>,
}

/// The needed fields of `Container` in containers.go.
#[derive(Deserialize)]
struct Container {
    names: Option<Vec<String>>,
    image: String,
}

impl Store {
    /// root's store on this guest.
    pub fn of_this_guest() -> Option<Self> {
        if CONFIGURATION
            .iter()
            .any(|file| has_drop_ins(Path::new(file)))
        {
            return None;
        }
        for file in CONFIGURATION {
            match fs::read_to_string(file) {
                Ok(text) => return Self::of(&text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => return None,
            }
        }
        Self::of("")
    }

    fn of(configuration: &str) -> Option<Self> {
        let table = DeTable::parse(configuration).ok()?.into_inner();
        let storage = match table.get("storage") {
            Some(value) => value.get_ref().as_table()?.clone(),
            None => DeTable::new(),
        };
        let text = |key: &str| match storage.get(key).map(|value| value.get_ref()) {
            None => Some(String::new()),
            Some(DeValue::String(text)) => Some(text.to_string()),
            Some(_) => None,
        };
        // Images are stored apart from their layers.
        if !text("imagestore")?.is_empty() {
            return None;
        }
        let root = match text("graphroot")? {
            root if root.is_empty() => PathBuf::from(GRAPH_ROOT),
            root if root.starts_with('/') && !root.contains('$') => PathBuf::from(root),
            _ => return None,
        };
        let driver = match text("driver")?.as_str() {
            "overlay" | "overlay2" => "overlay",
            "vfs" => "vfs",
            "" => only_driver(&root)?,
            _ => return None,
        };
        Some(Self { root, driver })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The id of the image with the name `reference`; `None` if it is not certain that the image exists.
    pub fn image_id(&self, reference: &str) -> Option<String> {
        let list = self.root.join(format!("{}-images", self.driver));
        let images: Vec<StoredImage> =
            serde_json::from_slice(&fs::read(list.join("images.json")).ok()?).ok()?;
        // podman adds `:latest` to a name that has neither a tag nor a digest.
        let name = reference.rsplit('/').next().unwrap_or_default();
        let tagged = if name.contains([':', '@']) {
            reference.to_owned()
        } else {
            format!("{reference}:latest")
        };
        let is_named =
            |image: &&StoredImage| image.names.iter().flatten().any(|name| *name == tagged);
        let mut named = images.iter().filter(is_named);
        let (Some(image), None) = (named.next(), named.next()) else {
            return None;
        };
        // The list alone is no proof: somebody may have removed the files of the image.
        let layer = self
            .layers()
            .join(image.layer.as_deref().filter(|l| is_id(l))?);
        (is_id(&image.id) && list.join(&image.id).is_dir() && layer.is_dir())
            .then(|| image.id.clone())
    }

    /// The id of the image that the container of that name was made from (containers.go). Newer versions
    /// keep a separate list of the containers that do not survive a boot.
    pub fn image_of_container(&self, name: &str) -> Option<String> {
        let list = self.root.join(format!("{}-containers", self.driver));
        ["containers.json", "volatile-containers.json"]
            .iter()
            .filter_map(|file| fs::read(list.join(file)).ok())
            .filter_map(|text| serde_json::from_slice::<Vec<Container>>(&text).ok())
            .flatten()
            .find(|container| container.names.iter().flatten().any(|n| n == name))
            .map(|container| container.image)
    }

    fn layers(&self) -> PathBuf {
        match self.driver {
            "vfs" => self.root.join("vfs/dir"),
            driver => self.root.join(driver),
        }
    }
}

/// Future versions also read files in directories beside storage.conf (`storage.conf.d`). Their
/// order is left to podman.
fn has_drop_ins(configuration: &Path) -> bool {
    let beside = configuration.parent().and_then(|d| fs::read_dir(d).ok());
    beside.into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("storage.") && name.ends_with(".d")
    })
}

/// The one driver that has images in this store.
fn only_driver(root: &Path) -> Option<&'static str> {
    let mut drivers = fs::read_dir(root).ok()?.flatten().filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.strip_suffix("-images").map(str::to_owned)
    });
    match (drivers.next()?.as_str(), drivers.next()) {
        ("overlay", None) => Some("overlay"),
        ("vfs", None) => Some("vfs"),
        _ => None,
    }
}

/// Whether `text` is a lower-case SHA-256, which cannot be a path.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90";
    const LAYER: &str = "00b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f00";

    /// A store as podman 4.3 and 5.4 write it, with this text as its list.
    fn store(driver: &'static str, list: &str) -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store {
            root: root.path().to_owned(),
            driver,
        };
        let images = root.path().join(format!("{driver}-images"));
        fs::create_dir_all(images.join(ID)).unwrap();
        fs::create_dir_all(store.layers().join(LAYER)).unwrap();
        fs::write(images.join("images.json"), list).unwrap();
        (root, store)
    }

    fn list(names: &str) -> String {
        format!(
            r#"[{{"id":"{}","digest":"sha256:0"}},{{"id":"{ID}","digest":"sha256:{ID}","names":[{names}],
               "layer":"{LAYER}","metadata":"{{}}","big-data-names":["manifest"],"created":"2025-01-01T00:00:00Z"}}]"#,
            "f".repeat(64)
        )
    }

    #[test]
    fn an_image_is_known_by_its_whole_name() {
        let names = r#""docker.io/x/nodejs:linux-0.1","docker.io/x/y:latest""#;
        for driver in ["overlay", "vfs"] {
            let (_root, store) = store(driver, &list(names));
            for there in [
                "docker.io/x/nodejs:linux-0.1",
                "docker.io/x/y",
                "docker.io/x/y:latest",
            ] {
                assert_eq!(store.image_id(there).as_deref(), Some(ID), "{there}");
            }
            for absent in [
                "docker.io/x/nodejs",
                "x/nodejs:linux-0.1",
                "",
                "localhost:5000/y",
            ] {
                assert_eq!(store.image_id(absent), None, "{absent}");
            }
        }
    }

    #[test]
    fn a_list_that_does_not_tell_is_no_answer() {
        let reference = "docker.io/x/y:1";
        let good = list(r#""docker.io/x/y:1""#);
        let broken = [
            String::new(),
            "null".to_owned(),
            "{}".to_owned(),
            "[1]".to_owned(),
            good[..good.len() - 1].to_owned(),
            good.replace(LAYER, "../../../etc"),
            good.replace(&format!(r#""id":"{ID}""#), r#""id":"x""#),
            good.replace(r#""layer""#, r#""lair""#),
            // The same name twice.
            format!(
                "{},{}",
                good.trim_end_matches(']'),
                good.trim_start_matches('[')
            ),
        ];
        for text in broken {
            assert_eq!(
                store("overlay", &text).1.image_id(reference),
                None,
                "{text}"
            );
        }
        let (root, store) = store("overlay", &good);
        assert_eq!(store.image_id(reference).as_deref(), Some(ID));
        fs::remove_dir(root.path().join("overlay").join(LAYER)).unwrap();
        assert_eq!(store.image_id(reference), None);
        fs::remove_dir_all(root.path().join("overlay-images")).unwrap();
        assert_eq!(store.image_id(reference), None);
    }

    #[test]
    fn storage_conf_says_where_the_store_is() {
        let at = |root: &str, driver| {
            Some(Store {
                root: root.into(),
                driver,
            })
        };
        let driver = |text: &str| Store::of(&format!("[storage]\n{text}"));
        assert_eq!(driver("driver = \"overlay\""), at(GRAPH_ROOT, "overlay"));
        assert_eq!(
            driver("driver = \"vfs\"\ngraphroot = \"/srv/c\"\n[storage.options]\nx = 1"),
            at("/srv/c", "vfs")
        );
        for unclear in [
            "driver = \"btrfs\"",
            "driver = 1",
            "driver = \"overlay\"\nimagestore = \"/srv/i\"",
            "driver = \"overlay\"\ngraphroot = \"$HOME/c\"",
            "driver = \"overlay",
        ] {
            assert_eq!(driver(unclear), None, "{unclear}");
        }

        // If no driver is named, the driver that the store was made with counts.
        let (root, _) = store("vfs", "[]");
        let text = format!("graphroot = \"{}\"", root.path().display());
        assert_eq!(driver(&text), at(root.path().to_str().unwrap(), "vfs"));
        fs::create_dir(root.path().join("overlay-images")).unwrap();
        assert_eq!(driver(&text), None);
    }
}
