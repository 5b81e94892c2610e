//! The table of the tier file's keys, in the order of the documentation.
//!
//! The file is long because it has a paragraph for each key, as the man page shows it.

use super::keys::{Key, Kind, SECRET, Section};
use super::{shape, value};

/// What both ends of the share have to agree on.
const MOUNT_AND_CONTAINER: &str = "the mount on each WAS VM, which is made anew, and with it the container, which restarts; on the storage VM nobody";
const CONTAINER: &str = "the container on each WAS VM, which restarts";
const CONTENT: &str =
    "the share's clients, which connect anew when the new revision is in its place";
const NOTHING: &str = "nothing";

const PASSWORD_FILE: Key = Key::new(
    "password_file",
    Kind::Text(shape::path),
    "A file that holds the password and nothing else, on one line. The file belongs to root and has mode 0600 or 0400",
)
.without("One of `password_file`, `password` and `password_credential` gives the password")
.range("an absolute path");

const PASSWORD: Key = Key::new(
    "password",
    Kind::Text(shape::password),
    "The password itself, only in a tier file of root's with mode 0600 or 0400",
)
.without("The same as for `password_file`")
.example("\"correct horse\"");

const PASSWORD_CREDENTIAL: Key = Key::new(
    "password_credential",
    Kind::Text(shape::credential_name),
    "The name of a systemd credential that holds the password: a file in `$CREDENTIALS_DIRECTORY` (systemd.exec(5), \
     `LoadCredential=`)",
)
.without("The same as for `password_file`")
.range("1 to 255 letters, digits, `_` `.` `-` and `@`, not beginning with a dot");

pub(super) const SECTIONS: [Section; 14] = [
    Section {
        name: "",
        about: "The tier file describes the whole tier. Every VM has the same copy, and the role picks its part",
        keys: &[
            Key::new("share", Kind::Section, "The SMB share between the storage VM and the WAS VMs"),
            Key::new("storage", Kind::Section, "What the storage VM serves").without("No VM can be storage"),
            Key::new("database", Kind::Section, "The database behind its balancer, for the application's files")
                .without("No edit may use `{database.…}`"),
            Key::new("was", Kind::Section, "What a WAS VM runs").without("No VM can be WAS"),
            Key::new("firewall", Kind::Section, "Which zone of firewalld is opened").without("Each key has its default"),
            Key::new("serve", Kind::Section, "What becomes of drift").without("Each key has its default"),
            Key::new("health", Kind::Section, "How health is probed and published").without("Each key has its default"),
        ],
    },
    Section {
        name: "share",
        about: "The SMB share between the storage VM and the WAS VMs. Both roles read it",
        keys: &[
            Key::new("name", Kind::Text(shape::share_name), "The share's name, the second part of `//SERVER/NAME`")
                .range("1 to 80 characters, none of `\" \\ / [ ] : | < > + = ; , * ? %`, and no name that Samba keeps for itself")
                .example("\"user1\"")
                .disturbs(MOUNT_AND_CONTAINER),
            Key::new("server", Kind::Text(shape::server), "The storage VM, as the WAS VMs reach it")
                .range("an IP address or a host name; no loopback or link-local address")
                .example("\"192.168.2.13\"")
                .disturbs(MOUNT_AND_CONTAINER),
            Key::new(
                "user",
                Kind::Text(shape::account),
                "The account that owns the share's files, on Linux and in Samba. The agent makes it, without a login shell, or uses \
                 one that is fit (wasagent-share(7))",
            )
            .range("1 to 31 letters, digits, `_` and `-`, beginning with a letter or `_`; no account or group of the system")
            .example("\"user1\"")
            .disturbs(MOUNT_AND_CONTAINER),
            PASSWORD_FILE
                .example("\"/etc/wasagent/share.password\"")
                .disturbs(MOUNT_AND_CONTAINER),
            PASSWORD
                .range("1 to 128 characters (UTF-16 units), at most 255 bytes, on one line")
                .disturbs(MOUNT_AND_CONTAINER),
            PASSWORD_CREDENTIAL.example("\"share\"").disturbs(MOUNT_AND_CONTAINER),
            Key::new(
                "clients",
                Kind::List(shape::network),
                "The networks that may reach the share. Nobody else is let in, neither by firewalld nor by Samba",
            )
            .without("Everybody who knows the password may")
            .range("networks in CIDR notation, without bits beyond the prefix")
            .example("[\"192.168.2.0/24\"]")
            .disturbs("nobody who is connected: Samba reads its configuration again, and who is no longer let in stays until the connection ends"),
            Key::new(
                "encrypt",
                Kind::Boolean,
                "Whether both ends demand SMB3 encryption",
            )
            .default("true")
            .range("`true` or `false`")
            .example("false")
            .disturbs(MOUNT_AND_CONTAINER),
        ],
    },
    Section {
        name: "storage",
        about: "What the storage VM serves. Only the role storage reads it",
        keys: &[
            Key::new(
                "path",
                Kind::Text(shape::directory),
                "The directory that is shared. With `storage.disk` it is the disk's mount point or below it; with \
                 `storage.content` it is below it",
            )
            .range("an absolute path of letters, digits and `/ . _ - + @ ~`; no directory of the system")
            .example("\"/mnt/data/shared_folder\"")
            .disturbs("Samba, which reads its configuration again: new connections get the new directory. The files stay in the old one"),
            Key::new("disk", Kind::Section, "The data disk below the share")
                .without("`storage.path` lives on a file system that is there already"),
            Key::new("content", Kind::Section, "The files that the WAS VMs run")
                .without("The agent leaves the shared directory's files to you"),
        ],
    },
    Section {
        name: "storage.disk",
        about: "The data disk. It is formatted only if it is proved blank (wasagent-disk(7))",
        keys: &[
            Key::new("device", Kind::Text(shape::device), "Which disk it is")
                .range("`auto` for the one blank disk, a path below `/dev`, or a disk's serial")
                .example("\"auto\"")
                .disturbs("nothing while it leads to the disk that is mounted; a disk in the place of another one is refused"),
            Key::new("filesystem", Kind::Text(shape::filesystem), "The file system that a blank disk gets")
                .range("`xfs` or `ext4`")
                .example("\"xfs\"")
                .disturbs("nothing: a disk that has a file system keeps it"),
            Key::new("mount", Kind::Text(shape::directory), "Where the disk is mounted, now and at every boot")
                .range("what `storage.path` takes")
                .example("\"/mnt/data\"")
                .disturbs("Samba. To move a disk, `wasagent revert` first: what is mounted stays until then"),
        ],
    },
    Section {
        name: "storage.content",
        about: "What the WAS VMs run: one revision of a git repository (wasagent-content(7))",
        keys: &[
            Key::new("git", Kind::Text(shape::git), "The repository")
                .range("`https://…`, `ssh://…`, `user@host:path`, `file:///path` or an absolute path; never with a password in it")
                .example("\"https://github.com/ablecloud-team/ablestack-docs-sample.git\"")
                .disturbs(CONTENT),
            Key::new("rev", Kind::Text(shape::revision), "The revision. A branch is looked up at every apply; a commit never moves")
                .range("a branch, a tag or a commit")
                .example("\"main\"")
                .disturbs(CONTENT),
            Key::new("subdir", Kind::Text(shape::relative_path), "The directory of the repository that becomes the shared directory")
                .without("The whole repository")
                .range("a path relative to the repository's root")
                .example("\"linux-3tier-example\"")
                .disturbs(CONTENT),
            Key::new(
                "build",
                Kind::List(shape::argument),
                "A program and its arguments, run once a revision as `share.user`, without rights, before the revision shows",
            )
            .without("Nothing is built")
            .range("a list of words; no shell reads them")
            .example("[\"npm\", \"ci\"]")
            .disturbs(CONTENT),
            Key::new(
                "edit",
                Kind::Sections,
                "Settings that are put into the application's files. Any number of these tables, in this order",
            )
            .without("The files are as in the repository"),
        ],
    },
    Section {
        name: "storage.content.edit",
        about: "Sets properties of a JavaScript object literal. Everything else in the file stays to the byte",
        keys: &[
            Key::new("files", Kind::List(shape::relative_path), "The files to edit, each of which must hold the call")
                .range("paths relative to the content's root")
                .example("[\"router/signUp/index.js\", \"router/login/index.js\"]")
                .disturbs(CONTENT),
            Key::new("object", Kind::Text(shape::javascript_call), "The call whose object literal is edited, as the source writes it")
                .range("names with dots between them; the first may be `require('module')`")
                .example("\"mysql.createPool\"")
                .disturbs(CONTENT),
            Key::new(
                "set",
                Kind::Entries(shape::text, shape::edit_value),
                "The properties and their values. `{database.host}`, `{database.port}`, `{database.user}`, \
                 `{database.password}` and `{database.name}` stand for what `[database]` says",
            )
            .range("at least one property")
            .example("{ host = \"{database.host}\", password = \"{database.password}\" }")
            .disturbs(CONTENT),
        ],
    },
    Section {
        name: "database",
        about: "The database tier behind its balancer. Only the storage VM reads it, and only for edits",
        keys: &[
            Key::new("host", Kind::Text(shape::host), "The database, as the WAS VMs reach it")
                .range("an IP address or a host name")
                .example("\"192.168.3.26\"")
                .disturbs(CONTENT),
            Key::new("port", Kind::Number(&value::PORTS), "Its port")
                .default("3306")
                .range("1 to 65535")
                .example("3307")
                .disturbs(CONTENT),
            Key::new("user", Kind::Text(shape::text), "The database's user")
                .range("any text on one line")
                .example("\"root\"")
                .disturbs(CONTENT),
            PASSWORD_FILE.example("\"/etc/wasagent/database.password\"").disturbs(CONTENT),
            PASSWORD.range("at most 1024 bytes, on one line").disturbs(CONTENT),
            PASSWORD_CREDENTIAL.example("\"database\"").disturbs(CONTENT),
            Key::new("name", Kind::Text(shape::text), "The database's name")
                .range("any text on one line")
                .example("\"galeradb\"")
                .disturbs(CONTENT),
        ],
    },
    Section {
        name: "was",
        about: "What a WAS VM runs. Only the role was reads it",
        keys: &[
            Key::new("mount", Kind::Text(shape::directory), "Where the share is mounted on the VM")
                .range("what `storage.path` takes")
                .example("\"/mnt/data/shared_folder\"")
                .disturbs("the container, which restarts on the new mount; the old mount stays until `wasagent revert`"),
            Key::new("vers", Kind::Text(shape::dialect), "The SMB dialect")
                .default("\"3\"")
                .range("`3.0`, `3.0.2`, `3.1.1`, or `3` for the newest that both sides speak")
                .example("\"3.1.1\"")
                .disturbs("the share's mount, which is made anew, and with it the container, which restarts"),
            Key::new("container", Kind::Section, "The application's container"),
        ],
    },
    Section {
        name: "was.container",
        about: "The application's container (wasagent-container(7))",
        keys: &[
            Key::new("name", Kind::Text(shape::container_name), "The container's name. Its unit is `NAME.service`")
                .range("1 to 128 letters, digits, `_` `.` and `-`, beginning with a letter or digit; no service of the system")
                .example("\"nodejs-server\"")
                .disturbs("the application. `wasagent revert` first: the container of the old name keeps the ports until then"),
            Key::new("image", Kind::Text(shape::image), "The image, with its registry. `localhost/…` is an image of this VM")
                .range("`REGISTRY/NAME[:TAG|@DIGEST]`, or `docker-archive:/PATH` for a site without a registry")
                .example("\"docker.io/ablecloudteam/nodejs-server:linux-0.1\"")
                .disturbs(CONTAINER),
            Key::new(
                "hostname",
                Kind::Text(shape::hostname_template),
                "The container's host name. `{node}` stands for the VM's host name, `{index}` for the digits at its end, without leading zeros",
            )
            .default("\"{node}\"")
            .range("at most 64 letters, digits, `-` and dots, when filled in")
            .example("\"was-container-{index}\"")
            .disturbs(CONTAINER),
            Key::new(
                "publish",
                Kind::List(shape::publish),
                "The VM's ports that lead to the container. The first TCP port is the one that health asks",
            )
            .range("`[ADDRESS:]HOST_PORT:CONTAINER_PORT[/tcp|/udp]`, at least one of TCP, and each port of the VM once")
            .example("[\"5000:3000\"]")
            .disturbs(CONTAINER),
            Key::new("workdir", Kind::Text(shape::workdir), "Where the share appears in the container; the application starts there")
                .range("what `storage.path` takes, if it hides nothing of the image's system")
                .example("\"/usr/src/app\"")
                .disturbs(CONTAINER),
            Key::new("privileged", Kind::Boolean, "Whether the container may do what root on the VM may. Off, it has no capability at all")
                .default("false")
                .range("`true` or `false`")
                .example("true")
                .disturbs(CONTAINER),
            Key::new("read_only", Kind::Boolean, "Whether the image's files are read-only in the container")
                .default("false")
                .range("`true` or `false`")
                .example("true")
                .disturbs(CONTAINER),
            Key::new("env", Kind::Entries(shape::environment_name, shape::environment_value), "Environment variables. Anybody on the VM may read them")
                .without("None beyond the image's own")
                .range("names of letters, digits and `_`, values on one line")
                .example("{ NODE_ENV = \"production\" }")
                .disturbs(CONTAINER),
            Key::new(
                "secrets",
                Kind::Secrets(shape::secret_name),
                "The application's secrets: files in `/run/secrets` of the container, by name. Each is a table with one of the \
                 three ways to give a password",
            )
            .without("None")
            .range("names of 1 to 100 letters, digits, `_` `.` and `-`, not beginning with a dot")
            .example("{ API_TOKEN = { password_file = \"/etc/wasagent/api-token\" } }")
            .disturbs(CONTAINER),
        ],
    },
    Section {
        name: SECRET,
        about: "One of the application's secrets; NAME is the name of its file in `/run/secrets`. Only the WAS VMs read it",
        keys: &[
            PASSWORD_FILE.example("\"/etc/wasagent/api-token\"").disturbs(CONTAINER),
            PASSWORD.range("at most 4096 bytes, on one line").disturbs(CONTAINER),
            PASSWORD_CREDENTIAL.example("\"api-token\"").disturbs(CONTAINER),
        ],
    },
    Section {
        name: "firewall",
        about: "Which zone of firewalld is opened",
        keys: &[
            Key::new("zone", Kind::Text(shape::zone), "The one zone to open")
                .without("The zones by which clients come in are found and opened")
                .range("a zone of firewalld: at most 17 letters, digits, `_` `-` and `/`")
                .example("\"public\"")
                .disturbs("nobody: the new zone is opened before what was opened in another one is closed"),
        ],
    },
    Section {
        name: "serve",
        about: "What `wasagent serve` does about drift",
        keys: &[
            Key::new("mode", Kind::Text(shape::mode), "Whether drift is mended or only told")
                .default("\"enforce\"")
                .range("`enforce` or `report`")
                .example("\"report\"")
                .disturbs(NOTHING),
        ],
    },
    Section {
        name: "health",
        about: "How the VM's health is probed and published",
        keys: &[
            Key::new("interval", Kind::Text(shape::duration), "The time between two probes")
                .default("\"5s\"")
                .range("a duration from `100ms` to `1h`, such as `1m30s`")
                .example("\"10s\"")
                .disturbs(NOTHING),
            Key::new("listen", Kind::Text(shape::listen), "Where the HTTP endpoint listens")
                .default("\"0.0.0.0:9180\"")
                .range("`ADDRESS:PORT`, a port that the container does not publish, or `\"\"` to turn it off")
                .example("\"127.0.0.1:9180\"")
                .disturbs("who asks the endpoint"),
            Key::new("http", Kind::Section, "What the application is asked on its first published TCP port, and what it has to answer")
                .without("Each key has its default"),
            Key::new("drain", Kind::Text(shape::duration), "How long a draining node goes on serving before its container stops")
                .default("\"20s\"")
                .range("a duration from `1ms` to `1h`")
                .example("\"1m\"")
                .disturbs(NOTHING),
        ],
    },
    Section {
        name: "health.http",
        about: "What the application is asked, and what it has to answer",
        keys: &[
            Key::new("path", Kind::Text(shape::http_path), "The path of the request")
                .default("\"/\"")
                .range("a path that begins with a slash, of visible ASCII characters without `#`")
                .example("\"/healthz\"")
                .disturbs(NOTHING),
            Key::new("status", Kind::Number(&value::STATUSES), "The status of a good answer")
                .default("200")
                .range("200 to 599")
                .example("204")
                .disturbs(NOTHING),
            Key::new(
                "contains",
                Kind::Text(shape::contains),
                "A text that a good answer holds. `{container.hostname}` stands for the container's host name",
            )
            .default("\"\"")
            .range("any text")
            .example("\"{container.hostname}\"")
            .disturbs(NOTHING),
        ],
    },
];
