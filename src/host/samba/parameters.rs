//! The parameters of smb.conf(5): their names, and which values Samba takes for each.

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
        match self.values {
            "any" => true,
            "boolean" => BOOLEANS.iter().any(|one| is_word(value, one)),
            "octal" => is_octal(value),
            "size" => size(value).is_some_and(|size| i32::try_from(size).is_ok()),
            "ports" => words(value).all(|word| word.parse().is_ok_and(|port: u16| port > 0)),
            "range" => is_range_of_ports(value),
            words => words.split('|').any(|one| is_word(value, one)),
        }
    }
}

/// Whether Samba takes a value for this word. It ignores case and blanks, and a quote is a character like any other
/// (`strwicmp()` in lib/util/util_strlist.c).
pub fn is_word(value: &str, word: &str) -> bool {
    compared(value).eq(compared(word))
}

/// A number that `sscanf("%o")` finds, whatever stands behind it.
fn is_octal(value: &str) -> bool {
    let value = value.trim_start_matches(is_blank);
    let number = value.strip_prefix(['+', '-']).unwrap_or(value);
    number.starts_with(|digit| ('0'..='7').contains(&digit))
}

/// The words of a list (`LIST_SEP` in lib/param/loadparm.h).
pub fn words(list: &str) -> impl Iterator<Item = &str> {
    let words = list.split([' ', '\t', ',', ';']);
    words.filter(|word| !word.is_empty())
}

/// `handle_rpc_server_dynamic_port_range()` in lib/param/loadparm.c.
fn is_range_of_ports(value: &str) -> bool {
    let Some((low, high)) = value.split_once('-') else {
        return false;
    };
    let port = |text: &str| text.trim_matches(is_blank).parse::<u16>();
    matches!((port(low), port(high)), (Ok(low), Ok(high)) if 1024 <= low && low <= high)
}

/// A number with a unit or without (`conv_str_size_error()` in lib/util/util_str.c).
pub fn size(value: &str) -> Option<u64> {
    let value = value.trim_start_matches(is_blank);
    let number = value.strip_prefix('+').unwrap_or(value);
    let unit = number.trim_start_matches(|c: char| c.is_ascii_digit());
    let factor = match compact(unit).as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    let number: u64 = number[..number.len() - unit.len()].parse().ok()?;
    number.checked_mul(factor)
}

/// `set_boolean()` in lib/util/util.c.
const BOOLEANS: [&str; 8] = ["yes", "no", "true", "false", "on", "off", "1", "0"];

/// The rows of the table, in the order of their names as Samba compares them.
static ROWS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let lines = include_str!("parameters.tsv").lines();
    lines.filter(|line| !line.starts_with('#')).collect()
});

/// The parameter of this name or synonym.
pub fn find(name: &str) -> Option<Parameter> {
    let found = ROWS.binary_search_by(|row| compared(first_column(row)).cmp(compared(name)));
    let [name, scope, values] = columns(ROWS[found.ok()?]);
    if scope == "as" {
        return find(values);
    }
    Some(Parameter {
        name,
        of_shares: scope == "share",
        values,
    })
}

fn first_column(row: &str) -> &str {
    let end = row.as_bytes().iter().position(|byte| *byte == b'\t');
    &row[..end.unwrap_or(row.len())]
}

fn columns(row: &'static str) -> [&'static str; 3] {
    let mut columns = row.split('\t');
    std::array::from_fn(|_| columns.next().unwrap_or_default())
}

/// Every parameter, each under its own name.
#[cfg(test)]
pub fn all() -> impl Iterator<Item = Parameter> {
    let own = ROWS
        .iter()
        .map(|row| columns(row))
        .filter(|row| row[1] != "as");
    own.map(|[name, ..]| find(name).expect(name))
}

/// A name as Samba compares it: it ignores case and blanks (`strwicmp()` in lib/util/util_strlist.c).
pub fn compact(name: &str) -> String {
    let mut name = name.to_ascii_lowercase();
    name.retain(|c| !is_blank(c));
    name
}

/// The bytes of [`compact`], without its memory.
fn compared(name: &str) -> impl Iterator<Item = u8> {
    let bytes = name.bytes().filter(|byte| !is_blank((*byte).into()));
    bytes.map(|byte| byte.to_ascii_lowercase())
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
        assert!(ROWS.is_sorted_by_key(|row| compact(first_column(row))));
        assert!(all().count() > 500);
    }

    #[test]
    fn a_value_that_samba_does_not_take_is_known() {
        for (name, good, bad) in [
            ("oplocks", "On", "maybe"),
            ("oplocks", "n O", "\"no\""),
            ("available", "0", "\" no"),
            ("create mask", "0770", "990"),
            ("create mask", "07 70", "\"0770\""),
            ("directory mask", "+7", "- 7"),
            ("case sensitive", "au to", "\"auto\""),
            ("map to guest", "Bad User", "bad"),
            ("strict locking", "auto", "required"),
            ("server signing", "required", "yes please"),
            ("max log size", "1 K", "1kb"),
            ("max xmit", "+5", "-1"),
            ("max xmit", "2147483647", "2G"),
            ("smb ports", "445, 139", "445 smb"),
            ("smb ports", "65535", "0"),
            ("rpc server dynamic port range", "50000 - 51000", "49152"),
            ("rpc server dynamic port range", "1024-1024", "51000-50000"),
            ("block size", "1024", ""),
        ] {
            let parameter = find(name).unwrap();
            assert!(parameter.takes(good) && !parameter.takes(bad), "{name}");
        }
        assert!(find("workgroup").unwrap().takes("anything"));
    }
}
