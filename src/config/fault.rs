//! What is wrong with a tier file, and where.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Every fault of a tier file, sorted by place. Displayed as a text for people; serialised as a
/// list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(pub Vec<Fault>);

/// One fault of a tier file. No field ever holds a password.
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
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
