//! What the agent promises of a storage guest: plan says beforehand what apply would refuse, no disk is formatted on the
//! way to a refusal, what cannot be looked at keeps nothing else from being mended, and what somebody has changed since
//! an apply stays.

use anyhow::{Context, Result, ensure};
use wasagent_lab::failpoint::{Moment, Point, kill_at};
use wasagent_lab::foreign::SIZE;
use wasagent_lab::process::{command, ok};
use wasagent_lab::snapshot::{Snapshot, same};
use wasagent_lab::soak::Size;
use wasagent_lab::tier::{
    REPOSITORY, Role, SHARE_PASSWORD, TIER_FILE, install_tier_file, tier_file, with_disk_of,
    without_content,
};
use wasagent_lab::wasagent::Apply;
use wasagent_lab::{Disk, Guest, Lab, Release, Spec, agent, progress, smb};

const PLAN: [&str; 4] = ["wasagent", "plan", "--role", "storage"];

/// A guest with the agent, a blank disk and one that is too small, and nothing applied.
fn storage_guest(lab: &Lab, release: Release, tier_file: &str) -> Result<(Guest, String)> {
    let binary = agent::build_with_failpoints(Size::Sample(1))?;
    let disk = |size| Disk {
        serial: String::new(),
        size,
    };
    let spec = Spec::storage(release).disk(disk(SIZE)).disk(disk(64 << 20));
    let guest = lab.container(&spec)?;
    guest.install_agent(&binary)?;
    let tier_file =
        with_disk_of(&guest, tier_file).replace("was-container-{index}", "was-container");
    install_tier_file(&guest, &tier_file)?;
    Ok((guest, tier_file))
}

/// What stands in the way: how it comes, what is said of it, how it goes.
struct Obstacle {
    comes: &'static str,
    said: &'static str,
    goes: &'static str,
}

const fn obstacle(comes: &'static str, said: &'static str, goes: &'static str) -> Obstacle {
    Obstacle { comes, said, goes }
}

#[rustfmt::skip]
const OBSTACLES: &[Obstacle] = &[
    obstacle("mkdir /srv/real && ln -s /srv/real /mnt/data", "/mnt/data is a symbolic link", "rm /mnt/data && rmdir /srv/real"),
    obstacle("ln -s /srv/nowhere /mnt/data", "/mnt/data is a symbolic link", "rm /mnt/data"),
    obstacle("touch /mnt/data", "/mnt/data is a regular file", "rm /mnt/data"),
    obstacle("mkdir -p /srv/real && mv /mnt /mnt.away && ln -s /srv/real /mnt", "/mnt is really /srv/real", "rm /mnt && mv /mnt.away /mnt && rmdir /srv/real"),
    obstacle("mount --bind /mnt /mnt && mount -o remount,ro,bind /mnt", "write to /mnt", "umount /mnt"),
    obstacle("mount -t tmpfs -o nr_inodes=1 tmpfs /mnt", "no inodes left", "umount /mnt"),
    obstacle("echo '/dev/vdz /mnt/data xfs defaults 0 0' >>/etc/fstab", "/etc/fstab line", "sed -i '/vdz/d' /etc/fstab"),
    obstacle("printf '[Mount]\\nWhat=x\\nWhere=/mnt/data\\n' >/etc/systemd/system/mnt-data.mount", "was not written by wasagent", "rm /etc/systemd/system/mnt-data.mount"),
    obstacle("mount --bind /etc/systemd/system /etc/systemd/system && mount -o remount,ro,bind /etc/systemd/system", "write to /etc/systemd/system", "umount /etc/systemd/system"),
    obstacle("useradd --create-home --shell /bin/bash user1", "the account user1 is one to log in by", "userdel --remove user1"),
    obstacle("groupadd user1 && gpasswd --add nobody user1", "would be in the group user1", "groupdel user1"),
    obstacle("mkdir /etc/sysusers.d && ln -s /etc/hostname /etc/sysusers.d/wasagent.conf", "a symbolic link stands there", "rm -r /etc/sysusers.d"),
    obstacle("mount --bind /etc/samba /etc/samba && mount -o remount,ro,bind /etc/samba", "write to /etc/samba", "umount /etc/samba"),
    obstacle("mount --bind /var/lib/samba /var/lib/samba && mount -o remount,ro,bind /var/lib/samba", "write to /var/lib/samba/private", "umount /var/lib/samba"),
    obstacle("ln -s /etc/hostname /etc/samba/wasagent.conf", "a symbolic link stands there", "rm /etc/samba/wasagent.conf"),
    obstacle("cp -p /etc/samba/smb.conf /root && printf '[user1]\\npath = /srv\\n' >>/etc/samba/smb.conf", "already defines a share user1", "cp -p /root/smb.conf /etc/samba/smb.conf"),
    obstacle("mkdir /var/lib/wasagent && mount -t tmpfs -o ro tmpfs /var/lib/wasagent", "record what apply does", "umount /var/lib/wasagent && rmdir /var/lib/wasagent"),
    obstacle("systemctl mask smbd", "smbd.service is masked", "systemctl unmask smbd"),
    obstacle("mount --bind /etc/firewalld/zones /etc/firewalld/zones && mount -o remount,ro,bind /etc/firewalld/zones", "write to /etc/firewalld/zones", "umount /etc/firewalld/zones"),
    obstacle("printf '\\n[firewall]\\nzone = \"nowhere\"\\n' >>/etc/wasagent/tier.toml", "no zone nowhere", "sed -i '/firewall/,$d' /etc/wasagent/tier.toml"),
];

#[rustfmt::skip]
const OBSTACLES_OF_A_WAS: &[Obstacle] = &[
    obstacle("mkdir /mnt/data && ln -s /srv /mnt/data/shared_folder", "/mnt/data/shared_folder is a symbolic link", "rm -r /mnt/data"),
    obstacle("systemd-run --quiet --unit=other python3 -m http.server 5000 && sleep 2", "listens on port 5000", "systemctl stop other"),
    obstacle("mount --bind /etc/wasagent /etc/wasagent && mount -o remount,ro,bind /etc/wasagent", "write to /etc/wasagent", "umount /etc/wasagent"),
    obstacle("mount --bind /etc/systemd/system /etc/systemd/system && mount -o remount,ro,bind /etc/systemd/system", "write to /etc/systemd/system", "umount /etc/systemd/system"),
];

/// A WAS needs a kernel with cifs to be applied, but none to be planned.
fn plan_says_what_stops_a_was(guest: &Guest) -> Result<()> {
    let plan = || guest.run(["wasagent", "plan", "--role", "was"]);
    let free = plan()?;
    ensure!(free.status == 2, "{free}");
    for Obstacle { comes, said, goes } in OBSTACLES_OF_A_WAS {
        guest.shell(comes)?;
        let refused = plan();
        guest.shell(goes)?;
        let refused = refused?;
        ensure!(
            refused.status == 1
                && refused.stderr.contains(said)
                && refused.stderr.contains("hint:"),
            "{comes}: {said:?} is not said: {refused}"
        );
    }
    Ok(())
}

#[test]
fn plan_says_what_apply_would_refuse() -> Result<()> {
    let lab = Lab::new()?;
    let (guest, tier) = storage_guest(&lab, Release::Trixie, &without_content())?;
    for Obstacle { comes, said, goes } in OBSTACLES {
        guest.shell(comes)?;
        let refused = is_refused(&guest, said).context(*comes);
        guest.shell(goes)?;
        refused?;
    }
    let small = tier.replace(&guest.devices()[0], &guest.devices()[1]);
    guest.write(TIER_FILE, small, 0o644)?;
    is_refused(&guest, "mkfs.xfs").context("a disk that is too small")?;
    guest.write(TIER_FILE, &tier, 0o644)?;
    progress::say(format!("{} obstacles told", OBSTACLES.len() + 1));

    plan_says_what_stops_a_was(&guest)?;
    a_git_server_that_is_away(&guest, &tier)?;
    records_that_cannot_be_read(&guest)
}

/// Plan and apply end with 1 and say so, and change nothing: neither disk is written to.
fn is_refused(guest: &Guest, said: &str) -> Result<()> {
    let before = Snapshot::take(guest, Role::Storage)?;
    let plan = guest.run(PLAN)?;
    let applied = Apply::on(guest).role(Role::Storage).run()?.output;
    for output in [plan, applied] {
        ensure!(
            output.status == 1 && output.stderr.contains(said),
            "{said:?} is not said: {output}"
        );
        ensure!(output.stderr.contains("hint:"), "no way out: {output}");
    }
    let after = Snapshot::take(guest, Role::Storage)?;
    same("a refused apply", &before, &after, &[])?;
    for (index, device) in guest.devices().iter().enumerate() {
        ok(command(["blockdev", "--flushbufs", device]))?;
        let file = guest.disk_file(index);
        let written = ok(command(["du", "--block-size=1", &file.to_string_lossy()]))?.stdout;
        ensure!(
            written.starts_with("0\t"),
            "{device} was written to: {written}"
        );
    }
    Ok(())
}

/// The rest is planned, made and mended; the failure is told by plan and apply.
fn a_git_server_that_is_away(guest: &Guest, tier: &str) -> Result<()> {
    let away =
        with_disk_of(guest, &tier_file()).replace(REPOSITORY, "https://127.0.0.1:9/away.git");
    guest.write(TIER_FILE, away, 0o644)?;
    for mended in ["mount:/mnt/data", "unit:smbd.service"] {
        let plan = guest.run([&PLAN[..], &["--format", "json"]].concat())?;
        ensure!(
            plan.status == 1 && plan.stdout.contains(&format!("\"resource\":\"{mended}\"")),
            "{plan}"
        );
        let said = "content:/mnt/data/shared_folder: ";
        ensure!(
            plan.stderr.contains(said) && plan.stderr.contains("127.0.0.1"),
            "{plan}"
        );
        // One try: nobody waits here for a server that stays away.
        let apply = Apply::on(guest).role(Role::Storage);
        let applied = apply.run_with(&["--timeout", "0s"])?;
        ensure!(
            applied.output.status == 1
                && applied.changed().contains(mended)
                && applied.failure("content:/mnt/data/shared_folder").is_some(),
            "{}",
            applied.output
        );
        smb::client(guest, "user1", ("user1", SHARE_PASSWORD), "ls")?;
        guest.ok(["systemctl", "stop", "smbd"])?;
    }
    let text = guest.run(PLAN)?;
    ensure!(text.stdout.contains("could not be looked at"), "{text}");
    guest.write(TIER_FILE, tier, 0o644)?;
    Apply::on(guest).role(Role::Storage).ok().map(drop)
}

/// They are told, and stop nothing.
fn records_that_cannot_be_read(guest: &Guest) -> Result<()> {
    let odd = "cd /var/lib/wasagent/runs
        printf 'odd\\n' >000100.jsonl
        printf '{\"run\":{\"version\":99,\"of\":\"another form\"}}\\n' >000101.jsonl
        sed -i '3s/.\\{20\\}$//' 000001.jsonl; mkdir 000102.jsonl
        echo '{' >/var/lib/wasagent/record.json";
    guest.shell(odd)?;
    let healthy = guest.ok(["wasagent", "health"])?;
    ensure!(
        !healthy.stderr.contains("run 100")
            && healthy.stderr.contains("/var/lib/wasagent/record.json"),
        "{healthy}"
    );
    let other = guest.run(["wasagent", "plan", "--role", "was"])?;
    ensure!(
        other.status == 64 && other.stderr.contains("serves the role storage"),
        "{other}"
    );
    for arguments in [&PLAN[1..], &["history"]] {
        let output = guest.ok([&["wasagent"], arguments].concat())?;
        for told in [
            "run 100 (",
            "run 101 (",
            "a newer version",
            "run 102 (",
            "run 1 (",
            "hint:",
        ] {
            ensure!(
                output.stderr.contains(told),
                "{told:?} is not told: {output}"
            );
        }
    }
    guest.ok(["systemctl", "stop", "smbd"])?;
    Apply::on(guest).role(Role::Storage).ok()?;
    guest.ok(["wasagent", "health"])?;
    let reverted = guest.ok(["wasagent", "revert"])?;
    ensure!(reverted.stderr.contains("run 101 ("), "{reverted}");
    let left = guest.run(["grep", "wasagent", "/etc/samba/smb.conf"])?;
    ensure!(left.stdout.is_empty(), "{left}");
    Ok(())
}

#[test]
fn what_somebody_has_changed_since_stays() -> Result<()> {
    let lab = Lab::new()?;
    let (guest, _) = storage_guest(&lab, Release::Bookworm, &without_content())?;
    a_disk_that_was_used_since(&guest)?;
    accounts_of_somebody_else(&guest)
}

/// A format that was cut off goes on where all that the disk holds is ours, and nowhere else.
fn a_disk_that_was_used_since(guest: &Guest) -> Result<()> {
    let device = guest.devices()[0].clone();
    let begin = ["wasagent", "apply", "--role", "storage"];
    let point = Point {
        resource: "disk:/mnt/data".to_owned(),
        effect: format!("format {device}"),
        moment: Moment::Before,
    };
    kill_at(guest, &point, &begin)?;
    let used = [
        // Plain dm-crypt and a database leave nothing that blkid(8) knows.
        "head -c 65536 /dev/urandom | dd of=$1 conv=fsync status=none",
        "printf 'a page of a database' | dd of=$1 bs=1M seek=1 conv=fsync status=none",
        "mkfs.xfs -q -K $1; dd if=/dev/zero of=$1 bs=4096 count=1 conv=fsync status=none",
        "mkfs.ext4 -q -E nodiscard $1; dd if=/dev/zero of=$1 bs=4096 count=1 conv=fsync status=none",
    ];
    for line in used {
        ok(command(["sh", "-ec", line, "sh", &device]))?;
        let sum = || Ok::<_, anyhow::Error>(ok(command(["b2sum", &device]))?.stdout);
        let disk = sum()?;
        let plan = guest.run(PLAN)?;
        let refused = Apply::on(guest).role(Role::Storage).run()?.output;
        for output in [plan, refused] {
            ensure!(
                output.status == 1
                    && output.stderr.contains("it is left as it is")
                    && output.stderr.contains("mkfs.xfs -f -L wasagent"),
                "{line}: {output}"
            );
        }
        ensure!(sum()? == disk, "{line}: the disk was changed");
        let erase = "dd if=/dev/zero of=$1 bs=1M conv=fsync status=none || true";
        ok(command(["sh", "-c", erase, "sh", &device]))?;
    }
    // Cut off in the middle of mkfs: blocks with the recorded UUID, the first of them not there yet.
    let record = guest.answer(["sh", "-c", "cat /var/lib/wasagent/runs/*.jsonl"])?;
    let uuid = record
        .split("\"uuid\":\"")
        .nth(1)
        .and_then(|rest| rest.get(..36));
    let uuid = uuid.with_context(|| record.clone())?;
    let half = format!(
        "mkfs.xfs -q -K -m uuid={uuid} -L wasagent $1; dd if=/dev/zero of=$1 bs=4096 count=1 conv=fsync status=none"
    );
    ok(command(["sh", "-ec", &half, "sh", &device]))?;
    Apply::on(guest).role(Role::Storage).ok()?;
    ensure!(guest.answer(["findmnt", "-no", "FSTYPE", "/mnt/data"])? == "xfs");
    guest.ok(["wasagent", "revert"]).map(drop)
}

/// All that Samba knows of the share's account.
fn samba_account(guest: &Guest) -> Result<String> {
    guest.answer(["sh", "-c", "pdbedit -Lw user1; pdbedit -Lv user1"])
}

fn accounts_of_somebody_else(guest: &Guest) -> Result<()> {
    // An administrator's own account, whose SID is in use: it comes back as it was.
    let theirs = "useradd --system --shell /usr/sbin/nologin --no-create-home user1
        printf 'old\\nold\\n' | smbpasswd -s -a user1
        pdbedit -r user1 --fullname='A share' --kickoff-time=2000000000
        pdbedit -r user1 '--user SID=5555'
        net sam set workstations user1 PC1,PC2
        smbpasswd -d user1";
    guest.shell(theirs)?;
    let before = samba_account(guest)?;
    Apply::on(guest).role(Role::Storage).ok()?;
    smb::client(guest, "user1", ("user1", SHARE_PASSWORD), "ls")?;
    guest.ok(["wasagent", "revert"])?;
    ensure!(
        samba_account(guest)? == before,
        "{before}\n--- now: {}",
        samba_account(guest)?
    );

    // So it does if it has the share's password already, and only something else keeps it out.
    let same = format!(
        "printf '{SHARE_PASSWORD}\\n{SHARE_PASSWORD}\\n' | smbpasswd -s user1; smbpasswd -d user1"
    );
    guest.shell(&same)?;
    let before = samba_account(guest)?;
    Apply::on(guest).role(Role::Storage).ok()?;
    smb::client(guest, "user1", ("user1", SHARE_PASSWORD), "ls")?;
    let admitted = samba_account(guest)?;
    guest.ok(["wasagent", "revert"])?;
    ensure!(
        samba_account(guest)? == before,
        "{before}\n--- admitted: {admitted}\n--- now: {}",
        samba_account(guest)?
    );

    // What the administrator sets after the apply stays: an expiry, or a password.
    Apply::on(guest).role(Role::Storage).ok()?;
    guest.shell("pdbedit -r user1 --kickoff-time=1900000000")?;
    let set = samba_account(guest)?;
    let reverted = guest.ok(["wasagent", "revert"])?;
    ensure!(
        samba_account(guest)? == set && reverted.stdout.contains("the Samba account user1 stays"),
        "{set}\n--- now: {}\n{reverted}",
        samba_account(guest)?
    );
    Apply::on(guest).role(Role::Storage).ok()?;
    guest.shell("sleep 1; printf 'new\\nnew\\n' | smbpasswd -s user1")?;
    let set = samba_account(guest)?;
    let reverted = guest.ok(["wasagent", "revert"])?;
    ensure!(
        samba_account(guest)? == set,
        "the password was overwritten: {reverted}"
    );
    ensure!(
        reverted.stdout.contains("the Samba account user1 stays"),
        "{reverted}"
    );

    // And so does an account of ours that somebody uses by now.
    guest.shell("pdbedit -x user1; userdel user1")?;
    Apply::on(guest).role(Role::Storage).ok()?;
    guest.shell("usermod --comment 'in use' user1")?;
    let reverted = guest.ok(["wasagent", "revert"])?;
    ensure!(
        reverted.stdout.contains("the account user1 stays"),
        "{reverted}"
    );
    guest.ok(["getent", "passwd", "user1"])?;
    guest.shell("userdel user1")?;
    Apply::on(guest).role(Role::Storage).ok()?;
    an_account_that_samba_keeps_is_kept_whole(guest)?;
    guest.ok(["wasagent", "revert"])?;
    let gone = guest.run(["getent", "passwd", "user1"])?;
    ensure!(!gone.success(), "{gone}");
    Ok(())
}

/// The Linux account beneath Samba's, and the file that makes it again, wait for the next revert.
fn an_account_that_samba_keeps_is_kept_whole(guest: &Guest) -> Result<()> {
    guest.shell("mv /usr/bin/pdbedit /usr/bin/pdbedit.away")?;
    let deletes_nothing = r#"#!/bin/sh
case "$*" in *--delete*) exit 1 ;; esac
exec /usr/bin/pdbedit.away "$@"
"#;
    guest.write("/usr/bin/pdbedit", deletes_nothing, 0o755)?;
    let reverted = guest.run(["wasagent", "revert"])?;
    guest.shell("mv /usr/bin/pdbedit.away /usr/bin/pdbedit")?;
    ensure!(
        reverted.status == 1 && reverted.stdout.contains("it needs samba-user:user1"),
        "{reverted}"
    );
    let there = "getent passwd user1 && pdbedit -Lw user1 && test -s /etc/sysusers.d/wasagent.conf";
    guest.shell(there).map(drop)
}
