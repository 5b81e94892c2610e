//! The storage VM: a disk, its share, and the files that the application runs from.

use std::path::{Path, PathBuf};

use super::firewall;
use crate::config::{Share, Storage, Tier};
use crate::engine::{Graph, Requirement};
use crate::host::Facts;
use crate::host::cifs::SMB_PORT;
use crate::host::systemd::mount_unit_name;
use crate::resource::{
    Account, Check, Content, DataDisk, Directory, Disk, File, Label, Mount, OurShare,
    SAMBA_PARAMETERS, SambaInclude, SambaRule, SambaUser, Unit, WayIn,
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
                udev: facts.udev,
                serves: samba_unit.clone(),
            },
            &[formatted],
        );
        places.push(mounted);
        let path: PathBuf = format!("/etc/systemd/system/{samba_unit}.d/wasagent.conf").into();
        drop_ins.push(path.clone());
        before_samba.push(graph.add(
            File {
                path,
                body: samba_drop_in(&disk.mount),
                check: Check::None,
            },
            // After the mount: then it is always Samba's own step that makes systemd read the drop-in.
            &[mounted],
        ));
    }

    // The account that owns the files, and the directory that is shared.
    let account = graph.add(
        Account {
            name: share.user.clone(),
            owns: storage.path.clone(),
        },
        // After the mount: the account may get the numeric ID that the files on the disk have.
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
    // The label that lets smbd serve the directory comes before any content: new files get the label of their
    // directory.
    let mut ready = vec![directory];
    if facts.selinux {
        ready.push(graph.add(
            Label {
                path: storage.path.clone(),
                disk: disk.clone(),
                has_content: storage.content.is_some(),
            },
            &[directory],
        ));
    }
    if let Some(content) = &storage.content {
        graph.add(
            Content {
                path: storage.path.clone(),
                disk: disk.clone(),
                source: content.clone(),
                database: tier.database.clone(),
                owner: share.user.clone(),
            },
            &ready,
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
            share: OurShare {
                name: share.name.clone(),
                user: share.user.clone(),
                server: share.server.clone(),
                file: SHARE_FILE.into(),
                encrypt: share.encrypt,
                clients: share.clients.clone(),
            },
        },
        &[definition],
    );
    before_samba.extend(ready);
    before_samba.extend([user, definition, include]);
    graph.add(
        Unit {
            name: samba_unit,
            configuration: vec![SHARE_FILE.into(), SMB_CONF.into()],
            drop_ins,
            requirements: vec![Requirement::SambaServer],
        },
        &before_samba,
    );

    let way = WayIn {
        zone: tier.firewall.zone.clone(),
        clients: share.clients.clone(),
        reached_at: share.server.parse().into_iter().collect(),
        ports: vec![(SMB_PORT, "tcp".to_owned())],
        forwarded: false,
    };
    graph.add(firewall(way, facts), &[]);
    graph
}

/// Without the disk, the share would be the bare directory beneath it. So Samba waits for the mount before it starts,
/// and stops whenever the mount goes. `BindsTo=` is needed: when somebody unmounts by hand, units that are bound to the
/// mount stop, but units that only require it do not.
fn samba_drop_in(mount: &Path) -> String {
    format!(
        "[Unit]\nRequiresMountsFor={}\nBindsTo={}\n",
        // `%` begins a specifier in a unit file.
        mount.display().to_string().replace('%', "%%"),
        mount_unit_name(mount)
    )
}

/// The share's section, in the words of smb.conf(5): what the tier file says, and what the table of parameters sets.
fn share_definition(share: &Share, storage: &Storage) -> String {
    let mut lines = vec![format!("[{}]", share.name)];
    for row in SAMBA_PARAMETERS {
        let value = match row.rule {
            SambaRule::Set(value) | SambaRule::SetAndTell(value) => Some(value.to_owned()),
            SambaRule::Tier | SambaRule::TierUnless(_) => of_the_tier(row.name, share, storage),
            SambaRule::Judged(_) => None,
        };
        lines.extend(value.map(|value| format!("{} = {value}", row.name).trim_end().to_owned()));
    }
    lines.join("\n\t") + "\n"
}

/// The value that the tier file gives to a parameter of our section; `None` where the tier file says nothing of it.
fn of_the_tier(parameter: &str, share: &Share, storage: &Storage) -> Option<String> {
    match parameter {
        // `%` begins a variable in smb.conf.
        "path" => Some(storage.path.display().to_string().replace('%', "%%")),
        "valid users" => Some(share.user.clone()),
        "server smb encrypt" if share.encrypt => Some("required".to_owned()),
        "server smb encrypt" => Some("default".to_owned()),
        _ if share.clients.is_empty() => None,
        "hosts allow" => {
            let clients: Vec<String> = share.clients.iter().map(ToString::to_string).collect();
            // The VM itself may check whether the share is served.
            Some(format!("{} 127.0.0.1 ::1", clients.join(" ")))
        }
        // If there are both lists, a host on neither is let in (hosts_access(5)). So a `hosts deny` in the operator's
        // [global] would open the share.
        "hosts deny" => Some("ALL".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::samples;

    #[test]
    fn the_share_as_samba_reads_it() {
        let tier = samples::tier();
        let storage = tier.storage.unwrap();
        insta::assert_snapshot!(share_definition(&tier.share, &storage));
    }
}
