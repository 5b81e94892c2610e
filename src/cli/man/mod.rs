//! `wasagent man`: the man pages. The prose is in packaging/man, in a small part of Markdown. What the program knows
//! itself, such as options and keys, is put in from where it is defined, so that it cannot be told wrong.

mod generated;
mod page;
mod roff;
pub mod subject;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};

use super::exit::{self, Code};
use super::output::Output;
use super::{Arguments, Failure};
use crate::error::{Doing, Error, Result};

/// Which page, and where to.
#[derive(Debug, Args)]
pub struct Options {
    /// A command, `tier.toml`, `share`, `disk`, `content`, `container` or `journal`
    #[arg(value_name = "PAGE", default_value = "wasagent")]
    page: String,
    /// Write all pages below this directory, as man8/wasagent.8 and so on
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "page")]
    directory: Option<PathBuf>,
}

/// A page of the manual.
pub struct Page {
    /// `wasagent-apply`
    pub name: String,
    /// 5 for files, 7 for subjects, 8 for commands.
    pub section: u8,
    /// In Markdown; the first line has the name and what the page is about.
    pub prose: String,
}

macro_rules! prose {
    ($($file:literal)*) => {
        /// The pages that are written by hand, by file name.
        pub const PROSE: &[(&str, &str)] = &[
            $(($file, include_str!(concat!("../../../packaging/man/", $file, ".md")))),*
        ];
    };
}

prose! {
    "wasagent.8" "wasagent-apply.8" "wasagent-plan.8" "wasagent-health.8" "wasagent-revert.8" "wasagent-history.8"
    "wasagent-check.8" "wasagent-userdata.8" "wasagent-schema.8" "wasagent-man.8" "wasagent-completions.8"
    "wasagent-tier.toml.5"
    "wasagent-share.7" "wasagent-disk.7" "wasagent-content.7" "wasagent-container.7" "wasagent-journal.7"
}

pub fn run(options: &Options, output: &Output) -> Result<Code, Failure> {
    if let Some(directory) = &options.directory {
        for page in pages() {
            write(directory, &page)?;
        }
        return Ok(exit::DONE);
    }
    let wanted = options.page.trim_start_matches("wasagent-");
    let found = pages().into_iter().find(|page| page.short_name() == wanted);
    let page = found.ok_or_else(|| unknown(wanted))?;
    output.line(page.roff().trim_end());
    Ok(exit::DONE)
}

fn unknown(wanted: &str) -> Failure {
    let names: Vec<String> = pages()
        .iter()
        .map(|page| page.short_name().to_owned())
        .collect();
    Failure {
        code: exit::USAGE,
        error: Some(
            Error::new(format!("there is no page {wanted}"))
                .hint(format!("the pages are: {}", names.join(", "))),
        ),
    }
}

fn write(directory: &Path, page: &Page) -> Result<()> {
    let directory = directory.join(format!("man{}", page.section));
    let file = directory.join(format!("{}.{}", page.name, page.section));
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&file, page.roff()))
        .doing(format!("write {}", file.display()))
}

/// All pages: those with prose, and a page for each other command.
pub fn pages() -> Vec<Page> {
    let mut pages: Vec<Page> = PROSE
        .iter()
        .filter_map(|(file, prose)| Page::of(file, prose))
        .collect();
    for command in Arguments::command()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        let name = format!("wasagent-{}", command.get_name());
        if !pages.iter().any(|page| page.name == name) {
            let about = command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            let prose =
                format!("# {name} - {about}\n\n{{options}}\n\n## See also\n\nwasagent(8)\n");
            pages.push(Page {
                name,
                section: 8,
                prose,
            });
        }
    }
    pages
}

impl Page {
    fn of(file: &str, prose: &str) -> Option<Self> {
        let (name, section) = file.rsplit_once('.')?;
        Some(Self {
            name: name.to_owned(),
            section: section.parse().ok()?,
            prose: prose.to_owned(),
        })
    }

    /// What an operator types: `apply`.
    fn short_name(&self) -> &str {
        self.name.trim_start_matches("wasagent-")
    }

    pub fn roff(&self) -> String {
        page::roff(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_file_of_prose_is_one() {
        let all = pages();
        let has = |name: &str| all.iter().any(|page| page.name == name);
        for command in Arguments::command()
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            assert!(
                has(&format!("wasagent-{}", command.get_name())),
                "{}",
                command.get_name()
            );
        }
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man");
        for entry in fs::read_dir(sources).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let name = file.strip_suffix(".md").unwrap();
            assert!(
                PROSE.iter().any(|(known, _)| *known == name),
                "{file} is in no manual"
            );
        }
    }

    /// A page that another one names is there, if it is one of ours.
    #[test]
    fn what_is_referred_to_is_a_page() {
        let all = pages();
        for page in &all {
            for (at, _) in page.prose.match_indices("wasagent") {
                let word = page.prose[at..]
                    .split(|c: char| c.is_whitespace() || ",;:`".contains(c))
                    .next()
                    .unwrap();
                let Some((name, rest)) = word.split_once('(') else {
                    continue;
                };
                let section = rest.split(')').next().unwrap();
                let is_there = all
                    .iter()
                    .any(|other| other.name == name && other.section.to_string() == section);
                assert!(is_there, "{} refers to {word}", page.name);
            }
        }
    }

    /// As man(1) shows it: examples are not broken into lines, and have a margin of 7.
    #[test]
    fn every_example_fits_80_columns() {
        for page in pages() {
            // Its addresses and checksums are longer.
            if page.name == "wasagent-userdata" {
                continue;
            }
            for example in page.prose.split("\n```").skip(1).step_by(2) {
                let wide = example.lines().find(|line| line.chars().count() > 73);
                assert_eq!(wide, None, "{}", page.name);
            }
        }
    }

    #[test]
    fn no_page_has_an_unknown_mark_or_a_line_that_roff_would_obey() {
        for page in pages() {
            let roff = page.roff();
            // What roff() took for text. It sees by itself a backtick or star that is not closed.
            let mark = roff.lines().find(|line| {
                let name = line
                    .strip_prefix('{')
                    .and_then(|line| line.strip_suffix('}'));
                name.is_some_and(|name| name.chars().all(|c| c.is_ascii_lowercase()))
            });
            assert_eq!(mark, None, "{}", page.name);
            for line in roff.lines().filter(|line| line.starts_with(['.', '\''])) {
                let request = line[1..].split(' ').next().unwrap();
                let known = ["TH", "SH", "SS", "PP", "TP", "IP", "EX", "EE", "br"];
                assert!(known.contains(&request), "{}: {line}", page.name);
            }
        }
    }
}
