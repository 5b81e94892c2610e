//! The WAS VM: the share mounted, and the application's container running on it.

use super::{Options, firewall};
use crate::config::{Secret, Tier, Was};
use crate::engine::Graph;
use crate::error::{Error, Result};
use crate::host::{Facts, cifs, podman};
use crate::resource::{
    CifsShare, Container, ContainerSecret, Image, PodmanSecret, SecretFile, WayIn,
};

/// Read by `mount.cifs` at boot.
const CREDENTIALS: &str = "/etc/wasagent/share.cred";

pub fn was(tier: &Tier, was: &Was, facts: &Facts, options: &Options) -> Result<Graph> {
    let share = &tier.share;
    let container = &was.container;
    let mut graph = Graph::default();

    let cifs_share = CifsShare {
        server: share.server.clone(),
        share: share.name.clone(),
        user: share.user.clone(),
        password: share.password.clone(),
        encrypt: share.encrypt,
        vers: was.vers,
        mount_point: was.mount.clone(),
        credentials: CREDENTIALS.into(),
        selinux: facts.selinux,
        adopt: options.adopt,
    };
    let credentials = graph.add(
        SecretFile {
            path: CREDENTIALS.into(),
            contents: Secret::new(
                cifs::credentials(&share.user, share.password.expose())?.to_string(),
            ),
            begins: "username=",
            lets_in: cifs_share.clone(),
        },
        &[],
    );
    let mount = graph.add(cifs_share, &[credentials]);
    let image = graph.add(
        Image {
            image: container.image.clone(),
            newer: options.newer_image,
        },
        &[],
    );
    let published = container.publish.iter();
    let addresses = published.clone().map(|publish| publish.address);
    let addresses = addresses.map(|address| address.filter(|address| !address.is_unspecified()));
    let way = WayIn {
        zone: tier.firewall.zone.clone(),
        clients: Vec::new(),
        // Where one port is published at every address, all of them count.
        reached_at: addresses.collect::<Option<_>>().unwrap_or_default(),
        ports: published
            .map(|publish| (publish.host_port, publish.protocol.to_string()))
            .collect(),
        forwarded: true,
    };
    let firewall = graph.add(firewall(way, facts), &[]);
    let mut needs = vec![mount, image, firewall];
    let mut secrets = Vec::new();
    for (name, value) in &container.secrets {
        // podman 4 requires a secret's name to end in a letter or digit.
        let in_podman = format!("{}.{name}.secret", container.name);
        needs.push(graph.add(
            PodmanSecret {
                name: in_podman.clone(),
                value: value.clone(),
            },
            &[],
        ));
        secrets.push(ContainerSecret {
            secret: in_podman,
            name: name.clone(),
        });
    }
    graph.add(
        Container {
            name: container.name.clone(),
            image: podman::reference(&container.image),
            image_name: container.image.to_string(),
            hostname: container_hostname(was, &facts.node)?,
            node: tells_the_node(&container.hostname).then(|| facts.node.clone()),
            publish: container.publish.clone(),
            mount: was.mount.clone(),
            workdir: container.workdir.clone(),
            privileged: container.privileged,
            read_only: container.read_only,
            env: container.env.clone(),
            secrets,
            agent: facts.agent.clone(),
            quadlet: facts.quadlet && !facts.plain_containers.contains(&container.name),
            // podman has both from 4.4 on, or later.
            podman_ends_midway: !facts.quadlet,
            loses_ports: facts.default_zone.is_some() && !facts.keeps_ports,
            adopt: options.adopt,
        },
        &needs,
    );
    Ok(graph)
}

fn tells_the_node(hostname: &str) -> bool {
    let mut parts = ["{node}", "{index}"].into_iter();
    parts.any(|part| hostname.contains(part))
}

/// The container's host name: `{node}` is the VM's, and `{index}` the digits at its end, without leading
/// zeros.
pub fn container_hostname(was: &Was, node: &str) -> Result<String> {
    let template = was.container.hostname.replace("{node}", node);
    if !template.contains("{index}") {
        return Ok(template);
    }
    let digits = &node[node.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    if digits.is_empty() {
        return Err(Error::new(format!(
            "was.container.hostname is {:?}, and the host name {node} ends in no digits",
            was.container.hostname
        ))
        .hint("end the VM's host name in a number, or write a host name without {index}"));
    }
    let index = digits.trim_start_matches('0');
    let index = if index.is_empty() { "0" } else { index };
    Ok(template.replace("{index}", index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn was_with(hostname: &str) -> Was {
        Was {
            mount: "/mnt/data/shared_folder".into(),
            vers: crate::config::Dialect::V3_1_1,
            container: crate::config::Container {
                name: "nodejs-server".to_owned(),
                image: crate::config::Image::Registry("example.org/a:b".to_owned()),
                hostname: hostname.to_owned(),
                publish: Vec::new(),
                workdir: "/usr/src/app".into(),
                privileged: false,
                read_only: false,
                env: Default::default(),
                secrets: Default::default(),
            },
        }
    }

    #[test]
    fn a_fixed_host_name_tells_nothing_of_the_vm() {
        for (hostname, tells) in [("{node}", true), ("was-{index}", true), ("shop", false)] {
            assert_eq!(tells_the_node(hostname), tells, "{hostname}");
        }
    }

    #[test]
    fn the_index_comes_from_the_end_of_the_host_name() {
        let was = was_with("was-container-{index}");
        for (node, expected) in [
            ("three-tier-was-01", "was-container-1"),
            ("was10", "was-container-10"),
            ("was-00", "was-container-0"),
        ] {
            assert_eq!(container_hostname(&was, node).unwrap(), expected);
        }
        assert!(container_hostname(&was, "storage").is_err());
        assert_eq!(
            container_hostname(&was_with("fixed"), "storage").unwrap(),
            "fixed"
        );
        let node = container_hostname(&was_with("{node}"), "three-tier-was-01");
        assert_eq!(node.unwrap(), "three-tier-was-01");
    }
}
