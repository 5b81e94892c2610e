//! Names that are taken on every VM. Pure.

/// Groups whose members can become root, or read what only root should.
pub const PRIVILEGED_GROUPS: [&str; 14] = [
    "root",
    "wheel",
    "sudo",
    "admin",
    "adm",
    "disk",
    "kmem",
    "mem",
    "shadow",
    "docker",
    "lxd",
    "incus-admin",
    "libvirt",
    "systemd-journal",
];

/// Other accounts and groups of the distributions and of what every guest runs. An account of a group's
/// name would be in that group (sysusers.d(5)), and with some of them be as good as root.
const ACCOUNTS: [&str; 17] = [
    "bin",
    "daemon",
    "sys",
    "sync",
    "games",
    "lp",
    "mail",
    "man",
    "nobody",
    "nogroup",
    "messagebus",
    "dbus",
    "polkitd",
    "sshd",
    "tss",
    "tty",
    "utmp",
];

/// Services of the agent's own, of its helpers and of every guest. The container's unit would take
/// the place of a service of its name.
pub(super) const SERVICES: [&str; 21] = [
    "wasagent",
    "wasagent-apply",
    "wasagent-http",
    "wasagent-build",
    "podman",
    "podman-auto-update",
    "podman-restart",
    "netavark-firewalld-reload",
    "firewalld",
    "dbus",
    "dbus-broker",
    "ssh",
    "sshd",
    "smb",
    "smbd",
    "nmb",
    "nmbd",
    "winbind",
    "NetworkManager",
    "polkit",
    "cloud-init",
];

/// Whether an account of this name is there already, or is part of the system. Samba takes
/// `Root` for `root` (username level, `Get_Pwnam_alloc` in source3/lib/username.c).
pub(super) fn is_account(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    accounts().any(|taken| taken == name) || name.starts_with("systemd-")
}

/// All names that an account may not have.
pub(super) fn accounts() -> impl Iterator<Item = &'static str> {
    PRIVILEGED_GROUPS.into_iter().chain(ACCOUNTS)
}

/// Whether `NAME.service` is a service of the system.
pub(super) fn is_service(name: &str) -> bool {
    SERVICES.contains(&name) || name.starts_with("systemd-")
}
