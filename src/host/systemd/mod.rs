//! systemd's manager over D-Bus (org.freedesktop.systemd1(5)): unit properties, jobs, enabling units.
//!
//! The file is long because it holds every question that the agent asks systemd, one short function each.

mod job;
pub mod journal;
mod logged;
mod unit_name;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::sync::OnceCell;
use zbus::Connection;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use self::logged::{printed, why_it_failed};
use self::unit_name::unit_path;
use crate::error::{Error, Result};
use crate::host::bus::{error_reply, failed};
use crate::host::permit::Permit;
use crate::host::until::{Answer, until};

pub use job::Job;
pub use logged::printed_by_container;
pub use unit_name::{device_unit_name, mount_unit_name};

/// How long a job may take that systemd does not end by itself.
const JOB_DEADLINE: Duration = Duration::from_secs(300);
/// The pause between two looks at a unit that is about to end.
const PAUSE: Duration = Duration::from_millis(50);

/// How much longer than systemd's own time limits a job is waited for: systemd is the one that gives
/// it up. It has to kill what is left, and to start what the unit requires.
const JOB_MARGIN: Duration = Duration::from_secs(120);

/// The commands of a service before and after its main one. The time limit holds for each of them
/// (`service_run_next_control()` in systemd's src/core/service.c).
const START_COMMANDS: [&str; 3] = ["ExecCondition", "ExecStartPre", "ExecStartPost"];
const STOP_COMMANDS: [&str; 2] = ["ExecStop", "ExecStopPost"];

/// What systemd lists of a unit, its name first.
type ListedUnit = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    async fn subscribe(&self) -> zbus::Result<()>;
    async fn reload(&self) -> zbus::Result<()>;
    async fn get_unit_file_state(&self, file: &str) -> zbus::Result<String>;
    async fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<ListedUnit>>;
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
    async fn unref_unit(&self, name: &str) -> zbus::Result<()>;
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

/// A unit as systemd sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitState {
    /// The unit's own name, even if the unit was asked for by an alias.
    pub id: String,
    /// `loaded`, `not-found`, `masked`, `bad-setting` …
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating` …
    pub active: String,
    /// `running`, `exited`, `auto-restart` …
    pub sub: String,
    /// `enabled`, `disabled`, `generated`, `masked`; empty if there is no file.
    pub file_state: String,
    /// The file that a generated unit comes from.
    pub source_path: String,
    /// The file that the unit was read from.
    pub fragment_path: String,
    /// Whether the unit's file changed since systemd read it.
    pub need_daemon_reload: bool,
    /// Whether a job for the unit waits or runs.
    pub has_job: bool,
    /// The drop-ins that systemd has read.
    pub drop_ins: Vec<String>,
    /// Identifies this run of the unit (systemd.exec(5), `$INVOCATION_ID`).
    pub invocation: Vec<u8>,
    /// When the unit became active, if it ever was.
    pub active_since: Option<SystemTime>,
    /// When the unit last changed its state; a reload counts as a change.
    pub state_changed: Option<SystemTime>,
}

impl UnitState {
    pub fn is_loaded(&self) -> bool {
        self.load == "loaded"
    }
    pub fn is_active(&self) -> bool {
        self.active == "active"
    }
    /// Refuses a unit that systemd is told not to start, and says what lets it start.
    pub fn refuse_masked(&self, name: &str) -> Result<()> {
        if self.load != "masked" {
            return Ok(());
        }
        Err(
            Error::new(format!("{name} is masked: systemd starts it in no case"))
                .hint(format!("run: {}", self.unmask(name))),
        )
    }
    /// The command that takes a mask away. `systemctl mask --runtime` puts it below /run.
    pub fn unmask(&self, name: &str) -> String {
        let runtime =
            self.file_state == "masked-runtime" || self.fragment_path.starts_with("/run/");
        let option = if runtime { "--runtime " } else { "" };
        format!("systemctl unmask {option}{name}")
    }
    /// Whether the unit's programs already run. A unit that waits for a restart is also `activating`.
    pub fn is_being_started(&self) -> bool {
        self.active == "activating" && !self.sub.starts_with("auto-restart")
    }
    /// Whether systemd read the unit from this file, directly or through a generator.
    pub fn is_from(&self, file: &std::path::Path) -> bool {
        [&self.source_path, &self.fragment_path]
            .into_iter()
            .any(|path| std::path::Path::new(path) == file)
    }
}

/// A property of a transient unit, with systemd's name for it on the bus.
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

/// A unit without a file, which disappears when it ends.
#[derive(Debug)]
pub struct Transient {
    pub name: &'static str,
    pub properties: Vec<Property>,
    /// After this time the unit is stopped and no longer waited for.
    pub deadline: Duration,
}

/// Why a unit starts without being told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Something of the boot wants it.
    AtBoot,
    /// This timer, path or socket triggers it.
    By(String),
    /// It runs already.
    Now,
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
            .map_err(|e| failed("reach systemd", e))?;
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
            .map_err(|e| failed("reach systemd", e))?;
        Ok(())
    }

    /// The unit's state; a unit that does not exist has `load == "not-found"`.
    pub async fn unit(&self, name: &str) -> Result<UnitState> {
        let doing = || format!("read the state of {name}");
        // systemd loads a unit when it is asked for the object of that unit, as systemctl(1) does.
        // So one call is enough.
        let properties = self.properties(name).await;
        let properties = properties.map_err(|e| failed(doing(), e))?;
        let all = properties
            .get_all("org.freedesktop.systemd1.Unit")
            .await
            .map_err(|e| failed(doing(), e))?;
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

    /// Why a unit starts without being told to, if it does.
    pub async fn starts_by_itself(&self, name: &str) -> Result<Option<Start>> {
        let doing = || format!("read what starts {name}");
        let properties = self
            .properties(name)
            .await
            .map_err(|e| failed(doing(), e))?;
        let all = properties
            .get_all("org.freedesktop.systemd1.Unit")
            .await
            .map_err(|e| failed(doing(), e))?;
        let units = |key: &str| -> Vec<String> {
            let value = all.get(key).and_then(|v| v.try_clone().ok());
            value.and_then(|v| v.try_into().ok()).unwrap_or_default()
        };
        let active = all
            .get("ActiveState")
            .and_then(|v| <&str>::try_from(v).ok());
        for by in units("TriggeredBy") {
            if self.is_in_use(&by).await? {
                return Ok(Some(Start::By(by)));
            }
        }
        let wanted = ["WantedBy", "RequiredBy", "UpheldBy"]
            .into_iter()
            .flat_map(units);
        if wanted.count() > 0 {
            return Ok(Some(Start::AtBoot));
        }
        if matches!(active, Some("active" | "activating" | "reloading")) {
            return Ok(Some(Start::Now));
        }
        // A link that systemd has not read yet.
        let is_enabled = matches!(
            self.file_state(name).await?.as_str(),
            "enabled" | "enabled-runtime"
        );
        Ok(is_enabled.then_some(Start::AtBoot))
    }

    /// Whether a timer, path or socket triggers something now or after a boot.
    async fn is_in_use(&self, trigger: &str) -> Result<bool> {
        let state = self.unit(trigger).await?;
        Ok(state.is_active() || state.file_state.starts_with("enabled"))
    }

    /// The services made of templates that are loaded: `x@y.service`.
    pub async fn instances(&self) -> Result<Vec<String>> {
        let listed = self
            .manager
            .list_units_by_patterns(&[], &["*@*.service"])
            .await
            .map_err(|e| failed("list the services made of templates", e))?;
        Ok(listed.into_iter().map(|unit| unit.0).collect())
    }

    async fn properties(&self, unit: &str) -> zbus::Result<PropertiesProxy<'_>> {
        PropertiesProxy::builder(&self.connection)
            .path(unit_path(unit))
            .build()
            .await
    }

    /// How often systemd has restarted a service by itself since somebody started it: `NRestarts`.
    pub async fn restarts(&self, service: &str) -> Result<u32> {
        let restarts = self.service_property(service, "NRestarts").await;
        restarts
            .and_then(u32::try_from)
            .map_err(|e| failed(format!("read the restarts of {service}"), e))
    }

    /// A service's own status text (`STATUS=` of sd_notify(3)).
    pub async fn status_text(&self, service: &str) -> Result<String> {
        let text = self.service_property(service, "StatusText").await;
        text.and_then(String::try_from)
            .map_err(|e| failed(format!("read the status of {service}"), e))
    }

    async fn service_property(&self, service: &str, name: &str) -> zbus::Result<OwnedVariant> {
        let properties = self.properties(service).await?;
        let interface = "org.freedesktop.systemd1.Service";
        properties.get(interface, name).await
    }

    /// Whether a unit is enabled according to its files now. The unit's property is as old as the last
    /// reload: if a run is killed between disabling a unit and the reload, the property is wrong.
    pub async fn file_state(&self, id: &str) -> Result<String> {
        match self.manager.get_unit_file_state(id).await {
            Ok(state) => Ok(state),
            // The unit has no file: sd-bus-errors(3) maps ENOENT to this name.
            Err(error) => match error_reply(&error) {
                Some((name, _)) if name == "org.freedesktop.DBus.Error.FileNotFound" => {
                    Ok(String::new())
                }
                _ => Err(failed(format!("read the state of {id}'s file"), error)),
            },
        }
    }

    /// Makes systemd read its unit files again and run its generators.
    pub async fn daemon_reload(&self, _permit: &Permit) -> Result<()> {
        self.manager
            .reload()
            .await
            .map_err(|e| failed("make systemd read its unit files", e))
    }

    /// Makes a unit start at every boot. systemd notices after the next [`Self::daemon_reload`].
    pub async fn enable(&self, _permit: &Permit, name: &str) -> Result<()> {
        self.manager
            .enable_unit_files(&[name], false, false)
            .await
            .map(drop)
            .map_err(|e| failed(format!("enable {name}"), e))
    }

    /// Makes a unit no longer start at boot. systemd notices after the next [`Self::daemon_reload`].
    pub async fn disable(&self, _permit: &Permit, name: &str) -> Result<()> {
        self.manager
            .disable_unit_files(&[name], false)
            .await
            .map(drop)
            .map_err(|e| failed(format!("disable {name}"), e))
    }

    /// Runs a job and waits for its end. A failed job is an error with the last lines of the
    /// unit's journal.
    pub async fn job(&self, _permit: &Permit, job: Job, unit: &str) -> Result<()> {
        let doing = format!("{job} {unit}");
        let begun = SystemTime::now();
        // Without this, systemd may refuse to start a unit that failed too often before.
        let _ = self.manager.reset_failed_unit(unit).await;
        let begin = async {
            match job {
                Job::Start => self.manager.start_unit(unit, "replace").await,
                Job::Stop => self.manager.stop_unit(unit, "replace").await,
                Job::Restart => self.manager.restart_unit(unit, "replace").await,
                Job::ReloadOrRestart => self.manager.reload_or_restart_unit(unit, "replace").await,
            }
        };
        let deadline = self.longest_job(unit).await;
        let result = self.result_of(&doing, unit, deadline, begin).await?;
        if result == "done" {
            if job == Job::Stop {
                // The exit of a unit that was told to stop should not show as failed for ever.
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

    /// How long a job of the unit is waited for: longer than systemd itself lets it take.
    async fn longest_job(&self, unit: &str) -> Duration {
        if !unit.ends_with(".service") {
            return JOB_DEADLINE;
        }
        let asked = async {
            let properties = self.properties(unit).await?;
            properties.get_all("org.freedesktop.systemd1.Service").await
        };
        let all = asked.await.unwrap_or_default();
        let limit = |key: &str| all.get(key).and_then(|v| u64::try_from(v).ok());
        let count = |keys: &[&str]| -> usize {
            let lists = keys.iter().filter_map(|key| all.get(*key));
            lists.map(commands).sum()
        };
        longest(
            (limit("TimeoutStartUSec"), count(&START_COMMANDS) + 1),
            (limit("TimeoutStopUSec"), count(&STOP_COMMANDS) + 1),
        )
    }

    /// Runs a transient unit of `Type=oneshot` until none of its processes is left. If it fails, the
    /// error has the last lines that this run of it printed.
    pub async fn run_transient(&self, _permit: &Permit, unit: &Transient) -> Result<()> {
        let doing = format!("run {}", unit.name);
        let begin = async {
            // Without it, systemd forgets the unit before it has told how the unit ended.
            let keep = Property::new("AddRef", true);
            let properties: Vec<(&str, Variant<'_>)> = unit
                .properties
                .iter()
                .chain([&keep])
                .map(|property| Ok((property.name, property.value.try_clone()?)))
                .collect::<zbus::Result<_>>()?;
            self.manager
                .start_transient_unit(unit.name, "fail", &properties, &[])
                .await
        };
        let result = self
            .result_of(&doing, unit.name, unit.deadline, begin)
            .await;
        if result.is_err() {
            let _ = self.manager.stop_unit(unit.name, "replace").await;
        }
        let ended = match result {
            Ok(result) if result == "done" => self.all_ended(unit.name).await.map(drop),
            Ok(_) => self.why_transient_failed(unit.name).await.and_then(|why| {
                let hint = format!("see journalctl -u {}", unit.name);
                Err(Error::new(format!("{doing}: {why}")).hint(hint))
            }),
            Err(error) => Err(error),
        };
        let _ = self.manager.unref_unit(unit.name).await;
        ended
    }

    /// The state of a unit whose processes have all ended. The job of a oneshot service ends with its
    /// first process, and whatever that left running is stopped after it.
    async fn all_ended(&self, unit: &str) -> Result<UnitState> {
        let ended = until(PAUSE, JOB_DEADLINE, || async {
            let state = self.unit(unit).await?;
            Ok::<_, Error>(match state.active.as_str() {
                "inactive" | "failed" => Answer::Settled(state),
                _ => Answer::NotYet(()),
            })
        });
        ended.await?.settled().ok_or_else(|| {
            Error::new(format!("processes of {unit} do not end"))
                .hint(format!("see systemctl status {unit}"))
        })
    }

    /// In words, with the last lines that it printed.
    async fn why_transient_failed(&self, unit: &str) -> Result<String> {
        let state = self.all_ended(unit).await?;
        let result = self.service_property(unit, "Result").await;
        let result = result.and_then(String::try_from).unwrap_or_default();
        let why = match result.as_str() {
            "timeout" => "it took too long, and was stopped",
            "oom-kill" => "it needed more memory than it may have, and was killed",
            _ => "it failed",
        };
        let words = printed(&state.invocation).await;
        Ok(format!("{why}{words}"))
    }

    /// Begins a job, waits for its end, and returns systemd's result.
    async fn result_of(
        &self,
        doing: &str,
        unit: &str,
        deadline: Duration,
        begin: impl Future<Output = zbus::Result<OwnedObjectPath>>,
    ) -> Result<String> {
        self.subscribe().await?;
        // The signal match is set up before the call: a job may end before the call's answer is read.
        let mut removed = self
            .manager
            .receive_job_removed()
            .await
            .map_err(|e| failed(doing, e))?;
        let path = begin.await.map_err(|e| failed(doing, e))?;
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

/// The number of commands in a property such as `ExecStartPre`.
fn commands(property: &OwnedVariant) -> usize {
    match &**property {
        Variant::Array(commands) => commands.len(),
        _ => 0,
    }
}

/// The longest time of a restart, by the time limit (in microseconds) and the number of commands of
/// the start and of the stop.
fn longest(start: (Option<u64>, usize), stop: (Option<u64>, usize)) -> Duration {
    let phase = |(limit, commands): (Option<u64>, usize)| match limit {
        // `infinity`
        None | Some(u64::MAX) => Duration::ZERO,
        Some(limit) => {
            Duration::from_micros(limit).saturating_mul(u32::try_from(commands).unwrap_or(u32::MAX))
        }
    };
    JOB_DEADLINE.max(
        phase(start)
            .saturating_add(phase(stop))
            .saturating_add(JOB_MARGIN),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_waited_for_longer_than_systemd_lets_it_take() {
        let seconds = |seconds: u64| Some(seconds * 1_000_000);
        // A container's unit: back-off, findmnt, start-lock, podman, sees-share; podman rm twice.
        let container = longest((seconds(300), 5), (seconds(90), 3));
        assert_eq!(
            container,
            Duration::from_secs(5 * 300 + 3 * 90) + JOB_MARGIN
        );
        assert_eq!(longest((seconds(1), 1), (seconds(1), 1)), JOB_DEADLINE);
        assert_eq!(longest((Some(u64::MAX), 9), (None, 1)), JOB_DEADLINE);
        assert!(longest((Some(u64::MAX - 1), 9), (None, 1)) > JOB_DEADLINE);
    }

    #[test]
    fn a_mask_comes_with_the_command_that_takes_it_away() {
        let masked = |file_state: &str| UnitState {
            load: "masked".to_owned(),
            file_state: file_state.to_owned(),
            ..UnitState::default()
        };
        for (state, command) in [
            ("masked", "run: systemctl unmask smbd.service"),
            (
                "masked-runtime",
                "run: systemctl unmask --runtime smbd.service",
            ),
        ] {
            let error = masked(state).refuse_masked("smbd.service").unwrap_err();
            assert_eq!(error.hint.as_deref(), Some(command));
        }
        assert_eq!(UnitState::default().refuse_masked("x.service"), Ok(()));
    }
}
