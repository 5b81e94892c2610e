//! Rows 8 and 9 of the guide for real: the application is built by npm on the storage guest, the database's settings
//! are edited in, and whoever signs up through the balancer can log in.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wasagent_lab::balancer::{Balancer, http_get, http_post};
use wasagent_lab::database::{self, Database};
use wasagent_lab::network::BALANCER;
use wasagent_lab::npm::{self, NpmRegistry};
use wasagent_lab::process::until;
use wasagent_lab::tier::{self, PAGE, REPOSITORY, Role, install_tier_file, tier_file};
use wasagent_lab::wasagent::Applied;
use wasagent_lab::{Disk, Guest, Lab, Output, Release, Spec, agent, progress, sample_app};

/// No character of it is harmless everywhere.
const PASSWORD: &str = r#"It's "Kimchi9"\n\$7 `x` ${y} 한글암호"#;
/// Parts of it that no quoting changes.
const PARTS: &str = "Kimchi9\n한글암호\n";
const PASSWORD_FILE: &str = "/etc/wasagent/database.password";
const PARTS_FILE: &str = "/root/parts";

/// The same as the application's files have it.
const LITERAL: &str = r#"'It\'s "Kimchi9"\\n\\$7 `x` ${y} 한글암호'"#;

const SHARED: &str = "/mnt/data/shared_folder";
/// The files that are edited, as they are in the repository.
const EDITED: [(&str, &str); 2] = [
    (
        "router/login/index.js",
        include_str!("../sample-app/router/login/index.js"),
    ),
    (
        "router/signUp/index.js",
        include_str!("../sample-app/router/signUp/index.js"),
    ),
];

/// How long the application may take to start on an emulated processor.
const SERVED: Duration = Duration::from_secs(300);
/// How long one answer may take there.
const ANSWER: Duration = Duration::from_secs(60);

/// The guide's tier file with its rows 8 and 9.
fn tier(storage: &Guest) -> String {
    let rows = format!(
        r#"build  = ["npm", "ci"]

[[storage.content.edit]]
files  = ["router/signUp/index.js", "router/login/index.js"]
object = "mysql.createPool"
set    = {{ host = "{{database.host}}", port = "{{database.port}}", user = "{{database.user}}", password = "{{database.password}}", database = "{{database.name}}" }}

[database]
host = "{}"
port = {}
user = "{}"
password_file = "{PASSWORD_FILE}"
name = "{}"

[was]
"#,
        database::ADDRESS,
        database::PORT,
        database::USER,
        database::NAME,
    );
    let mut tier = tier_file().replacen("\n[was]\n", &rows, 1);
    // A container sees every disk of the machine.
    if let Some(device) = storage.devices().first() {
        tier = tier.replace("\"auto\"", &format!("{device:?}"));
    }
    tier
}

fn install(guest: &Guest, tier: &str) -> Result<()> {
    guest.install_agent(&agent::build()?)?;
    install_tier_file(guest, tier)?;
    guest.write(PASSWORD_FILE, format!("{PASSWORD}\n"), 0o600)?;
    guest.write(PARTS_FILE, PARTS, 0o600)
}

/// Whether a text tells the database's password.
fn tells(text: &str) -> bool {
    PARTS.lines().any(|part| text.contains(part))
}

fn keeps_silent(output: &Output) -> Result<()> {
    ensure!(!tells(&output.stdout) && !tells(&output.stderr), "{output}");
    Ok(())
}

/// Looks at the arguments and environments of all processes and at the transient units, again and again.
const WATCH: &str = r"while [ -e /run/watched ]; do
    cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ /run/systemd/transient/*
    sleep 0.2
done 2>/dev/null | tr '\0' '\n' \
    | grep --text --fixed-strings --file=/root/parts --regexp=HOME=/run/wasagent-build > /root/seen";

/// Applies the storage role under the eyes of [`WATCH`].
fn apply_watched(storage: &Guest) -> Result<Applied> {
    storage.write("/run/watched", "", 0o600)?;
    storage.ok(["systemd-run", "--quiet", "--unit=watch", "sh", "-c", WATCH])?;
    let applied = tier::apply(storage, Role::Storage)?;
    storage.ok(["rm", "/run/watched"])?;
    storage.ok([
        "sh",
        "-c",
        "while systemctl -q is-active watch; do sleep 0.1; done",
    ])?;
    let seen = storage.answer(["cat", "/root/seen"])?;
    ensure!(seen.contains("HOME="), "no process of the build was seen");
    ensure!(!tells(&seen), "the password was seen: {seen}");
    Ok(applied)
}

/// The files below these directories that hold the password.
fn files_with_the_password(guest: &Guest, directories: &[&str]) -> Result<Vec<String>> {
    let mut grep = vec![
        "grep",
        "--recursive",
        "--text",
        "--devices=skip",
        "--no-messages",
        "--files-with-matches",
        "--fixed-strings",
        "--file",
        PARTS_FILE,
    ];
    grep.extend(directories);
    let mut files: Vec<String> = guest
        .run(&grep)?
        .stdout
        .lines()
        .map(str::to_owned)
        .collect();
    files.sort();
    Ok(files)
}

/// The password is in its file, and nowhere else that is not the share.
fn nothing_tells(guest: &Guest) -> Result<()> {
    let places = [
        "/etc",
        "/run",
        "/tmp",
        "/var/lib/containers/storage/overlay-containers",
        "/var/lib/systemd",
        "/var/lib/wasagent",
        "/var/log",
        "/var/tmp",
        "/proc/self/mounts",
    ];
    let files = files_with_the_password(guest, &places)?;
    ensure!(files == [PASSWORD_FILE], "{}: {files:?}", guest.name());
    let journal = format!(
        "journalctl --all --output=verbose | grep --text --fixed-strings --file={PARTS_FILE}"
    );
    let told = guest.run(["sh", "-c", &journal])?;
    ensure!(told.status == 1, "{}: the journal: {told}", guest.name());
    for command in ["history", "health"] {
        keeps_silent(&guest.run(["wasagent", command, "--format", "json"])?)?;
    }
    Ok(())
}

/// `npm ci` has run as the account, and what it made is the account's.
fn npm_ran_as_the_account(storage: &Guest) -> Result<()> {
    let uid = format!("_UID={}", storage.answer(["id", "--user", "user1"])?);
    let said = storage.answer([
        "journalctl",
        "--output=cat",
        "--unit=wasagent-build.service",
        &uid,
    ])?;
    let added = said.lines().find(|line| line.starts_with("added "));
    let added = added.with_context(|| format!("npm said: {said}"))?;
    progress::say(format!(
        "{} ({}): npm ci {added}",
        storage.name(),
        storage.release()
    ));
    let modules = format!("{SHARED}/node_modules");
    ensure!(
        storage
            .run(["test", "-f", &format!("{modules}/mysql/package.json")])?
            .success()
    );
    let others = storage.answer(["find", &modules, "!", "-user", "user1"])?;
    ensure!(others.is_empty(), "not the account's: {others}");
    Ok(())
}

/// The two files have the settings, and are as they were for the rest; no other file of the disk tells the password.
fn settings_are_edited_in(storage: &Guest) -> Result<()> {
    for (file, source) in EDITED {
        let expected = source
            .replace("'10.10.1.80'", &format!("'{}'", database::ADDRESS))
            .replace("'change-me'", LITERAL);
        let edited = storage.read(&format!("{SHARED}/{file}"))?;
        ensure!(
            edited == expected.as_bytes(),
            "{file}: {}",
            String::from_utf8_lossy(&edited)
        );
    }
    let expected = EDITED.map(|(file, _)| format!("{SHARED}/{file}"));
    let files = files_with_the_password(storage, &["/mnt/data"])?;
    ensure!(files == expected, "the password is in {files:?}");
    Ok(())
}

fn build_and_edit(storage: &Guest) -> Result<()> {
    for format in ["text", "json"] {
        let plan = [
            "wasagent",
            "plan",
            "--role",
            "storage",
            "--explain",
            "--format",
            format,
        ];
        let plan = storage.run(plan)?;
        ensure!(plan.status == 2, "{plan}");
        keeps_silent(&plan)?;
    }
    let applied = apply_watched(storage)?;
    keeps_silent(&applied.output)?;
    npm_ran_as_the_account(storage)?;
    settings_are_edited_in(storage)?;
    nothing_tells(storage)
}

/// A name and a password as people take them.
const NAME: &str = "김치's";
const SECRET: &str = "p&ss=w%rd+\"비밀\"";

fn sign_up_and_log_in(lab: &Lab, database: &Database) -> Result<()> {
    let send = |page: &str, name: &str, password: &str| {
        let form = [("name", name), ("password", password)];
        http_post(
            lab.network().name(),
            &format!("{PAGE}{page}"),
            &form,
            ANSWER,
        )
        .with_context(|| format!("{page} of {name}"))
    };
    let steps = [
        ("login", NAME, SECRET, 401, "Unknown name"),
        ("signUp", NAME, SECRET, 201, "Signed up"),
        ("signUp", NAME, "another", 409, "taken"),
        ("login", NAME, "another", 401, "wrong password"),
        ("login", NAME, SECRET, 200, "Welcome"),
    ];
    for (page, name, password, status, words) in steps {
        let (came, body) = send(page, name, password)?;
        ensure!(
            came == status && body.contains(words),
            "{page}: {came}, not {status}: {body}"
        );
    }
    let rows = database.ask("SELECT name, LENGTH(salt), LENGTH(hash) FROM galeradb.users")?;
    ensure!(rows.stdout == format!("{NAME}\t32\t64\n"), "{rows}");
    Ok(())
}

fn page_is_served(lab: &Lab) -> Result<()> {
    until("the page", SERVED, || {
        thread::sleep(Duration::from_millis(500));
        let page = http_get(lab.network().name(), PAGE, ANSWER);
        Ok(page.is_ok_and(|(status, _)| status == 200).then_some(()))
    })
}

/// A tier of one WAS: three tiers are proved elsewhere, and this one has a fourth beside it.
fn rows_8_and_9(lab: &Lab, storage: &Guest, was: Release) -> Result<()> {
    let _npm = NpmRegistry::start(lab, &[sample_app::LOCK_FILE])?;
    let database = Database::start(lab, PASSWORD)?;
    let _registry = tier::registry(lab)?;
    let tier = tier(storage);
    install(storage, &tier)?;
    npm::install(lab.cache(), storage)?;
    storage.copy_tree(&sample_app::repository_to_build(lab.cache())?, REPOSITORY)?;
    build_and_edit(storage)?;

    let was = lab.vm(&Spec::was(1, was))?;
    install(&was, &tier)?;
    database::show_way(&was)?;
    let netns = lab.network().name();
    let servers = [("was-01", "192.168.2.11:5000")];
    let run_directory = lab.network().run_directory();
    let _balancer = Balancer::start(netns, run_directory, &format!("{BALANCER}:5000"), &servers)?;
    keeps_silent(&tier::apply(&was, Role::Was)?.output)?;
    page_is_served(lab)?;
    sign_up_and_log_in(lab, &database)?;
    nothing_tells(&was)
}

/// npm on an emulated processor takes minutes, so the storage guest of every day is a container: it has no part in what
/// needs a kernel of its own.
fn with_a_container(storage: Release, was: Release) -> Result<()> {
    let lab = Lab::new()?;
    let storage = lab.container(&Spec::storage(storage).disk(Disk::of_the_guide("")))?;
    rows_8_and_9(&lab, &storage, was)
}

#[test]
fn whoever_signs_up_can_log_in_with_storage_on_bookworm() -> Result<()> {
    with_a_container(Release::Bookworm, Release::Trixie)
}

#[test]
fn whoever_signs_up_can_log_in_with_storage_on_trixie() -> Result<()> {
    with_a_container(Release::Trixie, Release::Bookworm)
}

#[test]
#[ignore = "takes minutes: npm on an emulated processor"]
fn whoever_signs_up_can_log_in_with_vms_alone() -> Result<()> {
    for (storage, was) in [
        (Release::Bookworm, Release::Trixie),
        (Release::Trixie, Release::Bookworm),
    ] {
        let lab = Lab::new()?;
        let disk = Disk::of_the_guide(tier::DISK_SERIAL);
        let storage = lab.vm(&Spec::storage(storage).disk(disk))?;
        rows_8_and_9(&lab, &storage, was)?;
    }
    Ok(())
}
