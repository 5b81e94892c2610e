//! What can be done to the machine: one file for each kind of thing. Each file has the effects on that kind, how each
//! effect is done, how to check that it happened, what is kept for undo, and how it is undone.
//!
//! An effect is recorded before it happens ([`step::Step::effect`]). After an interruption it may have happened or not:
//! undoing looks at the machine and copes with both.
//!
//! A new kind is a new file with an enum that is [`Reversible`], and one line in `effects!` below.

pub mod account;
pub mod address;
pub mod container;
pub mod content;
pub mod directory;
pub mod disk;
pub mod file;
pub mod file_context;
pub mod history;
pub mod image;
pub mod key;
pub mod later;
pub mod ledger;
pub mod line;
pub mod mount;
pub mod opening;
pub mod prune;
pub mod samba_user;
#[cfg(test)]
pub mod samples;
pub mod secret;
pub mod step;
pub mod unit;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use address::{Address, Kind};
pub use history::Recorded;
pub use later::Later;
pub use ledger::Ledger;
pub use line::{Field, Outcome, Work};
pub use step::Step;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::sha256::Sha256;

/// The effects on one kind of thing. The names of the variants and their fields are in the record of every guest, so
/// they never change, and a new field needs a default.
pub trait Reversible: fmt::Display + Sized + Sync {
    /// The thing, in words. All effects of this kind on one thing are undone together, back to its state before the
    /// first.
    fn target(&self) -> String {
        self.to_string()
    }

    /// Whether an effect that was reported as failed happened anyway, as when a reply is lost; `None` if a check cannot
    /// tell. What did not happen is not undone: somebody may since have made by hand what the agent could not.
    fn has_happened(&self, _host: &Host) -> impl Future<Output = Option<bool>> + Send {
        std::future::ready(None)
    }

    /// The thing as the effect left it, where only a look after it can tell. Recorded, so that an undo knows what
    /// somebody changed since. It holds no secret.
    fn left(&self, _host: &Host) -> impl Future<Output = Option<String>> + Send {
        std::future::ready(None)
    }

    /// The file or directory, if it is first made under a temporary name beside its place: a killed run leaves that
    /// behind.
    fn made_beside(&self) -> Option<&Path> {
        None
    }

    /// Whether it takes over something that somebody made by hand, and that was in use until then.
    fn adopts(&self) -> bool {
        false
    }

    /// Whether it stays when its run is rolled back.
    fn outlives_a_roll_back(&self) -> bool {
        false
    }

    /// The kept contents that an undo of these effects may need.
    fn needed(_past: &[Past<'_, Self>]) -> Vec<Sha256> {
        Vec::new()
    }

    /// What has to be done before anything of the resource is undone.
    fn before_undo(
        _past: &[Past<'_, Self>],
        _step: &Step,
    ) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Restores the thing to its state before the first of these effects, if it is still as the last one left it.
    fn undo(
        past: &[Past<'_, Self>],
        undo: Undo<'_>,
    ) -> impl Future<Output = Result<Undone, Halt>> + Send;
}

/// An effect on a thing, as a run recorded it. Slices of these are in the order in which the effects were begun.
#[derive(Debug)]
pub struct Past<'a, E> {
    pub effect: &'a E,
    pub resource: &'a Address,
    /// Part of an undo.
    pub undoes: bool,
    /// Known to have succeeded.
    pub done: bool,
    /// [`Reversible::left`]. `None` also in older records, and after an effect that was cut off.
    pub left: Option<&'a str>,
}

/// What the last effect that is no undo left, if that is known.
pub fn last_left<'a, E>(past: &[Past<'a, E>]) -> Option<&'a str> {
    let mut last = past.iter().rev().filter(|one| !one.undoes);
    last.next().and_then(|one| one.left)
}

/// What an undo works with.
pub struct Undo<'a> {
    pub step: &'a Step,
    pub extent: Extent,
    /// What is put off until something needs it, or to the end.
    pub later: &'a mut Later,
}

/// How much is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All that apply ever did here.
    Everything,
    /// What one run did: an image that it pulled stays, since the next try needs it again.
    OneRun,
}

/// What became of one thing.
#[derive(Debug)]
pub enum Undone {
    /// It is as it was before; nothing had to be done.
    Already,
    /// It was restored; the text says how.
    Restored(String),
    /// It stays as it is; the text says why.
    Kept(String),
}

/// Why a thing could not be undone.
#[derive(Debug)]
pub enum Halt {
    Failed(Error),
    /// Something that has to come first has failed.
    Needs {
        first: Address,
        error: Error,
        /// How long that was tried.
        took: Duration,
    },
    /// This has to come first, and is not undone, as was told.
    Waits(Address),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

macro_rules! effects {
    ($($variant:ident($effect:path)),* $(,)?) => {
        /// One effect on the machine, with what must be known to undo it: the state before and, for a file, what was
        /// written, so that somebody else's change can be told from the agent's.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        // No two kinds share a variant name, so the names serve as tags.
        #[serde(untagged)]
        pub enum Effect {
            $($variant($effect)),*
        }

        $(impl From<$effect> for Effect {
            fn from(effect: $effect) -> Self {
                Self::$variant(effect)
            }
        })*

        impl fmt::Display for Effect {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant(effect) => effect.fmt(f)),*
                }
            }
        }

        impl Effect {
            /// What it is done to.
            pub fn target(&self) -> Target {
                let words = match self {
                    $(Self::$variant(effect) => effect.target()),*
                };
                Target {
                    kind: std::mem::discriminant(self),
                    words,
                }
            }

            /// [`Reversible::has_happened`].
            pub async fn has_happened(&self, host: &Host) -> Option<bool> {
                match self {
                    $(Self::$variant(effect) => effect.has_happened(host).await),*
                }
            }

            /// [`Reversible::left`].
            pub async fn left(&self, host: &Host) -> Option<String> {
                match self {
                    $(Self::$variant(effect) => effect.left(host).await),*
                }
            }

            /// [`Reversible::made_beside`].
            pub fn made_beside(&self) -> Option<&Path> {
                match self {
                    $(Self::$variant(effect) => effect.made_beside()),*
                }
            }

            /// [`Reversible::adopts`].
            pub fn adopts(&self) -> bool {
                match self {
                    $(Self::$variant(effect) => effect.adopts()),*
                }
            }

            /// [`Reversible::outlives_a_roll_back`].
            pub fn outlives_a_roll_back(&self) -> bool {
                match self {
                    $(Self::$variant(effect) => effect.outlives_a_roll_back()),*
                }
            }
        }

        /// [`Reversible::needed`] of the effects on one thing.
        pub fn needed(past: &[&Recorded]) -> Vec<Sha256> {
            match past.first().map(|first| &first.effect) {
                $(Some(Effect::$variant(_)) => Reversible::needed(&effects!(@past past, $variant)),)*
                None => Vec::new(),
            }
        }

        /// [`Reversible::before_undo`] of the effects on one thing.
        pub async fn before_undo(past: &[&Recorded], step: &Step) -> Result<()> {
            match past.first().map(|first| &first.effect) {
                $(Some(Effect::$variant(_)) => {
                    Reversible::before_undo(&effects!(@past past, $variant), step).await
                })*
                None => Ok(()),
            }
        }

        /// [`Reversible::undo`] of the effects on one thing.
        pub async fn undo(past: &[&Recorded], undo: Undo<'_>) -> Result<Undone, Halt> {
            match past.first().map(|first| &first.effect) {
                $(Some(Effect::$variant(_)) => {
                    Reversible::undo(&effects!(@past past, $variant), undo).await
                })*
                None => Ok(Undone::Already),
            }
        }
    };
    (@past $past:ident, $variant:ident) => {
        $past
            .iter()
            .filter_map(|recorded| match &recorded.effect {
                Effect::$variant(effect) => Some(Past {
                    effect,
                    resource: &recorded.resource,
                    undoes: recorded.undoes,
                    done: recorded.done,
                    left: recorded.left.as_deref(),
                }),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
}

effects! {
    File(file::OnFile),
    Directory(directory::OnDirectory),
    Unit(unit::OnUnit),
    Opening(opening::OnOpening),
    Mount(mount::OnMount),
    Container(container::OnContainer),
    Disk(disk::OnDisk),
    Account(account::OnAccount),
    SambaUser(samba_user::OnSambaUser),
    Image(image::OnImage),
    Secret(secret::OnSecret),
    FileContext(file_context::OnFileContext),
    Content(content::OnContent),
}

/// What an effect is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    kind: std::mem::Discriminant<Effect>,
    words: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Groups the effects by thing. A thing is listed from its first effect for which `is_first` holds;
/// things are in the order of those effects.
pub fn by_target<'a>(
    effects: &[&'a Recorded],
    is_first: impl Fn(&Recorded) -> bool,
) -> Vec<(Target, Vec<&'a Recorded>)> {
    let mut targets: Vec<(Target, Vec<&Recorded>)> = Vec::new();
    for recorded in effects {
        let target = recorded.effect.target();
        match targets.iter_mut().find(|(known, _)| *known == target) {
            Some((_, effects)) => effects.push(recorded),
            None if is_first(recorded) => targets.push((target, vec![recorded])),
            None => {}
        }
    }
    targets
}
