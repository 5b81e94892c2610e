//! One kind of thing each. Every file reads in the same order: the desired state, `observe` (what
//! is there now), `diff` (pure; both values of every field), `converge` (from one to the other).

mod account;
mod by_hand;
mod cifs_mount;
mod companion;
mod container;
mod content;
mod data_disk;
mod device_unit;
mod directory;
mod disk;
mod file;
mod firewall;
mod fstab;
mod image;
mod label;
mod mount;
mod mount_unit;
mod podman_secret;
mod samba_conflicts;
mod samba_include;
mod samba_user;
mod secret;
mod unit;

pub use account::Account;
pub use cifs_mount::CifsShare;
pub use container::{Container, ContainerSecret};
pub use content::Content;
pub use data_disk::DataDisk;
pub use directory::Directory;
pub use disk::Disk;
pub use file::{Check, File};
pub use firewall::Firewall;
pub use image::{Image, NewerImage};
pub use label::Label;
pub use mount::Mount;
pub use podman_secret::PodmanSecret;
pub use samba_conflicts::OurShare;
pub use samba_include::SambaInclude;
pub use samba_user::SambaUser;
pub use secret::SecretFile;
pub use unit::Unit;
