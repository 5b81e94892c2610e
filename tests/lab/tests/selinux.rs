//! The share of a storage VM on which SELinux enforces: two kernels write and read through it, and the policy has
//! nothing to say against it, also after all labels were given anew and after a reboot.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use wasagent_lab::tier::{self, DISK_SERIAL, Role, SHARE_PASSWORD};
use wasagent_lab::wasagent::Apply;
use wasagent_lab::{Disk, Guest, Lab, Release, Spec, agent, progress};

const SHARED: &str = "/mnt/data/shared_folder";
const LABEL: &str = "label:/mnt/data/shared_folder";
/// What a directory of the data disk has to have for smbd to serve it.
const SHARE_TYPE: &str = "samba_share_t";
/// The data disk, and where the agent and what it runs write.
const LABELLED: [&str; 3] = ["/mnt", "/etc", "/var"];

/// As cloud-init and a unit run the agent: not in the domain of a login.
const AS_SERVICE: [&str; 4] = ["systemd-run", "--quiet", "--wait", "--pipe"];

/// Runs a line of sh(1) that must exit with 0.
fn sh(guest: &Guest, script: &str) -> Result<String> {
    guest.answer(["sh", "-ec", script])
}

// ---- what the policy has said

/// The last line of each kind of denial, by what was denied to whom.
type Denials = BTreeMap<String, String>;

/// Every denial since the root was made, of the kernel and of programs that ask the policy themselves: from auditd's
/// log, and from the kernel's of before there is an auditd at a boot.
fn denials(guest: &Guest) -> Result<Denials> {
    let logged = guest.run([
        "ausearch",
        // Its standard input is no terminal, and it would read that.
        "--input-logs",
        "--raw",
        "--message",
        "AVC,USER_AVC,SELINUX_ERR,USER_SELINUX_ERR",
    ])?;
    ensure!(
        logged.success() || logged.to_string().contains("<no matches>"),
        "ausearch: {logged}"
    );
    let kernel = guest.answer(["dmesg"])?;
    let told = logged.stdout.lines().chain(kernel.lines());
    let denied = told.filter(|line| line.contains("denied") || line.contains("SELINUX_ERR"));
    Ok(denied.map(|line| (kind(line), line.to_owned())).collect())
}

/// What a denial says without the time, the process and the file: `{ write } comm="smbd" scontext=… tcontext=… tclass=dir`.
fn kind(denial: &str) -> String {
    let denied = denial.find('{').zip(denial.find('}'));
    let what = denied.and_then(|(begin, end)| denial.get(begin..=end));
    let mut kind = what.unwrap_or(denial).to_owned();
    for word in denial.split_whitespace() {
        let word = word.trim_end_matches('\'');
        if ["comm=", "scontext=", "tcontext=", "tclass="]
            .iter()
            .any(|name| word.starts_with(name))
        {
            kind = format!("{kind} {word}");
        }
    }
    kind
}

/// Fails with the denials of a kind that there was none of `before`.
fn nothing_is_denied(guest: &Guest, before: &Denials, after: &str) -> Result<()> {
    let mut all = denials(guest)?;
    // The distribution's own services and its policy are not always of one mind; nothing of Samba's is among that.
    all.retain(|kind, _| !before.contains_key(kind) || kind.contains("smbd_t"));
    let all: Vec<&str> = all.values().map(String::as_str).collect();
    ensure!(
        all.is_empty(),
        "{}: SELinux denied, after {after}:\n{}",
        guest.name(),
        all.join("\n")
    );
    Ok(())
}

// ---- labels

/// The type of every file, by its path.
fn types(guest: &Guest) -> Result<BTreeMap<String, String>> {
    let mut find = vec!["find"];
    find.extend(LABELLED);
    find.extend(["-printf", r"%Z\t%p\n"]);
    let all = guest.answer(&find)?;
    let lines = all.lines().filter_map(|line| line.split_once('\t'));
    // Of USER:ROLE:TYPE:RANGE the policy decides by the type; the user is who has made the file.
    let typed = lines.map(|(context, path)| {
        let label = context.split(':').nth(2).unwrap_or(context);
        (path.to_owned(), label.to_owned())
    });
    Ok(typed.collect())
}

/// Gives every file the label that the policy has for it, whatever was chosen by hand, and says which type became which.
fn relabel(guest: &Guest) -> Result<Vec<String>> {
    let before = types(guest)?;
    let mut restorecon = vec!["restorecon", "-R", "-F"];
    restorecon.extend(LABELLED);
    guest.ok(&restorecon)?;
    let after = types(guest)?;
    let others = before.iter().filter_map(|(path, was)| {
        let now = after.get(path)?;
        (now != was).then(|| format!("{path}: {was} -> {now}"))
    });
    Ok(others.collect())
}

/// The rules of the VM's own, as semanage(8) lists them.
fn local_rules(guest: &Guest) -> Result<String> {
    guest.answer([
        "semanage",
        "fcontext",
        "--list",
        "--locallist",
        "--noheading",
    ])
}

// ---- clients

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
        let written = sh(
            writer,
            &format!(
                "mkdir -p {directory} && head -c 1048576 /dev/urandom >{directory}/made && sha256sum <{directory}/made"
            ),
        )?;
        let read = sh(
            reader,
            &format!(
                "sha256sum <{directory}/made && echo more >>{directory}/made && mv {directory}/made {directory}/moved"
            ),
        )?;
        ensure!(
            read == written,
            "{turn}: {} read something else",
            reader.name()
        );
        let last = sh(writer, &format!("tail -n 1 {directory}/moved | tail -c 5"))?;
        ensure!(last == "more", "{turn}: {} read {last:?}", writer.name());
    }
    Ok(())
}

// ---- the agent

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
    // After the guests, which are on its network.
    _lab: Lab,
}

impl Stage {
    fn boot() -> Result<Stage> {
        let binary = agent::build()?;
        let lab = Lab::new()?;
        let storage = Spec::storage(Release::TrixieSelinux).disk(Disk::of_the_guide(DISK_SERIAL));
        let storage = lab.vm(&storage)?;
        ensure!(storage.answer(["getenforce"])? == "Enforcing");
        let clients = [
            lab.vm(&Spec::was(1, Release::Trixie))?,
            lab.vm(&Spec::was(2, Release::Bookworm))?,
        ];
        storage.install_agent(&binary)?;
        tier::install_tier_file(&storage, &tier::tier_file())?;
        tier::install_repository(&lab, &storage)?;
        Ok(Stage {
            storage,
            clients,
            _lab: lab,
        })
    }

    /// What an operator would see of a share that the policy is at odds with, now and since.
    fn works(&self, before: &Denials, turn: &str) -> Result<()> {
        let told = |error: anyhow::Error| match nothing_is_denied(&self.storage, before, turn) {
            Err(denied) => denied.context(format!("{error:#}")),
            Ok(()) => error,
        };
        self.clients.iter().try_for_each(mount).map_err(told)?;
        both_write_and_read(&self.clients, turn).map_err(told)?;
        self.clients.iter().try_for_each(unmount)?;
        nothing_is_denied(&self.storage, before, turn)
    }
}

#[test]
fn two_clients_write_through_a_share_that_the_policy_allows() -> Result<()> {
    let stage = Stage::boot()?;
    let storage = &stage.storage;
    // What services of the distribution's own made at the first boot is none of the agent's.
    let others = relabel(storage)?;
    progress::say(format!("labels of the guest's first boot: {others:?}"));
    let before = denials(storage)?;

    tier::apply(storage, Role::Storage)?;
    stage.works(&before, "apply")?;
    applies(Apply::on(storage), &[], "a second apply")?;
    applies(Apply::on(storage).under(&AS_SERVICE), &[], "as a service")?;

    labelled_by_policy(storage)?;
    let others = relabel(storage)?;
    ensure!(others.is_empty(), "a full relabel changed {others:#?}");
    applies(Apply::on(storage), &[], "after a full relabel")?;
    stage.works(&before, "relabel")?;

    storage.reboot()?;
    stage.works(&before, "reboot")?;
    applies(Apply::on(storage), &[], "after a reboot")?;

    a_wrong_label_is_seen_and_mended(&stage)?;
    reverted(storage)
}

fn labelled_by_policy(storage: &Guest) -> Result<()> {
    let rules = local_rules(storage)?;
    let is_ours = |line: &str| line.starts_with("/mnt/data(/.*)?") && line.contains(SHARE_TYPE);
    ensure!(
        rules.lines().count() == 1 && rules.lines().all(is_ours),
        "{rules}"
    );
    let all = types(storage)?;
    let shared: Vec<_> = all
        .iter()
        .filter(|(path, _)| path.starts_with(SHARED))
        .collect();
    ensure!(shared.len() > 10, "{shared:?}");
    let others = all
        .iter()
        .find(|(path, label)| path.starts_with("/mnt/data") && *label != SHARE_TYPE);
    ensure!(others.is_none(), "{others:?}");
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
    let refused = stage.works(&before, "a wrong label");
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

fn reverted(storage: &Guest) -> Result<()> {
    let before = denials(storage)?;
    storage.ok(["wasagent", "revert"])?;
    let rules = local_rules(storage)?;
    ensure!(rules.is_empty(), "after revert: {rules}");
    nothing_is_denied(storage, &before, "revert")
}
