//! The fail points of an agent that was built with them: how they are named, told by a run, and set off.
//!
//! `WASAGENT_FAILPOINTS_LOG` makes a run append each point that it passes to a file; `WASAGENT_FAILPOINT=NAME=ACTION`
//! makes it die, or the effect fail, at one of them.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::guest::Guest;
use crate::process::{Output, until};

/// The lock of a run that changes something.
const LOCK: &str = "/run/wasagent.lock";
/// Where a run writes the points that it passes; outside all that a snapshot looks at.
const LOG: &str = "/root/failpoints";
const LIMIT: Duration = Duration::from_secs(900);

/// The exit code of a shell whose last program was killed by SIGKILL.
const KILLED: i32 = 128 + 9;

/// The agent's own, of a run that another one keeps away.
const LOCKED: i32 = 75;

/// When in an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    Before,
    /// Between a file's last byte and its name.
    During,
    After,
}

/// `RESOURCE|EFFECT|MOMENT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub resource: String,
    pub effect: String,
    pub moment: Moment,
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Before => "before",
            Moment::During => "during",
            Moment::After => "after",
        };
        write!(formatter, "{}|{}|{moment}", self.resource, self.effect)
    }
}

impl Point {
    fn parse(name: &str) -> Result<Point> {
        let mut parts = name.rsplitn(2, '|');
        let moment = match parts.next() {
            Some("before") => Moment::Before,
            Some("during") => Moment::During,
            Some("after") => Moment::After,
            _ => bail!("not a fail point: {name}"),
        };
        let (resource, effect) = parts
            .next()
            .and_then(|rest| rest.split_once('|'))
            .with_context(|| format!("not a fail point: {name}"))?;
        Ok(Point {
            resource: resource.to_owned(),
            effect: effect.to_owned(),
            moment,
        })
    }

    /// The faults that can meet this effect: D-Bus' where systemd or firewalld is asked to do it, else the errors of
    /// system calls and helper programs.
    pub fn faults(&self) -> &'static [Action] {
        const OVER_DBUS: [&str; 10] = [
            "reload",
            "enable",
            "disable",
            "start",
            "stop",
            "restart",
            "reload-or-restart",
            "reset",
            "open",
            "close",
        ];
        let verb = self.effect.split(' ').next().unwrap_or_default();
        if OVER_DBUS.contains(&verb) {
            &[Action::DBus]
        } else {
            &[Action::Enospc, Action::Eio, Action::Eperm]
        }
    }
}

/// What is to happen at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Kill,
    Enospc,
    Eio,
    Eperm,
    DBus,
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Action::Kill => "kill",
            Action::Enospc => "ENOSPC",
            Action::Eio => "EIO",
            Action::Eperm => "EPERM",
            Action::DBus => "dbus",
        })
    }
}

/// Runs the agent and gives back the points that it passed, in their order, each once.
pub fn passed(guest: &Guest, command: &[&str]) -> Result<(Output, Vec<Point>)> {
    guest.ok(["rm", "-f", LOG])?;
    let log = format!("WASAGENT_FAILPOINTS_LOG={LOG}");
    let output = run(guest, &log, command)?;
    let text = guest.run(["cat", LOG])?.stdout;
    let mut points: Vec<Point> = Vec::new();
    for name in text.lines() {
        let point = Point::parse(name)?;
        if !points.contains(&point) {
            points.push(point);
        }
    }
    Ok((output, points))
}

/// Runs the agent with this action at this point.
pub fn set_off(guest: &Guest, point: &Point, action: Action, command: &[&str]) -> Result<Output> {
    run(
        guest,
        &format!("WASAGENT_FAILPOINT={point}={action}"),
        command,
    )
}

/// Kills the agent at this point, and fails if it does not die there. Comes back when the helper programs that it had
/// started have ended: until then they hold its lock, and another run is refused.
pub fn kill_at(guest: &Guest, point: &Point, command: &[&str]) -> Result<()> {
    let output = set_off(guest, point, Action::Kill, command)?;
    ensure!(
        output.status == KILLED,
        "{} was not killed: {output}",
        command.join(" ")
    );
    guest
        .ok(["flock", "--timeout", "120", LOCK, "true"])
        .map(drop)
}

/// Kills the agent while this helper program of its is at work, and fails unless another run is refused until that has
/// ended.
pub fn kill_beneath(guest: &Guest, helper: &str, command: &[&str]) -> Result<()> {
    const SCRIPT: &str = r#"
helper=$1; lock=$2; shift 2
"$@" >/dev/null 2>&1 & agent=$!
until pid=$(pgrep --newest --exact "$helper"); do kill -0 $agent || { echo "no $helper was run"; exit 1; }; sleep 0.1; done
kill -KILL $agent
"$@" && { echo 'another run has ended well'; exit 1; }
refused=$?
kill -0 $pid || { echo "$helper had ended by then"; exit 1; }
tail --pid=$pid --sleep-interval=0.2 --follow /dev/null
flock --timeout 60 "$lock" true || exit 1
exit $refused
"#;
    let mut words = vec!["sh", "-c", SCRIPT, "sh", helper, LOCK];
    words.extend(command);
    let output = guest.run_unchecked(&words, b"", LIMIT)?;
    ensure!(
        output.status == LOCKED,
        "a run beside {helper} of a killed one: {output}"
    );
    Ok(())
}

/// Waits until systemd has done what a killed run had asked of it, and what it starts again by itself has started: what a
/// plan says then is what an apply finds. What cannot start is started again and again, and not waited for.
pub fn settle(guest: &Guest) -> Result<()> {
    const STARTS_AGAIN: Duration = Duration::from_secs(60);
    let begun = Instant::now();
    until("the end of systemd's jobs", LIMIT, || {
        let jobs = guest.answer(["systemctl", "list-jobs", "--no-legend"])?;
        let starting = guest.answer([
            "systemctl",
            "list-units",
            "--no-legend",
            "--state=activating",
        ])?;
        let is_at_rest = starting.is_empty() || begun.elapsed() > STARTS_AGAIN;
        Ok((jobs.is_empty() && is_at_rest).then_some(()))
    })
}

/// No plan is compared: the run is not to end as planned.
fn run(guest: &Guest, setting: &str, command: &[&str]) -> Result<Output> {
    // The shell stays and tells of a signal by its own exit code; ssh(1) would say 255 of any.
    let mut words = vec!["sh", "-c", "\"$@\"; exit $?", "sh", "env", setting];
    words.extend(command);
    guest.run_unchecked(&words, b"", LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_and_written() {
        for name in [
            "file:/etc/samba/smb.conf|write /etc/samba/smb.conf|during",
            "firewall:public|open runtime a|b|before",
            "unit:smbd.service|restart smbd.service#2|after",
        ] {
            assert_eq!(Point::parse(name).unwrap().to_string(), name);
        }
        for wrong in ["", "a|b", "a|before", "a|b|later"] {
            assert!(Point::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_fault_fits_to_its_effect() {
        let faults = |effect: &str| {
            Point::parse(&format!("a:b|{effect}|before"))
                .unwrap()
                .faults()
        };
        assert_eq!(faults("enable smbd.service"), [Action::DBus]);
        assert_eq!(faults("open runtime 445/tcp"), [Action::DBus]);
        assert_eq!(faults("write /etc/a").len(), 3);
        assert_eq!(faults("mount /mnt/data").len(), 3);
    }
}
