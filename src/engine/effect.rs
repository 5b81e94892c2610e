//! What can be done to the machine, each with what must be known to undo it: the state before, and
//! for a file what was written, so that a change by somebody else is told from ours.
//!
//! An effect is on record before it happens. After an interruption it may therefore have happened
//! or not; undoing looks at the machine and copes with both.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::host::firewalld::{Opening, Settings};
use crate::host::fs::FileMeta;
use crate::host::systemd::Job;

/// The SHA-256 of a file's contents, under which the record keeps them too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sha256(pub String);

impl Sha256 {
    pub fn of(contents: &[u8]) -> Self {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(contents);
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A file as it was; its contents are kept beside the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    pub contents: Sha256,
    pub meta: FileMeta,
    /// Seconds and nanoseconds since 1970.
    pub modified: (u64, u32),
    /// Of SELinux.
    pub label: Option<String>,
}

impl SavedFile {
    pub fn modified(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(self.modified.0, self.modified.1)
    }
}

/// One effect on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    WriteFile {
        path: PathBuf,
        before: Option<SavedFile>,
        /// What is written.
        after: Sha256,
        /// With which owner and mode.
        meta: FileMeta,
    },
    RemoveFile {
        path: PathBuf,
        before: SavedFile,
    },
    MakeDirectory {
        path: PathBuf,
    },
    RemoveDirectory {
        path: PathBuf,
    },
    OwnDirectory {
        path: PathBuf,
        before: FileMeta,
        after: FileMeta,
    },
    ReloadUnits,
    Enable {
        unit: String,
        /// Whether it was active before: a boot in between may have started it since.
        was_active: bool,
    },
    Disable {
        unit: String,
    },
    Job {
        job: Job,
        unit: String,
        /// ActiveState before.
        before: String,
    },
    Open {
        settings: Settings,
        zone: String,
        opening: Opening,
        /// For the permanent settings: how firewalld kept the zone before.
        zone_before: Option<ZoneFiles>,
    },
    Close {
        settings: Settings,
        zone: String,
        opening: Opening,
        /// As of `Open`. Older records have none.
        #[serde(default)]
        zone_before: Option<ZoneFiles>,
    },
    Mount {
        mount_point: PathBuf,
        source: String,
    },
    Unmount {
        mount_point: PathBuf,
        source: String,
        /// It was there by an entry of fstab(5), which is taken over. Older records have none.
        #[serde(default)]
        by_fstab: bool,
    },
    /// A container that somebody made by hand is stopped, and kept under another name.
    SetAsideContainer {
        name: String,
        kept_as: String,
        was_running: bool,
        /// The service that started it, where it ran as one.
        service: Option<String>,
        /// That service makes it anew at each start, so that none is kept. Older records have none.
        #[serde(default)]
        makes_its_own: bool,
    },
    /// It has its name again.
    TakeBackContainer {
        name: String,
        kept_as: String,
    },
    /// It runs again.
    StartContainer {
        name: String,
    },
    Format {
        device: PathBuf,
        serial: Option<String>,
        size_bytes: u64,
        filesystem: String,
    },
    /// A file system that is mounted there, to the size of its disk.
    Grow {
        mount_point: PathBuf,
        filesystem: String,
        from_bytes: u64,
        to_bytes: u64,
    },
    MakeAccount {
        name: String,
    },
    RemoveAccount {
        name: String,
    },
    SetSambaPassword {
        name: String,
        /// The account's line of smbpasswd(5), kept as a file is; `None` where there was none.
        before: Option<Sha256>,
    },
    RestoreSambaUser {
        name: String,
    },
    PullImage {
        image: String,
        /// The id of the image that had the name before.
        #[serde(default)]
        before: Option<String>,
    },
    /// The name is given to another image that is there.
    TagImage {
        image: String,
        id: String,
    },
    RemoveImage {
        image: String,
    },
    /// A secret in podman's store. What it held before is kept as a file is.
    SetSecret {
        name: String,
        before: Option<Sha256>,
        after: Sha256,
    },
    RemoveSecret {
        name: String,
    },
    /// A rule in the store of SELinux's policy.
    AddFileContext {
        specification: String,
        label: String,
    },
    RemoveFileContext {
        specification: String,
    },
    Relabel {
        tree: PathBuf,
    },
    FetchContent {
        commit: String,
    },
    /// Files of a revision are put together beside the shared directory.
    StageContent {
        path: PathBuf,
        commit: String,
    },
    /// They are built.
    BuildContent {
        path: PathBuf,
        commit: String,
    },
    /// They take the place of the files of before.
    DeployContent {
        path: PathBuf,
        commit: String,
    },
    /// What was written to the files of before meanwhile is moved over.
    SettleContent {
        path: PathBuf,
        commit: String,
    },
    /// What lies beside the shared directory is removed.
    ClearContent {
        path: PathBuf,
    },
}

/// How firewalld kept the permanent settings of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneFiles {
    /// Equal when the settings are.
    pub settings: Sha256,
    /// The files below `/etc/firewalld/zones` that firewalld writes for the zone, as they were.
    pub files: Vec<(PathBuf, Option<SavedFile>)>,
}

/// What an effect is done to. All effects on one thing are undone at once, back to what it was
/// before the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    File(PathBuf),
    Directory(PathBuf),
    Enablement(String),
    RunState(String),
    Opening(String),
    Mount(PathBuf),
    Container(String),
    Account(String),
    SambaUser(String),
    Image(String),
    Secret(String),
    FileContext(String),
    /// What is never undone: data, and what has no state.
    Kept(String),
}

impl Effect {
    pub fn thing(&self) -> Thing {
        match self {
            Self::WriteFile { path, .. } | Self::RemoveFile { path, .. } => {
                Thing::File(path.clone())
            }
            Self::MakeDirectory { path }
            | Self::RemoveDirectory { path }
            | Self::OwnDirectory { path, .. } => Thing::Directory(path.clone()),
            Self::Enable { unit, .. } | Self::Disable { unit } => Thing::Enablement(unit.clone()),
            Self::Job { unit, .. } => Thing::RunState(unit.clone()),
            Self::Open {
                settings,
                zone,
                opening,
                ..
            }
            | Self::Close {
                settings,
                zone,
                opening,
                ..
            } => Thing::Opening(format!("{settings} {zone} {opening}")),
            Self::Mount { mount_point, .. } | Self::Unmount { mount_point, .. } => {
                Thing::Mount(mount_point.clone())
            }
            Self::SetAsideContainer { name, .. }
            | Self::TakeBackContainer { name, .. }
            | Self::StartContainer { name } => Thing::Container(name.clone()),
            Self::MakeAccount { name } | Self::RemoveAccount { name } => {
                Thing::Account(name.clone())
            }
            Self::SetSambaPassword { name, .. } | Self::RestoreSambaUser { name } => {
                Thing::SambaUser(name.clone())
            }
            Self::PullImage { image, .. }
            | Self::TagImage { image, .. }
            | Self::RemoveImage { image } => Thing::Image(image.clone()),
            Self::SetSecret { name, .. } | Self::RemoveSecret { name } => {
                Thing::Secret(name.clone())
            }
            Self::AddFileContext { specification, .. }
            | Self::RemoveFileContext { specification } => {
                Thing::FileContext(specification.clone())
            }
            Self::ReloadUnits
            | Self::Relabel { .. }
            | Self::Format { .. }
            | Self::Grow { .. }
            | Self::FetchContent { .. }
            | Self::StageContent { .. }
            | Self::BuildContent { .. }
            | Self::DeployContent { .. }
            | Self::SettleContent { .. }
            | Self::ClearContent { .. } => Thing::Kept(self.to_string()),
        }
    }
}

impl Effect {
    /// Whether it takes something over that somebody made by hand, and that served until then.
    pub fn adopts(&self) -> bool {
        matches!(
            self,
            Self::SetAsideContainer { .. } | Self::Unmount { by_fstab: true, .. }
        )
    }

    /// The file or directory that is made beside its place first.
    pub fn made_beside(&self) -> Option<&Path> {
        match self {
            Self::WriteFile { path, .. } | Self::MakeDirectory { path } => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &Path| path.display().to_string();
        match self {
            Self::WriteFile { path: p, .. } => write!(f, "write {}", path(p)),
            Self::RemoveFile { path: p, .. } => write!(f, "remove {}", path(p)),
            Self::MakeDirectory { path: p } => write!(f, "make directory {}", path(p)),
            Self::RemoveDirectory { path: p } => write!(f, "remove directory {}", path(p)),
            Self::OwnDirectory { path: p, .. } => write!(f, "own directory {}", path(p)),
            Self::ReloadUnits => f.write_str("reload units"),
            Self::Enable { unit, .. } => write!(f, "enable {unit}"),
            Self::Disable { unit } => write!(f, "disable {unit}"),
            Self::Job { job, unit, .. } => write!(f, "{job} {unit}"),
            Self::Open {
                settings, opening, ..
            } => write!(f, "open {settings} {}", opening),
            Self::Close {
                settings, opening, ..
            } => write!(f, "close {settings} {}", opening),
            Self::Mount { mount_point, .. } => write!(f, "mount {}", path(mount_point)),
            Self::Unmount { mount_point, .. } => write!(f, "unmount {}", path(mount_point)),
            Self::SetAsideContainer { name, .. } => write!(f, "set container {name} aside"),
            Self::TakeBackContainer { name, .. } => write!(f, "take container {name} back"),
            Self::StartContainer { name } => write!(f, "start container {name}"),
            Self::Format { device, .. } => write!(f, "format {}", path(device)),
            Self::Grow { mount_point, .. } => write!(f, "grow {}", path(mount_point)),
            Self::MakeAccount { name } => write!(f, "make account {name}"),
            Self::RemoveAccount { name } => write!(f, "remove account {name}"),
            Self::SetSambaPassword { name, .. } => write!(f, "set Samba password of {name}"),
            Self::RestoreSambaUser { name } => write!(f, "restore Samba account {name}"),
            Self::PullImage { image, .. } => write!(f, "pull {image}"),
            Self::TagImage { image, id } => write!(f, "tag {id} {image}"),
            Self::RemoveImage { image } => write!(f, "remove image {image}"),
            Self::SetSecret { name, .. } => write!(f, "set secret {name}"),
            Self::RemoveSecret { name } => write!(f, "remove secret {name}"),
            Self::AddFileContext { specification, .. } => {
                write!(f, "add SELinux rule {specification}")
            }
            Self::RemoveFileContext { specification } => {
                write!(f, "remove SELinux rule {specification}")
            }
            Self::Relabel { tree } => write!(f, "relabel {}", path(tree)),
            Self::FetchContent { commit } => write!(f, "fetch {commit}"),
            Self::StageContent { commit, .. } => write!(f, "stage {commit}"),
            Self::BuildContent { commit, .. } => write!(f, "build {commit}"),
            Self::DeployContent { commit, .. } => write!(f, "deploy {commit}"),
            Self::SettleContent { commit, .. } => write!(f, "settle {commit}"),
            Self::ClearContent { path: p } => write!(f, "clear beside {}", path(p)),
        }
    }
}
