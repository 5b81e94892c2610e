//! systemd's manager over D-Bus (org.freedesktop.systemd1(5)): unit properties, jobs, enablement.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use zbus::{Connection, DBusError};
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::permit::Permit;
use super::process::Helper;
use crate::error::{Error, Result};

/// How long a job may take: a container's first start on a slow machine is the longest.
const JOB_DEADLINE: Duration = Duration::from_secs(300);

/// The lines of a failed unit's journal that reach the operator.
const JOURNAL_LINES: &str = "5";
/// Among how many of its last lines an error is looked for.
const LOOKED_AT_LINES: &str = "100";
/// How many of them are told where none begins as an error.
const TOLD_LINES: usize = 5;
/// Those of a unit that ran a program of others, which may have more to say.
const PRINTED_LINES: &str = "12";

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    async fn subscribe(&self) -> zbus::Result<()>;
    async fn reload(&self) -> zbus::Result<()>;
    async fn get_unit_file_state(&self, file: &str) -> zbus::Result<String>;
    async fn enable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
        force: bool,
    ) -> zbus::Result<(bool, Vec<(String, String, String)>)>;
    async fn disable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
    ) -> zbus::Result<Vec<(String, String, String)>>;
    async fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    async fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    async fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    async fn reload_or_restart_unit(&self, name: &str, mode: &str)
    -> zbus::Result<OwnedObjectPath>;
    async fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    async fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(signal)]
    async fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.DBus.Properties",
    default_service = "org.freedesktop.systemd1"
)]
trait Properties {
    async fn get_all(&self, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>>;
    async fn get(&self, interface: &str, property: &str) -> zbus::Result<OwnedVariant>;
}

/// What a job does to a unit: the verbs of systemctl(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    Start,
    Stop,
    Restart,
    ReloadOrRestart,
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::ReloadOrRestart => "reload-or-restart",
        })
    }
}

/// A unit as systemd sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitState {
    /// The unit's own name, where it was asked for by an alias.
    pub id: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting` …
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating` …
    pub active: String,
    /// `running`, `exited`, `auto-restart` …
    pub sub: String,
    /// `enabled`, `disabled`, `generated`, `masked`, empty where there is no file.
    pub file_state: String,
    /// The file that a generated unit comes from.
    pub source_path: String,
    /// The file that the unit was read from.
    pub fragment_path: String,
    /// The unit's file changed since systemd read it.
    pub need_daemon_reload: bool,
    /// A job for it waits or runs.
    pub has_job: bool,
    /// The drop-ins that systemd has read.
    pub drop_ins: Vec<String>,
    /// What tells this run of the unit from those before (systemd.exec(5), `$INVOCATION_ID`).
    pub invocation: Vec<u8>,
    /// When the unit became active, if it ever was.
    pub active_since: Option<SystemTime>,
    /// When the unit last changed its state; a reload counts.
    pub state_changed: Option<SystemTime>,
}

impl UnitState {
    pub fn is_loaded(&self) -> bool {
        self.load == "loaded"
    }
    pub fn is_active(&self) -> bool {
        self.active == "active"
    }
    /// Whether its programs run already: `activating` is also what waits to be tried again.
    pub fn is_being_started(&self) -> bool {
        self.active == "activating" && !self.sub.starts_with("auto-restart")
    }
    /// Whether systemd read the unit from this file, directly or by a generator.
    pub fn is_from(&self, file: &std::path::Path) -> bool {
        [&self.source_path, &self.fragment_path]
            .into_iter()
            .any(|path| std::path::Path::new(path) == file)
    }
}

/// A property of a transient unit, under the name that systemd has for it on the bus.
#[derive(Debug)]
pub struct Property {
    name: &'static str,
    value: Variant<'static>,
}

impl Property {
    pub fn new(name: &'static str, value: impl Into<Variant<'static>>) -> Self {
        Self {
            name,
            value: value.into(),
        }
    }
}

/// A unit that is no file and is gone when it has ended.
#[derive(Debug)]
pub struct Transient {
    pub name: &'static str,
    pub properties: Vec<Property>,
    /// After this its end is not waited for, and it is stopped.
    pub deadline: Duration,
}

/// A connection to the manager.
#[derive(Clone)]
pub struct Systemd {
    connection: Connection,
    manager: ManagerProxy<'static>,
    /// Whether the manager was told to send its signals.
    subscribed: Arc<OnceCell<()>>,
}

impl Systemd {
    pub async fn connect(connection: &Connection) -> Result<Self> {
        let manager = ManagerProxy::new(connection)
            .await
            .map_err(|e| bus_error("reach systemd", e))?;
        Ok(Self {
            connection: connection.clone(),
            manager,
            subscribed: Arc::default(),
        })
    }

    /// Without a subscriber systemd may never send JobRemoved. A plan needs no signals.
    async fn subscribe(&self) -> Result<()> {
        self.subscribed
            .get_or_try_init(|| self.manager.subscribe())
            .await
            .map_err(|e| bus_error("reach systemd", e))?;
        Ok(())
    }

    /// The unit's state; a unit that does not exist has `load == "not-found"`.
    pub async fn unit(&self, name: &str) -> Result<UnitState> {
        let doing = || format!("read the state of {name}");
        // systemd loads a unit when it is asked for the object of its name, as by systemctl(1):
        // one call does.
        let properties = self.properties(name).await;
        let properties = properties.map_err(|e| bus_error(doing(), e))?;
        let all = properties
            .get_all("org.freedesktop.systemd1.Unit")
            .await
            .map_err(|e| bus_error(doing(), e))?;
        let text = |key: &str| -> String {
            all.get(key)
                .and_then(|v| <&str>::try_from(v).ok())
                .unwrap_or_default()
                .to_owned()
        };
        let time = |key: &str| -> Option<SystemTime> {
            let micros = all.get(key).and_then(|v| u64::try_from(v).ok())?;
            (micros > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_micros(micros))
        };
        let (id, load) = (text("Id"), text("LoadState"));
        let file_state = if load == "not-found" {
            String::new()
        } else {
            self.file_state(&id).await?
        };
        Ok(UnitState {
            id,
            load,
            active: text("ActiveState"),
            sub: text("SubState"),
            file_state,
            source_path: text("SourcePath"),
            fragment_path: text("FragmentPath"),
            need_daemon_reload: all
                .get("NeedDaemonReload")
                .and_then(|v| bool::try_from(v).ok())
                .unwrap_or(false),
            has_job: all
                .get("Job")
                .and_then(|v| v.try_clone().ok())
                .and_then(|v| <(u32, OwnedObjectPath)>::try_from(v).ok())
                .is_some_and(|(id, _)| id != 0),
            drop_ins: all
                .get("DropInPaths")
                .and_then(|v| v.try_clone().ok())
                .and_then(|v| v.try_into().ok())
                .unwrap_or_default(),
            invocation: all
                .get("InvocationID")
                .and_then(|v| v.try_clone().ok())
                .and_then(|v| v.try_into().ok())
                .unwrap_or_default(),
            active_since: time("ActiveEnterTimestamp"),
            state_changed: time("StateChangeTimestamp"),
        })
    }

    async fn properties(&self, unit: &str) -> zbus::Result<PropertiesProxy<'_>> {
        PropertiesProxy::builder(&self.connection)
            .path(unit_path(unit))
            .build()
            .await
    }

    /// How often systemd has started a service anew by itself since somebody started it: `NRestarts`.
    pub async fn restarts(&self, service: &str) -> Result<u32> {
        let restarts = self.service_property(service, "NRestarts").await;
        restarts
            .and_then(u32::try_from)
            .map_err(|e| bus_error(format!("read the restarts of {service}"), e))
    }

    /// What a service says of itself (`STATUS=` of sd_notify(3)).
    pub async fn status_text(&self, service: &str) -> Result<String> {
        let text = self.service_property(service, "StatusText").await;
        text.and_then(String::try_from)
            .map_err(|e| bus_error(format!("read the status of {service}"), e))
    }

    async fn service_property(&self, service: &str, name: &str) -> zbus::Result<OwnedVariant> {
        let properties = self.properties(service).await?;
        let interface = "org.freedesktop.systemd1.Service";
        properties.get(interface, name).await
    }

    /// Whether a unit is enabled as its files say it now. The unit's property says it as of the last
    /// reload: a run that was killed between a disablement and its reload leaves that wrong.
    async fn file_state(&self, id: &str) -> Result<String> {
        match self.manager.get_unit_file_state(id).await {
            Ok(state) => Ok(state),
            // It has no file: what sd-bus-errors(3) makes of ENOENT.
            Err(error) => match error_reply(&error) {
                Some((name, _)) if name == "org.freedesktop.DBus.Error.FileNotFound" => {
                    Ok(String::new())
                }
                _ => Err(bus_error(format!("read the state of {id}'s file"), error)),
            },
        }
    }

    /// Makes systemd read its unit files again and run its generators.
    pub async fn daemon_reload(&self, _permit: &Permit) -> Result<()> {
        self.manager
            .reload()
            .await
            .map_err(|e| bus_error("make systemd read its unit files", e))
    }

    /// Enables a unit for every boot. systemd knows of it after the next [`Self::daemon_reload`].
    pub async fn enable(&self, _permit: &Permit, name: &str) -> Result<()> {
        self.manager
            .enable_unit_files(&[name], false, false)
            .await
            .map(drop)
            .map_err(|e| bus_error(format!("enable {name}"), e))
    }

    /// Takes a unit out of every boot. systemd knows of it after the next [`Self::daemon_reload`].
    pub async fn disable(&self, _permit: &Permit, name: &str) -> Result<()> {
        self.manager
            .disable_unit_files(&[name], false)
            .await
            .map(drop)
            .map_err(|e| bus_error(format!("disable {name}"), e))
    }

    /// Runs a job and waits for its end. A failed job is an error with the last lines of the
    /// unit's journal.
    pub async fn job(&self, _permit: &Permit, job: Job, unit: &str) -> Result<()> {
        let doing = format!("{job} {unit}");
        let begun = SystemTime::now();
        // A unit that failed too often before is not held back by its past.
        let _ = self.manager.reset_failed_unit(unit).await;
        let begin = async {
            match job {
                Job::Start => self.manager.start_unit(unit, "replace").await,
                Job::Stop => self.manager.stop_unit(unit, "replace").await,
                Job::Restart => self.manager.restart_unit(unit, "replace").await,
                Job::ReloadOrRestart => self.manager.reload_or_restart_unit(unit, "replace").await,
            }
        };
        let result = self.result_of(&doing, unit, JOB_DEADLINE, begin).await?;
        if result == "done" {
            if job == Job::Stop {
                // How it ended when it was told to is no failure to show for ever.
                let _ = self.manager.reset_failed_unit(unit).await;
            }
            return Ok(());
        }
        let words = why_it_failed(unit, begun).await;
        Err(
            Error::new(format!("{doing}: systemd says {result:?}{words}"))
                .hint(format!("see journalctl -u {unit}")),
        )
    }

    /// Runs a transient unit of `Type=oneshot` to its end. A failed one is an error with the last
    /// lines that it printed.
    pub async fn run_transient(&self, _permit: &Permit, unit: &Transient) -> Result<()> {
        let doing = format!("run {}", unit.name);
        let begin = async {
            let properties: Vec<(&str, Variant<'_>)> = unit
                .properties
                .iter()
                .map(|property| Ok((property.name, property.value.try_clone()?)))
                .collect::<zbus::Result<_>>()?;
            self.manager
                .start_transient_unit(unit.name, "fail", &properties, &[])
                .await
        };
        let ended = self
            .result_of(&doing, unit.name, unit.deadline, begin)
            .await;
        let hint = format!("see journalctl -u {}", unit.name);
        match ended {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                let why = match result.as_str() {
                    "timeout" => "it took too long, and was stopped",
                    _ => "it failed",
                };
                let words = printed(unit.name).await;
                Err(Error::new(format!("{doing}: {why}{words}")).hint(hint))
            }
            Err(error) => {
                let _ = self.manager.stop_unit(unit.name, "replace").await;
                Err(error)
            }
        }
    }

    /// Begins a job, waits for its end, and gives back what systemd says of it.
    async fn result_of(
        &self,
        doing: &str,
        unit: &str,
        deadline: Duration,
        begin: impl Future<Output = zbus::Result<OwnedObjectPath>>,
    ) -> Result<String> {
        self.subscribe().await?;
        // The match stands before the call: a job may end before the call's answer is read.
        let mut removed = self
            .manager
            .receive_job_removed()
            .await
            .map_err(|e| bus_error(doing, e))?;
        let path = begin.await.map_err(|e| bus_error(doing, e))?;
        let wait = async {
            while let Some(signal) = removed.next().await {
                let Ok(args) = signal.args() else { continue };
                if args.job == path {
                    return Some(args.result.clone());
                }
            }
            None
        };
        tokio::time::timeout(deadline, wait)
            .await
            .map_err(|_| {
                Error::new(format!("{doing}: no end after {} s", deadline.as_secs()))
                    .hint(format!("see systemctl status {unit}"))
            })?
            .ok_or_else(|| Error::new(format!("{doing}: the connection to systemd was lost")))
    }
}

/// The last lines that the processes of a unit printed, without what systemd says of the unit.
async fn printed(unit: &str) -> String {
    sync().await;
    quoted(&logged(&[&format!("_SYSTEMD_UNIT={unit}")], PRINTED_LINES).await)
}

/// The last lines that a container of this name logged since then, as podman hands them to journald.
pub async fn printed_by_container(name: &str, begun: SystemTime) -> String {
    sync().await;
    let matches = [&since(begun), &format!("CONTAINER_NAME={name}")];
    quoted(&logged(&matches.map(String::as_str), PRINTED_LINES).await)
}

/// What the processes of a unit said in a job that failed, the errors among it alone if there are any; what systemd said
/// where they kept silent.
async fn why_it_failed(unit: &str, begun: SystemTime) -> String {
    sync().await;
    let matches = [&since(begun), &format!("_SYSTEMD_UNIT={unit}")];
    let own = logged(&matches.map(String::as_str), LOOKED_AT_LINES).await;
    if own.is_empty() {
        return quoted(&logged(&["--unit", unit], JOURNAL_LINES).await);
    }
    quoted(worth_telling(&own))
}

/// The errors among lines, as programs begin them; the last lines where none begins so.
fn worth_telling(lines: &[String]) -> &[String] {
    let is_error = |line: &String| line.to_lowercase().starts_with("error");
    let last = lines.iter().rposition(is_error);
    // What comes after an error is often its hint, and then the end of all.
    let (first, end) = match last {
        Some(last) => (last, (last + 2).min(lines.len())),
        None => (lines.len().saturating_sub(TOLD_LINES), lines.len()),
    };
    &lines[first..end]
}

/// A pipe to journald may still hold some of what was printed (journalctl(1), --sync).
async fn sync() {
    let _ = Helper::new("journalctl").args(["--sync"]).run().await;
}

fn since(begun: SystemTime) -> String {
    let seconds = begun
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    format!("--since=@{seconds}")
}

/// The last lines of systemd's journal that match.
async fn logged(matches: &[&str], most: &str) -> Vec<String> {
    let lines = Helper::new("journalctl")
        .args(["--no-pager", "--quiet", "--output=cat", "--lines", most])
        .args(matches)
        .deadline(Duration::from_secs(10))
        .run()
        .await
        .unwrap_or_default();
    let lines = String::from_utf8_lossy(&lines);
    let lines = lines.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// For an error. Empty where there are none.
fn quoted(lines: &[String]) -> String {
    if lines.is_empty() {
        String::new()
    } else {
        format!("; it logged: {}", lines.join("; "))
    }
}

/// The name of the `.mount` unit of a path.
pub fn mount_unit_name(path: &std::path::Path) -> String {
    unit_name(path, "mount")
}

/// The name of the `.device` unit of a node below `/dev`.
pub fn device_unit_name(path: &std::path::Path) -> String {
    unit_name(path, "device")
}

/// The name of the unit of a path: systemd.unit(5), "string escaping for inclusion in unit names".
fn unit_name(path: &std::path::Path, kind: &str) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut name = String::new();
    for (index, component) in path
        .components()
        .filter_map(|c| match c {
            std::path::Component::Normal(part) => Some(part),
            _ => None,
        })
        .enumerate()
    {
        if index > 0 {
            name.push('-');
        }
        for (place, &byte) in component.as_bytes().iter().enumerate() {
            let plain = byte.is_ascii_alphanumeric()
                || byte == b':'
                || byte == b'_'
                || (byte == b'.' && (index, place) != (0, 0));
            if plain {
                name.push(char::from(byte));
            } else {
                name.push_str(&format!("\\x{byte:02x}"));
            }
        }
    }
    name.push('.');
    name.push_str(kind);
    name
}

/// The object of a unit: all but letters and digits is escaped as in `bus_label_escape` of
/// systemd's src/basic/bus-label.c.
fn unit_path(name: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (place, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphabetic() || (place > 0 && byte.is_ascii_digit());
        if plain {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

/// The name and the words of an error that came as a reply. zbus has its own variants for the names
/// that the specification of D-Bus defines.
pub(super) fn error_reply(error: &zbus::Error) -> Option<(String, String)> {
    match error {
        zbus::Error::MethodError(name, words, _) => {
            Some((name.to_string(), words.clone().unwrap_or_default()))
        }
        zbus::Error::FDO(error) => Some((
            error.name().to_string(),
            error.description().unwrap_or_default().to_owned(),
        )),
        _ => None,
    }
}

fn bus_error(doing: impl std::fmt::Display, error: zbus::Error) -> Error {
    if let Some((name, words)) = error_reply(&error) {
        let kind = name.rsplit('.').next().unwrap_or_default();
        let words = format!("{words} ({kind})");
        return if PASSES_BY_ITSELF.contains(&kind) {
            unavailable(doing, words)
        } else {
            Error::new(format!("{doing}: {words}"))
                .hint("see journalctl -b -u dbus and systemctl status; mend it, and try again")
        };
    }
    match error {
        zbus::Error::InputOutput(_) => unavailable(doing, error),
        other => Error::new(format!("{doing}: {other}"))
            .hint("systemd and D-Bus must run: see systemctl status dbus, and try again"),
    }
}

/// The errors of D-Bus (dbus-specification, "Standard error names") and of systemd that a service
/// gives while it is restarted or overloaded.
const PASSES_BY_ITSELF: [&str; 6] = [
    "NoReply",
    "Timeout",
    "TimedOut",
    "Disconnected",
    "ServiceUnknown",
    "LimitsExceeded",
];

/// A service on the bus that does not answer now and may do so in a moment.
pub fn unavailable(doing: impl std::fmt::Display, words: impl std::fmt::Display) -> Error {
    Error::new(format!("{doing}: {words}"))
        .hint("the service did not answer on D-Bus: see systemctl --failed, and try again when it runs")
        .transient()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_unit_printed_its_error_is_told() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let podman = lines(
            "container create 1\nError: crun: no such program\ncontainer remove 1\nnodejs-server",
        );
        assert_eq!(worth_telling(&podman), &podman[1..3]);
        let own = lines("error: the container sees /dev/vda\nhint: it starts anew");
        assert_eq!(worth_telling(&own), &own[..]);
        let plain = lines("1\n2\n3\n4\n5\n6");
        assert_eq!(worth_telling(&plain), &plain[1..]);
        assert!(worth_telling(&[]).is_empty());
    }
    use std::path::Path;
    use zbus::fdo;

    #[test]
    fn what_the_bus_itself_says_may_pass_is_tried_again() {
        let from_the_bus = |error: fdo::Error| bus_error("start a.service", error.into());
        assert!(from_the_bus(fdo::Error::NoReply("late".to_owned())).is_transient());
        assert!(from_the_bus(fdo::Error::ServiceUnknown("gone".to_owned())).is_transient());
        let refused = from_the_bus(fdo::Error::AccessDenied("no".to_owned()));
        assert!(!refused.is_transient());
        assert!(refused.message.contains("no (AccessDenied)"), "{refused}");
    }

    #[test]
    fn the_object_of_a_unit_has_its_name_escaped() {
        // The right-hand side is what `busctl tree org.freedesktop.systemd1` lists.
        for (name, path) in [
            ("dbus.service", "dbus_2eservice"),
            ("-.mount", "_2d_2emount"),
            (
                "mnt-data-shared_folder.mount",
                "mnt_2ddata_2dshared_5ffolder_2emount",
            ),
            (r"srv-a\x2db.mount", "srv_2da_5cx2db_2emount"),
            ("2d.service", "_32d_2eservice"),
        ] {
            assert_eq!(
                unit_path(name),
                format!("/org/freedesktop/systemd1/unit/{path}")
            );
        }
    }

    #[test]
    fn mount_units_are_named_as_systemd_escape_does() {
        // The right-hand side is the output of `systemd-escape --path --suffix=mount`.
        for (path, name) in [
            ("/mnt/data", "mnt-data.mount"),
            ("/mnt/data/shared_folder", "mnt-data-shared_folder.mount"),
            ("/srv/a-b", r"srv-a\x2db.mount"),
            ("/srv/a b", r"srv-a\x20b.mount"),
            ("/.hidden/x.y", r"\x2ehidden-x.y.mount"),
            ("/srv/공유", r"srv-\xea\xb3\xb5\xec\x9c\xa0.mount"),
        ] {
            assert_eq!(mount_unit_name(Path::new(path)), name);
        }
        assert_eq!(
            device_unit_name(Path::new("/dev/disk/by-uuid/12-ab")),
            r"dev-disk-by\x2duuid-12\x2dab.device"
        );
    }
}
