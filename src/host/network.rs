//! The VM's own addresses, and the interfaces that have them.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::error::{Doing, Result};

/// An interface that is up and leads to other machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    /// Its addresses, each with the length of its network's prefix; never of IPv6's link-local ones.
    pub addresses: Vec<IpNet>,
    /// Whether packets to everywhere else leave by it.
    pub leads_out: bool,
}

/// The interfaces that are up and have an address, without the loopback.
pub fn interfaces() -> Result<Vec<Interface>> {
    let found = getifaddrs().doing("list the VM's addresses")?;
    let default = default_routes(
        &std::fs::read_to_string("/proc/net/route").unwrap_or_default(),
        &std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default(),
    );
    let mut interfaces: Vec<Interface> = Vec::new();
    for one in found {
        let is_local = one.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let is_up = one.flags.contains(InterfaceFlags::IFF_UP);
        let (Some(address), Some(mask)) = (one.address.and_then(ip), one.netmask.and_then(ip))
        else {
            continue;
        };
        let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        let Ok(address) = IpNet::with_netmask(address, mask) else {
            continue;
        };
        if is_local || !is_up || link_local || leads_to_containers(&one.interface_name) {
            continue;
        }
        let name = one.interface_name;
        match interfaces.iter_mut().find(|known| known.name == name) {
            Some(known) => known.addresses.push(address),
            None => interfaces.push(Interface {
                leads_out: default.contains(&name),
                addresses: vec![address],
                name,
            }),
        }
    }
    Ok(interfaces)
}

/// Every address of this VM with its interface, the loopback's too (getifaddrs(3)).
pub fn addresses() -> Result<Vec<(String, IpAddr)>> {
    let found = getifaddrs().doing("list the VM's addresses")?;
    Ok(found
        .filter_map(|one| Some((one.interface_name, one.address.and_then(ip)?)))
        .collect())
}

fn ip(storage: SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

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

/// Whether an interface is a bridge that has containers of this VM on it, or nothing: netavark and docker make such
/// ones. No other machine's packets arrive by it.
fn leads_to_containers(interface: &str) -> bool {
    is_bridge_of_containers(Path::new("/sys/class/net"), interface)
}

/// Looks in sysfs (Documentation/ABI/testing/sysfs-class-net, net/bridge/br_sysfs_if.c). A container's veth has its other
/// end elsewhere, and nothing of this VM beneath it, as a VLAN has.
fn is_bridge_of_containers(net: &Path, interface: &str) -> bool {
    let Ok(ports) = std::fs::read_dir(net.join(interface).join("brif")) else {
        return false;
    };
    let read = |port: &Path, file: &str| std::fs::read_to_string(port.join(file)).ok();
    ports.flatten().all(|port| {
        let port = net.join(port.file_name());
        let is_paired = read(&port, "iflink") != read(&port, "ifindex");
        let below = std::fs::read_dir(&port).into_iter().flatten().flatten();
        let stands_on_another = below
            .map(|entry| entry.file_name())
            .any(|name| name.as_encoded_bytes().starts_with(b"lower_"));
        is_paired && !stands_on_another
    })
}

/// The interfaces of the default routes, in the forms of /proc/net/route and /proc/net/ipv6_route
/// (Documentation/networking/proc_net_tcp.rst and net/ipv6/route.c).
fn default_routes(v4: &str, v6: &str) -> Vec<String> {
    let v4 = v4.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (interface, to, mask) = (words.first()?, words.get(1)?, words.get(7)?);
        (*to == "00000000" && *mask == "00000000").then(|| (*interface).to_owned())
    });
    let v6 = v6.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (to, bits, interface) = (words.first()?, words.get(1)?, words.last()?);
        let everywhere = to.chars().all(|c| c == '0') && *bits == "00";
        (everywhere && *interface != "lo").then(|| (*interface).to_owned())
    });
    v4.chain(v6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_is_read_from_the_kernels_tables() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  eth1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let zero = "0".repeat(32);
        let v6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth2\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
        );
        assert_eq!(default_routes(v4, &v6), ["eth0", "eth2"]);
    }

    #[test]
    fn a_bridge_of_containers_is_no_way_in() {
        let net = tempfile::tempdir().unwrap();
        let interface = |name: &str, ifindex: &str, iflink: &str, files: &[&str]| {
            let path = net.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("ifindex"), ifindex).unwrap();
            std::fs::write(path.join("iflink"), iflink).unwrap();
            for file in files {
                std::fs::create_dir_all(path.join(file)).unwrap();
            }
        };
        interface("eth0", "2", "2", &[]);
        interface("eth1.5", "3", "9", &["lower_eth1"]);
        interface("veth0", "4", "2", &[]);
        interface("podman0", "5", "5", &["brif/veth0"]);
        interface("docker0", "6", "6", &["brif"]);
        interface("br0", "7", "7", &["brif/eth0", "brif/veth0"]);
        interface("br5", "8", "8", &["brif/eth1.5"]);
        for (name, inside) in [
            ("eth0", false),
            ("podman0", true),
            ("docker0", true),
            ("br0", false),
            ("br5", false),
            ("veth0", false),
        ] {
            assert_eq!(is_bridge_of_containers(net.path(), name), inside, "{name}");
        }
    }

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

    #[test]
    fn this_machine_has_a_loopback_address() {
        let found = addresses().unwrap();
        assert!(found.iter().any(|(_, address)| address.is_loopback()));
    }

    #[test]
    fn the_loopback_is_no_way_in() {
        let found = interfaces().unwrap();
        assert!(
            found
                .iter()
                .all(|one| one.name != "lo" && !one.addresses.is_empty())
        );
    }
}
