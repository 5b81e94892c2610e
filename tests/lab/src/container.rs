//! A container guest: systemd-nspawn(1) boots the root's own systemd on a throw-away overlay of it.
//!
//! Real are systemd, D-Bus, firewalld with nftables, Samba and podman; the kernel is the machine's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use crate::control_group::ControlGroup;
use crate::guest::Spec;
use crate::leftovers::{detach_loop, unmount};
use crate::machine::Machine;
use crate::network::Network;
use crate::process::{Daemon, command, ok};
use crate::root::Root;

#[derive(Debug)]
pub(crate) struct Container {
    network: Network,
    name: String,
    number: u32,
    directory: PathBuf,
    loops: Vec<String>,
    group: ControlGroup,
    machine: Option<Daemon>,
}

impl Container {
    /// Prepares the overlay, the disks and the addresses, and starts the container.
    pub fn create(
        network: &Network,
        root: &Root,
        spec: &Spec,
        number: u32,
        directory: PathBuf,
    ) -> Result<Container> {
        let group = ControlGroup::create(network.undo(), &format!("guest{number}"))?;
        let mut container = Container {
            network: network.clone(),
            name: spec.name.clone(),
            number,
            directory,
            loops: Vec::new(),
            group,
            machine: None,
        };
        container.mount_overlay(&root.tree())?;
        container.configure(spec)?;
        for (index, disk) in spec.disks.iter().enumerate() {
            container.add_disk(index, disk.size)?;
        }
        container.start()?;
        Ok(container)
    }

    /// The machine name: unique on the machine, and short enough for `vb-` before it to be a link's name.
    fn machine_name(&self) -> String {
        format!("w{}x{}", std::process::id(), self.number)
    }

    fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    fn mount_overlay(&self, lower: &Path) -> Result<()> {
        let (upper, work) = (self.directory.join("upper"), self.directory.join("work"));
        for directory in [
            &upper,
            &work,
            &self.root(),
            &self.directory.join("containers"),
        ] {
            fs::create_dir_all(directory)?;
        }
        self.network
            .undo()
            .note("mount", &self.root().display().to_string())?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        mount(
            Some("overlay"),
            &self.root(),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .with_context(|| format!("mount the overlay for {}", self.name))
    }

    fn configure(&self, spec: &Spec) -> Result<()> {
        let networks = self.root().join("etc/systemd/network");
        let (_, guest) = Network::management(self.number);
        fs::write(
            networks.join("10-management.network"),
            network_file("mgmt0", &format!("{guest}/30")),
        )?;
        fs::write(
            networks.join("20-service.network"),
            network_file("host0", &format!("{}/24", spec.address)),
        )?;
        fs::write(self.root().join("etc/hostname"), format!("{}\n", self.name))?;
        // There is no clock, no console and no disk of its own to wait for.
        fs::write(self.root().join("etc/fstab"), "")?;
        for unit in ["systemd-udev-trigger.service", "systemd-udevd.service"] {
            let link = self.root().join("etc/systemd/system").join(unit);
            if !link.exists() {
                symlink("/dev/null", link)?;
            }
        }
        for (local, path) in &spec.template {
            self.put(local, path)?;
        }
        Ok(())
    }

    fn put(&self, local: &Path, path: &str) -> Result<()> {
        let there = self.root().join(path.trim_start_matches('/'));
        if let Some(directory) = there.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut copy = command(["cp", "--recursive", "--no-preserve=ownership"]);
        copy.arg("--preserve=mode").arg(local).arg(&there);
        ok(copy).map(drop)
    }

    /// A disk is a sparse file on a loop device; the container sees the device under the machine's name for it.
    fn add_disk(&mut self, index: usize, size: u64) -> Result<()> {
        let file = self.disk_file(index);
        fs::File::create(&file)?.set_len(size)?;
        let file = file.canonicalize()?;
        let mut losetup = command(["losetup", "--find", "--show"]);
        losetup.arg(&file);
        let device = ok(losetup)?.stdout.trim().to_owned();
        let attached = format!("{device} {}", file.display());
        self.network.undo().note("loop", &attached)?;
        self.loops.push(device);
        Ok(())
    }
}

impl Machine for Container {
    /// Boots it; also after `power_cut`.
    fn start(&mut self) -> Result<()> {
        let (log, _) = self.network.log(&self.name)?;
        let mut nspawn = self.network.command([
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
        ]);
        nspawn.arg(format!("--directory={}", self.root().display()));
        // The machine name makes the link's name, which must be short; the host name is the guest's own.
        nspawn
            .arg(format!("--machine={}", self.machine_name()))
            .arg(format!("--hostname={}", self.name));
        nspawn.arg(format!("--network-bridge={}", self.network.bridge()));
        nspawn.arg(format!("--network-veth-extra=mg{}:mgmt0", self.number));
        // What podman needs: to mount, to make devices, and keyrings.
        nspawn.args([
            "--capability=all",
            "--system-call-filter=@known @keyring bpf",
        ]);
        nspawn.args([
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
        ]);
        // An overlay cannot be the upper layer of another: podman's storage lies beside it.
        nspawn.arg(format!(
            "--bind={}:/var/lib/containers",
            self.directory.join("containers").display()
        ));
        for device in &self.loops {
            nspawn.arg(format!("--bind={device}"));
        }
        nspawn.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        nspawn
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.machine = Some(Daemon::start(self.group.inside(nspawn)?)?);
        Ok(())
    }

    fn power_cut(&mut self) {
        self.group.kill();
        self.machine = None;
        for link in [format!("mg{}", self.number), self.port()] {
            self.network.remove_link(&link);
        }
    }

    /// The exit code, if the container has ended for good.
    ///
    /// With `--keep-unit`, systemd-nspawn leaves a reboot to whoever started it and says so by exiting with 133
    /// (systemd-nspawn(1), "Exit Status"; systemd: src/nspawn/nspawn.c, EXIT_FORCE_RESTART).
    fn ended(&mut self) -> Result<Option<i32>> {
        let code = self.machine.as_mut().and_then(Daemon::ended);
        if code == Some(133) {
            self.power_cut();
            self.start()?;
            return Ok(None);
        }
        Ok(code)
    }

    fn has_kernel(&self) -> bool {
        false
    }

    /// The end of the guest's link that is on the bridge.
    fn port(&self) -> String {
        format!("vb-{}", self.machine_name())
    }

    fn interface(&self) -> &'static str {
        "host0"
    }

    /// Gives the machine's end of the management link its address: it is a new link after each boot, and not there
    /// at once, so a failure means to try again.
    fn attach_links(&self) {
        let link = format!("mg{}", self.number);
        let (host, _) = Network::management(self.number);
        let _ = self
            .network
            .ip(["address", "replace", &format!("{host}/30"), "dev", &link]);
        let _ = self.network.ip(["link", "set", &link, "up"]);
    }

    /// The disks' device paths, the same here and in the guest.
    fn devices(&self) -> &[String] {
        &self.loops
    }

    fn device(&self, index: usize) -> Result<String> {
        let device = self.loops.get(index);
        Ok(device
            .with_context(|| format!("there is no disk {index}"))?
            .clone())
    }

    /// The files behind its disks.
    fn disk_file(&self, index: usize) -> PathBuf {
        self.directory.join(format!("disk{index}"))
    }

    /// Makes a disk larger while the container runs.
    fn grow(&mut self, index: usize, size: u64) -> Result<()> {
        let device = self
            .loops
            .get(index)
            .with_context(|| format!("there is no disk {index}"))?;
        fs::OpenOptions::new()
            .write(true)
            .open(self.disk_file(index))?
            .set_len(size)?;
        ok(command(["losetup", "--set-capacity", device])).map(drop)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.power_cut();
        unmount(&self.root());
        for (index, device) in self.loops.iter().enumerate() {
            if let Ok(file) = self.disk_file(index).canonicalize() {
                detach_loop(device, &file);
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// systemd.network(5): a fixed address and nothing else.
fn network_file(interface: &str, address: &str) -> String {
    format!(
        "[Match]\nName={interface}\n\n[Network]\nAddress={address}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    )
}
