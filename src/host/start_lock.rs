//! Keeps a change of revision and the start of an application apart. A start takes seconds, in
//! which the application opens its files over SMB one by one, by name. If the shared directory were
//! exchanged meanwhile, it would load files of both revisions.
//!
//! Both sides lock bytes of one file in the share. A WAS VM's lock goes over SMB to smbd, which
//! takes the same lock in its own kernel (`posix locking` in smb.conf(5)), so it conflicts with the
//! storage VM's lock. A lock is released when its holder dies. Nobody waits for ever: a start holds
//! its lock for a known time, and a change waits little longer than that.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::tree::Dir;
use crate::error::{Doing, Error, Result};

/// The file whose bytes are locked, in the shared directory.
pub const FILE: &str = ".wasagent.lock";

/// The longest that a start delays a change, whether the application answers or not.
pub const LONGEST_START: Duration = Duration::from_secs(90);
/// How long a change waits. A lock that is held longer is not that of a live start.
const LONGEST_WAIT: Duration = Duration::from_secs(100);
/// The pause between two tries. A client is not told when another's lock is released.
const PAUSE: Duration = Duration::from_millis(100);

/// What a byte of the file stands for.
#[derive(Debug, Clone, Copy)]
enum Byte {
    /// A start takes and releases it; a change holds it. So starts in quick succession cannot keep
    /// a change waiting.
    Gate,
    /// Held during a start.
    Start,
}

/// What is done to a byte.
#[derive(Debug, Clone, Copy)]
enum Lock {
    Shared,
    Exclusive,
    None,
}

/// Sets a lock without waiting; `false` where another lock is in the way. The lock belongs to the
/// open file description. A lock of the process would be released as soon as the process closes the
/// file anywhere else, and it opens the shared files elsewhere too (fcntl(2)).
fn set(file: impl AsFd, byte: Byte, lock: Lock) -> Result<bool> {
    let flock = libc::flock {
        l_type: match lock {
            Lock::Shared => libc::F_RDLCK,
            Lock::Exclusive => libc::F_WRLCK,
            Lock::None => libc::F_UNLCK,
        } as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: 1,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&flock)) {
        Ok(_) => Ok(true),
        Err(Errno::EACCES | Errno::EAGAIN) => Ok(false),
        Err(error) => Err(error).doing(format_args!("lock {FILE}")),
    }
}

/// While it lives, no application starts on a share.
#[derive(Debug)]
pub struct NoStart {
    _file: File,
}

impl NoStart {
    /// Waits until no application starts, and prevents further starts. `None` where the directory
    /// has no lock file: no WAS VM knows it. `waits` is called once if there is something to wait
    /// for.
    pub fn begin(shared: &Dir, waits: &dyn Fn()) -> Result<Option<Self>> {
        let Some(file) = shared.open_file(Path::new(FILE))? else {
            return Ok(None);
        };
        let begun = Instant::now();
        let mut told = false;
        for byte in [Byte::Gate, Byte::Start] {
            while !set(&file, byte, Lock::Exclusive)? {
                if begun.elapsed() > LONGEST_WAIT {
                    tracing::warn!(
                        "a lock on {FILE} does not go; the revision is changed all the same"
                    );
                    break;
                }
                if !told && begun.elapsed() > PAUSE * 5 {
                    waits();
                    told = true;
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(Some(Self { _file: file }))
    }
}

/// While it lives, the share's revision does not change.
#[derive(Debug)]
pub struct Start {
    _file: File,
}

impl Start {
    /// Waits until no revision is being changed, and prevents further changes. `None` where the
    /// share has no lock file.
    ///
    /// # Errors
    /// When the lock could not be taken in the time that a change can take.
    pub fn begin(mount_point: &Path) -> Result<Option<Self>> {
        let begun = Instant::now();
        loop {
            let tried = Self::try_begin(mount_point);
            match tried {
                Ok(Try::Held(start)) => return Ok(Some(start)),
                Ok(Try::NoLock) => return Ok(None),
                // A change ends every smbd that stays in the replaced directory. Until the client
                // has connected to another smbd, any call may fail.
                Ok(Try::SomebodyElse) | Err(_) if begun.elapsed() < LONGEST_WAIT => {}
                Ok(Try::SomebodyElse) => {
                    return Err(Error::new(format!(
                        "{FILE} is held by a change of revision that does not end"
                    )));
                }
                Err(error) => return Err(error),
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn try_begin(mount_point: &Path) -> Result<Try> {
        let path = mount_point.join(FILE);
        let mut options = OpenOptions::new();
        let opened = options.read(true).custom_flags(libc::O_NOFOLLOW);
        let file = match opened.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // An smbd that is still in the replaced directory finds nothing there, and cannot
                // list it either.
                std::fs::read_dir(mount_point)
                    .doing(format_args!("read directory {}", mount_point.display()))?;
                return Ok(Try::NoLock);
            }
            opened => opened.doing(format_args!("open {}", path.display()))?,
        };
        if !set(&file, Byte::Gate, Lock::Shared)? {
            return Ok(Try::SomebodyElse);
        }
        let held = set(&file, Byte::Start, Lock::Shared)?;
        set(&file, Byte::Gate, Lock::None)?;
        Ok(if held {
            Try::Held(Self { _file: file })
        } else {
            Try::SomebodyElse
        })
    }
}

/// The result of a try to take the lock.
enum Try {
    Held(Start),
    NoLock,
    SomebodyElse,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::host::Permit;
    use crate::host::fs::FileMeta;

    fn nobody_waits() {
        panic!("somebody is waited for");
    }

    #[test]
    fn a_start_and_a_change_exclude_each_other() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap().unwrap();
        assert!(Start::begin(root.path()).unwrap().is_none());
        assert!(NoStart::begin(&dir, &nobody_waits).unwrap().is_none());

        let meta = FileMeta {
            mode: 0o600,
            ..dir.found().unwrap().meta
        };
        let permit = Permit::for_a_test();
        dir.make_file(&permit, OsStr::new(FILE), b"", meta).unwrap();
        // Starts do not exclude each other.
        let starts = [(); 2].map(|()| Start::begin(root.path()).unwrap().unwrap());
        let file = dir.open_file(Path::new(FILE)).unwrap().unwrap();
        assert!(!set(&file, Byte::Start, Lock::Exclusive).unwrap());
        drop(starts);

        let change = NoStart::begin(&dir, &nobody_waits).unwrap();
        // Closing the file elsewhere releases no lock.
        drop(file);
        let path = root.path().to_owned();
        let (told, tells) = std::sync::mpsc::channel();
        let start = std::thread::spawn(move || {
            let start = Start::begin(&path).unwrap();
            told.send(()).unwrap();
            start
        });
        assert!(tells.recv_timeout(PAUSE * 3).is_err(), "it starts");
        drop(change);
        assert!(start.join().unwrap().is_some());
    }
}
