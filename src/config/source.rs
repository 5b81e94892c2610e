//! The text of a tier file: places in it, and which parts of it may be shown.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Excerpt;
use super::template::{self, Piece};
use super::{Secret, keys};

/// A range of bytes in the tier file.
pub(super) type Span = Range<usize>;

/// A tier file's text with the ranges that hold secrets.
pub(super) struct Source<'s> {
    pub(super) file: PathBuf,
    text: &'s str,
    /// Sorted; no two of them touch.
    masks: Vec<Span>,
}

impl<'s> Source<'s> {
    pub(super) fn new(file: &Path, text: &'s str) -> Self {
        Self {
            file: file.to_owned(),
            text,
            masks: Vec::new(),
        }
    }

    /// Hides the values of keys that resemble a password, and what stands before the `@` of a URL.
    /// If the text is `broken`, the document does not hold all of it. Then everything that follows
    /// such a key is hidden, too.
    pub(super) fn hide_secrets(&mut self, document: &DeTable<'_>, broken: bool) {
        let mut masks = Vec::new();
        hide_table(self.text, document, &mut masks);
        if broken {
            hide_by_words(self.text, &mut masks);
        }
        hide_url_users(self.text, &mut masks);
        masks.retain(|mask| mask.start < mask.end);
        masks.sort_by_key(|mask| mask.start);
        for mask in masks {
            match self.masks.last_mut() {
                Some(last) if mask.start <= last.end => last.end = last.end.max(mask.end),
                _ => self.masks.push(mask),
            }
        }
    }

    /// Line and column, both counted from 1, the column in characters.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    /// The source text of a span, secrets masked.
    pub(super) fn shown(&self, span: &Span) -> String {
        let (start, end) = (self.boundary(span.start), self.boundary(span.end));
        let mut shown = String::new();
        let mut at = start;
        for mask in &self.masks {
            if mask.end <= at || mask.start >= end {
                continue;
            }
            if mask.start > at {
                shown.push_str(&printable(&self.text[at..mask.start]));
            }
            shown.push_str(Secret::MASK);
            at = mask.end.min(end);
        }
        if at < end {
            shown.push_str(&printable(&self.text[at..end]));
        }
        shown
    }

    /// The line where a span begins, with the part of it that the span covers. `None` for the file
    /// as a whole, `0..0`.
    pub(super) fn excerpt(&self, span: &Span) -> Option<Excerpt> {
        let (start, end) = (self.boundary(span.start), self.boundary(span.end));
        if end == 0 {
            return None;
        }
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..]
            .find('\n')
            .map_or(self.text.len(), |at| start + at);
        let end = end.min(line_end).max(start);
        let line_end = comment_start(&self.text[line_start..line_end])
            .map_or(line_end, |at| (line_start + at).max(end));
        // A span that begins inside a secret is underlined from where the mask begins.
        let start = self
            .masks
            .iter()
            .find(|mask| mask.contains(&start))
            .map_or(start, |mask| mask.start.max(line_start));
        let before = self.shown(&(line_start..start)).chars().count();
        let width = self.shown(&(start..end)).trim_end().chars().count();
        Some(Excerpt {
            line: self.shown(&(line_start..line_end)).trim_end().to_owned(),
            before,
            width: width.max(1),
        })
    }

    /// What to do about a character that only looks like one of TOML's, as a page or a word processor
    /// writes it. It is the first one of the span's line.
    pub(super) fn lookalike(&self, span: &Span) -> Option<String> {
        let start = self.boundary(span.start);
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let line = &line[..comment_start(line).unwrap_or(line.len())];
        let (found, is, meant) = line.chars().find_map(|c| {
            let (_, is, meant) = LOOKALIKES.iter().find(|(like, ..)| like.contains(c))?;
            Some((c, is, meant))
        })?;
        let code = u32::from(found);
        Some(format!("U+{code:04X} stands there, {is}: {meant}"))
    }

    /// The nearest place at or before `offset` where a character begins.
    fn boundary(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset)
    }
}

/// Characters that are not what they seem, what they are, and what to do.
const LOOKALIKES: [(&str, &str, &str); 5] = [
    ("“”„‟″", "a typographic quote", "write \""),
    ("‘’‚‛′", "a typographic quote", "write '"),
    ("＝", "a full-width equals sign", "write ="),
    (
        "\u{a0}\u{2000}\u{2002}\u{2003}\u{2007}\u{2009}\u{202f}\u{3000}",
        "a blank that is none of TOML's",
        "write a blank",
    ),
    (
        "\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}",
        "a character of no width",
        "delete the line, and type it anew",
    ),
];

/// Replaces control characters: the operator's terminal would obey them.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\r' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// Where a line's comment begins. The comment is not shown: it may hold last year's password.
fn comment_start(line: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') => return Some(at),
            _ => {}
        }
        escaped = false;
    }
    None
}

fn hide_table(text: &str, table: &DeTable<'_>, masks: &mut Vec<Span>) {
    for (key, value) in table {
        if keys::resembles_password(key.get_ref())
            || is_misplaced_password(key, value)
            || has_user_with_password(value)
        {
            hide_value(value, masks);
        } else {
            hide_below(text, value, masks);
        }
    }
}

/// Looks for secrets in a value whose own key does not resemble a password.
fn hide_below(text: &str, value: &Spanned<DeValue<'_>>, masks: &mut Vec<Span>) {
    match value.get_ref() {
        DeValue::Table(table) => hide_table(text, table, masks),
        DeValue::Array(items) => items.iter().for_each(|item| hide_below(text, item, masks)),
        DeValue::String(string) if string.contains('\n') => {
            hide_swallowed(text, value.span(), masks);
        }
        _ => {}
    }
}

/// A string of several lines may have swallowed what stood behind it, so its lines are looked at like those of a
/// broken file.
fn hide_swallowed(text: &str, string: Span, masks: &mut Vec<Span>) {
    let mut within = Vec::new();
    hide_by_words(&text[string.clone()], &mut within);
    let moved = |mask: Span| string.start + mask.start..string.start + mask.end;
    masks.extend(within.into_iter().map(moved));
}

/// Hides every scalar of a value.
fn hide_value(value: &Spanned<DeValue<'_>>, masks: &mut Vec<Span>) {
    match value.get_ref() {
        DeValue::Table(table) => table.values().for_each(|value| hide_value(value, masks)),
        DeValue::Array(items) => items.iter().for_each(|item| hide_value(item, masks)),
        DeValue::String(text) if is_placeholder(text) => {}
        _ => masks.push(value.span()),
    }
}

/// `{database.password}` says where a password comes from, and is no password itself.
fn is_placeholder(text: &str) -> bool {
    matches!(template::pieces(text)[..], [Piece::Placeholder(_)])
}

/// Whether a password was written where the path of its file or the name of its credential belongs.
fn is_misplaced_password(
    key: &Spanned<toml::de::DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
) -> bool {
    let key = keys::password_key(key.get_ref());
    match (key, value.get_ref()) {
        (Some("password_file"), DeValue::String(path)) => !path.starts_with('/'),
        (Some("password_credential"), DeValue::String(name)) => !super::value::is_credential(name),
        (Some(_), _) => true,
        (None, _) => false,
    }
}

/// `user:password@host:path`, as it is sometimes written for git.
fn has_user_with_password(value: &Spanned<DeValue<'_>>) -> bool {
    value.get_ref().as_str().is_some_and(|text| {
        !text.contains("://")
            && text
                .rsplit_once('@')
                .is_some_and(|(user, host)| user.contains(':') && !host.starts_with("sha"))
    })
}

/// Hides what stands between `://` and `@`: a name there often comes with a password or is a token.
/// The account of an `ssh` URL is neither.
fn hide_url_users(text: &str, masks: &mut Vec<Span>) {
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        let rest = &text[start..];
        let authority = &rest[..rest
            .find(|c: char| c == '/' || c == '"' || c == '\'' || c.is_whitespace())
            .unwrap_or(rest.len())];
        // A password may itself hold a slash, so the last `@` before the string's end counts.
        let string = &rest[..rest.find(['"', '\'', '\n']).unwrap_or(rest.len())];
        let Some(end) = authority.rfind('@').or_else(|| string.rfind('@')) else {
            continue;
        };
        if !text[..at].ends_with("ssh") || rest[..end].contains(':') {
            masks.push(start..start + end);
        }
    }
}

/// Hides secrets by words, in text that no parser understood: from a key that resembles a password
/// to the end of its value. It hides too much rather than too little.
fn hide_by_words(text: &str, masks: &mut Vec<Span>) {
    let mut line_start = 0;
    let mut hidden_to = 0;
    for line in text.split_inclusive('\n') {
        let start = line_start;
        line_start += line.len();
        if start < hidden_to {
            continue;
        }
        if let Some(value) = password_value(line).or_else(|| torn_password_value(line)) {
            hidden_to = next_entry(text, value_end(text, start + value, line_start));
            masks.push(start + value..hidden_to);
        }
    }
}

/// Where a line's password begins: after the first word that resembles a password's key and stands
/// outside of quotes or before an equals sign or a colon. A key that the tier file does not have
/// may be the torn half of `password`, so it counts as well.
fn password_value(line: &str) -> Option<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let mut at = 0;
    while let Some(start) = line[at..].find(is_word).map(|offset| at + offset) {
        let end = line[start..]
            .find(|c: char| !is_word(c))
            .map_or(line.len(), |offset| start + offset);
        at = end;
        // Whether the word is outside of quotes: a path may end in `share.password`.
        let bare = line[..start].matches(['"', '\'']).count().is_multiple_of(2);
        let after = line[end..].trim_start_matches(['"', '\'', ' ', '\t']);
        let assigned = after.starts_with(['=', ':']);
        let word = &line[start..end];
        let suspect = keys::resembles_password(word) || (assigned && !keys::is_known(word));
        if (bare || assigned) && suspect {
            return Some(match assigned {
                true => line.len() - after.len() + 1,
                false => end,
            });
        }
    }
    None
}

/// Where the password begins on a line whose key is torn: `pass=word = "…"`.
fn torn_password_value(line: &str) -> Option<usize> {
    let quote = line.find(['"', '\'']).unwrap_or(line.len());
    let squeezed: String = line[..quote]
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    keys::resembles_password(&squeezed).then(|| line[..quote].find(['=', ':']).unwrap_or(quote))
}

/// Skips the lines after a password, up to a line that begins with a key of the tier file or a
/// section's header: any other line may be the rest of a password that a slip tore in two. Returns
/// the end of the last skipped line, without its newline.
fn next_entry(text: &str, from: usize) -> usize {
    let mut end = from;
    while let Some(newline) = text[end..].find('\n').map(|offset| end + offset) {
        let line = &text[newline + 1..];
        let line = &line[..line.find('\n').unwrap_or(line.len())];
        let key = line.split('=').next().filter(|key| key.len() < line.len());
        if line.starts_with('[') || key.is_some_and(|key| keys::is_known(key.trim())) {
            break;
        }
        end = newline + 1 + line.len();
    }
    end
}

/// Where the value that begins at `start` ends: at `line_end`, the end of its line, unless its
/// quotes are still open.
fn value_end(text: &str, start: usize, line_end: usize) -> usize {
    let value = text[start..line_end].trim();
    let open = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quote| value.matches(quote).count() % 2 == 1);
    let end = text[..line_end]
        .trim_end_matches(['\r', '\n'])
        .len()
        .max(start);
    let Some(quote) = open else { return end };
    match text[line_end..].find(quote) {
        Some(close) => {
            let close = line_end + close;
            text[close..]
                .find('\n')
                .map_or(text.len(), |newline| close + newline)
        }
        None if quote.len() == 1 => {
            let next = &text[line_end..];
            line_end + next.find('\n').unwrap_or(next.len())
        }
        None => text.len(),
    }
}
