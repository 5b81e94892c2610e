//! smb.conf(5) as Samba reads it, with every file that it includes: which sections there are, and what
//! each file sets in them. The agent does not use `testparm` because every plan needs this, and because
//! `testparm` does not tell which file a setting comes from.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::parameters::{self, compact, is_blank};
use crate::error::{Doing, Result};

/// `MAX_INCLUDE_DEPTH` in source3/param/loadparm.c is 100; nobody needs that many.
const INCLUDE_DEPTH: u32 = 16;

/// The section for the whole server. Share settings in it are the defaults of the shares that follow.
pub const GLOBAL: &str = "global";

/// What Samba calls its registry where it reads it like a file: `include = registry`.
pub const REGISTRY: &str = "registry";

/// A line in a file; the first line is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.file == Path::new(REGISTRY) {
            return write!(f, "Samba's registry (net conf list), line {}", self.line);
        }
        write!(f, "{}, line {}", self.file.display(), self.line)
    }
}

/// A line `key = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub place: Place,
    /// The section of the setting, in the form of [`section_name`].
    pub section: String,
    /// In lower case, without blanks. A synonym is replaced by the name that smb.conf(5) explains.
    pub key: String,
    /// As the operator wrote it.
    pub written: String,
    pub value: String,
}

/// The content of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SmbConf {
    pub sections: Vec<(String, Place)>,
    pub settings: Vec<Setting>,
    /// Lines that Samba cannot read: an open bracket, a line without a name, a copy of a section that does not stand
    /// before.
    pub malformed: Vec<Place>,
    /// Files that an include with a variable in its name means for some client, with the place of the include.
    pub by_variable: Vec<(Place, Vec<PathBuf>)>,
}

impl SmbConf {
    /// Reads `path` and what it includes; `registry` is what `net conf list` says, if the caller has asked. An include
    /// with a variable in its name means a different file for each client and is not followed.
    pub fn read(path: &Path, registry: Option<&str>) -> Result<Self> {
        let mut conf = Self::default();
        // Settings before the first section belong to the server.
        let mut section = GLOBAL.to_owned();
        conf.add(path, registry, &mut section, INCLUDE_DEPTH)?;
        Ok(conf)
    }

    fn add(
        &mut self,
        file: &Path,
        registry: Option<&str>,
        section: &mut String,
        depth: u32,
    ) -> Result<()> {
        let text = match std::fs::read(file) {
            Ok(text) => text,
            // Samba skips an include that does not exist.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).doing(format_args!("read {}", file.display())),
        };
        for (line, content) in logical_lines(&String::from_utf8_lossy(&text)) {
            let place = Place {
                file: file.to_owned(),
                line,
            };
            let Some(value) = self.take(place.clone(), &content, section) else {
                continue;
            };
            if value.eq_ignore_ascii_case(REGISTRY) {
                self.add_registry(registry.unwrap_or_default());
            } else if value.contains('%') {
                self.by_variable.push((place, files_of_pattern(&value)));
            } else if let Some(depth) = depth.checked_sub(1) {
                // The section in which an included file ends continues after the include: `lp_include()` has no state
                // of its own. smbd's working directory is the root.
                let included = Path::new("/").join(&value);
                self.add(&included, registry, section, depth)?;
            }
        }
        Ok(())
    }

    /// The registry's own sections: what follows the include stays in its section.
    fn add_registry(&mut self, text: &str) {
        let mut section = GLOBAL.to_owned();
        for (line, content) in logical_lines(text) {
            let file = REGISTRY.into();
            self.take(Place { file, line }, &content, &mut section);
        }
    }

    /// Takes in one line. Returns what it includes.
    fn take(&mut self, place: Place, content: &str, section: &mut String) -> Option<String> {
        if let Some(rest) = content.strip_prefix('[') {
            let Some((name, _)) = rest.split_once(']') else {
                self.malformed.push(place);
                return None;
            };
            *section = section_name(name);
            if section.is_empty() {
                self.malformed.push(place.clone());
            }
            self.sections.push((section.clone(), place));
            return None;
        }
        // Samba passes over a line without `=` (`parse_param()` in lib/util/tini.c).
        let (written, value) = content.split_once('=')?;
        if written.is_empty() {
            self.malformed.push(place);
            return None;
        }
        // A continued line may begin with a blank. Samba then knows no parameter of an empty name, and goes on.
        let key = Some(option_name(written)).filter(|key| !key.is_empty())?;
        let value = value.trim_matches(is_blank).to_owned();
        if key == "copy" && !self.has_source(&value, section) {
            self.malformed.push(place.clone());
        }
        let included = (key == "include" && !value.is_empty()).then(|| value.clone());
        self.settings.push(Setting {
            place,
            section: section.clone(),
            key,
            written: written.trim_matches(is_blank).to_owned(),
            value,
        });
        included
    }

    /// Whether a section can be copied into `section` (`handle_copy()` in source3/param/loadparm.c).
    fn has_source(&self, name: &str, section: &str) -> bool {
        let name = section_name(name);
        name != section
            && name != GLOBAL
            && section != GLOBAL
            && self.sections.iter().any(|(there, _)| *there == name)
    }

    /// What Samba may be unable to read. Then it would not start again.
    pub fn unreadable(&self) -> Option<&Place> {
        let refused = self.settings.iter().find(|one| {
            parameters::find(&one.key).is_some_and(|parameter| !parameter.takes(&one.value))
        });
        self.malformed.first().or(refused.map(|one| &one.place))
    }

    /// The setting that counts for the server: the last one.
    pub fn global(&self, key: &str) -> Option<&Setting> {
        let all = self.settings.iter().rev();
        let mut global = all.filter(|setting| setting.section == GLOBAL);
        global.find(|setting| setting.key == key)
    }
}

/// The lines that are neither blank nor comments, with their numbers. Continued lines are joined, and several blanks are
/// one (`get_line()` in lib/util/tini.c).
pub(super) fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    let mut continued = None;
    let mut lines = text.split('\n').enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let (number, mut logical) = continued.take().unwrap_or((index + 1, String::new()));
        let begins = number == index + 1;
        let line = match begins {
            true => line.trim_start_matches(is_blank),
            false => line,
        };
        if begins && (line.is_empty() || line.starts_with(['#', ';'])) {
            continue;
        }
        push_with_single_blanks(&mut logical, line);
        let before = logical.strip_suffix(is_blank).unwrap_or(&logical);
        let before = before.strip_suffix('\\').filter(|_| lines.peek().is_some());
        if let Some(before) = before {
            logical.truncate(before.len());
            continued = Some((number, logical));
            continue;
        }
        // A text of C ends at a NUL.
        logical.truncate(logical.find('\0').unwrap_or(logical.len()));
        all.push((number, logical));
    }
    all
}

/// Of blanks in a row Samba keeps the first.
fn push_with_single_blanks(to: &mut String, text: &str) {
    for c in text.chars() {
        if !is_blank(c) || !to.ends_with(is_blank) {
            to.push(c);
        }
    }
}

/// A section name as Samba compares it: it ignores case, and takes blanks in a row for the first of them. `[ a]` is
/// another section than `[a]`. The name of [global] it compares without any blanks (`strwicmp()`).
pub fn section_name(name: &str) -> String {
    if let GLOBAL | "globals" = compact(name).as_str() {
        return GLOBAL.to_owned();
    }
    let mut kept = String::with_capacity(name.len());
    push_with_single_blanks(&mut kept, name);
    kept.to_lowercase()
}

/// An option name as Samba compares it: it ignores case and blanks.
fn option_name(name: &str) -> String {
    match parameters::find(name) {
        Some(parameter) => compact(parameter.name),
        None => compact(name),
    }
}

/// The files that exist and that a name with variables (`%m`, `%I` …) may mean.
fn files_of_pattern(name: &str) -> Vec<PathBuf> {
    let path = Path::new("/").join(name);
    let (Some(directory), Some(pattern)) = (path.parent(), path.file_name()) else {
        return Vec::new();
    };
    let pattern = pattern.to_string_lossy();
    let mut parts = pattern.split('%');
    let before = parts.next().unwrap_or_default().to_owned();
    // A variable is `%` and a letter.
    let behind: String = parts
        .next_back()
        .unwrap_or_default()
        .chars()
        .skip(1)
        .collect();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let rest = name.strip_prefix(&before);
            rest.is_some_and(|rest| rest.len() > behind.len() && rest.ends_with(&behind))
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

/// Whether a boolean of smb.conf(5) is true.
pub fn is_yes(value: &str) -> bool {
    ["yes", "true", "on", "1"]
        .iter()
        .any(|yes| parameters::is_word(value, yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(main: &str, included: &str) -> SmbConf {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner.conf");
        let outer = directory.path().join("smb.conf");
        std::fs::write(&inner, included).unwrap();
        let main = main.replace("INNER", &inner.display().to_string());
        std::fs::write(&outer, main).unwrap();
        SmbConf::read(&outer, None).unwrap()
    }

    fn sections(conf: &SmbConf) -> Vec<&str> {
        conf.sections
            .iter()
            .map(|(name, _)| name.as_str())
            .collect()
    }

    #[test]
    fn sections_are_found_however_they_are_written_and_wherever() {
        let main =
            "[Global]\n; [no]\n# [neither]\ninclude = INNER\n \t[ My   Share ]\npath = /a\\\n[b]\n";
        let conf = read(main, "[USER1]\n");
        assert_eq!(sections(&conf), ["global", "user1", " my share "]);
        assert!(
            conf.sections[1]
                .1
                .to_string()
                .ends_with("inner.conf, line 1")
        );
        assert_eq!(conf.sections[2].1.line, 5);
        assert_eq!(conf.settings.last().unwrap().value, "/a[b]");
    }

    #[test]
    fn what_follows_an_include_is_in_the_section_that_it_ended_in() {
        let conf = read("[global]\ninclude = INNER\nGuest  OK = yes\n", "[user1]\n");
        let last = conf.settings.last().unwrap();
        assert_eq!(
            (last.section.as_str(), last.key.as_str()),
            ("user1", "guestok")
        );
        assert!(conf.global("guestok").is_none());
    }

    #[test]
    fn the_last_setting_holds_under_any_of_its_names() {
        let conf = read(
            "protocol = SMB3\n[globals]\nMax Protocol = NT1\n[x]\nserver max protocol = SMB2\n",
            "",
        );
        assert_eq!(conf.global("servermaxprotocol").unwrap().value, "NT1");
        let conf = read("[ G lobal ]\nmax protocol = SMB3\n", "");
        assert!(conf.global("servermaxprotocol").is_some());
    }

    /// As testparm(1) prints them.
    #[test]
    fn what_is_blank_to_samba_alone_separates() {
        for (text, section, value) in [
            ("[x]\n\u{b}comment\u{c} =\u{b} a\u{a0}\n", "x", "a\u{a0}"),
            ("[ x\u{3000}y ]\ncomment = a\0b\n", " x\u{3000}y ", "a"),
            ("[ x\\\ny ]\ncom\\\nment = a\\\n", " xy ", "a"),
            ("[x]\ncomment = a\\", "x", "a\\"),
            ("[x  y]\ncomment = a  \t b\t\\\n c", "x y", "a b\tc"),
        ] {
            let conf = read(text, "");
            let setting = &conf.settings[0];
            assert_eq!(setting.key, "comment", "{text:?}");
            assert_eq!(
                (setting.section.as_str(), setting.value.as_str()),
                (section, value)
            );
        }
    }

    #[test]
    fn what_samba_cannot_read_is_found() {
        for (text, line) in [
            ("[global]\noplocks = maybe\n", Some(2)),
            ("[x]\npath = /\n[printers\n", Some(3)),
            ("[global]\n= x\n", Some(2)),
            ("[]\npath = /\n", Some(1)),
            ("[x]\ncopy = y\n[y]\n", Some(2)),
            ("[x]\ncopy = x\n", Some(2)),
            ("[A  b]\n[x]\ncopy = a b\n", None),
            ("[ a]\n[x]\ncopy = a\n", Some(3)),
            ("[a\tb]\n[x]\ncopy = a b\n", Some(3)),
            ("[other]\nCREATE mode = 99\n", Some(2)),
            ("[global]\nnonsense\nnonsense = 1\noplocks = On\n", None),
        ] {
            let conf = read(text, "");
            assert_eq!(conf.unreadable().map(|place| place.line), line, "{text}");
        }
    }

    #[test]
    fn the_registry_is_read_where_it_is_included() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "[global]\nntlm auth = yes\ninclude = registry\nmap to guest = never\n",
        )
        .unwrap();
        let registry = "[global]\n\tntlm auth = disabled\n[user1]\n\tpath = /x\n";
        let conf = SmbConf::read(file.path(), Some(registry)).unwrap();
        let setting = conf.global("ntlmauth").unwrap();
        assert_eq!(setting.value, "disabled");
        assert!(setting.place.to_string().contains("net conf list"));
        assert_eq!(sections(&conf), ["global", "global", "user1"]);
        assert!(conf.global("maptoguest").is_some());
    }

    #[test]
    fn an_include_by_variable_is_told_with_the_files_that_it_may_mean() {
        let directory = tempfile::tempdir().unwrap();
        let smb_conf = directory.path().join("smb.conf");
        let include = directory.path().join("for-%m.conf");
        std::fs::write(&smb_conf, format!("include = {}", include.display())).unwrap();
        let read = || SmbConf::read(&smb_conf, None).unwrap().by_variable;
        assert!(read()[0].1.is_empty());
        let one = directory.path().join("for-was-01.conf");
        std::fs::write(&one, "").unwrap();
        assert_eq!(read()[0].1, [one]);
    }

    #[test]
    fn lines_are_joined_and_cut_as_samba_does() {
        for (text, line) in [
            (" a \t b \n", "a b "),
            ("a \\\n b", "a b"),
            ("a\\ \t\n\tb", "a\tb"),
            ("\\\n#b", "#b"),
            (" \\\n = b", " = b"),
            ("a\\", "a\\"),
            ("a\\\n", "a"),
            ("a\0b", "a"),
        ] {
            assert_eq!(logical_lines(text), [(1, line.to_owned())], "{text:?}");
        }
        assert_eq!(logical_lines("\n ;a\\\nb"), [(3, "b".to_owned())]);
        // Of these two, only the first ends the reading of the whole file.
        assert_eq!(read("= x\n", "").malformed.len(), 1);
        assert!(read(" \\\n = x\n", "").malformed.is_empty());
    }

    #[test]
    fn a_file_that_includes_itself_and_one_that_is_not_there_end() {
        let conf = read("include = INNER\ninclude = /no/such/file\n", "");
        assert_eq!(conf.settings.len(), 2);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("include = {}", file.path().display())).unwrap();
        assert_eq!(SmbConf::read(file.path(), None).unwrap().settings.len(), 17);
    }
}
