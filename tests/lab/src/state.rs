//! Saved states: a VM guest booted once, whose memory and devices every later guest starts from.
//!
//! The memory is a file that QEMU maps: shared when the state is made, private (copied when written to) when it is
//! used. With `x-ignore-shared` the migration stream then holds the devices only (QEMU: docs/devel/migration), so a
//! guest is back in a tenth of a second and ten guests share one copy of their memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::cache::Cache;
use crate::guest::Guest;
use crate::host_packages;
use crate::qmp::Qmp;
use crate::vm::Hardware;

/// A booted guest on disk.
#[derive(Clone, Debug)]
pub(crate) struct State {
    directory: PathBuf,
}

impl State {
    /// The state of this root under this accelerator, from the cache or made by one boot.
    pub fn get(cache: &Cache, hardware: &Hardware) -> Result<State> {
        let root = hardware.root()?;
        let release = root.release;
        let recipe = format!(
            "4 {} {:?} {}{}",
            root.recipe,
            hardware.accelerator,
            host_packages::qemu_version()?,
            release.kernel_arguments()
        );
        let directory = cache.artefact(&format!("state-{release}"), &recipe, |into| {
            record(into, hardware)
        })?;
        Ok(State { directory })
    }

    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk.qcow2")
    }

    pub fn memory(&self) -> PathBuf {
        self.directory.join("memory")
    }

    /// Puts a QEMU that waits for its state into this one and lets it run.
    pub fn load(&self, qmp: &mut Qmp) -> Result<()> {
        ignore_shared(qmp)?;
        let stream = format!(
            "exec:cat {}",
            crate::ssh::quoted(&self.directory.join("devices").display().to_string())
        );
        qmp.execute("migrate-incoming", json!({ "uri": stream }))?;
        qmp.finish_migration()?;
        qmp.execute("cont", json!({})).map(drop)
    }
}

fn record(into: &Path, hardware: &Hardware) -> Result<()> {
    let mut hardware = hardware.clone();
    hardware.directory = into.to_owned();
    hardware.name = "ready".to_owned();
    hardware.address = "192.168.2.250/24".to_owned();
    let guest = Guest::recorded(hardware, &into.join("memory"))?;
    guest.wait_ready(Duration::from_secs(900))?;
    guest.nothing_failed()?;
    guest.ok(["sync"])?;
    guest.disconnect();
    guest.with_qmp(|qmp| {
        qmp.execute("stop", json!({}))?;
        ignore_shared(qmp)?;
        let stream = format!(
            "exec:cat >{}",
            crate::ssh::quoted(&into.join("devices").display().to_string())
        );
        qmp.execute("migrate", json!({ "uri": stream }))?;
        qmp.finish_migration()?;
        // `quit` flushes the disk.
        let _ = qmp.execute("quit", json!({}));
        Ok(())
    })?;
    guest.wait_ended(Duration::from_secs(30))
}

fn ignore_shared(qmp: &mut Qmp) -> Result<()> {
    let capabilities =
        json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
    qmp.execute("migrate-set-capabilities", capabilities)
        .map(drop)
}
