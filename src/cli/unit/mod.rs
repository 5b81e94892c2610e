//! What the container's units, and the agent itself, run: nobody types these commands.

pub mod back_off;
pub mod keep_ports;
mod own_name;
pub mod probe_share;
pub mod sees_share;
pub mod start_lock;
