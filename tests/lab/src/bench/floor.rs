//! The floor under an apply with nothing to change: what its reads alone take, in a process that makes each of them once
//! (src/bin/floor.rs). Which reads these are, a trace of the agent says.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::report::of_three;
use super::statistics::{Summary, ratios};
use super::stopwatch::{self, LIMIT};
use crate::agent;
use crate::guest::Guest;

const TRACE: &str = "/root/bench/reads";
const LIST: &str = "/root/bench/floor.list";
const PROGRAM: &str = "/root/bench/floor";

/// What the floor and the agent take, in pairs.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    pub reads: usize,
    pub messages: usize,
    pub floor: Summary,
    pub agent: Summary,
    /// How many times the floor's seconds the agent's are.
    pub ratio: Summary,
}

impl Floor {
    pub fn json(&self) -> Value {
        json!({
            "reads": self.reads,
            "messages": self.messages,
            "seconds": of_three(self.floor),
            "seconds_of_the_agent": of_three(self.agent),
            "times_the_floor": of_three(self.ratio),
        })
    }
}

/// Measures both in turn on a guest on which there is nothing to change.
pub fn measure(guest: &Guest, apply: &[&str], runs: usize) -> Result<Option<Floor>> {
    let reads = reads_of(guest, apply)?;
    let list: Vec<String> = reads.iter().map(Read::line).collect();
    guest.write(LIST, list.join("\n"), 0o644)?;
    let program = agent::built("wasagent-lab", &["build", "--bin", "floor"], &[])?;
    guest.write(PROGRAM, std::fs::read(&program)?, 0o755)?;
    let (mut floors, mut agents) = (Vec::new(), Vec::new());
    for run in 0..runs {
        for (command, values) in [(&[PROGRAM, LIST][..], &mut floors), (apply, &mut agents)] {
            let (output, taken) = stopwatch::measured(guest, command)?;
            ensure!(output.success(), "{}: {output}", command.join(" "));
            values.push((run, taken.seconds));
        }
    }
    let of = |values: &[(usize, f64)]| {
        Summary::of(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>())
    };
    let messages = reads.iter().filter(|one| one.kind == "message").count();
    let three = (
        of(&floors),
        of(&agents),
        Summary::of(&ratios(&agents, &floors)),
    );
    let (Some(floor), Some(agent), Some(ratio)) = three else {
        return Ok(None);
    };
    Ok(Some(Floor {
        reads: reads.len() - messages,
        messages,
        floor,
        agent,
        ratio,
    }))
}

/// A read of the agent's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Read {
    kind: &'static str,
    what: String,
}

impl Read {
    fn line(&self) -> String {
        format!("{} {}", self.kind, self.what)
    }
}

/// What a run of the agent reads, each thing once, the messages in their order.
fn reads_of(guest: &Guest, apply: &[&str]) -> Result<Vec<Read>> {
    let calls =
        "trace=openat,openat2,stat,lstat,newfstatat,statx,readlink,readlinkat,sendmsg,sendto";
    let strace = [
        "strace", "-f", "-qq", "-x", "-y", "-s", "65536", "-e", calls, "-o", TRACE,
    ];
    let output = guest.run_unchecked(&[&strace, apply].concat(), b"", LIMIT)?;
    ensure!(output.success(), "{output}");
    let trace = String::from_utf8_lossy(&guest.read(TRACE)?).into_owned();
    let reads = reads(&trace);
    ensure!(!reads.is_empty(), "the trace shows no read");
    Ok(reads)
}

fn reads(trace: &str) -> Vec<Read> {
    let mut seen = BTreeSet::new();
    let all = trace.lines().filter_map(read);
    all.filter(|read| seen.insert(read.clone())).collect()
}

/// The read that a line of the trace shows: `12 openat(3</etc>, "passwd", O_RDONLY|O_CLOEXEC) = 4</etc/passwd>`.
fn read(line: &str) -> Option<Read> {
    let (_, rest) = line.split_once(' ')?;
    let (call, arguments) = rest.trim_start().split_once('(')?;
    let strings: Vec<Vec<u8>> = strings(arguments);
    if call.starts_with("send") {
        let message: Vec<u8> = after_the_login(strings.concat());
        // A little-endian method call.
        let is_call = message.first() == Some(&b'l') && message.get(1) == Some(&1);
        let hex = message.iter().map(|byte| format!("{byte:02x}"));
        return is_call.then(|| Read {
            kind: "message",
            what: hex.collect(),
        });
    }
    let name = String::from_utf8(strings.first()?.clone()).ok()?;
    let kind = match call {
        // A disk has no end, and the kernel's log waits for more.
        "openat" | "openat2" if name.starts_with("/dev/") => "status",
        "openat" | "openat2" if arguments.contains("O_DIRECTORY") => "directory",
        // Written and locked files are none of the reads.
        "openat" | "openat2" if arguments.contains("O_RDONLY") => "file",
        "openat" | "openat2" if arguments.contains("O_PATH") => "status",
        "stat" | "lstat" | "newfstatat" | "statx" => "status",
        "readlink" | "readlinkat" => "link",
        _ => return None,
    };
    let what = match arguments
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
    {
        _ if name.starts_with('/') => name,
        // Relative to the directory of the first argument, or that itself.
        Some((directory, _)) if name.is_empty() => directory.to_owned(),
        Some((directory, _)) => format!("{}/{name}", directory.trim_end_matches('/')),
        None => return None,
    };
    Some(Read { kind, what })
}

/// The first message may come in one piece with the login before it, which is text.
fn after_the_login(sent: Vec<u8>) -> Vec<u8> {
    const END: &[u8] = b"BEGIN\r\n";
    let begin = sent.windows(END.len()).position(|part| part == END);
    match begin {
        Some(begin) if sent.starts_with(b"\0AUTH") => sent[begin + END.len()..].to_vec(),
        _ => sent,
    }
}

/// The quoted strings of a line of strace(1), with `\x6c`, `\n`, `\"` and octal numbers read.
fn strings(text: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((_, inside)) = rest.split_once('"') {
        let (string, after) = string(inside);
        all.push(string);
        rest = after;
    }
    all
}

/// A string up to its closing quote, and what follows it.
fn string(text: &str) -> (Vec<u8>, &str) {
    let (source, mut bytes, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = source.get(at) {
        match byte {
            b'"' => return (bytes, &text[at + 1..]),
            b'\\' => {
                let (value, length) = escaped(&source[at + 1..]);
                bytes.push(value);
                at += 1 + length;
            }
            _ => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    (bytes, "")
}

/// The byte behind a backslash, and how many characters name it.
fn escaped(rest: &[u8]) -> (u8, usize) {
    let number = |digits: &[u8], radix| {
        let digits = std::str::from_utf8(digits).ok()?;
        u8::from_str_radix(digits, radix).ok()
    };
    match rest.first() {
        Some(b'x') => (
            rest.get(1..3).and_then(|two| number(two, 16)).unwrap_or(0),
            3,
        ),
        Some(b'n') => (b'\n', 1),
        Some(b't') => (b'\t', 1),
        Some(b'r') => (b'\r', 1),
        Some(b'0'..=b'7') => {
            let digits = rest
                .iter()
                .take(3)
                .take_while(|digit| (b'0'..=b'7').contains(digit));
            let length = digits.count();
            (number(&rest[..length], 8).unwrap_or(0), length)
        }
        Some(other) => (*other, 1),
        None => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(trace: &str) -> Vec<String> {
        reads(trace).iter().map(Read::line).collect()
    }

    #[test]
    fn each_read_is_found_once_with_its_whole_path() {
        let trace = r#"12 openat(AT_FDCWD</root>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 4</etc/passwd>
12 openat(AT_FDCWD</root>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 4</etc/passwd>
13 openat(5</mnt/data>, "share", O_RDONLY|O_CLOEXEC|O_DIRECTORY) = 6</mnt/data/share>
13 statx(6</mnt/data/share>, "a file", AT_SYMLINK_NOFOLLOW, STATX_ALL, {stx_mask=STATX_ALL}) = 0
13 statx(6</mnt/data/share>, "", AT_EMPTY_PATH, STATX_ALL, {stx_mask=STATX_ALL}) = 0
13 readlinkat(AT_FDCWD</root>, "/proc/self/exe", "/usr/bin/wasagent", 4096) = 17
13 openat(AT_FDCWD</root>, "/run/wasagent.lock", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 7</run/wasagent.lock>
13 openat(AT_FDCWD</root>, "/dev/loop0", O_RDONLY|O_CLOEXEC) = 7</dev/loop0>
"#;
        let found = [
            "file /etc/passwd",
            "directory /mnt/data/share",
            "status /mnt/data/share/a file",
            "status /mnt/data/share",
            "link /proc/self/exe",
            "status /dev/loop0",
        ];
        assert_eq!(lines(trace), found);
    }

    #[test]
    fn messages_are_told_from_the_login() {
        let trace = r#"12 sendmsg(9<socket:[1]>, {msg_iov=[{iov_base="\x6c\x01\x00", iov_len=3}, {iov_base="A\"", iov_len=2}]}, 0) = 5
12 sendmsg(9<socket:[1]>, {msg_iov=[{iov_base="\x00AUTH EXTERNAL 30\r\n", iov_len=19}]}, 0) = 19
12 sendmsg(9<socket:[1]>, {msg_iov=[{iov_base="\x00AUTH\r\nBEGIN\r\nl\x01\x02", iov_len=19}]}, 0) = 19
"#;
        assert_eq!(lines(trace), ["message 6c01004122", "message 6c0102"]);
    }
}
