//! Which image an archive holds (`podman save --format docker-archive`, `docker save`), read without podman
//! and without unpacking a layer. `manifest.json` names the image's configuration by its SHA-256, which is
//! also podman's id of the image (github.com/moby/moby, image/spec).

use std::fs::File;
use std::io::{BufReader, Read};
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
    let file = File::open(archive).map_err(|error| wrong(format!("open: {error}")))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut tar = tar::Archive::new(BufReader::new(file));
    let entries = tar.entries_with_seek();
    let mut list = None;
    let mut end = 0;
    for entry in entries.map_err(|error| wrong(error.to_string()))? {
        let entry = entry.map_err(|error| wrong(format!("the archive is damaged: {error}")))?;
        end = entry.raw_file_position() + entry.size();
        if end > length {
            return Err(wrong(format!(
                "the archive is cut off: {length} bytes, and at least {end} belong to it"
            )));
        }
        if entry.path_bytes().as_ref() == b"manifest.json" {
            let mut text = Vec::new();
            let read = entry.take(LONGEST_LIST).read_to_end(&mut text);
            read.map_err(|error| wrong(format!("the archive is damaged: {error}")))?;
            list = Some(text);
        }
    }
    let Some(list) = list else {
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
