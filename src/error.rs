//! One error for everything that reaches an operator: what was being done and what came back, in
//! one sentence, and the way out in another.

use std::any::Any;
use std::fmt;

/// `Result` of every fallible step of the agent.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nature {
    /// It stays until somebody fixes it.
    #[default]
    Lasting,
    /// It may pass by itself: a server that is not up yet, a service that restarts.
    Transient,
}

/// What failed, in words for the operator. `message` says what was being done, to what, and what
/// came back; `hint` says what to do about it. Neither contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub message: String,
    pub hint: Option<String>,
    pub nature: Nature,
    /// It comes from another machine, such as a git server, and says nothing about this one.
    pub elsewhere: bool,
}

impl Error {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            nature: Nature::Lasting,
            elsewhere: false,
        }
    }

    /// An error that may pass by itself, so that the step is worth another try.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.nature = Nature::Transient;
        self
    }

    pub fn is_transient(&self) -> bool {
        self.nature == Nature::Transient
    }

    /// An error that comes from another machine: what does not need that machine can go on.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds this way out if the error has none of its own.
    #[must_use]
    pub fn or_hint(mut self, hint: &str) -> Self {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    /// Says what was being done when this error came back: `doing: message`.
    #[must_use]
    pub fn while_doing(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Says what was being done when a system call, a library or a helper failed.
pub trait Doing<T> {
    /// Turns the failure into an [`Error`] that reads `doing: cause`.
    fn doing(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display + 'static> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|cause| {
            let error = Error::new(format!("{doing}: {cause}"));
            match errno_of(&cause).and_then(way_out) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }
}

/// The errno behind the error of a system call, whichever library made the call.
fn errno_of(cause: &dyn Any) -> Option<i32> {
    if let Some(error) = cause.downcast_ref::<std::io::Error>() {
        error.raw_os_error()
    } else if let Some(errno) = cause.downcast_ref::<nix::errno::Errno>() {
        Some(*errno as i32)
    } else {
        let errno = cause.downcast_ref::<rustix::io::Errno>()?;
        Some(errno.raw_os_error())
    }
}

/// What an operator can do about an errno (errno(3)) that means the same wherever it comes from.
fn way_out(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::ENOSPC | libc::EDQUOT => "free some space there (df -h, df -i), and try again",
        libc::EROFS => {
            "that file system is read-only: see dmesg for why, remount it, and try again"
        }
        libc::EIO => "the disk gives errors: see dmesg, and replace it before its data is lost",
        libc::EPERM | libc::EACCES => {
            "something beyond root's rights forbids it: an immutable file (lsattr), SELinux (ausearch -m avc), or a container without the capability"
        }
        libc::EMFILE | libc::ENFILE | libc::ENOMEM => {
            "this VM is short of memory or open files: stop what is not needed, and try again"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_comes_with_the_way_out() {
        let full: std::io::Result<()> = Err(std::io::Error::from_raw_os_error(libc::ENOSPC));
        let error = full.doing("write /etc/x").unwrap_err();
        assert!(error.hint.unwrap().contains("df -h"));
        let other: std::io::Result<()> = Err(std::io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(other.doing("read /etc/x").unwrap_err().hint, None);
    }
}
