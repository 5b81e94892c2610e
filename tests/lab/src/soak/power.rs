//! The power of a storage VM cut at random moments of an apply: nothing of the operator's is lost, nothing is half-written,
//! and the next apply converges.
//!
//! The cut is the program that runs the guest killed. What the guest's kernel held in memory is gone: the agent, everything that was written and not
//! synced, every file system's unfinished transaction. What the kernel had handed to the disk stays, in its order, because
//! it lies in the page cache of the machine below; a disk with a cache of its own could lose that too, up to the last
//! flush, and is not simulated.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::ground::COPIES;
use super::revert::STAYS;
use super::stage::{CHANGED_TIER_FILE, Machine, Stage};
use super::{Scope, Size, Tally};
use crate::failpoint::{Moment, Point, kill_at};
use crate::guest::Guest;
use crate::progress::say;
use crate::random::{Random, new_seed};
use crate::release::Release;
use crate::snapshot::{Except, Snapshot, same};
use crate::tier::Role;
use crate::{agent, snapshot};

/// What the lab and firewalld leave otherwise after a cut and a boot.
const AFTER_A_BOOT: [Except; 3] = [
    Except::new(
        "path /etc/firewalld/zones/*.old",
        "firewalld's copy of a zone before its last change, which it does not sync",
    ),
    Except::new("time of path /etc/hostname", "the lab writes it at a boot"),
    Except::new(
        "time of path /etc/systemd/network/*",
        "the lab writes it at a boot",
    ),
];

/// How many cuts the whole campaign makes.
const ROUNDS: usize = 30;
/// How long a boot from nothing may take on an emulated processor.
const BOOT: Duration = Duration::from_secs(900);
/// How long an apply that nobody cuts off may take.
const APPLY: Duration = Duration::from_secs(900);

/// What the operator had before, and what users have put on the share, with their checksums.
const OPERATORS: &str = "/root/operators.sha256";
const UPLOADS: &str = "/root/uploads.sha256";
const SHARED: &str = "/mnt/data/shared_folder";

pub fn run(scope: &Scope) -> Result<()> {
    let agent = agent::build()?;
    let seed = scope.seed.unwrap_or_else(new_seed);
    say(format!("power: --seed {seed}"));
    let rounds = match (scope.rounds, scope.size) {
        (Some(rounds), _) | (None, Size::Sample(rounds)) => rounds,
        (None, Size::All) => ROUNDS,
    };
    let mut random = Random(seed);
    let mut tally = Tally::new("power");
    let releases: Vec<Release> = scope
        .guests()
        .into_iter()
        .filter_map(|(role, release)| (role == Role::Storage).then_some(release))
        .collect();
    for (index, release) in releases.iter().enumerate() {
        // As many on each, the odd ones on the first.
        let rounds = (rounds + releases.len() - 1 - index) / releases.len();
        let starts: Vec<Start> = Start::ALL.into_iter().cycle().take(rounds).collect();
        let mut ground: Option<Ground> = None;
        for (round, &start) in starts.iter().enumerate() {
            let name = format!("{}/{rounds} on {release}, {}", round + 1, start.name());
            let fraction = random.fraction();
            let held = tally.point(&name, || {
                if ground.is_none() {
                    let starts = &starts[..starts.len().min(Start::ALL.len())];
                    ground = Some(Ground::prepare(&agent, *release, starts)?);
                }
                let ground = ground.as_ref().context("a guest that was made above")?;
                ground.round(start, fraction)
            });
            // Nothing is known of a guest on which a round failed.
            if !held {
                ground = None;
            }
        }
    }
    tally.end()
}

/// What the apply that is cut off begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// A blank disk: the cut may fall into mkfs or the first deployment.
    Blank,
    /// A tier file that has changed, on a disk with data.
    Changed,
    /// A disk with data, on a guest that was reverted.
    Reverted,
}

impl Start {
    const ALL: [Start; 3] = [Start::Changed, Start::Blank, Start::Reverted];

    fn name(self) -> &'static str {
        match self {
            Start::Blank => "blank disk",
            Start::Changed => "changed tier file",
            Start::Reverted => "reverted, with data",
        }
    }

    fn config(self) -> Option<&'static str> {
        (self == Start::Changed).then_some(CHANGED_TIER_FILE)
    }
}

struct Ground {
    stage: Stage,
    before: Snapshot,
    /// How long each start's apply takes undisturbed, and where it ends, relative to the state before.
    courses: Vec<(Start, Duration, Snapshot)>,
}

impl Ground {
    /// A new guest, and an undisturbed apply from each of these starts.
    fn prepare(agent: &Path, release: Release, starts: &[Start]) -> Result<Ground> {
        let stage = Stage::storage(agent, Machine::Vm, release)?;
        operators_files(&stage.guest)?;
        let before = Snapshot::take(&stage.guest, Role::Storage)?;
        let mut ground = Ground {
            stage,
            before,
            courses: Vec::new(),
        };
        for &start in starts {
            ground.set_out(start)?;
            let applied = ground.stage.apply(start.config())?;
            let took = applied.output.took;
            say(format!(
                "{}: {:.1} s undisturbed",
                start.name(),
                took.as_secs_f64()
            ));
            let end = ground.end()?;
            ground.courses.push((start, took, end));
            ground.stage.revert()?;
        }
        Ok(ground)
    }

    /// Brings the guest from a revert to where the apply begins.
    fn set_out(&self, start: Start) -> Result<()> {
        let guest = &self.stage.guest;
        self.stage.blank()?;
        if start != Start::Blank {
            self.stage.apply(None)?;
            upload(guest)?;
        }
        if start == Start::Reverted {
            self.stage.revert()?;
        }
        // What was done before is on the disk; only the apply is at stake.
        guest.ok(["sync"]).map(drop)
    }

    fn round(&self, start: Start, fraction: f64) -> Result<()> {
        let course = self.courses.iter().find(|(other, ..)| *other == start);
        let (_, usual, end) = course.context("a start that was not prepared")?;
        self.set_out(start)?;
        self.cut(start, usual.mul_f64(fraction), *usual)?;

        let guest = &self.stage.guest;
        guest.power_on()?;
        guest.wait_ready(BOOT)?;
        intact(guest, OPERATORS).context("after the cut")?;
        self.stage.apply(start.config())?;
        let left = snapshot::leftovers(guest)?;
        ensure!(left.is_empty(), "the next apply left {left:?}");
        intact(guest, OPERATORS).context("after the next apply")?;
        if start != Start::Blank {
            intact(guest, UPLOADS).context("after the next apply")?;
        }
        // By the tier file that was applied.
        let config = start
            .config()
            .into_iter()
            .flat_map(|path| ["--config", path]);
        let health: Vec<&str> = ["wasagent", "health"].into_iter().chain(config).collect();
        guest.ok(&health)?;
        let except = [COPIES.as_slice(), &AFTER_A_BOOT].concat();
        same("the end state", end, &self.end()?, &except)?;
        self.stage.revert().map(drop)
    }

    /// Cuts the power this long after an apply was started.
    fn cut(&self, start: Start, moment: Duration, usual: Duration) -> Result<()> {
        let guest = &self.stage.guest;
        let command = self.stage.apply_command(start.config());
        say(format!(
            "{}: the power goes {:.2} s into an apply of {:.1} s",
            start.name(),
            moment.as_secs_f64(),
            usual.as_secs_f64()
        ));
        thread::scope(|scope| {
            let begun = Instant::now();
            // It ends with the connection, if not before.
            let apply = scope.spawn(|| guest.run_unchecked(&command, b"", APPLY));
            thread::sleep(moment.saturating_sub(begun.elapsed()));
            guest.power_cut();
            apply
                .join()
                .map(drop)
                .map_err(|_| anyhow!("the thread of an apply panicked"))
        })
    }

    /// Where an apply has ended: what a boot makes anew is not compared, and neither are the uploads of this round.
    fn end(&self) -> Result<Snapshot> {
        let guest = &self.stage.guest;
        guest.ok(["rm", "-rf", &format!("{SHARED}/public/uploads")])?;
        let now = Snapshot::take(guest, Role::Storage)?;
        Ok(now.at_rest().since(&self.before))
    }
}

/// What a cut leaves in the moment between firewalld's write of a zone and the agent's sync of it, which takes luck to
/// meet: the file is emptied by hand, behind an agent that was killed there, and firewalld read it at its start.
pub fn empty_zone(release: Release) -> Result<()> {
    let agent = agent::build_with_failpoints(Size::Sample(1))?;
    let stage = Stage::storage(&agent, Machine::Container, release)?;
    let before = Snapshot::take(&stage.guest, stage.role)?;
    let restored = || {
        stage.revert()?;
        let now = Snapshot::take(&stage.guest, stage.role)?;
        same("after revert", &before, &now, STAYS)?;
        stage.blank()
    };
    leave_zone_empty(&stage)?;
    stage.apply(None).context("the next apply")?;
    stage.guest.ok(["wasagent", "health"])?;
    restored()?;
    leave_zone_empty(&stage)?;
    restored().context("without an apply in between")
}

fn leave_zone_empty(stage: &Stage) -> Result<()> {
    let rule = "rule family=\"ipv4\" source address=\"192.168.2.0/24\" port port=\"445\" protocol=\"tcp\" accept";
    let point = Point {
        resource: "firewall:public".to_owned(),
        effect: format!("open permanent {rule}"),
        moment: Moment::After,
    };
    kill_at(&stage.guest, &point, &stage.apply_command(None))?;
    let script = ": >/etc/firewalld/zones/public.xml
         systemctl restart firewalld
         busctl get-property org.fedoraproject.FirewallD1 /org/fedoraproject/FirewallD1 org.fedoraproject.FirewallD1 state";
    let state = stage.guest.answer(["sh", "-ec", script])?;
    ensure!(state.contains("FAILED"), "firewalld is {state}");
    Ok(())
}

/// Files that are no business of the agent's, two of them where it writes too.
fn operators_files(guest: &Guest) -> Result<()> {
    let script = format!(
        "printf '\n[operator]\n\tpath = /srv\n' >>/etc/samba/smb.conf
         mkdir -p /srv/operator
         for number in 1 2 3 4 5 6 7 8; do head -c 300000 /dev/urandom >/srv/operator/$number; done
         echo 'the operator was here' >/etc/operator.conf
         cp /etc/samba/smb.conf /root/smb.conf
         sha256sum /etc/operator.conf /srv/operator/* /etc/fstab /etc/hostname /root/smb.conf >{OPERATORS}
         sync"
    );
    guest.ok(["sh", "-ec", &script]).map(drop)
}

/// What users of the share have written, through to the disk.
fn upload(guest: &Guest) -> Result<()> {
    let script = format!(
        "mkdir -p {SHARED}/public/uploads && cd {SHARED}/public/uploads
         for number in 1 2 3 4 5 6 7 8; do head -c 300000 /dev/urandom >upload-$number; done
         chown -R user1:user1 . && sha256sum $PWD/* >{UPLOADS} && sync"
    );
    guest.ok(["sh", "-ec", &script]).map(drop)
}

/// Whether the files have the checksums that they had, and smb.conf still begins with all that the operator wrote.
fn intact(guest: &Guest, list: &str) -> Result<()> {
    guest
        .ok(["sha256sum", "--check", "--quiet", "--strict", list])
        .map(drop)?;
    let script = "head -c $(stat -c %s /root/smb.conf) /etc/samba/smb.conf | cmp - /root/smb.conf";
    guest.ok(["sh", "-c", script]).map(drop)
}
