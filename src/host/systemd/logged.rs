//! What systemd's journal has of a unit or a container, for the error that reaches the operator.

use std::time::{Duration, SystemTime};

use crate::host::process::Helper;

/// The lines of a failed unit's journal that reach the operator.
const JOURNAL_LINES: &str = "5";

/// Among how many of its last lines an error is looked for.
const LOOKED_AT_LINES: &str = "100";

/// How many of them are told where none begins as an error.
const TOLD_LINES: usize = 5;

/// Those of a unit that ran a program of others, which may have more to say.
const PRINTED_LINES: &str = "12";

/// The last lines that the processes of a unit printed, without what systemd says of the unit.
pub(super) async fn printed(unit: &str) -> String {
    sync().await;
    quoted(&logged(&[&format!("_SYSTEMD_UNIT={unit}")], PRINTED_LINES).await)
}

/// The last lines that a container of this name logged since then, as podman hands them to journald.
pub async fn printed_by_container(name: &str, begun: SystemTime) -> String {
    sync().await;
    let matches = [&since(begun), &format!("CONTAINER_NAME={name}")];
    quoted(&logged(&matches.map(String::as_str), PRINTED_LINES).await)
}

/// What the processes of a unit said in a job that failed, the errors among it alone if there are any; what systemd said
/// where they kept silent.
pub(super) async fn why_it_failed(unit: &str, begun: SystemTime) -> String {
    sync().await;
    let matches = [&since(begun), &format!("_SYSTEMD_UNIT={unit}")];
    let own = logged(&matches.map(String::as_str), LOOKED_AT_LINES).await;
    if own.is_empty() {
        return quoted(&logged(&["--unit", unit], JOURNAL_LINES).await);
    }
    quoted(worth_telling(&own))
}

/// The errors among lines, as programs begin them; the last lines where none begins so.
fn worth_telling(lines: &[String]) -> &[String] {
    let is_error = |line: &String| line.to_lowercase().starts_with("error");
    let last = lines.iter().rposition(is_error);
    // What comes after an error is often its hint, and then the end of all.
    let (first, end) = match last {
        Some(last) => (last, (last + 2).min(lines.len())),
        None => (lines.len().saturating_sub(TOLD_LINES), lines.len()),
    };
    &lines[first..end]
}

/// A pipe to journald may still hold some of what was printed (journalctl(1), --sync).
async fn sync() {
    let _ = Helper::new("journalctl").args(["--sync"]).run().await;
}

fn since(begun: SystemTime) -> String {
    let seconds = begun
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    format!("--since=@{seconds}")
}

/// The last lines of systemd's journal that match.
async fn logged(matches: &[&str], most: &str) -> Vec<String> {
    let lines = Helper::new("journalctl")
        .args(["--no-pager", "--quiet", "--output=cat", "--lines", most])
        .args(matches)
        .deadline(Duration::from_secs(10))
        .run()
        .await
        .unwrap_or_default();
    let lines = String::from_utf8_lossy(&lines);
    let lines = lines.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// For an error. Empty where there are none.
fn quoted(lines: &[String]) -> String {
    if lines.is_empty() {
        String::new()
    } else {
        format!("; it logged: {}", lines.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_unit_printed_its_error_is_told() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let podman = lines(
            "container create 1\nError: crun: no such program\ncontainer remove 1\nnodejs-server",
        );
        assert_eq!(worth_telling(&podman), &podman[1..3]);
        let own = lines("error: the container sees /dev/vda\nhint: it starts anew");
        assert_eq!(worth_telling(&own), &own[..]);
        let plain = lines("1\n2\n3\n4\n5\n6");
        assert_eq!(worth_telling(&plain), &plain[1..]);
        assert!(worth_telling(&[]).is_empty());
    }
}
