//! Mounts the share detached first. If a system call hangs, the agent gives up its thread, and a mount that it makes
//! later stays invisible. Only a finished mount is attached to its place.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use zeroize::Zeroizing;

use super::failure::{CifsError, CifsErrorKind};
use super::refusal::Failed;
use super::share::CifsMount;
use crate::error::Result;
use crate::host::Permit;
use crate::host::kmsg::Kmsg;
use crate::host::mount;

impl CifsMount {
    /// Probes the server and mounts the share detached, with `nosuid` and `nodev`. Whatever is mounted
    /// at its future place stays in use until [`Detached::attach`].
    ///
    /// The mount runs on a thread of its own, which is given up after `deadline`. A system call cannot
    /// be cancelled: the thread goes on until the kernel returns. A mount made by then was never
    /// visible, and disappears when its descriptor closes.
    ///
    /// # Errors
    /// One kind for each cause that can be told apart, and [`CifsErrorKind::Deadline`]. The attempt
    /// stops at the first failing option: the kernel has freed the password by then and would report a
    /// false refusal (`fs/smb/client/fs_context.c`, `cifs_parse_mount_err`).
    pub async fn mount_detached(
        &self,
        password: &str,
        deadline: Duration,
    ) -> Result<Detached, CifsError> {
        let (done, result) = tokio::sync::oneshot::channel();
        let thread = {
            let share = self.clone();
            let password = Zeroizing::new(password.to_owned());
            // Not a thread of the runtime: the runtime would wait for it when the program ends.
            std::thread::Builder::new()
                .name("mount-cifs".to_owned())
                .spawn(move || {
                    // After the deadline the receiver is gone, and the mount is dropped.
                    let _ = done.send(share.mount(&password));
                })
        };
        if let Err(error) = thread {
            return Err(self.other(&format!("no thread to mount with: {error}")));
        }
        let mounted = match tokio::time::timeout(deadline, result).await {
            Ok(Ok(mounted)) => mounted?,
            Ok(Err(_)) => return Err(self.other("the thread that mounts ended without a word")),
            Err(_) => return Err(self.deadline_passed(deadline)),
        };
        Ok(Detached {
            share: self.clone(),
            mounted,
        })
    }

    fn mount(&self, password: &str) -> Result<OwnedFd, CifsError> {
        self.check(password)?;
        self.probe()?;
        let mounted = self.create(password)?;
        if !self.seal && self.is_encrypted_all_the_same() {
            return Err(self.failure(CifsErrorKind::EncryptedShare, None, Vec::new()));
        }
        Ok(mounted)
    }

    /// Makes the detached mount.
    fn create(&self, password: &str) -> Result<OwnedFd, CifsError> {
        let failed = match self.attempt(password, None) {
            Ok(mounted) => return Ok(mounted),
            Err(failed) => failed,
        };
        let error = self.classify(&failed);
        let may_be_guest = match error.kind {
            CifsErrorKind::ShareDenied => !self.seal,
            kind => kind == CifsErrorKind::Broken,
        };
        if may_be_guest && self.is_taken_for_guest(password) {
            return Err(self.failure(CifsErrorKind::Guest, error.errno, error.kernel));
        }
        Err(error)
    }

    /// Whether the server does not know the user and lets unknown users in as guests (smb.conf(5),
    /// `map to guest`, which Debian sets). A guest session has no key, so the server closes the connection
    /// at the first encrypted request, and the kernel reports only EAGAIN. The kernel names a guest
    /// session only if it was told to sign (`fs/smb/client/smb2pdu.c`, `SMB2_sess_setup`).
    fn is_taken_for_guest(&self, password: &str) -> bool {
        let plain = Self {
            seal: false,
            ..self.clone()
        };
        match plain.attempt(password, Some("sign")) {
            // The session has a key, so the user is no guest. This mount is dropped.
            Ok(_) => false,
            Err(failed) => failed.says("authenticated as guest"),
        }
    }

    fn attempt(&self, password: &str, flag: Option<&str>) -> Result<OwnedFd, Failed> {
        let mut log = Kmsg::at_end();
        let context = fsopen("cifs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(Failed::unheard)?;
        let created = flag
            .map_or(Ok(()), |flag| fsconfig_set_flag(context.as_fd(), flag))
            .and_then(|()| self.configure(&context, password))
            .and_then(|()| fsconfig_create(context.as_fd()))
            .and_then(|()| {
                fsmount(
                    context.as_fd(),
                    FsMountFlags::FSMOUNT_CLOEXEC,
                    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
                )
            });
        created.map_err(|errno| {
            let mut words = words_of_context(context);
            words.extend(self.about_us(log.lines_with("CIFS")));
            Failed {
                errno,
                words,
                told: Vec::new(),
                log_was_read: log.is_open(),
            }
            .keep_silent_about(password)
        })
    }

    fn configure(&self, context: &OwnedFd, password: &str) -> rustix::io::Result<()> {
        fsconfig_set_string(context.as_fd(), "source", &self.source)?;
        for (key, value) in self.options() {
            match value {
                Some(value) => fsconfig_set_string(context.as_fd(), key, &value)?,
                None => fsconfig_set_flag(context.as_fd(), key)?,
            }
        }
        fsconfig_set_string(context.as_fd(), "username", &self.user)?;
        // A C string that is wiped: a &str would be copied to a buffer that is not wiped.
        let mut bytes = Zeroizing::new(Vec::with_capacity(password.len() + 1));
        bytes.extend_from_slice(password.as_bytes());
        bytes.push(0);
        let password = CStr::from_bytes_with_nul(&bytes).map_err(|_| Errno::INVAL)?;
        fsconfig_set_string(context.as_fd(), "password", password)
    }
}

/// A share that is mounted but attached nowhere: it is invisible, and dropping it unmounts it.
#[derive(Debug)]
pub struct Detached {
    share: CifsMount,
    mounted: OwnedFd,
}

impl Detached {
    /// Attaches the share to `target` (`move_mount(2)`).
    ///
    /// # Errors
    /// When `target` is no directory, or already has a share mounted on it.
    pub fn attach(&self, _permit: &Permit, target: &Path) -> Result<(), CifsError> {
        let share = &self.share;
        match mount::mount_at(target) {
            // Checked before the mount point is opened: the share there may be dead.
            Ok(Some(found)) if found.fs_type == "cifs" => {
                let found = format!("{} is mounted on {}", found.source, target.display());
                return Err(share.failure(CifsErrorKind::AlreadyMounted, None, vec![found]));
            }
            Ok(_) => {}
            Err(error) => return Err(share.other(&error.message)),
        }
        let place = rustix::fs::open(
            target,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| share.no_target(target, errno))?;
        move_mount(
            self.mounted.as_fd(),
            "",
            place.as_fd(),
            "",
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
        )
        .map_err(|errno| share.no_target(target, errno))
    }
}

/// The kernel's messages about options: each read returns one record such as `e cifs: …`, where the
/// first letter is its level; ENODATA ends them (`fs/fsopen.c`, `fscontext_read`).
fn words_of_context(context: OwnedFd) -> Vec<String> {
    let mut context = File::from(context);
    let mut words = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = context.read(&mut buffer) {
        let record = String::from_utf8_lossy(&buffer[..length]);
        let text = record.trim_end();
        words.push(text.get(2..).unwrap_or(text).to_owned());
    }
    words
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::host::cifs::samples::{local, server, share};

    #[tokio::test]
    async fn the_deadline_holds_against_a_server_that_hangs() {
        let port = server(|stream| {
            std::thread::sleep(Duration::from_secs(3));
            drop(stream);
        });
        let start = Instant::now();
        let deadline = Duration::from_millis(300);
        let failed = local(port).mount_detached("x", deadline).await.unwrap_err();
        assert_eq!(failed.kind, CifsErrorKind::Deadline);
        assert!(failed.may_pass());
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_missing_mount_point_is_said() {
        let detached = Detached {
            share: share(),
            mounted: File::open("/dev/null").unwrap().into(),
        };
        let failed = detached
            .attach(&Permit::for_a_test(), Path::new("/no/such/place"))
            .unwrap_err();
        assert_eq!(failed.kind, CifsErrorKind::NoTarget);
        assert!(failed.to_string().contains("/no/such/place is not there"));
    }
}
