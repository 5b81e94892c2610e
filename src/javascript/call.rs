//! The calls of a script by their names: `mysql.createPool(…)`.

use std::borrow::Cow;

use super::token::{Script, TokenKind};

/// A call of a function that has a name.
#[derive(Debug)]
pub(super) struct Call<'s> {
    /// As it would be written without white space, comments and escapes.
    pub name: Cow<'s, str>,
    /// The first token of the name.
    pub at: usize,
    /// The parenthesis before the arguments.
    pub open: usize,
}

/// Every call of a source, in the order of their names' places.
pub(super) fn calls<'s>(script: &Script<'s>) -> impl Iterator<Item = Call<'s>> {
    (0..script.tokens.len()).filter_map(|token| call(script, token))
}

/// The call whose name begins at this token. A name with more in front, as in
/// `other.mysql.createPool`, is a different name.
fn call<'s>(script: &Script<'s>, at: usize) -> Option<Call<'s>> {
    let first = script.keyword(at)?;
    let mut name = script.name(at);
    let mut last = at;
    while matches!(script.text(last + 1), "." | "?.") && script.is(last + 2, TokenKind::Name) {
        last += 2;
        name = Cow::Owned(format!("{name}.{}", script.name(last)));
    }
    // `mysql.createPool?.(…)`
    let open = last + 1 + usize::from(script.text(last + 1) == "?.");
    if script.text(open) != "(" || last == at && (is_word(first) || is_definition(script, at, open))
    {
        return None;
    }
    Some(Call { name, at, open })
}

/// Words that may stand before a parenthesis and are not functions.
fn is_word(name: &str) -> bool {
    matches!(
        name,
        "await"
            | "case"
            | "catch"
            | "default"
            | "delete"
            | "do"
            | "else"
            | "extends"
            | "for"
            | "function"
            | "if"
            | "in"
            | "instanceof"
            | "new"
            | "return"
            | "switch"
            | "throw"
            | "typeof"
            | "void"
            | "while"
            | "with"
            | "yield"
    )
}

/// Whether this name defines a function or a method, with parameters instead of arguments, or is
/// the `async` of an arrow function.
fn is_definition(script: &Script<'_>, name: usize, open: usize) -> bool {
    let generator = usize::from(script.text_before(name) == "*");
    let function = name
        .checked_sub(1 + generator)
        .and_then(|word| script.keyword(word))
        == Some("function");
    let behind = script.text(script.behind(open));
    function || behind == "=>" || behind == "{" && script.tokens[name].member
}
