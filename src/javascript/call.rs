//! The calls of a script by their names: `mysql.createPool(…)`.

use std::borrow::Cow;

use super::string;
use super::token::{Script, TokenKind};

/// A call of a function that has a name.
#[derive(Debug)]
pub(super) struct Call<'s> {
    /// As it would be written without white space, comments and escapes, and with a module in single
    /// quotes: `require('mysql').createPool`.
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
    if let Some((module, close)) = required(script, at) {
        name = Cow::Owned(module);
        last = close;
    }
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

/// `require('mysql')` before a further name, in single quotes, and its closing parenthesis.
fn required(script: &Script<'_>, at: usize) -> Option<(String, usize)> {
    let (argument, close) = (at + 2, at + 3);
    let is_call = script.text(at) == "require" && script.text(at + 1) == "(";
    let leads_on = script.text(close) == ")" && matches!(script.text(close + 1), "." | "?.");
    if !is_call || !leads_on || !script.is(argument, TokenKind::String) {
        return None;
    }
    let module = string::value(script.text(argument))?;
    Some((format!("require('{}')", *module), close))
}

/// The first call of a function of this name that belongs to what an expression gives, such as
/// `(await pool()).createPool(…)`. It has no name that could be given for it.
pub(super) fn of_an_expression(script: &Script<'_>, function: &str) -> Option<usize> {
    (2..script.tokens.len()).find(|&at| {
        script.is(at, TokenKind::Name)
            && script.name(at) == function
            && script.text(at + 1) == "("
            && matches!(script.text(at - 1), "." | "?.")
            && matches!(script.text(at - 2), ")" | "]" | "}")
    })
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
