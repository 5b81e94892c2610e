//! The packages: what is in them, and what installing, upgrading and removing them does to a VM that serves.

use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use wasagent_lab::package::debian::Repositories;
use wasagent_lab::package::el::Life;
use wasagent_lab::package::{Program, Source, Workshop, build};
use wasagent_lab::tier::{
    SHARE_PASSWORD, TIER_FILE, install_repository, install_tier_file, tier_file,
};
use wasagent_lab::{Disk, Guest, Lab, Output, Release, Spec, agent, progress, smb};

const UNIT: &str = "wasagent-apply.service";
const RECORD: &str = "/var/lib/wasagent/record.json";

#[test]
fn packages_are_installed_upgraded_and_removed() -> Result<()> {
    let lab = Lab::new()?;
    let scratch = lab.directory_for("packages")?;
    let workshop = Workshop::get(lab.cache())?;
    let source = Source::as_it_is(agent::checkout())?;
    build(&source, Program::Built(&agent::build()?), &scratch)?;
    let repositories = Repositories::of(&workshop, &source, &scratch)?;
    let lintian = repositories.found("lintian")?;
    ensure!(
        !lintian.contains("\nE: ") && !lintian.starts_with("E: "),
        "{lintian}"
    );
    ensure!(!lintian.contains("lintian: "), "{lintian}");
    people_are_helped(&repositories)?;
    thread::scope(|scope| {
        let guests = scope.spawn(|| {
            for release in Release::BOTH {
                on_debian(&lab, &repositories, release).with_context(|| release.to_string())?;
            }
            Ok(())
        });
        let rpms = Life::of(&workshop, &source, &scratch).and_then(|life| on_el(&life));
        let guests: Result<()> = guests.join().expect("the thread does not panic");
        rpms.and(guests)
    })
}

/// The pages of the manual are as mandoc(1) would have them, and each shell completes an option.
fn people_are_helped(repositories: &Repositories) -> Result<()> {
    let pages = repositories.found("pages")?;
    // The program was built by hand, and so nobody has said of which day its sources are.
    let of_the_pages = pages.lines().filter(|line| !line.contains("missing date"));
    ensure!(of_the_pages.count() == 0, "{pages}");
    for shell in ["bash", "fish", "zsh"] {
        let completed = repositories.found(&format!("completed-{shell}"))?;
        let both = ["--role", "--rollback-on-failure"];
        ensure!(
            both.iter().all(|option| completed.contains(option)) && !completed.contains("--wait"),
            "{shell}: {completed}"
        );
    }
    let values = repositories.found("completed-fish-values")?;
    ensure!(values.lines().eq(["bash", "fish", "zsh"]), "fish: {values}");
    Ok(())
}

/// What a fresh root with rpm's tools alone made of the RPMs.
fn on_el(life: &Life) -> Result<()> {
    let rpmlint = life.found("rpmlint")?;
    ensure!(rpmlint.contains(" 0 errors, "), "{rpmlint}");
    for (package, needs) in [
        ("wasagent", ["/bin/sh", "systemd"].as_slice()),
        (
            "wasagent-storage",
            &[
                "samba",
                "samba-common-tools",
                "samba-client",
                "git-core",
                "xfsprogs",
                "firewalld",
            ],
        ),
        (
            "wasagent-was",
            &["podman", "cifs-utils", "nftables", "firewalld"],
        ),
    ] {
        let requires = life.found(&format!("requires-{package}"))?;
        for need in needs {
            ensure!(
                requires.lines().any(|line| line == *need),
                "{package} needs {need}: {requires}"
            );
        }
        ensure!(!requires.contains("rtld"), "{package}: {requires}");
    }
    ensure!(life.found("provides")?.contains("bundled(crate(zbus)) = "));
    ensure!(life.found("installed")?.trim() == format!("install-system-units {UNIT}"));
    ensure!(
        life.found("verified")?.is_empty(),
        "{}",
        life.found("verified")?
    );
    let files = life.found("files")?;
    for file in [
        "/usr/bin/wasagent",
        "/usr/lib/systemd/system/wasagent-apply.service",
        "/usr/lib/systemd/system-preset/50-wasagent.preset",
        "/usr/share/wasagent/tier.toml",
    ] {
        ensure!(
            files.lines().any(|line| line == file),
            "{file} is not in\n{files}"
        );
    }
    // Debian's rpm puts the version into the name of the directory.
    ensure!(files.contains("/LICENSES.crates"), "{files}");
    let example = life.found("example")?;
    ensure!(!example.contains("refused"), "{example}");
    // An upgrade says nothing to systemd: it would restart what serves.
    ensure!(
        life.found("upgraded")?.is_empty(),
        "{}",
        life.found("upgraded")?
    );
    ensure!(life.found("version")?.contains("-2"));
    ensure!(life.found("removed")?.trim() == format!("remove-system-units {UNIT}"));
    let erased = life.found("erased")?;
    ensure!(
        erased.contains("stays as it is") && erased.contains("wasagent revert"),
        "{erased}"
    );
    let left = life.found("left")?;
    for stays in [
        "/etc/wasagent/tier.toml",
        RECORD,
        "/var/lib/wasagent/runs/000001.jsonl",
    ] {
        ensure!(left.contains(stays), "{stays} is not in\n{left}");
    }
    ensure!(!left.contains("usr/"), "{left}");
    what_dnf_takes_along(life)
}

/// A removal of the agent leaves what serves. That of a role's package takes along what came in because of it, as dnf
/// does with any package (clean_requirements_on_remove in dnf.conf(5)); files that somebody wrote stay even then.
fn what_dnf_takes_along(life: &Life) -> Result<()> {
    let is_in = |found: &str, name: &str| -> Result<bool> {
        Ok(life.found(found)?.lines().any(|line| line == name))
    };
    let serving = [
        "samba",
        "samba-common",
        "podman",
        "cifs-utils",
        "nftables",
        "firewalld",
    ];
    for name in serving {
        ensure!(
            is_in("without-the-agent", name)?,
            "the agent took {name} along"
        );
        let is_there = is_in("without-the-roles", name)?;
        ensure!(
            is_there == (name == "podman"),
            "{name}: {is_there}, and podman alone was marked"
        );
    }
    for (found, name) in [
        ("without-the-agent", "wasagent"),
        ("without-the-roles", "wasagent-was"),
    ] {
        ensure!(!is_in(found, name)?, "{name} is {found}");
    }
    let of_samba = life.found("of-samba")?;
    for file in ["smb.conf.rpmsave", "wasagent.conf", "private/passdb.tdb"] {
        ensure!(of_samba.contains(file), "{file} is not in\n{of_samba}");
    }
    Ok(())
}

/// The life of the debs on a guest that becomes a storage VM by the unit, in its sandbox.
fn on_debian(lab: &Lab, repositories: &Repositories, release: Release) -> Result<()> {
    let guest = lab.container(&Spec::storage(release).disk(Disk::of_the_guide("")))?;
    let before = of_the_roles(&guest)?;
    repositories.offer(&guest, 1)?;
    apt(&guest, &["install", "wasagent-storage", "wasagent-was"])?;
    ensure!(
        of_the_roles(&guest)? == before,
        "installing started something"
    );
    ensure!(guest.answer(["systemctl", "is-enabled", UNIT])? == "enabled");
    ensure!(guest.answer(["stat", "-c", "%a %U", "/var/lib/wasagent"])? == "700 root");
    as_systemd_reads_it(&guest)?;

    // Without a role the unit does nothing, and does not fail.
    install_tier_file(&guest, &tier_file_of(&guest))?;
    install_repository(lab, &guest)?;
    guest.ok(["systemctl", "start", UNIT])?;
    ensure!(guest.answer(["systemctl", "show", "-P", "ConditionResult", UNIT])? == "no");
    ensure!(
        !guest
            .run(["test", "-e", "/mnt/data/shared_folder"])?
            .success()
    );

    // The whole role within the unit's sandbox: a disk is formatted and mounted where everybody sees it.
    guest.write(
        RECORD,
        r#"{"version":1,"role":"storage","succeeded":false}"#,
        0o600,
    )?;
    let started = guest.run(["systemctl", "start", UNIT])?;
    ensure!(
        started.success(),
        "{started}\n{}",
        guest.answer(["journalctl", "--no-pager", "-u", UNIT])?
    );
    serves(&guest)?;
    let before = serving(&guest)?;

    repositories.offer(&guest, 2)?;
    apt(&guest, &["upgrade"])?;
    ensure!(
        guest
            .answer(["dpkg-query", "-W", "-f", "${Version}", "wasagent"])?
            .ends_with("-2")
    );
    ensure!(serving(&guest)? == before, "an upgrade restarted something");
    serves(&guest)?;

    // As where they came with the package of the role, which is what keeps them.
    guest.ok([
        "apt-mark",
        "auto",
        "samba",
        "smbclient",
        "firewalld",
        "xfsprogs",
    ])?;
    let removed = apt(&guest, &["remove", "--autoremove", "wasagent"])?;
    ensure!(
        removed.stdout.contains("stays as it is") && removed.stdout.contains("wasagent revert"),
        "{removed}"
    );
    ensure!(!guest.run(["test", "-e", "/usr/bin/wasagent"])?.success());
    let of_the_role = ["dpkg-query", "-W", "-f", "${Status}", "wasagent-storage"];
    ensure!(guest.answer(of_the_role)? == "install ok installed");
    guest.ok(["test", "-s", RECORD])?;
    share_is_there(&guest)?;

    apt(&guest, &["purge", "wasagent"])?;
    ensure!(!guest.run(["test", "-e", "/var/lib/wasagent"])?.success());
    guest.ok(["test", "-s", TIER_FILE])?;
    share_is_there(&guest)
}

/// How the services of both roles stand.
fn of_the_roles(guest: &Guest) -> Result<String> {
    let units = [
        UNIT,
        "smbd.service",
        "nmbd.service",
        "podman.service",
        "podman.socket",
        "firewalld.service",
    ];
    let show = [
        "systemctl",
        "show",
        "--property=Id,ActiveState,InvocationID",
    ];
    guest.answer([show.as_slice(), &units].concat())
}

/// The highest exposure that `systemd-analyze security` may find, from 0 to 10, by unit: the root part works without mount
/// namespaces, and the file says why for each option that it leaves off.
const EXPOSURE: [(&str, f64); 1] = [(UNIT, 6.6)];

/// What systemd-analyze(1) has to say of each unit of the package.
fn as_systemd_reads_it(guest: &Guest) -> Result<()> {
    let files = guest.answer(["dpkg", "--listfiles", "wasagent"])?;
    let units: Vec<&str> = files
        .lines()
        .filter_map(|path| path.split_once("/systemd/system/"))
        .map(|(_, unit)| unit)
        .collect();
    ensure!(units.len() == EXPOSURE.len(), "{units:?}");
    for (unit, highest) in EXPOSURE {
        ensure!(units.contains(&unit), "{unit} is not in {units:?}");
        let verified = guest.ok(["systemd-analyze", "verify", "--man=no", unit])?;
        let of_ours = verified
            .stderr
            .lines()
            .filter(|line| line.contains("wasagent"));
        ensure!(of_ours.count() == 0, "{verified}");
        let security = guest.answer(["systemd-analyze", "security", "--no-pager", unit])?;
        let overall = security
            .lines()
            .find_map(|line| line.split_once("exposure level"))
            .with_context(|| security.clone())?
            .1;
        progress::say(format!("{} {unit}{overall}", guest.release()));
        let exposure = overall
            .split_whitespace()
            .find_map(|word| word.parse().ok());
        ensure!(
            exposure.is_some_and(|exposure: f64| exposure <= highest),
            "{unit} is more exposed than {highest}: {security}"
        );
    }
    Ok(())
}

fn apt(guest: &Guest, arguments: &[&str]) -> Result<Output> {
    let apt = [
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "--yes",
        "--quiet",
    ];
    guest.ok([apt.as_slice(), arguments].concat())
}

/// A container sees the names of its machine's disks, which are none of its business.
fn tier_file_of(guest: &Guest) -> String {
    let device = format!("device     = {:?}", guest.devices()[0]);
    tier_file().replace("device     = \"auto\"", &device)
}

fn serves(guest: &Guest) -> Result<()> {
    guest.ok(["wasagent", "health"])?;
    share_is_there(guest)
}

fn share_is_there(guest: &Guest) -> Result<()> {
    let listing = smb::client(guest, "user1", ("user1", SHARE_PASSWORD), "ls")?;
    ensure!(
        listing.success() && listing.stdout.contains("server.js"),
        "{listing}"
    );
    ensure!(guest.answer(["findmnt", "-no", "FSTYPE", "/mnt/data"])? == "xfs");
    Ok(())
}

/// Which processes and mounts serve.
fn serving(guest: &Guest) -> Result<String> {
    guest.answer([
        "systemctl",
        "show",
        "--property=InvocationID",
        "--property=Id",
        "smbd.service",
        "mnt-data.mount",
        UNIT,
        "firewalld.service",
    ])
}

/// Two builds from two clean checkouts, in two places, give the same bytes: two optimised builds, so only by hand.
#[test]
#[ignore = "two optimised builds of all crates"]
fn two_clean_checkouts_give_the_same_bytes() -> Result<()> {
    let lab = Lab::new()?;
    let scratch = lab.directory_for("twice")?;
    let mut built = Vec::new();
    for name in ["one", "the-other"] {
        let checkout = scratch.join(name);
        clone(&checkout)?;
        let source = Source::last_commit(&checkout)?;
        let program = Program::FromSource { check: false };
        built.push(build(
            &source,
            program,
            &scratch.join(format!("{name}-build")),
        )?);
    }
    // Where scanners look for the list of crates (cargo-auditable's PARSING.md).
    let program = scratch
        .join("one-build")
        .join(Source::last_commit(&scratch.join("one"))?.name())
        .join("target/wasagent");
    let mut sections = std::process::Command::new("objdump");
    sections.arg("--section-headers").arg(&program);
    ensure!(
        wasagent_lab::process::ok(sections)?
            .stdout
            .contains(".dep-v0"),
        "there is no list of crates"
    );
    progress::say(format!(
        "the program has {} bytes",
        std::fs::metadata(&program)?.len()
    ));
    let [one, other] = &built[..] else {
        unreachable!("two builds")
    };
    for (one, other) in one.iter().zip(other) {
        ensure!(one.file_name() == other.file_name());
        ensure!(
            std::fs::read(one)? == std::fs::read(other)?,
            "{} differs",
            one.display()
        );
        let size = std::fs::metadata(one)?.len();
        progress::say(format!("{}: {size} bytes, twice the same", one.display()));
    }
    Ok(())
}

fn clone(into: &Path) -> Result<()> {
    let mut git = std::process::Command::new("git");
    git.args(["clone", "--quiet", "--no-local"])
        .arg(agent::checkout())
        .arg(into);
    wasagent_lab::process::ok(git).map(drop)
}
