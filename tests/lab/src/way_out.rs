//! An operator who types what an error tells to do.

use anyhow::{Context, Result};

use crate::guest::Guest;
use crate::process::Output;

/// Does what the first hint that says so tells to do: runs a command, removes a file, takes a line out of one.
pub fn take(guest: &Guest, refused: &Output) -> Result<()> {
    let mut hints = refused.stderr.lines().filter_map(hint);
    let lines = hints.find_map(|hint| Some(lines_of(hint)).filter(|lines| !lines.is_empty()));
    let lines = lines.with_context(|| format!("no way out: {refused}"))?;
    lines
        .iter()
        .try_for_each(|line| guest.shell(line).map(drop))
}

fn hint(line: &str) -> Option<&str> {
    let (_, hint) = line.split_once("hint: ")?;
    Some(hint.strip_prefix("keep one of them: ").unwrap_or(hint))
}

/// What is to be done, as lines of sh(1).
fn lines_of(hint: &str) -> Vec<String> {
    let (hint, _) = hint.split_once(", and apply again").unwrap_or((hint, ""));
    let parts = hint.split(", ").map(|part| part.trim_start_matches("and "));
    let line = |part: &str| {
        let rest = |words: &str| part.strip_prefix(words);
        let command = rest("run: ").map(str::to_owned);
        let remove = || rest("remove ").map(|file| format!("rm {file}"));
        let take = |file| format!("sed -i -E '/podman|opt|systemctl/d' {file}");
        let take = || rest("take its line out of ").map(take);
        command.or_else(remove).or_else(take)
    };
    parts.filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_out_is_a_line_of_shell() {
        for (said, wanted) in [
            ("error: x", None),
            (
                "hint: run: systemctl unmask smbd.service",
                Some(vec!["systemctl unmask smbd.service"]),
            ),
            (
                "hint: run: cp a b, and apply again; or move it",
                Some(vec!["cp a b"]),
            ),
            (
                "hint: keep one of them: run: systemctl disable x, and remove /etc/x, and apply again; or name it otherwise",
                Some(vec!["systemctl disable x", "rm /etc/x"]),
            ),
            (
                "hint: keep one of them: take its line out of /etc/cron.d/web, and apply again",
                Some(vec!["sed -i -E '/podman|opt|systemctl/d' /etc/cron.d/web"]),
            ),
            ("hint: attach the disk", Some(vec![])),
        ] {
            let lines = hint(said).map(lines_of);
            let wanted = wanted.map(|lines| lines.into_iter().map(str::to_owned).collect());
            assert_eq!(lines, wanted, "{said}");
        }
    }
}
