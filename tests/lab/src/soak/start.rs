//! Changes of revision under a container that is started again and again: each time it finds one revision, whole.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::content::{CHANGES, MARKS, ROOT, commit, prepare, tier};
use super::stage::{Image, Stage};
use super::{Scope, Size, Tally};
use crate::guest::Guest;
use crate::process::until;
use crate::release::Release;
use crate::tier::install_tier_file;
use crate::wasagent::Apply;
use crate::{agent, progress};

/// In place of the sample application: one that loads its files with pauses between them, as a big one on a slow
/// processor does, says how many it has found of which revision, and then answers.
const APPLICATION: &str = r#"
const fs = require('fs'), http = require('http');
const pause = new Int32Array(new SharedArrayBuffer(4));
fs.appendFileSync('begun.log', 'begun\n');
const marks = fs.readdirSync('marks').map((name) => 'marks/' + name);
const found = {};
const load = (file) => {
  try { return fs.readFileSync(file, 'utf8').trim(); } catch (error) { return error.code; }
};
for (const file of marks.concat(fs.readdirSync('.').filter((name) => name.startsWith('only-')))) {
  const revision = load(file);
  found[revision] = (found[revision] || 0) + 1;
  Atomics.wait(pause, 0, 0, 25);
}
const said = Object.keys(found).map((revision) => `${revision} ${found[revision]}`).join(' ');
fs.appendFileSync('found.log', said + '\n');
process.once('SIGTERM', () => process.exit());
http.createServer((request, response) => response.end(said)).listen(3000);
"#;

/// Starts the container as soon as it has answered, at another moment of a second each time.
const STARTING: &str = r#"
while [ -e /run/start ]; do
    systemctl restart nodejs-server.service
    until curl --silent --fail --output /dev/null http://127.0.0.1:5000/; do sleep 0.1; done
    sleep "0.$((RANDOM % 10))"
done
"#;

/// Until a container on an emulated processor has started.
const STARTS: Duration = Duration::from_secs(180);

/// What the application writes when it begins, and when it has loaded its files.
const BEGUN: &str = "/mnt/data/shared_folder/begun.log";
const FOUND: &str = "/mnt/data/shared_folder/found.log";

/// The moments of a start, which takes two seconds and more, at which changes come.
const MOMENT: Duration = Duration::from_millis(300);
const MOMENTS: u32 = 7;

pub fn starts(scope: &Scope, release: Release, tally: &mut Tally) -> Result<()> {
    let agent = agent::build_with_failpoints(scope.size)?;
    let stage = Stage::was(&agent, release, Image::There)?;
    let server = stage.server.as_ref().context("no server")?;
    prepare(server)?;
    commit(server, 1)?;
    install_tier_file(server, &tier(server, ""))?;
    server.write(&format!("{ROOT}/server.js"), APPLICATION, 0o644)?;
    for log in [BEGUN, FOUND] {
        server.write(log, "", 0o666)?;
    }
    Apply::on(server).ok()?;
    let was = &stage.guest;
    stage.apply(None)?;
    was.write("/run/start", "", 0o600)?;
    let unit = "--unit=starting";
    was.ok(["systemd-run", "--quiet", unit, "bash", "-c", STARTING])?;

    let changes = match scope.size {
        Size::All => CHANGES,
        Size::Sample(changes) => changes,
    };
    for number in (2..).take(changes) {
        let name = format!("{release}|a container starts during change {number}");
        let held = tally.point(&name, || {
            commit(server, number)?;
            let begun = lines(server, BEGUN)?.len();
            until("a start", STARTS, || {
                Ok((lines(server, BEGUN)?.len() > begun).then_some(()))
            })?;
            // It loads its files now; the change comes at another moment of that each time.
            thread::sleep(MOMENT * (number % MOMENTS));
            let found = lines(server, FOUND)?.len();
            Apply::on(server).ok()?;
            until("the end of that start", STARTS, || {
                Ok((lines(server, FOUND)?.len() > found).then_some(()))
            })?;
            no_mix(&lines(server, FOUND)?).with_context(|| journal(was))
        });
        if !held {
            bail!("{name} does not hold");
        }
    }
    was.ok(["rm", "/run/start"])?;
    let ended = "while systemctl --quiet is-active starting; do sleep 0.1; done";
    was.ok(["sh", "-c", ended])?;
    let found = lines(server, FOUND)?;
    no_mix(&found)?;
    let revisions: BTreeSet<&String> = found.iter().collect();
    progress::say(format!(
        "{} starts found {} revisions",
        found.len(),
        revisions.len()
    ));
    let last = format!("r{} {}", changes + 1, MARKS + 1);
    ensure!(
        found.last() == Some(&last),
        "the last start found {found:?}"
    );
    Ok(())
}

/// What the units of the start had to say.
fn journal(was: &Guest) -> String {
    let units = [
        "journalctl",
        "--lines=40",
        "--unit=nodejs-server",
        "--unit=run-*",
    ];
    match was.run(units) {
        Ok(journal) => journal.stdout,
        Err(error) => format!("{error:#}"),
    }
}

fn lines(server: &Guest, log: &str) -> Result<Vec<String>> {
    let log = server.answer(["cat", log])?;
    Ok(log.lines().map(str::to_owned).collect())
}

fn no_mix(found: &[String]) -> Result<()> {
    let whole = format!(" {}", MARKS + 1);
    for one in found {
        let is_whole = one.split(' ').count() == 2 && one.ends_with(&whole);
        ensure!(is_whole, "a container that started found {one:?}");
    }
    Ok(())
}
