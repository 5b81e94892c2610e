//! What runs a guest's own kernel: the quickest kind that has what a test needs.
//!
//! A proof on User-Mode Linux is one on its kernel, newer than any distribution's. It does not prove, of Enterprise Linux
//! 9's 5.14 and Debian's 6.1 and 6.12: which errno and which words in the kernel's log a refused mount has; that a module
//! (cifs, nf_tables, overlay) is found and loaded when it is first asked for, since all are built in; what netfilter knows
//! there; AppArmor, which Debian's kernel starts; an initial RAM disk. `Need::DistributionKernel` asks for those.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use anyhow::{Context, Result};

/// A kind of guest with a kernel of its own, the quickest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// QEMU on the machine's own processor.
    Kvm,
    /// A kernel that is a program of the machine's: User-Mode Linux.
    Uml,
    /// QEMU with an emulated processor: ten times slower, and the same everywhere.
    Tcg,
}

/// What a guest must have beyond a kernel of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The distribution's kernel.
    DistributionKernel,
    /// A serial on its data disks: User-Mode Linux's block driver has none.
    DiskSerial,
    /// Data disks that are enlarged while it runs.
    DiskGrowth,
}

static BY_HAND: OnceLock<Kind> = OnceLock::new();

impl Kind {
    const ALL: [Kind; 3] = [Kind::Kvm, Kind::Uml, Kind::Tcg];
    /// By this variable `cargo lab test` tells its tests which kind was chosen by hand.
    pub const VARIABLE: &str = "WASAGENT_LAB_GUESTS";

    /// Chooses the kind by hand, for this process and its tests.
    pub fn set_by_hand(kind: Kind) {
        // Only the command line sets it, once.
        let _ = BY_HAND.set(kind);
    }

    /// The kind that was chosen by hand.
    pub fn by_hand() -> Result<Option<Kind>> {
        if let Some(kind) = BY_HAND.get() {
            return Ok(Some(*kind));
        }
        match std::env::var(Kind::VARIABLE) {
            Ok(name) if !name.is_empty() => {
                let kind = name.parse().with_context(|| Kind::VARIABLE.to_owned())?;
                Ok(Some(kind))
            }
            _ => Ok(None),
        }
    }

    /// The kind for a guest that needs this. `kvm`: whether a kernel boots under KVM here; it is asked only where that
    /// matters. Chosen by hand is followed as far as the needs allow: what User-Mode Linux lacks, QEMU has.
    pub fn choose(
        needs: &[Need],
        by_hand: Option<Kind>,
        kvm: impl FnOnce() -> Result<bool>,
    ) -> Result<Kind> {
        let uml = cfg!(target_arch = "x86_64") && needs.is_empty();
        Ok(match by_hand {
            Some(Kind::Uml) if uml => Kind::Uml,
            Some(kind @ (Kind::Kvm | Kind::Tcg)) => kind,
            _ if kvm()? => Kind::Kvm,
            _ if uml => Kind::Uml,
            _ => Kind::Tcg,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Kvm => "kvm",
            Kind::Uml => "uml",
            Kind::Tcg => "tcg",
        })
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Kind> {
        let named = Kind::ALL.into_iter().find(|kind| kind.to_string() == text);
        named.with_context(|| format!("no kind of guest {text}; there are kvm, uml and tcg"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(needs: &[Need], by_hand: Option<Kind>, kvm: bool) -> Kind {
        Kind::choose(needs, by_hand, || Ok(kvm)).unwrap()
    }

    #[test]
    fn the_quickest_that_has_what_is_needed() {
        assert_eq!(chosen(&[], None, true), Kind::Kvm);
        assert_eq!(chosen(&[Need::DistributionKernel], None, true), Kind::Kvm);
        assert_eq!(chosen(&[Need::DiskSerial], None, false), Kind::Tcg);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(chosen(&[], None, false), Kind::Uml);
            assert_eq!(chosen(&[], Some(Kind::Uml), true), Kind::Uml);
        }
    }

    #[test]
    fn a_choice_by_hand_yields_to_a_need() {
        assert_eq!(chosen(&[], Some(Kind::Tcg), true), Kind::Tcg);
        assert_eq!(
            chosen(&[Need::DiskGrowth], Some(Kind::Uml), false),
            Kind::Tcg
        );
        assert_eq!(
            chosen(&[Need::DiskGrowth], Some(Kind::Uml), true),
            Kind::Kvm
        );
    }

    #[test]
    fn each_kind_has_a_name() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
        }
        assert!("xen".parse::<Kind>().is_err());
    }
}
