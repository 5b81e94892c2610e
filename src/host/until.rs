//! Waiting for what nobody tells of: it is asked for every so often, and not for ever.

use std::future::Future;
use std::time::{Duration, Instant};

/// What a question brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<T = (), S = ()> {
    Settled(T),
    /// Not yet, and what there is instead.
    NotYet(S),
}

impl Answer {
    pub fn is(settled: bool) -> Self {
        if settled {
            Self::Settled(())
        } else {
            Self::NotYet(())
        }
    }
}

impl<T, S> Answer<T, S> {
    pub fn settled(self) -> Option<T> {
        match self {
            Self::Settled(answer) => Some(answer),
            Self::NotYet(_) => None,
        }
    }
}

/// Asks until it is settled or the time is over, and gives back the last answer. It is asked once at least.
pub async fn until<T, S, E, F>(
    every: Duration,
    at_most: Duration,
    mut question: impl FnMut() -> F,
) -> Result<Answer<T, S>, E>
where
    F: Future<Output = Result<Answer<T, S>, E>>,
{
    let begun = Instant::now();
    loop {
        let answer = question().await?;
        if matches!(answer, Answer::Settled(_)) || begun.elapsed() + every > at_most {
            return Ok(answer);
        }
        tokio::time::sleep(every).await;
    }
}

/// The same in a thread that may be held up.
pub fn until_blocking<T, S, E>(
    every: Duration,
    at_most: Duration,
    mut question: impl FnMut() -> Result<Answer<T, S>, E>,
) -> Result<Answer<T, S>, E> {
    let begun = Instant::now();
    loop {
        let answer = question()?;
        if matches!(answer, Answer::Settled(_)) || begun.elapsed() + every > at_most {
            return Ok(answer);
        }
        std::thread::sleep(every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(1);

    #[test]
    fn an_answer_ends_the_wait_and_an_error_too() {
        let mut asked = 0;
        let third = until_blocking(EVERY, Duration::from_secs(60), || {
            asked += 1;
            Ok::<_, ()>(Answer::is(asked == 3))
        });
        assert_eq!((third, asked), (Ok(Answer::Settled(())), 3));
        let refused = || Err::<Answer, _>("no");
        let error = until_blocking(EVERY, Duration::from_secs(60), refused);
        assert_eq!(error, Err("no"));
    }

    #[tokio::test]
    async fn it_is_asked_once_at_least_and_not_for_ever() {
        for (at_most, least) in [(Duration::ZERO, 1), (20 * EVERY, 2)] {
            let mut asked = 0;
            let last = until(EVERY, at_most, || {
                asked += 1;
                std::future::ready(Ok::<_, ()>(Answer::<(), _>::NotYet(asked)))
            });
            let Ok(Answer::NotYet(last)) = last.await else {
                panic!("nothing was ever settled");
            };
            assert!(last >= least && (least > 1 || last == 1), "{last}");
        }
    }
}
