//! The program against a stand-in of the API: what it makes, that it makes nothing twice, and that it goes on where it
//! was cut off.

mod standin;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use standin::{API_KEY, Fault, SECRET_KEY, StandIn};
use wasagent_mold::api::{Client, Keys, Signature};
use wasagent_mold::{Plan, make};

struct Ground {
    directory: tempfile::TempDir,
    server: StandIn,
}

impl Ground {
    fn new(sha1: bool) -> Ground {
        let ground = Ground {
            directory: tempfile::tempdir().unwrap(),
            server: StandIn::start(sha1),
        };
        ground.write("site.toml", include_str!("site.toml"));
        ground.write("tier.toml", include_str!("tier.toml"));
        ground.write("operator.pub", "ssh-ed25519 AAAA operator\n");
        // Stands in for the agent's program.
        ground.write("wasagent", "#!/bin/sh\necho \"user data of $3: $*\"\n");
        let program = ground.directory.path().join("wasagent");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        ground
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn plan(&self) -> Result<Plan> {
        let file = |name| self.directory.path().join(name);
        Plan::read(&file("site.toml"), &file("tier.toml"), &file("wasagent"))
    }

    fn run(&self, signature: Signature, dry_run: bool) -> Result<String> {
        self.run_for(Duration::from_secs(60), signature, dry_run)
    }

    fn run_for(&self, longest: Duration, signature: Signature, dry_run: bool) -> Result<String> {
        let keys = Keys {
            api_key: API_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        };
        let mut client = Client::new(&self.server.endpoint, signature, keys, None)?;
        client.poll = Duration::from_millis(1);
        client.longest = longest;
        let mut out = Vec::new();
        make(&client, &self.plan()?, dry_run, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// What is there at the end, as far as somebody would notice.
    fn assert_whole(&self) {
        let names = |kind| self.server.names(kind);
        let vms = [
            "linux-3tier-was-storage",
            "linux-3tier-was-01",
            "linux-3tier-was-02",
        ];
        assert_eq!(names("virtualmachine"), vms);
        assert_eq!(names("affinitygroup"), ["was-anti-affinity"]);
        assert_eq!(names("volume"), ["linux-3tier-was-data"]);
        assert_eq!(names("sshkeypair"), ["operator"]);
        assert_eq!(names("loadbalancer"), ["linux-3tier-was-lb"]);
        let state = self.server.state();
        let of = |kind: &str| {
            state
                .things
                .iter()
                .filter(move |(other, _)| other == kind)
                .map(|(_, thing)| thing)
                .collect::<Vec<_>>()
        };
        let vms = of("virtualmachine");
        assert!(vms.iter().all(|vm| vm["state"] == "Running"), "{vms:?}");
        let addresses: Vec<_> = vms
            .iter()
            .map(|vm| vm["nic"][0]["ipaddress"].as_str().unwrap())
            .collect();
        assert_eq!(addresses, ["192.168.2.13", "192.168.2.11", "192.168.2.12"]);
        let grouped: Vec<_> = vms
            .iter()
            .map(|vm| vm["affinitygroup"].as_array().unwrap().len())
            .collect();
        assert_eq!(grouped, [0, 1, 1], "the WAS VMs alone");
        assert_eq!(of("affinitygroup")[0]["type"], "host anti-affinity");
        assert_eq!(of("volume")[0]["virtualmachineid"], vms[0]["id"]);
        let balancer = of("loadbalancer")[0];
        assert_eq!(balancer["sourceipaddress"], "192.168.2.26");
        assert_eq!(balancer["algorithm"], "leastconn");
        assert_eq!(
            balancer["loadbalancerrule"][0],
            serde_json::json!({"sourceport": 5000, "instanceport": 5000})
        );
        let behind: Vec<_> = balancer["loadbalancerinstance"]
            .as_array()
            .unwrap()
            .iter()
            .map(|vm| &vm["id"])
            .collect();
        assert_eq!(behind, [&vms[1]["id"], &vms[2]["id"]]);
    }
}

#[test]
fn the_tier_is_made_once_with_either_signature() {
    for (sha1, signature) in [(false, Signature::Sha256), (true, Signature::Sha1)] {
        let ground = Ground::new(sha1);
        ground.run(signature, false).unwrap();
        ground.assert_whole();
        let calls = ground.server.state().calls.len();
        let again = ground.run(signature, false).unwrap();
        assert_eq!(ground.server.state().calls.len(), calls, "{again}");
        ground.assert_whole();
    }
}

#[test]
fn in_a_project_every_call_that_can_says_so() {
    let ground = Ground::new(false);
    let site = format!("project_id = \"p1\"\n{}", include_str!("site.toml"));
    ground.write("site.toml", &site);
    ground.run(Signature::Sha256, false).unwrap();
    ground.assert_whole();
    let state = ground.server.state();
    let made = state.calls.iter().filter(|(command, _)| {
        [
            "deployVirtualMachine",
            "createVolume",
            "createAffinityGroup",
        ]
        .contains(&command.as_str())
    });
    assert!(made.clone().count() > 4);
    assert!(made.clone().all(|(_, call)| call["projectid"] == "p1"));
}

#[test]
fn what_was_cut_off_is_completed() {
    let ground = Ground::new(false);
    ground.run(Signature::Sha256, false).unwrap();
    let calls = ground.server.state().calls.len();
    assert!(calls > 8);
    for fault in [Fault::Refused, Fault::JobFails, Fault::AnswerLost] {
        for number in 0..calls {
            let ground = Ground::new(false);
            ground.server.state().fault = Some((number, fault));
            let first = ground.run(Signature::Sha256, false);
            let command = ground.server.state().calls[number].0.clone();
            let error = format!("{:#}", first.unwrap_err());
            assert!(error.contains(&command), "{command}: {error}");
            let words = match fault {
                Fault::Refused => "no host has room for it (533)",
                Fault::JobFails => "the storage pool is full (530)",
                Fault::AnswerLost => "/client/api",
                Fault::NoId => "no id",
            };
            assert!(error.contains(words), "{command}: {error}");
            ground.run(Signature::Sha256, false).unwrap();
            ground.assert_whole();
        }
    }
}

#[test]
fn an_answer_without_an_id_is_an_error() {
    let ground = Ground::new(false);
    ground.run(Signature::Sha256, false).unwrap();
    let calls = ground.server.state().calls.len();
    let mut refused = 0;
    for number in 0..calls {
        let ground = Ground::new(false);
        ground.server.state().fault = Some((number, Fault::NoId));
        let first = ground.run(Signature::Sha256, false);
        let command = ground.server.state().calls[number].0.clone();
        let makes = [
            "createAffinityGroup",
            "deployVirtualMachine",
            "createVolume",
            "createLoadBalancer",
        ];
        assert_eq!(
            first.is_err(),
            makes.contains(&command.as_str()),
            "{command}"
        );
        if let Err(error) = first {
            let error = format!("{error:#}");
            assert!(
                error.contains("no id") && error.contains(&command),
                "{error}"
            );
            refused += 1;
            ground.run(Signature::Sha256, false).unwrap();
        }
        ground.assert_whole();
    }
    assert_eq!(refused, 6);
}

#[test]
fn a_question_without_an_answer_is_asked_again() {
    let ground = Ground::new(false);
    ground.server.state().answers_one_of = 3;
    ground.run(Signature::Sha256, false).unwrap();
    ground.assert_whole();
    let calls = ground.server.state().calls.len();
    let well = Ground::new(false);
    well.run(Signature::Sha256, false).unwrap();
    assert_eq!(
        well.server.state().calls.len(),
        calls,
        "nothing is made twice"
    );

    ground.server.state().answers_one_of = usize::MAX;
    let error = format!("{:#}", ground.run(Signature::Sha256, false).unwrap_err());
    assert!(error.contains("listZones"), "{error}");
}

#[test]
fn a_vm_that_does_not_come_up_is_not_waited_for_without_end() {
    for state in ["Starting", "Stopping", "Migrating"] {
        let ground = Ground::new(false);
        ground.run(Signature::Sha256, false).unwrap();
        let mut things = ground.server.state();
        let vm = things
            .things
            .iter_mut()
            .find(|(kind, _)| kind == "virtualmachine")
            .unwrap();
        vm.1["state"] = state.into();
        drop(things);
        let longest = Duration::from_millis(50);
        let error = ground
            .run_for(longest, Signature::Sha256, false)
            .unwrap_err();
        let error = format!("{error:#}");
        let words = ["linux-3tier-was-storage", state, "events"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn a_dry_run_changes_nothing_and_shows_no_secret() {
    let ground = Ground::new(false);
    let shown = ground.run(Signature::Sha256, true).unwrap();
    assert!(ground.server.state().calls.is_empty());
    for command in [
        "createAffinityGroup",
        "deployVirtualMachine name=linux-3tier-was-01",
        "createVolume",
        "attachVolume",
        "createLoadBalancer",
        "assignToLoadBalancerRule",
    ] {
        assert!(shown.contains(command), "{command}: {shown}");
    }
    for secret in [SECRET_KEY, API_KEY, "signature"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("userdata=("), "{shown}");
    assert!(shown.contains("startvm=false"), "{shown}");
}

#[test]
fn a_wrong_signature_is_said_in_words() {
    let ground = Ground::new(true);
    let error = format!("{:#}", ground.run(Signature::Sha256, false).unwrap_err());
    assert!(
        error.contains("unable to verify") && error.contains("sha1"),
        "{error}"
    );
    assert!(
        !error.contains(SECRET_KEY) && !error.contains(API_KEY),
        "{error}"
    );
}

#[test]
fn what_is_otherwise_than_the_files_say_is_refused() {
    let made = |kind: &str, thing| {
        let ground = Ground::new(false);
        ground.run(Signature::Sha256, false).unwrap();
        let mut state = ground.server.state();
        let found = state
            .things
            .iter_mut()
            .find(|(other, _)| other == kind)
            .unwrap();
        let change: serde_json::Value = thing;
        for (key, value) in change.as_object().unwrap() {
            found.1[key] = value.clone();
        }
        let calls = state.calls.len();
        drop(state);
        let error = format!("{:#}", ground.run(Signature::Sha256, false).unwrap_err());
        assert_eq!(ground.server.state().calls.len(), calls, "{error}");
        error
    };
    let json = |text| serde_json::from_str(text).unwrap();
    for (kind, change, words) in [
        (
            "affinitygroup",
            r#"{"type": "host affinity"}"#,
            "not \"host anti-affinity\"",
        ),
        (
            "virtualmachine",
            r#"{"nic": []}"#,
            "without the address 192.168.2.13",
        ),
        ("virtualmachine", r#"{"state": "Error"}"#, "expunge"),
        (
            "volume",
            r#"{"virtualmachineid": "other", "vmname": "db"}"#,
            "attached to the VM db",
        ),
        (
            "loadbalancer",
            r#"{"algorithm": "roundrobin"}"#,
            "roundrobin",
        ),
    ] {
        let error = made(kind, json(change));
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn files_that_do_not_go_together_are_refused() {
    let site = include_str!("site.toml");
    let tier = include_str!("tier.toml");
    for (site, tier, words) in [
        (
            site.replace("192.168.2.12", "192.168.2.11"),
            tier.to_owned(),
            "have the address",
        ),
        (
            site.replace("192.168.2.26", "192.168.2.13"),
            tier.to_owned(),
            "balancer's address",
        ),
        (
            site.replace("was-02", "was-01"),
            tier.to_owned(),
            "two VMs have the name",
        ),
        (
            site.to_owned(),
            tier.replace("192.168.2.13", "storage.example"),
            "write the storage VM's address",
        ),
        (site.replace("zone  ", "zonee "), tier.to_owned(), "zonee"),
    ] {
        let ground = Ground::new(false);
        ground.write("site.toml", &site);
        ground.write("tier.toml", &tier);
        let error = format!("{:#}", ground.plan().unwrap_err());
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn the_agent_s_words_about_a_tier_file_are_passed_on() {
    let ground = Ground::new(false);
    ground.write(
        "wasagent",
        "#!/bin/sh\necho 'error: a fault' >&2\nexit 78\n",
    );
    let error = format!("{:#}", ground.plan().unwrap_err());
    assert!(error.contains("error: a fault"), "{error}");
}

#[test]
fn each_vm_gets_the_user_data_of_its_role() {
    let ground = Ground::new(false);
    ground.run(Signature::Sha256, false).unwrap();
    let state = ground.server.state();
    let deployed = state
        .calls
        .iter()
        .filter(|(command, _)| command == "deployVirtualMachine");
    let data: Vec<_> = deployed
        .map(|(_, call)| {
            String::from_utf8(BASE64.decode(call["userdata"].as_str().unwrap()).unwrap()).unwrap()
        })
        .collect();
    for (text, role) in data.iter().zip(["storage", "was", "was"]) {
        assert!(text.starts_with(&format!("user data of {role}:")), "{text}");
        assert!(
            text.contains("--binary https://packages.example/wasagent --sha256 0000"),
            "{text}"
        );
    }
}

#[test]
fn the_site_file_beside_the_program_is_one() {
    wasagent_mold::Site::read(std::path::Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/site.toml"
    )))
    .unwrap();
}
