//! The work on one resource, and the gate through which all of it reaches the machine: what was
//! there before is on record before an effect happens, and how it ended is on record after.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::apply::Listener;
use super::effect::{Effect, SavedFile, Sha256, ZoneFiles};
use super::journal::{self, Journal, Recorded};
use super::report::Event;
use super::{Address, Field};
use crate::error::{Error, Result};
#[cfg(feature = "failpoints")]
use crate::host::failpoint;
use crate::host::firewalld::{self, Opening, Settings};
use crate::host::fs::{self, DirState, FileMeta, NewFile, RegularFile};
use crate::host::systemd::Job;
use crate::host::{Host, Permit, account, blocking, mount, podman, podman_secret, samba, selinux};

/// Files that are kept for undo are small: configuration, not data.
const MAX_SAVED: u64 = 16 << 20;

/// Work on one resource. Reads go straight to the [`Host`] that it stands for.
pub struct Step {
    host: Arc<Host>,
    journal: Arc<Journal>,
    listener: Listener,
    address: Address,
    undoes: bool,
    /// What only the change itself could tell.
    learned: Mutex<Vec<Field>>,
    /// How often each effect was begun, so that every fail point has a name of its own.
    begun: Mutex<HashMap<String, u32>>,
}

impl Deref for Step {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Step {
    pub fn new(
        host: &Arc<Host>,
        journal: &Arc<Journal>,
        listener: &Listener,
        address: Address,
    ) -> Self {
        Self {
            host: Arc::clone(host),
            journal: Arc::clone(journal),
            listener: Arc::clone(listener),
            address,
            undoes: false,
            learned: Mutex::default(),
            begun: Mutex::default(),
        }
    }

    /// Work that undoes what was done for the resource.
    pub fn undoing(self) -> Self {
        Self {
            undoes: true,
            ..self
        }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Says how far long work is: `3 of 12 layers`.
    pub fn progress(&self, amount: String) {
        (self.listener)(&Event::progress(&self.address, amount));
    }

    /// Adds to what is told and recorded of the change: what nobody could know before it.
    pub fn learned(&self, name: &str, value: &str) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.retain(|field| field.name != name);
        learned.push(Field {
            name: name.to_owned(),
            from: None,
            to: Some(value.to_owned()),
        });
    }

    /// What was learned, once.
    pub fn take_learned(&self) -> Vec<Field> {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *learned)
    }

    /// What applies did that were killed, and that none has brought to an end since, oldest first.
    pub async fn left_unfinished(&self) -> Result<Vec<Recorded>> {
        let this = self.journal.number();
        blocking(move || {
            let mut runs = journal::runs()?;
            runs.retain(|run| Some(run.number) != this);
            let unfinished = journal::without_an_end(&runs).iter();
            Ok(unfinished.flat_map(|run| run.effects.clone()).collect())
        })
        .await
    }

    /// What this run has done until now, oldest first.
    pub async fn done_so_far(&self) -> Result<Vec<Recorded>> {
        let this = self.journal.number();
        blocking(move || {
            let mut runs = journal::runs()?;
            runs.retain(|run| Some(run.number) == this);
            Ok(runs.into_iter().flat_map(|run| run.effects).collect())
        })
        .await
    }

    /// Gives an image that podman has another image's name.
    pub async fn tag_image(&self, id: &str, image: &str) -> Result<()> {
        let effect = Effect::TagImage {
            image: image.to_owned(),
            id: id.to_owned(),
        };
        self.effect(effect, |permit| async move {
            podman::tag(&permit, id, image).await
        })
        .await
    }

    /// The gate. `act` happens only when `effect`, with all that is needed to undo it, is on record.
    pub async fn effect<T, F>(&self, effect: Effect, act: impl FnOnce(Permit) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let name = self.name(&effect);
        let resource = self.address.clone();
        let (journal, undoes) = (Arc::clone(&self.journal), self.undoes);
        let recorded = effect.clone();
        let number = blocking(move || journal.begin(&resource, &recorded, undoes)).await?;
        let result = self.perform(&name, act).await;
        let journal = Arc::clone(&self.journal);
        let error = result.as_ref().err().cloned();
        let happened = match &error {
            Some(_) => self.has_happened(&effect).await,
            None => None,
        };
        blocking(move || journal.end(number, error.as_ref(), happened)).await?;
        result
    }

    /// Whether an effect that was told to have failed has happened all the same, as when its reply
    /// is lost; `None` where a look cannot tell. What did not happen is not undone: somebody else
    /// may make by hand what we could not.
    async fn has_happened(&self, effect: &Effect) -> Option<bool> {
        match effect {
            Effect::PullImage { image, before } => {
                let now = podman::image_id(image).await.ok()?;
                Some(now.is_some() && now != *before)
            }
            Effect::MakeAccount { name } => Some(account::look_up(name).await.ok()?.is_some()),
            Effect::AddFileContext { specification, .. } => {
                let specification = specification.clone();
                let rule = blocking(move || selinux::local_rule(&specification)).await;
                Some(rule.ok()?.is_some())
            }
            Effect::Open {
                settings,
                zone,
                opening,
                ..
            } => {
                let firewalld = self.running_firewalld().ok()?;
                firewalld.has(*settings, zone, opening).await.ok()
            }
            Effect::Enable { unit, .. } => {
                let state = self.systemd.unit(unit).await.ok()?;
                Some(state.file_state == "enabled")
            }
            _ => None,
        }
    }

    async fn perform<T, F>(&self, name: &str, act: impl FnOnce(Permit) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        #[cfg(feature = "failpoints")]
        failpoint::pass(name, failpoint::When::Before)?;
        let value = act(Permit::for_recorded(name)).await?;
        #[cfg(feature = "failpoints")]
        failpoint::pass(name, failpoint::When::After)?;
        Ok(value)
    }

    fn name(&self, effect: &Effect) -> String {
        let name = format!("{}|{effect}", self.address);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let times = begun.entry(name.clone()).or_default();
        *times += 1;
        if *times == 1 {
            name
        } else {
            format!("{name}#{times}")
        }
    }

    /// Writes a file in whole, and makes the directories above it that are missing.
    pub async fn write_file(
        &self,
        path: &Path,
        contents: impl Into<zeroize::Zeroizing<Vec<u8>>>,
        meta: FileMeta,
    ) -> Result<()> {
        if let Some(directory) = path.parent() {
            self.make_directories(directory, FileMeta::root(0o755))
                .await?;
        }
        self.put_file(path, contents.into(), meta, None).await
    }

    /// Brings a file back as it was.
    pub(super) async fn restore_file(
        &self,
        path: &Path,
        contents: Vec<u8>,
        was: SavedFile,
    ) -> Result<()> {
        let meta = was.meta;
        self.put_file(path, contents.into(), meta, Some(was)).await
    }

    async fn put_file(
        &self,
        path: &Path,
        contents: zeroize::Zeroizing<Vec<u8>>,
        meta: FileMeta,
        was: Option<SavedFile>,
    ) -> Result<()> {
        let effect = Effect::WriteFile {
            path: path.to_owned(),
            before: self.saved(path).await?,
            after: Sha256::of(&contents),
            meta,
        };
        let path = path.to_owned();
        self.effect(effect, |permit| {
            blocking(move || {
                let file = NewFile {
                    label: was.as_ref().and_then(|was| was.label.as_deref()),
                    modified: was.as_ref().map(SavedFile::modified),
                    ..NewFile::new(&contents, meta)
                };
                fs::write_atomic(&permit, &path, &file)
            })
        })
        .await
    }

    /// Removes a file, and what an interrupted write of it may have left.
    pub async fn remove_file(&self, path: &Path) -> Result<()> {
        let Some(before) = self.saved(path).await? else {
            return Ok(());
        };
        let effect = Effect::RemoveFile {
            path: path.to_owned(),
            before,
        };
        let path = path.to_owned();
        self.effect(effect, |permit| {
            blocking(move || fs::remove_file(&permit, &path).map(drop))
        })
        .await
    }

    /// Removes what an interrupted run left of a write of ours.
    pub(super) async fn remove_leftover(&self, path: &Path) -> Result<()> {
        let path = path.to_owned();
        blocking(move || fs::remove_leftover(&path)).await
    }

    /// The file as it is, with its contents kept.
    async fn saved(&self, path: &Path) -> Result<Option<SavedFile>> {
        let (path, journal) = (path.to_owned(), Arc::clone(&self.journal));
        blocking(move || {
            let Some(file) = fs::read_regular(&path, MAX_SAVED)? else {
                return Ok(None);
            };
            Ok(Some(SavedFile {
                contents: journal.save(&file.contents)?,
                meta: file.meta,
                modified: since_1970(&file),
                label: fs::selinux_label(&path)?,
            }))
        })
        .await
    }

    /// Makes a directory with this mode and owner, and those above it that are missing as 0755 of
    /// root. One that exists is left as it is.
    pub async fn make_directories(&self, path: &Path, meta: FileMeta) -> Result<()> {
        let wanted = path.to_owned();
        for directory in blocking(move || fs::missing_directories(&wanted)).await? {
            let meta = if directory == path {
                meta
            } else {
                FileMeta::root(0o755)
            };
            let effect = Effect::MakeDirectory {
                path: directory.clone(),
            };
            self.effect(effect, |permit| {
                blocking(move || fs::make_directory(&permit, &directory, meta))
            })
            .await?;
        }
        Ok(())
    }

    /// Sets owner and mode of a directory that exists.
    pub async fn own_directory(&self, path: &Path, meta: FileMeta) -> Result<()> {
        let at = path.to_owned();
        let DirState::Directory(before) = blocking(move || fs::dir_state(&at)).await? else {
            return Err(Error::new(format!("{} is no directory", path.display())));
        };
        let path = path.to_owned();
        let effect = Effect::OwnDirectory {
            path: path.clone(),
            before,
            after: meta,
        };
        self.effect(effect, |permit| {
            blocking(move || fs::set_directory_meta(&permit, &path, meta))
        })
        .await
    }

    /// Removes a directory if it is empty; `false` when it holds something.
    pub(super) async fn remove_directory(&self, path: &Path) -> Result<bool> {
        let path = path.to_owned();
        let effect = Effect::RemoveDirectory { path: path.clone() };
        self.effect(effect, |permit| {
            blocking(move || fs::remove_empty_directory(&permit, &path))
        })
        .await
    }

    /// Makes systemd read its unit files again and run its generators.
    pub async fn reload_units(&self) -> Result<()> {
        self.effect(Effect::ReloadUnits, |permit| async move {
            self.systemd.daemon_reload(&permit).await
        })
        .await
    }

    /// Enables a unit for every boot.
    pub async fn enable(&self, unit: &str) -> Result<()> {
        let effect = Effect::Enable {
            unit: unit.to_owned(),
            was_active: self.systemd.unit(unit).await?.is_active(),
        };
        self.effect(effect, |permit| async move {
            self.systemd.enable(&permit, unit).await
        })
        .await?;
        self.reload_units().await
    }

    /// Takes a unit out of every boot.
    pub async fn disable(&self, unit: &str) -> Result<()> {
        let effect = Effect::Disable {
            unit: unit.to_owned(),
        };
        self.effect(effect, |permit| async move {
            self.systemd.disable(&permit, unit).await
        })
        .await
    }

    /// Runs a job of systemd and waits for its end.
    pub async fn job(&self, job: Job, unit: &str) -> Result<()> {
        let effect = Effect::Job {
            job,
            unit: unit.to_owned(),
            before: self.systemd.unit(unit).await?.active,
        };
        self.effect(effect, |permit| async move {
            self.systemd.job(&permit, job, unit).await
        })
        .await
    }

    /// Opens something in one of firewalld's two settings.
    pub async fn open(&self, settings: Settings, zone: &str, opening: &Opening) -> Result<()> {
        let effect = Effect::Open {
            settings,
            zone: zone.to_owned(),
            opening: opening.clone(),
            zone_before: self.zone_before(settings, zone).await?,
        };
        self.effect(effect, |permit| async move {
            self.running_firewalld()?
                .add(&permit, settings, zone, opening)
                .await
        })
        .await
    }

    /// Closes what was opened.
    pub async fn close(&self, settings: Settings, zone: &str, opening: &Opening) -> Result<()> {
        let effect = Effect::Close {
            settings,
            zone: zone.to_owned(),
            opening: opening.clone(),
            zone_before: self.zone_before(settings, zone).await?,
        };
        self.effect(effect, |permit| async move {
            self.running_firewalld()?
                .remove(&permit, settings, zone, opening)
                .await
        })
        .await
    }

    /// How firewalld keeps a zone's permanent settings now, if they are about to change: it writes
    /// the zone's file anew for each change, with a copy of the last one beside it.
    async fn zone_before(&self, settings: Settings, zone: &str) -> Result<Option<ZoneFiles>> {
        if settings == Settings::Runtime {
            return Ok(None);
        }
        let settings = self.running_firewalld()?.permanent_settings(zone).await?;
        let mut files = Vec::new();
        for path in firewalld::zone_files(zone) {
            files.push((path.clone(), self.saved(&path).await?));
        }
        Ok(Some(ZoneFiles {
            settings: Sha256::of(settings.as_bytes()),
            files,
        }))
    }

    /// Mounts something by `act`.
    pub async fn mount<F: Future<Output = Result<()>>>(
        &self,
        mount_point: &Path,
        source: &str,
        act: impl FnOnce(Permit) -> F,
    ) -> Result<()> {
        let effect = Effect::Mount {
            mount_point: mount_point.to_owned(),
            source: source.to_owned(),
        };
        self.effect(effect, act).await
    }

    /// Unmounts what is mounted there.
    pub async fn unmount(&self, mount_point: &Path, source: &str) -> Result<()> {
        let mount_point = mount_point.to_owned();
        let effect = Effect::Unmount {
            mount_point: mount_point.clone(),
            source: source.to_owned(),
            by_fstab: false,
        };
        self.effect(effect, |permit| {
            blocking(move || mount::unmount(&permit, &mount_point))
        })
        .await
    }

    /// Takes a share out of sight at once, also one that is in use or whose server is gone: who uses it
    /// goes on with it. `by_fstab` is for one that an entry of fstab(5) had mounted, and will again once
    /// this is undone. Never for a local file system.
    pub async fn detach(&self, mount_point: &Path, source: &str, by_fstab: bool) -> Result<()> {
        let mount_point = mount_point.to_owned();
        let effect = Effect::Unmount {
            mount_point: mount_point.clone(),
            source: source.to_owned(),
            by_fstab,
        };
        self.effect(effect, |permit| {
            blocking(move || mount::detach(&permit, &mount_point))
        })
        .await
    }

    /// Sets what a secret of podman's holds.
    pub async fn set_secret(&self, name: &str, value: zeroize::Zeroizing<Vec<u8>>) -> Result<()> {
        let found = podman_secret::look_up(name).await?;
        let exists = found.is_some();
        let before = match found {
            None => None,
            Some(found) => {
                let journal = Arc::clone(&self.journal);
                Some(blocking(move || journal.save(&found.value)).await?)
            }
        };
        let effect = Effect::SetSecret {
            name: name.to_owned(),
            before,
            after: Sha256::of(&value),
        };
        self.effect(effect, |permit| async move {
            podman_secret::set(&permit, name, &value, exists).await
        })
        .await
    }

    /// Sets the password of a Samba account, which is made where it is missing.
    pub async fn set_samba_password(
        &self,
        name: &str,
        password: &crate::config::Secret,
        exists: bool,
    ) -> Result<()> {
        let Some(account) = account::look_up(name).await? else {
            return Err(Error::new(format!("the account {name} is missing")));
        };
        let before = match samba::smbpasswd_line(name).await? {
            // Without its line the account could not be brought back.
            None if exists => {
                return Err(Error::new(format!(
                    "pdbedit does not show the Samba account {name}, which is there"
                ))
                .hint("run pdbedit --list to see why, mend it, and apply again")
                .transient());
            }
            None => None,
            Some(line) => {
                let journal = Arc::clone(&self.journal);
                Some(blocking(move || journal.save(line.as_bytes())).await?)
            }
        };
        let effect = Effect::SetSambaPassword {
            name: name.to_owned(),
            before,
        };
        self.effect(effect, |permit| async move {
            if exists {
                samba::set_password(&permit, name, account.uid, password).await
            } else {
                samba::add_user(&permit, name, account.uid, password).await
            }
        })
        .await
    }
}

fn since_1970(file: &RegularFile) -> (u64, u32) {
    file.modified
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or((0, 0), |since| (since.as_secs(), since.subsec_nanos()))
}
