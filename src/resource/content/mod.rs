//! The application's files on the share: one revision of a git repository, or a sub-directory of
//! it. What the application or an operator added stays; a deployed file that somebody changed is
//! reported and kept.
//!
//! A manifest remembers what was deployed, so that a file can be told from one that was changed,
//! and so that a run without a change need not read the files. New files are written and synced
//! beside their places and renamed into them; the manifest comes last, so that an interrupted run
//! is taken up by the next one: a file is then either of the old or of the new revision, and both
//! are known.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::data_disk::{self, DataDisk};
use crate::config;
use crate::engine::effect::Effect;
use crate::engine::record::STATE_DIRECTORY;
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Doing, Error, Result};
use crate::host::account;
use crate::host::fs::{FileMeta, make_directory, read_regular, write_own};
use crate::host::git::{Revision, Source, TreeEntry};
use crate::host::{Host, Permit, blocking};

const MANIFEST: &str = "content.json";
const MAX_MANIFEST: u64 = 256 << 20;

/// Where new files are written before they take their places: on the same file system.
const STAGING: &str = ".wasagent-staging";

const FILE_MODE: u32 = 0o660;
const EXECUTABLE_MODE: u32 = 0o770;
const DIRECTORY_MODE: u32 = 0o2770;

/// A revision's files in a directory.
#[derive(Debug, Clone)]
pub struct Content {
    pub path: PathBuf,
    /// The disk that it will be on.
    pub disk: Option<DataDisk>,
    pub source: config::Content,
    /// The account that owns the files.
    pub owner: String,
}

/// What was deployed: written when all of it is in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    path: PathBuf,
    commit: String,
    subdir: Option<PathBuf>,
    files: BTreeMap<PathBuf, Deployed>,
}

/// A file as it was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Deployed {
    /// git's name of its bytes.
    blob: String,
    size: u64,
    /// Of the last look at it, in nanoseconds since 1970: a file with this size and time is
    /// believed to be unchanged, as git's own index does.
    modified: i128,
}

#[derive(Debug)]
pub struct Observed {
    commit: String,
    manifest: Option<Manifest>,
    missing: Vec<PathBuf>,
    changed: Vec<PathBuf>,
}

impl Content {
    fn git_source(&self) -> Source {
        Source {
            git: self.source.git.clone(),
            rev: self.source.rev.clone(),
        }
    }
}

impl Content {
    /// The revision's objects: read in place from a repository on this VM, fetched from any other.
    async fn obtain(&self, step: &Step, commit: &str) -> Result<Revision> {
        let source = self.git_source();
        if let Some(revision) = source.in_place(commit) {
            return Ok(revision);
        }
        let effect = Effect::FetchContent {
            commit: commit.to_owned(),
        };
        step.effect(effect, |permit| async move {
            source
                .fetch(&permit, commit, &|amount| step.progress(amount))
                .await
        })
        .await
    }
}

impl Resource for Content {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Content, self.path.display())
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![Requirement::Program("git")]
    }

    async fn observe(&self, _host: &Host) -> Result<Observed> {
        let path = self.path.clone();
        let subdir = self.source.subdir.clone();
        let manifest =
            blocking(move || Ok(read_manifest()?.filter(|m| m.path == path && m.subdir == subdir)))
                .await?;
        let deployed = manifest.as_ref().map(|m| m.commit.as_str());
        let commit = self.git_source().resolve(deployed).await?;
        let path = self.path.clone();
        let disk = self.disk.clone();
        blocking(move || {
            let mut observed = Observed {
                commit,
                manifest,
                missing: Vec::new(),
                changed: Vec::new(),
            };
            let Some(manifest) = &observed.manifest else {
                return Ok(observed);
            };
            let place = data_disk::find(&path, disk.as_ref())?;
            let root = place.path();
            for (relative, deployed) in &manifest.files {
                let look = match &root {
                    Some(root) => look_at(&root.join(relative), deployed)?,
                    None => Look::Missing,
                };
                match look {
                    Look::AsDeployed => {}
                    Look::Missing => observed.missing.push(relative.clone()),
                    Look::Changed => observed.changed.push(relative.clone()),
                }
            }
            Ok(observed)
        })
        .await
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        if !self.source.build.is_empty() || !self.source.edit.is_empty() {
            return Err(Error::new(
                "storage.content.build and storage.content.edit are not carried out by this version",
            )
            .hint("leave both out, and keep the built and edited application in the repository"));
        }
        let deployed = observed.manifest.as_ref();
        let mut diff = match deployed {
            None => Diff::create("no revision is deployed"),
            Some(manifest) if manifest.commit != observed.commit => {
                Diff::update("the tier file's revision is another one by now")
            }
            Some(_) => Diff::update("files of the revision are missing"),
        };
        diff.field(
            "revision",
            deployed.map(|manifest| manifest.commit.clone()),
            observed.commit.clone(),
        );
        for path in &observed.missing {
            diff.field(&path.display().to_string(), Some("missing"), "deployed");
        }
        for path in &observed.changed {
            diff.notes.push(format!(
                "{} was changed by somebody and is kept as it is",
                path.display()
            ));
        }
        Ok(diff)
    }

    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        let path = self.path.display();
        let git = &self.source.git;
        let clone = git.trim_end_matches('/').rsplit('/').next().unwrap_or(git);
        let clone = clone.trim_end_matches(".git");
        let moved = match &self.source.subdir {
            Some(subdir) => format!("{clone}/{}", subdir.display()),
            None => clone.to_owned(),
        };
        let mut commands = vec![
            (7, format!("cd {path}")),
            (7, format!("git clone {git}")),
            (7, format!("mv {moved}/* .")),
            (7, format!("rm -rf {clone}")),
        ];
        let edited = self.source.edit.iter().flat_map(|edit| &edit.files);
        commands.extend(edited.map(|file| (8, format!("vi {}", file.display()))));
        if !self.source.build.is_empty() {
            commands.push((9, self.source.build.join(" ")));
        }
        let steps = commands.into_iter();
        steps
            .map(|(step, command)| GuideStep::new(step, command))
            .collect()
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        let owner = account::look_up(&self.owner)
            .await?
            .ok_or_else(|| Error::new(format!("the account {} is missing", self.owner)))?;
        let revision = self.obtain(step, &observed.commit).await?;
        let entries = revision.files(self.source.subdir.as_deref()).await?;

        let deployment = Deployment {
            root: self.path.clone(),
            uid: owner.uid,
            gid: owner.gid,
            before: observed
                .manifest
                .as_ref()
                .map(|manifest| manifest.files.clone())
                .unwrap_or_default(),
        };
        let (deployment, entries, wanted) = blocking(move || {
            let wanted = deployment.files_to_write(&entries)?;
            Ok((deployment, entries, wanted))
        })
        .await?;
        let names: Vec<&str> = wanted.iter().map(|e| e.blob.as_str()).collect();
        let blobs = revision.blobs(&names).await?;

        let effect = Effect::DeployContent {
            path: self.path.clone(),
            commit: observed.commit.clone(),
        };
        let commit = observed.commit.clone();
        let subdir = self.source.subdir.clone();
        let path = self.path.clone();
        step.effect(effect, |permit| {
            blocking(move || {
                deployment.write(&permit, &wanted, &blobs)?;
                permit.during()?;
                deployment.remove_what_is_gone(&entries)?;
                write_manifest(&Manifest {
                    files: deployment.files_now(&entries)?,
                    path,
                    commit,
                    subdir,
                })
            })
        })
        .await
    }
}

/// One run of bringing a revision into place.
struct Deployment {
    root: PathBuf,
    uid: u32,
    gid: u32,
    /// What the last revision deployed.
    before: BTreeMap<PathBuf, Deployed>,
}

impl Deployment {
    /// The entries whose files are absent, or are exactly what was deployed before and are
    /// something else now. A file that somebody wrote or changed is not among them.
    fn files_to_write(&self, entries: &[TreeEntry]) -> Result<Vec<TreeEntry>> {
        let mut wanted = Vec::new();
        for entry in entries {
            let path = self.root.join(&entry.path);
            let write = match (blob_of(&path)?, self.before.get(&entry.path)) {
                (None, _) => true,
                (Some(there), _) if there == entry.blob => false,
                (Some(there), Some(before)) => there == before.blob,
                (Some(_), None) => false,
            };
            if write {
                wanted.push(entry.clone());
            }
        }
        Ok(wanted)
    }

    /// Writes all files beside their places, syncs once, then renames each: what carries a final
    /// name is whole, also after a power cut.
    fn write(&self, permit: &Permit, entries: &[TreeEntry], blobs: &[Vec<u8>]) -> Result<()> {
        let staging = self.root.join(STAGING);
        let doing = || format!("write below {}", self.root.display());
        remove_staging(&staging)?;
        if entries.is_empty() {
            return Ok(());
        }
        make_directory(permit, &staging, FileMeta::root(0o700))?;
        for (index, (entry, blob)) in entries.iter().zip(blobs).enumerate() {
            let mode = if entry.executable {
                EXECUTABLE_MODE
            } else {
                FILE_MODE
            };
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(staging.join(index.to_string()))
                .doing(doing())?;
            file.write_all(blob).doing(doing())?;
            std::os::unix::fs::fchown(&file, Some(self.uid), Some(self.gid)).doing(doing())?;
            file.set_permissions(fs::Permissions::from_mode(mode))
                .doing(doing())?;
        }
        rustix::fs::syncfs(fs::File::open(&staging).doing(doing())?).doing(doing())?;
        for (index, entry) in entries.iter().enumerate() {
            let path = self.root.join(&entry.path);
            self.make_parents(permit, &entry.path)?;
            fs::rename(staging.join(index.to_string()), &path)
                .doing(format_args!("put {} in place", path.display()))?;
        }
        remove_staging(&staging)?;
        // Before the manifest tells that all is in place: nothing looks for leftovers after that.
        rustix::fs::syncfs(fs::File::open(&self.root).doing(doing())?).doing(doing())
    }

    /// Makes the directories above a file. One that is a symbolic link is an error: root would
    /// write wherever it leads.
    fn make_parents(&self, permit: &Permit, relative: &Path) -> Result<()> {
        let mut directory = self.root.clone();
        let Some(parents) = relative.parent() else {
            return Ok(());
        };
        for component in parents.components() {
            directory.push(component);
            match fs::symlink_metadata(&directory) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => {
                    return Err(Error::new(format!(
                        "{} stands where the revision has a directory",
                        directory.display()
                    ))
                    .hint("move it away and apply again"));
                }
                Err(_) => {
                    let meta = FileMeta {
                        mode: DIRECTORY_MODE,
                        uid: self.uid,
                        gid: self.gid,
                    };
                    make_directory(permit, &directory, meta)?;
                }
            }
        }
        Ok(())
    }

    /// Removes files that the last revision deployed and this one does not have, unless somebody
    /// changed them, and directories that are empty for it.
    fn remove_what_is_gone(&self, entries: &[TreeEntry]) -> Result<()> {
        let kept: std::collections::HashSet<&Path> =
            entries.iter().map(|entry| entry.path.as_path()).collect();
        for (relative, before) in &self.before {
            let path = self.root.join(relative);
            if kept.contains(relative.as_path()) || blob_of(&path)?.as_ref() != Some(&before.blob) {
                continue;
            }
            fs::remove_file(&path).doing(format_args!("remove {}", path.display()))?;
            for parent in relative.ancestors().skip(1) {
                // The first one that is not empty ends it; the root itself is never removed.
                if parent.as_os_str().is_empty() || fs::remove_dir(self.root.join(parent)).is_err()
                {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The manifest's entries: every file of the revision that is in place as the revision has
    /// it, and, for one that was kept though it differs, the revision's blob, so that it goes on
    /// counting as changed.
    fn files_now(&self, entries: &[TreeEntry]) -> Result<BTreeMap<PathBuf, Deployed>> {
        let mut files = BTreeMap::new();
        for entry in entries {
            let path = self.root.join(&entry.path);
            let as_deployed = blob_of(&path)?.as_ref() == Some(&entry.blob);
            let metadata =
                fs::symlink_metadata(&path).doing(format_args!("look at {}", path.display()))?;
            files.insert(
                entry.path.clone(),
                Deployed {
                    blob: entry.blob.clone(),
                    size: metadata.size(),
                    modified: if as_deployed { modified(&metadata) } else { 0 },
                },
            );
        }
        Ok(files)
    }
}

enum Look {
    AsDeployed,
    Missing,
    Changed,
}

fn look_at(path: &Path, deployed: &Deployed) -> Result<Look> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(Look::Missing);
    };
    if metadata.size() == deployed.size && modified(&metadata) == deployed.modified {
        return Ok(Look::AsDeployed);
    }
    Ok(match blob_of(path)? {
        Some(blob) if blob == deployed.blob => Look::AsDeployed,
        _ => Look::Changed,
    })
}

fn modified(metadata: &fs::Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

/// git's name of a file's bytes; `None` where there is no file. Anything but a regular file has
/// a name that no blob has.
fn blob_of(path: &Path) -> Result<Option<String>> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(None);
    };
    if !metadata.is_file() {
        return Ok(Some(String::new()));
    }
    let bytes = fs::read(path).doing(format_args!("read {}", path.display()))?;
    Ok(Some(blob_name(&bytes)))
}

/// gitformat-pack(5): an object's name is the SHA-1 of `blob`, a blank, its size, NUL, its bytes.
fn blob_name(bytes: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Removes what a deployment that was cut off left below the shared directory.
pub fn remove_what_is_staged(shared: &Path) -> Result<()> {
    remove_staging(&shared.join(STAGING))
}

fn remove_staging(staging: &Path) -> Result<()> {
    match fs::remove_dir_all(staging) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(format_args!("remove {}", staging.display()))
        }
        _ => Ok(()),
    }
}

fn read_manifest() -> Result<Option<Manifest>> {
    let path = Path::new(STATE_DIRECTORY).join(MANIFEST);
    let Some(file) = read_regular(&path, MAX_MANIFEST)? else {
        return Ok(None);
    };
    serde_json::from_slice(&file.contents)
        .map(Some)
        .doing(format_args!("read {}", path.display()))
}

fn write_manifest(manifest: &Manifest) -> Result<()> {
    let text = serde_json::to_vec(manifest).doing("write the manifest of the content")?;
    write_own(&Path::new(STATE_DIRECTORY).join(MANIFEST), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_named_as_git_names_it() {
        // `printf 'hello\n' | git hash-object --stdin`
        assert_eq!(
            blob_name(b"hello\n"),
            "ce013625030ba8dba906f756967f9e9ca394464a"
        );
    }

    fn deployment(root: &Path) -> Deployment {
        let metadata = fs::metadata(root).unwrap();
        Deployment {
            root: root.to_owned(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            before: BTreeMap::new(),
        }
    }

    fn entry(path: &str, bytes: &[u8]) -> TreeEntry {
        TreeEntry {
            path: path.into(),
            blob: blob_name(bytes),
            executable: false,
        }
    }

    #[test]
    fn uploads_and_changed_files_survive_a_new_revision() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let mut deployment = deployment(root.path());
        let first = [
            entry("a", b"1"),
            entry("dir/b", b"1"),
            entry("gone/c", b"1"),
        ];
        deployment
            .write(
                &Permit::for_a_test(),
                &first,
                &[b"1".to_vec(), b"1".to_vec(), b"1".to_vec()],
            )
            .unwrap();
        deployment.before = deployment.files_now(&first).unwrap();

        fs::write(at("dir/b"), "by hand").unwrap();
        fs::write(at("upload"), "a user's").unwrap();
        let second = [
            entry("a", b"2"),
            entry("dir/b", b"2"),
            entry("upload", b"2"),
        ];
        let wanted = deployment.files_to_write(&second).unwrap();
        assert_eq!(wanted, [entry("a", b"2")]);
        deployment
            .write(&Permit::for_a_test(), &wanted, &[b"2".to_vec()])
            .unwrap();
        deployment.remove_what_is_gone(&second).unwrap();

        assert_eq!(fs::read(at("a")).unwrap(), b"2");
        assert_eq!(fs::read(at("dir/b")).unwrap(), b"by hand");
        assert_eq!(fs::read(at("upload")).unwrap(), b"a user's");
        assert!(!at("gone").exists() && !at(STAGING).exists());
        let now = deployment.files_now(&second).unwrap();
        assert!(matches!(
            look_at(&at("dir/b"), &now[Path::new("dir/b")]),
            Ok(Look::Changed)
        ));
        assert!(matches!(
            look_at(&at("a"), &now[Path::new("a")]),
            Ok(Look::AsDeployed)
        ));
    }
}
