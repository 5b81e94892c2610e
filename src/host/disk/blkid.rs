//! What blkid(8) says of a device.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long blkid may take.
const HELPER_DEADLINE: Duration = Duration::from_secs(10);

/// What `blkid` calls the contents of a device. `None` when blkid is not installed, is too slow, or
/// does not recognise them.
pub(super) fn name(device: &Path) -> Option<String> {
    in_words(&ask(device)?.1)
}

/// blkid(8)'s exit code and output. The code is 0 when blkid recognises the contents, 2 when it
/// recognises nothing, and 8 when it finds several things at once.
pub(super) fn ask(device: &Path) -> Option<(i32, String)> {
    let program = ["/usr/sbin/blkid", "/sbin/blkid", "/usr/bin/blkid"]
        .into_iter()
        .find(|program| Path::new(program).exists())?;
    let mut child = Command::new(program)
        .args(["-p", "-o", "export"])
        .arg(device)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let end = Instant::now() + HELPER_DEADLINE;
    // The output is a few lines, which fit into the pipe while blkid runs.
    let status = loop {
        if let Some(status) = child.try_wait().ok()? {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut answer = String::new();
    child.stdout.take()?.read_to_string(&mut answer).ok()?;
    Some((status.code()?, answer))
}

fn in_words(answer: &str) -> Option<String> {
    let values: BTreeMap<&str, &str> = answer
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let label = values
        .get("LABEL")
        .map_or(String::new(), |label| format!(" labelled {label}"));
    match (
        values.get("TYPE"),
        values.get("USAGE"),
        values.get("PTTYPE"),
    ) {
        (Some(kind), Some(&"filesystem"), _) => Some(format!("{kind} file system{label}")),
        (Some(kind), _, _) => Some(format!("{kind}{label}")),
        (None, _, Some(table)) => Some(format!("partition table ({table})")),
        (None, _, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helpers_say_is_put_in_words() {
        let said = in_words("DEVNAME=/dev/vdb\nTYPE=LVM2_member\nUSAGE=raid\n");
        assert_eq!(said.as_deref(), Some("LVM2_member"));
        let said = in_words("LABEL=old\nTYPE=btrfs\nUSAGE=filesystem\n");
        assert_eq!(said.as_deref(), Some("btrfs file system labelled old"));
        let said = in_words("DEVNAME=/dev/vdb\nPTTYPE=gpt\n");
        assert_eq!(said.as_deref(), Some("partition table (gpt)"));
        assert_eq!(in_words(""), None);
    }
}
