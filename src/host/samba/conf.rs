//! smb.conf(5) as Samba reads it, with every file that it includes: which sections there are, and what
//! each file sets in them. The agent does not use `testparm` because every plan needs this, and because
//! `testparm` does not tell which file a setting comes from.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result};

/// `MAX_INCLUDE_DEPTH` in source3/param/loadparm.c is 100; nobody needs that many.
const INCLUDE_DEPTH: u32 = 16;

/// The section for the whole server. Share settings in it are the defaults of the shares that follow.
pub const GLOBAL: &str = "global";

/// A line in a file; the first line is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
    pub value: String,
}

/// The content of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SmbConf {
    pub sections: Vec<(String, Place)>,
    pub settings: Vec<Setting>,
}

impl SmbConf {
    /// Reads `path` and what it includes. An include with a variable in its name means a different file
    /// for each client and is not followed.
    pub fn read(path: &Path) -> Result<Self> {
        let mut conf = Self::default();
        // Settings before the first section belong to the server.
        let mut section = GLOBAL.to_owned();
        conf.add(path, &mut section, INCLUDE_DEPTH)?;
        Ok(conf)
    }

    fn add(&mut self, file: &Path, section: &mut String, depth: u32) -> Result<()> {
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
            if let Some(rest) = content.strip_prefix('[') {
                let name = rest.split(']').next().unwrap_or_default();
                *section = section_name(name);
                self.sections.push((section.clone(), place));
            } else if let Some((key, value)) = content.split_once('=') {
                let (key, value) = (option_name(key), value.trim().to_owned());
                let included = PathBuf::from(&value);
                let follow = key == "include" && included.is_absolute() && !value.contains('%');
                self.settings.push(Setting {
                    place,
                    section: section.clone(),
                    key,
                    value,
                });
                // The section in which an included file ends continues after the include: `lp_include()`
                // has no state of its own.
                if let (true, Some(depth)) = (follow, depth.checked_sub(1)) {
                    self.add(&included, section, depth)?;
                }
            }
        }
        Ok(())
    }

    /// The setting that counts for the server: the last one.
    pub fn global(&self, key: &str) -> Option<&Setting> {
        let all = self.settings.iter().rev();
        let mut global = all.filter(|setting| setting.section == GLOBAL);
        global.find(|setting| setting.key == key)
    }
}

/// The lines that are neither blank nor comments, with their numbers. Continued lines are joined
/// (`get_line()` in lib/util/tini.c).
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (index, line) in text.lines().enumerate() {
        if !continues {
            let content = line.trim_start();
            if content.is_empty() || content.starts_with(['#', ';']) {
                continue;
            }
            all.push((index + 1, String::new()));
        }
        let Some((_, logical)) = all.last_mut() else {
            continue;
        };
        logical.push_str(line);
        let trimmed = logical.trim_end();
        continues = trimmed.ends_with('\\');
        if continues {
            logical.truncate(trimmed.len() - 1);
        }
    }
    for (_, logical) in &mut all {
        *logical = logical.trim().to_owned();
    }
    all
}

/// A section name as Samba compares it: it ignores case, blanks at the ends, and repeated blanks between
/// words.
pub fn section_name(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    match words.join(" ").to_lowercase().as_str() {
        "globals" => GLOBAL.to_owned(),
        name => name.to_owned(),
    }
}

/// An option name as Samba compares it: it ignores case and blanks.
fn option_name(name: &str) -> String {
    let name: String = name.split_whitespace().collect::<String>().to_lowercase();
    let explained = match name.as_str() {
        "allowhosts" => "hostsallow",
        "denyhosts" => "hostsdeny",
        "maxprotocol" | "protocol" => "servermaxprotocol",
        "serversmbencrypt" => "smbencrypt",
        "public" => "guestok",
        other => other,
    };
    explained.to_owned()
}

/// Whether a boolean of smb.conf(5) is true.
pub fn is_yes(value: &str) -> bool {
    ["yes", "true", "on", "1"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
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
        SmbConf::read(&outer).unwrap()
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
        assert_eq!(sections(&conf), ["global", "user1", "my share"]);
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
    }

    #[test]
    fn a_file_that_includes_itself_and_one_that_is_not_there_end() {
        let conf = read("include = INNER\ninclude = /no/such/file\n", "");
        assert_eq!(conf.settings.len(), 2);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("include = {}", file.path().display())).unwrap();
        assert_eq!(SmbConf::read(file.path()).unwrap().settings.len(), 17);
    }
}
