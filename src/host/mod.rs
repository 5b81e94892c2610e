//! Every effect on the machine: system calls, D-Bus, files and helper programs. Above this module
//! nothing opens a file, calls the bus or starts a process.

pub mod account;
pub mod block;
pub mod cifs;
pub mod conmon;
pub mod facts;
#[cfg(feature = "failpoints")]
pub mod failpoint;
pub mod firewalld;
pub mod fs;
pub mod fstab;
pub mod git;
mod git_refs;
pub mod grow;
pub mod holders;
pub mod http;
pub mod image_archive;
mod image_store;
pub mod journald;
pub mod kmsg;
pub mod mark;
pub mod mount;
pub mod passdb;
pub mod permit;
pub mod podman;
pub mod podman_secret;
pub mod process;
pub mod recent_starts;
pub mod registry_image;
pub mod samba;
pub mod selinux;
pub mod sha256;
mod signature;
pub mod smb_conf;
pub mod start_lock;
pub mod systemd;
pub mod tree;
pub mod unnamed;

pub use facts::Facts;
pub use firewalld::Firewalld;
pub use permit::Permit;
pub use systemd::Systemd;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};

/// The agent's own directory.
pub const STATE_DIRECTORY: &str = "/var/lib/wasagent";

/// Where every guest has its system bus. The environment's idea of it is not asked: root does not
/// talk to whatever a variable names, and an address with a host name would lead into NSS.
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// How long systemd or firewalld may take to answer: firewalld alone takes seconds on a slow VM.
const METHOD_TIMEOUT: Duration = Duration::from_secs(90);

/// This machine: its services on the bus, and what was found out about it.
pub struct Host {
    pub systemd: Systemd,
    /// `None` where no firewalld runs.
    pub firewalld: Option<Firewalld>,
    pub facts: Facts,
    /// Where the record of the runs is.
    pub state_directory: PathBuf,
}

impl Host {
    /// firewalld, or the error that it does not run.
    pub fn running_firewalld(&self) -> Result<&Firewalld> {
        self.firewalld.as_ref().ok_or_else(|| {
            Error::new("firewalld does not run").hint("systemctl enable --now firewalld")
        })
    }

    /// Connects to the system bus and looks around. Changes nothing.
    pub async fn connect() -> Result<Self> {
        let bus = system_bus().await?;
        let (systemd, firewalld) =
            tokio::try_join!(Systemd::connect(&bus), Firewalld::connect(&bus))?;
        let facts = Facts::discover(&systemd, firewalld.as_ref()).await?;
        Ok(Self {
            systemd,
            firewalld,
            facts,
            state_directory: PathBuf::from(STATE_DIRECTORY),
        })
    }
}

/// A connection to the system bus.
pub async fn system_bus() -> Result<zbus::Connection> {
    let refused = |e: zbus::Error| {
        Error::new(format!("connect to the system bus: {e}"))
            .hint("wasagent needs a guest that runs systemd and D-Bus")
    };
    zbus::connection::Builder::address(SYSTEM_BUS)
        .method_timeout(METHOD_TIMEOUT)
        .build()
        .await
        .map_err(refused)
}

/// Runs a blocking system call where it does not hold up the others.
pub async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(fault) => Err(Error::new(format!("a system call was given up: {fault}"))),
    }
}
