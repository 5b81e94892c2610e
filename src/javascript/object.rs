//! The members of an object literal.

use std::borrow::Cow;
use std::ops::Range;

use super::string;
use super::token::{Script, TokenKind};

/// What stands between two commas of an object literal.
#[derive(Debug)]
pub(super) struct Member<'s> {
    /// `None` if it is known only when the code runs.
    pub name: Option<Cow<'s, str>>,
    /// The first token.
    pub at: usize,
    pub content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// `host: 'db'`: the tokens behind the colon.
    Value(Range<usize>),
    /// `host` alone: its token.
    Shorthand(usize),
    /// A method, a getter or a setter, or something that does not belong in an object literal.
    Function,
    /// `...others`.
    Spread,
}

/// The members of the object literal that this brace opens, in their order.
pub(super) fn members<'s>(script: &Script<'s>, open: usize) -> Vec<Member<'s>> {
    let close = script.behind(open) - 1;
    let mut members = Vec::new();
    let mut at = open + 1;
    while at < close {
        let mut end = at;
        while end < close && script.text(end) != "," {
            end = script.behind(end);
        }
        if at < end {
            members.push(member(script, at..end));
        }
        at = end + 1;
    }
    members
}

fn member<'s>(script: &Script<'s>, tokens: Range<usize>) -> Member<'s> {
    let at = tokens.start;
    if script.text(at) == "..." {
        return Member {
            name: None,
            at,
            content: Content::Spread,
        };
    }
    let mut key = at;
    while key + 1 < tokens.end && is_modifier(script, key) {
        key += 1;
    }
    let behind = script.behind(key);
    let content = match script.text(behind) {
        ":" if behind + 1 < tokens.end => Content::Value(behind + 1..tokens.end),
        _ if behind == tokens.end && script.is(key, TokenKind::Name) => Content::Shorthand(key),
        _ => Content::Function,
    };
    Member {
        name: name(script, key),
        at,
        content,
    }
}

/// Whether this is the `get` of `get host() {}` and not a key of that name.
fn is_modifier(script: &Script<'_>, token: usize) -> bool {
    match script.text(token) {
        "get" | "set" | "async" => !matches!(script.text(token + 1), ":" | "(" | "," | "=" | "}"),
        "*" => true,
        _ => false,
    }
}

fn name<'s>(script: &Script<'s>, key: usize) -> Option<Cow<'s, str>> {
    let literal = |token| {
        let value = string::value(script.text(token))?;
        Some(Cow::Owned(value.to_string()))
    };
    match script.tokens[key].kind {
        TokenKind::Name => Some(script.name(key)),
        TokenKind::String => literal(key),
        TokenKind::Number => Some(Cow::Borrowed(script.text(key))),
        // `['host']` is `host`, while `[host]` is anything.
        _ if script.text(key) == "[" && script.behind(key) == key + 3 => literal(key + 1),
        _ => None,
    }
}
