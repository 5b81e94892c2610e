//! First boots by the user data that `wasagent userdata` prints, and by nothing else: a storage VM as a container, WAS VMs
//! on a kernel of their own, which CIFS needs.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use wasagent_lab::balancer::http_get;
use wasagent_lab::kind::Need;
use wasagent_lab::package::debian::Signed;
use wasagent_lab::package::{Program, Source, Workshop, build};
use wasagent_lab::process::until;
use wasagent_lab::progress::{say, timed};
use wasagent_lab::registry::Registry;
use wasagent_lab::site::{Known, VirtualRouter, WebServer, sha256, url};
use wasagent_lab::tier::{REPOSITORY, Role, SHARE_PASSWORD_FILE, registry, tier_file};
use wasagent_lab::user_data::{self, CONFIG_DRIVE, Files, NO_CLOUD, Printed, SEED_DIRECTORY};
use wasagent_lab::{Guest, Lab, Output, Release, Spec, agent, sample_app, smb};

/// How long a first boot may take, with the installation, on a busy machine.
const BOOT: Duration = Duration::from_secs(900);
/// How late a storage VM is.
const LATE: Duration = Duration::from_secs(180);
const KEY_FILE: &str = "/repository.asc";
const EMBED: &str = "--embed-secrets";
const FIRST_BOOT: &str = "wasagent-first-boot.service";
const APPLY: &str = "wasagent-apply.service";

/// Passwords that no escape changes: they are searched for in whatever form a file may have.
const SHARE_PASSWORD: &str = "Share-4711-pass-0815-word";
const DATABASE_PASSWORD: &str = "Database-4711-pass-0815-word";
const DATABASE_PASSWORD_FILE: &str = "/etc/wasagent/database.password";
const DATABASE: &str = r#"
[[storage.content.edit]]
files  = ["router/signUp/index.js", "router/login/index.js"]
object = "mysql.createPool"
set    = { host = "{database.host}", user = "{database.user}", password = "{database.password}" }

[database]
host = "192.168.3.26"
user = "root"
password_file = "/etc/wasagent/database.password"
name = "galeradb"
"#;

/// Prints each place in which a line of /run/lab-patterns is.
const PLACES: &str = r#"
cd /
{
    find / -xdev \( -path /proc -o -path /sys -o -path /var/log/journal -o -path /run/log/journal \) -prune -o \
        -type f ! -path /run/lab-patterns -print0
    find /run /dev/shm /tmp -type f ! -path /run/lab-patterns ! -path '/run/log/journal/*' -print0
} | sort -zu | xargs -0 grep -lF -f /run/lab-patterns -- 2>/dev/null | sort -u | xargs -r stat -c '%a %U %n'
journalctl --quiet --output=export --no-pager | grep -aqF -f /run/lab-patterns && echo journal
for process in /proc/[0-9]*; do
    for file in cmdline environ; do
        tr '\0' '\n' 2>/dev/null <"$process/$file" | grep -aqF -f /run/lab-patterns && echo "$process/$file"
    done
done
true
"#;

/// Those of ten autoscaled WAS that are guests of their own, with the last part of their address; the others are what the
/// storage VM sees of a WAS: a session.
const AUTOSCALED: [(u8, &str); 3] = [(1, "shop-a4c"), (2, "shop-7f0d"), (4, "shop-b91x")];

/// The guide's tier file without its data disk, whose name in a container only the container's start gives.
fn tier() -> String {
    let whole = tier_file();
    let (before, rest) = whole.split_once("[storage.disk]").unwrap_or((&whole, ""));
    let after = rest.split_once("[storage.content]");
    format!(
        "{before}[storage.content]{}{DATABASE}",
        after.map_or("", |(_, after)| after)
    )
}

/// What a site has before its first VM: packages, the agent at a URL, a registry.
struct Site {
    lab: Lab,
    agent: PathBuf,
    packages: Signed,
    tier: String,
    _registry: Option<Registry>,
}

impl Site {
    /// With the agent at a URL, and nothing else.
    fn of_the_agent() -> Result<Site> {
        let lab = Lab::new()?;
        let agent = agent::build()?;
        let directory = lab.directory_for("files")?;
        fs::copy(&agent, directory.join("wasagent"))?;
        let packages = Signed {
            directory,
            key: String::new(),
        };
        Ok(Site {
            _registry: None,
            tier: tier(),
            packages,
            agent,
            lab,
        })
    }

    fn new() -> Result<Site> {
        let lab = Lab::new()?;
        let agent = agent::build()?;
        let scratch = lab.directory_for("packages")?;
        let packages = timed("packages in a signed repository", || {
            let workshop = Workshop::get(lab.cache())?;
            let source = Source::as_it_is(agent::checkout())?;
            build(&source, Program::Built(&agent), &scratch)?;
            Signed::of(&workshop, &scratch)
        })?;
        fs::copy(&agent, packages.directory.join("wasagent"))?;
        Ok(Site {
            _registry: Some(registry(&lab)?),
            tier: tier(),
            packages,
            agent,
            lab,
        })
    }

    /// The packages and the agent, for VMs to download.
    fn web(&self) -> Result<WebServer> {
        WebServer::start(&self.lab, &self.packages.directory)
    }

    /// The user data of a role.
    fn user_data(&self, role: Role, password: &str, options: &[&str]) -> Result<String> {
        let files = [
            (SHARE_PASSWORD_FILE, password),
            (DATABASE_PASSWORD_FILE, DATABASE_PASSWORD),
            (KEY_FILE, self.packages.key.as_str()),
        ];
        let printed = Printed {
            role,
            tier: &self.tier,
            files: &files,
            options,
        };
        printed.by(&self.agent)
    }

    /// A WAS's, which installs the package.
    fn was_data(&self, password: &str, options: &[&str]) -> Result<String> {
        let packages = url("");
        let mut all = vec!["--repository", &packages, "--repository-key", KEY_FILE];
        all.extend(options);
        self.user_data(Role::Was, password, &all)
    }

    /// A storage VM that boots by its user data, by which it downloads the agent.
    fn storage(&self) -> Result<Guest> {
        let url = url("wasagent");
        let sha256 = sha256(&self.agent)?;
        let options = ["--binary", &url, "--sha256", &sha256, EMBED];
        let data = self.user_data(Role::Storage, SHARE_PASSWORD, &options)?;
        let seed = self.lab.directory_for("seed")?;
        user_data::directory(&seed, &user_data::no_cloud("was-storage", &data))?;
        let content = sample_app::repository(self.lab.cache())?;
        let spec = Spec::storage(Release::BookwormCloud)
            .template(&seed, SEED_DIRECTORY)
            .template(&content, REPOSITORY);
        self.lab.booting_container(&spec)
    }

    /// was-01, which boots with these files on a disk of this label.
    fn was(&self, label: &str, files: &Files) -> Result<Guest> {
        let run = self.lab.network().run_directory();
        let seed = user_data::fat_disk(run, "was-01", label, files)?;
        self.lab.first_boot(&was_01().seed(&seed))
    }

    /// The same by NoCloud, with a password in its user data.
    fn was_with(&self, password: &str) -> Result<Guest> {
        let data = self.was_data(password, &[EMBED])?;
        self.was(NO_CLOUD, &user_data::no_cloud("was-01", &data))
    }

    /// The first WAS answers, under its own name.
    fn serves_the_page(&self) -> Result<()> {
        let page = self.page("192.168.2.11")?;
        ensure!(page.contains("was-container-1"), "{page}");
        Ok(())
    }

    /// The page of a WAS at an address.
    fn page(&self, address: &str) -> Result<String> {
        let page = format!("http://{address}:5000/");
        let (status, text) = http_get(self.lab.network().name(), &page, Duration::from_secs(20))?;
        ensure!(status == 200, "the page came with {status}: {text}");
        Ok(text)
    }
}

fn was_01() -> Spec {
    Spec::was(1, Release::BookwormCloud)
}

/// Waits until cloud-init is done without an error, and the VM serves its role.
fn served(guest: &Guest) -> Result<()> {
    guest.wait_cloud_init(BOOT)?;
    let log = guest.answer(["cat", "/var/log/cloud-init-output.log"])?;
    let healthy = guest.ok(["wasagent", "health"]);
    healthy.with_context(|| log.clone())?;
    let plan = guest.run(["wasagent", "plan"])?;
    ensure!(plan.status == 0, "{plan}");
    ensure!(
        !guest.run(["systemctl", "cat", FIRST_BOOT])?.success(),
        "the first boot's unit is left"
    );
    Ok(())
}

/// The files, journals and processes of a guest in which a password is, in clear or in base64, each with its mode and owner.
/// Another machine's files, on the share, are not this one's.
fn places_of(guest: &Guest, password: &str) -> Result<Vec<String>> {
    let line = format!("{password}\n");
    let mut patterns = vec![password.to_owned()];
    for text in [password, &line] {
        // The last digits depend on what follows.
        let encoded = BASE64.encode(text);
        let length = encoded.trim_end_matches('=').len() - 2;
        patterns.push(encoded[..length].to_owned());
    }
    guest.write("/run/lab-patterns", patterns.join("\n"), 0o600)?;
    let found = guest.answer(["sh", "-c", PLACES])?;
    guest.ok(["rm", "/run/lab-patterns"])?;
    Ok(found.lines().map(str::to_owned).collect())
}

#[test]
fn a_storage_vm_comes_up_by_user_data_alone() -> Result<()> {
    let site = Site::of_the_agent()?;
    let _web = site.web()?;
    let begun = Instant::now();
    let storage = site.storage()?;
    served(&storage)?;
    say(format!(
        "a share after {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    only_where_documented_on_storage(&storage)?;
    later_boots_apply(&storage)
}

/// Also where the agent came without a package.
fn later_boots_apply(guest: &Guest) -> Result<()> {
    ensure!(guest.answer(["systemctl", "is-enabled", APPLY])? == "enabled");
    guest.ok(["systemctl", "stop", "smbd.service"])?;
    guest.ok(["systemctl", "restart", APPLY])?;
    guest.ok(["wasagent", "health"])?;
    Ok(())
}

#[test]
#[ignore = "packages are built for it: run it by its name"]
fn a_tier_comes_up_by_user_data_alone() -> Result<()> {
    let site = Site::new()?;
    let web = site.web()?;
    let begun = Instant::now();
    let storage = site.storage()?;
    let was = site.was_with(SHARE_PASSWORD)?;
    served(&storage)?;
    served(&was)?;
    site.serves_the_page()?;
    say(format!(
        "a page after {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    ensure!(was.answer(["systemctl", "is-enabled", APPLY])? == "enabled");
    drop(web);

    only_where_documented_on_storage(&storage)?;
    only_where_documented_on_was(&was)
}

/// The places that the manual names (wasagent-userdata(8), wasagent.8, wasagent-content(7)).
fn only_where_documented_on_storage(storage: &Guest) -> Result<()> {
    let share_file = format!("600 root {SHARE_PASSWORD_FILE}");
    let seed = format!("600 root {SEED_DIRECTORY}/user-data");
    let of_storage = places_of(storage, SHARE_PASSWORD)?;
    // A container's seed is a file of its root: the template's, as a disk is the site's.
    ensure!(of_storage == [share_file, seed.clone()], "{of_storage:#?}");
    let of_database = places_of(storage, DATABASE_PASSWORD)?;
    let edited = |path: &str| format!("600 user1 /mnt/data/shared_folder/{path}");
    ensure!(
        of_database
            == [
                format!("600 root {DATABASE_PASSWORD_FILE}"),
                edited("router/login/index.js"),
                edited("router/signUp/index.js"),
                seed,
            ],
        "{of_database:#?}"
    );
    Ok(())
}

fn only_where_documented_on_was(was: &Guest) -> Result<()> {
    let share_file = format!("600 root {SHARE_PASSWORD_FILE}");
    let of_was = places_of(was, SHARE_PASSWORD)?;
    ensure!(
        of_was == ["600 root /etc/wasagent/share.cred".to_owned(), share_file],
        "{of_was:#?}"
    );
    let of_was = places_of(was, DATABASE_PASSWORD)?;
    ensure!(of_was.is_empty(), "{of_was:#?}");
    Ok(())
}

/// What an operator sees of a VM: cloud-init's status, the console's end, and health.
struct Seen {
    status: String,
    console: String,
    health: Output,
}

fn seen(guest: &Guest) -> Result<Seen> {
    let status = guest.run(["cloud-init", "status", "--long"])?;
    let health = guest.run(["wasagent", "health"])?;
    let console = guest.console();
    let lines: Vec<&str> = console.lines().collect();
    let seen = Seen {
        console: lines[lines.len().saturating_sub(40)..].join("\n"),
        status: status.stdout,
        health,
    };
    say(format!(
        "--- cloud-init status\n{}\n--- console\n{}\n--- health {}\n",
        seen.status, seen.console, seen.health
    ));
    Ok(seen)
}

fn wait_status(guest: &Guest, status: &str) -> Result<()> {
    guest.wait_ssh(BOOT)?;
    until(&format!("cloud-init's status {status}"), BOOT, || {
        let now = guest.run(["cloud-init", "status"])?;
        Ok(now.stdout.contains(status).then_some(()))
    })
}

/// Healthy, by the tries of the unit alone.
fn mends_itself(guest: &Guest) -> Result<()> {
    let begun = Instant::now();
    until("the first boot's next tries", BOOT, || {
        let healthy = guest.run(["wasagent", "health"])?.success();
        Ok((healthy && !guest.run(["systemctl", "cat", FIRST_BOOT])?.success()).then_some(()))
    })?;
    say(format!(
        "{} serves {:.0} s later",
        guest.name(),
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

#[test]
#[ignore = "minutes of waiting: run it by its name"]
fn a_wrong_password_is_told_and_mended() -> Result<()> {
    let site = Site::new()?;
    let _web = site.web()?;
    let storage = site.storage()?;
    served(&storage)?;
    let was = site.was_with("not the password")?;
    wait_status(&was, "error")?;
    let seen = seen(&was)?;
    ensure!(seen.console.contains("refused the password of user1"));
    ensure!(seen.health.status == 3 && seen.health.stdout.contains("password"));
    was.write(SHARE_PASSWORD_FILE, SHARE_PASSWORD, 0o600)?;
    mends_itself(&was)?;
    site.serves_the_page()?;
    Ok(())
}

#[test]
#[ignore = "minutes of waiting: run it by its name"]
fn a_storage_vm_that_is_minutes_late_is_waited_for() -> Result<()> {
    let site = Site::new()?;
    let _web = site.web()?;
    let was = site.was_with(SHARE_PASSWORD)?;
    was.wait_ssh(BOOT)?;
    thread::sleep(LATE);
    let seen = seen(&was)?;
    ensure!(seen.status.contains("running"), "{}", seen.status);
    ensure!(seen.health.status == 3);
    let begun = Instant::now();
    let storage = site.storage()?;
    served(&was)?;
    say(format!(
        "the page {:.0} s after the storage VM was switched on",
        begun.elapsed().as_secs_f64()
    ));
    served(&storage)?;
    site.serves_the_page()?;
    Ok(())
}

#[test]
#[ignore = "minutes of waiting: run it by its name"]
fn packages_that_are_away_are_told_and_waited_for() -> Result<()> {
    let site = Site::new()?;
    let was = site.was_with(SHARE_PASSWORD)?;
    wait_status(&was, "error")?;
    let seen = seen(&was)?;
    ensure!(seen.console.contains("wasagent-was"));
    ensure!(seen.health.status != 0);
    let _web = site.web()?;
    let storage = site.storage()?;
    mends_itself(&was)?;
    served(&storage)?;
    site.serves_the_page()?;
    Ok(())
}

#[test]
#[ignore = "guests for each way in: run it by its name"]
fn a_config_drive_brings_user_data_and_a_secret() -> Result<()> {
    let site = Site::new()?;
    let _web = site.web()?;
    let storage = site.storage()?;
    let data = site.was_data(SHARE_PASSWORD, &[])?;
    let mut files = user_data::config_drive("was-01", &data);
    files.push((
        "wasagent/share.password".to_owned(),
        SHARE_PASSWORD.to_owned(),
    ));
    let was = site.was(CONFIG_DRIVE, &files)?;
    served(&storage)?;
    served(&was)?;
    ensure!(source(&was)?.contains("ConfigDrive"));
    site.serves_the_page()?;
    let places = places_of(&was, SHARE_PASSWORD)?;
    ensure!(places.len() == 2, "{places:#?}");
    ensure!(
        !was.answer(["findmnt", "--list"])?
            .contains("wasagent-drives")
    );
    Ok(())
}

#[test]
#[ignore = "guests for each way in: run it by its name"]
fn a_virtual_router_brings_user_data() -> Result<()> {
    let site = Site::new()?;
    let _web = site.web()?;
    let storage = site.storage()?;
    let data = site.was_data(SHARE_PASSWORD, &[EMBED])?;
    let instance = user_data::instance("was-01", &data);
    let router = VirtualRouter::start(
        &site.lab,
        &[Known {
            address: "192.168.2.11",
            hostname: "was-01",
            instance: &instance,
            user_data: &data,
            password: "Login-4711",
        }],
    )?;
    let was = site.lab.first_boot(&was_01())?;
    served(&storage)?;
    served(&was)?;
    ensure!(source(&was)?.contains("CloudStack"));
    site.serves_the_page()?;
    // The password server's is the login's, which is not the share's.
    ensure!(
        was.answer(["passwd", "--status", "debian"])?
            .starts_with("debian P")
    );
    let places = places_of(&was, SHARE_PASSWORD)?;
    ensure!(places.len() == 2, "{places:#?}");
    // cloud-init may ask again at a boot, and writes its copies anew.
    was.reboot()?;
    let places = places_of(&was, SHARE_PASSWORD)?;
    ensure!(places.len() == 2, "{places:#?}");
    drop(router);
    Ok(())
}

/// Autoscaling makes VMs of one template and one user data, with names that nobody chose.
#[test]
#[ignore = "guests as many as fit: run it by its name"]
fn ten_autoscaled_was_come_up_by_one_user_data() -> Result<()> {
    let mut site = Site::new()?;
    let _web = site.web()?;
    site.tier = site.tier.replace("was-container-{index}", "{node}");
    ensure!(site.tier.contains("\"{node}\""));
    let storage = site.storage()?;
    let data = site.was_data(SHARE_PASSWORD, &[EMBED])?;
    let begun = Instant::now();
    let mut guests = Vec::new();
    for (place, name) in AUTOSCALED {
        let run = site.lab.network().run_directory();
        let files = user_data::no_cloud(name, &data);
        let seed = user_data::fat_disk(run, name, NO_CLOUD, &files)?;
        let mut spec = Spec::was(place, Release::BookwormCloud).seed(&seed);
        name.clone_into(&mut spec.name);
        guests.push((name, place, site.lab.first_boot(&spec)?));
    }
    served(&storage)?;
    for (name, place, guest) in &guests {
        served(guest)?;
        let page = site.page(&format!("192.168.2.{}", 10 + place))?;
        ensure!(page.contains(name), "{name}: {page}");
    }
    say(format!(
        "{} WAS serve after {:.0} s",
        guests.len(),
        begun.elapsed().as_secs_f64()
    ));
    let login = ("user1", SHARE_PASSWORD);
    thread::scope(|scope| {
        let sessions = (guests.len()..10).map(|number| {
            let storage = &storage;
            scope.spawn(move || {
                let file = format!("session-{number}");
                let commands =
                    format!("put /etc/hostname {file}; get {file} /dev/null; del {file}");
                let used = smb::client(storage, "user1", login, &commands)?;
                ensure!(used.success(), "{file}: {used}");
                Ok(())
            })
        });
        let sessions: Vec<_> = sessions.collect();
        let mut ended = sessions.into_iter().map(|session| session.join());
        ended.try_for_each(|session| session.expect("the thread does not panic"))
    })?;
    for (_, _, guest) in &guests {
        guest.ok(["wasagent", "health"])?;
    }
    Ok(())
}

/// Which data source cloud-init took.
fn source(guest: &Guest) -> Result<String> {
    guest.answer(["cat", "/run/cloud-init/result.json"])
}

#[test]
#[ignore = "emulated: run it by its name"]
fn a_first_boot_on_the_distributions_kernel() -> Result<()> {
    let site = Site::new()?;
    let _web = site.web()?;
    let begun = Instant::now();
    let storage = site.storage()?;
    let data = site.was_data(SHARE_PASSWORD, &[EMBED])?;
    let run = site.lab.network().run_directory();
    let seed = user_data::seed_disk(run, "was-01", &data, &[])?;
    let spec = was_01().seed(&seed).needs(&[Need::DistributionKernel]);
    let was = site.lab.first_boot(&spec)?;
    served(&storage)?;
    served(&was)?;
    site.serves_the_page()?;
    say(format!(
        "a page after {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}
