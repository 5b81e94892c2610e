//! The way into a guest: OpenSSH with one connection that every command shares.
//!
//! A new connection costs an emulated guest a second; a command over an open one, a few hundredths.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::network::Network;
use crate::process::{self, Daemon, Raw, run_raw};

/// A guest's SSH server, as seen from inside the network's namespace.
#[derive(Debug)]
pub struct Ssh {
    network: Network,
    key: PathBuf,
    host: Ipv4Addr,
    port: u16,
    control: PathBuf,
    master: Mutex<Option<Daemon>>,
}

impl Ssh {
    pub fn new(network: &Network, key: PathBuf, name: &str, host: Ipv4Addr, port: u16) -> Ssh {
        let control = network.run_directory().join(format!("{name}.ssh"));
        Ssh {
            network: network.clone(),
            key,
            host,
            port,
            control,
            master: Mutex::new(None),
        }
    }

    /// Runs a program in the guest; each argument arrives as it is here.
    pub(crate) fn run(&self, arguments: &[&str], input: &[u8], limit: Duration) -> Result<Raw> {
        let line: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        self.run_line(&line.join(" "), input, limit)
    }

    /// Runs a line of the guest's shell.
    pub(crate) fn run_line(&self, line: &str, input: &[u8], limit: Duration) -> Result<Raw> {
        self.connect(Duration::from_secs(60))?;
        let mut ssh = self.ssh();
        ssh.args(["-o", "ControlMaster=no", "-T", "guest", "--", line]);
        let output = run_raw(ssh, input, limit)?;
        // ssh(1) exits with 255 when the connection fails; a program in the guest may do so as well.
        if output.status == 255 && !self.connected() {
            bail!(
                "the connection broke during `{line}`: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(output)
    }

    /// Opens the shared connection, if it is not open.
    pub fn connect(&self, limit: Duration) -> Result<()> {
        process::until("an answer of the guest's SSH server", limit, || {
            Ok(self.try_connect()?.then_some(()))
        })
    }

    /// One attempt to open the shared connection.
    fn try_connect(&self) -> Result<bool> {
        let mut master = self
            .master
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(daemon) = master.as_mut()
            && daemon.ended().is_none()
        {
            return self.checked();
        }
        let _ = std::fs::remove_file(&self.control);
        let mut ssh = self.ssh();
        ssh.args(["-o", "ControlMaster=yes", "-N", "guest"]);
        ssh.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        *master = Some(Daemon::start(ssh)?);
        Ok(false)
    }

    /// Whether the shared connection is there: its socket appears when the guest has let us in.
    fn checked(&self) -> Result<bool> {
        Ok(self.control.exists())
    }

    fn connected(&self) -> bool {
        let mut master = self
            .master
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        master
            .as_mut()
            .is_some_and(|daemon| daemon.ended().is_none())
    }

    /// Drops the shared connection, because the guest goes away.
    pub fn disconnect(&self) {
        let mut master = self
            .master
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *master = None;
        let _ = std::fs::remove_file(&self.control);
    }

    /// A command line that uses the shared connection, for a person in another terminal.
    pub fn command_line(&self) -> String {
        format!("ssh -S {} guest", self.control.display())
    }

    fn ssh(&self) -> Command {
        let mut ssh = self.network.command(["ssh", "-F", "/dev/null"]);
        let options = [
            "BatchMode=yes".to_owned(),
            // Guests are cloned and thrown away: their host keys prove nothing.
            "StrictHostKeyChecking=no".to_owned(),
            "UserKnownHostsFile=/dev/null".to_owned(),
            "LogLevel=ERROR".to_owned(),
            "ConnectTimeout=20".to_owned(),
            // A guest that was cut off must not hang its test for ever.
            "ServerAliveInterval=10".to_owned(),
            "ServerAliveCountMax=6".to_owned(),
            // The cheapest for a processor that is emulated.
            "KexAlgorithms=curve25519-sha256".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            format!("IdentityFile={}", self.key.display()),
            format!("ControlPath={}", self.control.display()),
            format!("HostName={}", self.host),
            format!("Port={}", self.port),
            "User=root".to_owned(),
        ];
        for option in options {
            ssh.arg("-o").arg(option);
        }
        ssh
    }
}

/// One word for the guest's shell, which sshd(8) hands the command line to.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_quote_does_not_end_the_word() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
