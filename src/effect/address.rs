//! The one address that a resource has everywhere: `kind:name`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::Error;

/// What kind of thing a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Disk,
    Mount,
    Directory,
    Account,
    SambaUser,
    File,
    Label,
    Firewall,
    Unit,
    Content,
    Secret,
    Image,
    Container,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Disk,
        Self::Mount,
        Self::Directory,
        Self::Account,
        Self::SambaUser,
        Self::File,
        Self::Label,
        Self::Firewall,
        Self::Unit,
        Self::Content,
        Self::Secret,
        Self::Image,
        Self::Container,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Mount => "mount",
            Self::Directory => "directory",
            Self::Account => "account",
            Self::SambaUser => "samba-user",
            Self::File => "file",
            Self::Label => "label",
            Self::Firewall => "firewall",
            Self::Unit => "unit",
            Self::Content => "content",
            Self::Secret => "secret",
            Self::Image => "image",
            Self::Container => "container",
        })
    }
}

/// A resource's address, such as `mount:/mnt/data`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    pub kind: Kind,
    pub name: String,
}

impl Address {
    pub fn new(kind: Kind, name: impl fmt::Display) -> Self {
        Self {
            kind,
            name: name.to_string(),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, name) = text.split_once(':').unwrap_or_default();
        let kind = Kind::ALL.into_iter().find(|k| k.to_string() == kind);
        kind.map(|kind| Self::new(kind, name))
            .ok_or_else(|| Error::new(format!("{text} is not the address of a resource")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
