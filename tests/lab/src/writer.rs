//! A client that goes on writing to the share, and notices each write that fails.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::process::until;
use crate::tier::SHARE_PASSWORD;

const CREDENTIALS: &str = "/root/share.auth";

/// One connection, over which one file after the other is written until the file `stop` appears. Each line that does not
/// tell of a file that was put is one that a user would have noticed.
const SESSION: &str = r#"
rm -rf /root/writer && mkdir -p /root/writer && cd /root/writer
head -c 65536 /dev/urandom >block
(
    n=0
    while [ ! -e stop ]; do
        n=$((n + 1))
        echo "put block written-$n"
        sleep 0.2
    done
    echo quit
) | smbclient "$1" --authentication-file=/root/share.auth --client-protection=encrypt >log 2>&1
echo $? >end
"#;

/// A client that writes from one guest to the share of another, or of its own.
pub struct Writer<'a> {
    client: &'a Guest,
}

impl<'a> Writer<'a> {
    /// Begins to write, and comes back when the first files are there.
    pub fn start(client: &'a Guest, storage: &Guest) -> Result<Writer<'a>> {
        client.write(
            CREDENTIALS,
            format!("username = user1\npassword = {SHARE_PASSWORD}\n"),
            0o600,
        )?;
        client.write("/root/writer.sh", SESSION, 0o755)?;
        let share = format!("//{}/user1", storage.address());
        client.ok([
            "systemd-run",
            "--quiet",
            "--collect",
            "--unit=writer",
            "sh",
            "/root/writer.sh",
            &share,
        ])?;
        let writer = Writer { client };
        writer.goes_on(Duration::from_secs(60))?;
        Ok(writer)
    }

    fn written(&self) -> Result<usize> {
        let log = self.client.run(["cat", "/root/writer/log"])?;
        Ok(log.stdout.matches("putting file").count())
    }

    /// Waits until three more files were written than now.
    pub fn goes_on(&self, limit: Duration) -> Result<()> {
        let before = self.written()?;
        until("a client that writes", limit, || {
            Ok((self.written()? >= before + 3).then_some(()))
        })
    }

    /// Ends it. No write failed, and each file is on the storage guest as it was written; returns how many.
    pub fn end(self, storage: &Guest) -> Result<usize> {
        self.client.ok(["touch", "/root/writer/stop"])?;
        until("the end of the client", Duration::from_secs(60), || {
            let end = self.client.run(["cat", "/root/writer/end"])?;
            Ok(end.success().then_some(()))
        })?;
        let log = self.client.answer(["cat", "/root/writer/log"])?;
        let end = self.client.answer(["cat", "/root/writer/end"])?;
        let odd: Vec<&str> = log
            .lines()
            .filter(|line| !line.contains("putting file") && !line.starts_with("Try \"help\""))
            .filter(|line| !line.trim().is_empty())
            .collect();
        ensure!(
            end == "0" && odd.is_empty(),
            "the client ended with {end}: {odd:#?}"
        );
        let written = self.written()?;
        let block = self.client.answer(["sha256sum", "/root/writer/block"])?;
        let block = block.split_whitespace().next().unwrap_or_default();
        let sums = storage.answer(["sh", "-c", "sha256sum /mnt/data/shared_folder/written-*"])?;
        let whole = sums.lines().filter(|line| line.starts_with(block)).count();
        ensure!(whole == written, "{whole} of {written} files are whole");
        Ok(written)
    }
}
