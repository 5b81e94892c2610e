//! Which image an archive holds (`podman save --format docker-archive`, `docker save`), read without podman
//! and without unpacking a layer. `manifest.json` names the image's configuration by its SHA-256, which is
//! also podman's id of the image (github.com/moby/moby, image/spec).

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// Limit of `manifest.json`. With one image it is never longer.
const LONGEST_LIST: u64 = 1 << 20;

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Config")]
    config: String,
}

/// The id of the one image in the archive.
///
/// # Errors
/// When the file cannot be read to its end, is no image archive, or holds more than one image.
pub fn image_id(archive: &Path) -> Result<String> {
    let wrong = |what: String| {
        Error::new(format!("{}: {what}", archive.display())).hint(
            "make it anew (podman save --format docker-archive --output FILE IMAGE) and copy it whole: compare \
             sha256sum on both sides",
        )
    };
    let open = OpenOptions::new()
        .read(true)
        // A FIFO without a writer would never open.
        .custom_flags(libc::O_NONBLOCK)
        .open(archive);
    let mut file = open.map_err(|error| wrong(format!("open: {error}")))?;
    let metadata = file.metadata();
    let metadata = metadata.map_err(|error| wrong(format!("open: {error}")))?;
    if !metadata.is_file() {
        return Err(no_file(archive, metadata.is_dir()));
    }
    if let Some((packer, unpack)) = packed(&mut file) {
        let path = archive.display();
        return Err(
            Error::new(format!("{path}: it is packed by {packer}")).hint(format!(
                "unpack it, and name what comes of it: {unpack} {path}"
            )),
        );
    }
    let length = metadata.len();
    let mut tar = tar::Archive::new(BufReader::new(file));
    let entries = tar.entries_with_seek();
    let (mut list, mut is_oci) = (None, false);
    let mut end = 0;
    for entry in entries.map_err(|error| wrong(error.to_string()))? {
        let entry = entry.map_err(|error| wrong(format!("the archive is damaged: {error}")))?;
        end = entry.raw_file_position() + entry.size();
        if end > length {
            return Err(wrong(format!(
                "the archive is cut off: {length} bytes, and at least {end} belong to it"
            )));
        }
        is_oci |= entry.path_bytes().as_ref() == b"oci-layout";
        if entry.path_bytes().as_ref() == b"manifest.json" {
            let mut text = Vec::new();
            let read = entry.take(LONGEST_LIST).read_to_end(&mut text);
            read.map_err(|error| wrong(format!("the archive is damaged: {error}")))?;
            list = Some(text);
        }
    }
    let Some(list) = list else {
        if is_oci {
            return Err(wrong("an OCI archive, and none of docker's".to_owned()));
        }
        return Err(wrong(if end == 0 {
            "no archive of an image".to_owned()
        } else {
            "the archive is cut off, or none of docker's: it has no manifest.json".to_owned()
        }));
    };
    let images: Vec<Listed> =
        serde_json::from_slice(&list).map_err(|error| wrong(format!("manifest.json: {error}")))?;
    let [image] = &images[..] else {
        return Err(wrong(format!("it holds {} images", images.len())));
    };
    // `ID.json`, or `blobs/sha256/ID` since docker 25.
    let name = image.config.rsplit('/').next().unwrap_or_default();
    Ok(name.trim_end_matches(".json").to_owned())
}

/// The error for a path that is no regular file. An image is also kept as a directory
/// (`podman save --format docker-dir`).
fn no_file(path: &Path, is_directory: bool) -> Error {
    let name = path.display();
    let found = if is_directory {
        "a directory"
    } else {
        "a device, a FIFO or a socket"
    };
    let error = Error::new(format!(
        "{name} is {found}, and docker-archive: takes a file"
    ));
    let mut inside = std::fs::read_dir(path).into_iter().flatten().flatten();
    let tar = inside.find(|entry| entry.path().extension().is_some_and(|end| end == "tar"));
    error.hint(match tar {
        Some(tar) => format!(
            "if that is meant, write image = \"docker-archive:{}\"",
            tar.path().display()
        ),
        None => "name the file that podman save --format docker-archive --output FILE IMAGE wrote"
            .to_owned(),
    })
}

/// The program that packed the file, and the command that unpacks it, by the file's first bytes.
fn packed(file: &mut File) -> Option<(&'static str, &'static str)> {
    let mut begin = [0; 6];
    let read = file.read_exact(&mut begin);
    file.rewind().ok()?;
    read.ok()?;
    match begin {
        [0x1f, 0x8b, ..] => Some(("gzip", "gunzip")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(("zstd", "unzstd")),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some(("xz", "unxz")),
        [b'B', b'Z', b'h', ..] => Some(("bzip2", "bunzip2")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder
                .append_data(&mut header, name, text.as_bytes())
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        image_id(file.path())
    }

    const LAYER: (&str, &str) = (
        "layer.tar",
        "a layer that is longer than one block of a tar file, as all are, so that a cut within it can be told from one between two files; it goes on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on and on.....",
    );

    #[test]
    fn the_id_is_the_configurations() {
        for config in ["f13d.json", "blobs/sha256/f13d"] {
            let list =
                format!(r#"[{{"Config":"{config}","RepoTags":null,"Layers":["layer.tar"]}}]"#);
            assert_eq!(
                read(&archive(&[LAYER, ("manifest.json", &list)])).unwrap(),
                "f13d"
            );
        }
    }

    #[test]
    fn what_is_no_archive_of_docker_is_told_with_the_way_out() {
        let gzip = [&[0x1f, 0x8b, 8, 0][..], &[0; 600]].concat();
        let oci = archive(&[("oci-layout", "{}"), ("index.json", "{}")]);
        for (bytes, said, way_out) in [
            (gzip, "packed by gzip", "gunzip /"),
            (oci, "an OCI archive", "--format docker-archive"),
        ] {
            let error = read(&bytes).unwrap_err();
            assert!(error.message.contains(said), "{error}");
            assert!(error.hint.unwrap().contains(way_out), "{said}");
        }
        let directory = tempfile::tempdir().unwrap();
        let error = image_id(directory.path()).unwrap_err();
        assert!(error.message.contains("is a directory"), "{error}");
        assert!(error.hint.unwrap().contains("podman save"));
        std::fs::write(directory.path().join("image.tar"), "").unwrap();
        let hint = image_id(directory.path()).unwrap_err().hint.unwrap();
        assert!(hint.contains("/image.tar\""), "{hint}");
        let error = image_id(Path::new("/dev/null")).unwrap_err();
        assert!(error.message.contains("takes a file"), "{error}");
    }

    #[test]
    fn an_archive_that_is_cut_off_anywhere_is_refused() {
        let whole = archive(&[LAYER, ("manifest.json", r#"[{"Config":"f13d.json"}]"#)]);
        // Two blocks of zeros end an archive; the reader does not need them.
        let needed = whole.len() - 2 * 512 - 512 + r#"[{"Config":"f13d.json"}]"#.len();
        for length in (0..needed).step_by(64) {
            let error = read(&whole[..length]).unwrap_err();
            assert!(error.hint.unwrap().contains("copy it whole"), "{length}");
        }
        assert!(read(&whole[..needed]).is_ok());
        assert!(read(b"no archive at all").is_err());
    }
}
