//! What differs between guests. It is found out once and passed on, so no role asks which
//! distribution it runs on.

use std::collections::BTreeSet;
use std::path::Path;

use super::agent::Agent;
use super::blocking;
use super::firewalld::Firewalld;
use super::firewalld::zones::Zones;
use super::mark::MARK;
use super::network::{self, Interface};
use super::process::find_program;
use super::selinux;
use super::systemd::Systemd;
use crate::error::{Error, Result};

/// The generator that turns `.container` files into units (podman-systemd.unit(5)); podman has it
/// from 4.4 on.
const QUADLET_GENERATORS: [&str; 2] = [
    "/usr/lib/systemd/system-generators/podman-system-generator",
    "/lib/systemd/system-generators/podman-system-generator",
];

/// Where the agent writes services (systemd.unit(5)).
const SERVICES: &str = "/etc/systemd/system";

const NETAVARK_RELOAD: &str = "netavark-firewalld-reload.service";

/// What this guest is like.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The host name, up to the first dot.
    pub node: String,
    /// The program that units start.
    pub agent: Agent,
    pub packages: PackageManager,
    /// `smb.service` on EL, `smbd.service` on Debian; `None` without a Samba server.
    pub samba_unit: Option<String>,
    /// Whether podman's generator reads `.container` files.
    pub quadlet: bool,
    /// Containers with a plain unit that the agent wrote before podman had its generator. They keep
    /// that unit.
    pub plain_containers: BTreeSet<String>,
    /// Whether netavark publishes ports again by itself after firewalld was reloaded. From 1.10 on
    /// it has a service for that.
    pub keeps_ports: bool,
    /// firewalld's default zone; `None` where it does not run.
    pub default_zone: Option<String>,
    /// What firewalld has in force; `None` where it does not run.
    pub zones: Option<Zones>,
    /// The interfaces by which other machines reach this one.
    pub interfaces: Vec<Interface>,
    /// Whether the kernel has an SELinux policy, enforcing or permissive.
    pub selinux: bool,
    /// Whether udev tells systemd about devices. Devices then have units and names below
    /// `/dev/disk`. In a container this is not so.
    pub udev: bool,
}

/// The program that installs packages here. Used only in error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageManager {
    Apt,
    Dnf,
}

impl Facts {
    pub async fn discover(systemd: &Systemd, firewalld: Option<&Firewalld>) -> Result<Self> {
        let (packages, local) = blocking(|| {
            let packages = if find_program("apt-get").is_some() {
                PackageManager::Apt
            } else {
                PackageManager::Dnf
            };
            Ok((packages, Local::look()?))
        })
        .await?;
        let zones = async {
            match firewalld {
                Some(firewalld) => firewalld.zones_in_force().await.map(Some),
                None => Ok(None),
            }
        };
        let (samba_unit, zones, netavark) = tokio::try_join!(
            samba_unit(systemd, packages),
            zones,
            systemd.unit(NETAVARK_RELOAD)
        )?;
        Ok(Self {
            node: local.node,
            agent: blocking(Agent::running).await?,
            packages,
            samba_unit,
            quadlet: local.quadlet,
            plain_containers: local.plain_containers,
            keeps_ports: netavark.file_state == "enabled",
            default_zone: zones.as_ref().map(|zones| zones.default.clone()),
            zones,
            interfaces: local.interfaces,
            selinux: local.selinux,
            udev: local.udev,
        })
    }
}

/// The facts that files and the kernel tell.
struct Local {
    node: String,
    quadlet: bool,
    plain_containers: BTreeSet<String>,
    interfaces: Vec<Interface>,
    selinux: bool,
    udev: bool,
}

impl Local {
    fn look() -> Result<Self> {
        Ok(Self {
            node: node_name()?,
            quadlet: QUADLET_GENERATORS.iter().any(|g| Path::new(g).exists()),
            plain_containers: plain_containers(Path::new(SERVICES)),
            interfaces: network::interfaces()?,
            selinux: selinux::is_on(),
            udev: Path::new("/run/udev/control").exists(),
        })
    }
}

/// The names of the containers that the agent runs by plain services in this directory.
fn plain_containers(services: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(services).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry
                .file_name()
                .to_str()?
                .strip_suffix(".service")?
                .to_owned();
            let text = std::fs::read_to_string(entry.path()).ok()?;
            let runs = text.starts_with(MARK) && text.contains("\nExecStart=/usr/bin/podman run ");
            runs.then_some(name)
        })
        .collect()
}

/// The Samba server's unit. The likelier name is tried first.
async fn samba_unit(systemd: &Systemd, packages: PackageManager) -> Result<Option<String>> {
    let names = match packages {
        PackageManager::Apt => ["smbd.service", "smb.service"],
        PackageManager::Dnf => ["smb.service", "smbd.service"],
    };
    for name in names {
        let unit = systemd.unit(name).await?;
        if unit.load != "not-found" {
            // Debian makes smb.service an alias once smbd.service is enabled: the unit's own name
            // is the same before and after.
            return Ok(Some(unit.id));
        }
    }
    Ok(None)
}

/// The host name, up to the first dot.
pub fn node_name() -> Result<String> {
    let name = nix::unistd::gethostname()
        .map_err(|e| Error::new(format!("read the host name: {e}")))?
        .to_string_lossy()
        .into_owned();
    Ok(name.split('.').next().unwrap_or_default().to_owned())
}

impl PackageManager {
    /// The command that installs the packages that a role lacks.
    pub fn install_command(self, packages: &[&str]) -> String {
        match self {
            Self::Apt => format!("apt-get install {}", packages.join(" ")),
            Self::Dnf => format!("dnf install {}", packages.join(" ")),
        }
    }

    /// The package that contains `program`.
    pub fn package_of(self, program: &str) -> &str {
        match program {
            "mkfs.xfs" => "xfsprogs",
            "mkfs.ext4" => "e2fsprogs",
            "pdbedit" | "smbpasswd" | "testparm" | "smbd" => "samba",
            "smbclient" if self == Self::Dnf => "samba-client",
            "mount.cifs" => "cifs-utils",
            "firewalld" => "firewalld",
            "systemd-sysusers" => "systemd",
            "findmnt" | "blkid" => "util-linux",
            "ssh" if self == Self::Apt => "openssh-client",
            "ssh" => "openssh-clients",
            "getent" if self == Self::Apt => "libc-bin",
            "getent" => "glibc-common",
            "semanage" => "policycoreutils-python-utils",
            "restorecon" => "policycoreutils",
            "userdel" if self == Self::Dnf => "shadow-utils",
            "userdel" => "passwd",
            "net" if self == Self::Dnf => "samba-common-tools",
            "net" => "samba-common-bin",
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_of_an_older_podman_is_known_by_its_unit() {
        let services = tempfile::tempdir().unwrap();
        let run = "[Service]\nExecStart=/usr/bin/podman run \\\n    --name=x\n";
        for (file, text) in [
            ("nodejs-server.service", format!("{MARK}\n{run}")),
            ("by-hand.service", run.to_owned()),
            ("nodejs-server-share.service", format!("{MARK}\n[Unit]\n")),
            ("other.mount", format!("{MARK}\n{run}")),
        ] {
            std::fs::write(services.path().join(file), text).unwrap();
        }
        let found = plain_containers(services.path());
        assert_eq!(found, ["nodejs-server".to_owned()].into());
        assert!(plain_containers(&services.path().join("none")).is_empty());
    }
}
