//! The application's container as a systemd service. The service comes from a `.container` file where podman's
//! generator reads those (Quadlet), or from a plain unit where podman is older than 4.4. Both give a unit of the same
//! name that behaves the same.
//!
//! The container never runs on an empty directory. Its unit comes after the mount, checks that cifs is really there
//! before it starts podman, and retries, mount included, until it is. When the mount goes, a unit beside the
//! container's ends the container.
//!
//! The file is long because what differs is one comparison of all that makes a container.

mod before;
mod definition;
mod start;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use futures_util::future::try_join_all;

use self::before::RanBefore;
use self::definition::{agent_in, container_in, node_in};
use super::by_hand::ByHand;
use super::companion;
use super::image::short;
use super::rival::{self, Rival};
use crate::config::{Protocol, Publish};
use crate::engine::{
    Action, Address, ChangedNeeds, Diff, Disturbance, GuideStep, Kind, Requirement, Resource, Step,
};
use crate::error::{Error, Result};
use crate::host::agent::Agent;
use crate::host::listener;
use crate::host::mark::{self, Occupant, OurFile};
use crate::host::podman::{self, secret};
use crate::host::systemd::{Job, UnitState, mount_unit_name};
use crate::host::{Host, blocking, way};

/// The pause between two start attempts, in seconds. A storage VM that comes back is noticed in little more than this
/// plus the mount's own time.
const RESTART_SECONDS: u32 = 5;

/// How long each command of the start may take, in seconds: the lock, and podman on a slow VM.
const START_SECONDS: u32 = LOCK_SECONDS + 180;

/// How many commands a start has at most: four before podman, podman, and one after it.
const START_COMMANDS: u32 = 6;

/// How long a change of revision may keep a start waiting, in seconds.
const LOCK_SECONDS: u32 = 120;

/// The values of a field that says what the container sees.
const BEFORE_THE_MOUNT: &str = "before the share was mounted";
const AFTER_IT: &str = "after it";
/// The field that says which image the container runs.
const IMAGE: &str = "image";
const RUNS_AN_OLDER_IMAGE: &str = "the container runs the image that had the name before";
const BEFORE_ITS_SECRETS: &str = "before a secret of its was changed";
const KNOWS_AN_OLDER_SECRET: &str = "a container knows only the secrets that it was started with";
const SEES_ANOTHER_MOUNT: &str = "a container sees only the mount that was there when it started";

/// A container that runs, from this definition and on the mount that is there now.
#[derive(Debug, Clone)]
pub struct Container {
    pub name: String,
    /// podman's name of the image.
    pub image: String,
    /// The image as the tier file names it.
    pub image_name: String,
    pub hostname: String,
    /// The VM's name, if the container's comes from it. On a VM of another name the container waits for an apply.
    pub node: Option<String>,
    pub publish: Vec<Publish>,
    /// Where the share is mounted on the VM.
    pub mount: PathBuf,
    /// Where the share appears in the container.
    pub workdir: PathBuf,
    pub privileged: bool,
    /// Whether the container cannot change the image's own files.
    pub read_only: bool,
    pub env: BTreeMap<String, String>,
    pub secrets: Vec<ContainerSecret>,
    /// The program that the units start.
    pub agent: Agent,
    /// Whether the definition is a `.container` file for podman's generator, not a plain unit.
    /// `role::was` decides that by the facts of the guest.
    pub quadlet: bool,
    /// Whether a signal can end podman while it makes a container's network.
    pub podman_ends_midway: bool,
    /// Whether a reload of firewalld removes the published ports here until podman is told.
    pub loses_ports: bool,
    /// Whether a container that somebody made by hand is taken over.
    pub adopt: bool,
}

/// A secret that the container is given.
#[derive(Debug, Clone)]
pub struct ContainerSecret {
    /// podman's name of the secret.
    pub secret: String,
    /// The name of the file in `/run/secrets`.
    pub name: String,
}

#[derive(Debug)]
pub struct Observed {
    file: Option<OurFile>,
    unit: UnitState,
    mount: UnitState,
    companions: Vec<companion::Observed>,
    /// What stands in the container's place and is not the agent's.
    by_hand: Option<ByHand>,
    /// What else starts a container of this name by itself, in words: `web.service is enabled`.
    rivals: Vec<Rival>,
    /// The program that the definition names, if it is there.
    agent: Option<PathBuf>,
    images: Images,
    /// When the newest of the container's secrets was set.
    secrets_set: Option<SystemTime>,
}

/// The image of a running container, and the image that its name means now, by id.
#[derive(Debug, Default)]
struct Images {
    of_container: Option<String>,
    of_name: Option<String>,
}

impl Images {
    /// The image that the container runs and the image that its name means now, if they differ.
    fn older(&self) -> Option<(&str, &str)> {
        match (&self.of_container, &self.of_name) {
            (Some(runs), Some(named)) if runs != named => Some((runs, named)),
            _ => None,
        }
    }
}

impl Observed {
    /// A container that started before its unit file was written runs an older definition.
    fn definition_is_newer(&self) -> bool {
        match (&self.file, self.unit.active_since) {
            // A time in the future means that the clock was set back: it tells nothing.
            (Some(file), Some(started)) => {
                file.modified > started && file.modified <= SystemTime::now()
            }
            _ => false,
        }
    }

    /// Also true if systemd has not read the file since: it started the container from an older text.
    fn runs_an_older_definition(&self) -> bool {
        self.unit.need_daemon_reload || self.definition_is_newer()
    }

    /// A container has copies of its secrets, made when it started.
    fn secret_is_newer(&self) -> bool {
        match (self.secrets_set, self.unit.active_since) {
            (Some(set), Some(started)) => set > started && set <= SystemTime::now(),
            _ => false,
        }
    }

    /// A container that started before the mount keeps seeing what was there before it.
    fn mount_is_newer(&self) -> bool {
        match (self.mount.active_since, self.unit.active_since) {
            (Some(mounted), Some(started)) => mounted > started,
            _ => false,
        }
    }

    /// A container that ends again and again is almost always starting. Such a start may have begun before the mount,
    /// the file or the secret that fixes it was there.
    fn starts_with_what_was_before(&self) -> bool {
        let file = self.file.as_ref().map(|file| file.modified);
        let needs = [self.mount.active_since, file, self.secrets_set];
        let newest = needs.into_iter().flatten().max();
        self.unit.is_being_started() && newest > self.unit.state_changed
    }
}

impl Container {
    pub fn unit_name(&self) -> String {
        format!("{}.service", self.name)
    }
}

impl Container {
    fn port_is_taken(&self, port: u16, who: &str) -> Error {
        Error::new(format!(
            "{who} listens on port {port}, which {} is to publish",
            self.name
        ))
        .hint("stop it, or publish another port in was.container.publish")
    }
}

impl Container {
    /// The units that the agent itself has made.
    fn own_units(&self) -> Vec<String> {
        let companions = self.companions().into_iter().map(|one| one.unit);
        companions.chain([self.unit_name()]).collect()
    }

    /// With another program of the agent's in its units.
    fn with_agent(&self, path: &Path) -> Self {
        let agent = Agent {
            path: path.to_owned(),
            unfit: None,
        };
        Self {
            agent,
            ..self.clone()
        }
    }

    /// Where the program that runs is one that a boot may not find, the program that the units name stays, if that is all
    /// that differs: a look from elsewhere changes nothing.
    fn settled(&self, observed: &Observed) -> Self {
        match &observed.agent {
            Some(there) if self.agent.unfit.is_some() && self.only_the_agent_differs(observed) => {
                self.with_agent(there)
            }
            _ => self.clone(),
        }
    }

    /// Whether the definition is the wanted one but for the agent's program, and the program that it names is there.
    fn only_the_agent_differs(&self, observed: &Observed) -> bool {
        match (&observed.agent, &observed.file) {
            (Some(there), Some(file)) if *there != self.agent.path => {
                self.with_agent(there).text() == file.text
            }
            _ => false,
        }
    }

    /// Whether podman is to run what the definition says, and the program that it names is there. The rest was written by
    /// another version of the agent, or names another program of it, and nothing is served worse for that.
    fn runs_the_same(&self, observed: &Observed) -> bool {
        let file = observed.file.as_ref().filter(|_| observed.agent.is_some());
        file.is_some_and(|file| container_in(&file.text) == container_in(&self.text()))
    }

    /// The VM on which a container that does not run was set up, and this one, if that is another: a copy of the first, or
    /// the first with another name.
    fn set_up_on_another<'a>(&'a self, observed: &'a Observed) -> Option<(&'a str, &'a str)> {
        let at_rest = !observed.unit.is_active();
        let file = observed.file.as_ref().filter(|_| at_rest)?;
        let (there, here) = (node_in(&file.text)?, self.node.as_deref()?);
        (there != here).then_some((there, here))
    }
}

impl Resource for Container {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Container, &self.name)
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![
            Requirement::Program("podman"),
            Requirement::Program("findmnt"),
        ]
    }

    async fn observe(&self, host: &Host) -> Result<Observed> {
        let path = self.path();
        let (name, mount) = (self.unit_name(), mount_unit_name(&self.mount));
        let own = self.companions();
        let companions = try_join_all(own.iter().map(|companion| companion.observe(host)));
        let (found, unit, mount, companions) = tokio::try_join!(
            blocking(move || mark::look(&path)),
            host.systemd.unit(&name),
            host.systemd.unit(&mount),
            companions,
        )?;
        let (by_hand, file) = match found {
            Occupant::Foreign if self.quadlet => return Err(mark::foreign(&self.path())),
            Occupant::Foreign => (
                ByHand::observe(host, &self.name, &unit, Some(self.path())).await?,
                None,
            ),
            // The agent's file is gone and its container still runs: nobody made that by hand.
            Occupant::Nothing if unit.is_from(&self.path()) && unit.active != "inactive" => {
                (None, None)
            }
            Occupant::Nothing => {
                // If the file of a loaded unit is gone, systemd only has to forget the unit.
                let file = PathBuf::from(&unit.fragment_path);
                let others = unit.is_loaded() && !unit.is_from(&self.path()) && file.exists();
                let file = others.then_some(file);
                (ByHand::observe(host, &self.name, &unit, file).await?, None)
            }
            // podman is slow: it is asked only if nothing of the agent's is there yet.
            Occupant::Ours(file) => (None, Some(file)),
        };
        let images = if file.is_some() && unit.is_active() {
            Images {
                of_container: podman::image_of_container(&self.name).await?,
                of_name: podman::image_id(&self.image).await?,
            }
        } else {
            Images::default()
        };
        let secrets = self
            .secrets
            .iter()
            .map(|given| secret::look_up(&given.secret));
        let secrets = try_join_all(secrets).await?;
        let secrets_set = secrets.iter().flatten().filter_map(|found| found.set).max();
        let rivals = rival::observe(host, &self.name, self.own_units()).await?;
        let agent = file.as_ref().and_then(|file| agent_in(&file.text));
        Ok(Observed {
            rivals,
            agent: agent.filter(|agent| agent.is_file()),
            file,
            unit,
            mount,
            companions,
            by_hand,
            images,
            secrets_set,
        })
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let settled = self.settled(observed);
        if settled.agent != self.agent {
            return settled.diff(observed);
        }
        let unit = &observed.unit;
        if let Some(by_hand) = observed.by_hand.as_ref().filter(|_| !self.adopt) {
            return Err(by_hand.refusal());
        }
        unit.refuse_masked(&self.unit_name())?;
        let text = self.text();
        if let Some(refusal) = self.agent.refusal() {
            return Err(refusal);
        }
        let mut diff = match &observed.file {
            None => Diff::create("the container is missing"),
            Some(_) => Diff::update("the container differs from the tier file"),
        };
        let is_new = observed.file.is_none() && observed.by_hand.is_none();
        // Beside a container that serves, a rival is told; a new container would have to fight with it.
        if let Some(rival) = observed.rivals.first().filter(|_| is_new) {
            return Err(rival.refusal(&self.name));
        }
        let notes = observed.rivals.iter().map(|rival| rival.note(&self.name));
        diff.notes.extend(notes);
        if let Some(by_hand) = &observed.by_hand {
            diff.because("a container that was made by hand is taken over");
            by_hand.diff(&mut diff)?;
        }
        let there = observed.file.as_ref().map(|f| f.text.clone());
        if self.runs_the_same(observed) {
            diff.improvement("unit", there.unwrap_or_default(), text);
        } else {
            diff.field("unit", there, text);
        }
        if let Some((there, here)) = self.set_up_on_another(observed) {
            diff.because(format!(
                "it was set up on the VM {there} and waits on this one, {here}, for wasagent apply"
            ));
        }
        let rewrite = diff.changes("unit");
        diff.field("active", Some(unit.active.as_str()), "active");
        if !self.quadlet {
            diff.field(
                "enabled",
                Some(unit.file_state.as_str()).filter(|s| !s.is_empty()),
                "enabled",
            );
        }
        if unit.need_daemon_reload {
            diff.field("definition", Some("changed on disk"), "loaded");
        }
        if unit.is_active() && observed.runs_an_older_definition() {
            diff.field("started", Some("before its definition"), "after it");
        }
        if unit.is_active() && observed.mount_is_newer() {
            diff.field("started", Some(BEFORE_THE_MOUNT), AFTER_IT);
        }
        if let Some((runs, named)) = observed.images.older() {
            // An older image still serves: no reason to take a node out of traffic.
            diff.improvement(IMAGE, short(runs).to_owned(), short(named).to_owned());
        }
        if unit.is_active() && observed.secret_is_newer() {
            diff.field("started", Some(BEFORE_ITS_SECRETS), AFTER_IT);
        }
        let own_fields = diff.fields.len();
        for (companion, observed) in self.companions().iter().zip(&observed.companions) {
            companion.diff(observed, unit.is_active(), &mut diff);
        }
        if unit.is_active() && (rewrite || diff.changes("started") || diff.changes(IMAGE)) {
            diff.disturb(Disturbance::Restart(self.unit_name()));
        }
        if !rewrite {
            diff.because(if !unit.is_active() {
                "the container does not run"
            } else if observed.mount_is_newer() {
                SEES_ANOTHER_MOUNT
            } else if diff.changes(IMAGE) {
                RUNS_AN_OLDER_IMAGE
            } else if observed.secret_is_newer() {
                KNOWS_AN_OLDER_SECRET
            } else if diff.changes("started") {
                "the container runs an older definition"
            } else if own_fields == 0 {
                "what runs beside the container is not as it should be"
            } else {
                "systemd has not the definition that is on the disk, or not for every boot"
            });
        }
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, observed: &Observed) -> Result<()> {
        let path = self.path();
        blocking(move || way::to_file(&path)).await?;
        // A container that runs listens on its ports itself, and so does one that is taken over.
        let is_at_rest = ["inactive", "failed"].contains(&observed.unit.active.as_str());
        if observed.by_hand.is_some() || !is_at_rest {
            return Ok(());
        }
        for publish in self
            .publish
            .iter()
            .filter(|one| one.protocol == Protocol::Tcp)
        {
            let (address, port) = (publish.address, publish.host_port);
            if let Some(who) = blocking(move || Ok(listener::on(address, port))).await? {
                return Err(self.port_is_taken(port, &who));
            }
        }
        Ok(())
    }

    fn foresee(&self, changed: &ChangedNeeds<'_>, diff: &mut Diff) {
        let mounts_anew = changed
            .get(Kind::Mount, self.mount.display())
            .is_some_and(|mount| {
                let remount = Disturbance::Remount(self.mount.display().to_string());
                mount.action == Action::Create || mount.disturbs.contains(&remount)
            });
        let mut secrets = self.secrets.iter();
        let knows_older = secrets.any(|given| changed.get(Kind::Secret, &given.secret).is_some());
        // A stopped container sees the share and the secrets as they are when it starts.
        if diff.changes("active") {
            return;
        }
        if mounts_anew {
            diff.foresee("started", BEFORE_THE_MOUNT, AFTER_IT, SEES_ANOTHER_MOUNT);
            diff.disturb(Disturbance::Restart(self.unit_name()));
        }
        let image = changed.get(Kind::Image, &self.image_name);
        if let Some(id) = image.and_then(|image| image.get("id"))
            && !diff.changes("active")
        {
            let (from, to) = (id.from.as_deref(), id.to.as_deref());
            let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
            diff.foresee(IMAGE, from, to, RUNS_AN_OLDER_IMAGE);
            diff.disturb(Disturbance::Restart(self.unit_name()));
        }
        if knows_older {
            diff.foresee(
                "started",
                BEFORE_ITS_SECRETS,
                AFTER_IT,
                KNOWS_AN_OLDER_SECRET,
            );
            diff.disturb(Disturbance::Restart(self.unit_name()));
        }
    }

    fn guide(&self, diff: &Diff) -> Vec<GuideStep> {
        if !diff.changes("unit") && !diff.changes("active") {
            return vec![GuideStep::new(18, format!("podman restart {}", self.name))];
        }
        let mut run = vec!["podman run".to_owned()];
        if self.privileged {
            run.push("--privileged=true".to_owned());
        }
        run.push("-d".to_owned());
        run.extend(self.publish.iter().map(|publish| format!("-p {publish}")));
        run.push(format!("--name {} --hostname {}", self.name, self.hostname));
        run.push("--restart always".to_owned());
        run.extend(self.env.keys().map(|key| format!("-e {key}=…")));
        run.push(format!(
            "-v {}:{} {}",
            self.mount.display(),
            self.workdir.display(),
            self.image
        ));
        let unit = self.unit_name();
        let mut steps = vec![
            GuideStep::new(18, run.join(" ")),
            GuideStep::new(
                19,
                format!(
                    "podman generate systemd {} > /etc/systemd/system/{unit}",
                    self.name
                ),
            ),
            GuideStep::new(19, format!("systemctl enable {unit}")),
        ];
        if diff.action == Action::Update {
            steps.insert(0, GuideStep::new(18, format!("podman rm -f {}", self.name)));
        }
        steps
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        self.settled(observed).bring_up(step, observed).await
    }
}

impl Container {
    /// Converges with the program that the units are to name.
    async fn bring_up(&self, step: &Step, observed: &Observed) -> Result<()> {
        let name = self.unit_name();
        let text = self.text();
        let rewrite = observed.file.as_ref().map(|file| &file.text) != Some(&text);
        let companions = self.companions();
        let before = self.ran_before(step, observed).await?;
        let unit = match &observed.by_hand {
            None => observed.unit.clone(),
            Some(by_hand) => {
                by_hand.set_aside(step, &self.path()).await?;
                step.systemd.unit(&name).await?
            }
        };
        let mut reload = rewrite || unit.need_daemon_reload;
        // The companions come before the container's unit, which wants them.
        for (companion, observed) in companions.iter().zip(&observed.companions) {
            reload |= companion.write(step, observed).await?;
        }
        if rewrite {
            step.write_text(&self.path(), &text).await?;
        }
        if reload || !unit.is_loaded() {
            step.reload_units().await?;
        }
        let loaded = step.systemd.unit(&name).await?;
        if !loaded.is_loaded() {
            return Err(Error::new(format!(
                "systemd made no unit of {} ({name}: {})",
                self.path().display(),
                loaded.load
            ))
            .hint("run: systemctl daemon-reload; journalctl -b -t quadlet-generator"));
        }
        if !self.quadlet && loaded.file_state != "enabled" {
            step.enable(&name).await?;
        }
        let stopped = self.share_unit().stop_is_over(step).await?;
        let job = if stopped
            || observed.starts_with_what_was_before()
            || (rewrite && observed.unit.active == "activating")
        {
            self.start_is_over(step).await?;
            Some(Job::Restart)
        } else if !unit.is_active() {
            // systemd merges a start job with a start that is under way, even if that start has failed and is being
            // cleaned up. A restart does not wait for a start that is put off.
            let joins = match loaded.active.as_str() {
                "activating" => self.is_being_started(step, &loaded).await?,
                active => active != "deactivating",
            };
            Some(if joins { Job::Start } else { Job::Restart })
        } else {
            let restart = rewrite
                || observed.runs_an_older_definition()
                || observed.mount_is_newer()
                || observed.images.older().is_some()
                || observed.secret_is_newer();
            restart.then_some(Job::Restart)
        };
        if let Some(job) = job
            && let Err(error) = self.comes_up(step, job).await
        {
            let Some(before) = before.filter(RanBefore::is_another) else {
                return Err(error);
            };
            return Err(match self.run_again(step, &before).await {
                Ok(()) => error.while_doing("the container of before runs again"),
                Err(second) => error.while_doing(format_args!(
                    "nor could the container of before be started again ({second})"
                )),
            });
        }
        for companion in companions {
            companion.start(step).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::companion::Companion;
    use super::*;
    use crate::host::starters::By;
    use crate::host::systemd::Start;

    pub(super) fn container(quadlet: bool) -> Container {
        Container {
            name: "nodejs-server".to_owned(),
            image: "docker.io/ablecloudteam/nodejs-server:linux-0.1".to_owned(),
            image_name: "docker.io/ablecloudteam/nodejs-server:linux-0.1".to_owned(),
            hostname: "was-container-1".to_owned(),
            node: Some("was-01".to_owned()),
            publish: vec![Publish {
                address: None,
                host_port: 5000,
                container_port: 3000,
                protocol: crate::config::Protocol::Tcp,
            }],
            mount: "/mnt/data/shared_folder".into(),
            workdir: "/usr/src/app".into(),
            privileged: false,
            read_only: true,
            secrets: vec![
                ContainerSecret {
                    secret: "nodejs-server.API_TOKEN.secret".to_owned(),
                    name: "API_TOKEN".to_owned(),
                },
                ContainerSecret {
                    secret: "nodejs-server.KEY.secret".to_owned(),
                    name: "KEY".to_owned(),
                },
            ],
            env: [("NODE_ENV".to_owned(), r#"100% "pure" $HOME \o/"#.to_owned())].into(),
            quadlet,
            podman_ends_midway: !quadlet,
            loses_ports: !quadlet,
            agent: Agent {
                path: "/usr/bin/wasagent".into(),
                unfit: None,
            },
            adopt: false,
        }
    }

    fn at(second: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
    }

    /// The state of a container that, if it runs, started in second 20 from a file of second 10.
    fn observed(active: &str, text: String, mounted: u64) -> Observed {
        let unit = UnitState {
            load: "loaded".to_owned(),
            active: active.to_owned(),
            active_since: at(20),
            ..UnitState::default()
        };
        Observed {
            file: Some(OurFile {
                text,
                meta: crate::host::fs::FileMeta::root(0o644),
                modified: at(10).unwrap(),
            }),
            mount: UnitState {
                active_since: at(mounted),
                ..unit.clone()
            },
            unit,
            companions: container(true)
                .companions()
                .iter()
                .map(Companion::in_place)
                .collect(),
            by_hand: None,
            rivals: Vec::new(),
            agent: Some("/usr/bin/wasagent".into()),
            images: Images::default(),
            secrets_set: at(12),
        }
    }

    #[test]
    fn a_secret_that_changed_restarts_a_container_that_runs() {
        let container = container(true);
        for (active, restarts) in [("active", true), ("failed", false)] {
            let mut observed = observed(active, container.text(), 15);
            observed.secrets_set = at(21);
            let diff = container.diff(&observed).unwrap();
            assert_eq!(diff.changes("started"), restarts);
            assert_eq!(diff.disturbs.is_empty(), !restarts);
        }
        // The change of the secret is still to come.
        let mut diff = Diff::update("");
        let address = Address::new(Kind::Secret, "nodejs-server.KEY.secret");
        let mut value = Diff::update("");
        value.secret("value", true);
        let changed = ChangedNeeds::new([(&address, &value)]);
        Resource::foresee(&container, &changed, &mut diff);
        assert!(diff.changes("started") && diff.why == KNOWS_AN_OLDER_SECRET);
    }

    #[test]
    fn only_a_running_container_is_restarted() {
        let container = container(true);
        let (text, older) = (container.text(), mark::marked("older"));
        for (observed, fields, restart) in [
            (observed("active", text.clone(), 15), vec![], false),
            (observed("active", text.clone(), 25), vec!["started"], true),
            (observed("active", older.clone(), 15), vec!["unit"], true),
            (observed("failed", text, 25), vec!["active"], false),
            (observed("failed", older, 15), vec!["unit", "active"], false),
        ] {
            let diff = container.diff(&observed).unwrap();
            let found: Vec<&str> = diff.fields.iter().map(|f| f.name.as_str()).collect();
            assert_eq!(found, fields);
            let restarts = Disturbance::Restart("nodejs-server.service".to_owned());
            assert_eq!(diff.disturbs, Vec::from_iter(restart.then_some(restarts)));
        }
    }

    #[test]
    fn a_start_that_began_before_what_mends_it_is_begun_anew() {
        let text = container(true).text();
        for (active, sub, mounted, anew) in [
            ("activating", "start", 25, true),
            ("activating", "start", 15, false),
            ("activating", "auto-restart", 25, false),
            ("deactivating", "stop-post", 25, false),
            ("failed", "failed", 25, false),
        ] {
            let mut observed = observed(active, text.clone(), mounted);
            observed.unit.sub = sub.to_owned();
            observed.unit.state_changed = at(20);
            let begins_anew = observed.starts_with_what_was_before();
            assert_eq!(begins_anew, anew, "{active} {sub} {mounted}");
        }
    }

    #[test]
    fn an_older_image_restarts_the_container_and_harms_nobody() {
        let container = container(true);
        let mut observed = observed("active", container.text(), 15);
        observed.images = Images {
            of_container: Some("f13dda045f0f26f4".to_owned()),
            of_name: Some("0c96e6da6243d69f".to_owned()),
        };
        let diff = container.diff(&observed).unwrap();
        let image = diff.get(IMAGE).unwrap();
        assert_eq!(image.from.as_deref(), Some("f13dda045f0f"));
        assert_eq!(image.to.as_deref(), Some("0c96e6da6243"));
        let restart = Disturbance::Restart("nodejs-server.service".to_owned());
        assert_eq!(diff.disturbs, [restart]);
        assert!(diff.harmful().is_empty());
        observed
            .images
            .of_name
            .clone_from(&observed.images.of_container);
        assert!(container.diff(&observed).unwrap().is_empty());
    }

    #[test]
    fn a_program_that_a_boot_may_not_find_is_in_no_unit() {
        let mut elsewhere = container(true);
        elsewhere.agent = Agent {
            path: "/tmp/wasagent".into(),
            unfit: Some("/tmp does not keep its files".to_owned()),
        };
        let mut fresh = observed("inactive", String::new(), 15);
        (fresh.file, fresh.agent) = (None, None);
        let refusal = elsewhere.diff(&fresh).unwrap_err();
        assert!(refusal.message.contains("/tmp/wasagent"), "{refusal}");
        // A look at a container that is as it should be finds nothing wrong.
        let settled = observed("active", container(true).text(), 15);
        assert!(elsewhere.diff(&settled).unwrap().is_empty());
        elsewhere.hostname = "another".to_owned();
        assert!(elsewhere.diff(&settled).is_err());
        // The program that the units name is gone.
        let mut gone = observed("active", container(true).text(), 15);
        gone.agent = None;
        assert!(elsewhere.diff(&gone).is_err());
    }

    #[test]
    fn another_program_that_stays_found_harms_nobody() {
        let mut moved = container(true);
        moved.agent.path = "/opt/wasagent".into();
        let mut observed = observed("active", container(true).text(), 15);
        let diff = moved.diff(&observed).unwrap();
        assert!(diff.changes("unit") && diff.harmful().is_empty());
        observed.agent = None;
        assert_eq!(moved.diff(&observed).unwrap().harmful(), ["unit"]);
    }

    /// As after an upgrade of the agent: the units of the version before serve until the next apply.
    #[test]
    fn what_another_version_wrote_around_the_same_container_harms_nobody() {
        for quadlet in [true, false] {
            let container = container(quadlet);
            let text = container.text();
            let older = text.replace("--node=was-01 ", "");
            let mut observed = observed("active", older, 15);
            let diff = container.diff(&observed).unwrap();
            assert!(diff.changes("unit") && !diff.changes("active"));
            assert!(diff.harmful().iter().all(|name| *name == "enabled"));
            // The tier file says something else now.
            let other = text.replace("5000:3000", "80:3000");
            observed.file.as_mut().unwrap().text = other;
            let diff = container.diff(&observed).unwrap();
            assert!(diff.harmful().contains(&"unit"));
        }
    }

    #[test]
    fn a_copy_of_another_vm_says_why_its_container_waits() {
        let mut clone = container(true);
        clone.hostname = "was-container-7".to_owned();
        clone.node = Some("was-07".to_owned());
        let mut observed = observed("activating", container(true).text(), 15);
        let diff = clone.diff(&observed).unwrap();
        assert!(diff.why.contains("set up on the VM was-01"), "{}", diff.why);
        assert_eq!(diff.harmful(), ["unit", "active"]);
        // A VM that got another name while it serves goes on.
        observed.unit.active = "active".to_owned();
        assert!(!clone.diff(&observed).unwrap().why.contains("was-01"));
    }

    #[test]
    fn a_rival_is_refused_before_and_told_beside_a_container() {
        let container = container(true);
        let rival = Rival {
            file: "/etc/systemd/system/web.service".into(),
            by: By::Service("web.service".to_owned()),
            start: Some(Start::AtBoot),
        };
        let mut fresh = observed("inactive", String::new(), 15);
        fresh.file = None;
        fresh.rivals = vec![rival.clone()];
        let refusal = container.diff(&fresh).unwrap_err();
        assert!(refusal.message.contains("web.service starts"), "{refusal}");
        let hint = refusal.hint.unwrap();
        assert!(
            hint.contains("systemctl disable --now web.service"),
            "{hint}"
        );
        let mut serving = observed("active", container.text(), 15);
        serving.rivals = vec![rival];
        let diff = container.diff(&serving).unwrap();
        assert!(diff.is_empty() && diff.notes[0].contains("web.service starts"));
    }

    #[test]
    fn a_companion_that_is_missing_is_made_without_a_restart() {
        let container = container(true);
        let mut observed = observed("active", container.text(), 15);
        observed.companions = vec![companion::Observed::default()];
        let diff = container.diff(&observed).unwrap();
        let found: Vec<&str> = diff.fields.iter().map(|f| f.name.as_str()).collect();
        let share = "nodejs-server-share.service";
        assert_eq!(found, [share, &format!("{share} active")]);
        assert_eq!(diff.disturbs, []);
    }

    #[test]
    fn the_guide_would_run_the_same_container() {
        let steps = Resource::guide(&container(true), &Diff::create(""));
        assert_eq!(steps, [GuideStep::new(18, "podman restart nodejs-server")]);
        let mut diff = Diff::create("");
        diff.field("unit", None, "text");
        let steps = Resource::guide(&container(true), &diff);
        assert_eq!(
            steps[0].command,
            "podman run -d -p 5000:3000 --name nodejs-server --hostname was-container-1 \
             --restart always -e NODE_ENV=… -v /mnt/data/shared_folder:/usr/src/app \
             docker.io/ablecloudteam/nodejs-server:linux-0.1"
        );
    }
}
