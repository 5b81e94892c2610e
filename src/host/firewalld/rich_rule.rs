//! Rich rules as far as they decide about a packet (firewalld.richlanguage(5)). Pure.

use ipnet::IpNet;

use super::zones::{Packet, Service, covers, has_port};

/// What a rule does with a packet that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Accept,
    /// `reject` or `drop`.
    Deny,
    /// Nothing that decides: `mark`, a log alone.
    None,
}

/// Which packets of a source a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Element {
    All,
    Port(String, String),
    Service(String),
    Protocol(String),
    /// What no packet to a port is decided by, such as `icmp-block`.
    Other,
}

/// A rule, as firewalld prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RichRule {
    pub text: String,
    pub priority: i64,
    pub action: Action,
    family: Option<String>,
    source: Source,
    element: Element,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Any,
    Network {
        network: IpNet,
        is_inverted: bool,
    },
    /// An ipset, a MAC address, or a destination: no network can be compared with these.
    Unknown,
}

impl RichRule {
    pub fn parse(text: &str) -> Self {
        let mut rule = Self {
            text: text.to_owned(),
            priority: 0,
            action: Action::None,
            family: None,
            source: Source::Any,
            element: Element::All,
        };
        let (mut section, mut is_inverted) = ("rule", false);
        let (mut port, mut protocol) = (String::new(), String::new());
        let words = words(text);
        for word in &words {
            let Some((key, value)) = word.split_once('=') else {
                match word.as_str() {
                    "NOT" | "not" => is_inverted = true,
                    "accept" => rule.action = Action::Accept,
                    "reject" | "drop" => rule.action = Action::Deny,
                    "destination" => rule.source = Source::Unknown,
                    "icmp-block" | "icmp-type" | "masquerade" | "forward-port" | "source-port"
                    | "tcp-mss-clamp" => rule.element = Element::Other,
                    _ => {}
                }
                section = word;
                continue;
            };
            match (section, key) {
                ("rule", "priority") => rule.priority = value.parse().unwrap_or(0),
                ("rule", "family") => rule.family = Some(value.to_owned()),
                ("source" | "NOT" | "not", "address") if rule.source != Source::Unknown => {
                    rule.source = match network(value) {
                        Some(network) => Source::Network {
                            network,
                            is_inverted,
                        },
                        None => Source::Unknown,
                    };
                }
                ("source" | "NOT" | "not", _) => rule.source = Source::Unknown,
                ("port", "port") => value.clone_into(&mut port),
                ("port", "protocol") => value.clone_into(&mut protocol),
                ("service", "name") => rule.element = Element::Service(value.to_owned()),
                ("protocol", "value") => rule.element = Element::Protocol(value.to_owned()),
                // A limit lets only so many packets match.
                ("limit", "value") if rule.action == Action::Deny => rule.action = Action::None,
                _ => {}
            }
        }
        if !port.is_empty() && rule.element == Element::All {
            rule.element = Element::Port(port, protocol);
        }
        rule
    }

    /// Whether every such packet matches.
    pub fn matches(&self, packet: &Packet, services: &[Service]) -> bool {
        let family = match packet.from {
            IpNet::V4(_) => "ipv4",
            IpNet::V6(_) => "ipv6",
        };
        if self.family.as_deref().is_some_and(|own| own != family) {
            return false;
        }
        let from = match &self.source {
            Source::Any => true,
            Source::Unknown => false,
            Source::Network {
                network,
                is_inverted: false,
            } => covers(network, &packet.from),
            Source::Network { network, .. } => {
                !covers(network, &packet.from) && !covers(&packet.from, network)
            }
        };
        from && match &self.element {
            Element::All => true,
            Element::Port(ports, protocol) => {
                *protocol == packet.protocol && has_port(ports, packet.port)
            }
            Element::Service(name) => services
                .iter()
                .any(|service| service.name == *name && service.has(packet)),
            Element::Protocol(protocol) => *protocol == packet.protocol,
            Element::Other => false,
        }
    }

    /// The service that the rule names.
    pub fn service(&self) -> Option<&str> {
        match &self.element {
            Element::Service(name) => Some(name),
            _ => None,
        }
    }
}

/// An address or a network.
pub fn network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Some(IpNet::from(address));
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(network.trunc());
    }
    // firewalld takes 10.0.0.0/255.0.0.0 as well.
    let (address, mask) = text.split_once('/')?;
    let network = IpNet::with_netmask(address.parse().ok()?, mask.parse().ok()?).ok()?;
    Some(network.trunc())
}

/// The words of a rule: `key=value` without its quotes, or a keyword.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            blank if blank.is_whitespace() && !quoted => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
            }
            other => word.push(other),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}
