//! `cargo lab demo`: the guide's tier on three guests, from blank disks to a page through the balancer.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::agent;
use crate::cloud_image::CloudImage;
use crate::kind::Kind;
use crate::lab::Lab;
use crate::progress::say;
use crate::release::Release;
use crate::tier::{PAGE, Tier};
use crate::uml::Kernel;

/// How long the application may take to start where the processor is emulated.
const SERVED: Duration = Duration::from_secs(300);

/// Runs the demo, on guests of this cloud image if there is one; with `once` it ends after the ten answers, else it stays
/// up until Ctrl-C.
pub fn run(once: bool, image: Option<&Path>) -> Result<()> {
    let begun = Instant::now();
    let image = image.map(CloudImage::open).transpose()?;
    let lab = Lab::new()?;
    let (binary, tier) = match &image {
        Some(image) => (agent::build()?, Tier::first_boot(&lab, image)?),
        None => {
            choose_kind(&lab)?;
            let binary = prepare(&lab)?;
            // Both releases at once: a plain unit on one WAS, Quadlet on the other.
            let was = [Release::Bookworm, Release::Trixie];
            (binary, Tier::boot(&lab, Release::Trixie, was, &[])?)
        }
    };
    tier.install(&binary)?;
    tier.apply()?;
    tier.wait_served(SERVED)?;

    for (guest, _) in tier.guests() {
        println!("\n{}", guest.answer(["wasagent", "health"])?);
    }
    println!();
    let answers = tier.ask(10)?;
    for (number, name) in answers.iter().enumerate() {
        println!("{:>2}. {PAGE} answered by {name}", number + 1);
    }
    for name in tier.host_names() {
        let count = answers.iter().filter(|answer| **answer == name).count();
        ensure!(count == 5, "{name} answered {count} of 10 requests, not 5");
    }
    say(format!(
        "the tier serves; {:.0} s in all",
        begun.elapsed().as_secs_f64()
    ));
    if once {
        return Ok(());
    }
    print_ways_in(&lab, &tier);
    loop {
        std::thread::park();
    }
}

/// Where neither KVM works nor the kernel of User-Mode Linux is there, emulated guests serve sooner than that is built.
fn choose_kind(lab: &Lab) -> Result<()> {
    let kind = lab.kind_for(&[])?;
    if kind == Kind::Uml && Kind::by_hand()?.is_none() && !Kernel::is_built(lab.cache()) {
        say(
            "neither KVM nor a kernel of User-Mode Linux is here: the guests are emulated, and the demo takes a quarter of an \
             hour. `cargo lab setup` builds that kernel, and with it the demo takes two minutes",
        );
        Kind::set_by_hand(Kind::Tcg);
    }
    Ok(())
}

/// The agent, and beside its compiler what the guests start from.
fn prepare(lab: &Lab) -> Result<PathBuf> {
    thread::scope(|scope| {
        let building = Release::BOTH.map(|release| {
            scope.spawn(move || {
                lab.prepare_roots(&[release])?;
                match lab.kind_for(&[])? {
                    Kind::Uml => lab.prepare_kernel(),
                    Kind::Kvm | Kind::Tcg => lab.prepare_states(&[release]),
                }
            })
        });
        let binary = agent::build();
        for built in building {
            built.join().unwrap_or_else(|_| bail!("a build panicked"))?;
        }
        binary
    })
}

fn print_ways_in(lab: &Lab, tier: &Tier) {
    println!("\nLook inside, from another terminal:");
    println!("  ip netns exec {} curl {PAGE}", lab.network().name());
    for (guest, _) in tier.guests() {
        println!("  {}   # {}", guest.ssh_command(), guest.name());
    }
    println!("Ctrl-C ends it and takes everything away.");
}
