//! A sample of the campaigns on VM guests that enforce SELinux's policy: without their reboots.

use anyhow::Result;
use wasagent_lab::Release;
use wasagent_lab::soak::{Scope, confined, selinux};
use wasagent_lab::tier::Role;

#[test]
fn two_clients_write_through_a_share_that_the_policy_allows() -> Result<()> {
    selinux::run(&Scope::sample(1, Role::Storage, Release::TrixieSelinux))
}

#[test]
fn a_confined_container_uses_a_share_that_the_policy_allows() -> Result<()> {
    confined::run(&Scope::sample(1, Role::Was, Release::TrixieSelinux))
}
