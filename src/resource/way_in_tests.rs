use super::*;
use crate::host::firewalld::rich_rule::RichRule;
use crate::host::firewalld::zones::{Rules, Zone};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// The storage VM of the guide, and a second card.
fn cards() -> Vec<Interface> {
    let card = |name: &str, address: &str, leads_out| Interface {
        name: name.to_owned(),
        addresses: vec![net(address)],
        leads_out,
    };
    vec![
        card("eth0", "192.168.2.13/24", false),
        card("eth1", "10.9.0.4/16", true),
    ]
}

fn share(clients: &[&str]) -> WayIn {
    WayIn {
        zone: None,
        clients: clients.iter().map(|text| net(text)).collect(),
        reached_at: vec!["192.168.2.13".parse().unwrap()],
        ports: vec![(445, "tcp".to_owned())],
        forwarded: false,
    }
}

fn zone(name: &str, interfaces: &[&str], sources: &[&str]) -> Zone {
    Zone {
        name: name.to_owned(),
        interfaces: interfaces.iter().map(|one| (*one).to_owned()).collect(),
        sources: sources.iter().map(|one| (*one).to_owned()).collect(),
        ..Zone::default()
    }
}

fn zones(zones: Vec<Zone>) -> Zones {
    Zones {
        default: "public".to_owned(),
        zones,
        ..Zones::default()
    }
}

/// Each zone that is opened, with what is opened there in short.
fn opened(way: &WayIn, zones: &Zones) -> Vec<String> {
    let plan = way.plan(zones, &cards()).unwrap();
    let openings = plan.openings.iter().map(|wanted| {
        let spare = if wanted.is_spare { " (spare)" } else { "" };
        let what = match &wanted.opening {
            Opening::Port { .. } => wanted.opening.to_string(),
            Opening::RichRule(rule) => rule.split('"').nth(3).unwrap().to_owned(),
        };
        format!("{} {what}{spare}", wanted.zone)
    });
    openings.collect()
}

#[test]
fn the_zones_are_opened_by_which_clients_come_in() {
    let of_clients = &["192.168.2.0/24"][..];
    let table: Vec<(&[&str], Vec<Zone>, &[&str])> = vec![
        (of_clients, vec![], &["public 192.168.2.0/24"]),
        (
            of_clients,
            vec![zone("internal", &["eth0"], &[])],
            &["internal 192.168.2.0/24"],
        ),
        // The other card's zone is not in use for this.
        (
            of_clients,
            vec![zone("internal", &["eth1"], &[])],
            &["public 192.168.2.0/24"],
        ),
        (
            of_clients,
            vec![zone("internal", &["eth0"], &["192.168.2.0/24"])],
            &["internal 192.168.2.0/24"],
        ),
        (
            &["192.168.2.0/24", "10.1.0.0/16"],
            vec![
                zone("dmz", &["eth0"], &[]),
                zone("work", &[], &["10.0.0.0/8"]),
            ],
            &["dmz 192.168.2.0/24", "work 10.1.0.0/16"],
        ),
        // One machine of the network is kept out by a source of its own.
        (
            of_clients,
            vec![zone("drop", &[], &["192.168.2.66"])],
            &["public 192.168.2.0/24"],
        ),
        (&[], vec![], &["public 445/tcp"]),
        (
            &[],
            vec![
                zone("dmz", &["eth0"], &[]),
                zone("work", &[], &["10.0.0.0/8"]),
                zone("block", &[], &["203.0.113.0/24"]),
            ],
            &["work 445/tcp", "dmz 445/tcp"],
        ),
    ];
    for (clients, found, expected) in table {
        let found = zones(found);
        assert_eq!(opened(&share(clients), &found), expected, "{found:?}");
    }
}

#[test]
fn a_card_is_found_without_the_servers_address() {
    let mut way = share(&["192.168.2.0/24"]);
    way.reached_at.clear();
    assert_eq!(way.interfaces(&cards()), ["eth0"]);
    way.clients = vec![net("172.16.0.0/12")];
    assert_eq!(way.interfaces(&cards()), ["eth1"]);
    assert_eq!(way.interfaces(&[]), Vec::<&str>::new());
    // Before a card is up, the default zone is opened.
    let plan = way.plan(&zones(vec![]), &[]).unwrap();
    assert_eq!(plan.openings[0].zone, "public");
}

#[test]
fn what_is_open_anyway_is_spare() {
    let mut public = zone("public", &["eth0"], &[]);
    public.rules.ports = vec![("445".to_owned(), "tcp".to_owned())];
    let found = zones(vec![public]);
    assert_eq!(
        opened(&share(&["192.168.2.0/24"]), &found),
        ["public 192.168.2.0/24 (spare)"]
    );
}

/// What the refusal says, and what its way out begins with.
fn refused(way: &WayIn, zones: &Zones, says: &str, way_out: &str) {
    let refusal = way.plan(zones, &cards()).unwrap_err();
    assert!(refusal.message.contains(says), "{refusal:?}");
    let hint = refusal.hint.unwrap();
    assert!(hint.contains(way_out), "{hint}");
}

#[test]
fn what_would_leave_clients_shut_out_is_refused() {
    let clients = share(&["192.168.2.0/24"]);
    for name in ["drop", "block"] {
        let found = zones(vec![zone(name, &["eth0"], &[])]);
        let says = format!("192.168.2.0/24 comes in by eth0, which is in zone {name}");
        let way_out = "firewall-cmd --zone=public --change-interface=eth0";
        refused(&clients, &found, &says, way_out);
        let everybody = format!("everybody comes in by eth0, which is in zone {name}");
        refused(&share(&[]), &found, &everybody, way_out);
        // The tier file may say that it is meant so.
        let mut named = clients.clone();
        named.zone = Some(name.to_owned());
        assert_eq!(opened(&named, &found), [format!("{name} 192.168.2.0/24")]);
    }
    let found = zones(vec![zone("drop", &[], &["192.168.0.0/16"])]);
    refused(
        &clients,
        &found,
        "comes in by zone drop, which has the source 192.168.0.0/16",
        "--change-source=192.168.0.0/16",
    );

    let mut named = clients.clone();
    named.zone = Some("internal".to_owned());
    refused(
        &named,
        &zones(vec![]),
        "firewall.zone is internal, and 192.168.2.0/24 comes in by eth0, which is in zone public: nobody",
        "write firewall.zone = \"public\"",
    );
    // One of two networks comes in by another zone.
    let mut two = share(&["192.168.2.0/24", "10.1.0.0/16"]);
    two.zone = Some("public".to_owned());
    let mut work = zone("work", &[], &["10.0.0.0/8"]);
    refused(
        &two,
        &zones(vec![work.clone()]),
        "firewall.zone is public alone, and 10.1.0.0/16 comes in by zone work",
        "leave firewall.zone out",
    );
    work.rules.target = "ACCEPT".to_owned();
    assert_eq!(opened(&two, &zones(vec![work])), ["public 192.168.2.0/24"]);

    let mut panics = zones(vec![]);
    panics.panics = true;
    refused(&clients, &panics, "panic mode", "--panic-off");

    let rule = r#"rule port port="445" protocol="tcp" reject"#;
    let mut public = zone("public", &["eth0"], &[]);
    public.rules = Rules {
        rich: vec![RichRule::parse(rule)],
        ..Rules::default()
    };
    refused(&clients, &zones(vec![public]), rule, "--list-all");
}

#[test]
fn a_containers_port_is_reached_whatever_its_zone_says() {
    let way = WayIn {
        clients: Vec::new(),
        reached_at: Vec::new(),
        ports: vec![(5000, "tcp".to_owned())],
        forwarded: true,
        zone: None,
    };
    assert_eq!(opened(&way, &zones(vec![])), ["public 5000/tcp (spare)"]);
    let dmz = zones(vec![zone("dmz", &["eth1"], &[])]);
    assert_eq!(opened(&way, &dmz), ["dmz 5000/tcp (spare)"]);
    // A zone that is not in use is not opened, and a zone that refuses all is left as it is.
    let drop = zones(vec![zone("drop", &["eth1"], &[])]);
    assert!(opened(&way, &drop).is_empty());
    let mut named = way.clone();
    named.zone = Some("internal".to_owned());
    let plan = named.plan(&dmz, &cards()).unwrap();
    assert!(plan.openings.is_empty() && plan.notes[0].contains("nobody comes in by zone internal"));

    let mut strict = zones(vec![]);
    strict.strict_forward_ports = true;
    refused(&way, &strict, "StrictForwardPorts", "StrictForwardPorts=no");
    assert!(share(&[]).plan(&strict, &cards()).is_ok());
}

#[test]
fn it_is_told_what_lets_everybody_in() {
    let way = share(&["192.168.2.0/24"]);
    let mut public = zone("public", &["eth0"], &[]);
    public.rules.ports = vec![("400-500".to_owned(), "tcp".to_owned())];
    let found = zones(vec![public]);
    let plan = way.plan(&found, &cards()).unwrap();
    assert_eq!(
        way.open_to_everybody(&found, &plan.openings),
        [(
            "public".to_owned(),
            "the port 400-500/tcp of zone public".to_owned()
        )]
    );
    assert!(
        share(&[])
            .open_to_everybody(&found, &plan.openings)
            .is_empty()
    );
}
