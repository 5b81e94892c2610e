//! The parts of a page that the program knows: synopsis and options from the command line's definition, keys from the
//! tier file's.

use clap::{Arg, Command, CommandFactory};

use super::super::Arguments;
use super::roff::Roff;
use crate::config::keys::{self, Key, Section, Without};

/// Writes how the command of this page is called, if the page is a command's.
pub fn synopsis(page: &str, roff: &mut Roff) {
    let Some(command) = command_of(page) else {
        return;
    };
    let mut text = format!("`{}`", page.replacen('-', " ", 1));
    if page == "wasagent" {
        text.push_str(" *COMMAND*");
    }
    for argument in shown(&command) {
        let usage = usage(argument);
        text.push_str(&match argument.is_required_set() {
            true => format!(" {usage}"),
            false => format!(" [{usage}]"),
        });
    }
    roff.section("Synopsis");
    roff.paragraph(&text);
}

/// Writes what a mark stands for; `false` if the block is none.
pub fn put_in(block: &str, page: &str, roff: &mut Roff) -> bool {
    match block {
        "{options}" => options(page, roff),
        "{commands}" => commands(roff),
        "{keys}" => keys::sections()
            .iter()
            .filter(|section| !section.name.is_empty())
            .for_each(|s| section(s, roff)),
        _ => return false,
    }
    true
}

fn command_of(page: &str) -> Option<Command> {
    let all = Arguments::command();
    match page.strip_prefix("wasagent-") {
        None => (page == "wasagent").then_some(all),
        Some(name) => all.find_subcommand(name).cloned(),
    }
}

fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
}

/// `**--timeout** *DURATION*`
fn usage(argument: &Arg) -> String {
    let value = argument.get_value_names().and_then(|names| names.first());
    let value = value.filter(|_| argument.get_action().takes_values());
    let value = value.map(|name| format!("*{name}*"));
    let option = argument.get_long().map(|long| format!("`--{long}`"));
    let parts: Vec<String> = option.into_iter().chain(value).collect();
    parts.join(" ")
}

fn options(page: &str, roff: &mut Roff) {
    let Some(command) = command_of(page) else {
        return;
    };
    let of_all = page == "wasagent";
    if !of_all {
        roff.section("Options");
    }
    for argument in shown(&command) {
        let short = argument
            .get_short()
            .map(|short| format!("`-{short}`, "))
            .unwrap_or_default();
        roff.item(&format!("{short}{}", usage(argument)), &told(argument));
    }
    if !of_all {
        roff.paragraph(
            "The options of every command, such as `--config` and `--format`, are in wasagent(8).",
        );
    }
}

/// What an option does, with its values and its default.
fn told(argument: &Arg) -> String {
    let help = argument
        .get_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    debug_assert!(!help.is_empty(), "{} has no help", argument.get_id());
    let mut text = format!("{help}.");
    let takes_values = argument.get_action().takes_values();
    let values = argument.get_possible_values();
    if takes_values && !values.is_empty() {
        let names: Vec<String> = values
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        text.push_str(&format!(" One of {}.", names.join(", ")));
    }
    if let Some(default) = argument
        .get_default_values()
        .first()
        .filter(|_| takes_values)
    {
        text.push_str(&format!(" Default: `{}`.", default.to_string_lossy()));
    }
    text
}

fn commands(roff: &mut Roff) {
    roff.section("Commands");
    let all = Arguments::command();
    for command in all
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        let name = command.get_name();
        roff.item(&format!("wasagent-{name}(8)"), &format!("{about}."));
    }
}

/// A section of the tier file, key by key.
fn section(section: &Section, roff: &mut Roff) {
    roff.section(&format!("[{}]", section.name));
    roff.paragraph(&format!("{}.", section.about));
    for key in section.keys {
        roff.item(&format!("`{}`", key.name), &format!("{}.", key.about));
        facts(key).iter().for_each(|fact| roff.next_line(fact));
    }
}

/// What is to be known of a key, in one line each.
fn facts(key: &Key) -> Vec<String> {
    let mut facts = Vec::new();
    if !key.range.is_empty() {
        facts.push(format!("Takes {}.", key.range));
    }
    facts.push(match key.without {
        Without::Fault => "Required.".to_owned(),
        Without::Default(value) => format!("Default: `{value}`."),
        Without::Means(means) => format!("Left out: {means}."),
    });
    if !key.example.is_empty() {
        facts.push(format!("Example: `{} = {}`", key.name, key.example));
    }
    if !key.disturbs.is_empty() {
        facts.push(format!("Changing it disturbs {}.", key.disturbs));
    }
    facts
}
