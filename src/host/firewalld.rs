//! firewalld over D-Bus (firewalld.dbus(5)). Its runtime and its permanent settings are two states;
//! both are read and set here. `reload` is never called: it drops rules that others added at run
//! time.
//!
//! The file is long because firewalld has each question twice, for the runtime and for the permanent settings.

pub mod rich_rule;
mod table;
pub mod zones;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt, select};
use serde::{Deserialize, Serialize};
use zbus::Connection;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::bus::{error_reply, unavailable};
use super::permit::Permit;
use super::systemd::UnitState;
use super::{Answer, blocking, fs, until};
use crate::error::{Error, Result};

const BUS_NAME: &str = "org.fedoraproject.FirewallD1";

/// The unit that runs firewalld.
pub const UNIT: &str = "firewalld.service";

/// How long a firewalld that starts is asked for its state, and the pause between two questions.
const LONGEST_START: Duration = Duration::from_secs(60);
const STATE_PAUSE: Duration = Duration::from_millis(200);

/// Where firewalld keeps the permanent settings of zones that differ from what it ships.
const ZONES: &str = "/etc/firewalld/zones";

#[zbus::proxy(
    interface = "org.fedoraproject.FirewallD1",
    default_service = "org.fedoraproject.FirewallD1",
    default_path = "/org/fedoraproject/FirewallD1"
)]
trait Firewalld1 {
    #[zbus(name = "getDefaultZone")]
    async fn get_default_zone(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"), name = "state")]
    fn state(&self) -> zbus::Result<String>;
    #[zbus(signal, name = "Reloaded")]
    async fn reloaded(&self) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.fedoraproject.FirewallD1.zone",
    default_service = "org.fedoraproject.FirewallD1",
    default_path = "/org/fedoraproject/FirewallD1"
)]
trait RuntimeZone {
    #[zbus(name = "getZones")]
    async fn get_zones(&self) -> zbus::Result<Vec<String>>;
}

#[zbus::proxy(
    interface = "org.fedoraproject.FirewallD1.config",
    default_service = "org.fedoraproject.FirewallD1",
    default_path = "/org/fedoraproject/FirewallD1/config"
)]
trait Config {
    #[zbus(name = "getZoneByName")]
    async fn get_zone_by_name(&self, zone: &str) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(
    interface = "org.fedoraproject.FirewallD1.config.zone",
    default_service = "org.fedoraproject.FirewallD1"
)]
trait ConfigZone {
    #[zbus(name = "getSettings2")]
    async fn get_settings2(&self) -> zbus::Result<HashMap<String, OwnedVariant>>;
}

/// One opening in a zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opening {
    /// A port for everybody: `5000/tcp`.
    Port { port: u16, protocol: String },
    /// A rich rule, in the language of firewalld.richlanguage(5).
    RichRule(String),
}

impl Opening {
    /// The method of firewalld's zones that does `verb` to this opening.
    fn method(&self, verb: &str) -> String {
        match self {
            Self::Port { .. } => format!("{verb}Port"),
            Self::RichRule(_) => format!("{verb}RichRule"),
        }
    }

    /// An opening of one port for one network only.
    pub fn for_source(network: ipnet::IpNet, port: u16, protocol: &str) -> Self {
        let family = match network {
            ipnet::IpNet::V4(_) => "ipv4",
            ipnet::IpNet::V6(_) => "ipv6",
        };
        // Written as firewalld prints it, so that a query compares equal.
        Self::RichRule(format!(
            r#"rule family="{family}" source address="{network}" port port="{port}" protocol="{protocol}" accept"#
        ))
    }
}

impl std::fmt::Display for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port { port, protocol } => write!(f, "{port}/{protocol}"),
            Self::RichRule(rule) => f.write_str(rule),
        }
    }
}

/// The two states of firewalld's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Settings {
    Runtime,
    Permanent,
}

impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Runtime => "runtime",
            Self::Permanent => "permanent",
        })
    }
}

/// A zone's settings, as texts that are equal when the settings are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneSettings {
    pub text: String,
    /// The text of version 0.1.0, which older records have a digest of.
    pub older_text: String,
}

impl ZoneSettings {
    fn of(settings: &HashMap<String, OwnedVariant>) -> Self {
        let sorted: BTreeMap<&String, &OwnedVariant> = settings.iter().collect();
        let mut text = String::new();
        for (key, value) in &sorted {
            text.push_str(key);
            text.push('=');
            write_value(value, &mut text);
            text.push('\n');
        }
        let debug: BTreeMap<_, _> = sorted
            .iter()
            .map(|(key, value)| (key, format!("{value:?}")))
            .collect();
        Self {
            text,
            older_text: format!("{debug:?}"),
        }
    }
}

/// Writes a D-Bus value by its data alone. A string has its length before it, so that no two values
/// read alike.
fn write_value(value: &Variant<'_>, text: &mut String) {
    let all = |values: &[Variant<'_>], text: &mut String| {
        for value in values {
            write_value(value, text);
            text.push(',');
        }
    };
    match value {
        Variant::Bool(value) => text.push_str(&value.to_string()),
        Variant::U8(value) => text.push_str(&value.to_string()),
        Variant::I16(value) => text.push_str(&value.to_string()),
        Variant::U16(value) => text.push_str(&value.to_string()),
        Variant::I32(value) => text.push_str(&value.to_string()),
        Variant::U32(value) => text.push_str(&value.to_string()),
        Variant::I64(value) => text.push_str(&value.to_string()),
        Variant::U64(value) => text.push_str(&value.to_string()),
        Variant::F64(value) => text.push_str(&value.to_string()),
        Variant::Str(value) => text.push_str(&format!("{}:{}", value.len(), value.as_str())),
        Variant::Signature(value) => text.push_str(&value.to_string()),
        Variant::ObjectPath(value) => text.push_str(value.as_str()),
        Variant::Variant(value) => write_value(value, text),
        Variant::Array(values) => {
            text.push('[');
            all(values.inner(), text);
            text.push(']');
        }
        Variant::Structure(values) => {
            text.push('(');
            all(values.fields(), text);
            text.push(')');
        }
        Variant::Dict(entries) => {
            let mut lines: Vec<String> = entries
                .iter()
                .map(|(key, value)| {
                    let mut line = String::new();
                    write_value(key, &mut line);
                    line.push('=');
                    write_value(value, &mut line);
                    line
                })
                .collect();
            lines.sort();
            text.push_str(&format!("{{{}}}", lines.join(",")));
        }
        // firewalld has none.
        Variant::Fd(_) => text.push_str("descriptor"),
    }
}

/// A connection to a running firewalld.
#[derive(Clone)]
pub struct Firewalld {
    connection: Connection,
}

impl Firewalld {
    /// `None` where no firewalld answers on the bus. This does not start firewalld: a firewall that
    /// an operator stopped stays stopped.
    pub async fn connect(connection: &Connection) -> Result<Option<Self>> {
        let bus = zbus::fdo::DBusProxy::new(connection)
            .await
            .map_err(|e| Error::new(format!("reach the system bus: {e}")))?;
        let name = zbus::names::BusName::try_from(BUS_NAME)
            .map_err(|e| Error::new(format!("reach firewalld: {e}")))?;
        let runs = bus
            .name_has_owner(name)
            .await
            .map_err(|e| Error::new(format!("reach the system bus: {e}")))?;
        Ok(runs.then(|| Self {
            connection: connection.clone(),
        }))
    }

    /// The zone that firewalld uses where none is named.
    pub async fn default_zone(&self) -> Result<String> {
        Firewalld1Proxy::new(&self.connection)
            .await
            .map_err(|e| failed("reach firewalld", e))?
            .get_default_zone()
            .await
            .map_err(|e| failed("ask firewalld for its default zone", e))
    }

    /// Whether firewalld started with settings that it cannot read. It then runs with the settings
    /// that it ships, and refuses every change until it is restarted.
    pub async fn has_failed(&self) -> Result<bool> {
        let state = Firewalld1Proxy::new(&self.connection)
            .await
            .map_err(|e| failed("reach firewalld", e))?
            .state()
            .await
            .map_err(|e| failed("ask firewalld for its state", e))?;
        Ok(state == "FAILED")
    }

    /// The names of the zones that exist.
    pub async fn zones(&self) -> Result<Vec<String>> {
        self.runtime()
            .await?
            .get_zones()
            .await
            .map_err(|e| failed("ask firewalld for its zones", e))
    }

    /// Whether `opening` is there, in one of the two settings.
    pub async fn has(&self, settings: Settings, zone: &str, opening: &Opening) -> Result<bool> {
        let doing = || format!("look for {opening} in zone {zone}");
        let answer = self.call("query", settings, zone, opening).await?;
        let answer = answer.map_err(|e| failed(doing(), e))?;
        answer.body().deserialize().map_err(|e| failed(doing(), e))
    }

    /// Adds `opening` to one of the two settings. Succeeds if it is there already.
    pub async fn add(
        &self,
        _permit: &Permit,
        settings: Settings,
        zone: &str,
        opening: &Opening,
    ) -> Result<()> {
        let words = ("add", "open", "ALREADY_ENABLED");
        self.change(words, settings, zone, opening).await
    }

    /// Removes `opening` from one of the two settings. Succeeds if it is gone already.
    pub async fn remove(
        &self,
        _permit: &Permit,
        settings: Settings,
        zone: &str,
        opening: &Opening,
    ) -> Result<()> {
        let words = ("remove", "close", "NOT_ENABLED");
        self.change(words, settings, zone, opening).await
    }

    async fn change(
        &self,
        (verb, doing, done_already): (&str, &str, &str),
        settings: Settings,
        zone: &str,
        opening: &Opening,
    ) -> Result<()> {
        match self.call(verb, settings, zone, opening).await? {
            Err(error) if kind(&error).as_deref() == Some(done_already) => Ok(()),
            other => other
                .map(drop)
                .map_err(|e| failed(format!("{doing} {opening} in zone {zone}"), e)),
        }?;
        sync_zone(settings, zone).await
    }

    /// Calls `queryPort`, `addRichRule` and their like for a zone in one of the two settings.
    async fn call(
        &self,
        verb: &str,
        settings: Settings,
        zone: &str,
        opening: &Opening,
    ) -> Result<zbus::Result<zbus::Message>> {
        // A runtime opening may have a timeout; 0 is none.
        const FOR_EVER: i32 = 0;
        if settings == Settings::Permanent {
            return Ok(self.permanent_zone(zone).await?.call(verb, opening).await);
        }
        let runtime = self.runtime().await?;
        let proxy = runtime.inner();
        let method = opening.method(verb);
        Ok(match (opening, verb) {
            (Opening::Port { port, protocol }, "add") => {
                let port = (zone, port.to_string(), protocol, FOR_EVER);
                proxy.call_method(method, &port).await
            }
            (Opening::Port { port, protocol }, _) => {
                let port = (zone, port.to_string(), protocol);
                proxy.call_method(method, &port).await
            }
            (Opening::RichRule(rule), "add") => {
                proxy.call_method(method, &(zone, rule, FOR_EVER)).await
            }
            (Opening::RichRule(rule), _) => proxy.call_method(method, &(zone, rule)).await,
        })
    }

    /// The permanent settings of a zone, to ask for several openings. Do not keep the value:
    /// firewalld renumbers its zones when it reads its settings again.
    pub async fn permanent_zone(&self, zone: &str) -> Result<PermanentZone> {
        Ok(PermanentZone {
            name: zone.to_owned(),
            proxy: self.permanent(zone).await?,
        })
    }

    /// A zone's permanent settings.
    pub async fn permanent_settings(&self, zone: &str) -> Result<ZoneSettings> {
        let settings = self
            .permanent(zone)
            .await?
            .get_settings2()
            .await
            .map_err(|e| failed(format!("read the permanent settings of zone {zone}"), e))?;
        Ok(ZoneSettings::of(&settings))
    }

    async fn runtime(&self) -> Result<RuntimeZoneProxy<'static>> {
        RuntimeZoneProxy::new(&self.connection)
            .await
            .map_err(|e| failed("reach firewalld", e))
    }

    async fn permanent(&self, zone: &str) -> Result<ConfigZoneProxy<'static>> {
        let path = ConfigProxy::new(&self.connection)
            .await
            .map_err(|e| failed("reach firewalld", e))?
            .get_zone_by_name(zone)
            .await
            .map_err(|e| failed(format!("find zone {zone} in the permanent settings"), e))?;
        ConfigZoneProxy::builder(&self.connection)
            .path(path)
            .build()
            .await
            .map_err(|e| failed("reach firewalld", e))
    }
}

/// Why no firewalld answers on the bus, with the commands that start one.
pub fn why_it_does_not_run(unit: &UnitState) -> Error {
    const START: &str = "systemctl enable --now firewalld";
    if unit.load == "masked" {
        return Error::new("firewalld does not run: its unit is masked")
            .hint(format!("{} && {START}", unit.unmask("firewalld")));
    }
    match unit.active.as_str() {
        "failed" => Error::new("firewalld does not run: it has failed")
            .hint(format!("{START} || journalctl -u firewalld -n 20")),
        "activating" => Error::new("firewalld does not run yet: it is being started").transient(),
        _ => Error::new("firewalld does not run").hint(START),
    }
}

/// The file in which firewalld keeps a zone whose permanent settings differ from what it ships.
pub fn zone_file(zone: &str) -> PathBuf {
    PathBuf::from(ZONES).join(format!("{zone}.xml"))
}

/// The files that firewalld writes for a zone's permanent settings: the zone, and a copy from
/// before the last change.
pub fn zone_files(zone: &str) -> [PathBuf; 2] {
    let file = zone_file(zone);
    let copy = file.with_extension("xml.old");
    [file, copy]
}

/// Syncs what firewalld has just written. firewalld truncates the zone's file, writes it anew and
/// does not sync it (`zone_writer` in firewall/core/io/zone.py). A power cut within the next half
/// minute would leave the file empty, and every rule of the operator's in it would be lost.
async fn sync_zone(settings: Settings, zone: &str) -> Result<()> {
    if settings == Settings::Runtime {
        return Ok(());
    }
    let files = zone_files(zone);
    blocking(move || files.iter().try_for_each(|file| fs::sync_file(file))).await
}

/// A zone's permanent settings.
pub struct PermanentZone {
    name: String,
    proxy: ConfigZoneProxy<'static>,
}

impl PermanentZone {
    /// Whether `opening` is there.
    pub async fn has(&self, opening: &Opening) -> Result<bool> {
        let doing = || format!("look for {opening} in zone {}", self.name);
        let answer = self.call("query", opening).await;
        let answer = answer.map_err(|e| failed(doing(), e))?;
        answer.body().deserialize().map_err(|e| failed(doing(), e))
    }

    async fn call(&self, verb: &str, opening: &Opening) -> zbus::Result<zbus::Message> {
        let proxy = self.proxy.inner();
        let method = opening.method(verb);
        match opening {
            Opening::Port { port, protocol } => {
                proxy
                    .call_method(method, &(port.to_string(), protocol))
                    .await
            }
            Opening::RichRule(rule) => proxy.call_method(method, &(rule,)).await,
        }
    }
}

/// The moments at which firewalld has read its settings again or dropped them: it was reloaded,
/// restarted or stopped. Rules that others added at run time are gone then.
pub struct Reloads {
    firewalld: Firewalld1Proxy<'static>,
    /// Whether firewalld runs at that moment.
    moments: Pin<Box<dyn Stream<Item = bool> + Send>>,
}

impl Reloads {
    pub async fn watch(connection: &Connection) -> Result<Self> {
        let failed = |e| failed("watch firewalld", e);
        let firewalld = Firewalld1Proxy::new(connection).await.map_err(failed)?;
        let reloaded = firewalld.receive_reloaded().await.map_err(failed)?;
        let owners = firewalld
            .inner()
            .receive_owner_changed()
            .await
            .map_err(failed)?;
        let runs = owners.map(|owner| owner.is_some());
        Ok(Self {
            firewalld,
            moments: Box::pin(select(reloaded.map(|_| true), runs)),
        })
    }

    /// Waits for the next moment and then, if firewalld still runs, until its settings are in
    /// force.
    ///
    /// # Errors
    /// When the connection to the bus is lost.
    pub async fn next(&mut self) -> Result<()> {
        match self.moments.next().await {
            Some(true) => {}
            // firewalld removes its rules before it releases its bus name.
            Some(false) => return Ok(()),
            None => {
                return Err(Error::new(
                    "watch firewalld: the connection to the bus was lost",
                ));
            }
        }
        // firewalld takes its bus name before it sets its rules.
        let firewalld = &self.firewalld;
        let runs = || async {
            let state = firewalld.state().await;
            Ok(Answer::is(state.is_ok_and(|state| state == "RUNNING")))
        };
        until(STATE_PAUSE, LONGEST_START, runs).await.map(drop)
    }
}

/// Every firewalld error has one D-Bus name; its kind is the text before the colon.
fn kind(error: &zbus::Error) -> Option<String> {
    match error {
        zbus::Error::MethodError(_, Some(words), _) => {
            Some(words.split(':').next().unwrap_or_default().to_owned())
        }
        _ => None,
    }
}

fn failed(doing: impl std::fmt::Display, error: zbus::Error) -> Error {
    match (error_reply(&error), &error) {
        // firewalld's own errors share one name; any other name comes from the bus.
        (Some((name, words)), _) if name.starts_with(BUS_NAME) => {
            Error::new(format!("{doing}: firewalld says {words}"))
                .hint("see journalctl -u firewalld")
        }
        (Some(_), _) | (None, zbus::Error::InputOutput(_)) => unavailable(doing, error),
        _ => Error::new(format!("{doing}: {error}")).hint("see journalctl -u firewalld"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firewalld_that_does_not_run_comes_with_what_starts_it() {
        let unit = |load: &str, active: &str| UnitState {
            load: load.to_owned(),
            active: active.to_owned(),
            file_state: load.to_owned(),
            ..UnitState::default()
        };
        for (unit, said, command) in [
            (
                unit("masked", "inactive"),
                "masked",
                "systemctl unmask firewalld && systemctl enable --now firewalld",
            ),
            (
                unit("loaded", "failed"),
                "failed",
                "journalctl -u firewalld",
            ),
            (
                unit("loaded", "inactive"),
                "does not run",
                "systemctl enable --now firewalld",
            ),
        ] {
            let error = why_it_does_not_run(&unit);
            assert!(error.message.contains(said), "{error}");
            assert!(error.hint.unwrap().contains(command), "{said}");
        }
        assert!(why_it_does_not_run(&unit("loaded", "activating")).is_transient());
    }

    #[test]
    fn a_zones_text_is_its_data_and_nothing_else() {
        let of = |pairs: &[(&str, Variant<'static>)]| {
            let settings = pairs.iter().map(|(key, value)| {
                let value = value.try_clone().unwrap();
                ((*key).to_owned(), OwnedVariant::try_from(value).unwrap())
            });
            ZoneSettings::of(&settings.collect()).text
        };
        let ports = Variant::from(vec![("445", "tcp"), ("80", "tcp")]);
        let zone = of(&[
            ("target", "default".into()),
            ("ports", ports),
            ("forward", true.into()),
        ]);
        assert_eq!(
            zone,
            "forward=true\nports=[(3:445,3:tcp,),(2:80,3:tcp,),]\ntarget=7:default\n"
        );
        // A value that looks like two is none of them.
        let one = of(&[("services", vec!["a,1:b"].into())]);
        let two = of(&[("services", vec!["a", "b"].into())]);
        assert_ne!(one, two);
    }

    #[test]
    fn a_rich_rule_reads_as_firewalld_prints_it() {
        let network = "192.168.2.0/24".parse().unwrap();
        assert_eq!(
            Opening::for_source(network, 445, "tcp").to_string(),
            r#"rule family="ipv4" source address="192.168.2.0/24" port port="445" protocol="tcp" accept"#
        );
    }
}
