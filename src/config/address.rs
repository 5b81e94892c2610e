//! Which IP addresses can be those of a client, a server or a listener of the tier. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::value::Wrong;

/// Networks from which no other machine ever sends (RFC 6890), and what they are.
const NOBODY: [(&str, &str); 7] = [
    ("0.0.0.0/8", "no machine has an address of this network"),
    ("127.0.0.0/8", LOOPBACK),
    ("224.0.0.0/4", MULTICAST),
    ("255.255.255.255/32", "this is the address of a broadcast"),
    ("::/128", "no machine has this address"),
    ("::1/128", LOOPBACK),
    ("ff00::/8", MULTICAST),
];

/// [`NOBODY`] as regular expressions of a network in CIDR notation.
pub(super) const NOBODYS_PATTERNS: [&str; 7] = [
    r"^0\..*/0*(?:[89]|[12][0-9]|3[0-2])$",
    r"^127\..*/0*(?:[89]|[12][0-9]|3[0-2])$",
    r"^(?:22[4-9]|23[0-9])\..*/0*(?:[4-9]|[12][0-9]|3[0-2])$",
    r"^255\.255\.255\.255/0*32$",
    "^[0:]+/0*128$",
    "^[0:]*:0{0,3}1/0*128$",
    "^[Ff][Ff][0-9A-Fa-f]{2}:.*/0*(?:[89]|[1-9][0-9]|1[0-9]{2})$",
];

const LOOPBACK: &str = "by these addresses a machine reaches only itself";
const MULTICAST: &str = "these are addresses of groups, by which nobody sends";

/// `::ffff:0:0/96` (RFC 4291, 2.5.5.2): how a program sees an IPv4 address through an IPv6 socket.
const MAPPED_BITS: u8 = 96;

/// Refuses a network that no client's packets come from.
pub(super) fn network_of_clients(network: &IpNet) -> Result<(), Wrong> {
    let expected = "a network that WAS VMs are in, such as 192.168.2.0/24";
    if let Some(mapped) = in_ipv4(network) {
        let hint = match mapped.prefix_len() {
            0 => "for every IPv4 address leave `clients` out".to_owned(),
            _ => format!("write {mapped}"),
        };
        return Err(
            Wrong::new("IPv4 in the form of IPv6, which no packet carries")
                .expected(expected)
                .hint(hint),
        );
    }
    for (nobody, what) in NOBODY {
        if nobody
            .parse::<IpNet>()
            .is_ok_and(|all| all.contains(network))
        {
            return Err(Wrong::new(what).expected(expected));
        }
    }
    Ok(())
}

/// The IPv4 network that an IPv6 network stands for, if it holds nothing but mapped addresses.
fn in_ipv4(network: &IpNet) -> Option<Ipv4Net> {
    let IpNet::V6(network) = network else {
        return None;
    };
    let address = network.addr().to_ipv4_mapped()?;
    let bits = network.prefix_len().checked_sub(MAPPED_BITS)?;
    Ipv4Net::new(address, bits).ok()
}

/// Refuses an address that no machine is reached by.
pub(super) fn of_one_machine(address: IpAddr) -> Result<(), Wrong> {
    let expected = "an IP address or a host name";
    not_mapped(address, expected)?;
    if is_unicast_link_local(address) {
        return Err(
            Wrong::new("this address means something only together with an interface")
                .expected("an address beyond fe80::/10, or a host name"),
        );
    }
    if address.is_unspecified() || is_of_many(address) {
        return Err(Wrong::new("no address of one machine").expected(expected));
    }
    Ok(())
}

/// Refuses an IPv4 address in the form of IPv6 (RFC 4291, 2.5.5.2): packets with it never leave a machine.
fn not_mapped(address: IpAddr, expected: &str) -> Result<(), Wrong> {
    match mapped(address) {
        None => Ok(()),
        Some(mapped) => Err(Wrong::new("IPv4 in the form of IPv6")
            .expected(expected)
            .hint(format!("write {mapped}"))),
    }
}

/// Refuses a name or address by which a machine reaches only itself.
pub(super) fn of_another_machine(host: &str) -> Result<(), Wrong> {
    let itself = match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        // RFC 6761, 6.3; the second name is in Debian's and EL's /etc/hosts.
        Err(_) => {
            let name = host.to_ascii_lowercase();
            let last = name.rsplit('.').next().unwrap_or_default();
            last == "localhost" || name == "localhost.localdomain"
        }
    };
    if itself {
        return Err(Wrong::new("a WAS VM would reach itself by this")
            .expected("the address or the host name by which the WAS VMs reach the storage VM"));
    }
    Ok(())
}

/// Refuses an address that nothing can listen on.
pub(super) fn to_listen_on(address: IpAddr, expected: &str) -> Result<(), Wrong> {
    if is_of_many(address) {
        return Err(Wrong::new("no address of this VM").expected(expected));
    }
    not_mapped(address, expected)?;
    if is_unicast_link_local(address) {
        return Err(
            Wrong::new("this address means something only together with an interface")
                .expected(expected),
        );
    }
    Ok(())
}

fn mapped(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => address.to_ipv4_mapped(),
    }
}

fn is_of_many(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn is_unicast_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if Ipv6Addr::is_unicast_link_local(&address))
}
