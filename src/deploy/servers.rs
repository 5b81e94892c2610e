//! The smbd servers of the share. When a new directory takes the place of the one that they work in, they must move to
//! the new one.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::staging::{self, Staging};
use crate::error::Result;
use crate::host::until::until_blocking;
use crate::host::{Answer, Permit, samba};

/// How long a server of the share may take to move to the new directory by itself. During that time, the client of a
/// server that does not move finds nothing.
const SERVERS_LEAVE: Duration = Duration::from_millis(200);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a server may take to end.
const SERVERS_END: Duration = Duration::from_secs(10);

/// Ends the servers that stay in an old directory. smbd works in the directory that its client connected to, and only
/// some versions look up the path again (`vfs_ChDir` in Samba's source3/smbd/vfs.c, `LastDir`). A server that stays
/// answers ENOENT to everything (Samba 4.17). Once it is ended, its client reconnects at the next request and opens its
/// files again.
///
/// A server that only has files open there is left alone. If it were ended, it would keep those files for its client to
/// come back to (durable handles). The kernel's client would then get EINVAL when it opens the file that has the name
/// now (seen with Linux 6.12 and Samba 4.22).
pub fn leave(permit: &Permit, shared: &Path) -> Result<()> {
    let Some(staging) = Staging::open(shared)? else {
        return Ok(());
    };
    let mut inodes = HashSet::new();
    let now = staging.open_shared()?.found()?.inode;
    for name in staging.dir.names()? {
        if let Some(tree) = staging.dir.directory(Path::new(&name))? {
            inodes.extend(staging::directories(&tree)?);
        }
    }
    inodes.remove(&now);
    let device = staging.dir.device()?;
    let begun = Instant::now();
    let mut ended = false;
    let gone = until_blocking(PAUSE, SERVERS_END, || {
        let servers = samba::servers_in(device, &inodes);
        if !servers.is_empty() && begun.elapsed() > SERVERS_LEAVE && !ended {
            samba::end_servers(permit, &servers)?;
            ended = true;
        }
        Ok(Answer::is(servers.is_empty()))
    });
    gone.map(drop)
}
