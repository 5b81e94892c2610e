//! A small sample of each long campaign; `cargo lab soak NAME` runs it in full, with the same assertions.

use anyhow::Result;
use wasagent_lab::Release;
use wasagent_lab::soak::{
    Scope, adopt, boots, confined, disk, fault, image, kill, outage, password, revert,
};
use wasagent_lab::tier::Role;

#[test]
fn killed_at_some_of_the_fail_points() -> Result<()> {
    kill::run(&Scope::sample(6, Role::Storage, Release::Trixie))
}

#[test]
fn an_error_at_some_of_the_fail_points() -> Result<()> {
    fault::run(&Scope::sample(4, Role::Storage, Release::Bookworm))
}

#[test]
fn passwords_of_each_kind_are_replaced() -> Result<()> {
    for release in Release::BOTH {
        password::run(&Scope::sample(7, Role::Storage, release))?;
    }
    Ok(())
}

#[test]
fn reverted_on_both_releases() -> Result<()> {
    for release in Release::BOTH {
        revert::run(&Scope::sample(4, Role::Storage, release))?;
    }
    Ok(())
}

#[test]
fn the_life_of_a_disk() -> Result<()> {
    disk::run(&Scope::sample(1, Role::Storage, Release::Trixie))
}

#[test]
fn what_somebody_takes_away_comes_back() -> Result<()> {
    outage::run(&Scope {
        release: Some(Release::Bookworm),
        point: Some("somebody re".to_owned()),
        ..Scope::default()
    })
}

#[test]
fn a_container_that_may_do_nothing() -> Result<()> {
    // With podman 4, which tells no value of a secret and has no Quadlet.
    confined::run(&Scope::sample(1, Role::Was, Release::Bookworm))
}

#[test]
fn a_tag_that_moves() -> Result<()> {
    image::run(&Scope::sample(1, Role::Was, Release::Trixie))
}

#[test]
fn a_boot_without_the_share() -> Result<()> {
    boots::run(&Scope {
        // A boot after a power cut, with the storage VM down until it is over.
        seed: Some(6),
        ..Scope::sample(1, Role::Was, Release::Trixie)
    })
}

#[test]
fn a_vm_set_up_by_hand_is_taken_over() -> Result<()> {
    adopt::run(&Scope::sample(1, Role::Was, Release::Bookworm))
}
