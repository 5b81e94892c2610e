//! Lists of hosts, as `hosts allow` and `hosts deny` of smb.conf(5) have them, in the form of hosts_access(5).

use std::net::IpAddr;

use ipnet::IpNet;

/// What a word stands for, if that is clear.
enum Hosts {
    All,
    Network(IpNet),
    /// A name, a netgroup, or EXCEPT.
    Unclear,
}

fn hosts(list: &str) -> Vec<Hosts> {
    let words = list.split([' ', ',', '\t']).filter(|word| !word.is_empty());
    words.map(one).collect()
}

/// An address with its network, as in `192.168.2.13/24` or `192.168.2.0/255.255.255.0`.
pub fn network(word: &str) -> Option<(IpAddr, IpNet)> {
    let (address, mask) = word.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let network = match mask.parse() {
        Ok(length) => IpNet::new(address, length).ok()?,
        Err(_) => IpNet::with_netmask(address, mask.parse().ok()?).ok()?,
    };
    Some((address, network))
}

fn one(word: &str) -> Hosts {
    if word.eq_ignore_ascii_case("all") {
        return Hosts::All;
    }
    if let Some((_, network)) = network(word) {
        return Hosts::Network(network.trunc());
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        return Hosts::Network(address.into());
    }
    // `192.168.` means all addresses that begin with it.
    let octets: Vec<&str> = word.trim_end_matches('.').split('.').collect();
    let padded = (0..4).map(|index| octets.get(index).copied().unwrap_or("0"));
    let network = format!(
        "{}/{}",
        padded.collect::<Vec<_>>().join("."),
        8 * octets.len()
    );
    match network.parse() {
        Ok(network) if word.ends_with('.') => Hosts::Network(network),
        _ => Hosts::Unclear,
    }
}

/// Whether the list may have one of the client's addresses in it.
pub fn may_mean(list: &str, client: &IpNet) -> bool {
    hosts(list).iter().any(|hosts| match hosts {
        Hosts::Network(network) => network.contains(client) || client.contains(network),
        Hosts::All | Hosts::Unclear => true,
    })
}

/// Whether the list has all of the client's addresses in it.
pub fn surely_means(list: &str, client: &IpNet) -> bool {
    is_clear_and(list, |hosts| match hosts {
        Hosts::All => true,
        Hosts::Network(network) => network.contains(client),
        Hosts::Unclear => false,
    })
}

/// Whether the list has every address in it.
pub fn means_all(list: &str) -> bool {
    is_clear_and(list, |hosts| match hosts {
        Hosts::All => true,
        Hosts::Network(network) => network.prefix_len() == 0,
        Hosts::Unclear => false,
    })
}

/// Whether the list has addresses of this machine alone.
pub fn is_loopback_alone(list: &str) -> bool {
    let hosts = hosts(list);
    let is_loopback = |hosts: &Hosts| match hosts {
        Hosts::Network(network) => network.network().is_loopback(),
        Hosts::All | Hosts::Unclear => false,
    };
    hosts.iter().all(is_loopback)
}

fn is_clear_and(list: &str, means: impl Fn(&Hosts) -> bool) -> bool {
    let hosts = hosts(list);
    // EXCEPT takes back what stands before it.
    hosts.iter().any(means) && !hosts.iter().any(|h| matches!(h, Hosts::Unclear))
}
