//! The tokens of a JavaScript source, each with its place. White space and comments lie between the
//! tokens and belong to none, so an edit cannot touch them.

use std::borrow::Cow;
use std::ops::Range;

use super::string;

/// A token of ECMA-262's lexical grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// An identifier, a keyword or a private name.
    Name,
    Number,
    String,
    Regex,
    /// A template without substitutions, or the part after its last substitution.
    Template,
    /// The part of a template before a substitution; it opens, as a bracket does.
    TemplateOpen,
    Punctuator,
}

#[derive(Debug)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub span: Range<usize>,
    /// Whether it stands directly in the braces of an object literal or of a class.
    pub member: bool,
    /// For an opening token: the token that closes it.
    pub close: Option<usize>,
}

/// A source and all of its tokens.
#[derive(Debug)]
pub(super) struct Script<'s> {
    pub source: &'s str,
    pub tokens: Vec<Token>,
}

impl<'s> Script<'s> {
    /// The text of a token; empty where there is none.
    pub fn text(&self, token: usize) -> &'s str {
        self.tokens
            .get(token)
            .map_or("", |token| &self.source[token.span.clone()])
    }

    /// The text of the token before.
    pub fn text_before(&self, token: usize) -> &'s str {
        token.checked_sub(1).map_or("", |before| self.text(before))
    }

    pub fn is(&self, token: usize, kind: TokenKind) -> bool {
        self.tokens.get(token).is_some_and(|it| it.kind == kind)
    }

    /// A name as JavaScript takes it: `\u0068ost` is `host`.
    pub fn name(&self, token: usize) -> Cow<'s, str> {
        let text = self.text(token);
        match text.contains('\\').then(|| string::unescaped(text)) {
            Some(Some(name)) => Cow::Owned(name),
            _ => Cow::Borrowed(text),
        }
    }

    /// The text of a name that may be a keyword. A property is never a keyword, even if it is
    /// called like one: `promise.catch`.
    pub fn keyword(&self, token: usize) -> Option<&'s str> {
        let property = matches!(self.text_before(token), "." | "?.");
        (self.is(token, TokenKind::Name) && !property).then(|| self.text(token))
    }

    /// The token behind this one, or behind what this one opens.
    pub fn behind(&self, token: usize) -> usize {
        self.tokens[token].close.unwrap_or(token) + 1
    }
}

/// Why a source cannot be read or edited, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// In bytes.
    pub at: usize,
    pub what: String,
    pub hint: String,
}

impl Fault {
    /// A fault of the source itself.
    pub fn unreadable(at: usize, what: impl Into<String>) -> Self {
        Self {
            at,
            what: what.into(),
            hint: "see whether node --check takes the file; JSX and types are not JavaScript, and are not read".into(),
        }
    }
}
