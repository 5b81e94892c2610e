//! Random inputs for everything that reads a text of somebody else's: the tier file, smb.conf, fstab, the application's
//! JavaScript, git's trees. Each begins with the texts of `corpus/` and changes them at random; what once went wrong is
//! added there. No input may cause a panic or a wrong edit.
//!
//! `cargo test` tries each for [`SECONDS`] with the same inputs each time; `cargo lab soak fuzz` for an hour in all with
//! others (`WASAGENT_FUZZ_SECONDS`).

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
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner};

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
        let mut runner = match length_by_hand() {
            Some(_) => TestRunner::new(config),
            None => TestRunner::new_with_rng(config, same_each_time(tried)),
        };
        if let Err(failure) = runner.run(inputs, &check) {
            panic!("{failure}");
        }
        tried += 64;
    }
    eprintln!("{tried} inputs tried");
}

/// A test that fails by chance tells nothing of a change: only the campaign tries other inputs each time.
fn same_each_time(tried: u32) -> TestRng {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&tried.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &seed)
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
    Duration::from_secs(length_by_hand().unwrap_or(SECONDS))
}

fn length_by_hand() -> Option<u64> {
    let seconds = std::env::var("WASAGENT_FUZZ_SECONDS").ok()?;
    seconds.parse().ok()
}
