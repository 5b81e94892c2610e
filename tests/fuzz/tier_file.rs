//! The tier file: it is taken or refused, with faults that have a place in it. What is taken is TOML, has only keys of
//! the contract, and gives the values that stand in it. No password is shown, whatever is wrong beside it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;
use toml::de::{DeTable, DeValue};
use wasagent::config::{self, Faults, Role, Tier};

use crate::mutation::{Text, texts};

const CORPUS: [&str; 4] = [
    include_str!("corpus/tier/guide.toml"),
    include_str!("corpus/tier/all.toml"),
    include_str!("corpus/tier/inline.toml"),
    include_str!("corpus/tier/strange.toml"),
];

const WORDS: [&str; 38] = [
    "[share]\n",
    "[storage.disk]\n",
    "[[storage.content.edit]]\n",
    "[was.container]\n",
    "\nnote = \"x\"\n",
    "=",
    "\"",
    "'''",
    "\"\"\"",
    "\n",
    "\r\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    ".",
    "#",
    "\\",
    "\\n",
    "\\u0000",
    "\\u001b",
    "0x7f",
    "-1",
    "99999999999999999999",
    "1e3",
    "1979-05-27",
    "{index}",
    "{",
    "{database.password}",
    "true",
    "/..",
    "/",
    "@",
    " ",
    "한글",
    "\u{a0}",
    "\u{feff}",
];

/// The sections and keys of the contract; `*` is a name of the operator's.
const KEYS: &str = "share storage database was firewall serve health \
    share.name share.server share.user share.password_file share.password share.password_credential share.clients \
    share.encrypt storage.path storage.disk storage.content storage.disk.device storage.disk.filesystem \
    storage.disk.mount storage.content.git storage.content.rev storage.content.subdir storage.content.build \
    storage.content.edit storage.content.edit.files storage.content.edit.object storage.content.edit.set \
    storage.content.edit.set.* database.host database.port database.user database.password_file database.password \
    database.password_credential database.name was.mount was.vers was.container was.container.name \
    was.container.image was.container.hostname was.container.publish was.container.workdir \
    was.container.privileged was.container.read_only was.container.env was.container.env.* was.container.secrets \
    was.container.secrets.* was.container.secrets.*.password_file was.container.secrets.*.password \
    was.container.secrets.*.password_credential firewall.zone serve.mode health.interval health.listen health.http \
    health.drain health.http.path health.http.status health.http.contains";

/// The password of every text of the corpus.
const PASSWORD: &str = "planted";

#[test]
fn it_is_taken_or_refused_with_a_place() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    file.as_file().set_permissions(private).unwrap();
    let roles = vec![None, Some(Role::Storage), Some(Role::Was)];
    let inputs = (texts(&CORPUS, &WORDS), proptest::sample::select(roles));
    crate::for_a_while(&inputs, |(Text(bytes), role)| {
        std::fs::write(file.path(), &bytes).unwrap();
        match config::load(file.path(), role) {
            Err(faults) => is_told(&faults, file.path(), &String::from_utf8_lossy(&bytes)),
            Ok(tier) => is_what_stands_there(&tier, role, std::str::from_utf8(&bytes).unwrap()),
        }
    });
}

fn is_told(faults: &Faults, file: &Path, text: &str) -> Result<(), TestCaseError> {
    prop_assert!(!faults.0.is_empty());
    let lines: Vec<&str> = text.split('\n').collect();
    for fault in &faults.0 {
        prop_assert!(!fault.message.trim().is_empty());
        prop_assert_eq!(&fault.file, file);
        if fault.line > 0 {
            let line = lines.get(fault.line - 1);
            let width = line.map(|line| line.chars().count());
            let is_there = width.is_some_and(|width| (1..=width + 1).contains(&fault.column));
            prop_assert!(is_there, "{fault}");
        }
        let controls = |text: &str| text.contains(|c: char| c.is_control() && !"\n\t".contains(c));
        prop_assert!(!controls(&fault.to_string()), "{fault:?}");
    }
    prop_assert!(
        !shows_password(faults) || !hides_password(text),
        "{faults}\n{}",
        serde_json::to_string(&faults).unwrap()
    );
    Ok(())
}

fn shows_password(faults: &Faults) -> bool {
    let json = serde_json::to_string(faults).unwrap();
    format!("{faults}{faults:?}{json}").contains(PASSWORD)
}

/// Whether each password still stands where an operator would write one: in a line that nobody has changed, and that is
/// not within the value of another key.
fn hides_password(text: &str) -> bool {
    if text.contains("\"\"\"") || text.contains("'''") {
        return false;
    }
    let untouched = |line: &str| CORPUS.iter().any(|text| text.lines().any(|it| it == line));
    let mut with = text.lines().filter(|line| line.contains(PASSWORD));
    with.all(untouched)
}

fn is_what_stands_there(tier: &Tier, role: Option<Role>, text: &str) -> Result<(), TestCaseError> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let document = DeTable::parse(&text);
    prop_assert!(document.is_ok(), "it is no TOML: {document:?}");
    let document = document.unwrap();
    let known: Vec<&str> = KEYS.split_whitespace().collect();
    for key in keys("", &DeValue::Table(document.get_ref().clone())) {
        prop_assert!(known.contains(&key.as_str()), "{key} is no key");
    }
    let string = |path: &[&str]| {
        let mut names = path.iter();
        let mut value = document.get_ref().get(*names.next()?)?.get_ref();
        for name in names {
            value = value.as_table()?.get(*name)?.get_ref();
        }
        value.as_str()
    };
    let text = |path: &Path| {
        path.to_str()
            .map(|path| path.trim_end_matches('/').to_owned())
    };
    let same = |path: Option<&str>| path.map(|path| path.trim_end_matches('/').to_owned());
    prop_assert_eq!(Some(tier.share.name.as_str()), string(&["share", "name"]));
    prop_assert_eq!(Some(tier.share.user.as_str()), string(&["share", "user"]));
    prop_assert!(role != Some(Role::Storage) || tier.storage.is_some());
    prop_assert!(role != Some(Role::Was) || tier.was.is_some());
    let debug = format!("{tier:?}");
    prop_assert!(!debug.contains(PASSWORD), "{}", debug);
    let mut places = Vec::new();
    if let Some(storage) = &tier.storage {
        prop_assert_eq!(text(&storage.path), same(string(&["storage", "path"])));
        places.push(&storage.path);
        places.extend(storage.disk.iter().map(|disk| &disk.mount));
        if let Some(content) = &storage.content {
            prop_assert_eq!(
                Some(content.git.as_str()),
                string(&["storage", "content", "git"])
            );
            let edited = content.edit.iter().flat_map(|edit| &edit.files);
            for relative in edited.chain(&content.subdir) {
                prop_assert!(
                    !relative.is_absolute() && is_plain(relative),
                    "{relative:?}"
                );
            }
        }
    }
    if let Some(was) = &tier.was {
        prop_assert_eq!(text(&was.mount), same(string(&["was", "mount"])));
        let name = string(&["was", "container", "name"]);
        prop_assert_eq!(Some(was.container.name.as_str()), name);
        places.extend([&was.mount, &was.container.workdir]);
    }
    for place in places {
        prop_assert!(
            place.is_absolute() && place != Path::new("/") && is_plain(place),
            "{place:?}"
        );
    }
    // What goes into a line of somebody's configuration stays one line.
    let lines = [&tier.share.name, &tier.share.user, &tier.share.server];
    for line in lines.into_iter().chain(&tier.firewall.zone) {
        prop_assert!(
            !line.is_empty() && !line.contains(char::is_control),
            "{line:?}"
        );
    }
    Ok(())
}

/// Without `..` and without what would end a line.
fn is_plain(path: &Path) -> bool {
    use std::path::Component;
    let climbs = path.components().any(|part| part == Component::ParentDir);
    !climbs && !path.to_string_lossy().contains(char::is_control)
}

/// Every key with the keys above it. Names that the operator gives are `*`.
fn keys(above: &str, value: &DeValue<'_>) -> Vec<String> {
    match value {
        DeValue::Table(table) => {
            let named = [".set", ".env", ".secrets"]
                .iter()
                .any(|end| above.ends_with(end));
            let each = table.iter().flat_map(|(key, value)| {
                let key = if named { "*" } else { key.get_ref().as_ref() };
                let key = [above, key].into_iter().filter(|part| !part.is_empty());
                let key = key.collect::<Vec<_>>().join(".");
                let below = keys(&key, value.get_ref());
                std::iter::once(key).chain(below)
            });
            each.collect()
        }
        DeValue::Array(items) => {
            let items = items.iter().flat_map(|item| keys(above, item.get_ref()));
            items.collect()
        }
        _ => Vec::new(),
    }
}
