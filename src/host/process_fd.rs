//! A process that is held on to by a descriptor (pidfd_open(2)). A number of a process may mean
//! another one as soon as the first has ended. The descriptor never does.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Doing, Result};

/// A process that may have ended since.
#[derive(Debug)]
pub struct Process {
    number: Pid,
    descriptor: OwnedFd,
}

impl Process {
    /// The process of this number, if there is one and `is_it` holds of it.
    pub fn find(number: i32, is_it: impl FnOnce() -> bool) -> Option<Self> {
        let number = Pid::from_raw(number)?;
        let descriptor = pidfd_open(number, PidfdFlags::empty()).ok()?;
        let process = Self { number, descriptor };
        // If it still lives, then the number has meant it all the time.
        (is_it() && process.lives()).then_some(process)
    }

    /// Its number, as `/proc` has it.
    pub fn number(&self) -> u32 {
        self.number.as_raw_nonzero().get().unsigned_abs()
    }

    fn lives(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        // The descriptor can be read once the process has ended.
        let mut ended = [PollFd::new(&self.descriptor, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec::default())) == Ok(0)
    }

    /// Sends a signal. It is no error if the process has ended.
    ///
    /// # Errors
    /// When the signal may not be sent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => {
                Err(error).doing(format_args!("send {signal:?} to process {}", self.number()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_the_process_that_was_looked_at_gets_the_signal() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let number = i32::try_from(child.id()).unwrap();
        assert!(Process::find(number, || false).is_none());
        let found = Process::find(number, || true).unwrap();
        found.signal(Signal::TERM).unwrap();
        child.wait().unwrap();
        found.signal(Signal::TERM).unwrap();
        assert!(!found.lives());
        // A process that ends while it is looked at may have left its number to another one.
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let number = i32::try_from(child.id()).unwrap();
        let ends = || {
            child.kill().unwrap();
            child.wait().unwrap();
            true
        };
        assert!(Process::find(number, ends).is_none());
    }
}
