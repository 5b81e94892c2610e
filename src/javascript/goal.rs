//! What the grammar expects next. A slash divides after an operand and begins a regular expression
//! elsewhere (ECMA-262 calls these the goal symbols InputElementDiv and InputElementRegExp), and a
//! brace opens an object literal only where an operand is expected. Both are decided here from the
//! tokens before and the brackets around, without a syntax tree.

use std::ops::Range;

use super::token::{Fault, Script, Token, TokenKind};

/// What may come next, apart from what closes a bracket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expects {
    /// A statement: a brace opens a block, `function` declares.
    Statement,
    /// An operand: a brace opens an object literal, a slash a regular expression.
    Operand,
    /// An operator, after an operand: a slash divides.
    Operator,
}

/// What a bracket is to the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    /// Statements, or the source itself.
    Block,
    Class,
    Object,
    /// The parentheses of a `for`.
    For,
    /// Other parentheses that a statement follows, such as those of an `if`.
    Head,
    /// A substitution of a template.
    Substitution,
    /// Parentheses and brackets of an expression or of parameters.
    Other,
}

/// A bracket that is open.
#[derive(Debug)]
struct Frame {
    bracket: Bracket,
    /// The token that opened it; none for the source itself.
    opener: Option<usize>,
    /// What is expected after it closes.
    after: Expects,
    /// How many `?` wait for their `:`. This tells such a colon from the colon after a label or
    /// `case`.
    conditions: usize,
    /// The functions and classes whose braces are yet to come.
    bodies: Vec<Body>,
}

impl Frame {
    fn new(bracket: Bracket, opener: Option<usize>, after: Expects) -> Self {
        Self {
            bracket,
            opener,
            after,
            conditions: 0,
            bodies: Vec::new(),
        }
    }
}

/// The body that a brace is going to open.
#[derive(Debug, Clone, Copy)]
struct Body {
    bracket: Bracket,
    /// What is expected after the body. The body ends an operand, unless the function or class is
    /// declared.
    after: Expects,
}

#[derive(Debug)]
pub(super) struct Grammar<'s> {
    pub script: Script<'s>,
    pub expects: Expects,
    /// What was expected before the last token.
    expected: Expects,
    /// The frame of the source itself.
    outermost: Frame,
    frames: Vec<Frame>,
}

impl<'s> Grammar<'s> {
    pub fn new(source: &'s str) -> Self {
        Self {
            script: Script {
                source,
                tokens: Vec::new(),
            },
            expects: Expects::Statement,
            expected: Expects::Statement,
            outermost: Frame::new(Bracket::Block, None, Expects::Statement),
            frames: Vec::new(),
        }
    }

    fn count(&self) -> usize {
        self.script.tokens.len()
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().unwrap_or(&mut self.outermost)
    }

    fn bracket(&self) -> Bracket {
        self.frames.last().map_or(Bracket::Block, |it| it.bracket)
    }

    fn push(&mut self, kind: TokenKind, span: Range<usize>, expects: Expects) {
        let member = matches!(self.bracket(), Bracket::Object | Bracket::Class);
        self.script.tokens.push(Token {
            kind,
            span,
            member,
            close: None,
        });
        self.expected = self.expects;
        self.expects = expects;
    }

    fn open(&mut self, bracket: Bracket, opener: Option<usize>, after: Expects) {
        self.frames.push(Frame::new(bracket, opener, after));
    }

    /// Takes a number, a string or a regular expression.
    pub fn operand(&mut self, kind: TokenKind, span: Range<usize>) {
        self.push(kind, span, Expects::Operator);
    }

    /// Takes a name.
    pub fn name(&mut self, span: Range<usize>) {
        let word = &self.script.source[span.clone()];
        let property = matches!(self.script.text_before(self.count()), "." | "?.");
        let expects = if property {
            Expects::Operator
        } else {
            self.behind_word(word)
        };
        self.push(TokenKind::Name, span, expects);
    }

    fn behind_word(&mut self, word: &str) -> Expects {
        match word {
            "function" | "class" => {
                let bracket = match word {
                    "class" => Bracket::Class,
                    _ => Bracket::Block,
                };
                let after = match self.is_declared() {
                    true => Expects::Statement,
                    false => Expects::Operator,
                };
                self.frame().bodies.push(Body { bracket, after });
                Expects::Operator
            }
            // `for (const part of /;/g[…])`; anywhere else `of` is a name.
            "of" if self.expects == Expects::Operator && self.bracket() == Bracket::For => {
                Expects::Operand
            }
            "await" | "case" | "const" | "default" | "delete" | "extends" | "in" | "instanceof"
            | "let" | "new" | "return" | "throw" | "typeof" | "var" | "void" | "with" | "yield" => {
                Expects::Operand
            }
            "break" | "catch" | "continue" | "debugger" | "do" | "else" | "export" | "finally"
            | "import" | "try" => Expects::Statement,
            _ => Expects::Operator,
        }
    }

    /// Whether a function or a class that begins here is a declaration rather than an operand.
    fn is_declared(&self) -> bool {
        let next = self.count();
        let (first, expects) = match self.script.text_before(next) {
            "async" => (next - 1, self.expected),
            _ => (next, self.expects),
        };
        // After an operand, a line has ended without a semicolon, so this is a declaration.
        expects != Expects::Operand || self.script.text_before(first) == "default"
    }

    /// Takes a part of a template, which may open or close a substitution, or both.
    pub fn template(&mut self, kind: TokenKind, span: Range<usize>) {
        let continues = self.script.source[span.start..].starts_with('}');
        let opener = match continues.then(|| self.frames.pop()) {
            Some(frame) => frame.and_then(|frame| frame.opener),
            None => None,
        };
        let this = self.count();
        if kind == TokenKind::TemplateOpen {
            self.push(kind, span, Expects::Operand);
            let opener = opener.unwrap_or(this);
            self.open(Bracket::Substitution, Some(opener), Expects::Operator);
        } else {
            self.push(kind, span, Expects::Operator);
            if let Some(opener) = opener {
                self.script.tokens[opener].close = Some(this);
            }
        }
    }

    /// Whether a `}` ends the substitution of a template here.
    pub fn ends_substitution(&self) -> bool {
        self.bracket() == Bracket::Substitution
    }

    /// Takes a punctuator.
    pub fn punctuator(&mut self, span: Range<usize>, after_newline: bool) -> Result<(), Fault> {
        let text = &self.script.source[span.clone()];
        self.forget_class_of_a_name(text);
        let expects = match text {
            "(" | "[" | "{" => {
                self.opening(text, span, after_newline);
                return Ok(());
            }
            ")" | "]" | "}" => return self.closing(text, span),
            ";" => {
                self.frame().conditions = 0;
                match self.bracket() {
                    Bracket::Block | Bracket::Class => Expects::Statement,
                    _ => Expects::Operand,
                }
            }
            "?" => {
                self.frame().conditions += 1;
                Expects::Operand
            }
            ":" => self.behind_colon(),
            // `++` and `--` follow an operand on the same line. Anywhere else, an operand follows
            // them.
            "++" | "--" if self.expects == Expects::Operator && !after_newline => Expects::Operator,
            "." | "?." => Expects::Operator,
            _ => Expects::Operand,
        };
        self.push(TokenKind::Punctuator, span, expects);
        Ok(())
    }

    /// `{ class: 'wide' }`: what looked like a keyword was a name.
    fn forget_class_of_a_name(&mut self, punctuator: &str) {
        let last = self.count().checked_sub(1);
        let class = last.and_then(|last| self.script.keyword(last)) == Some("class");
        if class && punctuator != "{" {
            self.frame().bodies.pop();
        }
    }

    fn behind_colon(&mut self) -> Expects {
        let frame = self.frame();
        if frame.conditions > 0 {
            frame.conditions -= 1;
            return Expects::Operand;
        }
        match frame.bracket {
            Bracket::Block => Expects::Statement,
            _ => Expects::Operand,
        }
    }

    fn opening(&mut self, text: &str, span: Range<usize>, after_newline: bool) {
        let (bracket, within, after) = match text {
            "(" => match self.parentheses() {
                Bracket::Other => (Bracket::Other, Expects::Operand, Expects::Operator),
                head => (head, Expects::Operand, Expects::Statement),
            },
            "[" => (Bracket::Other, Expects::Operand, Expects::Operator),
            _ => self.brace(after_newline),
        };
        let this = self.count();
        self.push(TokenKind::Punctuator, span, within);
        self.open(bracket, Some(this), after);
    }

    /// What the parentheses that open here are.
    fn parentheses(&self) -> Bracket {
        let word = |back: usize| {
            let token = self.count().checked_sub(back)?;
            self.script.keyword(token)
        };
        match word(1) {
            Some("for") => Bracket::For,
            Some("await") if word(2) == Some("for") => Bracket::For,
            Some("if" | "while" | "with" | "switch" | "catch") => Bracket::Head,
            _ => Bracket::Other,
        }
    }

    /// What the brace that opens here is, and what is expected inside it and after it.
    fn brace(&mut self, after_newline: bool) -> (Bracket, Expects, Expects) {
        let before = self.script.text_before(self.count());
        // A `return` ends with its line. The body of an arrow function ends its expression.
        let block = before == "=>" || after_newline && matches!(before, "return" | "yield");
        if self.expects == Expects::Operand && !block {
            return (Bracket::Object, Expects::Operand, Expects::Operator);
        }
        let body = match block {
            true => None,
            false => self.frame().bodies.pop(),
        };
        match body {
            Some(body) => (body.bracket, Expects::Statement, body.after),
            None => (Bracket::Block, Expects::Statement, Expects::Statement),
        }
    }

    fn closing(&mut self, text: &str, span: Range<usize>) -> Result<(), Fault> {
        let frame = self.frame();
        let (opener, after) = (frame.opener, frame.after);
        let Some(opener) = opener else {
            let what = format!("a `{text}` that closes nothing");
            return Err(Fault::unreadable(span.start, what));
        };
        let opened = self.script.text(opener);
        if !matches!((opened, text), ("(", ")") | ("[", "]") | ("{", "}")) {
            return Err(self.unclosed(opener));
        }
        self.frames.pop();
        self.script.tokens[opener].close = Some(self.count());
        self.push(TokenKind::Punctuator, span, after);
        Ok(())
    }

    fn unclosed(&self, opener: usize) -> Fault {
        let text = self.script.text(opener);
        let shown = match self.script.tokens[opener].kind {
            TokenKind::TemplateOpen => "${",
            _ => text,
        };
        let what = format!("a `{shown}` that nothing closes");
        Fault::unreadable(self.script.tokens[opener].span.start, what)
    }

    /// The tokens, once the source has ended.
    pub fn end(self) -> Result<Script<'s>, Fault> {
        match self.frames.last().and_then(|frame| frame.opener) {
            Some(opener) => Err(self.unclosed(opener)),
            None => Ok(self.script),
        }
    }
}
