use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn smb(from: &str) -> Packet {
    Packet {
        from: net(from),
        port: 445,
        protocol: "tcp".to_owned(),
    }
}

fn zone(name: &str, priority: i64, interfaces: &[&str], sources: &[&str]) -> Zone {
    Zone {
        name: name.to_owned(),
        interfaces: interfaces.iter().map(|one| (*one).to_owned()).collect(),
        sources: sources.iter().map(|one| (*one).to_owned()).collect(),
        ingress_priority: priority,
        rules: Rules::default(),
    }
}

fn zones(zones: Vec<Zone>) -> Zones {
    Zones {
        default: "public".to_owned(),
        zones,
        ..Zones::default()
    }
}

/// Where the clients come in: each zone with the networks that come in by it.
fn arrive(zones: &Zones, from: &str) -> Vec<String> {
    let arrivals = zones.arrivals(net(from), "eth0");
    arrivals
        .iter()
        .map(|one| format!("{} {}", one.zone, one.from))
        .collect()
}

#[test]
fn a_packet_is_of_one_zone() {
    let from = "192.168.2.0/24";
    // What is bound to no zone is in the default one.
    assert_eq!(arrive(&zones(vec![]), from), ["public 192.168.2.0/24"]);
    let table: Vec<(Vec<Zone>, &[&str])> = vec![
        (
            vec![zone("drop", 0, &["eth0"], &[])],
            &["drop 192.168.2.0/24"],
        ),
        (
            vec![zone("drop", 0, &["eth1"], &[])],
            &["public 192.168.2.0/24"],
        ),
        (
            vec![zone("dmz", 0, &["eth+"], &[])],
            &["dmz 192.168.2.0/24"],
        ),
        // A source comes before an interface.
        (
            vec![
                zone("dmz", 0, &["eth0"], &[]),
                zone("work", 0, &[], &["192.168.0.0/16"]),
            ],
            &["work 192.168.2.0/24"],
        ),
        // Part of the network has a zone of its own.
        (
            vec![zone("work", 0, &[], &["192.168.2.128/25"])],
            &["work 192.168.2.128/25", "public 192.168.2.0/25"],
        ),
        (
            vec![zone("drop", 0, &[], &["192.168.2.66"])],
            &[
                "drop 192.168.2.66/32",
                "public 192.168.2.128/25",
                "public 192.168.2.0/26",
                "public 192.168.2.96/27",
                "public 192.168.2.80/28",
                "public 192.168.2.72/29",
                "public 192.168.2.68/30",
                "public 192.168.2.64/31",
                "public 192.168.2.67/32",
            ],
        ),
        // Of two sources the zone's name decides, not the longer prefix.
        (
            vec![
                zone("b", 0, &[], &["192.168.2.0/25"]),
                zone("a", 0, &[], &["192.168.2.0/24"]),
            ],
            &["a 192.168.2.0/24"],
        ),
        // A priority comes before both.
        (
            vec![
                zone("a", 0, &[], &["192.168.2.0/24"]),
                zone("b", -5, &["eth0"], &[]),
            ],
            &["b 192.168.2.0/24"],
        ),
        (
            vec![
                zone("a", 5, &[], &["192.168.2.0/24"]),
                zone("public", 0, &["eth0"], &[]),
            ],
            &["public 192.168.2.0/24"],
        ),
        // The other family, a hardware address and a set of addresses say nothing about the network.
        (
            vec![zone(
                "work",
                0,
                &[],
                &["fd00::/8", "00:16:3e:00:00:01", "ipset:x"],
            )],
            &["public 192.168.2.0/24"],
        ),
        (
            vec![zone("work", 0, &[], &["192.168.2.0/255.255.255.0"])],
            &["work 192.168.2.0/24"],
        ),
    ];
    for (found, arrivals) in table {
        let found = zones(found);
        assert_eq!(arrive(&found, from), arrivals, "{found:?}");
    }
}

fn with_rules(rules: Rules) -> Zones {
    let mut public = zone("public", 0, &["eth0"], &[]);
    public.rules = rules;
    zones(vec![public])
}

fn rich(texts: &[&str]) -> Rules {
    Rules {
        rich: texts.iter().map(|text| RichRule::parse(text)).collect(),
        named: vec![samba()],
        ..Rules::default()
    }
}

fn samba() -> Service {
    let port = |port: &str, protocol: &str| (port.to_owned(), protocol.to_owned());
    Service {
        name: "samba".to_owned(),
        ports: vec![
            port("137-138", "udp"),
            port("139", "tcp"),
            port("445", "tcp"),
        ],
        protocols: Vec::new(),
    }
}

fn told(zones: &Zones, from: &str) -> &'static str {
    match zones.fate("public", &smb(from)) {
        Fate::Accepted(_) => "accepted",
        Fate::Denied(_) => "denied",
        Fate::Closed => "closed",
    }
}

const CLIENTS: &str = "192.168.2.0/24";

#[test]
fn a_zone_lets_in_what_is_open() {
    let pair = |port: &str| vec![(port.to_owned(), "tcp".to_owned())];
    let table = [
        (Rules::default(), "closed"),
        (
            Rules {
                ports: pair("445"),
                ..Rules::default()
            },
            "accepted",
        ),
        (
            Rules {
                ports: pair("400-500"),
                ..Rules::default()
            },
            "accepted",
        ),
        (
            Rules {
                ports: pair("446-500"),
                ..Rules::default()
            },
            "closed",
        ),
        (
            Rules {
                services: vec![samba()],
                ..Rules::default()
            },
            "accepted",
        ),
        (
            Rules {
                protocols: vec!["tcp".to_owned()],
                ..Rules::default()
            },
            "accepted",
        ),
        (
            Rules {
                target: "ACCEPT".to_owned(),
                ..Rules::default()
            },
            "accepted",
        ),
        (
            Rules {
                target: "DROP".to_owned(),
                ..Rules::default()
            },
            "closed",
        ),
    ];
    for (rules, fate) in table {
        let zones = with_rules(rules);
        assert_eq!(told(&zones, CLIENTS), fate, "{zones:?}");
    }
}

#[test]
fn a_rich_rule_decides_as_firewalld_orders_it() {
    const ACCEPT: &str = r#"rule family="ipv4" source address="192.168.2.0/24" port port="445" protocol="tcp" accept"#;
    let table: &[(&[&str], &str)] = &[
        (&[ACCEPT], "accepted"),
        (
            &[r#"rule family="ipv4" source address="192.168.0.0/16" accept"#],
            "accepted",
        ),
        (&[r#"rule family="ipv6" accept"#], "closed"),
        (&[r#"rule service name="samba" accept"#], "accepted"),
        (&[r#"rule service name="ssh" accept"#], "closed"),
        (&[r#"rule protocol value="tcp" accept"#], "accepted"),
        (
            &[r#"rule family="ipv4" source NOT address="10.0.0.0/8" accept"#],
            "accepted",
        ),
        (
            &[r#"rule family="ipv4" source NOT address="192.168.0.0/16" accept"#],
            "closed",
        ),
        // What denies comes before what allows.
        (
            &[
                ACCEPT,
                r#"rule family="ipv4" source address="192.168.2.0/24" reject"#,
            ],
            "denied",
        ),
        (
            &[ACCEPT, r#"rule port port="445" protocol="tcp" drop"#],
            "denied",
        ),
        (
            &[
                ACCEPT,
                r#"rule service name="samba" log prefix="a b" level="info" limit value="1/m" reject"#,
            ],
            "denied",
        ),
        (
            &[
                ACCEPT,
                r#"rule port port="400-500" protocol="tcp" reject type="tcp-reset""#,
            ],
            "denied",
        ),
        // A rule about somebody else, or about a part, shuts nobody of the rest out.
        (
            &[ACCEPT, r#"rule port port="445" protocol="udp" drop"#],
            "accepted",
        ),
        (
            &[
                ACCEPT,
                r#"rule family="ipv4" source address="192.168.2.66" drop"#,
            ],
            "accepted",
        ),
        (
            &[ACCEPT, r#"rule source mac="00:16:3e:00:00:01" drop"#],
            "accepted",
        ),
        (&[ACCEPT, r#"rule source ipset="bad" drop"#], "accepted"),
        (
            &[
                ACCEPT,
                r#"rule family="ipv4" destination address="224.0.0.1" drop"#,
            ],
            "accepted",
        ),
        (
            &[ACCEPT, r#"rule family="ipv4" icmp-block name="redirect""#],
            "accepted",
        ),
        (
            &[
                ACCEPT,
                r#"rule port port="445" protocol="tcp" log prefix="x""#,
            ],
            "accepted",
        ),
        // A priority.
        (&[ACCEPT, r#"rule priority="10" drop"#], "accepted"),
        (&[ACCEPT, r#"rule priority="-10" drop"#], "denied"),
        (
            &[
                r#"rule priority="-20" port port="445" protocol="tcp" accept"#,
                r#"rule priority="-10" drop"#,
            ],
            "accepted",
        ),
        (&[r#"rule priority="10" drop"#], "closed"),
    ];
    for (texts, fate) in table {
        assert_eq!(told(&with_rules(rich(texts)), CLIENTS), *fate, "{texts:?}");
    }
}

#[test]
fn what_comes_before_the_zones_decides_first() {
    let open = || {
        with_rules(Rules {
            services: vec![samba()],
            ..Rules::default()
        })
    };
    let policy = |priority, from: &str, to: &str, target: &str, texts: &[&str]| Policy {
        name: "p".to_owned(),
        priority,
        ingress_zones: vec![from.to_owned()],
        egress_zones: vec![to.to_owned()],
        rules: Rules {
            target: target.to_owned(),
            ..rich(texts)
        },
    };
    let reject = r#"rule port port="445" protocol="tcp" reject"#;
    let accept = r#"rule port port="445" protocol="tcp" accept"#;
    for (policy, fate) in [
        (policy(-1, "ANY", "HOST", "DROP", &[]), "denied"),
        (policy(-1, "public", "HOST", "REJECT", &[]), "denied"),
        (
            policy(-1, "public", "HOST", "REJECT", &[accept]),
            "accepted",
        ),
        (
            policy(-1, "public", "HOST", "CONTINUE", &[reject]),
            "denied",
        ),
        (policy(-1, "public", "HOST", "CONTINUE", &[]), "accepted"),
        (policy(-1, "dmz", "HOST", "DROP", &[]), "accepted"),
        (policy(-1, "ANY", "ANY", "DROP", &[]), "accepted"),
        (policy(1, "ANY", "HOST", "DROP", &[]), "accepted"),
    ] {
        let mut zones = open();
        zones.policies = vec![policy];
        assert_eq!(told(&zones, CLIENTS), fate, "{:?}", zones.policies);
    }
    for (rule, fate) in [
        ("ipv4 filter INPUT -p tcp --dport 445 -j DROP", "denied"),
        (
            "ipv4 filter INPUT -p tcp -m multiport --dports 139,445 -j REJECT --reject-with tcp-reset",
            "denied",
        ),
        ("ipv4 filter INPUT -s 192.168.0.0/16 -j DROP", "denied"),
        ("ipv4 filter INPUT_direct -j DROP", "denied"),
        ("ipv4 filter INPUT -s 10.0.0.0/8 -j DROP", "accepted"),
        ("ipv4 filter INPUT -p tcp --dport 7777 -j DROP", "accepted"),
        ("ipv4 filter INPUT -i eth9 -j DROP", "accepted"),
        ("ipv4 filter INPUT ! -s 192.168.2.0/24 -j DROP", "accepted"),
        ("ipv6 filter INPUT -j DROP", "accepted"),
        ("ipv4 filter FORWARD -j DROP", "accepted"),
        ("ipv4 filter INPUT -p tcp --dport 445 -j ACCEPT", "accepted"),
    ] {
        let mut words = rule.split(' ').map(str::to_owned);
        let mut next = || words.next().unwrap();
        let (family, table, chain) = (next(), next(), next());
        let arguments = words.collect();
        let mut zones = open();
        zones.direct = vec![DirectRule {
            family,
            table,
            chain,
            arguments,
        }];
        assert_eq!(told(&zones, CLIENTS), fate, "{rule}");
    }
    let mut zones = open();
    zones.panics = true;
    assert_eq!(told(&zones, CLIENTS), "denied");
}

#[test]
fn what_decides_is_named() {
    let zones = with_rules(Rules {
        services: vec![samba()],
        ..Rules::default()
    });
    let by = "the service samba of zone public".to_owned();
    assert_eq!(zones.fate("public", &smb(CLIENTS)), Fate::Accepted(by));
}
