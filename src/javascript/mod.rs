//! Sets properties of an object literal in the application's own JavaScript, without a change to
//! any other byte. Otherwise an operator would do that with an editor on every new revision, and
//! with a password that may hold quotes. Pure: bytes in, bytes or an error out.
//!
//! Nothing is guessed. A property that is missing, or would not have the value when the code runs,
//! is an error with its place and the nearest thing that exists.

mod call;
mod edit;
mod goal;
mod object;
mod scan;
mod string;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::path::Path;

use zeroize::Zeroizing;

use self::call::Call;
use self::object::{Content, Member};
use self::token::{Fault, Script, TokenKind};
use crate::config::Secret;
use crate::error::{Error, Result};

/// Sets properties of the object literal that is the first argument of a call.
///
/// `file` is the name of the file in an error, `object` the name of the call (`mysql.createPool`),
/// and `set` has the value for each property name. All calls of that name are edited. A call whose
/// first argument is not an object literal is skipped, as long as another call has one. If several
/// properties have the same name, the last is edited, since that is the one JavaScript takes.
///
/// A value becomes a string literal, in the quotes of the string that it replaces. If the old value
/// is a number, a decimal integer becomes a number. If the old value is a boolean, `true` or
/// `false` becomes a boolean, since the string `'false'` counts as true. A literal that already has
/// the value stays as it is, so a second run changes nothing.
///
/// # Errors
/// The file is not JavaScript in UTF-8; no such call; no call with an object literal; a literal
/// that lacks one of the properties, has something in its place that holds no value, or may give it
/// another value afterwards. No error holds a value, old or new.
pub fn set_properties(
    file: &str,
    source: &[u8],
    object: &str,
    set: &BTreeMap<String, Secret>,
) -> Result<Zeroizing<Vec<u8>>> {
    let source = text(file, source)?;
    let placed = |fault: Fault| {
        let place = place(source, fault.at);
        Error::new(format!("{file}:{place}: {}", fault.what)).hint(fault.hint)
    };
    let script = scan::scan(source).map_err(placed)?;
    let mut edits = Vec::new();
    for literal in literals(file, &script, object)? {
        let members = object::members(&script, literal);
        for (name, value) in set {
            let member = find(&script, object, literal, &members, name).map_err(placed)?;
            edits.extend(edit::edit(&script, member, value.expose()));
        }
    }
    Ok(edit::edited(source, edits))
}

/// The error for a file to be edited that the revision does not have, with the nearest file that it
/// has. Paths are relative to the content's root.
pub fn missing_file<'f>(file: &Path, files: impl IntoIterator<Item = &'f Path>) -> Error {
    let distance = |path: &Path| match path.ends_with(file) {
        true => 0,
        false => distance(&file.to_string_lossy(), &path.to_string_lossy()),
    };
    let nearest = files.into_iter().min_by_key(|path| distance(path));
    let nearest = match nearest {
        Some(path) => format!("the nearest is {}", path.display()),
        None => "there is no file in it".to_owned(),
    };
    Error::new(format!(
        "{}: the content has no such file; {nearest}",
        file.display()
    ))
    .hint(
        "correct `files` of [[storage.content.edit]]: paths are relative to storage.content.subdir",
    )
}

fn distance(wanted: &str, there: &str) -> usize {
    strsim::osa_distance(&wanted.to_lowercase(), &there.to_lowercase())
}

/// The source as text. A file in another encoding would not be read back after an edit.
fn text<'s>(file: &str, source: &'s [u8]) -> Result<&'s str> {
    str::from_utf8(source).map_err(|error| {
        let (valid, _) = source.split_at(error.valid_up_to());
        let place = place(&String::from_utf8_lossy(valid), valid.len());
        Error::new(format!("{file}:{place}: a byte that is not UTF-8"))
            .hint("save the file in UTF-8, which is what Node.js reads")
    })
}

/// `line:column`, both counted from 1, the column in characters.
fn place(source: &str, at: usize) -> String {
    let before = &source[..at];
    let ends = before.matches('\n').count() + before.matches('\r').count();
    let line = 1 + ends - before.matches("\r\n").count();
    let begin = before.rfind(['\n', '\r']).map_or(0, |end| end + 1);
    let column = 1 + before[begin..].chars().count();
    format!("{line}:{column}")
}

fn place_of(script: &Script<'_>, token: usize) -> String {
    place(script.source, script.tokens[token].span.start)
}

/// The braces of the object literals that are handed to the call.
fn literals(file: &str, script: &Script<'_>, object: &str) -> Result<Vec<usize>> {
    let calls: Vec<Call<'_>> = call::calls(script)
        .filter(|call| call.name == object)
        .collect();
    let Some(first) = calls.first() else {
        return Err(missing_call(file, script, object));
    };
    let literals: Vec<usize> = calls
        .iter()
        .filter_map(|call| literal(script, call))
        .collect();
    if literals.is_empty() {
        let argument = first.open + 1;
        let what = match script.text(argument) {
            ")" => "nothing".to_owned(),
            text if script.is(argument, TokenKind::Name) => format!("what begins with `{text}`"),
            _ => "something else".to_owned(),
        };
        let place = place_of(script, first.at);
        return Err(Error::new(format!(
            "{file}:{place}: {object} is handed {what} instead of an object literal"
        ))
        .hint("write the settings between braces into this call, or name in `object` of [[storage.content.edit]] the call that has them so"));
    }
    Ok(literals)
}

/// The brace of the object literal that is the whole first argument.
fn literal(script: &Script<'_>, call: &Call<'_>) -> Option<usize> {
    let brace = call.open + 1;
    let whole = script.text(brace) == "{" && matches!(script.text(script.behind(brace)), "," | ")");
    whole.then_some(brace)
}

fn missing_call(file: &str, script: &Script<'_>, object: &str) -> Error {
    // A call of the same function of another object is nearer than one of another function.
    let function = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let wanted = function(object);
    let nearest = call::calls(script)
        .min_by_key(|call| (function(&call.name) != wanted, distance(object, &call.name)));
    let same = nearest
        .as_ref()
        .filter(|call| function(&call.name) == wanted);
    if let (None, Some(at)) = (same, call::of_an_expression(script, &wanted)) {
        let place = place_of(script, at);
        return Error::new(format!(
            "{file}: no call of {object}; at {place} {wanted} is called on what an expression gives, which has no name"
        ))
        .hint(format!(
            "have the source give it a name before (`const db = …; db.{wanted}({{…}})`), and write object = \"db.{wanted}\""
        ));
    }
    let hint = match same {
        Some(call) => format!(
            "write object = \"{}\" in [[storage.content.edit]], if that call is meant",
            call.name
        ),
        None => "correct `object` or `files` of [[storage.content.edit]]".to_owned(),
    };
    let nearest = match nearest {
        Some(call) => format!(
            "the nearest is {} at {}",
            call.name,
            place_of(script, call.at)
        ),
        None => "it calls nothing".to_owned(),
    };
    Error::new(format!("{file}: no call of {object}; {nearest}")).hint(hint)
}

/// The member that gives a property its value.
fn find<'m, 's>(
    script: &Script<'s>,
    object: &str,
    literal: usize,
    members: &'m [Member<'s>],
    name: &str,
) -> Result<&'m Member<'s>, Fault> {
    let fault = |token: usize, what: String, hint: String| Fault {
        at: script.tokens[token].span.start,
        what,
        hint,
    };
    let named = |member: &Member<'_>| member.name.as_deref() == Some(name);
    let Some(index) = members.iter().rposition(named) else {
        let what = format!(
            "the object literal of {object} has no property `{name}`; {}",
            nearest_member(script, members, name)
        );
        let hint = format!(
            "correct `set` of [[storage.content.edit]], or have the literal hold `{name}`, with any value"
        );
        return Err(fault(literal, what, hint));
    };
    let member = &members[index];
    if let Content::Function = member.content {
        let what = format!("`{name}` is a function here, and holds no value to set");
        let hint = format!("have it hold a value: `{name}: ''`");
        return Err(fault(member.at, what, hint));
    }
    if let Some(later) = members[index..].iter().find(|later| later.name.is_none()) {
        let what = match later.content {
            Content::Spread => "`...`",
            _ => "a computed name",
        };
        let what = format!("{what} behind `{name}` may give `{name}` another value");
        let hint = format!("move it before `{name}`, or leave it out");
        return Err(fault(later.at, what, hint));
    }
    Ok(member)
}

fn nearest_member(script: &Script<'_>, members: &[Member<'_>], name: &str) -> String {
    let named = members
        .iter()
        .filter_map(|member| Some((member.name.as_deref()?, member)));
    match named.min_by_key(|(there, _)| distance(name, there)) {
        Some((there, member)) => {
            let place = place_of(script, member.at);
            format!("the nearest is `{there}` at {place}")
        }
        None => "it has none by name".to_owned(),
    }
}
