//! Every call to the machine: system calls, D-Bus, files and helper programs. A function that
//! changes something takes a [`Permit`]; [`crate::effect`] keeps the record of changes.

pub mod account;
pub mod agent;
pub mod anonymous_file;
pub mod bus;
pub mod cifs;
pub mod disk;
pub mod escape;
pub mod facts;
#[cfg(feature = "failpoints")]
pub mod failpoint;
pub mod firewalld;
pub mod fs;
pub mod fstab;
pub mod git;
pub mod health_file;
pub mod held_container;
pub mod holders;
pub mod http;
pub mod kmsg;
pub mod listener;
pub mod mark;
pub mod mentions;
pub mod mount;
pub mod names;
pub mod network;
pub mod permit;
pub mod podman;
pub mod process;
pub mod process_fd;
pub mod recent_starts;
pub mod samba;
pub mod selinux;
pub mod sha256;
pub mod start_lock;
pub mod starters;
pub mod systemd;
pub mod tree;
pub mod until;
pub mod way;
pub mod writable;

pub use bus::system_bus;
pub use facts::Facts;
pub use firewalld::Firewalld;
pub use permit::Permit;
pub use systemd::Systemd;
pub use until::{Answer, until};

use std::any::Any;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// The agent's own directory.
pub const STATE_DIRECTORY: &str = "/var/lib/wasagent";

/// This machine: its services on the bus, and the facts about it.
pub struct Host {
    pub systemd: Systemd,
    /// The error that says why none answers, where none does.
    pub firewalld: Result<Firewalld>,
    pub facts: Facts,
    /// Where the record of runs is kept.
    pub state_directory: PathBuf,
    /// Whether what runs have recorded is looked at. health does without: it asks what is true now.
    pub reads_records: bool,
}

impl Host {
    /// firewalld, or an error if it does not run.
    pub fn running_firewalld(&self) -> Result<&Firewalld> {
        self.firewalld.as_ref().map_err(Clone::clone)
    }

    /// Connects to the system bus and looks around. Changes nothing.
    pub async fn connect() -> Result<Self> {
        let bus = system_bus().await?;
        let (systemd, firewalld) =
            tokio::try_join!(Systemd::connect(&bus), Firewalld::connect(&bus))?;
        let facts = Facts::discover(&systemd, firewalld.as_ref()).await?;
        let firewalld = match firewalld {
            Some(firewalld) => Ok(firewalld),
            None => Err(firewalld::why_it_does_not_run(
                &systemd.unit(firewalld::UNIT).await?,
            )),
        };
        Ok(Self {
            systemd,
            firewalld,
            facts,
            state_directory: PathBuf::from(STATE_DIRECTORY),
            reads_records: true,
        })
    }

    /// The same, without what runs have recorded.
    #[must_use]
    pub fn without_records(self) -> Self {
        Self {
            reads_records: false,
            ..self
        }
    }
}

/// Runs a blocking system call where it does not delay other tasks.
///
/// tokio's code for a task is compiled once for each type of task, so all of these are one type.
pub async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    type Call = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;
    let call: Call = Box::new(|| Box::new(call()));
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => *result.downcast().expect("it is what the call returned"),
        Err(fault) => Err(Error::new(format!("a system call was given up: {fault}"))),
    }
}
