//! The tier file as an operator would write it, right and wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// The example of the documentation; `@DIR@` stands for the directory of the password files.
const EXAMPLE: &str = r#"[share]                                   # the SMB share between the storage VM and the WAS VMs
name          = "user1"
server        = "192.168.2.13"            # address or host name of the storage VM
user          = "user1"
password_file = "@DIR@/share.password"
clients       = ["192.168.2.0/24"]        # optional: nobody else reaches the share
encrypt       = true                      # optional, default true

[storage]                                 # used by --role storage
path = "/mnt/data/shared_folder"          # the directory that is shared

[storage.disk]                            # optional
device     = "auto"                       # the one blank disk | a /dev path | a disk's serial
filesystem = "xfs"                        # xfs | ext4
mount      = "/mnt/data"

[storage.content]                         # optional: what the WAS VMs run
git    = "https://github.com/ablecloud-team/ablestack-docs-sample.git"
rev    = "main"                           # branch, tag or commit
subdir = "linux-3tier-example"            # optional
build  = ["npm", "ci"]                    # optional

[[storage.content.edit]]                  # optional, any number
files  = ["router/signUp/index.js", "router/login/index.js"]
object = "mysql.createPool"               # the literal handed to this call
set    = { host = "{database.host}", port = "{database.port}", user = "{database.user}", password = "{database.password}", database = "{database.name}" }

[database]                                # optional: the DB tier behind its load balancer
host = "192.168.3.26"
port = 3306
user = "root"
password_file = "@DIR@/database.password"
name = "galeradb"

[was]                                     # used by --role was
mount = "/mnt/data/shared_folder"
vers  = "3.1.1"                           # optional

[was.container]
name       = "nodejs-server"
image      = "docker.io/ablecloudteam/nodejs-server:linux-0.1"
hostname   = "was-container-{index}"
publish    = ["5000:3000"]
workdir    = "/usr/src/app"               # where the share appears in the container
privileged = false                        # default false
env        = { NODE_ENV = "production" }  # optional

[firewall]                                # optional
zone = "public"                           # default: firewalld's default zone

[serve]                                   # optional
mode = "enforce"                          # enforce | report

[health]                                  # optional, each key has a default
interval = "5s"
listen   = "0.0.0.0:9180"                 # "" turns it off
http     = { path = "/", status = 200, contains = "{container.hostname}" }
drain    = "20s"
"#;

const SHARE_PASSWORD: &str = "Gr\u{fc}n,Kohl\"42\\";
const DATABASE_PASSWORD: &str = "p@ss'w0rd\";x";

/// A directory with a tier file and the password files.
pub(super) struct Site {
    directory: TempDir,
}

impl Site {
    pub(super) fn new() -> Self {
        let site = Self {
            directory: TempDir::new().unwrap(),
        };
        site.write("share.password", SHARE_PASSWORD.as_bytes(), 0o600);
        site.write("database.password", DATABASE_PASSWORD.as_bytes(), 0o400);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) {
        let path = self.path(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn text(&self, text: &str) -> String {
        text.replace("@DIR@", self.directory.path().to_str().unwrap())
    }

    fn load_as(&self, text: &str, role: Option<Role>) -> Result<Tier, Faults> {
        let text = self.text(text);
        self.write("tier.toml", text.as_bytes(), 0o600);
        let loaded = load(&self.path("tier.toml"), role);
        schema_tests::agrees(&text, loaded.as_ref().map(|_| ()));
        loaded
    }

    pub(super) fn load(&self, text: &str) -> Result<Tier, Faults> {
        self.load_as(text, None)
    }

    /// The faults as people read them, without the directory.
    fn faults(&self, text: &str) -> String {
        self.faults_as(text, None)
    }

    fn faults_as(&self, text: &str, role: Option<Role>) -> String {
        match self.load_as(text, role) {
            Ok(tier) => panic!("no fault in {tier:?}"),
            Err(faults) => self.plain(&faults.to_string()),
        }
    }

    fn plain(&self, text: &str) -> String {
        let directory = self.directory.path().to_str().unwrap();
        text.replace(&format!("{directory}/tier.toml"), "tier.toml")
            .replace(directory, "@DIR@")
    }
}

/// The example with one piece replaced.
fn changed(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "{from} is not in the example");
    EXAMPLE.replacen(from, to, 1)
}

#[test]
fn the_example_of_the_documentation() {
    let tier = Site::new().load(EXAMPLE).unwrap();
    assert_eq!(tier.share.name, "user1");
    assert_eq!(tier.share.server, "192.168.2.13");
    assert_eq!(tier.share.password.expose(), SHARE_PASSWORD);
    assert_eq!(tier.share.clients, ["192.168.2.0/24".parse().unwrap()]);
    assert!(tier.share.encrypt);
    let storage = tier.storage.unwrap();
    assert_eq!(storage.path, Path::new("/mnt/data/shared_folder"));
    let disk = storage.disk.unwrap();
    assert_eq!(
        (disk.device, disk.filesystem),
        (Device::Auto, Filesystem::Xfs)
    );
    let content = storage.content.unwrap();
    assert_eq!(content.build, ["npm", "ci"]);
    assert_eq!(content.subdir.unwrap(), Path::new("linux-3tier-example"));
    assert_eq!(content.edit[0].files.len(), 2);
    assert_eq!(content.edit[0].set["password"], "{database.password}");
    let database = tier.database.unwrap();
    assert_eq!(
        (database.port, database.password.unwrap().expose()),
        (3306, DATABASE_PASSWORD)
    );
    let was = tier.was.unwrap();
    assert_eq!(was.vers, Dialect::V3_1_1);
    assert_eq!(was.container.publish[0].to_string(), "5000:3000");
    assert_eq!(was.container.env["NODE_ENV"], "production");
    assert_eq!(tier.firewall.zone.as_deref(), Some("public"));
    assert_eq!(
        tier.health.http.contains.as_deref(),
        Some("{container.hostname}")
    );
    assert_eq!(tier.health.drain, Duration::from_secs(20));
}

#[test]
fn a_container_is_called_as_its_vm_unless_it_has_a_name() {
    let text = EXAMPLE.replace("hostname   = \"was-container-{index}\"", "");
    let tier = Site::new().load(&text).unwrap();
    assert_eq!(tier.was.unwrap().container.hostname, "{node}");
}

const SMALLEST: &str = r#"[share]
name = "user1"
server = "storage.example.org"
user = "user1"
password_file = "@DIR@/share.password"

[storage]
path = "/srv/share"
"#;

#[test]
fn what_is_left_out_has_its_default() {
    let tier = Site::new().load(SMALLEST).unwrap();
    assert!(tier.share.encrypt && tier.share.clients.is_empty());
    assert_eq!(tier.health, Health::default());
    assert_eq!(tier.health.interval, Duration::from_secs(5));
    assert_eq!(tier.health.listen, "0.0.0.0:9180".parse().ok());
    assert_eq!(tier.health.http.status, 200);
    assert_eq!(tier.serve.mode, Mode::Enforce);
    assert_eq!(
        (tier.firewall.zone, tier.was, tier.database),
        (None, None, None)
    );
}

#[test]
fn no_secret_is_printed() {
    let tier = Site::new().load(EXAMPLE).unwrap();
    let text = format!("{tier:?} {tier:#?} {}", tier.share.password);
    assert!(text.contains("(secret)"));
    assert!(!text.contains("Kohl") && !text.contains("w0rd"), "{text}");
}

#[test]
fn a_misspelt_key_is_shown_with_the_one_that_was_meant() {
    let text = SMALLEST.replace(
        "password_file = \"@DIR@/",
        "pasword_file = \"/etc/wasagent/",
    );
    assert_eq!(
        Site::new().faults(&text),
        r#"tier.toml:5:1: unknown key `pasword_file` in [share]
   5 | pasword_file = "/etc/wasagent/share.password"
     | ^^^^^^^^^^^^
     = expected one of: name, server, user, password_file, password, password_credential, clients, encrypt
     = did you mean `password_file`?"#
    );
}

#[test]
fn a_value_that_swallowed_other_lines_is_not_repeated() {
    let swallowed = "'''sdb\r\npassword = \"planted\"\r\n'''";
    let site = Site::new();
    let text = EXAMPLE.replace("\"auto\"", swallowed);
    let faults = site.faults(&text);
    assert!(faults.contains("storage.disk.device"), "{faults}");
    assert!(!faults.contains('\r'), "{faults}");
    let json = serde_json::to_string(&site.load(&text).unwrap_err()).unwrap();
    for shown in [faults, json] {
        assert!(!shown.contains("planted"), "{shown}");
    }
}

#[test]
fn several_faults_are_told_at_once_in_the_order_of_the_file() {
    let text = r#"
[share]
name = "a/b"
server = "192.168.2.300"
user = 7
password_file = "/nonexistent"
encrpt = false

[storage]
path = "/mnt/data/../x"
mount = "/mnt/data"

[health]
interval = 5
"#;
    assert_eq!(
        Site::new().faults(text),
        r#"tier.toml:3:8: share.name: `/` cannot be in a share's name
   3 | name = "a/b"
     |        ^^^^^
     = expected 1 to 80 characters without control characters and " \ / [ ] : | < > + = ; , * ? %

tier.toml:4:10: share.server: not an IP address: that is four numbers from 0 to 255
   4 | server = "192.168.2.300"
     |          ^^^^^^^^^^^^^^^
     = expected an address such as 192.168.2.13, or a host name

tier.toml:5:8: share.user: found a whole number
   5 | user = 7
     |        ^
     = expected a string, in quotes

tier.toml:6:17: share.password_file: cannot read /nonexistent: no such file or directory
   6 | password_file = "/nonexistent"
     |                 ^^^^^^^^^^^^^^
     = expected a file that holds the password and nothing else

tier.toml:7:1: unknown key `encrpt` in [share]
   7 | encrpt = false
     | ^^^^^^
     = expected one of: name, server, user, password_file, password, password_credential, clients, encrypt
     = did you mean `encrypt`?

tier.toml:10:8: storage.path: holds `..`
  10 | path = "/mnt/data/../x"
     |        ^^^^^^^^^^^^^^^^
     = expected a path without `..`

tier.toml:11:1: unknown key `mount` in [storage]
  11 | mount = "/mnt/data"
     | ^^^^^
     = expected one of: path, disk, content
     = `mount` belongs to [storage.disk] or [was]

tier.toml:14:12: health.interval: a number without a unit
  14 | interval = 5
     |            ^
     = expected a duration, such as "5s", "500ms" or "1m30s"
     = for seconds write "5s""#
    );
}

/// Replacements in the example, and how the resulting fault begins. The message never repeats a
/// value, since the line with the value is shown below it.
pub(super) const FAULTS: &[(&str, &str, &str)] = &[
    // keys and sections
    (
        "[firewall] ",
        "[firewal] ",
        "unknown section or key `firewal`",
    ),
    (
        "zone = \"public\"",
        "zon = \"public\"",
        "unknown key `zon` in [firewall]",
    ),
    (
        "object = \"mysql.createPool\"",
        "",
        "missing `object` in [storage.content.edit]",
    ),
    (
        "filesystem = \"xfs\"",
        "",
        "missing `filesystem` in [storage.disk]",
    ),
    (
        "workdir    = \"/usr/src/app\"",
        "",
        "missing `workdir` in [was.container]",
    ),
    (
        "password_file = \"@DIR@/share.password\"",
        "",
        "missing the password in [share]",
    ),
    // types
    (
        "encrypt       = true",
        "encrypt = \"true\"",
        "share.encrypt: found a string",
    ),
    (
        "port = 3306",
        "port = \"3306\"",
        "database.port: found a string",
    ),
    (
        "port = 3306",
        "port = 33.06",
        "database.port: found a number with a fraction",
    ),
    (
        "build  = [\"npm\", \"ci\"]",
        "build = \"npm ci\"",
        "storage.content.build: found a string",
    ),
    (
        "[\"5000:3000\"]",
        "[5000]",
        "was.container.publish: found a whole number",
    ),
    ("[serve] ", "[[serve]] ", "serve: found a list"),
    (
        "{ NODE_ENV = \"production\" }",
        "[]",
        "was.container.env: found a list",
    ),
    ("port = 3306", "port = 0", "database.port: out of range"),
    ("port = 3306", "port = 65536", "database.port: out of range"),
    ("port = 3306", "port = -1", "database.port: out of range"),
    // names
    (
        "name          = \"user1\"",
        "name = \"\"",
        "share.name: is empty",
    ),
    (
        "name          = \"user1\"",
        "name = \"Global\"",
        "share.name: Samba keeps this name",
    ),
    (
        "name          = \"user1\"",
        "name = \"IPC$\"",
        "share.name: Samba keeps this name",
    ),
    (
        "name          = \"user1\"",
        "name = \"a\\tb\"",
        "share.name: `\\t` cannot be",
    ),
    (
        "user          = \"user1\"",
        "user = \"root\"",
        "share.user: root cannot own",
    ),
    (
        "user          = \"user1\"",
        "user = \"1user\"",
        "share.user: no name for an account",
    ),
    (
        "\"nodejs-server\"",
        "\"-x\"",
        "was.container.name: no name for a container",
    ),
    (
        "NODE_ENV",
        "\"NODE ENV\"",
        "was.container.env: no name for an environment",
    ),
    (
        "\"production\"",
        "\"a\\nb\"",
        "was.container.env.NODE_ENV: holds a control",
    ),
    (
        "zone = \"public\"",
        "zone = \"\"",
        "firewall.zone: is empty",
    ),
    (
        "was-container-{index}",
        "was_{index}",
        "was.container.hostname: no host name",
    ),
    (
        "was-container-{index}",
        "was-{indx}",
        "was.container.hostname: unknown placeholder {indx}",
    ),
    ("\"galeradb\"", "\"\"", "database.name: is empty"),
    // hosts
    (
        "\"192.168.2.13\"",
        "\"192.168.2\"",
        "share.server: not an IP address",
    ),
    (
        "\"192.168.2.13\"",
        "\"was storage\"",
        "share.server: neither an IP address nor",
    ),
    (
        "\"192.168.2.13\"",
        "\"0.0.0.0\"",
        "share.server: no address of one machine",
    ),
    (
        "\"192.168.2.13\"",
        "\"[fd00::13]\"",
        "share.server: an IPv6 address in brackets",
    ),
    (
        "\"192.168.2.13\"",
        "\"[fd00::13]:445\"",
        "share.server: an IPv6 address in brackets, with something behind it",
    ),
    (
        "\"192.168.2.13\"",
        "\"fe80::1%eth0\"",
        "share.server: an address that is valid on one link only",
    ),
    (
        "\"192.168.3.26\"",
        "\"[fd00::26]\"",
        "database.host: an IPv6 address in brackets",
    ),
    (
        "\"5000:3000\"",
        "\"fd00::1:5000:3000\"",
        "was.container.publish: no IP address: IPv6 stands in brackets here",
    ),
    (
        "\"192.168.3.26\"",
        "\"db:3306\"",
        "database.host: neither an IP address nor",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"192.168.2.13/24\"",
        "share.clients: has bits beyond",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"192.168.2.13\"",
        "share.clients: an address, not a network",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"::ffff:192.168.2.13\"",
        "share.clients: IPv4 in the form of IPv6, which no packet carries",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"all\"",
        "share.clients: not a network",
    ),
    (
        "[\"192.168.2.0/24\"]",
        "[]",
        "share.clients: the list is empty",
    ),
    // paths
    (
        "\"/mnt/data/shared_folder\" ",
        "\"mnt\" ",
        "storage.path: not an absolute path",
    ),
    (
        "\"/mnt/data/shared_folder\" ",
        "\"/mnt/data//x/\" ",
        "storage.path: not a tidy path",
    ),
    (
        "\"/mnt/data/shared_folder\" ",
        "\"/mnt/data/a b\" ",
        "storage.path: ` ` cannot be",
    ),
    (
        "\"/mnt/data/shared_folder\" ",
        "\"/mnt/database\" ",
        "storage.path: not on the disk",
    ),
    (
        "\"/mnt/data\"",
        "\"/usr/share/data\"",
        "storage.disk.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/\"",
        "was.mount: a directory of the system",
    ),
    (
        "\"/usr/src/app\"",
        "\"/\"",
        "was.container.workdir: would hide",
    ),
    (
        "\"linux-3tier-example\"",
        "\"../x\"",
        "storage.content.subdir: holds `..`",
    ),
    (
        "\"router/login/index.js\"",
        "\"/etc/passwd\"",
        "storage.content.edit.files: not a relative",
    ),
    (
        "\"auto\"",
        "\"dev/sdb\"",
        "storage.disk.device: neither a path nor a serial",
    ),
    (
        "\"auto\"",
        "\"/mnt/x\"",
        "storage.disk.device: not below /dev",
    ),
    // words
    (
        "\"xfs\"",
        "\"btrfs\"",
        "storage.disk.filesystem: unknown value",
    ),
    ("\"3.1.1\"", "\"2.1\"", "was.vers: unknown value"),
    ("\"enforce\"", "\"Report\"", "serve.mode: unknown value"),
    // ports
    (
        "\"5000:3000\"",
        "\"3000\"",
        "was.container.publish: only one port",
    ),
    (
        "\"5000:3000\"",
        "\"0:3000\"",
        "was.container.publish: no port of the VM",
    ),
    (
        "\"5000:3000\"",
        "\"5000:70000\"",
        "was.container.publish: no port of the container",
    ),
    (
        "\"5000:3000\"",
        "\"5000:3000/sctp\"",
        "was.container.publish: unknown protocol",
    ),
    (
        "\"5000:3000\"",
        "\"::1:5000:3000\"",
        "was.container.publish: no IP address",
    ),
    (
        "\"5000:3000\"",
        "\"5000:3000/udp\"",
        "was.container.publish: no TCP port",
    ),
    (
        "\"5000:3000\"",
        "\"5000:3000\", \"127.0.0.1:5000:80/tcp\"",
        "was.container.publish: `127.0.0.1:5000:80` and `5000:3000` publish the same port 5000/tcp",
    ),
    (
        "\"5000:3000\"",
        "\"9180:3000\"",
        "health.listen: the container publishes this port as `9180:3000`",
    ),
    (
        "\"0.0.0.0:9180\"",
        "\":9180\"",
        "health.listen: no address to listen on",
    ),
    ("\"0.0.0.0:9180\"", "\"0.0.0.0:0\"", "health.listen: port 0"),
    // durations
    (
        "\"5s\"",
        "\"5\"",
        "health.interval: a number without a unit",
    ),
    ("\"5s\"", "\"0s\"", "health.interval: out of range"),
    ("\"5s\"", "\"5 s\"", "health.interval: not a duration"),
    ("\"20s\"", "\"2d\"", "health.drain: not a duration"),
    // the health check
    (
        "path = \"/\"",
        "path = \"x\"",
        "health.http.path: does not begin with a slash",
    ),
    (
        "status = 200",
        "status = 99",
        "health.http.status: out of range",
    ),
    (
        "{container.hostname}",
        "{container.host}",
        "health.http.contains: unknown placeholder",
    ),
    // images
    (
        "docker.io/ablecloudteam/",
        "ablecloudteam/",
        "was.container.image: names no registry",
    ),
    (
        "docker.io/ablecloudteam/nodejs-server",
        "nodejs",
        "was.container.image: names no registry",
    ),
    (
        "nodejs-server:linux-0.1",
        "NodeJS:linux-0.1",
        "was.container.image: no name of an image",
    ),
    (
        "nodejs-server:linux-0.1",
        "nodejs:",
        "was.container.image: no tag",
    ),
    (
        "nodejs-server:linux-0.1",
        "nodejs@sha256:12",
        "was.container.image: no digest",
    ),
    (
        "docker.io/ablecloudteam/nodejs-server:linux-0.1",
        "docker-archive:x.tar",
        "was.container.image: not an absolute path",
    ),
    // content
    (
        "\"main\"",
        "\"--upload-pack=x\"",
        "storage.content.rev: begins with a hyphen",
    ),
    (
        "\"main\"",
        "\"a..b\"",
        "storage.content.rev: no name that git knows",
    ),
    (
        "\"https://github",
        "\"-https://github",
        "storage.content.git: begins with a hyphen",
    ),
    (
        "\"https://github",
        "\"http://github",
        "storage.content.git: http:// can be changed",
    ),
    (
        "\"https://github",
        "\"ext::https://github",
        "storage.content.git: nothing that git fetches",
    ),
    (
        "\"https://github",
        "\"https://u:hunter2@github",
        "storage.content.git: holds a user",
    ),
    (
        "\"https://github",
        "\"ssh://u:hunter2@github",
        "storage.content.git: holds a password",
    ),
    (
        "https://github.com/ablecloud-team",
        "git:hunter2@github.com:ablecloud-team",
        "storage.content.git: holds a password",
    ),
    (
        "[\"npm\", \"ci\"]",
        "[]",
        "storage.content.build: the list is empty",
    ),
    (
        "[\"npm\", \"ci\"]",
        "[\"npm\", \"\"]",
        "storage.content.build: an empty word",
    ),
    (
        "{database.host}",
        "{databse.host}",
        "storage.content.edit.set.host: unknown placeholder {databse.host}",
    ),
    (
        "mysql.createPool",
        "mysql createPool",
        "storage.content.edit.object: no name of a JavaScript",
    ),
];

/// Values that are well written, and can never work.
pub(super) const NEVER: &[(&str, &str, &str)] = &[
    (
        "\"192.168.2.0/24\"",
        "\"::ffff:192.168.2.0/120\"",
        "share.clients: IPv4 in the form of IPv6",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"::ffff:0:0/96\"",
        "share.clients: IPv4 in the form of IPv6",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"224.0.0.0/4\"",
        "share.clients: these are addresses of groups",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"ff02::/16\"",
        "share.clients: these are addresses of groups",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"127.0.0.0/8\"",
        "share.clients: by these addresses a machine",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"::1/128\"",
        "share.clients: by these addresses a machine",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"0.0.0.0/32\"",
        "share.clients: no machine has an address",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"255.255.255.255/32\"",
        "share.clients: this is the address of a broadcast",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"fd00::1/64\"",
        "share.clients: has bits beyond",
    ),
    (
        "\"192.168.2.0/24\"",
        "\"fd00::/64\"",
        "share.server: an IPv4 address, and share.clients has only IPv6",
    ),
    (
        "\"192.168.2.13\"",
        "\"127.0.0.1\"",
        "share.server: a WAS VM would reach itself",
    ),
    (
        "\"192.168.2.13\"",
        "\"::1\"",
        "share.server: a WAS VM would reach itself",
    ),
    (
        "\"192.168.2.13\"",
        "\"LocalHost\"",
        "share.server: a WAS VM would reach itself",
    ),
    (
        "\"192.168.2.13\"",
        "\"localhost.localdomain\"",
        "share.server: a WAS VM would reach itself",
    ),
    (
        "\"192.168.2.13\"",
        "\"255.255.255.255\"",
        "share.server: no address of one machine",
    ),
    (
        "\"192.168.2.13\"",
        "\"ff02::1\"",
        "share.server: no address of one machine",
    ),
    (
        "\"192.168.2.13\"",
        "\"fe80::13\"",
        "share.server: this address means something only",
    ),
    (
        "\"192.168.2.13\"",
        "\"::ffff:192.168.2.13\"",
        "share.server: IPv4 in the form of IPv6",
    ),
    (
        "\"192.168.3.26\"",
        "\"fe80::1\"",
        "database.host: this address means",
    ),
    (
        "user          = \"user1\"",
        "user = \"Root\"",
        "share.user: root cannot own",
    ),
    (
        "user          = \"user1\"",
        "user = \"nobody\"",
        "share.user: an account or group of the system",
    ),
    (
        "user          = \"user1\"",
        "user = \"wheel\"",
        "share.user: an account or group of the system",
    ),
    (
        "user          = \"user1\"",
        "user = \"systemd-network\"",
        "share.user: an account or group of the system",
    ),
    (
        "user          = \"user1\"",
        "user = \"user$\"",
        "share.user: no name for an account",
    ),
    (
        "user          = \"user1\"",
        "user = \"a b\"",
        "share.user: no name for an account",
    ),
    (
        "name          = \"user1\"",
        "name = \"homes\"",
        "share.name: Samba keeps this name",
    ),
    (
        "name          = \"user1\"",
        "name = \"printers\"",
        "share.name: Samba keeps this name",
    ),
    (
        "name          = \"user1\"",
        "name = \"print$\"",
        "share.name: Samba keeps this name",
    ),
    (
        "name          = \"user1\"",
        "name = \"admin$\"",
        "share.name: Samba keeps this name",
    ),
    ("\"auto\"", "\"sdb\"", "storage.disk.device: neither"),
    ("\"auto\"", "\"vda1\"", "storage.disk.device: neither"),
    ("\"auto\"", "\"nvme0n1p1\"", "storage.disk.device: neither"),
    ("\"auto\"", "\"mmcblk0\"", "storage.disk.device: neither"),
    ("\"auto\"", "\"dm-0\"", "storage.disk.device: neither"),
    (
        "\"auto\"",
        "\"UUID=0f3a-12\"",
        "storage.disk.device: neither",
    ),
    ("\"auto\"", "\"LABEL=data\"", "storage.disk.device: neither"),
    (
        "\"auto\"",
        "\"PARTUUID=12\"",
        "storage.disk.device: neither",
    ),
    ("\"auto\"", "\"Auto\"", "storage.disk.device: neither"),
    ("\"auto\"", "\"AUTO\"", "storage.disk.device: neither"),
    ("\"auto\"", "\"atuo\"", "storage.disk.device: neither"),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/var/lib/wasagent\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/var/lib/wasagent/x\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/var/lib/samba\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/var/lib/containers/storage\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/run/share\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/tmp/share\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/var/tmp/share\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/etc/share\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/root/share\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/boot\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/var/log/x\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/var/lib/systemd\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/lib64/x\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/home\"",
        "was.mount: a directory of the system",
    ),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/var/lib\"",
        "was.mount: a directory of the system",
    ),
    (
        "path = \"/mnt/data/shared_folder\"",
        "path = \"/mnt/data\"",
        "storage.path: the mount point of the disk, beside storage.content",
    ),
    (
        "\"/usr/src/app\"",
        "\"/usr\"",
        "was.container.workdir: would hide",
    ),
    (
        "\"/usr/src/app\"",
        "\"/etc\"",
        "was.container.workdir: would hide",
    ),
    (
        "\"/usr/src/app\"",
        "\"/bin\"",
        "was.container.workdir: would hide",
    ),
    (
        "\"/usr/src/app\"",
        "\"/usr/local/bin\"",
        "was.container.workdir: would hide",
    ),
    (
        "\"/usr/src/app\"",
        "\"/run/secrets\"",
        "was.container.workdir: would hide",
    ),
    (
        "\"/usr/src/app\"",
        "\"/run/secrets/x\"",
        "was.container.workdir: would hide",
    ),
    (
        "\"/usr/src/app\"",
        "\"/proc/x\"",
        "was.container.workdir: would hide",
    ),
    (
        "\"/usr/src/app\"",
        "\"/run\"",
        "was.container.workdir: would hide",
    ),
    (
        "\"/usr/src/app\"",
        "\"app\"",
        "was.container.workdir: not an absolute path",
    ),
    (
        "\"nodejs-server\"",
        "\"wasagent\"",
        "was.container.name: a service of the system",
    ),
    (
        "\"nodejs-server\"",
        "\"wasagent-apply\"",
        "was.container.name: a service of the system",
    ),
    (
        "\"nodejs-server\"",
        "\"sshd\"",
        "was.container.name: a service of the system",
    ),
    (
        "\"nodejs-server\"",
        "\"systemd-resolved\"",
        "was.container.name: a service of the system",
    ),
    (
        "\"nodejs-server\"",
        "\"nodejs server\"",
        "was.container.name: no name for a container",
    ),
    (
        "NODE_ENV",
        "\"1A\"",
        "was.container.env: no name for an environment",
    ),
    (
        "NODE_ENV",
        "\"A-B\"",
        "was.container.env: no name for an environment",
    ),
    (
        "NODE_ENV",
        "\"A=B\"",
        "was.container.env: no name for an environment",
    ),
    (
        "NODE_ENV",
        "\"\"",
        "was.container.env: no name for an environment",
    ),
    (
        "nodejs-server:linux-0.1",
        "a..b:1",
        "was.container.image: no name of an image",
    ),
    (
        "nodejs-server:linux-0.1",
        "a_-b:1",
        "was.container.image: no name of an image",
    ),
    (
        "nodejs-server:linux-0.1",
        "-a:1",
        "was.container.image: no name of an image",
    ),
    (
        "nodejs-server:linux-0.1",
        "a:.1",
        "was.container.image: no tag",
    ),
    (
        "nodejs-server:linux-0.1",
        "a:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "was.container.image: no tag",
    ),
    (
        "nodejs-server:linux-0.1",
        "a@sha1:00",
        "was.container.image: no digest",
    ),
    (
        "docker.io/ablecloudteam",
        "https://docker.io/ablecloudteam",
        "was.container.image: begins with a transport",
    ),
    (
        "docker.io/ablecloudteam",
        "docker.io:0/ablecloudteam",
        "was.container.image: no registry's host name",
    ),
    (
        "\"5000:3000\"",
        "\"224.0.0.1:5000:3000\"",
        "was.container.publish: no address of this VM",
    ),
    (
        "\"5000:3000\"",
        "\"255.255.255.255:5000:3000\"",
        "was.container.publish: no address of this VM",
    ),
    (
        "\"5000:3000\"",
        "\"[fe80::1]:5000:3000\"",
        "was.container.publish: this address means",
    ),
    (
        "\"5000:3000\"",
        "\"[::ffff:10.0.0.1]:5000:3000\"",
        "was.container.publish: IPv4 in the form of IPv6",
    ),
    (
        "\"5000:3000\"",
        "\"5000:0\"",
        "was.container.publish: no port of the container",
    ),
    (
        "\"5000:3000\"",
        "\"5000:3000\", \"5000:3001\"",
        "was.container.publish: `5000:3001` and `5000:3000` publish the same",
    ),
    (
        "\"0.0.0.0:9180\"",
        "\"239.0.0.1:9180\"",
        "health.listen: no address of this VM",
    ),
    ("\"20s\"", "\"0s\"", "health.drain: out of range"),
    ("\"20s\"", "\"0ms\"", "health.drain: out of range"),
    ("\"20s\"", "\"0h0m\"", "health.drain: out of range"),
];

#[test]
fn each_fault_alone() {
    let site = Site::new();
    for (from, to, message) in FAULTS.iter().chain(NEVER) {
        let faults = site.load(&changed(from, to)).unwrap_err();
        assert_eq!(faults.0.len(), 1, "{from} -> {to}: {faults}");
        let fault = &faults.0[0];
        assert!(
            fault.message.starts_with(message),
            "{from} -> {to}: {faults}"
        );
        assert!(!faults.to_string().contains("hunter2"), "{faults}");
        assert!(fault.line > 0 && fault.column > 0, "{faults}");
        assert!(!fault.text.is_empty(), "{faults}");
    }
}

/// Replacements in the example that are valid.
pub(super) const RIGHT: &[(&str, &str)] = &[
    ("\"192.168.2.13\"", "\"was-storage.example.org\""),
    ("\"192.168.2.13\"", "\"localhost.example.org\""),
    ("\"192.168.2.0/24\"", "\"fd00::/64\", \"10.0.0.1/32\""),
    ("\"auto\"", "\"/dev/disk/by-id/virtio-1234\""),
    ("\"auto\"", "\"0a1b2c3d4e5f60718293\""),
    ("\"auto\"", "\"QM00003\""),
    ("\"auto\"", "\"data=1\""),
    ("\"auto\"", "\"vdisk-sdb\""),
    ("\"192.168.2.0/24\"", "\"0.0.0.0/0\", \"::/0\""),
    ("\"192.168.2.0/24\"", "\"0.0.0.0/1\", \"128.0.0.0/1\""),
    ("user          = \"user1\"", "user = \"Web-1\""),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/var/lib/shop\"",
    ),
    ("mount = \"/mnt/data/shared_folder\"", "mount = \"/srv\""),
    (
        "mount = \"/mnt/data/shared_folder\"",
        "mount = \"/home/shop/data\"",
    ),
    ("\"/usr/src/app\"", "\"/app\""),
    ("\"/usr/src/app\"", "\"/usr/local/app\""),
    ("\"/usr/src/app\"", "\"/usr/share/nginx/html\""),
    ("\"nodejs-server\"", "\"smbd-web\""),
    ("nodejs-server:linux-0.1", "a__b-c--d.e:1_.-"),
    ("\"xfs\"", "\"ext4\""),
    ("\"3.1.1\"", "\"3.0\""),
    (
        "\"5000:3000\"",
        "\"127.0.0.1:5000:3000\", \"[::1]:5000:3000/tcp\", \"5000:53/udp\"",
    ),
    ("\"0.0.0.0:9180\"", "\"\""),
    ("\"5000:3000\"", "\"192.0.2.1:9181:3000\""),
    ("\"5s\"", "\"500ms\""),
    ("\"5s\"", "\"1m30s\""),
    (
        "docker.io/ablecloudteam/nodejs-server:linux-0.1",
        "docker-archive:/srv/app.tar",
    ),
    (
        "docker.io/ablecloudteam/nodejs-server:linux-0.1",
        "localhost:5000/app",
    ),
    (
        "https://github.com/ablecloud-team",
        "git@github.com:ablecloud-team",
    ),
    (
        "https://github.com/ablecloud-team",
        "ssh://git@github.com:22/ablecloud-team",
    ),
    (
        "https://github.com/ablecloud-team/ablestack-docs-sample.git",
        "file:///srv/git/x.git",
    ),
    (
        "https://github.com/ablecloud-team/ablestack-docs-sample.git",
        "/srv/git/x.git",
    ),
    ("\"main\"", "\"v1.0\""),
    ("\"main\"", "\"refs/heads/feature/x\""),
    (
        ", contains = \"{container.hostname}\"",
        ", contains = '{\"status\":\"ok\"}'",
    ),
    ("mode = \"enforce\"", "mode = \"report\""),
];

#[test]
fn other_right_values() {
    let site = Site::new();
    for (from, to) in RIGHT {
        if let Err(faults) = site.load(&changed(from, to)) {
            panic!("{from} -> {to}: {faults}");
        }
    }
}

#[test]
fn a_tier_of_ipv6() {
    let text = changed("\"192.168.2.13\"", "\"fd00::13\"");
    let faults = Site::new().faults(&text);
    assert!(faults.contains("share.clients has only IPv4"), "{faults}");
    let text = text.replacen("\"192.168.2.0/24\"", "\"fd00::/64\"", 1);
    assert!(Site::new().load(&text).is_ok());
}

/// What was meant is shown in the form that works.
#[test]
fn the_way_out_can_be_copied() {
    for (from, to, hint) in [
        ("\"auto\"", "\"sdb\"", "did you mean \"/dev/sdb\"?"),
        ("\"auto\"", "\"Auto\"", "did you mean \"auto\"?"),
        (
            "\"auto\"",
            "\"UUID=0f3a-12\"",
            "did you mean \"/dev/disk/by-uuid/0f3a-12\"?",
        ),
        (
            "\"192.168.2.0/24\"",
            "\"::ffff:192.168.2.0/120\"",
            "write 192.168.2.0/24",
        ),
        (
            "\"192.168.2.13\"",
            "\"::ffff:192.168.2.13\"",
            "write 192.168.2.13",
        ),
    ] {
        let faults = Site::new().load(&changed(from, to)).unwrap_err();
        assert_eq!(faults.0[0].hint.as_deref(), Some(hint));
    }
}

#[test]
fn what_is_missing_is_placed_at_its_header() {
    let site = Site::new();
    let faults = site.faults(&changed("filesystem = \"xfs\"", ""));
    assert!(faults.starts_with("tier.toml:12:1: missing `filesystem` in [storage.disk]\n  12 | [storage.disk]\n     | ^^^^^^^^^^^^^^"), "{faults}");
    let faults = site.load("").unwrap_err();
    let messages: Vec<_> = faults.0.iter().map(|fault| fault.to_string()).collect();
    assert_eq!(
        messages
            .iter()
            .map(|text| site.plain(text))
            .collect::<Vec<_>>(),
        [
            "tier.toml:1:1: missing `share`",
            "tier.toml:1:1: missing section [storage] or [was]: no role has anything to do"
        ]
    );
}

#[test]
fn the_role_needs_its_section() {
    let site = Site::new();
    assert!(site.load_as(SMALLEST, Some(Role::Storage)).is_ok());
    assert_eq!(
        site.faults_as(SMALLEST, Some(Role::Was)),
        "tier.toml:1:1: missing section [was], which the role was needs"
    );
}

#[test]
fn a_placeholder_of_the_database_needs_a_database() {
    let start = EXAMPLE.find("[database]").unwrap();
    let end = EXAMPLE.find("[was]").unwrap();
    let without = format!("{}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
    let faults = Site::new().load(&without).unwrap_err();
    assert_eq!(faults.0.len(), 5, "{faults}");
    assert!(
        faults.0[0]
            .message
            .ends_with("{database.host} without a database"),
        "{faults}"
    );
}

#[test]
fn the_default_endpoint_is_in_the_way_of_a_published_port() {
    let text = changed("listen   = \"0.0.0.0:9180\"", "").replace("5000:3000", "9180:3000");
    let faults = Site::new().faults(&text);
    assert!(
        faults.contains("`9180:3000` is where the health endpoint listens, 0.0.0.0:9180"),
        "{faults}"
    );
}

#[test]
fn several_ways_to_give_a_password() {
    let text = changed(
        "clients       =",
        "password_credential = \"share\"\nclients =",
    );
    let faults = Site::new().faults(&text);
    assert!(
        faults.contains("tier.toml:6:1: `password_credential` beside `password_file`"),
        "{faults}"
    );
}

/// The example with these lines below `env`.
fn with_secrets(lines: &str) -> String {
    let env = "env        = { NODE_ENV = \"production\" }  # optional\n";
    changed(env, &format!("{env}{lines}\n"))
}

#[test]
fn the_application_has_secrets_of_its_own() {
    let site = Site::new();
    site.write("token", b"hunter2\n", 0o600);
    let text = with_secrets(
        "read_only = true\n[was.container.secrets]\nTOKEN = { password_file = \"@DIR@/token\" }\n\
         \"tls-1.key\" = { password = \"hunter3\" }",
    );
    let container = site.load(&text).unwrap().was.unwrap().container;
    assert!(container.read_only);
    let secrets = &container.secrets;
    assert_eq!(secrets["TOKEN"].expose(), "hunter2");
    assert_eq!(secrets["tls-1.key"].expose(), "hunter3");
    assert!(!format!("{container:?}").contains("hunter"));
    // The storage VM does not need the secrets.
    fs::remove_file(site.path("token")).unwrap();
    assert!(site.load_as(&text, Some(Role::Storage)).is_ok());
    let faults = site.faults_as(&text, Some(Role::Was));
    assert!(
        faults.contains("was.container.secrets.NAME.password_file: cannot read @DIR@/token"),
        "{faults}"
    );
}

/// A VM need not know a secret that nothing on it uses.
#[test]
fn a_role_reads_only_the_secrets_that_it_uses() {
    let without_edit = {
        let start = EXAMPLE.find("[[storage.content.edit]]").unwrap();
        let end = EXAMPLE.find("[database]").unwrap();
        format!("{}{}", &EXAMPLE[..start], &EXAMPLE[end..])
    };
    let host_alone = changed("password = \"{database.password}\", ", "");
    let was = Some(Role::Was);
    let storage = Some(Role::Storage);
    let table = [
        (EXAMPLE, was, false),
        (EXAMPLE, storage, true),
        (EXAMPLE, None, true),
        (&without_edit, storage, false),
        (&without_edit, None, false),
        (&host_alone, storage, false),
    ];
    for (text, role, reads) in table {
        let site = Site::new();
        assert!(site.load_as(text, role).is_ok());
        fs::remove_file(site.path("database.password")).unwrap();
        assert_eq!(site.load_as(text, role).is_err(), reads, "{role:?}\n{text}");
    }
    // What can be told without reading it is told.
    let relative = changed("\"@DIR@/database.password\"", "\"database.password\"");
    let faults = Site::new().faults_as(&relative, was);
    assert!(faults.contains("not an absolute path"), "{faults}");
    let none = changed("password_file = \"@DIR@/database.password\"\n", "");
    let faults = Site::new().faults_as(&none, was);
    assert!(
        faults.contains("missing the password in [database]"),
        "{faults}"
    );
}

#[test]
fn what_is_wrong_with_a_secret_is_said_without_it() {
    let site = Site::new();
    for (line, said) in [
        ("TOKEN = \"hunter2\"", "found a string"),
        (
            "TOKEN = { passwort = \"hunter2\" }",
            "did you mean `password`?",
        ),
        ("TOKEN = {}", "missing the password"),
        (
            "\"../TOKEN\" = { password = \"hunter2\" }",
            "no name for a secret",
        ),
        ("TOKEN = { password = \"hunter\\n2\" }", "end of a line"),
    ] {
        let text = with_secrets(&format!("[was.container.secrets]\n{line}"));
        let faults = site.faults(&text);
        assert!(faults.contains(said), "{faults}");
        assert!(!faults.contains("hunter"), "{faults}");
    }
}

#[test]
fn an_inline_password_needs_a_private_tier_file() {
    let site = Site::new();
    let text = site.text(&changed(
        "password_file = \"@DIR@/share.password\"",
        "password = \"hunter2\"",
    ));
    for (mode, private) in [(0o600, true), (0o400, true), (0o640, false), (0o644, false)] {
        site.write("tier.toml", text.as_bytes(), mode);
        match load(&site.path("tier.toml"), None) {
            Ok(tier) => assert!(private && tier.share.password.expose() == "hunter2"),
            Err(faults) => {
                assert!(!private, "{faults}");
                let shown = faults.to_string();
                assert!(
                    shown.contains("a password in a tier file that others may read"),
                    "{shown}"
                );
                assert!(
                    shown.contains("password = (secret)\n     |            ^^^^^^^^"),
                    "{shown}"
                );
                assert!(!shown.contains("hunter2") && !format!("{faults:?}").contains("hunter2"));
            }
        }
    }
}

#[test]
fn a_password_file_has_to_be_private_and_hold_one_line() {
    let site = Site::new();
    let long = "x".repeat(129);
    let wide = "\u{20ac}".repeat(100);
    let huge = "x".repeat(5000);
    let table: &[(&[u8], u32, &str)] = &[
        (b"hunter2", 0o640, "others may read or write (mode 0640)"),
        (b"hunter2", 0o602, "others may read or write (mode 0602)"),
        (b"", 0o600, "the password is empty"),
        (b"\n", 0o600, "the password is empty"),
        (b"hunter2\nb", 0o600, "holds a NUL or the end of a line"),
        (b"hunter2\n\n", 0o600, "holds a NUL or the end of a line"),
        (b"hunter2\0", 0o600, "holds a NUL or the end of a line"),
        (b"\xff", 0o600, "is not UTF-8"),
        (b"\xef\xbb\xbfhunter2", 0o600, "byte order mark"),
        (long.as_bytes(), 0o600, "too long"),
        (wide.as_bytes(), 0o600, "too long"),
        (huge.as_bytes(), 0o600, "too large"),
    ];
    for (bytes, mode, message) in table {
        site.write("share.password", bytes, *mode);
        let faults = site.faults(EXAMPLE);
        assert!(faults.contains(message), "{message}: {faults}");
        assert!(!faults.contains("hunter2"), "{faults}");
    }
    for (bytes, password) in [("abc\n", "abc"), ("abc\r\n", "abc"), (" a b ", " a b ")] {
        site.write("share.password", bytes.as_bytes(), 0o600);
        assert_eq!(
            site.load(EXAMPLE).unwrap().share.password.expose(),
            password
        );
    }
    fs::remove_file(site.path("share.password")).unwrap();
    fs::create_dir(site.path("share.password")).unwrap();
    assert!(site.faults(EXAMPLE).contains("is not a regular file"));
}

#[test]
fn a_credential_is_a_file_in_the_directory_of_credentials() {
    let site = Site::new();
    let read = |name: &str, directory: Option<&Path>| {
        let directory = directory.map(|path| path.as_os_str().to_owned());
        secret::from_credential(name, directory, secret::Owner::Share)
    };
    let directory = Some(site.directory.path());
    // systemd's ACL shows as the group's read bit.
    site.write("share", b"hunter2\n", 0o440);
    assert_eq!(read("share", directory).unwrap().expose(), "hunter2");
    site.write("share", b"hunter2\n", 0o444);
    assert!(read("share", directory).is_err());
    assert!(read("absent", directory).is_err());
    assert!(read("../share", directory).is_err());
    let wrong = read("share", None).unwrap_err();
    assert!(
        wrong.what.contains("$CREDENTIALS_DIRECTORY is not set"),
        "{wrong:?}"
    );
}

#[test]
fn a_credential_is_refused_where_there_are_none_and_where_its_name_is_none() {
    let site = Site::new();
    let faults = site.faults(&changed(
        "password_file = \"@DIR@/share.password\"",
        "password_credential = \"hunter2/\"",
    ));
    assert!(faults.contains("no name of a credential"), "{faults}");
    assert!(!faults.contains("hunter2"), "{faults}");
}

/// Files with a fault near a password.
const NEAR_A_PASSWORD: &[&str] = &[
    "[share]\npasswrd = \"hunter2\"\n",
    "[share]\npasword = \"hunter2\"\n",
    "[share]\nPassword = \"hunter2\"\n",
    "[share]\npassword = [\"hunter2\"]\n",
    "[share]\npassword_fil = \"hunter2\"\n",
    "[share]\npassword_file = \"hunter2\"\n",
    "[share]\npassword_file = [\"hunter2\"]\n",
    "[share]\npassword_file = \"/a/b\" # was hunter2\n",
    "[share]\npassword = \"\"\"\nhunter2\nhunter2\"\"\"\n",
    "[share]\npassword = { a = \"hunter2\" }\n",
    "[share.password]\na = \"hunter2\"\n",
    "share = { nam = 1, password = \"hunter2\", user = 7 }\n",
    "password = \"hunter2\"\n",
    // not TOML
    "[share]\npassword = \"hunter2\n",
    "[share]\npassword = hunter2\n",
    "[share]\npassword = \"hunter2\\q\"\n",
    "[share]\npassword =\n\"hunter2\"\n",
    "[share]\npassword \"hunter2\"\n",
    "[share]\npassword: hunter2\n",
    "[share]\npasword = hunter2\n",
    "[share]\npassword = \"a\nhunter2\"\n",
    "[share]\npassword = \"\"\"\nhunter2\n",
    "[share]\npassword = \"\"\"\nx\\q\nhunter2\n\"\"\"\n",
    "[share]\npassword = \"a\"hunter2\"\n",
    "[share]\npassword = 'hunter2\nname = \"x\"\n",
    "share = { name = x, password = \"hunter2\" }\n",
    "share = { password = \"hunter2\", name = x }\n",
    "share = { \"password\" = \"hunter2\", name = x\n",
    "[share]\nshare.password = hunter2\n",
    "[storage.content]\ngit = \"https://hunter2@example.org/x.git\n",
];

#[test]
fn no_fault_shows_a_password() {
    let site = Site::new();
    for text in NEAR_A_PASSWORD {
        let faults = site.load(text).unwrap_err();
        let json = serde_json::to_string(&faults).unwrap();
        let shown = format!("{faults}\n{faults:?}\n{json}");
        assert!(!shown.contains("hunter2"), "{text}: {shown}");
    }
}

#[test]
fn a_password_given_for_a_property_is_not_shown() {
    let text = changed(
        "password = \"{database.password}\"",
        "password = \"hunter2\", \"\" = 1",
    );
    let faults = Site::new().faults(&text);
    assert!(faults.contains("password = (secret)"), "{faults}");
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn what_is_not_toml_is_placed_and_told_alone() {
    let text = changed("\"192.168.2.13\"", "192.168.2.13").replacen("\"xfs\"", "xfs", 1);
    let faults = Site::new().load(&text).unwrap_err();
    let places: Vec<_> = faults.0.iter().map(|fault| fault.line).collect();
    assert_eq!(places, [3, 14], "{faults}");
    assert!(faults.0[0].message.starts_with("not TOML: "), "{faults}");
    let twice = changed("encrypt       = true", "name = \"x\"");
    let faults = Site::new().load(&twice).unwrap_err();
    assert_eq!(faults.0[0].message, "not TOML: duplicate key");
    assert_eq!((faults.0[0].line, faults.0[0].column), (7, 1));
}

#[test]
fn a_broken_header_does_not_make_its_keys_unknown() {
    let faults = Site::new().load(&changed("[was] ", "[was ")).unwrap_err();
    assert!(faults.0.iter().all(|fault| fault.line == 35), "{faults}");
}

#[test]
fn columns_count_characters() {
    let text = SMALLEST.replace(
        "name = \"user1\"",
        "\"n\u{e4}m\u{e9}\" = 1\nname = \"user1\"",
    );
    let faults =
        Site::new().faults(&text.replace("[storage]\npath", "storage = { p\u{e4}th = 1, path"));
    assert!(faults.contains("tier.toml:2:1: unknown key"), "{faults}");
}

#[test]
fn a_byte_order_mark_and_carriage_returns_before_line_feeds_are_no_fault() {
    let text = SMALLEST.replace('\n', "\r\n");
    assert!(Site::new().load(&format!("\u{feff}{text}")).is_ok());
}

#[test]
fn a_call_of_what_require_gives_is_taken_in_either_quotes() {
    for quoted in [
        "\"require('mysql').createPool\"",
        "'require(\"mysql\").createPool'",
    ] {
        let tier = Site::new().load(&changed("\"mysql.createPool\"", quoted));
        let edit = &tier.unwrap().storage.unwrap().content.unwrap().edit[0];
        assert_eq!(edit.object, "require('mysql').createPool");
    }
}

#[test]
fn a_link_to_nothing_and_a_file_as_a_directory_are_told() {
    let site = Site::new();
    std::os::unix::fs::symlink("/nowhere/x", site.path("link.toml")).unwrap();
    let faults = load(&site.path("link.toml"), None).unwrap_err();
    let said = "cannot read the tier file: it is a symbolic link to /nowhere/x";
    assert!(faults.to_string().contains(said), "{faults}");
    site.write("tier.toml", b"", 0o600);
    let faults = load(&site.path("tier.toml/x"), None).unwrap_err();
    assert!(faults.to_string().contains("tier.toml is no directory"));
}

#[test]
fn a_character_that_only_looks_right_is_named_once_a_line() {
    let site = Site::new();
    for (from, to, said) in [
        (
            "\"user1\"",
            "“user1”",
            "U+201C stands there, a typographic quote: write \"",
        ),
        (" = ", "\u{a0}=\u{a0}", "U+00A0 stands there, a blank"),
        (" = ", "＝", "U+FF1D stands there, a full-width equals sign"),
        (
            "server",
            "\u{200b}server",
            "U+200B stands there, a character of no width",
        ),
    ] {
        let text = SMALLEST.replace(from, to);
        let faults = site.load(&text).unwrap_err();
        for fault in &faults.0 {
            let hint = fault.hint.as_deref().unwrap_or_default();
            assert!(hint.contains(said), "{faults}");
        }
        let mut lines: Vec<_> = faults.0.iter().map(|fault| fault.line).collect();
        lines.dedup();
        assert_eq!(lines.len(), faults.0.len(), "{faults}");
    }
    // In a comment or a string they are in their place.
    let text = SMALLEST.replace("name = \"user1\"", "name = \"us\u{a0}er\" # “user1”");
    assert!(site.load(&text).is_ok());
}

#[test]
fn a_file_that_cannot_be_read() {
    let site = Site::new();
    let faults = load(&site.path("absent.toml"), None).unwrap_err();
    assert_eq!(
        site.plain(&faults.to_string()),
        "@DIR@/absent.toml: cannot read the tier file: no such file or directory\n     = write it, or name another with --config"
    );
    let faults = load(site.directory.path(), None).unwrap_err();
    assert!(
        faults.to_string().contains("not a regular file"),
        "{faults}"
    );
    site.write("tier.toml", b"[share]\nname = \"\xc3\xa4\xff\"\n", 0o600);
    let faults = load(&site.path("tier.toml"), None).unwrap_err();
    assert_eq!((faults.0[0].line, faults.0[0].column), (2, 10), "{faults}");
    site.write("tier.toml", &vec![b'#'; 300 * 1024], 0o600);
    let faults = load(&site.path("tier.toml"), None).unwrap_err();
    assert!(faults.to_string().contains("too large"), "{faults}");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let faults = Site::new().faults("[share]\nname = \"a\u{1b}[2J\"\n\"\\u001b\" = 1\n");
    assert!(!faults.contains('\u{1b}'), "{faults:?}");
}

#[test]
fn json_has_every_field() {
    let site = Site::new();
    let faults = site.load(&SMALLEST.replace("path =", "pth =")).unwrap_err();
    let json = serde_json::to_value(&faults).unwrap();
    assert_eq!(json[0]["line"], 8);
    assert_eq!(json[0]["column"], 1);
    assert_eq!(json[0]["text"], "pth");
    assert_eq!(json[0]["hint"], "did you mean `path`?");
    assert!(json[0]["file"].is_string() && json[0]["expected"].is_string());
}

#[test]
fn a_role_is_read_and_written() {
    for role in [Role::Storage, Role::Was] {
        assert_eq!(role.to_string().parse(), Ok(role));
    }
    assert!("db".parse::<Role>().is_err());
    assert_eq!(serde_json::to_string(&Role::Was).unwrap(), "\"was\"");
}

#[test]
fn a_template_is_filled_in() {
    let filled = template::fill("{a}-{b.c}-{ a }-{", |name| {
        (name == "a").then(|| "{b.c}".into())
    });
    assert_eq!(filled, "{b.c}-{b.c}-{ a }-{");
}

const SLIPS: [&str; 11] = [
    "", "\"", "'", "\n", "=", "[", "{", "\\", "#", "\u{e9}", "\"\"\"",
];

/// Every possible slip of one character in a file with a password: nothing panics, and no fault
/// shows the password.
#[test]
fn one_wrong_character_anywhere() {
    let site = Site::new();
    let passwords = [
        "[share]\npassword = \"hunter2\"\n",
        "[share]\npassword = 'hunter2'\n",
        "[share]\npassword = \"\"\"\nhunter2\"\"\"\n",
        "share = { name = \"a\", password = \"hunter2\" }\n",
        "share.password = \"hunter2\"\n",
    ];
    let mut shown = 0;
    for password in passwords {
        let text = format!("{password}user = 'u'\n\n[storage]\npath = \"/srv/x\"\n");
        for at in 0..text.len() {
            for wrong in SLIPS {
                for dropped in [0, 1] {
                    let broken = format!("{}{wrong}{}", &text[..at], &text[at + dropped..]);
                    let Err(faults) = site.load(&broken) else {
                        continue;
                    };
                    let faults = format!("{faults} {faults:?}");
                    assert!(!faults.contains("hunter2"), "{broken}\n{faults}");
                    shown += 1;
                }
            }
        }
    }
    assert!(shown > 1000, "{shown}");
}
