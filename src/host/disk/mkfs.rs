//! Makes a file system on a disk that was proved blank.

use std::path::Path;
use std::time::Duration;

use crate::error::{Doing, Error, Result};
use crate::host::process::Helper;
use crate::host::{Answer, Permit, until};

/// mkfs writes enough to a large volume to take a while on a slow disk.
const MKFS_DEADLINE: Duration = Duration::from_secs(300);

/// How long mkfs is tried again while the disk is busy, and the pause between two tries.
const BUSY: Duration = Duration::from_secs(3);

const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// A file system to make.
#[derive(Debug, Clone, Copy)]
pub struct NewFilesystem<'a> {
    pub device: &'a Path,
    /// `xfs` or `ext4`.
    pub fs_type: &'a str,
    pub label: &'a str,
    /// Chosen before, so that what an interrupted mkfs leaves can be told from anything else.
    pub uuid: &'a str,
    /// What an interrupted mkfs of the agent's left is known to be there, and is written over.
    pub over_unfinished: bool,
}

/// A random UUID (`random(4)`).
pub fn new_uuid() -> Result<String> {
    const RANDOM: &str = "/proc/sys/kernel/random/uuid";
    let text = std::fs::read_to_string(RANDOM).doing(format_args!("read {RANDOM}"))?;
    Ok(text.trim().to_owned())
}

/// Makes a file system by mkfs(8). mkfs itself looks for a file system once more, unless an
/// unfinished one is known to be there. It does not discard: what lies beyond the places that were
/// read is not thrown away unread.
///
/// # Errors
/// When mkfs fails. What it has written by then stays.
pub async fn format(_permit: &Permit, new: NewFilesystem<'_>) -> Result<()> {
    run(new, &[]).await
}

/// Has mkfs say whether it would make the file system: a disk may be too small. Nothing is written.
///
/// # Errors
/// When mkfs would refuse.
pub async fn rehearse(new: NewFilesystem<'_>) -> Result<()> {
    let dry = match new.fs_type {
        "xfs" => "-N",
        _ => "-n",
    };
    let refused = |error: Error| {
        error.or_hint("attach a disk that mkfs takes, or name another one in storage.disk.device")
    };
    run(new, &[dry]).await.map_err(refused)
}

async fn run(new: NewFilesystem<'_>, more: &[&str]) -> Result<()> {
    let (program, options, force, uuid) = match new.fs_type {
        "xfs" => {
            let uuid = ["-m".to_owned(), format!("uuid={}", new.uuid)];
            ("mkfs.xfs", ["-q", "-K"].as_slice(), "-f", uuid)
        }
        _ => {
            let uuid = ["-U".to_owned(), new.uuid.to_owned()];
            (
                "mkfs.ext4",
                ["-q", "-E", "nodiscard"].as_slice(),
                "-F",
                uuid,
            )
        }
    };
    let run = || {
        Helper::new(program)
            .changes()
            .args(options)
            .args(more)
            .args(new.over_unfinished.then_some(force))
            .args(["-L", new.label])
            .args(&uuid)
            .args([new.device])
            .deadline(MKFS_DEADLINE)
            .run()
    };
    let made = until(BUSY_PAUSE, BUSY, || async {
        match run().await {
            // A helper that another step starts at this moment has a copy of the descriptor by
            // which the disk was proved blank, until its exec.
            Err(error) if error.message.contains("resource busy") => Ok(Answer::NotYet(error)),
            other => other.map(Answer::Settled),
        }
    });
    match made.await? {
        Answer::Settled(_) => Ok(()),
        Answer::NotYet(busy) => Err(busy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_uuid_is_another() {
        let (one, other) = (new_uuid().unwrap(), new_uuid().unwrap());
        assert!(one.len() == 36 && one != other, "{one} {other}");
    }
}
