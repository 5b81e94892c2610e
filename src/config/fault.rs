//! What is wrong with a tier file, where, and how that is shown.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Every fault of a tier file, sorted by place. Displayed as a text for people; serialised as a
/// list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(pub Vec<Fault>);

/// One fault of a tier file. No field ever holds a password. Displayed as one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The tier file as the operator named it.
    pub file: PathBuf,
    /// Counted from 1; 0 where the fault is the file itself.
    pub line: usize,
    /// In characters, counted from 1; 0 where the fault is the file itself.
    pub column: usize,
    /// The offending source text.
    pub text: String,
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What to do, such as the key that was meant.
    pub hint: Option<String>,
    /// The line of the file, for people; a program uses `line` and `column`.
    #[serde(skip)]
    pub excerpt: Option<Excerpt>,
}

/// A line of the tier file, its secrets masked, and the part of it that is underlined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    pub line: String,
    /// Characters of `line` before the underlined part.
    pub before: usize,
    /// Characters of `line` that are underlined; at least 1.
    pub width: usize,
}

impl Fault {
    /// `file:line:column: message`, the first line of what people read.
    fn headline(&self) -> String {
        let file = self.file.display();
        match self.line {
            0 => format!("{file}: {}", self.message),
            line => format!("{file}:{line}:{}: {}", self.column, self.message),
        }
    }

    /// The whole text for people: headline, source line, underline, what was expected, hint.
    fn rendered(&self) -> String {
        let mut text = self.headline();
        if let Some(excerpt) = &self.excerpt {
            // A tab stays a tab, so that the carets stand under the right characters.
            let indent: String = excerpt
                .line
                .chars()
                .take(excerpt.before)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            text.push_str(&format!(
                "\n{:4} | {}\n     | {indent}{}",
                self.line,
                excerpt.line,
                "^".repeat(excerpt.width)
            ));
        }
        if let Some(expected) = &self.expected {
            text.push_str(&format!("\n     = expected {expected}"));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\n     = {hint}"));
        }
        text
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(&fault.rendered())?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
