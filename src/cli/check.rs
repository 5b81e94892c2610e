//! `wasagent check`: validates the tier file only.

use std::path::Path;

use super::exit::{self, Code};
use super::output::Output;
use super::{Failure, load};
use crate::config::Role;
use crate::error::Result;

pub fn run(config: &Path, role: Option<Role>, output: &Output) -> Result<Code, Failure> {
    load(config, role, output)?;
    if output.is_json() {
        output.json(&serde_json::json!([]));
    } else {
        output.line(&format!("{}: no fault", config.display()));
    }
    Ok(exit::DONE)
}
