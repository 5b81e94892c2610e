//! A client of the share: one session of smbclient(1), Samba's own client. It needs no kernel module, writes nothing
//! into the kernel's log when it fails, and can be killed, none of which holds for a mount.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::nt_hash::NtHash;
use crate::config::{Dialect, Secret};
use crate::error::{Error, Result};
use crate::host::anonymous_file::AnonymousFile;
use crate::host::health_file::{self, MADE, RENAMED};
use crate::host::process::{Helper, find_program};

/// Its package is named in [`crate::host::facts::PackageManager::package_of`].
pub const PROGRAM: &str = "smbclient";

/// Who connects to what, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Client {
    /// The server's name, as a WAS VM has it in `//server/share`.
    pub server: String,
    pub address: IpAddr,
    pub share: String,
    pub user: String,
    password: PasswordHash,
    /// The lowest and the highest dialect, as `client min protocol` of smb.conf(5) names them.
    dialects: (String, String),
    encrypt: bool,
}

/// The NT hash in hexadecimal. A password itself would lose blanks at its beginning, or all beyond 127 bytes, on its way
/// into smbclient (`auth/credentials/credentials.c`).
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct PasswordHash(String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Secret::MASK)
    }
}

impl Client {
    pub fn new(
        (server, address): (&str, IpAddr),
        share: &str,
        (user, password): (&str, &Secret),
        dialect: Dialect,
        encrypt: bool,
    ) -> Self {
        Self {
            server: server.to_owned(),
            address,
            share: share.to_owned(),
            user: user.to_owned(),
            password: PasswordHash(NtHash::of(password).to_hex()),
            dialects: protocols(dialect),
            encrypt,
        }
    }

    /// Whether smbclient is installed.
    pub fn is_installed() -> bool {
        find_program(PROGRAM).is_some()
    }

    /// Logs in, opens the share, and writes, renames, reads back and deletes the file of [`health_file`].
    ///
    /// # Errors
    /// The first step that failed, with the server's status.
    pub async fn write_and_read_back(&self, node: &str, deadline: Duration) -> Result<(), Refused> {
        let contents = health_file::contents()?;
        let local = AnonymousFile::holding(contents.clone().into_bytes().into()).await?;
        let directory = health_file::directory(node);
        let (made, renamed) = (
            format!("{directory}/{MADE}"),
            format!("{directory}/{RENAMED}"),
        );
        let commands = [
            format!("mkdir \"{directory}\""),
            format!("put {} \"{made}\"", local.path().display()),
            format!("rename \"{made}\" \"{renamed}\" -f"),
            format!("get \"{renamed}\" -"),
            // With a wildcard: an interrupted session may have left the other name.
            format!("del \"{directory}/*\""),
            format!("rmdir \"{directory}\""),
        ];
        let said = self.session(&commands.join("; "), deadline).await?;
        if let Some(refused) = first_refusal(&said) {
            return Err(refused);
        }
        if !said.contains(contents.trim_end()) {
            return Err(Refused::other(
                Step::Read,
                "the file was read back with other contents than were written",
            ));
        }
        Ok(())
    }

    async fn session(&self, commands: &str, deadline: Duration) -> Result<String> {
        let login = zeroize::Zeroizing::new(format!(
            "username={}\npassword={}\n",
            self.user, self.password.0
        ));
        let login = AnonymousFile::holding(login.as_bytes().to_vec().into()).await?;
        let (lowest, highest) = &self.dialects;
        let output = Helper::new(PROGRAM)
            .args([
                format!("//{}/{}", self.server, self.share),
                format!("--ip-address={}", self.address),
                // The server's smb.conf does not decide what a client on another machine does.
                "--configfile=/dev/null".to_owned(),
                format!("--option=client min protocol={lowest}"),
                format!("--max-protocol={highest}"),
                // As the kernel's client has them (`fs/smb/client/smb2pdu.c`, build_encrypt_ctxt).
                "--option=client smb3 encryption algorithms=AES-128-GCM,AES-256-GCM,AES-128-CCM"
                    .to_owned(),
                "--use-kerberos=disabled".to_owned(),
                format!("--authentication-file={}", login.path().display()),
                "--pw-nt-hash".to_owned(),
                format!("--command={commands}"),
            ])
            .args(self.encrypt.then_some("--client-protection=encrypt"))
            .deadline(deadline)
            .output()
            .await?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            output.stderr
        );
        if !output.success && first_refusal(&said).is_none() {
            let last = said.lines().last().unwrap_or_default();
            return Err(Error::new(format!("{PROGRAM}: {}: {last}", output.exit)));
        }
        Ok(said)
    }
}

/// The lowest and the highest protocol, as smb.conf(5) names them.
fn protocols(dialect: Dialect) -> (String, String) {
    let (lowest, highest) = match dialect {
        Dialect::V3_0 => ("SMB3_00", "SMB3_00"),
        Dialect::V3_0_2 => ("SMB3_02", "SMB3_02"),
        Dialect::V3_1_1 => ("SMB3_11", "SMB3_11"),
        Dialect::V3 => ("SMB3_00", "SMB3_11"),
    };
    (lowest.to_owned(), highest.to_owned())
}

/// The steps of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Connect,
    Negotiate,
    LogIn,
    OpenShare,
    MakeDirectory,
    Write,
    Rename,
    Read,
    Delete,
}

/// A step that the server refused.
#[derive(Debug)]
pub struct Refused {
    pub step: Step,
    /// Such as `ACCESS_DENIED`, the name of an NTSTATUS ([MS-ERREF] 2.3) without its beginning; empty without one.
    pub status: String,
    what: String,
}

impl Refused {
    fn other(step: Step, what: &str) -> Self {
        Self {
            step,
            status: String::new(),
            what: what.to_owned(),
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::other(Step::Connect, &error.to_string())
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.status.is_empty() {
            return f.write_str(&self.what);
        }
        let Self { what, status, .. } = self;
        match in_words(status) {
            Some(words) => write!(f, "{what}: {words} (NT_STATUS_{status})"),
            None => write!(f, "{what}: NT_STATUS_{status}"),
        }
    }
}

/// What smbclient prints about each step that fails (`source3/client/client.c`, `source3/libsmb/cliconnect.c`).
const STEPS: [(&str, Step, &str); 13] = [
    ("do_connect: Connection to", Step::Connect, "connect"),
    (
        "protocol negotiation failed",
        Step::Negotiate,
        "negotiate SMB 3",
    ),
    ("session setup failed", Step::LogIn, "log in"),
    ("tree connect failed", Step::OpenShare, "open the share"),
    (
        "making remote directory",
        Step::MakeDirectory,
        "make a directory",
    ),
    ("opening remote file", Step::Write, "open a file"),
    ("closing remote file", Step::Write, "write a file"),
    ("Error writing file", Step::Write, "write a file"),
    ("renaming files", Step::Rename, "rename a file"),
    ("reading file", Step::Read, "read a file back"),
    ("deleting remote file", Step::Delete, "delete a file"),
    ("listing", Step::Delete, "list a directory"),
    (
        "removing remote directory",
        Step::Delete,
        "delete a directory",
    ),
];

/// The first line that tells of a failed step. smbclient goes on after a failed command.
fn first_refusal(said: &str) -> Option<Refused> {
    said.lines().find_map(|line| {
        let status: String = line
            .split_once("NT_STATUS_")?
            .1
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        let (step, what) = STEPS
            .iter()
            .find(|(words, ..)| line.contains(words))
            .map_or((Step::Connect, "an SMB session"), |(_, step, what)| {
                (*step, *what)
            });
        // An interrupted session left the directory.
        let is_left = step == Step::MakeDirectory && status == "OBJECT_NAME_COLLISION";
        (!is_left).then(|| Refused {
            step,
            status,
            what: what.to_owned(),
        })
    })
}

/// What a status means for a client of a share.
fn in_words(status: &str) -> Option<&'static str> {
    Some(match status {
        "LOGON_FAILURE" => "unknown user or wrong password",
        "NO_SUCH_USER" => "unknown user",
        "WRONG_PASSWORD" => "wrong password",
        "ACCOUNT_DISABLED" => "the account is disabled",
        "ACCOUNT_EXPIRED" => "the account has expired",
        "ACCOUNT_LOCKED_OUT" => "the account is locked out",
        "ACCOUNT_RESTRICTION" => "the account may not log in like this",
        "PASSWORD_EXPIRED" => "the password has expired",
        "PASSWORD_MUST_CHANGE" => "the password must be changed first",
        "INVALID_LOGON_HOURS" => "the account may not log in at this hour",
        "INVALID_WORKSTATION" => "the account may not log in from here",
        "ACCESS_DENIED" => "permission denied",
        "NETWORK_ACCESS_DENIED" => "no access over the network",
        "BAD_NETWORK_NAME" => "the server has no such share, or cannot serve it",
        "BAD_NETWORK_PATH" => "the server is not found",
        "CONNECTION_REFUSED" => "nothing listens there",
        "CONNECTION_RESET"
        | "CONNECTION_DISCONNECTED"
        | "CONNECTION_ABORTED"
        | "END_OF_FILE"
        | "PIPE_BROKEN" => "the server ended the connection",
        "HOST_UNREACHABLE" | "NETWORK_UNREACHABLE" => "the address cannot be reached",
        "IO_TIMEOUT" => "no answer in time",
        "NOT_SUPPORTED" | "INVALID_PARAMETER" => "the server does not support it",
        "INVALID_NETWORK_RESPONSE" => "the server's answer makes no sense",
        "MEDIA_WRITE_PROTECTED" => "the file system is read-only",
        "DISK_FULL" => "no space is left",
        "QUOTA_EXCEEDED" => "the quota is used up",
        "OBJECT_NAME_INVALID" | "OBJECT_NAME_NOT_FOUND" | "NO_SUCH_FILE" => {
            "the server does not accept or find the name"
        }
        "OBJECT_PATH_NOT_FOUND" => "the directory is not found",
        "SHARING_VIOLATION" | "FILE_LOCK_CONFLICT" => "somebody else holds it",
        "DELETE_PENDING" => "it is about to be deleted",
        "DIRECTORY_NOT_EMPTY" => "the directory is not empty",
        "TOO_MANY_OPENED_FILES" => "too many files are open",
        "INSUFFICIENT_RESOURCES" | "REQUEST_NOT_ACCEPTED" | "TOO_MANY_SESSIONS" => {
            "the server takes no more clients"
        }
        "IO_DEVICE_ERROR" | "UNEXPECTED_IO_ERROR" | "DATA_ERROR" => "the disk has an error",
        "NOLOGON_WORKSTATION_TRUST_ACCOUNT" => "the account is one of a machine",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failed_step_is_told_in_words() {
        for (said, step, words) in [
            (
                "do_connect: Connection to 10.9.9.8 failed (Error NT_STATUS_CONNECTION_REFUSED)\n",
                Step::Connect,
                "connect: nothing listens there (NT_STATUS_CONNECTION_REFUSED)",
            ),
            (
                "session setup failed: NT_STATUS_LOGON_FAILURE\n",
                Step::LogIn,
                "log in: unknown user or wrong password (NT_STATUS_LOGON_FAILURE)",
            ),
            (
                "tree connect failed: NT_STATUS_BAD_NETWORK_NAME\n",
                Step::OpenShare,
                "open the share: the server has no such share, or cannot serve it (NT_STATUS_BAD_NETWORK_NAME)",
            ),
            (
                "NT_STATUS_ACCESS_DENIED making remote directory \\.d\n\
                 NT_STATUS_OBJECT_PATH_NOT_FOUND opening remote file \\.d\\a.js\n",
                Step::MakeDirectory,
                "make a directory: permission denied (NT_STATUS_ACCESS_DENIED)",
            ),
            (
                "NT_STATUS_OBJECT_NAME_COLLISION making remote directory \\.d\n\
                 NT_STATUS_DISK_FULL opening remote file \\.d\\a.js\n",
                Step::Write,
                "open a file: no space is left (NT_STATUS_DISK_FULL)",
            ),
            (
                "session setup failed: NT_STATUS_SOMETHING_NEW",
                Step::LogIn,
                "log in: NT_STATUS_SOMETHING_NEW",
            ),
        ] {
            let refused = first_refusal(said).unwrap();
            assert_eq!(refused.step, step, "{said}");
            assert_eq!(refused.to_string(), words);
        }
        let fine =
            "NT_STATUS_OBJECT_NAME_COLLISION making remote directory \\.d\nputting file a as b\n";
        assert!(first_refusal(fine).is_none());
    }

    #[test]
    fn a_hash_is_not_shown() {
        let client = Client::new(
            ("storage", IpAddr::from([192, 168, 2, 13])),
            "user1",
            ("user1", &Secret::new("Password".to_owned())),
            Dialect::V3,
            true,
        );
        let shown = format!("{client:?}");
        assert!(shown.contains(Secret::MASK), "{shown}");
        assert!(!shown.to_lowercase().contains("a4f49c"), "{shown}");
    }
}
