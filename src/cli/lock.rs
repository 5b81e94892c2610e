//! One command at a time changes this VM.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};

use super::Failure;
use super::exit;
use crate::error::{Doing, Error};
use crate::host::selinux;

/// Gone with the process that holds it, however that ends, and with the helper programs that it has
/// started: one may outlive a run that is killed, and no other run begins while it is at work.
const LOCK: &str = "/run/wasagent.lock";

/// Between two looks at a lock that is held.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the lock, waiting for whoever has it as long as told.
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

/// For reading alone, which is all that every helper program's domain may do with it, and all that
/// flock(2) asks for. The standard library makes no file that it does not write.
fn open(path: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into())
}
