//! What firewalld does to the share's clients, tried by a client outside the guest: the client, health and plan agree.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use wasagent_lab::process::run_with;
use wasagent_lab::soak::stage::{Machine, Stage};
use wasagent_lab::tier::{TIER_FILE, with_disk_of, without_content};
use wasagent_lab::wasagent::{Apply, Plan};
use wasagent_lab::{Guest, Release, agent, progress};

/// What plan says, and apply does.
enum Then {
    /// The client is let in by an opening in this zone.
    Opens(&'static str),
    /// It is refused, in these words.
    Refuses(&'static str),
    /// There is nothing to do.
    Nothing,
}
use Then::{Nothing, Opens, Refuses};

/// A setting of an operator's.
struct Case {
    make: &'static str,
    back: &'static str,
    /// Whether it shuts the client out.
    shuts_out: bool,
    then: Then,
}

const fn case(make: &'static str, back: &'static str, shuts_out: bool, then: Then) -> Case {
    Case {
        make,
        back,
        shuts_out,
        then,
    }
}

const TO_DEFAULT: &str = "firewall-cmd --zone=public --change-interface=host0";

/// Each on top of a share that is served to 192.168.2.0/24, by host0 in the default zone.
const CASES: &[Case] = &[
    // Before host0 is bound to a zone by name.
    case(
        "firewall-cmd --set-default-zone=dmz",
        "firewall-cmd --set-default-zone=public",
        true,
        Opens("dmz"),
    ),
    case(
        "firewall-cmd --zone=drop --change-interface=host0",
        TO_DEFAULT,
        true,
        Refuses("192.168.2.0/24 comes in by host0, which is in zone drop"),
    ),
    case(
        "firewall-cmd --zone=internal --change-interface=host0",
        TO_DEFAULT,
        true,
        Opens("internal"),
    ),
    case(
        "firewall-cmd --zone=work --add-source=192.168.2.0/24",
        "firewall-cmd --zone=work --remove-source=192.168.2.0/24",
        true,
        Opens("work"),
    ),
    // Whatever the zone of a part of the network is, the rest gets in; the client is of the rest.
    case(
        "firewall-cmd --zone=drop --add-source=192.168.2.66",
        "firewall-cmd --zone=drop --remove-source=192.168.2.66",
        false,
        Nothing,
    ),
    case(
        "firewall-cmd --zone=block --add-source=192.168.0.0/16",
        "firewall-cmd --zone=block --remove-source=192.168.0.0/16",
        true,
        Refuses("which has the source 192.168.0.0/16"),
    ),
    // By this interface no client comes.
    case(
        "firewall-cmd --zone=drop --change-interface=eth9",
        "firewall-cmd --zone=drop --remove-interface=eth9",
        false,
        Nothing,
    ),
    case(
        "firewall-cmd --zone=trusted --change-interface=host0",
        TO_DEFAULT,
        false,
        Opens("trusted"),
    ),
    case(
        "firewall-cmd --add-rich-rule='rule family=ipv4 source address=192.168.2.0/24 reject'",
        "firewall-cmd --remove-rich-rule='rule family=ipv4 source address=192.168.2.0/24 reject'",
        true,
        Refuses("before anything that is opened"),
    ),
    case(
        "firewall-cmd --add-rich-rule='rule service name=samba drop'",
        "firewall-cmd --remove-rich-rule='rule service name=samba drop'",
        true,
        Refuses("the rich rule"),
    ),
    case(
        "firewall-cmd --add-rich-rule='rule priority=10 drop'",
        "firewall-cmd --remove-rich-rule='rule priority=10 drop'",
        false,
        Nothing,
    ),
    case(
        "firewall-cmd --add-rich-rule='rule family=ipv4 source address=192.168.2.66 drop'",
        "firewall-cmd --remove-rich-rule='rule family=ipv4 source address=192.168.2.66 drop'",
        false,
        Nothing,
    ),
    case(
        "firewall-cmd --direct --add-rule ipv4 filter INPUT 0 -p tcp --dport 445 -j DROP",
        "firewall-cmd --direct --remove-rule ipv4 filter INPUT 0 -p tcp --dport 445 -j DROP",
        true,
        Refuses("the direct rule"),
    ),
    // firewalld takes a policy after a reload, which leaves what is permanent.
    case(
        "firewall-cmd --permanent --new-policy=shut && firewall-cmd --permanent --policy=shut --set-target=REJECT \
         && firewall-cmd --permanent --policy=shut --add-ingress-zone=ANY \
         && firewall-cmd --permanent --policy=shut --add-egress-zone=HOST \
         && firewall-cmd --permanent --policy=shut --set-priority=-10 && firewall-cmd --reload",
        "firewall-cmd --permanent --delete-policy=shut && firewall-cmd --reload",
        true,
        Refuses("the target of policy shut"),
    ),
    // The opening is gone, and another one lets the same client in.
    case(
        r#"firewall-cmd --add-service=samba && firewall-cmd --remove-rich-rule='rule family="ipv4" source address="192.168.2.0/24" port port="445" protocol="tcp" accept'"#,
        "firewall-cmd --remove-service=samba",
        false,
        Opens("public"),
    ),
];

/// Zones of a priority are firewalld 2's.
const PRIORITY: Case = case(
    "firewall-cmd --permanent --new-zone=first && firewall-cmd --permanent --zone=first --set-ingress-priority=-5 \
     && firewall-cmd --permanent --zone=first --add-source=192.168.2.0/24 \
     && firewall-cmd --permanent --zone=internal --add-source=192.168.2.0/25 && firewall-cmd --reload",
    "firewall-cmd --permanent --delete-zone=first \
     && firewall-cmd --permanent --zone=internal --remove-source=192.168.2.0/25 && firewall-cmd --reload",
    true,
    Opens("first"),
);

/// Whether a client outside the guest, of 192.168.2.0/24, gets a connection.
fn gets_in(stage: &Stage, port: u16) -> Result<bool> {
    let open = format!("exec 3<>/dev/tcp/{}/{port}", stage.guest.address());
    let client = stage
        .lab
        .network()
        .command(["timeout", "2", "bash", "-c", &open]);
    Ok(run_with(client, b"", Duration::from_secs(10))?.success())
}

/// Health says what the client finds.
fn health_agrees(stage: &Stage, gets_in: bool) -> Result<()> {
    let health = stage.guest.run(["wasagent", "health"])?;
    let expected = if gets_in { 0 } else { 3 };
    ensure!(
        health.status == expected,
        "the client gets in: {gets_in}, but {health}"
    );
    Ok(())
}

fn plan(guest: &Guest) -> Result<Plan> {
    Plan::parse(guest.run(["wasagent", "plan", "--format", "json"])?)
}

fn try_case(stage: &Stage, case: &Case) -> Result<()> {
    let guest = &stage.guest;
    guest.shell(case.make)?;
    let client = gets_in(stage, 445)?;
    ensure!(client != case.shuts_out, "the client gets in: {client}");
    health_agrees(stage, client)?;
    let planned = plan(guest)?;
    let applied = Apply::on(guest).run()?;
    match case.then {
        Opens(zone) => {
            ensure!(planned.output.status == 2, "{}", planned.output);
            let changes = planned.changes.context("plan lists no changes")?;
            let named = format!("firewall:{zone}");
            ensure!(
                changes.contains(named.as_str()),
                "{named} is not in {changes:?}"
            );
            ensure!(applied.output.status == 0, "{}", applied.output);
            ensure!(
                gets_in(stage, 445)?,
                "the client does not get in after apply"
            );
            health_agrees(stage, true)?;
        }
        Refuses(said) => {
            for output in [&planned.output, &applied.output] {
                let text = format!("{}{}", output.stdout, output.stderr);
                ensure!(
                    output.status == 1 && text.contains(said),
                    "{said:?} is not said: {output}"
                );
            }
        }
        Nothing => {
            ensure!(planned.output.status == 0, "{}", planned.output);
            ensure!(applied.output.status == 0, "{}", applied.output);
        }
    }
    guest.shell(case.back)?;
    Apply::on(guest).ok()?;
    ensure!(
        gets_in(stage, 445)?,
        "the client does not get in afterwards"
    );
    // Of a zone that is no longer in use, nothing stays open.
    let zones = guest.answer(["firewall-cmd", "--list-all-zones"])?;
    let rules = zones.matches("port=\"445\"").count();
    ensure!(rules == 1, "{rules} zones are open afterwards: {zones}");
    health_agrees(stage, true)
}

fn clients_and_health_agree(release: Release) -> Result<()> {
    let stage = Stage::storage(&agent::build()?, Machine::Container, release)?;
    let guest = &stage.guest;
    let tier = with_disk_of(guest, &without_content());
    guest.write(TIER_FILE, &tier, 0o644)?;
    stage.apply(None)?;
    health_agrees(&stage, gets_in(&stage, 445)?)?;
    let priority = (release == Release::Trixie).then_some(&PRIORITY);
    let mut wrong = Vec::new();
    for case in CASES.iter().chain(priority) {
        if let Err(error) = try_case(&stage, case) {
            wrong.push(format!("{}: {error:#}", case.make));
            guest.shell(case.back)?;
            Apply::on(guest).run()?;
        }
        progress::say(format!("{release}: {}", case.make));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));

    in_panic(guest)?;
    let named = tier.replace("[storage]\n", "[firewall]\nzone = \"home\"\n\n[storage]\n");
    guest.write(TIER_FILE, named, 0o644)?;
    let refused = Apply::on(guest).run()?.output;
    let said = "firewall.zone is home, and 192.168.2.0/24 comes in by host0";
    ensure!(
        refused.status == 1 && refused.stderr.contains(said),
        "{refused}"
    );
    guest.write(TIER_FILE, tier, 0o644)?;

    // A container's published port is rewritten before the zones, and so gets in by any of them.
    guest.shell(
        "nft add table ip published; nft add chain ip published in '{ type nat hook prerouting priority -100; }'; \
         nft add rule ip published in tcp dport 5000 dnat to :445; firewall-cmd --zone=drop --change-interface=host0",
    )?;
    ensure!(
        gets_in(&stage, 5000)? && !gets_in(&stage, 445)?,
        "a published port is of a zone"
    );
    Ok(())
}

/// In panic mode the lab's own connection is cut as well, so one script does it all.
fn in_panic(guest: &Guest) -> Result<()> {
    let script = "firewall-cmd --quiet --panic-on; wasagent health; echo health $?; wasagent plan 2>&1; echo plan $?;\
                  firewall-cmd --quiet --panic-off";
    let said = guest.answer(["sh", "-c", script])?;
    for word in [
        "health 3",
        "plan 1",
        "panic mode",
        "firewall-cmd --panic-off",
    ] {
        ensure!(said.contains(word), "{word:?} is not said: {said}");
    }
    Ok(())
}

#[test]
fn clients_and_health_agree_on_bookworm() -> Result<()> {
    clients_and_health_agree(Release::Bookworm)
}

#[test]
fn clients_and_health_agree_on_trixie() -> Result<()> {
    clients_and_health_agree(Release::Trixie)
}
