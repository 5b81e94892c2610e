//! The crates that are linked into the agent, as an RPM says what it bundles.

use std::process::Command;

use anyhow::Result;

use crate::agent::checkout;
use crate::process::ok;

/// Those for which the spec builds: one list has the crates of both.
const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

/// The lines of the spec, sorted.
pub fn bundled() -> Result<Vec<String>> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--quiet", "--package", "wasagent"])
        .args(["--edges", "no-dev,no-build", "--prefix", "none"])
        .args(MACHINES.map(|machine| format!("--target={machine}-unknown-linux-gnu")))
        .args(["--format", "{p}"])
        .current_dir(checkout());
    let mut crates: Vec<String> = ok(tree)?.stdout.lines().filter_map(provides).collect();
    crates.sort();
    crates.dedup();
    Ok(crates)
}

/// A line of cargo-tree(1): `NAME vVERSION`, and in parentheses what kind of crate it is.
fn provides(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    // What follows a plus says nothing about order, and rpm would compare it.
    let version = version.split('+').next()?;
    (name != "wasagent").then(|| format!("Provides:       bundled(crate({name})) = {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spec_names_each_crate_that_is_linked_in() {
        let spec = include_str!("../../../../packaging/rpm/wasagent.spec");
        assert!(spec.contains(&format!("\nExclusiveArch:  {}\n", MACHINES.join(" "))));
        let named: Vec<&str> = spec
            .lines()
            .filter(|line| line.contains("bundled("))
            .collect();
        let bundled = bundled().unwrap();
        assert!(
            named == bundled,
            "packaging/rpm/wasagent.spec should say:\n{}",
            bundled.join("\n")
        );
    }

    #[test]
    fn the_packages_have_the_version_of_the_program() {
        let version = env!("CARGO_PKG_VERSION");
        let spec = include_str!("../../../../packaging/rpm/wasagent.spec");
        assert!(spec.contains(&format!("\nVersion:        {version}\n")));
        assert!(spec.contains(&format!("> - {version}-1\n")));
        let changelog = include_str!("../../../../packaging/deb/changelog");
        assert!(changelog.starts_with(&format!("wasagent ({version}-1) ")));
    }
}
