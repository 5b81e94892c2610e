//! What follows from a change. Apply observes a resource again when a resource that it needs has
//! changed, and the plan must have said what apply then finds.

use super::samples::plan;
use crate::config::Role;
use crate::engine::{Diff, Disturbance, Plan};

/// A resource that is there, and differs in these fields.
fn update(fields: &[&str]) -> Diff {
    let mut diff = Diff::update("test");
    for field in fields {
        diff.field(field, Some("old"), "new");
    }
    diff
}

fn create(field: &str) -> Diff {
    let mut diff = Diff::create("test");
    diff.field(field, None, "new");
    diff
}

fn remount() -> Diff {
    let mut diff = update(&["options.vers", "unit.file"]);
    diff.disturb(Disturbance::Remount("/mnt/data/shared_folder".to_owned()));
    diff
}

/// Every changed resource with the names of its fields, and what all the changes disturb.
fn told(plan: &Plan) -> (Vec<String>, Vec<String>) {
    let changes = plan.changes().map(|(address, diff)| {
        let fields: Vec<&str> = diff.fields.iter().map(|f| f.name.as_str()).collect();
        format!("{address} {}", fields.join(" "))
    });
    let disturbs = plan.disturbs().into_iter().map(ToString::to_string);
    (changes.collect(), disturbs.collect())
}

const SHARE: &str = "file:/etc/samba/wasagent.conf";
const SMB_CONF: &str = "file:/etc/samba/smb.conf";
const DROP_IN: &str = "file:/etc/systemd/system/smbd.service.d/wasagent.conf";
const UNIT: &str = "unit:smbd.service";

#[test]
fn samba_reads_again_what_changes() {
    let cases = [
        (
            vec![(SHARE, update(&["text"]))],
            vec![
                "file:/etc/samba/wasagent.conf text",
                "unit:smbd.service configuration",
            ],
            vec!["reload smbd.service"],
        ),
        (
            vec![(SMB_CONF, update(&["include"]))],
            vec![
                "file:/etc/samba/smb.conf include",
                "unit:smbd.service configuration",
            ],
            vec!["reload smbd.service"],
        ),
        (
            vec![(DROP_IN, create("text"))],
            vec![
                "file:/etc/systemd/system/smbd.service.d/wasagent.conf text",
                "unit:smbd.service definition",
            ],
            vec![],
        ),
        // A unit that is not running reads all of it when it starts.
        (
            vec![
                (DROP_IN, create("text")),
                (SHARE, create("text")),
                (UNIT, update(&["active"])),
            ],
            vec![
                "file:/etc/systemd/system/smbd.service.d/wasagent.conf text",
                "file:/etc/samba/wasagent.conf text",
                "unit:smbd.service active definition",
            ],
            vec![],
        ),
    ];
    for (differing, changes, disturbs) in cases {
        let found = told(&plan(Role::Storage, differing));
        assert_eq!(found.0, changes);
        assert_eq!(found.1, disturbs);
    }
}

#[test]
fn what_samba_does_not_read_leaves_it_alone() {
    for differing in [
        ("disk:/mnt/data", create("device")),
        ("mount:/mnt/data", create("source")),
        ("account:user1", create("name")),
        ("directory:/mnt/data/shared_folder", update(&["mode"])),
        ("content:/mnt/data/shared_folder", update(&["revision"])),
        ("samba-user:user1", update(&["password"])),
        ("firewall:public", update(&["runtime 445/tcp"])),
    ] {
        let address = differing.0;
        let plan = plan(Role::Storage, vec![differing]);
        let changed: Vec<String> = plan.changes().map(|(a, _)| a.to_string()).collect();
        assert_eq!(changed, [address]);
        assert!(plan.disturbs().is_empty());
    }
}

const CREDENTIALS: &str = "secret:/etc/wasagent/share.cred";
const MOUNT: &str = "mount:/mnt/data/shared_folder";
const CONTAINER: &str = "container:nodejs-server";

#[test]
fn a_new_mount_takes_the_container_with_it() {
    let remounted = vec![
        "remount /mnt/data/shared_folder",
        "restart nodejs-server.service",
    ];
    let cases = [
        // A new password reaches the mount and the container.
        (
            vec![(CREDENTIALS, update(&["contents"]))],
            vec![
                "secret:/etc/wasagent/share.cred contents",
                "mount:/mnt/data/shared_folder options.password",
                "container:nodejs-server started",
            ],
            remounted.clone(),
        ),
        (
            vec![(MOUNT, remount())],
            vec![
                "mount:/mnt/data/shared_folder options.vers unit.file",
                "container:nodejs-server started",
            ],
            remounted,
        ),
        // The container runs on what is below the mount, so a new mount restarts it.
        (
            vec![(MOUNT, create("source"))],
            vec![
                "mount:/mnt/data/shared_folder source",
                "container:nodejs-server started",
            ],
            vec!["restart nodejs-server.service"],
        ),
        // A container that is not running starts on the new mount.
        (
            vec![
                (CREDENTIALS, create("contents")),
                (MOUNT, create("source")),
                (CONTAINER, update(&["active"])),
            ],
            vec![
                "secret:/etc/wasagent/share.cred contents",
                "mount:/mnt/data/shared_folder source",
                "container:nodejs-server active",
            ],
            vec![],
        ),
        // The mount itself stays as it is.
        (
            vec![(MOUNT, update(&["unit.enabled"]))],
            vec!["mount:/mnt/data/shared_folder unit.enabled"],
            vec![],
        ),
        (
            vec![("firewall:public", update(&["runtime 5000/tcp"]))],
            vec!["firewall:public runtime 5000/tcp"],
            vec![],
        ),
    ];
    for (differing, changes, disturbs) in cases {
        let found = told(&plan(Role::Was, differing));
        assert_eq!(found.0, changes);
        assert_eq!(found.1, disturbs);
    }
}

#[test]
fn what_is_foreseen_says_so_and_why() {
    let plan = plan(Role::Was, vec![(CREDENTIALS, update(&["contents"]))]);
    let foreseen: Vec<bool> = plan.changes().map(|(_, diff)| diff.foreseen).collect();
    assert_eq!(foreseen, [false, true, true]);
    assert!(plan.changes().all(|(_, diff)| !diff.why.is_empty()));
}
