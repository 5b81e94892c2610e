//! A guest, whatever it runs on: what a test says to it reads the same for a container and for a VM.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FallocateFlags, fallocate};

use crate::container::Container;
use crate::kind::Need;
use crate::machine::Machine;
use crate::network::Network;
use crate::process::{Output, command, run_raw, until};
use crate::progress::say;
use crate::qmp::Qmp;
use crate::release::{Release, System};
use crate::root::{Key, Root};
use crate::ssh::{Ssh, quoted};
use crate::state::State;
use crate::uml::Uml;
use crate::vm::{Boot, Hardware, Memory, Vm};
use crate::wasagent;

/// How long a command in a guest may take before the lab gives it up.
const COMMAND: Duration = Duration::from_secs(600);
/// How long a boot may take on a busy machine without virtualisation hardware.
pub(crate) const BOOT: Duration = Duration::from_secs(600);

/// A data disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// As CloudStack gives it to a volume: the first 20 characters of its identifier, without hyphens. Containers have none.
    pub serial: String,
    /// In bytes; the file behind it is sparse.
    pub size: u64,
}

impl Disk {
    /// The guide's data disk: 100 GB.
    pub fn of_the_guide(serial: &str) -> Disk {
        Disk {
            serial: serial.to_owned(),
            size: 100 << 30,
        }
    }
}

/// What a test asks for.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub system: System,
    pub address: Ipv4Addr,
    pub disks: Vec<Disk>,
    /// cloud-init's seed, an image of a disk; only for a VM that boots for the first time.
    pub seed: Option<PathBuf>,
    /// Files and directories of this machine that its root has before it boots, each with its path there; only for a
    /// container.
    pub template: Vec<(PathBuf, String)>,
    /// What it must have beyond a kernel of its own.
    pub needs: Vec<Need>,
}

impl Spec {
    /// A guest without a data disk.
    pub fn new(name: &str, system: impl Into<System>, address: Ipv4Addr) -> Spec {
        Spec {
            name: name.to_owned(),
            system: system.into(),
            address,
            disks: Vec::new(),
            seed: None,
            template: Vec::new(),
            needs: Vec::new(),
        }
    }

    /// `was-NN` of the guide: 192.168.2.11, .12 …
    pub fn was(index: u8, system: impl Into<System>) -> Spec {
        Spec::new(
            &format!("was-{index:02}"),
            system,
            Ipv4Addr::new(192, 168, 2, 10 + index),
        )
    }

    /// `was-storage` of the guide: 192.168.2.13.
    pub fn storage(system: impl Into<System>) -> Spec {
        Spec::new("was-storage", system, Ipv4Addr::new(192, 168, 2, 13))
    }

    /// With one more data disk.
    pub fn disk(mut self, disk: Disk) -> Spec {
        self.disks.push(disk);
        self
    }

    /// With cloud-init's seed.
    pub fn seed(mut self, image: &Path) -> Spec {
        self.seed = Some(image.to_owned());
        self
    }

    /// With a file or a directory of this machine in its root before it boots. Everything arrives as root's.
    pub fn template(mut self, local: &Path, path: &str) -> Spec {
        self.template.push((local.to_owned(), path.to_owned()));
        self
    }

    /// On a kind of guest that has this.
    pub fn needs(mut self, needs: &[Need]) -> Spec {
        self.needs.extend(needs);
        self
    }

    /// The release whose root it runs, which a cloud image is not.
    pub(crate) fn release(&self) -> Result<Release> {
        match &self.system {
            System::Debian(release) => Ok(*release),
            System::Image(_) => bail!(
                "{}: a cloud image is a VM that boots for the first time: take first_boot",
                self.name
            ),
        }
    }
}

/// A guest that runs, or ran until its power was cut. It is gone when dropped.
#[derive(Debug)]
pub struct Guest {
    name: String,
    address: Ipv4Addr,
    system: System,
    network: Network,
    machine: Mutex<Box<dyn Machine>>,
    cut: Mutex<bool>,
    // After the machine, so that the connection ends last and by itself.
    ssh: Ssh,
}

impl Guest {
    /// A container guest that is booting.
    pub(crate) fn container(
        network: &Network,
        root: &Root,
        key: &Key,
        spec: &Spec,
        directory: PathBuf,
    ) -> Result<Guest> {
        if spec.seed.is_some() {
            bail!(
                "{}: cloud-init sees no disk in a container: put the seed into its template",
                spec.name
            );
        }
        let number = network.number();
        let (_, address) = Network::management(number);
        let ssh = Ssh::new(network, key.private.clone(), &spec.name, address, 22);
        let container = Container::create(network, root, spec, number, directory)?;
        Ok(Guest::assemble(network, spec, container, ssh))
    }

    /// A VM guest from a saved state: it answers as if it had just booted.
    pub(crate) fn restored(
        hardware: Hardware,
        state: &State,
        key: &Key,
        spec: &Spec,
    ) -> Result<Guest> {
        let mut vm = Vm::create(hardware.clone(), &state.disk(), "qcow2", true)?;
        vm.boot(Memory::Saved(state))?;
        let guest = Guest::vm(hardware, key, spec, vm);
        guest.wait_ssh(BOOT)?;
        guest.introduce()?;
        guest.plug_all(spec)?;
        Ok(guest)
    }

    /// A guest of User-Mode Linux that is booting, with its disks attached from the start.
    pub(crate) fn uml(mut uml: Uml, key: &Key, spec: &Spec) -> Result<Guest> {
        for disk in &spec.disks {
            uml.plug(disk)?;
        }
        uml.start()?;
        let ssh = Ssh::new(
            uml.network(),
            key.private.clone(),
            &spec.name,
            uml.management().1,
            22,
        );
        Ok(Guest::assemble(&uml.network().clone(), spec, uml, ssh))
    }

    /// A VM guest that boots for the first time, with its disks and its seed attached from the start.
    pub(crate) fn first_boot(hardware: Hardware, key: &Key, spec: &Spec) -> Result<Guest> {
        let (image, format) = match &hardware.boot {
            Boot::Root(root) => (root.image(), "raw"),
            Boot::Image(image) => (image.path().to_owned(), "qcow2"),
        };
        let mut vm = Vm::create(hardware.clone(), &image, format, true)?;
        for disk in &spec.disks {
            vm.plug(disk)?;
        }
        vm.boot(Memory::Fresh)?;
        Ok(Guest::vm(hardware, key, spec, vm))
    }

    /// A VM guest, apart from the bridge, whose memory is recorded in a file.
    pub(crate) fn recorded(hardware: Hardware, memory: &Path) -> Result<Guest> {
        let root = hardware.root()?.clone();
        let spec = Spec::new(
            &hardware.name,
            root.release,
            Ipv4Addr::new(192, 168, 2, 250),
        );
        let mut vm = Vm::create(hardware.clone(), &root.image(), "raw", false)?;
        vm.boot(Memory::Recorded(memory))?;
        Ok(Guest::vm(hardware, &root.key, &spec, vm))
    }

    fn vm(hardware: Hardware, key: &Key, spec: &Spec, vm: Vm) -> Guest {
        let (host, port) = match hardware.boot {
            Boot::Root(_) => (Ipv4Addr::LOCALHOST, Vm::ssh_port(hardware.number)),
            Boot::Image(_) => (spec.address, 22),
        };
        let ssh = Ssh::new(
            &hardware.network,
            key.private.clone(),
            &spec.name,
            host,
            port,
        );
        Guest::assemble(&hardware.network, spec, vm, ssh)
    }

    fn assemble(
        network: &Network,
        spec: &Spec,
        machine: impl Machine + 'static,
        ssh: Ssh,
    ) -> Guest {
        Guest {
            name: spec.name.clone(),
            address: spec.address,
            system: spec.system.clone(),
            network: network.clone(),
            machine: Mutex::new(Box::new(machine)),
            cut: Mutex::new(false),
            ssh,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the network that the guests share.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The release or the image that it runs.
    pub fn release(&self) -> &System {
        &self.system
    }

    /// Whether it has a kernel of its own.
    pub fn is_vm(&self) -> bool {
        self.machine().has_kernel()
    }

    /// Whether QEMU runs it, which can keep its state.
    pub fn is_qemu(&self) -> bool {
        self.machine().qemu().is_some()
    }

    /// The interface that carries `address`.
    pub fn interface(&self) -> &'static str {
        self.machine().interface()
    }

    /// The device paths of its data disks where a tier file has to name them: a container sees the machine's disks, too.
    pub fn devices(&self) -> Vec<String> {
        self.machine().devices().to_vec()
    }

    /// The device path of a data disk.
    pub fn device(&self, index: usize) -> Result<String> {
        self.machine()
            .device(index)
            .with_context(|| self.name.clone())
    }

    /// How a person gets in from another terminal while the lab runs.
    pub fn ssh_command(&self) -> String {
        self.ssh.command_line()
    }

    // ---- commands and files

    /// Runs a program as root, with its arguments as they are, and gives back what it did.
    pub fn run<'a>(&self, arguments: impl AsRef<[&'a str]>) -> Result<Output> {
        self.run_with(arguments, b"", COMMAND)
    }

    /// `run`, with standard input and a limit.
    pub fn run_with<'a>(
        &self,
        arguments: impl AsRef<[&'a str]>,
        input: &[u8],
        limit: Duration,
    ) -> Result<Output> {
        let arguments = arguments.as_ref();
        if wasagent::is_apply(arguments) {
            bail!(
                "an apply whose plan nobody looks at: run it by wasagent_lab::wasagent::Apply, not as `{}`",
                arguments.join(" ")
            );
        }
        self.run_unchecked(arguments, input, limit)
    }

    /// The same, for whoever compares plan and apply, and for applies that are not meant to end.
    pub(crate) fn run_unchecked(
        &self,
        arguments: &[&str],
        input: &[u8],
        limit: Duration,
    ) -> Result<Output> {
        let output = self.ssh.run(arguments, input, limit);
        output.map(Output::from).with_context(|| {
            // A guest that hangs answers nothing by itself.
            let blocked = self.machine().blocked_tasks().unwrap_or_default();
            let program = arguments.first().unwrap_or(&"");
            format!("on {}: {program}\n{blocked}", self.name)
        })
    }

    /// Runs a program that must exit with 0.
    pub fn ok<'a>(&self, arguments: impl AsRef<[&'a str]>) -> Result<Output> {
        let arguments = arguments.as_ref();
        let output = self.run(arguments)?;
        if !output.success() {
            bail!("{}: {}: {output}", self.name, arguments.join(" "));
        }
        Ok(output)
    }

    /// What a program that must exit with 0 wrote to standard output, without the last newline.
    pub fn answer<'a>(&self, arguments: impl AsRef<[&'a str]>) -> Result<String> {
        Ok(self.ok(arguments)?.stdout.trim_end().to_owned())
    }

    /// The same of a line of sh(1), which ends at the first command that fails.
    pub fn shell(&self, line: &str) -> Result<String> {
        self.answer(["sh", "-ec", line])
    }

    /// Writes a file of root's with this mode, and the directories above it.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        // Through a pipe, because sshd gives a socket as standard input and /dev/stdin does not open one.
        let line = format!("cat | install -D -m {mode:o} /dev/stdin {}", quoted(path));
        let output = self.ssh.run_line(&line, bytes.as_ref(), COMMAND)?;
        if output.status != 0 {
            bail!(
                "{}: write {path}: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// The bytes of a file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let output = self.ssh.run(&["cat", path], b"", COMMAND)?;
        if output.status != 0 {
            bail!(
                "{}: read {path}: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(output.stdout)
    }

    /// Puts the agent where its package puts it.
    pub fn install_agent(&self, binary: &Path) -> Result<()> {
        let bytes = fs::read(binary).with_context(|| format!("read {}", binary.display()))?;
        self.write("/usr/bin/wasagent", bytes, 0o755)
    }

    /// Copies a directory's contents; everything arrives as root's.
    pub fn copy_tree(&self, local: &Path, remote: &str) -> Result<()> {
        let mut pack = command(["tar", "--create", "--owner=0", "--group=0", "--directory"]);
        pack.arg(local).arg(".");
        let packed = run_raw(pack, b"", COMMAND)?;
        if packed.status != 0 {
            bail!(
                "pack {}: {}",
                local.display(),
                String::from_utf8_lossy(&packed.stderr)
            );
        }
        let line = format!(
            "mkdir -p {0} && tar --extract --directory {0}",
            quoted(remote)
        );
        let output = self.ssh.run_line(&line, &packed.stdout, COMMAND)?;
        if output.status != 0 {
            bail!(
                "{}: unpack into {remote}: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    // ---- disks

    /// Attaches one more blank disk while the guest runs; not to a container.
    pub fn plug(&self, disk: &Disk) -> Result<()> {
        let plugged = self.machine().plug(disk);
        plugged.with_context(|| format!("plug a disk into {}", self.name))
    }

    /// Takes a data disk out, and gives back what [`Guest::attach`] puts into this guest or another; not of a container.
    pub fn detach(&self, index: usize) -> Result<(Disk, PathBuf)> {
        let detached = self.machine().detach(index);
        detached.with_context(|| format!("take a disk out of {}", self.name))
    }

    /// Attaches a disk that was taken out, with what is on it; not to a container.
    pub fn attach(&self, (disk, file): (Disk, PathBuf)) -> Result<()> {
        let attached = self.machine().attach(disk, file);
        attached.with_context(|| format!("attach a disk to {}", self.name))
    }

    /// Makes a data disk larger while the guest runs.
    pub fn grow(&self, index: usize, size: u64) -> Result<()> {
        let grown = self.machine().grow(index, size);
        grown.with_context(|| format!("enlarge a disk of {}", self.name))
    }

    /// The file behind a data disk, to look at while the guest is off.
    pub fn disk_file(&self, index: usize) -> PathBuf {
        self.machine().disk_file(index)
    }

    /// Makes a data disk that nothing uses blank again: every byte reads as zero, and the file behind it is sparse.
    pub fn erase(&self, index: usize) -> Result<()> {
        let device = self.device(index)?;
        // What the guest's kernel has not written yet must not come afterwards, and what it remembers must go.
        let forget = ["blockdev", "--flushbufs", &device];
        self.ok(forget)?;
        let file = fs::OpenOptions::new()
            .write(true)
            .open(self.disk_file(index))?;
        let size = file.metadata()?.len();
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&file, hole, 0, size.try_into()?)?;
        self.ok(forget)?;
        if self.is_vm() {
            self.ok(["udevadm", "trigger", "--settle", &device])?;
        }
        Ok(())
    }

    fn plug_all(&self, spec: &Spec) -> Result<()> {
        for disk in &spec.disks {
            self.plug(disk)?;
        }
        for index in 0..spec.disks.len() {
            let device = self.device(index)?;
            until(&device, Duration::from_secs(60), || {
                Ok(self.run(["test", "-b", &device])?.success().then_some(()))
            })?;
        }
        Ok(())
    }

    // ---- power and network

    /// Reboots it as an operator does, and waits until it is up again.
    pub fn reboot(&self) -> Result<()> {
        self.reboot_nowait()?;
        self.wait_ready(BOOT)
    }

    /// Reboots it and comes back when the old system is gone: the next connection is to the new one.
    pub fn reboot_nowait(&self) -> Result<()> {
        let before = self.boot_id()?;
        // The connection goes down with the guest, at any point of the answer.
        let _ = self.run_with(["systemctl", "reboot"], b"", Duration::from_secs(60));
        self.disconnect();
        until("the reboot", BOOT, || {
            self.wait_ssh(BOOT)?;
            match self.boot_id_within(Duration::from_secs(20)) {
                Ok(id) if !id.is_empty() && id != before => Ok(Some(())),
                _ => {
                    self.disconnect();
                    Ok(None)
                }
            }
        })
        .with_context(|| format!("reboot {}", self.name))
    }

    /// Which boot this is (random(4): boot_id).
    pub fn boot_id(&self) -> Result<String> {
        self.boot_id_within(COMMAND)
    }

    /// A guest that goes down may take the question and never answer it.
    fn boot_id_within(&self, limit: Duration) -> Result<String> {
        let output = self.run_with(["cat", "/proc/sys/kernel/random/boot_id"], b"", limit)?;
        Ok(output.stdout.trim_end().to_owned())
    }

    /// Takes its power away: nothing in it notices, nothing is flushed.
    pub fn power_cut(&self) {
        self.machine().power_cut();
        self.disconnect();
    }

    /// Switches it on again, with the disks as the power cut left them. `wait_ready` waits for the boot.
    pub fn power_on(&self) -> Result<()> {
        self.machine().start()
    }

    /// Keeps the state of a VM that has no data disk, under a name, in its root disk: memory, devices, files.
    pub fn keep(&self, state: &str) -> Result<()> {
        self.disconnect();
        self.with_qmp(|qmp| qmp.monitor(&format!("savevm {state}")))
    }

    /// Goes back to a state that was kept. Its clock goes back as well, and whoever was connected to it is not any more.
    pub fn go_back(&self, state: &str) -> Result<()> {
        self.disconnect();
        self.with_qmp(|qmp| qmp.monitor(&format!("loadvm {state}")))?;
        self.wait_ssh(BOOT)
    }

    /// Cuts it off from the other guests; the lab still reaches it, and its own link stays up.
    pub fn cut_link(&self) -> Result<()> {
        self.set_link(true)
    }

    /// Connects it again.
    pub fn restore_link(&self) -> Result<()> {
        self.set_link(false)
    }

    fn set_link(&self, cut: bool) -> Result<()> {
        *self
            .cut
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = cut;
        let port = self.machine().port();
        self.network.set_port(&port, !cut)
    }

    // ---- waiting

    /// Waits until it lets the lab in.
    pub fn wait_ssh(&self, limit: Duration) -> Result<()> {
        let answer = until("an answer over SSH", limit, || {
            self.check_alive()?;
            self.attach_links();
            Ok(self.ssh.connect(Duration::from_secs(2)).ok())
        });
        answer.with_context(|| format!("{}\n{}", self.name, self.console_tail()))
    }

    /// Waits until systemd has started everything, well or not.
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        self.wait_ssh(limit)?;
        let state = until("the end of the boot", limit, || {
            let output = self.run_with(["systemctl", "is-system-running", "--wait"], b"", limit)?;
            let state = output.stdout.trim().to_owned();
            Ok(["running", "degraded"]
                .contains(&state.as_str())
                .then_some(state))
        })
        .with_context(|| self.name.clone())?;
        if state == "degraded" {
            say(format!(
                "{} is up, but failed: {}",
                self.name,
                self.failed()?
            ));
        }
        Ok(())
    }

    fn failed(&self) -> Result<String> {
        self.answer(["systemctl", "--failed", "--no-legend", "--plain"])
    }

    /// That every unit of a guest's first boot has come up: a test begins with nothing that has failed.
    pub(crate) fn nothing_failed(&self) -> Result<()> {
        let failed = self.failed()?;
        if !failed.is_empty() {
            bail!("{} came up without {failed}", self.name);
        }
        Ok(())
    }

    /// Waits until cloud-init has done all that the seed says, without an error.
    pub fn wait_cloud_init(&self, limit: Duration) -> Result<()> {
        self.wait_ssh(limit)?;
        let status = self.run_with(["cloud-init", "status", "--wait", "--long"], b"", limit)?;
        // 2: done, with warnings (cloud-init 23.4 and later).
        if ![0, 2].contains(&status.status) {
            let log = self.run(["tail", "--lines=40", "/var/log/cloud-init-output.log"])?;
            bail!("{}: cloud-init: {status}\n{}", self.name, log.stdout);
        }
        Ok(())
    }

    /// Waits until its machine has ended.
    pub fn wait_ended(&self, limit: Duration) -> Result<()> {
        until("the end of the machine", limit, || self.ended())?;
        Ok(())
    }

    /// What it wrote to its console, to read after a failure.
    pub fn console(&self) -> String {
        let path = self
            .network
            .run_directory()
            .join(format!("{}.log", self.name));
        fs::read(path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn console_tail(&self) -> String {
        let all = self.console();
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn ended(&self) -> Result<Option<i32>> {
        self.machine().ended()
    }

    fn check_alive(&self) -> Result<()> {
        match self.ended()? {
            Some(code) => bail!("{} has ended with {code}", self.name),
            None => Ok(()),
        }
    }

    /// After each boot a container's links are new ones.
    fn attach_links(&self) {
        let machine = self.machine();
        machine.attach_links();
        if *self
            .cut
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
        {
            let _ = self.network.set_port(&machine.port(), false);
        }
    }

    /// Tells a restored guest who it is and what time it is; after a reboot its kernel's command line says the former.
    fn introduce(&self) -> Result<()> {
        let mac = match self.machine().qemu() {
            Some(vm) => vm.mac(),
            None => return Ok(()),
        };
        let card = Vm::SERVICE_CARD;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let line = format!(
            "date --set=@{now:.3} && lab-identity {} {}/24 {card} && ip link set {card} address {mac} && networkctl reload \
             && networkctl reconfigure {card}",
            quoted(&self.name),
            self.address
        );
        let output = self.ssh.run_line(&line, b"", COMMAND)?;
        if output.status != 0 {
            bail!("introduce {}: {}", self.name, Output::from(output));
        }
        let wanted = format!("{}/24", self.address);
        until("its address", Duration::from_secs(60), || {
            let shown = self.answer(["ip", "-brief", "address", "show", card])?;
            Ok(shown.contains(&wanted).then_some(()))
        })
    }

    pub(crate) fn disconnect(&self) {
        self.ssh.disconnect();
    }

    pub(crate) fn with_qmp<T>(&self, action: impl FnOnce(&mut Qmp) -> Result<T>) -> Result<T> {
        match self.machine().qemu() {
            Some(vm) => action(vm.qmp()?),
            None => bail!("{}: only QEMU can do that", self.name),
        }
    }

    fn machine(&self) -> MutexGuard<'_, Box<dyn Machine>> {
        self.machine
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
