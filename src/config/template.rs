//! Placeholders in the tier file's values: `{name}`.
//!
//! The only definition of a placeholder: validation uses it, and so does the code that fills
//! templates.

use std::borrow::Cow;

/// The placeholders of `storage.content.edit.set`.
pub const DATABASE: [&str; 5] = [
    "database.host",
    "database.port",
    "database.user",
    DATABASE_PASSWORD,
    "database.name",
];
/// The one of them that is a secret.
pub const DATABASE_PASSWORD: &str = "database.password";
/// The placeholders of `was.container.hostname`.
pub const HOSTNAME: [&str; 2] = ["node", "index"];
/// The placeholder of `health.http.contains`.
pub const CONTAINS: [&str; 1] = ["container.hostname"];

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Literal text.
    Text(&'t str),
    /// The name between the braces.
    Placeholder(&'t str),
}

/// Splits a template. A placeholder is a name of lower-case letters, digits, `.`, `_` and `-`
/// between braces; any other brace is literal text.
#[must_use]
pub fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut text_from = 0;
    let mut at = 0;
    while let Some(open) = template[at..].find('{').map(|offset| at + offset) {
        at = open + 1;
        let Some(close) = template[at..].find('}').map(|offset| at + offset) else {
            break;
        };
        let name = &template[at..close];
        if !is_name(name) {
            continue;
        }
        if text_from < open {
            pieces.push(Piece::Text(&template[text_from..open]));
        }
        pieces.push(Piece::Placeholder(name));
        at = close + 1;
        text_from = at;
    }
    if text_from < template.len() {
        pieces.push(Piece::Text(&template[text_from..]));
    }
    pieces
}

/// Fills a template in. `value` gives the text for a placeholder. An unknown placeholder stays as
/// it is (validation has already refused it).
#[must_use]
pub fn fill<'v>(template: &str, value: impl Fn(&str) -> Option<Cow<'v, str>>) -> String {
    let mut filled = String::with_capacity(template.len());
    for piece in pieces(template) {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Placeholder(name) => match value(name) {
                Some(value) => filled.push_str(&value),
                None => {
                    filled.push('{');
                    filled.push_str(name);
                    filled.push('}');
                }
            },
        }
    }
    filled
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
}
