//! The DB tier beside the guests: one MariaDB on the guide's address, where the guide has a cluster behind a balancer.
//! The application's account may do all that root may, as the guide's does, and comes from the WAS subnet alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::guest::Guest;
use crate::lab::Lab;
use crate::network::GATEWAY;
use crate::process::{Daemon, Output, command, ok_with, until};
use crate::progress::timed;
use crate::sample_app::SCHEMA;

/// Where the guide has the DB tier's balancer: a subnet of its own, which guests reach through their gateway.
pub const ADDRESS: &str = "192.168.3.26";
pub const PORT: u16 = 3306;
pub const USER: &str = "root";
pub const NAME: &str = "galeradb";

const SUBNET: &str = "192.168.3.0/24";
/// Whoever is in the WAS subnet, in MariaDB's patterns.
const CLIENTS: &str = "192.168.2.%";

/// Until the server's own tables are made, and until it answers.
const START: Duration = Duration::from_secs(60);

/// A running MariaDB with the application's tables. It is killed when this value goes.
#[derive(Debug)]
pub struct Database {
    socket: PathBuf,
    daemon: Daemon,
}

impl Database {
    /// Starts Debian's MariaDB on an empty directory, with an account of this password.
    pub fn start(lab: &Lab, password: &str) -> Result<Self> {
        timed("MariaDB", || {
            let directory = lab.directory_for("mariadb")?;
            make_tables(&directory)?;
            lab.network()
                .ip(["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"])?;
            let database = Self::serve(lab, &directory)?;
            database.ask(&format!(
                "CREATE DATABASE {NAME}; USE {NAME};\n{SCHEMA}\n\
                 CREATE USER {USER}@'{CLIENTS}' IDENTIFIED BY {password};\n\
                 GRANT ALL PRIVILEGES ON *.* TO {USER}@'{CLIENTS}' WITH GRANT OPTION;\n",
                password = literal(password)
            ))?;
            Ok(database)
        })
    }

    fn serve(lab: &Lab, directory: &Path) -> Result<Self> {
        let socket = lab.network().run_directory().join("mariadb.sock");
        let (log, path) = lab.network().log("mariadb")?;
        let mut server = lab.network().command(["mariadbd", "--no-defaults"]);
        server
            .arg(argument("--datadir", directory))
            .arg(argument("--socket", &socket))
            .arg(argument("--pid-file", &directory.join("mariadb.pid")))
            .args([
                format!("--bind-address={ADDRESS}"),
                format!("--port={PORT}"),
            ])
            .args(SMALL)
            .args([
                "--user=root",
                "--skip-name-resolve",
                "--character-set-server=utf8mb4",
            ])
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut database = Self {
            socket,
            daemon: Daemon::start(server)?,
        };
        until("MariaDB", START, || {
            if let Some(code) = database.daemon.ended() {
                let log = fs::read_to_string(&path).unwrap_or_default();
                bail!("MariaDB ended with {code}: {}", log.trim_end());
            }
            Ok(database.ask("SELECT 1").ok())
        })?;
        Ok(database)
    }

    /// What MariaDB answers to these statements, as root by its socket: a line a row, with tabs between the columns.
    pub fn ask(&self, statements: &str) -> Result<Output> {
        // By standard input: a statement may hold the password.
        let mut client = command(["mariadb", "--no-defaults", "--user=root", "--batch"]);
        client
            .args(["--skip-column-names", "--default-character-set=utf8mb4"])
            .arg(argument("--socket", &self.socket));
        ok_with(client, statements.as_bytes(), START)
    }
}

/// Shows a guest the way to the DB tier's subnet, as the router of a Mold does.
pub fn show_way(guest: &Guest) -> Result<()> {
    guest
        .ok(["ip", "route", "add", SUBNET, "via", GATEWAY])
        .map(drop)
}

/// A few rows need no more.
const SMALL: [&str; 4] = [
    "--innodb-log-file-size=4M",
    "--innodb-buffer-pool-size=8M",
    "--innodb-flush-log-at-trx-commit=0",
    "--performance-schema=OFF",
];

fn make_tables(directory: &Path) -> Result<()> {
    let mut install = command(["mariadb-install-db", "--no-defaults", "--user=root"]);
    install
        .args(["--skip-test-db", "--auth-root-authentication-method=normal"])
        .args(SMALL)
        .arg(argument("--datadir", directory));
    ok_with(install, b"", START)
        .context("make the tables of MariaDB")
        .map(drop)
}

fn argument(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

/// A text as MariaDB reads it between single quotes (its manual: "String Literals").
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_keeps_each_character() {
        assert_eq!(literal(r#"a'b"c\d$e 한글"#), r#"'a''b"c\\d$e 한글'"#);
    }
}
