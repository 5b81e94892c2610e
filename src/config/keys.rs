//! The keys of the tier file, and the key that a misspelt key was meant to be.

/// The sections and their keys, in the order of the documentation. The section without a name is
/// the file itself.
const SECTIONS: [(&str, &[&str]); 14] = [
    (
        "",
        &[
            "share", "storage", "database", "was", "firewall", "serve", "health",
        ],
    ),
    (
        "share",
        &[
            "name",
            "server",
            "user",
            "password_file",
            "password",
            "password_credential",
            "clients",
            "encrypt",
        ],
    ),
    ("storage", &["path", "disk", "content"]),
    ("storage.disk", &["device", "filesystem", "mount"]),
    (
        "storage.content",
        &["git", "rev", "subdir", "build", "edit"],
    ),
    ("storage.content.edit", &["files", "object", "set"]),
    (
        "database",
        &[
            "host",
            "port",
            "user",
            "password_file",
            "password",
            "password_credential",
            "name",
        ],
    ),
    ("was", &["mount", "vers", "container"]),
    (
        "was.container",
        &[
            "name",
            "image",
            "hostname",
            "publish",
            "workdir",
            "privileged",
            "read_only",
            "env",
            "secrets",
        ],
    ),
    (SECRET, &PASSWORDS),
    ("firewall", &["zone"]),
    ("serve", &["mode"]),
    ("health", &["interval", "listen", "http", "drain"]),
    ("health.http", &["path", "status", "contains"]),
];

/// Stands for each table below `was.container.secrets`. The operator chooses the names of these
/// tables.
pub(super) const SECRET: &str = "was.container.secrets.NAME";

/// The three ways to give a password, of which a section takes one.
pub(super) const PASSWORDS: [&str; 3] = ["password_file", "password", "password_credential"];

/// The keys of a section; empty if the operator chooses them.
pub(super) fn of(section: &str) -> &'static [&'static str] {
    SECTIONS
        .iter()
        .find(|(name, _)| *name == section)
        .map_or(&[], |(_, keys)| keys)
}

/// Whether any section has this key.
pub(super) fn is_known(key: &str) -> bool {
    SECTIONS.iter().any(|(_, keys)| keys.contains(&key))
}

/// The sections that have this key.
pub(super) fn homes(key: &str) -> Vec<&'static str> {
    SECTIONS
        .iter()
        .filter(|(name, keys)| !name.is_empty() && keys.contains(&key))
        .map(|(name, _)| *name)
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

/// Whether the value of a key with this name may be a password. A misspelt `password_file` has a
/// path as its value, and it helps the operator to see that path.
pub(super) fn resembles_password(key: &str) -> bool {
    let key = key.to_lowercase();
    if let Some("password_file" | "password_credential") = nearest(&key, &PASSWORDS) {
        return false;
    }
    ["pass", "pwd", "secret", "token"]
        .iter()
        .any(|part| key.contains(part))
        || ("password".len().abs_diff(key.chars().count()) <= 3
            && strsim::osa_distance(&key, "password") <= 3)
}
