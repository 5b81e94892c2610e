//! What a guest runs on, as [`crate::Guest`] sees it: a container, QEMU or User-Mode Linux.

use std::fmt::Debug;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::guest::Disk;
use crate::vm::Vm;

/// A data disk of a machine.
#[derive(Debug)]
pub(crate) struct Attached {
    pub disk: Disk,
    /// Its contents; raw.
    pub file: PathBuf,
    /// Of its device: the slot on QEMU's bus, the letter of /dev/ubdX (1 is b).
    pub number: usize,
}

/// One machine, with its links and disks.
pub(crate) trait Machine: Debug + Send {
    /// Switches it on, with the disks as they are.
    fn start(&mut self) -> Result<()>;

    /// Takes its power away: nothing in it notices, nothing is flushed.
    fn power_cut(&mut self);

    /// The exit code, if it has ended for good.
    fn ended(&mut self) -> Result<Option<i32>>;

    /// Whether it has a kernel of its own.
    fn has_kernel(&self) -> bool {
        true
    }

    /// The end of the guest's link that is on the bridge.
    fn port(&self) -> String;

    /// The interface that is on the other end of it, as the guest names it.
    fn interface(&self) -> &'static str {
        Vm::SERVICE_CARD
    }

    /// Gives the machine's ends of links that a boot makes anew what they need to be.
    fn attach_links(&self) {}

    /// The device paths of its disks, where the guest's names for them have nothing to do with the guest: a container sees
    /// the disks of the whole machine.
    fn devices(&self) -> &[String] {
        &[]
    }

    /// The path of a data disk in the guest.
    fn device(&self, index: usize) -> Result<String>;

    /// The file behind a data disk, to look at while the guest is off.
    fn disk_file(&self, index: usize) -> PathBuf;

    /// Attaches a blank disk while the guest runs, as Mold attaches a volume.
    fn plug(&mut self, _disk: &Disk) -> Result<()> {
        bail!("its disks are given when it is made")
    }

    /// Attaches a disk with what is on it.
    fn attach(&mut self, _disk: Disk, _file: PathBuf) -> Result<()> {
        bail!("its disks are given when it is made")
    }

    /// Takes a disk out, also while the guest runs.
    fn detach(&mut self, _index: usize) -> Result<(Disk, PathBuf)> {
        bail!("it keeps its disks")
    }

    /// Makes a disk larger while the guest runs, as Mold resizes a volume.
    fn grow(&mut self, index: usize, size: u64) -> Result<()>;

    /// What its kernel says of the tasks that wait for something without an end (sysrq w), if it can be asked from outside.
    fn blocked_tasks(&self) -> Option<String> {
        None
    }

    /// QEMU, for what only its control protocol can do.
    fn qemu(&mut self) -> Option<&mut Vm> {
        None
    }
}
