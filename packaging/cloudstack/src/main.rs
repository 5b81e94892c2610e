//! The command line of `wasagent-mold`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use wasagent_mold::api::{Client, Keys};
use wasagent_mold::{Plan, make};

/// Makes the tier's VMs, disk and balancer on ABLESTACK Mold or Apache CloudStack. What is there already is left as it
/// is, so it can be run again, and goes on where it was cut off.
///
/// The API's keys come from CLOUDSTACK_API_KEY and CLOUDSTACK_SECRET_KEY in the environment, or from --keys.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// The tier file
    #[arg(long, value_name = "PATH", default_value = "/etc/wasagent/tier.toml")]
    config: PathBuf,
    /// What the tier file does not know: the zone, offerings, the template, the network, the API's endpoint
    #[arg(long, value_name = "PATH")]
    site: PathBuf,
    /// The agent's program, which prints the user data
    #[arg(long, value_name = "PATH", default_value = "wasagent")]
    wasagent: PathBuf,
    /// A file with api_key and secret_key, readable by its owner only
    #[arg(long, value_name = "PATH")]
    keys: Option<PathBuf>,
    /// Look at what is there, and print each call that would change something
    #[arg(long)]
    dry_run: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let plan = Plan::read(&arguments.site, &arguments.config, &arguments.wasagent)?;
    let keys = Keys::read(arguments.keys.as_deref())?;
    let authority = plan.site.authority()?;
    let site = &plan.site;
    let client = Client::new(&site.endpoint, site.signature, keys, authority.as_deref())?;
    make(&client, &plan, arguments.dry_run, &mut std::io::stdout())
}
