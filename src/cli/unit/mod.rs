//! What the container's units run: nobody types these commands.

pub mod back_off;
pub mod keep_ports;
pub mod sees_share;
pub mod start_lock;
