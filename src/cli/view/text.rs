//! How text is laid out: labels in a column, long texts wrapped beside them, and no control
//! characters that a terminal would obey.

use std::time::Duration;

use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

use crate::cli::output::{Ink, paint, seconds};
use crate::config::Role;
use crate::engine::Field;
use crate::engine::Work;
use crate::engine::report::{Event, EventError, Summary};

/// Of a value longer than this, only the number of characters is shown.
const LONGEST_VALUE: usize = 120;

/// At most this many fields of a changed resource are shown.
const MOST_FIELDS: usize = 8;

/// Keeps words together when lines are wrapped.
const NO_BREAK: &str = "\u{a0}";

/// Blanks as wide as a label.
pub const BLANK: &str = "        ";

/// Where the text is shown.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    pub colour: bool,
    pub colour_on_stderr: bool,
    /// In columns; `None`: no line is wrapped.
    pub width: Option<usize>,
    pub verbose: bool,
}

/// A label (with its trailing blanks) and a text beside it, in as many lines as it needs.
pub fn paragraph(page: Page, ink: Ink, label: &str, text: &str) -> String {
    let indent = " ".repeat(label.len());
    let text = printable(text);
    let lines: Vec<String> = match page.width {
        Some(width) => textwrap::wrap(&text, wrapping(width, &indent))
            .into_iter()
            .map(|line| line.into_owned())
            .collect(),
        None => text.lines().map(|line| format!("{indent}{line}")).collect(),
    };
    let lines = lines.join("\n").replace(NO_BREAK, " ");
    let word = label.trim_end();
    format!(
        "{}{}{}\n",
        paint(page.colour, ink, word),
        &label[word.len()..],
        lines.get(label.len()..).unwrap_or_default()
    )
}

/// Paths and addresses are broken only if they must be, and never hyphenated.
fn wrapping<'a>(width: usize, indent: &'a str) -> Options<'a> {
    Options::new(width.max(indent.len() + 20))
        .initial_indent(indent)
        .subsequent_indent(indent)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit)
}

/// The text without control characters, which helpers and file names may hold. Line breaks stay.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => c,
            '\t' => ' ',
            _ if c.is_control() => char::REPLACEMENT_CHARACTER,
            _ => c,
        })
        .collect()
}

/// A text in at most `width` columns. If it is too long, its middle is left out: addresses begin
/// with their kind and end in what tells them apart. Three dots, since a console font has no
/// ellipsis.
pub fn shorten(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(3);
    let head = take_columns(text.chars(), kept / 2);
    let tail = take_columns(text.chars().rev(), kept - kept / 2);
    let tail: String = tail.chars().rev().collect();
    format!("{head}...{tail}")
}

fn take_columns(characters: impl Iterator<Item = char>, columns: usize) -> String {
    let mut taken = String::new();
    for character in characters {
        taken.push(character);
        if display_width(&taken) > columns {
            taken.pop();
            break;
        }
    }
    taken
}

/// A duration as people write it.
pub fn time(duration: Duration) -> String {
    match duration.as_secs() {
        60.. => whole_seconds(duration),
        _ => seconds(duration.as_secs_f64()),
    }
}

/// A duration for what is still at work, where tenths would only flicker.
pub fn whole_seconds(duration: Duration) -> String {
    match duration.as_secs() {
        whole @ 60.. => format!("{} min {} s", whole / 60, whole % 60),
        whole => format!("{whole} s"),
    }
}

/// The line of a resource that has ended: its address, its time and how often it was tried.
pub fn settled(page: Page, ink: Ink, label: &str, event: &Event, tries: u32) -> String {
    let mut ends = Vec::new();
    if let Some(took) = event.took_ms {
        ends.push(time(Duration::from_secs_f64(took.max(0.0) / 1000.0)));
    }
    if tries > 1 {
        ends.push(format!("{tries} tries"));
    }
    let resource = &event.resource;
    if ends.is_empty() {
        return paragraph(page, ink, label, &resource.to_string());
    }
    let end = format!("({})", ends.join(", "));
    let unbroken = end.replace(' ', NO_BREAK);
    let text = paragraph(page, ink, label, &format!("{resource} {unbroken}"));
    match text.trim_end().strip_suffix(&end) {
        Some(head) => format!("{head}{}\n", paint(page.colour, Ink::Faint, &end)),
        None => text,
    }
}

/// The fields of a changed resource, indented.
pub fn fields(page: Page, fields: &[Field]) -> String {
    let most = if page.verbose {
        usize::MAX
    } else {
        MOST_FIELDS
    };
    let mut lines: String = fields
        .iter()
        .take(most)
        .map(|field| paragraph(page, Ink::Faint, BLANK, &describe(field)))
        .collect();
    if let Some(more @ 1..) = fields.len().checked_sub(most) {
        lines += &format!("{BLANK}and {more} more\n");
    }
    lines
}

fn describe(field: &Field) -> String {
    let name = &field.name;
    match (&field.from, &field.to) {
        (None, Some(to)) => format!("{name}: {}", value(to)),
        (Some(from), Some(to)) => format!("{name}: {} -> {}", value(from), value(to)),
        (Some(from), None) => format!("{name}: {} -> (nothing)", value(from)),
        (None, None) => name.clone(),
    }
}

fn value(text: &str) -> String {
    match text.lines().count() {
        2.. => format!("({} lines)", text.lines().count()),
        _ if text.chars().count() > LONGEST_VALUE => {
            format!("({} characters)", text.chars().count())
        }
        _ => text.trim_end().to_owned(),
    }
}

/// What the operator should know about a resource although nothing is changed for it.
pub fn notes(page: Page, event: &Event) -> String {
    let note = |note| format!("{}: {note}", event.resource);
    let notes = event.notes.iter().map(note);
    notes
        .map(|note| paragraph(page, Ink::Yellow, "note    ", &note))
        .collect()
}

/// The error of a resource and its hint, for standard error.
pub fn error(page: Page, resource: &str, error: &EventError) -> String {
    complaint(
        page,
        &format!("{resource}: {}", error.message),
        error.hint.as_deref(),
    )
}

pub fn stopping(page: Page) -> String {
    let text = "what is at work is finished, nothing else is begun";
    paragraph(page, Ink::Yellow, "stop    ", text)
}

pub fn interrupted(page: Page) -> String {
    complaint(
        page,
        "interrupted: what was begun is finished, the rest is not begun",
        None,
    )
}

fn complaint(page: Page, message: &str, hint: Option<&str>) -> String {
    let page = Page {
        colour: page.colour_on_stderr,
        ..page
    };
    let mut text = paragraph(page, Ink::Red, "error: ", message);
    if let Some(hint) = hint {
        text += &paragraph(page, Ink::Green, "hint:  ", hint);
    }
    text
}

/// What makes the wording of one run differ from that of another.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub work: Work,
    pub role: Role,
    /// If the run fails, what it has done is undone next.
    pub rolls_back: bool,
}

impl Run {
    /// The label of a resource that ended as the run wants.
    pub fn done(self) -> &'static str {
        match self.work {
            Work::Apply => "changed ",
            Work::Revert | Work::RollBack => "undone  ",
        }
    }

    /// How many resources ended in which way, and what to do if not all ended as wanted.
    pub fn summary(self, page: Page, summary: &Summary) -> String {
        let mut text = paragraph(page, Ink::Faint, "", &self.counts(summary));
        if summary.failed + summary.skipped > 0 {
            let next = self.next_step(summary.failed > 0);
            text += &paragraph(page, Ink::Faint, "", &next);
        }
        text
    }

    fn counts(self, summary: &Summary) -> String {
        let took = time(summary.took);
        let Summary {
            changed,
            unchanged,
            failed,
            skipped,
            ..
        } = *summary;
        if changed + failed + skipped == 0 {
            return match self.work {
                Work::Apply => format!(
                    "nothing to change: {unchanged} resources are as the tier file says ({took})"
                ),
                Work::Revert | Work::RollBack => format!("nothing to undo ({took})"),
            };
        }
        let done = self.done().trim_end();
        let mut counts = format!("{changed} {done}, {unchanged} unchanged");
        if failed + skipped > 0 {
            counts += &format!(", {failed} failed, {skipped} skipped");
        }
        format!("{counts} ({took})")
    }

    fn next_step(self, failed: bool) -> String {
        if self.rolls_back {
            return "what this run has done is undone now".to_owned();
        }
        let begin = if failed {
            "mend what failed, then run"
        } else {
            "to go on, run"
        };
        let (command, done) = match self.work {
            Work::Apply => (format!("wasagent apply --role {}", self.role), "done"),
            Work::Revert | Work::RollBack => ("wasagent revert".to_owned(), "undone"),
        };
        format!("{begin} `{command}` again: what is {done} stays {done}")
    }
}
