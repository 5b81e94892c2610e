//! A revision of the content on the disk: put together beside the shared directory, built and edited there, and
//! exchanged with the one that is served.

pub mod beside;
pub mod build;
pub mod edit;
pub mod manifest;
pub mod servers;
pub mod staging;
pub mod switch;
