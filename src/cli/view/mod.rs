//! What apply and revert show of themselves while they run and when they end: on a terminal a line
//! that lives for each resource at work, elsewhere plain lines for a log, or the JSON of the
//! contract. All three take the same events.

mod json;
mod plain;
mod running;
mod terminal;
#[cfg(test)]
mod tests;
mod text;

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::output::Output;
use crate::engine::report::{Event, EventKind, Summary};
pub use text::Run;

/// How often a view looks at the clock: often enough for a spinner, and no burden to a serial console.
const TICK: Duration = Duration::from_millis(200);

/// One form of showing a run. Times are those since it began.
trait Form: Send {
    fn event(&mut self, event: &Event, now: Duration);
    fn tick(&mut self, now: Duration);
    /// A signal came: what is at work goes on to its end, nothing else is begun.
    fn stopping(&mut self, now: Duration);
    fn summary(&mut self, summary: &Summary, interrupted: bool);
}

/// Where a form writes.
struct Streams {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
}

impl Streams {
    /// That nobody reads any more is no error.
    fn out(&mut self, text: &str) {
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }

    fn err(&mut self, text: &str) {
        let _ = self
            .err
            .write_all(text.as_bytes())
            .and_then(|()| self.err.flush());
    }
}

/// What is shown of one run. Events come from many tasks at once.
pub struct View {
    form: Mutex<Box<dyn Form>>,
    begun: Instant,
    ticking: Once,
}

impl View {
    pub fn new(output: Output, run: text::Run) -> Arc<Self> {
        let streams = Streams {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
        };
        let page = text::Page {
            colour: output.colour(),
            colour_on_stderr: output.colour_on_stderr(),
            width: None,
            verbose: output.is_verbose(),
        };
        let form: Box<dyn Form> = if output.is_json() {
            Box::new(json::Json::new(streams, page))
        } else if can_redraw() && !output.is_verbose() {
            Box::new(terminal::Terminal::new(
                streams,
                page,
                terminal::size_of_stdout,
                run,
            ))
        } else {
            Box::new(plain::Plain::new(streams, page, run))
        };
        Arc::new(Self {
            form: Mutex::new(form),
            begun: Instant::now(),
            ticking: Once::new(),
        })
    }

    pub fn event(self: &Arc<Self>, event: &Event) {
        if event.kind == EventKind::Start {
            // A run that changes nothing needs no clock.
            self.ticking.call_once(|| tick(Arc::downgrade(self)));
        }
        self.with(|form, now| form.event(event, now));
    }

    /// Answers the signal that asks to stop, which may be long before the end of what is at work.
    pub fn stopping(&self) {
        self.with(|form, now| form.stopping(now));
    }

    /// Closes the view. `interrupted`: not all was begun, since a signal came.
    pub fn summary(&self, summary: &Summary, interrupted: bool) {
        self.with(|form, _| form.summary(summary, interrupted));
    }

    fn with(&self, tell: impl FnOnce(&mut dyn Form, Duration)) {
        let mut form = self.form.lock().unwrap_or_else(PoisonError::into_inner);
        tell(form.as_mut(), self.begun.elapsed());
    }
}

/// Whether lines that were printed can be taken back. With -v the log goes between them.
fn can_redraw() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    std::io::stdout().is_terminal() && !dumb
}

/// A thread of its own, since the tasks may be busy in system calls. It ends after the view.
fn tick(view: Weak<View>) {
    std::thread::spawn(move || {
        while let Some(view) = view.upgrade() {
            view.with(|form, now| form.tick(now));
            drop(view);
            std::thread::sleep(TICK);
        }
    });
}
