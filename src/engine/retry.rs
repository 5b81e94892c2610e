//! How transient faults are retried: a server that is not up yet, a service that restarts.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::BackoffBuilder;

use crate::error::{Error, Result};

/// The pauses between two tries: they double from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How often a pause checks for a signal.
const LOOK_FOR_A_SIGNAL: Duration = Duration::from_millis(100);

/// How transient faults are retried.
pub struct RetryPolicy {
    /// How long transient faults are retried: planning and each resource have the whole of it.
    pub budget: Duration,
    /// Set when a signal asks to stop: running steps are finished and no other is begun.
    pub stop: Arc<AtomicBool>,
}

impl RetryPolicy {
    /// Waits for the pause, or until a signal asks to stop; `true` after a signal.
    async fn is_stopped_within(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        while !self.stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            tokio::time::sleep(left.min(LOOK_FOR_A_SIGNAL)).await;
        }
        true
    }

    /// Tries until it succeeds, fails for good, or the budget is spent. No try is begun that would
    /// overrun the budget if it took as long as the last one.
    pub async fn retry<T, F: Future<Output = Result<T>>>(
        &self,
        mut attempt: impl FnMut() -> F,
        mut tell: impl FnMut(&Error, Duration),
    ) -> Result<T> {
        let started = Instant::now();
        let mut pauses = backon::ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .without_max_times()
            .build();
        loop {
            let begun = Instant::now();
            let error = match attempt().await {
                Err(error) if error.is_transient() => error,
                other => return other,
            };
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            let over = started.elapsed() + pause + begun.elapsed() > self.budget;
            if over || self.stop.load(Ordering::Relaxed) {
                return Err(error);
            }
            tell(&error, pause);
            if self.is_stopped_within(pause).await {
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(budget: Duration) -> RetryPolicy {
        RetryPolicy {
            budget,
            stop: Arc::default(),
        }
    }

    /// How often something that always fails is tried; `tell` is called before each pause.
    async fn tries(retry: &RetryPolicy, error: Error, tell: impl Fn()) -> u32 {
        let mut tries = 0;
        let result: Result<()> = retry
            .retry(
                || {
                    tries += 1;
                    std::future::ready(Err(error.clone()))
                },
                |_, _| tell(),
            )
            .await;
        assert!(result.is_err());
        tries
    }

    fn passing() -> Error {
        Error::new("not up yet").transient()
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_until_the_budget_is_spent() {
        let none = retry(Duration::ZERO);
        assert_eq!(tries(&none, passing(), || ()).await, 1);
        let some = retry(Duration::from_secs(2));
        assert!(tries(&some, passing(), || ()).await > 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_is_not_tried_again() {
        let retry = retry(Duration::from_secs(60));
        let error = Error::new("wrong password");
        assert_eq!(tries(&retry, error, || ()).await, 1);
    }

    #[tokio::test]
    async fn a_signal_ends_the_tries_also_in_a_pause() {
        let retry = retry(Duration::from_secs(60));
        let signal = || retry.stop.store(true, Ordering::Relaxed);
        assert_eq!(tries(&retry, passing(), signal).await, 1);
        // The signal stays set.
        assert_eq!(tries(&retry, passing(), || ()).await, 1);
    }
}
