//! The application's files on the share: one revision of a git repository, or a sub-directory of it,
//! built and edited as the tier file says. What the application or an operator added stays; a deployed
//! file that somebody changed is reported and kept.
//!
//! A revision is put together beside the shared directory and takes its place by one exchange of the
//! two. Before the exchange nothing is visible; after it nothing is missing. The agent writes to the
//! disk what it is about to do, so that the next run finishes a run that was cut off at any moment.
//!
//! The file is long because it has all parts of a resource, as each file here has. What they do to the disk is in
//! [`crate::deploy`].

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;

use super::data_disk::{self, DataDisk, PathOnDisk};
use crate::config::{self, Database};
use crate::deploy::edit::{self, Filled};
use crate::deploy::manifest::{self, Intent, Look, Manifest};
use crate::deploy::staging::{self, HOME, NEW, Staging};
use crate::deploy::switch::{self, Names};
use crate::deploy::{beside, build, carriable};
use crate::effect::content::{self, OnContent, Trees};
use crate::engine::{
    Address, Diff, Disturbance, Field, GuideStep, Kind, Requirement, Resource, Step,
};
use crate::error::{Doing, Error, Result};
use crate::host::account::{self, Account};
use crate::host::fs::FileMeta;
use crate::host::git::{Revision, Source, TreeEntry};
use crate::host::start_lock::{self, NoStart};
use crate::host::tree::Dir;
use crate::host::{Host, Permit, blocking};

/// The size up to which, and the number of files for which, a change by hand is compared line by line.
const MOST_COMPARED: u64 = 256 << 10;
const MOST_COMPARISONS: usize = 20;

/// A revision's files in a directory.
#[derive(Debug, Clone)]
pub struct Content {
    pub path: PathBuf,
    /// The disk that the directory will be on.
    pub disk: Option<DataDisk>,
    pub source: config::Content,
    /// Where the values of edits come from.
    pub database: Option<Database>,
    /// The account that owns the files.
    pub owner: String,
}

#[derive(Debug)]
pub struct Observed {
    commit: String,
    manifest: Option<Arc<Manifest>>,
    /// The edits are those of the tier file.
    edited: bool,
    missing: Vec<PathBuf>,
    changed: Vec<Changed>,
    /// A change of revision left something to do.
    unfinished: bool,
    /// Why a revision cannot take its place at once.
    obstacle: Option<Error>,
    /// Why the build cannot start.
    no_build: Option<Error>,
    /// Why the share cannot carry the revision.
    uncarriable: Option<Error>,
}

/// A deployed file that somebody changed.
#[derive(Debug)]
struct Changed {
    path: PathBuf,
    /// The text in the revision and the present text, if both are texts without a secret.
    texts: Option<(String, String)>,
}

impl Content {
    fn git_source(&self) -> Source {
        Source {
            git: self.source.git.clone(),
            rev: self.source.rev.clone(),
        }
    }

    fn edits(&self) -> Vec<Filled> {
        edit::fill(&self.source.edit, self.database.as_ref())
    }

    /// The revision's objects: read in place from a repository on this VM, fetched from any other.
    async fn obtain(&self, step: &Step, commit: &str) -> Result<Revision> {
        let source = self.git_source();
        if let Some(revision) = source.in_place(commit) {
            return Ok(revision);
        }
        let effect = OnContent::FetchContent {
            commit: commit.to_owned(),
        };
        step.effect(effect, |permit| async move {
            source
                .fetch(&permit, commit, &|amount| step.progress(amount))
                .await
        })
        .await
    }

    /// Compares what is there with what was deployed.
    async fn compare(&self, manifest: Arc<Manifest>) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let (path, disk) = (self.path.clone(), self.disk.clone());
        blocking(move || {
            let place = data_disk::find(&path, disk.as_ref())?;
            let root = match place.path() {
                Some(path) => Dir::open(&path)?,
                None => None,
            };
            let (mut missing, mut changed) = (Vec::new(), Vec::new());
            for (relative, deployed) in &manifest.files {
                let look = match &root {
                    Some(root) => deployed.look(root, relative)?,
                    None => Look::Missing,
                };
                match look {
                    Look::AsDeployed => {}
                    Look::Missing => missing.push(relative.clone()),
                    Look::Changed => changed.push(relative.clone()),
                }
            }
            Ok((missing, changed))
        })
        .await
    }

    /// The text of a changed file in the revision, and its present text. A file that values of the tier
    /// file were written into is never shown.
    async fn texts(&self, manifest: &Manifest, changed: &Path) -> Option<(String, String)> {
        let edited = manifest.edits.as_ref().map(|edits| &edits.files);
        if edited.is_some_and(|files| files.contains_key(changed))
            || manifest.once_edited.contains(changed)
        {
            return None;
        }
        let deployed = manifest.files.get(changed)?;
        if deployed.size > MOST_COMPARED {
            return None;
        }
        let source = self.git_source();
        let revision = source.known(&manifest.commit);
        let (root, relative) = (self.path.clone(), changed.to_owned());
        let there = blocking(move || {
            let Some(root) = Dir::open(&root)? else {
                return Ok(None);
            };
            match root.look(&relative)? {
                Some(found) if found.size <= MOST_COMPARED => root.read(&relative, found.size),
                _ => Ok(None),
            }
        });
        let there = String::from_utf8(there.await.ok()??).ok()?;
        let was = revision.blob(&deployed.blob).await.ok()?;
        Some((String::from_utf8(was).ok()?, there))
    }

    /// Whether the deployed files are the revision, built, and at most its edits differ.
    fn is_built(&self, observed: &Observed) -> bool {
        let Some(manifest) = &observed.manifest else {
            return false;
        };
        let texts = manifest.edits.as_ref().map(|edits| &edits.files);
        let has_text = |path: &Path| texts.is_some_and(|texts| texts.contains_key(path));
        let edits = self.edits();
        // A file that somebody changed before it was ever edited: only the repository has its own text.
        let unknown = |changed: &Changed| {
            !has_text(&changed.path) && edit::files(&edits).any(|file| file == changed.path)
        };
        manifest.commit == observed.commit
            && manifest.subdir == self.source.subdir
            && manifest.build == self.source.build
            && observed.missing.is_empty()
            && !observed.changed.iter().any(unknown)
    }

    /// Why the share cannot carry a revision that is about to be put together. Of a repository that is not on
    /// this VM only the fetch tells.
    async fn uncarriable(&self, commit: &str, deployed: Option<&Manifest>) -> Option<Error> {
        let same = |manifest: &Manifest| {
            manifest.commit == commit && manifest.subdir == self.source.subdir
        };
        if deployed.is_some_and(same) {
            return None;
        }
        let revision = self.git_source().in_place(commit)?;
        let subdir = self.source.subdir.as_deref();
        carriable::files(&revision, subdir).await.err()
    }

    /// Puts the revision together beside the shared directory, and builds it.
    async fn make(&self, step: &Step, commit: &str, owner: &Account) -> Result<()> {
        let revision = self.obtain(step, commit).await?;
        let subdir = self.source.subdir.as_deref();
        let entries = carriable::files(&revision, subdir).await?;
        let account = owner.clone();
        self.stage(step, commit, |permit, staging| async move {
            write(permit, staging, &revision, entries, account).await
        })
        .await?;
        self.build(step, commit, owner).await
    }

    async fn stage<F: Future<Output = Result<()>> + Send>(
        &self,
        step: &Step,
        commit: &str,
        write: impl FnOnce(Permit, Staging) -> F + Send,
    ) -> Result<()> {
        let effect = OnContent::StageContent {
            path: self.path.clone(),
            commit: commit.to_owned(),
        };
        let path = self.path.clone();
        step.effect(effect, |permit| async move {
            let made = permit.clone();
            let staging = blocking(move || Staging::make(&made, &path)).await?;
            write(permit.clone(), staging).await?;
            permit.during()
        })
        .await
    }

    async fn build(&self, step: &Step, commit: &str, owner: &Account) -> Result<()> {
        if self.source.build.is_empty() {
            return Ok(());
        }
        let directory = beside::path(&self.path)?;
        let description = format!("Build of {commit} for {}", self.path.display());
        let unit = build::unit(
            &self.source.build,
            &directory,
            &self.path,
            owner,
            description,
        )?;
        let effect = OnContent::BuildContent {
            path: self.path.clone(),
            commit: commit.to_owned(),
        };
        let meta = FileMeta {
            mode: 0o700,
            uid: owner.uid,
            gid: owner.gid,
        };
        let (path, owner) = (self.path.clone(), owner.clone());
        step.effect(effect, |permit| async move {
            let gone = || Error::new("what was put together is gone").hint("apply again");
            let made = (path.clone(), permit.clone());
            blocking(move || {
                let (path, permit) = made;
                let staging = Staging::open(&path)?.ok_or_else(gone)?;
                let home = staging.dir.make_directory(&permit, OsStr::new(HOME), meta);
                home.map(drop)
            })
            .await?;
            step.systemd
                .run_transient(&permit, &unit)
                .await
                .map_err(|e| e.while_doing("storage.content.build"))?;
            permit.during()?;
            blocking(move || {
                let staging = Staging::open(&path)?.ok_or_else(gone)?;
                let new = staging.dir.directory(Path::new(NEW))?.ok_or_else(gone)?;
                staging::dress(&permit, &new, &owner)?;
                staging.dir.remove_tree(&permit, OsStr::new(HOME))
            })
            .await
        })
        .await
    }

    /// Edits the new tree, brings the files into it that are not the agent's, and puts it in the place
    /// of the old one.
    async fn deploy(
        &self,
        step: &Step,
        commit: &str,
        before: Option<Arc<Manifest>>,
        is_built: bool,
    ) -> Result<(Intent, Option<NoStart>)> {
        let edits = self.edits();
        let mut next = Manifest {
            path: self.path.clone(),
            commit: commit.to_owned(),
            subdir: self.source.subdir.clone(),
            build: self.source.build.clone(),
            ..Manifest::default()
        };
        let before = before.unwrap_or_default();
        let effect = OnContent::DeployContent {
            path: self.path.clone(),
            commit: commit.to_owned(),
        };
        let (tell, waits) = unbounded_channel();
        let work = step.effect(effect, |permit| {
            blocking(move || {
                let gone = || Error::new("what was put together is gone").hint("apply again");
                let staging = Staging::open(&next.path)?.ok_or_else(gone)?;
                let new = staging.dir.directory(Path::new(NEW))?.ok_or_else(gone)?;
                next.files = staging::list(&new)?;
                let known: Vec<PathBuf> = next.files.keys().cloned().collect();
                next.edits = edit::apply(&permit, &new, &edits, &known, salt()?)?;
                let edited = next.edits.iter().flat_map(|edits| edits.files.keys());
                staging::list_again(&new, edited, &mut next.files)?;
                if is_built {
                    // Files that somebody changed still belong to the revision.
                    for (path, deployed) in &before.files {
                        let entry = next.files.entry(path.clone());
                        entry.or_insert_with(|| deployed.clone());
                    }
                }
                let old = staging.open_shared()?;
                make_start_lock(&permit, &old)?;
                let carried = switch::carry(&permit, &old, &new, &before, &mut next)?;
                next.once_edited = before.all_edited();
                let intent = Intent {
                    manifest: next,
                    inode: new.found()?.inode,
                    carried,
                };
                new.sync_filesystem()?;
                manifest::write_intent(&intent)?;
                permit.during()?;
                let no_start = NoStart::begin(&old, &|| {
                    let _ = tell.send(());
                })?;
                switch::exchange(&permit, &staging, &old, &new)?;
                Ok((intent, no_start))
            })
        });
        content::telling(step, waits, work).await
    }
}

/// Writes the files of a revision one by one, as git hands them over.
async fn write(
    permit: Permit,
    staging: Staging,
    revision: &Revision,
    entries: Vec<TreeEntry>,
    owner: Account,
) -> Result<()> {
    let (made, account) = (permit.clone(), owner.clone());
    let new = blocking(move || staging::begin(&made, &staging, &account)).await?;
    let write = move |entry: &TreeEntry, bytes: &mut dyn Read| {
        staging::write(&permit, &new, entry, bytes, &owner)
    };
    revision.each_file(entries, write).await
}

/// Makes the file that keeps changes of revision and application starts apart. It has to stay the same
/// file, so it goes from tree to tree like any file that is not the agent's. A revert leaves it, as it
/// leaves those files.
fn make_start_lock(permit: &Permit, shared: &Dir) -> Result<()> {
    let name = OsStr::new(start_lock::FILE);
    if shared.look(Path::new(name))?.is_some() {
        return Ok(());
    }
    let meta = FileMeta {
        mode: 0o660,
        ..shared.found()?.meta
    };
    shared.make_file(permit, name, b"", meta)
}

/// 128 bits, in hexadecimal.
fn salt() -> Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .doing("read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Resource for Content {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Content, self.path.display())
    }

    fn requirements(&self) -> Vec<Requirement> {
        let mut requirements = vec![Requirement::Program("git")];
        if self.git_source().is_over_ssh() {
            requirements.push(Requirement::Program("ssh"));
        }
        requirements
    }

    async fn observe(&self, host: &Host) -> Result<Observed> {
        let (path, disk) = (self.path.clone(), self.disk.clone());
        let record = host.state_directory.clone();
        let (manifest, unfinished, obstacle) = blocking(move || {
            let place = data_disk::find(&path, disk.as_ref())?;
            let manifest = match place.path() {
                Some(there) => manifest::read(&there)?.map(|manifest| {
                    let path = path.clone();
                    Arc::new(Manifest { path, ..manifest })
                }),
                None => None,
            };
            let is_disk = disk.is_some_and(|disk| disk.mount == path);
            let (unfinished, obstacle) = match place {
                PathOnDisk::Mounted(path) if !is_disk => {
                    let unfinished =
                        switch::is_unfinished(&path)? || content::is_cut_off(&record, &path)?;
                    (unfinished, staging::obstacle(&path)?)
                }
                _ => (false, is_disk.then(|| staging::no_exchange(&path))),
            };
            Ok((manifest, unfinished, obstacle))
        })
        .await?;
        let same = manifest
            .as_ref()
            .filter(|manifest| manifest.subdir == self.source.subdir);
        let deployed = same.map(|manifest| manifest.commit.as_str());
        let commit = self.git_source().resolve(deployed).await?;
        let (missing, changed) = match &manifest {
            Some(manifest) => self.compare(Arc::clone(manifest)).await?,
            None => Default::default(),
        };
        let mut compared = Vec::new();
        for (index, path) in changed.into_iter().enumerate() {
            let texts = match &manifest {
                Some(manifest) if index < MOST_COMPARISONS => self.texts(manifest, &path).await,
                _ => None,
            };
            compared.push(Changed { path, texts });
        }
        let uncarriable = self.uncarriable(&commit, manifest.as_deref()).await;
        let edited = match &manifest {
            Some(manifest) => edit::is_deployed(&self.edits(), manifest),
            None => true,
        };
        Ok(Observed {
            commit,
            manifest,
            edited,
            missing,
            changed: compared,
            unfinished,
            obstacle,
            no_build: build::check(&self.source.build).err(),
            uncarriable,
        })
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let deployed = observed.manifest.as_ref();
        let mut diff = match deployed {
            None => Diff::create("no revision is deployed"),
            Some(manifest) if manifest.commit != observed.commit => {
                Diff::update("the tier file's revision is another one by now")
            }
            Some(manifest) if manifest.build != self.source.build || !observed.edited => {
                Diff::update("the tier file says otherwise how the revision is made fit")
            }
            Some(_) if observed.missing.is_empty() && observed.unfinished => {
                Diff::update("a change of revision is to be finished")
            }
            Some(_) => Diff::update("files of the revision are missing"),
        };
        diff.field(
            "revision",
            deployed.map(|manifest| manifest.commit.clone()),
            observed.commit.clone(),
        );
        if let Some(manifest) = deployed {
            let subdir = |subdir: &Option<PathBuf>| match subdir {
                Some(subdir) => subdir.display().to_string(),
                None => ".".to_owned(),
            };
            diff.field(
                "subdir",
                Some(subdir(&manifest.subdir)),
                subdir(&self.source.subdir),
            );
            let words = |build: &[String]| build.join(" ");
            diff.field(
                "build",
                Some(words(&manifest.build)),
                words(&self.source.build),
            );
        } else if !self.source.build.is_empty() {
            diff.field("build", None, self.source.build.join(" "));
        }
        let edits = !self.source.edit.is_empty();
        if !observed.edited || (deployed.is_none() && edits) {
            diff.secret("edit", deployed.is_some());
        }
        for path in &observed.missing {
            diff.field(&path.display().to_string(), Some("missing"), "deployed");
        }
        if observed.unfinished {
            diff.field("beside the share", Some("left over"), "nothing");
        }
        for changed in &observed.changed {
            let path = changed.path.display();
            diff.notes.push(format!(
                "{path} was changed by somebody and is kept as it is; remove it, and apply puts the revision's there"
            ));
            if let Some((was, there)) = &changed.texts {
                diff.kept.push(Field {
                    name: path.to_string(),
                    from: Some(was.clone()),
                    to: Some(there.clone()),
                });
            }
        }
        if diff.is_empty() {
            return Ok(diff);
        }
        let refusals = [
            &observed.obstacle,
            &observed.no_build,
            &observed.uncarriable,
        ];
        if let Some(refusal) = refusals.into_iter().flatten().next() {
            return Err(refusal.clone());
        }
        if deployed.is_some() {
            let share = self.path.display().to_string();
            diff.disturb(Disturbance::Reconnect(share));
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

    async fn converge(&self, step: &Step, _observed: &Observed) -> Result<()> {
        content::tidy_up(step, &self.path, Trees::Unused).await?;
        // The unfinished change may have been all there was to do, and the branch may have moved on.
        let observed = self.observe(step).await?;
        if self.diff(&observed)?.is_empty() {
            return Ok(());
        }
        let owner = account::look_up(&self.owner)
            .await?
            .ok_or_else(|| Error::new(format!("the account {} is missing", self.owner)))?;
        let is_built = self.is_built(&observed);
        let Observed {
            commit, manifest, ..
        } = observed;
        let put_together = async {
            match manifest.clone().filter(|_| is_built) {
                Some(deployed) => {
                    let copy = move |permit, staging| {
                        blocking(move || staging::copy(&permit, &staging, &deployed, &owner))
                    };
                    self.stage(step, &commit, copy).await?;
                }
                None => self.make(step, &commit, &owner).await?,
            }
            self.deploy(step, &commit, manifest, is_built).await
        };
        match put_together.await {
            Ok((intent, no_start)) => content::settle(step, intent, Names::Go, no_start).await?,
            Err(error) => {
                // The running revision was not touched, unless the exchange was already done.
                if let Err(left) = content::tidy_up(step, &self.path, Trees::Unused).await {
                    tracing::debug!(%left, "what was put together is left for the next apply");
                }
                return Err(error);
            }
        }
        content::clear(step, &self.path, Trees::Unused).await
    }
}
