//! The share, mounted by the kernel's mount API: `fsopen("cifs")`, one `fsconfig` an option, so that
//! no character of a password needs escaping, and the kernel's own words on a failure.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::host::mount::MountInfo;

/// Port of SMB over TCP, the only one that SMB3 needs.
pub const SMB_PORT: u16 = 445;

/// How long a connection to the server, and then its first answer, may take.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// SMB dialects of the contract's `was.vers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    Smb3_0,
    Smb3_0_2,
    Smb3_1_1,
}

impl Dialect {
    /// Reads `3.0`, `3.0.2` (the kernel also says `3.02`) and `3.1.1`.
    pub fn parse(vers: &str) -> Option<Self> {
        match vers {
            "3.0" => Some(Self::Smb3_0),
            "3.0.2" | "3.02" => Some(Self::Smb3_0_2),
            "3.1.1" | "3.11" => Some(Self::Smb3_1_1),
            _ => None,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smb3_0 => "3.0",
            Self::Smb3_0_2 => "3.0.2",
            Self::Smb3_1_1 => "3.1.1",
        })
    }
}

/// What a process gets whose file operation meets a server that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// An error after a while: the process can see it, and can be stopped.
    Soft,
    /// It waits until the server is back.
    Hard,
}

/// A mount of a share, without its password: that is handed to [`CifsMount::mount`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifsMount {
    /// `//server/share[/directory]`.
    pub source: String,
    /// Where the server is: the kernel resolves no names.
    pub address: IpAddr,
    /// [`SMB_PORT`], but in tests.
    pub port: u16,
    pub user: String,
    pub dialect: Dialect,
    /// Whether everything is encrypted (SMB3 encryption).
    pub seal: bool,
    /// Owner and group that all files have here.
    pub uid: u32,
    pub gid: u32,
    /// Permission bits that all files, and all directories, have here.
    pub file_mode: u32,
    pub dir_mode: u32,
    pub recovery: Recovery,
    /// Whole seconds, 1 to 600; a server that is silent for three of them counts as gone.
    pub echo_interval: Duration,
    /// SELinux label that all files have here; `None` where SELinux is off.
    pub context: Option<String>,
    /// Whether a symbolic link may be made here (kept as a small file on the server).
    pub mfsymlinks: bool,
    /// How long attributes are believed without asking; `None` leaves the kernel's second.
    pub actimeo: Option<Duration>,
}

/// Why a mount, or the probe before it, failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CifsErrorKind {
    /// No route to the server.
    Unreachable,
    /// No answer to the connection within the deadline.
    NoAnswer,
    /// Nothing listens on the port.
    Refused,
    /// The server accepts connections and says nothing.
    Silent,
    /// The server accepts the connection and closes it.
    Dropped,
    /// What answers does not speak SMB2.
    NotSmb,
    /// The server speaks none of the dialects that were offered.
    DialectRefused,
    /// Encryption was wanted and the server cannot.
    SealUnsupported,
    /// Unknown user or wrong password: a server tells nobody which.
    WrongPassword,
    AccountDisabled,
    AccountLocked,
    PasswordExpired,
    /// The user was accepted, the share is not for this user or this address.
    ShareDenied,
    /// As `ShareDenied`, while we did not encrypt: the server may demand it.
    EncryptionDemanded,
    /// EACCES, and the kernel log did not say why.
    AccessDenied,
    NoSuchShare,
    /// The share is there, the directory in it is not.
    NoSuchDirectory,
    /// The mount point is not there or no directory.
    NoTarget,
    /// The kernel refused an option, or we did before it.
    BadOption,
    /// Root's capability is missing.
    NotPermitted,
    /// The kernel has no CIFS.
    NoCifs,
    /// Everything together took longer than the caller allowed.
    Deadline,
    Other,
}

/// A failed mount: what it was, and what the kernel said. It converts into an [`Error`] with a
/// sentence of its own for each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifsError {
    pub kind: CifsErrorKind,
    /// What the system call gave; `None` where none failed.
    pub errno: Option<i32>,
    /// The kernel's own words, from the context's descriptor and the kernel log.
    pub kernel: Vec<String>,
    message: String,
    hint: String,
}

impl CifsError {
    /// Whether it may pass without anybody changing a setting: a server that boots, a network.
    pub fn may_pass(&self) -> bool {
        false
    }
}

impl fmt::Display for CifsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CifsError {}

impl From<CifsError> for Error {
    fn from(error: CifsError) -> Self {
        Error::new(error.message).hint(error.hint)
    }
}

/// What an SMB server answered to a negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The dialect that the server chose, as its number: `0x0311`.
    pub dialect: u16,
}

/// What a mounted share looks like, from mountinfo: never an access to the share itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifsState {
    /// As mounted: `//server/share`.
    pub source: String,
    /// The kernel's word, `3.1.1`; [`Dialect::parse`] reads it.
    pub vers: Option<String>,
    pub user: Option<String>,
    pub address: Option<IpAddr>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub file_mode: Option<u32>,
    pub dir_mode: Option<u32>,
    pub seal: bool,
    pub recovery: Recovery,
    pub echo_interval: Option<Duration>,
    /// Without quotes.
    pub context: Option<String>,
    pub mfsymlinks: bool,
    pub actimeo: Option<Duration>,
    pub nosuid: bool,
    pub nodev: bool,
    pub read_only: bool,
}

impl CifsMount {
    /// Probes, mounts and attaches; see the body for the stages. Blocks, for as long as the kernel
    /// likes: [`CifsMount::mount_with_deadline`] does not.
    pub fn mount(&self, _password: &str, _target: &Path) -> Result<(), CifsError> {
        Err(CifsError::pending())
    }

    /// [`CifsMount::mount`] on a thread of its own, given up after `deadline`.
    pub async fn mount_with_deadline(
        &self,
        _password: &str,
        _target: &Path,
        _deadline: Duration,
    ) -> Result<(), CifsError> {
        Err(CifsError::pending())
    }

    /// Connects and negotiates, each within [`PROBE_DEADLINE`], without a password.
    pub fn probe(&self) -> Result<Negotiated, CifsError> {
        Err(CifsError::pending())
    }

    /// The same options for `Options=` of a systemd mount unit, which runs `mount.cifs`; user and
    /// password come from the file `credentials` (see [`credentials`]).
    pub fn options_for_mount_cifs(&self, _credentials: &Path) -> Result<String> {
        Err(CifsError::pending().into())
    }
}

/// Text of a credentials file for `mount.cifs`.
pub fn credentials(_user: &str, _password: &str) -> Result<Zeroizing<String>> {
    Err(CifsError::pending().into())
}

/// Reads how a share is mounted; `None` when the mount is of another file system.
pub fn observe(_info: &MountInfo) -> Option<CifsState> {
    None
}

impl CifsError {
    fn pending() -> Self {
        Self {
            kind: CifsErrorKind::Other,
            errno: None,
            kernel: Vec::new(),
            message: "not written yet".to_owned(),
            hint: String::new(),
        }
    }
}
