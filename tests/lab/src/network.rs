//! The network that the guests share: a namespace with one bridge, and no way out of it.
//!
//! The addresses of the guide (192.168.2.0/24) exist only inside. Programs enter the namespace with setns(2) between
//! fork and exec. `ip netns exec` does more: it puts a new /sys in front of the machine's, and with it the control
//! groups that systemd-nspawn needs are gone.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::libc;
use nix::sched::{CloneFlags, setns};

use crate::leftovers::Undo;
use crate::process::{Output, command, ok};

/// Where the registry listens, and what guests know as their gateway.
pub const GATEWAY: &str = "192.168.2.1";
/// Where the balancer listens, as in the guide.
pub const BALANCER: &str = "192.168.2.26";
const BRIDGE: &str = "lab0";

// Attaches an open /dev/net/tun to an interface (Linux: Documentation/networking/tuntap.rst).
nix::ioctl_write_ptr_bad!(attach_tun, libc::TUNSETIFF, libc::ifreq);

/// One namespace with its bridge; gone when the last owner of it is.
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    handle: Arc<File>,
    undo: Arc<Undo>,
}

impl Network {
    /// Makes the namespace `wasagent-lab-…` with the bridge, its two addresses and loopback up.
    pub fn create(undo: Arc<Undo>) -> Result<Network> {
        let name = undo.name().to_owned();
        undo.note("netns", &name)?;
        ok(command(["ip", "netns", "add", &name]))?;
        let handle = File::open(Path::new("/run/netns").join(&name))
            .context("open the network namespace")?;
        let inner = Inner {
            name,
            handle: Arc::new(handle),
            undo,
        };
        let network = Network {
            inner: Arc::new(inner),
        };
        network.ip(["link", "set", "lo", "up"])?;
        network.ip(["link", "add", BRIDGE, "type", "bridge"])?;
        for address in [GATEWAY, BALANCER] {
            network.ip(["address", "add", &format!("{address}/24"), "dev", BRIDGE])?;
        }
        network.ip(["link", "set", BRIDGE, "up"])?;
        Ok(network)
    }

    /// The namespace's name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The bridge that guests are attached to.
    pub fn bridge(&self) -> &str {
        BRIDGE
    }

    /// Where sockets and logs of this lab are.
    pub fn run_directory(&self) -> &Path {
        self.inner.undo.directory()
    }

    pub(crate) fn undo(&self) -> &Arc<Undo> {
        &self.inner.undo
    }

    /// The same program, but inside the namespace.
    pub fn inside(&self, mut command: Command) -> Command {
        let handle = Arc::clone(&self.inner.handle);
        // SAFETY: setns is one system call; nothing is allocated between fork and exec.
        unsafe {
            command.pre_exec(move || setns(&*handle, CloneFlags::CLONE_NEWNET).map_err(Into::into))
        };
        command
    }

    /// A program inside the namespace, from an argument list.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.inside(command(arguments))
    }

    /// `ip` inside the namespace.
    pub fn ip<const N: usize>(&self, arguments: [&str; N]) -> Result<Output> {
        let mut ip = self.command(["ip"]);
        ip.args(arguments);
        ok(ip)
    }

    /// A number that no other guest of this process has: nspawn's machine names are the machine's, not the network's.
    pub(crate) fn number(&self) -> u32 {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        COUNT.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a tap device for a VM; `attached`: on the bridge.
    pub(crate) fn add_tap(&self, tap: &str, attached: bool) -> Result<()> {
        self.ip(["tuntap", "add", "dev", tap, "mode", "tap"])?;
        if attached {
            self.ip(["link", "set", tap, "master", BRIDGE])?;
        }
        self.ip(["link", "set", tap, "up"]).map(drop)
    }

    /// The guest's end of a tap device, for a QEMU that runs outside the namespace.
    pub(crate) fn open_tap(&self, tap: &str) -> Result<File> {
        // setns(2) moves the calling thread alone, so it is one that ends here.
        let opened = thread::scope(|scope| scope.spawn(|| self.open_tap_here(tap)).join());
        opened
            .map_err(|_| anyhow!("the thread that opens a tap panicked"))?
            .with_context(|| format!("open the tap device {tap}"))
    }

    fn open_tap_here(&self, tap: &str) -> Result<File> {
        setns(&*self.inner.handle, CloneFlags::CLONE_NEWNET)?;
        let tun = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        // SAFETY: an ifreq is numbers and addresses of numbers, for all of which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays: the name ends with a zero.
        let room = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name[..room].iter_mut().zip(tap.bytes()) {
            *to = from as libc::c_char;
        }
        // As QEMU opens one itself.
        request.ifr_ifru.ifru_flags =
            (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        // SAFETY: the file is open and the request lives until the call returns.
        unsafe { attach_tun(tun.as_raw_fd(), &request) }?;
        Ok(tun)
    }

    /// A veth pair, one end of which is a port of this machine's: on the bridge, if `bridged`. The other end is for a kernel
    /// that takes its frames from it, so this one's own network stack leaves it alone.
    pub(crate) fn add_cable(&self, port: &str, card: &str, bridged: bool) -> Result<()> {
        self.ip(["link", "add", port, "type", "veth", "peer", "name", card])?;
        self.ip(["link", "set", card, "addrgenmode", "none"])?;
        self.ip(["link", "set", card, "arp", "off"])?;
        if bridged {
            self.ip(["link", "set", port, "master", BRIDGE])?;
        }
        self.ip(["link", "set", card, "up"])?;
        self.ip(["link", "set", port, "up"]).map(drop)
    }

    /// The two addresses of a link by which the lab reaches a guest, and that only the two of them have: this machine's and
    /// the guest's.
    pub(crate) fn management(number: u32) -> (Ipv4Addr, Ipv4Addr) {
        let first = u32::from(Ipv4Addr::new(10, 99, 0, 0)) + 4 * number + 1;
        (first.into(), (first + 1).into())
    }

    pub(crate) fn remove_link(&self, link: &str) {
        let _ = self.ip(["link", "delete", link]);
    }

    /// Lets no frame pass a bridge port, or lets them pass again.
    ///
    /// The port is disabled, not taken down: the guest's link stays up and its packets are lost, as behind a failed
    /// switch. A cable that is pulled would be noticed by the guest at once, which is the easier case.
    pub(crate) fn set_port(&self, port: &str, open: bool) -> Result<()> {
        let state = if open { "forwarding" } else { "disabled" };
        ok(self.command(["bridge", "link", "set", "dev", port, "state", state])).map(drop)
    }

    /// A file for what a program of the lab says.
    pub fn log(&self, name: &str) -> Result<(File, PathBuf)> {
        let path = self.run_directory().join(format!("{name}.log"));
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)?;
        Ok((file, path))
    }
}
