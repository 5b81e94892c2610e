//! Whether the share can be used: a small file is written, renamed, read back and deleted as a WAS VM would do it.
//!
//! A process of its own does that (`wasagent probe-share`). If `wasagent health` is killed, that process still finishes
//! and leaves nothing behind. If the share is dead, it hangs alone, and the next one says so.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::health_file;
use crate::host::mount;
use crate::host::process;
use crate::host::samba::client::{Client, Step};

/// The hidden command that runs [`Probe::run`].
pub const COMMAND: &str = "probe-share";

/// How long a session may take.
const SESSION: Duration = Duration::from_secs(4);
/// The pause before the only second try. A change of revision ends the server's processes that stay in the old
/// directory, and a client in it sees one error.
const PAUSE: Duration = Duration::from_millis(300);

/// What is tried. It goes to the process on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub enum Probe {
    /// A session with the server.
    Session { node: String, client: Client },
    /// Through the mount at this place.
    Mount { node: String, mount_point: PathBuf },
}

/// What the process says: nothing, or an error.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    error: Option<String>,
    /// The server refused a file: the owner and mode of the directory may explain it.
    pub is_denied: bool,
}

impl Probe {
    /// Has it tried by a process of its own. The caller sets the deadline.
    ///
    /// # Errors
    /// The step that failed. `explain` may add why a file is refused.
    pub async fn ask(&self, explain: impl AsyncFnOnce() -> Option<String>) -> Result<()> {
        let request = zeroize::Zeroizing::new(
            serde_json::to_vec(self).map_err(|e| Error::new(format!("{COMMAND}: {e}")))?,
        );
        let answer = process::this_program(&[COMMAND], &request).await?;
        let found: Found = serde_json::from_slice(&answer)
            .map_err(|_| Error::new(format!("{COMMAND} ended without an answer")))?;
        let Some(error) = found.error else {
            return Ok(());
        };
        match (found.is_denied, explain().await) {
            (true, Some(why)) => Err(Error::new(format!("{error}: {why}"))),
            _ => Err(Error::new(error)),
        }
    }

    /// What is said instead while an earlier process still tries.
    pub fn still_waits() -> Found {
        Found {
            error: Some("an earlier check still waits for an answer of the share".to_owned()),
            is_denied: false,
        }
    }

    /// Tries it, at most twice.
    pub async fn run(&self) -> Found {
        match self.once().await {
            Err(found) if found.may_pass => {
                tokio::time::sleep(PAUSE).await;
                self.once().await.err()
            }
            tried => tried.err(),
        }
        .map_or(
            Found {
                error: None,
                is_denied: false,
            },
            |failed| Found {
                error: Some(failed.error),
                is_denied: failed.is_denied,
            },
        )
    }

    async fn once(&self) -> Result<(), Failed> {
        match self {
            Self::Session { node, client } => {
                let tried = client.write_and_read_back(node, SESSION).await;
                tried.map_err(|refused| Failed {
                    // Another try with a refused password may lock the account.
                    may_pass: refused.step != Step::LogIn,
                    is_denied: refused.status == "ACCESS_DENIED",
                    error: format!("{} as {}: {refused}", client.address, client.user),
                })
            }
            Self::Mount { node, mount_point } => {
                let tried = through_the_mount(node, mount_point);
                tried.map_err(|error| Failed {
                    may_pass: true,
                    is_denied: false,
                    error: error.message,
                })
            }
        }
    }
}

struct Failed {
    error: String,
    may_pass: bool,
    is_denied: bool,
}

fn through_the_mount(node: &str, mount_point: &std::path::Path) -> Result<()> {
    let shown = mount_point.display();
    match mount::mount_at(mount_point)? {
        Some(mount) if mount.fs_type == "cifs" => {
            health_file::write_and_read_back(mount_point, node)
        }
        _ => Err(Error::new(format!("no share is mounted on {shown}"))),
    }
}
