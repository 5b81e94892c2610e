//! wasagent takes a role, `storage` or `was`, and makes this VM serve it.
//!
//! Data flows one way. [`config`] parses the tier file, a [`role`] turns it into a list of resources, and the
//! [`engine`] observes them all, plans, converges in dependency order and verifies. Each [`resource`] knows one kind of
//! thing, each file of [`effect`] one kind of change and its undo, [`deploy`] the change to another revision. [`host`]
//! makes every call to the machine. [`javascript`] edits the application's own files as a pure function of bytes.

pub mod cli;
pub mod config;
pub mod deploy;
pub mod effect;
pub mod engine;
pub mod error;
pub mod health;
pub mod host;
pub mod javascript;
pub mod resource;
pub mod role;
#[cfg(test)]
mod tests;

pub use error::{Error, Result};
