//! Who is measured, and how each is run: the programs in tests/lab/bench are all that differs between the guests.

use std::collections::BTreeMap;
use std::fmt;

use crate::tier::TIER_FILE;

/// What is measured, in the order in which it happens to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// On a fresh guest, with a blank disk.
    First,
    /// Once more, with nothing to change.
    Nothing,
    /// What would be changed, where nothing would.
    Plan,
    /// The share's password is another one.
    Change,
    /// Somebody has edited the share's configuration.
    Drift,
}

impl Phase {
    pub const ALL: [Phase; 5] = [
        Phase::First,
        Phase::Nothing,
        Phase::Plan,
        Phase::Change,
        Phase::Drift,
    ];
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Phase::First => "first apply",
            Phase::Nothing => "nothing to change",
            Phase::Plan => "plan or check",
            Phase::Change => "a new password",
            Phase::Drift => "a file edited",
        })
    }
}

/// Who brings a VM into the wanted state.
#[derive(Clone, Debug)]
pub struct Contestant {
    pub name: &'static str,
    /// Whether it is in the roots of the bench alone.
    pub is_peer: bool,
    /// Its programs, by path on the guest. `@disk@` stands for the data disk.
    pub files: Vec<(String, String)>,
    /// How it is run.
    pub apply: Vec<&'static str>,
    /// The exit codes with which it says that all is well.
    pub good: &'static [i32],
    /// How it says what it would change.
    pub plan: Option<Vec<&'static str>>,
    /// Why a phase is not measured.
    pub without: BTreeMap<Phase, &'static str>,
    /// What tells its version.
    pub version: &'static str,
}

impl Contestant {
    /// How it is run in a phase, or why it is not.
    pub fn command(&self, phase: Phase) -> Result<&[&'static str], &'static str> {
        if let Some(why) = self.without.get(&phase) {
            return Err(why);
        }
        match (phase, &self.plan) {
            (Phase::Plan, Some(plan)) => Ok(plan),
            (Phase::Plan, None) => Err("it has none"),
            _ => Ok(&self.apply),
        }
    }
}

/// The agent's name, of which the ratios are taken.
pub const AGENT: &str = "wasagent";

/// The section of smb.conf that all but the agent write.
const SHARE: &str = include_str!("../../bench/storage/share.conf");

/// The contestants of the storage role; the agent first.
pub fn storage() -> Vec<Contestant> {
    vec![
        wasagent(),
        shell(),
        pyinfra(),
        ansible(),
        puppet(),
        cloud_init(),
    ]
}

/// The agent.
pub(super) fn wasagent() -> Contestant {
    let tier = include_str!("../../bench/storage/wasagent/tier.toml");
    Contestant {
        name: AGENT,
        is_peer: false,
        files: vec![(TIER_FILE.to_owned(), tier.to_owned())],
        apply: vec!["wasagent", "apply", "--role", "storage"],
        good: &[0],
        plan: Some(vec!["wasagent", "plan", "--role", "storage"]),
        without: BTreeMap::new(),
        version: "wasagent --version",
    }
}

fn shell() -> Contestant {
    let guide = include_str!("../../bench/storage/shell/guide.sh");
    Contestant {
        name: "shell",
        is_peer: false,
        files: vec![program(
            "guide.sh",
            &guide.replace("@share.conf@", SHARE.trim_end()),
        )],
        apply: vec!["sh", "/root/bench/guide.sh"],
        good: &[0],
        plan: None,
        without: BTreeMap::new(),
        version: "echo dash $(dpkg-query -W -f '${Version}' dash)",
    }
}

fn pyinfra() -> Contestant {
    let deploy = include_str!("../../bench/storage/pyinfra/deploy.py");
    Contestant {
        name: "pyinfra",
        is_peer: true,
        files: vec![program("deploy.py", deploy), program("share.conf", SHARE)],
        apply: vec!["pyinfra", "--yes", "@local", "/root/bench/deploy.py"],
        good: &[0],
        plan: Some(vec!["pyinfra", "--dry", "@local", "/root/bench/deploy.py"]),
        without: BTreeMap::new(),
        version: "pyinfra --version",
    }
}

fn ansible() -> Contestant {
    let playbook = include_str!("../../bench/storage/ansible/playbook.yml");
    let settings = include_str!("../../bench/storage/ansible/ansible.cfg");
    let run = vec![
        "env",
        "ANSIBLE_CONFIG=/root/bench/ansible.cfg",
        "ansible-playbook",
        "/root/bench/playbook.yml",
    ];
    Contestant {
        name: "ansible",
        is_peer: true,
        files: vec![
            program("playbook.yml", playbook),
            program("ansible.cfg", settings),
            program("share.conf", SHARE),
        ],
        plan: Some([run.as_slice(), &["--check"]].concat()),
        apply: run,
        good: &[0],
        without: BTreeMap::new(),
        version: "ansible-playbook --version | head -n 1; \
                  ansible-galaxy collection list 2>/dev/null | grep -wE 'ansible.posix|community.general'",
    }
}

fn puppet() -> Contestant {
    let manifest = include_str!("../../bench/storage/puppet/site.pp");
    let run = vec![
        "puppet",
        "apply",
        "--detailed-exitcodes",
        "/root/bench/site.pp",
    ];
    Contestant {
        name: "puppet",
        is_peer: true,
        files: vec![program("site.pp", manifest), program("share.conf", SHARE)],
        plan: Some([run.as_slice(), &["--noop"]].concat()),
        apply: run,
        // 2: there were changes.
        good: &[0, 2],
        without: BTreeMap::new(),
        version: "echo puppet $(puppet --version); dpkg-query -W 'puppet-module-*'",
    }
}

fn cloud_init() -> Contestant {
    let user_data = include_str!("../../bench/storage/cloud-init/user-data");
    let boot = include_str!("../../bench/storage/cloud-init/boot.sh");
    let seed = "/var/lib/cloud/seed/nocloud";
    let share = SHARE.trim_end().replace('\n', "\n      ");
    let once = "its modules run once for each VM";
    Contestant {
        name: "cloud-init",
        is_peer: true,
        files: vec![
            (
                format!("{seed}/user-data"),
                user_data.replace("@share.conf@", &share),
            ),
            (
                format!("{seed}/meta-data"),
                "instance-id: bench\n".to_owned(),
            ),
            program("boot.sh", boot),
        ],
        apply: vec!["sh", "/root/bench/boot.sh"],
        good: &[0],
        plan: None,
        without: [Phase::Nothing, Phase::Change, Phase::Drift]
            .map(|phase| (phase, once))
            .into(),
        version: "cloud-init --version",
    }
}

fn program(name: &str, text: &str) -> (String, String) {
    (format!("/root/bench/{name}"), text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_disk_is_left_to_fill_in() {
        for contestant in storage() {
            for (path, text) in contestant.files {
                let text = text.replace("@disk@", "");
                // pyinfra's own name of this machine, and Python's decorators, are in no program.
                let open = text.lines().find(|line| line.contains("@share"));
                assert_eq!(open, None, "{path}");
            }
        }
    }

    #[test]
    fn a_phase_has_a_command_or_a_reason() {
        let all = storage();
        let of = |name: &str| all.iter().find(|one| one.name == name).unwrap();
        assert_eq!(
            of("puppet").command(Phase::Plan).unwrap().last(),
            Some(&"--noop")
        );
        assert!(of("shell").command(Phase::Plan).is_err());
        assert!(of("cloud-init").command(Phase::Nothing).is_err());
        assert!(of("cloud-init").command(Phase::First).is_ok());
        assert_eq!(all[0].name, AGENT);
    }
}
