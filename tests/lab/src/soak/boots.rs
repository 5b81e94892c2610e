//! A WAS VM that boots again and again, by reboots and after power cuts, with its storage VM up, late or down: its container
//! never answers from an empty directory, and serves as soon as the share can be had.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::outage::{APPLICATION, PAGE};
use super::stage::{Image, Stage};
use super::{Scope, Size, Tally};
use crate::agent;
use crate::balancer::http_get;
use crate::guest::Guest;
use crate::process::until;
use crate::progress::say;
use crate::random::{Random, new_seed};
use crate::release::Release;

const BOOTS: usize = 50;
const ASKED: &str = "http://192.168.2.11:5000/";
/// How long a storage VM that is late keeps a boot waiting, at most, from the power on; and one that is down, from the end
/// of the boot on.
const LATEST: Duration = Duration::from_secs(120);
const DOWN: Duration = Duration::from_secs(30);
/// Until a container serves whose share can be had, on an emulated processor.
const SERVED: Duration = Duration::from_secs(240);

/// How the storage VM finds the boot.
#[derive(Clone, Copy, Debug)]
enum Storage {
    Up,
    Late(Duration),
    Down,
}

pub fn run(scope: &Scope) -> Result<()> {
    let agent = agent::build()?;
    let seed = scope.seed.unwrap_or_else(new_seed);
    say(format!("boots: --seed {seed}"));
    let mut random = Random(seed);
    let boots = match scope.size {
        Size::All => scope.rounds.unwrap_or(BOOTS),
        Size::Sample(boots) => boots,
    };
    let mut tally = Tally::new("boots");
    for release in Release::BOTH {
        if scope.release.is_some_and(|only| only != release) {
            continue;
        }
        let mut stage = None;
        for number in 1..=boots {
            let storage = match random.below(3) {
                0 => Storage::Up,
                1 => Storage::Late(LATEST.mul_f64(random.fraction())),
                _ => Storage::Down,
            };
            let cut = random.below(2) == 0;
            let how = if cut {
                "after a power cut"
            } else {
                "by a reboot"
            };
            let name = format!("{release}, boot {number} {how}, storage {storage:?}");
            let held = tally.point(&name, || {
                if stage.is_none() {
                    stage = Some(served(&agent, release)?);
                }
                stage
                    .as_ref()
                    .map_or(Ok(()), |stage| boot(stage, storage, cut))
            });
            if !held {
                stage = None;
            }
        }
    }
    tally.end()
}

/// A WAS VM whose container serves.
fn served(agent: &Path, release: Release) -> Result<Stage> {
    let stage = Stage::was(agent, release, Image::There)?;
    let server = stage.server.as_ref().context("no server")?;
    server.write("/mnt/data/shared_folder/server.js", APPLICATION, 0o644)?;
    server.write(PAGE, "whole\n", 0o644)?;
    stage.apply(None)?;
    wait_served(&stage)?;
    Ok(stage)
}

fn ask(stage: &Stage) -> Result<(u16, String)> {
    http_get(stage.lab.network().name(), ASKED, Duration::from_secs(5))
}

fn wait_served(stage: &Stage) -> Result<()> {
    until("the page", SERVED, || {
        thread::sleep(Duration::from_millis(500));
        Ok(ask(stage)
            .is_ok_and(|(status, _)| status == 200)
            .then_some(()))
    })
}

fn boot(stage: &Stage, storage: Storage, cut: bool) -> Result<()> {
    let server = stage.server.as_ref().context("no server")?;
    let guest = &stage.guest;
    if !matches!(storage, Storage::Up) {
        server.ok(["systemctl", "stop", "smbd.service"])?;
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // From before the boot until it serves: whatever answers is asked every second.
        let answers = scope.spawn(|| {
            let mut others = Vec::new();
            while !over.load(Ordering::Relaxed) {
                if let Ok(answer) = ask(stage)
                    && answer != (200, "whole".to_owned())
                {
                    others.push(answer);
                }
                thread::sleep(Duration::from_secs(1));
            }
            others
        });
        let booted = boot_and_wait(stage, storage, cut);
        over.store(true, Ordering::Relaxed);
        let Ok(others) = answers.join() else {
            bail!("the thread that asks panicked");
        };
        booted?;
        // Before the boot the application says that the share has gone: that is no empty directory.
        let empty = others.iter().find(|(_, said)| said.starts_with("ENOENT"));
        ensure!(
            empty.is_none(),
            "an answer from an empty directory: {others:?}"
        );
        Ok(())
    })?;
    let log = guest.run([
        "journalctl",
        "--boot",
        "--quiet",
        "--output=cat",
        "CONTAINER_NAME=nodejs-server",
    ])?;
    ensure!(
        !log.stdout.contains("Cannot find module"),
        "a container started in an empty directory: {log}"
    );
    Ok(())
}

fn boot_and_wait(stage: &Stage, storage: Storage, cut: bool) -> Result<()> {
    let server = stage.server.as_ref().context("no server")?;
    let guest = &stage.guest;
    let start = || server.ok(["systemctl", "start", "smbd.service"]).map(drop);
    let begun = Instant::now();
    thread::scope(|scope| {
        let late = scope.spawn(|| {
            if let Storage::Late(late) = storage {
                thread::sleep(late);
                start()?;
            }
            anyhow::Ok(())
        });
        if cut {
            // The image was pulled a moment ago, by podman, which brings nothing to the disk.
            guest.ok(["sync"])?;
            guest.power_cut();
            guest.power_on()?;
        } else {
            guest.reboot_nowait()?;
        }
        wait_booted(guest)?;
        match late.join() {
            Ok(started) => started,
            Err(_) => bail!("the thread that starts smbd panicked"),
        }
    })?;
    let up = begun.elapsed();
    if let Storage::Down = storage {
        thread::sleep(DOWN);
        let running = guest.answer(["podman", "ps", "--quiet"])?;
        ensure!(
            running.is_empty(),
            "a container runs on no share: {running}"
        );
        start()?;
    }
    let waits = Instant::now();
    wait_served(stage).with_context(|| said_by_systemd(guest))?;
    say(format!(
        "up after {:.0} s, served {:.0} s after that and the storage VM",
        up.as_secs_f64(),
        waits.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// No boot waits for the share: what comes at its end (cloud-init, logins) has nothing to do with it.
fn wait_booted(guest: &Guest) -> Result<()> {
    guest.wait_ssh(SERVED)?;
    until("multi-user.target", SERVED, || {
        let target = guest.run(["systemctl", "is-active", "multi-user.target"])?;
        if !target.success() {
            thread::sleep(Duration::from_secs(1));
        }
        Ok(target.success().then_some(()))
    })
    .with_context(|| said_by_systemd(guest))
}

/// What the units of a boot that came to nothing had to say.
fn said_by_systemd(guest: &Guest) -> String {
    let units = "systemctl list-jobs --no-pager; systemctl list-units --all --no-legend 'nodejs-*' 'mnt-*'; \
                 journalctl --boot --no-pager --lines=60 --unit='nodejs-*' --unit='mnt-*'";
    match guest.run(["sh", "-c", units]) {
        Ok(said) => said.stdout,
        Err(error) => format!("{error:#}"),
    }
}
