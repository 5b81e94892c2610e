//! Which zone a packet comes in by, and what becomes of it there. Pure: `table` reads it all from firewalld.
//!
//! A packet is of one zone: that of the first source or interface that matches, in the order of the zones' ingress
//! priorities (firewalld 2.0 and later), sources before interfaces, then the zones' names; otherwise of the default zone
//! (`_policy_dispatch_sort_key` in firewall/core/nftables.py, `_run_replace_zone_source` in 1.x). Policies with a
//! priority below 0 come before the zone. In each of them, rich rules of a negative priority come first, then the rules
//! that deny, then those that allow, then the target.

use ipnet::IpNet;

use super::rich_rule::{Action, RichRule, network};

/// Packets from everywhere in a network to one port of this VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub from: IpNet,
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// A named set of ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    /// Ports or ranges, each with its protocol.
    pub ports: Vec<(String, String)>,
    /// Whole protocols.
    pub protocols: Vec<String>,
}

impl Service {
    pub fn has(&self, packet: &Packet) -> bool {
        let mut ports = self.ports.iter();
        ports.any(|(ports, protocol)| *protocol == packet.protocol && has_port(ports, packet.port))
            || self.protocols.contains(&packet.protocol)
    }
}

/// What a zone or a policy does with packets to this VM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// `ACCEPT`, `DROP`, `REJECT`, `%%REJECT%%`, `CONTINUE` or `default`.
    pub target: String,
    pub ports: Vec<(String, String)>,
    pub services: Vec<Service>,
    pub protocols: Vec<String>,
    pub rich: Vec<RichRule>,
    /// Services that only a rich rule names.
    pub named: Vec<Service>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is let in, by this rule.
    Accepted(String),
    /// It is refused by this rule, before anything that could be opened.
    Denied(String),
    /// Nothing is open for it.
    Closed,
}

/// A zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    pub name: String,
    pub interfaces: Vec<String>,
    /// Networks, MAC addresses and `ipset:NAME`.
    pub sources: Vec<String>,
    pub ingress_priority: i64,
    pub rules: Rules,
}

/// A policy between zones, or from zones to this VM (firewalld.policies(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    pub name: String,
    pub priority: i64,
    pub ingress_zones: Vec<String>,
    pub egress_zones: Vec<String>,
    pub rules: Rules,
}

/// A rule that bypasses the zones, as iptables(8) takes it (firewalld.direct(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectRule {
    /// `ipv4` or `ipv6`.
    pub family: String,
    pub table: String,
    pub chain: String,
    pub arguments: Vec<String>,
}

/// What firewalld has in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones {
    /// The zone of what is bound to no other.
    pub default: String,
    /// The default zone, and those with an interface or a source.
    pub zones: Vec<Zone>,
    /// Active policies.
    pub policies: Vec<Policy>,
    pub direct: Vec<DirectRule>,
    /// Everything is dropped (`firewall-cmd --panic-on`).
    pub panics: bool,
    /// Ports that a container publishes are rejected unless firewalld forwards them itself (firewalld.conf(5)).
    pub strict_forward_ports: bool,
}

/// Packets of one network that come in by one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub zone: String,
    pub from: IpNet,
    /// What puts them in the zone.
    pub by: Binding,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    Source(String),
    Interface(String),
}

impl Zones {
    pub fn zone(&self, name: &str) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.name == name)
    }

    /// The zones by which packets from a network come in at an interface.
    pub fn arrivals(&self, from: IpNet, interface: &str) -> Vec<Arrival> {
        let mut order: Vec<&Zone> = self.zones.iter().collect();
        order.sort_by(|a, b| {
            let key = |zone: &Zone| (zone.ingress_priority, zone.name.clone());
            key(a).cmp(&key(b))
        });
        let mut rest = vec![from];
        let mut arrivals = Vec::new();
        let mut priorities: Vec<i64> = order.iter().map(|zone| zone.ingress_priority).collect();
        priorities.dedup();
        for priority in priorities {
            let level = order
                .iter()
                .filter(|zone| zone.ingress_priority == priority);
            for zone in level.clone() {
                for source in &zone.sources {
                    if let Some(network) = network(source) {
                        take(&mut rest, &network, |from| {
                            let by = Binding::Source(source.clone());
                            let zone = zone.name.clone();
                            arrivals.push(Arrival { zone, from, by });
                        });
                    }
                }
            }
            let bound = |zone: &&&Zone| zone.interfaces.iter().any(|own| is_bound(own, interface));
            if let Some(zone) = level.clone().find(bound) {
                arrivals.extend(rest.drain(..).map(|from| Arrival {
                    zone: zone.name.clone(),
                    from,
                    by: Binding::Interface(interface.to_owned()),
                }));
            }
        }
        arrivals.extend(rest.into_iter().map(|from| Arrival {
            zone: self.default.clone(),
            from,
            by: Binding::Interface(interface.to_owned()),
        }));
        arrivals
    }

    /// What becomes of packets to this VM that come in by a zone.
    pub fn fate(&self, zone: &str, packet: &Packet) -> Fate {
        if self.panics {
            return Fate::Denied("panic mode".to_owned());
        }
        if let Some(rule) = self.direct.iter().find(|rule| rule.denies(packet)) {
            return Fate::Denied(format!("the direct rule {rule}"));
        }
        let mut before: Vec<&Policy> = self.policies.iter().filter(|p| p.is_before(zone)).collect();
        before.sort_by_key(|policy| policy.priority);
        for policy in before {
            let by = format!("policy {}", policy.name);
            match policy.rules.fate(packet, &by) {
                Fate::Closed if matches!(policy.rules.target.as_str(), "DROP" | "REJECT") => {
                    return Fate::Denied(format!("the target of {by}"));
                }
                Fate::Closed => {}
                decided => return decided,
            }
        }
        match self.zone(zone) {
            Some(found) => found.rules.fate(packet, &format!("zone {zone}")),
            None => Fate::Closed,
        }
    }
}

impl Policy {
    /// Whether the policy sees packets to this VM before a zone does.
    fn is_before(&self, zone: &str) -> bool {
        self.priority < 0
            && self.egress_zones.iter().any(|to| to == "HOST")
            && self
                .ingress_zones
                .iter()
                .any(|from| from == "ANY" || from == zone)
    }
}

impl Rules {
    fn fate(&self, packet: &Packet, of: &str) -> Fate {
        let matching = |rule: &&RichRule| {
            let all: Vec<Service> = self.services.iter().chain(&self.named).cloned().collect();
            rule.matches(packet, &all)
        };
        let decides = |rule: &RichRule| match rule.action {
            Action::Accept => Some(Fate::Accepted(format!(
                "the rich rule {} of {of}",
                rule.text
            ))),
            Action::Deny => Some(Fate::Denied(format!("the rich rule {} of {of}", rule.text))),
            Action::None => None,
        };
        let mut first: Vec<&RichRule> = self.rich.iter().filter(|r| r.priority < 0).collect();
        first.sort_by_key(|rule| rule.priority);
        if let Some(fate) = first.into_iter().filter(matching).find_map(decides) {
            return fate;
        }
        let plain = || {
            self.rich
                .iter()
                .filter(|r| r.priority == 0)
                .filter(matching)
        };
        if let Some(fate) = plain()
            .filter(|r| r.action == Action::Deny)
            .find_map(decides)
        {
            return fate;
        }
        if let Some((ports, protocol)) = self
            .ports
            .iter()
            .find(|(ports, protocol)| *protocol == packet.protocol && has_port(ports, packet.port))
        {
            return Fate::Accepted(format!("the port {ports}/{protocol} of {of}"));
        }
        if let Some(service) = self.services.iter().find(|service| service.has(packet)) {
            return Fate::Accepted(format!("the service {} of {of}", service.name));
        }
        if self.protocols.contains(&packet.protocol) {
            return Fate::Accepted(format!("the protocol {} of {of}", packet.protocol));
        }
        if let Some(fate) = plain().find_map(decides) {
            return fate;
        }
        let mut last: Vec<&RichRule> = self.rich.iter().filter(|r| r.priority > 0).collect();
        last.sort_by_key(|rule| rule.priority);
        match last.into_iter().filter(matching).find_map(decides) {
            Some(Fate::Accepted(by)) => Fate::Accepted(by),
            // What is opened comes before this.
            Some(_) => Fate::Closed,
            None if self.target == "ACCEPT" => Fate::Accepted(format!("the target of {of}")),
            None => Fate::Closed,
        }
    }
}

impl DirectRule {
    /// Whether the rule surely refuses every such packet: its arguments are only those that are known here.
    fn denies(&self, packet: &Packet) -> bool {
        let family = match packet.from {
            IpNet::V4(_) => "ipv4",
            IpNet::V6(_) => "ipv6",
        };
        if self.family != family || self.table != "filter" || !self.chain.starts_with("INPUT") {
            return false;
        }
        let mut arguments = self.arguments.iter().map(String::as_str);
        let mut denies = false;
        while let Some(argument) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            let fits = match argument {
                "-p" | "--protocol" => value == packet.protocol,
                "-m" | "--match" => matches!(value, "tcp" | "udp" | "multiport" | "comment"),
                "--comment" => true,
                "--dport" | "--destination-port" | "--dports" | "--destination-ports" => value
                    .split(',')
                    .any(|ports| has_port(&ports.replace(':', "-"), packet.port)),
                "-s" | "--source" | "--src" => {
                    network(value).is_some_and(|network| covers(&network, &packet.from))
                }
                "-j" | "--jump" => {
                    denies = matches!(value, "DROP" | "REJECT");
                    denies
                }
                "--reject-with" => true,
                _ => false,
            };
            if !fits {
                return false;
            }
        }
        denies
    }
}

impl std::fmt::Display for DirectRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let arguments = self.arguments.join(" ");
        write!(
            f,
            "{} {} {} {arguments}",
            self.family, self.table, self.chain
        )
    }
}

/// Whether all of `inner` is in `outer`.
pub fn covers(outer: &IpNet, inner: &IpNet) -> bool {
    outer.contains(inner)
}

/// Whether a port or a range has a port: `445`, `400-500`.
pub fn has_port(ports: &str, port: u16) -> bool {
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&port),
        _ => false,
    }
}

/// `eth+` stands for every interface whose name begins so.
fn is_bound(bound: &str, interface: &str) -> bool {
    match bound.strip_suffix('+') {
        Some(prefix) => interface.starts_with(prefix),
        None => bound == interface,
    }
}

/// Takes what `network` covers out of `rest`, and hands it on.
fn take(rest: &mut Vec<IpNet>, network: &IpNet, mut taken: impl FnMut(IpNet)) {
    let mut left = Vec::new();
    for piece in rest.drain(..) {
        if covers(network, &piece) {
            taken(piece);
        } else if covers(&piece, network) {
            taken(*network);
            left.extend(without(piece, network));
        } else {
            left.push(piece);
        }
    }
    *rest = left;
}

/// A network without one that is in it: the sibling of each step down to it.
fn without(mut whole: IpNet, out: &IpNet) -> Vec<IpNet> {
    let mut left = Vec::new();
    while whole.prefix_len() < out.prefix_len() {
        let Ok(halves) = whole.subnets(whole.prefix_len() + 1) else {
            break;
        };
        for half in halves {
            if covers(&half, out) {
                whole = half;
            } else {
                left.push(half);
            }
        }
    }
    left
}

#[cfg(test)]
#[path = "zones_tests.rs"]
mod tests;
