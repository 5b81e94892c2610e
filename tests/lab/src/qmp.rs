//! QEMU's control protocol: one JSON object a line over a Unix socket (QEMU: docs/interop/qmp-spec.txt).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process::until;

#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Connects to a QEMU that has just been started; `alive` says why waiting longer is useless.
    pub fn connect(socket: &Path, mut alive: impl FnMut() -> Result<()>) -> Result<Qmp> {
        let writer = until("QEMU's control socket", Duration::from_secs(30), || {
            alive()?;
            Ok(UnixStream::connect(socket).ok())
        })?;
        writer.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut qmp = Qmp {
            reader: BufReader::new(writer.try_clone()?),
            writer,
        };
        qmp.line()?; // the greeting
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and gives back what it returned; events in between are skipped.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}").with_context(|| format!("ask QEMU to {command}"))?;
        loop {
            let answer = self
                .line()
                .with_context(|| format!("QEMU's answer to {command}"))?;
            if let Some(error) = answer.get("error") {
                bail!(
                    "QEMU refused {command}: {}",
                    error["desc"].as_str().unwrap_or("no reason given")
                );
            }
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
        }
    }

    /// Gives a command to the monitor for people, where the protocol has none as simple; whatever it answers is an error.
    pub fn monitor(&mut self, line: &str) -> Result<()> {
        let said = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        match said.as_str().map(str::trim) {
            None | Some("") => Ok(()),
            Some(error) => bail!("QEMU on {line}: {error}"),
        }
    }

    /// Waits for a migration to end: to a file, or from one.
    pub fn finish_migration(&mut self) -> Result<()> {
        until("the end of the migration", Duration::from_secs(300), || {
            let state = self.execute("query-migrate", json!({}))?;
            match state["status"].as_str() {
                Some("completed") => Ok(Some(())),
                Some("failed") => bail!(
                    "the migration failed: {}",
                    state["error-desc"].as_str().unwrap_or("no reason given")
                ),
                _ => Ok(None),
            }
        })
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("QEMU closed its control socket");
        }
        Ok(serde_json::from_str(&line)?)
    }
}
