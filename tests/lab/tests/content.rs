//! The application's files on a storage guest: a revision appears at once and whole, whoever reads and whenever the
//! agent is killed, and what is not the agent's stays.

use anyhow::{Context, Result, ensure};
use wasagent_lab::failpoint::{Moment, Point, kill_at, passed};
use wasagent_lab::soak::Size;
use wasagent_lab::tier::{Role, apply, install_tier_file, tier_file};
use wasagent_lab::wasagent::Apply;
use wasagent_lab::{Disk, Guest, Lab, Release, Spec, agent, progress};

const ROOT: &str = "/mnt/data/shared_folder";
const REPOSITORY: &str = "/srv/app";
/// How many files tell the revision.
const MARKS: u32 = 60;
/// No character of it is harmless everywhere.
const PASSWORD: &str = "it's \"a\" \\ $pass 암호";

/// Opens the root once, waits, and then tells how many files of which revision are below it; again and again.
const READER: &str = r#"
while [ -e /run/read ]; do (
    cd /mnt/data/shared_folder || exit
    sleep "0.$((RANDOM % 4))"
    echo "$(cat marks/* | sort | uniq -c | tr -s ' \n' ' ')"
) done > /root/read.log 2>&1
"#;

fn guest(lab: &Lab, release: Release) -> Result<Guest> {
    let binary = agent::build_with_failpoints(Size::Sample(1))?;
    let guest = lab.container(&Spec::storage(release).disk(Disk::of_the_guide("")))?;
    guest.install_agent(&binary)?;
    guest.write("/etc/wasagent/database.password", PASSWORD, 0o600)?;
    guest.ok([
        "git",
        "init",
        "--quiet",
        "--initial-branch=main",
        REPOSITORY,
    ])?;
    Ok(guest)
}

fn tier(guest: &Guest, content: &str) -> String {
    let tier = tier_file().replace(
        "device     = \"auto\"",
        &format!("device     = {:?}", guest.devices()[0]),
    );
    let from = tier.find("[storage.content]").unwrap_or_default();
    let to = tier.find("[was]").unwrap_or_default();
    format!(
        "{}[storage.content]\ngit = {REPOSITORY:?}\nrev = \"main\"\n{content}\n\
         [database]\nhost = \"192.168.3.26\"\nport = 3306\nuser = \"root\"\nname = \"galeradb\"\n\
         password_file = \"/etc/wasagent/database.password\"\n\n{}",
        &tier[..from],
        &tier[to..]
    )
}

/// Commits a revision whose marks all say its number.
fn commit(guest: &Guest, number: u32) -> Result<()> {
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
        &format!("cd {ROOT} && cat marks/1 only-{number} upload deep/er/photo marks/upload by-hand && ls -d empty only-*"),
    ])?;
    let expected = format!(
        "r{number}\nr{number}\na user's\na photo\nbeside the marks\nby hand\nempty\nonly-{number}"
    );
    ensure!(said == expected, "after revision {number}: {said}");
    Ok(())
}

fn nothing_lies_beside(guest: &Guest) -> Result<()> {
    let beside = guest.answer(["ls", "-A", "/mnt/data"])?;
    ensure!(beside == "shared_folder", "beside the share: {beside}");
    Ok(())
}

/// No line of the reader's tells of two revisions, or of less than one.
fn no_mix_was_read(guest: &Guest) -> Result<()> {
    let log = guest.answer(["cat", "/root/read.log"])?;
    let mut seen = std::collections::BTreeSet::new();
    for line in log.lines() {
        let words: Vec<&str> = line
            .split_whitespace()
            .filter(|word| !matches!(*word, "1" | "beside" | "the" | "marks"))
            .collect();
        let [count, revision] = words[..] else {
            anyhow::bail!("the reader saw a mix: {line:?}");
        };
        ensure!(
            count == MARKS.to_string(),
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

fn revisions(release: Release, changes: u32) -> Result<()> {
    let lab = Lab::new()?;
    let guest = guest(&lab, release)?;
    install_tier_file(&guest, &tier(&guest, ""))?;
    commit(&guest, 0)?;
    apply(&guest, Role::Storage)?;
    guest.ok(["sh", "-c", &format!(
        "cd {ROOT} && mkdir -p deep/er empty && printf \"a user's\\n\" > upload && echo 'a photo' > deep/er/photo \
         && echo 'beside the marks' > marks/upload && mkfifo pipe && ln -s /etc/shadow link"
    )])?;
    guest.ok(["sh", "-c", &format!("echo first > {REPOSITORY}/by-hand")])?;
    commit(&guest, 1)?;
    Apply::on(&guest).ok()?;
    guest.ok(["sh", "-c", &format!("echo 'by hand' > {ROOT}/by-hand")])?;

    let plan = guest.run(["wasagent", "plan"])?;
    for word in ["by-hand was changed by somebody", "-first", "+by hand"] {
        ensure!(plan.stdout.contains(word), "{word:?} is not in {plan}");
    }

    guest.write("/run/read", "", 0o600)?;
    let reader = format!(
        "systemd-run --quiet --unit=reader bash -c '{}'",
        READER.replace('\'', "'\\''")
    );
    guest.ok(["sh", "-c", &reader])?;

    // Each change is cut off at another moment, and the branch moves on before the next apply.
    let command = ["wasagent", "apply", "--format", "json"];
    commit(&guest, 2)?;
    let (output, points) = passed(&guest, &command)?;
    ensure!(output.success(), "{output}");
    let points: Vec<Point> = points
        .into_iter()
        .filter(|point| {
            let verb = point.effect.split(' ').next();
            point.resource.starts_with("content:")
                && matches!(verb, Some("stage" | "deploy" | "settle"))
        })
        .collect();
    ensure!(points.len() > 8, "{points:?}");
    for change in 0..changes {
        let number = 3 + 2 * change;
        commit(&guest, number)?;
        let at = usize::try_from(change)? % points.len();
        // The commit is a part of the point's name.
        let head = guest.answer(["git", "-C", REPOSITORY, "rev-parse", "main"])?;
        let mut point = points[at].clone();
        let verb = point
            .effect
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        point.effect = format!("{verb} {head}");
        kill_at(&guest, &point, &command).with_context(|| format!("at {point}"))?;
        let whole = guest.answer([
            "sh",
            "-c",
            &format!("cat {ROOT}/marks/[0-9]* | sort -u | wc -l"),
        ])?;
        ensure!(whole == "1", "killed at {point}: a mix");
        if point.moment != Moment::During {
            commit(&guest, number + 1)?;
            Apply::on(&guest)
                .ok()
                .with_context(|| format!("after {point}"))?;
            what_is_others_stays(&guest, number + 1)?;
        } else {
            Apply::on(&guest)
                .ok()
                .with_context(|| format!("after {point}"))?;
            what_is_others_stays(&guest, number)?;
        }
    }
    guest.ok(["rm", "/run/read"])?;
    guest.ok([
        "sh",
        "-c",
        "while systemctl -q is-active reader; do sleep 0.1; done",
    ])?;
    no_mix_was_read(&guest)?;
    // The reader is gone: so are the trees that it may have had open, after the next change.
    commit(&guest, 1000)?;
    Apply::on(&guest).ok()?;
    what_is_others_stays(&guest, 1000)?;
    nothing_lies_beside(&guest)
}

#[test]
fn a_revision_appears_at_once_on_trixie() -> Result<()> {
    revisions(Release::Trixie, 4)
}

#[test]
#[ignore = "takes minutes: every fail point, twenty changes and more"]
fn twenty_revisions_appear_at_once_on_both() -> Result<()> {
    for release in Release::BOTH {
        revisions(release, 24)?;
    }
    Ok(())
}

/// A build runs as the account and reaches nothing but its tree; the settings are in, and nowhere else.
#[test]
fn a_revision_is_built_and_edited() -> Result<()> {
    let lab = Lab::new()?;
    for release in Release::BOTH {
        let guest = guest(&lab, release)?;
        let edit = "[[storage.content.edit]]\nfiles = [\"db.js\"]\nobject = \"mysql.createPool\"\n\
             set = { host = \"{database.host}\", password = \"{database.password}\" }\n";
        let content = format!("build = [\"sh\", \"build.sh\"]\n{edit}");
        install_tier_file(&guest, &tier(&guest, &content))?;
        guest.write(
            &format!("{REPOSITORY}/build.sh"),
            "id -un > built; mkdir node_modules; echo made > node_modules/a; ln -s a node_modules/b; echo x > $HOME/c\n\
             for place in /etc/x /srv/x /mnt/data/x /mnt/data/shared_folder/x; do\n\
             \techo x > $place && echo \"wrote $place\" >> built; done\n\
             cat /etc/wasagent/tier.toml && echo 'read the tier file' >> built; echo run >> count; exit 0\n",
            0o644,
        )?;
        commit(&guest, 1)?;
        let applied = apply(&guest, Role::Storage)?;
        let there = |path: &str| guest.answer(["cat", &format!("{ROOT}/{path}")]);
        ensure!(
            there("built")? == "user1",
            "the build did {}",
            there("built")?
        );
        ensure!(there("node_modules/b")? == "made" && there("count")? == "run");
        let edited = there("db.js")?;
        ensure!(
            edited.contains("host: '192.168.3.26'") && edited.contains("it\\'s \"a\""),
            "{edited}"
        );
        let mode = guest.answer(["stat", "-c", "%U %a", &format!("{ROOT}/db.js")])?;
        ensure!(mode == "user1 600", "{mode}");
        ensure!(!applied.output.stdout.contains("it's"));
        let traces = guest.run([
            "grep",
            "-rlF",
            "$pass",
            "/var/lib/wasagent",
            "/var/log",
            "/run/log",
        ])?;
        ensure!(traces.stdout.is_empty(), "the password is in {traces}");
        let again = Apply::on(&guest).ok()?;
        ensure!(
            again.summary()?["changed"] == 0,
            "built again: {}",
            again.output
        );

        guest.write("/etc/wasagent/database.password", "an\\other", 0o600)?;
        Apply::on(&guest).ok()?;
        ensure!(
            there("db.js")?.contains("an\\\\other"),
            "{}",
            there("db.js")?
        );

        // A build that fails says why, and changes nothing.
        let failing = content.replace("\"build.sh\"", "\"-c\", \"echo no such module; exit 3\"");
        install_tier_file(&guest, &tier(&guest, &failing))?;
        let failed = Apply::on(&guest).run()?.output;
        ensure!(
            failed.status == 1 && failed.stderr.contains("no such module"),
            "{failed}"
        );
        ensure!(there("built")? == "user1");
        nothing_lies_beside(&guest)?;
        let units = guest.answer([
            "systemctl",
            "list-units",
            "--all",
            "--no-legend",
            "wasagent-build.service",
        ])?;
        ensure!(units.is_empty(), "{units}");
    }
    Ok(())
}
