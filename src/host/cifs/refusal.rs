//! Why the kernel refused a mount. One errno stands for several causes, and only the kernel log tells them apart.
//! The sentence for each cause is in `failure`. The log is shared, so lines about other servers are left out. A missing line counts only if the log was read.

use rustix::io::Errno;

use super::failure::{CifsError, CifsErrorKind};
use super::share::CifsMount;

/// A mount that the kernel refused, and the kernel's messages about it.
pub(super) struct Failed {
    pub(super) errno: Errno,
    pub(super) words: Vec<String>,
    /// The messages that may be shown.
    pub(super) told: Vec<String>,
    /// Whether the kernel log was read. If not, a missing message proves nothing.
    pub(super) log_was_read: bool,
}

impl Failed {
    /// A failure before the kernel could log anything.
    pub(super) fn unheard(errno: Errno) -> Self {
        Self {
            errno,
            words: Vec::new(),
            told: Vec::new(),
            log_was_read: false,
        }
    }

    /// The kernel prints no password. If it ever does, or if a password happens to be part of a message
    /// (`LOGON`), that line still gives the cause but is not shown.
    pub(super) fn keep_silent_about(mut self, password: &str) -> Self {
        let silent = |line: &&String| !line.contains(password);
        self.told = self.words.iter().filter(silent).cloned().collect();
        self
    }

    pub(super) fn says(&self, word: &str) -> bool {
        self.words.iter().any(|line| line.contains(word))
    }

    /// Whether the server let the user in and refused a later request. The kernel logs the status of the
    /// session setup, but not of later requests (`fs/smb/client/smb2pdu.c`, CIFS_LOG_ERROR).
    fn is_behind_the_session(&self) -> bool {
        self.log_was_read && !self.says("Status code returned") && !self.says("in SessSetup")
    }
}

impl CifsMount {
    /// Whether the source names a directory below the share.
    fn has_directory(&self) -> bool {
        self.source
            .trim_start_matches('/')
            .splitn(3, '/')
            .nth(2)
            .is_some_and(|directory| !directory.is_empty())
    }

    /// The lines of the kernel log, without lines about other servers.
    pub(super) fn about_us(&self, lines: Vec<String>) -> Vec<String> {
        let server = self.source.trim_start_matches('/').split('/').next();
        let ours = server.unwrap_or_default().to_lowercase();
        lines
            .into_iter()
            // Logged for every mount, so it tells nothing.
            .filter(|line| !line.contains("Attempting to mount"))
            .filter(|line| match line.split_once("\\\\") {
                Some((_, named)) => named
                    .to_lowercase()
                    .strip_prefix(&ours)
                    .is_some_and(|rest| {
                        !rest.starts_with(|c: char| c.is_alphanumeric() || c == '.')
                    }),
                None => true,
            })
            .collect()
    }

    /// The cause, from the errno and the kernel's messages.
    pub(super) fn classify(&self, failed: &Failed) -> CifsError {
        use CifsErrorKind as K;
        let says = |word| failed.says(word);
        let kind = match failed.errno {
            // The status says more than the errno: STATUS_PASSWORD_MUST_CHANGE, for example, is only EIO.
            _ if says("STATUS_LOGON_FAILURE") || says("STATUS_WRONG_PASSWORD") => K::WrongPassword,
            _ if says("STATUS_ACCOUNT_LOCKED_OUT") => K::AccountLocked,
            _ if says("STATUS_ACCOUNT_DISABLED") => K::AccountDisabled,
            _ if says("STATUS_PASSWORD_") => K::PasswordExpired,
            Errno::ACCESS if says("STATUS_ACCESS_DENIED") && !self.seal => K::EncryptionDemanded,
            Errno::ACCESS if failed.is_behind_the_session() => K::ShareDenied,
            Errno::ACCESS => K::AccessDenied,
            Errno::AGAIN => K::Broken,
            Errno::KEYREVOKED => K::AccountDisabled,
            Errno::KEYEXPIRED => K::PasswordExpired,
            Errno::NOENT | Errno::NXIO if says("BAD_NETWORK_NAME") || !self.has_directory() => {
                K::NoSuchShare
            }
            Errno::NOENT | Errno::NOTDIR => K::NoSuchDirectory,
            Errno::INVAL => K::BadOption,
            // The probe has negotiated the dialect, so with `seal` it is encryption that is unsupported.
            Errno::OPNOTSUPP if self.seal => K::SealUnsupported,
            Errno::OPNOTSUPP => K::DialectRefused,
            Errno::CONNREFUSED => K::Refused,
            Errno::NETUNREACH | Errno::HOSTUNREACH => K::Unreachable,
            Errno::INPROGRESS | Errno::TIMEDOUT => K::NoAnswer,
            Errno::HOSTDOWN => K::Silent,
            Errno::CONNRESET | Errno::CONNABORTED => K::Dropped,
            Errno::PERM => K::NotPermitted,
            Errno::NODEV => K::NoCifs,
            _ => K::Other,
        };
        self.failure(kind, Some(failed.errno.raw_os_error()), failed.told.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::host::cifs::samples::share;

    #[test]
    fn each_errno_and_log_line_has_its_kind_and_sentence() {
        use CifsErrorKind as K;
        let plain = CifsMount {
            seal: false,
            ..share()
        };
        let below = CifsMount {
            source: "//192.168.2.13/user1/app".to_owned(),
            ..share()
        };
        let table = [
            (
                &plain,
                Errno::ACCESS,
                "CIFS: Status code returned 0xc000006d STATUS_LOGON_FAILURE",
                K::WrongPassword,
                "permission denied: the server refused the password of user1",
            ),
            (
                &plain,
                Errno::ACCESS,
                "CIFS: Status code returned 0xc0000234 STATUS_ACCOUNT_LOCKED_OUT",
                K::AccountLocked,
                "locked",
            ),
            (
                &plain,
                Errno::ACCESS,
                "CIFS: Status code returned 0xc0000022 STATUS_ACCESS_DENIED",
                K::EncryptionDemanded,
                "without encryption",
            ),
            (
                &share(),
                Errno::ACCESS,
                "CIFS: Status code returned 0xc0000022 STATUS_ACCESS_DENIED",
                K::AccessDenied,
                "refused user1 with STATUS_ACCESS_DENIED",
            ),
            (
                &share(),
                Errno::ACCESS,
                "CIFS: VFS: \\\\192.168.2.13 Send error in SessSetup = -13",
                K::AccessDenied,
                "does not say why",
            ),
            (
                &share(),
                Errno::ACCESS,
                "CIFS: VFS: cifs_mount failed w/return code = -13",
                K::ShareDenied,
                "let user1 in, and refuses the share",
            ),
            (
                &share(),
                Errno::IO,
                "CIFS: Status code returned 0xc0000224 STATUS_PASSWORD_MUST_CHANGE",
                K::PasswordExpired,
                "must be changed",
            ),
            (
                &share(),
                Errno::AGAIN,
                "CIFS: VFS: \\\\192.168.2.13 failed to connect to IPC (rc=-11)",
                K::Broken,
                "the connection to 192.168.2.13:445 broke",
            ),
            (
                &plain,
                Errno::KEYREVOKED,
                "",
                K::AccountDisabled,
                "disabled",
            ),
            (&plain, Errno::KEYEXPIRED, "", K::PasswordExpired, "expired"),
            (&plain, Errno::NOENT, "", K::NoSuchShare, "no such share"),
            (
                &below,
                Errno::NOENT,
                "CIFS: VFS: BAD_NETWORK_NAME: \\\\192.168.2.13\\user1",
                K::NoSuchShare,
                "no such share",
            ),
            (
                &below,
                Errno::NOENT,
                "",
                K::NoSuchDirectory,
                "no such directory",
            ),
            (
                &plain,
                Errno::INVAL,
                "cifs: Unknown parameter 'bogus'",
                K::BadOption,
                "Unknown parameter 'bogus'",
            ),
            (
                &share(),
                Errno::OPNOTSUPP,
                "",
                K::SealUnsupported,
                "cannot encrypt",
            ),
            (
                &plain,
                Errno::OPNOTSUPP,
                "",
                K::DialectRefused,
                "does not speak SMB 3.1.1",
            ),
            (
                &plain,
                Errno::CONNREFUSED,
                "",
                K::Refused,
                "nothing listens on 192.168.2.13:445",
            ),
            (&plain, Errno::NETUNREACH, "", K::Unreachable, "no route"),
            (&plain, Errno::HOSTUNREACH, "", K::Unreachable, "no route"),
            (
                &plain,
                Errno::INPROGRESS,
                "",
                K::NoAnswer,
                "no answer from 192.168.2.13:445 within 5 s",
            ),
            (&plain, Errno::HOSTDOWN, "", K::Silent, "host is down"),
            (&plain, Errno::PERM, "", K::NotPermitted, "not permitted"),
            (&plain, Errno::NODEV, "", K::NoCifs, "no CIFS"),
            (
                &plain,
                Errno::IO,
                "CIFS: VFS: cifs_mount failed w/return code = -5",
                K::Other,
                "Input/output error",
            ),
        ];
        for (share, errno, line, kind, words) in table {
            let lines = Some(line).filter(|line| !line.is_empty());
            let failed = Failed {
                errno,
                words: lines.map(str::to_owned).into_iter().collect(),
                told: Vec::new(),
                log_was_read: true,
            };
            let failed = share.classify(&failed.keep_silent_about("secret"));
            assert_eq!(failed.kind, kind, "{errno} {line}");
            assert_eq!(failed.errno, Some(errno.raw_os_error()));
            let error = Error::from(failed);
            assert!(
                error.message.starts_with("mount //192.168.2.13/user1"),
                "{error}"
            );
            assert!(error.message.contains(words), "{error}");
            assert!(error.hint.is_some_and(|hint| !hint.is_empty()), "{kind:?}");
        }
    }

    #[test]
    fn the_silence_of_a_log_that_nobody_reads_says_nothing() {
        let failed = Failed::unheard(Errno::ACCESS);
        assert_eq!(share().classify(&failed).kind, CifsErrorKind::AccessDenied);
    }

    #[test]
    fn a_password_that_is_a_word_of_the_kernels_does_not_hide_why() {
        let line = "CIFS: Status code returned 0xc000006d STATUS_LOGON_FAILURE";
        for (password, told) in [("LOGON", 0), ("another", 1)] {
            let failed = Failed {
                errno: Errno::ACCESS,
                words: vec![line.to_owned()],
                told: Vec::new(),
                log_was_read: true,
            };
            let error = share().classify(&failed.keep_silent_about(password));
            assert_eq!(error.kind, CifsErrorKind::WrongPassword, "{password}");
            assert_eq!(error.kernel.len(), told, "{password}");
        }
    }

    #[test]
    fn lines_about_another_server_are_not_ours() {
        let line = |host: &str| format!("CIFS: VFS: BAD_NETWORK_NAME: \\\\{host}\\user1");
        let plain = "CIFS: Status code returned 0xc000006d STATUS_LOGON_FAILURE".to_owned();
        let lines = vec![
            line("192.168.2.13"),
            line("192.168.2.130"),
            line("nas"),
            plain.clone(),
        ];
        assert_eq!(share().about_us(lines), [line("192.168.2.13"), plain]);
    }
}
