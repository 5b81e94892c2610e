//! Helper programs, where a service has no API: found in fixed places, started without a shell and
//! with an empty environment, given secrets on standard input, and given up at a deadline.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::error::{Doing, Error, Result};

/// Where programs are looked for. The caller's `PATH` is not trusted: we run as root.
const PROGRAM_DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How many lines of a failed helper's standard error reach the operator.
const LAST_LINES: usize = 4;

/// The program `name` in the system's own directories, if it is installed.
pub fn find_program(name: &str) -> Option<PathBuf> {
    PROGRAM_DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file())
}

/// One run of a helper program.
pub struct Helper<'a> {
    program: &'a str,
    arguments: Vec<OsString>,
    stdin: Option<&'a [u8]>,
    deadline: Duration,
}

/// What a helper printed, and whether it exited with 0.
pub struct Output {
    pub success: bool,
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub exit: String,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl<'a> Helper<'a> {
    /// `program` is a bare name; the deadline is one minute until said otherwise.
    pub fn new(program: &'a str) -> Self {
        Self {
            program,
            arguments: Vec::new(),
            stdin: None,
            deadline: Duration::from_secs(60),
        }
    }

    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// What the helper reads: the only way a secret reaches one.
    #[must_use]
    pub fn stdin(mut self, bytes: &'a [u8]) -> Self {
        self.stdin = Some(bytes);
        self
    }

    /// After this the helper is killed and the run is an error.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs the helper and returns what came back, whatever its exit code.
    pub async fn output(self) -> Result<Output> {
        let path = find_program(self.program)
            .ok_or_else(|| Error::new(format!("{} is not installed", self.program)))?;
        tracing::debug!(program = self.program, arguments = ?self.arguments, "helper");
        let mut child = tokio::process::Command::new(path)
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PROGRAM_DIRECTORIES.join(":"))
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/root")
            .current_dir("/")
            .stdin(if self.stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // No helper asks a question, and none is hit by the Ctrl-C that asks us to stop: a step at
            // hand is finished.
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("SSH_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .doing(format_args!("start {}", self.program))?;

        let stdin = child.stdin.take().zip(self.stdin);
        let feed = async move {
            if let Some((mut pipe, bytes)) = stdin {
                // A helper that fails early closes its end: its exit code tells why.
                let _ = pipe.write_all(bytes).await;
            }
        };
        let run = async {
            let (output, ()) = tokio::join!(child.wait_with_output(), feed);
            output
        };
        let output = tokio::time::timeout(self.deadline, run)
            .await
            .map_err(|_| {
                Error::new(format!(
                    "{} gave no result within {} s and was killed",
                    self.program,
                    self.deadline.as_secs()
                ))
            })?
            .doing(format_args!("run {}", self.program))?;
        Ok(Output {
            success: output.status.success(),
            code: output.status.code(),
            exit: output.status.to_string(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs the helper and returns its standard output; anything but exit code 0 is an error with
    /// the last lines of what it said.
    pub async fn run(self) -> Result<Vec<u8>> {
        let program = self.program;
        let output = self.output().await?;
        if output.success {
            return Ok(output.stdout);
        }
        let said = if output.stderr.trim().is_empty() {
            String::from_utf8_lossy(&output.stdout).into_owned()
        } else {
            output.stderr
        };
        Err(Error::new(format!(
            "{program}: {}: {}",
            output.exit,
            last_lines(&said)
        )))
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_carries_the_last_words() {
        let error = Helper::new("ls")
            .args(["/no/such/place"])
            .run()
            .await
            .unwrap_err();
        assert!(error.message.contains("No such file"), "{error}");
    }

    #[tokio::test]
    async fn stdin_reaches_the_helper_and_its_output_comes_back() {
        let out = Helper::new("cat").stdin(b"secret").run().await.unwrap();
        assert_eq!(out, b"secret");
    }

    #[tokio::test]
    async fn a_silent_helper_is_given_up() {
        let error = Helper::new("sleep")
            .args(["30"])
            .deadline(Duration::from_millis(50))
            .run()
            .await
            .unwrap_err();
        assert!(error.message.contains("was killed"), "{error}");
    }

    #[test]
    fn last_lines_skips_blanks() {
        assert_eq!(last_lines("a\n\nb\nc\nd\ne\n"), "b; c; d; e");
    }
}
