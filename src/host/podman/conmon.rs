//! conmon(8), by which podman watches a container: the main process of the container's unit, whose child the container's
//! first process is.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The first process of the container that this conmon watches; none of one that has ended. Read from the children of its
/// first thread (`proc_tid_children(5)`), which a process without a parent of its own is given to.
pub fn watched(conmon: u32) -> Vec<u32> {
    let path = format!("/proc/{conmon}/task/{conmon}/children");
    let numbers = std::fs::read_to_string(path).unwrap_or_default();
    let numbers = numbers.split_whitespace();
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// Ends a container's first process at once, if it is there; the kernel ends the others with it
/// (`pid_namespaces(7)`).
pub fn end(process: u32) {
    if let Ok(process) = i32::try_from(process) {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    /// Asks until it is so, or for 20 s.
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
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .unwrap();
        assert!(comes(|| watched(shell.id()).len() == 1));
        end(watched(shell.id())[0]);
        // Nothing is left to wait for.
        assert!(shell.wait().unwrap().success());
        assert!(watched(shell.id()).is_empty());
    }
}
