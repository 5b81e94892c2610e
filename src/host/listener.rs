//! Who listens on a TCP port of this VM, from `/proc/net/tcp` and `tcp6` (proc_net(5)).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `TCP_LISTEN` in include/net/tcp_states.h.
const LISTEN: &str = "0A";

/// A process that listens, as `name (PID)`, if one would keep another from listening at this address. `None` for an
/// address means all of them. conmon does not count: it may be left of the container that is to listen there again.
pub fn on(address: Option<IpAddr>, port: u16) -> Option<String> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| {
            sockets_in(
                &fs::read_to_string(table).unwrap_or_default(),
                address,
                port,
            )
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut holders = processes.filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let holds = open.any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|target| {
                sockets
                    .iter()
                    .any(|socket| target.as_os_str() == socket.as_str())
            })
        });
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        holds.then(|| (name.trim().to_owned(), pid))
    });
    let holder = holders.find(|(name, _)| name != "conmon");
    holder.map(|(name, pid)| format!("{name} ({pid})"))
}

/// The inodes of the sockets that listen there.
fn sockets_in(table: &str, address: Option<IpAddr>, port: u16) -> Vec<String> {
    let address = address.filter(|address| !address.is_unspecified());
    let lines = table.lines().skip(1);
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            let (at, on) = local.rsplit_once(':')?;
            let at = address_of(at)?;
            let meets = address.is_none_or(|wanted| at.is_unspecified() || at == wanted);
            (*state == LISTEN && u16::from_str_radix(on, 16) == Ok(port) && meets)
                .then(|| (*inode).to_owned())
        })
        .collect()
}

/// The kernel prints an address as words of 32 bits in the machine's byte order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => {
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            Some(
                address
                    .to_ipv4_mapped()
                    .map_or(address.into(), IpAddr::from),
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_listens_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let pid = format!("({})", std::process::id());
        for address in [None, Some("0.0.0.0"), Some("127.0.0.1")] {
            let address = address.map(|address| address.parse().unwrap());
            assert!(
                on(address, port).is_some_and(|who| who.ends_with(&pid)),
                "{address:?}"
            );
        }
        assert_eq!(on(Some("127.0.0.2".parse().unwrap()), port), None);
        drop(listener);
        assert_eq!(on(None, port), None);
    }
}
