//! The application's files on a storage guest: a revision appears at once and whole, whoever reads and whenever the
//! agent is killed, and is built once and edited.

use anyhow::{Result, ensure};
use wasagent_lab::soak::content::{
    PASSWORD_FILE, REPOSITORY, ROOT, commit, everything_is_the_shares, guest, nothing_lies_beside,
    run, tier,
};
use wasagent_lab::soak::{Scope, Size, builds};
use wasagent_lab::tier::{Role, apply, install_tier_file};
use wasagent_lab::wasagent::Apply;
use wasagent_lab::{Guest, Lab, Release, progress};

#[test]
fn a_revision_appears_at_once_whenever_the_agent_is_killed() -> Result<()> {
    run(&Scope::sample(5, Role::Storage, Release::Trixie))
}

#[test]
fn a_container_that_starts_finds_one_revision() -> Result<()> {
    run(&Scope::sample(2, Role::Was, Release::Trixie))
}

const EDIT: &str = "[[storage.content.edit]]\nfiles = [\"db.js\"]\nobject = \"mysql.createPool\"\n\
     set = { host = \"{database.host}\", password = \"{database.password}\" }\n";

/// Writes down what it can write and read, and makes what a package manager would.
const BUILD: &str = r#"echo building
id -un > built; mkdir node_modules; echo made > node_modules/a; ln -s a node_modules/b; echo x > $HOME/c
for place in /etc/x /srv/x /mnt/data/x /mnt/data/shared_folder/x; do
    echo x > $place && echo "wrote $place" >> built
done
cat /etc/wasagent/tier.toml && echo "read the tier file" >> built
exit 0
"#;

#[test]
fn a_revision_is_built_once_and_edited_on_both() -> Result<()> {
    Release::BOTH.into_iter().try_for_each(built_and_edited)
}

fn there(guest: &Guest, path: &str) -> Result<String> {
    guest.answer(["cat", &format!("{ROOT}/{path}")])
}

fn builds(guest: &Guest) -> Result<usize> {
    guest.ok(["journalctl", "--sync"])?;
    let unit = "_SYSTEMD_UNIT=wasagent-build.service";
    let log = guest.answer(["journalctl", "--output=cat", unit])?;
    Ok(log.lines().filter(|line| *line == "building").count())
}

/// What builds do to files, each as a script, and what is served then, as another one says.
const BUILDS: [(&str, &str, &str); 9] = [
    ("cp -r", "cp -r public dist", "cat dist/sub/page"),
    (
        "cp -a",
        "cp -a public dist; cp -a --preserve=mode,links dist/. other",
        "cat other/sub/page",
    ),
    (
        "tar",
        "chmod 4777 public/sub/page; tar -czf p.tgz public; mkdir dist; tar -xpzf p.tgz -C dist",
        "cat dist/public/sub/page",
    ),
    (
        "set-ID bits",
        "cp /bin/true t; chmod 6777 t; mkdir d; chmod 7777 d; cp t d/t; chmod 2755 d/t; echo page",
        "./t && ./d/t && echo a page",
    ),
    (
        "no rights at all",
        "mkdir -p d/e; cp public/sub/page d/e/page; chmod 0 d/e/page d/e d .; true",
        "cat d/e/page",
    ),
    (
        "rights for everybody",
        "umask 0; mkdir open; cp public/sub/page open/page; chmod 666 open/page; chmod -R a+w .",
        "cat open/page",
    ),
    (
        "hard links",
        "ln public/sub/page page; ln page again; cp -al public linked",
        "cat linked/sub/page again | uniq",
    ),
    (
        "links within the tree",
        "ln -s ../public/sub public/up; ln -s $PWD/public/sub/page page; mkdir x; ln -s $PWD x/whole",
        "cat public/up/page page x/whole/page | uniq",
    ),
    (
        "a process that stays",
        "(trap '' TERM HUP; while :; do echo late > late; sleep 0.05; done) >/dev/null 2>&1 & cp -r public dist",
        "cat dist/sub/page",
    ),
];

/// What a build leaves and no WAS could use, and what is said of it.
const UNCARRIABLE: [(&str, &str, &str); 8] = [
    (
        "an absolute link",
        "mkdir d; ln -s /etc/passwd d/out",
        "d/out is a symbolic link to /etc/passwd",
    ),
    (
        "a link out",
        "mkdir d; ln -s ../../home d/out",
        "d/out is a symbolic link to ../../home",
    ),
    (
        "a link through a link",
        "mkdir d; ln -s .. d/up; ln -s d/up/../x out",
        "out is a symbolic link",
    ),
    (
        "a FIFO",
        "mkdir d; mkfifo d/pipe",
        "d/pipe, which is neither",
    ),
    ("a colon", "echo x > 'a:b'", "a:b cannot be carried"),
    (
        "a blank at the end",
        "echo x > 'a '",
        "a  cannot be carried",
    ),
    (
        "not UTF-8",
        r"echo x > $(printf 'caf\351')",
        r"caf\xe9 cannot be carried",
    ),
    (
        "a deep tree",
        "for i in $(seq 700); do mkdir d; cd d; done",
        "more than 200 directories deep",
    ),
];

/// The same of a repository, below `odd`.
const IN_THE_REPOSITORY: [(&str, &str, &str); 6] = [
    (
        "a pointer of Git LFS",
        "echo 'version https://git-lfs.github.com/spec/v1' > a.png; echo 'oid sha256:0' >> a.png",
        "odd/a.png is a pointer of Git LFS",
    ),
    (
        "a link",
        "ln -s ../marks/1 link",
        "odd/link is a symbolic link",
    ),
    (
        "a submodule",
        "git init -q sub; cd sub; git -c user.name=x -c user.email=x@x commit -q --allow-empty -m x",
        "odd/sub is a submodule",
    ),
    (
        "a dot at the end",
        "echo x > end.",
        "odd/end. cannot be carried",
    ),
    (
        "a backslash",
        r"echo x > 'a\b'",
        r"odd/a\b cannot be carried",
    ),
    (
        "not UTF-8",
        r"echo x > $(printf 'caf\351')",
        r"odd/caf\xe9 cannot be carried",
    ),
];

#[test]
fn a_build_may_do_what_builds_do() -> Result<()> {
    Release::BOTH.into_iter().try_for_each(|release| {
        let lab = Lab::new()?;
        let guest = guest(&lab, release, Size::Sample(1))?;
        let build = "build = [\"sh\", \"-e\", \"build.sh\"]\n";
        install_tier_file(&guest, &tier(&guest, build))?;
        guest.write(&format!("{REPOSITORY}/public/sub/page"), "a page\n", 0o644)?;
        let mut number = 0;
        let mut next = |script: &str| {
            number += 1;
            let script = format!("echo building number {number}\n{script}\n");
            guest.write(&format!("{REPOSITORY}/build.sh"), script, 0o644)?;
            commit(&guest, number)
        };
        // Each in a directory of its own, so that one revision has them all.
        let each = BUILDS.iter().enumerate().map(|(index, (_, script, _))| {
            format!("(mkdir {index}; cd {index}; cp -r ../public .; {script})")
        });
        next(&each.collect::<Vec<_>>().join("\n"))?;
        apply(&guest, Role::Storage)?;
        for (index, (name, _, served)) in BUILDS.iter().enumerate() {
            let served = format!("cd {ROOT}/{index}; {served}");
            let served = guest.answer(["sh", "-c", &served])?;
            ensure!(served == "a page", "{name}: {served}");
        }
        everything_is_the_shares(&guest)?;

        let all = release == Release::Trixie;
        let uncarriable = if all {
            &UNCARRIABLE[..]
        } else {
            &UNCARRIABLE[..1]
        };
        for (name, script, said) in uncarriable {
            next(script)?;
            let failed = Apply::on(&guest).run()?.output;
            ensure!(
                failed.status == 1 && failed.stderr.contains(said),
                "{name}: {failed}"
            );
            nothing_lies_beside(&guest)?;
            ensure!(there(&guest, "0/dist/sub/page")? == "a page", "{name}");
        }
        for (name, make, said) in &IN_THE_REPOSITORY[..if all { 6 } else { 1 }] {
            let script = format!("set -e; cd {REPOSITORY}; rm -rf odd; mkdir odd; cd odd; {make}");
            guest.ok(["sh", "-c", &script])?;
            next("true")?;
            let plan = guest.run(["wasagent", "plan"])?;
            ensure!(
                plan.status == 1 && plan.stderr.contains(said),
                "{name}: {plan}"
            );
            let failed = Apply::on(&guest).run()?.output;
            ensure!(
                failed.status == 1 && failed.stderr.contains(said),
                "{name}: {failed}"
            );
            nothing_lies_beside(&guest)?;
        }
        guest.ok(["rm", "-r", &format!("{REPOSITORY}/odd")])?;
        // A build that fails quotes what it printed itself, not what the builds before it printed.
        for (script, said) in [
            ("echo no such module; exit 3", "; no such module\n"),
            ("exit 3", "\n"),
        ] {
            next(script)?;
            let failed = Apply::on(&guest).run()?.output.stderr;
            let head = guest.answer(["head", "-1", &format!("{REPOSITORY}/build.sh")])?;
            let printed = head.trim_start_matches("echo ");
            let said = format!("it failed; it logged: {printed}{said}");
            ensure!(failed.contains(&said), "{failed}");
        }
        Ok(())
    })
}

#[test]
fn projects_of_npm_build_in_the_sandbox_and_are_served() -> Result<()> {
    Release::BOTH
        .into_iter()
        .try_for_each(|release| builds::run(&Scope::sample(3, Role::Storage, release)))
}

/// Files of 80 MiB in all, most of it in one that no compression makes smaller, and many small ones.
const LARGE: &str = "set -e; mkdir large; cd large; head -c 80M /dev/urandom > one
for i in $(seq 1000); do echo $i > $i; done
cd ..; git -c core.compression=0 add large";

/// Runs a program, and keeps how much memory the largest of its processes had, in KiB (getrusage(2)).
const PEAK: &str = "import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
open('/root/peak', 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)";

/// A static agent that was built to be debugged has 30 MiB of itself in memory.
const PEAK_MAX: u32 = 48 << 10;

#[test]
fn a_large_revision_needs_little_memory() -> Result<()> {
    let lab = Lab::new()?;
    let guest = guest(&lab, Release::Trixie, Size::Sample(1))?;
    install_tier_file(&guest, &tier(&guest, EDIT))?;
    commit(&guest, 1)?;
    apply(&guest, Role::Storage)?;
    guest.ok(["sh", "-c", &format!("cd {REPOSITORY}; {LARGE}")])?;
    commit(&guest, 2)?;
    // git reads a loose object piece by piece in any case.
    let pack = "core.compression=0";
    guest.ok([
        "git", "-C", REPOSITORY, "-c", pack, "repack", "-a", "-d", "-q",
    ])?;
    // The first makes the revision from the repository, the second copies it to edit it anew.
    for password in ["one", "two"] {
        guest.write(PASSWORD_FILE, password, 0o600)?;
        Apply::on(&guest).under(&["python3", "-c", PEAK]).ok()?;
        let peak: u32 = guest.answer(["cat", "/root/peak"])?.parse()?;
        progress::say(format!("80 MiB with at most {} MiB in memory", peak >> 10));
        ensure!(peak < PEAK_MAX, "{peak} KiB");
        ensure!(there(&guest, "db.js")?.contains(&format!("password: '{password}'")));
        let same =
            format!("cmp {REPOSITORY}/large/one {ROOT}/large/one && ls {ROOT}/large | wc -l");
        ensure!(guest.answer(["sh", "-c", &same])? == "1001");
    }
    Ok(())
}

fn built_and_edited(release: Release) -> Result<()> {
    let lab = Lab::new()?;
    let guest = guest(&lab, release, Size::Sample(1))?;
    let build = "build = [\"sh\", \"build.sh\"]\n";
    install_tier_file(&guest, &tier(&guest, &format!("{build}{EDIT}")))?;
    guest.write(&format!("{REPOSITORY}/build.sh"), BUILD, 0o644)?;
    commit(&guest, 1)?;
    let applied = apply(&guest, Role::Storage)?;
    let built = there(&guest, "built")?;
    ensure!(built == "user1", "the build did {built}");
    ensure!(there(&guest, "node_modules/b")? == "made");
    let edited = there(&guest, "db.js")?;
    let expected = "var c = mysql.createPool({\n\thost: '192.168.3.26',\n\
         \tpassword: 'it\\'s \"a\" \\\\ $pass 암호'\n}); // r1";
    ensure!(edited == expected, "{edited}");
    let mode = |path: &str| guest.answer(["stat", "-c", "%U %a", &format!("{ROOT}/{path}")]);
    ensure!(mode("db.js")? == "user1 600", "{}", mode("db.js")?);
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

    // Another password is edited in, and nothing is built again, also where a file was changed by hand.
    guest.write(PASSWORD_FILE, "an\\other", 0o600)?;
    guest.write(&format!("{ROOT}/marks/1"), "by hand", 0o644)?;
    Apply::on(&guest).ok()?;
    let edited = there(&guest, "db.js")?;
    ensure!(edited.contains("'an\\\\other'"), "{edited}");
    ensure!(there(&guest, "marks/1")? == "by hand" && there(&guest, "node_modules/b")? == "made");
    let plan = guest.answer(["wasagent", "plan"])?;
    ensure!(plan.contains("marks/1 was changed by somebody"), "{plan}");
    install_tier_file(&guest, &tier(&guest, build))?;
    Apply::on(&guest).ok()?;
    ensure!(there(&guest, "db.js")?.contains("host: 'x'"));
    ensure!(mode("db.js")? == "user1 660", "{}", mode("db.js")?);
    ensure!(builds(&guest)? == 1, "{} builds", builds(&guest)?);

    // What fails says why, and changes nothing.
    for (wrong, said) in [
        (
            build.replace("build.sh", "-c\", \"echo no such module; exit 3"),
            "no such module",
        ),
        (EDIT.replace("host =", "hots ="), "host"),
        (EDIT.replace("db.js", "lib/db.js"), "db.js"),
        (EDIT.replace("createPool", "createPol"), "createPool"),
    ] {
        install_tier_file(&guest, &tier(&guest, &wrong))?;
        let failed = Apply::on(&guest).run()?.output;
        ensure!(
            failed.status == 1 && failed.stderr.contains(said),
            "{failed}"
        );
        ensure!(
            there(&guest, "built")? == "user1" && there(&guest, "db.js")?.contains("host: 'x'")
        );
        nothing_lies_beside(&guest)?;
    }
    let units = guest.answer([
        "systemctl",
        "list-units",
        "--all",
        "--no-legend",
        "wasagent-build.service",
    ])?;
    ensure!(units.is_empty(), "{units}");
    Ok(())
}
