//! `wasagent sees-share`, which the container's unit runs once podman has started it. A container keeps the mounts that
//! it was made with, and the share may have gone between the check before the start and that moment. The unit does not
//! look at the exit code, because it has to start the container where the agent was removed. So a container that sees
//! something else than the share, or of which that cannot be told, is ended here.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::Failure;
use crate::cli::exit::{self, Code};
use crate::error::{Error, Result};
use crate::host::mount::{self, MountInfo};
use crate::host::podman::conmon;
use crate::host::process_fd::Process;

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
    let processes = conmon::watched(main);
    let checked = all_see_the_share(options, &processes);
    if checked.is_err() {
        // systemd would ask the container to end, and wait. All are ended before an error is told.
        let ended: Vec<_> = processes.iter().map(conmon::end).collect();
        ended.into_iter().collect::<Result<()>>()?;
    }
    checked?;
    Ok(exit::DONE)
}

fn all_see_the_share(options: &Options, processes: &[Process]) -> Result<()> {
    let share = mount::mount_at(&options.mount)?;
    for process in processes {
        // A process that has just ended sees no mounts.
        let seen = mount::seen_by(process.number(), &options.workdir)?;
        if let Some(seen) = seen.filter(|seen| !is_the_share(share.as_ref(), seen)) {
            return Err(not_the_share(&options.mount, &seen));
        }
    }
    Ok(())
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
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// The unit does not look at the exit code.
    #[test]
    fn a_container_that_is_not_on_the_share_is_ended() {
        // It stands for conmon, and its child for the container.
        let mut main = Command::new("timeout")
            .args(["60", "sleep", "60"])
            .spawn()
            .unwrap();
        while conmon::watched(main.id()).is_empty() {
            std::thread::yield_now();
        }
        let options = Options {
            mount: "/".into(),
            workdir: "/".into(),
            main: Some(main.id()),
        };
        assert!(run(&options).is_err());
        // It ends as its child did; 124 where the time is over.
        assert_eq!(main.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

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
