//! The command line: one file per command.

mod apply;
mod check;
mod completions;
#[cfg(test)]
mod documents_tests;
pub mod exit;
mod health;
mod history;
mod lock;
mod man;
mod output;
mod plan;
mod plan_text;
mod revert;
mod schema;
mod unit;
mod userdata;
mod view;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Role, Tier};
use crate::engine::role_record;
use crate::error::{Error, Result};
use crate::resource::NewerImage;
use crate::role::Options;
use exit::Code;
use output::Output;
use unit::{back_off, keep_ports, probe_share, sees_share, start_lock};

/// The unit as the package has it.
const BOOT_UNIT: &str = include_str!("../../systemd/wasagent-apply.service");

/// Takes a role, storage or was, and makes this VM serve it.
#[derive(Debug, Parser)]
#[command(name = "wasagent", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// The tier file
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = "/etc/wasagent/tier.toml"
    )]
    config: PathBuf,
    /// How results are printed
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Say more on standard error; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Whether to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Args)]
struct RoleArgument {
    /// What this VM is to be; remembered from the first apply on
    #[arg(long)]
    role: Option<Role>,
}

/// What apply and plan are asked for beyond the tier file.
#[derive(Debug, Args)]
pub struct PlanOptions {
    /// Take over what was set up by hand: the container with its unit, the entry in fstab with its credentials
    #[arg(long)]
    adopt: bool,
    /// Take the image that the tag means at its registry, or that the archive holds, by now
    #[arg(long)]
    pull: bool,
}

impl PlanOptions {
    /// `newer_image` says what to do with a newer image when nobody asked for it.
    fn of(&self, role: Role, newer_image: NewerImage) -> Result<Options, Failure> {
        let option = match (self.adopt, self.pull) {
            (true, _) => "--adopt",
            (_, true) => "--pull",
            _ => "",
        };
        if role == Role::Storage && !option.is_empty() {
            return Err(Failure {
                code: exit::USAGE,
                error: Some(
                    Error::new(format!(
                        "{option} is for the role was, and this VM is storage"
                    ))
                    .hint(format!("run it without {option}")),
                ),
            });
        }
        Ok(Options {
            adopt: self.adopt,
            newer_image: if self.pull {
                NewerImage::Take
            } else {
                newer_image
            },
        })
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring this VM to the state that the tier file describes, and say what was changed
    Apply {
        #[command(flatten)]
        role: RoleArgument,
        #[command(flatten)]
        options: apply::Options,
    },
    /// Say what apply would change, and touch nothing
    Plan {
        #[command(flatten)]
        role: RoleArgument,
        /// Show what is as it should be, too
        #[arg(long)]
        all: bool,
        /// Show the guide's shell steps that each change stands for
        #[arg(long)]
        explain: bool,
        #[command(flatten)]
        options: PlanOptions,
    },
    /// Probe this VM now and report each check
    Health {
        #[command(flatten)]
        role: RoleArgument,
    },
    /// Undo what apply did; data on the disk and the share stays
    Revert {
        #[command(flatten)]
        options: revert::Options,
    },
    /// List the runs and what each changed
    History,
    /// Print the cloud-init user data that installs the agent and applies a role on a new VM
    Userdata {
        #[command(flatten)]
        options: userdata::Options,
    },
    /// Validate the tier file only
    Check {
        #[command(flatten)]
        role: RoleArgument,
    },
    /// Print the JSON Schema of the tier file
    Schema,
    /// Print a man page
    Man {
        #[command(flatten)]
        options: man::Options,
    },
    /// Print the completions for a shell
    Completions {
        /// The shell that is to complete the command line
        shell: completions::Shell,
    },
    /// Print the unit that applies the role at each boot: what user data runs where the agent comes without a package
    #[command(hide = true)]
    BootUnit,
    /// Wait before an application that ended again and again is started anew: what the container's unit runs
    #[command(hide = true)]
    BackOff {
        #[command(flatten)]
        options: back_off::Options,
    },
    /// Publish a container's ports again whenever firewalld was reloaded: what runs beside its unit
    #[command(hide = true)]
    KeepPorts {
        #[command(flatten)]
        options: keep_ports::Options,
    },
    /// Look whether a container that was just started sees the share: what its unit runs
    #[command(hide = true)]
    SeesShare {
        #[command(flatten)]
        options: sees_share::Options,
    },
    /// Try whether the share can be used: what health starts beside itself
    #[command(hide = true)]
    ProbeShare,
    /// Keep the share's revision as it is while an application starts: what the container's unit runs
    #[command(hide = true)]
    StartLock {
        #[command(flatten)]
        options: start_lock::Options,
    },
}

/// Runs the command and returns the process's exit code.
pub fn run(arguments: &Arguments) -> u8 {
    let output = Output::new(
        arguments.global.format,
        arguments.global.color,
        arguments.global.verbose > 0,
    );
    log_to_standard_error(arguments.global.verbose, output.colour_on_stderr());
    let code = match run_command(arguments, &output) {
        Ok(code) => code,
        Err(Failure { code, error }) => {
            if let Some(error) = error {
                output.error(&error);
            }
            code
        }
    };
    code.into()
}

fn run_command(arguments: &Arguments, output: &Output) -> Result<Code, Failure> {
    let config = &arguments.global.config;
    match &arguments.command {
        Command::Check { role } => check::run(config, role.role, output),
        Command::Userdata { options } => userdata::run(config, options, output),
        Command::Plan {
            role,
            all,
            explain,
            options,
        } => {
            let (role, tier) = start(config, role.role, output)?;
            let options = options.of(role, NewerImage::Tell)?;
            let telling = plan_text::Telling {
                all: *all,
                explain: *explain,
            };
            history::read(output)?;
            block_on(plan::run(role, &tier, &options, telling, output))
        }
        Command::Apply { role, options } => {
            need_root()?;
            let lock = lock::take(options.wait)?;
            let (role, tier) = start(config, role.role, output)?;
            let (runs, _) = history::read(output)?;
            let code = block_on(apply::run(role, &tier, runs, options, output));
            drop(lock);
            code
        }
        Command::Revert { options } => {
            need_root()?;
            let lock = lock::take(options.wait)?;
            history::read(output)?;
            let code = block_on(revert::run(output));
            drop(lock);
            code
        }
        Command::History => {
            need_root()?;
            history::run(output)
        }
        Command::Schema => schema::run(output),
        Command::Man { options } => man::run(options, output),
        Command::Completions { shell } => completions::run(*shell),
        Command::BootUnit => {
            output.line(BOOT_UNIT.trim_end());
            Ok(exit::DONE)
        }
        Command::BackOff { options } => block_on(back_off::run(options)),
        Command::KeepPorts { options } => block_on(keep_ports::run(options)),
        Command::ProbeShare => block_on(probe_share::run()),
        Command::SeesShare { options } => sees_share::run(options),
        Command::StartLock { options } => block_on(start_lock::run(options)),
        Command::Health { role } => {
            let (role, tier) = start(config, role.role, output)?;
            block_on(health::run(role, &tier, output))
        }
    }
}

/// Why a command ended early: its exit code, and the error if it is still to be printed.
struct Failure {
    code: Code,
    error: Option<Error>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: exit::FAILED,
            error: Some(error),
        }
    }
}

/// What plan, apply and health need before anything else: root, a role and a tier file without a
/// fault.
fn start(
    config: &std::path::Path,
    role: Option<Role>,
    output: &Output,
) -> Result<(Role, Tier), Failure> {
    need_root()?;
    let record = match role_record::read() {
        Ok(record) => record,
        Err(unreadable) => {
            output.warning(&unreadable);
            role_record::from_runs(std::path::Path::new(crate::host::STATE_DIRECTORY))?
        }
    };
    let role = role_record::choose_role(role, record.as_ref()).map_err(|error| Failure {
        code: exit::USAGE,
        error: Some(error),
    })?;
    Ok((role, load(config, Some(role), output)?))
}

fn need_root() -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure {
        code: exit::NEEDS_ROOT,
        error: Some(
            Error::new("wasagent configures this VM and needs root").hint("run it by sudo"),
        ),
    })
}

fn load(config: &std::path::Path, role: Option<Role>, output: &Output) -> Result<Tier, Failure> {
    config::load(config, role).map_err(|faults| {
        output.faults(&faults);
        Failure {
            code: exit::BAD_TIER_FILE,
            error: None,
        }
    })
}

fn block_on(command: impl Future<Output = Result<Code, Failure>>) -> Result<Code, Failure> {
    // Two workers beside the main thread: if a call on a dead server holds one, the other still serves deadlines and
    // signals.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::new(format!("start: {e}")))?;
    let result = runtime.block_on(command);
    // Do not wait for a thread that hangs on a dead mount.
    runtime.shutdown_background();
    result
}

fn log_to_standard_error(verbose: u8, colour: bool) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_max_level(level)
        .with_target(false)
        .init();
}

use std::future::Future;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
