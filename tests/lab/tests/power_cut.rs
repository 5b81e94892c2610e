//! A sample of the campaign `power`: what a power cut leaves of an apply.

use anyhow::Result;
use wasagent_lab::Release;
use wasagent_lab::soak::{Scope, power};
use wasagent_lab::tier::Role;

#[test]
fn a_zone_that_a_power_cut_left_empty() -> Result<()> {
    Release::BOTH.into_iter().try_for_each(power::empty_zone)
}

#[test]
fn the_power_cut_once() -> Result<()> {
    // One moment is no campaign: always the same, so that a red run can be looked at.
    power::run(&Scope {
        seed: Some(1),
        ..Scope::sample(1, Role::Storage, Release::Bookworm)
    })
}
