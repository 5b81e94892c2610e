//! How a share is mounted, read from mountinfo. The share itself is never accessed, since a dead share hangs
//! whoever touches it.

use std::net::IpAddr;

use super::dialect;
use super::share::Recovery;
use crate::host::mount::MountInfo;

/// How a share is mounted, as mountinfo shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifsState {
    /// As mounted: `//server/share`.
    pub source: String,
    /// Such as `3.1.1`; [`dialect::from_kernel`] reads it.
    pub vers: Option<String>,
    pub user: Option<String>,
    pub address: Option<IpAddr>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub file_mode: Option<u32>,
    pub dir_mode: Option<u32>,
    pub seal: bool,
    pub recovery: Recovery,
    /// Without quotes.
    pub context: Option<String>,
    pub read_only: bool,
    /// Whether files have the server's inode numbers.
    pub server_inodes: bool,
}

/// Reads how a share is mounted (`fs/smb/client/cifsfs.c`, `cifs_show_options`); `None` for a mount
/// of another file system.
pub fn observe(info: &MountInfo) -> Option<CifsState> {
    if !matches!(info.fs_type.as_str(), "cifs" | "smb3") {
        return None;
    }
    let number = |key| info.super_option(key)?.parse().ok();
    let octal = |key| u32::from_str_radix(info.super_option(key)?, 8).ok();
    let text = |key| Some(info.super_option(key)?.trim_matches('"').to_owned());
    Some(CifsState {
        source: info.source.clone(),
        // The kernel writes 3.02; this normalizes it to the tier file's notation.
        vers: text("vers")
            .map(|vers| dialect::from_kernel(&vers).map_or(vers, |known| known.to_string())),
        user: text("username"),
        address: text("addr").and_then(|address| address.parse().ok()),
        uid: number("uid"),
        gid: number("gid"),
        file_mode: octal("file_mode"),
        dir_mode: octal("dir_mode"),
        seal: info.has_flag("seal"),
        recovery: if info.has_flag("hard") {
            Recovery::Hard
        } else {
            Recovery::Soft
        },
        context: text("context"),
        read_only: info.has_flag("ro"),
        server_inodes: info.has_flag("serverino"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mount;

    #[test]
    fn what_was_mounted_is_what_is_observed() {
        // As Linux 6.12 shows it.
        let line = "60 22 0:50 / /mnt/share rw,nosuid,nodev,relatime shared:9 - cifs //192.168.2.13/user1 rw,context=system_u:object_r:container_file_t:s0,vers=3.1.1,cache=strict,upcall_target=app,username=user1,uid=0,forceuid,gid=988,forcegid,addr=192.168.2.13,file_mode=0660,dir_mode=02770,soft,nounix,seal,mapposix,rsize=4194304,wsize=4194304,bsize=1048576,retrans=1,echo_interval=10,nosharesock,actimeo=1,closetimeo=1";
        let mounts = mount::parse(line).unwrap();
        let expected = CifsState {
            source: "//192.168.2.13/user1".to_owned(),
            vers: Some("3.1.1".to_owned()),
            user: Some("user1".to_owned()),
            address: Some(IpAddr::from([192, 168, 2, 13])),
            uid: Some(0),
            gid: Some(988),
            file_mode: Some(0o660),
            dir_mode: Some(0o2770),
            seal: true,
            recovery: Recovery::Soft,
            context: Some("system_u:object_r:container_file_t:s0".to_owned()),
            read_only: false,
            server_inodes: false,
        };
        assert_eq!(observe(&mounts[0]).as_ref(), Some(&expected));
        let older = mount::parse(&line.replace("vers=3.1.1", "vers=3.02")).unwrap();
        assert_eq!(observe(&older[0]).unwrap().vers.as_deref(), Some("3.0.2"));
        let inodes = mount::parse(&line.replace("mapposix", "serverino,mapposix")).unwrap();
        assert!(observe(&inodes[0]).unwrap().server_inodes);
        let other = mount::parse("22 1 252:1 / / rw - ext4 /dev/vda1 rw").unwrap();
        assert_eq!(observe(&other[0]), None);
    }
}
