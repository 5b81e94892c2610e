//! The one judge of all contestants: a list of facts that can be observed on the VM, whoever made them. Who does less is
//! shown as failing, and no time of it counts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::stopwatch::LIMIT;
use crate::guest::Guest;
use crate::process::until;

/// How long a daemon may need until it does what it was told; an application, until it answers.
const SETTLING: Duration = Duration::from_secs(10);
const STARTING: Duration = Duration::from_secs(90);

/// Facts by name, with what each has to be.
type Wanted = &'static [(&'static str, &'static str)];

/// The storage VM that every contestant has to make.
const STORAGE: Wanted = &[
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

/// The WAS VM.
const WAS: Wanted = &[
    ("the share is mounted", "//192.168.2.13/user1"),
    ("it is encrypted", "seal"),
    ("its dialect", "vers=3.1.1"),
    ("it is mounted at a boot", "yes"),
    ("files with the password that others may read", "0"),
    ("the page", "was-container-1"),
    ("the page at another port", ""),
    ("the container is privileged", "false"),
    ("what the container sees", ""),
    ("its variable", "NODE_ENV=production"),
    ("the container now", "active"),
    ("the container at a boot", "yes"),
];

/// What is not as it has to be, a sentence each.
pub type Faults = Vec<String>;

/// A guest, and what has to be asked of it.
pub struct Case<'a> {
    guest: &'a Guest,
    questions: &'static str,
    arguments: Vec<String>,
    wanted: Wanted,
    settling: Duration,
}

impl<'a> Case<'a> {
    /// A storage VM with this disk, to which one password lets in and another does not.
    pub fn storage(guest: &'a Guest, disk: &str, password: &str, another: &str) -> Case<'a> {
        Case {
            guest,
            questions: include_str!("judge/storage.sh"),
            arguments: [disk, password, another].map(str::to_owned).into(),
            wanted: STORAGE,
            settling: SETTLING,
        }
    }

    /// A WAS VM that serves at one port and not at another, on a share with this password.
    pub fn was(guest: &'a Guest, port: &str, another: &str, password: &str) -> Case<'a> {
        Case {
            guest,
            questions: include_str!("judge/was.sh"),
            arguments: [port, another, password].map(str::to_owned).into(),
            wanted: WAS,
            settling: STARTING,
        }
    }

    /// What is wrong with the VM's state once its daemons have had time to do what they were told.
    pub fn judge(&self) -> Result<Faults> {
        let mut last = self.look()?;
        if last.is_empty() {
            return Ok(last);
        }
        let settled = until("the wanted state", self.settling, || {
            last = self.look()?;
            Ok(last.is_empty().then_some(()))
        });
        Ok(if settled.is_ok() { Vec::new() } else { last })
    }

    /// Fails unless the state is a wrong one: what was spoilt is seen.
    pub fn must_fail(&self) -> Result<()> {
        until("a fault in what was spoilt", self.settling, || {
            Ok((!self.look()?.is_empty()).then_some(()))
        })
    }

    fn look(&self) -> Result<Faults> {
        let mut words = vec!["sh", "-s", "-"];
        words.extend(self.arguments.iter().map(String::as_str));
        let input = self.questions.as_bytes();
        let answer = self.guest.run_with(&words, input, LIMIT)?;
        ensure!(answer.success(), "the judge's questions: {answer}");
        Ok(faults(self.wanted, &answer.stdout))
    }
}

/// What in these facts is not as it has to be. A fact that is missing is a fault.
fn faults(wanted: Wanted, facts: &str) -> Faults {
    let facts: BTreeMap<&str, &str> = facts
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let differ = wanted.iter().filter_map(|(name, wanted)| {
        let found = facts.get(name);
        (found != Some(wanted))
            .then(|| format!("{name}: {:?}, not {wanted:?}", found.unwrap_or(&"not told")))
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTIONS: [(&str, Wanted); 2] = [
        (include_str!("judge/storage.sh"), STORAGE),
        (include_str!("judge/was.sh"), WAS),
    ];

    fn told(wanted: Wanted, but: &str, instead: &str) -> String {
        let lines = wanted.iter().map(|(name, wanted)| {
            let value = if *name == but { instead } else { wanted };
            format!("{name}\t{value}\n")
        });
        lines.collect()
    }

    #[test]
    fn the_wanted_state_has_no_fault() {
        for (_, wanted) in QUESTIONS {
            assert_eq!(faults(wanted, &told(wanted, "", "")), [""; 0]);
        }
    }

    #[test]
    fn each_wrong_fact_is_a_fault_and_so_is_one_that_is_not_told() {
        for (_, all) in QUESTIONS {
            for (name, wanted) in all {
                let found = faults(all, &told(all, name, "something else"));
                assert_eq!(found.len(), 1, "{found:?}");
                assert!(found[0].contains(name) && found[0].contains(wanted));
                let told = told(all, "", "");
                let own = format!("{name}\t");
                let others = told.lines().filter(|line| !line.starts_with(&own));
                let others: Vec<&str> = others.collect();
                assert_eq!(faults(all, &others.join("\n")).len(), 1, "{name}");
            }
        }
    }

    #[test]
    fn every_fact_that_is_wanted_is_asked_for() {
        for (questions, wanted) in QUESTIONS {
            let questions = questions.replace("'\\''", "");
            for (name, _) in wanted {
                let name = name
                    .trim_end_matches(", also after a boot")
                    .replace('\'', "");
                assert!(questions.contains(&name), "{name}");
            }
        }
    }
}
