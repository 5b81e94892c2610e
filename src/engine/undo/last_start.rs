//! What was there by hand before us starts again at the very end: it needs the files, units and mounts of before,
//! which come back one by one.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{INTERRUPTED, Undoing};
use crate::engine::Step;
use crate::engine::effect::Effect;
use crate::error::Result;
use crate::host::podman;
use crate::host::systemd::Job;

/// What is started at the end.
pub(super) enum LastStart {
    Unit(String),
    Container(String),
}

impl Undoing<'_> {
    /// Starts what was there by hand, the mount first. What fails stays to be done, and what comes after
    /// it as well; all of it where somebody asked to stop, since not everything is as it was then.
    pub(super) async fn start_what_was_there(&mut self) {
        while let Some((address, start)) = self.start_last.pop() {
            if self.stop.load(Ordering::Relaxed) {
                self.skipped(&address, INTERRUPTED.to_owned());
                continue;
            }
            let started = Instant::now();
            let result = self.start_again(&self.step(&address), &start).await;
            if let Err(error) = result {
                self.failed(&address, started, error);
                for (address, _) in std::mem::take(&mut self.start_last) {
                    self.skipped(&address, "what it needs did not start".to_owned());
                }
            }
        }
    }

    async fn start_again(&self, step: &Step, start: &LastStart) -> Result<()> {
        match start {
            LastStart::Unit(unit) if step.systemd.unit(unit).await?.is_active() => Ok(()),
            LastStart::Unit(unit) => step.job(Job::Start, unit).await,
            LastStart::Container(name) => {
                if podman::container(name).await?.is_some_and(|c| c.is_running) {
                    return Ok(());
                }
                let effect = Effect::StartContainer { name: name.clone() };
                step.effect(effect, |permit| async move {
                    podman::start_container(&permit, name).await
                })
                .await
            }
        }
    }
}
