//! Writes roff with the macros of man(7). Text comes in a small part of Markdown: `code`, **bold** and *italic*.

/// A page that is being written.
pub struct Roff {
    text: String,
    /// Whether nothing stands below the heading yet: there a paragraph needs no macro.
    begins: bool,
}

impl Roff {
    /// `date` is that of the manual, as YYYY-MM-DD.
    pub fn new(name: &str, section: u8, date: &str, version: &str) -> Self {
        let name = escaped(&name.to_uppercase());
        Self {
            text: format!(
                ".TH \"{name}\" \"{section}\" \"{date}\" \"wasagent {version}\" \"System Administration\"\n"
            ),
            begins: false,
        }
    }

    /// Headings are in capitals, but for names in brackets.
    pub fn section(&mut self, heading: &str) {
        let heading = match heading.starts_with('[') {
            true => heading.to_owned(),
            false => heading.to_uppercase(),
        };
        self.line(&format!(".SH \"{}\"", escaped(&heading)));
        self.begins = true;
    }

    pub fn subsection(&mut self, heading: &str) {
        self.line(&format!(".SS \"{}\"", escaped(heading)));
        self.begins = true;
    }

    pub fn paragraph(&mut self, text: &str) {
        self.apart();
        self.text(text);
    }

    /// A line of its own below the text before it.
    pub fn next_line(&mut self, text: &str) {
        self.line(".br");
        self.text(text);
    }

    fn apart(&mut self) {
        if !std::mem::take(&mut self.begins) {
            self.line(".PP");
        }
    }

    fn text(&mut self, text: &str) {
        let text = inline(text);
        // A line that begins with one of these would be a request.
        let guard = if text.starts_with(['.', '\'']) {
            "\\&"
        } else {
            ""
        };
        self.line(&format!("{guard}{text}"));
    }

    /// What is explained, and below it the explanation.
    pub fn item(&mut self, what: &str, text: &str) {
        self.begins = false;
        self.line(".TP");
        self.text(what);
        self.text(text);
    }

    pub fn bullet(&mut self, text: &str) {
        self.begins = false;
        self.line(".IP \\(bu 2");
        self.text(text);
    }

    /// Lines that stay as they are.
    pub fn example(&mut self, lines: &str) {
        self.apart();
        self.line(".EX");
        for line in lines.lines() {
            let guard = if line.starts_with(['.', '\'']) {
                "\\&"
            } else {
                ""
            };
            self.line(&format!("{guard}{}", escaped(line)));
        }
        self.line(".EE");
    }

    pub fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// A text with its marks as fonts.
fn inline(text: &str) -> String {
    debug_assert!(are_closed(text), "a mark is not closed: {text}");
    let mut out = String::with_capacity(text.len() + 16);
    for (at, part) in text.split('`').enumerate() {
        if at % 2 == 1 {
            out.push_str(&format!("\\fB{}\\fR", escaped(part)));
        } else {
            out.push_str(&emphasized(part));
        }
    }
    out
}

/// Whether each mark has its other end. A `*` in code is none.
fn are_closed(text: &str) -> bool {
    let parts: Vec<&str> = text.split('`').collect();
    let stars = |part: &&str| part.matches('*').count().is_multiple_of(2);
    parts.len() % 2 == 1 && parts.iter().step_by(2).all(stars)
}

fn emphasized(text: &str) -> String {
    let mut out = String::new();
    for (at, bold) in text.split("**").enumerate() {
        if at % 2 == 1 {
            out.push_str(&format!("\\fB{}\\fR", escaped(bold)));
            continue;
        }
        for (at, italic) in bold.split('*').enumerate() {
            match at % 2 {
                1 => out.push_str(&format!("\\fI{}\\fR", escaped(italic))),
                _ => out.push_str(&referring(italic)),
            }
        }
    }
    out
}

/// Other pages, as `wasagent(8)`, in bold.
fn referring(text: &str) -> String {
    let words = text.split_inclusive([' ', '\n']);
    let word = |word: &str| {
        let name_ends = word.find('(').filter(|at| *at > 0);
        let page = name_ends.and_then(|at| {
            let digit = word[at + 1..].strip_prefix(|c: char| c.is_ascii_digit())?;
            digit.starts_with(')').then_some(at)
        });
        match page {
            Some(at) => format!("\\fB{}\\fR{}", escaped(&word[..at]), escaped(&word[at..])),
            None => escaped(word),
        }
    };
    words.map(word).collect()
}

/// A text as roff shows it. A hyphen is written so that it can be copied as a minus.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '"' => out.push_str("\\(dq"),
            '\'' => out.push_str("\\(aq"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '`' => out.push_str("\\(ga"),
            '\u{2026}' => out.push_str("..."),
            c if !c.is_ascii() => out.push_str(&format!("\\[u{:04X}]", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_without_its_other_end_is_seen() {
        for text in ["a `b", "a *b", "`a` **b* c", "*a `b` c*"] {
            assert!(!are_closed(text), "{text}");
        }
        for text in ["", "a", "`*.service`", "*a* `b` **c**"] {
            assert!(are_closed(text), "{text}");
        }
    }

    #[test]
    fn marks_become_fonts_and_nothing_becomes_a_request() {
        let mut page = Roff::new("x-y", 8, "2026-01-02", "1");
        page.section("See also");
        page.paragraph(".hidden `--a.b` and **c** *D* wasagent-apply(8), f(x) \u{2026} \\");
        page.item("`a`", "'b'");
        page.example(".x\na-b");
        assert_eq!(
            page.finish(),
            ".TH \"X\\-Y\" \"8\" \"2026-01-02\" \"wasagent 1\" \"System Administration\"\n\
             .SH \"SEE ALSO\"\n\
             \\&.hidden \\fB\\-\\-a.b\\fR and \\fBc\\fR \\fID\\fR \\fBwasagent\\-apply\\fR(8), f(x) ... \\e\n\
             .TP\n\\fBa\\fR\n\\(aqb\\(aq\n.PP\n.EX\n\\&.x\na\\-b\n.EE\n"
        );
    }
}
