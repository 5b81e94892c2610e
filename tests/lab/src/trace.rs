//! What `strace -f -e trace=execve,openat` of the agent shows (strace(1): a line begins with the process's number).

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::progress::say;
use crate::tier::Role;
use crate::wasagent::Apply;

const TRACE: &str = "/root/trace";

/// Runs a traced apply that must start no shell and enter no module of NSS, and gives back the programs that it started.
/// The guest's nsswitch.conf asks a source first that static programs crash on.
pub fn apply_without_shell_or_nss(guest: &Guest, role: Role) -> Result<BTreeSet<String>> {
    guest.ok([
        "sh",
        "-c",
        "cp -p /etc/nsswitch.conf /root/nsswitch.conf \
         && sed -i 's/^passwd:.*/passwd: sss files systemd/' /etc/nsswitch.conf",
    ])?;
    let strace = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=execve,openat",
        "-o",
        TRACE,
    ];
    let applied = Apply::on(guest).role(role).under(&strace).ok();
    guest.ok(["cp", "-p", "/root/nsswitch.conf", "/etc/nsswitch.conf"])?;
    applied?;
    let text = guest.answer(["grep", "-E", "execve|libnss|gconv", TRACE])?;
    let helpers = helpers(&text);
    let release = guest.release();
    say(format!("{release}: an apply of {role} starts {helpers:?}"));
    let shells = shells(&helpers);
    ensure!(shells.is_empty(), "{release}: shells: {shells:?}");
    let opened = nss_modules_opened_by_the_agent(&text);
    ensure!(opened.is_empty(), "{release}: NSS: {opened:?}");
    Ok(helpers)
}

/// Runs a traced apply that has nothing to change, must start no program and write no file, and gives back how many
/// messages it sent to D-Bus.
pub fn apply_that_does_nothing(guest: &Guest) -> Result<usize> {
    const LOCK: &str = "/run/wasagent.lock";
    let calls = "trace=execve,openat,creat,rename,renameat,renameat2,link,linkat,mkdir,mkdirat,unlink,unlinkat,sendmsg";
    let strace = ["strace", "-f", "-qq", "-e", calls, "-o", TRACE];
    Apply::on(guest).under(&strace).ok()?;
    let text = guest.answer(["cat", TRACE])?;
    let programs = helpers(&text);
    ensure!(programs.is_empty(), "it started {programs:?}");
    let written: Vec<&str> = text
        .lines()
        .filter(|line| changes_a_file(line) && !line.contains(LOCK))
        .collect();
    ensure!(written.is_empty(), "it wrote: {written:#?}");
    Ok(text
        .lines()
        .filter(|line| line.contains(" sendmsg("))
        .count())
}

/// Whether a line of the trace shows a file opened for writing, made, moved or removed.
fn changes_a_file(line: &str) -> bool {
    if line.contains("openat(") {
        return line.contains("O_WRONLY") || line.contains("O_RDWR") || line.contains("O_CREAT");
    }
    ["creat(", "rename", "link", "unlink", "mkdir"]
        .iter()
        .any(|call| {
            line.split_once(' ')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with(call))
        })
}

/// The programs that were started, but for the agent itself.
fn helpers(trace: &str) -> BTreeSet<String> {
    trace
        .lines()
        // A call that another thread interrupts in the trace ends in a line of its own, without the name.
        .filter(|line| !line.contains(" = -1 "))
        .filter_map(|line| line.split_once("execve(\"")?.1.split('"').next())
        .filter(|program| !program.ends_with("/wasagent"))
        .map(str::to_owned)
        .collect()
}

/// Those of `programs` that are shells.
fn shells(programs: &BTreeSet<String>) -> BTreeSet<String> {
    let shells = ["sh", "bash", "dash", "ash", "ksh", "zsh", "busybox"];
    programs
        .iter()
        .filter(|program| {
            program
                .rsplit('/')
                .next()
                .is_some_and(|name| shells.contains(&name))
        })
        .cloned()
        .collect()
}

/// The modules of NSS, or of glibc's character sets, that threads of the agent opened: those whose process number never
/// became another program's.
fn nss_modules_opened_by_the_agent(trace: &str) -> BTreeSet<String> {
    let number = |line: &str| {
        line.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let mut others = BTreeSet::new();
    let mut opened = BTreeSet::new();
    for line in trace.lines() {
        if line.contains("execve(\"") && !line.contains("/wasagent\"") {
            others.insert(number(line));
        }
        let of_the_agent = !others.contains(&number(line));
        if of_the_agent
            && line.contains("openat(")
            && (line.contains("libnss_") || line.contains("gconv"))
        {
            opened.insert(line.to_owned());
        }
    }
    opened
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"10 execve("/usr/bin/wasagent", ["wasagent"], 0x0) = 0
11 execve("/sbin/git", ["git"], 0x0) = -1 ENOENT (No such file or directory)
11 execve("/usr/bin/git", ["git"], 0x0) = 0
11 openat(AT_FDCWD, "/lib/libnss_sss.so.2", O_RDONLY) = 3
12 execve("/bin/sh", ["sh"], 0x0 <unfinished ...>
12 <... execve resumed>) = 0
13 execve("/bin/sh", ["sh", "-c", "x"], 0x0) = 0
10 openat(AT_FDCWD, "/lib/libnss_systemd.so.2", O_RDONLY) = -1"#;

    #[test]
    fn what_changes_a_file_is_seen() {
        for line in [
            r#"10 openat(AT_FDCWD, "/etc/x", O_WRONLY|O_CREAT|O_EXCL, 0600) = 9"#,
            r#"10 renameat2(AT_FDCWD, "/etc/.x.wasagent", AT_FDCWD, "/etc/x", 0) = 0"#,
            r#"10 mkdir("/var/lib/wasagent", 0700) = 0"#,
            r#"10 unlink("/etc/x") = 0"#,
        ] {
            assert!(changes_a_file(line), "{line}");
        }
        assert!(!changes_a_file(
            r#"10 openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 9"#
        ));
        assert!(!changes_a_file(
            r#"10 sendmsg(9, {msg_name=NULL}, MSG_NOSIGNAL) = 24"#
        ));
    }

    #[test]
    fn shells_and_modules_are_seen() {
        let helpers = helpers(LINES);
        assert!(helpers.contains("/usr/bin/git") && !helpers.contains("/usr/bin/wasagent"));
        assert_eq!(shells(&helpers).len(), 1);
        assert!(!helpers.contains("/sbin/git"));
        let opened = nss_modules_opened_by_the_agent(LINES);
        assert_eq!(opened.len(), 1);
        assert!(opened.iter().all(|line| line.starts_with("10 ")));
    }
}
