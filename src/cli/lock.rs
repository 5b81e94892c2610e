//! The lock that lets only one command at a time change this VM.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Failure;
use super::exit;
use crate::error::{Doing, Error, Result};
use crate::host::{process, selinux};

/// The lock is released when the process that holds it has ended, and all helper programs that it
/// has started and that change something. Such a helper may outlive a killed run, and no other run
/// may begin while that helper works.
const LOCK: &str = "/run/wasagent.lock";

/// The pause between two tries to take the lock.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the lock. Waits at most `wait` for another run to release it.
pub fn take(wait: Duration) -> Result<Flock<File>, Failure> {
    let Some(lock) = exclusive(Path::new(LOCK), wait)? else {
        return Err(Failure {
            code: exit::LOCKED,
            error: Some(
                Error::new("another run of wasagent is at work on this VM")
                    .hint("try again when it is done, or wait for it: --wait 5m"),
            ),
        });
    };
    selinux::let_all_domains_hold(Path::new(LOCK));
    process::hand_on(&*lock).doing(format_args!("hand {LOCK} to helper programs"))?;
    Ok(lock)
}

/// Locks a file, which it makes if need be. `None` if somebody else still holds it after `wait`.
pub fn exclusive(path: &Path, wait: Duration) -> Result<Option<Flock<File>>> {
    let deadline = Instant::now() + wait;
    let shown = path.display();
    let mut file = open(path).doing(format_args!("open {shown}"))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((again, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < deadline => {
                file = again;
                std::thread::sleep(PAUSE);
            }
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno).doing(format_args!("lock {shown}")),
        }
    }
}

/// Whether a run is at work. The lock is not touched, or a run that begins at this moment would be
/// refused.
pub fn is_held() -> bool {
    let inode = std::fs::metadata(LOCK).map(|found| found.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    inode.is_ok_and(|inode| {
        let mut holders = locks.lines().filter_map(|line| holder(line, inode));
        // If the run was killed, a helper of its may still hold the lock.
        holders.any(|pid| Path::new(&format!("/proc/{pid}")).exists())
    })
}

/// The process that took the lock, if a line of `/proc/locks` (proc(5)) is about this file:
/// `1: FLOCK ADVISORY WRITE 708 00:1a:1234 0 EOF`.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, "WRITE", pid, file, ..] = words[..] else {
        return None;
    };
    let number: u64 = file.rsplit(':').next()?.parse().ok()?;
    (number == inode).then_some(pid.parse().ok()?)
}

/// Opens the lock file for reading only: flock(2) needs no more, and every helper program's SELinux
/// domain may do no more with it. The standard library cannot create a file without opening it for
/// writing.
fn open(path: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_the_lock_is_read_and_no_waiter() {
        let held = "4: FLOCK  ADVISORY  WRITE 708 00:1a:1234 0 EOF";
        assert_eq!(holder(held, 1234), Some(708));
        assert_eq!(holder(held, 234), None);
        let waits = "4: -> FLOCK  ADVISORY  WRITE 709 00:1a:1234 0 EOF";
        assert_eq!(holder(waits, 1234), None);
        let posix = "4: POSIX  ADVISORY  WRITE 708 00:1a:1234 0 EOF";
        assert_eq!(holder(posix, 1234), None);
    }
}
