//! `cargo lab bench`: the agent against what people use today. The same end state is reached by each contestant in turn, on
//! guests that are the same but for the contestant's own programs, which are in tests/lab/bench. One judge looks at each end
//! state, so that nobody wins by doing less.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::agent;
use crate::lab::Lab;
use crate::progress::say;
use crate::release::Release;
use crate::tier::Role;

mod chart;
pub mod contestant;
mod floor;
pub mod ground;
mod growth;
pub mod instructions;
mod judge;
mod machine;
pub mod report;
mod statistics;
mod stopwatch;
mod table;

use contestant::{AGENT, Contestant};
use ground::{Ground, Note};
use report::Report;

/// What is measured, and where it is written.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How many times each contestant is measured, each time on a guest of its own.
    #[arg(long, default_value_t = 10)]
    pub runs: usize,
    /// The role of the VM that is made.
    #[arg(long, default_value = "storage")]
    pub role: Role,
    /// What the guests run: bookworm or trixie.
    #[arg(long, default_value = "bookworm")]
    pub release: Release,
    /// Only this contestant, beside the agent; may be said again for more.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Counts the instructions of the agent's commands that change nothing, writes them into the checkout, and ends.
    #[arg(long)]
    pub instructions: bool,
    /// Leaves out what is counted under strace(1), and how the times grow with the content.
    #[arg(long)]
    pub times_only: bool,
    /// Writes all that was measured as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws the medians.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// `cargo lab bench`.
pub fn run(options: &Options) -> Result<()> {
    if options.instructions {
        return instructions::record(options.release);
    }
    ensure!(options.runs > 0, "--runs 0 measures nothing");
    let contestants = chosen(options)?;
    let extent = match options.times_only {
        true => Extent::Times,
        false => Extent::All,
    };
    let report = measure(
        options.role,
        options.release,
        contestants,
        options.runs,
        extent,
    )?;
    print!("{}", table::text(&report));
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report.json())? + "\n";
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &options.svg {
        let drawing = chart::svg(&report)?;
        std::fs::write(file, drawing).with_context(|| format!("write {}", file.display()))?;
    }
    let failed = report.failures();
    ensure!(
        failed.is_empty(),
        "no time is shown of: {}",
        failed.join(", ")
    );
    Ok(())
}

fn chosen(options: &Options) -> Result<Vec<Contestant>> {
    let all = contestant::all(options.role);
    let known: Vec<&str> = all.iter().map(|one| one.name).collect();
    if let Some(name) = options
        .only
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        bail!("no contestant {name}; there are {}", known.join(", "));
    }
    let wanted = |one: &Contestant| {
        one.name == AGENT
            || options.only.is_empty()
            || options.only.iter().any(|name| name == one.name)
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// How much is measured besides times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Times,
    /// Beforehand each contestant once under strace(1), which is not measured; afterwards how the agent's times grow.
    All,
}

/// Measures these contestants on this release.
pub fn measure(
    role: Role,
    release: Release,
    contestants: Vec<Contestant>,
    runs: usize,
    extent: Extent,
) -> Result<Report> {
    let agent = agent::build()?;
    let stopwatch = stopwatch::build()?;
    let lab = Lab::new()?;
    let (here, left): (Vec<_>, Vec<_>) = contestants
        .into_iter()
        .partition(|one| !(one.name == "cloud-init" && release == Release::Trixie));
    // All see the same guest. Without a peer there is no need for a root that has them.
    let with_peers = here.iter().any(|one| one.is_peer);
    let root = match with_peers {
        true => release
            .with_peers()
            .with_context(|| format!("no root of {release} has the peers"))?,
        false => release,
    };
    let ground = Ground {
        lab: &lab,
        agent: &agent,
        stopwatch: &stopwatch,
        release: root,
        role,
    };
    let around = ground.around()?;
    let mut report = Report::new(role, root, runs, here, machine::describe()?);
    for one in left {
        report.leave_out(one.name, "Debian 13's package conflicts with firewalld");
    }
    // strace(1) is not known to count in a guest of User-Mode Linux.
    let extent = match role {
        Role::Storage => extent,
        Role::Was => Extent::Times,
    };
    if extent == Extent::All {
        round(&ground, &mut report, 0, Note::Counts)?;
    }
    for run in 1..=runs {
        round(&ground, &mut report, run, Note::Time)?;
    }
    drop(around);
    if extent == Extent::All {
        let guest = ground::applied(&lab, &agent, root)?;
        stopwatch::install(&stopwatch, &guest)?;
        report.floor = floor::measure(&guest, &contestant::wasagent().apply, runs)?;
        drop(guest);
        report.growth = Some(growth::measure(&lab, root, &agent, &stopwatch, runs)?);
    }
    report.load_at_the_end = machine::load()?;
    Ok(report)
}

/// Each contestant once, another one first each time.
fn round(ground: &Ground, report: &mut Report, run: usize, note: Note) -> Result<()> {
    let mut turn = report.contestants.clone();
    let first = run % turn.len();
    turn.rotate_left(first);
    for contestant in turn {
        say(format!("run {run}: {}", contestant.name));
        let told = ground.run(&contestant, note)?;
        report.note(&contestant, run, told);
    }
    Ok(())
}
