//! How systemd and podman are told of the container: its `.container` file or plain unit, and the units beside it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::companion::Companion;
use super::{Container, ContainerSecret, LOCK_SECONDS, RESTART_SECONDS, START_SECONDS};
use crate::config::{Protocol, Publish};
use crate::host::mark;
use crate::host::recent_starts;
use crate::host::systemd::mount_unit_name;

impl ContainerSecret {
    /// For `--secret` (podman-run(1)). No variable: podman before 5.3 shows the value of one in `inspect`. The file is
    /// root's, and the application is root there.
    fn argument(&self) -> String {
        let Self { secret, name } = self;
        format!("--secret={secret},type=mount,target={name},mode=0400")
    }
}

impl Container {
    pub(super) fn companions(&self) -> Vec<Companion> {
        let mut companions = vec![self.share_unit()];
        companions.extend(self.loses_ports.then(|| self.ports_unit()));
        companions
    }

    /// Stops the container when its share goes; the container's own unit then tries again until it is
    /// back. That is not bound to the mount itself (`BindsTo=`): systemd does not try again what it
    /// stopped because of another unit, nor what failed because another unit did.
    pub(super) fn share_unit(&self) -> Companion {
        let (name, mount) = (&self.name, mount_unit_name(&self.mount));
        // podman-stop(1) and not systemctl(1): a container that ends is started again by its unit,
        // one that is stopped as a unit is not.
        Companion {
            unit: format!("{name}-share.service"),
            body: format!(
                "[Unit]\nDescription=Stop of {name} when its share goes\n\
                 BindsTo={mount}\nAfter={mount}\n\n\
                 [Service]\nType=oneshot\nRemainAfterExit=yes\n\
                 ExecStop=-/usr/bin/podman stop --ignore {name}\n"
            ),
        }
    }

    /// Publishes the container's ports again when firewalld has read its settings anew.
    fn ports_unit(&self) -> Companion {
        let name = &self.name;
        Companion {
            unit: format!("{name}-ports.service"),
            body: format!(
                "[Unit]\nDescription=Ports of {name} after a reload of firewalld\n\
                 BindsTo={name}.service\nAfter={name}.service firewalld.service\n\n\
                 [Service]\nType=notify\n\
                 ExecStart=/usr/bin/wasagent keep-ports {name}\n\
                 Restart=always\nRestartSec={RESTART_SECONDS}\n"
            ),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        if self.quadlet {
            format!("/etc/containers/systemd/{}.container", self.name).into()
        } else {
            format!("/etc/systemd/system/{}.service", self.name).into()
        }
    }

    pub(super) fn text(&self) -> String {
        let body = if self.quadlet {
            self.quadlet_file()
        } else {
            self.service_file()
        };
        mark::marked(&format!("{}{body}{}", self.unit_section(), INSTALL_SECTION))
    }

    fn unit_section(&self) -> String {
        let mount = mount_unit_name(&self.mount);
        let share = self.share_unit().unit;
        let wanted: Vec<String> = self.companions().into_iter().map(|c| c.unit).collect();
        // Wants= and not Requires=: systemd tries a unit again that fails, but not one whose
        // requirement fails. ExecStartPre= refuses what Requires= would have.
        // DefaultDependencies=no, and most of them by hand: multi-user.target would wait for a unit that
        // wants it, and before systemd 254 one that is tried again and again has never failed. What else
        // a boot does at its end, cloud-init too, would wait for the storage VM.
        format!(
            "[Unit]\nDescription=Application container {}\n\
             DefaultDependencies=no\n\
             Requires=sysinit.target\n\
             Wants=network-online.target {mount} {}\n\
             After=sysinit.target basic.target network-online.target firewalld.service {mount} {share}\n\
             Conflicts=shutdown.target\n\
             Before=shutdown.target\n\
             StartLimitIntervalSec=0\n\n",
            self.name,
            wanted.join(" ")
        )
    }

    fn service_lines(&self) -> String {
        format!(
            "RuntimeDirectory={directory}\nRuntimeDirectoryPreserve=restart\n\
             ExecStartPre=-/usr/bin/wasagent back-off --mount={mount} {name}\n\
             ExecStartPre=/usr/bin/findmnt --noheadings --types cifs --mountpoint {mount}\n\
             ExecStartPre={}\n\
             ExecStartPost={}\n\
             Restart=always\nRestartSec={RESTART_SECONDS}\nTimeoutStartSec={START_SECONDS}\n",
            self.start_lock(),
            self.sees_share(),
            directory = recent_starts::runtime_directory(&self.name),
            name = self.name,
            mount = self.mount.display(),
        )
    }

    /// The share may go after the look at it and before podman has made the container, too late for its
    /// companion to stop anything.
    fn sees_share(&self) -> String {
        format!(
            "/usr/bin/wasagent sees-share --mount={} --workdir={} $MAINPID",
            self.mount.display(),
            self.workdir.display()
        )
    }

    /// Keeps the revision as it is until the application answers. The application starts without,
    /// too: `-`.
    fn start_lock(&self) -> String {
        let answers = self.answers_at();
        let answers = answers.map(|address| format!("--answers={address} "));
        format!(
            "-/usr/bin/systemd-run --quiet --collect --service-type=notify \\\n    \
             --property=TimeoutStartSec={LOCK_SECONDS} --description=\"Start of {name}\" \\\n    \
             /usr/bin/wasagent start-lock --unit={name}.service {}{}",
            answers.unwrap_or_default(),
            self.mount.display(),
            name = self.name,
        )
    }

    /// podman-systemd.unit(5), with the keys of podman 4.4 only: the generator drops a file with a
    /// key that it does not know.
    fn quadlet_file(&self) -> String {
        let mut lines = vec![
            format!("ContainerName={}", self.name),
            format!("Image={}", self.image),
            format!("PodmanArgs={}", self.arguments_without_a_key().join(" ")),
        ];
        lines.extend(self.publish.iter().map(|p| format!("PublishPort={p}")));
        for (key, value) in &self.env {
            lines.push(format!("Environment={}", quote(&format!("{key}={value}"))));
        }
        if !self.privileged {
            lines.push("DropCapability=all".to_owned());
            lines.push("NoNewPrivileges=true".to_owned());
        }
        format!(
            "[Container]\n{}\n\n[Service]\n{}",
            lines.join("\n"),
            self.service_lines()
        )
    }

    /// A signal that ends nobody, where podman before 5.3 would end at SIGTERM while it makes the container's network, and
    /// forget the rules that it has made by then: the published ports would lead to a container that is gone
    /// until the next boot. It so comes to the end of its start, and is stopped after that; a container that runs
    /// is stopped by ExecStop=.
    fn kill_signal(&self) -> &'static str {
        if self.podman_ends_midway {
            "KillSignal=SIGCONT\n"
        } else {
            ""
        }
    }

    /// What podman's generator would make of it.
    fn service_file(&self) -> String {
        let name = &self.name;
        let mut arguments = vec![
            format!("--name={name}"),
            "--replace".to_owned(),
            "--rm".to_owned(),
            "--detach".to_owned(),
            "--cgroups=split".to_owned(),
            "--sdnotify=conmon".to_owned(),
        ];
        arguments.extend(self.arguments_without_a_key());
        arguments.extend(self.publish.iter().map(|p| format!("--publish={p}")));
        for (key, value) in &self.env {
            arguments.push(format!("--env={}", quote(&format!("{key}={value}"))));
        }
        if !self.privileged {
            arguments.push("--cap-drop=all".to_owned());
            arguments.push("--security-opt=no-new-privileges".to_owned());
        }
        format!(
            "[Service]\nType=notify\nNotifyAccess=all\nDelegate=yes\nKillMode=mixed\n{}\
             Environment=PODMAN_SYSTEMD_UNIT=%n\n{}\
             ExecStart=/usr/bin/podman run \\\n    {} \\\n    {}\n\
             ExecStop=/usr/bin/podman rm --force --ignore {name}\n\
             ExecStopPost=-/usr/bin/podman rm --force --ignore {name}\n",
            self.kill_signal(),
            self.service_lines(),
            arguments.join(" \\\n    "),
            self.image,
        )
    }

    /// Where this VM itself reaches the application.
    pub(super) fn answers_at(&self) -> Option<SocketAddr> {
        let mut published = self.publish.iter();
        let tcp = published.find(|publish| publish.protocol == Protocol::Tcp);
        tcp.map(Publish::reached_at)
    }

    /// Arguments of `podman run` that have no key in podman 4.4's `.container` files, and the
    /// volume: its key would make the generator add RequiresMountsFor=, with which systemd gives
    /// up for good when the share is not there at boot. Paths need no quotes: validation lets no
    /// blank, quote, colon or `%` into one.
    fn arguments_without_a_key(&self) -> Vec<String> {
        let mut arguments = vec![
            format!(
                "--volume={}:{}",
                self.mount.display(),
                self.workdir.display()
            ),
            "--pull=never".to_owned(),
            format!("--hostname={}", self.hostname),
            format!("--workdir={}", self.workdir.display()),
            // The files of the share are root's, whatever user the image names.
            "--user=0:0".to_owned(),
        ];
        if self.privileged {
            arguments.push("--privileged".to_owned());
        }
        let needs_no_right = |publish: &Publish| publish.container_port < 1024;
        if !self.privileged && self.publish.iter().any(needs_no_right) {
            // ip-sysctl(7) of the container's own network; else it takes CAP_NET_BIND_SERVICE.
            arguments.push("--sysctl=net.ipv4.ip_unprivileged_port_start=0".to_owned());
        }
        if self.read_only {
            // With tmpfs on /dev/shm, /run, /tmp and /var/tmp: `--read-only-tmpfs` is podman's default.
            arguments.push("--read-only".to_owned());
        }
        arguments.extend(self.secrets.iter().map(ContainerSecret::argument));
        arguments
    }
}

const INSTALL_SECTION: &str = "\n[Install]\nWantedBy=multi-user.target\n";

/// One word of a line that systemd splits: systemd.service(5), "command lines", and
/// systemd.unit(5), "specifiers".
fn quote(word: &str) -> String {
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('"');
    for character in word.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' => quoted.push_str("%%"),
            '$' => quoted.push_str("$$"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::tests::container;

    #[test]
    fn a_low_port_is_listened_on_without_a_right() {
        let mut container = container(true);
        assert!(!container.text().contains("--sysctl"));
        container.publish[0].container_port = 80;
        assert!(container.text().contains("ip_unprivileged_port_start=0"));
        container.privileged = true;
        assert!(!container.text().contains("--sysctl"));
    }

    #[test]
    fn the_quadlet_file() {
        insta::assert_snapshot!(container(true).text());
    }

    #[test]
    fn the_companions() {
        let texts = container(false).companions();
        let texts = texts.iter().map(|c| format!("{}\n{}", c.unit, c.body));
        insta::assert_snapshot!(texts.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn the_plain_unit() {
        insta::assert_snapshot!(container(false).text());
    }
}
