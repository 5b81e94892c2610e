//! What a role means: it turns the tier file and the guest's facts into a list of resources. Each
//! role reads from top to bottom like the guide that it replaces.

#[cfg(test)]
pub mod samples;
mod storage;
#[cfg(test)]
mod tests;
mod was;

use crate::config::{Role, Tier};
use crate::engine::Graph;
use crate::error::{Error, Result};
use crate::host::Facts;
use crate::resource::{Firewall, NewerImage, WayIn};

pub use storage::storage;
pub use was::{container_hostname, was};

/// What the caller asks for beyond the tier file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Take over what somebody set up by hand for the same purpose, instead of refusing it.
    pub adopt: bool,
    pub newer_image: NewerImage,
}

/// The resources of `role` on a guest with these facts.
pub fn resources(role: Role, tier: &Tier, facts: &Facts, options: &Options) -> Result<Graph> {
    let missing = || {
        Error::new(format!("the tier file has no section [{role}]"))
            .hint(format!("add [{role}], which the role {role} is made from"))
    };
    match role {
        Role::Storage => Ok(storage(
            tier,
            tier.storage.as_ref().ok_or_else(missing)?,
            facts,
        )),
        Role::Was => was(tier, tier.was.as_ref().ok_or_else(missing)?, facts, options),
    }
}

/// What is opened in the zones of firewalld that are in use. Its name is theirs; where they are not known or cannot be
/// opened, it is the tier file's zone or the default one.
fn firewall(way: WayIn, facts: &Facts) -> Firewall {
    let in_use = facts.zones.as_ref();
    let in_use = in_use.and_then(|zones| way.zones_in_use(zones, &facts.interfaces));
    let named = || way.zone.clone().or_else(|| facts.default_zone.clone());
    Firewall {
        zone: in_use.or_else(named).unwrap_or_else(|| "public".to_owned()),
        way,
    }
}
