//! What the lab is doing, for whoever waits: one line a step on standard error, with the time since the start.

use std::sync::OnceLock;
use std::time::Instant;

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Says what begins or has just ended.
pub fn say(what: impl AsRef<str>) {
    eprintln!(
        "[{:6.1} s] {}",
        start().elapsed().as_secs_f64(),
        what.as_ref()
    );
}

/// Runs a step and says how long it took, if it took long enough to be noticed.
pub fn timed<T>(what: &str, step: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    say(what);
    let begun = Instant::now();
    let done = step()?;
    let took = begun.elapsed().as_secs_f64();
    if took >= 1.0 {
        say(format!("{what}: {took:.1} s"));
    }
    Ok(done)
}
