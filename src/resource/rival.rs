//! What else starts a container of the application's name by itself: at a boot, at a time, or now. With `--replace` it
//! would end the agent's container, and without it one of the two would not start.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::host::starters::{Starter, starters};
use crate::host::systemd::Start;
use crate::host::{Host, blocking};

/// Something that starts the container without being told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    pub file: PathBuf,
    /// Its service; `None` for a table of cron(8) or a script of the boot.
    pub unit: Option<String>,
    /// `at every boot`, `by web.timer`, `now`.
    pub when: String,
}

/// Looks for rivals. A service that nobody has enabled and that nothing triggers is none.
pub async fn observe(host: &Host, name: &str, own: Vec<String>) -> Result<Vec<Rival>> {
    let of_name = name.to_owned();
    let found = blocking(move || Ok(starters(&of_name, None, &own))).await?;
    let mut rivals = Vec::new();
    for Starter { file, unit } in found {
        let when = match &unit {
            None => Some("by a timetable or at a boot".to_owned()),
            // A template's instances are services of their own.
            Some(unit) if unit.contains("@.") => None,
            Some(unit) => host.systemd.starts_by_itself(unit).await?.map(words),
        };
        rivals.extend(when.map(|when| Rival { file, unit, when }));
    }
    Ok(rivals)
}

fn words(start: Start) -> String {
    match start {
        Start::AtBoot => "at every boot".to_owned(),
        Start::By(unit) => format!("by {unit}"),
        Start::Now => "now".to_owned(),
    }
}

impl Rival {
    pub fn refusal(&self, name: &str) -> Error {
        Error::new(self.words(name)).hint(format!(
            "keep one of them: {}, and apply again; or name this container otherwise: was.container.name",
            self.way_out()
        ))
    }

    /// For a container that serves in spite of it.
    pub fn note(&self, name: &str) -> String {
        format!("{}; keep one of them: {}", self.words(name), self.way_out())
    }

    fn words(&self, name: &str) -> String {
        format!(
            "{} starts a container {name}, too, {}",
            self.file.display(),
            self.when
        )
    }

    fn way_out(&self) -> String {
        let file = self.file.display();
        match (&self.unit, self.when.strip_prefix("by ")) {
            (None, _) => format!("take its line out of {file}"),
            (Some(unit), Some(by)) => format!("systemctl disable --now {by} {unit}, remove {file}"),
            (Some(unit), None)
                if self
                    .file
                    .extension()
                    .is_some_and(|kind| kind == "container") =>
            {
                format!("systemctl stop {unit}, remove {file}, systemctl daemon-reload")
            }
            (Some(unit), None) => format!("systemctl disable --now {unit}, remove {file}"),
        }
    }
}
