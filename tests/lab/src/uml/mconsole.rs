//! The management console of a User-Mode Linux kernel: one datagram a request, over a Unix socket (Linux:
//! arch/um/drivers/mconsole.h and Documentation/virt/uml/user_mode_linux_howto_v2.rst).

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const MAGIC: u32 = 0xcafe_babe;
const VERSION: u32 = 2;
/// The text of a request or of one datagram of an answer, at most (MCONSOLE_MAX_DATA).
const MAX_DATA: usize = 512;
/// Before the text: magic, version and length in a request; error, "more follows" and length in an answer.
const HEADER: usize = 12;
const ANSWER: Duration = Duration::from_secs(60);

/// The console of one running kernel.
#[derive(Debug)]
pub(crate) struct Mconsole {
    /// `UML_DIR/UMID/mconsole`; the kernel makes it when it starts, and anew when it reboots.
    kernel: PathBuf,
}

impl Mconsole {
    pub fn of(kernel: &Path) -> Mconsole {
        Mconsole {
            kernel: kernel.to_owned(),
        }
    }

    /// Gives the kernel a command, and gives back what it answered.
    pub fn execute(&self, command: &str) -> Result<String> {
        self.ask(command)
            .with_context(|| format!("the kernel's management console on `{command}`"))
    }

    fn ask(&self, command: &str) -> Result<String> {
        // The kernel answers to the address of whoever asks, so the asking socket needs one.
        let own = tempfile::tempdir()?;
        let socket = UnixDatagram::bind(own.path().join("answer"))?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.send_to(&request(command)?, &self.kernel)?;
        let mut said = String::new();
        loop {
            let mut datagram = [0; HEADER + MAX_DATA];
            let length = socket.recv(&mut datagram)?;
            let (failed, more, text) = answer(&datagram[..length])?;
            said.push_str(&text);
            if failed {
                bail!("{}", said.trim());
            }
            if !more {
                return Ok(said);
            }
        }
    }
}

fn request(command: &str) -> Result<Vec<u8>> {
    ensure!(command.len() < MAX_DATA, "the command is too long");
    let mut bytes = Vec::with_capacity(HEADER + MAX_DATA);
    for number in [MAGIC, VERSION, command.len() as u32] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes.extend(command.as_bytes());
    bytes.resize(HEADER + MAX_DATA, 0);
    Ok(bytes)
}

/// Whether the command failed, whether more of the answer follows, and this part of it.
fn answer(datagram: &[u8]) -> Result<(bool, bool, String)> {
    let number = |index: usize| {
        let bytes = datagram.get(4 * index..4 * index + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let (Some(error), Some(more), Some(length)) = (number(0), number(1), number(2)) else {
        bail!("an answer of {} bytes", datagram.len());
    };
    let text = &datagram[HEADER..];
    // The length counts the zero at the end.
    let text = &text[..(length as usize).min(text.len())];
    let text = String::from_utf8_lossy(text);
    Ok((
        error != 0,
        more != 0,
        text.trim_end_matches('\0').to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_a_refusal() {
        let mut datagram = Vec::new();
        for number in [0_u32, 1, 3] {
            datagram.extend(number.to_ne_bytes());
        }
        datagram.extend(b"OK\0");
        assert_eq!(answer(&datagram).unwrap(), (false, true, "OK".to_owned()));
        datagram[0] = 1;
        assert!(answer(&datagram).unwrap().0);
        assert!(answer(&datagram[..7]).is_err());
    }

    #[test]
    fn a_request_that_does_not_fit_is_refused() {
        assert_eq!(request("version").unwrap().len(), HEADER + MAX_DATA);
        assert!(request(&"x".repeat(MAX_DATA)).is_err());
    }
}
