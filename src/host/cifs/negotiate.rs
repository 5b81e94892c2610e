//! The agent's probe of the server before the kernel mounts: a connection to its port, and one SMB2 negotiation
//! ([MS-SMB2] 2.2.3 and 2.2.4), each with a deadline shorter than the kernel's. The probe tells apart the ways
//! in which a server can be absent.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::dialect;
use super::failure::{CifsError, CifsErrorKind, PROBE_DEADLINE};
use super::share::CifsMount;
use crate::config::Dialect;

/// Length of the header of each SMB2 message.
const SMB2_HEADER: usize = 64;

/// Capability and context by which an SMB3 server says that it can encrypt.
const CAP_ENCRYPTION: u32 = 0x40;
const CONTEXT_ENCRYPTION: u16 = 2;

/// What an SMB server answered to a negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The dialect that the server chose.
    pub dialect: Dialect,
    /// Whether the server can encrypt with this dialect.
    pub encryption: bool,
}

impl CifsMount {
    /// Connects to the server and negotiates this dialect, each within [`PROBE_DEADLINE`]. It sends
    /// neither user nor password.
    ///
    /// # Errors
    /// A kind for each way in which a server can be absent, and `DialectRefused`, `SealUnsupported`.
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
}

/// Connects to a port of the server.
///
/// # Errors
/// `Refused`, `NoAnswer`, `Unreachable`, `Other`.
fn probe_port(address: IpAddr, port: u16, deadline: Duration) -> Result<TcpStream, CifsErrorKind> {
    TcpStream::connect_timeout(&SocketAddr::new(address, port), deadline).map_err(|error| {
        match error.kind() {
            ErrorKind::ConnectionRefused => CifsErrorKind::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => CifsErrorKind::NoAnswer,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                CifsErrorKind::Unreachable
            }
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => CifsErrorKind::Dropped,
            // An nftables or iptables REJECT with icmp-admin-prohibited can cause this.
            ErrorKind::PermissionDenied => CifsErrorKind::Refused,
            _ => CifsErrorKind::Other,
        }
    })
}

/// Asks an SMB server on a fresh connection whether it speaks this dialect (MS-SMB2 2.2.3, 2.2.4).
/// The kernel asks the same but waits 21 to 43 s for an answer; this function waits for `deadline`.
///
/// # Errors
/// `Silent`, `Dropped`, `NotSmb`, `DialectRefused`.
fn negotiate(
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
    // Direct TCP: a zero byte, then the length in three bytes (MS-SMB2 2.1).
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

fn negotiate_request(dialect: Dialect, random: &[u8; 48]) -> Vec<u8> {
    let mut message = Vec::with_capacity(192);
    message.extend_from_slice(b"\xfeSMB");
    message.extend_from_slice(&64u16.to_le_bytes()); // StructureSize
    message.extend_from_slice(&[0; 6]); // CreditCharge, Status
    message.extend_from_slice(&0u16.to_le_bytes()); // Command: NEGOTIATE
    message.extend_from_slice(&1u16.to_le_bytes()); // CreditRequest
    message.resize(SMB2_HEADER, 0);

    message.extend_from_slice(&36u16.to_le_bytes()); // StructureSize
    let offered = dialect::offered(dialect);
    let count = u16::try_from(offered.len()).unwrap_or(0);
    message.extend_from_slice(&count.to_le_bytes()); // DialectCount
    message.extend_from_slice(&1u16.to_le_bytes()); // SecurityMode: signing enabled
    message.extend_from_slice(&0u16.to_le_bytes());
    message.extend_from_slice(&CAP_ENCRYPTION.to_le_bytes());
    message.extend_from_slice(&random[..16]); // ClientGuid
    // Contexts begin at the next multiple of eight behind the dialects.
    let contexts = (SMB2_HEADER + 36 + 2 * offered.len()).next_multiple_of(8);
    let has_contexts = offered.iter().any(|(one, _)| *one == Dialect::V3_1_1);
    if has_contexts {
        message.extend_from_slice(&u32::try_from(contexts).unwrap_or(0).to_le_bytes());
        message.extend_from_slice(&2u16.to_le_bytes()); // NegotiateContextCount
        message.extend_from_slice(&0u16.to_le_bytes());
    } else {
        message.extend_from_slice(&[0; 8]); // ClientStartTime
    }
    for (_, number) in offered {
        message.extend_from_slice(&number.to_le_bytes());
    }
    if has_contexts {
        message.resize(contexts, 0);
        // PREAUTH_INTEGRITY_CAPABILITIES: one algorithm, SHA-512, 32 bytes of salt.
        for word in [1u16, 38, 0, 0, 1, 32, 1] {
            message.extend_from_slice(&word.to_le_bytes());
        }
        message.extend_from_slice(&random[16..]);
        message.resize(contexts + 48, 0);
        // ENCRYPTION_CAPABILITIES: AES-128-GCM, AES-256-GCM, AES-128-CCM, as the kernel's client offers.
        for word in [CONTEXT_ENCRYPTION, 8, 0, 0, 3, 2, 4, 1] {
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
    // STATUS_NOT_SUPPORTED, STATUS_INVALID_PARAMETER …: the server speaks none of the offered dialects.
    let chosen = u16_at(SMB2_HEADER + 4).filter(|_| u32_at(8) == Some(0));
    let offered = dialect::offered(dialect).iter();
    let Some((dialect, _)) = offered.copied().find(|(_, number)| Some(*number) == chosen) else {
        return Err(CifsErrorKind::DialectRefused);
    };
    let encryption = if dialect == Dialect::V3_1_1 {
        let count = u16_at(SMB2_HEADER + 6).unwrap_or(0);
        let mut at = u32_at(SMB2_HEADER + 60).unwrap_or(0) as usize;
        (0..count).any(|_| {
            let (kind, length) = (u16_at(at), u16_at(at + 2).unwrap_or(0));
            let cipher = u16_at(at + 10).unwrap_or(0);
            // Each context begins at a multiple of eight.
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

/// Fills `buffer`, and fails at `end` however slowly bytes still arrive.
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::host::cifs::samples::{local, server};

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
    fn every_dialect_is_offered_before_the_contexts() {
        for dialect in [Dialect::V3_1_1, Dialect::V3] {
            let message = &negotiate_request(dialect, &[7; 48])[4..];
            let u16_at = |at: usize| u16::from_le_bytes(message[at..at + 2].try_into().unwrap());
            let offered = dialect::offered(dialect);
            for (index, (_, number)) in offered.iter().enumerate() {
                assert_eq!(u16_at(SMB2_HEADER + 36 + 2 * index), *number);
            }
            let contexts = usize::from(u16_at(SMB2_HEADER + 28));
            assert!(contexts >= SMB2_HEADER + 36 + 2 * offered.len());
            assert_eq!((contexts % 8, u16_at(contexts)), (0, 1));
            assert_eq!(u16_at(contexts + 48), CONTEXT_ENCRYPTION);
        }
    }

    #[test]
    fn answers_of_servers_are_told_apart() {
        use CifsErrorKind as K;
        let read = |answer: &[u8]| read_negotiate_answer(answer, Dialect::V3_1_1);
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
        let older = read_negotiate_answer(&answer_of(0, 0x0300, true), Dialect::V3_0);
        assert!(older.unwrap().encryption);
        let any = |number| read_negotiate_answer(&answer_of(0, number, true), Dialect::V3);
        for (number, dialect) in dialect::offered(Dialect::V3).iter().map(|(d, n)| (*n, *d)) {
            assert_eq!(any(number).unwrap().dialect, dialect);
        }
        assert_eq!(any(0x0210), Err(K::DialectRefused));
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
        let answer = negotiate(&mut stream, Dialect::V3_0, deadline);
        assert_eq!(answer, Err(CifsErrorKind::Silent));
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn the_request_is_framed_and_its_contexts_lie_where_it_says() {
        let request = negotiate_request(Dialect::V3_1_1, &[7; 48]);
        assert_eq!(request.len(), 4 + 168);
        assert_eq!(request[..4], [0, 0, 0, 168]);
        let message = &request[4..];
        assert_eq!(message[92..96], 104u32.to_le_bytes());
        assert_eq!(message[104..106], [1, 0]);
        assert_eq!(message[152..154], [2, 0]);
        assert_eq!(negotiate_request(Dialect::V3_0, &[7; 48]).len(), 4 + 102);
    }
}
