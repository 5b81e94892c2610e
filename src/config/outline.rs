//! What a tier file holds besides its meaning: its text, the secrets that a role uses, and where a value stands in the
//! text. `wasagent userdata` needs them on a machine that is not of the tier.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::load::load_text;
use super::{Faults, Role, Secret, Tier};

/// What is done with the secrets that a role uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// They are read, and it is a fault if one cannot be.
    Read,
    /// They are only named: they need not be on this machine.
    Name,
}

/// A secret that a role uses.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedSecret {
    /// The key that gives it: `share.password_file`.
    pub key: String,
    pub way: Way,
    /// Where it was read, or stands in the tier file.
    pub secret: Option<Secret>,
}

/// How a tier file gives a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    File(PathBuf),
    Credential,
    Inline,
}

/// A tier file without a fault.
pub struct Outline {
    pub text: Zeroizing<String>,
    pub tier: Tier,
    /// Those that the role uses, and those that stand in the file itself.
    pub secrets: Vec<NamedSecret>,
}

/// Reads and validates the tier file at `path` for a role. With [`Secrets::Name`], the passwords in
/// [`Outline::tier`] are empty.
///
/// # Errors
/// All the faults of the file, sorted by place.
pub fn outline(path: &Path, role: Role, secrets: Secrets) -> Result<Outline, Faults> {
    let loaded = load_text(path, Some(role), secrets)?;
    Ok(Outline {
        text: loaded.text,
        tier: loaded.tier,
        secrets: loaded.secrets,
    })
}

/// Where the value of a key such as `share.server` stands in the text of a tier file, with its quotes. `None` if there
/// is no such key, or its value is no string.
#[must_use]
pub fn value_span(text: &str, key: &str) -> Option<Range<usize>> {
    let (document, _) = DeTable::parse_recoverable(text);
    let mut table = document.get_ref();
    let mut names = key.split('.').peekable();
    while let Some(name) = names.next() {
        let value = table.get(name)?;
        match (value.get_ref(), names.peek()) {
            (DeValue::Table(inner), Some(_)) => table = inner,
            (DeValue::String(_), None) => return Some(value.span()),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[share]\nserver = \"192.168.2.13\" # it\nclients = [\"192.168.2.0/24\"]\n\
                        [was.container]\nname = 'x'\n";

    #[test]
    fn a_value_is_found_by_its_key() {
        let at = |key| value_span(TEXT, key).map(|span| &TEXT[span]);
        assert_eq!(at("share.server"), Some("\"192.168.2.13\""));
        assert_eq!(at("was.container.name"), Some("'x'"));
        for none in ["share", "share.clients", "share.port", "was.name", ""] {
            assert_eq!(at(none), None, "{none}");
        }
    }
}
