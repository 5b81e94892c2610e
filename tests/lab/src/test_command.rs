//! `cargo lab test`: everything that is proved, the fast proofs first, ended by the first stage that fails.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::lab::Lab;
use crate::process::describe;
use crate::progress::{say, timed};
use crate::release::Release;
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

/// Builds what the lanes run, so that none of them waits for another's compiler.
const BUILDS: [Stage; 2] = [
    (
        "the release build",
        &["build", "--release", "--package", "wasagent"],
    ),
    (
        "the build of the tests on guests",
        &[
            "test",
            "--quiet",
            "--package",
            "wasagent-lab",
            "--features",
            "guests",
            "--no-run",
        ],
    ),
];

/// Test targets that run one after the other, beside another lane.
struct Lane {
    name: &'static str,
    targets: &'static [&'static str],
}

/// Mostly one guest at a time, which keeps one of two processors busy: two lanes of them run at once. They are about as
/// long as each other.
const SMALL: [Lane; 2] = [
    Lane {
        name: "campaigns",
        targets: &["soak"],
    },
    Lane {
        name: "guests",
        targets: &[
            "binary",
            "container_guest",
            "share",
            "data_disk",
            "content",
            "tier",
            "guests",
            "selinux",
            "first_boot",
            "database",
            "power_cut",
        ],
    },
];

/// Three VMs at a time.
const TIERS: [Lane; 1] = [Lane {
    name: "tiers",
    targets: &["vm_guest"],
}];

/// What the guests of the tests start from.
const RELEASES: [Release; 4] = [
    Release::Bookworm,
    Release::Trixie,
    Release::TrixieSelinux,
    Release::BookwormCloud,
];

/// Runs every stage, the fast ones first.
pub fn run() -> Result<()> {
    host_packages::ensure()?;
    let begun = Instant::now();
    thread::scope(|scope| {
        // Minutes on a fresh machine, and nothing after that.
        let guests = scope.spawn(|| Lab::new()?.prepare(&RELEASES));
        prove_the_code()?;
        guests.join().unwrap_or_else(|_| bail!("the lab panicked"))
    })?;
    timed("one guest at a time, in two lanes", || run_lanes(&SMALL))?;
    timed("whole tiers", || run_lanes(&TIERS))?;
    say(format!(
        "all passed in {:.1} min",
        begun.elapsed().as_secs_f64() / 60.0
    ));
    Ok(())
}

/// What needs no guest, and what the guests will run.
fn prove_the_code() -> Result<()> {
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
    BUILDS.into_iter().try_for_each(run_stage)
}

/// How many of its last lines a lane that failed repeats: what it said of the failure may be far above the end.
const REPEATED: usize = 60;

/// Runs lanes at the same time, each to its end, and repeats how those ended that failed.
fn run_lanes(lanes: &[Lane]) -> Result<()> {
    let ended: Vec<Result<LaneEnd>> = thread::scope(|scope| {
        let running: Vec<_> = lanes
            .iter()
            .map(|lane| scope.spawn(|| lane.run()))
            .collect();
        running
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|_| bail!("a lane panicked")))
            .collect()
    });
    let mut failed = Vec::new();
    for (lane, end) in lanes.iter().zip(ended) {
        let end = end.with_context(|| lane.name)?;
        if !end.passed {
            say(format!("the lane {} failed; its last lines:", lane.name));
            for line in &end.last {
                eprintln!("{line}");
            }
            failed.push(lane.name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// How a lane ended.
struct LaneEnd {
    passed: bool,
    last: VecDeque<String>,
}

impl Lane {
    /// Runs it, each line of its output after its name.
    fn run(&self) -> Result<LaneEnd> {
        let begun = Instant::now();
        let (output, ours) = std::io::pipe()?;
        let mut command = cargo();
        command.args(["test", "--package", "wasagent-lab", "--features", "guests"]);
        command.args(self.targets.iter().flat_map(|target| ["--test", target]));
        command.args(["--no-fail-fast", "--", "--test-threads=1", "--nocapture"]);
        command
            .current_dir(agent::checkout())
            .stdin(Stdio::null())
            .stdout(ours.try_clone()?)
            .stderr(ours);
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", describe(&command)))?;
        // It holds the ends of the pipe that are the child's.
        drop(command);
        let mut last = VecDeque::new();
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{:>9} | {line}", self.name);
            if last.len() == REPEATED {
                last.pop_front();
            }
            last.push_back(line);
        }
        let passed = child.wait()?.success();
        let minutes = begun.elapsed().as_secs_f64() / 60.0;
        say(format!("the lane {} took {minutes:.1} min", self.name));
        Ok(LaneEnd { passed, last })
    }
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
