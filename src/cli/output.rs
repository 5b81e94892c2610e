//! How results are printed: as text for people, or as the JSON of the contract. Results go to
//! standard output, errors to standard error.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::man::subject;
use super::{Color, Format};
use crate::config::Faults;
use crate::engine::Field;
use crate::engine::plan::Refusals;
use crate::engine::report::{Event, Summary};
use crate::error::Error;

/// Values longer than this are cut in a line of text.
const LONGEST_VALUE: usize = 120;

/// Where and in which form to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    verbose: bool,
    colour: bool,
    colour_on_stderr: bool,
}

/// ECMA-48 colours that every terminal has.
#[derive(Clone, Copy)]
pub enum Ink {
    Green = 32,
    Yellow = 33,
    Red = 31,
    Cyan = 36,
    Faint = 2,
}

impl Output {
    pub fn new(format: Format, color: Color, verbose: bool) -> Self {
        let wanted = |is_terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org
            Color::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        Self {
            format,
            verbose,
            colour: wanted(std::io::stdout().is_terminal()),
            colour_on_stderr: wanted(std::io::stderr().is_terminal()),
        }
    }

    pub fn colour(self) -> bool {
        self.colour
    }

    pub fn is_verbose(self) -> bool {
        self.verbose
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

    /// Prints an object as one line of JSON.
    pub fn json(self, object: &impl Serialize) {
        if let Ok(line) = serde_json::to_string(object) {
            self.line(&line);
        }
    }

    /// Prints a line on standard output. A write error is ignored: the reader may be gone.
    pub fn line(self, line: &str) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    /// Prints an error on standard error, as `error:` and `hint:`.
    pub fn error(self, error: &Error) {
        self.complain(&error.message, error.hint.as_deref());
    }

    /// Prints what does not stop the command, but that its reader should know.
    pub fn warning(self, error: &Error) {
        self.say(
            "warning:",
            Ink::Yellow,
            &error.message,
            error.hint.as_deref(),
        );
    }

    fn complain(self, message: &str, hint: Option<&str>) {
        self.say("error:", Ink::Red, message, hint);
    }

    fn say(self, word: &str, ink: Ink, message: &str, hint: Option<&str>) {
        let mut stderr = std::io::stderr().lock();
        let word = paint(self.colour_on_stderr, ink, word);
        let _ = writeln!(stderr, "{word} {message}");
        if let Some(hint) = hint {
            let word = paint(self.colour_on_stderr, Ink::Green, "hint:");
            let _ = writeln!(stderr, "{word} {hint}");
        }
    }

    /// Prints the faults of a tier file: always as text on standard error, and as JSON if that was
    /// asked for.
    pub fn faults(self, faults: &Faults) {
        if self.is_json() {
            self.json(faults);
        }
        let _ = writeln!(std::io::stderr(), "{faults}");
        self.more_in(&[subject::TIER_FILE]);
    }

    /// Names the pages of the manual that say more, once below all errors.
    fn more_in(self, pages: &[&str]) {
        if !pages.is_empty() {
            let word = paint(self.colour_on_stderr, Ink::Green, "manual:");
            let _ = writeln!(std::io::stderr(), "{word} {}", pages.join(", "));
        }
    }

    /// Prints why apply did not begin: on standard error and, as JSON, as events closed by a
    /// summary.
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

    /// Prints why no plan could be made, for people.
    pub fn refusals_on_stderr(self, refusals: &Refusals) {
        for (address, error) in &refusals.0 {
            let message = match address {
                Some(address) => format!("{address}: {}", error.message),
                None => error.message.clone(),
            };
            self.complain(&message, error.hint.as_deref());
        }
        let resources = refusals
            .0
            .iter()
            .filter_map(|(address, _)| address.as_ref());
        self.more_in(&subject::pages_on(resources));
    }

    /// Says that planning is tried again after `pause`, and why.
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

    /// Prints what comes next, for people.
    pub fn heading(self, text: &str) {
        if !self.is_json() {
            self.line(text);
        }
    }

    /// Names other programs' files that were put back because a power cut had left them empty.
    pub fn mended(self, files: &[PathBuf]) {
        for file in files {
            self.heading(&format!(
                "{} was left empty by a power cut, and is as it was before",
                file.display()
            ));
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

/// A field in one line. Of a value with several lines, only their number is shown.
pub fn describe(field: &Field) -> String {
    match (&field.from, &field.to) {
        (None, Some(to)) => format!("{}: {}", field.name, value(to)),
        (Some(from), Some(to)) => format!("{}: {} -> {}", field.name, value(from), value(to)),
        (Some(from), None) => format!("{}: {} -> (nothing)", field.name, value(from)),
        (None, None) => field.name.clone(),
    }
}

fn value(text: &str) -> String {
    if text.contains('\n') {
        format!("({} lines)", text.lines().count())
    } else if text.chars().count() > LONGEST_VALUE {
        let shown: String = text.chars().take(LONGEST_VALUE).collect();
        format!("{}…", visible(&shown))
    } else {
        visible(text)
    }
}

/// Escapes the control characters of a text: a terminal would obey them.
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            visible.extend(character.escape_default());
        } else {
            visible.push(character);
        }
    }
    visible
}

/// The text in this ink, if colour is on.
pub fn paint(colour: bool, ink: Ink, text: &str) -> String {
    if colour && !text.is_empty() {
        format!("\x1b[{}m{text}\x1b[0m", ink as u8)
    } else {
        text.to_owned()
    }
}
