//! The one judge of all contestants: a list of facts that can be observed on the VM, whoever made them. Who does less is
//! shown as failing, and no time of it counts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::process::until;

/// Prints the facts.
const QUESTIONS: &str = include_str!("judge.sh");

/// How long a daemon may need until it does what it was told.
const SETTLING: Duration = Duration::from_secs(10);

/// The storage VM that every contestant has to make: facts by name, with what each has to be.
const WANTED: [(&str, &str); 21] = [
    ("file system", "xfs"),
    ("the disk is mounted", "yes"),
    ("it is mounted for writing", "yes"),
    ("it is mounted at a boot", "yes"),
    ("owner and mode of the directory", "user1:user1 2770"),
    ("shell of the account", "/usr/sbin/nologin"),
    ("the account has no password of its own", "yes"),
    ("a client with the password", "in"),
    ("what it wrote and deleted", ""),
    ("a client with another password", "NT_STATUS_LOGON_FAILURE"),
    ("a client that cannot encrypt", "NT_STATUS_ACCESS_DENIED"),
    ("a guest", "NT_STATUS_ACCESS_DENIED"),
    ("the firewall lets the WAS VMs in", "yes"),
    ("the firewall lets the WAS VMs in, also after a boot", "yes"),
    ("the firewall lets others in", "no"),
    ("the firewall lets others in, also after a boot", "no"),
    ("Samba now", "active"),
    ("Samba at a boot", "enabled"),
    ("files of the revision that are not as they are in it", "0"),
    ("things in the directory that are not its account's", "0"),
    ("things in the directory that anybody may use", "0"),
];

/// What is not as it has to be, a sentence each.
pub type Faults = Vec<String>;

/// What a judge has to know of a guest.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    pub guest: &'a Guest,
    pub disk: &'a str,
    pub password: &'a str,
    /// One that must be refused.
    pub another: &'a str,
}

impl Case<'_> {
    /// What is wrong with the VM's state once its daemons have had time to do what they were told.
    pub fn judge(&self) -> Result<Faults> {
        let mut last = self.look()?;
        let settled = until("the wanted state", SETTLING, || {
            last = self.look()?;
            Ok(last.is_empty().then_some(()))
        });
        Ok(if settled.is_ok() { Vec::new() } else { last })
    }

    /// Fails unless the state is a wrong one: what was spoilt is seen.
    pub fn must_fail(&self) -> Result<()> {
        until("a fault in what was spoilt", SETTLING, || {
            Ok((!self.look()?.is_empty()).then_some(()))
        })
    }

    fn look(&self) -> Result<Faults> {
        let words = ["sh", "-s", "-", self.disk, self.password, self.another];
        let input = QUESTIONS.as_bytes();
        let answer = self
            .guest
            .run_with(words, input, Duration::from_secs(120))?;
        ensure!(answer.success(), "the judge's questions: {answer}");
        Ok(faults(&answer.stdout))
    }
}

/// What in these facts is not as it has to be. A fact that is missing is a fault.
fn faults(facts: &str) -> Faults {
    let facts: BTreeMap<&str, &str> = facts
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let differ = WANTED.iter().filter_map(|(name, wanted)| {
        let found = facts.get(name);
        (found != Some(wanted))
            .then(|| format!("{name}: {:?}, not {wanted:?}", found.unwrap_or(&"not told")))
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(but: &str, instead: &str) -> String {
        let lines = WANTED.iter().map(|(name, wanted)| {
            let value = if *name == but { instead } else { wanted };
            format!("{name}\t{value}\n")
        });
        lines.collect()
    }

    #[test]
    fn the_wanted_state_has_no_fault() {
        assert_eq!(faults(&told("", "")), [""; 0]);
    }

    #[test]
    fn each_wrong_fact_is_a_fault_and_so_is_one_that_is_not_told() {
        for (name, wanted) in WANTED {
            let found = faults(&told(name, "something else"));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(name) && found[0].contains(wanted));
            let all = told("", "");
            let left_out: Vec<&str> = all
                .lines()
                .filter(|line| !line.starts_with(&format!("{name}\t")))
                .collect();
            assert_eq!(faults(&left_out.join("\n")).len(), 1, "{name}");
        }
    }

    #[test]
    fn every_fact_that_is_wanted_is_asked_for() {
        for (name, _) in WANTED {
            let name = name
                .trim_end_matches(", also after a boot")
                .replace('\'', "");
            assert!(QUESTIONS.replace("'\\''", "").contains(&name), "{name}");
        }
    }
}
