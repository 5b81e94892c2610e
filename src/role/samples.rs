//! The guide's tier and the guests that it runs on, for tests.

use std::io::Write;

use crate::config::{self, Role, Tier};
use crate::engine::{Diff, Graph, Plan};
use crate::host::Facts;
use crate::host::facts::PackageManager;

pub const PASSWORD: &str = "pass,word of the share";

/// As an operator writes it, so that a new key that may be left out changes nothing here.
const TIER: &str = r#"
[share]
name     = "user1"
server   = "192.168.2.13"
user     = "user1"
password = "pass,word of the share"
clients  = ["192.168.2.0/24"]

[storage]
path = "/mnt/data/shared_folder"

[storage.disk]
device     = "auto"
filesystem = "xfs"
mount      = "/mnt/data"

[storage.content]
git    = "https://github.com/ablecloud-team/ablestack-docs-sample.git"
rev    = "main"
subdir = "linux-3tier-example"

[was]
mount = "/mnt/data/shared_folder"
vers  = "3.1.1"

[was.container]
name     = "nodejs-server"
image    = "docker.io/ablecloudteam/nodejs-server:linux-0.1"
hostname = "was-container-{index}"
publish  = ["5000:3000"]
workdir  = "/usr/src/app"
env      = { NODE_ENV = "production" }
"#;

pub fn tier() -> Tier {
    // Of mode 0600, as a tier file with a password has to be.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(TIER.as_bytes()).unwrap();
    config::load(file.path(), None).unwrap_or_else(|faults| panic!("{faults}"))
}

pub fn graph(role: Role) -> Graph {
    let facts = Facts {
        node: match role {
            Role::Storage => "three-tier-storage".to_owned(),
            Role::Was => "three-tier-was-01".to_owned(),
        },
        agent: crate::host::agent::Agent {
            path: "/usr/bin/wasagent".into(),
            unfit: None,
        },
        packages: PackageManager::Apt,
        samba_unit: Some("smbd.service".to_owned()),
        quadlet: true,
        plain_containers: Default::default(),
        keeps_ports: true,
        default_zone: Some("public".to_owned()),
        zones: None,
        interfaces: Vec::new(),
        selinux: false,
        udev: true,
    };
    super::resources(role, &tier(), &facts, &super::Options::default()).unwrap()
}

/// The plan of a guest on which only these resources differ.
pub fn plan(role: Role, differing: Vec<(&str, Diff)>) -> Plan {
    let graph = graph(role);
    let mut diffs: Vec<Diff> = graph.nodes().iter().map(|_| Diff::update("")).collect();
    for (address, diff) in differing {
        let mut nodes = graph.nodes().iter();
        let index = nodes.position(|node| node.address.to_string() == address);
        diffs[index.unwrap_or_else(|| panic!("no {address}"))] = diff;
    }
    let looked = diffs.into_iter().map(Ok).collect();
    Plan::of(&graph, looked, std::time::Duration::from_millis(12))
}
