//! The floor under an apply with nothing to change: a process that makes the same reads, each once, and nothing else. It sends
//! its messages to D-Bus all at once and waits for the last answer: `floor FILE`.
//!
//! FILE has a line for each read: a kind (`file`, `directory`, `link`, `status` or `message`), a blank, and a path or, for a message,
//! its bytes in hexadecimal. `cargo lab bench` makes it from a trace of the agent.

use std::env;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const BUS: &str = "/run/dbus/system_bus_socket";

fn main() -> Result<(), Box<dyn Error>> {
    let list = env::args_os().nth(1).ok_or("usage: floor FILE")?;
    let list = fs::read_to_string(list)?;
    let reads = || list.lines().filter_map(|line| line.split_once(' '));
    let messages: Vec<Vec<u8>> = reads()
        .filter(|(kind, _)| *kind == "message")
        .map(|(_, hex)| bytes(hex))
        .collect();
    let bus = match messages.is_empty() {
        true => None,
        false => Some(send(&messages)?),
    };
    for (kind, path) in reads() {
        // What was not there for the agent is not there for this one.
        match kind {
            "file" => drop(black_box(fs::read(path))),
            "directory" => drop(black_box(fs::read_dir(path).map(Iterator::count))),
            "link" => drop(black_box(fs::read_link(path))),
            "status" => drop(black_box(fs::symlink_metadata(path))),
            _ => {}
        }
    }
    if let Some(bus) = bus {
        wait(bus, messages.iter().filter(|one| wants_answer(one)).count())?;
    }
    Ok(())
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .filter_map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
        .collect()
}

/// Logs in as root and says all, without waiting for an answer (dbus-specification, "Authentication Protocol").
fn send(messages: &[Vec<u8>]) -> std::io::Result<UnixStream> {
    let mut bus = UnixStream::connect(BUS)?;
    let mut all = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n".to_vec();
    for message in messages {
        all.extend(message);
    }
    bus.write_all(&all)?;
    Ok(bus)
}

/// A method call that does not say NO_REPLY_EXPECTED.
fn wants_answer(message: &[u8]) -> bool {
    message.get(1) == Some(&1) && message.get(2).is_some_and(|flags| flags & 1 == 0)
}

/// Reads until so many answers are there.
fn wait(mut bus: UnixStream, answers: usize) -> Result<(), Box<dyn Error>> {
    let mut heard = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    let mut at = None;
    let mut left = answers;
    while left > 0 {
        let read = bus.read(&mut chunk)?;
        if read == 0 {
            return Err(
                format!("D-Bus closed the connection, {left} answers before the end").into(),
            );
        }
        heard.extend_from_slice(&chunk[..read]);
        // The answer to the login is a line.
        if at.is_none() {
            at = heard
                .windows(2)
                .position(|two| two == b"\r\n")
                .map(|end| end + 2);
        }
        while let Some(begin) = at
            && let Some(length) = length(&heard[begin..])
        {
            // 2: the answer, 3: an error (dbus-specification, "Message Format").
            left -= usize::from([2, 3].contains(&heard[begin + 1])).min(left);
            at = Some(begin + length);
        }
    }
    Ok(())
}

/// How long the message is that begins here, once all of it is.
fn length(bytes: &[u8]) -> Option<usize> {
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(four) as usize)
    };
    let (body, fields) = (number(4)?, number(12)?);
    let whole = 16 + fields.next_multiple_of(8) + body;
    (bytes.len() >= whole).then_some(whole)
}
