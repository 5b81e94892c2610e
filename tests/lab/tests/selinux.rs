//! A sample of the campaign on a storage VM that enforces SELinux's policy: without its reboots.

use anyhow::Result;
use wasagent_lab::Release;
use wasagent_lab::soak::{Scope, selinux};
use wasagent_lab::tier::Role;

#[test]
fn two_clients_write_through_a_share_that_the_policy_allows() -> Result<()> {
    selinux::run(&Scope::sample(1, Role::Storage, Release::TrixieSelinux))
}
