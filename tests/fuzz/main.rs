//! Random inputs for everything that reads a text of somebody else's: the tier file, smb.conf, fstab, the application's
//! JavaScript, git's trees. Each begins with the texts of `corpus/` and changes them at random; what once went wrong is
//! added there. No input may cause a panic or a wrong edit.
//!
//! `cargo test` tries each for [`SECONDS`]; `cargo lab soak fuzz` for an hour in all (`WASAGENT_FUZZ_SECONDS`).

mod fstab;
mod git_objects;
mod git_tree;
mod javascript;
mod mutation;
mod smb_conf;
mod tier_file;

use std::cell::Cell;
use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

/// How long each kind of input is tried if nobody says otherwise.
const SECONDS: u64 = 12;

/// Tries random inputs until the time is over. What fails is made as small as it can be, and shown.
fn for_a_while<S: Strategy>(inputs: &S, check: impl Fn(S::Value) -> TestCaseResult) {
    let end = Instant::now() + length();
    let mut tried = 0_u32;
    while Instant::now() < end {
        let config = Config {
            cases: 64,
            failure_persistence: None,
            // What is refused is half of the proof.
            max_global_rejects: u32::MAX,
            max_shrink_iters: 5000,
            max_shrink_time: 30_000,
            ..Config::default()
        };
        if let Err(failure) = TestRunner::new(config).run(inputs, &check) {
            panic!("{failure}");
        }
        tried += 64;
    }
    eprintln!("{tried} inputs tried");
}

/// A comparison with another program, which is slow: as many of the inputs are compared as half of the time allows.
struct Comparison {
    began: Instant,
    spent: Cell<Duration>,
    count: Cell<u32>,
    /// What failed is made smaller, and so is compared each time.
    has_failed: Cell<bool>,
}

impl Comparison {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            spent: Cell::default(),
            count: Cell::default(),
            has_failed: Cell::default(),
        }
    }

    fn make(&self, compare: impl FnOnce() -> TestCaseResult) -> TestCaseResult {
        if !self.has_failed.get() && self.spent.get() * 2 > self.began.elapsed() {
            return Ok(());
        }
        let begins = Instant::now();
        let result = compare();
        self.spent.set(self.spent.get() + begins.elapsed());
        self.count.set(self.count.get() + 1);
        self.has_failed
            .set(self.has_failed.get() || result.is_err());
        result
    }
}

fn length() -> Duration {
    let seconds = std::env::var("WASAGENT_FUZZ_SECONDS");
    let seconds = seconds.ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(SECONDS))
}
