//! Services as systemd would put them together from the files that are on the disk: the most important file of a name, its
//! drop-ins, and the instances of templates (systemd.unit(5)). Files count here, so that what a boot or a reload would read
//! is seen before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{files, text};

/// A service's file and the files that add to it.
#[derive(Debug, Clone, Default)]
struct Parts {
    /// Empty for a service that only has drop-ins here.
    fragment: Option<PathBuf>,
    /// By their own names, in which order they count.
    drop_ins: BTreeMap<String, PathBuf>,
}

/// The services of a manager.
#[derive(Debug, Default)]
pub(super) struct Services {
    parts: BTreeMap<String, Parts>,
    /// Names in `.wants` and its like: of services, and of timers and their like.
    pub wanted: BTreeSet<String>,
}

/// A command that starts a service, with its specifiers expanded, and the file that has it.
pub(super) struct Command {
    pub line: String,
    pub file: PathBuf,
    /// All of that file.
    pub text: String,
}

impl Services {
    /// Reads these directories, the most important one first.
    pub(super) fn read(directories: &[PathBuf]) -> Self {
        let mut services = Self::default();
        for directory in directories {
            for path in files(directory, 1) {
                services.see(&path);
            }
        }
        services
    }

    fn see(&mut self, path: &Path) {
        let names = (name_of(Some(path)), name_of(path.parent()));
        let (Some(own), Some(directory)) = names else {
            return;
        };
        let wants = [".wants", ".requires", ".upholds"];
        if wants.iter().any(|kind| directory.ends_with(kind)) {
            self.wanted.insert(own);
        } else if own.ends_with(".service") {
            if !is_alias(path, &own) {
                let parts = self.parts.entry(own).or_default();
                parts.fragment.get_or_insert_with(|| path.to_owned());
            }
        } else if let Some(service) = directory.strip_suffix(".d")
            && service.ends_with(".service")
            && own.ends_with(".conf")
        {
            let parts = self.parts.entry(service.to_owned()).or_default();
            parts.drop_ins.entry(own).or_insert_with(|| path.to_owned());
        }
    }

    /// The names of all services; of instances, those that something wants and these.
    pub(super) fn names(&self, instances: &[String]) -> BTreeSet<String> {
        let wanted = self.wanted.iter().filter_map(|unit| {
            let (stem, _) = unit.rsplit_once('.')?;
            stem.contains('@').then(|| format!("{stem}.service"))
        });
        let all = self.parts.keys().cloned().chain(wanted);
        all.chain(instances.iter().cloned()).collect()
    }

    /// Whether something of the disk has the service started: its own link or that of a timer of its name.
    pub(super) fn is_wanted(&self, service: &str) -> bool {
        let stem = service.trim_end_matches(".service");
        let mut wanted = self.wanted.iter();
        wanted.any(|unit| unit.rsplit_once('.').is_some_and(|(name, _)| name == stem))
    }

    fn parts_of(&self, service: &str) -> Parts {
        let mut parts = self.parts.get(service).cloned().unwrap_or_default();
        if let Some(template) = template_of(service).and_then(|name| self.parts.get(&name)) {
            parts.fragment = parts.fragment.or_else(|| template.fragment.clone());
            for (name, path) in &template.drop_ins {
                parts
                    .drop_ins
                    .entry(name.clone())
                    .or_insert_with(|| path.clone());
            }
        }
        parts
    }

    /// The commands that a start of the service runs.
    pub(super) fn commands(&self, service: &str) -> Vec<Command> {
        let parts = self.parts_of(service);
        let mut commands: Vec<(String, Command)> = Vec::new();
        for file in parts.fragment.iter().chain(parts.drop_ins.values()) {
            let text = text(file);
            let lines = text.replace("\\\n", " ");
            for (key, value) in lines.lines().filter_map(setting) {
                if value.is_empty() {
                    // An empty value takes back what was there before (systemd.service(5)).
                    commands.retain(|(other, _)| *other != key);
                    continue;
                }
                let line = expanded(value, service);
                let (file, text) = (file.clone(), text.clone());
                commands.push((key.to_owned(), Command { line, file, text }));
            }
        }
        commands.into_iter().map(|(_, command)| command).collect()
    }
}

fn name_of(path: Option<&Path>) -> Option<String> {
    Some(path?.file_name()?.to_str()?.to_owned())
}

/// A link to a unit of another name gives that unit one more name.
fn is_alias(path: &Path, own: &str) -> bool {
    let target = path.read_link().ok();
    let named = name_of(target.as_deref());
    named.is_some_and(|named| named.ends_with(".service") && named != own)
}

/// `x@.service` of `x@y.service`.
fn template_of(service: &str) -> Option<String> {
    let (prefix, instance) = service.split_once('@')?;
    (instance != ".service").then(|| format!("{prefix}@.service"))
}

/// A key with which a start runs a command, and its value.
fn setting(line: &str) -> Option<(&str, &str)> {
    const KEYS: [&str; 4] = [
        "ExecStartPre",
        "ExecStart",
        "ExecStartPost",
        "ExecCondition",
    ];
    let (key, value) = line.trim().split_once('=')?;
    KEYS.contains(&key.trim())
        .then(|| (key.trim(), value.trim()))
}

/// With the specifiers that stand for a unit's name (systemd.unit(5)).
pub(super) fn expanded(word: &str, service: &str) -> String {
    let stem = service.trim_end_matches(".service");
    let prefix = stem.split('@').next().unwrap_or(stem);
    let instance = stem.split_once('@').map_or("", |(_, instance)| instance);
    let last = prefix.rsplit('-').next().unwrap_or(prefix);
    word.replace("%n", service)
        .replace("%N", stem)
        .replace("%p", prefix)
        .replace("%j", last)
        .replace("%i", instance)
        .replace("%I", &instance.replace('-', "/"))
        .replace("%%", "%")
}
