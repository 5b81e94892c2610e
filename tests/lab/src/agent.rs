//! The agent: as it is shipped, the release build of this checkout, and with the fail points that only tests have.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::progress::timed;
use crate::soak::Size;

/// The top of the checkout.
pub fn checkout() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Builds the agent by plain `cargo build --release` and says where the binary is. Fast when nothing has changed.
pub fn build() -> Result<PathBuf> {
    timed("the agent, cargo build --release", || {
        built("wasagent", &["build", "--release"], &[])
    })
}

/// The same source as a debug build, whose symbol table names each function that is linked in: the shipped one has none.
pub fn build_with_symbols() -> Result<PathBuf> {
    timed("the agent with its symbols", || {
        built("wasagent", &["build", "--bin", "wasagent"], &[])
    })
}

/// The same source with the fail points compiled in, which no shipped binary has: for a sample a debug build, whose
/// dependencies the unit tests have built already, for a long campaign an optimised one. Without its symbols, which are
/// most of what a guest would have to be sent.
pub fn build_with_failpoints(size: Size) -> Result<PathBuf> {
    let profile = match size {
        Size::All => "failpoints",
        Size::Sample(_) => "dev",
    };
    timed("the agent with fail points", || {
        let arguments = ["rustc", "--bin", "wasagent", "--features", "failpoints"];
        let arguments = [arguments.as_slice(), &["--profile", profile]].concat();
        built("wasagent", &arguments, &["--", "-C", "strip=symbols"])
    })
}

/// Has cargo build one program of a package, and says where it is.
pub(crate) fn built(
    package: &str,
    arguments: &[&str],
    of_the_compiler: &[&str],
) -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args([
            "--package",
            package,
            "--message-format=json-render-diagnostics",
        ])
        .args(of_the_compiler)
        .current_dir(checkout())
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    if !output.status.success() {
        bail!("cargo {}: {}", arguments.join(" "), output.status);
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no executable")
}
