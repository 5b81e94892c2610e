//! Programs that the lab runs: short ones whose answer matters, and long ones that must not outlive the lab.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// What a finished program left: its code, its words and its time.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; 128 + the signal's number where a signal ended it, as a shell says it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Output {
    /// Whether the program exited with 0.
    pub fn success(&self) -> bool {
        self.status == 0
    }
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "exit code {} after {:.1} s\n--- stdout\n{}\n--- stderr\n{}",
            self.status,
            self.took.as_secs_f64(),
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// As `Output`, before anybody has decided that it is text.
pub(crate) struct Raw {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub took: Duration,
}

impl From<Raw> for Output {
    fn from(raw: Raw) -> Output {
        Output {
            status: raw.status,
            stdout: String::from_utf8_lossy(&raw.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&raw.stderr).into_owned(),
            took: raw.took,
        }
    }
}

/// Runs a program to its end, with `input` on its standard input, and kills it after `limit`.
pub fn run_with(command: Command, input: &[u8], limit: Duration) -> Result<Output> {
    run_raw(command, input, limit).map(Output::from)
}

pub(crate) fn run_raw(mut command: Command, input: &[u8], limit: Duration) -> Result<Raw> {
    let begun = Instant::now();
    let what = describe(&command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {what}"))?;
    let mut stdin = child.stdin.take().expect("piped");
    let stdout = collect(child.stdout.take().expect("piped"));
    let stderr = collect(child.stderr.take().expect("piped"));
    let input = input.to_vec();
    // A program may answer before it has read everything, so writing must not wait for reading. A closed pipe is its choice.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let ended = wait(&mut child, limit)?;
    let Some(status) = ended else {
        let _ = child.kill();
        let _ = child.wait();
        bail!("{what}: no end within {} s", limit.as_secs());
    };
    let _ = writer.join();
    Ok(Raw {
        status: code(status),
        stdout: joined(stdout)?,
        stderr: joined(stderr)?,
        took: begun.elapsed(),
    })
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        all
    })
}

fn joined(reader: thread::JoinHandle<Vec<u8>>) -> Result<Vec<u8>> {
    reader
        .join()
        .map_err(|_| anyhow!("the reader of an output panicked"))
}

fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > until {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Runs a program and demands exit code 0; the error carries what it said.
pub fn ok(command: Command) -> Result<Output> {
    ok_with(command, b"", Duration::from_secs(60))
}

/// `ok`, with standard input and a limit of its own.
pub fn ok_with(command: Command, input: &[u8], limit: Duration) -> Result<Output> {
    let what = describe(&command);
    let output = run_with(command, input, limit)?;
    if !output.success() {
        bail!("{what}: {output}");
    }
    Ok(output)
}

/// A command from an argument list.
pub fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut arguments = arguments.into_iter();
    let program = arguments
        .next()
        .expect("an argument list begins with the program");
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// A command as one would type it, for messages.
pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    let line = words.join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

type Request = (Command, Sender<std::io::Result<Child>>);

/// Starts a program that the kernel kills when the lab dies, however it dies.
///
/// The kernel sends the parent-death signal when the *thread* that forked ends (prctl(2)), and tests run on threads
/// that end. So one thread that lives as long as the process does all the forking.
pub fn spawn_dependent(mut command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, receiver) = channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in receiver {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let what = describe(&command);
    // SAFETY: prctl is async-signal-safe and nothing is allocated between fork and exec.
    unsafe { command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(Into::into)) };
    // Its own group, so that Ctrl-C at the terminal reaches the lab only, which then undoes things in order.
    command.process_group(0);
    let (answer, result) = channel();
    spawner
        .send((command, answer))
        .map_err(|_| anyhow!("the spawner has ended"))?;
    result
        .recv()
        .context("the spawner gave no answer")?
        .with_context(|| format!("start {what}"))
}

/// A long-running program, killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

impl Daemon {
    pub fn start(command: Command) -> Result<Daemon> {
        Ok(Daemon {
            child: spawn_dependent(command)?,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit code, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().map(code)
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks again and again until `question` has an answer.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        if let Some(answer) = question()? {
            return Ok(answer);
        }
        if begun.elapsed() > limit {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}
