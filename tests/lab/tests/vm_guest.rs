//! The whole tier on guests with a kernel of their own: real CIFS, real reboots. What is proved at length runs on the
//! quickest kind of guest; the main job runs on the distribution's kernels as well.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wasagent_lab::kind::Need;
use wasagent_lab::snapshot::{Except, Snapshot, same};
use wasagent_lab::soak::revert::STAYS;
use wasagent_lab::tier::{
    Role, SHARE_PASSWORD, SHARE_PASSWORD_FILE, TIER_FILE, Tier, apply, tier_file,
};
use wasagent_lab::wasagent::Apply;
use wasagent_lab::{Guest, Lab, Release, agent, confinement, progress, trace};

/// How long the application may take to start where the processor is emulated.
const SERVED: Duration = Duration::from_secs(300);
/// How long three guests may take to boot there.
const BOOT: Duration = Duration::from_secs(900);

/// What an apply that changes nothing must leave running: main processes and the container.
fn what_runs(guest: &Guest, role: Role) -> Result<String> {
    match role {
        Role::Storage => guest.answer(["systemctl", "show", "-P", "MainPID", "smbd"]),
        Role::Was => guest.answer([
            "sh",
            "-c",
            "systemctl show -P MainPID nodejs-server; podman inspect --format '{{.Id}} {{.State.Pid}}' nodejs-server",
        ]),
    }
}

fn nothing_is_changed_twice(tier: &Tier) -> Result<()> {
    for (guest, role) in tier.guests() {
        let before = what_runs(guest, role)?;
        let again = Apply::on(guest).ok()?;
        let summary = again.summary()?;
        ensure!(
            summary["changed"] == 0 && summary["failed"] == 0,
            "{}: {}",
            guest.name(),
            again.output
        );
        ensure!(
            what_runs(guest, role)? == before,
            "{}: something was restarted",
            guest.name()
        );
        progress::say(format!(
            "{} ({}): a second apply of {role} took {} ms, {:.0} ms as a process",
            guest.name(),
            guest.release(),
            summary["took_ms"],
            again.output.took.as_secs_f64() * 1000.0
        ));
    }
    Ok(())
}

fn both_answer_in_turn(tier: &Tier) -> Result<()> {
    let answers = tier.ask(10)?;
    for name in tier.host_names() {
        let count = answers.iter().filter(|answer| **answer == name).count();
        ensure!(count == 5, "{name} answered {count} of 10: {answers:?}");
    }
    Ok(())
}

fn everybody_is_healthy(tier: &Tier) -> Result<()> {
    for (guest, _) in tier.guests() {
        guest.ok(["wasagent", "health"])?;
    }
    Ok(())
}

/// A tier that serves, and its guests' states before it did, in the order of [`Tier::guests`].
fn served_tier<'lab>(
    lab: &'lab Lab,
    storage: Release,
    was: [Release; 2],
    needs: &[Need],
) -> Result<(Tier<'lab>, Vec<Snapshot>)> {
    let binary = agent::build()?;
    let tier = Tier::boot(lab, storage, was, needs)?;
    tier.install(&binary)?;
    let before = on_all(&tier, Snapshot::take)?;
    tier.apply()?;
    tier.wait_served(SERVED)?;
    both_answer_in_turn(&tier)?;
    everybody_is_healthy(&tier)?;
    nothing_is_changed_twice(&tier)?;
    Ok((tier, before))
}

/// What the boots and tests in between leave otherwise; the revert campaign compares without any.
const IN_BETWEEN: [Except; 6] = [
    Except::new(
        "path /etc/wasagent/share.password",
        "a test gives wrong ones",
    ),
    Except::new(
        "time of path /etc/wasagent/*",
        "tests give other tier files, and the first again",
    ),
    Except::new("time of path /etc/hostname", "the lab writes it at a boot"),
    Except::new(
        "time of path /etc/systemd/network/*",
        "the lab writes it at a boot",
    ),
    Except::new(
        "path /etc/apparmor.d/samba/*",
        "Debian's Samba writes it for AppArmor when it starts",
    ),
    Except::new("path /var/lib/*", "services keep their state there"),
];

/// The WAS first: a share that is in use is not taken away. All three are as they were before the first apply.
fn reverted(tier: &Tier, before: &[Snapshot]) -> Result<()> {
    let revert = |guest: &Guest| {
        let output = guest.ok(["wasagent", "revert"])?;
        progress::say(format!(
            "{} ({}): a revert took {:.1} s",
            guest.name(),
            guest.release(),
            output.took.as_secs_f64()
        ));
        Ok(())
    };
    on_both(tier, revert)?;
    revert(&tier.storage)?;
    let after = on_all(tier, Snapshot::take)?;
    for ((guest, _), (before, after)) in tier.guests().iter().zip(before.iter().zip(&after)) {
        let (before, after) = (before.at_rest(), after.at_rest());
        let except = [STAYS, &IN_BETWEEN].concat();
        same("after revert", &before, &after, &except).with_context(|| guest.name().to_owned())?;
    }
    Ok(())
}

/// All three guests go down at the same moment and come up as they like.
fn reboot_all(tier: &Tier) -> Result<()> {
    thread::scope(|scope| {
        let reboots = tier
            .guests()
            .map(|(guest, _)| scope.spawn(move || guest.reboot_nowait()));
        for reboot in reboots {
            reboot
                .join()
                .map_err(|_| anyhow::anyhow!("a reboot panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let served = tier.wait_served(BOOT)?;
    progress::say(format!(
        "after a reboot of all three: served {:.0} s after ssh answered",
        served.as_secs_f64()
    ));
    both_answer_in_turn(tier)
}

/// The WAS boot with nothing to mount; the storage VM comes 60 s after them.
fn reboot_with_late_storage(tier: &Tier) -> Result<()> {
    let _ = tier.storage.run(["systemctl", "poweroff"]);
    tier.storage.wait_ended(BOOT)?;
    tier.storage.power_cut();
    on_both(tier, Guest::reboot_nowait)?;
    for _ in 0..12 {
        thread::sleep(Duration::from_secs(5));
        for guest in &tier.was {
            let running = guest.answer(["podman", "ps", "--quiet"])?;
            ensure!(
                running.is_empty(),
                "{}: a container runs on no share: {running}",
                guest.name()
            );
        }
    }
    tier.storage.power_on()?;
    let served = tier.wait_served(BOOT)?;
    progress::say(format!(
        "the storage VM came 60 s late: served {:.0} s after its power",
        served.as_secs_f64()
    ));
    both_answer_in_turn(tier)?;
    everybody_is_healthy(tier)
}

/// A state of the share in which no WAS can write.
struct Unusable {
    /// What makes it so, and what mends it, on the storage VM.
    breaks: &'static str,
    mends: &'static str,
    /// What `health` says there, and on the WAS VMs.
    storage_says: &'static str,
    was_says: &'static str,
}

const UNUSABLE: [Unusable; 3] = [
    Unusable {
        breaks: "chmod 0550 /mnt/data/shared_folder",
        mends: "chmod 2770 /mnt/data/shared_folder",
        storage_says: "mode 2550",
        was_says: "Permission denied",
    },
    Unusable {
        // Space that is set aside and never written: the disk's file stays small.
        breaks: "for size in 1G 100M 10M 1M 100K 4K; do
                number=0
                while fallocate --length $size /mnt/data/filler.$size.$number; do number=$((number + 1)); done
            done 2>/dev/null; sync",
        mends: "rm -f /mnt/data/filler.*",
        storage_says: "no space is left",
        was_says: "No space left",
    },
    Unusable {
        breaks: "mount -o remount,ro /mnt/data",
        mends: "mount -o remount,rw /mnt/data",
        storage_says: "/mnt/data is mounted read-only",
        was_says: "Read-only file system",
    },
];

/// Every VM says that the share cannot be used, and why; and that it can, once it can.
fn an_unusable_share_is_told(tier: &Tier) -> Result<()> {
    for case in UNUSABLE {
        tier.storage.run(["sh", "-c", case.breaks])?;
        let told = on_all(tier, |guest, _| guest.run(["wasagent", "health"]))?;
        for ((guest, role), health) in tier.guests().iter().zip(told) {
            let says = match role {
                Role::Storage => case.storage_says,
                Role::Was => case.was_says,
            };
            ensure!(
                health.status == 3 && health.stdout.contains(says),
                "{}, {}: {health}",
                guest.name(),
                case.breaks
            );
        }
        tier.storage.ok(["sh", "-ec", case.mends])?;
        everybody_is_healthy(tier).with_context(|| case.mends.to_owned())?;
    }
    Ok(())
}

#[test]
fn a_tier_with_storage_on_trixie() -> Result<()> {
    let lab = Lab::new()?;
    let was = [Release::Bookworm, Release::Trixie];
    let (tier, before) = served_tier(&lab, Release::Trixie, was, &[])?;
    on_both(&tier, no_shell_is_started)?;
    on_both(&tier, confinement::is_confined)?;
    on_both(&tier, |guest| {
        confinement::is_silent(guest, &["Lab's, ", "암호"])
    })?;
    each_fault_has_its_sentence(&tier)?;
    reboot_all(&tier)?;
    nothing_is_changed_twice(&tier)?;
    reverted(&tier, &before)
}

#[test]
fn a_tier_with_storage_on_bookworm() -> Result<()> {
    let lab = Lab::new()?;
    let was = [Release::Trixie, Release::Bookworm];
    let (tier, before) = served_tier(&lab, Release::Bookworm, was, &[])?;
    an_unusable_share_is_told(&tier)?;
    reboot_with_late_storage(&tier)?;
    nothing_is_changed_twice(&tier)?;
    reverted(&tier, &before)
}

#[test]
fn a_tier_on_the_distributions_kernels() -> Result<()> {
    let lab = Lab::new()?;
    let was = [Release::Bookworm, Release::Trixie];
    let (tier, _) = served_tier(&lab, Release::Trixie, was, &[Need::DistributionKernel])?;
    on_both(&tier, confinement::is_confined)?;
    reboot_all(&tier)?;
    everybody_is_healthy(&tier)
}

/// A whole apply of the role, traced: everything is taken away before, but for the image.
fn no_shell_is_started(guest: &Guest) -> Result<()> {
    guest.ok([
        "systemctl",
        "stop",
        "nodejs-server.service",
        "mnt-data-shared_folder.mount",
    ])?;
    guest.ok([
        "sh",
        "-c",
        "rm -f /etc/wasagent/share.cred /etc/systemd/system/*.mount /etc/containers/systemd/*.container \
         /etc/systemd/system/nodejs-server.service && systemctl daemon-reload",
    ])?;
    let helpers = trace::apply_without_shell_or_nss(guest, Role::Was)?;
    ensure!(
        helpers.contains("/usr/bin/podman"),
        "the trace shows no podman: {helpers:?}"
    );
    Ok(())
}

/// Applies a tier file that cannot be mounted, and gives back what the agent said of the mount.
fn refused_mount(guest: &Guest, tier_file: &str) -> Result<String> {
    guest.write(TIER_FILE, tier_file, 0o644)?;
    // Some of these faults may pass by themselves; their sentence is the same at the first try.
    let applied = Apply::on(guest).run_with(&["--timeout", "0s"])?;
    let refused = &applied.output;
    ensure!(refused.status == 1, "{}: {refused}", guest.name());
    let failed = applied
        .refused_mount()
        .with_context(|| format!("{}: no failed mount: {refused}", guest.name()))?;
    let took = failed["took_ms"].as_f64().unwrap_or(f64::MAX);
    let sentence = failed["error"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    progress::say(format!(
        "{} ({}), {:.1} s: {sentence}",
        guest.name(),
        guest.release(),
        took / 1000.0
    ));
    ensure!(
        took < 15_000.0,
        "{}: it took {took} ms: {failed}",
        guest.name()
    );
    let mounted = guest.run(["findmnt", "--types", "cifs"])?;
    ensure!(
        mounted.stdout.is_empty(),
        "{}: mounted: {mounted}",
        guest.name()
    );
    ensure!(!refused.stdout.contains(SHARE_PASSWORD) && !refused.stderr.contains(SHARE_PASSWORD));
    Ok(sentence)
}

/// Each way in which a mount can fail, on both WAS at once: its own sentence, and nothing mounted.
fn each_fault_has_its_sentence(tier: &Tier) -> Result<()> {
    let storage = &tier.storage;
    let good = tier_file();
    on_both(tier, |guest| {
        guest.ok(["systemctl", "stop", "nodejs-server.service"])?;
        guest.ok(["systemctl", "stop", "mnt-data-shared_folder.mount"])
    })?;
    let refused = |tier_file: &str| on_both(tier, |guest| refused_mount(guest, tier_file));
    let mut sentences = Vec::new();

    let password = |text: &'static str| {
        on_both(tier, move |guest| {
            guest.write(SHARE_PASSWORD_FILE, text, 0o600)
        })
    };
    password("not the password")?;
    sentences.push((refused(&good)?, "password"));
    password(SHARE_PASSWORD)?;

    let other_share = good.replacen("name          = \"user1\"", "name          = \"user2\"", 1);
    sentences.push((refused(&other_share)?, "user2"));

    let plain = good.replacen("[storage]\n", "encrypt = false\n\n[storage]\n", 1);
    sentences.push((refused(&plain)?, "encrypt"));

    storage.cut_link()?;
    let silent = refused(&good);
    storage.restore_link()?;
    sentences.push((silent?, "within 5 s"));

    storage.ok(["systemctl", "stop", "smbd"])?;
    let closed = refused(&good);
    storage.ok(["systemctl", "start", "smbd"])?;
    sentences.push((closed?, "445"));

    for (index, (said, word)) in sentences.iter().enumerate() {
        for sentence in said {
            ensure!(sentence.contains(word), "{word:?} is not in: {sentence}");
            let earlier = sentences[..index]
                .iter()
                .any(|(other, _)| other.contains(sentence));
            ensure!(!earlier, "two faults share a sentence: {sentence}");
        }
    }
    on_both(tier, |guest| {
        guest.write(TIER_FILE, &good, 0o644)?;
        apply(guest, Role::Was)
    })?;
    tier.wait_served(SERVED).map(drop)
}

/// The same on all three guests at the same time, with their roles.
fn on_all<T: Send>(tier: &Tier, action: fn(&Guest, Role) -> Result<T>) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let all = tier
            .guests()
            .map(|(guest, role)| scope.spawn(move || action(guest, role)));
        all.into_iter()
            .map(|one| {
                one.join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))?
            })
            .collect()
    })
}

/// The same on both WAS at the same time.
fn on_both<T: Send>(tier: &Tier, action: impl Fn(&Guest) -> Result<T> + Sync) -> Result<Vec<T>> {
    let action = &action;
    thread::scope(|scope| {
        let both = tier
            .was
            .each_ref()
            .map(|guest| scope.spawn(move || action(guest)));
        both.into_iter()
            .map(|one| {
                one.join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))?
            })
            .collect()
    })
}
