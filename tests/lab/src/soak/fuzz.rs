//! Random inputs for whatever reads somebody else's text (`tests/fuzz`), for an hour in all. Nothing of it needs a guest:
//! Node.js runs on this machine what the JavaScript editor has edited.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Scope;

/// For each of the five kinds of input; they run at the same time.
const SECONDS: &str = "720";

pub fn run(_scope: &Scope) -> Result<()> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = Command::new("cargo")
        .args([
            "test",
            "--package",
            "wasagent",
            "--test",
            "fuzz",
            "--",
            "--nocapture",
        ])
        .env("WASAGENT_FUZZ_SECONDS", SECONDS)
        .current_dir(checkout)
        .status()
        .context("start cargo")?;
    ensure!(
        status.success(),
        "an input was found that fails: it is shown above"
    );
    Ok(())
}
