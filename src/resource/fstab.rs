//! An entry of fstab(5) for a mount point of the agent's is refused, or removed if its owner asks for that: a mount
//! must have only one master.

use std::path::Path;

use crate::engine::Step;
use crate::error::{Error, Result};
use crate::host::blocking;
use crate::host::fs::read_regular;
use crate::host::fstab::{Entry, FSTAB, entries, without};

const MAX_SIZE: u64 = 1 << 20;

/// Removes the entries for `mount_point`, and systemd's units for them.
pub async fn take_out(step: &Step, mount_point: &Path) -> Result<()> {
    let read = blocking(|| read_regular(Path::new(FSTAB), MAX_SIZE));
    let Some(file) = read.await? else {
        return Ok(());
    };
    let ours = entries(&String::from_utf8_lossy(&file.contents), mount_point);
    let rest = without(&file.contents, &ours);
    step.write_file(Path::new(FSTAB), rest, file.meta).await?;
    step.reload_units().await
}

pub fn refusal(entry: &Entry, mount_point: &Path) -> Error {
    Error::new(format!(
        "{FSTAB} line {} mounts something on {}",
        entry.line,
        mount_point.display()
    ))
}
