//! The share of a storage VM on which SELinux enforces: two kernels write and read through it, and the policy has
//! nothing to say against it, also after a change of revision and after all labels were given anew.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::{Scope, Size, Tally};
use crate::failpoint::kill_beneath;
use crate::selinux::{
    Denials, all_is_shared, denials, local_rules, nothing_is_denied, relabel,
    relabel_changes_nothing, semanage_by_hand,
};
use crate::tier::{self, DISK_SERIAL, REPOSITORY, Role, SHARE_PASSWORD, TIER_FILE};
use crate::wasagent::Apply;
use crate::{Disk, Guest, Lab, Release, Spec, agent, progress, sample_app};

const SHARED: &str = "/mnt/data/shared_folder";
const LABEL: &str = "label:/mnt/data/shared_folder";

/// A build, and what it makes.
const BUILD: &str = r#"build = ["cp", "package.json", "only-built"]"#;

/// As cloud-init and a unit run the agent: not in the domain of a login.
const AS_SERVICE: [&str; 4] = ["systemd-run", "--quiet", "--wait", "--pipe"];

pub fn run(scope: &Scope) -> Result<()> {
    let mut tally = Tally::new("selinux");
    // Two boots of this guest take as long as all the rest, so a sample goes without.
    let boots = scope.size == Size::All;
    tally.point("a share that the policy allows", || {
        a_share_that_the_policy_allows(boots)
    });
    tally.end()
}

fn a_share_that_the_policy_allows(boots: bool) -> Result<()> {
    let stage = Stage::boot()?;
    let storage = &stage.storage;
    semanage_by_hand(storage)?;
    if boots {
        storage.reboot()?;
    }
    // What services of the distribution's own make and are denied at a boot is none of the agent's.
    let others = relabel(storage)?;
    progress::say(format!("labels of the guest's first boot: {others:?}"));
    let before = denials(storage)?;

    // semanage runs in a domain of its own, and keeps the lock all the same.
    let apply = ["wasagent", "apply", "--role", "storage"];
    kill_beneath(storage, "semanage", &apply)?;
    tier::apply(storage, Role::Storage)?;
    stage.works(&before, "apply")?;

    stage.changes_revision(SHARED, "second")?;
    labelled_by_policy(storage)?;
    relabel_changes_nothing(storage)?;
    applies(Apply::on(storage), &[], "after a full relabel")?;
    stage.works(&before, "relabel")?;

    if boots {
        storage.reboot()?;
        stage.works(&before, "reboot")?;
        applies(Apply::on(storage), &[], "after a reboot")?;
        a_chosen_type_is_left(storage)?;
    } else {
        storage.ok(["systemctl", "stop", "second"])?;
    }

    a_wrong_label_is_seen_and_mended(&stage)?;
    reverted(storage)?;
    without_a_data_disk(&stage)
}

fn labelled_by_policy(storage: &Guest) -> Result<()> {
    let rules = local_rules(storage)?;
    ensure!(rules == ["/mnt/data(/.*)?"], "{rules:?}");
    all_is_shared(storage, &["/mnt/data"])?;
    // The booleans of the guide would let smbd write everywhere.
    let booleans =
        storage.answer(["getsebool", "samba_export_all_rw", "samba_enable_home_dirs"])?;
    ensure!(!booleans.contains("on"), "{booleans}");
    Ok(())
}

/// Proves both ways of looking: without the label a client is refused, and the log says so.
fn a_wrong_label_is_seen_and_mended(stage: &Stage) -> Result<()> {
    let storage = &stage.storage;
    let before = denials(storage)?;
    storage.ok(["chcon", "-R", "-t", "var_t", SHARED])?;
    let refused = stage.works(&before, "wrong-label");
    let error = format!("{:#}", refused.err().context("smbd serves files of var_t")?);
    ensure!(
        error.contains("smbd_t") && error.contains("var_t"),
        "{error}"
    );
    for client in &stage.clients {
        let _ = client.run(["umount", "/mnt"])?;
    }
    let before = denials(storage)?;
    // A service may do with labels what a login may not, and the other way round.
    applies(
        Apply::on(storage).under(&AS_SERVICE),
        &[LABEL],
        "a wrong label",
    )?;
    stage.works(&before, "mended")
}

/// A type that the policy lets an operator choose is not taken away; the error says how he does it himself.
fn a_chosen_type_is_left(storage: &Guest) -> Result<()> {
    storage.ok(["chcon", "-t", "public_content_rw_t", SHARED])?;
    let refused = Apply::on(storage).run()?.output;
    let way_out = format!("restorecon -R -F {SHARED}");
    ensure!(
        refused.status == 1 && refused.stderr.contains(&way_out),
        "{refused}"
    );
    storage.ok(["restorecon", "-R", "-F", SHARED])?;
    applies(Apply::on(storage), &[], "after the way out")
}

fn reverted(storage: &Guest) -> Result<()> {
    let before = denials(storage)?;
    storage.ok(["wasagent", "revert"])?;
    let rules = local_rules(storage)?;
    ensure!(rules.is_empty(), "after revert: {rules:?}");
    nothing_is_denied(storage, &before, "revert")
}

/// What revisions are put together in lies beside the shared directory, in one of another type, and the old revision is
/// there while somebody reads it.
fn without_a_data_disk(stage: &Stage) -> Result<()> {
    const TREES: [&str; 2] = ["/srv/shared_folder", "/srv/.wasagent-shared_folder"];
    let storage = &stage.storage;
    let before = denials(storage)?;
    let tier = String::from_utf8(storage.read(TIER_FILE)?)?;
    let (start, rest) = tier.split_once("[storage]").context("[storage]")?;
    let (_, content) = rest
        .split_once("[storage.content]")
        .context("[storage.content]")?;
    let tier = format!(
        "{start}[storage]\npath = {:?}\n[storage.content]{content}",
        TREES[0]
    );
    storage.write(TIER_FILE, tier, 0o644)?;
    tier::apply(storage, Role::Storage)?;
    stage.works(&before, "no-disk")?;

    stage.changes_revision(TREES[0], "third")?;
    let rules = local_rules(storage)?;
    ensure!(rules.len() == 2, "{rules:?}");
    all_is_shared(storage, &TREES)?;
    relabel_changes_nothing(storage)?;
    applies(
        Apply::on(storage),
        &[],
        "without a disk, after a full relabel",
    )?;
    stage.works(&before, "no-disk-relabel")
}

/// An apply that must change this and nothing else.
fn applies(apply: Apply, wanted: &[&str], when: &str) -> Result<()> {
    let applied = apply.ok()?;
    let wanted: BTreeSet<String> = wanted.iter().map(|&one| one.to_owned()).collect();
    ensure!(applied.changed() == wanted, "{when}: {}", applied.output);
    Ok(())
}

/// A storage VM that enforces, and two WAS VMs; the agent is there, and has done nothing yet.
struct Stage {
    storage: Guest,
    clients: [Guest; 2],
    /// A private copy of the application's repository.
    repository: tempfile::TempDir,
    // After the guests, which are on its network.
    _lab: Lab,
}

impl Stage {
    fn boot() -> Result<Stage> {
        let binary = agent::build()?;
        let lab = Lab::new()?;
        let storage = Spec::storage(Release::TrixieSelinux).disk(Disk::of_the_guide(DISK_SERIAL));
        let [storage, one, other] = lab.vms([
            &storage,
            &Spec::was(1, Release::Trixie),
            &Spec::was(2, Release::Bookworm),
        ])?;
        ensure!(storage.answer(["getenforce"])? == "Enforcing");
        let clients = [one, other];
        storage.install_agent(&binary)?;
        let subdir = format!("subdir = {:?}\n", sample_app::SUBDIR);
        let built = tier::tier_file().replace(&subdir, &format!("{subdir}{BUILD}\n"));
        ensure!(built.contains(BUILD), "{built}");
        tier::install_tier_file(&storage, &built)?;
        let repository = tempfile::tempdir()?;
        let own = repository.path().join("repository.git");
        sample_app::copy(&sample_app::repository(lab.cache())?, &own)?;
        storage.copy_tree(&own, REPOSITORY)?;
        Ok(Stage {
            storage,
            clients,
            repository,
            _lab: lab,
        })
    }

    /// What an operator would see of a share that the policy is at odds with, now and since.
    fn works(&self, before: &Denials, turn: &str) -> Result<()> {
        let told = |error: anyhow::Error| match nothing_is_denied(&self.storage, before, turn) {
            Err(denied) => denied.context(format!("{error:#}")),
            Ok(()) => error,
        };
        progress::timed(&format!("both WAS, {turn}"), || {
            self.clients.iter().try_for_each(mount).map_err(told)?;
            both_write_and_read(&self.clients, turn).map_err(told)?;
            self.clients.iter().try_for_each(unmount)?;
            nothing_is_denied(&self.storage, before, turn)
        })
    }

    /// A change of revision while somebody stays in the tree that is replaced, so that both trees are there.
    fn changes_revision(&self, shared: &str, revision: &str) -> Result<()> {
        let page = format!("{}/public/revision", sample_app::SUBDIR);
        let own = self.repository.path().join("repository.git");
        sample_app::commit_change(&own, &page, revision.as_bytes(), revision)?;
        self.storage.copy_tree(&own, REPOSITORY)?;
        let there = format!("--working-directory={shared}");
        let stay = ["systemd-run", "--quiet", "--unit", revision, &there];
        self.storage
            .ok([&stay[..], &["sleep", "infinity"]].concat())?;
        let content = format!("content:{shared}");
        applies(Apply::on(&self.storage), &[&content], revision)?;
        let seen = self
            .storage
            .answer(["cat", &format!("{shared}/public/revision")])?;
        ensure!(seen == revision, "{shared}: {seen}");
        let old = shared.replace("shared_folder", ".wasagent-shared_folder/old-1/only-built");
        self.storage.ok(["test", "-f", &old]).map(drop)
    }
}

fn mount(client: &Guest) -> Result<()> {
    let login = format!("username=user1\npassword={SHARE_PASSWORD}\n");
    client.write("/root/share.cred", login, 0o600)?;
    let options = "credentials=/root/share.cred,vers=3.1.1,seal,hard";
    let mount = [
        "mount",
        "-t",
        "cifs",
        "-o",
        options,
        "//192.168.2.13/user1",
        "/mnt",
    ];
    let mounted = client.run(mount)?;
    ensure!(mounted.success(), "{}: {mounted}", client.name());
    Ok(())
}

fn unmount(client: &Guest) -> Result<()> {
    client.ok(["umount", "/mnt"]).map(drop)
}

/// What each client makes the other one reads, changes and renames.
fn both_write_and_read(clients: &[Guest; 2], turn: &str) -> Result<()> {
    let [one, other] = clients;
    for (writer, reader) in [(one, other), (other, one)] {
        let directory = format!("/mnt/{turn}/{}", writer.name());
        let written = writer.shell(&format!(
            "mkdir -p {directory} && head -c 1048576 /dev/urandom >{directory}/made && flock {directory}/made true && \
             sha256sum <{directory}/made"
        ))?;
        let read = reader.shell(&format!(
            "sha256sum <{directory}/made && echo more >>{directory}/made && mv {directory}/made {directory}/moved"
        ))?;
        ensure!(
            read == written,
            "{turn}: {} read something else",
            reader.name()
        );
        let last = writer.shell(&format!("tail -n 1 {directory}/moved | tail -c 5"))?;
        ensure!(last == "more", "{turn}: {} read {last:?}", writer.name());
    }
    Ok(())
}
