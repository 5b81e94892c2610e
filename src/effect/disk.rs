//! Data disks. A revert keeps the data that was written under the role: no undo makes a disk blank again.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Halt, Past, Reversible, Undo, Undone};
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDisk {
    Format {
        device: PathBuf,
        serial: Option<String>,
        size_bytes: u64,
        filesystem: String,
        /// The new file system's. Missing in older records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uuid: Option<String>,
    },
    /// Grows a mounted file system to the size of its disk.
    Grow {
        mount_point: PathBuf,
        filesystem: String,
        from_bytes: u64,
        to_bytes: u64,
    },
}

impl fmt::Display for OnDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format { device, .. } => write!(f, "format {}", device.display()),
            Self::Grow { mount_point, .. } => write!(f, "grow {}", mount_point.display()),
        }
    }
}

impl Reversible for OnDisk {
    async fn undo(past: &[Past<'_, Self>], _undo: Undo<'_>) -> Result<Undone, Halt> {
        let Some(first) = past.first() else {
            return Ok(Undone::Already);
        };
        Ok(Undone::Kept(match first.effect {
            Self::Format { device, .. } => {
                let device = device.display();
                format!("{device} stays formatted, with the files on it")
            }
            Self::Grow {
                mount_point,
                filesystem,
                ..
            } => format!(
                "the {filesystem} of {} keeps its new size: it cannot shrink while it holds files",
                mount_point.display()
            ),
        }))
    }
}
