//! The wanted mount of a share.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::Dialect;

/// Port of SMB over TCP, the only one that SMB3 needs.
pub const SMB_PORT: u16 = 445;

/// What a process gets when the server is gone during its file operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// An error after a while: the process can see the error, and can be stopped.
    Soft,
    /// The process waits until the server is back.
    Hard,
}

/// A mount of a share, without its password: only [`CifsMount::mount_detached`] gets the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifsMount {
    /// `//server/share[/directory]`.
    pub source: String,
    /// The server's address: the kernel resolves no names.
    pub address: IpAddr,
    /// [`SMB_PORT`], except in tests.
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
    /// Whole seconds, 1 to 600. A server that is silent for three intervals counts as gone.
    pub echo_interval: Duration,
    /// SELinux label that all files have here; `None` if SELinux is off.
    pub context: Option<String>,
    /// Whether symbolic links may be made here (the server stores each as a small file).
    pub mfsymlinks: bool,
    /// How long attributes are cached; `None` keeps the kernel's default of one second.
    pub actimeo: Option<Duration>,
}
