//! What on the VM starts a container of a certain name: services of any name, `.container` files, tables of cron(8).
//! Somebody who has made it by hand may have forgotten it, and two things that start it fight for its name and ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fs::read_regular;

/// Where services and timers are, from the most important on (systemd.unit(5), "unit file load path"). The last two are
/// what generators make.
const SERVICES: [&str; 7] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator",
    "/run/systemd/generator.late",
];

/// Where podman's generator looks for `.container` files (podman-systemd.unit(5)).
const QUADLETS: [&str; 3] = [
    "/etc/containers/systemd",
    "/run/containers/systemd",
    "/usr/share/containers/systemd",
];

/// Lists of commands that run at certain times, and what runs at every boot.
const TABLES: [&str; 9] = [
    "/etc/crontab",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/var/spool/cron/root",
    "/var/spool/cron/crontabs/root",
    "/etc/rc.local",
    "/etc/rc.d/rc.local",
];

const LARGEST: u64 = 1 << 20;

/// A file by which something starts the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starter {
    pub file: PathBuf,
    /// The service; `None` for a table of cron.
    pub unit: Option<String>,
}

/// The files, in order, except those of `own` units. `id`: the container's id, by which podman knows it as well.
pub fn starters(name: &str, id: Option<&str>, own: &[String]) -> Vec<Starter> {
    starters_in(Path::new("/"), name, id, own)
}

fn starters_in(root: &Path, name: &str, id: Option<&str>, own: &[String]) -> Vec<Starter> {
    let within = |path: &str| root.join(path.trim_start_matches('/'));
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut see = |unit: String, file: PathBuf| {
        if !own.contains(&unit) {
            found.entry(unit).or_insert(file);
        }
    };
    for quadlets in QUADLETS {
        for file in files(&within(quadlets), 2) {
            let service = service_of_quadlet(&file);
            if let Some(service) = service
                && names_container(&text(&file), &service, name)
            {
                see(service, file);
            }
        }
    }
    for directory in SERVICES {
        // A drop-in's directory is one below.
        for file in files(&within(directory), 1) {
            if let Some(service) = service_of(&file)
                && starts(root, &text(&file), &service, name, id)
            {
                see(service, file);
            }
        }
    }
    let units = found.into_iter().map(|(unit, file)| Starter {
        file,
        unit: Some(unit),
    });
    let tables = TABLES.iter().flat_map(|table| {
        let path = within(table);
        if path.is_dir() {
            files(&path, 0)
        } else {
            vec![path]
        }
    });
    let tables = tables.filter(|file| {
        let text = text(file);
        let mut lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        lines.any(|line| runs(line, name, id))
    });
    units
        .chain(tables.map(|file| Starter { file, unit: None }))
        .collect()
}

/// The regular files of a directory, and of those `depth` levels below it.
fn files(directory: &Path, depth: u32) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            // The links of `.wants` directories lead to files that are looked at anyway.
            Ok(kind) if kind.is_dir() && depth > 0 && !is_wants(&path) => {
                files.extend(self::files(&path, depth - 1));
            }
            Ok(kind) if !kind.is_dir() => files.push(path),
            _ => {}
        }
    }
    files.sort();
    files
}

fn is_wants(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    extension == "wants" || extension == "requires" || extension == "upholds"
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

/// `x.service` of `x.service` and of `x.service.d/y.conf`.
fn service_of(file: &Path) -> Option<String> {
    let own = file.file_name()?.to_str()?;
    if own.ends_with(".service") {
        return Some(own.to_owned());
    }
    let directory = file.parent()?.file_name()?.to_str()?;
    let service = directory.strip_suffix(".d")?;
    (own.ends_with(".conf") && service.ends_with(".service")).then(|| service.to_owned())
}

/// The service that podman's generator makes of a `.container` file.
fn service_of_quadlet(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    Some(format!("{}.service", name.strip_suffix(".container")?))
}

/// Whether a `.container` file gives its container this name. Without `ContainerName=` it is `systemd-%N`.
fn names_container(quadlet: &str, service: &str, name: &str) -> bool {
    let mut names = quadlet.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "ContainerName").then(|| value.trim().to_owned())
    });
    let stem = service.trim_end_matches(".service");
    let given = names
        .next_back()
        .unwrap_or_else(|| format!("systemd-{stem}"));
    expanded(&given, service) == name
}

/// With the specifiers that stand for a unit's name (systemd.unit(5)).
fn expanded(word: &str, service: &str) -> String {
    let stem = service.trim_end_matches(".service");
    let prefix = stem.split('@').next().unwrap_or(stem);
    let instance = stem.split_once('@').map_or("", |(_, instance)| instance);
    word.replace("%n", service)
        .replace("%N", stem)
        .replace("%p", prefix)
        .replace("%i", instance)
        .replace("%%", "%")
}

/// Whether a command of the service starts or makes this container, by itself or by a script.
fn starts(root: &Path, unit: &str, service: &str, name: &str, id: Option<&str>) -> bool {
    const KEYS: [&str; 4] = [
        "ExecStartPre",
        "ExecStart",
        "ExecStartPost",
        "ExecCondition",
    ];
    let lines = unit.replace("\\\n", " ");
    let mut commands = lines.lines().filter_map(|line| {
        let (key, command) = line.trim().split_once('=')?;
        KEYS.contains(&key.trim())
            .then(|| expanded(command.trim(), service))
    });
    commands.any(|command| {
        runs(&command, name, id)
            || scripts(&command)
                .iter()
                .any(|script| runs_in_script(&root.join(script), name, id))
    })
}

/// The files that a command may run as a script, relative to the root.
fn scripts(command: &str) -> Vec<String> {
    let words = command.split_whitespace().take(4);
    words
        .filter_map(|word| {
            let path = word.trim_start_matches(['-', '@', '+', '!', ':', '"', '\'']);
            let path = path.trim_end_matches(['"', '\'']);
            Some(path.strip_prefix('/')?.to_owned())
        })
        .collect()
}

fn runs_in_script(file: &Path, name: &str, id: Option<&str>) -> bool {
    let text = text(file);
    if !text.starts_with("#!") {
        return false;
    }
    let lines = text.replace("\\\n", " ");
    let mut lines = lines
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines.any(|line| runs(line, name, id))
}

/// Whether a line of a shell or of a unit has podman start or make this container.
fn runs(line: &str, name: &str, id: Option<&str>) -> bool {
    let bare: String = line.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    // One line may have several commands.
    let mut commands = bare.split([';', '&', '|']);
    commands.any(|command| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let is_podman = |word: &&str| matches!(word.rsplit('/').next(), Some("podman" | "docker"));
        let Some(podman) = words.iter().position(is_podman) else {
            return false;
        };
        let rest = &words[podman + 1..];
        let verb = |word: &&str| matches!(*word, "start" | "restart" | "run" | "create");
        let Some(at) = rest.iter().position(verb) else {
            return false;
        };
        let arguments = &rest[at + 1..];
        match rest[at] {
            "start" | "restart" => arguments.iter().any(|word| is_it(word, name, id)),
            _ => is_named(arguments, name),
        }
    })
}

/// Whether a word is the container's name, or the beginning of its id that podman takes for it.
pub fn is_it(word: &str, name: &str, id: Option<&str>) -> bool {
    // podman shows 12 digits.
    word == name || id.is_some_and(|id| word.len() >= 12 && id.starts_with(word))
}

/// Whether arguments of `podman run` give the container this name.
pub fn is_named(arguments: &[&str], name: &str) -> bool {
    let mut pairs = arguments.windows(2);
    arguments
        .iter()
        .any(|word| word.strip_prefix("--name=") == Some(name))
        || pairs.any(|pair| pair == ["--name", name])
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
        let found = starters_in(root.path(), "nodejs-server", Some(ID), &own);
        let found = found.into_iter().map(|one| {
            let file = one.file.strip_prefix(root.path()).unwrap();
            let unit = one.unit.unwrap_or_else(|| "cron".to_owned());
            format!("{unit} {}", file.display())
        });
        found.collect()
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
        ];
        for (files, expected) in table {
            assert_eq!(found(files), *expected, "{files:?}");
        }
    }
}
