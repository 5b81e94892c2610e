//! Reads a page's Markdown: headings, paragraphs, lists, tables of two columns, fenced blocks, and marks such as
//! `{options}` on a line of their own.

use std::time::{Duration, UNIX_EPOCH};

use super::Page;
use super::generated;
use super::roff::Roff;

/// When the sources were last changed, in seconds since 1970: who builds a package says so
/// (<https://reproducible-builds.org/specs/source-date-epoch/>). A program that was built by hand has pages without a date.
const EPOCH: Option<&str> = option_env!("SOURCE_DATE_EPOCH");

/// The page as man(1) reads it.
pub fn roff(page: &Page) -> String {
    let date = EPOCH.and_then(day).unwrap_or_default();
    let mut roff = Roff::new(&page.name, page.section, &date, env!("CARGO_PKG_VERSION"));
    let (title, body) = page.prose.split_once('\n').unwrap_or((&page.prose, ""));
    roff.section("Name");
    roff.paragraph(title.trim_start_matches("# "));
    generated::synopsis(&page.name, &mut roff);
    let mut writer = Writer { page, roff };
    for block in blocks(body) {
        writer.block(&block);
    }
    writer.roff.finish()
}

/// The day, as YYYY-MM-DD.
fn day(epoch: &str) -> Option<String> {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(epoch.parse().ok()?))?;
    let mut text = humantime::format_rfc3339_seconds(time).to_string();
    text.truncate("2026-11-29".len());
    Some(text)
}

/// What stands between empty lines. A fenced block is one, whatever is in it.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let (mut fenced, mut goes_on) = (false, false);
    for line in text.lines() {
        let fence = line.starts_with("```");
        if line.is_empty() && !fenced {
            goes_on = false;
            continue;
        }
        match blocks.last_mut().filter(|_| goes_on) {
            Some(block) => {
                block.push('\n');
                block.push_str(line);
            }
            None => blocks.push(line.to_owned()),
        }
        goes_on = true;
        fenced ^= fence;
    }
    blocks
}

struct Writer<'p> {
    page: &'p Page,
    roff: Roff,
}

impl Writer<'_> {
    fn block(&mut self, block: &str) {
        if let Some(heading) = block.strip_prefix("### ") {
            self.roff.subsection(heading);
        } else if let Some(heading) = block.strip_prefix("## ") {
            self.roff.section(heading);
        } else if let Some(rest) = block.strip_prefix("```") {
            let lines = rest.split_once('\n').map_or("", |(_, lines)| lines);
            self.roff.example(lines.trim_end_matches("```"));
        } else if block.starts_with("- ") {
            for item in items(block) {
                self.roff.bullet(&item);
            }
        } else if block.starts_with('|') {
            for (what, text) in rows(block) {
                self.roff.item(&what, &text);
            }
        } else if !generated::put_in(block, &self.page.name, &mut self.roff) {
            self.roff.paragraph(block);
        }
    }
}

/// The items of a list.
fn items(block: &str) -> Vec<String> {
    let text = format!("\n{block}");
    let items = text.split("\n- ").skip(1);
    items.map(|item| item.replace("\n  ", "\n")).collect()
}

/// The rows of a table, without its head. A sentence in a cell gets the full stop that it has in a page.
fn rows(block: &str) -> Vec<(String, String)> {
    let rows = block.lines().skip(2).map(cells);
    rows.filter_map(|cells| {
        let mut cells = cells.into_iter();
        Some((cells.next()?, ended(cells.next()?)))
    })
    .collect()
}

fn ended(text: String) -> String {
    let ends_in_code = text.ends_with('`') && !text.contains(". ");
    let is_sentence =
        text.starts_with(|c: char| c.is_uppercase() || c == '`') || text.contains(". ");
    if is_sentence && !ends_in_code && !text.ends_with(['.', ':']) {
        return text + ".";
    }
    text
}

/// The cells of a row. A bar in a cell is written `\|`.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    let row = row.replace("\\|", "\0");
    row.split('|')
        .map(|cell| cell.trim().replace('\0', "|"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_ends_with_a_full_stop() {
        for (cell, shown) in [
            ("It goes", "It goes."),
            ("`plan` only: it goes", "`plan` only: it goes."),
            ("`a` goes. It goes on", "`a` goes. It goes on."),
            ("It runs. Type `b`", "It runs. Type `b`."),
            ("It goes:", "It goes:"),
            ("`a` or `b`", "`a` or `b`"),
            ("the number", "the number"),
        ] {
            assert_eq!(ended(cell.to_owned()), shown);
        }
    }

    #[test]
    fn the_date_is_that_of_the_sources() {
        assert_eq!(day("1795910400").as_deref(), Some("2026-11-29"));
        assert_eq!(day("not a number"), None);
    }

    #[test]
    fn a_page_is_read_block_by_block() {
        let text = "\n## A b\n\nx\ny\n\nz\n\n- one\n  more\n- two\n\n| k | v |\n| --- | --- |\n| `a\\|b` | c |\n\n```\n1\n\n2\n```\n";
        let page = Page {
            name: "other".to_owned(),
            section: 7,
            prose: format!("# other - about\n{text}"),
        };
        let roff = roff(&page);
        let (_, below) = roff.split_once(".SH \"A B\"\n").unwrap();
        assert_eq!(
            below,
            "x\ny\n.PP\nz\n.IP \\(bu 2\none\nmore\n.IP \\(bu 2\ntwo\n.TP\n\\fBa|b\\fR\nc\n.PP\n.EX\n1\n\n2\n.EE\n"
        );
    }
}
