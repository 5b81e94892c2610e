//! The checks of the share, on the VM that serves it and on those that use it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checks::Finding;
use super::share_probe::Probe;
use crate::config::{Dialect, Storage, Tier, Was};
use crate::error::{Doing, Error, Result};
use crate::host::cifs::{self, CifsErrorKind, CifsMount, Recovery};
use crate::host::facts::PackageManager;
use crate::host::samba::client::{self, Client};
use crate::host::{account, blocking, listener, names, network, writable};

/// How long the name of the server may take to resolve. Without an answer, another address of this VM is tried.
const LOOK_UP: Duration = Duration::from_secs(1);

/// The server's status where it has no room (`NT_STATUS_DISK_FULL`).
const DISK_FULL: &str = "NT_STATUS_DISK_FULL";

/// Where the storage VM tells more.
const SEE: &str = "see wasagent plan, and journalctl -u smbd or -u smb on this VM";

/// Whether the shared directory is there, and new files have room in it.
pub async fn has_room(directory: PathBuf) -> Finding {
    let shown = directory.display().to_string();
    let looked = blocking(move || {
        let mut entries =
            std::fs::read_dir(&directory).doing(format_args!("read {}", directory.display()))?;
        // One entry is enough: a share may have a hundred thousand.
        entries
            .next()
            .transpose()
            .doing(format_args!("read {}", directory.display()))?;
        writable::no_room(&directory)
    });
    match looked.await? {
        None => Ok(format!("{shown} has room for new files")),
        Some(why) => Err(Error::new(why).hint("see df -h, df -i and dmesg on this VM")),
    }
}

/// Does as a WAS VM does: logs in as the share's account at an address that a WAS VM reaches, and writes, reads back and
/// deletes a small file.
pub async fn serves_clients(
    tier: Tier,
    storage: Storage,
    node: String,
    packages: PackageManager,
) -> Finding {
    let address = address(&tier).await?;
    let probe = server_probe(&tier, address);
    let negotiated = blocking(move || Ok(probe.probe())).await?;
    let spoken = match negotiated {
        Ok(negotiated) => format!("SMB {} is spoken at {address}", negotiated.dialect),
        // The probe offers little. Whether a client and the server agree, a session shows.
        Err(refused)
            if Client::is_installed()
                && matches!(
                    refused.kind,
                    CifsErrorKind::DialectRefused | CifsErrorKind::SealUnsupported
                ) =>
        {
            format!("SMB is spoken at {address}")
        }
        Err(refused) if refused.kind == CifsErrorKind::Refused => {
            return Err(nothing_listens(address));
        }
        Err(error) => return Err(error.into()),
    };
    if !Client::is_installed() {
        let install = packages.install_command(&[packages.package_of(client::PROGRAM)]);
        return Ok(format!(
            "{spoken}; whether {} gets in is not known without {}: {install}",
            tier.share.user,
            client::PROGRAM
        ));
    }
    // The share may be closed to this VM's own address, and open to the loopback address.
    let is_let_in = tier.share.clients.is_empty() || network::is_in(&tier.share.clients, address);
    let at = if is_let_in {
        address
    } else {
        Ipv4Addr::LOCALHOST.into()
    };
    let share = &tier.share;
    let probe = Probe::Session {
        node,
        client: Client::new(
            (&share.server, at),
            &share.name,
            (&share.user, &share.password),
            dialect(&tier),
            share.encrypt,
        ),
    };
    let explain = async || what_stops(&share.user, &storage.path).await;
    probe.ask(explain).await.map_err(|error| {
        if error.message.contains(DISK_FULL) {
            error.hint("make room on the data disk: see df -h and df -i on this VM")
        } else {
            error.hint(SEE)
        }
    })?;
    Ok(format!(
        "{spoken}; {} writes, reads and deletes a file in the share {}",
        share.user, share.name
    ))
}

/// What is to be said on the storage VM itself: whether smbd listens elsewhere or nowhere.
fn nothing_listens(address: IpAddr) -> Error {
    let at = format!("nothing listens on {address}:{}", cifs::SMB_PORT);
    match listener::on(None, cifs::SMB_PORT) {
        Some(who) => Error::new(format!(
            "{at}, where a WAS VM would connect; {who} listens on other addresses only"
        ))
        .hint("see wasagent plan, and `interfaces` in /etc/samba/smb.conf"),
        None => Error::new(format!("{at}: no server for SMB runs")).hint(SEE),
    }
}

/// The address at which WAS VMs reach this VM.
async fn address(tier: &Tier) -> Result<IpAddr> {
    let share = &tier.share;
    // A name that only other VMs know is no fault of this one.
    let named = names::addresses(&share.server, LOOK_UP).await;
    let own: Vec<IpAddr> = blocking(network::interfaces)
        .await?
        .iter()
        .flat_map(|interface| &interface.addresses)
        .map(|address| address.addr())
        .collect();
    network::seen_by_clients(&named.unwrap_or_default(), &own, &share.clients).ok_or_else(|| {
        Error::new("this VM has no address at which a WAS VM could reach it")
            .hint("is its network interface up? See ip address")
    })
}

/// What the WAS VMs of this tier speak.
fn dialect(tier: &Tier) -> Dialect {
    tier.was
        .as_ref()
        .map_or_else(Dialect::default, |was| was.vers)
}

/// The negotiation, a client's first step: it tells a slow or silent server from one that listens nowhere.
fn server_probe(tier: &Tier, address: IpAddr) -> CifsMount {
    let share = &tier.share;
    CifsMount {
        source: format!("//{address}/{}", share.name),
        address,
        port: cifs::SMB_PORT,
        user: share.user.clone(),
        dialect: dialect(tier),
        seal: share.encrypt,
        uid: 0,
        gid: 0,
        file_mode: 0,
        dir_mode: 0,
        recovery: Recovery::Soft,
        echo_interval: Duration::from_secs(5),
        context: None,
        mfsymlinks: false,
        actimeo: None,
    }
}

async fn what_stops(user: &str, directory: &Path) -> Option<String> {
    let account = account::look_up(user).await.ok()??;
    let directory = directory.to_owned();
    let looked = blocking(move || Ok(writable::what_stops(&account, &directory)));
    looked.await.ok()?
}

/// Writes, reads back and deletes a small file through the mount.
pub async fn can_be_used(was: Was, node: String) -> Finding {
    let shown = was.mount.display().to_string();
    let probe = Probe::Mount {
        node,
        mount_point: was.mount,
    };
    probe.ask(async || None).await.map_err(|error| {
        error.hint("run wasagent health on the storage VM, which knows more about the cause")
    })?;
    Ok(format!(
        "a file is written, read and deleted through {shown}"
    ))
}
