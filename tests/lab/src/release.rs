//! What a guest runs: one of the Debian releases that stand in for Enterprise Linux 9's early and late streams, or a
//! cloud image.
//!
//! bookworm has systemd 252, podman 4.3 (no Quadlet) and firewalld 1.3; trixie has systemd 257, podman 5.4 (Quadlet)
//! and firewalld 2.3.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result};

use crate::cloud_image::CloudImage;

/// A release whose root the lab builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
    /// Debian 12 with cloud-init; trixie's cloud-init package conflicts with firewalld.
    BookwormCloud,
    /// Debian 12 with SELinux, which enforces Debian's policy, with Debian 13's modules for containers, of which Debian 12's
    /// has none.
    BookwormSelinux,
    /// Debian 13 with SELinux, which enforces Debian's policy. Only a VM has a kernel that can.
    TrixieSelinux,
    /// Debian 12 with all that `cargo lab bench` holds the agent against.
    BookwormBench,
    /// Debian 13 with the same, but for cloud-init.
    TrixieBench,
}

impl Release {
    /// The two that every proof runs on.
    pub const BOTH: [Release; 2] = [Release::Bookworm, Release::Trixie];
    /// All roots that the proofs run on.
    pub const ALL: [Release; 5] = [
        Release::Bookworm,
        Release::Trixie,
        Release::BookwormCloud,
        Release::BookwormSelinux,
        Release::TrixieSelinux,
    ];

    /// Debian's name of the release.
    pub fn codename(self) -> &'static str {
        match self {
            Release::Bookworm
            | Release::BookwormCloud
            | Release::BookwormSelinux
            | Release::BookwormBench => "bookworm",
            Release::Trixie | Release::TrixieSelinux | Release::TrixieBench => "trixie",
        }
    }

    /// Whether its VMs enforce SELinux's policy.
    pub fn enforces(self) -> bool {
        matches!(self, Release::BookwormSelinux | Release::TrixieSelinux)
    }

    /// The same with the other tools that `cargo lab bench` measures; none for a root that has something else besides.
    pub fn with_peers(self) -> Option<Release> {
        match self {
            Release::Bookworm => Some(Release::BookwormBench),
            Release::Trixie => Some(Release::TrixieBench),
            _ => None,
        }
    }

    /// What a container guest beside it runs: SELinux is the kernel's, and a container has the machine's.
    pub fn for_containers(self) -> Release {
        match self {
            Release::BookwormSelinux => Release::Bookworm,
            Release::TrixieSelinux => Release::Trixie,
            other => other,
        }
    }

    /// What its kernel is told besides.
    pub(crate) fn kernel_arguments(self) -> &'static str {
        // Debian's kernel starts AppArmor when it is not told otherwise.
        if self.enforces() {
            " security=selinux selinux=1 enforcing=1"
        } else {
            ""
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Release::Bookworm => "bookworm",
            Release::Trixie => "trixie",
            Release::BookwormCloud => "bookworm-cloud",
            Release::BookwormSelinux => "bookworm-selinux",
            Release::TrixieSelinux => "trixie-selinux",
            Release::BookwormBench => "bookworm-bench",
            Release::TrixieBench => "trixie-bench",
        })
    }
}

impl FromStr for Release {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Release> {
        let named = Release::ALL.into_iter().find(|one| one.to_string() == text);
        named.with_context(|| format!("no release {text}; there are bookworm and trixie"))
    }
}

/// What a guest runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum System {
    Debian(Release),
    Image(CloudImage),
}

impl From<Release> for System {
    fn from(release: Release) -> System {
        System::Debian(release)
    }
}

impl From<CloudImage> for System {
    fn from(image: CloudImage) -> System {
        System::Image(image)
    }
}

impl fmt::Display for System {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            System::Debian(release) => release.fmt(formatter),
            System::Image(image) => image.path().display().fmt(formatter),
        }
    }
}
