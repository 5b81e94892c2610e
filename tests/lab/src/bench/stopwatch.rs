//! One run of a program on a guest: by the clock, or counted under strace(1).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::agent;
use crate::guest::Guest;
use crate::process::Output;
use crate::progress::timed;

/// Where it is on a guest.
const THERE: &str = "/root/bench/stopwatch";
const MEASURED: &str = "/root/bench/measured";
const TRACE: &str = "/root/bench/trace";

/// How long a program may take, also when each of its system calls is looked at.
pub(super) const LIMIT: Duration = Duration::from_secs(1200);

/// What one run of a program took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken {
    /// From its start to its end.
    pub seconds: f64,
    /// Of processors, by it and all that it waited for; not by daemons that it asked for something.
    pub processor: f64,
    /// The memory of the largest of these processes, in MiB.
    pub largest: f64,
}

impl Taken {
    /// What `stopwatch` wrote.
    fn read(text: &str) -> Option<Taken> {
        let mut numbers = text.split_whitespace().map(|word| word.parse::<f64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Taken {
            seconds: next()? / 1e6,
            processor: next()? / 1e6,
            largest: next()? / 1024.0,
        })
    }
}

/// What one run of a program did, itself and by all that it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub processes: usize,
    pub programs: usize,
    pub fsyncs: usize,
}

impl Counted {
    /// What a trace of strace(1) shows; a line begins with the process's number. A call that others cut in two stands there
    /// as `… <unfinished ...>` and `<... execve resumed>…`.
    fn read(trace: &str) -> Counted {
        let count = |is: &dyn Fn(&str) -> bool| trace.lines().filter(|line| is(line)).count();
        Counted {
            processes: count(&starts_a_process),
            programs: count(&|line| line.contains("execve") && line.ends_with(" = 0")),
            fsyncs: count(&|line| {
                let call = call(line);
                ["fsync", "fdatasync", "syncfs", "sync"].contains(&call)
            }),
        }
    }
}

fn starts_a_process(line: &str) -> bool {
    match call(line) {
        "fork" | "vfork" => true,
        "clone" | "clone3" => !line.contains("CLONE_THREAD"),
        _ => false,
    }
}

/// The name of the call that begins on this line.
fn call(line: &str) -> &str {
    let rest = line
        .split_once(' ')
        .map_or("", |(_, rest)| rest.trim_start());
    rest.split_once('(').map_or("", |(name, _)| name)
}

/// Puts the stopwatch on a guest.
pub fn install(program: &Path, guest: &Guest) -> Result<()> {
    let bytes = std::fs::read(program).with_context(|| format!("read {}", program.display()))?;
    guest.write(THERE, bytes, 0o755)
}

/// Builds it, beside the lab itself; fast when nothing has changed.
pub fn build() -> Result<PathBuf> {
    timed("the stopwatch", || {
        agent::built("wasagent-lab", &["build", "--bin", "stopwatch"], &[])
    })
}

/// Runs a program by the clock. What it took is there whatever its exit code.
pub fn measured(guest: &Guest, command: &[&str]) -> Result<(Output, Taken)> {
    let words = [&[THERE, MEASURED], command].concat();
    let output = guest.run_unchecked(&words, b"", LIMIT)?;
    let text = String::from_utf8(guest.read(MEASURED)?)?;
    let taken = Taken::read(&text).with_context(|| format!("the stopwatch wrote {text:?}"))?;
    Ok((output, taken))
}

/// Runs a program under strace(1).
pub fn counted(guest: &Guest, command: &[&str]) -> Result<(Output, Counted)> {
    let calls = "trace=fork,vfork,clone,clone3,execve,fsync,fdatasync,syncfs,sync";
    let strace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-s",
        "0",
        "-e",
        calls,
        "-o",
        TRACE,
    ];
    let words = [&strace, command].concat();
    let output = guest.run_unchecked(&words, b"", LIMIT)?;
    let trace = String::from_utf8_lossy(&guest.read(TRACE)?).into_owned();
    let counted = Counted::read(&trace);
    ensure!(counted.programs > 0, "strace saw no program: {output}");
    Ok((output, counted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_stopwatch_writes_is_read() {
        let taken = Taken::read("1500000 20000 2048\n").unwrap();
        assert_eq!(
            (taken.seconds, taken.processor, taken.largest),
            (1.5, 0.02, 2.0)
        );
        assert_eq!(Taken::read("1500000 20000\n"), None);
    }

    #[test]
    fn threads_are_no_processes_and_a_call_cut_in_two_is_one() {
        let trace = "\
10 execve(\"\"..., [], 0x7ff /* 3 vars */) = 0
10 execve(\"\"..., [], 0x7ff /* 3 vars */) = -1 ENOENT (No such file or directory)
10 clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}, 88 <unfinished ...>
11 execve(\"\"..., [], 0x7ff <unfinished ...>
10 <... clone3 resumed>)               = 11
11 <... execve resumed>)               = 0
10 clone(child_stack=0x7, flags=CLONE_VM|CLONE_THREAD|CLONE_SETTLS) = 12
12 vfork( <unfinished ...>
11 fsync(3)                            = 0
11 fdatasync(3 <unfinished ...>
11 <... fdatasync resumed>)            = 0
";
        let counted = Counted::read(trace);
        assert_eq!(counted.processes, 2);
        assert_eq!(counted.programs, 2);
        assert_eq!(counted.fsyncs, 2);
    }
}
