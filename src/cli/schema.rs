//! `wasagent schema`: the JSON Schema of the tier file.

use super::Failure;
use super::exit::{self, Code};
use super::output::Output;
use crate::config;
use crate::error::{Doing, Result};

pub fn run(output: &Output) -> Result<Code, Failure> {
    let schema = serde_json::to_string_pretty(&config::schema()).doing("write the schema")?;
    output.line(&schema);
    Ok(exit::DONE)
}
