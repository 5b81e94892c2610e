//! Disks: which disks there are, which one the tier file means, the proof that it is blank before
//! anything is written to it, and the file systems on disks.

mod blank;
mod blkid;
mod filesystem;
mod find;
pub mod grow;
mod inventory;
mod mkfs;
mod signature;

pub use blank::{Blankness, holds_only, prove_blank};
pub use filesystem::{FsInfo, probe_filesystem};
pub use find::{find, size_in_words, table};
pub use inventory::{BlockDevice, disks};
pub use mkfs::{NewFilesystem, format, new_uuid, rehearse};
