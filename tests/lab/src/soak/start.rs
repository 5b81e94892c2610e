//! Changes of revision under a container that is started again and again: each time it finds one revision, whole.

use std::collections::BTreeSet;
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
const marks = fs.readdirSync('marks').map((name) => 'marks/' + name);
const found = {};
for (const file of marks.concat(fs.readdirSync('.').filter((name) => name.startsWith('only-')))) {
  const revision = fs.readFileSync(file, 'utf8').trim();
  found[revision] = (found[revision] || 0) + 1;
  Atomics.wait(pause, 0, 0, 25);
}
const said = Object.keys(found).map((revision) => `${revision} ${found[revision]}`).join(' ');
fs.appendFileSync('starts.log', said + '\n');
process.once('SIGTERM', process.exit);
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

/// Until a container on an emulated processor has started twice.
const STARTS: Duration = Duration::from_secs(180);

pub fn starts(scope: &Scope, release: Release, tally: &mut Tally) -> Result<()> {
    let agent = agent::build_with_failpoints(scope.size)?;
    let stage = Stage::was(&agent, release, Image::There)?;
    let server = stage.server.as_ref().context("no server")?;
    prepare(server)?;
    commit(server, 1)?;
    install_tier_file(server, &tier(server, ""))?;
    server.write(&format!("{ROOT}/server.js"), APPLICATION, 0o644)?;
    server.write(&format!("{ROOT}/starts.log"), "", 0o666)?;
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
            let before = found(server)?.len();
            commit(server, number)?;
            Apply::on(server).ok()?;
            // The next change is for a start that began after this one.
            until("two more starts", STARTS, || {
                Ok((found(server)?.len() > before + 1).then_some(()))
            })?;
            no_mix(&found(server)?)
        });
        if !held {
            bail!("{name} does not hold");
        }
    }
    was.ok(["rm", "/run/start"])?;
    let ended = "while systemctl --quiet is-active starting; do sleep 0.1; done";
    was.ok(["sh", "-c", ended])?;
    let found = found(server)?;
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

/// What each start has found, in their order.
fn found(server: &Guest) -> Result<Vec<String>> {
    let log = server.answer(["cat", &format!("{ROOT}/starts.log")])?;
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
