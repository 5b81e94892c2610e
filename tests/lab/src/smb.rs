//! A client of the share that needs no kernel: smbclient(1), in the guest that serves it.

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::process::Output;

/// Runs commands of smbclient's on `//127.0.0.1/SHARE`, encrypted.
///
/// User and password go in as one argument, of which the first `%` ends the user: a file of `--authentication-file`
/// loses blanks at the beginning of a password, and PASSWD_FD all beyond 127 bytes (auth/credentials/credentials.c).
pub fn client(guest: &Guest, share: &str, login: (&str, &str), commands: &str) -> Result<Output> {
    let (user, password) = login;
    guest.run([
        "smbclient",
        &format!("//127.0.0.1/{share}"),
        &format!("--user={user}%{password}"),
        "--client-protection=encrypt",
        &format!("--command={commands}"),
    ])
}

/// Fails unless the password is refused, for being the wrong one.
pub fn refused(guest: &Guest, share: &str, login: (&str, &str)) -> Result<()> {
    let output = client(guest, share, login, "ls")?;
    let said = format!("{}{}", output.stdout, output.stderr);
    ensure!(
        !output.success() && said.contains("NT_STATUS_LOGON_FAILURE"),
        "a client with another password: {output}"
    );
    Ok(())
}
