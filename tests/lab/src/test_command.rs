//! `cargo lab test`: everything that is proved, the fast proofs first, ended by the first stage that fails.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::progress::say;
use crate::{agent, host_packages};

/// The stages: what each proves, and the arguments of cargo.
const STAGES: [(&str, &[&str]); 6] = [
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
    for (what, arguments) in STAGES {
        say(what);
        let stage = Instant::now();
        let status = Command::new(env!("CARGO"))
            .args(arguments)
            .current_dir(agent::checkout())
            .status()
            .context("run cargo")?;
        if !status.success() {
            bail!("{what}: cargo {}: {status}", arguments.join(" "));
        }
        say(format!(
            "{what}: passed in {:.0} s",
            stage.elapsed().as_secs_f64()
        ));
    }
    say(format!(
        "all passed in {:.1} min",
        begun.elapsed().as_secs_f64() / 60.0
    ));
    Ok(())
}
