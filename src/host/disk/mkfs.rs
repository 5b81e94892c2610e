//! Makes a file system on a disk that was proved blank.

use std::path::Path;
use std::time::Duration;

use crate::error::Result;
use crate::host::process::Helper;
use crate::host::{Answer, Permit, until};

/// mkfs writes enough to a large volume to take a while on a slow disk.
const MKFS_DEADLINE: Duration = Duration::from_secs(300);

/// How long mkfs is tried again while the disk is busy, and the pause between two tries.
const BUSY: Duration = Duration::from_secs(3);

const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Makes a file system by mkfs(8). mkfs itself looks for a file system once more, unless an
/// unfinished one is known to be there. It does not discard: what lies beyond the places that were
/// read is not thrown away unread.
pub async fn format(
    _permit: &Permit,
    device: &Path,
    fs_type: &str,
    label: &str,
    over_unfinished: bool,
) -> Result<()> {
    let (program, options, force) = match fs_type {
        "xfs" => ("mkfs.xfs", ["-q", "-K"].as_slice(), "-f"),
        _ => ("mkfs.ext4", ["-q", "-E", "nodiscard"].as_slice(), "-F"),
    };
    let run = || {
        Helper::new(program)
            .args(options)
            .args(over_unfinished.then_some(force))
            .args(["-L", label])
            .args([device])
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
