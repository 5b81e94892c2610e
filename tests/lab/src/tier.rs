//! The guide's tier: one storage guest, two WAS guests, a registry and a balancer, on the guide's addresses.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::balancer::{Balancer, http_get};
use crate::cloud_image::CloudImage;
use crate::guest::{Disk, Guest, Spec};
use crate::kind::{Kind, Need};
use crate::lab::Lab;
use crate::network::{BALANCER, GATEWAY};
use crate::process::until;
use crate::progress::{say, timed};
use crate::registry::Registry;
use crate::release::Release;
use crate::wasagent::{Applied, Apply};
use crate::{image, sample_app};

/// Where the tier's page is asked for.
pub const PAGE: &str = "http://192.168.2.26:5000/";
/// The share's password in the lab; no character of it is harmless everywhere.
pub const SHARE_PASSWORD: &str = "Lab's, \"pass\" #%$\\ 암호";
/// Where a storage guest finds the application's repository.
pub const REPOSITORY: &str = "/srv/ablestack-docs-sample.git";
pub const SHARE_PASSWORD_FILE: &str = "/etc/wasagent/share.password";
pub const TIER_FILE: &str = "/etc/wasagent/tier.toml";
/// The data disk's serial: 20 characters, as CloudStack gives them.
pub const DISK_SERIAL: &str = "5a0dd3f2c1b74e6a8f90";

/// How long a whole distribution may take to boot for the first time and fetch what it lacks.
const FIRST_BOOT: Duration = Duration::from_secs(3600);

/// How long a connection through the balancer may take to close.
const IDLE: Duration = Duration::from_secs(30);

/// A role as the agent's `--role` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Storage,
    Was,
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Role::Storage => "storage",
            Role::Was => "was",
        })
    }
}

impl FromStr for Role {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Role> {
        let named = [Role::Storage, Role::Was]
            .into_iter()
            .find(|role| role.to_string() == text);
        named.with_context(|| format!("no role {text}; there are storage and was"))
    }
}

/// The guide's tier file, for the sample application in the guest's own repository.
pub fn tier_file() -> String {
    format!(
        r#"[share]
name          = "user1"
server        = "192.168.2.13"
user          = "user1"
password_file = "{SHARE_PASSWORD_FILE}"
clients       = ["192.168.2.0/24"]

[storage]
path = "/mnt/data/shared_folder"

[storage.disk]
device     = "auto"
filesystem = "xfs"
mount      = "/mnt/data"

[storage.content]
git    = "{REPOSITORY}"
rev    = "{}"
subdir = "{}"

[was]
mount = "/mnt/data/shared_folder"

[was.container]
name     = "nodejs-server"
image    = "{}"
hostname = "was-container-{{index}}"
publish  = ["5000:3000"]
workdir  = "/usr/src/app"
env      = {{ NODE_ENV = "production" }}

[health]
http = {{ path = "/", status = 200, contains = "{{container.hostname}}" }}
"#,
        sample_app::BRANCH,
        sample_app::SUBDIR,
        image::NAME,
    )
}

/// The same for a test of the storage VM alone that is not about what is deployed on it.
pub fn without_content() -> String {
    let whole = tier_file();
    let (before, rest) = whole
        .split_once("[storage.content]")
        .unwrap_or((&whole, ""));
    let after = rest.split_once("[was]").map_or("", |(_, after)| after);
    format!("{before}[was]{after}")
}

/// The same with the disk of a container guest by its path: a container sees the names of its machine's disks, which are
/// none of its business.
pub fn with_disk_of(guest: &Guest, tier_file: &str) -> String {
    let device = guest.devices().first().cloned().unwrap_or_default();
    tier_file.replacen("\"auto\"", &format!("{device:?}"), 1)
}

/// The guests of the tier and what stands around them.
pub struct Tier<'lab> {
    lab: &'lab Lab,
    pub storage: Guest,
    pub was: [Guest; 2],
    pub balancer: Balancer,
    _registry: Registry,
}

impl<'lab> Tier<'lab> {
    /// Three guests that nothing was done to, with the registry and the balancer running: `storage` and the two
    /// WAS run these releases, on a kind of guest that has what is needed.
    pub fn boot(
        lab: &'lab Lab,
        storage: Release,
        was: [Release; 2],
        needs: &[Need],
    ) -> Result<Self> {
        let registry = registry(lab)?;
        let specs = [
            Spec::storage(storage).disk(Disk::of_the_guide(DISK_SERIAL)),
            Spec::was(1, was[0]),
            Spec::was(2, was[1]),
        ];
        let specs = specs.map(|spec| spec.needs(needs));
        let [storage, one, other] = lab.vms(specs.each_ref())?;
        let balancer = balancer(lab)?;
        Ok(Tier {
            lab,
            storage,
            was: [one, other],
            balancer,
            _registry: registry,
        })
    }

    /// The same on three guests of a cloud image, all of which boot for the first time.
    pub fn first_boot(lab: &'lab Lab, image: &CloudImage) -> Result<Self> {
        if lab.kind_for(&[Need::DistributionKernel])? == Kind::Tcg {
            say("no KVM here: the image's first boot is emulated and takes many minutes");
        }
        let registry = registry(lab)?;
        let image = || image.clone();
        let storage =
            lab.first_boot(&Spec::storage(image()).disk(Disk::of_the_guide(DISK_SERIAL)))?;
        let was = [
            lab.first_boot(&Spec::was(1, image()))?,
            lab.first_boot(&Spec::was(2, image()))?,
        ];
        for guest in [&storage, &was[0], &was[1]] {
            timed(&format!("cloud-init on {}", guest.name()), || {
                guest.wait_cloud_init(FIRST_BOOT)
            })?;
        }
        let balancer = balancer(lab)?;
        Ok(Tier {
            lab,
            storage,
            was,
            balancer,
            _registry: registry,
        })
    }

    /// Every guest with its role, the storage VM first.
    pub fn guests(&self) -> [(&Guest, Role); 3] {
        [
            (&self.storage, Role::Storage),
            (&self.was[0], Role::Was),
            (&self.was[1], Role::Was),
        ]
    }

    /// Puts the agent, the tier file and its secret on every guest, and the repository on the storage guest: what a
    /// package and cloud-init would have brought.
    pub fn install(&self, agent: &Path) -> Result<()> {
        timed("the agent and the tier file on the three guests", || {
            for (guest, _) in self.guests() {
                guest.install_agent(agent)?;
                install_tier_file(guest, &tier_file())?;
            }
            install_repository(self.lab, &self.storage)
        })
    }

    /// `wasagent apply` on every guest, the WAS at the same time.
    pub fn apply(&self) -> Result<()> {
        apply(&self.storage, Role::Storage)?;
        thread::scope(|scope| {
            let both = self
                .was
                .each_ref()
                .map(|guest| scope.spawn(move || apply(guest, Role::Was)));
            for applied in both {
                applied
                    .join()
                    .map_err(|_| anyhow::anyhow!("the thread of an apply panicked"))??;
            }
            Ok(())
        })
    }

    /// Waits until both WAS are up at the balancer and their page is served.
    pub fn wait_served(&self, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        let mut missing: Vec<String> = self.host_names();
        until("pages from both WAS", limit, || {
            // One request a second: a balancer in front of a server that starts is not to be hammered.
            if let Ok((200, page)) = self.get() {
                missing.retain(|name| !page.contains(name.as_str()));
            }
            thread::sleep(Duration::from_millis(500));
            Ok(missing.is_empty().then_some(()))
        })
        .with_context(|| format!("the balancer sees {:?}", self.balancer.server_states()))?;
        for name in ["was-01", "was-02"] {
            self.balancer.wait_for(name, "UP", limit)?;
        }
        self.balancer.wait_idle(limit)?;
        Ok(begun.elapsed())
    }

    /// The page through the balancer.
    pub fn get(&self) -> Result<(u16, String)> {
        http_get(self.lab.network().name(), PAGE, Duration::from_secs(20))
    }

    /// `count` pages through the balancer, one after the other, by the host name that each shows.
    pub fn ask(&self, count: usize) -> Result<Vec<String>> {
        let names = self.host_names();
        (0..count)
            .map(|_| {
                // On a busy machine a server may still be closing the connection of the page before.
                self.balancer.wait_idle(IDLE)?;
                let (status, page) = self.get()?;
                if status != 200 {
                    bail!("the page came with {status}: {page}");
                }
                let name = names.iter().find(|name| page.contains(name.as_str()));
                name.cloned()
                    .with_context(|| format!("the page names no container: {page}"))
            })
            .collect()
    }

    /// The containers' host names, from the VMs' own.
    pub fn host_names(&self) -> Vec<String> {
        vec!["was-container-1".to_owned(), "was-container-2".to_owned()]
    }
}

/// The registry with the application's image.
pub fn registry(lab: &Lab) -> Result<Registry> {
    timed("the registry with the application's image", || {
        let archive = image::container_image(lab.cache())?;
        let registry = Registry::start(
            lab.network().name(),
            lab.network().run_directory(),
            &lab.cache().path().join("registry"),
            &format!("{GATEWAY}:5001"),
        )?;
        registry.push(&archive, image::NAME_IN_REGISTRY)?;
        Ok(registry)
    })
}

/// The balancer of the guide, in front of both WAS.
pub fn balancer(lab: &Lab) -> Result<Balancer> {
    Balancer::start(
        lab.network().name(),
        lab.network().run_directory(),
        &format!("{BALANCER}:5000"),
        &[
            ("was-01", "192.168.2.11:5000"),
            ("was-02", "192.168.2.12:5000"),
        ],
    )
}

/// The tier file and the share's password on a guest.
pub fn install_tier_file(guest: &Guest, text: &str) -> Result<()> {
    guest.write(TIER_FILE, text, 0o644)?;
    guest.write(SHARE_PASSWORD_FILE, format!("{SHARE_PASSWORD}\n"), 0o600)
}

/// The sample application's repository on a storage guest.
pub fn install_repository(lab: &Lab, guest: &Guest) -> Result<()> {
    let repository: PathBuf = sample_app::repository(lab.cache())?;
    guest.copy_tree(&repository, REPOSITORY)
}

/// `wasagent apply --role ROLE`, which must exit with 0 and do what the plan said.
pub fn apply(guest: &Guest, role: Role) -> Result<Applied> {
    let applied = Apply::on(guest).role(role).ok()?;
    say(format!(
        "{}: apply --role {role}: {:.1} s",
        guest.name(),
        applied.output.took.as_secs_f64()
    ));
    Ok(applied)
}
