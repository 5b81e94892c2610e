//! By which zones of firewalld the tier's packets come in to this VM, and what to open there. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};
use crate::host::firewalld::Opening;
use crate::host::firewalld::zones::{Arrival, Binding, Fate, Packet, Zones};
use crate::host::network::Interface;

/// Zones that drop or reject what comes in by definition (firewalld.zones(5)). Whoever put an interface there meant it:
/// they are opened only if the tier file names them.
const CLOSED: [&str; 2] = ["drop", "block"];

/// Who is to reach which ports of this VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayIn {
    /// `firewall.zone`: the only zone to open.
    pub zone: Option<String>,
    /// Empty: everybody.
    pub clients: Vec<IpNet>,
    /// The VM's addresses at which they reach it; empty: any.
    pub reached_at: Vec<IpAddr>,
    /// Each with its protocol.
    pub ports: Vec<(u16, String)>,
    /// The ports are a container's. Their packets are rewritten before firewalld sees them, and pass it by a rule of
    /// their own (`ct status dnat accept`, `_build_default_rules_dnat` in firewall/core/nftables.py), whatever a zone
    /// says.
    pub forwarded: bool,
}

/// An opening and the zone that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub zone: String,
    pub opening: Opening,
    /// The packets get in without it.
    pub is_spare: bool,
}

/// What to open.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub openings: Vec<Wanted>,
    pub notes: Vec<String>,
}

impl WayIn {
    /// The names of the zones that are in use for this, for the resource's address.
    pub fn zones_in_use(&self, zones: &Zones, interfaces: &[Interface]) -> Option<String> {
        let plan = self.plan(zones, interfaces).ok()?;
        let names: BTreeSet<&str> = plan.openings.iter().map(|one| one.zone.as_str()).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(",");
        Some(names).filter(|names| !names.is_empty())
    }

    /// The interfaces by which packets to `reached_at` come in.
    pub fn interfaces<'a>(&self, all: &'a [Interface]) -> Vec<&'a str> {
        let with = |test: &dyn Fn(&Interface) -> bool| -> Vec<&'a str> {
            let fitting = all.iter().filter(|one| test(one));
            fitting.map(|one| one.name.as_str()).collect()
        };
        let own = |one: &Interface| {
            let mut addresses = one.addresses.iter();
            addresses.any(|address| self.reached_at.contains(&address.addr()))
        };
        // Behind a host name or an address that is translated on the way.
        let near = |one: &Interface| {
            let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
            let mut addresses = one.addresses.iter().map(IpNet::trunc);
            addresses.any(|near| self.clients.iter().any(|client| overlap(client, &near)))
        };
        let tests: [&dyn Fn(&Interface) -> bool; 4] =
            [&own, &near, &|one| one.leads_out, &|_| true];
        let found = tests.into_iter().map(with);
        found
            .into_iter()
            .find(|names| !names.is_empty())
            .unwrap_or_default()
    }

    /// What to open where.
    ///
    /// # Errors
    /// When clients would stay shut out by what somebody else has set, or by `firewall.zone`.
    pub fn plan(&self, zones: &Zones, interfaces: &[Interface]) -> Result<Plan> {
        if zones.panics {
            return Err(Error::new(
                "firewalld is in panic mode: it drops every packet, in and out",
            )
            .hint("once the danger is over: firewall-cmd --panic-off"));
        }
        if self.forwarded && zones.strict_forward_ports {
            return Err(Error::new(
                "firewalld's StrictForwardPorts=yes rejects the ports that a container publishes",
            )
            .hint("set StrictForwardPorts=no in /etc/firewalld/firewalld.conf, and run: systemctl restart firewalld"));
        }
        let ways = self.ways(zones, interfaces);
        let mut plan = Plan::default();
        if let Some(zone) = &self.zone
            && !ways.iter().any(|way| way.is_by(zone))
        {
            let refusal = not_in_use(zone, &ways);
            if !self.forwarded {
                return Err(refusal);
            }
            plan.notes.push(refusal.message);
            return Ok(plan);
        }
        for way in &ways {
            self.open(way, zones, &mut plan)?;
        }
        Ok(plan)
    }

    /// Each network of clients with the zones that it comes in by.
    fn ways(&self, zones: &Zones, all: &[Interface]) -> Vec<Way> {
        let mut interfaces = self.interfaces(all);
        if interfaces.is_empty() {
            // Whatever comes up later is in the default zone.
            interfaces.push("");
        }
        let has = |v4: bool| {
            let mut own = all
                .iter()
                .filter(|one| interfaces.contains(&one.name.as_str()));
            own.any(|one| one.addresses.iter().any(|a| a.addr().is_ipv4() == v4))
        };
        let networks = if self.clients.is_empty() {
            let v4 = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
            let v6 = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));
            match (has(true), has(false)) {
                (true, true) => vec![v4, v6],
                (false, true) => vec![v6],
                _ => vec![v4],
            }
        } else {
            self.clients.clone()
        };
        let way = |from: IpNet| Way {
            from,
            arrivals: interfaces
                .iter()
                .flat_map(|interface| zones.arrivals(from, interface))
                .collect(),
        };
        networks.into_iter().map(way).collect()
    }

    /// Adds what lets one network in.
    fn open(&self, way: &Way, zones: &Zones, plan: &mut Plan) -> Result<()> {
        let everybody = self.clients.is_empty();
        let is_closed = |arrival: &&Arrival| self.is_left_closed(&arrival.zone);
        let fate = |arrival: &Arrival, (port, protocol): &(u16, String)| {
            let packet = Packet {
                from: arrival.from,
                port: *port,
                protocol: protocol.clone(),
            };
            zones.fate(&arrival.zone, &packet)
        };
        let gets_in = |arrival: &Arrival| {
            let mut ports = self.ports.iter();
            ports.all(|port| matches!(fate(arrival, port), Fate::Accepted(_)))
        };
        let may_open = |arrival: &Arrival| {
            !is_closed(&arrival) && self.zone.as_ref().is_none_or(|zone| *zone == arrival.zone)
        };
        // Of everybody, those whom a source has put into a zone of its own may stay out.
        let counts = |arrival: &&Arrival| !everybody || matches!(arrival.by, Binding::Interface(_));
        let counting: Vec<&Arrival> = way.arrivals.iter().filter(counts).collect();
        if !self.forwarded && !counting.iter().any(|one| may_open(one) || gets_in(one)) {
            return Err(match (&self.zone, counting.first()) {
                (Some(zone), Some(arrival)) if !is_closed(arrival) => elsewhere(zone, arrival),
                (_, Some(arrival)) => drops_all(arrival),
                (Some(zone), None) => not_in_use(zone, std::slice::from_ref(way)),
                (None, None) => return Ok(()),
            });
        }
        for port in self.ports.iter().filter(|_| !self.forwarded) {
            let open = counting.iter().filter(|one| may_open(one) || gets_in(one));
            let denied = open.map(|arrival| match fate(arrival, port) {
                Fate::Denied(by) => Some((arrival, by)),
                _ => None,
            });
            let denied: Option<Vec<_>> = denied.collect();
            if let Some((arrival, by)) = denied.and_then(|all| all.into_iter().next()) {
                return Err(denies(arrival, port, &by));
            }
        }
        // A source's zone may also be that of this VM's own containers, which netavark makes.
        let opens = |arrival: &&Arrival| {
            may_open(arrival) && (counts(arrival) || self.zone.is_some() || !self.forwarded)
        };
        for arrival in way.arrivals.iter().filter(opens) {
            for (port, protocol) in &self.ports {
                let opening = if everybody {
                    Opening::Port {
                        port: *port,
                        protocol: protocol.clone(),
                    }
                } else {
                    Opening::for_source(way.from, *port, protocol)
                };
                plan.add(Wanted {
                    zone: arrival.zone.clone(),
                    opening,
                    is_spare: self.forwarded || gets_in(arrival),
                });
            }
        }
        for arrival in way
            .arrivals
            .iter()
            .filter(|one| !everybody && is_closed(one))
        {
            plan.note(format!(
                "{} comes in by zone {}, which stays closed",
                arrival.from, arrival.zone
            ));
        }
        Ok(())
    }

    /// Whether a zone is one that refuses all, and that nobody has asked to open.
    pub fn is_left_closed(&self, zone: &str) -> bool {
        CLOSED.contains(&zone) && self.zone.as_deref() != Some(zone)
    }

    /// What is opened in a zone by which everybody comes in.
    pub fn openings(&self) -> Vec<Opening> {
        let ports = self.ports.iter();
        ports
            .flat_map(|(port, protocol)| {
                let for_source = |from: &IpNet| Opening::for_source(*from, *port, protocol);
                match self.clients.is_empty() {
                    true => vec![Opening::Port {
                        port: *port,
                        protocol: protocol.clone(),
                    }],
                    false => self.clients.iter().map(for_source).collect(),
                }
            })
            .collect()
    }

    /// Zones that let everybody in where only `clients` should get in, and by what.
    pub fn open_to_everybody(&self, zones: &Zones, wanted: &[Wanted]) -> Vec<(String, String)> {
        if self.clients.is_empty() || self.forwarded {
            return Vec::new();
        }
        let in_use: BTreeSet<&str> = wanted.iter().map(|one| one.zone.as_str()).collect();
        let mut open = Vec::new();
        for zone in in_use {
            for (port, protocol) in &self.ports {
                let packet = Packet {
                    from: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
                    port: *port,
                    protocol: protocol.clone(),
                };
                if let Fate::Accepted(by) = zones.fate(zone, &packet) {
                    open.push((zone.to_owned(), by));
                }
            }
        }
        open
    }
}

/// A network of clients, and the zones that it comes in by.
#[derive(Debug)]
struct Way {
    from: IpNet,
    arrivals: Vec<Arrival>,
}

impl Way {
    fn is_by(&self, zone: &str) -> bool {
        self.arrivals.iter().any(|arrival| arrival.zone == zone)
    }
}

impl Plan {
    /// Adds an opening once. It is spare only if every packet that it is for gets in without it.
    fn add(&mut self, wanted: Wanted) {
        let mut known = self.openings.iter_mut();
        let same = |one: &&mut Wanted| one.zone == wanted.zone && one.opening == wanted.opening;
        match known.find(same) {
            Some(known) => known.is_spare &= wanted.is_spare,
            None => self.openings.push(wanted),
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// `192.168.2.0/24 comes in by eth0, which is in zone drop`
fn comes_in(arrival: &Arrival) -> String {
    let from = match arrival.from.prefix_len() {
        0 => "everybody".to_owned(),
        _ => arrival.from.to_string(),
    };
    let zone = &arrival.zone;
    match &arrival.by {
        Binding::Source(source) => {
            format!("{from} comes in by zone {zone}, which has the source {source}")
        }
        Binding::Interface(interface) if interface.is_empty() => {
            format!("{from} comes in by firewalld's default zone, {zone}")
        }
        Binding::Interface(interface) => {
            format!("{from} comes in by {interface}, which is in zone {zone}")
        }
    }
}

/// The command that moves what comes in to another zone.
fn to_move(arrival: &Arrival, zone: &str) -> String {
    let change = match &arrival.by {
        Binding::Source(source) => format!("--zone={zone} --change-source={source}"),
        Binding::Interface(interface) => format!("--zone={zone} --change-interface={interface}"),
    };
    format!("firewall-cmd {change} && firewall-cmd --permanent {change}")
}

fn not_in_use(zone: &str, ways: &[Way]) -> Error {
    let mut arrivals = ways.iter().flat_map(|way| &way.arrivals);
    let error = |says: String| Error::new(format!("firewall.zone is {zone}, and {says}"));
    match arrivals.next() {
        Some(arrival) => error(format!(
            "{}: nobody comes in by zone {zone}",
            comes_in(arrival)
        ))
        .hint(format!(
            "write firewall.zone = \"{}\", or leave it out and the right zone is found; or run: {}",
            arrival.zone,
            to_move(arrival, zone)
        )),
        None => error(format!("nobody comes in by zone {zone}"))
            .hint("leave firewall.zone out, and the right zone is found"),
    }
}

fn elsewhere(zone: &str, arrival: &Arrival) -> Error {
    Error::new(format!(
        "firewall.zone is {zone} alone, and {}",
        comes_in(arrival)
    ))
    .hint(format!(
        "leave firewall.zone out, and both zones are opened; or run: {}",
        to_move(arrival, zone)
    ))
}

fn drops_all(arrival: &Arrival) -> Error {
    Error::new(format!(
        "{}: that zone refuses all that comes in",
        comes_in(arrival)
    ))
    .hint(format!(
        "run: {}; or, to have this zone opened, write firewall.zone = \"{}\"",
        to_move(arrival, "public"),
        arrival.zone
    ))
}

fn denies(arrival: &Arrival, (port, protocol): &(u16, String), by: &str) -> Error {
    Error::new(format!(
        "{}, and firewalld refuses {port}/{protocol} there before anything that is opened: {by}",
        comes_in(arrival)
    ))
    .hint("take that rule out, or let it name others: firewall-cmd --list-all shows a zone, firewall-cmd --info-policy=NAME a policy, firewall-cmd --direct --get-all-rules the direct rules")
}

#[cfg(test)]
#[path = "way_in_tests.rs"]
mod tests;
