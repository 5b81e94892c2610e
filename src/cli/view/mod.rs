//! What apply and revert show while they run and when they end. On a terminal, each resource at work has a line that is
//! redrawn. Elsewhere there are plain lines for a log, or the JSON of the contract. All three forms take the same
//! events.

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

/// One way to show a run. Times count from the start of the run.
trait Form: Send {
    fn event(&mut self, event: &Event, now: Duration);
    fn tick(&mut self, now: Duration);
    /// A signal came: the running steps finish, and no other begins.
    fn stopping(&mut self, now: Duration);
    fn summary(&mut self, summary: &Summary, interrupted: bool);
}

/// Where a form writes.
struct Streams {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
}

impl Streams {
    /// A write error is ignored: the reader may be gone.
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

    /// Acknowledges a stop signal at once: the running steps may still take long.
    pub fn stopping(&self) {
        self.with(|form, now| form.stopping(now));
    }

    /// Closes the view. `interrupted`: a signal kept some steps from beginning.
    pub fn summary(&self, summary: &Summary, interrupted: bool) {
        self.with(|form, _| form.summary(summary, interrupted));
    }

    fn with(&self, tell: impl FnOnce(&mut dyn Form, Duration)) {
        let mut form = self.form.lock().unwrap_or_else(PoisonError::into_inner);
        tell(form.as_mut(), self.begun.elapsed());
    }
}

/// Whether printed lines can be erased again. With -v, log lines would come between them.
fn can_redraw() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    std::io::stdout().is_terminal() && !dumb
}

/// Runs in a thread of its own, since the tasks may be busy in system calls. The thread ends after the view.
fn tick(view: Weak<View>) {
    std::thread::spawn(move || {
        while let Some(view) = view.upgrade() {
            view.with(|form, now| form.tick(now));
            drop(view);
            std::thread::sleep(TICK);
        }
    });
}
