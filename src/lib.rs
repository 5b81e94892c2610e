//! wasagent takes a role, `storage` or `was`, and makes this VM serve it.
//!
//! Data flows one way: the tier file is parsed by [`config`], a [`role`] turns it into a list of resources, the [`engine`]
//! observes them all, plans, converges in dependency order and verifies. Each [`resource`] knows one kind of thing, each
//! file of [`effect`] one kind of change with its undo, [`deploy`] the change of a revision, and [`host`] every call to the
//! machine. [`javascript`] edits the application's own files: a function of bytes.

pub mod cli;
pub mod config;
pub mod deploy;
pub mod effect;
pub mod engine;
pub mod error;
#[cfg(test)]
mod floors;
pub mod health;
pub mod host;
pub mod javascript;
pub mod resource;
pub mod role;

pub use error::{Error, Result};
