//! The keys of the tier file: what each may hold and means, and the key that a misspelt key was meant to be.
//!
//! One table ([`super::tier_keys`]) tells the parser which keys there are. The JSON Schema and the man page are made
//! from the same table.

use std::ops::RangeInclusive;

use super::shape::Shape;
use super::tier_keys::SECTIONS;

/// A table of the tier file.
pub struct Section {
    /// As in the file: `was.container`; empty for the file itself.
    pub name: &'static str,
    pub about: &'static str,
    pub keys: &'static [Key],
}

/// A key of the tier file. Every text is for people and ends without a full stop.
#[derive(Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub without: Without,
    pub about: &'static str,
    /// The values that it takes, in words.
    pub range: &'static str,
    /// A value in TOML; empty for tables, whose keys have theirs.
    pub example: &'static str,
    /// What a change of it disturbs, as the end of a sentence.
    pub disturbs: &'static str,
}

/// What a key holds.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A table with keys of its own.
    Section,
    /// Any number of such tables.
    Sections,
    Text(fn() -> Shape),
    /// A list of such texts, with at least one.
    List(fn() -> Shape),
    Boolean,
    Number(&'static RangeInclusive<u16>),
    /// A table whose keys are the operator's own: names, and values.
    Entries(fn() -> Shape, fn() -> Shape),
    /// A table of secrets, whose names are the operator's own.
    Secrets(fn() -> Shape),
}

/// What holds where a key is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// A fault.
    Fault,
    /// The same as with this value, which is TOML.
    Default(&'static str),
    /// Something that no value says, in words.
    Means(&'static str),
}

impl Key {
    /// A key that must be there, until [`Self::default`] or [`Self::without`] says otherwise.
    pub(super) const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self {
            name,
            kind,
            about,
            without: Without::Fault,
            range: "",
            example: "",
            disturbs: "",
        }
    }

    pub(super) const fn default(mut self, value: &'static str) -> Self {
        self.without = Without::Default(value);
        self
    }

    pub(super) const fn without(mut self, means: &'static str) -> Self {
        self.without = Without::Means(means);
        self
    }

    pub(super) const fn range(mut self, range: &'static str) -> Self {
        self.range = range;
        self
    }

    pub(super) const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    pub(super) const fn disturbs(mut self, disturbs: &'static str) -> Self {
        self.disturbs = disturbs;
        self
    }
}

/// Stands for each table below `was.container.secrets`. The operator chooses the names of these
/// tables.
pub(super) const SECRET: &str = "was.container.secrets.NAME";

/// The three ways to give a password, of which a section takes one.
pub(super) const PASSWORDS: [&str; 3] = ["password_file", "password", "password_credential"];

/// All sections, in the order of the documentation.
pub fn sections() -> &'static [Section] {
    &SECTIONS
}

/// The section of this name.
pub(super) fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// The keys of a section; empty if the operator chooses them.
pub(super) fn of(section_name: &str) -> Vec<&'static str> {
    let keys = section(section_name).map_or(&[][..], |section| section.keys);
    keys.iter().map(|key| key.name).collect()
}

/// Whether the table says that a section must have this key.
pub(super) fn is_required(section_name: &str, name: &str) -> bool {
    let mut keys = section(section_name)
        .into_iter()
        .flat_map(|section| section.keys);
    keys.any(|key| key.name == name && key.without == Without::Fault)
}

/// Whether any section has this key.
pub(super) fn is_known(key: &str) -> bool {
    SECTIONS
        .iter()
        .any(|section| section.keys.iter().any(|known| known.name == key))
}

/// The sections that have this key.
pub(super) fn homes(key: &str) -> Vec<&'static str> {
    SECTIONS
        .iter()
        .filter(|section| !section.name.is_empty())
        .filter(|section| section.keys.iter().any(|known| known.name == key))
        .map(|section| section.name)
        .collect()
}

/// The known word that a misspelt word was probably meant to be.
pub(super) fn nearest<'k>(misspelt: &str, known: &[&'k str]) -> Option<&'k str> {
    let misspelt = misspelt.to_lowercase();
    let length = misspelt.chars().count();
    known
        .iter()
        .map(|word| (*word, 1 + word.chars().count() / 5))
        // No distance is shorter than the difference in length, and every key of a tier file comes here.
        .filter(|(word, most)| word.chars().count().abs_diff(length) <= *most)
        .map(|(word, most)| (strsim::osa_distance(&misspelt, word), word, most))
        .min_by_key(|(distance, _, _)| *distance)
        .filter(|(distance, _, most)| distance <= most)
        .map(|(_, word, _)| word)
}

/// Which of [`PASSWORDS`] this key is, or was probably meant to be.
pub(super) fn password_key(key: &str) -> Option<&'static str> {
    // A key that the tier file has is no misspelt one, and most keys of a good file are such.
    if is_known(key) {
        return PASSWORDS.into_iter().find(|password| *password == key);
    }
    nearest(key, &PASSWORDS)
}

/// Whether the value of a key with this name may be a password. A misspelt `password_file` has a
/// path as its value, and it helps the operator to see that path.
pub(super) fn resembles_password(key: &str) -> bool {
    let key = key.to_lowercase();
    if let Some("password_file" | "password_credential") = password_key(&key) {
        return false;
    }
    ["pass", "pwd", "secret", "token"]
        .iter()
        .any(|part| key.contains(part))
        || (!is_known(&key)
            && "password".len().abs_diff(key.chars().count()) <= 3
            && strsim::osa_distance(&key, "password") <= 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_known_is_told_without_a_search() {
        for key in SECTIONS.iter().flat_map(|section| section.keys) {
            assert_eq!(
                password_key(key.name),
                nearest(key.name, &PASSWORDS),
                "{}",
                key.name
            );
            let resembles = key.name == "password" || key.name == "secrets";
            assert_eq!(resembles_password(key.name), resembles, "{}", key.name);
        }
        assert!(resembles_password("passwort") && resembles_password("pasword"));
        assert!(!resembles_password("pasword_file"));
    }
}
