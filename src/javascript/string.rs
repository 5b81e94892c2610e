//! The value of a string literal, both ways. What is written is read back as the same value by
//! every engine since ECMAScript 3, whatever the value holds, and never ends the line it is on.

use zeroize::Zeroizing;

/// The literal of a value, between quotes of the given kind: `'`, `"` or a backtick.
pub(super) fn literal(value: &str, quote: char) -> Zeroizing<String> {
    // A byte takes four at most, as `\x00` does: the string never moves, and leaves no copy behind.
    let mut literal = Zeroizing::new(String::with_capacity(value.len() * 4 + 2));
    literal.push(quote);
    let mut characters = value.chars().peekable();
    let mut before = '\0';
    while let Some(c) = characters.next() {
        match c {
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            '\\' => literal.push_str("\\\\"),
            c if c == quote => literal.extend(['\\', c]),
            '$' if quote == '`' && characters.peek() == Some(&'{') => literal.push_str("\\$"),
            // Nobody who puts the file into a page has its <script> closed by a password.
            '/' if before == '<' => literal.push_str("\\/"),
            // A byte order mark is taken out by some editors. The others end a line.
            '\u{feff}' | '\u{2028}' | '\u{2029}' => push_code(&mut literal, "\\u", 4, c),
            // Never `\0`: a digit behind it would make it an octal number.
            c if c.is_control() => push_code(&mut literal, "\\x", 2, c),
            c => literal.push(c),
        }
        before = c;
    }
    literal.push(quote);
    literal
}

fn push_code(literal: &mut String, escape: &str, digits: u32, c: char) {
    literal.push_str(escape);
    for place in (0..digits).rev() {
        let digit = (u32::from(c) >> (4 * place)) & 0xf;
        literal.extend(char::from_digit(digit, 16));
    }
}

/// The value of a literal in `'` or `"`; none where it is no text in Unicode, or has one of the
/// octal escapes that depend on whether the code is strict.
pub(super) fn value(literal: &str) -> Option<Zeroizing<String>> {
    let quote = literal.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let body = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    unescaped(body).map(Zeroizing::new)
}

/// The text that a string's body or a name stands for.
pub(super) fn unescaped(body: &str) -> Option<String> {
    // Escapes are of UTF-16 units, of which one character may take two.
    let mut units = Zeroizing::new(Vec::with_capacity(body.len()));
    let mut rest = body.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            continue;
        }
        let code = match rest.next()? {
            'n' => 0x0a,
            't' => 0x09,
            'r' => 0x0d,
            'b' => 0x08,
            'v' => 0x0b,
            'f' => 0x0c,
            '0' if !rest.as_str().starts_with(|c: char| c.is_ascii_digit()) => 0,
            '0'..='9' => return None,
            'x' => digits(&mut rest, 2)?,
            'u' => match rest.as_str().strip_prefix('{') {
                None => digits(&mut rest, 4)?,
                Some(_) => {
                    let (number, behind) = rest.as_str()[1..].split_once('}')?;
                    rest = behind.chars();
                    u32::from_str_radix(number, 16).ok()?
                }
            },
            // A line that goes on, which CR LF ends as one.
            '\r' => {
                rest = rest
                    .as_str()
                    .strip_prefix('\n')
                    .unwrap_or(rest.as_str())
                    .chars();
                continue;
            }
            '\n' | '\u{2028}' | '\u{2029}' => continue,
            other => u32::from(other),
        };
        match u16::try_from(code) {
            Ok(unit) => units.push(unit),
            Err(_) => units.extend_from_slice(char::from_u32(code)?.encode_utf16(&mut [0; 2])),
        }
    }
    String::from_utf16(&units).ok()
}

fn digits(rest: &mut std::str::Chars<'_>, count: usize) -> Option<u32> {
    let text = rest.as_str();
    let number = text.get(..count)?;
    *rest = text[count..].chars();
    // from_str_radix would take a sign, too.
    number
        .chars()
        .try_fold(0, |code, c| Some(code * 16 + c.to_digit(16)?))
}
