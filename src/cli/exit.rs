//! Exit codes: part of the contract with scripts. The larger ones come from sysexits.h.

/// A process's exit code.
pub type Code = Exit;

/// An exit code of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(u8);

/// Done; plan: nothing to change; health: healthy.
pub const DONE: Exit = Exit(0);
/// A step failed.
pub const FAILED: Exit = Exit(1);
/// plan: there are changes.
pub const CHANGES: Exit = Exit(2);
/// health: not healthy.
pub const UNHEALTHY: Exit = Exit(3);
/// The command line is wrong.
pub const USAGE: Exit = Exit(64);
/// Another apply holds the lock.
pub const LOCKED: Exit = Exit(75);
/// Needs root.
pub const NEEDS_ROOT: Exit = Exit(77);
/// The tier file is wrong.
pub const BAD_TIER_FILE: Exit = Exit(78);

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        exit.0
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}
