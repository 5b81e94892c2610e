//! The share on a server that is somebody else's too: clients go on through every apply, what an operator has stays as
//! it is, and what our share cannot stand beside is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use wasagent_lab::process::until;
use wasagent_lab::soak::stage::{Machine, Stage};
use wasagent_lab::tier::{SHARE_PASSWORD, SHARE_PASSWORD_FILE, TIER_FILE};
use wasagent_lab::wasagent::Apply;
use wasagent_lab::{Guest, Release, agent, progress, smb};

const SMB_CONF: &str = "/etc/samba/smb.conf";

fn stage(release: Release) -> Result<Stage> {
    Stage::storage(&agent::build()?, Machine::Container, release)
}

fn edit_tier_file(guest: &Guest, from: &str, to: &str) -> Result<()> {
    let text = String::from_utf8(guest.read(TIER_FILE)?)?;
    ensure!(text.contains(from), "{from:?} is not in the tier file");
    guest.write(TIER_FILE, text.replacen(from, to, 1), 0o644)
}

// ---- health

/// Killed at every moment of a second, a hundred times.
const KILLED: &str = r"
cd /mnt/data/shared_folder
for number in $(seq 100); do
    wasagent health >/dev/null & sleep 0.$(printf %03d $((number * 3)))
    kill -9 $! 2>/dev/null || true; wait $! 2>/dev/null || true
done
sleep 5
ls -A | grep health || true";

#[test]
fn health_leaves_nothing_behind() -> Result<()> {
    let stage = stage(Release::Trixie)?;
    stage.apply(None)?;
    let left = stage.guest.shell(KILLED)?;
    ensure!(left.is_empty(), "left behind: {left}");
    let health = stage.guest.ok(["wasagent", "health"])?;
    ensure!(
        health.stdout.contains("SMB 3.1.1 is spoken")
            && health
                .stdout
                .contains("user1 writes, reads and deletes a file"),
        "{health}"
    );
    progress::say(format!(
        "health takes {:.0} ms as a process: {}",
        health.took.as_secs_f64() * 1000.0,
        health.stdout
    ));
    Ok(())
}

// ---- clients

/// Sends to a file on the share what it is given, until it is told to stop: one file, open all the time.
const WRITER: &str = r#"
rm -f /root/stop; : >/root/sent
while [ ! -e /root/stop ]; do head -c 262144 /dev/urandom | tee -a /root/sent; sleep 0.05; done |
    smbclient //127.0.0.1/user1 --user="user1%$(cat /root/first.password)" --client-protection=encrypt --command='put - held.bin'
"#;

const HELD: &str = "/mnt/data/shared_folder/held.bin";

#[test]
fn a_client_writes_through_applies_that_change_the_share() -> Result<()> {
    for release in Release::BOTH {
        let stage = stage(release)?;
        stage.apply(None)?;
        let guest = &stage.guest;
        guest.write("/root/first.password", SHARE_PASSWORD, 0o600)?;
        thread::scope(|scope| {
            let writer =
                scope.spawn(|| guest.run_with(["sh", "-c", WRITER], b"", Duration::from_secs(600)));
            let changed = change_the_share(guest);
            guest.ok(["touch", "/root/stop"])?;
            let written = match writer.join() {
                Ok(written) => written?,
                Err(_) => bail!("the writer's thread panicked"),
            };
            changed?;
            ensure!(
                written.success() && !written.to_string().contains("NT_STATUS"),
                "the client met an error: {written}"
            );
            Ok(())
        })?;
        let sums = guest.answer(["sha256sum", "/root/sent", HELD])?;
        let sums: BTreeSet<&str> = sums.lines().filter_map(|l| l.split(' ').next()).collect();
        ensure!(sums.len() == 1, "what arrived is not what was sent");
        let size = guest.answer(["stat", "-c", "%s", HELD])?;
        progress::say(format!(
            "{release}: {size} bytes through six changes of the share"
        ));
        ensure!(guest.answer(["stat", "-c", "%U %a", HELD])? == "user1 660");
    }
    Ok(())
}

/// Every change of the tier file that Samba gets to see, each while the client writes.
fn change_the_share(guest: &Guest) -> Result<()> {
    let pid = || guest.answer(["systemctl", "show", "-P", "MainPID", "smbd"]);
    let before = pid()?;
    let networks = "[\"192.168.2.0/24\"]";
    let more = "[\"192.168.2.0/24\", \"192.168.3.0/24\"]";
    let encrypted = format!("clients       = {more}");
    let plain = format!("encrypt = false\n{encrypted}");
    let moved = "path = \"/mnt/data/shared_folder\"";
    for (from, to) in [
        (networks, more),
        (&encrypted, &plain),
        (&plain, &encrypted),
        ("name          = \"user1\"", "name          = \"renamed\""),
        ("name          = \"renamed\"", "name          = \"user1\""),
        (moved, moved),
    ] {
        still_written(guest).with_context(|| format!("before {to:?}"))?;
        edit_tier_file(guest, from, to)?;
        if from == to {
            guest.write(SHARE_PASSWORD_FILE, "another one\n", 0o600)?;
        }
        let applied = Apply::on(guest).ok()?;
        let wanted = match from == to {
            true => "samba-user:user1",
            false => "unit:smbd.service",
        };
        ensure!(
            applied.changed().contains(wanted),
            "{to:?}: {}",
            applied.output
        );
        ensure!(pid()? == before, "{to:?}: smbd was started anew");
        still_written(guest).with_context(|| format!("after {to:?}"))?;
    }
    let listing = smb::client(guest, "user1", ("user1", "another one"), "ls")?;
    ensure!(listing.success(), "{listing}");
    Ok(())
}

fn still_written(guest: &Guest) -> Result<()> {
    let size = || -> Result<u64> {
        let answer = guest.shell(&format!("stat -c %s {HELD} 2>/dev/null || echo 0"))?;
        Ok(answer.parse()?)
    };
    let before = size()?;
    until("the file to grow", Duration::from_secs(120), || {
        Ok((size()? > before).then_some(()))
    })
    .map(drop)
}

// ---- what an operator has

/// Shares, in smb.conf and in a file that it includes, an account of Samba's, a zone, rules of all kinds, a table of
/// nft's, a unit, an account.
const OPERATORS: &str = r#"
printf '\n[Operator Share]\n   path = /srv/operator\n   valid users = alice\n   read only = no\n\ninclude = /etc/samba/operator.conf\n' >>/etc/samba/smb.conf
printf '[second]\n path = /srv/second\n guest ok = yes\n' >/etc/samba/operator.conf
mkdir -p -m 777 /srv/operator /srv/second
useradd --system --shell /usr/sbin/nologin alice2
useradd --create-home --shell /bin/bash alice
printf 'operator\noperator\n' | smbpasswd -a -s alice
systemctl enable --now smbd
firewall-cmd --permanent --new-zone=backend
firewall-cmd --reload
firewall-cmd --permanent --zone=backend --add-source=10.1.0.0/16
firewall-cmd --permanent --zone=backend --add-port=8443/tcp
firewall-cmd --permanent --add-rich-rule='rule family="ipv4" source address="10.2.0.0/16" service name="http" log prefix="op" limit value="1/m" accept'
firewall-cmd --permanent --add-forward-port=port=8080:proto=tcp:toport=80
firewall-cmd --reload
firewall-cmd --add-rich-rule='rule family="ipv4" source address="10.3.0.1" drop'
firewall-cmd --zone=backend --add-port=9443/tcp
firewall-cmd --direct --add-rule ipv4 filter INPUT 0 -p tcp --dport 7777 -j ACCEPT
nft add table inet operator
nft 'add chain inet operator input { type filter hook input priority 10; }'
nft add rule inet operator input tcp dport 9 counter drop
printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' >/etc/systemd/system/operator.service
mkdir -p /etc/systemd/system/smbd.service.d /etc/sysusers.d
printf '[Service]\nNice=5\n' >/etc/systemd/system/smbd.service.d/operator.conf
printf 'u alice3 -\n' >/etc/sysusers.d/operator.conf
systemctl daemon-reload
systemctl enable --now operator.service
systemctl restart smbd
"#;

/// Every entry below /etc with its owner, mode, time of a regular file, and bytes or target.
const ETC: &str = r#"
find /etc -xdev -printf '%p\t%y %m %U:%G %l\n'
find /etc -xdev -type f -printf '%p\t%T@\n'
find /etc -xdev -type f -exec sha256sum {} + | sed 's/^\([0-9a-f]*\)  \(.*\)$/\2\t\1/'
"#;

type Tree = BTreeMap<String, String>;

fn etc(guest: &Guest) -> Result<Tree> {
    let mut tree = Tree::new();
    for line in guest.shell(ETC)?.lines() {
        let (path, value) = line.split_once('\t').context("a line of /etc")?;
        let all = tree.entry(path.to_owned()).or_default();
        all.push_str(value);
        all.push(' ');
    }
    Ok(tree)
}

fn differing(before: &Tree, after: &Tree) -> BTreeSet<String> {
    let paths = before.keys().chain(after.keys());
    let differ = paths.filter(|path| before.get(*path) != after.get(*path));
    differ.cloned().collect()
}

/// The rules in force, with counters and handles left out: traffic moves the former.
fn rules(guest: &Guest) -> Result<String> {
    guest.shell("nft --stateless list ruleset")
}

/// The permanent settings of all zones, the operator's passdb entry, its units.
fn operators(guest: &Guest) -> Result<String> {
    guest.shell(
        "firewall-cmd --list-all-zones; firewall-cmd --permanent --list-all-zones; firewall-cmd --permanent --direct --get-all-rules;\
         pdbedit --list --smbpasswd-style --user alice; getent passwd alice alice2; systemctl is-active operator.service;\
         systemctl show -P Nice smbd; systemctl show -P MainPID operator.service",
    )
}

fn lines_added(before: &str, after: &str) -> Result<Vec<String>> {
    let mut left: Vec<&str> = after.lines().collect();
    for line in before.lines() {
        let at = left.iter().position(|other| *other == line);
        let Some(at) = at else {
            bail!("this line is gone or another one: {line}");
        };
        left.remove(at);
    }
    Ok(left
        .into_iter()
        .map(|line| line.trim().to_owned())
        .collect())
}

/// What the storage role writes below /etc, and nothing else.
const OURS: [&str; 18] = [
    "/etc/firewalld/zones/public.xml",
    "/etc/firewalld/zones/public.xml.old",
    "/etc/group",
    "/etc/group-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/passwd",
    "/etc/passwd-",
    "/etc/samba/smb.conf",
    "/etc/samba/wasagent.conf",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/systemd/system/local-fs.target.wants",
    "/etc/systemd/system/local-fs.target.wants/mnt-data.mount",
    "/etc/systemd/system/mnt-data.mount",
    "/etc/systemd/system/smbd.service.d/wasagent.conf",
    "/etc/sysusers.d/wasagent.conf",
    "/etc/.updated",
];

#[test]
fn what_an_operator_has_stays_to_the_byte() -> Result<()> {
    for release in Release::BOTH {
        let stage = stage(release)?;
        let guest = &stage.guest;
        guest.shell(OPERATORS)?;
        let (files, firewall, others) = (etc(guest)?, rules(guest)?, operators(guest)?);
        let texts = |guest: &Guest| -> Result<Vec<String>> {
            let files = [SMB_CONF, "/etc/passwd", "/etc/group", "/etc/shadow"];
            files
                .iter()
                .map(|file| Ok(String::from_utf8(guest.read(file)?)?))
                .collect()
        };
        let before = texts(guest)?;

        stage.apply(None)?;
        let foreign: Vec<String> = differing(&files, &etc(guest)?)
            .into_iter()
            .filter(|path| !OURS.contains(&path.as_str()))
            .collect();
        ensure!(foreign.is_empty(), "apply changed {foreign:#?}");
        for (before, after) in before.iter().zip(texts(guest)?) {
            let Some(added) = after.strip_prefix(before.as_str()) else {
                bail!("a file of the operator's does not begin as it was: {after}");
            };
            ensure!(
                added.contains("user1") || added.contains("wasagent.conf"),
                "{added}"
            );
        }
        let added = lines_added(&firewall, &rules(guest)?)?;
        ensure!(
            added.len() == 1 && added[0].contains("192.168.2.0/24") && added[0].contains("445"),
            "{added:#?}"
        );
        let added = lines_added(&others, &operators(guest)?)?;
        ensure!(
            added.len() == 2 && added.iter().all(|line| line.contains("192.168.2.0/24")),
            "{added:#?}"
        );
        // The other shares go on working, without the encryption that ours demands.
        let share = "//127.0.0.1/Operator Share";
        let plain = guest.run([
            "smbclient",
            share,
            "--user=alice%operator",
            "--command=put /etc/hostname x",
        ])?;
        ensure!(plain.success(), "{plain}");
        let second = guest.run([
            "smbclient",
            "//127.0.0.1/second",
            "--no-pass",
            "--command=ls",
        ])?;
        ensure!(second.success(), "{second}");
        // And nobody of theirs gets into ours, nor a guest.
        for login in ["--user=alice%operator", "--no-pass"] {
            let refused = guest.run([
                "smbclient",
                "//127.0.0.1/user1",
                login,
                "--client-protection=encrypt",
                "--command=ls",
            ])?;
            ensure!(!refused.success(), "{login}: {refused}");
        }

        stage.revert()?;
        let after = etc(guest)?;
        let stays: Vec<String> = differing(&files, &after)
            .into_iter()
            .filter(|path| {
                // userdel(8) writes them anew, with what they held before.
                !["passwd", "group", "shadow", "gshadow"]
                    .iter()
                    .any(|name| *path == format!("/etc/{name}-") || *path == format!("/etc/{name}"))
            })
            .collect();
        ensure!(stays.is_empty(), "apply and revert changed {stays:#?}");
        ensure!(
            texts(guest)? == before,
            "apply and revert changed one of the accounts' files"
        );
        ensure!(
            rules(guest)? == firewall,
            "apply and revert changed the rules in force"
        );
        ensure!(
            operators(guest)? == others,
            "apply and revert changed something of the operator's"
        );
        progress::say(format!(
            "{release}: {} entries below /etc are as before",
            after.len()
        ));
    }
    Ok(())
}

// ---- what is refused

/// How an operator comes to what our share cannot stand beside, how it is taken back, and what the error has to say.
const CONFLICTS: [(&str, &str, &str); 9] = [
    (
        "printf '\\n[USER1]\\npath = /srv\\n' >>/etc/samba/smb.conf",
        "",
        "already defines a share user1",
    ),
    (
        "echo '[user1]' >/etc/samba/more.conf; echo 'include = /etc/samba/more.conf' >>/etc/samba/smb.conf",
        "rm /etc/samba/more.conf",
        "/etc/samba/more.conf, line 1",
    ),
    (
        "net conf addshare user1 /srv; sed -i 's/^.global.$/[global]\\nregistry shares = yes/' /etc/samba/smb.conf",
        "net conf drop",
        "Samba's registry already defines",
    ),
    (
        "mkdir -p /var/lib/samba/usershares; : >/var/lib/samba/usershares/user1",
        "rm /var/lib/samba/usershares/user1",
        "net usershare delete",
    ),
    (
        "sed -i 's/^.global.$/[global]\\nconfig backend = registry/' /etc/samba/smb.conf",
        "",
        "from the registry",
    ),
    (
        "sed -i 's/^.global.$/[global]\\nserver max protocol = NT1/' /etc/samba/smb.conf",
        "",
        "speaks no SMB 3",
    ),
    (
        "sed -i 's/^.global.$/[global]\\nhosts deny = ALL/' /etc/samba/smb.conf",
        "",
        "shuts out 192.168.2.0/24",
    ),
    (
        "useradd --shell /bin/bash user1",
        "userdel user1",
        "its shell is /bin/bash",
    ),
    (
        "useradd --system --shell /usr/sbin/nologin --groups sudo user1",
        "userdel user1",
        "the group sudo",
    ),
];

#[test]
fn what_the_share_cannot_stand_beside_is_refused() -> Result<()> {
    let stage = stage(Release::Trixie)?;
    let guest = &stage.guest;
    guest.ok(["cp", "-a", SMB_CONF, "/root/smb.conf"])?;
    refuse_all(guest)?;
    // Later it is found as well, where nothing else has changed.
    stage.apply(None)?;
    guest.ok(["cp", "-a", SMB_CONF, "/root/smb.conf"])?;
    let conflicts = CONFLICTS
        .iter()
        .filter(|(make, ..)| !make.starts_with("useradd"));
    for (make, back, said) in conflicts {
        refuse(guest, make, back, said)?;
    }
    refuse(
        guest,
        "echo 'guest ok = yes' >>/etc/samba/smb.conf",
        "",
        "belongs to the share user1",
    )
}

fn refuse_all(guest: &Guest) -> Result<()> {
    CONFLICTS
        .iter()
        .try_for_each(|(make, back, said)| refuse(guest, make, back, said))
}

fn refuse(guest: &Guest, make: &str, back: &str, said: &str) -> Result<()> {
    guest.shell(make)?;
    let before = (etc(guest)?, rules(guest)?);
    let refused = Apply::on(guest)
        .role(wasagent_lab::tier::Role::Storage)
        .run()?
        .output;
    ensure!(
        refused.status == 1 && refused.stderr.contains(said),
        "{said:?} is not said after {make:?}: {refused}"
    );
    ensure!(
        before == (etc(guest)?, rules(guest)?),
        "{make:?}: something changed"
    );
    guest.shell(&format!("cp -a /root/smb.conf {SMB_CONF}; {back}"))?;
    Ok(())
}
