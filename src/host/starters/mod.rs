//! What on the VM starts a container of a certain name: services of any name, `.container` files, tables of cron(8), and
//! what root's own manager of services runs. Somebody who has made it by hand may have forgotten it, and two things that
//! start it fight for its name and ports.

mod command;
mod service;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use self::command::{Wanted, names_podman, scripts, starts_service, variables};
use self::service::{Services, expanded};
use super::fs::read_regular;

pub use command::{is_it, is_named};

/// Where services and timers are, from the most important on (systemd.unit(5), "unit file load path"). Generators make
/// what is in three of them.
const SERVICES: [&str; 12] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// The same for root's own manager, which runs while root is logged in. Its podman has the same containers.
const SERVICES_OF_ROOT: [&str; 4] = [
    "/root/.config/systemd/user",
    "/etc/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
];

/// Where podman's generator looks for `.container` files (podman-systemd.unit(5)).
const QUADLETS: [&str; 3] = [
    "/etc/containers/systemd",
    "/run/containers/systemd",
    "/usr/share/containers/systemd",
];

const QUADLETS_OF_ROOT: [&str; 3] = [
    "/root/.config/containers/systemd",
    "/etc/containers/systemd/users",
    "/etc/containers/systemd/users/0",
];

/// Lists of commands that run at certain times, and what runs at every boot.
const TABLES: [&str; 13] = [
    "/etc/crontab",
    "/etc/anacrontab",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron/root",
    "/var/spool/cron/crontabs/root",
    "/var/spool/cron/atjobs",
    "/var/spool/at",
    "/etc/rc.local",
    "/etc/rc.d/rc.local",
];

const LARGEST: u64 = 1 << 20;

/// How many scripts deep a command is followed.
const DEPTH: u32 = 2;

/// Something that starts the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starter {
    pub file: PathBuf,
    pub by: By,
}

/// What runs the commands of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A service, enabled or not.
    Service(String),
    /// A service of root's own manager that starts with it.
    ServiceOfRoot(String),
    /// A table of cron(8), or a script of the boot.
    Table,
}

/// The starters, in order, except those that are `own` units. `id`: the container's id, by which podman knows it as well.
/// `instances`: services made of templates that systemd has loaded.
pub fn starters(
    name: &str,
    id: Option<&str>,
    own: &[String],
    instances: &[String],
) -> Vec<Starter> {
    let search = Search {
        root: Path::new("/"),
        wanted: Wanted { name, id },
        own,
    };
    search.all(instances)
}

struct Search<'a> {
    /// `/`, but for tests.
    root: &'a Path,
    wanted: Wanted<'a>,
    own: &'a [String],
}

impl Search<'_> {
    fn all(&self, instances: &[String]) -> Vec<Starter> {
        let services = self.services(&SERVICES);
        let mut found = self.quadlets(&QUADLETS, true);
        let more = self.of(
            &services,
            &services.names(instances).into_iter().collect::<Vec<_>>(),
        );
        found.extend(more);
        found.sort();
        // A generator's file comes from one that is there already.
        found.dedup_by(|later, first| later.0 == first.0);
        let names: Vec<String> = found.iter().map(|(unit, _)| unit.clone()).collect();
        let tables = self.tables(&names);
        let of_root = self.of_root();
        let starter = |by: fn(String) -> By| move |(unit, file)| Starter { by: by(unit), file };
        let found = found.into_iter().map(starter(By::Service));
        let of_root = of_root.into_iter().map(starter(By::ServiceOfRoot));
        let by = By::Table;
        let tables = tables.into_iter().map(|file| Starter {
            file,
            by: by.clone(),
        });
        found.chain(of_root).chain(tables).collect()
    }

    fn within(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn services(&self, directories: &[&str]) -> Services {
        let directories: Vec<PathBuf> = directories.iter().map(|one| self.within(one)).collect();
        Services::read(&directories)
    }

    /// Those of the services that start the container, each with the file that does.
    fn of(&self, services: &Services, names: &[String]) -> Vec<(String, PathBuf)> {
        let others = names.iter().filter(|name| !self.own.contains(name));
        let found = others.filter_map(|service| {
            let commands = services.commands(service);
            let starts = |command: &&service::Command| {
                let line = std::iter::once(command.line.as_str());
                self.starts(line, &command.text, DEPTH)
            };
            let command = commands.iter().find(starts)?;
            Some((service.clone(), source_of(command)))
        });
        found.collect()
    }

    /// The services that podman's generator makes of `.container` files which give their container this name.
    fn quadlets(&self, directories: &[&str], nested: bool) -> Vec<(String, PathBuf)> {
        let depth = if nested { 2 } else { 0 };
        let all = directories
            .iter()
            .flat_map(|one| files(&self.within(one), depth));
        let of_root = self.within("/etc/containers/systemd/users");
        let all = all.filter(|file| !nested || !file.starts_with(&of_root));
        all.filter_map(|file| {
            let service = service_of_quadlet(&file)?;
            let is_other = !self.own.contains(&service);
            let is_it = is_other && names_container(&text(&file), &service, self.wanted.name);
            is_it.then_some((service, file))
        })
        .collect()
    }

    /// What root's own manager starts with itself.
    fn of_root(&self) -> Vec<(String, PathBuf)> {
        let services = self.services(&SERVICES_OF_ROOT);
        let names = services.names(&[]).into_iter();
        let wanted: Vec<String> = names.filter(|name| services.is_wanted(name)).collect();
        let mut found = self.of(&services, &wanted);
        let quadlets = self.quadlets(&QUADLETS_OF_ROOT, false);
        let starts = quadlets
            .into_iter()
            .filter(|(_, file)| is_wanted(&text(file)));
        found.extend(starts);
        found
    }

    /// The tables that start the container, or one of these services.
    fn tables(&self, services: &[String]) -> Vec<PathBuf> {
        let all = TABLES.iter().flat_map(|table| {
            let path = self.within(table);
            if path.is_dir() {
                files(&path, 0)
            } else {
                vec![path]
            }
        });
        all.filter(|file| {
            let text = text(file);
            self.starts_in(&text, DEPTH)
                || commands(&text)
                    .iter()
                    .any(|line| starts_service(line, services))
        })
        .collect()
    }

    /// Whether one of these commands starts the container, by itself or by a script. They stand in `text`.
    fn starts<'l>(&self, mut lines: impl Iterator<Item = &'l str>, text: &str, depth: u32) -> bool {
        let known = names_podman(text).then(|| variables(text));
        lines.any(|line| {
            let at_once = known.as_ref();
            at_once.is_some_and(|known| self.wanted.is_started_by(line, known))
                || depth > 0 && self.starts_by_script(line, depth - 1)
        })
    }

    fn starts_by_script(&self, line: &str, depth: u32) -> bool {
        let mut scripts = scripts(line).into_iter();
        scripts.any(|script| {
            let file = self.root.join(&script);
            (script.ends_with(".sh") || is_script(&file)) && self.starts_in(&text(&file), depth)
        })
    }

    fn starts_in(&self, text: &str, depth: u32) -> bool {
        let lines = commands(text);
        self.starts(lines.iter().map(String::as_str), text, depth)
    }
}

/// Whether a file begins as a script does.
fn is_script(file: &Path) -> bool {
    let mut first = [0; 2];
    // Not a FIFO, which would have to be waited for.
    file.is_file()
        && File::open(file).is_ok_and(|mut file| file.read_exact(&mut first).is_ok())
        && first == *b"#!"
}

/// The lines of a script or a table without its comments.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined
        .lines()
        .map(|line| {
            line.split(" #")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        })
        .filter(|line| !line.starts_with('#'));
    lines.collect()
}

/// The file that somebody has written: a generator's names the one that it was made of.
fn source_of(command: &service::Command) -> PathBuf {
    let is_generated = command
        .file
        .to_string_lossy()
        .contains("/run/systemd/generator");
    let mut lines = command.text.lines();
    let source = lines.find_map(|line| line.strip_prefix("SourcePath="));
    match source {
        Some(source) if is_generated => PathBuf::from(source),
        _ => command.file.clone(),
    }
}

/// The regular files and links of a directory, and of those `depth` levels below it.
fn files(directory: &Path, depth: u32) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => files.extend(self::files(&path, depth - 1)),
            Ok(kind) if !kind.is_dir() => files.push(path),
            _ => {}
        }
    }
    files.sort();
    files
}

/// A file's text; empty for one that is not there, is no file, or is too large to be somebody's commands.
fn text(file: &Path) -> String {
    // A link to /dev/null starts nothing.
    let Ok(real) = file.canonicalize() else {
        return String::new();
    };
    let read = read_regular(&real, LARGEST).ok().flatten();
    read.map_or_else(String::new, |read| {
        String::from_utf8_lossy(&read.contents).into_owned()
    })
}

/// The service that podman's generator makes of a `.container` file.
fn service_of_quadlet(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    Some(format!("{}.service", name.strip_suffix(".container")?))
}

/// Whether a `.container` file gives its container this name. Without `ContainerName=` it is `systemd-%N`.
fn names_container(quadlet: &str, service: &str, name: &str) -> bool {
    let stem = service.trim_end_matches(".service");
    let given = values(quadlet, "ContainerName").last().map(str::to_owned);
    let given = given.unwrap_or_else(|| format!("systemd-{stem}"));
    expanded(&given, service) == name
}

/// Whether something starts what a `.container` file makes, at a boot or at root's login.
fn is_wanted(quadlet: &str) -> bool {
    ["WantedBy", "RequiredBy", "UpheldBy"]
        .iter()
        .any(|key| values(quadlet, key).any(|value| !value.is_empty()))
}

fn values<'q>(quadlet: &'q str, key: &str) -> impl Iterator<Item = &'q str> {
    quadlet
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(move |(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9f3e9f3e9f3e9f3e9f3e9f3e9f3e9f3e";

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let own = ["nodejs-server.service".to_owned()];
        let search = Search {
            root: root.path(),
            wanted: Wanted {
                name: "nodejs-server",
                id: Some(ID),
            },
            own: &own,
        };
        let found = search.all(&["loaded@nodejs-server.service".to_owned()]);
        let found = found.into_iter().map(|one| {
            let file = one.file.strip_prefix(root.path()).unwrap_or(&one.file);
            let by = match one.by {
                By::Service(unit) => unit,
                By::ServiceOfRoot(unit) => format!("root's {unit}"),
                By::Table => "cron".to_owned(),
            };
            format!("{by} {}", file.display())
        });
        found.collect()
    }

    #[test]
    fn another_name_of_a_unit_is_no_other_unit() {
        let root = tempfile::tempdir().unwrap();
        let units = root.path().join("etc/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        let exec = "ExecStart=podman start nodejs-server\n";
        std::fs::write(units.join("nodejs-server.service"), exec).unwrap();
        std::os::unix::fs::symlink("nodejs-server.service", units.join("app.service")).unwrap();
        let services = Services::read(&[units]);
        assert_eq!(
            Vec::from_iter(services.names(&[])),
            ["nodejs-server.service"]
        );
    }

    const WEB: &str = "etc/systemd/system/web.service";

    #[test]
    fn a_service_of_any_name_is_seen() {
        for text in [
            "ExecStart=/usr/bin/podman run --replace --name nodejs-server image\n",
            "ExecStart=/usr/bin/podman run \\\n    --rm \\\n    --name=nodejs-server image\n",
            "ExecStart=/usr/bin/podman --log-level=info run -d --name \"nodejs-server\" image\n",
            "ExecStart=-/usr/bin/podman container run --name=nodejs-server image\n",
            "ExecStartPre=/usr/bin/podman create --replace --name nodejs-server image\nExecStart=/usr/bin/true\n",
            "ExecStartPre=/usr/bin/sleep 1\nExecStart=/usr/bin/podman start -a nodejs-server\n",
            "ExecStart=/usr/bin/podman start 9f3e9f3e9f3e\n",
            "ExecStart=/bin/sh -c 'sleep 1; podman run --name nodejs-server image'\n",
            "ExecStart=/usr/bin/docker run --name nodejs-server image\n",
        ] {
            assert_eq!(
                found(&[(WEB, text)]),
                [format!("web.service {WEB}")],
                "{text}"
            );
        }
        for text in [
            "ExecStart=/usr/bin/podman run --replace --name other image nodejs-server\n",
            "ExecStart=/usr/bin/podman start other\n",
            "ExecStop=/usr/bin/podman stop nodejs-server\n",
            "ExecStart=/usr/bin/podman rm --force nodejs-server\n",
            "#ExecStart=/usr/bin/podman start nodejs-server\n",
            "ExecStart=/usr/bin/echo nodejs-server\n",
        ] {
            assert_eq!(found(&[(WEB, text)]), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_starts_it_in_another_way_is_seen() {
        let run = "podman run --name nodejs-server image\n";
        let exec = format!("[Service]\nExecStart=/usr/bin/{run}");
        type Files<'f> = [(&'f str, &'f str)];
        let table: &[(&Files<'_>, &[&str])] = &[
            (
                &[("etc/systemd/system/x.service.d/y.conf", &exec)],
                &["x.service etc/systemd/system/x.service.d/y.conf"],
            ),
            (
                &[("usr/lib/systemd/system/x.service", &exec)],
                &["x.service usr/lib/systemd/system/x.service"],
            ),
            (
                &[(
                    "etc/containers/systemd/web.container",
                    "[Container]\nContainerName=nodejs-server\n",
                )],
                &["web.service etc/containers/systemd/web.container"],
            ),
            // What podman's generator made of the file above is the same service.
            (
                &[
                    (
                        "etc/containers/systemd/sub/web.container",
                        "ContainerName = nodejs-server\n",
                    ),
                    ("run/systemd/generator/web.service", &exec),
                ],
                &["web.service etc/containers/systemd/sub/web.container"],
            ),
            (
                &[("etc/containers/systemd/web.container", "[Container]\n")],
                &[],
            ),
            (
                &[(
                    "etc/systemd/system/nodejs-server@.service",
                    "ExecStart=/usr/bin/podman start %p\n",
                )],
                &["nodejs-server@.service etc/systemd/system/nodejs-server@.service"],
            ),
            (
                &[
                    (WEB, "ExecStart=/usr/local/bin/start.sh\n"),
                    (
                        "usr/local/bin/start.sh",
                        "#!/bin/sh\ndocker run -d \\\n  --name nodejs-server image\n",
                    ),
                ],
                &["web.service etc/systemd/system/web.service"],
            ),
            (
                &[
                    (WEB, "ExecStart=/bin/sh /usr/local/bin/start.sh\n"),
                    (
                        "usr/local/bin/start.sh",
                        "#!/bin/sh\n# podman start nodejs-server\n",
                    ),
                ],
                &[],
            ),
            (
                &[("etc/cron.d/web", &format!("@reboot root {run}"))],
                &["cron etc/cron.d/web"],
            ),
            (
                &[("etc/rc.local", &format!("#!/bin/sh\n{run}"))],
                &["cron etc/rc.local"],
            ),
            // The agent's own.
            (&[("etc/systemd/system/nodejs-server.service", &exec)], &[]),
            // An instance that systemd has loaded, and one that a boot starts.
            (
                &[(
                    "etc/systemd/system/loaded@.service",
                    "ExecStart=/usr/bin/podman start -a %i\n",
                )],
                &["loaded@nodejs-server.service etc/systemd/system/loaded@.service"],
            ),
            (
                &[
                    (
                        "etc/systemd/system/box@.service",
                        "ExecStart=podman start %i\n",
                    ),
                    (
                        "etc/systemd/system/a.target.wants/box@nodejs-server.service",
                        "",
                    ),
                ],
                &["box@nodejs-server.service etc/systemd/system/box@.service"],
            ),
            (
                &[
                    (
                        "etc/systemd/system/box@.service",
                        "ExecStart=podman start %i\n",
                    ),
                    (
                        "etc/systemd/system/timers.target.wants/box@nodejs-server.timer",
                        "",
                    ),
                ],
                &["box@nodejs-server.service etc/systemd/system/box@.service"],
            ),
            // Another file, or an empty value, takes its place.
            (
                &[
                    (WEB, "ExecStart=/usr/bin/true\n"),
                    ("usr/lib/systemd/system/web.service", &exec),
                ],
                &[],
            ),
            (
                &[
                    (WEB, &exec),
                    (
                        "etc/systemd/system/web.service.d/y.conf",
                        "[Service]\nExecStart=\nExecStart=/usr/bin/true\n",
                    ),
                ],
                &[],
            ),
            // What a generator made names the file that it was made of.
            (
                &[(
                    "run/systemd/generator.late/old.service",
                    &format!("[Unit]\nSourcePath=/etc/init.d/old\n{exec}"),
                )],
                &["old.service /etc/init.d/old"],
            ),
            // Scripts of tables, and services that tables start.
            (
                &[
                    ("etc/crontab", "@reboot root /opt/start.sh >/dev/null\n"),
                    (
                        "opt/start.sh",
                        &format!("#!/bin/sh\n/opt/really.sh\n# {run}"),
                    ),
                    ("opt/really.sh", "N=nodejs-server\npodman start $N\n"),
                ],
                &["cron etc/crontab"],
            ),
            (
                &[
                    (WEB, &exec),
                    (
                        "var/spool/cron/crontabs/root",
                        "5 4 * * * systemctl restart web\n",
                    ),
                ],
                &[
                    "web.service etc/systemd/system/web.service",
                    "cron var/spool/cron/crontabs/root",
                ],
            ),
            (
                &[(
                    "etc/cron.d/web",
                    &format!("# {run}5 4 * * * root true # {run}"),
                )],
                &[],
            ),
            // Root's own manager, only what it starts with itself; not those of others.
            (
                &[
                    ("root/.config/systemd/user/web.service", &exec),
                    (
                        "root/.config/systemd/user/default.target.wants/web.service",
                        "",
                    ),
                    ("etc/systemd/user/idle.service", &exec),
                    (
                        "etc/containers/systemd/users/1000/a.container",
                        "ContainerName=nodejs-server\n",
                    ),
                    (
                        "etc/containers/systemd/users/b.container",
                        "ContainerName=nodejs-server\n[Install]\nWantedBy=default.target\n",
                    ),
                ],
                &[
                    "root's web.service root/.config/systemd/user/web.service",
                    "root's b.service etc/containers/systemd/users/b.container",
                ],
            ),
        ];
        for (files, expected) in table {
            assert_eq!(found(files), *expected, "{files:?}");
        }
    }
}
