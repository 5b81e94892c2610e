//! The share, mounted by the kernel's mount API: `fsopen("cifs")`, one `fsconfig` an option, so that
//! no character of a password needs escaping.
//!
//! The kernel waits up to 43 s for a server that is not there and then says little. So the server
//! is asked first, by us and with deadlines: a connection, and one SMB2 negotiation. What the
//! kernel refuses after that is told apart by its errno together with its log.

use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::host::Permit;
use crate::host::kmsg::Kmsg;
use crate::host::mount::{self, MountInfo};

/// Port of SMB over TCP, the only one that SMB3 needs.
pub const SMB_PORT: u16 = 445;

/// How long a connection to the server, and then its first answer, may take.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// SMB dialects of the contract's `was.vers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    Smb3_0,
    Smb3_0_2,
    Smb3_1_1,
}

impl Dialect {
    /// Reads `3.0`, `3.0.2` (the kernel also says `3.02`) and `3.1.1`.
    pub fn parse(vers: &str) -> Option<Self> {
        match vers {
            "3.0" => Some(Self::Smb3_0),
            "3.0.2" | "3.02" => Some(Self::Smb3_0_2),
            "3.1.1" | "3.11" => Some(Self::Smb3_1_1),
            _ => None,
        }
    }

    /// Its number on the wire (MS-SMB2 2.2.3).
    const fn number(self) -> u16 {
        match self {
            Self::Smb3_0 => 0x0300,
            Self::Smb3_0_2 => 0x0302,
            Self::Smb3_1_1 => 0x0311,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smb3_0 => "3.0",
            Self::Smb3_0_2 => "3.0.2",
            Self::Smb3_1_1 => "3.1.1",
        })
    }
}

/// What a process gets whose file operation meets a server that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// An error after a while: the process can see it, and can be stopped.
    Soft,
    /// It waits until the server is back.
    Hard,
}

/// A mount of a share, without its password: that is handed to [`CifsMount::mount_detached`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifsMount {
    /// `//server/share[/directory]`.
    pub source: String,
    /// Where the server is: the kernel resolves no names.
    pub address: IpAddr,
    /// [`SMB_PORT`], but in tests.
    pub port: u16,
    pub user: String,
    pub dialect: Dialect,
    /// Whether everything is encrypted (SMB3 encryption).
    pub seal: bool,
    /// Owner and group that all files have here.
    pub uid: u32,
    pub gid: u32,
    /// Permission bits that all files, and all directories, have here.
    pub file_mode: u32,
    pub dir_mode: u32,
    pub recovery: Recovery,
    /// Whole seconds, 1 to 600; a server that is silent for three of them counts as gone.
    pub echo_interval: Duration,
    /// SELinux label that all files have here; `None` where SELinux is off.
    pub context: Option<String>,
    /// Whether a symbolic link may be made here (kept as a small file on the server).
    pub mfsymlinks: bool,
    /// How long attributes are believed without asking; `None` leaves the kernel's second.
    pub actimeo: Option<Duration>,
}

/// Why a mount, or the probe before it, failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CifsErrorKind {
    /// No route to the server.
    Unreachable,
    /// No answer to the connection within the deadline.
    NoAnswer,
    /// Nothing listens on the port.
    Refused,
    /// The server accepts connections and says nothing.
    Silent,
    /// The server accepts the connection and closes it.
    Dropped,
    /// What answers does not speak SMB2.
    NotSmb,
    /// The server speaks none of the dialects that were offered.
    DialectRefused,
    /// Encryption was wanted and the server cannot.
    SealUnsupported,
    /// Unknown user or wrong password: a server tells nobody which.
    WrongPassword,
    AccountDisabled,
    AccountLocked,
    PasswordExpired,
    /// The server has no such account, and lets the user in as a guest.
    Guest,
    /// The user was accepted, the share is not for this user or this address.
    ShareDenied,
    /// The user was refused, while we did not encrypt: the server may demand it.
    EncryptionDemanded,
    /// The share can only be had encrypted, and we were told not to encrypt.
    EncryptedShare,
    /// EACCES, and neither the server's status nor the kernel log says why.
    AccessDenied,
    /// The connection broke after the server had answered.
    Broken,
    NoSuchShare,
    /// The share is there, the directory in it is not.
    NoSuchDirectory,
    /// The mount point is not there or no directory.
    NoTarget,
    /// The kernel refused an option, or we did before it.
    BadOption,
    /// Root's capability is missing.
    NotPermitted,
    /// The kernel has no CIFS.
    NoCifs,
    /// A share is mounted on the mount point already.
    AlreadyMounted,
    /// Everything together took longer than the caller allowed.
    Deadline,
    Other,
}

/// A failed mount: what it was, and what the kernel said. It converts into an [`Error`] with a
/// sentence of its own for each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifsError {
    pub kind: CifsErrorKind,
    /// What the system call gave; `None` where none failed.
    pub errno: Option<i32>,
    /// The kernel's own words, from the context's descriptor and the kernel log.
    pub kernel: Vec<String>,
    message: String,
    hint: String,
}

impl CifsError {
    /// Whether it may pass without anybody changing a setting: a server that boots, a network.
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

/// What an SMB server answered to a negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The dialect that the server chose.
    pub dialect: Dialect,
    /// Whether the server can encrypt with this dialect.
    pub encryption: bool,
}

/// What a mounted share looks like, from mountinfo: never an access to the share itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifsState {
    /// As mounted: `//server/share`.
    pub source: String,
    /// The kernel's word, `3.1.1`; [`Dialect::parse`] reads it.
    pub vers: Option<String>,
    pub user: Option<String>,
    pub address: Option<IpAddr>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub file_mode: Option<u32>,
    pub dir_mode: Option<u32>,
    pub seal: bool,
    pub recovery: Recovery,
    pub echo_interval: Option<Duration>,
    /// Without quotes.
    pub context: Option<String>,
    pub mfsymlinks: bool,
    pub actimeo: Option<Duration>,
    pub nosuid: bool,
    pub nodev: bool,
    pub read_only: bool,
    /// Files have the inode numbers that the server has for them.
    pub server_inodes: bool,
}

/// What the kernel's client knows of its servers and shares (`fs/smb/client/cifs_debug.c`).
const DEBUG_DATA: &str = "/proc/fs/cifs/DebugData";

/// Share flag of a tree connect ([MS-SMB2] 2.2.10, SMB2_SHAREFLAG_ENCRYPT_DATA).
const SHAREFLAG_ENCRYPT_DATA: u32 = 0x8000;

/// Whether the kernel's debug data tells of a connection to the share of `source`, `//server/share`,
/// on which the server demands encryption.
fn demands_encryption(debug_data: &str, source: &str) -> bool {
    let parts: Vec<&str> = source.trim_start_matches('/').split('/').take(2).collect();
    let unc = format!("\\\\{}", parts.join("\\"));
    let mut is_ours = false;
    for line in debug_data.lines() {
        // A share begins `1) \\server\share Mounts: …`; its flags come on one of the lines below.
        if let Some((_, name)) = line.trim().split_once(") ") {
            let name = name.strip_prefix("IPC: ").unwrap_or(name);
            is_ours = name
                .split(" Mounts:")
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case(&unc));
        }
        let flags = line
            .split("Share Flags: 0x")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        if is_ours && flags.is_some_and(|flags| flags & SHAREFLAG_ENCRYPT_DATA != 0) {
            return true;
        }
    }
    false
}

impl CifsMount {
    /// Asks the server and mounts the share, with `nosuid` and `nodev`, attached to nothing yet: what is
    /// mounted where it is to appear goes on being used until [`Detached::attach`].
    ///
    /// It works on a thread of its own, which is given up after `deadline`. A system call cannot be
    /// called off: the thread goes on until the kernel returns, and what it mounted then goes when its
    /// descriptor closes, unseen.
    ///
    /// # Errors
    /// One kind for each cause that can be told apart, and [`CifsErrorKind::Deadline`]. The first
    /// failing option stops, because the kernel has freed the password by then and would report a
    /// refusal that is none (`fs/smb/client/fs_context.c`, `cifs_parse_mount_err`).
    pub async fn mount_detached(
        &self,
        password: &str,
        deadline: Duration,
    ) -> Result<Detached, CifsError> {
        let (done, result) = tokio::sync::oneshot::channel();
        let thread = {
            let share = self.clone();
            let password = Zeroizing::new(password.to_owned());
            // No thread of the runtime: that would wait for it when the program ends.
            std::thread::Builder::new()
                .name("mount-cifs".to_owned())
                .spawn(move || {
                    // Nobody listens any more when the deadline has passed: the mount is dropped.
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

    /// Connects to the server and negotiates this dialect, each within [`PROBE_DEADLINE`]. No user
    /// and no password is sent.
    ///
    /// # Errors
    /// A kind for each way in which a server is not there, and `DialectRefused`, `SealUnsupported`.
    pub fn probe(&self) -> Result<Negotiated, CifsError> {
        let mut stream = probe_port(self.address, self.port, PROBE_DEADLINE)
            .map_err(|kind| self.failure(kind, None, Vec::new()))?;
        let negotiated = negotiate(&mut stream, self.dialect, PROBE_DEADLINE)
            .map_err(|kind| self.failure(kind, None, Vec::new()))?;
        if self.seal && !negotiated.encryption {
            return Err(self.failure(CifsErrorKind::SealUnsupported, None, Vec::new()));
        }
        Ok(negotiated)
    }

    /// The same options for `Options=` of a systemd mount unit, which runs `mount.cifs`: the mount
    /// at boot and the one by system calls look alike in mountinfo. User and password come from
    /// the file `credentials_file`, whose text [`credentials`] makes.
    ///
    /// `%` is doubled, as systemd expands specifiers in `Options=` (`systemd.unit(5)`); it takes
    /// off no quotes there. `mount.cifs` splits at commas and knows no escape for one.
    ///
    /// # Errors
    /// When a value has a comma or a line break, and so cannot be said.
    pub fn options_for_mount_cifs(&self, credentials_file: &Path) -> Result<String> {
        let mut options = vec![
            format!("credentials={}", credentials_file.display()),
            "nosuid".to_owned(),
            "nodev".to_owned(),
        ];
        for option in self.options() {
            options.push(match option {
                (flag, None) => flag.to_owned(),
                // Commas of SELinux categories: the kernel wants the quotes here, and only here.
                ("context", Some(label)) if label.contains(',') => format!("context=\"{label}\""),
                (key, Some(value)) => format!("{key}={value}"),
            });
        }
        for option in &options {
            let comma = option.contains(',') && !option.starts_with("context=\"");
            if comma || option.contains(['\n', '\r', '\0']) {
                return Err(Error::new(format!(
                    "mount unit of {}: the option {option:?} cannot be written there",
                    self.source
                ))
                .hint("use a value without comma and line break"));
            }
        }
        Ok(options.join(",").replace('%', "%%"))
    }

    /// How this mount will look to [`observe`] once it is there.
    pub fn expected(&self) -> CifsState {
        CifsState {
            source: self.source.clone(),
            vers: Some(self.dialect.to_string()),
            user: Some(self.user.clone()),
            address: Some(self.address),
            uid: Some(self.uid),
            gid: Some(self.gid),
            file_mode: Some(self.file_mode),
            dir_mode: Some(self.dir_mode),
            seal: self.seal,
            recovery: self.recovery,
            echo_interval: Some(self.echo_interval),
            context: self.label().map(str::to_owned),
            mfsymlinks: self.mfsymlinks,
            actimeo: Some(self.actimeo.unwrap_or(KERNEL_ACTIMEO)),
            nosuid: true,
            nodev: true,
            read_only: false,
            server_inodes: false,
        }
    }

    /// Where a share demands encryption and the client can, the kernel encrypts without being told
    /// (`fs/smb/client/smb2pdu.c`, `smb3_encryption_required`); it shows in its debug data alone.
    fn is_encrypted_all_the_same(&self) -> bool {
        let text = std::fs::read(DEBUG_DATA).unwrap_or_default();
        demands_encryption(&String::from_utf8_lossy(&text), &self.source)
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

    /// Makes the mount, attached to nothing yet.
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

    /// Whether the server knows no such user and lets everybody of that kind in as a guest (smb.conf(5),
    /// `map to guest`, which Debian sets). A guest's session has no key, so the server ends the connection
    /// at the first encrypted request, and the kernel says no more than EAGAIN. That it is a guest's
    /// it says when it was to sign (`fs/smb/client/smb2pdu.c`, `SMB2_sess_setup`).
    fn is_taken_for_guest(&self, password: &str) -> bool {
        let plain = Self {
            seal: false,
            ..self.clone()
        };
        match plain.attempt(password, Some("sign")) {
            // Let in with a key: nobody's guest. The mount goes as it came.
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
            // The kernel prints no password; should it ever, it ends here.
            words.retain(|line| !line.contains(password));
            Failed {
                errno,
                words,
                log_was_read: log.is_open(),
            }
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
        // As a C string of ours, wiped: a &str would be copied to a buffer that is not.
        let mut bytes = Zeroizing::new(Vec::with_capacity(password.len() + 1));
        bytes.extend_from_slice(password.as_bytes());
        bytes.push(0);
        let password = CStr::from_bytes_with_nul(&bytes).map_err(|_| Errno::INVAL)?;
        fsconfig_set_string(context.as_fd(), "password", password)
    }

    /// Every option but the source, the user and the password, in the words that the kernel and
    /// `mount.cifs` share.
    fn options(&self) -> Vec<(&'static str, Option<String>)> {
        let mut options = vec![
            ("ip", Some(self.address.to_string())),
            ("vers", Some(self.dialect.to_string())),
            ("uid", Some(self.uid.to_string())),
            ("gid", Some(self.gid.to_string())),
            // Implied by uid= today; said aloud, as the owner of every file hangs on it.
            ("forceuid", None),
            ("forcegid", None),
            // The kernel reads them as numbers of C: octal by the leading zero alone.
            ("file_mode", Some(format!("0{:03o}", self.file_mode))),
            ("dir_mode", Some(format!("0{:03o}", self.dir_mode))),
            match self.recovery {
                Recovery::Soft => ("soft", None),
                Recovery::Hard => ("hard", None),
            },
            (
                "echo_interval",
                Some(self.echo_interval.as_secs().to_string()),
            ),
            // Else a mount shares connection and superblock with another of the same share, also
            // with one that was detached and is still in use: old options, a dead connection.
            ("nosharesock", None),
            // A new revision is another directory in the share's place. With the server's inode
            // numbers the root of a mount that is there is "stale" from then on (ESTALE of
            // `update_inode_info` in fs/smb/client/inode.c), until it is mounted anew.
            ("noserverino", None),
        ];
        if self.port != SMB_PORT {
            options.push(("port", Some(self.port.to_string())));
        }
        if self.seal {
            options.push(("seal", None));
        }
        if self.mfsymlinks {
            options.push(("mfsymlinks", None));
        }
        if let Some(actimeo) = self.actimeo {
            options.push(("actimeo", Some(actimeo.as_secs().to_string())));
        }
        if let Some(label) = self.label() {
            options.push(("context", Some(label.to_owned())));
        }
        options
    }

    /// The SELinux label without the quotes that `mount(8)` wants and the kernel does not.
    fn label(&self) -> Option<&str> {
        self.context.as_deref().map(|label| label.trim_matches('"'))
    }

    /// What the kernel would refuse without saying what, or take and cut.
    fn check(&self, password: &str) -> Result<(), CifsError> {
        let bad =
            |what: &str| Err(self.failure(CifsErrorKind::BadOption, None, vec![what.to_owned()]));
        let share = self
            .source
            .strip_prefix("//")
            .and_then(|rest| rest.split_once('/'));
        if !matches!(share, Some((server, share)) if !server.is_empty() && !share.is_empty()) {
            return bad("the source is not //server/share");
        }
        if self.user.is_empty() || password.is_empty() {
            return bad("user and password may not be empty");
        }
        // smb3_fs_context.password: NTLMSSP takes 128 UTF-16 units.
        if password.len() > VALUE_MAX || password.encode_utf16().count() > 128 {
            return bad("a password has at most 255 bytes, and at most 128 characters");
        }
        if password.contains('\0') {
            return bad("a password has no NUL");
        }
        let long = |value: &str| value.len() > VALUE_MAX || value.contains('\0');
        if long(&self.source) || long(&self.user) || self.label().is_some_and(long) {
            return bad("a value has at most 255 bytes, and no NUL");
        }
        if !(1..=600).contains(&self.echo_interval.as_secs()) {
            return bad("echo_interval is 1 to 600 s");
        }
        Ok(())
    }

    /// Whether the source names a directory below the share.
    fn has_directory(&self) -> bool {
        self.source
            .trim_start_matches('/')
            .splitn(3, '/')
            .nth(2)
            .is_some_and(|directory| !directory.is_empty())
    }

    /// Lines of the kernel log that are not about another server.
    fn about_us(&self, lines: Vec<String>) -> Vec<String> {
        let server = self.source.trim_start_matches('/').split('/').next();
        let ours = server.unwrap_or_default().to_lowercase();
        lines
            .into_iter()
            // Said of each mount, and so of none.
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

    /// The cause, from what the system call gave and what the kernel wrote.
    fn classify(&self, failed: &Failed) -> CifsError {
        use CifsErrorKind as K;
        let says = |word| failed.says(word);
        let kind = match failed.errno {
            // The status is the better word: for STATUS_PASSWORD_MUST_CHANGE the kernel knows no errno but EIO.
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
            // The dialect was negotiated by the probe, so with encryption it is that.
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
        self.failure(
            kind,
            Some(failed.errno.raw_os_error()),
            failed.words.clone(),
        )
    }

    /// The error with the sentence and the way out of its kind.
    fn failure(&self, kind: CifsErrorKind, errno: Option<i32>, kernel: Vec<String>) -> CifsError {
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
        // The last line often repeats the errno and says nothing more.
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
                "set was.vers to a dialect that the server offers (3.0, 3.0.2, 3.1.1)".to_owned(),
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
                "unmount it first".to_owned(),
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

    fn no_target(&self, target: &Path, errno: Errno) -> CifsError {
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

    fn deadline_passed(&self, deadline: Duration) -> CifsError {
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

    fn other(&self, what: &str) -> CifsError {
        CifsError {
            kind: CifsErrorKind::Other,
            errno: None,
            kernel: Vec::new(),
            message: format!("mount {}: {what}", self.source),
            hint: "try again".to_owned(),
        }
    }
}

/// A mount that the kernel refused, and what it said about that.
struct Failed {
    errno: Errno,
    words: Vec<String>,
    /// Whether the kernel log may be read: else its silence says nothing.
    log_was_read: bool,
}

impl Failed {
    /// One of before the kernel had anything to say.
    fn unheard(errno: Errno) -> Self {
        Self {
            errno,
            words: Vec::new(),
            log_was_read: false,
        }
    }

    fn says(&self, word: &str) -> bool {
        self.words.iter().any(|line| line.contains(word))
    }

    /// Whether the server let the user in and refused something after that: the kernel logs the status of a
    /// session's setup, and of no request after it (`fs/smb/client/smb2pdu.c`, CIFS_LOG_ERROR).
    fn is_behind_the_session(&self) -> bool {
        self.log_was_read && !self.says("Status code returned") && !self.says("in SessSetup")
    }
}

/// A share that is mounted and attached to nothing: nobody sees it, and dropped it is gone.
#[derive(Debug)]
pub struct Detached {
    share: CifsMount,
    mounted: OwnedFd,
}

impl Detached {
    /// Lets the share appear on `target` (`move_mount(2)`).
    ///
    /// # Errors
    /// When `target` is no directory, or has a share mounted on it already.
    pub fn attach(&self, _permit: &Permit, target: &Path) -> Result<(), CifsError> {
        let share = &self.share;
        match mount::mount_at(target) {
            // Said before the mount point is opened: the share there may be a dead one.
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

/// Longest value that `fsconfig(2)` takes, without its NUL (`fs/fsopen.c`: `strndup_user(…, 256)`).
const VALUE_MAX: usize = 255;

/// For how long the kernel believes attributes unless told (`fs/smb/client/cifsfs.h`, CIFS_DEF_ACTIMEO).
const KERNEL_ACTIMEO: Duration = Duration::from_secs(1);

/// What the kernel says about options: one record a read, `e cifs: …` with a letter for its level
/// in front, then ENODATA (`fs/fsopen.c`, `fscontext_read`).
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

/// Connects to a port of the server. A refusal, silence and the lack of a route are kinds of their
/// own.
///
/// # Errors
/// `Refused`, `NoAnswer`, `Unreachable`, `Other`.
pub fn probe_port(
    address: IpAddr,
    port: u16,
    deadline: Duration,
) -> Result<TcpStream, CifsErrorKind> {
    TcpStream::connect_timeout(&SocketAddr::new(address, port), deadline).map_err(|error| {
        match error.kind() {
            ErrorKind::ConnectionRefused => CifsErrorKind::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => CifsErrorKind::NoAnswer,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                CifsErrorKind::Unreachable
            }
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => CifsErrorKind::Dropped,
            // What an nftables or iptables REJECT with icmp-admin-prohibited can turn into.
            ErrorKind::PermissionDenied => CifsErrorKind::Refused,
            _ => CifsErrorKind::Other,
        }
    })
}

/// Asks an SMB server whether it speaks this dialect, on a fresh connection (MS-SMB2 2.2.3, 2.2.4).
/// The kernel asks the same, and waits 21 to 43 s for an answer; this waits for `deadline`.
///
/// # Errors
/// `Silent`, `Dropped`, `NotSmb`, `DialectRefused`.
pub fn negotiate(
    stream: &mut TcpStream,
    dialect: Dialect,
    deadline: Duration,
) -> Result<Negotiated, CifsErrorKind> {
    let end = Instant::now() + deadline;
    let kind_of = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => CifsErrorKind::Silent,
        _ => CifsErrorKind::Dropped,
    };
    let mut random = [0; 48];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(|_| CifsErrorKind::Other)?;
    stream
        .set_write_timeout(Some(deadline))
        .and_then(|()| stream.write_all(&negotiate_request(dialect, &random)))
        .map_err(kind_of)?;
    let mut length = [0; 4];
    read_until(stream, &mut length, end).map_err(kind_of)?;
    // Direct TCP: a zero byte, then the length in three (MS-SMB2 2.1).
    let length = match length {
        [0, high, middle, low] => {
            usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
        }
        _ => return Err(CifsErrorKind::NotSmb),
    };
    if !(SMB2_HEADER..=65536).contains(&length) {
        return Err(CifsErrorKind::NotSmb);
    }
    let mut answer = vec![0; length];
    read_until(stream, &mut answer, end).map_err(kind_of)?;
    read_negotiate_answer(&answer, dialect)
}

/// Length of the header of each SMB2 message.
const SMB2_HEADER: usize = 64;

/// Capability and context by which an SMB3 server says that it can encrypt.
const CAP_ENCRYPTION: u32 = 0x40;
const CONTEXT_ENCRYPTION: u16 = 2;

fn negotiate_request(dialect: Dialect, random: &[u8; 48]) -> Vec<u8> {
    let mut message = Vec::with_capacity(192);
    message.extend_from_slice(b"\xfeSMB");
    message.extend_from_slice(&64u16.to_le_bytes()); // StructureSize
    message.extend_from_slice(&[0; 6]); // CreditCharge, Status
    message.extend_from_slice(&0u16.to_le_bytes()); // Command: NEGOTIATE
    message.extend_from_slice(&1u16.to_le_bytes()); // CreditRequest
    message.resize(SMB2_HEADER, 0);

    message.extend_from_slice(&36u16.to_le_bytes()); // StructureSize
    message.extend_from_slice(&1u16.to_le_bytes()); // DialectCount
    message.extend_from_slice(&1u16.to_le_bytes()); // SecurityMode: signing enabled
    message.extend_from_slice(&0u16.to_le_bytes());
    message.extend_from_slice(&CAP_ENCRYPTION.to_le_bytes());
    message.extend_from_slice(&random[..16]); // ClientGuid
    if dialect == Dialect::Smb3_1_1 {
        // Two contexts, at the next multiple of eight behind the dialect: 104.
        message.extend_from_slice(&104u32.to_le_bytes());
        message.extend_from_slice(&2u16.to_le_bytes());
        message.extend_from_slice(&0u16.to_le_bytes());
    } else {
        message.extend_from_slice(&[0; 8]); // ClientStartTime
    }
    message.extend_from_slice(&dialect.number().to_le_bytes());
    if dialect == Dialect::Smb3_1_1 {
        message.resize(104, 0);
        // PREAUTH_INTEGRITY_CAPABILITIES: one algorithm, SHA-512, 32 bytes of salt.
        for word in [1u16, 38, 0, 0, 1, 32, 1] {
            message.extend_from_slice(&word.to_le_bytes());
        }
        message.extend_from_slice(&random[16..]);
        message.resize(152, 0);
        // ENCRYPTION_CAPABILITIES: AES-128-GCM, AES-128-CCM, AES-256-GCM, AES-256-CCM.
        for word in [CONTEXT_ENCRYPTION, 10, 0, 0, 4, 2, 1, 4, 3] {
            message.extend_from_slice(&word.to_le_bytes());
        }
    }
    let mut framed = u32::try_from(message.len())
        .unwrap_or(0)
        .to_be_bytes()
        .to_vec();
    framed.append(&mut message);
    framed
}

fn read_negotiate_answer(answer: &[u8], dialect: Dialect) -> Result<Negotiated, CifsErrorKind> {
    let u16_at = |at: usize| {
        let bytes = answer.get(at..at + 2)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    };
    let u32_at = |at: usize| {
        let bytes = answer.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if !answer.starts_with(b"\xfeSMB") {
        return Err(CifsErrorKind::NotSmb);
    }
    // STATUS_NOT_SUPPORTED, STATUS_INVALID_PARAMETER …: none of the dialects offered is spoken.
    if u32_at(8) != Some(0) || u16_at(SMB2_HEADER + 4) != Some(dialect.number()) {
        return Err(CifsErrorKind::DialectRefused);
    }
    let encryption = if dialect == Dialect::Smb3_1_1 {
        let count = u16_at(SMB2_HEADER + 6).unwrap_or(0);
        let mut at = u32_at(SMB2_HEADER + 60).unwrap_or(0) as usize;
        (0..count).any(|_| {
            let (kind, length) = (u16_at(at), u16_at(at + 2).unwrap_or(0));
            let cipher = u16_at(at + 10).unwrap_or(0);
            // Each begins at a multiple of eight.
            at += (8 + usize::from(length)).next_multiple_of(8);
            kind == Some(CONTEXT_ENCRYPTION) && cipher != 0
        })
    } else {
        u32_at(SMB2_HEADER + 24).unwrap_or(0) & CAP_ENCRYPTION != 0
    };
    Ok(Negotiated {
        dialect,
        encryption,
    })
}

/// Fills `buffer` before `end`, however slowly the bytes drip.
fn read_until(stream: &mut TcpStream, buffer: &mut [u8], end: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => filled += length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Text of a credentials file for `mount.cifs` (its manual page, CREDENTIALS). A comma needs no
/// escape there, and `mount.cifs` takes the value up to the end of the line as it is.
///
/// # Errors
/// When user or password has a line break or NUL. The error shows neither.
pub fn credentials(user: &str, password: &str) -> Result<Zeroizing<String>> {
    let breaks = ['\n', '\r', '\0'];
    if user.contains(breaks) || password.contains(breaks) {
        return Err(Error::new(
            "credentials of the share: a line break or NUL in the user or the password",
        )
        .hint("mount.cifs reads one line for each: choose a password without"));
    }
    let mut text = Zeroizing::new(String::with_capacity(user.len() + password.len() + 24));
    for part in ["username=", user, "\npassword=", password, "\n"] {
        text.push_str(part);
    }
    Ok(text)
}

/// Reads how a share is mounted (`fs/smb/client/cifsfs.c`, `cifs_show_options`); `None` when the
/// mount is of another file system.
pub fn observe(info: &MountInfo) -> Option<CifsState> {
    if !matches!(info.fs_type.as_str(), "cifs" | "smb3") {
        return None;
    }
    let number = |key| info.super_option(key)?.parse().ok();
    let octal = |key| u32::from_str_radix(info.super_option(key)?, 8).ok();
    let seconds = |key| Some(Duration::from_secs(info.super_option(key)?.parse().ok()?));
    let text = |key| Some(info.super_option(key)?.trim_matches('"').to_owned());
    Some(CifsState {
        source: info.source.clone(),
        // The kernel says 3.02; one word for one thing.
        vers: text("vers")
            .map(|vers| Dialect::parse(&vers).map_or(vers, |known| known.to_string())),
        user: text("username"),
        address: text("addr").and_then(|address| address.parse().ok()),
        uid: number("uid"),
        gid: number("gid"),
        file_mode: octal("file_mode"),
        dir_mode: octal("dir_mode"),
        seal: info.has_flag("seal"),
        recovery: if info.has_flag("hard") {
            Recovery::Hard
        } else {
            Recovery::Soft
        },
        echo_interval: seconds("echo_interval"),
        context: text("context"),
        mfsymlinks: info.has_flag("mfsymlinks"),
        actimeo: seconds("actimeo"),
        nosuid: info.has_flag("nosuid"),
        nodev: info.has_flag("nodev"),
        read_only: info.has_flag("ro"),
        server_inodes: info.has_flag("serverino"),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn share() -> CifsMount {
        CifsMount {
            source: "//192.168.2.13/user1".to_owned(),
            address: IpAddr::from([192, 168, 2, 13]),
            port: SMB_PORT,
            user: "user1".to_owned(),
            dialect: Dialect::Smb3_1_1,
            seal: true,
            uid: 0,
            gid: 988,
            file_mode: 0o660,
            dir_mode: 0o2770,
            recovery: Recovery::Soft,
            echo_interval: Duration::from_secs(10),
            context: Some("system_u:object_r:container_file_t:s0".to_owned()),
            mfsymlinks: false,
            actimeo: None,
        }
    }

    fn local(port: u16) -> CifsMount {
        CifsMount {
            address: IpAddr::from([127, 0, 0, 1]),
            port,
            ..share()
        }
    }

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
            let failed = share.classify(&Failed {
                errno,
                words: lines.map(str::to_owned).into_iter().collect(),
                log_was_read: true,
            });
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

    #[test]
    fn the_unit_and_the_system_calls_say_the_same_options() {
        let options = share()
            .options_for_mount_cifs(Path::new("/etc/wasagent/100%.cred"))
            .unwrap();
        assert_eq!(
            options,
            "credentials=/etc/wasagent/100%%.cred,nosuid,nodev,ip=192.168.2.13,vers=3.1.1,uid=0,gid=988,\
             forceuid,forcegid,file_mode=0660,dir_mode=02770,soft,echo_interval=10,nosharesock,noserverino,seal,\
             context=system_u:object_r:container_file_t:s0"
        );
        let labelled = CifsMount {
            context: Some("u:r:t:s0:c1,c2".to_owned()),
            ..share()
        };
        let options = labelled.options_for_mount_cifs(Path::new("/c")).unwrap();
        assert!(options.ends_with("context=\"u:r:t:s0:c1,c2\""));
        assert!(share().options_for_mount_cifs(Path::new("/a,b")).is_err());
    }

    #[test]
    fn a_share_that_demands_encryption_is_known_by_its_flags() {
        // As Linux 6.12 shows it.
        let text = "Servers: \n1) ConnectionId: 0x6 Hostname: 192.168.2.13 \n\n\tShares: \n\
            \t0) IPC: \\\\192.168.2.13\\IPC$ Mounts: 1 DevInfo: 0x0 Attributes: 0x0\n\
            \tShare Capabilities: None\tShare Flags: 0x0\n\
            \t1) \\\\192.168.2.13\\user1 Mounts: 1 DevInfo: 0x20 Attributes: 0x1006f\n\
            \tPathComponentMax: 255 Status: 1 type: DISK Serial Number: 0x8ae4e0ff encrypted\n\
            \tShare Capabilities: None Aligned, Partition Aligned,\tShare Flags: 0x8000\n";
        assert!(demands_encryption(text, "//192.168.2.13/user1"));
        assert!(demands_encryption(text, "//192.168.2.13/USER1/below"));
        assert!(!demands_encryption(text, "//192.168.2.13/user2"));
        assert!(!demands_encryption(text, "//192.168.2.13/IPC$"));
    }

    #[test]
    fn what_was_mounted_is_what_is_observed() {
        // As Linux 6.12 shows it.
        let line = "60 22 0:50 / /mnt/share rw,nosuid,nodev,relatime shared:9 - cifs //192.168.2.13/user1 rw,context=system_u:object_r:container_file_t:s0,vers=3.1.1,cache=strict,upcall_target=app,username=user1,uid=0,forceuid,gid=988,forcegid,addr=192.168.2.13,file_mode=0660,dir_mode=02770,soft,nounix,seal,mapposix,rsize=4194304,wsize=4194304,bsize=1048576,retrans=1,echo_interval=10,nosharesock,actimeo=1,closetimeo=1";
        let mounts = mount::parse(line).unwrap();
        assert_eq!(observe(&mounts[0]), Some(share().expected()));
        let older = mount::parse(&line.replace("vers=3.1.1", "vers=3.02")).unwrap();
        assert_eq!(observe(&older[0]).unwrap().vers.as_deref(), Some("3.0.2"));
        let inodes = mount::parse(&line.replace("mapposix", "serverino,mapposix")).unwrap();
        assert_ne!(observe(&inodes[0]), Some(share().expected()));
        let other = mount::parse("22 1 252:1 / / rw - ext4 /dev/vda1 rw").unwrap();
        assert_eq!(observe(&other[0]), None);
    }

    #[test]
    fn what_the_kernel_would_cut_is_refused_before() {
        let refused = |share: &CifsMount, password: &str| share.check(password).unwrap_err();
        for failed in [
            refused(&share(), ""),
            refused(&share(), &"ä".repeat(128)),
            refused(&share(), &"x".repeat(129)),
            refused(
                &CifsMount {
                    source: "//host".to_owned(),
                    ..share()
                },
                "x",
            ),
            refused(
                &CifsMount {
                    echo_interval: Duration::from_secs(601),
                    ..share()
                },
                "x",
            ),
        ] {
            assert_eq!(failed.kind, CifsErrorKind::BadOption);
        }
        assert_eq!(share().check("a,b\"'% \\"), Ok(()));
        let secret = "hunter2".repeat(30);
        assert!(!format!("{:?}", refused(&share(), &secret)).contains("hunter2"));
    }

    #[test]
    fn credentials_are_taken_as_they_are_or_refused_unseen() {
        // As open_cred_file() of mount.cifs.c reads it: a value is all behind the first `=` of its line.
        let longest = "암".repeat(85);
        for password in [" a,b%=c", ",,", "=", "#;'\"`$\\", " \t ", &longest] {
            let text = credentials("user1", password).unwrap();
            let lines: Vec<&str> = text.split('\n').collect();
            assert_eq!(lines.len(), 3);
            assert_eq!(lines[0], "username=user1");
            assert_eq!(lines[1].split_once('='), Some(("password", password)));
            assert_eq!(share().check(password), Ok(()));
        }
        let error = credentials("user1", "hunter2\n").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    /// A server that reads one request and does `answer` with the connection.
    fn server(answer: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]);
            answer(stream);
        });
        port
    }

    fn answer_of(status: u32, dialect: u16, encryption: bool) -> Vec<u8> {
        let mut answer = b"\xfeSMB".to_vec();
        answer.resize(136, 0);
        answer[8..12].copy_from_slice(&status.to_le_bytes());
        answer[68..70].copy_from_slice(&dialect.to_le_bytes());
        if encryption {
            answer[70] = 1;
            answer[88..92].copy_from_slice(&CAP_ENCRYPTION.to_le_bytes());
            answer[124..128].copy_from_slice(&136u32.to_le_bytes());
            for word in [CONTEXT_ENCRYPTION, 4, 0, 0, 1, 2] {
                answer.extend_from_slice(&word.to_le_bytes());
            }
        }
        answer
    }

    #[test]
    fn answers_of_servers_are_told_apart() {
        use CifsErrorKind as K;
        let read = |answer: &[u8]| read_negotiate_answer(answer, Dialect::Smb3_1_1);
        let spoken = read(&answer_of(0, 0x0311, true)).unwrap();
        assert!(spoken.encryption);
        assert!(!read(&answer_of(0, 0x0311, false)).unwrap().encryption);
        assert_eq!(
            read(&answer_of(0xc000_00bb, 0, false)),
            Err(K::DialectRefused)
        );
        assert_eq!(read(&answer_of(0, 0x0302, false)), Err(K::DialectRefused));
        assert_eq!(read(b"\xffSMB"), Err(K::NotSmb));
        assert_eq!(read(b"\xfeSMB"), Err(K::DialectRefused));
        let older = read_negotiate_answer(&answer_of(0, 0x0300, true), Dialect::Smb3_0);
        assert!(older.unwrap().encryption);
    }

    #[test]
    fn a_server_that_is_not_there_is_told_from_one_that_is_strange() {
        use CifsErrorKind as K;
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let kind = |port| local(port).probe().unwrap_err().kind;
        assert_eq!(kind(free), K::Refused);
        assert_eq!(kind(server(drop)), K::Dropped);
        assert_eq!(
            kind(server(|mut stream| stream
                .write_all(b"HTTP/1.1 400 Bad Request")
                .unwrap())),
            K::NotSmb
        );
        let speaks = |encryption| {
            server(move |mut stream| {
                let answer = answer_of(0, 0x0311, encryption);
                let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
                stream.write_all(&length).unwrap();
                stream.write_all(&answer).unwrap();
            })
        };
        assert_eq!(kind(speaks(false)), K::SealUnsupported);
        assert!(local(speaks(true)).probe().unwrap().encryption);
    }

    #[test]
    fn a_silent_server_is_given_up_at_the_deadline() {
        let port = server(|stream| {
            std::thread::sleep(Duration::from_secs(5));
            drop(stream);
        });
        let deadline = Duration::from_millis(200);
        let mut stream = probe_port(IpAddr::from([127, 0, 0, 1]), port, deadline).unwrap();
        let start = Instant::now();
        let answer = negotiate(&mut stream, Dialect::Smb3_0, deadline);
        assert_eq!(answer, Err(CifsErrorKind::Silent));
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn the_request_is_framed_and_its_contexts_lie_where_it_says() {
        let request = negotiate_request(Dialect::Smb3_1_1, &[7; 48]);
        assert_eq!(request.len(), 4 + 170);
        assert_eq!(request[..4], [0, 0, 0, 170]);
        let message = &request[4..];
        assert_eq!(message[92..96], 104u32.to_le_bytes());
        assert_eq!(message[104..106], [1, 0]);
        assert_eq!(message[152..154], [2, 0]);
        assert_eq!(negotiate_request(Dialect::Smb3_0, &[7; 48]).len(), 4 + 102);
    }

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
