//! Host names, without calling NSS: a static glibc binary that resolves a name loads the guest's modules and crashes.

use std::net::IpAddr;
use std::time::Duration;

use super::process::Helper;
use crate::error::{Error, Result};

/// The addresses of a host, the preferred one first, as the guest resolves its name. An address means itself.
///
/// # Errors
/// When the guest does not know the name, which may pass.
pub async fn addresses(host: &str, deadline: Duration) -> Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let hint = "is share.server right, and does this VM's name server know it?";
    let output = Helper::new("getent")
        .args(["ahosts", host])
        .deadline(deadline)
        .output()
        .await
        .map_err(|e| e.hint(hint))?;
    // getent(1) prints a line for each address and socket type.
    let text = String::from_utf8_lossy(&output.stdout);
    let addresses: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    if addresses.is_empty() {
        return Err(
            Error::new(format!("the host name {host} is not known here"))
                .hint(hint)
                .transient(),
        );
    }
    Ok(addresses)
}
