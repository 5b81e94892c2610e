//! Every effect on the machine: system calls, D-Bus, files and helper programs. Above this module
//! nothing opens a file, calls the bus or starts a process.

pub mod block;
pub mod cifs;
pub mod fs;
pub mod kmsg;
pub mod mount;
