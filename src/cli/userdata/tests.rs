//! What is printed is what a VM runs: a message that can be read back, a script that a shell runs, no secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use super::*;
use crate::host::sha256::Sha256;

const TIER: &str = include_str!("../../../packaging/cloudstack/tests/tier.toml");
const SECRET: &str = "s3cret-'of-the-share";

/// A tier whose secrets are in a scratch directory.
struct Ground {
    directory: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let ground = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for (name, text) in [
            ("tier.toml", TIER.replace("/etc/wasagent", ground.path())),
            ("share.password", SECRET.to_owned()),
            ("database.password", "db-pass".to_owned()),
        ] {
            ground.write(name, &text);
        }
        ground
    }

    fn path(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        let name = format!("bin/{name}");
        self.write(&name, &format!("#!/bin/sh\n{text}\n"));
        let path = self.directory.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }

    fn outline(&self, request: &Request) -> Outline {
        let file = self.directory.path().join("tier.toml");
        read(&file, request.role, request.embed_secrets).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn user_data(&self, request: &Request) -> String {
        request.user_data(&self.outline(request)).unwrap()
    }

    /// Runs a script as if the scratch directory were the root of a VM.
    fn sh(&self, script: &str, arguments: &[&str]) -> Output {
        let mut script = script.to_owned();
        for directory in [
            "/etc/systemd/system/",
            "/etc/",
            "/run/",
            "/usr/bin/",
            "/usr/lib/systemd/system/",
            "/var/lib/",
        ] {
            let here = format!("{}{directory}", self.path());
            fs::create_dir_all(&here).unwrap();
            // Not where it is in the scratch directory already, as the secrets' files are.
            let aside = script.replace(&here, "\u{1}").replace(directory, &here);
            script = aside.replace('\u{1}', &here);
        }
        self.write("script", &script);
        let path = format!("{}/bin:{}", self.path(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command
            .arg(self.directory.path().join("script"))
            .args(arguments)
            .env("PATH", path);
        command.output().unwrap()
    }
}

fn request(role: Role) -> Request {
    Request {
        role,
        origin: Origin::Packages(None),
        parameters: Vec::new(),
        embed_secrets: false,
        script: false,
    }
}

/// Reads a message of one part back: its headers and its body.
fn part(message: &str) -> (&str, &str) {
    let (head, rest) = message.split_once("\n\n").unwrap();
    let boundary = head
        .split("boundary=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let parts: Vec<_> = rest.split(&format!("--{boundary}")).collect();
    assert_eq!(parts.len(), 3, "one part");
    assert_eq!(parts[2], "--\n", "the end of the message");
    parts[1]
        .trim_start_matches('\n')
        .split_once("\n\n")
        .unwrap()
}

/// The script that the first boot's unit runs.
fn first_boot(script: &str) -> &str {
    let rest = script
        .split("cat >/etc/wasagent/first-boot <<'wasagent-end'\n")
        .nth(1)
        .unwrap();
    rest.split("\nwasagent-end\n").next().unwrap()
}

fn origins() -> [Origin; 3] {
    [
        Origin::Packages(None),
        Origin::Packages(Some((
            "https://packages.example/wasagent".to_owned(),
            "KEY\n".repeat(400),
        ))),
        Origin::Binary(
            "https://packages.example/wasagent".to_owned(),
            "0".repeat(64),
        ),
    ]
}

#[test]
fn each_message_is_read_back_and_its_script_has_no_fault() {
    let ground = Ground::new();
    for role in [Role::Storage, Role::Was] {
        for origin in origins() {
            for embed_secrets in [false, true] {
                let request = Request {
                    origin: origin.clone(),
                    embed_secrets,
                    ..request(role)
                };
                let text = ground.user_data(&request);
                assert!(text.is_ascii() && text.lines().all(|line| line.len() < 998));
                assert!(BASE64.encode(&text).len() < LARGEST);
                let (headers, script) = part(&text);
                assert!(
                    headers.starts_with("Content-Type: text/x-shellscript"),
                    "{headers}"
                );
                assert!(script.starts_with("#!/bin/sh\n"));
                for script in [script, first_boot(script)] {
                    let mut after = script.split('@').skip(1);
                    assert!(
                        !after.any(|text| text.starts_with(char::is_uppercase)),
                        "{script}"
                    );
                    ground.write("parsed", script);
                    let parsed = Command::new("sh")
                        .arg("-n")
                        .arg(ground.directory.path().join("parsed"))
                        .output()
                        .unwrap();
                    assert!(parsed.status.success(), "{parsed:?}\n{script}");
                }
            }
        }
    }
}

#[test]
fn no_secret_travels_unless_somebody_insists() {
    let ground = Ground::new();
    for role in [Role::Storage, Role::Was] {
        let text = ground.user_data(&request(role));
        assert!(!text.contains(&BASE64.encode(SECRET)) && !text.contains(SECRET));
        let text = ground.user_data(&Request {
            embed_secrets: true,
            ..request(role)
        });
        assert!(text.contains(&BASE64.encode(SECRET)));
        assert_eq!(
            text.contains(&BASE64.encode("db-pass")),
            role == Role::Storage
        );
        assert!(text.contains("wasagent-wipe"));
    }
}

#[test]
fn a_secret_in_the_tier_file_is_refused() {
    let ground = Ground::new();
    let file = format!("password_file = \"{}/share.password\"", ground.path());
    let tier = ground.read("tier.toml");
    ground.write("tier.toml", &tier.replace(&file, "password = \"x\""));
    let mut request = request(Role::Was);
    for embed_secrets in [false, true] {
        request.embed_secrets = embed_secrets;
        let error = request.user_data(&ground.outline(&request)).unwrap_err();
        assert!(error.message.contains("share.password"), "{error}");
    }
    // A WAS uses none of it, and its tier file would carry it all the same.
    let database = format!("password_file = \"{}/database.password\"", ground.path());
    assert!(tier.contains(&database));
    ground.write("tier.toml", &tier.replace(&database, "password = \"x\""));
    let error = request.user_data(&ground.outline(&request)).unwrap_err();
    assert!(error.message.contains("database.password"), "{error}");
    ground.write(
        "tier.toml",
        &tier.replace(&file, "password_credential = \"x\""),
    );
    request.embed_secrets = false;
    let error = request.user_data(&ground.outline(&request)).unwrap_err();
    assert!(error.hint.unwrap().contains("password_file"));
}

#[test]
fn secrets_need_not_be_on_the_machine_that_prints() {
    let ground = Ground::new();
    fs::remove_file(ground.directory.path().join("share.password")).unwrap();
    ground.user_data(&request(Role::Was));
    let file = ground.directory.path().join("tier.toml");
    assert!(read(&file, Role::Was, true).is_err());
}

#[test]
fn the_tier_file_arrives_as_it_is_and_a_failed_first_try_is_reported() {
    let ground = Ground::new();
    ground.program("systemctl", "[ \"$1\" != start ]");
    ground.program("journalctl", "echo the storage VM is away");
    let text = ground.user_data(&Request {
        embed_secrets: false,
        ..request(Role::Was)
    });
    let ran = ground.sh(part(&text).1, &[]);
    assert_eq!(
        ground.read("etc/wasagent/tier.toml"),
        ground.read("tier.toml")
    );
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stdout).contains("the storage VM is away"));
    ground.program("systemctl", "true");
    assert_eq!(ground.sh(part(&text).1, &[]).status.code(), Some(0));
    let unit = ground.read("etc/systemd/system/wasagent-first-boot.service");
    assert!(unit.contains("apply --role was") && unit.contains("Restart=on-failure"));
}

#[test]
fn a_parameter_takes_the_place_of_a_value() {
    let ground = Ground::new();
    let parameters = vec![("share.server".to_owned(), "storage_address".to_owned())];
    let text = ground.user_data(&Request {
        parameters,
        ..request(Role::Was)
    });
    let (headers, script) = part(&text);
    assert!(headers.starts_with("Content-Type: text/jinja2"));
    assert!(script.starts_with("## template: jinja\n#!/bin/sh\n"));
    let expression = "{{ ds.meta_data.storage_address | string | tojson }}";
    assert_eq!(
        script.matches('{').count() - script.matches("{\n").count() - script.matches("${").count(),
        2,
        "nothing else is a template"
    );
    ground.program("systemctl", "true");
    let ran = ground.sh(&script.replace(expression, "\"10.1.1.13\""), &[]);
    assert!(ran.status.success(), "{ran:?}");
    let expected = ground
        .read("tier.toml")
        .replace("\"192.168.2.13\"", "\"10.1.1.13\"");
    assert_eq!(ground.read("etc/wasagent/tier.toml"), expected);
    let parameters = vec![("share.clients".to_owned(), "x".to_owned())];
    let request = Request {
        parameters,
        ..request(Role::Was)
    };
    assert!(request.user_data(&ground.outline(&request)).is_err());
}

/// A program in the agent's place.
const AGENT: &str = "echo what it says to $1";

/// What is downloaded.
fn of_the_agent() -> String {
    format!("{AGENT}\n")
}

/// What the first boot of a WAS VM does before the apply, where its agent comes from a URL.
fn first_boot_from_url(ground: &Ground, sha256: &str) -> Output {
    first_boot_with(ground, sha256, "prepare")
}

fn first_boot_with(ground: &Ground, sha256: &str, what: &str) -> Output {
    for name in [
        "podman",
        "nft",
        "mount.cifs",
        "firewall-cmd",
        "mount",
        "umount",
    ] {
        ground.program(name, "true");
    }
    ground.program("blkid", "exit 2");
    ground.program("systemctl", "[ $1 != cat ] || exit 1; echo $*");
    ground.program(
        "curl",
        &format!("while [ $# -gt 2 ]; do shift; done; echo '{AGENT}' >\"$1\""),
    );
    let origin = Origin::Binary(
        "https://packages.example/wasagent".to_owned(),
        sha256.to_owned(),
    );
    let text = ground.user_data(&Request {
        origin,
        ..request(Role::Was)
    });
    ground.sh(first_boot(part(&text).1), &[what])
}

#[test]
fn a_binary_with_another_checksum_is_not_installed() {
    let ground = Ground::new();
    let ran = first_boot_from_url(&ground, &"0".repeat(64));
    assert_eq!(ran.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&ran.stderr).contains("another checksum"),
        "{ran:?}"
    );
    assert!(!ground.directory.path().join("usr/bin/wasagent").exists());
    let right = Sha256::of(of_the_agent().as_bytes()).0;
    let ran = first_boot_from_url(&ground, &right);
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(ground.read("usr/bin/wasagent"), of_the_agent());
}

#[test]
fn an_agent_without_a_package_applies_at_later_boots() {
    let ground = Ground::new();
    let right = Sha256::of(of_the_agent().as_bytes()).0;
    first_boot_from_url(&ground, &right);
    let ran = first_boot_with(&ground, &right, "finish");
    assert!(ran.status.success(), "{ran:?}");
    let unit = ground.read("usr/lib/systemd/system/wasagent-apply.service");
    assert_eq!(unit, "what it says to boot-unit\n");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        said.starts_with("daemon-reload\nenable wasagent-apply.service\n"),
        "{said}"
    );
}

#[test]
fn a_secret_is_brought_from_where_it_is() {
    let right = Sha256::of(of_the_agent().as_bytes()).0;
    for from in [
        "run/credentials/@system/wasagent.share.password",
        "etc/credstore/wasagent.share.password",
        "run/wasagent-drives/wasagent/wasagent/share.password",
    ] {
        let ground = Ground::new();
        let file = ground.directory.path().join("share.password");
        fs::remove_file(&file).unwrap();
        let ran = first_boot_from_url(&ground, &right);
        assert_eq!(ran.status.code(), Some(1), "without the secret");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(said.contains("wasagent.share.password"), "{said}");
        ground.write(from, SECRET);
        let ran = first_boot_from_url(&ground, &right);
        assert!(ran.status.success(), "{from}: {ran:?}");
        assert_eq!(ground.read("share.password"), SECRET);
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
}

#[test]
fn two_secrets_of_one_name_are_refused() {
    let ground = Ground::new();
    let tier = ground.read("tier.toml");
    ground.write(
        "tier.toml",
        &tier.replace("/database.password", "/other/share.password"),
    );
    let request = request(Role::Storage);
    let error = request.user_data(&ground.outline(&request)).unwrap_err();
    assert!(error.message.contains("share.password"), "{error}");
}

#[test]
fn what_cannot_be_is_refused_on_the_command_line() {
    assert!(url("https://x/y?z=1&a=b").is_ok());
    for wrong in [
        "ftp://x",
        "https://x y",
        "https://x/'",
        "https://x/{{y}}",
        "https://x/$(id)",
    ] {
        assert!(url(wrong).is_err(), "{wrong}");
    }
    assert!(sha256(&"aB".repeat(32)).is_ok());
    assert!(sha256("12").is_err());
    for wrong in [
        "share.server",
        "=x",
        "share.server=",
        "share.server=a-b",
        "share.server=1a",
        "a={{",
    ] {
        assert!(parameter(wrong).is_err(), "{wrong}");
    }
}
