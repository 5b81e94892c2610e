//! The application's files on a storage guest: a revision appears at once and whole, whoever reads and whenever the
//! agent is killed, and is built once and edited.

use anyhow::{Result, ensure};
use wasagent_lab::soak::content::{
    PASSWORD_FILE, REPOSITORY, ROOT, commit, guest, nothing_lies_beside, run, tier,
};
use wasagent_lab::soak::{Scope, Size};
use wasagent_lab::tier::{Role, apply, install_tier_file};
use wasagent_lab::wasagent::Apply;
use wasagent_lab::{Guest, Lab, Release};

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
