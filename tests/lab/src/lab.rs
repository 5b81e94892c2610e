//! One lab: a network, and the guests that a test asks for on it.

use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::accelerator::{self, Accelerator};
use crate::cache::Cache;
use crate::cloud_image::Identity;
use crate::guest::{BOOT, Guest, Spec};
use crate::host_packages;
use crate::kind::{Kind, Need};
use crate::leftovers::{self, Undo};
use crate::network::Network;
use crate::progress::{say, timed};
use crate::release::{Release, System};
use crate::root::{Key, Root};
use crate::state::State;
use crate::uml::{Kernel, Uml};
use crate::vm::{Boot, Hardware, Vm};

/// The lab. Everything that it set up on the machine is undone when it and its guests are dropped, on Ctrl-C, and
/// after a crash by the next one.
#[derive(Debug)]
pub struct Lab {
    cache: Cache,
    network: Network,
    scratch: PathBuf,
}

impl Lab {
    /// Installs what the machine lacks, clears up after dead labs and makes the network.
    pub fn new() -> Result<Lab> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the lab makes network namespaces, mounts and containers: run it as root");
        }
        host_packages::ensure()?;
        leftovers::sweep()?;
        undo_on_signals()?;
        let cache = Cache::open()?;
        let undo = Arc::new(Undo::create()?);
        // Disks and overlays lie beside the cache: /run is memory, and images and logs may need gigabytes.
        let scratch = cache.path().join("guests").join(undo.name());
        undo.note("directory", &scratch.display().to_string())?;
        std::fs::create_dir_all(&scratch)?;
        let network = Network::create(undo)?;
        Ok(Lab {
            cache,
            network,
            scratch,
        })
    }

    /// Where built things are kept.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The network, to run other programs on it.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// A container guest, booted: seconds.
    pub fn container(&self, spec: &Spec) -> Result<Guest> {
        timed(
            &format!("guest {} ({}, container)", spec.name, spec.system),
            || {
                let guest = self.booting_container(spec)?;
                guest.wait_ready(BOOT)?;
                Ok(guest)
            },
        )
    }

    /// A container guest that is still at it: `wait_ready` waits for the end.
    pub fn booting_container(&self, spec: &Spec) -> Result<Guest> {
        let root = Root::get(&self.cache, spec.release()?)?;
        let key = Key::get(&self.cache)?;
        Guest::container(&self.network, &root, &key, spec, self.directory(spec))
    }

    /// A guest with a kernel of its own, booted, on the quickest kind that has what it needs ([`Kind::choose`]).
    pub fn vm(&self, spec: &Spec) -> Result<Guest> {
        if spec.seed.is_some() {
            bail!(
                "{}: cloud-init reads its seed at the first boot: take first_boot",
                spec.name
            );
        }
        let kind = self.kind_for(&spec.needs)?;
        let what = format!("guest {} ({}, {kind})", spec.name, spec.system);
        timed(&what, || match kind {
            Kind::Uml => {
                let guest = self.uml(spec)?;
                guest.wait_ready(BOOT)?;
                guest.nothing_failed()?;
                Ok(guest)
            }
            Kind::Kvm | Kind::Tcg => {
                let hardware = self.hardware(spec, kind)?;
                let state = State::get(&self.cache, &hardware)?;
                Guest::restored(hardware, &state, &Key::get(&self.cache)?, spec)
            }
        })
    }

    /// Several of them, which boot at the same time.
    pub fn vms<const N: usize>(&self, specs: [&Spec; N]) -> Result<[Guest; N]> {
        let booted: Vec<Result<Guest>> = thread::scope(|scope| {
            let booting: Vec<_> = specs
                .iter()
                .map(|spec| scope.spawn(|| self.vm(spec)))
                .collect();
            booting
                .into_iter()
                .map(|guest| guest.join().unwrap_or_else(|_| bail!("a boot panicked")))
                .collect()
        });
        let guests: Vec<Guest> = booted.into_iter().collect::<Result<_>>()?;
        guests
            .try_into()
            .map_err(|_| anyhow!("as many guests as were asked for"))
    }

    fn uml(&self, spec: &Spec) -> Result<Guest> {
        let root = Root::get(&self.cache, spec.release()?)?;
        let kernel = Kernel::get(&self.cache, self.network.undo())?;
        let uml = Uml::create(&self.network, kernel, &root, spec, self.directory(spec))?;
        Guest::uml(uml, &Key::get(&self.cache)?, spec)
    }

    /// The kind of guest that has this, here.
    pub fn kind_for(&self, needs: &[Need]) -> Result<Kind> {
        Kind::choose(needs, Kind::by_hand()?, || self.has_kvm())
    }

    /// Whether a kernel boots under KVM here.
    pub fn has_kvm(&self) -> Result<bool> {
        let probed = Accelerator::probe(&self.cache, || accelerator::kernel(&self.cache))?;
        Ok(probed == Accelerator::Kvm)
    }

    /// A VM guest that boots for the first time and is still at it: `wait_ready` waits for the end. One of a cloud image
    /// gets a seed that lets the lab in, unless the test has one for it; `wait_cloud_init` waits for its end.
    pub fn first_boot(&self, spec: &Spec) -> Result<Guest> {
        let kind = match &spec.system {
            System::Debian(_) => self.kind_for(&spec.needs)?,
            System::Image(_) => self.kind_for(&[Need::DistributionKernel])?,
        };
        if kind == Kind::Uml {
            say(format!("guest {} ({}, {kind})", spec.name, spec.system));
            return self.uml(spec);
        }
        let mut hardware = self.hardware(spec, kind)?;
        let key = Key::get(&self.cache)?;
        say(format!("guest {} ({}, {kind})", spec.name, spec.system));
        if matches!(hardware.boot, Boot::Image(_)) && hardware.seed.is_none() {
            let identity = Identity {
                name: &hardware.name,
                address: &hardware.address,
                service_mac: &hardware.mac(),
                management_mac: Vm::MANAGEMENT_MAC,
            };
            hardware.seed = Some(identity.seed(&hardware.directory, &key)?);
        }
        Guest::first_boot(hardware, &key, spec)
    }

    /// Builds the roots of these releases.
    pub fn prepare_roots(&self, releases: &[Release]) -> Result<()> {
        for release in releases {
            Root::get(&self.cache, *release)?;
        }
        Ok(())
    }

    /// Builds the saved states of QEMU's guests of these releases.
    pub fn prepare_states(&self, releases: &[Release]) -> Result<()> {
        let kind = self.kind_for(&[Need::DistributionKernel])?;
        for release in releases {
            let spec = Spec::new("ready", *release, std::net::Ipv4Addr::new(192, 168, 2, 250));
            State::get(&self.cache, &self.hardware(&spec, kind)?)?;
        }
        Ok(())
    }

    /// Builds the kernel of User-Mode Linux, if guests run on that here.
    pub fn prepare_kernel(&self) -> Result<()> {
        if self.kind_for(&[])? == Kind::Uml {
            Kernel::get(&self.cache, self.network.undo())?;
        }
        Ok(())
    }

    /// An empty directory beside the guests' disks for a program of the lab, gone with the lab.
    pub fn directory_for(&self, name: &str) -> Result<PathBuf> {
        let directory = self.scratch.join(name);
        std::fs::create_dir(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        Ok(directory)
    }

    /// What QEMU is told of a guest. `kind`: with this machine's processor, or an emulated one.
    fn hardware(&self, spec: &Spec, kind: Kind) -> Result<Hardware> {
        let accelerator = match kind {
            Kind::Kvm if self.has_kvm()? => Accelerator::Kvm,
            Kind::Kvm => bail!("no kernel boots under KVM here"),
            Kind::Uml | Kind::Tcg => Accelerator::Tcg,
        };
        let boot = match &spec.system {
            System::Debian(release) => Boot::Root(Root::get(&self.cache, *release)?),
            System::Image(image) => Boot::Image(image.clone()),
        };
        Ok(Hardware {
            network: self.network.clone(),
            accelerator,
            boot,
            name: spec.name.clone(),
            address: format!("{}/24", spec.address),
            number: self.network.number(),
            directory: self.directory(spec),
            seed: spec.seed.clone(),
        })
    }

    fn directory(&self, spec: &Spec) -> PathBuf {
        self.scratch.join(&spec.name)
    }
}

/// Ctrl-C and SIGTERM end the process without running destructors, so their handler undoes what this process set up, and
/// what tests that it started have left.
fn undo_on_signals() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = ctrlc::set_handler(|| {
            leftovers::undo_own();
            let _ = leftovers::sweep();
            std::process::exit(130);
        });
    });
    result.context("handle Ctrl-C")
}
