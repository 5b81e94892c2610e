//! A mount of a share, as it is asked for.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::Dialect;

/// Port of SMB over TCP, the only one that SMB3 needs.
pub const SMB_PORT: u16 = 445;

/// What a process gets whose file operation meets a server that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// An error after a while: the process can see it, and can be stopped.
    Soft,
    /// It waits until the server is back.
    Hard,
}

/// A mount of a share, without its password: that is handed to [`CifsMount::mount_detached`] alone.
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
