//! Values to string literals and back. Every engine since ECMAScript 3 reads a written literal back
//! as the same value, whatever the value holds. A literal never ends the line it is on.

use zeroize::Zeroizing;

/// The literal of a value, between quotes of the given kind: `'`, `"` or a backtick.
pub(super) fn literal(value: &str, quote: char) -> Zeroizing<String> {
    // A byte needs at most four (`\x00`), so the string is never moved and leaves no copy behind.
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
            // Keeps a password from closing the <script> of a page that holds the file.
            '/' if before == '<' => literal.push_str("\\/"),
            // Some editors remove a byte order mark. The others end a line.
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

/// The value of a literal in `'` or `"`. `None` if it is not valid Unicode, or has an octal escape
/// whose meaning depends on strict mode.
pub(super) fn value(literal: &str) -> Option<Zeroizing<String>> {
    let quote = literal.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let body = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    unescaped(body).map(Zeroizing::new)
}

/// The text that a string's body or a name stands for.
pub(super) fn unescaped(body: &str) -> Option<String> {
    // Escapes stand for UTF-16 units, and one character may take two of them.
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
            // A line continuation; CR LF counts as one end of a line.
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
