//! `cargo lab bench` with one run: who reaches the wanted state has times, and who does less has none.

use anyhow::{Context, Result, ensure};
use wasagent_lab::bench::contestant::{AGENT, Contestant, Phase, all};
use wasagent_lab::bench::{Extent, instructions, measure};
use wasagent_lab::tier::Role;
use wasagent_lab::{Release, agent};

/// The guide's steps but for one: the share does not demand encryption.
fn crippled(shell: &Contestant) -> Contestant {
    let mut crippled = shell.clone();
    crippled.name = "crippled";
    for (_, text) in &mut crippled.files {
        *text = text.replace("server smb encrypt = required", "");
    }
    crippled
}

#[test]
fn who_does_less_gets_no_time() -> Result<()> {
    let all = all(Role::Storage);
    let of = |name: &str| {
        all.iter()
            .find(|one| one.name == name)
            .context("a contestant")
    };
    let (agent, shell) = (of(AGENT)?, of("shell")?);
    let contestants = vec![agent.clone(), shell.clone(), crippled(shell)];
    let report = measure(
        Role::Storage,
        Release::Trixie,
        contestants,
        1,
        Extent::Times,
    )?;

    for phase in Phase::ALL {
        let seconds = |name| report.summary(name, phase, |taken| taken.seconds);
        ensure!(
            seconds(AGENT).is_some(),
            "the agent, {phase}: {}",
            report.json()
        );
        let shell = seconds("shell").is_some() == (phase != Phase::Plan);
        ensure!(shell, "the shell, {phase}: {}", report.json());
        ensure!(seconds("crippled").is_none(), "crippled, {phase}");
    }
    ensure!(
        report.failures() == ["crippled (first apply)"],
        "{:?}",
        report.failures()
    );
    let faults = report
        .faults("crippled", Phase::First)
        .context("its faults")?;
    ensure!(
        faults.len() == 1 && faults[0].starts_with("a client that cannot encrypt"),
        "{faults:?}"
    );
    Ok(())
}

#[test]
fn no_command_needs_more_instructions_than_it_did() -> Result<()> {
    instructions::compare(&instructions::count(&agent::build()?, Release::Bookworm)?)
}
