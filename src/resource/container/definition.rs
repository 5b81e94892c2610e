//! The container's definition for systemd and podman: its `.container` file or plain unit, and the units beside it.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::companion::Companion;
use super::{Container, ContainerSecret, LOCK_SECONDS, RESTART_SECONDS, START_SECONDS};
use crate::config::{Protocol, Publish};
use crate::host::held_container;
use crate::host::mark;
use crate::host::recent_starts;
use crate::host::systemd::mount_unit_name;

/// The option of `back-off` that names the VM.
const NODE: &str = "--node=";

impl ContainerSecret {
    /// The `--secret` argument (podman-run(1)). The secret becomes a file, not a variable: podman before 5.3 shows
    /// the value of a variable in `inspect`. Root owns the file, and the application runs as root in the container.
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

    /// Stops the container when its share goes. The container's own unit then retries until the share is back. That
    /// unit is not bound to the mount itself (`BindsTo=`): systemd does not restart a unit that it stopped because of
    /// another unit, nor a unit that failed because another unit did.
    pub(super) fn share_unit(&self) -> Companion {
        let (name, mount) = (&self.name, mount_unit_name(&self.mount));
        // podman-stop(1), not systemctl(1): systemd restarts the unit when its container ends, but not when the unit
        // is stopped.
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

    /// Publishes the container's ports again after firewalld has reloaded its settings. Where the agent's package was
    /// removed, it is not tried again and again.
    fn ports_unit(&self) -> Companion {
        let (name, agent) = (&self.name, self.agent.path.display());
        Companion {
            unit: format!("{name}-ports.service"),
            body: format!(
                "[Unit]\nDescription=Ports of {name} after a reload of firewalld\n\
                 BindsTo={name}.service\nAfter={name}.service firewalld.service\n\
                 ConditionPathExists={agent}\n\n\
                 [Service]\nType=notify\n\
                 ExecStart={agent} keep-ports {name}\n\
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
        // Wants=, not Requires=: systemd restarts a unit that fails, but not a unit whose requirement fails.
        // ExecStartPre= refuses what Requires= would have refused.
        // DefaultDependencies=no, with most of them written out: by default multi-user.target would wait for this
        // unit, and before systemd 254 a unit that is restarted again and again never counts as failed. The end of
        // the boot, cloud-init included, would wait for the storage VM.
        // cloud-init.service (cloud-init-network.service since 24.3) gives a cloned VM its own name.
        format!(
            "[Unit]\nDescription=Application container {}\n\
             DefaultDependencies=no\n\
             Requires=sysinit.target\n\
             Wants=network-online.target {mount} {}\n\
             After=sysinit.target basic.target network-online.target firewalld.service {mount} {share}\n\
             After=cloud-init.service cloud-init-network.service\n\
             Conflicts=shutdown.target\n\
             Before=shutdown.target\n\
             StartLimitIntervalSec=0\n\n",
            self.name,
            wanted.join(" ")
        )
    }

    fn service_lines(&self) -> String {
        let node = self.node.as_ref().map(|node| format!("{NODE}{node} "));
        // back-off makes that file on a VM of another name. Without the agent there is none, and the container starts.
        let file = held_container::file(&self.name);
        let held = node
            .as_ref()
            .map(|_| format!("ExecStartPre=/usr/bin/test ! -e {}\n", file.display()));
        format!(
            "RuntimeDirectory={directory}\nRuntimeDirectoryPreserve=restart\n\
             ExecStartPre=-{agent} back-off --mount={mount} {node}{name}\n{held}\
             ExecStartPre=/usr/bin/findmnt --noheadings --types cifs --mountpoint {mount}\n\
             ExecStartPre={}\n\
             ExecStartPost=-{}\n\
             Restart=always\nRestartSec={RESTART_SECONDS}\nTimeoutStartSec={START_SECONDS}\n",
            self.start_lock(),
            self.sees_share(),
            agent = self.agent.path.display(),
            node = node.unwrap_or_default(),
            held = held.unwrap_or_default(),
            directory = recent_starts::runtime_directory(&self.name),
            name = self.name,
            mount = self.mount.display(),
        )
    }

    /// The share may go after ExecStartPre= has checked it and before podman has made the container. The companion
    /// then finds nothing to stop. With `-`, here as in the other lines that name the agent, the container also starts
    /// where the agent's package was removed; the command itself ends a container that does not see the share.
    fn sees_share(&self) -> String {
        format!(
            "{} sees-share --mount={} --workdir={} $MAINPID",
            self.agent.path.display(),
            self.mount.display(),
            self.workdir.display()
        )
    }

    /// Keeps the revision as it is until the application answers. With `-`, the application starts even if this
    /// fails.
    fn start_lock(&self) -> String {
        let answers = self.answers_at();
        let answers = answers.map(|address| format!("--answers={address} "));
        format!(
            "-/usr/bin/systemd-run --quiet --collect --service-type=notify \\\n    \
             --property=TimeoutStartSec={LOCK_SECONDS} --description=\"Start of {name}\" \\\n    \
             {agent} start-lock --unit={name}.service {}{}",
            answers.unwrap_or_default(),
            self.mount.display(),
            agent = self.agent.path.display(),
            name = self.name,
        )
    }

    /// podman-systemd.unit(5), with the keys of podman 4.4 only: the generator drops a file with an unknown key.
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

    /// SIGCONT ends nothing. At SIGTERM, podman before 5.3 would end while it makes the container's network, and
    /// forget the rules that it has made so far. Until the next boot, the published ports would lead to a container
    /// that is gone. With SIGCONT podman finishes its start and is stopped after that. ExecStop= stops a running
    /// container.
    fn kill_signal(&self) -> &'static str {
        if self.podman_ends_midway {
            "KillSignal=SIGCONT\n"
        } else {
            ""
        }
    }

    /// The unit that podman's generator would make.
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

    /// The address at which this VM itself reaches the application.
    pub(super) fn answers_at(&self) -> Option<SocketAddr> {
        let mut published = self.publish.iter();
        let tcp = published.find(|publish| publish.protocol == Protocol::Tcp);
        tcp.map(Publish::reached_at)
    }

    /// Arguments of `podman run` that have no key in podman 4.4's `.container` files, and the volume. The volume's
    /// key would make the generator add RequiresMountsFor=, with which systemd gives up for good if the share is
    /// missing at boot. Paths need no quotes: validation lets no blank, quote, colon or `%` into a path.
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
            // Root owns the files of the share, whatever user the image names.
            "--user=0:0".to_owned(),
        ];
        if self.privileged {
            arguments.push("--privileged".to_owned());
        }
        let needs_no_right = |publish: &Publish| publish.container_port < 1024;
        if !self.privileged && self.publish.iter().any(needs_no_right) {
            // A sysctl of the container's own network (ip-sysctl(7)). Without it, a low port needs
            // CAP_NET_BIND_SERVICE.
            arguments.push("--sysctl=net.ipv4.ip_unprivileged_port_start=0".to_owned());
        }
        if self.read_only {
            // podman mounts tmpfs on /dev/shm, /run, /tmp and /var/tmp: `--read-only-tmpfs` is its default.
            arguments.push("--read-only".to_owned());
        }
        arguments.extend(self.secrets.iter().map(ContainerSecret::argument));
        arguments
    }
}

/// The agent's program in a definition of the container that an agent wrote.
pub(super) fn agent_in(text: &str) -> Option<PathBuf> {
    back_off_in(text).map(|(agent, _)| agent.into())
}

/// The VM that a definition was written for, where the container's host name comes from the VM's.
pub(super) fn node_in(text: &str) -> Option<&str> {
    let (_, options) = back_off_in(text)?;
    let mut options = options.split(' ');
    options.find_map(|option| option.strip_prefix(NODE))
}

/// The program and the options of the first command of a start.
fn back_off_in(text: &str) -> Option<(&str, &str)> {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("ExecStartPre=-"))?;
    line.split_once(" back-off ")
}

/// What podman runs, in a definition that an agent wrote. The rest of it is how the agent of that version watches the
/// container, and says nothing else that the tier file says.
pub(super) fn container_in(text: &str) -> Option<&str> {
    let parts = [
        ("\n[Container]\n", "\n[Service]\n"),
        ("\nExecStart=/usr/bin/podman run ", "\nExecStop="),
    ];
    parts.iter().find_map(|(begin, end)| {
        let (_, rest) = text.split_once(begin)?;
        Some(rest.split_once(end)?.0)
    })
}

const INSTALL_SECTION: &str = "\n[Install]\nWantedBy=multi-user.target\n";

/// Quotes one word of a line that systemd splits: systemd.service(5), "command lines", and systemd.unit(5),
/// "specifiers".
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
    fn each_command_of_a_start_is_counted() {
        for quadlet in [true, false] {
            let text = container(quadlet).text();
            let lines = text.lines();
            let commands = lines.filter(|line| line.starts_with("ExecStart"));
            // A `.container` file says nothing of podman itself.
            let podman = usize::from(quadlet);
            assert_eq!(
                commands.count() + podman,
                super::super::START_COMMANDS as usize
            );
        }
    }

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
    fn a_definition_tells_its_vm_and_what_podman_runs() {
        for quadlet in [true, false] {
            let mut container = container(quadlet);
            let text = container.text();
            assert_eq!(super::node_in(&text), Some("was-01"));
            let runs = super::container_in(&text).unwrap().to_owned();
            assert!(runs.contains("--hostname=was-container-1") && runs.contains("5000:3000"));
            assert!(!runs.contains("/usr/bin/wasagent"), "{runs}");
            // As a fixed host name has it, and as agents before this one wrote it.
            container.node = None;
            let text = container.text();
            assert_eq!(super::node_in(&text), None);
            assert_eq!(super::container_in(&text), Some(runs.as_str()));
            container.read_only = false;
            assert_ne!(super::container_in(&container.text()), Some(runs.as_str()));
        }
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
    fn units_start_the_program_that_runs() {
        for quadlet in [true, false] {
            let mut container = container(quadlet);
            container.loses_ports = true;
            container.agent.path = "/opt/wasagent-2/wasagent".into();
            let companions = container.companions().into_iter().map(|c| c.body);
            let text = container.text() + &companions.collect::<String>();
            assert!(!text.contains("/usr/bin/wasagent"), "{text}");
            assert_eq!(
                text.matches("/opt/wasagent-2/wasagent ").count(),
                4,
                "{text}"
            );
            let found = super::agent_in(&text);
            assert_eq!(found, Some(container.agent.path));
        }
    }

    /// systemd goes on after a command with `-` whose program is missing (systemd.service(5)).
    #[test]
    fn units_do_not_fail_where_the_agent_was_removed() {
        for quadlet in [true, false] {
            let mut container = container(quadlet);
            container.loses_ports = true;
            let text = container.text().replace(" \\\n", " ");
            let naming = text
                .lines()
                .filter(|line| line.contains("/usr/bin/wasagent"));
            let fatal: Vec<&str> = naming
                .filter(|line| !line.contains("=-/usr/bin/"))
                .collect();
            assert!(fatal.is_empty(), "{fatal:?}");
            for companion in container.companions() {
                let body = companion.body;
                let condition = "ConditionPathExists=/usr/bin/wasagent\n";
                assert!(
                    body.contains(condition) || !body.contains("/usr/bin/wasagent"),
                    "{body}"
                );
            }
        }
    }

    #[test]
    fn the_plain_unit() {
        insta::assert_snapshot!(container(false).text());
    }
}
