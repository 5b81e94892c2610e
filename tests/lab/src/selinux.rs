//! What SELinux has denied on a guest that enforces, and the labels of its files.

use std::collections::BTreeMap;

use std::path::Path;

use anyhow::{Result, ensure};

use crate::guest::Guest;

/// What a directory has to have for smbd to serve it.
pub const SHARE_TYPE: &str = "samba_share_t";
/// The shared files, and where the agent and what it runs write.
const LABELLED: [&str; 4] = ["/mnt", "/srv", "/etc", "/var"];

/// The last line of each kind of denial, by what was denied to whom.
pub type Denials = BTreeMap<String, String>;

/// Every denial since the root was made, of the kernel and of programs that ask the policy themselves: from auditd's
/// log, and from the kernel's of before there is an auditd at a boot.
pub fn denials(guest: &Guest) -> Result<Denials> {
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
pub fn nothing_is_denied(guest: &Guest, before: &Denials, after: &str) -> Result<()> {
    let mut all = denials(guest)?;
    // The distribution's own services and its policy are not always of one mind; nothing of Samba's is among that.
    all.retain(|kind, line| match before.get(kind) {
        Some(known) => kind.contains("smbd_t") && line != known,
        None => true,
    });
    let all: Vec<&str> = all.values().map(String::as_str).collect();
    ensure!(
        all.is_empty(),
        "{}: SELinux denied, after {after}:\n{}",
        guest.name(),
        all.join("\n")
    );
    Ok(())
}

/// The command by which the agent adds its rule, typed by an operator of this guest before there was an agent. What the
/// policy denies to semanage(8) then, it denies the distribution's own program whoever runs it.
pub fn semanage_by_hand(guest: &Guest) -> Result<()> {
    // It looks at every file system that is mounted: one is, where the disk will be.
    const TYPED: &str = "mkdir /mnt/data
        mount -t tmpfs none /mnt/data
        semanage fcontext --noreload --add --type samba_share_t '/mnt/data(/.*)?'
        semanage fcontext --noreload --delete '/mnt/data(/.*)?'
        umount /mnt/data
        rmdir /mnt/data";
    guest.ok(["sh", "-ec", TYPED]).map(drop)
}

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
pub fn relabel(guest: &Guest) -> Result<Vec<String>> {
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

/// The expressions of the VM's own rules, which must all be the agent's, as semanage(8) lists them.
pub fn local_rules(guest: &Guest) -> Result<Vec<String>> {
    let list = [
        "semanage",
        "fcontext",
        "--list",
        "--locallist",
        "--noheading",
    ];
    let rules = guest.answer(list)?;
    let rules = rules.lines().filter(|line| !line.is_empty());
    rules
        .map(|line| {
            ensure!(line.contains(SHARE_TYPE), "somebody else's rule: {line}");
            let expression = line.split_whitespace().next();
            Ok(expression.unwrap_or_default().to_owned())
        })
        .collect()
}

/// Fails unless all that is there below these directories has the type of the share, a hundred files at least.
pub fn all_is_shared(guest: &Guest, trees: &[&str]) -> Result<()> {
    let all = types(guest)?;
    let below: Vec<_> = all
        .iter()
        .filter(|(path, _)| trees.iter().any(|tree| Path::new(path).starts_with(tree)))
        .collect();
    ensure!(below.len() > 100, "{below:?}");
    let others: Vec<_> = below
        .iter()
        .filter(|(_, label)| *label != SHARE_TYPE)
        .collect();
    ensure!(others.is_empty(), "{others:#?}");
    Ok(())
}

/// What an operator's `restorecon -RF` changes: nothing.
pub fn relabel_changes_nothing(guest: &Guest) -> Result<()> {
    let others = relabel(guest)?;
    ensure!(others.is_empty(), "a full relabel changed {others:#?}");
    Ok(())
}
