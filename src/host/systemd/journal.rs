//! Sends entries to systemd's journal in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL):
//! one datagram of fields per entry. On a machine without journald, such as a container or a chroot,
//! an entry is dropped without an error.

use std::io::{Error, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

const SOCKET: &str = "/run/systemd/journal/socket";

/// Longer values are cut. An entry has few fields, so it then always fits into a datagram, and the
/// protocol's way for larger entries (a sealed memory file) is not needed.
const LONGEST_VALUE: usize = 4096;

/// How long a hanging journald is waited for.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Sends one entry. A field may occur more than once.
pub fn send(fields: &[(&str, String)]) {
    match send_to(Path::new(SOCKET), fields) {
        Err(error)
            if !matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            tracing::debug!(%error, "the journal did not take an entry");
        }
        _ => {}
    }
}

fn send_to(path: &Path, fields: &[(&str, String)]) -> Result<usize, Error> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.send_to(&encode(fields), path)
}

fn encode(fields: &[(&str, String)]) -> Vec<u8> {
    let mut entry = Vec::new();
    for (name, value) in fields {
        let value = &value[..value.floor_char_boundary(LONGEST_VALUE)];
        entry.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            entry.push(b'=');
        }
        entry.extend_from_slice(value.as_bytes());
        entry.push(b'\n');
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_many_lines_cannot_pass_for_another_field() {
        let forged = "no\nPRIORITY=0".to_owned();
        let entry = encode(&[("MESSAGE", forged), ("PRIORITY", "6".to_owned())]);
        assert_eq!(
            entry,
            b"MESSAGE\n\x0d\0\0\0\0\0\0\0no\nPRIORITY=0\nPRIORITY=6\n"
        );
    }

    #[test]
    fn an_entry_arrives_as_one_datagram_however_long_its_values_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let fields: Vec<_> = (0..40).map(|_| ("FIELD", "가".repeat(9000))).collect();
        let sent = send_to(&path, &fields).unwrap();
        let mut entry = vec![0; 1 << 20];
        assert_eq!(journald.recv(&mut entry).unwrap(), sent);
        assert!(std::str::from_utf8(&entry[..sent]).is_ok());
    }

    #[test]
    fn a_machine_without_a_journal_is_told_by_the_kind_of_error() {
        let nowhere = Path::new("/no/such/socket");
        let kind = send_to(nowhere, &[]).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::NotFound);
    }
}
