//! Mounts the share through the kernel's mount API: `fsopen("cifs")`, then one `fsconfig` call per
//! option, so that no character of a password needs escaping.
//!
//! The kernel waits up to 43 s for a server that is not there and then says little. So the agent
//! probes the server first, with deadlines: a connection, and one SMB2 negotiation. If the kernel
//! then refuses the mount, its errno and its log together give the cause.

mod credentials;
mod debug_data;
mod dialect;
mod failure;
mod mount;
mod negotiate;
mod options;
mod refusal;
#[cfg(test)]
mod samples;
mod share;
mod state;

pub use credentials::credentials;
pub use dialect::{from_kernel as dialect_from_kernel, serves as dialect_serves};
pub use failure::{CifsError, CifsErrorKind, PROBE_DEADLINE};
pub use mount::Detached;
pub use negotiate::Negotiated;
pub use share::{CifsMount, Recovery, SMB_PORT};
pub use state::{CifsState, observe};
