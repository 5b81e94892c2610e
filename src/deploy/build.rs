//! The build of a revision, run as a transient systemd unit under the share's account. It may write
//! only to the tree that is put together: it runs the scripts of packages that nobody here wrote.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::staging::{HOME, NEW};
use crate::error::{Error, Result};
use crate::host::account::Account;
use crate::host::process::find_program;
use crate::host::systemd::{Property, Transient};

/// A fixed name: the next apply finds by it a build that an interrupted apply left running.
pub const UNIT: &str = "wasagent-build.service";

/// Where the build sees its tree and its `HOME`, which really lie in a directory that root owns.
const RUNTIME_DIRECTORY: &str = "wasagent-build";
const INSIDE: &str = "/run/wasagent-build";

/// The path at which the build sees its tree.
pub fn tree() -> PathBuf {
    Path::new(INSIDE).join(NEW)
}

/// `npm ci` of a large application on a slow VM takes some minutes.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// The build's limit, in per cent of all memory: smbd must go on serving beside the build.
const MEMORY_PERCENT: u64 = 75;
const TASKS: u64 = 1024;

/// The program to run. A relative path with a slash names a program of the revision, anything else
/// a program of the system.
fn program(word: &str) -> Result<PathBuf> {
    if word.starts_with('/') {
        return Ok(PathBuf::from(word));
    }
    if word.contains('/') {
        return Ok(tree().join(word));
    }
    let own = Path::new("/usr/local/bin").join(word);
    find_program(word)
        .or_else(|| own.is_file().then_some(own))
        .ok_or_else(|| {
            Error::new(format!(
                "this VM lacks {word}, which storage.content.build runs"
            ))
            .hint(format!("install {word} on this VM, and apply again"))
        })
}

/// Whether the build can be begun here.
pub fn check(build: &[String]) -> Result<()> {
    build.first().map_or(Ok(()), |word| program(word).map(drop))
}

/// The unit that builds the tree `staging`/new, shared later as `shared`.
pub fn unit(
    build: &[String],
    staging: &Path,
    shared: &Path,
    owner: &Account,
    description: String,
) -> Result<Transient> {
    let Some(word) = build.first() else {
        return Err(Error::new("there is nothing to build"));
    };
    let text = |path: PathBuf| path.display().to_string();
    let inside = |name: &str| text(Path::new(INSIDE).join(name));
    let bind = |name: &str| {
        (
            text(staging.join(name)),
            inside(name),
            false,
            // MS_REC, the default of systemd.exec(5).
            0x4000_u64,
        )
    };
    let mut properties = vec![
        Property::new("Description", description),
        Property::new("Type", "oneshot"),
        Property::new("User", owner.uid.to_string()),
        Property::new("Group", owner.gid.to_string()),
        Property::new("WorkingDirectory", inside(NEW)),
        Property::new(
            "Environment",
            vec![
                format!("HOME={}", inside(HOME)),
                "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
                // The account's own shell is nologin, and some tools run their commands in $SHELL.
                "SHELL=/bin/sh".to_owned(),
                "LC_ALL=C.UTF-8".to_owned(),
                // Makes npm and others print no progress bar and ask no questions.
                "CI=true".to_owned(),
            ],
        ),
        Property::new(
            "ExecStart",
            vec![(text(program(word)?), build.to_vec(), false)],
        ),
        // The same as for files that smbd makes for the account: access for that account alone.
        Property::new("UMask", 0o007_u32),
        Property::new("TimeoutStartUSec", micros(DEADLINE)),
        Property::new("TimeoutStopUSec", micros(Duration::from_secs(10))),
        // What a build leaves running would go on writing to the tree, and has nothing to finish.
        Property::new("KillSignal", libc::SIGKILL),
        Property::new("StandardInput", "null"),
        Property::new("StandardOutput", "journal"),
        Property::new("StandardError", "journal"),
        // systemd forgets the unit once it has ended, even if it failed.
        Property::new("CollectMode", "inactive-or-failed"),
        // Clients that read the share come first.
        Property::new("Nice", 10_i32),
        Property::new("MemoryMaxScale", scale(MEMORY_PERCENT)),
        Property::new("TasksMax", TASKS),
    ];
    properties.extend(sandbox());
    properties.extend([
        Property::new("RuntimeDirectory", vec![RUNTIME_DIRECTORY.to_owned()]),
        Property::new("RuntimeDirectoryMode", 0o700_u32),
        Property::new("BindPaths", vec![bind(NEW), bind(HOME)]),
        Property::new("ReadWritePaths", vec![inside(NEW), inside(HOME)]),
        Property::new(
            "InaccessiblePaths",
            // A build must not reach the files that are shared now, the agent's own files or the
            // bus.
            [
                text(shared.to_owned()),
                "-/etc/wasagent".to_owned(),
                "-/var/lib/wasagent".to_owned(),
                "-/var/lib/samba".to_owned(),
                "-/run/dbus".to_owned(),
                "-/run/systemd/private".to_owned(),
            ]
            .to_vec(),
        ),
    ]);
    Ok(Transient {
        name: UNIT,
        properties,
        deadline: DEADLINE + Duration::from_secs(30),
    })
}

/// systemd.exec(5), "Sandboxing". The network stays open: npm and its like fetch from a registry
/// whose addresses nobody knows beforehand. Only the link-local addresses are blocked: clouds serve
/// user data there, which may hold secrets. A Mold's virtual router serves user data at the name
/// server's address, which cannot be blocked without losing name resolution.
///
/// `RestrictSUIDSGID` is left out. It forbids to make a directory with the set-group-ID bit, as every
/// directory of the tree has it and every tool that copies modes makes it. It also forbids openat2(2),
/// by which newer GNU tar unpacks (systemd, issue 43314). A set-ID file that a build makes gives nobody
/// rights: it is the account's own and lies where only root gets to, and
/// [`staging::dress`](super::staging::dress) takes the bits away before the tree is shared.
fn sandbox() -> Vec<Property> {
    const AF_INET: i32 = 2;
    let yes = [
        "NoNewPrivileges",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "ProtectClock",
        "ProtectHostname",
        "RestrictRealtime",
        "LockPersonality",
        "RemoveIPC",
    ];
    let mut properties: Vec<Property> = yes
        .into_iter()
        .map(|name| Property::new(name, true))
        .collect();
    let allowed = |words: &[&str]| (true, words.iter().map(|w| (*w).to_owned()).collect());
    let families: (bool, Vec<String>) = allowed(&["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]);
    properties.extend([
        Property::new("ProtectSystem", "strict"),
        Property::new("ProtectHome", "yes"),
        Property::new("ProtectProc", "invisible"),
        Property::new("KeyringMode", "private"),
        Property::new("CapabilityBoundingSet", 0_u64),
        Property::new("AmbientCapabilities", 0_u64),
        // No kind of namespace is allowed (systemd.exec(5): RestrictNamespaces=yes).
        Property::new("RestrictNamespaces", 0_u64),
        Property::new("RestrictAddressFamilies", families),
        Property::new("SystemCallArchitectures", vec!["native".to_owned()]),
        Property::new(
            "IPAddressDeny",
            vec![(AF_INET, vec![169_u8, 254, 0, 0], 16_u32)],
        ),
    ]);
    properties
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// systemd expresses a share of all memory as a fraction of 2^32.
fn scale(percent: u64) -> u32 {
    u32::try_from(u64::from(u32::MAX) * percent / 100).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn a_program_is_the_systems_or_the_revisions() {
        assert!(check(&words(&["sh", "-c", "true"])).is_ok());
        assert!(check(&[]).is_ok());
        let lacking = check(&words(&["no-such-program"])).unwrap_err();
        assert!(lacking.message.contains("no-such-program"));
        assert_eq!(
            program("./build.sh").unwrap(),
            Path::new("/run/wasagent-build/new/./build.sh")
        );
    }
}
