//! How many instructions the agent's commands need that change nothing, counted by callgrind: a number that hardly depends on
//! what else the machine does, so that a test can hold it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::ground;
use crate::cache::Cache;
use crate::guest::Guest;
use crate::lab::Lab;
use crate::progress::say;
use crate::release::Release;
use crate::{agent, node};

/// The counts of the last time that somebody looked at them: `cargo lab bench --instructions` writes them.
const RECORDED: &str = include_str!("instructions.json");
/// The same in the checkout.
const RECORD: &str = "tests/lab/src/bench/instructions.json";

/// How much more than recorded is no accident.
const GROWTH: f64 = 1.03;

/// Where callgrind is on the guest.
const THERE: &str = "/root/valgrind";
/// Where Debian's package has it.
const IN_THE_PACKAGE: &str = "usr/libexec/valgrind";

/// A command is counted this often, and the least is taken: what it waits for is not always there at once.
const TIMES: usize = 3;

/// What is counted, by name.
const COMMANDS: [(&str, &[&str]); 3] = [
    (
        "apply with nothing to change",
        &["apply", "--role", "storage"],
    ),
    ("plan", &["plan", "--role", "storage"]),
    ("check", &["check"]),
];

/// Instructions by the name of what needs them.
pub type Counts = BTreeMap<String, u64>;

/// Counts them on a guest of this release, the storage role applied.
pub fn count(agent: &Path, release: Release) -> Result<Counts> {
    let lab = Lab::new()?;
    let guest = ground::applied(&lab, agent, release)?;
    install(lab.cache(), &guest)?;
    let mut counts = Counts::new();
    for (name, arguments) in COMMANDS {
        let mut least = u64::MAX;
        for _ in 0..TIMES {
            least = least.min(once(&guest, arguments)?);
        }
        say(format!("{name}: {least} instructions"));
        counts.insert(name.to_owned(), least);
    }
    Ok(counts)
}

/// Counts them and writes them into the checkout, where the test finds them.
pub fn record(release: Release) -> Result<()> {
    let counts = count(&agent::build()?, release)?;
    let file = agent::checkout().join(RECORD);
    let text = serde_json::to_string_pretty(&counts)? + "\n";
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    println!("{RECORD}");
    Ok(())
}

/// Fails if a command needs more instructions than it is recorded with, and a little.
pub fn compare(counts: &Counts) -> Result<()> {
    let recorded: Counts = serde_json::from_str(RECORDED).context(RECORD)?;
    let more = too_many(&recorded, counts);
    ensure!(
        more.is_empty(),
        "{}; if that is worth it, or the compiler is another one: cargo lab bench --instructions",
        more.join("; ")
    );
    Ok(())
}

fn too_many(recorded: &Counts, counts: &Counts) -> Vec<String> {
    let sentences = counts.iter().filter_map(|(name, count)| {
        let Some(before) = recorded.get(name) else {
            return Some(format!("{name}: nothing is recorded"));
        };
        let factor = *count as f64 / *before as f64;
        let percent = (factor - 1.0) * 100.0;
        (factor > GROWTH).then(|| {
            format!("{name}: {count} instructions, {percent:.1} % more than the {before} recorded")
        })
    });
    sentences.collect()
}

/// The two files of valgrind's that callgrind needs: Debian 13's, since Debian 12's knows no openat2(2).
fn valgrind(cache: &Cache) -> Result<PathBuf> {
    cache.artefact("valgrind", tool(), |into| {
        let work = tempfile::tempdir_in(into)?;
        let root = work.path().join("root");
        node::extract(Release::Trixie, "valgrind", &root)?;
        for file in [tool(), "default.supp"] {
            let from = root.join(IN_THE_PACKAGE).join(file);
            fs::copy(&from, into.join(file)).with_context(|| format!("copy {}", from.display()))?;
        }
        Ok(())
    })
}

fn install(cache: &Cache, guest: &Guest) -> Result<()> {
    let valgrind = valgrind(cache)?;
    for file in [tool(), "default.supp"] {
        let bytes = fs::read(valgrind.join(file)).with_context(|| format!("read {file}"))?;
        guest.write(&format!("{THERE}/{file}"), bytes, 0o755)?;
    }
    Ok(())
}

/// callgrind's own program for this processor. The agent is static, so nothing else of valgrind is needed.
fn tool() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "callgrind-arm64-linux",
        _ => "callgrind-amd64-linux",
    }
}

fn once(guest: &Guest, arguments: &[&str]) -> Result<u64> {
    let program = format!("{THERE}/{}", tool());
    let library = format!("VALGRIND_LIB={THERE}");
    let mut words = vec![
        "env",
        &library,
        // Both are asked for, though nothing is started by the latter.
        "VALGRIND_LAUNCHER=/usr/bin/valgrind",
        &program,
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "/usr/bin/wasagent",
    ];
    words.extend(arguments);
    let output = guest.run_unchecked(&words, b"", Duration::from_secs(600))?;
    if !output.success() {
        bail!("{} under callgrind: {output}", arguments.join(" "));
    }
    collected(&output.stderr).with_context(|| format!("callgrind tells no count: {output}"))
}

/// The number in callgrind's last words: `==12== Collected : 18650000`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected : "))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_in_callgrinds_last_words() {
        let said = "==1== Events    : Ir\n==1== Collected : 18650123\n==1==\n";
        assert_eq!(collected(said), Some(18_650_123));
        assert_eq!(collected("==1== Events    : Ir\n"), None);
    }

    #[test]
    fn more_than_three_percent_is_told_and_less_is_not() {
        let of = |count| Counts::from([("plan".to_owned(), count)]);
        assert_eq!(too_many(&of(1_000), &of(1_029)), [""; 0]);
        assert_eq!(too_many(&of(1_000), &of(500)), [""; 0]);
        let told = too_many(&of(1_000), &of(1_040));
        assert!(
            told[0].contains("4.0 % more than the 1000 recorded"),
            "{told:?}"
        );
        assert_eq!(too_many(&Counts::new(), &of(1)).len(), 1);
    }

    #[test]
    fn each_command_is_recorded() {
        let recorded: Counts = serde_json::from_str(RECORDED).unwrap();
        let names: Vec<&String> = recorded.keys().collect();
        assert_eq!(names, ["apply with nothing to change", "check", "plan"]);
    }
}
