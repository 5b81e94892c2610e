//! What the documents tell an operator to write and to type is right: every tier file in them has no
//! fault, and every command is one. The documents are the READMEs and the pages of the manual.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use clap::Parser;
use clap::error::ErrorKind;

use super::{Arguments, Command, man};
use crate::config;

/// The documents that show a whole tier file and the commands to type.
const READMES: [(&str, &str); 2] = [
    ("README.md", include_str!("../../README.md")),
    (
        "README.ko.md",
        include_str!("../../packaging/doc/README.ko.md"),
    ),
];

/// All documents, by name.
fn documents() -> impl Iterator<Item = (&'static str, &'static str)> {
    READMES.iter().chain(man::PROSE).copied()
}

/// Where the documents keep passwords.
const PASSWORDS: &str = "/etc/wasagent/";

/// The fenced blocks of a document, with the word behind the fence.
fn blocks(document: &str) -> Vec<(&str, &str)> {
    let parts = document.split("\n```").collect::<Vec<_>>();
    let fenced = parts.iter().skip(1).step_by(2);
    fenced.filter_map(|part| part.split_once('\n')).collect()
}

/// The spans of a document that are marked as code, outside of its fenced blocks.
fn spans(document: &str) -> Vec<&str> {
    let text = document.split("\n```").step_by(2);
    text.flat_map(|part| part.split('`').skip(1).step_by(2))
        .collect()
}

/// The tier files of a document. A block without a share shows some keys of the first one that has it, or else of
/// README's: they are put in there.
fn tier_files(document: &str) -> Vec<String> {
    let is_toml = |block: &&(&str, &str)| block.0 == "toml";
    let all = [blocks(document), blocks(READMES[0].1)].concat();
    let whole = all
        .iter()
        .filter(is_toml)
        .find(|(_, text)| text.contains("[share]"));
    let (_, whole) = whole.expect("README shows a tier file");
    let own = blocks(document);
    let texts = own.iter().filter(is_toml);
    texts
        .map(|(_, text)| match text.contains("[share]") {
            true => (*text).to_owned(),
            false => put_in(whole, text),
        })
        .collect()
}

fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    Some(key.trim())
}

/// A tier file with the keys of a fragment, each in its section.
fn put_in(whole: &str, fragment: &str) -> String {
    let mut text = whole.to_owned();
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in fragment.lines() {
        match (line.starts_with('['), sections.last_mut()) {
            (true, _) => sections.push((line.split('#').next().unwrap().trim(), Vec::new())),
            (false, Some((_, lines))) => lines.push(line),
            (false, None) => assert!(line.is_empty(), "{line} is in no section"),
        }
    }
    for (header, lines) in sections {
        let keys: BTreeSet<&str> = lines.iter().filter_map(|line| key(line)).collect();
        let (mut put, mut within) = (String::new(), false);
        let mut is_there = false;
        for line in text.lines() {
            if line.starts_with('[') {
                within = line.split('#').next().unwrap().trim() == header;
            }
            if within && key(line).is_some_and(|key| keys.contains(key)) {
                continue;
            }
            put.push_str(line);
            put.push('\n');
            if within && line.starts_with('[') {
                is_there = true;
                put.push_str(&lines.join("\n"));
                put.push('\n');
            }
        }
        if !is_there {
            put.push_str(&format!("{header}\n{}\n", lines.join("\n")));
        }
        text = put;
    }
    text
}

/// The faults of a tier file whose password files are there.
fn check(text: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    for rest in text.split(PASSWORDS).skip(1) {
        write(rest.split('"').next().unwrap(), "a password\n");
    }
    let here = format!("{}/", directory.path().display());
    let text = text.replace(PASSWORDS, &here);
    let tier = write("tier.toml", &text);
    let loaded = config::load(&tier, None);
    config::schema_tests::agrees(&text, loaded.as_ref().map(|_| ()));
    loaded.map(drop).map_err(|faults| faults.to_string())
}

#[test]
fn every_tier_file_in_the_documents_has_no_fault() {
    for (name, document) in documents() {
        let files = tier_files(document);
        let shows_one = READMES.iter().any(|(readme, _)| *readme == name) || name.ends_with(".5");
        assert!(!shows_one || !files.is_empty(), "{name} shows no tier file");
        for text in files {
            check(&text).unwrap_or_else(|faults| panic!("{name}: {faults}\n{text}"));
        }
    }
}

/// The words of a command line; `None` if it runs another program.
fn words(line: &str) -> Option<Vec<&str>> {
    // A comment, what is done with the output.
    let command = line.split(" #").next()?.split(['|', '>']).next()?.trim();
    let command = command.trim_start_matches("$ ").trim_start_matches("sudo ");
    let words: Vec<&str> = command.split_whitespace().collect();
    (words.first() == Some(&"wasagent") && words.len() > 1).then_some(words)
}

/// The command lines that a document has an operator type.
fn typed(document: &str) -> Vec<Vec<&str>> {
    let blocks = blocks(document);
    let scripts = blocks.iter().filter(|(kind, _)| *kind != "toml");
    scripts
        .flat_map(|(_, text)| text.lines().filter_map(words))
        .collect()
}

/// The commands that a document mentions: `wasagent plan --adopt`, or `plan --adopt` alone.
fn mentioned(document: &str) -> Vec<Vec<&str>> {
    let commands: BTreeSet<String> = {
        use clap::CommandFactory;
        let all = Arguments::command();
        all.get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect()
    };
    let parse = |span| {
        let words: Vec<&str> = str::split_whitespace(span).collect();
        match words[..] {
            ["wasagent", _, ..] => self::words(span),
            [command, option, ..] if commands.contains(command) && option.starts_with('-') => {
                Some([&["wasagent"], &words[..]].concat())
            }
            _ => None,
        }
    };
    spans(document).into_iter().filter_map(parse).collect()
}

#[test]
fn every_command_in_the_documents_is_one() {
    for (name, document) in documents() {
        let commands = typed(document);
        let shows_some = READMES.iter().any(|(readme, _)| *readme == name);
        assert!(
            !shows_some || !commands.is_empty(),
            "{name} shows no command"
        );
        for words in commands {
            let parsed = Arguments::try_parse_from(&words);
            let parsed = parsed.unwrap_or_else(|wrong| panic!("{name}: {words:?}: {wrong}"));
            let hidden = matches!(
                parsed.command,
                Command::BootUnit
                    | Command::BackOff { .. }
                    | Command::KeepPorts { .. }
                    | Command::SeesShare { .. }
                    | Command::StartLock { .. }
            );
            assert!(!hidden, "{name}: {words:?} is for units, not for people");
        }
        for words in mentioned(document) {
            match Arguments::try_parse_from(&words) {
                Ok(_) => {}
                // What a unit runs is mentioned by its name alone.
                Err(wrong) if wrong.kind() == ErrorKind::MissingRequiredArgument => {}
                Err(wrong) => panic!("{name}: {words:?}: {wrong}"),
            }
        }
    }
}

#[test]
fn what_a_document_shows_is_found() {
    let document = "Run `wasagent plan --all`, or `apply --wait\n5m`.\n\n```toml\n[share]\nname = \"a\" # x\n\n\
                    [was]\nx = 1\n```\n\n```\nwasagent apply --role was   # why\nls\n```\n`y`\n\n\
                    ```toml\n[share]   # again\nname = \"b\"\n[was.container]\ny = 2\n```\n";
    let files = tier_files(document);
    assert_eq!(files.len(), 2);
    let put = put_in(&files[0], "[was] # z\nx = 2\n\n[was.container]\ny = 2\n");
    assert_eq!(
        put,
        "[share]\nname = \"a\" # x\n\n[was]\nx = 2\n\n[was.container]\ny = 2\n"
    );
    assert_eq!(typed(document), [["wasagent", "apply", "--role", "was"]]);
    let all = [
        vec!["wasagent", "plan", "--all"],
        vec!["wasagent", "apply", "--wait", "5m"],
    ];
    assert_eq!(mentioned(document), all);
}
