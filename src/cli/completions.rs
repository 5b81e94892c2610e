//! `wasagent completions`: what a shell needs to complete the command line.

use std::io::{ErrorKind, Write};

use clap::builder::PossibleValue;
use clap::{CommandFactory, ValueEnum};
use clap_complete::aot::{Bash, Fish, Generator, Zsh};

use super::exit::{self, Code};
use super::{Arguments, Failure};
use crate::error::{Doing, Result};

/// A shell whose completions can be printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub fn run(shell: Shell) -> Result<Code, Failure> {
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(Bash, &mut script),
        Shell::Zsh => generate(Zsh, &mut script),
        Shell::Fish => for_fish(&mut script),
    }
    match std::io::stdout().write_all(&script) {
        // Who reads only the beginning, such as head(1), closes the pipe.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.doing("write the completions")?,
    }
    Ok(exit::DONE)
}

fn generate(shell: impl Generator, script: &mut Vec<u8>) {
    clap_complete::generate(shell, &mut for_people(), "wasagent", script);
}

/// clap's generator for fish leaves out the values of arguments that have no name.
fn for_fish(script: &mut Vec<u8>) {
    generate(Fish, script);
    for command in for_people().get_subcommands() {
        for argument in command.get_positionals() {
            let values = argument.get_possible_values();
            let values: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
            if !values.is_empty() {
                let (name, values) = (command.get_name(), values.join(" "));
                let line = format!(
                    "complete -c wasagent -n \"__fish_wasagent_using_subcommand {name}\" -f -a \"{values}\"\n"
                );
                script.extend(line.bytes());
            }
        }
    }
}

/// The command line without the commands that only units run: a shell would offer them, hidden or not.
fn for_people() -> clap::Command {
    let all = Arguments::command();
    let shown: Vec<clap::Command> = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect();
    let arguments: Vec<clap::Arg> = all.get_arguments().cloned().collect();
    clap::Command::new("wasagent")
        .version(env!("CARGO_PKG_VERSION"))
        .args(arguments)
        .subcommands(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_offers_what_people_type_and_nothing_that_only_units_run() {
        let scripts: [fn(&mut Vec<u8>); 3] = [
            |script| generate(Bash, script),
            |script| generate(Zsh, script),
            for_fish,
        ];
        for write in scripts {
            let mut script = Vec::new();
            write(&mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Arguments::command().get_subcommands() {
                let name = command.get_name();
                assert_eq!(
                    script.contains(name),
                    !command.is_hide_set(),
                    "{name}\n{script}"
                );
            }
            assert!(script.contains("rollback-on-failure") && script.contains("storage"));
            assert!(script.contains("bash zsh fish"), "{script}");
        }
    }
}
