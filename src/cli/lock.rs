//! The lock that lets only one command at a time change this VM.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};

use super::Failure;
use super::exit;
use crate::error::{Doing, Error};
use crate::host::selinux;

/// The lock is released when the process that holds it and all helper programs that it has started
/// have ended. A helper may outlive a killed run, and no other run may begin while that helper
/// works.
const LOCK: &str = "/run/wasagent.lock";

/// The pause between two tries to take the lock.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the lock. Waits at most `wait` for another run to release it.
pub fn take(wait: Duration) -> Result<Flock<File>, Failure> {
    let deadline = Instant::now() + wait;
    let mut file = open(Path::new(LOCK)).doing(format_args!("open {LOCK}"))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                selinux::let_all_domains_hold(Path::new(LOCK));
                fcntl(&*lock, FcntlArg::F_SETFD(FdFlag::empty()))
                    .doing(format_args!("hand {LOCK} to helper programs"))?;
                return Ok(lock);
            }
            Err((again, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < deadline => {
                file = again;
                std::thread::sleep(PAUSE);
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(Failure {
                    code: exit::LOCKED,
                    error: Some(
                        Error::new("another run of wasagent is at work on this VM")
                            .hint("try again when it is done, or wait for it: --wait 5m"),
                    ),
                });
            }
            Err((_, errno)) => return Err(Error::new(format!("lock {LOCK}: {errno}")).into()),
        }
    }
}

/// Opens the lock file for reading only: flock(2) needs no more, and every helper program's SELinux
/// domain may do no more with it. The standard library cannot create a file without opening it for
/// writing.
fn open(path: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}
