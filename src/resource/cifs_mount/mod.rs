//! The share, mounted on a WAS VM. The agent mounts it now by the kernel's mount API. At every boot a `.mount` unit
//! gives the same options to `mount.cifs`.

mod by_hand;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::mount_unit::{self, MountUnit};
use crate::config::{Dialect, Secret};
use crate::engine::diff::SECRET;
use crate::engine::{
    Action, Address, ChangedNeeds, Diff, Disturbance, GuideStep, Kind, Requirement, Resource, Step,
};
use crate::error::{Error, Result};
use crate::host::cifs::{self, CifsMount, CifsState, Detached, Recovery};
use crate::host::fs::{FileMeta, read_regular};
use crate::host::mentions::Mention;
use crate::host::names;
use crate::host::systemd::{Job, mount_unit_name};
use crate::host::{Answer, Host, blocking, until};

/// How long a mount may take in all. The probe before it detects a silent server after 5 s; the kernel alone would
/// take up to 43 s.
const MOUNT_DEADLINE: Duration = Duration::from_secs(14);

/// How long, and how often, systemd is asked whether it has seen that a mount is gone.
const SEEN: Duration = Duration::from_secs(10);
const SEEN_PAUSE: Duration = Duration::from_millis(20);

/// How long a look at a mount waits for the server's address. A working mount does not need the address.
const LOOK_UP: Duration = Duration::from_secs(2);
/// How long a new mount waits for the server's address.
const LOOK_UP_TO_MOUNT: Duration = Duration::from_secs(10);

/// A server that is silent for three intervals counts as gone.
const ECHO_INTERVAL: Duration = Duration::from_secs(5);

/// The container runs as root without CAP_DAC_OVERRIDE, so root owns the files. Nobody else on the VM may read them:
/// they may hold the database's password.
const FILE_MODE: u32 = 0o660;
const DIRECTORY_MODE: u32 = 0o770;

const OLDER_PASSWORD: &str = "a mount knows only the password that it was made with";

/// No credentials file of ours comes near this size.
const MAX_CREDENTIALS: u64 = 64 << 10;

/// The label of files that a container may use (container_selinux(8)). CIFS keeps no labels.
const SELINUX_CONTEXT: &str = "system_u:object_r:container_file_t:s0";

/// A mounted share.
#[derive(Debug, Clone)]
pub struct CifsShare {
    pub server: String,
    pub share: String,
    pub user: String,
    pub password: Secret,
    pub encrypt: bool,
    pub vers: Dialect,
    pub mount_point: PathBuf,
    /// The file from which `mount.cifs` reads user and password at boot.
    pub credentials: PathBuf,
    /// Whether the guest runs SELinux, so that the files need a label.
    pub selinux: bool,
    /// Whether an entry of fstab(5) for the same place is taken over.
    pub adopt: bool,
}

#[derive(Debug)]
pub struct Observed {
    unit: mount_unit::Observed,
    /// The credentials file is not as it should be, or was written after the mount was made. The kernel has another
    /// password than the tier file.
    password_is_older: bool,
    /// The credentials file is missing.
    has_no_credentials: bool,
    /// The server's addresses now. Its name is resolved only if the share is mounted.
    addresses: Result<Vec<IpAddr>>,
    /// The credentials files of the entries that are taken over, and what else may read them.
    credentials: Vec<(PathBuf, Mention)>,
}

impl Observed {
    /// The credentials files that only the entries read.
    fn credentials_to_remove(&self) -> impl Iterator<Item = &PathBuf> {
        let nowhere = |(_, mention): &&(PathBuf, Mention)| *mention == Mention::Nowhere;
        self.credentials
            .iter()
            .filter(nowhere)
            .map(|(file, _)| file)
    }
}

impl CifsShare {
    fn source(&self) -> String {
        match self.server.parse::<IpAddr>() {
            // The kernel takes an IPv6 address in a UNC path only in brackets, because of its colons.
            Ok(IpAddr::V6(address)) => format!("//[{address}]/{}", self.share),
            _ => format!("//{}/{}", self.server, self.share),
        }
    }

    fn mount(&self, address: IpAddr) -> CifsMount {
        CifsMount {
            source: self.source(),
            address,
            port: cifs::SMB_PORT,
            user: self.user.clone(),
            dialect: self.vers,
            seal: self.encrypt,
            uid: 0,
            gid: 0,
            file_mode: FILE_MODE,
            dir_mode: DIRECTORY_MODE,
            // A process that waits forever for a dead server can neither answer a request nor be stopped. A process
            // that gets an error can do both.
            recovery: Recovery::Soft,
            echo_interval: ECHO_INTERVAL,
            context: self.selinux.then(|| SELINUX_CONTEXT.to_owned()),
            mfsymlinks: false,
            actimeo: None,
        }
    }

    fn unit(&self) -> Result<MountUnit> {
        // The unit holds no address: mount.cifs resolves the name at each boot.
        let unspecified = IpAddr::from([0, 0, 0, 0]);
        let options: Vec<String> = self
            .mount(unspecified)
            .options_for_mount_cifs(&self.credentials)?
            .split(',')
            .filter(|option| !option.starts_with("ip="))
            .map(str::to_owned)
            .collect();
        Ok(MountUnit {
            description: format!("SMB share {}", self.source()),
            // Without the default dependencies, nothing at boot waits for this mount: a late storage VM delays only
            // the container.
            unit_lines: vec![
                "DefaultDependencies=no".to_owned(),
                "Wants=network-online.target".to_owned(),
                "After=network-online.target".to_owned(),
                "Conflicts=umount.target".to_owned(),
                "Before=umount.target".to_owned(),
                // No limit on start attempts: the container's unit retries this mount forever.
                "StartLimitIntervalSec=0".to_owned(),
            ],
            what: self.source(),
            mount_point: self.mount_point.clone(),
            fs_type: "cifs".to_owned(),
            options: options.join(","),
            wanted_by: "multi-user.target",
        })
    }

    /// Whether the server's name no longer resolves to the mounted address.
    fn has_moved(&self, state: &CifsState, observed: &Observed) -> bool {
        match (&observed.addresses, state.address) {
            (Ok(addresses), Some(address)) => !addresses.contains(&address),
            _ => false,
        }
    }

    fn diff_address(&self, state: &CifsState, observed: &Observed, diff: &mut Diff) {
        match &observed.addresses {
            Ok(addresses) if self.has_moved(state, observed) => {
                diff.field("options.ip", state.address, addresses[0]);
            }
            Ok(_) => {}
            Err(error) => diff.notes.push(format!(
                "{error}: whether the storage VM has moved cannot be told"
            )),
        }
    }

    /// Adds the options in which the present mount differs from the wanted one.
    fn diff_options(&self, state: &CifsState, diff: &mut Diff) {
        let mounted = state.vers.as_deref().and_then(cifs::dialect_from_kernel);
        if !mounted.is_some_and(|mounted| cifs::dialect_serves(self.vers, mounted)) {
            let mounted = mounted.map(|known| known.to_string());
            let mounted = mounted.or_else(|| state.vers.clone());
            diff.field("options.vers", mounted, self.vers.to_string());
        }
        diff.field("options.seal", Some(state.seal), self.encrypt);
        diff.field("options.username", state.user.clone(), self.user.clone());
        let octal = |mode: u32| format!("{mode:04o}");
        diff.field("options.uid", state.uid, 0);
        diff.field("options.gid", state.gid, 0);
        diff.field(
            "options.file_mode",
            state.file_mode.map(octal),
            octal(FILE_MODE),
        );
        diff.field(
            "options.dir_mode",
            state.dir_mode.map(octal),
            octal(DIRECTORY_MODE),
        );
        diff.field("options.serverino", Some(state.server_inodes), false);
        diff.field("options.ro", Some(state.read_only), false);
        let recovery = |recovery: Recovery| match recovery {
            Recovery::Soft => "soft",
            Recovery::Hard => "hard",
        };
        diff.field(
            "options.recovery",
            Some(recovery(state.recovery)),
            recovery(Recovery::Soft),
        );
        if self.selinux {
            diff.field(
                "options.context",
                state.context.clone(),
                SELINUX_CONTEXT.to_owned(),
            );
        }
    }

    fn remount(&self) -> Disturbance {
        Disturbance::Remount(self.mount_point.display().to_string())
    }

    fn create_diff(&self, diff: &mut Diff) {
        diff.field("source", None, self.source());
        diff.field("options.vers", None, self.vers.to_string());
        diff.field("options.seal", None, self.encrypt);
    }
}

impl Resource for CifsShare {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Mount, self.mount_point.display())
    }

    fn requirements(&self) -> Vec<Requirement> {
        let mut requirements = vec![Requirement::Program("mount.cifs")];
        if self.server.parse::<IpAddr>().is_err() {
            requirements.push(Requirement::Program("getent"));
        }
        requirements
    }

    async fn observe(&self, host: &Host) -> Result<Observed> {
        let unit = mount_unit::observe_beside_fstab(host, &self.mount_point).await?;
        let credentials = self.credentials.clone();
        let file = blocking(move || read_regular(&credentials, MAX_CREDENTIALS)).await?;
        let wanted = cifs::credentials(&self.user, self.password.expose())?;
        let password_is_older = match (&file, unit.state.active_since) {
            (None, _) => true,
            (Some(file), _) if *file.contents != wanted.as_bytes() => true,
            (Some(file), Some(mounted)) => {
                file.modified > mounted && file.modified <= SystemTime::now()
            }
            (Some(_), None) => false,
        };
        let addresses = match &unit.mounted {
            Some(_) => names::addresses(&self.server, LOOK_UP).await,
            None => Ok(Vec::new()),
        };
        let credentials = if self.adopt {
            self.find_credentials(&unit.fstab).await?
        } else {
            Vec::new()
        };
        Ok(Observed {
            unit,
            password_is_older,
            has_no_credentials: file.is_none(),
            addresses,
            credentials,
        })
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let mut diff = match &observed.unit.mounted {
            None => {
                let mut diff = Diff::create("the share is not mounted");
                self.create_diff(&mut diff);
                diff
            }
            Some(mounted) => {
                let Some(state) = cifs::observe(mounted) else {
                    return Err(Error::new(format!(
                        "{} ({}) is mounted on {}",
                        mounted.source,
                        mounted.fs_type,
                        self.mount_point.display()
                    ))
                    .hint("unmount it, or mount the share elsewhere: was.mount"));
                };
                let mut diff = Diff::update("the mount differs from the tier file");
                if self.is_by_hand(observed) {
                    if !self.adopt {
                        return Err(self.refusal(mounted));
                    }
                    diff.adopt("mount", &mounted.source, None);
                }
                diff.field("source", Some(state.source.clone()), self.source());
                self.diff_options(&state, &mut diff);
                self.diff_address(&state, observed, &mut diff);
                if observed.password_is_older {
                    if diff.is_empty() {
                        diff.because(OLDER_PASSWORD);
                    }
                    diff.secret("options.password", true);
                }
                if diff.is_empty() {
                    diff.because(mount_unit::DIFFERS);
                } else {
                    diff.disturb(self.remount());
                }
                // The kernel has the mount before systemd knows of it, and units ordered after the mount wait for
                // systemd.
                diff.field(
                    "unit.active",
                    Some(observed.unit.state.active.as_str()),
                    "active",
                );
                diff
            }
        };
        self.unit()?.diff(&observed.unit, &mut diff);
        self.diff_fstab(observed, &mut diff)?;
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, observed: &Observed) -> Result<()> {
        MountUnit::obstacles(&self.mount_point, &observed.unit).await
    }

    fn foresee(&self, changed: &ChangedNeeds<'_>, diff: &mut Diff) {
        // A rewritten file is newer than the mount, whatever changed in it.
        if diff.action == Action::Update
            && changed
                .get(Kind::Secret, self.credentials.display())
                .is_some()
        {
            diff.foresee("options.password", SECRET, SECRET, OLDER_PASSWORD);
            diff.disturb(self.remount());
        }
    }

    fn guide(&self, diff: &Diff) -> Vec<GuideStep> {
        let (mount_point, source) = (self.mount_point.display(), self.source());
        let options = format!(
            "credentials={},vers={}",
            self.credentials.display(),
            self.vers
        );
        let mut steps = Vec::new();
        if diff.action == Action::Create {
            steps.push(GuideStep::new(15, format!("mkdir -p {mount_point}")));
        } else if !diff.disturbs.is_empty() {
            steps.push(GuideStep::new(15, format!("umount {mount_point}")));
        }
        if diff.action == Action::Create || !diff.disturbs.is_empty() {
            let mount = format!("mount -t cifs -o {options} {source} {mount_point}");
            steps.push(GuideStep::new(15, mount));
        }
        if MountUnit::differs(diff) {
            let line = format!("{source} {mount_point} cifs {options} 0 0");
            steps.push(GuideStep::new(16, format!("echo '{line}' >> /etc/fstab")));
        }
        steps
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        // The new mount is made first. If the server refuses it, nothing is lost: neither the present mount nor the
        // unit for the next boot.
        let new = self.new_mount(observed).await?;
        // The unit is loaded first, so that systemd knows the mount by its unit when it appears.
        self.unit()?.converge(step, &observed.unit).await?;
        if let Some(new) = new {
            // A container that waits for the share has systemd mount it as soon as the unit is known.
            let has_come =
                observed.unit.mounted.is_none() && self.is_mounted(&self.observe(step).await?);
            if has_come {
                end(new).await?;
            } else {
                self.place(step, observed, new).await?;
            }
        }
        self.clear_fstab(step, observed).await
    }
}

impl CifsShare {
    /// Checks that the server accepts a mount with these options and this password. The mount is not attached
    /// anywhere.
    pub async fn is_let_in(&self) -> Result<()> {
        end(self.mount_detached().await?).await
    }

    async fn mount_detached(&self) -> Result<Detached> {
        let address = names::addresses(&self.server, LOOK_UP_TO_MOUNT).await?[0];
        let mount = self.mount(address);
        let password = self.password.expose();
        Ok(mount.mount_detached(password, MOUNT_DEADLINE).await?)
    }

    /// Makes the wanted mount beside the present one: CIFS takes none of these options on a remount. `None` if the
    /// present mount is right.
    async fn new_mount(&self, observed: &Observed) -> Result<Option<Detached>> {
        if self.is_mounted(observed) {
            return Ok(None);
        }
        self.mount_detached().await.map(Some)
    }

    /// Whether the wanted mount is there.
    fn is_mounted(&self, observed: &Observed) -> bool {
        let Some(state) = observed.unit.mounted.as_ref().and_then(cifs::observe) else {
            return false;
        };
        let mut differs = Diff::update("");
        differs.field("source", Some(state.source.clone()), self.source());
        self.diff_options(&state, &mut differs);
        self.diff_address(&state, observed, &mut differs);
        differs.is_empty() && !observed.password_is_older
    }

    /// Puts the new mount in the place of the old one.
    async fn place(&self, step: &Step, observed: &Observed, new: Detached) -> Result<()> {
        let name = mount_unit_name(&self.mount_point);
        if step.systemd.unit(&name).await?.active == "activating" {
            // The container's unit is starting the same mount: two mounts would lie on top of each other.
            step.job(Job::Stop, &name).await?;
        }
        if let Some(old) = &observed.unit.mounted {
            // The container keeps its own view of the old mount until its unit restarts it.
            let by_fstab = !observed.unit.fstab.is_empty();
            step.detach(&self.mount_point, &old.source, by_fstab)
                .await?;
            is_seen_to_be_gone(step, &name).await?;
        } else {
            // Only if nothing is mounted: a look at a mount point whose server is dead blocks until the kernel gives
            // up.
            step.make_directories(&self.mount_point, FileMeta::root(0o755))
                .await?;
        }
        step.mount(&self.mount_point, &self.source(), |permit| async move {
            let target = self.mount_point.clone();
            blocking(move || Ok(new.attach(&permit, &target)?)).await
        })
        .await
    }
}

/// Waits until systemd knows that a mount is gone. Otherwise systemd would take the next mount for the same one, and
/// the agent could not tell whether a unit saw the old mount or the new one.
async fn is_seen_to_be_gone(step: &Step, unit: &str) -> Result<()> {
    let is_gone = || async {
        let unit = step.systemd.unit(unit).await?;
        Ok(Answer::is(!unit.is_active()))
    };
    // If this matters, the verification that follows reports it.
    until(SEEN_PAUSE, SEEN, is_gone).await.map(drop)
}

/// Drops a mount that is attached nowhere. That is an unmount, which waits for the server.
async fn end(mounted: Detached) -> Result<()> {
    blocking(move || {
        drop(mounted);
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mark::{OurFile, marked};
    use crate::host::mount::{MountInfo, parse};
    use crate::host::systemd::UnitState;

    fn share(vers: Dialect) -> CifsShare {
        CifsShare {
            server: "192.168.2.13".to_owned(),
            share: "user1".to_owned(),
            user: "user1".to_owned(),
            password: Secret::new("secret".to_owned()),
            encrypt: true,
            vers,
            mount_point: "/mnt/share".into(),
            credentials: "/etc/wasagent/share.cred".into(),
            selinux: false,
            adopt: false,
        }
    }

    fn mounted() -> MountInfo {
        let line = "41 22 0:45 / /mnt/share rw,nosuid,nodev - cifs //192.168.2.13/user1 \
            rw,vers=3.1.1,username=user1,uid=0,forceuid,gid=0,forcegid,file_mode=0660,\
            dir_mode=0770,soft,seal\n";
        parse(line).unwrap().remove(0)
    }

    fn observed(text: String, mounted: Option<MountInfo>, password_is_older: bool) -> Observed {
        Observed {
            unit: mount_unit::Observed::of(
                Some(OurFile {
                    text,
                    meta: FileMeta::root(0o644),
                    modified: SystemTime::UNIX_EPOCH,
                }),
                UnitState {
                    active: "active".to_owned(),
                    file_state: "enabled".to_owned(),
                    ..UnitState::default()
                },
                mounted,
            ),
            password_is_older,
            has_no_credentials: false,
            addresses: Ok(vec![IpAddr::from([192, 168, 2, 13])]),
            credentials: Vec::new(),
        }
    }

    #[test]
    fn a_server_whose_name_has_moved_is_mounted_anew() {
        let named = CifsShare {
            server: "storage".to_owned(),
            ..share(Dialect::V3_1_1)
        };
        let mut mounted = mounted();
        mounted.source = "//storage/user1".to_owned();
        mounted.super_options.push("addr=192.168.2.13".to_owned());
        let mut observed = observed(named.unit().unwrap().text(), Some(mounted), false);
        assert!(named.diff(&observed).unwrap().is_empty());

        observed.addresses = Ok(vec![IpAddr::from([192, 168, 2, 14])]);
        let diff = named.diff(&observed).unwrap();
        let [field] = &diff.fields[..] else {
            panic!("{diff:?}");
        };
        assert_eq!(field.name, "options.ip");
        assert_eq!(field.from.as_deref(), Some("192.168.2.13"));
        assert_eq!(field.to.as_deref(), Some("192.168.2.14"));
        assert_eq!(
            diff.disturbs,
            [Disturbance::Remount("/mnt/share".to_owned())]
        );

        // A name server that is down is no reason to touch a mount that works.
        observed.addresses = Err(Error::new("the host name storage is not known here"));
        let diff = named.diff(&observed).unwrap();
        assert!(diff.is_empty() && diff.notes[0].contains("storage is not known"));
    }

    #[test]
    fn a_share_that_somebody_mounted_by_hand_is_taken_over_only_when_asked_to() {
        let wanted = share(Dialect::V3_1_1);
        let by_hand = |has_no_credentials| {
            let mut observed = observed(marked("other"), Some(mounted()), true);
            observed.unit.file = None;
            observed.has_no_credentials = has_no_credentials;
            observed
        };
        let refused = wanted.diff(&by_hand(true)).unwrap_err();
        assert!(refused.message.contains("by hand"), "{refused}");
        let adopts = CifsShare {
            adopt: true,
            ..wanted.clone()
        };
        assert!(adopts.diff(&by_hand(true)).unwrap().adopts());
        // The agent made this mount, and somebody removed its unit.
        assert!(!wanted.diff(&by_hand(false)).unwrap().adopts());
    }

    #[test]
    fn a_mount_that_somebody_made_read_only_is_not_as_it_should_be() {
        let wanted = share(Dialect::V3_1_1);
        let mut mounted = mounted();
        mounted.options = vec!["ro".to_owned()];
        let observed = observed(wanted.unit().unwrap().text(), Some(mounted), false);
        let diff = wanted.diff(&observed).unwrap();
        assert!(diff.changes("options.ro") && !diff.disturbs.is_empty());
    }

    #[test]
    fn only_what_the_kernel_takes_at_a_mount_remounts() {
        let wanted = share(Dialect::V3_1_1);
        let text = wanted.unit().unwrap().text();
        let remount = Disturbance::Remount("/mnt/share".to_owned());
        for (share, observed, fields, remounts) in [
            (
                &wanted,
                observed(text.clone(), Some(mounted()), false),
                vec![],
                false,
            ),
            (
                &wanted,
                observed(marked("older"), Some(mounted()), false),
                vec!["unit.file"],
                false,
            ),
            (
                &share(Dialect::V3),
                observed(text.replace("vers=3.1.1", "vers=3"), Some(mounted()), false),
                vec![],
                false,
            ),
            (
                &wanted,
                observed(text.clone(), Some(mounted()), true),
                vec!["options.password"],
                true,
            ),
            (
                &share(Dialect::V3_0),
                observed(text.clone(), Some(mounted()), false),
                vec!["options.vers", "unit.file"],
                true,
            ),
            (
                &wanted,
                observed(text.clone(), None, true),
                vec!["source", "options.vers", "options.seal"],
                false,
            ),
        ] {
            let diff = share.diff(&observed).unwrap();
            let found: Vec<&str> = diff.fields.iter().map(|f| f.name.as_str()).collect();
            assert_eq!(found, fields);
            assert_eq!(
                diff.disturbs,
                Vec::from_iter(remounts.then_some(remount.clone()))
            );
            assert!(!format!("{diff:?}").contains("secret\""));
        }
    }
}
