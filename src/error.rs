//! One error for everything that reaches an operator: what was being done and what came back, in
//! one sentence, and the way out in another.

use std::fmt;

/// `Result` of every fallible step of the agent.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, in words for the operator. `message` says what was being done, to what, and what
/// came back; `hint` says what to do about it. A secret is in neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub message: String,
    pub hint: Option<String>,
}

impl Error {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// The way out, added to the error.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what was being done when this error came back: `doing: message`.
    #[must_use]
    pub fn while_doing(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Says what was being done when a system call, a library or a helper failed.
pub trait Doing<T> {
    /// Turns the failure into an [`Error`] that reads `doing: cause`.
    fn doing(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|cause| Error::new(format!("{doing}: {cause}")))
    }
}
