//! `cargo lab test`: everything that is proved, the fast proofs first, ended by the first stage that fails.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::process::describe;
use crate::progress::{say, timed};
use crate::{agent, host_packages};

/// A stage: what it proves, and the arguments of cargo.
type Stage = (&'static str, &'static [&'static str]);

/// What needs no guest.
const CODE: [Stage; 3] = [
    ("the format", &["fmt", "--all", "--check"]),
    (
        "clippy, warnings as errors",
        &[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--features",
            "wasagent-lab/guests",
            "--",
            "--deny",
            "warnings",
        ],
    ),
    ("unit tests", &["test", "--quiet", "--workspace"]),
];

/// What is proved on guests.
const GUESTS: [Stage; 3] = [
    (
        "the release build",
        &["build", "--release", "--package", "wasagent"],
    ),
    (
        "container guests",
        &[
            "test",
            "--package",
            "wasagent-lab",
            "--features",
            "guests",
            "--test",
            "binary",
            "--test",
            "container_guest",
            "--test",
            "share",
            "--test",
            "data_disk",
            "--test",
            "content",
            "--test",
            "soak",
            "--test",
            "tier",
            "--test",
            "guests",
            "--",
            "--test-threads=1",
            "--nocapture",
        ],
    ),
    (
        "VM guests",
        &[
            "test",
            "--package",
            "wasagent-lab",
            "--features",
            "guests",
            "--test",
            "vm_guest",
            "--test",
            "database",
            "--test",
            "selinux",
            "--",
            "--test-threads=1",
            "--nocapture",
        ],
    ),
];

/// Runs every stage. Guests share two processors, so the tests run one at a time.
pub fn run() -> Result<()> {
    host_packages::ensure()?;
    let begun = Instant::now();
    for stage in CODE {
        run_stage(stage)?;
    }
    let deny = cargo_deny()?;
    timed("the licences and sources of the dependencies", || {
        succeed(Command::new(deny).args([
            "--config",
            ".cargo/deny.toml",
            "--log-level",
            "error",
            "check",
            "bans",
            "licenses",
            "sources",
        ]))
    })?;
    for stage in GUESTS {
        run_stage(stage)?;
    }
    say(format!(
        "all passed in {:.1} min",
        begun.elapsed().as_secs_f64() / 60.0
    ));
    Ok(())
}

fn run_stage((what, arguments): Stage) -> Result<()> {
    timed(what, || succeed(cargo().args(arguments)))
}

fn cargo() -> Command {
    Command::new(env!("CARGO"))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .current_dir(agent::checkout())
        .status()
        .with_context(|| format!("start {}", describe(command)))?;
    if !status.success() {
        bail!("{}: {status}", describe(command));
    }
    Ok(())
}

/// The version of cargo-deny that checks the dependencies.
const CARGO_DENY: &str = "0.20.2";

/// cargo-deny, built once and kept in the cache: no machine has it when it is new.
fn cargo_deny() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let built = cache.artefact("cargo-deny", CARGO_DENY, |into| {
        let mut install = cargo();
        install
            .args([
                "install",
                "cargo-deny",
                "--quiet",
                "--locked",
                "--version",
                CARGO_DENY,
                "--root",
            ])
            .arg(into);
        succeed(&mut install)
    })?;
    Ok(built.join("bin/cargo-deny"))
}
