//! What systemd's journal holds about a unit or a container, for the operator's error message.

use std::time::{Duration, SystemTime};

use crate::host::process::Helper;

/// How many lines of a failed unit's journal are shown to the operator if its processes logged nothing.
const JOURNAL_LINES: &str = "5";

/// How many of a unit's last lines are searched for an error.
const LOOKED_AT_LINES: &str = "100";

/// How many of these lines are shown if none begins as an error.
const TOLD_LINES: usize = 5;

/// How many lines are shown of a unit that ran somebody else's program, which may have more to say.
const PRINTED_LINES: &str = "12";

/// The last lines that the processes of one run of a unit printed, without systemd's own lines about
/// it, nor those of an earlier run. `invocation` is the run's ID.
pub(super) async fn printed(invocation: &[u8]) -> String {
    if invocation.is_empty() {
        return String::new();
    }
    sync().await;
    let run = invocation.iter().map(|byte| format!("{byte:02x}"));
    let matched = format!("_SYSTEMD_INVOCATION_ID={}", run.collect::<String>());
    quoted(&logged(&[&matched], PRINTED_LINES).await)
}

/// The last lines that a container of this name logged since `begun`, as podman hands them to journald.
pub async fn printed_by_container(name: &str, begun: SystemTime) -> String {
    sync().await;
    let matches = [&since(begun), &format!("CONTAINER_NAME={name}")];
    quoted(&logged(&matches.map(String::as_str), PRINTED_LINES).await)
}

/// What the processes of a unit logged in a failed job, reduced to the error if there is one. If they logged nothing,
/// what systemd logged about the unit.
pub(super) async fn why_it_failed(unit: &str, begun: SystemTime) -> String {
    sync().await;
    let matches = [&since(begun), &format!("_SYSTEMD_UNIT={unit}")];
    let own = logged(&matches.map(String::as_str), LOOKED_AT_LINES).await;
    if own.is_empty() {
        return quoted(&logged(&["--unit", unit], JOURNAL_LINES).await);
    }
    quoted(worth_telling(&own))
}

/// The last line that begins with `error`, and the line after it; the last lines if there is no such line.
fn worth_telling(lines: &[String]) -> &[String] {
    let is_error = |line: &String| line.to_lowercase().starts_with("error");
    let last = lines.iter().rposition(is_error);
    // The line after an error is often its hint. The lines after that only report the end.
    let (first, end) = match last {
        Some(last) => (last, (last + 2).min(lines.len())),
        None => (lines.len().saturating_sub(TOLD_LINES), lines.len()),
    };
    &lines[first..end]
}

/// Waits for output that may still be in a pipe to journald (journalctl(1), --sync).
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

/// The lines as the tail of an error message; empty if there are none.
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
