//! Changes of revision under a reader on the storage guest, with the agent killed in each phase: what is read is a whole
//! revision, the next apply finishes, and what is not the agent's stays.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::{Scope, Size, Tally, start};
use crate::failpoint::{Point, kill_at, passed};
use crate::guest::{Disk, Guest, Spec};
use crate::lab::Lab;
use crate::release::Release;
use crate::tier::{Role, apply, install_tier_file, tier_file, with_disk_of};
use crate::wasagent::Apply;
use crate::{agent, progress};

/// What is shared, and what it comes from.
pub const ROOT: &str = "/mnt/data/shared_folder";
pub const REPOSITORY: &str = "/srv/app";
/// How many files tell the revision.
pub const MARKS: u32 = 60;
/// No character of it is harmless everywhere.
pub const PASSWORD: &str = "it's \"a\" \\ $pass 암호";
pub const PASSWORD_FILE: &str = "/etc/wasagent/database.password";

/// At least so many changes there are; those that are cut off are each at another point while there are any.
pub const CHANGES: usize = 20;

const BUILD: &str = "build = [\"cp\", \"marks/1\", \"only-built\"]";

/// Opens the root once, waits, and then tells how many files of which revision are below it; again and again.
const READER: &str = r#"
while [ -e /run/read ]; do (
    cd /mnt/data/shared_folder || exit
    sleep "0.$((RANDOM % 4))"
    echo "$(cat marks/[0-9]* only-* | sort | uniq -c | tr -s ' \n' ' ')"
) done > /root/read.log 2>&1
"#;

pub fn run(scope: &Scope) -> Result<()> {
    let mut tally = Tally::new("content");
    for (role, release) in scope.guests() {
        match role {
            Role::Storage => revisions(scope, release, &mut tally),
            Role::Was => start::starts(scope, release, &mut tally),
        }
        .with_context(|| release.to_string())?;
    }
    tally.end()
}

/// A storage guest with an empty repository, nothing applied.
pub fn guest(lab: &Lab, release: Release, size: Size) -> Result<Guest> {
    let binary = agent::build_with_failpoints(size)?;
    let guest = lab.container(&Spec::storage(release).disk(Disk::of_the_guide("")))?;
    guest.install_agent(&binary)?;
    prepare(&guest)?;
    Ok(guest)
}

/// What the tier file names: a password, and an empty repository.
pub fn prepare(guest: &Guest) -> Result<()> {
    guest.write(PASSWORD_FILE, PASSWORD, 0o600)?;
    let init = [
        "git",
        "init",
        "--quiet",
        "--initial-branch=main",
        REPOSITORY,
    ];
    guest.ok(init).map(drop)
}

/// The tier file with these lines in its `[storage.content]`.
pub fn tier(guest: &Guest, content: &str) -> String {
    let tier = with_disk_of(guest, &tier_file());
    let from = tier.find("[storage.content]").unwrap_or_default();
    let to = tier.find("[was]").unwrap_or_default();
    format!(
        "{}[storage.content]\ngit = {REPOSITORY:?}\nrev = \"main\"\n{content}\n\
         [database]\nhost = \"192.168.3.26\"\nport = 3306\nuser = \"root\"\nname = \"galeradb\"\n\
         password_file = {PASSWORD_FILE:?}\n\n{}",
        &tier[..from],
        &tier[to..]
    )
}

/// Commits a revision whose marks all say its number.
pub fn commit(guest: &Guest, number: u32) -> Result<()> {
    let script = format!(
        r#"set -e; cd {REPOSITORY}; mkdir -p marks; rm -f only-*
for i in $(seq {MARKS}); do echo "r{number}" > marks/$i; done
echo "r{number}" > only-{number}
printf "var c = mysql.createPool({{\n\thost: 'x',\n\tpassword: 'x'\n}}); // r{number}\n" > db.js
git add --all; git -c user.name=x -c user.email=x@example.org commit --quiet --message=r{number}"#
    );
    guest.ok(["sh", "-c", &script]).map(drop)
}

/// Everything that is not the agent's is as it was made.
fn what_is_others_stays(guest: &Guest, number: u32) -> Result<()> {
    let said = guest.answer([
        "sh",
        "-c",
        &format!("cd {ROOT} && cat marks/1 only-{number} only-built upload deep/er/photo marks/upload by-hand && ls -d empty only-*"),
    ])?;
    let expected = format!(
        "r{number}\nr{number}\nr{number}\na user's\na photo\nbeside the marks\nby hand\nempty\nonly-{number}\nonly-built"
    );
    ensure!(said == expected, "after revision {number}: {said}");
    Ok(())
}

/// But what is known of the deployed files.
pub fn nothing_lies_beside(guest: &Guest) -> Result<()> {
    let beside = guest.answer(["ls", "-A", "/mnt/data"])?;
    let expected = ".wasagent-shared_folder.json\nshared_folder";
    ensure!(beside == expected, "beside the share: {beside}");
    Ok(())
}

/// Whatever the build did to owner and modes.
pub fn everything_is_the_shares(guest: &Guest) -> Result<()> {
    let other = "find . -mindepth 1 ! -type l ! -name .wasagent.lock ! \\( -user user1 -group user1 \
         \\( -type d -perm 2770 -o -type f \\( -perm 660 -o -perm 770 \\) \\) \\) -printf '%p %u %g %m\\n'; \
         stat -c '%U %G %a' .";
    let found = guest.answer(["sh", "-c", &format!("cd {ROOT}; {other}")])?;
    ensure!(found == "user1 user1 2770", "{found}");
    Ok(())
}

/// No line of the reader's tells of two revisions, or of less than one.
fn no_mix_was_read(guest: &Guest) -> Result<()> {
    let log = guest.answer(["cat", "/root/read.log"])?;
    let mut seen = BTreeSet::new();
    for line in log.lines() {
        let [count, revision] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("the reader saw a mix: {line:?}");
        };
        ensure!(
            count == (MARKS + 2).to_string(),
            "the reader saw a part: {line:?}"
        );
        seen.insert(revision.to_owned());
    }
    progress::say(format!(
        "the reader looked {} times and saw whole revisions: {seen:?}",
        log.lines().count()
    ));
    ensure!(seen.len() > 1, "the reader saw one revision only");
    Ok(())
}

/// A guest with a revision, and with what is not the agent's beside it; a reader goes on reading.
fn with_a_reader(lab: &Lab, release: Release, size: Size) -> Result<Guest> {
    let guest = guest(lab, release, size)?;
    install_tier_file(&guest, &tier(&guest, BUILD))?;
    guest.write(&format!("{REPOSITORY}/by-hand"), "first\n", 0o644)?;
    commit(&guest, 1)?;
    apply(&guest, Role::Storage)?;
    let others = format!(
        "cd {ROOT} && mkdir -p deep/er empty && echo \"a user's\" > upload && echo 'a photo' > deep/er/photo \
         && echo 'beside the marks' > marks/upload && mkfifo pipe && ln -s /etc/shadow link && echo 'by hand' > by-hand"
    );
    guest.ok(["sh", "-c", &others])?;
    guest.write("/run/read", "", 0o600)?;
    guest.ok([
        "systemd-run",
        "--quiet",
        "--unit=reader",
        "bash",
        "-c",
        READER,
    ])?;
    Ok(guest)
}

fn revisions(scope: &Scope, release: Release, tally: &mut Tally) -> Result<()> {
    let lab = Lab::new()?;
    let guest = with_a_reader(&lab, release, scope.size)?;
    let plan = guest.run(["wasagent", "plan"])?;
    for word in ["by-hand was changed by somebody", "-first", "+by hand"] {
        ensure!(plan.stdout.contains(word), "{word:?} is not in {plan}");
    }

    let command = ["wasagent", "apply", "--format", "json"];
    commit(&guest, 2)?;
    let head = || guest.answer(["git", "-C", REPOSITORY, "rev-parse", "main"]);
    let commit_of_points = head()?;
    let (output, points) = passed(&guest, &command)?;
    ensure!(output.success(), "{output}");
    // A second one of a name comes only where somebody had an older tree open.
    let of_content = |point: &Point| {
        point.resource.starts_with("content:") && !point.effect.contains('#') && scope.means(point)
    };
    let points: Vec<Point> = points.into_iter().filter(of_content).collect();
    let points = match scope.size {
        Size::All => points
            .iter()
            .cycle()
            .take(points.len().max(CHANGES))
            .cloned()
            .collect(),
        sample => sample.of(points),
    };
    for (change, point) in points.iter().enumerate() {
        let number = 3 + 2 * u32::try_from(change)?;
        let name = format!("{release}|{point}");
        let held = tally.point(&name, || {
            commit(&guest, number)?;
            let point = Point {
                effect: point.effect.replace(&commit_of_points, &head()?),
                ..point.clone()
            };
            cut_off(&guest, &point, &command, number)
        });
        if !held {
            bail!("{name} does not hold: what comes after it would tell nothing");
        }
    }
    guest.ok(["rm", "/run/read"])?;
    let ended = "while systemctl --quiet is-active reader; do sleep 0.1; done";
    guest.ok(["sh", "-c", ended])?;
    no_mix_was_read(&guest)?;
    // The reader is gone: so are the trees that it may have had open, after the next change.
    commit(&guest, 1000)?;
    Apply::on(&guest).ok()?;
    what_is_others_stays(&guest, 1000)?;
    nothing_lies_beside(&guest)
}

/// Kills an apply at the point, and looks what the next one makes of it; at every other one the branch has moved on by then.
fn cut_off(guest: &Guest, point: &Point, command: &[&str], number: u32) -> Result<()> {
    kill_at(guest, point, command)?;
    let marks = format!("cat {ROOT}/marks/[0-9]* {ROOT}/only-* | sort | uniq -c");
    let there = guest.answer(["sh", "-c", &marks])?;
    let whole = there.lines().count() == 1 && there.contains(&format!("{} r", MARKS + 2));
    ensure!(whole, "after the kill there is a mix: {there}");
    let moves_on = number % 4 == 1;
    if moves_on {
        commit(guest, number + 1)?;
    }
    Apply::on(guest).ok()?;
    what_is_others_stays(guest, number + u32::from(moves_on))
}
