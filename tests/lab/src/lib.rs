//! The lab: real guests, on one network of their own, that the agent is proved on.
//!
//! It runs as root on Debian and needs no virtualisation hardware. A container guest (systemd-nspawn) boots in
//! seconds and shares the machine's kernel; a VM guest (User-Mode Linux or QEMU, see [`kind`]) has its own kernel, so
//! CIFS, a second disk, a reboot and a power cut are real there. Everything lives in a network namespace without a way out.

pub mod accelerator;
pub mod agent;
pub mod balancer;
pub mod bench;
pub mod cache;
pub mod cloud_image;
pub mod compiler;
pub mod confinement;
pub mod container;
pub mod database;
pub mod demo;
pub mod failpoint;
pub mod foreign;
pub mod guest;
pub mod guide;
pub mod host_packages;
pub mod image;
pub mod kind;
pub mod leftovers;
pub mod network;
pub mod node;
pub mod npm;
pub mod package;
pub mod process;
pub mod progress;
pub mod random;
pub mod registry;
pub mod release;
pub mod root;
pub mod sample_app;
pub mod selinux;
pub mod site;
pub mod smb;
pub mod smb_setting;
pub mod snapshot;
pub mod soak;
pub mod ssh;
pub mod test_command;
pub mod tier;
pub mod trace;
pub mod uml;
pub mod user_data;
pub mod vm;
pub mod wasagent;
pub mod way_out;
pub mod writer;

mod control_group;
mod lab;
mod machine;
mod qmp;
mod state;

pub use cloud_image::CloudImage;
pub use guest::{Disk, Guest, Spec};
pub use lab::Lab;
pub use process::Output;
pub use release::{Release, System};
