//! One kind of resource per file. Every file has the same order: the desired state, `observe` (what
//! is there now), `diff` (pure; both values of every field), `converge` (from one to the other).
//!
//! # How to add a resource
//!
//! Say it is `sysctl`, which sets a parameter of the kernel. These steps were tried with it. Beside three new files,
//! the resource touches six existing ones in eighteen lines (steps 1 to 4 and 6), and a key of the tier file five more
//! in 31 lines (step 5). The tests of both touch three, and the lab three.
//!
//! 1. **Its name.** Add a line to `kinds!` in `src/effect/address.rs`. Addresses such as `sysctl:net.core.somaxconn`
//!    are known everywhere from then on. The compiler names `src/cli/man/subject.rs`: which page of the manual says
//!    more about the kind.
//! 2. **What it needs of the machine.** Functions that read or change the machine are in [`crate::host`]. New ones get
//!    a file there, `src/host/sysctl.rs`, and a line in `src/host/mod.rs`. A function that changes something takes a
//!    [`Permit`](crate::host::Permit).
//! 3. **The resource.** Write `src/resource/sysctl.rs` and add its two lines to this file. `directory.rs` is a short
//!    example to start from. A struct holds the desired state. `observe` reads the machine by functions of
//!    [`crate::host`], and changes nothing. `diff` compares, and refuses with an error what must not be touched. An
//!    empty diff means that nothing is to be done. `obstacles` says beforehand what `converge` could not do: for a
//!    file, [`way::to_file`](crate::host::way::to_file). `converge` changes the machine by methods of
//!    [`Step`](crate::effect::Step) alone: each puts what was there before on record first. It changes only what
//!    differs: an effect that changes nothing would be recorded and undone as well. A file of the agent's own begins
//!    with the mark ([`crate::host::mark`]), and one without it is somebody else's. What the tier file no longer names
//!    stays until revert, unless a resource finds it, as `firewall.rs` does.
//! 4. **Its effects.** Files, directories, units, openings, mounts, accounts, images and secrets have theirs already:
//!    `step.write_text()`, `step.enable()`, `step.open()`. A change of another kind gets a file of its own in
//!    `src/effect/`: an enum that is [`Reversible`](crate::effect::Reversible), and a method of `Step` that does it.
//!    Add its two lines to `src/effect/mod.rs`. `src/effect/file_context.rs` is a short example. No two kinds may have
//!    a variant of the same name, and the names stay for ever: they are in the record of every guest. Add a line with
//!    each to `src/effect/testdata/records.jsonl`, and take the new snapshot of the test that reads it. `undo` looks at
//!    the machine first: a run may have been killed before or after the effect, and what somebody else has set since is
//!    kept. After the thing's name, `Undone::Restored` says how it is now; `Undone::Kept` is a whole sentence. Plan,
//!    roll-back, revert, history and the fail points of the tests need nothing more.
//! 5. **The tier file**, if the operator chooses something: the field in `src/config/model.rs`, its key in
//!    `tier_keys.rs` with what people are told of it, and how it is read in `load.rs`. A new kind of text gets a
//!    function in `value.rs`, which refuses, and one of the same name in `shape.rs`, which says the same to the schema;
//!    `schema_tests.rs` holds both against each other. A key may be left out, or tier files of today are refused. The
//!    test of several faults in `src/config/tests.rs` lists the keys of `[storage]`. Schema, man page and completions
//!    have the key from the table.
//! 6. **Its place in a role.** Add it to the graph in `src/role/storage.rs` or `src/role/was.rs`, after what it needs.
//!    Add its kind to `as_the_tier_file_says` in `src/health/checks.rs` if nothing is served without it.
//! 7. **Tests.** Table tests of `diff` in the resource's file. In `tests/lab`, a new key goes into `tier_file()` in
//!    `src/tier.rs`. The campaigns `kill`, `fault` and `revert` find the fail points of the effect by themselves. They
//!    compare what `src/snapshot.sh` lists: files in `/etc`, units, mounts, the firewall and more. A state elsewhere,
//!    such as in `/proc/sys`, needs a line there. A line in `what_drifts_is_mended` in `tests/container_guest.rs` shows
//!    that drift is seen.

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
mod rival;
mod samba_conflicts;
#[cfg(test)]
mod samba_harmless;
mod samba_include;
mod samba_judge;
mod samba_parameters;
mod samba_user;
mod secret;
mod unit;
mod way_in;

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
pub use samba_parameters::{Rule as SambaRule, TABLE as SAMBA_PARAMETERS};
pub use samba_user::SambaUser;
pub use secret::SecretFile;
pub use unit::Unit;
pub use way_in::WayIn;
