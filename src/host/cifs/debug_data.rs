//! The kernel's debug data on a mounted share: the only place that shows whether the server demands encryption.
//! If the server does, the kernel encrypts silently, even when told not to.

use super::share::CifsMount;

/// The kernel client's state of its servers and shares (`fs/smb/client/cifs_debug.c`).
const DEBUG_DATA: &str = "/proc/fs/cifs/DebugData";

/// Share flag of a tree connect ([MS-SMB2] 2.2.10, SMB2_SHAREFLAG_ENCRYPT_DATA).
const SHAREFLAG_ENCRYPT_DATA: u32 = 0x8000;

impl CifsMount {
    /// If a share demands encryption and the client supports it, the kernel encrypts without being told
    /// (`fs/smb/client/smb2pdu.c`, `smb3_encryption_required`). Only its debug data shows this.
    pub(super) fn is_encrypted_all_the_same(&self) -> bool {
        let text = std::fs::read(DEBUG_DATA).unwrap_or_default();
        demands_encryption(&String::from_utf8_lossy(&text), &self.source)
    }
}

/// Whether the kernel's debug data lists a connection to `source` (`//server/share`) on which the
/// server demands encryption.
fn demands_encryption(debug_data: &str, source: &str) -> bool {
    let parts: Vec<&str> = source.trim_start_matches('/').split('/').take(2).collect();
    let unc = format!("\\\\{}", parts.join("\\"));
    let mut is_ours = false;
    for line in debug_data.lines() {
        // A share begins with `1) \\server\share Mounts: …`; its flags are on one of the lines below.
        if let Some((_, name)) = line.trim().split_once(") ") {
            let name = name.strip_prefix("IPC: ").unwrap_or(name);
            is_ours = name
                .split(" Mounts:")
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case(&unc));
        }
        let flags = line
            .split("Share Flags: 0x")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        if is_ours && flags.is_some_and(|flags| flags & SHAREFLAG_ENCRYPT_DATA != 0) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_demands_encryption_is_known_by_its_flags() {
        // As Linux 6.12 shows it.
        let text = "Servers: \n1) ConnectionId: 0x6 Hostname: 192.168.2.13 \n\n\tShares: \n\
            \t0) IPC: \\\\192.168.2.13\\IPC$ Mounts: 1 DevInfo: 0x0 Attributes: 0x0\n\
            \tShare Capabilities: None\tShare Flags: 0x0\n\
            \t1) \\\\192.168.2.13\\user1 Mounts: 1 DevInfo: 0x20 Attributes: 0x1006f\n\
            \tPathComponentMax: 255 Status: 1 type: DISK Serial Number: 0x8ae4e0ff encrypted\n\
            \tShare Capabilities: None Aligned, Partition Aligned,\tShare Flags: 0x8000\n";
        assert!(demands_encryption(text, "//192.168.2.13/user1"));
        assert!(demands_encryption(text, "//192.168.2.13/USER1/below"));
        assert!(!demands_encryption(text, "//192.168.2.13/user2"));
        assert!(!demands_encryption(text, "//192.168.2.13/IPC$"));
    }
}
