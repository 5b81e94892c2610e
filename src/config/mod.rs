//! The tier file: what an operator writes, parsed and validated before anything is touched.
//!
//! [`load`] turns the file into a [`Tier`], whose types hold nothing invalid any more, or into
//! [`Faults`]: every fault of the file at once, each with its place. Apart from the tier file and
//! the files that hold its secrets, nothing on the machine is read.
//!
//! `document` parses the TOML, `keys` says which keys there are, `load` reads each section, `value` checks single values
//! (`address`, `place` and `reserved` know which belong to somebody else),
//! and `model` has the types that come out. `tier_keys` says of every key what it takes and means; `schema` makes a
//! JSON Schema of that, with `shape` for what each text looks like.

mod address;
mod document;
mod encoding;
mod fault;
pub mod keys;
mod load;
mod model;
mod outline;
mod place;
mod reserved;
mod schema;
#[cfg(test)]
pub(crate) mod schema_tests;
mod secret;
mod shape;
mod source;
pub mod template;
#[cfg(test)]
mod tests;
mod tier_keys;
mod value;

pub use fault::{Excerpt, Fault, Faults};
pub use load::load;
pub use model::{
    Container, Content, Database, Device, Dialect, Disk, Edit, Filesystem, Firewall, Health,
    HttpCheck, Image, Mode, Protocol, Publish, Role, Serve, Share, Storage, Tier, Was,
};
pub use outline::{NamedSecret, Outline, Secrets, Way, outline, value_span};
pub use reserved::PRIVILEGED_GROUPS;
pub use schema::schema;
pub use secret::Secret;
