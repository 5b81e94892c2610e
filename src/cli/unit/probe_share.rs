//! `wasagent probe-share`, which `health` starts beside itself: it tries whether the share can be used.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use crate::cli::Failure;
use crate::cli::exit::{self, Code};
use crate::cli::lock;
use crate::error::{Doing, Error};
use crate::health::share_probe::Probe;

/// Two at once would delete each other's file.
const LOCK: &str = "/run/wasagent-health.lock";
/// A probe that works takes a tenth of a second.
const WAIT: Duration = Duration::from_secs(4);

pub async fn run() -> Result<Code, Failure> {
    let mut request = zeroize::Zeroizing::new(Vec::new());
    std::io::stdin()
        .read_to_end(&mut request)
        .doing("read what is to be tried")?;
    let probe: Probe =
        serde_json::from_slice(&request).map_err(|e| Error::new(format!("nothing to try: {e}")))?;
    let lock = lock::exclusive(Path::new(LOCK), WAIT)?;
    let found = match &lock {
        Some(_) => probe.run().await,
        None => Probe::still_waits(),
    };
    let answer = serde_json::to_vec(&found).map_err(|e| Error::new(format!("no answer: {e}")))?;
    // Whoever asked may be gone.
    let _ = std::io::stdout().write_all(&answer);
    Ok(exit::DONE)
}
