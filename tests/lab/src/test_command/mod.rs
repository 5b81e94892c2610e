//! `cargo lab test`: everything that is proved, the fast proofs first.
//!
//! What needs no guest comes first; where it fails, no test on guests is begun. Then each test that boots guests is a process of its
//! own; as many run at once as the machine has processors for, by what each took when it was measured (schedule.rs).
//! On a fresh machine what guests start from is built beside all that, and a test waits for what its own guests need.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::cache::Cache;
use crate::kind::Kind;
use crate::lab::Lab;
use crate::leftovers::Undo;
use crate::package::Workshop;
use crate::process::describe;
use crate::progress::{say, timed};
use crate::release::Release;
use crate::{agent, host_packages, leftovers};

mod guest_test;
mod schedule;

use guest_test::{Ended, GuestTest};
use schedule::{Cost, Ready};

/// A stage: what it proves, and the arguments of cargo.
type Stage = (&'static str, &'static [&'static str]);

/// What needs no guest.
const CODE: [Stage; 5] = [
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
    // One package after the other: each with the features that its builds below have, so that no dependency is built twice.
    (
        "unit tests of the agent",
        &["test", "--quiet", "--package", "wasagent"],
    ),
    (
        "unit tests of the lab",
        &["test", "--quiet", "--package", "wasagent-lab"],
    ),
    (
        "tests of the deployment kit",
        &["test", "--quiet", "--package", "wasagent-mold"],
    ),
];

/// What the guests will run: no test waits for a compiler.
const RELEASE_BUILD: Stage = (
    "the release build",
    &["build", "--release", "--package", "wasagent"],
);

/// The releases whose guests the tests boot.
const RELEASES: [Release; 4] = [
    Release::Bookworm,
    Release::Trixie,
    Release::TrixieSelinux,
    Release::BookwormCloud,
];

/// Those of which tests restore a saved state of QEMU's: the first two on the distribution's kernel, the third where there
/// is no User-Mode Linux.
const STATES: [Release; 3] = [Release::Bookworm, Release::Trixie, Release::TrixieSelinux];

/// How much of the processors the tests that run at once may ask for: each waits for something now and then, but what was
/// measured beside others is less than a test alone would take.
const SHARE: f64 = 1.1;
/// How many lines of failed tests are repeated at the end, so that a log that is cut shows them.
const REPEATED: usize = 56;

/// What the threads of a run know of each other.
#[derive(Default)]
struct Board {
    ready: Ready,
    /// How many things that guests start from are being built.
    building: usize,
    /// What could not be built.
    broken: Option<anyhow::Error>,
    /// Whether the tests are known.
    listed: bool,
    /// Longest first.
    waiting: Vec<(GuestTest, Option<Cost>)>,
    /// The loads of the tests that run.
    running: BTreeMap<usize, f64>,
    /// How many tests there are.
    tests: usize,
    ended: Vec<(GuestTest, Ended)>,
}

/// One run of all tests.
struct Run {
    board: Mutex<Board>,
    changed: Condvar,
    undo: Undo,
    processors: usize,
}

/// Runs everything.
pub fn run() -> Result<()> {
    host_packages::ensure()?;
    leftovers::sweep()?;
    let begun = Instant::now();
    let run = Run {
        board: Mutex::default(),
        changed: Condvar::new(),
        undo: Undo::create()?,
        processors: thread::available_parallelism()?.get(),
    };
    let kind = Lab::new()?.kind_for(&[])?;
    let states = if kind == Kind::Uml {
        &STATES[..2]
    } else {
        &STATES[..]
    };
    run.board().building = 2;
    let code = thread::scope(|scope| {
        scope.spawn(|| {
            run.builds(|lab| {
                lab.prepare_kernel()?;
                run.is_ready(|ready| ready.kernel = true);
                Workshop::get(lab.cache()).map(drop)
            })
        });
        scope.spawn(|| {
            run.builds(|lab| {
                lab.prepare_roots(&RELEASES)?;
                run.is_ready(|ready| ready.roots = true);
                lab.prepare_states(states)?;
                run.is_ready(|ready| ready.states = true);
                Ok(())
            })
        });
        for _ in 0..2 * run.processors {
            scope.spawn(|| run.lane());
        }
        let code = prove_the_code().and_then(|()| tests(kind));
        let mut board = run.board();
        board.listed = true;
        let listed = code.map(|tests| {
            board.tests = tests.len();
            board.waiting = tests;
        });
        run.changed.notify_all();
        listed
    });
    code?;
    run.report(begun)
}

/// What needs no guest.
fn prove_the_code() -> Result<()> {
    for stage in CODE {
        run_stage(stage)?;
    }
    let deny = cargo_deny()?;
    timed("the licences and sources of the dependencies", || {
        succeed(Command::new(deny).args([
            "--workspace",
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
    run_stage(RELEASE_BUILD)?;
    agent::build_with_failpoints(crate::soak::Size::Sample(1)).map(drop)
}

/// The tests on guests, built, the longest first; one that nobody has measured may be the longest.
fn tests(kind: Kind) -> Result<Vec<(GuestTest, Option<Cost>)>> {
    let binaries = timed("the build of the tests on guests", build_tests)?;
    let measured = schedule::measured()?;
    let mut tests: Vec<_> = guest_test::all(&binaries)?
        .into_iter()
        .map(|test| {
            let cost = measured.get(&test.name).cloned();
            (test, cost.map(|cost| cost.on(kind)))
        })
        .collect();
    let seconds = |cost: &Option<Cost>| cost.as_ref().map_or(f64::MAX, |cost| cost.seconds);
    tests.sort_by(|(_, one), (_, other)| seconds(other).total_cmp(&seconds(one)));
    Ok(tests)
}

fn build_tests() -> Result<Vec<(String, PathBuf)>> {
    let mut build = cargo();
    build.args([
        "test",
        "--package",
        "wasagent-lab",
        "--features",
        "guests",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    build
        .current_dir(agent::checkout())
        .stderr(Stdio::inherit());
    let output = build
        .output()
        .with_context(|| format!("start {}", describe(&build)))?;
    if !output.status.success() {
        bail!("{}: {}", describe(&build), output.status);
    }
    Ok(guest_test::binaries(&String::from_utf8_lossy(
        &output.stdout,
    )))
}

impl Run {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Builds what guests start from.
    fn builds(&self, build: impl FnOnce(&Lab) -> Result<()>) {
        let built = unless_it_panics(|| build(&Lab::new()?));
        let mut board = self.board();
        board.building -= 1;
        if let Err(error) = built {
            say(format!("what the guests start from: {error:#}"));
            board.broken.get_or_insert(error);
        }
        self.changed.notify_all();
    }

    /// Tells the tests that wait for it.
    fn is_ready(&self, ready: impl FnOnce(&mut Ready)) {
        ready(&mut self.board().ready);
        self.changed.notify_all();
    }

    /// Runs one test after the other until none is left.
    fn lane(&self) {
        while let Some((test, number)) = self.begin() {
            let ended = unless_it_panics(|| test.run(&self.undo, number));
            let ended = ended.unwrap_or_else(|error| Ended::unable(&error));
            if !ended.passed {
                // It may have had no time to clear up.
                let _ = leftovers::sweep();
            }
            say(format!(
                "{} {} after {:.0} s",
                test.name,
                if ended.passed { "passed" } else { "FAILED" },
                ended.cost.seconds
            ));
            let mut board = self.board();
            board.running.remove(&number);
            board.ended.push((test, ended));
            self.changed.notify_all();
        }
    }

    /// The next test and its number, once there is room for it; none when no test is left.
    fn begin(&self) -> Option<(GuestTest, usize)> {
        let mut board = self.board();
        loop {
            let over = board.listed && board.waiting.is_empty();
            if over || board.broken.is_some() || leftovers::is_ending() {
                return None;
            }
            let busy = board.running.values().sum::<f64>() + board.building as f64;
            let free = self.processors as f64 * SHARE - busy;
            let costs: Vec<_> = board.waiting.iter().map(|(_, cost)| cost.clone()).collect();
            let next = schedule::next(&costs, free, board.running.is_empty(), board.ready);
            if let Some(position) = next {
                let (test, cost) = board.waiting.remove(position);
                let load = cost.as_ref().map_or(1.0, Cost::load);
                let number = board.ended.len() + board.running.len() + 1;
                board.running.insert(number, load);
                return Some((test, number));
            }
            board = self
                .changed
                .wait(board)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// What each test took, then how those ended that failed, last of all the count.
    fn report(self, begun: Instant) -> Result<()> {
        let board = self
            .board
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut ended = board.ended;
        ended.sort_by(|(_, one), (_, other)| other.cost.seconds.total_cmp(&one.cost.seconds));
        println!("\n seconds  processor  test on guests");
        for (test, ended) in &ended {
            println!(
                "{:>8.0}  {:>9.0}  {} ({})",
                ended.cost.seconds,
                ended.cost.processor,
                test.name,
                ended.cost.guests_in_words()
            );
        }
        let costs: BTreeMap<String, Cost> = ended
            .iter()
            .map(|(test, ended)| (test.name.clone(), ended.cost.clone()))
            .collect();
        let measured = agent::checkout().join("target/lab-measured.json");
        if let Err(error) = std::fs::write(&measured, schedule::written(&costs)) {
            say(format!("no {} is written: {error}", measured.display()));
        }
        let failed: Vec<_> = ended.iter().filter(|(_, ended)| !ended.passed).collect();
        for (test, end) in &failed {
            let lines = (REPEATED / failed.len()).saturating_sub(2).max(4);
            println!("\n{} FAILED; its last lines:", test.name);
            for line in end.last.iter().skip(end.last.len().saturating_sub(lines)) {
                println!("{line}");
            }
        }
        say(format!(
            "all tests took {:.1} min",
            begun.elapsed().as_secs_f64() / 60.0
        ));
        println!(
            "{} passed, {} failed",
            ended.len() - failed.len(),
            failed.len()
        );
        if let Some(broken) = board.broken {
            return Err(broken.context("what the guests start from"));
        }
        ensure!(
            ended.len() == board.tests && board.tests > 0,
            "{} of {} tests were run",
            ended.len(),
            board.tests
        );
        if !failed.is_empty() {
            let names: Vec<&str> = failed.iter().map(|(test, _)| test.name.as_str()).collect();
            bail!("failed: {}", names.join(", "));
        }
        Ok(())
    }
}

fn unless_it_panics<T>(action: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| bail!("it panicked"))
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
