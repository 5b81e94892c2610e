//! The system bus, and what its errors mean.

use std::time::Duration;

use zbus::DBusError;

use crate::error::{Error, Result};

/// Where every guest has its system bus. The address in the environment is ignored: root does not
/// talk to whatever a variable names, and resolving a host name in an address would enter NSS.
const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// How long systemd or firewalld may take to answer: firewalld alone takes seconds on a slow VM.
const METHOD_TIMEOUT: Duration = Duration::from_secs(90);

/// A connection to the system bus.
pub async fn system_bus() -> Result<zbus::Connection> {
    let refused = |e: zbus::Error| {
        Error::new(format!("connect to the system bus: {e}"))
            .hint("wasagent needs a guest that runs systemd and D-Bus")
    };
    zbus::connection::Builder::address(SYSTEM_BUS)
        .method_timeout(METHOD_TIMEOUT)
        .build()
        .await
        .map_err(refused)
}

/// The name and the text of an error reply. zbus has its own variants for the names that the D-Bus
/// specification defines.
pub fn error_reply(error: &zbus::Error) -> Option<(String, String)> {
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

pub fn failed(doing: impl std::fmt::Display, error: zbus::Error) -> Error {
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

/// Errors of D-Bus (dbus-specification, "Standard error names") and of systemd that a service
/// returns while it is restarted or overloaded.
const PASSES_BY_ITSELF: [&str; 6] = [
    "NoReply",
    "Timeout",
    "TimedOut",
    "Disconnected",
    "ServiceUnknown",
    "LimitsExceeded",
];

/// A D-Bus service that does not answer now but may do so in a moment.
pub fn unavailable(doing: impl std::fmt::Display, words: impl std::fmt::Display) -> Error {
    Error::new(format!("{doing}: {words}"))
        .hint("the service did not answer on D-Bus: see systemctl --failed, and try again when it runs")
        .transient()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::fdo;

    #[test]
    fn what_the_bus_itself_says_may_pass_is_tried_again() {
        let from_the_bus = |error: fdo::Error| failed("start a.service", error.into());
        assert!(from_the_bus(fdo::Error::NoReply("late".to_owned())).is_transient());
        assert!(from_the_bus(fdo::Error::ServiceUnknown("gone".to_owned())).is_transient());
        let refused = from_the_bus(fdo::Error::AccessDenied("no".to_owned()));
        assert!(!refused.is_transient());
        assert!(refused.message.contains("no (AccessDenied)"), "{refused}");
    }
}
