//! Passwords, which are wiped from memory when dropped and never printed, and the files that hold
//! them, which nobody else may read.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::value::{Wrong, is_credential};

/// A password. `Debug` and `Display` print `(secret)`; it is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes ownership of a password; the caller keeps no copy.
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(password)
    }

    /// The password itself. It may only go to a helper's standard input, a kernel option or a file
    /// of mode 0600, never to anything that is printed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::MASK)
    }
}

impl Secret {
    /// Replaces a secret in every output.
    pub const MASK: &'static str = "(secret)";
}

/// No password is longer. A larger file must be the wrong file.
const LARGEST_FILE: u64 = 4096;

/// Whose password it is: each has its own limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Share,
    Database,
    Application,
}

/// A password as it stands in the tier file.
pub(super) fn inline(password: &str, tier_file: &Metadata, owner: Owner) -> Result<Secret, Wrong> {
    private(tier_file, 0o077).map_err(|why| {
        Wrong::new(format!("a password in a tier file that {why}"))
            .expected("a tier file of root's with mode 0600 or 0400, or `password_file`")
            .hint("chmod 0600 the tier file, or move the password into a file of its own")
    })?;
    check(password.to_owned(), owner)
}

/// The password in a file that nobody else may read or write.
pub(super) fn from_file(path: &Path, owner: Owner) -> Result<Secret, Wrong> {
    read(path, 0o077, owner)
}

/// The password in a systemd credential (`systemd.exec(5)`, `LoadCredential=`), which is a file in
/// the directory that `$CREDENTIALS_DIRECTORY` names.
pub(super) fn from_credential(
    name: &str,
    directory: Option<OsString>,
    owner: Owner,
) -> Result<Secret, Wrong> {
    credential_name(name)?;
    let Some(directory) = directory else {
        return Err(
            Wrong::new("there are no credentials: $CREDENTIALS_DIRECTORY is not set")
                .hint("run the agent from a unit with LoadCredential=, or use `password_file`"),
        );
    };
    // systemd lets the unit's user read the file through an ACL, whose mask shows as the group's
    // read bit. The directory around it is closed to others.
    read(&PathBuf::from(directory).join(name), 0o037, owner)
}

/// Whether a credential may have this name.
pub(super) fn credential_name(name: &str) -> Result<(), Wrong> {
    if is_credential(name) {
        return Ok(());
    }
    Err(Wrong::new("no name of a credential")
        .expected("the name of a file in $CREDENTIALS_DIRECTORY: letters, digits, _ . - and @"))
}

fn read(path: &Path, forbidden: u32, owner: Owner) -> Result<Secret, Wrong> {
    let name = path.display();
    let cannot = |error: io::Error| {
        unreadable(path, &path.display().to_string(), &error)
            .expected("a file that holds the password and nothing else")
    };
    let (file, metadata) = open(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(Wrong::new(format!(
            "{name} is not a regular file, but {}",
            kind_in_words(&metadata)
        ))
        .expected("a file that holds the password and nothing else"));
    }
    private(&metadata, forbidden).map_err(|why| {
        Wrong::new(format!("{name} {why}"))
            .expected("a file of root's with mode 0600 or 0400")
            .hint(format!("chown root {name} && chmod 0600 {name}"))
    })?;
    if metadata.len() > LARGEST_FILE {
        return Err(Wrong::new(format!("{name} is too large for a password"))
            .expected(format!("at most {LARGEST_FILE} bytes")));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_FILE as usize));
    file.take(LARGEST_FILE)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Wrong::new(format!("{name} is not UTF-8")).expected("a password in UTF-8"))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    check(line.to_owned(), owner).map_err(|wrong| Wrong {
        what: format!("{} (in {name})", wrong.what),
        ..wrong
    })
}

/// Opens a file and reads its metadata. Opening a FIFO does not block.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// The system's words for an error, without the number that Rust adds.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// What is wrong with a path that cannot be opened or read, with the way out. `name` is what the
/// operator calls it.
pub(super) fn unreadable(path: &Path, name: &str, error: &io::Error) -> Wrong {
    let wrong = Wrong::new(format!("cannot read {name}: {}", words(error)));
    let link = std::fs::read_link(path);
    match error.kind() {
        io::ErrorKind::PermissionDenied if !nix::unistd::geteuid().is_root() => {
            wrong.hint("this user may not read it: run the same as root, by sudo")
        }
        io::ErrorKind::NotFound if let Ok(target) = link => Wrong::new(format!(
            "cannot read {name}: it is a symbolic link to {}, which is not there",
            target.display()
        )),
        io::ErrorKind::NotADirectory => {
            let mut above = path.ancestors().skip(1);
            match above.find(|above| above.exists()) {
                Some(file) => wrong.hint(format!("{} is no directory", file.display())),
                None => wrong,
            }
        }
        _ if error.raw_os_error() == Some(libc::ENXIO) => {
            Wrong::new(format!("{name} is not a regular file, but a socket"))
        }
        _ => wrong,
    }
}

/// What stands where a regular file should be.
pub(super) fn kind_in_words(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else {
        "a device"
    }
}

/// Checks that a file belongs to root, or to the agent's own user if the agent is tried without
/// root, and has none of the `forbidden` permissions. The error continues after the file's name.
fn private(metadata: &Metadata, forbidden: u32) -> Result<(), String> {
    let owner = metadata.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(format!("belongs to the user with id {owner}"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(format!("others may read or write (mode {mode:04o})"));
    }
    Ok(())
}

/// Accepts a password that every program that gets it can take.
fn check(password: String, owner: Owner) -> Result<Secret, Wrong> {
    let secret = Secret(password);
    let password = secret.expose();
    if password.is_empty() {
        return Err(Wrong::new("the password is empty"));
    }
    if password.starts_with('\u{feff}') {
        return Err(Wrong::new("the password begins with a byte order mark")
            .hint("save the file as UTF-8 without a byte order mark"));
    }
    if password.contains(['\0', '\n', '\r']) {
        return Err(Wrong::new("the password holds a NUL or the end of a line")
            .expected("a password on one line"));
    }
    // A share's password: smbpasswd and the kernel's cifs take 128 UTF-16 units, an option of
    // fsconfig(2) takes 255 bytes.
    let too_long = match owner {
        Owner::Share => password.encode_utf16().count() > 128 || password.len() > 255,
        Owner::Database => password.len() > 1024,
        // Far below podman's limit for a secret (512 KB) and Linux's limit for a variable.
        Owner::Application => password.len() as u64 > LARGEST_FILE,
    };
    if too_long {
        return Err(
            Wrong::new("the password is too long").expected(match owner {
                Owner::Share => "at most 128 UTF-16 units and 255 bytes",
                Owner::Database => "at most 1024 bytes",
                Owner::Application => "at most 4096 bytes",
            }),
        );
    }
    Ok(secret)
}
