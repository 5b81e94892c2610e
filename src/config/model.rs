//! The tier file as types, with the file's defaults filled in. The names are those of the file, so
//! that messages, plans and the operator use the same words.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Secret;

/// What a VM is in the tier: it picks the part of the tier file that applies to it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Owns the data and shares it over SMB.
    Storage,
    /// Mounts the share and runs the application's container on it.
    Was,
}

impl Role {
    /// The role as it is written on a command line and in the tier file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Was => "was",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    /// # Errors
    /// Anything but `storage` and `was`; the text says so.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "storage" => Ok(Self::Storage),
            "was" => Ok(Self::Was),
            other => Err(format!("`{other}` is no role; expected storage or was")),
        }
    }
}

/// The whole tier. Every VM has the same file; the role picks its part.
#[derive(Debug, Clone, PartialEq)]
pub struct Tier {
    pub share: Share,
    /// Set when the role is [`Role::Storage`].
    pub storage: Option<Storage>,
    pub database: Option<Database>,
    /// Set when the role is [`Role::Was`].
    pub was: Option<Was>,
    pub firewall: Firewall,
    pub serve: Serve,
    pub health: Health,
}

/// The SMB share between the storage VM and the WAS VMs.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The name that Samba shows, the second part of `//server/name`.
    pub name: String,
    /// An IP address or a host name of the storage VM.
    pub server: String,
    /// The account that owns the share's files, on Linux and in Samba.
    pub user: String,
    pub password: Secret,
    /// Who may reach the share; empty: everybody.
    pub clients: Vec<IpNet>,
    /// Whether both ends demand SMB3 encryption.
    pub encrypt: bool,
}

/// What the storage role needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Storage {
    /// The directory that is shared; at or below the disk's mount point where there is a disk.
    pub path: PathBuf,
    pub disk: Option<Disk>,
    pub content: Option<Content>,
}

/// The data disk below the share.
#[derive(Debug, Clone, PartialEq)]
pub struct Disk {
    pub device: Device,
    pub filesystem: Filesystem,
    pub mount: PathBuf,
}

/// How the data disk is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// The one blank disk.
    Auto,
    /// A path below `/dev`.
    Path(PathBuf),
    /// The serial that the disk reports.
    Serial(String),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Serial(serial) => f.write_str(serial),
        }
    }
}

/// The file system that a blank data disk gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    Xfs,
    Ext4,
}

impl Filesystem {
    /// The name that the kernel, `mkfs` and the tier file use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
        }
    }
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the WAS VMs run: one revision of a git repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// A URL, `user@host:path` or an absolute path; never with a password in it.
    pub git: String,
    /// A branch, a tag or a commit.
    pub rev: String,
    /// The directory of the repository that becomes the share's root.
    pub subdir: Option<PathBuf>,
    /// A program and its arguments, run once per revision; empty: nothing to build.
    pub build: Vec<String>,
    pub edit: Vec<Edit>,
}

/// Properties to set in a JavaScript object literal.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// Relative to the content's root.
    pub files: Vec<PathBuf>,
    /// The call whose literal is edited, such as `mysql.createPool`.
    pub object: String,
    /// Maps a property to a template, whose placeholders are those of
    /// [`super::template::DATABASE`].
    pub set: BTreeMap<String, String>,
}

/// The database tier behind its load balancer.
#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    /// An IP address or a host name.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// `None` where it was not read: nothing that the role does puts it anywhere.
    pub password: Option<Secret>,
    pub name: String,
}

/// What the WAS role needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Was {
    /// Where the share is mounted on the VM.
    pub mount: PathBuf,
    pub vers: Dialect,
    pub container: Container,
}

/// An SMB dialect, named as in the kernel's `vers=` option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Dialect {
    V3_0,
    V3_0_2,
    V3_1_1,
    /// The newest of them that both sides speak.
    #[default]
    V3,
}

impl Dialect {
    /// The dialect as the tier file and the kernel write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V3_0 => "3.0",
            Self::V3_0_2 => "3.0.2",
            Self::V3_1_1 => "3.1.1",
            Self::V3 => "3",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The application's container.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub name: String,
    pub image: Image,
    /// A template: `{index}` stands for the digits at the end of the VM's host name.
    pub hostname: String,
    pub publish: Vec<Publish>,
    /// Where the share appears in the container.
    pub workdir: PathBuf,
    pub privileged: bool,
    /// Whether the image's files are read-only in the container.
    pub read_only: bool,
    pub env: BTreeMap<String, String>,
    /// The application's secrets, by the names of their files in `/run/secrets`.
    pub secrets: BTreeMap<String, Secret>,
}

/// Where the container's image comes from. Displayed as written in the tier file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// A fully qualified reference, `registry/name[:tag|@digest]`.
    Registry(String),
    /// A tar file that `podman save` or `docker save` wrote.
    DockerArchive(PathBuf),
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => f.write_str(reference),
            Self::DockerArchive(path) => write!(f, "docker-archive:{}", path.display()),
        }
    }
}

/// A port of the VM that leads to a port of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// The VM's address to listen on; `None`: all addresses.
    pub address: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

impl Publish {
    /// Where this VM itself reaches the published port.
    pub fn reached_at(&self) -> SocketAddr {
        let listens = self.address.filter(|address| !address.is_unspecified());
        let address = listens.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        SocketAddr::new(address, self.host_port)
    }
}

impl fmt::Display for Publish {
    /// As podman's `--publish` reads it; the protocol is left out where it is TCP.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        write!(f, "{}:{}", self.host_port, self.container_port)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

/// The transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Which firewalld zone is opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Firewall {
    /// `None`: firewalld's default zone.
    pub zone: Option<String>,
}

/// How the service treats drift.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Serve {
    pub mode: Mode,
}

/// Whether drift is corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Correct drift.
    #[default]
    Enforce,
    /// Only report drift.
    Report,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        })
    }
}

/// How the node's health is probed and published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The time between two probes.
    pub interval: Duration,
    /// Where the HTTP endpoint listens; `None`: it is off.
    pub listen: Option<SocketAddr>,
    pub http: HttpCheck,
    /// How long a draining node goes on serving before its container stops.
    pub drain: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            listen: Some(SocketAddr::from(([0, 0, 0, 0], 9180))),
            http: HttpCheck::default(),
            drain: Duration::from_secs(20),
        }
    }
}

/// What the application is asked on the first published TCP port, and what it has to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// Begins with a slash.
    pub path: String,
    pub status: u16,
    /// A template that the body must contain; `{container.hostname}` stands for the container's
    /// host name on this VM. `None`: any body will do.
    pub contains: Option<String>,
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            status: 200,
            contains: None,
        }
    }
}
