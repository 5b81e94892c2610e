//! What else starts a container of the application's name by itself: at a boot, at a time, or now. With `--replace` it
//! would end the agent's container, and without it one of the two would not start.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::host::starters::{By, Starter, starters};
use crate::host::systemd::Start;
use crate::host::{Host, blocking};

/// Something that starts the container without being told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    pub file: PathBuf,
    pub by: By,
    /// Why the service starts; `None` for what is no service of the system.
    pub start: Option<Start>,
}

/// Looks for rivals. A service that nobody has enabled and that nothing triggers is none.
pub async fn observe(host: &Host, name: &str, own: Vec<String>) -> Result<Vec<Rival>> {
    let of_name = name.to_owned();
    let instances = host.systemd.instances().await?;
    let found = blocking(move || Ok(starters(&of_name, None, &own, &instances))).await?;
    let mut rivals = Vec::new();
    for Starter { file, by } in found {
        let start = match &by {
            By::ServiceOfRoot(_) | By::Table => None,
            // A template's instances are services of their own.
            By::Service(unit) if unit.contains("@.") => continue,
            By::Service(unit) => match host.systemd.starts_by_itself(unit).await? {
                None => continue,
                start => start,
            },
        };
        rivals.push(Rival { file, by, start });
    }
    Ok(rivals)
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
        let when = match (&self.by, &self.start) {
            (By::ServiceOfRoot(_), _) => "when root logs in".to_owned(),
            (_, None) => "by a timetable or at a boot".to_owned(),
            (_, Some(Start::AtBoot)) => "at every boot".to_owned(),
            (_, Some(Start::By(unit))) => format!("by {unit}"),
            (_, Some(Start::Now)) => "now".to_owned(),
        };
        let file = self.file.display();
        format!("{file} starts a container {name}, too, {when}")
    }

    fn way_out(&self) -> String {
        let file = self.file.display();
        let is_in = |directory: &str| self.file.starts_with(directory);
        let is_a = |ending: &str| self.file.extension().is_some_and(|kind| kind == ending);
        let unit = match &self.by {
            By::Table => return format!("take its line out of {file}"),
            By::Service(unit) => unit,
            // Its manager is not to be reached from every session of root's.
            By::ServiceOfRoot(unit) => {
                return format!("remove {file}, and if it runs: systemctl --user stop {unit}");
            }
        };
        let others = match &self.start {
            Some(Start::By(by)) => format!("{by} "),
            _ => String::new(),
        };
        if is_a("conf") {
            return format!("take its line out of {file}, and run: systemctl daemon-reload");
        }
        if is_a("container") {
            return format!(
                "remove {file}, and run: systemctl daemon-reload && systemctl stop {unit}"
            );
        }
        if is_in("/run/systemd/transient") {
            return format!("run: systemctl stop {others}{unit}");
        }
        if is_in("/usr") {
            return format!("run: systemctl mask --now {others}{unit}");
        }
        let stop = format!("run: systemctl disable --now {others}{unit}");
        if self.file.file_name() != Some(unit.as_ref()) {
            // A template makes other services, too.
            return stop;
        }
        format!("{stop}, and remove {file}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rival_comes_with_a_way_out_of_its_own() {
        let service = || By::Service("web.service".to_owned());
        let timer = || Start::By("web.timer".to_owned());
        for (file, by, start, says) in [
            (
                "/etc/systemd/system/web.service",
                service(),
                Some(timer()),
                "by web.timer; keep one of them: run: systemctl disable --now web.timer web.service, and remove /etc/",
            ),
            (
                "/usr/lib/systemd/system/web.service",
                service(),
                Some(Start::AtBoot),
                "at every boot; keep one of them: run: systemctl mask --now web.service",
            ),
            (
                "/etc/systemd/system/web.service.d/x.conf",
                service(),
                Some(Start::AtBoot),
                "take its line out of /etc/systemd/system/web.service.d/x.conf, and run: systemctl daemon-reload",
            ),
            (
                "/etc/systemd/system/web@.service",
                By::Service("web@a.service".to_owned()),
                Some(Start::AtBoot),
                "keep one of them: run: systemctl disable --now web@a.service;",
            ),
            (
                "/run/systemd/transient/web.service",
                service(),
                Some(Start::Now),
                "now; keep one of them: run: systemctl stop web.service",
            ),
            (
                "/root/.config/systemd/user/web.service",
                By::ServiceOfRoot("web.service".to_owned()),
                None,
                "when root logs in; keep one of them: remove /root/.config/systemd/user/web.service, and if",
            ),
            (
                "/etc/crontab",
                By::Table,
                None,
                "by a timetable or at a boot; keep one of them: take its line out of /etc/crontab",
            ),
        ] {
            let file = PathBuf::from(file);
            let note = Rival { file, by, start }.note("nodejs-server");
            assert!(format!("{note};").contains(says), "{note}");
        }
    }
}
