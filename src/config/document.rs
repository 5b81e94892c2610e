//! Reads the parsed document section by section and field by field. Every fault goes to one [`Report`] with its place,
//! and reading goes on; serde would stop at the first fault.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Faults};
use super::outline::{NamedSecret, Secrets};
use super::source::{Source, Span};
use super::{keys, value::Wrong};

/// Collects the faults of one document.
pub(super) struct Report<'s> {
    source: Source<'s>,
    faults: RefCell<Vec<Fault>>,
    /// The lines that are not TOML. What the parser made of them is not checked again.
    broken_lines: RefCell<Vec<usize>>,
    /// Whether part of the text is not TOML. A key that seems to be missing may stand in that part.
    broken: Cell<bool>,
    secrets: Secrets,
    named: RefCell<Vec<NamedSecret>>,
}

impl<'s> Report<'s> {
    pub(super) fn new(source: Source<'s>, secrets: Secrets) -> Self {
        Self {
            source,
            faults: RefCell::default(),
            broken_lines: RefCell::default(),
            broken: Cell::new(false),
            secrets,
            named: RefCell::default(),
        }
    }

    /// What is done with a secret that the role uses.
    pub(super) fn secrets(&self) -> Secrets {
        self.secrets
    }

    /// Notes a secret that the role uses.
    pub(super) fn names(&self, secret: NamedSecret) {
        self.named.borrow_mut().push(secret);
    }

    /// Reports text that is not TOML.
    pub(super) fn syntax(&self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let line = self.source.place(span.start).0;
        // What follows on the same line follows from the first fault.
        if self.broken_lines.borrow().contains(&line) {
            return;
        }
        let (what, expected) = match error.message().split_once(", expected ") {
            Some((what, expected)) => (what, Some(expected.to_owned())),
            None => (error.message(), None),
        };
        let mut wrong = Wrong::new(format!("not TOML: {what}"));
        wrong.expected = expected;
        if let Some(hint) = self.source.lookalike(&span) {
            wrong = wrong.hint(hint);
        }
        self.wrong(&span, wrong);
        self.broken.set(true);
        self.broken_lines.borrow_mut().push(line);
    }

    /// Reports a fault at a place.
    pub(super) fn wrong(&self, span: &Span, wrong: Wrong) {
        let (line, column) = self.source.place(span.start);
        if self.broken_lines.borrow().contains(&line) && !wrong.what.starts_with("not TOML") {
            return;
        }
        let Wrong {
            what,
            expected,
            hint,
        } = wrong.on_one_line();
        self.faults.borrow_mut().push(Fault {
            file: self.source.file.clone(),
            line,
            column,
            text: self.source.shown(span),
            message: what,
            expected,
            hint,
            excerpt: self.source.excerpt(span),
        });
    }

    /// Reports that something required is missing, but only if the whole text was understood.
    pub(super) fn missing(&self, span: &Span, wrong: Wrong) {
        if !self.broken.get() {
            self.wrong(span, wrong);
        }
    }

    /// The secrets that the role uses, when no fault was found.
    pub(super) fn into_result(self) -> Result<Vec<NamedSecret>, Faults> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        if faults.is_empty() {
            Ok(self.named.into_inner())
        } else {
            Err(Faults(faults))
        }
    }
}

/// A table of the document whose keys are known.
pub(super) struct Section<'d> {
    /// As in the documentation: `was.container`; empty for the file itself.
    name: String,
    /// Its header, or the inline table.
    pub(super) span: Span,
    table: &'d DeTable<'d>,
    report: &'d Report<'d>,
    /// The keys that misspelt keys were meant to be. They are not reported as missing as well.
    meant: Vec<&'static str>,
}

impl<'d> Section<'d> {
    /// Takes a table as the section `name` and reports its unknown keys.
    pub(super) fn new(
        report: &'d Report<'d>,
        name: String,
        span: Span,
        table: &'d DeTable<'d>,
    ) -> Self {
        let mut section = Self {
            name,
            span,
            table,
            report,
            meant: Vec::new(),
        };
        for key in table.keys() {
            if !keys::of(&section.name).contains(&key.get_ref().as_ref()) {
                section.meant.extend(section.unknown(key));
            }
        }
        section
    }

    /// Reports an unknown key and returns the one that was meant.
    fn unknown(&self, key: &Spanned<toml::de::DeString<'_>>) -> Option<&'static str> {
        let known = keys::of(&self.name);
        let absent: Vec<_> = known.iter().copied().filter(|k| !self.has(k)).collect();
        let name = key.get_ref().as_ref();
        let meant = keys::nearest(name, &absent).or_else(|| keys::nearest(name, &known));
        let hint = match (meant, keys::homes(name)) {
            (Some(meant), _) => Some(format!("did you mean `{meant}`?")),
            (None, homes) if !homes.is_empty() => Some(format!(
                "`{name}` belongs to {}",
                listed(homes.iter().map(|home| format!("[{home}]")), " or ")
            )),
            (None, _) => None,
        };
        // Below a broken header, keys seem to belong to another section.
        if self.report.broken.get() && meant.is_none() && !keys::homes(name).is_empty() {
            return None;
        }
        let shown = self.report.source.shown(&key.span());
        let mut wrong = Wrong::new(match self.name.as_str() {
            "" => format!("unknown section or key `{shown}`"),
            section => format!("unknown key `{shown}` in [{section}]"),
        })
        .expected(format!(
            "one of: {}",
            listed(known.iter().map(|key| (*key).to_owned()), ", ")
        ));
        wrong.hint = hint;
        self.report.wrong(&key.span(), wrong);
        meant
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether a misspelt key was meant to be this one.
    pub(super) fn means(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }

    /// The place of a key.
    pub(super) fn key_span(&self, key: &str) -> Span {
        self.table
            .get_key_value(key)
            .map_or(self.span.clone(), |(key, _)| key.span())
    }

    /// A key that may be left out.
    pub(super) fn optional(&self, key: &str) -> Option<Field<'d>> {
        let value = self.table.get(key)?;
        // An empty span is the parser's stand-in for a missing value, which it has already reported.
        if value.span().is_empty() {
            return None;
        }
        Some(Field {
            name: match self.name.as_str() {
                "" => key.to_owned(),
                section => format!("{section}.{key}"),
            },
            span: value.span(),
            value: value.get_ref(),
            report: self.report,
        })
    }

    /// A required key. If it is missing, the fault is reported at the section's header.
    pub(super) fn required(&self, key: &str) -> Option<Field<'d>> {
        debug_assert!(keys::is_required(&self.name, key), "{key}");
        let field = self.optional(key);
        if field.is_none() && !self.means(key) {
            self.missing(format!("`{key}`"), None);
        }
        field
    }

    /// Reports that `what` is not in this section.
    pub(super) fn missing(&self, what: String, expected: Option<String>) {
        let mut wrong = Wrong::new(match self.name.as_str() {
            "" => format!("missing {what}"),
            section => format!("missing {what} in [{section}]"),
        });
        wrong.expected = expected;
        self.report.missing(&self.span, wrong);
    }

    /// A section below this one.
    pub(super) fn section(&self, key: &str) -> Option<Self> {
        self.optional(key)?.section()
    }

    pub(super) fn report(&self) -> &'d Report<'d> {
        self.report
    }
}

/// A value of the document.
pub(super) struct Field<'d> {
    /// As in the documentation: `was.container.publish`.
    pub(super) name: String,
    pub(super) span: Span,
    value: &'d DeValue<'d>,
    report: &'d Report<'d>,
}

impl<'d> Field<'d> {
    /// Reports that the value is wrong.
    pub(super) fn wrong(&self, mut wrong: Wrong) {
        wrong.what = format!("{}: {}", self.name, wrong.what);
        self.report.wrong(&self.span, wrong);
    }

    fn wrong_type(&self, expected: &str) {
        let wrong = Wrong::new(format!("found {}", kind(self.value))).expected(expected);
        self.wrong(wrong);
    }

    pub(super) fn string(&self) -> Option<&'d str> {
        match self.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => {
                self.wrong_type("a string, in quotes");
                None
            }
        }
    }

    /// The value as `parse` reads it; `parse` says what is wrong with a bad string.
    pub(super) fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        parse(self.string()?)
            .map_err(|wrong| self.wrong(wrong))
            .ok()
    }

    /// A duration, which is a string. For a bare number, the fault says which unit to add.
    pub(super) fn duration<T>(&self, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        if let DeValue::Integer(number) = self.value {
            let wrong = Wrong::new("a number without a unit")
                .expected("a duration, such as \"5s\", \"500ms\" or \"1m30s\"")
                .hint(format!("for seconds write \"{number}s\""));
            self.wrong(wrong);
            return None;
        }
        self.parsed(parse)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        if let DeValue::Boolean(truth) = self.value {
            return Some(*truth);
        }
        let mut wrong = Wrong::new(format!("found {}", kind(self.value))).expected("true or false");
        if let DeValue::String(text) = self.value
            && let "true" | "false" = text.as_ref()
        {
            wrong = wrong.hint("leave the quotes out");
        }
        self.wrong(wrong);
        None
    }

    /// A whole number within `range`.
    pub(super) fn number(&self, range: &RangeInclusive<u16>) -> Option<u16> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(digits) = self.value else {
            let mut wrong = Wrong::new(format!("found {}", kind(self.value))).expected(expected);
            if let DeValue::String(text) = self.value
                && text.parse::<u16>().is_ok()
            {
                wrong = wrong.hint("leave the quotes out");
            }
            self.wrong(wrong);
            return None;
        };
        let number = u16::from_str_radix(digits.as_str(), digits.radix())
            .ok()
            .filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(Wrong::new("out of range").expected(expected));
        }
        number
    }

    /// The items of a list, which must not be empty.
    pub(super) fn list(&self, of: &str) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.value else {
            self.wrong_type(&format!("a list of {of}"));
            return None;
        };
        if items.is_empty() {
            self.wrong(Wrong::new("the list is empty").expected(format!("at least one of {of}")));
            return None;
        }
        Some(
            items
                .iter()
                .map(|item| Self {
                    name: self.name.clone(),
                    span: item.span(),
                    value: item.get_ref(),
                    report: self.report,
                })
                .collect(),
        )
    }

    /// The items of a list of strings as `parse` reads them; `None` if one of them is wrong.
    pub(super) fn parsed_list<T>(
        &self,
        of: &str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let items = self.list(of)?;
        let parsed: Vec<_> = items.iter().map(|item| item.parsed(&parse)).collect();
        parsed.into_iter().collect()
    }

    /// A table whose keys are known.
    pub(super) fn section(&self) -> Option<Section<'d>> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type(&format!("a table, [{}]", self.name));
            return None;
        };
        Some(Section::new(
            self.report,
            self.name.clone(),
            self.span.clone(),
            table,
        ))
    }

    /// Like [`Self::section`], for tables that the operator names: `name` stands for all of them.
    pub(super) fn section_as(&self, name: &str) -> Option<Section<'d>> {
        let named = Self {
            name: name.to_owned(),
            span: self.span.clone(),
            ..*self
        };
        named.section()
    }

    /// A table whose keys are the operator's own, each with its place.
    pub(super) fn entries(&self) -> Option<Vec<(&'d str, Span, Self)>> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type("a table, { KEY = \"value\" }");
            return None;
        };
        let entries = table.iter().map(|(key, value)| {
            let field = Self {
                name: format!("{}.{}", self.name, key.get_ref().escape_debug()),
                span: value.span(),
                value: value.get_ref(),
                report: self.report,
            };
            (key.get_ref().as_ref(), key.span(), field)
        });
        Some(entries.collect())
    }

    pub(super) fn report(&self) -> &'d Report<'d> {
        self.report
    }
}

/// The type of a value, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn listed(words: impl Iterator<Item = String>, separator: &str) -> String {
    words.collect::<Vec<_>>().join(separator)
}
