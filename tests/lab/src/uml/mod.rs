//! A guest of User-Mode Linux: a Linux kernel that is a program of this machine's, on a root of the lab's.
//!
//! Real are the system calls, CIFS, netfilter, a second disk, a reboot and a power cut; the kernel is not the
//! distribution's, and what its block driver lacks (serials, growth) QEMU has ([`crate::kind::Need`]).
//!
//! Two network cards, each a veth pair whose far end is a port of the kernel's: one on the bridge, and one that this
//! machine alone is on, by which the lab reaches the guest whatever a test does to the first.

mod kernel;
mod mconsole;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::control_group::ControlGroup;
use crate::guest::{Disk, Spec};
use crate::machine::{Attached, Machine};
use crate::network::Network;
use crate::process::{Daemon, until};
use crate::release::Release;
use crate::root::Root;

pub use kernel::Kernel;
use mconsole::Mconsole;

/// As much as a QEMU guest has; a page that the guest does not touch costs the machine nothing.
const MEMORY: &str = "1G";
/// How long a disk may be in use by somebody who is about to close it.
const DETACH: Duration = Duration::from_secs(30);

/// The root disk: an overlay of the release's image in the driver's own format (Linux: arch/um/drivers/cow.h).
const ROOT_DISK: &str = "root.cow";
const ROOT_IMAGE: &str = "root.img";
/// The last number of the driver's (Linux: arch/um/drivers/ubd_kern.c, MAX_DEV).
const SEED_DISK: usize = 15;

#[derive(Debug)]
pub(crate) struct Uml {
    network: Network,
    kernel: Kernel,
    release: Release,
    name: String,
    /// `ADDRESS/PREFIX` of the service card.
    address: String,
    number: u32,
    /// Where its disks are.
    directory: PathBuf,
    disks: Vec<Attached>,
    /// A disk with cloud-init's seed, read-only.
    seed: Option<PathBuf>,
    /// How many blank disks it was given.
    plugged: usize,
    group: ControlGroup,
    machine: Option<Daemon>,
}

impl Uml {
    /// A guest whose root disk is an overlay of the release's image; it is not started.
    pub fn create(
        network: &Network,
        kernel: Kernel,
        root: &Root,
        spec: &Spec,
        directory: PathBuf,
    ) -> Result<Uml> {
        fs::create_dir_all(&directory)?;
        symlink(root.image(), directory.join(ROOT_IMAGE))?;
        let number = network.number();
        let uml = Uml {
            network: network.clone(),
            kernel,
            release: root.release,
            name: spec.name.clone(),
            address: format!("{}/24", spec.address),
            number,
            directory,
            disks: Vec::new(),
            seed: spec.seed.clone(),
            plugged: 0,
            group: ControlGroup::create(network.undo(), &format!("guest{number}"))?,
            machine: None,
        };
        uml.connect()?;
        Ok(uml)
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The two addresses of the management link: the machine's and the guest's.
    pub fn management(&self) -> (Ipv4Addr, Ipv4Addr) {
        Network::management(self.number)
    }

    fn connect(&self) -> Result<()> {
        self.network
            .add_cable(&self.port(), &self.card("service"), true)?;
        let port = format!("mg{}", self.number);
        self.network
            .add_cable(&port, &self.card("management"), false)?;
        let (here, _) = self.management();
        self.network
            .ip(["address", "add", &format!("{here}/30"), "dev", &port])
            .map(drop)
    }

    /// The end of a link that is the kernel's.
    fn card(&self, link: &str) -> String {
        format!("u{}{}", &link[..1], self.number)
    }

    fn command(&self) -> Result<Command> {
        let run = self.network.run_directory();
        let mut linux = Command::new(self.kernel.path());
        linux.current_dir(&self.directory);
        // c: the image is not locked, because QEMU opens no image that somebody else holds a lock on.
        linux.arg(format!("ubd0c={ROOT_DISK},{ROOT_IMAGE}"));
        for attached in &self.disks {
            // t: no discard, which this driver does in pieces of 32 KiB: a whole disk would take it a minute.
            linux.arg(format!(
                "ubd{}t={}",
                attached.number,
                attached.file.display()
            ));
        }
        if let Some(seed) = &self.seed {
            linux.arg(format!("ubd{SEED_DISK}r={}", seed.display()));
        }
        linux.args(["root=/dev/ubda", "rootfstype=ext4", "rw"]);
        linux.arg(format!("mem={MEMORY}"));
        // Without it each system call of the guest costs two switches by ptrace(2).
        linux.arg("seccomp=on");
        // A kernel with SELinux on a root without a policy: D-Bus would not start.
        match self.release.kernel_arguments() {
            "" => linux.arg("selinux=0"),
            arguments => linux.args(arguments.split_whitespace()),
        };
        linux.args(["con=null", "con0=null,fd:1", "ssl=null"]);
        for (index, link) in ["service", "management"].into_iter().enumerate() {
            // gro: without it a large transfer stalls on packets that were put together before they came here.
            linux.arg(format!(
                "vec{index}:transport=raw,ifname={},depth=128,gro=1,mac={}",
                self.card(link),
                self.mac(index)
            ));
        }
        linux.arg(format!("uml_dir={}", run.display()));
        linux.arg(format!("umid={}", self.umid()));
        let (_, management) = self.management();
        linux.args(["quiet", "systemd.show_status=error"]);
        linux.arg(format!("lab.name={}", self.name));
        linux.arg(format!("lab.address={}", self.address));
        linux.arg(format!("lab.management={management}/30"));
        Ok(self.network.inside(linux))
    }

    fn mac(&self, card: usize) -> String {
        let [_, _, high, low] = self.number.to_be_bytes();
        format!("52:54:00:{:02x}:{high:02x}:{low:02x}", 2 + card)
    }

    /// The name of its directory for sockets.
    fn umid(&self) -> String {
        format!("uml{}", self.number)
    }

    fn mconsole(&self) -> Mconsole {
        let directory = self.network.run_directory().join(self.umid());
        Mconsole::of(&directory.join("mconsole"))
    }

    /// The lowest number that no disk has.
    fn free_number(&self) -> usize {
        let taken = |number: &usize| self.disks.iter().any(|disk| disk.number == *number);
        (1..).find(|number| !taken(number)).unwrap_or(1)
    }

    fn runs(&self) -> bool {
        self.machine.is_some()
    }
}

impl Machine for Uml {
    fn start(&mut self) -> Result<()> {
        // Of a kernel that was killed; a new one would take another name while it is there.
        let _ = fs::remove_dir_all(self.network.run_directory().join(self.umid()));
        let (log, _) = self.network.log(&self.name)?;
        let mut linux = self.command()?;
        linux
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.machine = Some(Daemon::start(self.group.inside(linux)?)?);
        Ok(())
    }

    fn power_cut(&mut self) {
        // All of its processes: each address space of the guest's is one.
        self.group.kill();
        self.machine = None;
    }

    fn blocked_tasks(&self) -> Option<String> {
        self.mconsole().execute("sysrq w").ok()
    }

    fn ended(&mut self) -> Result<Option<i32>> {
        Ok(self.machine.as_mut().and_then(Daemon::ended))
    }

    fn port(&self) -> String {
        format!("ub{}", self.number)
    }

    fn device(&self, index: usize) -> Result<String> {
        let attached = self.disks.get(index);
        let attached = attached.with_context(|| format!("there is no disk {index}"))?;
        let letter = (b'a' + attached.number as u8) as char;
        Ok(format!("/dev/ubd{letter}"))
    }

    fn disk_file(&self, index: usize) -> PathBuf {
        match self.disks.get(index) {
            Some(attached) => attached.file.clone(),
            None => self.directory.join(format!("disk{index}")),
        }
    }

    fn plug(&mut self, disk: &Disk) -> Result<()> {
        // A name that no disk had before: one that was taken out may come back.
        let file = self.directory.join(format!("disk{}", self.plugged));
        self.plugged += 1;
        fs::File::create(&file)?.set_len(disk.size)?;
        self.attach(disk.clone(), file)
    }

    fn attach(&mut self, disk: Disk, file: PathBuf) -> Result<()> {
        let number = self.free_number();
        if self.runs() {
            let command = format!("config ubd{number}t={}", file.display());
            self.mconsole().execute(&command)?;
        }
        self.disks.push(Attached { disk, file, number });
        Ok(())
    }

    /// The kernel refuses to let go of a disk that is in use.
    fn detach(&mut self, index: usize) -> Result<(Disk, PathBuf)> {
        if index >= self.disks.len() {
            bail!("there is no disk {index}");
        }
        if self.runs() {
            let command = format!("remove ubd{}", self.disks[index].number);
            let mconsole = self.mconsole();
            // udev opens it for a moment after somebody has written to it.
            let mut refused = None;
            let gone = until("the kernel to let go of its disk", DETACH, || {
                refused = mconsole.execute(&command).err();
                Ok(refused.is_none().then_some(()))
            });
            if let (Err(late), Some(refused)) = (gone, refused) {
                return Err(refused.context(late));
            }
        }
        let Attached { disk, file, .. } = self.disks.remove(index);
        Ok((disk, file))
    }

    /// While it is off: the driver takes no new size.
    fn grow(&mut self, index: usize, size: u64) -> Result<()> {
        if self.runs() {
            bail!("the disks of a running kernel keep their size: ask for DiskGrowth");
        }
        let attached = self.disks.get_mut(index);
        let attached = attached.with_context(|| format!("there is no disk {index}"))?;
        attached.disk.size = size;
        let file = fs::OpenOptions::new().write(true).open(&attached.file)?;
        Ok(file.set_len(size)?)
    }
}

impl Drop for Uml {
    fn drop(&mut self) {
        self.power_cut();
        for link in [self.port(), format!("mg{}", self.number)] {
            self.network.remove_link(&link);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
