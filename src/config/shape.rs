//! What the texts of the tier file look like, as regular expressions of JSON Schema (ECMA-262 with Unicode). Each
//! function stands for the function of its name in [`super::value`], which is what counts. A test holds both against
//! each other.

use super::{address, place, reserved, template, value};

/// Rules for a text.
#[derive(Default)]
pub struct Shape {
    /// It matches.
    pub pattern: Option<String>,
    /// None of them matches.
    pub never: Vec<String>,
    /// In characters.
    pub longest: Option<u32>,
    /// It is one of these words, if there are any.
    pub words: Vec<&'static str>,
}

impl Shape {
    fn like(pattern: impl Into<String>) -> Self {
        Self {
            pattern: Some(pattern.into()),
            ..Self::default()
        }
    }

    fn but_not(mut self, pattern: impl Into<String>) -> Self {
        self.never.push(pattern.into());
        self
    }

    fn at_most(mut self, longest: u32) -> Self {
        self.longest = Some(longest);
        self
    }

    fn one_of(words: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            words: words.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// Control characters, for use in a class.
const CONTROL: &str = r"\x00-\x1f\x7f-\x9f";
const OCTET: &str = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const PORT: &str =
    "0*(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})";
/// Without the rule that the last part is no number.
const HOST_NAME: &str = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*";

fn ipv4() -> String {
    format!(r"{OCTET}(?:\.{OCTET}){{3}}")
}

/// RFC 3986, appendix A.
fn ipv6() -> String {
    let group = "[0-9A-Fa-f]{1,4}";
    let last = format!("(?:{group}:{group}|{})", ipv4());
    let before = |most: usize| format!("(?:(?:{group}:){{0,{most}}}{group})?");
    let mut forms = vec![
        format!("(?:{group}:){{6}}{last}"),
        format!("::(?:{group}:){{5}}{last}"),
    ];
    forms.extend(
        (0..=4).map(|most| format!("{}::(?:{group}:){{{}}}{last}", before(most), 4 - most)),
    );
    forms.push(format!("{}::{group}", before(5)));
    forms.push(format!("{}::", before(6)));
    format!("(?:{})", forms.join("|"))
}

/// The words in any case: `[Aa][Uu]…`.
fn any_case<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let letter = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
        false => escaped(c),
    };
    let words = words
        .into_iter()
        .map(|word| word.chars().map(letter).collect::<String>());
    words.collect::<Vec<_>>().join("|")
}

fn escaped(c: char) -> String {
    match c {
        '.' | '+' | '$' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '\\' => {
            format!("\\{c}")
        }
        _ => c.to_string(),
    }
}

fn literally<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words = words
        .into_iter()
        .map(|word| word.chars().map(escaped).collect::<String>());
    words.collect::<Vec<_>>().join("|")
}

/// Something to say of a text wherever it stands between `before` and `after`.
fn addresses(shape: Shape, before: &str, after: &str, of: &[&str]) -> Shape {
    of.iter().fold(shape, |shape, pattern| {
        shape.but_not(format!("^{before}(?:{pattern}){after}$"))
    })
}

/// IPv6 that means something only together with an interface.
const LINK_LOCAL: &str = "[Ff][Ee][89ABab][0-9A-Fa-f]:[^/]*";
const GROUP_OF_MACHINES: &str =
    r"(?:22[4-9]|23[0-9])\.[^/]*|255\.255\.255\.255|[Ff][Ff][0-9A-Fa-f]{2}:[^/]*";

/// IPv4 in the form of IPv6.
fn mapped() -> String {
    format!(
        "[0:]*:[Ff]{{4}}:(?:[0-9A-Fa-f]{{1,4}}:[0-9A-Fa-f]{{1,4}}|{})",
        ipv4()
    )
}

pub(super) fn text() -> Shape {
    Shape::like(format!("^[^{CONTROL}]+$"))
}

pub(super) fn environment_name() -> Shape {
    Shape::like("^[A-Za-z_][A-Za-z0-9_]*$")
}

pub(super) fn environment_value() -> Shape {
    Shape::like(format!("^[^{CONTROL}]*$")).at_most(100_000)
}

pub(super) fn share_name() -> Shape {
    Shape::like(format!(r#"^[^{CONTROL}"\\/\[\]:|<>+=;,*?%]+$"#))
        .at_most(80)
        .but_not(r"^[\p{White_Space}.]|\p{White_Space}$")
        .but_not(format!("^(?:{})$", any_case(value::SAMBAS_OWN)))
}

pub(super) fn account() -> Shape {
    Shape::like("^[A-Za-z_][A-Za-z0-9_-]{0,30}$")
        .but_not(format!("^(?:{})$", any_case(reserved::accounts())))
        .but_not(format!("^(?:{})", any_case(["systemd-"])))
}

pub(super) fn host() -> Shape {
    let shape = Shape::like(format!(
        r"^(?:{}|{}|(?!(?:.*\.)?[0-9]+$){HOST_NAME})$",
        ipv4(),
        ipv6()
    ));
    let shape = addresses(
        shape,
        "",
        "",
        &[
            LINK_LOCAL,
            GROUP_OF_MACHINES,
            r"0\.0\.0\.0|[0:]+",
            &mapped(),
        ],
    );
    shape.at_most(253)
}

pub(super) fn server() -> Shape {
    host()
        .but_not(r"^127\.[0-9.]+$|^[0:]*:0{0,3}1$")
        .but_not(format!(
            r"^(?:.*\.)?(?:{})$|^(?:{})$",
            any_case(["localhost"]),
            any_case(["localhost.localdomain"])
        ))
}

pub(super) fn hostname_template() -> Shape {
    let placeholder = format!(r"\{{(?:{})\}}", literally(template::HOSTNAME));
    let letter = format!("(?:[A-Za-z0-9]|{placeholder})");
    let label = format!("{letter}(?:(?:{letter}|-){{0,61}}{letter})?");
    Shape::like(format!(r"^{label}(?:\.{label})*$"))
        .but_not(format!("^(?:[A-Za-z0-9.-]|{placeholder}){{65}}"))
}

/// Refuses a placeholder that is none of these.
fn placeholders(known: &[&str]) -> Shape {
    let known = literally(known.iter().copied());
    Shape::default().but_not(format!(r"\{{(?!(?:{known})\}})[a-z0-9._-]+\}}"))
}

pub(super) fn edit_value() -> Shape {
    placeholders(&template::DATABASE)
}

/// A text that needs the section `[database]`.
pub(super) fn of_the_database() -> String {
    format!(r"\{{(?:{})\}}", literally(template::DATABASE))
}

pub(super) fn contains() -> Shape {
    placeholders(&template::CONTAINS)
}

pub(super) fn container_name() -> Shape {
    Shape::like("^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")
        .but_not(format!("^(?:{})$", literally(reserved::SERVICES)))
        .but_not("^systemd-")
}

pub(super) fn zone() -> Shape {
    Shape::like("^[A-Za-z0-9_/-]{1,17}$")
}

pub(super) fn secret_name() -> Shape {
    Shape::like("^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$")
}

pub(super) fn credential_name() -> Shape {
    Shape::like("^[A-Za-z0-9_@-][A-Za-z0-9_.@-]{0,254}$")
}

/// A password on one line.
pub(super) fn password() -> Shape {
    Shape::like(r"^[^\x00\n\r]+$").but_not("^\u{feff}")
}

fn tidy_path(class: &str) -> String {
    format!(r"(?:/(?!\.{{1,2}}(?:/|$)){class}+)+")
}

fn any_path() -> String {
    format!("(?:/|{})", tidy_path(&format!("[^/{CONTROL}]")))
}

pub(super) fn path() -> Shape {
    Shape::like(format!("^{}$", any_path())).at_most(4095)
}

fn plain_path() -> String {
    format!("(?:/|{})", tidy_path(r"[\p{Alphabetic}\p{N}._+@~-]"))
}

pub(super) fn directory() -> Shape {
    Shape::like(format!("^{}$", plain_path()))
        .at_most(4095)
        .but_not(format!("^(?:{})(?:/|$)", literally(place::TREES)))
        .but_not(format!("^(?:{})$", literally(place::DIRECTORIES)))
}

pub(super) fn workdir() -> Shape {
    Shape::like(format!("^{}$", plain_path()))
        .at_most(4095)
        .but_not(format!("^(?:{})(?:/|$)", literally(place::HIDING_TREES)))
        .but_not(format!("^(?:{})$", literally(place::HIDING)))
}

pub(super) fn relative_path() -> Shape {
    let name = format!(r"(?!\.{{1,2}}(?:/|$))[^/{CONTROL}]+");
    Shape::like(format!("^{name}(?:/{name})*$"))
}

pub(super) fn device() -> Shape {
    let tags = "UUID LABEL PARTUUID PARTLABEL ID SERIAL ID_SERIAL ID_SERIAL_SHORT";
    Shape::like(format!("^(?:/dev{}|[!-.0-~]{{1,255}})$", tidy_path(&format!("[^/{CONTROL}]"))))
        .but_not(format!("^(?!auto$)(?:{})$", one_slip("auto")))
        .but_not("^(?:(?:sd|vd|xvd|hd)[a-z]{1,2}[0-9]*|(?:dm-|md|loop|sr|nbd|zram|ram|mmcblk)[0-9]+|nvme[0-9]+(?:[np][0-9]+)*)$")
        .but_not(format!("^(?:{})=", any_case(tags.split(' '))))
}

/// The words of letters that differ from this one by one slip at most.
fn one_slip(word: &str) -> String {
    let any = "[A-Za-z]";
    let letters: Vec<String> = word
        .chars()
        .map(|c| any_case([c.to_string().as_str()]))
        .collect();
    let with = |at: usize, instead: &[&str], after: usize| {
        [
            &letters[..at].concat(),
            &instead.concat(),
            &letters[after..].concat(),
        ]
        .map(String::as_str)
        .concat()
    };
    let mut forms = vec![letters.concat()];
    for at in 0..=letters.len() {
        forms.push(with(at, &[any], at));
        if at < letters.len() {
            forms.push(with(at, &[], at + 1));
            forms.push(with(at, &[any], at + 1));
        }
        if at + 1 < letters.len() {
            forms.push(with(at, &[&letters[at + 1], &letters[at]], at + 2));
        }
    }
    forms.join("|")
}

pub(super) fn filesystem() -> Shape {
    Shape::one_of(value::FILESYSTEMS.map(|(word, _)| word))
}

pub(super) fn mode() -> Shape {
    Shape::one_of(value::MODES.map(|(word, _)| word))
}

pub(super) fn dialect() -> Shape {
    Shape::one_of(value::DIALECTS.map(|(word, _)| word))
}

pub(super) fn network() -> Shape {
    let shape = Shape::like(format!(
        "^(?:{}/0*(?:3[0-2]|[12]?[0-9])|{}/0*(?:12[0-8]|1[01][0-9]|[1-9]?[0-9]))$",
        ipv4(),
        ipv6()
    ));
    let shape = shape.but_not(format!("^{}/0*(?:9[6-9]|1[0-9]{{2}})$", mapped()));
    address::NOBODYS_PATTERNS
        .iter()
        .fold(shape, |shape, pattern| shape.but_not(*pattern))
}

/// An address of this VM, before a colon and a port.
fn listens(shape: Shape, after: &str) -> Shape {
    let after = format!(r"\]?:{after}");
    addresses(
        shape,
        r"\[?",
        &after,
        &[LINK_LOCAL, GROUP_OF_MACHINES, &mapped()],
    )
}

pub(super) fn publish() -> Shape {
    let address = format!(r"(?:{}|\[{}\])", ipv4(), ipv6());
    let shape = Shape::like(format!("^(?:{address}:)?{PORT}:{PORT}(?:/tcp|/udp)?$"));
    listens(shape, "[0-9]+:[0-9]+(?:/tcp|/udp)?")
}

/// What a published port of UDP ends in.
pub(super) const UDP: &str = "/udp$";

pub(super) fn listen() -> Shape {
    let address = format!(r"(?:{}|\[{}(?:%[0-9]+)?\])", ipv4(), ipv6());
    listens(Shape::like(format!("^(?:{address}:{PORT})?$")), "[0-9]+")
}

pub(super) fn duration() -> Shape {
    Shape::like("^(?=.*[1-9])(?:[0-9]+h)?(?:[0-9]+m)?(?:[0-9]+s)?(?:[0-9]+ms)?$")
}

pub(super) fn image() -> Shape {
    let part = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*";
    let name = format!("(?=[a-z0-9._/-]{{1,255}}(?:[:@]|$)){part}(?:/{part})*");
    let registry = format!("(?:localhost|(?=[^/]*[.:]){HOST_NAME}(?::{PORT})?)");
    let archive = format!("docker-archive:{}", plain_path());
    Shape::like(format!(
        "^(?:{archive}|{registry}/{name}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?)$"
    ))
}

pub(super) fn git() -> Shape {
    let server = format!(r"(?:{HOST_NAME}|\[?{}\]?)(?::{PORT})?", ipv6());
    let forms = [
        format!("https://{server}/.+"),
        format!("ssh://(?:(?!-)[^:]*@)?{server}/.+"),
        format!("file://{}", any_path()),
        any_path(),
        format!("(?!-)[A-Za-z0-9._-]+@{HOST_NAME}:.+"),
    ];
    Shape::like(format!("^(?:{})$", forms.join("|")))
        .but_not(format!(r"[\p{{White_Space}}{CONTROL}]"))
}

pub(super) fn revision() -> Shape {
    Shape::like(format!(r"^[^\p{{White_Space}}{CONTROL}~^:?*\[\\]+$"))
        .but_not(r"^[/-]|^@$|\.\.|@\{|//|[/.]$|(?:^|/)\.|\.lock(?:/|$)")
}

pub(super) fn argument() -> Shape {
    Shape::like(r"^[^\x00]+$")
}

pub(super) fn javascript_call() -> Shape {
    let name = r"(?![0-9])[\p{Alphabetic}\p{N}_$]+";
    let module = format!(r#"[^{CONTROL}"'\\]+"#);
    Shape::like(format!(
        r#"^(?:require\((?:'{module}'|"{module}")\)\.)?{name}(?:\.{name})*$"#
    ))
}

pub(super) fn http_path() -> Shape {
    Shape::like(r#"^/[!"$-~]*$"#)
}
