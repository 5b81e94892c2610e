//! One test that boots guests: a process of its own, in a control group of its own, of which nothing is left afterwards.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::schedule::Cost;
use crate::agent;
use crate::control_group::ControlGroup;
use crate::kind::Kind;
use crate::leftovers::Undo;
use crate::process::{describe, spawn_dependent, until};

/// How many of the last lines of a test are kept.
const KEPT: usize = 60;
/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(2400);

/// A test function of a test binary.
#[derive(Clone, Debug)]
pub struct GuestTest {
    binary: PathBuf,
    /// `TARGET::TEST`.
    pub name: String,
}

/// How a test ended.
pub struct Ended {
    pub passed: bool,
    pub cost: Cost,
    /// The last lines of what it said.
    pub last: VecDeque<String>,
}

impl Ended {
    /// A test that could not be run.
    pub fn unable(error: &anyhow::Error) -> Ended {
        Ended {
            passed: false,
            cost: Cost::default(),
            last: VecDeque::from([format!("{error:#}")]),
        }
    }
}

/// The tests of the binaries that cargo has built, without those that are ignored.
pub fn all(binaries: &[(String, PathBuf)]) -> Result<Vec<GuestTest>> {
    let mut all = Vec::new();
    for (target, binary) in binaries {
        let ignored = listed(binary, &["--ignored"])?;
        let tests = listed(binary, &[])?;
        ensure!(!tests.is_empty(), "{target} lists no test");
        all.extend(
            tests
                .into_iter()
                .filter(|test| !ignored.contains(test))
                .map(|test| GuestTest {
                    binary: binary.clone(),
                    name: format!("{target}::{test}"),
                }),
        );
    }
    Ok(all)
}

/// The names that a test binary lists (`NAME: test`).
fn listed(binary: &Path, options: &[&str]) -> Result<Vec<String>> {
    let mut list = Command::new(binary);
    list.args(["--list", "--format", "terse"]).args(options);
    let output = list
        .output()
        .with_context(|| format!("start {}", describe(&list)))?;
    if !output.status.success() {
        bail!("{}: {}", describe(&list), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// The test binaries of this package in what cargo says of a build (`--message-format=json`).
pub fn binaries(messages: &str) -> Vec<(String, PathBuf)> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter_map(|message| {
            let target = &message["target"];
            let is_test = target["kind"].as_array()?.iter().any(|kind| kind == "test");
            let name = target["name"].as_str()?.to_owned();
            let binary = PathBuf::from(message["executable"].as_str()?);
            is_test.then_some((name, binary))
        })
        .collect()
}

impl GuestTest {
    /// Runs it to its end, each line of its output after its name.
    pub fn run(&self, undo: &Undo, number: usize) -> Result<Ended> {
        let group = ControlGroup::create(undo, &format!("test{number}"))?;
        let begun = Instant::now();
        let (output, ours) = std::io::pipe()?;
        let (_, test) = self.name.split_once("::").context("a target's test")?;
        let mut command = Command::new(&self.binary);
        command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
        command
            .current_dir(agent::checkout())
            .stdin(Stdio::null())
            .stdout(ours.try_clone()?)
            .stderr(ours);
        if let Some(kind) = Kind::by_hand()? {
            command.env(Kind::VARIABLE, kind.to_string());
        }
        let command = group.inside(command)?;
        // It ends with the lab, however that ends.
        let mut child = spawn_dependent(command)?;
        let (ended, heard) = thread::scope(|scope| {
            let reader = scope.spawn(|| self.repeat(output, number));
            let hung = wait(&mut child);
            let processor = group.processor_time();
            // Whoever outlives the test would keep the reader waiting.
            drop(group);
            let heard = reader
                .join()
                .unwrap_or_else(|_| bail!("the reader panicked"));
            (hung.map(|hung| (hung, processor)), heard)
        });
        let (hung, processor) = ended?;
        let Heard {
            mut last,
            guests,
            passed,
        } = heard?;
        last.extend(hung);
        let cost = Cost {
            seconds: begun.elapsed().as_secs_f64(),
            processor: processor?.as_secs_f64(),
            guests,
        };
        Ok(Ended { passed, cost, last })
    }

    /// Repeats what it says.
    fn repeat(&self, output: PipeReader, number: usize) -> Result<Heard> {
        let mut heard = Heard::default();
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{number:>3} {:<32.32} | {line}", self.name);
            heard.line(line);
        }
        Ok(heard)
    }
}

/// Waits for the end of a test, and says so if it had to be ended.
fn wait(child: &mut Child) -> Result<Option<String>> {
    let ended = until("the end of the test", LIMIT, || Ok(child.try_wait()?));
    match ended {
        Ok(_) => Ok(None),
        Err(hangs) => {
            let _ = child.kill();
            let _ = child.wait();
            Ok(Some(format!("{hangs:#}")))
        }
    }
}

/// What a test said.
#[derive(Default)]
struct Heard {
    /// The last lines, without those by which the test harness sums up.
    last: VecDeque<String>,
    /// How many guests of which kind it booted.
    guests: BTreeMap<String, u64>,
    /// Whether the one test was run and passed.
    passed: bool,
}

impl Heard {
    fn line(&mut self, line: String) {
        if let Some(kind) = booted(&line) {
            *self.guests.entry(kind).or_insert(0) += 1;
        }
        self.passed |= line.starts_with("test result: ok. 1 passed;");
        let sums_up = ["failures:", "test result:", "    "];
        if line.is_empty() || sums_up.iter().any(|begin| line.starts_with(begin)) {
            return;
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

/// The kind of guest that this line of progress says is booted: `[  1.0 s] guest was-01 (trixie, uml)`. The line of its end
/// goes on with the time.
fn booted(line: &str) -> Option<String> {
    let (_, what) = line.split_once(" s] ")?;
    let (system, rest) = what
        .strip_prefix("guest ")?
        .split_once(" (")?
        .1
        .split_once(')')?;
    let (_, kind) = system.split_once(", ")?;
    let known = kind == "container" || kind.parse::<Kind>().is_ok();
    (known && rest.is_empty()).then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_counted_once() {
        let kind = booted("[   1.0 s] guest was-01 (trixie, uml)");
        assert_eq!(kind.as_deref(), Some("uml"));
        let kind = booted("[   1.0 s] guest was-storage (bookworm, container)");
        assert_eq!(kind.as_deref(), Some("container"));
        assert_eq!(
            booted("[  16.0 s] guest was-01 (trixie, uml): 15.0 s"),
            None
        );
        assert_eq!(booted("guest was-01 (trixie, uml)"), None);
    }

    #[test]
    fn only_a_test_that_was_run_has_passed() {
        let says = |line: &str| {
            let mut heard = Heard::default();
            heard.line(line.to_owned());
            heard
        };
        assert!(says("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.00s").passed);
        assert!(!says("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 8 filtered out; finished in 0.00s").passed);
        assert!(says("failures:").last.is_empty());
        assert_eq!(says("Error: no page").last, ["Error: no page"]);
    }

    #[test]
    fn a_test_binary_is_told_from_a_program() {
        let messages = "{\"target\":{\"kind\":[\"test\"],\"name\":\"soak\"},\"executable\":\"/t/soak\"}\n\
                        {\"target\":{\"kind\":[\"bin\"],\"name\":\"lab\"},\"executable\":\"/t/lab\"}\nwords\n";
        assert_eq!(binaries(messages), [("soak".to_owned(), "/t/soak".into())]);
    }
}
