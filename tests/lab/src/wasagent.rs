//! The one way in which a test runs `wasagent apply`: with a plan before it and after it, which must agree with what the
//! apply does. [`Guest::run`] refuses an apply, so that no test passes this by.
//!
//! What is exempt says so in its name: a run that is killed or fails on purpose, or whose power is cut.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::guest::Guest;
use crate::process::Output;
use crate::tier::Role;

/// How long an apply may take on an emulated processor.
const LIMIT: Duration = Duration::from_secs(900);

/// Exit code of a plan that shows changes.
const CHANGES: i32 = 2;

/// Addresses of resources.
pub type Resources = BTreeSet<String>;

/// An apply that is about to be run.
pub struct Apply<'a> {
    guest: &'a Guest,
    role: Option<String>,
    /// A program that runs the agent, with its arguments: strace.
    under: Vec<&'a str>,
    options: Vec<&'a str>,
}

impl<'a> Apply<'a> {
    /// `wasagent apply` of the role that the guest remembers.
    pub fn on(guest: &'a Guest) -> Apply<'a> {
        Apply {
            guest,
            role: None,
            under: Vec::new(),
            options: Vec::new(),
        }
    }

    /// With `--role`.
    pub fn role(mut self, role: Role) -> Self {
        self.role = Some(role.to_string());
        self
    }

    /// Under this program.
    pub fn under(mut self, program: &[&'a str]) -> Self {
        self.under.extend(program);
        self
    }

    /// With options that both plan and apply take: `--config FILE`.
    pub fn with(mut self, options: &[&'a str]) -> Self {
        self.options.extend(options);
        self
    }

    /// Runs plan, apply and, if that succeeded, plan again, and holds them against each other, however apply ends.
    pub fn run(self) -> Result<Applied> {
        self.run_with(&[])
    }

    /// The same, with options that apply alone takes: `--rollback-on-failure`.
    pub fn run_with(self, of_apply: &[&str]) -> Result<Applied> {
        let name = self.guest.name();
        let before = Plan::parse(self.plan()?).with_context(|| name.to_owned())?;
        let mut words = self.words("apply");
        words.extend(of_apply);
        let output = self.guest.run_unchecked(&words, b"", LIMIT)?;
        let applied = Applied::parse(output).with_context(|| name.to_owned())?;
        agree(&before, &applied).with_context(|| {
            format!(
                "{name}: plan and apply do not agree\n--- plan: {}\n--- apply: {}",
                before.output, applied.output
            )
        })?;
        if applied.output.success() {
            let after = self.plan()?;
            ensure!(
                after.status == 0,
                "{name}: plan after a whole apply: {after}\n--- which was: {}",
                applied.output
            );
        }
        Ok(applied)
    }

    /// Runs apply alone while something happens beside it: no plan before it could foresee that. The plan after it must
    /// show nothing.
    pub fn ok_beside(
        self,
        of_apply: &[&str],
        beside: impl FnOnce() -> Result<()> + Send,
    ) -> Result<Applied> {
        let name = self.guest.name();
        let mut words = self.words("apply");
        words.extend(of_apply);
        let output = std::thread::scope(|scope| {
            let beside = scope.spawn(beside);
            let output = self.guest.run_unchecked(&words, b"", LIMIT)?;
            let ended = beside.join();
            ended.map_err(|_| anyhow::anyhow!("what happened beside panicked"))??;
            anyhow::Ok(output)
        })?;
        let applied = Applied::parse(output).with_context(|| name.to_owned())?;
        if !applied.output.success() {
            bail!("{name}: apply: {}", applied.output);
        }
        let after = self.plan()?;
        ensure!(
            after.status == 0,
            "{name}: plan after a whole apply: {after}"
        );
        Ok(applied)
    }

    /// `run`; apply must exit with 0.
    pub fn ok(self) -> Result<Applied> {
        let name = self.guest.name();
        let applied = self.run()?;
        if !applied.output.success() {
            bail!("{name}: apply: {}", applied.output);
        }
        Ok(applied)
    }

    fn plan(&self) -> Result<Output> {
        let words = self.words("plan");
        // Only what an apply does is worth a trace.
        self.guest
            .run_unchecked(&words[self.under.len()..], b"", LIMIT)
    }

    fn words<'b>(&'b self, command: &'b str) -> Vec<&'b str> {
        let mut words = self.under.clone();
        words.extend(["wasagent", command, "--format", "json"]);
        words.extend(self.role.iter().flat_map(|role| ["--role", role]));
        words.extend(&self.options);
        words
    }
}

/// Whether a command line runs an apply, at the hand of whatever other program.
pub(crate) fn is_apply(arguments: &[&str]) -> bool {
    let line = arguments.join(" ");
    line.split([';', '&', '|', '\n']).any(|command| {
        let mut words = command.split_whitespace();
        words.any(|word| word.rsplit('/').next() == Some("wasagent"))
            && words.any(|word| word == "apply")
    })
}

/// What `wasagent plan --format json` said.
pub struct Plan {
    pub output: Output,
    /// None where no plan could be made.
    pub changes: Option<Resources>,
}

impl Plan {
    /// Reads it from an output, whose exit code must fit to what it lists.
    pub fn parse(output: Output) -> Result<Plan> {
        let plan: Value = match serde_json::from_str(&output.stdout) {
            Ok(plan) => plan,
            Err(_) if ![0, CHANGES].contains(&output.status) => Value::Null,
            Err(error) => bail!("the plan is not JSON: {error}: {output}"),
        };
        // The faults of a tier file are a list, and a plan is an object.
        let is_partial = plan.is_object()
            && (plan["unchanged"] != 0 || plan["changes"] != serde_json::json!([]));
        if ![0, CHANGES].contains(&output.status) && !is_partial {
            return Ok(Plan {
                output,
                changes: None,
            });
        }
        let changes: Resources = plan["changes"]
            .as_array()
            .with_context(|| format!("the plan has no changes: {output}"))?
            .iter()
            .filter_map(|change| change["resource"].as_str().map(str::to_owned))
            .collect();
        let is_whole = [0, CHANGES].contains(&output.status);
        ensure!(
            !is_whole || changes.is_empty() == (output.status == 0),
            "the exit code does not fit to the changes: {output}"
        );
        Ok(Plan {
            output,
            changes: Some(changes),
        })
    }
}

/// What an apply did, by its own events.
pub struct Applied {
    pub output: Output,
    pub events: Vec<Value>,
}

impl Applied {
    /// Reads it from the output of `wasagent apply --format json`.
    pub fn parse(output: Output) -> Result<Applied> {
        // A tier file that is refused gives no events.
        let events = if [0, 1].contains(&output.status) {
            let lines = output.stdout.lines();
            lines
                .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
                .collect::<Result<_>>()?
        } else {
            Vec::new()
        };
        Ok(Applied { output, events })
    }

    /// The resources with an event of this name.
    pub fn with_event(&self, name: &str) -> Resources {
        self.events_named(name)
            .filter_map(|event| event["resource"].as_str().map(str::to_owned))
            .collect()
    }

    fn events_named(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.events
            .iter()
            .filter(move |event| event["event"] == name)
    }

    /// What was changed.
    pub fn changed(&self) -> Resources {
        self.with_event("done")
    }

    /// The event in which this resource failed.
    pub fn failure(&self, resource: &str) -> Option<&Value> {
        self.events_named("failed")
            .find(|event| event["resource"] == resource)
    }

    /// The event that tells why the share was not mounted: of the mount, or of its credentials, which are tried before
    /// they are written over.
    pub fn refused_mount(&self) -> Option<&Value> {
        let own = self.failure("secret:/etc/wasagent/share.cred");
        own.or_else(|| self.failure("mount:/mnt/data/shared_folder"))
    }

    /// The closing event.
    pub fn summary(&self) -> Result<&Value> {
        self.events
            .last()
            .filter(|event| event["event"] == "summary")
            .with_context(|| format!("no summary: {}", self.output))
    }

    /// What was said of resources beside their changes.
    pub fn notes(&self) -> Vec<String> {
        let notes = self
            .events
            .iter()
            .filter_map(|event| event["notes"].as_array());
        notes
            .flatten()
            .filter_map(|note| note.as_str().map(str::to_owned))
            .collect()
    }
}

/// Whether an apply did what the plan before it said: all of it if it succeeded, else nothing beyond it, with an event
/// for the rest.
fn agree(plan: &Plan, applied: &Applied) -> Result<()> {
    let done = applied.changed();
    let Some(planned) = &plan.changes else {
        ensure!(
            applied.output.status == plan.output.status,
            "no plan can be made, and apply ends otherwise than plan"
        );
        ensure!(
            done.is_empty(),
            "no plan can be made, and apply changed {done:?}"
        );
        return Ok(());
    };
    let beyond: Vec<&String> = done.difference(planned).collect();
    if applied.output.success() {
        let left: Vec<&String> = planned.difference(&done).collect();
        ensure!(
            beyond.is_empty() && left.is_empty(),
            "apply changed {beyond:?} beyond the plan, and left {left:?} of it"
        );
        return Ok(());
    }
    let (failed, skipped) = (applied.with_event("failed"), applied.with_event("skipped"));
    ensure!(
        !failed.is_empty() || !skipped.is_empty(),
        "apply failed, and no event says of what"
    );
    ensure!(
        beyond.is_empty(),
        "apply changed {beyond:?} beyond the plan"
    );
    let ended = |resource: &&String| {
        [&done, &failed, &skipped]
            .iter()
            .any(|some| some.contains(*resource))
    };
    let without_end: Vec<&String> = planned.iter().filter(|one| !ended(one)).collect();
    ensure!(
        without_end.is_empty(),
        "of {without_end:?}, which was planned, no event tells the end"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(status: i32, stdout: &str) -> Output {
        Output {
            status,
            stdout: stdout.to_owned(),
            stderr: String::new(),
            took: Duration::ZERO,
        }
    }

    fn plan(resources: &[&str]) -> Plan {
        let changes: Vec<Value> = resources
            .iter()
            .map(|resource| serde_json::json!({ "resource": resource }))
            .collect();
        let status = if resources.is_empty() { 0 } else { CHANGES };
        let text = serde_json::json!({ "changes": changes }).to_string();
        Plan::parse(output(status, &text)).unwrap()
    }

    fn applied(status: i32, events: &[(&str, &str)]) -> Applied {
        let lines: Vec<String> = events
            .iter()
            .map(|(event, resource)| {
                serde_json::json!({ "event": event, "resource": resource }).to_string()
            })
            .collect();
        Applied::parse(output(status, &lines.join("\n"))).unwrap()
    }

    #[test]
    fn an_apply_is_known_under_whatever_runs_it() {
        assert!(is_apply(&["wasagent", "apply", "--role", "was"]));
        assert!(is_apply(&[
            "/usr/bin/wasagent",
            "--format",
            "json",
            "apply"
        ]));
        assert!(is_apply(&["strace", "-f", "wasagent", "apply"]));
        assert!(is_apply(&["sh", "-c", "sleep 1; wasagent apply"]));
        assert!(!is_apply(&["wasagent", "plan"]));
        assert!(!is_apply(&["sh", "-c", "wasagent plan; echo apply"]));
        assert!(!is_apply(&["cat", "/etc/wasagent/tier.toml"]));
    }

    #[test]
    fn a_whole_apply_changes_what_was_planned_and_nothing_else() {
        assert!(agree(&plan(&["a:1"]), &applied(0, &[("done", "a:1")])).is_ok());
        assert!(agree(&plan(&[]), &applied(0, &[("unchanged", "a:1")])).is_ok());
        assert!(agree(&plan(&["a:1"]), &applied(0, &[])).is_err());
        assert!(agree(&plan(&[]), &applied(0, &[("done", "a:1")])).is_err());
    }

    #[test]
    fn a_failed_apply_tells_the_end_of_all_that_was_planned() {
        let planned = plan(&["a:1", "b:2", "c:3"]);
        let told = [("done", "a:1"), ("failed", "b:2"), ("skipped", "c:3")];
        assert!(agree(&planned, &applied(1, &told)).is_ok());
        assert!(agree(&planned, &applied(1, &told[..2])).is_err());
        assert!(agree(&plan(&["b:2"]), &applied(1, &told)).is_err());
    }

    #[test]
    fn without_a_plan_nothing_is_changed() {
        for said in [
            "",
            r#"{"changes":[],"unchanged":0,"failed":[{"resource":"a:1"}]}"#,
            r#"[{"file":"tier.toml","line":5,"column":1}]"#,
        ] {
            without_a_plan(said);
        }
    }

    fn without_a_plan(said: &str) {
        let refused = || Plan::parse(output(1, said)).unwrap();
        assert!(agree(&refused(), &applied(1, &[("failed", "a:1")])).is_ok());
        assert!(agree(&refused(), &applied(1, &[("done", "a:1")])).is_err());
        assert!(agree(&refused(), &applied(0, &[])).is_err());
    }

    #[test]
    fn beside_what_cannot_be_looked_at_the_plan_holds() {
        let text =
            r#"{"changes":[{"resource":"a:1"}],"unchanged":2,"failed":[{"resource":"b:2"}]}"#;
        let partial = || Plan::parse(output(1, text)).unwrap();
        let told = [("done", "a:1"), ("failed", "b:2")];
        assert!(agree(&partial(), &applied(1, &told)).is_ok());
        assert!(agree(&partial(), &applied(1, &told[1..])).is_err());
    }
}
