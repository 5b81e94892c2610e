//! What the application's container may do, as the kernel sees it, and who gets to see what only it should know.

use anyhow::{Context, Result, ensure};

use crate::guest::Guest;
use crate::progress::say;

const CONTAINER: &str = "nodejs-server";

/// What /proc/PID/status(5) says of the application: no capability in any set, none to be gained, a filter of system calls.
const CONFINED: [(&str, &str); 7] = [
    ("CapInh", "0000000000000000"),
    ("CapPrm", "0000000000000000"),
    ("CapEff", "0000000000000000"),
    ("CapBnd", "0000000000000000"),
    ("CapAmb", "0000000000000000"),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
];

/// The number of the application's first process.
pub fn process(guest: &Guest) -> Result<String> {
    guest.answer(["podman", "inspect", "--format={{.State.Pid}}", CONTAINER])
}

/// The container's processes have no capability and can gain none.
pub fn is_confined(guest: &Guest) -> Result<()> {
    let status = guest.answer(["cat", &format!("/proc/{}/status", process(guest)?)])?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim_start_matches(':').trim())
    };
    let name = of("Name").context("no name")?;
    ensure!(name == "node", "the first process is {name}: {status}");
    for (field, wanted) in CONFINED {
        ensure!(
            of(field) == Some(wanted),
            "{field} is not {wanted}: {status}"
        );
    }
    say(format!(
        "{} ({}): {name} runs with {}",
        guest.name(),
        guest.release(),
        CONFINED
            .map(|(field, value)| format!("{field} {value}"))
            .join(", ")
    ));
    Ok(())
}

/// On a guest that enforces SELinux's policy: the application runs in the domain that the policy has for containers, not
/// in that of what a login starts.
pub fn is_in_its_domain(guest: &Guest) -> Result<()> {
    ensure!(guest.answer(["getenforce"])? == "Enforcing");
    let label = format!("/proc/{}/attr/current", process(guest)?);
    let label = guest.answer(["cat", &label])?;
    let label = label.trim_end_matches('\0');
    ensure!(label.contains(":container_t:"), "{label}");
    say(format!("{}: node runs as {label}", guest.name()));
    Ok(())
}

/// Looks wherever somebody who is not root, or root by chance, might come upon a secret; each line of the file `parts` is a
/// part of one.
const LOOK: &str = r#"
{
    podman inspect nodejs-server
    podman ps --all --no-trunc
    podman secret ls
    podman secret inspect $(podman secret ls --quiet) /dev/null
    systemctl cat 'nodejs-server*' '*.mount'
    systemctl show nodejs-server.service mnt-data-shared_folder.mount
    journalctl --all --output=verbose
    cat /proc/mounts /run/systemd/generator*/*.service
    for process in /proc/[0-9]*; do
        tr '\0' '\n' <$process/cmdline
        tr '\0' '\n' <$process/environ
    done
    cat /etc/systemd/system/*.* /etc/containers/systemd/*
    wasagent plan --all
    wasagent health --format json
    wasagent history --format json
    cat /var/lib/wasagent/runs/*
} 2>/dev/null >/root/looked
wc --bytes </root/looked
grep --text --fixed-strings --file=/root/parts /root/looked
"#;

/// None of these parts of secrets is to be seen anywhere.
pub fn is_silent(guest: &Guest, parts: &[&str]) -> Result<()> {
    guest.write("/root/parts", parts.join("\n"), 0o600)?;
    let looked = guest.run(["sh", "-c", LOOK])?;
    let (seen, told) = looked.stdout.split_once('\n').unwrap_or_default();
    let seen: usize = seen.trim().parse().context("nothing was looked at")?;
    ensure!(seen > 10_000, "little was looked at: {looked}");
    ensure!(told.is_empty(), "{}: seen: {told}", guest.name());
    guest.ok(["rm", "/root/looked", "/root/parts"]).map(drop)
}
