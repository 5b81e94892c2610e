//! A member's new value, written in the form of the old value, and its way into the source.

use std::ops::Range;

use zeroize::Zeroizing;

use super::object::{Content, Member};
use super::string;
use super::token::{Script, TokenKind};

/// A replacement for a part of the source. It may hold a secret, so it has no `Debug`.
pub(super) struct Edit {
    span: Range<usize>,
    text: Zeroizing<String>,
}

/// The edit that gives a member its value; `None` if the member already has it.
pub(super) fn edit(script: &Script<'_>, member: &Member<'_>, value: &str) -> Option<Edit> {
    match &member.content {
        Content::Value(tokens) => {
            let span =
                script.tokens[tokens.start].span.start..script.tokens[tokens.end - 1].span.end;
            let only = (tokens.len() == 1).then_some(script.tokens[tokens.start].kind);
            let text = replacement(&script.source[span.clone()], only, value)?;
            Some(Edit { span, text })
        }
        Content::Shorthand(key) => {
            let end = script.tokens[*key].span.end;
            let literal = string::literal(value, '\'');
            let mut text = Zeroizing::new(String::with_capacity(literal.len() + 2));
            text.push_str(": ");
            text.push_str(&literal);
            Some(Edit {
                span: end..end,
                text,
            })
        }
        Content::Function | Content::Spread => None,
    }
}

/// What is written instead of an old value; `None` if nothing changes. `only` is the kind of the
/// old value's token, if it has only one.
fn replacement(old: &str, only: Option<TokenKind>, value: &str) -> Option<Zeroizing<String>> {
    let plain = match only {
        Some(TokenKind::Number) => is_integer(value),
        Some(TokenKind::Name) => is_boolean(old) && is_boolean(value),
        _ => false,
    };
    let new = match only {
        _ if plain => Zeroizing::new(value.to_owned()),
        Some(TokenKind::String) => {
            if string::value(old).is_some_and(|there| *there == value) {
                return None;
            }
            string::literal(value, if old.starts_with('"') { '"' } else { '\'' })
        }
        Some(TokenKind::Template) => string::literal(value, '`'),
        _ => string::literal(value, '\''),
    };
    (*new != old).then_some(new)
}

/// Whether JavaScript can hold this integer exactly as a number, and would print it the same way.
fn is_integer(value: &str) -> bool {
    const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
    let parsed: Option<u64> = value.parse().ok();
    parsed.is_some_and(|number| number <= MAX_SAFE_INTEGER && number.to_string() == value)
}

fn is_boolean(text: &str) -> bool {
    matches!(text, "true" | "false")
}

/// The source with the edits applied. An edit inside a part that another edit replaces is dropped.
pub(super) fn edited(source: &str, mut edits: Vec<Edit>) -> Zeroizing<Vec<u8>> {
    edits.sort_by_key(|edit| edit.span.start);
    let added: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(source.len() + added));
    let mut copied = 0;
    for edit in &edits {
        if edit.span.start < copied {
            continue;
        }
        bytes.extend_from_slice(&source.as_bytes()[copied..edit.span.start]);
        bytes.extend_from_slice(edit.text.as_bytes());
        copied = edit.span.end;
    }
    bytes.extend_from_slice(&source.as_bytes()[copied..]);
    bytes
}
