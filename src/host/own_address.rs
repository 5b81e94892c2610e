//! Which of this VM's addresses its clients use.

use std::net::IpAddr;

use ipnet::IpNet;

/// The address at which clients reach this VM: what the server's name means, if that is one of `own`; else one in the
/// network of a client; else any.
pub fn seen_by_clients(named: &[IpAddr], own: &[IpAddr], clients: &[IpNet]) -> Option<IpAddr> {
    let named = named.iter().find(|address| own.contains(address));
    let near = || own.iter().find(|own| is_in(clients, **own));
    named.or_else(near).or_else(|| own.first()).copied()
}

/// Whether an address is in one of the networks.
pub fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_see_the_address_of_the_tier_file_or_one_in_their_network() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let own = [ip("10.0.0.5"), ip("192.168.2.13"), ip("fd00::13")];
        let clients: Vec<IpNet> = vec!["192.168.2.0/24".parse().unwrap()];
        for (named, clients, seen) in [
            (&["10.0.0.5"][..], &clients[..], "10.0.0.5"),
            (&["127.0.1.1"], &clients, "192.168.2.13"),
            (&["203.0.113.1"], &clients, "192.168.2.13"),
            (&[], &[], "10.0.0.5"),
            (&["fd00::13"], &[], "fd00::13"),
        ] {
            let named: Vec<IpAddr> = named.iter().map(|text| ip(text)).collect();
            assert_eq!(seen_by_clients(&named, &own, clients), Some(ip(seen)));
        }
        assert_eq!(seen_by_clients(&[], &[], &clients), None);
    }
}
