//! How a resource differs from what it should be, why it has to change, and what the change
//! disturbs.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Field;

/// Stands for the value of a secret.
pub const SECRET: &str = "(secret)";

/// Prefix of the names of what is taken over.
const ADOPT: &str = "adopt.";

/// What a change does to the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Create,
    Update,
    Remove,
}

/// What a change does to something in use: its users notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disturbance {
    /// The unit stops and starts again.
    Restart(String),
    /// The unit reads its configuration again and goes on.
    Reload(String),
    /// What is mounted at the path is unmounted and mounted again.
    Remount(String),
    /// Clients of the shared directory connect again.
    Reconnect(String),
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart(unit) => write!(f, "restart {unit}"),
            Self::Reload(unit) => write!(f, "reload {unit}"),
            Self::Remount(path) => write!(f, "remount {path}"),
            Self::Reconnect(path) => write!(f, "reconnect clients of {path}"),
        }
    }
}

impl Serialize for Disturbance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The fields that differ, and in one sentence why the change is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    pub action: Action,
    pub fields: Vec<Field>,
    pub why: String,
    /// What the change disturbs; mostly nothing.
    pub disturbs: Vec<Disturbance>,
    /// Some of the fields do not differ yet, but will once a need has changed.
    pub foreseen: bool,
    /// No revert brings back what was there before: a disk is formatted.
    pub irreversible: bool,
    /// What the operator should know, although nothing is changed for it.
    pub notes: Vec<String>,
    /// Fields whose difference harms nobody: health ignores them.
    improves: Vec<String>,
    /// Differences that stay: they are shown, but are no change.
    pub kept: Vec<Field>,
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
            disturbs: Vec::new(),
            foreseen: false,
            irreversible: false,
            notes: Vec::new(),
            improves: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Gives a more precise reason, once it is known what differs.
    pub fn because(&mut self, why: impl Into<String>) {
        self.why = why.into();
    }

    /// Adds what the change disturbs, once.
    pub fn disturb(&mut self, disturbance: Disturbance) {
        if !self.disturbs.contains(&disturbance) {
            self.disturbs.push(disturbance);
        }
    }

    /// Adds a field that will differ once a need has changed, unless it differs already. `why`
    /// becomes the reason if nothing else differs.
    pub fn foresee(&mut self, name: &str, from: &str, to: &str, why: impl Into<String>) {
        if self.changes(name) {
            return;
        }
        if self.is_empty() {
            self.because(why);
        }
        // Even if both values look alike, as those of a secret do.
        self.fields.push(Field {
            name: name.to_owned(),
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
        });
        self.foreseen = true;
    }

    /// The field of that name, if it differs.
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Whether the field of that name differs.
    pub fn changes(&self, name: &str) -> bool {
        self.get(name).is_some()
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

    /// Adds somebody else's thing that the agent takes over, as the operator asked.
    pub fn adopt(&mut self, thing: &str, from: impl ToString, to: Option<String>) {
        self.fields.push(Field {
            name: format!("{ADOPT}{thing}"),
            from: Some(from.to_string()),
            to,
        });
    }

    /// Whether the change takes something over.
    pub fn adopts(&self) -> bool {
        self.fields.iter().any(|f| f.name.starts_with(ADOPT))
    }

    /// Adds a field whose difference does no harm, such as more room that could be used.
    pub fn improvement(&mut self, name: &str, from: String, to: String) {
        self.field(name, Some(from), to);
        self.improves.push(name.to_owned());
    }

    /// The names of the fields whose difference serves somebody worse than the tier file says.
    pub fn harmful(&self) -> Vec<&str> {
        let names = self.fields.iter().map(|field| field.name.as_str());
        names
            .filter(|name| !self.improves.iter().any(|better| better == name))
            .collect()
    }

    /// Adds a field whose value is secret.
    pub fn secret(&mut self, name: &str, there: bool) {
        self.fields.push(Field {
            name: name.to_owned(),
            from: there.then(|| SECRET.to_owned()),
            to: Some(SECRET.to_owned()),
        });
    }

    /// Adds a thing that was restored, and how.
    pub fn undone(&mut self, thing: &str, how: String) {
        self.fields.push(Field {
            name: thing.to_owned(),
            from: None,
            to: Some(how),
        });
    }

    /// Whether nothing differs.
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
    fn what_differs_already_is_not_foreseen() {
        let mut diff = Diff::update("one reason");
        diff.field("configuration", Some("changed on disk"), "loaded");
        diff.foresee("configuration", "changed on disk", "loaded", "another");
        assert_eq!((diff.fields.len(), diff.foreseen), (1, false));
        assert_eq!(diff.why, "one reason");
        diff.foresee("definition", "changed on disk", "loaded", "another");
        assert_eq!((diff.fields.len(), diff.foreseen), (2, true));
        assert_eq!(diff.why, "one reason");
    }

    #[test]
    fn an_improvement_is_a_change_that_harms_nobody() {
        let mut diff = Diff::update("test");
        diff.improvement("size", "1 GiB".to_owned(), "2 GiB".to_owned());
        assert!(!diff.is_empty() && diff.harmful().is_empty());
        diff.field("mode", None, "0755");
        assert_eq!(diff.harmful(), ["mode"]);
    }

    #[test]
    fn a_secret_shows_neither_value() {
        let mut diff = Diff::update("test");
        diff.secret("password", true);
        assert_eq!(diff.fields[0].from.as_deref(), Some("(secret)"));
        assert_eq!(diff.fields[0].to.as_deref(), Some("(secret)"));
    }
}
