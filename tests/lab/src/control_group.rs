//! One control group for each guest, so that everything of it can be ended at once, and so that two containers do not
//! meet: systemd-nspawn with `--keep-unit` makes its groups `payload` and `supervisor` in the group it was started in.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::leftovers::{Undo, kill_group, remove_groups};

/// A control group of version 2; whatever is in it is killed when this is dropped.
#[derive(Debug)]
pub struct ControlGroup {
    path: PathBuf,
}

impl ControlGroup {
    pub fn create(undo: &Undo, name: &str) -> Result<ControlGroup> {
        let lab = own()?.join(undo.name());
        let path = lab.join(name);
        undo.note("cgroup", &lab.display().to_string())?;
        fs::create_dir_all(&path)
            .with_context(|| format!("create control group {}", path.display()))?;
        Ok(ControlGroup { path })
    }

    /// The same program, started in this group.
    pub fn inside(&self, mut command: Command) -> Result<Command> {
        let procs = OpenOptions::new()
            .write(true)
            .open(self.path.join("cgroup.procs"))?;
        // SAFETY: one write(2) to an open file; "0" means the writer itself (cgroups(7)).
        unsafe { command.pre_exec(move || (&procs).write_all(b"0")) };
        Ok(command)
    }

    /// The time of processors that it has used so far, all below it included (`usage_usec` in cpu.stat of cgroups(7)).
    pub fn processor_time(&self) -> Result<Duration> {
        let path = self.path.join("cpu.stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let used = text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "))
            .with_context(|| format!("{} names no usage_usec", path.display()))?;
        Ok(Duration::from_micros(used.parse()?))
    }

    /// Ends everything in it, and makes it new for the next boot.
    ///
    /// It must not be used again: after a `cgroup.kill` the kernel also kills what is later cloned from this group into
    /// one that was not killed as often (Linux: kernel/cgroup/cgroup.c, kill_seq), which is how systemd starts services.
    pub fn kill(&self) {
        self.end();
        let _ = fs::create_dir_all(&self.path);
    }

    fn end(&self) {
        kill_group(&self.path);
        remove_groups(&self.path);
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        self.end();
    }
}

/// The lab's own group: where version 2 is mounted (a hybrid machine has it below /sys/fs/cgroup), and the line `0::`.
fn own() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounted = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .and_then(|fields| fields.get(1).map(|path| path.to_string()))
        .context("no control groups of version 2 are mounted")?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let ours = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("/");
    Ok(Path::new(&mounted).join(ours.trim_start_matches('/')))
}
