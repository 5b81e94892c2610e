//! The storage VM: a disk, its share, and the files that the application runs from.

use std::path::PathBuf;

use super::zone;
use crate::config::{Share, Storage, Tier};
use crate::engine::{Graph, Requirement};
use crate::host::Facts;
use crate::host::cifs::SMB_PORT;
use crate::host::firewalld::Opening;
use crate::resource::{
    Account, Check, Content, DataDisk, Directory, Disk, File, Firewall, Mount, SambaInclude,
    SambaUser, Unit,
};

/// Beside smb.conf, which includes it.
const SHARE_FILE: &str = "/etc/samba/wasagent.conf";
const SMB_CONF: &str = "/etc/samba/smb.conf";

pub fn storage(tier: &Tier, storage: &Storage, facts: &Facts) -> Graph {
    let share = &tier.share;
    let samba_unit = facts
        .samba_unit
        .clone()
        .unwrap_or_else(|| "smb.service".to_owned());
    let mut graph = Graph::default();

    // The disk, if the share has one of its own, mounted at every boot before Samba starts.
    let mut places = Vec::new();
    let mut before_samba = Vec::new();
    let mut drop_ins = Vec::new();
    if let Some(disk) = &storage.disk {
        let formatted = graph.add(
            Disk {
                device: disk.device.clone(),
                filesystem: disk.filesystem,
                mount: disk.mount.clone(),
            },
            &[],
        );
        let mounted = graph.add(
            Mount {
                device: disk.device.clone(),
                filesystem: disk.filesystem,
                mount_point: disk.mount.clone(),
                selinux: facts.selinux,
            },
            &[formatted],
        );
        places.push(mounted);
        let path: PathBuf = format!("/etc/systemd/system/{samba_unit}.d/wasagent.conf").into();
        drop_ins.push(path.clone());
        before_samba.push(graph.add(
            File {
                path,
                // Without the disk the share would be the bare directory beneath it.
                body: format!("[Unit]\nRequiresMountsFor={}\n", disk.mount.display()),
                check: Check::None,
            },
            // In this order it is always Samba's own step that makes systemd read it.
            &[mounted],
        ));
    }

    // The account that owns the files, and the directory that is shared.
    let account = graph.add(
        Account {
            name: share.user.clone(),
            owns: storage.path.clone(),
        },
        // The number of the account may be the one that the files on the disk have.
        &places,
    );
    places.push(account);
    let disk = storage.disk.as_ref().map(|disk| DataDisk {
        device: disk.device.clone(),
        mount: disk.mount.clone(),
    });
    let directory = graph.add(
        Directory {
            path: storage.path.clone(),
            disk: disk.clone(),
            owner: share.user.clone(),
            mode: 0o2770,
        },
        &places,
    );
    if let Some(content) = &storage.content {
        graph.add(
            Content {
                path: storage.path.clone(),
                disk: disk.clone(),
                source: content.clone(),
                database: tier.database.clone(),
                owner: share.user.clone(),
            },
            &[directory],
        );
    }

    // The share, its account in Samba, and the service; SMB3 needs one port.
    let user = graph.add(
        SambaUser {
            name: share.user.clone(),
            password: share.password.clone(),
        },
        &[account],
    );
    let definition = graph.add(
        File {
            path: SHARE_FILE.into(),
            body: share_definition(share, storage),
            check: Check::SambaShare(share.name.clone()),
        },
        &[],
    );
    let include = graph.add(
        SambaInclude {
            included: SHARE_FILE.into(),
            share: share.name.clone(),
        },
        &[definition],
    );
    before_samba.extend([directory, user, definition, include]);
    graph.add(
        Unit {
            name: samba_unit,
            configuration: vec![SHARE_FILE.into(), SMB_CONF.into()],
            drop_ins,
            requirements: vec![Requirement::SambaServer],
        },
        &before_samba,
    );

    let everybody = Opening::Port {
        port: SMB_PORT,
        protocol: "tcp".to_owned(),
    };
    let (openings, unwanted) = if share.clients.is_empty() {
        (vec![everybody], Vec::new())
    } else {
        let clients = share.clients.iter();
        let openings = clients.map(|&network| Opening::for_source(network, SMB_PORT, "tcp"));
        (openings.collect(), vec![everybody])
    };
    graph.add(
        Firewall {
            zone: zone(tier, facts),
            openings,
            unwanted,
        },
        &[],
    );
    graph
}

/// The share's section, in the words of smb.conf(5).
fn share_definition(share: &Share, storage: &Storage) -> String {
    let mut lines = vec![
        format!("[{}]", share.name),
        // `%` begins a variable in smb.conf.
        format!(
            "path = {}",
            storage.path.display().to_string().replace('%', "%%")
        ),
        format!("valid users = {}", share.user),
        "read only = no".to_owned(),
        "guest ok = no".to_owned(),
        // What one WAS writes the other may read and change: both come as the same account, and
        // nobody else on this VM needs to.
        "create mask = 0660".to_owned(),
        "directory mask = 2770".to_owned(),
        format!(
            "smb encrypt = {}",
            if share.encrypt { "required" } else { "default" }
        ),
    ];
    if !share.clients.is_empty() {
        let clients: Vec<String> = share.clients.iter().map(ToString::to_string).collect();
        lines.push(format!("hosts allow = {}", clients.join(" ")));
    }
    lines.join("\n\t") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn the_share_as_samba_reads_it() {
        let share = Share {
            name: "user1".to_owned(),
            server: "192.168.2.13".to_owned(),
            user: "user1".to_owned(),
            password: Secret::new("x".to_owned()),
            clients: vec!["192.168.2.0/24".parse().unwrap()],
            encrypt: true,
        };
        let storage = Storage {
            path: "/mnt/data/shared_folder".into(),
            disk: None,
            content: None,
        };
        insta::assert_snapshot!(share_definition(&share, &storage));
    }
}
