//! conmon(8), with which podman watches a container. conmon is the main process of the container's unit, and the
//! container's first process is its child.

use rustix::process::Signal;

use crate::error::Result;
use crate::host::process_fd::Process;

/// The first process of the container that this conmon watches; empty if the container has ended. It is read from the
/// children of conmon's first thread (`proc_tid_children(5)`), which adopts processes whose own parent is gone.
pub fn watched(conmon: u32) -> Vec<Process> {
    let is_child = |number| children(conmon).contains(&number);
    let children = children(conmon).into_iter();
    children
        .filter_map(|number| Process::find(number, || is_child(number)))
        .collect()
}

fn children(conmon: u32) -> Vec<i32> {
    let path = format!("/proc/{conmon}/task/{conmon}/children");
    let numbers = std::fs::read_to_string(path).unwrap_or_default();
    let numbers = numbers.split_whitespace();
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// Kills a container's first process, if it exists. The kernel then kills the container's other processes
/// (`pid_namespaces(7)`).
///
/// # Errors
/// When the signal may not be sent.
pub fn end(process: &Process) -> Result<()> {
    process.signal(Signal::KILL)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    /// Polls until `is_so` holds, for at most 20 s.
    fn comes(is_so: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if is_so() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn a_child_is_found_and_ended() {
        let mut parent = Command::new("timeout")
            .args(["60", "sleep", "60"])
            .spawn()
            .unwrap();
        assert!(comes(|| watched(parent.id()).len() == 1));
        let begun = Instant::now();
        end(&watched(parent.id())[0]).unwrap();
        // It waits for its child alone.
        parent.wait().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(watched(parent.id()).is_empty());
    }
}
