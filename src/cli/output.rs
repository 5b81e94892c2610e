//! How results are printed: as text for people, or as the JSON of the contract. What a command was
//! asked for goes to standard output, what went wrong to standard error.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use super::{Color, Format};
use crate::config::Faults;
use crate::engine::plan::Refusals;
use crate::engine::report::{Event, EventKind, Summary};
use crate::engine::{Action, Diff, Field};
use crate::error::Error;

/// Values longer than this, or with line breaks, are described and not shown in a line of text.
const LONGEST_VALUE: usize = 120;

/// Where and in which form to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    colour: bool,
    colour_on_stderr: bool,
}

/// ECMA-48 colours that every terminal has.
#[derive(Clone, Copy)]
pub enum Ink {
    Green = 32,
    Yellow = 33,
    Red = 31,
    Faint = 2,
}

impl Output {
    pub fn new(format: Format, color: Color) -> Self {
        let wanted = |is_terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org
            Color::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        Self {
            format,
            colour: wanted(std::io::stdout().is_terminal()),
            colour_on_stderr: wanted(std::io::stderr().is_terminal()),
        }
    }

    pub fn colour_on_stderr(self) -> bool {
        self.colour_on_stderr
    }

    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    pub fn ink(self, ink: Ink, text: &str) -> String {
        paint(self.colour, ink, text)
    }

    /// One object, in one line.
    pub fn json(self, object: &impl Serialize) {
        if let Ok(line) = serde_json::to_string(object) {
            self.line(&line);
        }
    }

    /// A line on standard output. That nobody reads it any more is no error.
    pub fn line(self, line: &str) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    /// An error on standard error: `error:` and `hint:`.
    pub fn error(self, error: &Error) {
        self.complain(&error.message, error.hint.as_deref());
    }

    fn complain(self, message: &str, hint: Option<&str>) {
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(
            stderr,
            "{} {message}",
            paint(self.colour_on_stderr, Ink::Red, "error:")
        );
        if let Some(hint) = hint {
            let _ = writeln!(
                stderr,
                "{} {hint}",
                paint(self.colour_on_stderr, Ink::Green, "hint:")
            );
        }
    }

    /// The faults of a tier file.
    pub fn faults(self, faults: &Faults) {
        if self.is_json() {
            self.json(faults);
        } else {
            let _ = writeln!(std::io::stderr(), "{faults}");
        }
    }

    /// Why apply did not begin: as its events, closed by a summary, and on standard error.
    pub fn refusals(self, refusals: &Refusals, took: Duration) {
        if self.is_json() {
            for (address, error) in &refusals.0 {
                if let Some(address) = address {
                    self.json(&Event::failed(address, Duration::ZERO, error.clone()));
                }
            }
            self.json(&Summary {
                changed: 0,
                unchanged: 0,
                failed: refusals.0.len(),
                skipped: 0,
                took,
            });
        }
        self.refusals_on_stderr(refusals);
    }

    /// Why no plan could be made, for people.
    pub fn refusals_on_stderr(self, refusals: &Refusals) {
        for (address, error) in &refusals.0 {
            let message = match address {
                Some(address) => format!("{address}: {}", error.message),
                None => error.message.clone(),
            };
            self.complain(&message, error.hint.as_deref());
        }
    }

    /// One event of apply. Text tells of what changed or failed, in the order in which it ended.
    pub fn event(self, event: &Event) {
        if self.is_json() {
            self.json(event);
        } else {
            let took = event.took_ms.map(|ms| seconds(ms / 1000.0));
            let took = took.map(|t| self.ink(Ink::Faint, &format!(" ({t})")));
            let took = took.unwrap_or_default();
            match event.kind {
                EventKind::Done => {
                    self.line(&format!(
                        "{} {}{took}",
                        self.ink(Ink::Green, "changed"),
                        event.resource
                    ));
                    for field in &event.fields {
                        self.line(&format!("        {}", describe(field)));
                    }
                }
                EventKind::Failed => self.line(&format!(
                    "{}  {}{took}",
                    self.ink(Ink::Red, "failed"),
                    event.resource
                )),
                EventKind::Skipped => self.line(&format!(
                    "{} {}: {}",
                    self.ink(Ink::Yellow, "skipped"),
                    event.resource,
                    event.error.as_ref().map_or("", |e| e.message.as_str()),
                )),
                EventKind::Start
                | EventKind::Progress
                | EventKind::Retry
                | EventKind::Unchanged => {}
            }
            for note in &event.notes {
                self.line(&format!(
                    "{}    {}: {note}",
                    self.ink(Ink::Yellow, "note"),
                    event.resource
                ));
            }
        }
        if event.kind == EventKind::Failed
            && let Some(error) = &event.error
        {
            self.complain(
                &format!("{}: {}", event.resource, error.message),
                error.hint.as_deref(),
            );
        }
    }

    /// That all of it is tried again in a moment, and why.
    pub fn retry(self, error: &Error, pause: Duration) {
        if !self.is_json() {
            self.line(&format!(
                "{} in {}: {}",
                self.ink(Ink::Yellow, "trying again"),
                seconds(pause.as_secs_f64()),
                error.message
            ));
        }
    }

    /// What comes next, for people.
    pub fn heading(self, text: &str) {
        if !self.is_json() {
            self.line(text);
        }
    }

    pub fn summary(self, summary: &Summary) {
        if self.is_json() {
            self.json(summary);
            return;
        }
        let took = seconds(summary.took.as_secs_f64());
        let text = if *summary
            == (Summary {
                unchanged: summary.unchanged,
                took: summary.took,
                changed: 0,
                failed: 0,
                skipped: 0,
            }) {
            format!(
                "nothing to change: {} resources are as the tier file says ({took})",
                summary.unchanged
            )
        } else {
            format!(
                "{} changed, {} unchanged, {} failed, {} skipped ({took})",
                summary.changed, summary.unchanged, summary.failed, summary.skipped
            )
        };
        self.line(&text);
    }

    /// One resource of a plan.
    pub fn change(self, address: &crate::engine::Address, diff: &Diff) {
        let (ink, sign) = match (diff.is_empty(), diff.action) {
            (true, _) => (Ink::Faint, "="),
            (false, Action::Create) => (Ink::Green, "+"),
            (false, Action::Update) => (Ink::Yellow, "~"),
            (false, Action::Remove) => (Ink::Red, "-"),
        };
        let why = if diff.is_empty() { "" } else { &diff.why };
        let why = self.ink(Ink::Faint, why);
        self.line(format!("{} {address}  {why}", self.ink(ink, sign)).trim_end());
        for field in &diff.fields {
            self.line(&format!("    {}", describe(field)));
        }
        for note in &diff.notes {
            self.line(&format!("    {} {note}", self.ink(Ink::Yellow, "note:")));
        }
    }
}

/// A duration in seconds as people write it.
pub fn seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.1} s")
    }
}

pub fn describe(field: &Field) -> String {
    match (&field.from, &field.to) {
        (None, Some(to)) => format!("{}: {}", field.name, value(to)),
        (Some(from), Some(to)) => format!("{}: {} -> {}", field.name, value(from), value(to)),
        (Some(from), None) => format!("{}: {} -> (nothing)", field.name, value(from)),
        (None, None) => field.name.clone(),
    }
}

fn value(text: &str) -> String {
    if text.contains('\n') || text.len() > LONGEST_VALUE {
        format!("({} lines)", text.lines().count())
    } else {
        text.to_owned()
    }
}

fn paint(colour: bool, ink: Ink, text: &str) -> String {
    if colour && !text.is_empty() {
        format!("\x1b[{}m{text}\x1b[0m", ink as u8)
    } else {
        text.to_owned()
    }
}
