//! What differs between a resource as it is and as it should be.

use serde::{Deserialize, Serialize};

/// Stands for the value of a secret wherever one changes.
pub const SECRET: &str = "(secret)";

/// One field that differs, with both values; `None` is "not there".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// What a change does to the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Create,
    Update,
    Remove,
}

/// The fields that differ, and in one sentence why the change is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    pub action: Action,
    pub fields: Vec<Field>,
    pub why: String,
    /// What the operator should know though nothing is changed for it.
    pub notes: Vec<String>,
}

impl Diff {
    /// A diff of a resource that is not there yet.
    pub fn create(why: impl Into<String>) -> Self {
        Self::new(Action::Create, why)
    }

    /// A diff of a resource that is there.
    pub fn update(why: impl Into<String>) -> Self {
        Self::new(Action::Update, why)
    }

    pub fn new(action: Action, why: impl Into<String>) -> Self {
        Self {
            action,
            fields: Vec::new(),
            why: why.into(),
            notes: Vec::new(),
        }
    }

    /// Adds the field if its two values differ.
    pub fn field<T: PartialEq + ToString>(&mut self, name: &str, from: Option<T>, to: T) {
        if from.as_ref() != Some(&to) {
            self.fields.push(Field {
                name: name.to_owned(),
                from: from.map(|value| value.to_string()),
                to: Some(to.to_string()),
            });
        }
    }

    /// Adds a field whose value is secret.
    pub fn secret(&mut self, name: &str, there: bool) {
        self.fields.push(Field {
            name: name.to_owned(),
            from: there.then(|| SECRET.to_owned()),
            to: Some(SECRET.to_owned()),
        });
    }

    /// Adds a thing that was brought back, and how.
    pub fn undone(&mut self, thing: &str, how: String) {
        self.fields.push(Field {
            name: thing.to_owned(),
            from: None,
            to: Some(how),
        });
    }

    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_no_difference() {
        let mut diff = Diff::update("test");
        diff.field("mode", Some("0755"), "0755");
        assert!(diff.is_empty());
        diff.field("mode", None, "0755");
        diff.field("owner", Some("root"), "user1");
        assert_eq!(diff.fields.len(), 2);
        assert_eq!(diff.fields[1].from.as_deref(), Some("root"));
    }

    #[test]
    fn a_secret_shows_neither_value() {
        let mut diff = Diff::update("test");
        diff.secret("password", true);
        assert_eq!(diff.fields[0].from.as_deref(), Some("(secret)"));
        assert_eq!(diff.fields[0].to.as_deref(), Some("(secret)"));
    }
}
