//! Fail points, compiled in for tests only. An environment variable can kill the agent before,
//! within or after any effect, or make the effect fail. Another variable lists the points that a
//! run passes, so that a test can try each point and miss none.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;

use crate::error::{Doing, Error, Result};

/// `NAME=ACTION`: what happens at the point of this name.
const POINT: &str = "WASAGENT_FAILPOINT";
/// A file to which the name of every passed point is appended, one a line.
const LOG: &str = "WASAGENT_FAILPOINTS_LOG";

/// Where a point lies in its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Before,
    During,
    After,
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
        })
    }
}

/// Passes a point of `effect`, or does there what the environment says.
pub fn pass(effect: &str, when: When) -> Result<()> {
    let name = format!("{effect}|{when}");
    if let Some(log) = std::env::var_os(LOG) {
        // In one write: resources run at the same time, and their lines must not mix.
        let _ = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
    }
    let wanted = std::env::var(POINT).unwrap_or_default();
    match wanted.rsplit_once('=') {
        Some((point, action)) if point == name => act(effect, action),
        _ => Ok(()),
    }
}

fn act(effect: &str, action: &str) -> Result<()> {
    let errno = match action {
        "ENOSPC" => libc::ENOSPC,
        "EIO" => libc::EIO,
        "EPERM" => libc::EPERM,
        "dbus" => return Err(no_reply(effect)),
        // SIGKILL runs no destructors and flushes no buffers.
        _ => {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            unreachable!("SIGKILL cannot be survived")
        }
    };
    let fault: std::io::Result<()> = Err(std::io::Error::from_raw_os_error(errno));
    let doing = effect.split_once('|').map_or(effect, |(_, doing)| doing);
    fault.doing(doing)
}

/// The error that zbus returns when a service does not answer in time.
fn no_reply(effect: &str) -> Error {
    let doing = effect.split_once('|').map_or(effect, |(_, doing)| doing);
    super::bus::unavailable(
        doing,
        "Did not receive a reply (org.freedesktop.DBus.Error.NoReply)",
    )
}
