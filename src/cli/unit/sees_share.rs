//! `wasagent sees-share`, which the container's unit runs once podman has started it. A container keeps the mounts that
//! it was made with, and the share may have gone between the check before the start and that moment.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::Failure;
use crate::cli::exit::{self, Code};
use crate::error::{Error, Result};
use crate::host::mount::{self, MountInfo};
use crate::host::podman::conmon;

#[derive(Debug, Args)]
pub struct Options {
    /// Where the share is mounted on the VM
    #[arg(long)]
    mount: PathBuf,
    /// Where it appears in the container
    #[arg(long)]
    workdir: PathBuf,
    /// The main process of the container's unit, whose child the container's first one is; none where it has ended
    main: Option<u32>,
}

pub fn run(options: &Options) -> Result<Code, Failure> {
    let Some(main) = options.main else {
        return Ok(exit::DONE);
    };
    let share = mount::mount_at(&options.mount)?;
    for process in conmon::watched(main) {
        // A process that has just ended sees no mounts.
        let Some(seen) = mount::seen_by(process.number(), &options.workdir)? else {
            continue;
        };
        if !is_the_share(share.as_ref(), &seen) {
            // End it here: systemd would ask the container to end, and wait.
            conmon::end(&process)?;
            return Err(not_the_share(&options.mount, &seen).into());
        }
    }
    Ok(exit::DONE)
}

/// Whether a bind mount shows the files of the share that is mounted now.
fn is_the_share(share: Option<&MountInfo>, seen: &MountInfo) -> bool {
    share.is_some_and(|share| share.fs_type == "cifs" && share.major_minor == seen.major_minor)
}

fn not_the_share(mount_point: &Path, seen: &MountInfo) -> Error {
    Error::new(format!(
        "the container sees {} ({}), and not the share on {}, which went while the container was started",
        seen.source,
        seen.fs_type,
        mount_point.display()
    ))
    .hint("systemd starts it anew once the share is back")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_directory_or_an_older_mount_is_not_the_share() {
        let mounts = "41 22 0:45 / /mnt/share rw - cifs //192.168.2.13/user1 rw\n\
             22 1 252:1 / / rw - ext4 /dev/vda1 rw\n\
             60 50 0:45 / /usr/src/app rw - cifs //192.168.2.13/user1 rw\n\
             61 50 0:44 / /usr/src/app rw - cifs //192.168.2.13/user1 rw\n\
             62 50 252:1 /mnt/share /usr/src/app rw - ext4 /dev/vda1 rw\n";
        let mounts = mount::parse(mounts).unwrap();
        let [share, root, same, older, bare] = &mounts[..] else {
            panic!("{mounts:?}");
        };
        assert!(is_the_share(Some(share), same));
        for (share, seen) in [
            (Some(share), older),
            (Some(share), bare),
            (Some(root), bare),
            (None, bare),
        ] {
            assert!(!is_the_share(share, seen), "{share:?} {seen:?}");
        }
        let said = not_the_share(Path::new("/mnt/share"), bare).to_string();
        assert!(said.contains("/dev/vda1 (ext4)"), "{said}");
    }
}
