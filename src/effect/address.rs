//! The one address that a resource has everywhere: `kind:name`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::Error;

macro_rules! kinds {
    ($($kind:ident = $name:literal),* $(,)?) => {
        /// What kind of thing a resource is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($kind),*
        }

        impl Kind {
            /// Each kind with its name in an address.
            const NAMES: &[(Self, &str)] = &[$((Self::$kind, $name)),*];
        }
    };
}

kinds! {
    Disk = "disk",
    Mount = "mount",
    Directory = "directory",
    Account = "account",
    SambaUser = "samba-user",
    File = "file",
    Label = "label",
    Firewall = "firewall",
    Unit = "unit",
    Content = "content",
    Secret = "secret",
    Image = "image",
    Container = "container",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::NAMES.iter();
        f.write_str(
            names
                .find(|(kind, _)| kind == self)
                .map_or("", |(_, name)| name),
        )
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
        let mut names = Kind::NAMES.iter();
        let kind = names.find(|(_, known)| *known == kind);
        kind.map(|(kind, _)| Self::new(*kind, name))
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
