//! The parameters of smb.conf(5): their names, and which values Samba takes for each.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A parameter, as `parameters.tsv` has it.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// As smb.conf(5) writes it.
    pub name: &'static str,
    /// Whether a share section may set it. In [global] it is then the default of the shares that follow.
    pub of_shares: bool,
    values: &'static str,
}

impl Parameter {
    /// Whether Samba takes `value`. If it does not, it may load no line of the whole file: smbd then goes on with what
    /// it has, and does not start again.
    pub fn takes(&self, value: &str) -> bool {
        if self.values == "size" {
            return is_size(value);
        }
        let value = value.trim_matches('"').trim();
        match self.values {
            "any" => true,
            "boolean" => BOOLEANS.iter().any(|one| value.eq_ignore_ascii_case(one)),
            "octal" => !value.is_empty() && value.chars().all(|digit| ('0'..='7').contains(&digit)),
            words => words.split('|').any(|one| value.eq_ignore_ascii_case(one)),
        }
    }
}

/// A number with a unit or without (`conv_str_size_error()` in lib/util/util_str.c).
fn is_size(value: &str) -> bool {
    let value = value.trim_start_matches(is_blank);
    let number = value.strip_prefix('+').unwrap_or(value);
    let unit = number.trim_start_matches(|c: char| c.is_ascii_digit());
    number.len() > unit.len() && matches!(compact(unit).as_str(), "" | "k" | "m" | "g")
}

/// `set_boolean()` in lib/util/util.c.
const BOOLEANS: [&str; 8] = ["yes", "no", "true", "false", "on", "off", "1", "0"];

static PARAMETERS: LazyLock<BTreeMap<String, Parameter>> = LazyLock::new(|| {
    let lines = include_str!("parameters.tsv").lines();
    let rows = lines.filter(|line| !line.starts_with('#'));
    rows.flat_map(|row| {
        let mut columns = row.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let (scope, values, name) = (next(), next(), next());
        let parameter = Parameter {
            name,
            of_shares: scope == "share",
            values,
        };
        let names = std::iter::once(name).chain(columns);
        names.map(move |name| (compact(name), parameter))
    })
    .collect()
});

/// The parameter of this name or synonym.
pub fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.get(&compact(name))
}

/// Every parameter, each under its own name.
#[cfg(test)]
pub fn all() -> impl Iterator<Item = &'static Parameter> {
    let named = PARAMETERS.iter();
    named
        .filter(|(key, parameter)| **key == compact(parameter.name))
        .map(|(_, parameter)| parameter)
}

/// A name as Samba compares it: it ignores case and blanks (`strwicmp()` in lib/util/util_strlist.c).
pub fn compact(name: &str) -> String {
    let mut name = name.to_ascii_lowercase();
    name.retain(|c| !is_blank(c));
    name
}

/// What Samba takes for blank: `isspace()` of C, to which a blank of another script is a letter.
pub fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_known_by_each_of_its_names() {
        for (name, known) in [
            ("Server  SMB Encrypt", "server smb encrypt"),
            ("smb encrypt", "server smb encrypt"),
            ("ROOT DIR", "root directory"),
            ("vfs object", "vfs objects"),
            ("exec", "preexec"),
            ("group", "force group"),
            ("public", "guest ok"),
            ("protocol", "server max protocol"),
            ("-valid", "-valid"),
        ] {
            assert_eq!(find(name).unwrap().name, known);
        }
        assert!(find("nonsense").is_none());
        assert!(all().count() > 500);
    }

    #[test]
    fn a_value_that_samba_does_not_take_is_known() {
        for (name, good, bad) in [
            ("oplocks", "On", "maybe"),
            ("create mask", "0770", "0990"),
            ("map to guest", "Bad User", "bad"),
            ("strict locking", "auto", "required"),
            ("server signing", "required", "yes please"),
            ("max log size", "1 K", "1kb"),
            ("max xmit", "+5", "-1"),
            ("block size", "1024", ""),
        ] {
            let parameter = find(name).unwrap();
            assert!(parameter.takes(good) && !parameter.takes(bad), "{name}");
        }
        assert!(find("workgroup").unwrap().takes("anything"));
    }
}
