//! For people at a terminal. Resources that have ended stand above and scroll away. Resources at
//! work stand below, one line each, and are redrawn at every tick. All ECMA-48 sequences and
//! characters used here also exist on the Linux console (console_codes(4)).

use std::fmt::Write;
use std::time::Duration;

use textwrap::core::display_width;

use super::running::{AtWork, Running};
use super::text::{self, BLANK, Page, Run, paragraph, settled, shorten};
use super::{Form, Streams, TICK};
use crate::cli::output::Ink;
use crate::engine::report::{Event, EventError, EventKind, Summary};

/// An address keeps at least this many columns.
const SHORTEST_ADDRESS: usize = 24;

/// Columns and rows.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

pub fn size_of_stdout() -> Size {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    // A serial console does not know its size and says 0.
    let known = |size: Option<u16>, usual| size.filter(|&s| s > 0).map_or(usual, usize::from);
    Size {
        columns: known(size.as_ref().ok().map(|s| s.ws_col), 80),
        rows: known(size.as_ref().ok().map(|s| s.ws_row), 24),
    }
}

pub struct Terminal {
    streams: Streams,
    page: Page,
    /// Asked at each redraw: the window may be resized at any time.
    size: fn() -> Size,
    run: Run,
    at_work: AtWork,
    /// The lines below, which the next redraw erases.
    drawn: String,
    failed: Vec<(String, EventError)>,
    skipped: Vec<(String, String)>,
}

impl Terminal {
    pub fn new(streams: Streams, page: Page, size: fn() -> Size, run: Run) -> Self {
        Self {
            streams,
            page,
            size,
            run,
            at_work: AtWork::default(),
            drawn: String::new(),
            failed: Vec::new(),
            skipped: Vec::new(),
        }
    }

    fn page(&self) -> Page {
        Page {
            // One column less: a console that breaks lines at its last column does not break these.
            width: Some((self.size)().columns.saturating_sub(1)),
            ..self.page
        }
    }

    /// Erases the lines below, prints `above` and redraws, all in one write.
    fn draw(&mut self, above: &str, now: Duration) {
        let below = self.below(now);
        if above.is_empty() && below == self.drawn {
            return;
        }
        let mut frame = String::new();
        if !self.drawn.is_empty() {
            // Cursor up; carriage return; erase from here to the end of the screen.
            let rows = self.drawn.lines().count();
            let _ = write!(frame, "\x1b[{rows}A\r\x1b[J");
        }
        frame += above;
        frame += &below;
        self.streams.out(&frame);
        self.drawn = below;
    }

    fn below(&self, now: Duration) -> String {
        let page = self.page();
        let mut below = String::new();
        for running in self.at_work.iter() {
            below += &alive(page, running, now);
            if let Some(fault) = &running.fault {
                below += &paragraph(page, Ink::Faint, BLANK, &fault.error);
            }
        }
        // Lines that have scrolled away cannot be erased.
        let most = (self.size)().rows.saturating_sub(1);
        below.split_inclusive('\n').take(most).collect()
    }

    /// Prints the reasons of failures and skips, after everything that ended well.
    fn tell_what_is_left(&mut self) {
        let page = self.page();
        for (resource, error) in std::mem::take(&mut self.failed) {
            self.streams.out("\n");
            self.streams.err(&text::error(page, &resource, &error));
        }
        if !self.skipped.is_empty() {
            self.streams.out("\n");
        }
        for (resource, reason) in std::mem::take(&mut self.skipped) {
            let line = format!("{resource}: {reason}");
            let line = paragraph(page, Ink::Yellow, "skipped ", &line);
            self.streams.out(&line);
        }
    }
}

impl Form for Terminal {
    fn event(&mut self, event: &Event, now: Duration) {
        let page = self.page();
        let tries = self.at_work.take_in(event, now).map_or(1, |r| r.tries);
        let resource = event.resource.to_string();
        let above = match event.kind {
            EventKind::Done => {
                settled(page, Ink::Green, self.run.done(), event, tries)
                    + &text::fields(page, &event.fields)
            }
            EventKind::Failed => {
                self.failed
                    .extend(event.error.clone().map(|error| (resource, error)));
                settled(page, Ink::Red, "failed  ", event, tries)
            }
            EventKind::Skipped => {
                let reason = event.error.as_ref().map(|e| e.message.clone());
                self.skipped.push((resource, reason.unwrap_or_default()));
                String::new()
            }
            _ => String::new(),
        };
        self.draw(&(above + &text::notes(page, event)), now);
    }

    fn tick(&mut self, now: Duration) {
        self.draw("", now);
    }

    fn stopping(&mut self, now: Duration) {
        let text = text::stopping(self.page());
        self.draw(&text, now);
    }

    fn summary(&mut self, summary: &Summary, interrupted: bool) {
        self.at_work.clear();
        self.draw("", summary.took);
        let left = !self.failed.is_empty() || !self.skipped.is_empty();
        self.tell_what_is_left();
        if left {
            self.streams.out("\n");
        }
        let page = self.page();
        if interrupted {
            self.streams.err(&text::interrupted(page));
        }
        let text = self.run.summary(page, summary);
        self.streams.out(&text);
    }
}

/// The line of a resource at work: `/ image:docker.io/...:linux-0.1, 3 layers begun (12 s)`.
fn alive(page: Page, running: &Running, now: Duration) -> String {
    let spinner = ['|', '/', '-', '\\'][(now.as_millis() / TICK.as_millis()) as usize % 4];
    let time = format!(
        " ({})",
        text::whole_seconds(now.saturating_sub(running.since))
    );
    let width = page.width.unwrap_or(usize::MAX);
    let room = width.saturating_sub(BLANK.len() + display_width(&time));
    let detail = text::printable(&running.detail(now));
    let detail = shorten(&detail, room.saturating_sub(SHORTEST_ADDRESS));
    let address = text::printable(&running.resource);
    let address = shorten(&address, room.saturating_sub(display_width(&detail)));
    let time = crate::cli::output::paint(page.colour, Ink::Faint, &time);
    format!("      {spinner} {address}{detail}{time}\n")
}
