//! A failed mount for the operator: its kind, a sentence that says what came back, and a hint. All sentences are
//! here, whether the agent's probe, the kernel or the mount point showed the failure.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::share::CifsMount;
use crate::error::Error;

/// How long connecting to the server may take, and then its first answer.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// Why a mount, or the probe before it, failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CifsErrorKind {
    /// No route to the server.
    Unreachable,
    /// No answer to the connection within the deadline.
    NoAnswer,
    /// Nothing listens on the port.
    Refused,
    /// The server accepts connections but sends nothing.
    Silent,
    /// The server accepts the connection and closes it.
    Dropped,
    /// Something answers, but does not speak SMB2.
    NotSmb,
    /// The server speaks none of the offered dialects.
    DialectRefused,
    /// Encryption was wanted, but the server does not support it.
    SealUnsupported,
    /// Unknown user or wrong password: a server does not say which.
    WrongPassword,
    AccountDisabled,
    AccountLocked,
    PasswordExpired,
    /// The server has no such account, and lets the user in as a guest.
    Guest,
    /// The user was accepted, but the share does not admit this user or this address.
    ShareDenied,
    /// The user was refused on an unencrypted connection: the server may demand encryption.
    EncryptionDemanded,
    /// The share requires encryption, but the agent was told not to encrypt.
    EncryptedShare,
    /// EACCES, and neither the server's status nor the kernel log says why.
    AccessDenied,
    /// The connection broke after the server had answered.
    Broken,
    NoSuchShare,
    /// The share exists, but the directory in it does not.
    NoSuchDirectory,
    /// The mount point is missing or not a directory.
    NoTarget,
    /// The kernel refused an option, or the agent did before asking the kernel.
    BadOption,
    /// Root's capability is missing.
    NotPermitted,
    /// The kernel has no CIFS.
    NoCifs,
    /// A share is already mounted on the mount point.
    AlreadyMounted,
    /// The whole mount took longer than the caller allowed.
    Deadline,
    Other,
}

/// A failed mount: its kind, and what the kernel said. It converts into an [`Error`] with a
/// sentence for each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifsError {
    pub kind: CifsErrorKind,
    /// The errno of the failed system call; `None` if no call failed.
    pub errno: Option<i32>,
    /// The kernel's messages, from the context's descriptor and the kernel log.
    pub kernel: Vec<String>,
    message: String,
    hint: String,
}

impl CifsError {
    /// Whether the failure may go away without a changed setting, once the server or network is up.
    pub fn may_pass(&self) -> bool {
        use CifsErrorKind as K;
        matches!(
            self.kind,
            K::Unreachable
                | K::NoAnswer
                | K::Refused
                | K::Silent
                | K::Dropped
                | K::Broken
                | K::Deadline
                // systemd mounted it meanwhile for the container's unit; the next check finds it.
                | K::AlreadyMounted
                | K::Other
        )
    }
}

impl fmt::Display for CifsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CifsError {}

impl From<CifsError> for Error {
    fn from(error: CifsError) -> Self {
        let may_pass = error.may_pass();
        let plain = Error::new(error.message).hint(error.hint);
        if may_pass { plain.transient() } else { plain }
    }
}

impl CifsMount {
    /// The error with the sentence and hint of its kind.
    pub(super) fn failure(
        &self,
        kind: CifsErrorKind,
        errno: Option<i32>,
        kernel: Vec<String>,
    ) -> CifsError {
        use CifsErrorKind as K;
        let Self {
            source,
            user,
            dialect,
            ..
        } = self;
        let at = SocketAddr::new(self.address, self.port);
        let address = self.address;
        let seconds = PROBE_DEADLINE.as_secs();
        // The last line often only repeats the errno.
        let telling = |line: &&String| !line.contains("failed w/return code");
        let status = kernel.iter().find_map(|line| line.split_once("STATUS_"));
        let heard = kernel.iter().rev().find(telling).map_or_else(
            || "the kernel log says nothing about it".to_owned(),
            |line| format!("the kernel says: {line}"),
        );
        let (what, hint) = match kind {
            K::Unreachable => (
                format!("no route to {address}"),
                format!("does this VM have an address in the storage VM's network? `ip route get {address}` tells; compare share.server"),
            ),
            K::NoAnswer => (
                format!("no answer from {at} within {seconds} s"),
                format!("is the storage VM up, is {address} its address (share.server), and does its firewall let 445/tcp through?"),
            ),
            K::Refused => (
                format!("connection refused: nothing listens on {at}"),
                "is smbd running on the storage VM (`wasagent health` there tells), or does its firewall reject 445/tcp?".to_owned(),
            ),
            K::Silent => (
                format!("host is down: {at} accepts connections, but no SMB server answers within {seconds} s"),
                "look at smbd on the storage VM: it hangs, is overloaded, or waits for a reverse look-up of this VM's address (name server in its /etc/resolv.conf)".to_owned(),
            ),
            K::Dropped => (
                format!("{at} accepts the connection and closes it without an answer"),
                "smbd turns this VM away: compare share.clients on the storage VM with this VM's address; its log says the rest".to_owned(),
            ),
            K::NotSmb => (
                format!("what answers at {at} does not speak SMB 2 or 3"),
                "does share.server name the storage VM?".to_owned(),
            ),
            K::DialectRefused => (
                format!("the server does not speak SMB {dialect}"),
                "compare was.vers with `server max protocol` and `server min protocol` on the storage VM".to_owned(),
            ),
            K::SealUnsupported => (
                format!("the server cannot encrypt with SMB {dialect}, and share.encrypt demands it"),
                "apply the role storage with the same tier file on the storage VM, or set share.encrypt = false on all VMs".to_owned(),
            ),
            K::WrongPassword => (
                format!("permission denied: the server refused the password of {user}"),
                "compare share.password_file on both VMs, and share.user; a server does not tell an unknown user from a wrong password".to_owned(),
            ),
            K::AccountDisabled => (
                format!("permission denied: the account {user} is disabled on the server"),
                format!("apply the role storage again on the storage VM, or there: `smbpasswd -e {user}`"),
            ),
            K::AccountLocked => (
                format!("permission denied: the account {user} is locked on the server after wrong passwords"),
                format!("on the storage VM: `net sam set autolock {user} no`, or wait for the lockout to end; compare share.password_file on both VMs"),
            ),
            K::PasswordExpired => (
                format!("permission denied: the password of {user} has expired on the server, or must be changed"),
                format!("on the storage VM: `net sam set pwnoexp {user} yes`, by which it never expires"),
            ),
            K::Guest => (
                format!("permission denied: the server does not know {user}, and takes it for a guest, which the share lets nobody be"),
                "compare share.user on all VMs, and apply the role storage on the storage VM, which makes the account".to_owned(),
            ),
            K::ShareDenied => (
                format!("permission denied: the server let {user} in, and refuses the share to this user or this address"),
                format!("on the storage VM, compare `valid users` and `hosts allow` of the share (share.user, share.clients), and whether {user} may enter its directory"),
            ),
            K::EncryptedShare => (
                "the server demands encryption for this share, and the tier file says share.encrypt = false".to_owned(),
                "set share.encrypt = true in the tier file of all VMs, or apply the one with false on the storage VM".to_owned(),
            ),
            K::EncryptionDemanded => (
                format!("permission denied: the server refuses {user} without encryption, or at all"),
                "set share.encrypt = true in the tier file of all VMs; if it was meant to be false, compare `server smb encrypt` on the storage VM".to_owned(),
            ),
            K::AccessDenied => (
                status.map_or_else(
                    || format!("permission denied: the server refused {user}, and the kernel log does not say why"),
                    |(_, status)| format!("permission denied: the server refused {user} with STATUS_{status}"),
                ),
                "compare share.user, share.password_file and share.encrypt on both VMs; smbd's log on the storage VM says the rest".to_owned(),
            ),
            K::Broken => (
                format!("the connection to {at} broke while {user} was being let in"),
                "was smbd restarted on the storage VM? Should it go on: smbd's log there says why it ended the connection".to_owned(),
            ),
            K::NoSuchShare => (
                "the server has no such share".to_owned(),
                "compare share.name on both VMs; `testparm -s` on the storage VM lists its shares".to_owned(),
            ),
            K::NoSuchDirectory => (
                "the server has no such share, or the share no such directory".to_owned(),
                "compare share.name on both VMs, and look for the directory on the storage VM".to_owned(),
            ),
            K::BadOption => (
                format!("an option is not right: {}", kernel.first().map_or("the kernel does not say which", String::as_str)),
                "correct share and was in the tier file; if they are right, this kernel is too old for an option (`dmesg` says which)".to_owned(),
            ),
            K::NotPermitted => (
                "not permitted".to_owned(),
                "mounting takes root with CAP_SYS_ADMIN in the host's mount namespace".to_owned(),
            ),
            K::NoCifs => (
                "this kernel has no CIFS".to_owned(),
                "install the kernel's module cifs (kernel-modules on EL, linux-image without `cloud` on Debian)".to_owned(),
            ),
            K::AlreadyMounted => (
                format!("a share is mounted there already: {}", kernel.first().map_or("", String::as_str)),
                "apply again: it has come meanwhile, and is looked at then".to_owned(),
            ),
            K::NoTarget | K::Deadline | K::Other => (
                errno.map_or_else(|| "failed".to_owned(), |errno| io::Error::from_raw_os_error(errno).to_string()),
                heard,
            ),
        };
        CifsError {
            kind,
            errno,
            message: format!("mount {source}: {what}"),
            hint,
            kernel,
        }
    }

    pub(super) fn no_target(&self, target: &Path, errno: Errno) -> CifsError {
        let target = target.display();
        let (kind, what) = match errno {
            Errno::NOENT => (
                CifsErrorKind::NoTarget,
                format!("the mount point {target} is not there"),
            ),
            Errno::NOTDIR | Errno::LOOP => (
                CifsErrorKind::NoTarget,
                format!("the mount point {target} is no directory"),
            ),
            Errno::PERM => {
                return self.failure(
                    CifsErrorKind::NotPermitted,
                    Some(errno.raw_os_error()),
                    Vec::new(),
                );
            }
            other => (
                CifsErrorKind::Other,
                format!("the mount point {target}: {other}"),
            ),
        };
        CifsError {
            kind,
            errno: Some(errno.raw_os_error()),
            kernel: Vec::new(),
            message: format!("mount {}: {what}", self.source),
            hint: format!("make the directory {target}, and apply again"),
        }
    }

    pub(super) fn deadline_passed(&self, deadline: Duration) -> CifsError {
        CifsError {
            kind: CifsErrorKind::Deadline,
            errno: None,
            kernel: Vec::new(),
            message: format!(
                "mount {}: not done after {} s; given up, and nothing of it stays",
                self.source,
                deadline.as_secs_f32()
            ),
            hint: "the server answers, but takes too long to let us in: look at smbd's log and load on the storage VM".to_owned(),
        }
    }

    pub(super) fn other(&self, what: &str) -> CifsError {
        CifsError {
            kind: CifsErrorKind::Other,
            errno: None,
            kernel: Vec::new(),
            message: format!("mount {}: {what}", self.source),
            hint: "try again".to_owned(),
        }
    }
}
