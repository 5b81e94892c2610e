//! A revision of the content on the disk. It is put together beside the shared directory, built and edited there, and
//! exchanged with the revision that is served (`switch`). `src/effect/content.rs` records each of these steps, and
//! the resource `src/resource/content.rs` decides which of them are needed.

pub mod beside;
pub mod build;
pub mod carriable;
pub mod edit;
pub mod manifest;
pub mod servers;
pub mod staging;
pub mod switch;
