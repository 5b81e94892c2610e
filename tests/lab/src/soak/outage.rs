//! What a WAS VM needs goes, in each way in which it can, and comes back: what the mount and the container of a WAS VM
//! answer at each second, and that all is well again without a hand.

use std::fmt::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::stage::{Image, Machine, Stage};
use super::{Scope, Tally};
use crate::guest::Guest;
use crate::process::until;
use crate::release::Release;
use crate::tier::{SHARE_PASSWORD, SHARE_PASSWORD_FILE, TIER_FILE, tier_file};
use crate::wasagent::{Applied, Apply};
use crate::{agent, image, progress};

/// In place of the sample application: each answer is what a file of the share says, or why it cannot be read.
pub const APPLICATION: &str = r#"
const fs = require('fs'), http = require('http');
process.once('SIGTERM', () => process.exit());
http.createServer((request, response) => fs.readFile('page', 'utf8', (error, text) => {
  response.statusCode = error ? 500 : 200;
  response.end(error ? error.code : text.trim());
})).listen(3000);
"#;
pub const PAGE: &str = "/mnt/data/shared_folder/page";

/// Asks the mount and the application every second, each by itself: one that hangs keeps the other from nothing.
const PROBE: &str = r#"
mount() {
    said=$(timeout --signal=KILL 2 cat /mnt/data/shared_folder/page 2>&1 >/dev/null)
    case $? in
    0) echo fine ;;
    137) echo hangs ;;
    *) findmnt --mountpoint /mnt/data/shared_folder >/dev/null && echo "${said##*: }" || echo 'not mounted' ;;
    esac
}
page() {
    said=$(curl --silent --max-time 2 --write-out ' %{http_code}' http://127.0.0.1:5000/)
    case $? in
    0) echo "$said" ;;
    7) echo refused ;;
    28) echo silent ;;
    *) echo dropped ;;
    esac
}
while [ -e /run/probing ]; do
    began=$(date +%s)
    echo "$began $($1)" >>/root/$1.log
    [ "$(date +%s)" != "$began" ] || sleep 0.7
done
"#;

const MOUNT_POINT: &str = "/mnt/data/shared_folder";
/// What both say while all is well.
const FINE: [(&str, &str); 2] = [("mount", "fine"), ("page", "whole 200")];
/// How often in a row, until all is well.
const IN_A_ROW: usize = 3;

/// How long a share stays away, and how long all may take to be well again once it is back: a kernel that had given a
/// server up asks for it anew every few seconds, and a container takes its time on an emulated processor.
const AWAY: Duration = Duration::from_secs(30);
const BACK: Duration = Duration::from_secs(240);

/// A way to go, and to come back.
struct Outage {
    name: &'static str,
    /// What the storage guest runs on: a container has no udev to mount its data disk at a boot.
    storage: Machine,
    happens: fn(&Stage) -> Result<()>,
}

const OUTAGES: [Outage; 15] = [
    Outage {
        name: "smbd is stopped and started",
        storage: Machine::Container,
        happens: |stage| {
            let server = server(stage)?;
            server.ok(["systemctl", "stop", "smbd.service"])?;
            thread::sleep(AWAY);
            server.ok(["systemctl", "start", "smbd.service"]).map(drop)
        },
    },
    Outage {
        name: "the link of the storage VM is cut and comes back",
        storage: Machine::Container,
        happens: |stage| {
            server(stage)?.cut_link()?;
            thread::sleep(AWAY);
            server(stage)?.restore_link()
        },
    },
    Outage {
        name: "the storage VM comes back with another address behind its name, and one apply",
        storage: Machine::Container,
        happens: |stage| {
            let server = server(stage)?;
            move_to(server, "192.168.2.13/24", "192.168.2.14/24")?;
            thread::sleep(AWAY);
            named(&stage.guest, "192.168.2.14")?;
            let applied = Apply::on(&stage.guest).ok()?;
            let changed = applied.changed();
            ensure!(
                changed.contains("mount:/mnt/data/shared_folder"),
                "{}",
                applied.output
            );
            Ok(())
        },
    },
    Outage {
        name: "somebody removes the mount",
        storage: Machine::Container,
        happens: |stage| unmount(&stage.guest),
    },
    Outage {
        name: "the mount goes between the look at it and the start",
        storage: Machine::Container,
        happens: |stage| {
            let guest = &stage.guest;
            let goes = format!(
                "[Service]\nExecStartPre=-/bin/sh -c '[ ! -e /run/goes ] || {{ rm /run/goes; umount --lazy {MOUNT_POINT}; }}'\n"
            );
            let (directory, drop_in) = (
                "/run/systemd/system/nodejs-server.service.d",
                "/run/systemd/system/nodejs-server.service.d/goes.conf",
            );
            guest.ok(["mkdir", "--parents", directory])?;
            guest.write(drop_in, goes, 0o644)?;
            guest.ok(["systemctl", "stop", "nodejs-server.service"])?;
            unmount(guest)?;
            // An application that would do without the share, and tell.
            guest.write(&format!("{MOUNT_POINT}/server.js"), APPLICATION, 0o644)?;
            guest.write(PAGE, "bare\n", 0o644)?;
            guest.write("/run/goes", "", 0o600)?;
            guest.ok(["systemctl", "daemon-reload"])?;
            let _ = guest.run(["systemctl", "start", "nodejs-server.service"])?;
            let unit = "--unit=nodejs-server.service";
            let log =
                guest.answer(["journalctl", "--quiet", "--output=cat", "--lines=60", unit])?;
            let ended = log.contains("the container sees") && !log.contains("timed out");
            ensure!(ended, "{log}");
            guest.ok(["rm", "--recursive", directory])?;
            guest.ok(["systemctl", "daemon-reload"]).map(drop)
        },
    },
    Outage {
        name: "the container is restarted while podman makes its network",
        storage: Machine::Container,
        happens: |stage| {
            let guest = &stage.guest;
            let restart = "systemctl restart --no-block nodejs-server.service; \
                           until pgrep --full '[n]etavark.* setup' >/dev/null; do sleep 0.02; done; \
                           exec systemctl restart nodejs-server.service";
            guest.ok(["sh", "-c", restart]).map(drop)
        },
    },
    Outage {
        name: "an apply mounts anew while podman makes the container",
        storage: Machine::Container,
        happens: |stage| {
            let guest = &stage.guest;
            let good = guest.answer(["cat", TIER_FILE])?;
            let other = good.replacen("[was]\n", "[was]\nvers = \"3.0.2\"\n", 1);
            ensure!(other != good, "the tier file has a role was: {good}");
            guest.write(TIER_FILE, other, 0o644)?;
            let restart = "systemctl restart --no-block nodejs-server.service; \
                           until pgrep --full '[p]odman run' >/dev/null; do sleep 0.02; done";
            guest.ok(["sh", "-c", restart])?;
            let applied = Apply::on(guest).run();
            guest.write(TIER_FILE, good, 0o644)?;
            let applied = applied?;
            ensure!(applied.output.success(), "{}", applied.output);
            Ok(())
        },
    },
    Outage {
        name: "somebody reloads firewalld",
        storage: Machine::Container,
        // firewall-cmd(1) waits 25 s for the answer, and an emulated processor that two guests share may need more:
        // this is the call that its --reload makes.
        happens: |stage| {
            let reload = [
                "busctl",
                "call",
                "--timeout=300",
                "org.fedoraproject.FirewallD1",
                "/org/fedoraproject/FirewallD1",
                "org.fedoraproject.FirewallD1",
                "reload",
            ];
            let took = stage.guest.ok(reload)?.took.as_secs_f64();
            progress::say(format!("firewalld was reloaded in {took:.1} s"));
            Ok(())
        },
    },
    Outage {
        name: "firewalld is started anew",
        storage: Machine::Container,
        happens: |stage| {
            let guest = &stage.guest;
            guest
                .ok(["systemctl", "restart", "firewalld.service"])
                .map(drop)
        },
    },
    Outage {
        name: "an application that ends again and again, and one apply",
        storage: Machine::Container,
        happens: ends_again_and_again,
    },
    Outage {
        name: "an image whose application ends at once",
        storage: Machine::Container,
        happens: |stage| {
            let ends = r#"CMD ["node", "-e", "console.error('no such table'); process.exit(3)"]"#;
            refused_image(stage, ends, "no such table")
        },
    },
    Outage {
        name: "an image whose program is not there",
        storage: Machine::Container,
        happens: |stage| refused_image(stage, r#"CMD ["no-such-program"]"#, "no-such-program"),
    },
    Outage {
        name: "an image that names a user, to whom the share's files do not belong",
        storage: Machine::Container,
        happens: |stage| {
            let applied = with_image(stage, "USER 1000")?;
            ensure!(applied.output.success(), "{}", applied.output);
            Ok(())
        },
    },
    Outage {
        name: "the server refuses a new password",
        storage: Machine::Container,
        happens: |stage| {
            let guest = &stage.guest;
            guest.write(SHARE_PASSWORD_FILE, "not the password\n", 0o600)?;
            let refused = Apply::on(guest).run()?;
            guest.write(SHARE_PASSWORD_FILE, format!("{SHARE_PASSWORD}\n"), 0o600)?;
            ensure!(refused.refused_mount().is_some(), "{}", refused.output);
            // Nothing was taken away: not for one second.
            for (log, fine) in FINE {
                let last = lines(guest, log)?;
                let last = last.iter().rev().take(5);
                for (second, said) in last {
                    ensure!(said == fine, "{log} at {second}: {said}");
                }
            }
            Ok(())
        },
    },
    Outage {
        name: "the power of the storage VM is cut and comes back",
        storage: Machine::Vm,
        happens: |stage| {
            let server = server(stage)?;
            // What nobody has brought to the disk is lost with the power, and none of the outage.
            server.ok(["sync"])?;
            server.power_cut();
            thread::sleep(AWAY);
            server.power_on()?;
            server.wait_ready(BACK)
        },
    },
];

pub fn run(scope: &Scope) -> Result<()> {
    let agent = agent::build()?;
    let mut tally = Tally::new("outage");
    for release in Release::BOTH {
        if scope.release.is_some_and(|only| only != release) {
            continue;
        }
        let mut stage: Option<(Machine, Stage)> = None;
        for outage in scope.size.of(OUTAGES.iter().collect::<Vec<_>>()) {
            let name = format!("{release}: {}", outage.name);
            if !scope.means(&name) {
                continue;
            }
            let held = tally.point(&name, || {
                if stage
                    .as_ref()
                    .is_none_or(|(machine, _)| *machine != outage.storage)
                {
                    // The one before goes first: two VMs of one name are none.
                    drop(stage.take());
                    stage = Some((outage.storage, served(&agent, outage.storage, release)?));
                }
                let stage = stage.as_ref().map(|(_, stage)| stage);
                stage.map_or(Ok(()), |stage| outage.is_survived(stage))
            });
            if !held {
                stage = None;
            }
        }
    }
    tally.end()
}

/// A WAS VM whose container serves, by a host name for the storage VM, and the probes that watch it.
fn served(agent: &Path, storage: Machine, release: Release) -> Result<Stage> {
    let stage = Stage::was_served_by(agent, storage, release, Image::There, &[])?;
    let server = server(&stage)?;
    server.write(&format!("{MOUNT_POINT}/server.js"), APPLICATION, 0o644)?;
    server.write(PAGE, "whole\n", 0o644)?;
    let guest = &stage.guest;
    let by_name = tier_file().replacen("\"192.168.2.13\"", "\"storage.internal\"", 1);
    guest.write(TIER_FILE, by_name, 0o644)?;
    named(guest, "192.168.2.13")?;
    stage.apply(None)?;
    guest.write("/run/probing", "", 0o600)?;
    for (log, _) in FINE {
        guest.write("/root/probe.sh", PROBE, 0o755)?;
        let unit = format!("--unit=probe-{log}");
        guest.ok([
            "systemd-run",
            "--quiet",
            &unit,
            "bash",
            "/root/probe.sh",
            log,
        ])?;
    }
    all_is_well(guest, 0)?;
    Ok(stage)
}

/// Applies a tier file with another image, which is the one that runs but for this; the tier file is the one of before
/// after that.
fn with_image(stage: &Stage, change: &str) -> Result<Applied> {
    let guest = &stage.guest;
    let commit = ["podman", "commit", "--quiet", "--change", change];
    guest.ok([&commit[..], &["nodejs-server", "localhost/other:1"]].concat())?;
    let good = guest.answer(["cat", TIER_FILE])?;
    let other = good.replacen(image::NAME, "localhost/other:1", 1);
    ensure!(other != good, "the tier file has another image: {good}");
    guest.write(TIER_FILE, other, 0o644)?;
    let applied = Apply::on(guest).run();
    guest.write(TIER_FILE, good, 0o644)?;
    applied
}

/// An application that ends as soon as it has started is started more and more seldom, until it is mended: an apply waits
/// for none of that.
fn ends_again_and_again(stage: &Stage) -> Result<()> {
    let (guest, server) = (&stage.guest, server(stage)?);
    let (unit, script) = ("nodejs-server.service", format!("{MOUNT_POINT}/server.js"));
    let since = format!("--since=@{}", guest.answer(["date", "+%s"])?);
    server.write(&script, "process.exit(3);", 0o644)?;
    guest.ok(["podman", "kill", "nodejs-server"])?;
    let pauses = || {
        let of = [
            "--output=cat",
            "--unit",
            unit,
            "--grep=the next start waits",
        ];
        guest.run([&["journalctl", "--quiet", &since][..], &of].concat())
    };
    // One try takes an emulated processor a minute.
    let doubled = until("a second pause", BACK * 3, || {
        thread::sleep(Duration::from_secs(1));
        Ok(pauses()?.stdout.contains("waits 20 s").then_some(()))
    });
    let said = pauses()?.stdout;
    doubled.with_context(|| said.clone())?;
    ensure!(said.contains("waits 10 s"), "{said}");
    progress::say(said.trim());
    let restarts = ["systemctl", "show", "--property=NRestarts", "--value", unit];
    let tried = guest.answer(restarts)?;
    let status = guest.run(["systemctl", "status", unit])?.stdout;
    ensure!(status.contains("the next start waits"), "{status}");

    server.write(&script, APPLICATION, 0o644)?;
    let applied = Apply::on(guest).ok()?;
    let took = applied.output.took.as_secs_f64();
    progress::say(format!(
        "mended after {tried} tries; one apply took {took:.1} s"
    ));
    let status = guest.run(["systemctl", "status", unit])?.stdout;
    ensure!(!status.contains("the next start waits"), "{status}");
    // Whoever starts it begins anew.
    let starts = guest.answer(["cat", "/run/wasagent-nodejs-server/starts"])?;
    ensure!(starts.matches("restarts").count() == 1, "{starts}");
    ensure!(guest.answer(restarts)? == "0");
    Ok(())
}

/// An image by which the container does not come up: the one of before goes on.
fn refused_image(stage: &Stage, change: &str, words: &str) -> Result<()> {
    let failed = with_image(stage, change)?;
    let said = failed.failure("container:nodejs-server");
    let said = said.with_context(|| failed.output.to_string())?;
    let said = said["error"]["message"].as_str().unwrap_or_default();
    ensure!(
        said.contains(words) && said.contains("of before runs again"),
        "{said}"
    );
    progress::say(said);
    Ok(())
}

fn server(stage: &Stage) -> Result<&Guest> {
    stage.server.as_ref().context("no server")
}

/// What the WAS VM takes the storage VM's name for.
fn named(guest: &Guest, address: &str) -> Result<()> {
    let set = format!(
        "sed -i '/ storage.internal$/d' /etc/hosts && echo '{address} storage.internal' >>/etc/hosts"
    );
    guest.ok(["sh", "-c", &set]).map(drop)
}

/// Takes the mount away by hand; the probe has a file of it open now and then, which makes it busy.
fn unmount(guest: &Guest) -> Result<()> {
    let again =
        format!("for try in $(seq 50); do umount {MOUNT_POINT} && exit; sleep 0.2; done; exit 1");
    guest.ok(["sh", "-c", &again]).map(drop)
}

fn move_to(server: &Guest, from: &str, to: &str) -> Result<()> {
    let interface = server.interface();
    server.ok(["ip", "address", "add", to, "dev", interface])?;
    server.ok(["ip", "address", "del", from, "dev", interface])?;
    Ok(())
}

impl Outage {
    fn is_survived(&self, stage: &Stage) -> Result<()> {
        let guest = &stage.guest;
        let begun: u64 = guest.answer(["date", "+%s"])?.parse()?;
        (self.happens)(stage)?;
        let back: u64 = guest.answer(["date", "+%s"])?.parse()?;
        let well = all_is_well(guest, back);
        let table = table(guest, begun)?;
        let took = well.with_context(|| format!("{}\n{table}", self.name))?;
        progress::say(format!(
            "{}: away for {} s, all is well {} s after it was back\n{table}",
            self.name,
            back - begun,
            took.saturating_sub(back)
        ));
        never_from_an_empty_directory(guest, begun)?;
        // The next outage begins with what this one has left: nothing.
        Apply::on(guest).ok()?;
        let again: u64 = guest.answer(["date", "+%s"])?.parse()?;
        all_is_well(guest, again).map(drop)
    }
}

/// Waits until both probes have found all well since then, and gives back the second from which on they did.
fn all_is_well(guest: &Guest, since: u64) -> Result<u64> {
    until("a share and a page that are well", BACK, || {
        let mut well = since;
        for (log, fine) in FINE {
            let lines = lines(guest, log)?;
            let last = &lines[lines.len().saturating_sub(IN_A_ROW)..];
            let is_fine = last.len() == IN_A_ROW
                && last.iter().all(|(at, said)| *at >= since && said == fine);
            if !is_fine {
                thread::sleep(Duration::from_secs(1));
                return Ok(None);
            }
            let ill = lines.iter().rposition(|(_, said)| said != fine);
            let first = ill.map_or(0, |ill| ill + 1);
            well = well.max(lines[first].0);
        }
        Ok(Some(well))
    })
}

/// What a probe has said, by the second.
fn lines(guest: &Guest, log: &str) -> Result<Vec<(u64, String)>> {
    let path = format!("/root/{log}.log");
    let text = guest.run(["cat", &path])?.stdout;
    text.lines()
        .map(|line| {
            let (second, said) = line.split_once(' ').context("a line of a probe")?;
            Ok((second.parse()?, said.to_owned()))
        })
        .collect()
}

/// Both probes since then: a line for each time that one says something else.
fn table(guest: &Guest, since: u64) -> Result<String> {
    let mut table = String::new();
    for (log, _) in FINE {
        let mut before = String::new();
        for (second, said) in lines(guest, log)? {
            if second >= since && said != before {
                writeln!(table, "    {:>4} s  {log:<5}  {said}", second - since)?;
                before = said;
            }
        }
    }
    Ok(table)
}

/// No answer came, and no start was tried, where the files are not.
fn never_from_an_empty_directory(guest: &Guest, since: u64) -> Result<()> {
    for (second, said) in lines(guest, "page")? {
        if second >= since && said.starts_with("ENOENT") {
            bail!("the container answered from an empty directory: {said}");
        }
    }
    let since = format!("--since=@{since}");
    let name = "CONTAINER_NAME=nodejs-server";
    let log = guest.run(["journalctl", "--quiet", "--output=cat", &since, name])?;
    ensure!(
        !log.stdout.contains("Cannot find module"),
        "a container started in an empty directory: {log}"
    );
    Ok(())
}
