//! Runs a program on a guest of `cargo lab bench` and writes what it took: `stopwatch FILE PROGRAM [ARGUMENT …]`.
//!
//! It is small and static, so that neither its own memory nor the loading of libraries is in what it measures.

use std::env;
use std::fs;
use std::mem::MaybeUninit;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::libc;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(file), Some(program)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: stopwatch FILE PROGRAM [ARGUMENT …]");
        return ExitCode::from(125);
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let begun = Instant::now();
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("stopwatch: {error}");
            return ExitCode::from(127);
        }
    };
    let Some((status, usage)) = wait(child.id()) else {
        eprintln!("stopwatch: {}", std::io::Error::last_os_error());
        return ExitCode::from(126);
    };
    let took = begun.elapsed();
    let processor = time(usage.ru_utime) + time(usage.ru_stime);
    // In microseconds, microseconds and KiB.
    let text = format!(
        "{} {} {}\n",
        took.as_micros(),
        processor.as_micros(),
        usage.ru_maxrss
    );
    if let Err(error) = fs::write(&file, text) {
        eprintln!("stopwatch: {}: {error}", file.display());
        return ExitCode::from(126);
    }
    ExitCode::from(code(status))
}

/// What a process and all that it waited for have used (getrusage(2)).
fn wait(process: u32) -> Option<(i32, libc::rusage)> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both places live until the call returns, and a rusage is numbers, for all of which zero is a value.
    let waited = unsafe { libc::wait4(process as i32, &mut status, 0, usage.as_mut_ptr()) };
    // SAFETY: as above.
    (waited > 0).then(|| (status, unsafe { usage.assume_init() }))
}

fn time(value: libc::timeval) -> Duration {
    Duration::from_micros(value.tv_sec as u64 * 1_000_000 + value.tv_usec as u64)
}

/// The exit code; 128 + the signal's number where a signal ended it.
fn code(status: i32) -> u8 {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status) as u8
    } else {
        128 + libc::WTERMSIG(status) as u8
    }
}
