//! What the lab set up on the machine, written down so that it can be undone: by the lab when it ends, by its signal
//! handler, or by the next lab after a crash.
//!
//! Each lab owns `/run/wasagent-lab/PID-N/` with a file `undo`, one line an action, written before the action.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{command, run_with};
use crate::progress::say;

const RUN: &str = "/run/wasagent-lab";

/// The run directory of one lab, and the list in it, locked for as long as the lab lives.
#[derive(Debug)]
pub struct Undo {
    name: String,
    directory: PathBuf,
    list: Mutex<Flock<File>>,
}

impl Undo {
    /// A run directory for one more lab of this process.
    pub fn create() -> Result<Undo> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let id = format!(
            "{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = Path::new(RUN).join(&id);
        let _alone = alone()?;
        fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let list = locked(&directory, FlockArg::LockExclusive)?;
        Ok(Undo {
            name: format!("wasagent-lab-{id}"),
            directory,
            list: Mutex::new(list),
        })
    }

    /// The name under which this lab's namespace and control group go.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes down, before it is done, what will have to be undone.
    pub fn note(&self, kind: &str, what: &str) -> Result<()> {
        let mut list = self
            .list
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        writeln!(**list, "{kind} {what}")
            .with_context(|| format!("write {}/undo", self.directory.display()))
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        undo(&self.directory);
    }
}

/// Keeps a lab that clears up from taking one that is just being made for dead.
fn alone() -> Result<Flock<File>> {
    fs::create_dir_all(RUN).with_context(|| format!("create {RUN}"))?;
    locked(Path::new(RUN), FlockArg::LockExclusive)
}

fn locked(directory: &Path, how: FlockArg) -> Result<Flock<File>> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("undo"))?;
    Flock::lock(file, how)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("lock {}/undo", directory.display()))
}

/// Undoes what dead labs left behind. A process number may be somebody else's by now, so the lock tells who is dead.
pub fn sweep() -> Result<()> {
    let _alone = alone()?;
    for directory in runs() {
        if locked(&directory, FlockArg::LockExclusiveNonblock).is_ok() {
            say(format!(
                "undoing what a dead lab left: {}",
                directory.display()
            ));
            undo(&directory);
        }
    }
    Ok(())
}

static ENDING: AtomicBool = AtomicBool::new(false);

/// Whether this process has been told to end: nothing new is to be begun.
pub fn is_ending() -> bool {
    ENDING.load(Ordering::Relaxed)
}

/// Undoes everything of this process, for its signal handler.
pub fn undo_own() {
    ENDING.store(true, Ordering::Relaxed);
    let own = std::process::id();
    for directory in runs()
        .into_iter()
        .filter(|directory| owner(directory) == Some(own))
    {
        undo(&directory);
    }
}

fn runs() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(RUN) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect()
}

fn owner(directory: &Path) -> Option<u32> {
    directory
        .file_name()?
        .to_str()?
        .split('-')
        .next()?
        .parse()
        .ok()
}

/// Undoes one lab, last action first. Everything here may already be undone, so failures mean nothing.
fn undo(directory: &Path) {
    let list = fs::read_to_string(directory.join("undo")).unwrap_or_default();
    let actions: Vec<(&str, &str)> = list
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    // First nobody must use anything any more.
    for (kind, what) in &actions {
        match *kind {
            "cgroup" => kill_group(Path::new(what)),
            "netns" => kill_inside(what),
            _ => {}
        }
    }
    for (kind, what) in actions.iter().rev() {
        match *kind {
            "mount" => unmount(Path::new(what)),
            "loop" => {
                if let Some((device, file)) = what.split_once(' ') {
                    detach_loop(device, Path::new(file));
                }
            }
            "netns" => quietly(&["ip", "netns", "delete", what]),
            "cgroup" => remove_groups(Path::new(what)),
            "directory" => drop(fs::remove_dir_all(what)),
            _ => {}
        }
    }
    let _ = fs::remove_dir_all(directory);
}

fn quietly(arguments: &[&str]) {
    let _ = run_with(command(arguments), b"", Duration::from_secs(10));
}

/// Detaches a loop device from this file, if it is attached to it: by now another lab may have the device for a file of its
/// own (Linux: Documentation/ABI/testing/sysfs-block-loop, backing_file).
pub(crate) fn detach_loop(device: &str, file: &Path) {
    let name = device.trim_start_matches("/dev/");
    let attached = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
    let attached = attached.unwrap_or_default();
    let attached = attached.trim_end_matches('\n');
    // The kernel says so where the file is gone.
    let attached = attached.strip_suffix(" (deleted)").unwrap_or(attached);
    if Path::new(attached) == file {
        quietly(&["losetup", "--detach", device]);
    }
}

/// Kills all in a control group: `cgroup.kill` (Linux 5.14) does it at once, also for those that fork meanwhile.
pub(crate) fn kill_group(group: &Path) {
    let _ = fs::write(group.join("cgroup.kill"), "1");
    for _ in 0..100 {
        let populated = fs::read_to_string(group.join("cgroup.events"))
            .is_ok_and(|text| text.contains("populated 1"));
        if !populated {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn kill_inside(namespace: &str) {
    let listed = run_with(
        command(["ip", "netns", "pids", namespace]),
        b"",
        Duration::from_secs(10),
    );
    let Ok(output) = listed else { return };
    for pid in output
        .stdout
        .lines()
        .filter_map(|line| line.trim().parse().ok())
    {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// A dead program's mount can be busy for a moment; after that it is detached, and goes when the last user does.
pub(crate) fn unmount(path: &Path) {
    for _ in 0..20 {
        match umount2(path, MntFlags::empty()) {
            Err(nix::errno::Errno::EBUSY) => thread::sleep(Duration::from_millis(50)),
            _ => return,
        }
    }
    let _ = umount2(path, MntFlags::MNT_DETACH);
}

/// Removes a control group and those below it: they are directories that only rmdir(2) removes.
pub(crate) fn remove_groups(group: &Path) {
    if let Ok(entries) = fs::read_dir(group) {
        for entry in entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.path().is_dir())
        {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_attached_to_another_file_is_left_alone() {
        let work = tempfile::tempdir().unwrap();
        let file = work.path().canonicalize().unwrap().join("disk");
        File::create(&file).unwrap().set_len(1 << 20).unwrap();
        let mut losetup = command(["losetup", "--find", "--show"]);
        losetup.arg(&file);
        // Without root there is no device to try it on.
        let Ok(attached) = crate::process::ok(losetup) else {
            return;
        };
        let device = attached.stdout.trim();
        let is_attached = || {
            let name = device.trim_start_matches("/dev/");
            Path::new(&format!("/sys/block/{name}/loop/backing_file")).exists()
        };
        detach_loop(device, &work.path().join("another"));
        assert!(is_attached());
        detach_loop(device, &file);
        // udev may have it open for a moment.
        let gone = || Ok((!is_attached()).then_some(()));
        crate::process::until("the end of the device", Duration::from_secs(5), gone).unwrap();
    }
}
