//! Helper programs, for services without an API. A helper is found in fixed places, started without
//! a shell and with an empty environment, given secrets on standard input, and killed at a
//! deadline. A helper that changes something holds the lock of the run as long as it lives.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdout};

use super::blocking;
use crate::error::{Doing, Error, Result};

/// Where programs are looked for. The caller's `PATH` is not trusted: the agent runs as root.
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

/// The lock of the run.
static LOCK: OnceLock<OwnedFd> = OnceLock::new();

/// Hands the lock of the run on to every helper that [changes](Helper::changes) something.
///
/// # Errors
/// When the descriptor cannot be duplicated.
pub fn hand_on(lock: impl AsFd) -> std::io::Result<()> {
    let lock = lock.as_fd().try_clone_to_owned()?;
    let _ = LOCK.set(lock);
    Ok(())
}

/// Sees a line of a helper's standard error while the helper runs, and returns whether the line was
/// only about progress. Progress lines are left out of the helper's output.
pub type Watch<'a> = &'a (dyn Fn(&str) -> bool + Send + Sync);

/// Takes the progress of long work, in words.
pub type Tell<'a> = &'a (dyn Fn(String) + Send + Sync);

/// One run of a helper program.
pub struct Helper<'a> {
    program: &'a str,
    arguments: Vec<OsString>,
    stdin: Option<&'a [u8]>,
    watch: Option<Watch<'a>>,
    deadline: Duration,
    holds_lock: bool,
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
    /// `program` is a bare name. The deadline is one minute unless set otherwise.
    pub fn new(program: &'a str) -> Self {
        Self {
            program,
            arguments: Vec::new(),
            stdin: None,
            watch: None,
            deadline: Duration::from_secs(60),
            holds_lock: false,
        }
    }

    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Says that the helper changes something, and ends once that is done. It may outlive a killed
    /// run, and no other run begins before its end. A helper that leaves a daemon behind, as
    /// `podman start` leaves conmon, must not be one: the daemon would hold the lock for ever.
    #[must_use]
    pub fn changes(mut self) -> Self {
        self.holds_lock = true;
        self
    }

    /// Sets what the helper reads. A secret reaches a helper in no other way.
    #[must_use]
    pub fn stdin(mut self, bytes: &'a [u8]) -> Self {
        self.stdin = Some(bytes);
        self
    }

    /// Shows `watch` each line of standard error as it comes. A carriage return ends a line too.
    #[must_use]
    pub fn watch(mut self, watch: Watch<'a>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Sets the time after which the helper is killed and the run is an error.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn start(&self) -> Result<Child> {
        let path = find_program(self.program)
            .ok_or_else(|| Error::new(format!("{} is not installed", self.program)))?;
        tracing::debug!(program = self.program, arguments = ?self.arguments, "helper");
        let mut command = tokio::process::Command::new(path);
        if let Some(lock) = LOCK.get().filter(|_| self.holds_lock) {
            inherit(&mut command, lock);
        }
        command
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
            // No helper asks a question. The Ctrl-C that asks the agent to stop hits no helper: the
            // current step is finished first.
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("SSH_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .doing(format_args!("start {}", self.program))
    }

    /// Gives the helper its input, and waits for its end.
    async fn finish(self, mut child: Child) -> Result<Output> {
        let stdin = child.stdin.take().zip(self.stdin);
        let feed = async move {
            if let Some((mut pipe, bytes)) = stdin {
                // A helper that fails early closes its end, and its exit code tells why.
                let _ = pipe.write_all(bytes).await;
            }
        };
        let watched = child
            .stderr
            .take_if(|_| self.watch.is_some())
            .zip(self.watch);
        let listen = async move {
            match watched {
                Some((pipe, watch)) => said(pipe, watch).await,
                None => Ok(Vec::new()),
            }
        };
        let run = async {
            let (output, (), said) = tokio::join!(child.wait_with_output(), feed, listen);
            let mut output = output?;
            output.stderr.extend(said?);
            Ok::<_, std::io::Error>(output)
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

    /// Runs the helper and returns its output, whatever its exit code.
    pub async fn output(self) -> Result<Output> {
        let child = self.start()?;
        self.finish(child).await
    }

    /// Runs the helper while `take` reads its standard output, in a thread where it may block. So
    /// output of any length needs little memory.
    pub async fn stream<T: Send + 'static>(
        self,
        take: impl FnOnce(File) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let program = self.program;
        let mut child = self.start()?;
        let pipe = child.stdout.take().map(ChildStdout::into_owned_fd);
        let Some(pipe) = pipe.transpose().doing(format_args!("run {program}"))? else {
            return Err(Error::new(format!("{program} has no standard output")));
        };
        // A helper that is killed at its deadline closes the pipe, so the reader ends, too.
        let (output, taken) =
            tokio::join!(self.finish(child), blocking(move || take(File::from(pipe))));
        let output = output?;
        // A helper whose reader gave up is ended by a signal (SIGPIPE), and the reader says why.
        match taken {
            Err(error) if output.success || output.code.is_none() => Err(error),
            Ok(value) if output.success => Ok(value),
            _ => Err(output.failure(program)),
        }
    }

    /// Runs the helper and returns its standard output. Any exit code but 0 is an error with the
    /// last lines of what the helper said.
    pub async fn run(self) -> Result<Vec<u8>> {
        let program = self.program;
        let output = self.output().await?;
        if output.success {
            return Ok(output.stdout);
        }
        Err(output.failure(program))
    }
}

impl Output {
    /// The error of a helper that did not exit with 0.
    fn failure(self, program: &str) -> Error {
        let said = if self.stderr.trim().is_empty() {
            String::from_utf8_lossy(&self.stdout).into_owned()
        } else {
            self.stderr
        };
        let said = first_and_last_lines(&said);
        Error::new(format!("{program}: {}: {said}", self.exit))
    }
}

/// Lets the program that `command` starts inherit the descriptor.
fn inherit(command: &mut tokio::process::Command, descriptor: &'static OwnedFd) {
    let number = descriptor.as_raw_fd();
    let keep = move || match unsafe { libc::fcntl(number, libc::F_SETFD, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: between fork(2) and execve(2) only fcntl(2) is called, which is async-signal-safe, on a
    // descriptor that is never closed. A flag cleared here shows in no other child.
    unsafe { command.pre_exec(keep) };
}

/// Starts this program anew with these arguments, gives it `stdin`, and returns what it printed. The process goes on if
/// this one ends or gives up waiting.
///
/// # Errors
/// When it cannot be started. What it prints says how it ended.
pub async fn this_program(arguments: &[&str], stdin: &[u8]) -> Result<Vec<u8>> {
    let doing = || format!("start {} beside this process", arguments.join(" "));
    // proc_pid_exe(5): the same program, even where a package has replaced its file.
    let mut child = tokio::process::Command::new("/proc/self/exe")
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .doing(doing())?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(stdin).await.doing(doing())?;
    }
    let output = child.wait_with_output().await.doing(doing())?;
    Ok(output.stdout)
}

/// Reads standard error to its end, shows every line to `watch`, and returns all but the progress
/// lines.
async fn said(mut pipe: impl AsyncRead + Unpin, watch: Watch<'_>) -> std::io::Result<Vec<u8>> {
    let (mut kept, mut line) = (Vec::new(), Vec::new());
    let mut keep = |line: &mut Vec<u8>| {
        if !line.is_empty() && !watch(&String::from_utf8_lossy(line)) {
            kept.append(line);
            kept.push(b'\n');
        }
        line.clear();
    };
    let mut chunk = [0; 4096];
    loop {
        let length = pipe.read(&mut chunk).await?;
        for &byte in &chunk[..length] {
            match byte {
                b'\n' | b'\r' => keep(&mut line),
                _ => line.push(byte),
            }
        }
        if length == 0 {
            keep(&mut line);
            return Ok(kept);
        }
    }
}

/// What git (through libcurl and ssh) and podman (through Go's net/http) say when a server or a
/// network is not up yet.
const NETWORK_FAULTS: [&str; 14] = [
    // curl(1), in older versions and newer ones.
    "failed to connect",
    "could not connect to server",
    "connection refused",
    "connection reset",
    "connection timed out",
    "could not resolve host",
    "network is unreachable",
    "no route to host",
    "no such host",
    "i/o timeout",
    "handshake timeout",
    "temporary failure in name resolution",
    "service unavailable",
    "bad gateway",
];

/// Marks the error of a helper that uses the network as transient if it may pass by itself.
pub fn over_network(error: Error) -> Error {
    let words = error.message.to_lowercase();
    if NETWORK_FAULTS.iter().any(|fault| words.contains(fault)) {
        error.transient()
    } else {
        error
    }
}

/// The first line and the last ones. A program such as mkfs prints its usage text after the first
/// line.
fn first_and_last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let last = lines.len().saturating_sub(LAST_LINES);
    let first = lines.iter().take(1.min(last));
    let told: Vec<&str> = first.chain(&lines[last..]).copied().collect();
    told.join("; ")
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
    async fn only_a_helper_that_changes_something_holds_the_lock() {
        let file = tempfile::NamedTempFile::new().unwrap();
        hand_on(file.as_file()).unwrap();
        let open = async |helper: Helper<'static>| {
            let listed = helper.args(["-l", "/proc/self/fd"]).run().await.unwrap();
            let name = file.path().to_string_lossy().into_owned();
            String::from_utf8(listed).unwrap().contains(&name)
        };
        assert!(!open(Helper::new("ls")).await);
        assert!(open(Helper::new("ls").changes()).await);
    }

    #[tokio::test]
    async fn output_is_read_while_it_comes_and_a_failure_says_whose_it_is() {
        use std::io::Read;
        let length = |mut pipe: File| {
            let mut text = String::new();
            pipe.read_to_string(&mut text).doing("read")?;
            Ok(text.len())
        };
        let input = vec![b'x'; 1 << 20];
        let streamed = Helper::new("cat").stdin(&input).stream(length).await;
        assert_eq!(streamed.unwrap(), 1 << 20);

        let missing = Helper::new("cat").args(["/no/such/place"]);
        let error = missing.stream(length).await.unwrap_err();
        assert!(error.message.contains("No such file"), "{error}");

        let full = |_| -> Result<()> { Err(Error::new("no space left")) };
        let error = Helper::new("cat").stdin(&input).stream(full).await;
        assert_eq!(error.unwrap_err().message, "no space left");

        let silent = Helper::new("sleep").args(["30"]);
        let error = silent.deadline(Duration::from_millis(50)).stream(length);
        let error = error.await.unwrap_err();
        assert!(error.message.contains("was killed"), "{error}");
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

    #[tokio::test]
    async fn lines_are_seen_in_whatever_pieces_they_come() {
        let (mut helper, pipe) = tokio::io::duplex(64);
        let speak = async move {
            for piece in ["Copy", "ing 1%\rCopying 2%\r", "\nno spa", "ce left"] {
                helper.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let seen = std::sync::Mutex::new(Vec::new());
        let watch = |line: &str| {
            seen.lock().unwrap().push(line.to_owned());
            line.starts_with("Copying")
        };
        let ((), kept) = tokio::join!(speak, said(pipe, &watch));
        assert_eq!(kept.unwrap(), b"no space left\n");
        assert_eq!(
            *seen.lock().unwrap(),
            ["Copying 1%", "Copying 2%", "no space left"]
        );
    }

    #[tokio::test]
    async fn a_watched_failure_carries_the_last_words_without_the_progress() {
        let error = Helper::new("ls")
            .args(["/no/such/place", "/nor/such"])
            .watch(&|line| line.contains("/no/such/place"))
            .run()
            .await
            .unwrap_err();
        assert!(error.message.contains("/nor/such"), "{error}");
        assert!(!error.message.contains("/no/such/place"), "{error}");
    }

    #[test]
    fn a_network_that_is_not_up_yet_may_pass() {
        let refused =
            "podman: exit status: 125: dial tcp 192.168.2.1:5001: connect: connection refused";
        assert!(over_network(Error::new(refused)).is_transient());
        let unknown = "podman: exit status: 125: manifest unknown";
        assert!(!over_network(Error::new(unknown)).is_transient());
    }

    #[test]
    fn the_first_line_and_the_last_are_told_without_blanks() {
        let told = |text| first_and_last_lines(text);
        assert_eq!(told("a\n\nb\nc\nd\n"), "a; b; c; d");
        assert_eq!(told("busy\n\nusage\n1\n2\n3\n4\n"), "busy; 1; 2; 3; 4");
        assert_eq!(told(""), "");
    }
}
