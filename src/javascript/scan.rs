//! Characters to tokens, after the lexical grammar of ECMA-262 (chapter 12).
//!
//! A full parser would know more, but every well-kept parser (oxc, swc, boa) brings along sixty
//! crates or more. All that is needed here is where the strings, templates, comments and regular
//! expressions are, and which bracket closes which.

use super::goal::{Expects, Grammar};
use super::token::{Fault, Script, TokenKind};

/// Punctuators of several characters whose meaning is not that of their single characters.
const LONG: [&str; 6] = ["...", "=>", "?.", "??", "++", "--"];

/// All tokens of a source.
///
/// # Errors
/// Text that is not JavaScript: something that never ends, brackets that do not match, characters
/// that begin no token. Also `<!--`, which scripts and modules read in different ways.
pub(super) fn scan(source: &str) -> Result<Script<'_>, Fault> {
    let mut scanner = Scanner {
        source,
        at: 0,
        newline: true,
        grammar: Grammar::new(source),
    };
    scanner.hashbang();
    while let Some(next) = scanner.next_token()? {
        scanner.token(next)?;
        scanner.newline = false;
    }
    scanner.grammar.end()
}

struct Scanner<'s> {
    source: &'s str,
    at: usize,
    /// Whether a line began since the last token.
    newline: bool,
    grammar: Grammar<'s>,
}

fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

fn is_space(c: char) -> bool {
    // WhiteSpace in ECMA-262 is tab, form feeds, the byte order mark and Unicode's Zs. That is
    // Rust's white space without line ends and NEL, plus the byte order mark.
    c == '\u{feff}' || c.is_whitespace() && !ends_line(c) && c != '\u{85}'
}

/// Letters are not looked up: any other character that could stand outside of a string is not
/// JavaScript.
fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '_' | '$')
        || !c.is_ascii() && !is_space(c) && !ends_line(c)
}

impl<'s> Scanner<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_while(&mut self, of: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(of).len();
    }

    /// `#!/usr/bin/env node`, on the first line only.
    fn hashbang(&mut self) {
        self.skip_while(|c| c == '\u{feff}');
        if self.rest().starts_with("#!") {
            self.skip_while(|c| !ends_line(c));
        }
    }

    /// The character that the next token begins with, behind white space and comments.
    fn next_token(&mut self) -> Result<Option<char>, Fault> {
        loop {
            self.skip_while(is_space);
            let rest = self.rest();
            let Some(c) = self.peek() else {
                return Ok(None);
            };
            if ends_line(c) {
                self.newline = true;
                self.at += c.len_utf8();
            } else if rest.starts_with("//") || self.newline && rest.starts_with("-->") {
                self.skip_while(|c| !ends_line(c));
            } else if rest.starts_with("/*") {
                self.comment()?;
            } else if rest.starts_with("<!--") {
                return Err(Fault::unreadable(
                    self.at,
                    "a `<!--`, which is a comment in a script and none in a module",
                ));
            } else {
                return Ok(Some(c));
            }
        }
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let Some(length) = self.rest()[2..].find("*/") else {
            return Err(Fault::unreadable(self.at, "a comment that never ends"));
        };
        let comment = &self.rest()[..length + 4];
        self.newline |= comment.contains(ends_line);
        self.at += comment.len();
        Ok(())
    }

    fn token(&mut self, next: char) -> Result<(), Fault> {
        let start = self.at;
        let mut behind = self.rest().chars().skip(1);
        match next {
            '0'..='9' => self.number(),
            '.' if behind.next().is_some_and(|c| c.is_ascii_digit()) => self.number(),
            '\'' | '"' => self.string(next)?,
            '`' => return self.template(),
            '}' if self.grammar.ends_substitution() => return self.template(),
            '/' if self.grammar.expects != Expects::Operator => return self.regex(),
            '#' if behind.next().is_some_and(in_name) => {
                self.at += 1;
                return self.name(start);
            }
            c if in_name(c) || c == '\\' => return self.name(start),
            c => return self.punctuator(c),
        }
        let kind = match next {
            '\'' | '"' => TokenKind::String,
            _ => TokenKind::Number,
        };
        self.grammar.operand(kind, start..self.at);
        Ok(())
    }

    fn number(&mut self) {
        let digit = |c: char| c.is_ascii_digit() || c == '_';
        let radix = |c: char| matches!(c, 'x' | 'X' | 'o' | 'O' | 'b' | 'B');
        if self.rest().starts_with('0') && self.rest()[1..].starts_with(radix) {
            self.skip_while(|c| c.is_ascii_alphanumeric() || c == '_');
            return;
        }
        let integer = self.rest();
        self.skip_while(digit);
        let integer = &integer[..integer.len() - self.rest().len()];
        // `01.length`: a legacy octal number has no fraction.
        let octal = integer.len() > 1 && integer.starts_with('0') && !integer.contains(['8', '9']);
        if !octal && self.rest().starts_with('.') {
            self.at += 1;
            self.skip_while(digit);
        }
        if let Some(exponent) = self.rest().strip_prefix(['e', 'E']) {
            let signed = exponent.starts_with(['+', '-']);
            self.at += 1 + usize::from(signed);
            self.skip_while(digit);
        }
        if self.rest().starts_with('n') {
            self.at += 1;
        }
    }

    fn string(&mut self, quote: char) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        loop {
            self.skip_while(|c| c != quote && !matches!(c, '\\' | '\n' | '\r'));
            match self.peek() {
                Some('\\') => self.escape(),
                Some(c) if c == quote => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Fault::unreadable(start, "a string that its line ends")),
            }
        }
    }

    /// A backslash and what it escapes; CR LF counts as one end of a line.
    fn escape(&mut self) {
        self.at += 1;
        if self.rest().starts_with("\r\n") {
            self.at += 1;
        }
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    /// From a backtick, or from the brace that ends a substitution, to the next backtick or `${`.
    fn template(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        let kind = loop {
            self.skip_while(|c| !matches!(c, '\\' | '`' | '$'));
            match self.peek() {
                Some('\\') => self.escape(),
                Some('`') => {
                    self.at += 1;
                    break TokenKind::Template;
                }
                Some(_) if self.rest().starts_with("${") => {
                    self.at += 2;
                    break TokenKind::TemplateOpen;
                }
                Some(_) => self.at += 1,
                None => return Err(Fault::unreadable(start, "a template that never ends")),
            }
        };
        self.grammar.template(kind, start..self.at);
        Ok(())
    }

    fn regex(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let mut class = false;
        self.at += 1;
        loop {
            match self.peek() {
                Some('/') if !class => break,
                Some('[') => class = true,
                Some(']') => class = false,
                Some('\\') => self.at += 1,
                _ => {}
            }
            match self.peek().filter(|c| !ends_line(*c)) {
                Some(c) => self.at += c.len_utf8(),
                None => {
                    let what = "a regular expression that its line ends";
                    return Err(Fault::unreadable(start, what));
                }
            }
        }
        self.at += 1;
        self.skip_while(in_name);
        self.grammar.operand(TokenKind::Regex, start..self.at);
        Ok(())
    }

    /// From `start`, where the `#` of a private name may stand.
    fn name(&mut self, start: usize) -> Result<(), Fault> {
        loop {
            self.skip_while(in_name);
            if !self.rest().starts_with('\\') {
                break;
            }
            let escape = self.rest();
            let length = match escape.strip_prefix("\\u{") {
                Some(digits) => digits.find('}').map(|length| length + 4),
                None => (escape.starts_with("\\u") && escape.is_char_boundary(6)).then_some(6),
            };
            self.at += length
                .ok_or_else(|| Fault::unreadable(self.at, "a backslash that escapes nothing"))?;
        }
        self.grammar.name(start..self.at);
        Ok(())
    }

    fn punctuator(&mut self, c: char) -> Result<(), Fault> {
        if !"{}()[].;,<>=+-*/%&|^!~?:@".contains(c) {
            let what = format!("a character that means nothing here: {c:?}");
            return Err(Fault::unreadable(self.at, what));
        }
        let start = self.at;
        let rest = self.rest();
        // `a?.5:b` is a condition and a number.
        let number = rest.starts_with("?.") && rest[2..].starts_with(|c: char| c.is_ascii_digit());
        let long = LONG.iter().find(|long| rest.starts_with(**long) && !number);
        self.at += long.map_or(1, |long| long.len());
        self.grammar.punctuator(start..self.at, self.newline)
    }
}
