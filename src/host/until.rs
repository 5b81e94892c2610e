//! Waiting, with a time limit, for what sends no notification: it is asked for again and again.

use std::future::Future;
use std::time::{Duration, Instant};

/// The answer to one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<T = (), S = ()> {
    Settled(T),
    /// Not yet, with what there is instead.
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

/// A question that is not settled is asked at least this many times, however long it takes.
const LEAST: u32 = 3;

/// Asks until the answer is settled or the time is over. Returns the last answer.
pub async fn until<T, S, E, F>(
    every: Duration,
    at_most: Duration,
    mut question: impl FnMut() -> F,
) -> Result<Answer<T, S>, E>
where
    F: Future<Output = Result<Answer<T, S>, E>>,
{
    let begun = Instant::now();
    let mut asked = 0;
    loop {
        let answer = question().await?;
        asked += 1;
        let over = asked >= LEAST && begun.elapsed() + every > at_most;
        if over || matches!(answer, Answer::Settled(_)) {
            return Ok(answer);
        }
        tokio::time::sleep(every).await;
    }
}

/// The same as [`until`], in a thread that may block.
pub fn until_blocking<T, S, E>(
    every: Duration,
    at_most: Duration,
    mut question: impl FnMut() -> Result<Answer<T, S>, E>,
) -> Result<Answer<T, S>, E> {
    let begun = Instant::now();
    let mut asked = 0;
    loop {
        let answer = question()?;
        asked += 1;
        let over = asked >= LEAST && begun.elapsed() + every > at_most;
        if over || matches!(answer, Answer::Settled(_)) {
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
    async fn a_slow_question_is_asked_three_times_and_none_for_ever() {
        for (at_most, least, most) in [(Duration::ZERO, 3, 3), (50 * EVERY, 4, 50)] {
            let mut asked = 0;
            let last = until(EVERY, at_most, || {
                asked += 1;
                std::future::ready(Ok::<_, ()>(Answer::<(), _>::NotYet(asked)))
            });
            let Ok(Answer::NotYet(last)) = last.await else {
                panic!("nothing was ever settled");
            };
            assert!((least..=most).contains(&last), "{last}");
        }
    }
}
