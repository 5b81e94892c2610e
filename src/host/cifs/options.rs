//! The mount options of a share. One list serves both the system calls and `mount.cifs`, which a unit runs at boot,
//! so both mounts are the same. Values that the kernel would accept and truncate are refused here.

use std::path::Path;

use super::failure::{CifsError, CifsErrorKind};
use super::share::{CifsMount, Recovery, SMB_PORT};
use crate::error::{Error, Result};

/// Longest value that `fsconfig(2)` accepts, without its NUL (`fs/fsopen.c`: `strndup_user(…, 256)`).
const VALUE_MAX: usize = 255;

impl CifsMount {
    /// The same options for `Options=` of a systemd mount unit, which runs `mount.cifs`. The mount
    /// at boot and the mount by system calls look alike in mountinfo. User and password come from
    /// the file `credentials_file`, whose text [`credentials`](super::credentials()) makes.
    ///
    /// `%` is doubled because systemd expands specifiers in `Options=` (`systemd.unit(5)`). systemd
    /// removes no quotes there. `mount.cifs` splits at commas and has no escape for a comma.
    ///
    /// # Errors
    /// When a value has a comma or a line break, which cannot be written there.
    pub fn options_for_mount_cifs(&self, credentials_file: &Path) -> Result<String> {
        let mut options = vec![
            format!("credentials={}", credentials_file.display()),
            "nosuid".to_owned(),
            "nodev".to_owned(),
        ];
        for option in self.options() {
            options.push(match option {
                (flag, None) => flag.to_owned(),
                // SELinux categories contain commas. Only in this list does the kernel want quotes around them.
                ("context", Some(label)) if label.contains(',') => format!("context=\"{label}\""),
                (key, Some(value)) => format!("{key}={value}"),
            });
        }
        for option in &options {
            let comma = option.contains(',') && !option.starts_with("context=\"");
            if comma || option.contains(['\n', '\r', '\0']) {
                return Err(Error::new(format!(
                    "mount unit of {}: the option {option:?} cannot be written there",
                    self.source
                ))
                .hint("use a value without comma and line break"));
            }
        }
        Ok(options.join(",").replace('%', "%%"))
    }

    /// Every option except source, user and password, with the names that the kernel and `mount.cifs`
    /// share.
    pub(super) fn options(&self) -> Vec<(&'static str, Option<String>)> {
        let mut options = vec![
            ("ip", Some(self.address.to_string())),
            ("vers", Some(self.dialect.to_string())),
            ("uid", Some(self.uid.to_string())),
            ("gid", Some(self.gid.to_string())),
            // uid= and gid= imply these today. They are explicit because the owner of every file depends on them.
            ("forceuid", None),
            ("forcegid", None),
            // The kernel parses these as C numbers: only the leading zero makes them octal.
            ("file_mode", Some(format!("0{:03o}", self.file_mode))),
            ("dir_mode", Some(format!("0{:03o}", self.dir_mode))),
            match self.recovery {
                Recovery::Soft => ("soft", None),
                Recovery::Hard => ("hard", None),
            },
            (
                "echo_interval",
                Some(self.echo_interval.as_secs().to_string()),
            ),
            // Without this, a mount shares connection and superblock with any other mount of the share, even
            // a detached one still in use, and so gets its old options or its dead connection.
            ("nosharesock", None),
            // A new revision puts another directory in the share's place. With the server's inode
            // numbers, the root of an existing mount would then be "stale" (ESTALE of
            // `update_inode_info` in fs/smb/client/inode.c) until the share is mounted again.
            ("noserverino", None),
        ];
        if self.port != SMB_PORT {
            options.push(("port", Some(self.port.to_string())));
        }
        if self.seal {
            options.push(("seal", None));
        }
        if self.mfsymlinks {
            options.push(("mfsymlinks", None));
        }
        if let Some(actimeo) = self.actimeo {
            options.push(("actimeo", Some(actimeo.as_secs().to_string())));
        }
        if let Some(label) = self.label() {
            options.push(("context", Some(label.to_owned())));
        }
        options
    }

    /// The SELinux label without quotes: `mount(8)` wants them, `fsconfig(2)` does not.
    pub(super) fn label(&self) -> Option<&str> {
        self.context.as_deref().map(|label| label.trim_matches('"'))
    }

    /// Refuses what the kernel would refuse without saying why, or accept and truncate.
    pub(super) fn check(&self, password: &str) -> Result<(), CifsError> {
        let bad =
            |what: &str| Err(self.failure(CifsErrorKind::BadOption, None, vec![what.to_owned()]));
        let share = self
            .source
            .strip_prefix("//")
            .and_then(|rest| rest.split_once('/'));
        if !matches!(share, Some((server, share)) if !server.is_empty() && !share.is_empty()) {
            return bad("the source is not //server/share");
        }
        if self.user.is_empty() || password.is_empty() {
            return bad("user and password may not be empty");
        }
        // smb3_fs_context.password: NTLMSSP accepts 128 UTF-16 units.
        if password.len() > VALUE_MAX || password.encode_utf16().count() > 128 {
            return bad("a password has at most 255 bytes, and at most 128 characters");
        }
        if password.contains('\0') {
            return bad("a password has no NUL");
        }
        let long = |value: &str| value.len() > VALUE_MAX || value.contains('\0');
        if long(&self.source) || long(&self.user) || self.label().is_some_and(long) {
            return bad("a value has at most 255 bytes, and no NUL");
        }
        if !(1..=600).contains(&self.echo_interval.as_secs()) {
            return bad("echo_interval is 1 to 600 s");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::cifs::samples::share;

    #[test]
    fn the_unit_and_the_system_calls_say_the_same_options() {
        let options = share()
            .options_for_mount_cifs(Path::new("/etc/wasagent/100%.cred"))
            .unwrap();
        assert_eq!(
            options,
            "credentials=/etc/wasagent/100%%.cred,nosuid,nodev,ip=192.168.2.13,vers=3.1.1,uid=0,gid=988,\
             forceuid,forcegid,file_mode=0660,dir_mode=02770,soft,echo_interval=10,nosharesock,noserverino,seal,\
             context=system_u:object_r:container_file_t:s0"
        );
        let labelled = CifsMount {
            context: Some("u:r:t:s0:c1,c2".to_owned()),
            ..share()
        };
        let options = labelled.options_for_mount_cifs(Path::new("/c")).unwrap();
        assert!(options.ends_with("context=\"u:r:t:s0:c1,c2\""));
        assert!(share().options_for_mount_cifs(Path::new("/a,b")).is_err());
    }

    #[test]
    fn what_the_kernel_would_cut_is_refused_before() {
        let refused = |share: &CifsMount, password: &str| share.check(password).unwrap_err();
        for failed in [
            refused(&share(), ""),
            refused(&share(), &"ä".repeat(128)),
            refused(&share(), &"x".repeat(129)),
            refused(
                &CifsMount {
                    source: "//host".to_owned(),
                    ..share()
                },
                "x",
            ),
            refused(
                &CifsMount {
                    echo_interval: Duration::from_secs(601),
                    ..share()
                },
                "x",
            ),
        ] {
            assert_eq!(failed.kind, CifsErrorKind::BadOption);
        }
        assert_eq!(share().check("a,b\"'% \\"), Ok(()));
        let secret = "hunter2".repeat(30);
        assert!(!format!("{:?}", refused(&share(), &secret)).contains("hunter2"));
    }
}
