//! What one more file of the content costs the agent: plan, and an apply with nothing to change, on trees of different sizes.
//!
//! Of mounts and containers a tier file names one, so there is no growing number of them.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::contestant;
use super::ground::PASSWORD_FILE;
use super::statistics::{Summary, slope};
use super::stopwatch;
use crate::guest::{Disk, Spec};
use crate::lab::Lab;
use crate::progress::say;
use crate::release::Release;
use crate::tier::{REPOSITORY, SHARE_PASSWORD, TIER_FILE};

/// How many files there are.
const SIZES: [usize; 4] = [1, 10, 100, 1000];

/// A bare repository with a branch of `$2` files, a hundred in a directory.
const MAKE: &str = r#"
export GIT_AUTHOR_NAME=Lab GIT_AUTHOR_EMAIL=lab@localhost GIT_COMMITTER_NAME=Lab GIT_COMMITTER_EMAIL=lab@localhost
work=$(mktemp -d)
cd "$work"
git init --quiet --initial-branch="files-$2"
mkdir application
for number in $(seq "$2"); do
	directory=application/$((number / 100))
	mkdir -p $directory
	echo "file $number" >$directory/$number.txt
done
git add .
git commit --quiet --message "Add files"
[ -d "$1" ] || git init --quiet --bare "$1"
git -c safe.directory='*' push --quiet "$1" "files-$2"
rm -r "$work""#;

/// Two summaries of seconds for each size.
#[derive(Clone, Debug, Default)]
pub struct Growth {
    pub sizes: Vec<(usize, [Summary; 2])>,
}

impl Growth {
    /// The names of the two.
    pub const OF: [&'static str; 2] = ["plan", "nothing to change"];

    /// What one more file costs in seconds, by the medians.
    pub fn slopes(&self) -> [Option<f64>; 2] {
        [0, 1].map(|which| {
            let points = self
                .sizes
                .iter()
                .map(|(files, both)| (*files as f64, both[which].median));
            slope(&points.collect::<Vec<_>>())
        })
    }

    pub fn json(&self) -> Value {
        let sizes = self.sizes.iter().map(|(files, both)| {
            let [plan, apply] = both.map(super::report::of_three);
            json!({ "files": files, "plan": plan, "nothing_to_change": apply })
        });
        let [plan, apply] = self.slopes();
        json!({
            "sizes": sizes.collect::<Vec<_>>(),
            "seconds_a_file": { "plan": plan, "nothing_to_change": apply },
        })
    }
}

/// Measures it on one guest, each size so many times.
pub fn measure(
    lab: &Lab,
    release: Release,
    agent: &Path,
    watch: &Path,
    runs: usize,
) -> Result<Growth> {
    let guest = lab.container(&Spec::storage(release).disk(Disk::of_the_guide("")))?;
    guest.install_agent(agent)?;
    stopwatch::install(watch, &guest)?;
    guest.write(PASSWORD_FILE, format!("{SHARE_PASSWORD}\n"), 0o600)?;
    let disk = guest.devices().first().cloned().context("a data disk")?;
    let wasagent = contestant::wasagent();
    let (_, tier) = wasagent.files.first().context("a tier file")?;
    let plan = wasagent.plan.as_deref().context("a plan")?;
    let mut growth = Growth::default();
    for files in SIZES {
        say(format!("growth: {files} files"));
        guest.ok(["sh", "-ec", MAKE, "sh", REPOSITORY, &files.to_string()])?;
        let tier = tier
            .replace("@disk@", &disk)
            .replace("\"main\"", &format!("\"files-{files}\""))
            .replace("\"linux-3tier-example\"", "\"application\"");
        guest.write(TIER_FILE, tier, 0o644)?;
        let seconds = |command: &[&str]| -> Result<f64> {
            let (output, taken) = stopwatch::measured(&guest, command)?;
            anyhow::ensure!(output.success(), "{}: {output}", command.join(" "));
            Ok(taken.seconds)
        };
        seconds(&wasagent.apply)?;
        let mut both = [Vec::new(), Vec::new()];
        for _ in 0..runs {
            both[0].push(seconds(plan)?);
            both[1].push(seconds(&wasagent.apply)?);
        }
        let both = both.map(|values| Summary::of(&values));
        let [Some(plan), Some(apply)] = both else {
            continue;
        };
        growth.sizes.push((files, [plan, apply]));
    }
    Ok(growth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_medians() {
        let always = |seconds: f64| Summary {
            median: seconds,
            least: 0.0,
            most: 9.0,
        };
        let growth = Growth {
            sizes: vec![
                (1, [always(0.011), always(0.02)]),
                (11, [always(0.021), always(0.02)]),
            ],
        };
        let [plan, apply] = growth.slopes().map(Option::unwrap);
        assert!((plan - 0.001).abs() < 1e-9 && apply.abs() < 1e-9);
    }
}
