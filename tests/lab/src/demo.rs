//! `cargo lab demo`: the guide's tier on three VM guests, from blank disks to a page through the balancer.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::agent;
use crate::cloud_image::CloudImage;
use crate::lab::Lab;
use crate::progress::say;
use crate::release::Release;
use crate::tier::{PAGE, Tier};

/// How long the application may take to start on an emulated processor.
const SERVED: Duration = Duration::from_secs(300);

/// Runs the demo, on guests of this cloud image if there is one; with `once` it ends after the ten answers, else it stays
/// up until Ctrl-C.
pub fn run(once: bool, image: Option<&Path>) -> Result<()> {
    let begun = Instant::now();
    let image = image.map(CloudImage::open).transpose()?;
    let binary = agent::build()?;
    let lab = Lab::new()?;
    let tier = match &image {
        Some(image) => Tier::first_boot(&lab, image)?,
        None => {
            lab.prepare(&Release::BOTH)?;
            // Both releases at once: a plain unit on one WAS, Quadlet on the other.
            Tier::boot(&lab, Release::Trixie, [Release::Bookworm, Release::Trixie])?
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

fn print_ways_in(lab: &Lab, tier: &Tier) {
    println!("\nLook inside, from another terminal:");
    println!("  ip netns exec {} curl {PAGE}", lab.network().name());
    for (guest, _) in tier.guests() {
        println!("  {}   # {}", guest.ssh_command(), guest.name());
    }
    println!("Ctrl-C ends it and takes everything away.");
}
