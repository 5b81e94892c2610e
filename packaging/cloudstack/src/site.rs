//! The site file: what the tier file does not know.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::api::Signature;

/// A site file. Names are those that CloudStack's pages show.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// `https://HOST/client/api`
    pub endpoint: String,
    /// The certificates (PEM) that the endpoint's is signed with, where a browser does not know them. Relative to the
    /// site file.
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub signature: Signature,
    pub zone: String,
    pub template: String,
    /// The network of the three VMs and of the balancer.
    pub network: String,
    /// A project's id; without it, everything belongs to the account.
    pub project_id: Option<String>,
    /// The name of the affinity group of the WAS VMs.
    pub affinity_group: String,
    pub key_pair: Option<KeyPair>,
    pub storage: Storage,
    pub was: Was,
    pub balancer: Balancer,
    #[serde(default)]
    pub agent: Agent,
}

/// The key that lets an operator in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    pub name: String,
    /// Registered under that name if there is none yet. Relative to the site file.
    pub public_key_file: Option<PathBuf>,
}

/// The storage VM. Its address is `share.server` of the tier file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub name: String,
    pub offering: String,
    pub disk: Option<Disk>,
}

/// The data disk of the storage VM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    pub name: String,
    pub offering: String,
    /// In GiB, for an offering that leaves the size open.
    pub size: Option<u64>,
}

/// The WAS VMs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Was {
    pub offering: String,
    pub vms: Vec<WasVm>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WasVm {
    pub name: String,
    pub address: IpAddr,
}

/// The internal balancer in front of the WAS VMs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balancer {
    pub name: String,
    pub address: IpAddr,
    /// Left out: the port that the WAS VMs publish.
    pub port: Option<u16>,
}

/// Where the VMs get the agent from, as `wasagent userdata` has it. Nothing: from the repositories of the template.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    pub repository: Option<String>,
    /// Relative to the site file.
    pub repository_key: Option<PathBuf>,
    pub binary: Option<String>,
    pub sha256: Option<String>,
}

impl Site {
    /// Reads a site file. The files that it names become absolute.
    ///
    /// # Errors
    /// It cannot be read, or a key is unknown, missing or wrong.
    pub fn read(path: &Path) -> Result<Site> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("read {name}"))?;
        let mut site: Site = toml::from_str(&text).map_err(|error| {
            // The line itself stays out: it may hold a key that belongs elsewhere.
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            anyhow::anyhow!("{name}, line {line}: {}", error.message())
        })?;
        let beside = path.parent().unwrap_or(Path::new("."));
        let named = [
            site.ca_file.as_mut(),
            site.agent.repository_key.as_mut(),
            site.key_pair
                .as_mut()
                .and_then(|key| key.public_key_file.as_mut()),
        ];
        for file in named.into_iter().flatten() {
            *file = beside.join(&*file);
        }
        Ok(site)
    }

    /// The text of [`Site::ca_file`].
    ///
    /// # Errors
    /// It cannot be read.
    pub fn authority(&self) -> Result<Option<String>> {
        let Some(file) = &self.ca_file else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(file);
        text.map(Some)
            .with_context(|| format!("read {}", file.display()))
    }
}
