//! Who is measured, and how each is run: the programs in tests/lab/bench are all that differs between the guests.

use std::collections::BTreeMap;
use std::fmt;

use crate::tier::{Role, TIER_FILE};

/// What is measured, in the order in which it happens to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// On a fresh guest, with a blank disk.
    First,
    /// Once more, with nothing to change.
    Nothing,
    /// What would be changed, where nothing would.
    Plan,
    /// One value is another one: the share's password; the published port.
    Change,
    /// Somebody has edited the share's configuration; has stopped the container.
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
            Phase::Change => "one change",
            Phase::Drift => "one drift",
        })
    }
}

/// Who brings a VM into the wanted state.
#[derive(Clone, Debug)]
pub struct Contestant {
    pub name: &'static str,
    /// Whether it is in the roots of the bench alone.
    pub is_peer: bool,
    /// Its programs, by path on the guest. `@disk@` stands for the data disk, `@port@` for the published port.
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

/// The directory of the contestants' programs on a guest.
const THERE: &str = "/root/bench";

/// What the contestants but the agent write, each for itself: the section of smb.conf, and the container's unit.
const SHARE: &str = include_str!("../../bench/storage/share.conf");
const UNIT: &str = include_str!("../../bench/was/nodejs-server.service");

/// A role's program of a contestant.
macro_rules! program {
    ($path:literal) => {
        include_str!(concat!("../../bench/", $path)).to_owned()
    };
}

/// The contestants of a role; the agent first.
pub fn all(role: Role) -> Vec<Contestant> {
    match role {
        Role::Storage => storage(),
        Role::Was => was(),
    }
}

fn storage() -> Vec<Contestant> {
    let share = || there("share.conf", SHARE.to_owned());
    let within = |text: String, indent: &str| filled(&text, "@share.conf@", SHARE, indent);
    vec![
        wasagent(),
        shell(within(program!("storage/shell/guide.sh"), "")),
        pyinfra(vec![
            there("deploy.py", program!("storage/pyinfra/deploy.py")),
            share(),
        ]),
        ansible(vec![
            there("playbook.yml", program!("storage/ansible/playbook.yml")),
            there("ansible.cfg", program!("storage/ansible/ansible.cfg")),
            share(),
        ]),
        puppet(vec![
            there("site.pp", program!("storage/puppet/site.pp")),
            share(),
        ]),
        cloud_init(
            within(program!("storage/cloud-init/user-data"), "      "),
            program!("storage/cloud-init/boot.sh"),
        ),
    ]
}

fn was() -> Vec<Contestant> {
    let unit = || there("nodejs-server.service", UNIT.to_owned());
    let within = |text: String, indent: &str| filled(&text, "@unit@", UNIT, indent);
    vec![
        agent("was", program!("was/wasagent/tier.toml")),
        shell(within(program!("was/shell/guide.sh"), "")),
        pyinfra(vec![
            there("deploy.py", program!("was/pyinfra/deploy.py")),
            unit(),
        ]),
        ansible(vec![
            there("playbook.yml", program!("was/ansible/playbook.yml")),
            there("ansible.cfg", program!("was/ansible/ansible.cfg")),
            unit(),
        ]),
        puppet(vec![
            there("site.pp", program!("was/puppet/site.pp")),
            unit(),
        ]),
        cloud_init(
            within(program!("was/cloud-init/user-data"), "      "),
            program!("was/cloud-init/boot.sh"),
        ),
    ]
}

/// The agent of a storage VM.
pub(super) fn wasagent() -> Contestant {
    agent("storage", program!("storage/wasagent/tier.toml"))
}

fn agent(role: &'static str, tier: String) -> Contestant {
    Contestant {
        name: AGENT,
        is_peer: false,
        files: vec![(TIER_FILE.to_owned(), tier)],
        apply: vec!["wasagent", "apply", "--role", role],
        good: &[0],
        plan: Some(vec!["wasagent", "plan", "--role", role]),
        without: BTreeMap::new(),
        version: "wasagent --version",
    }
}

fn shell(guide: String) -> Contestant {
    Contestant {
        name: "shell",
        is_peer: false,
        files: vec![there("guide.sh", guide)],
        apply: vec!["sh", "/root/bench/guide.sh"],
        good: &[0],
        plan: None,
        without: BTreeMap::new(),
        version: "echo dash $(dpkg-query -W -f '${Version}' dash)",
    }
}

fn pyinfra(files: Vec<(String, String)>) -> Contestant {
    Contestant {
        name: "pyinfra",
        is_peer: true,
        files,
        apply: vec!["pyinfra", "--yes", "@local", "/root/bench/deploy.py"],
        good: &[0],
        plan: Some(vec!["pyinfra", "--dry", "@local", "/root/bench/deploy.py"]),
        without: BTreeMap::new(),
        version: "pyinfra --version",
    }
}

fn ansible(files: Vec<(String, String)>) -> Contestant {
    let run = vec![
        "env",
        "ANSIBLE_CONFIG=/root/bench/ansible.cfg",
        "ansible-playbook",
        "/root/bench/playbook.yml",
    ];
    Contestant {
        name: "ansible",
        is_peer: true,
        files,
        plan: Some([run.as_slice(), &["--check"]].concat()),
        apply: run,
        good: &[0],
        without: BTreeMap::new(),
        version: "ansible-playbook --version | head -n 1; \
                  ansible-galaxy collection list 2>/dev/null | grep -wE 'ansible.posix|community.general|containers.podman'",
    }
}

fn puppet(files: Vec<(String, String)>) -> Contestant {
    let run = vec![
        "puppet",
        "apply",
        "--detailed-exitcodes",
        "/root/bench/site.pp",
    ];
    Contestant {
        name: "puppet",
        is_peer: true,
        files,
        plan: Some([run.as_slice(), &["--noop"]].concat()),
        apply: run,
        // 2: there were changes.
        good: &[0, 2],
        without: BTreeMap::new(),
        version: "echo puppet $(puppet --version); dpkg-query -W puppet-module-puppetlabs-stdlib \
                  puppet-module-puppetlabs-mount-core puppet-module-puppetlabs-vcsrepo puppet-module-puppetlabs-rsync",
    }
}

fn cloud_init(user_data: String, boot: String) -> Contestant {
    let seed = "/var/lib/cloud/seed/nocloud";
    let once = "its modules run once for each VM";
    Contestant {
        name: "cloud-init",
        is_peer: true,
        files: vec![
            (format!("{seed}/user-data"), user_data),
            (
                format!("{seed}/meta-data"),
                "instance-id: bench\n".to_owned(),
            ),
            there("boot.sh", boot),
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

fn there(name: &str, text: String) -> (String, String) {
    (format!("{THERE}/{name}"), text)
}

/// A program with another text in it, of which each line but the first begins with the indentation.
fn filled(program: &str, place: &str, text: &str, indent: &str) -> String {
    let lines = text.trim_end().replace('\n', &format!("\n{indent}"));
    program.replace(place, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_disk_and_the_port_is_left_to_fill_in() {
        for contestant in [all(Role::Storage), all(Role::Was)].concat() {
            for (path, text) in contestant.files {
                let open = ["@share.conf@", "@unit@"]
                    .iter()
                    .find(|one| text.contains(**one));
                assert_eq!(open, None, "{path}");
            }
        }
    }

    #[test]
    fn both_roles_have_the_same_contestants() {
        let names = |role| all(role).iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names(Role::Storage), names(Role::Was));
    }

    #[test]
    fn a_phase_has_a_command_or_a_reason() {
        let all = all(Role::Storage);
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
