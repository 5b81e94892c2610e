//! The agent killed at every fail point: the next apply ends where an undisturbed one does, and a revert ends where
//! everything began.
//!
//! SIGKILL at the point ends the process with all its threads, whatever the other resources were at; helper programs that
//! it had started, and jobs of systemd, go on to their end. What the kernel had not written yet is not lost: that is the power campaign's.

use anyhow::{Context, Result};

use super::ground::{Course, Ground, drive};
use super::{Scope, Tally};
use crate::failpoint::{Point, kill_at};

pub fn run(scope: &Scope) -> Result<()> {
    let mut tally = Tally::new("kill");
    drive(scope, &mut tally, trial)?;
    tally.end()
}

fn trial(ground: &Ground, course: &Course, point: &Point) -> Result<()> {
    let guest = &ground.stage.guest;
    let killed = || kill_at(guest, point, &ground.command(course.scenario));
    ground
        .both_ways(course, killed, || Ok(()))
        .context("killed")
}
