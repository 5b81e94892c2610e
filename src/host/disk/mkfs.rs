//! Makes a file system on a disk that was proved blank.

use std::path::Path;
use std::time::Duration;

use crate::error::Result;
use crate::host::process::Helper;
use crate::host::{Answer, Permit, until};

/// What is written of a large volume takes a while on a slow disk.
const MKFS_DEADLINE: Duration = Duration::from_secs(300);

/// How long, and how far apart, mkfs is tried while the disk is busy.
const BUSY: Duration = Duration::from_secs(3);

const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Makes a file system by mkfs(8), which looks once more for one of its own unless what is there is
/// known to be an unfinished one. It does not discard: what is beyond the places that were read is
/// not given up unread.
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
            // A helper that another step starts at this moment has a copy of the descriptor by which
            // the disk was proved blank, until it is executed.
            Err(error) if error.message.contains("resource busy") => Ok(Answer::NotYet(error)),
            other => other.map(Answer::Settled),
        }
    });
    match made.await? {
        Answer::Settled(_) => Ok(()),
        Answer::NotYet(busy) => Err(busy),
    }
}
