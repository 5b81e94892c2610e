//! `lab`: the proofs that need guests, from the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use wasagent_lab::kind::Kind;
use wasagent_lab::soak::{self, Scope};
use wasagent_lab::{Lab, Release, bench, demo, package, progress, test_command};

/// Boots real guests and proves the agent on them.
#[derive(Parser)]
#[command(name = "lab")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What runs the guests that have a kernel of their own: kvm, uml or tcg. The lab takes the quickest that works and
    /// has what a test needs.
    #[arg(long, global = true, value_name = "KIND")]
    guests: Option<Kind>,
}

#[derive(Subcommand)]
enum Command {
    /// The main job: the guide's tier on three guests, to a page through the balancer.
    Demo {
        /// End after the ten answers, instead of staying up until Ctrl-C.
        #[arg(long)]
        once: bool,
        /// Run it on guests of this cloud image, Rocky Linux 9 for one, which boot by its own loader and cloud-init.
        ///
        /// It is never written to. What it lacks (Samba, firewalld, podman, …) its package manager fetches, so one network
        /// card of each of these guests leads out: they reach whatever this machine reaches. Without KVM a boot takes
        /// many minutes.
        #[arg(long, value_name = "FILE.qcow2")]
        image: Option<PathBuf>,
    },
    /// Every test, the fast ones first.
    Test,
    /// A long campaign in full, of which the tests run a sample; without a name, lists them.
    Soak {
        name: Option<String>,
        #[command(flatten)]
        scope: Scope,
    },
    /// Measures the agent against what people use today: the same end state, in turn, each on guests of its own.
    Bench(bench::Options),
    /// RPM and deb packages of the last commit, into target/packages/.
    Package {
        /// Leave out the unit tests, which a distribution runs when it builds a package.
        #[arg(long)]
        no_check: bool,
    },
    /// Builds the roots, the kernel and the saved states that guests start from (half an hour the first time).
    Setup,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(kind) = arguments.guests {
        Kind::set_by_hand(kind);
    }
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        // Without the backtrace that the environment may ask for: the chain of causes says where.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { once, image } => demo::run(once, image.as_deref()),
        Command::Test => test_command::run(),
        Command::Soak { name, scope } => soak::run(name.as_deref(), &scope),
        Command::Bench(options) => bench::run(&options),
        Command::Package { no_check } => package::run(!no_check),
        Command::Setup => setup(),
    }
}

fn setup() -> Result<()> {
    let lab = Lab::new()?;
    lab.prepare_roots(&Release::ALL)?;
    lab.prepare_kernel()?;
    lab.prepare_states(&Release::BOTH)?;
    package::Workshop::get(lab.cache())?;
    progress::say(format!(
        "ready; everything is in {}",
        lab.cache().path().display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the documents have a developer type.
    #[test]
    fn every_command_of_the_lab_in_the_documents_is_one() {
        let documents = concat!(
            include_str!("../../../README.md"),
            include_str!("../../../packaging/doc/README.ko.md"),
            include_str!("../README.md")
        );
        let mut commands = 0;
        for rest in documents.split("cargo lab ").skip(1) {
            let line = rest.split(['\n', '`', '(']).next().unwrap_or_default();
            // Brackets mark what may be left out.
            let line = line.replace(['[', ']'], "");
            let words = ["lab"].into_iter().chain(line.split_whitespace());
            if let Err(wrong) = Arguments::try_parse_from(words) {
                panic!("cargo lab {line}: {wrong}");
            }
            commands += 1;
        }
        assert!(commands > 3, "{commands}");
    }
}
