//! The guide's tier and the guests that it runs on, for tests.

use crate::config::{
    Container, Content, Device, Dialect, Disk, Filesystem, Firewall, Health, Image, Protocol,
    Publish, Role, Secret, Serve, Share, Storage, Tier, Was,
};
use crate::engine::{Diff, Graph, Plan};
use crate::host::Facts;
use crate::host::facts::PackageManager;

pub const PASSWORD: &str = "pass,word of the share";

pub fn tier() -> Tier {
    Tier {
        share: Share {
            name: "user1".to_owned(),
            server: "192.168.2.13".to_owned(),
            user: "user1".to_owned(),
            password: Secret::new(PASSWORD.to_owned()),
            clients: vec!["192.168.2.0/24".parse().unwrap()],
            encrypt: true,
        },
        storage: Some(Storage {
            path: "/mnt/data/shared_folder".into(),
            disk: Some(Disk {
                device: Device::Auto,
                filesystem: Filesystem::Xfs,
                mount: "/mnt/data".into(),
            }),
            content: Some(Content {
                git: "https://github.com/ablecloud-team/ablestack-docs-sample.git".to_owned(),
                rev: "main".to_owned(),
                subdir: Some("linux-3tier-example".into()),
                build: Vec::new(),
                edit: Vec::new(),
            }),
        }),
        database: None,
        was: Some(Was {
            mount: "/mnt/data/shared_folder".into(),
            vers: Dialect::V3_1_1,
            container: Container {
                name: "nodejs-server".to_owned(),
                image: Image::Registry(
                    "docker.io/ablecloudteam/nodejs-server:linux-0.1".to_owned(),
                ),
                hostname: "was-container-{index}".to_owned(),
                publish: vec![Publish {
                    address: None,
                    host_port: 5000,
                    container_port: 3000,
                    protocol: Protocol::Tcp,
                }],
                workdir: "/usr/src/app".into(),
                privileged: false,
                read_only: false,
                env: [("NODE_ENV".to_owned(), "production".to_owned())].into(),
                secrets: Default::default(),
            },
        }),
        firewall: Firewall::default(),
        serve: Serve::default(),
        health: Health::default(),
    }
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
