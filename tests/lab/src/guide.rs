//! The guide typed by an operator on a WAS VM: the commands of its steps 14 to 19, and what is there afterwards.

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::image;
use crate::tier::SHARE_PASSWORD;

pub const CREDENTIALS: &str = "/root/.smb.cred";
pub const SERVICE: &str = "/etc/systemd/system/nodejs-server.service";

/// Whether the VM has been booted since: only then the service of step 19 is what started the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    Typed,
    Booted,
}

/// Types the steps. The share is there, the image need not be.
pub fn type_on(guest: &Guest, since: Since) -> Result<()> {
    let credentials = format!("username=user1\npassword={SHARE_PASSWORD}\n");
    guest.write(CREDENTIALS, credentials, 0o600)?;
    let steps = [
        "mkdir -p /mnt/data/shared_folder".to_owned(),
        "mount -t cifs -o credentials=/root/.smb.cred,vers=3.0 //192.168.2.13/user1 /mnt/data/shared_folder".to_owned(),
        "echo '//192.168.2.13/user1 /mnt/data/shared_folder cifs credentials=/root/.smb.cred,vers=3.0 0 0' >>/etc/fstab"
            .to_owned(),
        format!("podman pull --quiet {}", image::NAME),
        format!(
            "podman run --privileged=true -d -p 5000:3000 --name nodejs-server --hostname was-container-1 --restart always \
             -v /mnt/data/shared_folder:/usr/src/app {}",
            image::NAME
        ),
        format!("podman generate systemd nodejs-server >{SERVICE}"),
        "systemctl enable nodejs-server.service".to_owned(),
    ];
    for step in steps {
        guest.ok(["sh", "-c", &step])?;
    }
    if since == Since::Booted {
        guest.ok(["systemctl", "daemon-reload"])?;
        guest.ok(["podman", "stop", "nodejs-server"])?;
        guest.ok(["systemctl", "start", "nodejs-server.service"])?;
    }
    Ok(())
}

/// What was set up by hand, to the byte where it is a file: two of these are equal when nothing was lost.
pub fn found(guest: &Guest) -> Result<String> {
    let questions = [
        "sha256sum /etc/fstab /root/.smb.cred /etc/systemd/system/nodejs-server.service",
        "stat -c '%n %a %U %y' /etc/fstab /root/.smb.cred /etc/systemd/system/nodejs-server.service",
        "ls -l /etc/systemd/system/*.wants/nodejs-server.service | cut -d' ' -f9-",
        "systemctl is-enabled nodejs-server.service; systemctl is-active nodejs-server.service; true",
        "findmnt --noheadings --output SOURCE,FSTYPE --mountpoint /mnt/data/shared_folder",
        "findmnt --noheadings --output OPTIONS --mountpoint /mnt/data/shared_folder | tr , '\\n' | grep -E '^(vers|username|seal|soft|hard)'",
        "podman inspect --format '{{.Id}} {{.Name}} {{.State.Status}} {{.ImageName}} {{.HostConfig.RestartPolicy.Name}} \
         {{.HostConfig.Privileged}} {{.HostConfig.PortBindings}}' $(podman ps --all --quiet)",
        "ls -d /etc/systemd/system/*wasagent* /etc/systemd/system/nodejs-server-* /etc/systemd/system/podman-restart* \
         /etc/containers/systemd/* /etc/systemd/system/mnt-* 2>/dev/null; true",
    ];
    let mut all = String::new();
    for question in questions {
        let output = guest.run(["sh", "-c", question])?;
        ensure!(output.success(), "{output}");
        all.push_str(&output.stdout);
    }
    Ok(all)
}
