//! For a log, such as cloud-init's, which keeps standard output and standard error in one file. A
//! resource gets a line when it ends, and one now and then while it takes long.

use std::time::Duration;

use super::running::AtWork;
use super::text::{self, Page, Run, paragraph, settled};
use super::{Form, Streams};
use crate::cli::output::Ink;
use crate::engine::report::{Event, EventKind, Summary};

/// How long a resource at work goes without a line.
const QUIET: Duration = Duration::from_secs(10);

pub struct Plain {
    streams: Streams,
    page: Page,
    run: Run,
    at_work: AtWork,
}

impl Plain {
    pub fn new(streams: Streams, page: Page, run: Run) -> Self {
        Self {
            streams,
            page,
            run,
            at_work: AtWork::default(),
        }
    }

    /// Prints a retry if its fault differs from the last one, or if a line is due.
    fn retry(&mut self, event: &Event, now: Duration) {
        let last = self.at_work.get_mut(event).and_then(|r| r.fault.take());
        self.at_work.take_in(event, now);
        let (Some(running), Some(error)) = (self.at_work.get_mut(event), &event.error) else {
            return;
        };
        if last.is_some_and(|last| last.error == error.message) && now < running.told + QUIET {
            return;
        }
        running.told = now;
        let pause = event.took_ms.unwrap_or(0.0) / 1000.0;
        let pause = text::time(Duration::from_secs_f64(pause.max(0.0)));
        let line = format!(
            "{}: {}; try {} in {pause}",
            event.resource, error.message, running.tries
        );
        let line = paragraph(self.page, Ink::Yellow, "retry   ", &line);
        self.streams.out(&line);
    }
}

impl Form for Plain {
    fn event(&mut self, event: &Event, now: Duration) {
        if event.kind == EventKind::Retry {
            return self.retry(event, now);
        }
        let page = self.page;
        let tries = self.at_work.take_in(event, now).map_or(1, |r| r.tries);
        let reason = event.error.as_ref().map_or("", |e| e.message.as_str());
        let told = match event.kind {
            EventKind::Done => {
                settled(page, Ink::Green, self.run.done(), event, tries)
                    + &text::fields(page, &event.fields)
            }
            EventKind::Failed => settled(page, Ink::Red, "failed  ", event, tries),
            EventKind::Skipped => {
                let line = format!("{}: {reason}", event.resource);
                paragraph(page, Ink::Yellow, "skipped ", &line)
            }
            EventKind::Unchanged if page.verbose => {
                settled(page, Ink::Faint, "same    ", event, tries)
            }
            _ => String::new(),
        };
        self.streams.out(&(told + &text::notes(page, event)));
        if let (EventKind::Failed, Some(error)) = (event.kind, &event.error) {
            let error = text::error(page, &event.resource.to_string(), error);
            self.streams.err(&error);
        }
    }

    fn tick(&mut self, now: Duration) {
        for running in self.at_work.iter_mut() {
            if now >= running.told + QUIET {
                running.told = now;
                let line = format!(
                    "{}{} ({})",
                    running.resource,
                    running.detail(now),
                    text::whole_seconds(now - running.since)
                );
                let line = paragraph(self.page, Ink::Faint, "running ", &line);
                self.streams.out(&line);
            }
        }
    }

    fn stopping(&mut self, _now: Duration) {
        self.streams.out(&text::stopping(self.page));
    }

    fn summary(&mut self, summary: &Summary, interrupted: bool) {
        self.at_work.clear();
        if interrupted {
            self.streams.err(&text::interrupted(self.page));
        }
        let text = self.run.summary(self.page, summary);
        self.streams.out(&text);
    }
}
