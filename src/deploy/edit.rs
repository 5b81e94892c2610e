//! Puts settings of the tier file into the application's own files. The files then hold a password,
//! so nobody but the share's account may read them, and neither plan nor record shows them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::manifest::{Edits, Manifest};
use crate::config::{Database, Edit, Secret, template};
use crate::error::{Error, Result};
use crate::host::Permit;
use crate::host::fs::FileMeta;
use crate::host::sha256::Sha256;
use crate::host::tree::{Dir, FileType};
use crate::javascript;

/// No source file that people write is larger.
const MAX_SIZE: u64 = 16 << 20;

/// One edit with its values.
#[derive(Debug, Clone)]
pub struct Filled {
    files: Vec<PathBuf>,
    object: String,
    set: BTreeMap<String, Secret>,
}

/// Fills the tier file's edits in.
pub fn fill(edits: &[Edit], database: Option<&Database>) -> Vec<Filled> {
    let value = |name: &str| -> Option<Cow<'_, str>> {
        let database = database?;
        Some(match name {
            "database.host" => Cow::Borrowed(&database.host),
            "database.port" => Cow::Owned(database.port.to_string()),
            "database.user" => Cow::Borrowed(&database.user),
            template::DATABASE_PASSWORD => Cow::Borrowed(database.password.as_ref()?.expose()),
            "database.name" => Cow::Borrowed(&database.name),
            _ => return None,
        })
    };
    let filled = edits.iter().map(|edit| Filled {
        files: edit.files.clone(),
        object: edit.object.clone(),
        set: edit
            .set
            .iter()
            .map(|(name, text)| (name.clone(), Secret::new(template::fill(text, value))))
            .collect(),
    });
    filled.collect()
}

/// The files that are edited.
pub fn files(edits: &[Filled]) -> impl Iterator<Item = &Path> {
    let files = edits.iter().flat_map(|edit| &edit.files);
    files.map(PathBuf::as_path)
}

/// Equal edits have equal digests.
fn digest(edits: &[Filled], salt: &str) -> Sha256 {
    let mut text = zeroize::Zeroizing::new(salt.to_owned());
    let mut add = |part: &str| {
        // The lengths keep two parts from being read as two others.
        text.push_str(&format!("{}:", part.len()));
        text.push_str(part);
    };
    for edit in edits {
        add(&edit.files.len().to_string());
        for file in &edit.files {
            add(&file.to_string_lossy());
        }
        add(&edit.object);
        add(&edit.set.len().to_string());
        for (name, value) in &edit.set {
            add(name);
            add(value.expose());
        }
    }
    Sha256::of(text.as_bytes())
}

/// Whether the deployed revision has these edits.
pub fn is_deployed(edits: &[Filled], manifest: &Manifest) -> bool {
    match &manifest.edits {
        Some(deployed) => digest(edits, &deployed.salt) == deployed.digest,
        None => edits.is_empty(),
    }
}

/// Edits files of a tree that is the agent's alone. Returns what the manifest keeps of the edits,
/// or `None` if there are none.
pub fn apply(
    permit: &Permit,
    root: &Dir,
    edits: &[Filled],
    known: &[PathBuf],
    salt: String,
) -> Result<Option<Edits>> {
    let mut texts = BTreeMap::new();
    for edit in edits {
        for file in &edit.files {
            let missing = || javascript::missing_file(file, known.iter().map(PathBuf::as_path));
            let found = root.look(file)?.ok_or_else(missing)?;
            if found.file_type != FileType::File || found.size > MAX_SIZE {
                return Err(Error::new(format!(
                    "{}: not a source file that can be edited",
                    file.display()
                ))
                .hint("correct `files` of [[storage.content.edit]]"));
            }
            // Each edit works on the result of the edits before it.
            let source = zeroize::Zeroizing::new(root.read(file, found.size)?.ok_or_else(missing)?);
            let name = file.to_string_lossy();
            let edited = javascript::set_properties(&name, &source, &edit.object, &edit.set)?;
            let (parent, name) = (file.parent(), file.file_name());
            let (Some(parent), Some(name)) = (parent, name) else {
                return Err(missing());
            };
            let directory = root.directory(parent)?.ok_or_else(missing)?;
            let meta = FileMeta {
                mode: found.meta.mode & 0o700,
                ..found.meta
            };
            replace(permit, &directory, name, &edited, meta)?;
            let text = || String::from_utf8_lossy(&source).into_owned();
            texts.entry(file.clone()).or_insert_with(text);
        }
    }
    Ok((!edits.is_empty()).then(|| Edits {
        digest: digest(edits, &salt),
        salt,
        files: texts,
    }))
}

fn replace(
    permit: &Permit,
    directory: &Dir,
    name: &OsStr,
    contents: &[u8],
    meta: FileMeta,
) -> Result<()> {
    let mut temporary = OsString::from(".wasagent-");
    temporary.push(name);
    directory.make_file(permit, &temporary, contents, meta)?;
    let flags = rustix::fs::RenameFlags::empty();
    directory
        .rename(permit, &temporary, directory, name, flags)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(password: &str) -> Vec<Filled> {
        let edit = Edit {
            files: vec!["a.js".into()],
            object: "mysql.createPool".to_owned(),
            set: BTreeMap::from([
                ("password".to_owned(), "{database.password}".to_owned()),
                ("port".to_owned(), "{database.port}".to_owned()),
            ]),
        };
        let database = Database {
            host: "db".to_owned(),
            port: 3307,
            user: "root".to_owned(),
            password: Some(Secret::new(password.to_owned())),
            name: "x".to_owned(),
        };
        fill(&[edit], Some(&database))
    }

    #[test]
    fn a_file_is_edited_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.js");
        std::fs::write(&path, "mysql.createPool({password: '', port: '1'})\n").unwrap();
        let dir = Dir::open(root.path()).unwrap().unwrap();
        let permit = Permit::for_a_test();
        let salt = || "salt".to_owned();
        let kept = apply(&permit, &dir, &edits("it's"), &[], salt()).unwrap();
        let kept = kept.unwrap().files;
        assert!(kept[Path::new("a.js")].contains("password: ''"), "{kept:?}");
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "mysql.createPool({password: 'it\\'s', port: '3307'})\n"
        );
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        assert_eq!(dir.names().unwrap(), ["a.js"]);

        std::fs::rename(&path, root.path().join("b.js")).unwrap();
        let known = [PathBuf::from("b.js")];
        let missing = apply(&permit, &dir, &edits("x"), &known, salt()).unwrap_err();
        assert!(missing.message.contains("b.js"), "{missing}");
    }

    #[test]
    fn another_password_is_another_edit() {
        let manifest = Manifest {
            edits: Some(Edits {
                salt: "salt".to_owned(),
                digest: digest(&edits("one"), "salt"),
                files: BTreeMap::new(),
            }),
            ..Manifest::default()
        };
        assert!(is_deployed(&edits("one"), &manifest));
        assert!(!is_deployed(&edits("two"), &manifest));
        assert!(!is_deployed(&[], &manifest));
        assert!(is_deployed(&[], &Manifest::default()));
        assert!(!is_deployed(&edits("one"), &Manifest::default()));
        let kept = serde_json::to_string(&manifest).unwrap();
        assert!(!kept.contains("one"));
    }
}
