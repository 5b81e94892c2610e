//! What the tier file and the site file ask for together.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::site::{Agent, Site};

/// Everything that is to be there.
#[derive(Debug)]
pub struct Plan {
    pub site: Site,
    pub(crate) storage: Vm,
    pub(crate) was: Vec<Vm>,
    /// The port of the balancer, and that of the WAS VMs.
    pub(crate) ports: (u16, u16),
    /// The text of the public key, if it is given.
    pub(crate) public_key: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Vm {
    pub name: String,
    pub address: IpAddr,
    pub offering: String,
    /// In base64, as the API takes it.
    pub user_data: String,
}

impl Plan {
    /// Reads both files, and nothing of the tier's secrets. `wasagent` is the agent's program, which checks the tier file
    /// and prints the user data.
    ///
    /// # Errors
    /// One of the files has a fault, or they do not go together.
    pub fn read(site: &Path, tier: &Path, wasagent: &Path) -> Result<Plan> {
        let site = Site::read(site)?;
        let user_data = |role| user_data(wasagent, tier, role, &site.agent);
        let (storage_data, was_data) = (user_data("storage")?, user_data("was")?);
        let tier = Tier::read(tier)?;
        let address = tier.share.server.parse().with_context(|| {
            let server = &tier.share.server;
            format!("share.server is {server:?}: a VM is given an address, so write the storage VM's address there")
        })?;
        ensure!(
            tier.storage.disk.is_none() || site.storage.disk.is_some(),
            "the tier file has a data disk (storage.disk), and the site file has none: add [storage.disk] there"
        );
        let port = tier.published()?;
        let vms = site.was.vms.iter().map(|vm| Vm {
            name: vm.name.clone(),
            address: vm.address,
            offering: site.was.offering.clone(),
            user_data: was_data.clone(),
        });
        let plan = Plan {
            was: vms.collect(),
            storage: Vm {
                name: site.storage.name.clone(),
                address,
                offering: site.storage.offering.clone(),
                user_data: storage_data,
            },
            ports: (site.balancer.port.unwrap_or(port), port),
            public_key: public_key(&site)?,
            site,
        };
        plan.refuse_twice()?;
        Ok(plan)
    }

    fn refuse_twice(&self) -> Result<()> {
        let vms: Vec<&Vm> = self.was.iter().chain([&self.storage]).collect();
        for (at, vm) in vms.iter().enumerate() {
            for other in &vms[..at] {
                ensure!(vm.name != other.name, "two VMs have the name {}", vm.name);
                ensure!(
                    vm.address != other.address,
                    "{} and {} have the address {}",
                    other.name,
                    vm.name,
                    vm.address
                );
            }
            let balancer = self.site.balancer.address;
            ensure!(
                vm.address != balancer,
                "{} has the balancer's address {balancer}",
                vm.name
            );
        }
        ensure!(
            !self.was.is_empty(),
            "the site file has no WAS VM: add [[was.vms]]"
        );
        Ok(())
    }
}

/// What `wasagent userdata` prints for a role, in base64.
fn user_data(wasagent: &Path, tier: &Path, role: &str, agent: &Agent) -> Result<String> {
    let mut command = Command::new(wasagent);
    command
        .args(["userdata", "--role", role, "--config"])
        .arg(tier);
    for (option, value) in [
        ("--repository", agent.repository.as_ref().map(OsStr::new)),
        (
            "--repository-key",
            agent.repository_key.as_ref().map(|file| file.as_os_str()),
        ),
        ("--binary", agent.binary.as_ref().map(OsStr::new)),
        ("--sha256", agent.sha256.as_ref().map(OsStr::new)),
    ] {
        if let Some(value) = value {
            command.arg(option).arg(value);
        }
    }
    let program = wasagent.display();
    let ran = command.output().with_context(|| {
        format!("run {program}, which prints the user data: install it, or name it by --wasagent")
    })?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(
        ran.status.success(),
        "{program} userdata --role {role}:\n{}",
        said.trim_end()
    );
    Ok(BASE64.encode(ran.stdout))
}

/// The little of a tier file that is about the VMs. `wasagent` has checked it by then.
#[derive(Debug, Deserialize)]
struct Tier {
    share: Share,
    storage: Storage,
    was: Was,
}

#[derive(Debug, Deserialize)]
struct Share {
    server: String,
}

#[derive(Debug, Deserialize)]
struct Storage {
    disk: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
struct Was {
    container: Container,
}

#[derive(Debug, Deserialize)]
struct Container {
    publish: Vec<String>,
}

impl Tier {
    fn read(path: &Path) -> Result<Tier> {
        let name = path.display().to_string();
        let text =
            Zeroizing::new(std::fs::read_to_string(path).with_context(|| format!("read {name}"))?);
        // The parser's error would quote a line, which may hold a password.
        toml::from_str(&text).map_err(|error| anyhow::anyhow!("{name}: {}", error.message()))
    }

    /// The port that balancers ask: the VM's port of the first that is published over TCP.
    fn published(&self) -> Result<u16> {
        let mut ports = self
            .was
            .container
            .publish
            .iter()
            .filter(|port| !port.ends_with("/udp"));
        let port = ports
            .next()
            .context("was.container.publish has no port over TCP")?;
        let host = port.rsplit(':').nth(1).unwrap_or_default();
        host.parse()
            .with_context(|| format!("was.container.publish: no port of the VM in {port:?}"))
    }
}

fn public_key(site: &Site) -> Result<Option<String>> {
    let file = site
        .key_pair
        .as_ref()
        .and_then(|key| key.public_key_file.as_ref());
    let Some(file) = file else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    ensure!(
        !text.contains("PRIVATE KEY"),
        "{} holds a private key: name the public one, which ends in .pub",
        file.display()
    );
    Ok(Some(text.trim().to_owned()))
}
