//! A VM guest: QEMU with Debian's own kernel, so that CIFS, disks, reboots and power cuts are the real ones.
//!
//! Two network cards: one on the bridge, and one on QEMU's user-mode network, restricted so that nothing leads out of
//! it but a port for SSH, by which restored guests with equal addresses are reached without meeting each other.
//!
//! A cloud image boots by its own loader and may have to fetch packages, so its user-mode network leads to wherever this
//! machine's does: its QEMU runs outside the namespace, with the bridge's end of the service card handed to it open.
//! Nothing of it listens on this machine; its SSH server is reached by the service card.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::json;

use crate::accelerator::Accelerator;
use crate::cloud_image::CloudImage;
use crate::control_group::ControlGroup;
use crate::guest::Disk;
use crate::machine::{Attached, Machine};
use crate::network::Network;
use crate::process::{Daemon, command, ok, until};
use crate::qmp::Qmp;
use crate::root::Root;
use crate::state::State;

/// Enough for podman and firewalld together; a page that the guest does not touch costs the machine nothing.
const MEMORY: &str = "1G";
/// How long a guest may take to let go of a disk on an emulated processor.
const DETACH: Duration = Duration::from_secs(120);
/// A cloud image brings a whole distribution, and its package manager needs more than its services.
const IMAGE_MEMORY: &str = "2G";

/// What a VM guest boots.
#[derive(Clone, Debug)]
pub(crate) enum Boot {
    /// Its kernel is QEMU's to load, with the guest's identity on the command line.
    Root(Root),
    /// Its boot loader is in it, and the seed tells it who it is.
    Image(CloudImage),
}

/// What a VM guest is made of.
#[derive(Clone, Debug)]
pub(crate) struct Hardware {
    pub network: Network,
    pub accelerator: Accelerator,
    pub boot: Boot,
    pub name: String,
    /// `ADDRESS/PREFIX` of the service card.
    pub address: String,
    pub number: u32,
    /// Where its disks are.
    pub directory: PathBuf,
    /// A disk with cloud-init's seed, read-only.
    pub seed: Option<PathBuf>,
}

impl Hardware {
    /// The root, where the lab has built one.
    pub fn root(&self) -> Result<&Root> {
        match &self.boot {
            Boot::Root(root) => Ok(root),
            Boot::Image(image) => bail!(
                "{}: {} is not a root of the lab's",
                self.name,
                image.path().display()
            ),
        }
    }

    /// The address of its service card.
    pub fn mac(&self) -> String {
        let [_, _, high, low] = self.number.to_be_bytes();
        format!("52:54:00:01:{high:02x}:{low:02x}")
    }

    fn memory(&self) -> &'static str {
        match self.boot {
            Boot::Root(_) => MEMORY,
            Boot::Image(_) => IMAGE_MEMORY,
        }
    }
}

/// How QEMU gets the guest's memory.
pub(crate) enum Memory<'a> {
    /// Empty, for a boot.
    Fresh,
    /// In this file, for a boot whose state is going to be saved.
    Recorded(&'a Path),
    /// From a saved state: the file's pages, copied when written to.
    Saved(&'a State),
}

#[derive(Debug)]
pub(crate) struct Vm {
    hardware: Hardware,
    disks: Vec<Attached>,
    /// How many disks it ever had.
    numbered: usize,
    group: ControlGroup,
    qemu: Option<(Daemon, Qmp)>,
}

impl Vm {
    /// A guest whose root disk is an overlay of `base`; it is not started.
    pub fn create(hardware: Hardware, base: &Path, format: &str, attached: bool) -> Result<Vm> {
        fs::create_dir_all(&hardware.directory)?;
        let mut overlay = command([
            "qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b",
        ]);
        overlay.arg(base).arg(root_disk(&hardware));
        ok(overlay)?;
        let group = ControlGroup::create(
            hardware.network.undo(),
            &format!("guest{}", hardware.number),
        )?;
        hardware.network.add_tap(&tap(&hardware), attached)?;
        Ok(Vm {
            hardware,
            disks: Vec::new(),
            numbered: 0,
            group,
            qemu: None,
        })
    }

    /// The port on the namespace's loopback that leads to the SSH server of a guest with a root of the lab's.
    pub fn ssh_port(number: u32) -> u16 {
        2200 + number as u16
    }

    /// The address of its service card.
    pub fn mac(&self) -> String {
        self.hardware.mac()
    }

    /// The name of its service card: slot 3 (systemd.net-naming-scheme(7)).
    pub const SERVICE_CARD: &str = "ens3";

    /// The address of every guest's management card: no two of them are on one network.
    pub const MANAGEMENT_MAC: &str = "52:54:00:00:00:02";

    /// Switches it on with this memory.
    pub fn boot(&mut self, memory: Memory) -> Result<()> {
        let socket = self
            .hardware
            .network
            .run_directory()
            .join(format!("{}.qmp", self.hardware.name));
        let _ = fs::remove_file(&socket);
        let (log, path) = self
            .hardware
            .network
            .log(&format!("{}.qemu", self.hardware.name))?;
        let mut command = self.command(&memory, &socket)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut daemon = Daemon::start(self.group.inside(command)?)?;
        let mut qmp = Qmp::connect(&socket, || match daemon.ended() {
            Some(code) => bail!(
                "QEMU ended with {code}: {}",
                fs::read_to_string(&path).unwrap_or_default()
            ),
            None => Ok(()),
        })?;
        if let Memory::Saved(state) = memory {
            state.load(&mut qmp)?;
        }
        self.qemu = Some((daemon, qmp));
        Ok(())
    }

    fn command(&self, memory: &Memory, socket: &Path) -> Result<Command> {
        let hardware = &self.hardware;
        let mut qemu = command([
            "qemu-system-x86_64",
            "-nodefaults",
            "-display",
            "none",
            "-vga",
            "none",
        ]);
        qemu.arg("-name")
            .arg(&hardware.name)
            .args(hardware.accelerator.arguments());
        self.add_memory(&mut qemu, memory);
        if let Boot::Root(root) = &hardware.boot {
            self.add_kernel(&mut qemu, root);
        }
        let mut qemu = self.with_cards(qemu)?;
        add_drive(&mut qemu, "root", "qcow2", &root_disk(hardware), "0x5", "");
        if let Some(seed) = &hardware.seed {
            add_drive(&mut qemu, "seed", "raw", seed, "0x7", "");
        }
        for attached in &self.disks {
            add_drive(
                &mut qemu,
                &disk_id(attached.number),
                "raw",
                &attached.file,
                &disk_slot(attached.number),
                &attached.disk.serial,
            );
        }
        let console = hardware
            .network
            .run_directory()
            .join(format!("{}.log", hardware.name));
        qemu.arg("-serial")
            .arg(format!("file:{}", console.display()));
        qemu.arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()));
        qemu.args(["-device", "virtio-rng-pci,addr=0x6"]);
        Ok(qemu)
    }

    fn add_memory(&self, qemu: &mut Command, memory: &Memory) {
        let (file, share) = match memory {
            Memory::Fresh => {
                qemu.args(["-machine", "pc", "-m", self.hardware.memory()]);
                return;
            }
            Memory::Recorded(file) => (file.to_path_buf(), "on"),
            Memory::Saved(state) => (state.memory(), "off"),
        };
        qemu.args([
            "-machine",
            "pc,memory-backend=memory",
            "-m",
            MEMORY,
            "-object",
        ]);
        qemu.arg(format!(
            "memory-backend-file,id=memory,size={MEMORY},mem-path={},share={share}",
            file.display()
        ));
        if matches!(memory, Memory::Saved(_)) {
            qemu.args(["-incoming", "defer"]);
        }
    }

    fn add_kernel(&self, qemu: &mut Command, root: &Root) {
        let hardware = &self.hardware;
        qemu.arg("-kernel")
            .arg(root.kernel())
            .arg("-initrd")
            .arg(root.initrd());
        // The status lines of systemd go to the serial port, each character of which is a trap: only failures are worth it.
        // Beside other guests, firewalld on an emulated processor may need more than the 90 s that systemd would wait.
        let patience = match hardware.accelerator {
            Accelerator::Tcg => " systemd.default_timeout_start_sec=600",
            Accelerator::Kvm => "",
        };
        qemu.arg("-append").arg(format!(
            "root=/dev/vda rw console=ttyS0 quiet mitigations=off systemd.show_status=error lab.name={} lab.address={}{}{patience}",
            hardware.name, hardware.address, root.release.kernel_arguments()
        ));
    }

    /// Adds the network cards, and chooses the network that QEMU itself is on. Neither card has a boot ROM: the guest
    /// never boots from the network.
    fn with_cards(&self, mut qemu: Command) -> Result<Command> {
        let hardware = &self.hardware;
        qemu.arg("-device").arg(format!(
            "virtio-net-pci,netdev=service,mac={},addr=0x3,romfile=",
            hardware.mac()
        ));
        qemu.arg("-device").arg(format!(
            "virtio-net-pci,netdev=management,mac={},addr=0x4,romfile=",
            Vm::MANAGEMENT_MAC
        ));
        match hardware.boot {
            Boot::Root(_) => {
                let port = Vm::ssh_port(hardware.number);
                qemu.arg("-netdev").arg(format!(
                    "tap,id=service,ifname={},script=no,downscript=no",
                    tap(hardware)
                ));
                qemu.arg("-netdev").arg(format!(
                    "user,id=management,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"
                ));
                Ok(hardware.network.inside(qemu))
            }
            Boot::Image(_) => {
                let tap = hardware.network.open_tap(&tap(hardware))?;
                qemu.arg("-netdev")
                    .arg(format!("tap,id=service,fd={}", tap.as_raw_fd()));
                qemu.args(["-netdev", "user,id=management"]);
                let keep_open = move || {
                    fcntl(&tap, FcntlArg::F_SETFD(FdFlag::empty()))?;
                    Ok(())
                };
                // SAFETY: fcntl is one system call; nothing is allocated between fork and exec.
                unsafe { qemu.pre_exec(keep_open) };
                Ok(qemu)
            }
        }
    }

    pub fn qmp(&mut self) -> Result<&mut Qmp> {
        self.qemu
            .as_mut()
            .map(|(_, qmp)| qmp)
            .context("the guest is switched off")
    }
}

impl Machine for Vm {
    fn start(&mut self) -> Result<()> {
        self.boot(Memory::Fresh)
    }

    /// Kills QEMU: what the guest had not flushed is gone.
    fn power_cut(&mut self) {
        self.qemu = None;
        self.group.kill();
    }

    fn ended(&mut self) -> Result<Option<i32>> {
        Ok(self.qemu.as_mut().and_then(|(daemon, _)| daemon.ended()))
    }

    /// The end of the guest's link that is on the bridge.
    fn port(&self) -> String {
        tap(&self.hardware)
    }

    fn device(&self, index: usize) -> Result<String> {
        let attached = self.disks.get(index);
        let attached = attached.with_context(|| format!("there is no disk {index}"))?;
        Ok(format!("/dev/disk/by-id/virtio-{}", attached.disk.serial))
    }

    /// The raw files of its data disks, to look at when it is off.
    fn disk_file(&self, index: usize) -> PathBuf {
        match self.disks.get(index) {
            Some(attached) => attached.file.clone(),
            None => self.hardware.directory.join(format!("disk{index}")),
        }
    }

    /// Attaches a blank disk while the guest runs, as Mold attaches a volume.
    fn plug(&mut self, disk: &Disk) -> Result<()> {
        let file = self
            .hardware
            .directory
            .join(format!("disk{}", self.numbered));
        fs::File::create(&file)?.set_len(disk.size)?;
        self.attach(disk.clone(), file)
    }

    /// Attaches a disk with what is on it.
    fn attach(&mut self, disk: Disk, file: PathBuf) -> Result<()> {
        let number = self.numbered;
        self.numbered += 1;
        let (id, serial) = (disk_id(number), disk.serial.clone());
        self.disks.push(Attached {
            disk,
            file: file.clone(),
            number,
        });
        let Some((_, qmp)) = self.qemu.as_mut() else {
            return Ok(());
        };
        qmp.execute("blockdev-add", json!({ "driver": "raw", "node-name": id, "discard": "unmap", "cache": { "no-flush": true },
                                            "file": { "driver": "file", "filename": file, "discard": "unmap" } }))?;
        let device = json!({ "driver": "virtio-blk-pci", "id": format!("{id}-device"), "drive": id, "serial": serial,
                             "addr": disk_slot(number) });
        qmp.execute("device_add", device).map(drop)
    }

    /// Takes a disk out, also while the guest runs: it is told as it is on a real machine's button, and comes back to
    /// say that it has let go.
    fn detach(&mut self, index: usize) -> Result<(Disk, PathBuf)> {
        if index >= self.disks.len() {
            bail!("there is no disk {index}");
        }
        let Attached { disk, file, number } = self.disks.remove(index);
        let Some((_, qmp)) = self.qemu.as_mut() else {
            return Ok((disk, file));
        };
        let id = disk_id(number);
        let device = format!("{id}-device");
        qmp.execute("device_del", json!({ "id": device }))?;
        until("the guest to let go of its disk", DETACH, || {
            let path = json!({ "path": "/machine/peripheral" });
            let left = qmp.execute("qom-list", path)?;
            let mut names = left.as_array().into_iter().flatten();
            Ok((!names.any(|one| one["name"] == device.as_str())).then_some(()))
        })?;
        // One that it was booted with is gone with its device.
        let _ = qmp.execute("blockdev-del", json!({ "node-name": id }));
        Ok((disk, file))
    }

    /// Makes a disk larger while the guest runs, as Mold resizes a volume.
    fn grow(&mut self, index: usize, size: u64) -> Result<()> {
        let attached = self
            .disks
            .get_mut(index)
            .with_context(|| format!("there is no disk {index}"))?;
        attached.disk.size = size;
        let Some((_, qmp)) = self.qemu.as_mut() else {
            return Ok(fs::OpenOptions::new()
                .write(true)
                .open(&attached.file)?
                .set_len(size)?);
        };
        // By its device, because a disk has a node name when it was plugged in and a drive name when it was booted with.
        let id = format!("{}-device", disk_id(attached.number));
        let node = node_of(qmp, &id)?;
        qmp.execute("block_resize", json!({ "node-name": node, "size": size }))
            .map(drop)
    }

    fn qemu(&mut self) -> Option<&mut Vm> {
        Some(self)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.power_cut();
        self.hardware.network.remove_link(&self.port());
    }
}

/// The name of the block node that a device shows to the guest.
fn node_of(qmp: &mut Qmp, device: &str) -> Result<String> {
    let all = qmp.execute("query-block", json!({}))?;
    let found = all.as_array().into_iter().flatten().find(|block| {
        block["qdev"]
            .as_str()
            .is_some_and(|path| path.split('/').any(|part| part == device))
    });
    let node = found.and_then(|block| block["inserted"]["node-name"].as_str());
    node.map(str::to_owned)
        .with_context(|| format!("QEMU has no block device {device}"))
}

fn root_disk(hardware: &Hardware) -> PathBuf {
    hardware.directory.join("disk.qcow2")
}

fn tap(hardware: &Hardware) -> String {
    format!("tap{}", hardware.number)
}

fn disk_id(number: usize) -> String {
    format!("data{number}")
}

fn disk_slot(number: usize) -> String {
    format!("{:#x}", 8 + number)
}

fn add_drive(qemu: &mut Command, id: &str, format: &str, file: &Path, slot: &str, serial: &str) {
    // A flush ends in this machine's page cache, where a guest's power cut loses nothing either.
    let access = if id == "seed" {
        "readonly=on"
    } else {
        "discard=unmap,cache=unsafe"
    };
    qemu.arg("-drive").arg(format!(
        "file={},if=none,id={id},format={format},{access}",
        file.display()
    ));
    let serial = if serial.is_empty() {
        String::new()
    } else {
        format!(",serial={serial}")
    };
    qemu.arg("-device").arg(format!(
        "virtio-blk-pci,id={id}-device,drive={id},addr={slot}{serial}"
    ));
}
