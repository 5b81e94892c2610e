//! A WAS VM that was set up by typing the guide is taken over: it is left alone until somebody asks for that, serves by the
//! agent's unit afterwards, comes back by itself where the agent's container cannot serve, and is what it was after a revert.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::outage::{APPLICATION, PAGE};
use super::stage::{Image, Stage};
use super::{Scope, Size, Tally};
use crate::agent;
use crate::balancer::http_get;
use crate::failpoint::settle;
use crate::guest::Guest;
use crate::guide::{self, CREDENTIALS, SERVICE, Since};
use crate::process::{Output, until};
use crate::progress::say;
use crate::release::Release;
use crate::tier::{Role, TIER_FILE, tier_file};
use crate::wasagent::Apply;

const ASKED: &str = "http://192.168.2.11:5000/";
const MOUNT: &str = "mount:/mnt/data/shared_folder";
const CONTAINER: &str = "container:nodejs-server";
/// Until a container serves, on an emulated processor.
const SERVED: Duration = Duration::from_secs(180);
const LIMIT: Duration = Duration::from_secs(300);
/// Ends as soon as it has started.
const ENDS: &str = "/root/ends.toml";

pub fn run(scope: &Scope) -> Result<()> {
    let agent = agent::build()?;
    let mut tally = Tally::new("adopt");
    for release in Release::BOTH {
        if scope.release.is_some_and(|only| only != release) {
            continue;
        }
        let mut stage = None;
        for since in scope.size.of(vec![Since::Typed, Since::Booted]) {
            let name = format!("{release}, {since:?}");
            if !scope.means(&name) {
                continue;
            }
            // A run that comes back, and a boot, take as long as all the rest each.
            let whole = scope.size == Size::All;
            let held = tally.point(&name, || {
                if stage.is_none() {
                    stage = Some(served(&agent, release)?);
                }
                let stage = stage.as_ref().context("no stage")?;
                Seen { stage }.is_adopted(since, whole)
            });
            if !held {
                stage = None;
            }
        }
        let name = format!("{release}, what others did since");
        if scope.size == Size::All && scope.means(&name) {
            tally.point(&name, || {
                let stage = match stage.take() {
                    Some(stage) => stage,
                    None => served(&agent, release)?,
                };
                Seen { stage: &stage }.leaves_what_others_did_since()
            });
        }
    }
    tally.end()
}

fn served(agent: &Path, release: Release) -> Result<Stage> {
    let stage = Stage::was(agent, release, Image::There)?;
    let server = stage.server.as_ref().context("no server")?;
    server.write("/mnt/data/shared_folder/server.js", APPLICATION, 0o644)?;
    server.write(PAGE, "whole\n", 0o644)?;
    Ok(stage)
}

struct Seen<'a> {
    stage: &'a Stage,
}

impl Seen<'_> {
    fn is_adopted(&self, since: Since, whole: bool) -> Result<()> {
        let guest = &self.stage.guest;
        guide::type_on(guest, since)?;
        self.serves()?;
        let by_hand = guide::found(guest)?;
        self.is_left_alone_unasked(&by_hand)?;
        if whole {
            self.comes_back_where_nothing_can_take_its_place(&by_hand)?;
        }
        if whole && since == Since::Typed {
            self.comes_back_after_a_killed_run(&by_hand)?;
        }

        let probe = Probe::start(self.stage);
        let began = Instant::now();
        let applied = Apply::on(guest).role(Role::Was).with(&["--adopt"]).ok()?;
        let took = began.elapsed();
        self.serves()?;
        let away = probe.end()?;
        say(format!(
            "adopted in {:.1} s, of which the page was away for {:.1} s",
            took.as_secs_f64(),
            away.as_secs_f64()
        ));
        let changed = applied.changed();
        ensure!(
            changed.contains(MOUNT) && changed.contains(CONTAINER),
            "{}",
            applied.output
        );
        self.is_the_agents()?;
        if whole && since == Since::Booted {
            guest.reboot()?;
            self.serves()?;
            self.is_the_agents()?;
        }
        // Nothing of it is asked for again.
        ensure!(Apply::on(guest).role(Role::Was).ok()?.changed().is_empty());

        let probe = Probe::start(self.stage);
        self.stage.revert()?;
        self.serves()?;
        say(format!(
            "reverted: the page was away for {:.1} s",
            probe.end()?.as_secs_f64()
        ));
        same(&by_hand, &guide::found(guest)?)?;
        clear(guest)
    }

    fn is_left_alone_unasked(&self, by_hand: &str) -> Result<()> {
        let guest = &self.stage.guest;
        for command in ["plan", "apply"] {
            let output = asked(guest, &["wasagent", command, "--role", "was"])?;
            ensure!(output.status == 1, "{output}");
            for said in [
                "/etc/fstab line",
                "podman has a container nodejs-server",
                "--adopt",
            ] {
                ensure!(output.stderr.contains(said), "no {said:?}: {output}");
            }
        }
        let plan = asked(guest, &["wasagent", "plan", "--role", "was", "--adopt"])?;
        ensure!(plan.status == 2, "{plan}");
        for said in [
            "adopt.fstab",
            "adopt.credentials",
            CREDENTIALS,
            "adopt.service",
            SERVICE,
            "nodejs-server-by-hand",
        ] {
            ensure!(plan.stdout.contains(said), "no {said:?}: {plan}");
        }
        same(by_hand, &guide::found(guest)?)
    }

    /// By a tier file whose application ends as soon as it has started.
    fn comes_back_where_nothing_can_take_its_place(&self, by_hand: &str) -> Result<()> {
        let guest = &self.stage.guest;
        let text = tier_file().replacen(
            "NODE_ENV = \"production\"",
            "NODE_OPTIONS = \"--no-such-option\"",
            1,
        );
        guest.write(ENDS, text, 0o644)?;
        let words = ["wasagent", "apply", "--role", "was", "--adopt"];
        let output = asked(guest, &[&words[..], &["--config", ENDS]].concat())?;
        ensure!(
            output.status == 1 && output.stderr.contains("ended as soon as it had started"),
            "{output}"
        );
        self.serves()?;
        same(by_hand, &guide::found(guest)?).with_context(|| format!("rolled back: {output}"))
    }

    /// Also where the run that set the container aside was killed: the next one that fails brings back what both took.
    fn comes_back_after_a_killed_run(&self, by_hand: &str) -> Result<()> {
        let guest = &self.stage.guest;
        let killed = format!(
            "wasagent apply --role was --adopt --config {ENDS} & agent=$!
             until podman container exists nodejs-server-by-hand; do kill -0 $agent || exit 1; sleep 0.1; done
             kill -KILL $agent"
        );
        let output = asked(guest, &["sh", "-c", &killed])?;
        ensure!(output.success(), "it was not killed: {output}");
        settle(guest)?;
        let output = asked(
            guest,
            &["wasagent", "apply", "--role", "was", "--config", ENDS],
        )?;
        ensure!(
            output.status == 1 && output.stderr.contains("ended as soon as it had started"),
            "{output}"
        );
        self.serves()?;
        same(by_hand, &guide::found(guest)?).with_context(|| format!("rolled back: {output}"))
    }

    fn leaves_what_others_did_since(&self) -> Result<()> {
        let guest = &self.stage.guest;
        guide::type_on(guest, Since::Typed)?;
        self.serves()?;
        self.a_second_service_is_refused()?;
        let adopt = || Apply::on(guest).role(Role::Was).with(&["--adopt"]).ok();
        adopt()?;
        self.is_the_agents()?;

        // A unit of the agent's that somebody changed stays, and would make a container in the place of theirs.
        let other = "tmpfs /mnt/other tmpfs noauto 0 0";
        let edit = format!(
            "echo '{other}' >>/etc/fstab
             unit=$(ls /etc/containers/systemd/nodejs-server.container {SERVICE} 2>/dev/null); echo '# mine' >>$unit; echo $unit"
        );
        let unit = guest.answer(["sh", "-c", &edit])?;
        let output = asked(guest, &["wasagent", "revert"])?;
        ensure!(
            output.status == 1
                && output
                    .stderr
                    .contains(&format!("remove {unit}, and revert again")),
            "{output}"
        );
        guest.ok(["podman", "container", "exists", "nodejs-server-by-hand"])?;
        guest.ok(["rm", &unit])?;
        let output = asked(guest, &["wasagent", "revert"])?;
        ensure!(output.success(), "{output}");
        self.serves()?;
        let fstab = String::from_utf8_lossy(&guest.read("/etc/fstab")?).into_owned();
        let lines: Vec<&str> = fstab.lines().collect();
        ensure!(
            matches!(lines[..], [.., theirs, ours] if theirs == other && ours.contains(" /mnt/data/shared_folder cifs ")),
            "{fstab}"
        );

        // Who wants the container no more removes it, as the README says.
        adopt()?;
        guest.ok(["podman", "rm", "nodejs-server-by-hand"])?;
        let output = asked(guest, &["wasagent", "revert"])?;
        ensure!(
            output.success()
                && output
                    .to_string()
                    .contains("somebody removed nodejs-server-by-hand"),
            "{output}"
        );
        clear(guest)
    }

    fn a_second_service_is_refused(&self) -> Result<()> {
        let guest = &self.stage.guest;
        let other = "/etc/systemd/system/container-nodejs-server.service";
        let second = format!("podman generate systemd nodejs-server >{other}");
        guest.ok(["sh", "-c", &second])?;
        let output = asked(guest, &["wasagent", "apply", "--role", "was", "--adopt"])?;
        let said = format!("{other} starts the container nodejs-server as well");
        ensure!(
            output.status == 1 && output.stderr.contains(&said),
            "{output}"
        );
        guest.ok(["rm", other]).map(drop)
    }

    fn serves(&self) -> Result<()> {
        let netns = self.stage.lab.network().name();
        until("the page", SERVED, || {
            let asked = http_get(netns, ASKED, Duration::from_secs(2));
            if matches!(&asked, Ok((200, text)) if text == "whole") {
                return Ok(Some(()));
            }
            thread::sleep(Duration::from_millis(200));
            Ok(None)
        })
    }

    fn is_the_agents(&self) -> Result<()> {
        let guest = &self.stage.guest;
        let by_the_unit = guest.answer([
            "podman",
            "inspect",
            "--format",
            "{{index .Config.Labels \"PODMAN_SYSTEMD_UNIT\"}} {{.HostConfig.Privileged}}",
            "nodejs-server",
        ])?;
        ensure!(
            by_the_unit == "nodejs-server.service false",
            "{by_the_unit}"
        );
        let fstab = guest.read("/etc/fstab")?;
        ensure!(!String::from_utf8_lossy(&fstab).contains("shared_folder"));
        ensure!(
            !guest.run(["test", "-e", CREDENTIALS])?.success(),
            "{CREDENTIALS} is there"
        );
        let service = guest.run(["cat", SERVICE])?.stdout;
        ensure!(!service.contains("generated by Podman"), "{service}");
        let kept = guest.answer([
            "podman",
            "inspect",
            "--format",
            "{{.State.Running}}",
            "nodejs-server-by-hand",
        ])?;
        ensure!(kept == "false", "nodejs-server-by-hand runs");
        let tier = String::from_utf8_lossy(&guest.read(TIER_FILE)?).into_owned();
        ensure!(tier == tier_file(), "the tier file was changed");
        Ok(())
    }
}

/// One whose end is what matters: [`Apply`] holds plan and apply against each other, and here there is no plan, or one that
/// is taken back.
fn asked(guest: &Guest, words: &[&str]) -> Result<Output> {
    guest.run_unchecked(words, b"", LIMIT)
}

fn same(by_hand: &str, now: &str) -> Result<()> {
    ensure!(by_hand == now, "by hand:\n{by_hand}\nnow:\n{now}");
    Ok(())
}

/// Undoes the guide, for the next time that it is typed.
fn clear(guest: &Guest) -> Result<()> {
    let clear = "systemctl disable --now nodejs-server.service; podman rm --force nodejs-server; umount /mnt/data/shared_folder; \
        sed -i /shared_folder/d /etc/fstab; rm -f /root/.smb.cred /etc/systemd/system/nodejs-server.service; systemctl daemon-reload";
    guest.ok(["sh", "-c", clear]).map(drop)
}

/// Asks for the page again and again, from outside.
struct Probe {
    end: std::sync::Arc<AtomicBool>,
    asks: thread::JoinHandle<Duration>,
}

impl Probe {
    fn start(stage: &Stage) -> Probe {
        let end = std::sync::Arc::new(AtomicBool::new(false));
        let (stop, netns) = (end.clone(), stage.lab.network().name().to_owned());
        let asks = thread::spawn(move || {
            let mut away = Duration::ZERO;
            let mut since: Option<Instant> = None;
            while !stop.load(Ordering::Relaxed) || since.is_some() {
                let asked = http_get(&netns, ASKED, Duration::from_secs(2));
                let well = matches!(&asked, Ok((200, text)) if text == "whole");
                match (well, since) {
                    (false, None) => since = Some(Instant::now()),
                    (true, Some(gone)) => {
                        away += gone.elapsed();
                        since = None;
                    }
                    _ => {}
                }
                if since.is_some_and(|gone| gone.elapsed() > SERVED) {
                    return SERVED;
                }
                thread::sleep(Duration::from_millis(100));
            }
            away
        });
        Probe { end, asks }
    }

    /// For how long the page was away in all.
    fn end(self) -> Result<Duration> {
        self.end.store(true, Ordering::Relaxed);
        self.asks
            .join()
            .map_err(|_| anyhow::anyhow!("the probe panicked"))
    }
}
