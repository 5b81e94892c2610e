//! Reads a tier file into a [`Tier`], collecting every fault on the way.

use std::path::Path;

use super::{Fault, Faults, Role, Tier};

/// Reads and validates the tier file at `path`, and the secrets that it names. With a `role`, the
/// section of that role has to be there.
///
/// # Errors
/// All the faults of the file, sorted by place.
pub fn load(path: &Path, role: Option<Role>) -> Result<Tier, Faults> {
    let _ = role;
    Err(Faults(vec![Fault {
        file: path.to_owned(),
        line: 0,
        column: 0,
        text: String::new(),
        message: "cannot be read yet".to_owned(),
        expected: None,
        hint: None,
    }]))
}
