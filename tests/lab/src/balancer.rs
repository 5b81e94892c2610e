//! The internal load balancer in front of the WAS VMs, as CloudStack's virtual router runs it: HAProxy in TCP mode with
//! a bare connection check, which sees nothing but an accepted connection.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{Daemon, ok_with, until};

/// Until a started balancer has to answer on its own socket.
const START: Duration = Duration::from_secs(10);

/// A running load balancer. It is killed when this value goes, or with the thread that started it.
#[derive(Debug)]
pub struct Balancer {
    socket: PathBuf,
    names: Vec<String>,
    daemon: Daemon,
}

impl Balancer {
    /// Starts HAProxy in the network namespace and waits until it has bound `listen` (`ADDRESS:PORT`, an address of the
    /// namespace). `servers` are the WAS VMs, each the name to report it by and its `ADDRESS:PORT`. Configuration, log
    /// and HAProxy's own socket go to `run_dir`, whose path must leave room in a socket address (108 bytes).
    pub fn start(
        netns: &str,
        run_dir: &Path,
        listen: &str,
        servers: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(run_dir).with_context(|| format!("creating {}", run_dir.display()))?;
        let socket = run_dir.canonicalize()?.join("haproxy.sock");
        let _ = fs::remove_file(&socket);
        let configuration = run_dir.join("haproxy.cfg");
        fs::write(
            &configuration,
            configuration_text(&socket, listen, servers)?,
        )?;
        let log = File::create(run_dir.join("haproxy.log"))?;
        let mut haproxy = in_namespace(netns, "haproxy");
        haproxy
            .args(["-db", "-f"])
            .arg(&configuration)
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut balancer = Self {
            socket,
            names: servers.iter().map(|(name, _)| (*name).to_owned()).collect(),
            daemon: Daemon::start(haproxy)?,
        };
        until(&format!("the balancer on {listen}"), START, || {
            if let Some(code) = balancer.daemon.ended() {
                let log = fs::read_to_string(run_dir.join("haproxy.log")).unwrap_or_default();
                bail!(
                    "the balancer on {listen} ended with {code}: {}",
                    log.trim_end()
                );
            }
            Ok(balancer.server_states().ok())
        })?;
        Ok(balancer)
    }

    /// What HAProxy thinks of each server, in the order of `start`: its name and `UP`, `DOWN`, or a state on the way
    /// such as `DOWN 1/2` (the `status` column of `show stat`, HAProxy's management guide 9.1). Checks are two seconds
    /// apart: three failed ones in a row take a server `DOWN`, two good ones bring it back. Before its first check a
    /// server reads `UP 1/3`: it gets connections, and one failed check is enough to take it `DOWN`.
    pub fn server_states(&self) -> Result<Vec<(String, String)>> {
        self.servers("status")
    }

    /// Waits until no connection through the balancer is open. By its algorithm, the fewest open connections, a server
    /// on which a client of before still hangs gets no other client.
    pub fn wait_idle(&self, timeout: Duration) -> Result<()> {
        until(
            "the end of all connections through the balancer",
            timeout,
            || {
                let open = self.servers("scur")?;
                Ok(open.iter().all(|(_, count)| count == "0").then_some(()))
            },
        )
    }

    /// One column of `show stat` for each server, in the order of `start`.
    fn servers(&self, column: &str) -> Result<Vec<(String, String)>> {
        let mut socket = UnixStream::connect(&self.socket)
            .with_context(|| format!("asking the balancer by {}", self.socket.display()))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(b"show stat\n")?;
        let mut table = String::new();
        socket.read_to_string(&mut table)?;
        let states = column_of(&table, column)?;
        if states.len() != self.names.len() {
            bail!(
                "the balancer reports {} servers, not {}",
                states.len(),
                self.names.len()
            );
        }
        Ok(self.names.iter().cloned().zip(states).collect())
    }

    /// Waits until HAProxy reports `state` for the server `name`, and returns how long that took.
    pub fn wait_for(&self, name: &str, state: &str, timeout: Duration) -> Result<Duration> {
        let start = Instant::now();
        until(&format!("{name} {state} at the balancer"), timeout, || {
            let states = self.server_states()?;
            let reached = states.iter().any(|(n, s)| n == name && s == state);
            Ok(reached.then(|| start.elapsed()))
        })
    }
}

/// A program inside a network namespace, by its name. Proxies of the surroundings are taken out of the environment:
/// nothing in the namespace is reached through them.
pub(crate) fn in_namespace(netns: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, program]);
    for proxy in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(proxy);
        command.env_remove(proxy.to_ascii_uppercase());
    }
    command
}

/// Gets a page from inside a network namespace: the status code and the body. A status of 400 and above is an answer,
/// not an error; an error is a connection that failed or took longer than `timeout`, in curl's words.
pub fn http_get(netns: &str, url: &str, timeout: Duration) -> Result<(u16, String)> {
    http(netns, url, timeout, &[])
}

/// Sends a form as a browser does, and gives back what [`http_get`] does.
pub fn http_post(
    netns: &str,
    url: &str,
    form: &[(&str, &str)],
    timeout: Duration,
) -> Result<(u16, String)> {
    let mut options = Vec::new();
    for (name, value) in form {
        options.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
    }
    http(netns, url, timeout, &options)
}

fn http(netns: &str, url: &str, timeout: Duration, options: &[String]) -> Result<(u16, String)> {
    let mut curl = in_namespace(netns, "curl");
    // `--disable` makes it deaf to the configuration of whoever runs the lab, and has to come first.
    curl.args(["--disable", "--silent", "--show-error", "--noproxy", "*"])
        .args(["--max-time", &format!("{:.3}", timeout.as_secs_f64())])
        .args(options)
        .args(["--write-out", "\n%{http_code}", url]);
    let answer = ok_with(curl, b"", timeout + Duration::from_secs(5))?.stdout;
    let (body, code) = answer.rsplit_once('\n').context("curl wrote no status")?;
    Ok((code.parse().context("curl's status")?, body.to_owned()))
}

/// The configuration as CloudStack's HAProxyConfigurator.java generates it for one rule with the algorithm "least
/// connections". Only the global section is the lab's: no daemon, no chroot, the log in a file and a socket to ask.
fn configuration_text(socket: &Path, listen: &str, servers: &[(&str, &str)]) -> Result<String> {
    let (address, port) = listen
        .rsplit_once(':')
        .with_context(|| format!("{listen} is not ADDRESS:PORT"))?;
    let pool = format!("{}-{port}", address.replace('.', "_"));
    let mut text = format!(
        "global\n\
         \tlog stderr format raw local0 info\n\
         \tmaxconn 4096\n\
         \tmaxpipes 1024\n\
         \tstats socket \"{socket}\" mode 600\n\
         \n\
         defaults\n\
         \tlog     global\n\
         \tmode    tcp\n\
         \toption  dontlognull\n\
         \tretries 3\n\
         \toption redispatch\n\
         \toption forwardfor\n\
         \toption httpclose\n\
         \ttimeout connect    5000\n\
         \ttimeout client     50000\n\
         \ttimeout server     50000\n\
         \n\
         listen {pool}\n\
         \tbind {listen}\n\
         \tbalance leastconn\n",
        socket = socket.display()
    );
    for (index, (_, server)) in servers.iter().enumerate() {
        text += &format!("\tserver {pool}_{index} {server} check\n");
    }
    Ok(text)
}

/// The `status` of each server in HAProxy's table, in its order; front and back end are left out.
fn column_of(table: &str, wanted: &str) -> Result<Vec<String>> {
    let mut lines = table.lines().filter(|line| !line.is_empty());
    let header: Vec<&str> = lines
        .next()
        .context("an empty table")?
        .trim_start_matches("# ")
        .split(',')
        .collect();
    let column = |name: &str| {
        let place = header.iter().position(|column| *column == name);
        place.with_context(|| format!("no column {name} in the balancer's table"))
    };
    let (server, status) = (column("svname")?, column(wanted)?);
    let mut states = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        match (fields.get(server), fields.get(status)) {
            (Some(&"FRONTEND" | &"BACKEND"), _) => {}
            (Some(_), Some(status)) => states.push((*status).to_owned()),
            _ => bail!("a short line in the balancer's table: {line}"),
        }
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_what_the_virtual_router_writes() {
        let servers = [
            ("was-01", "192.168.2.11:5000"),
            ("was-02", "192.168.2.12:5000"),
        ];
        let text = configuration_text(Path::new("/run/h.sock"), "192.168.2.26:5000", &servers);
        let rule = "listen 192_168_2_26-5000\n\
                    \tbind 192.168.2.26:5000\n\
                    \tbalance leastconn\n\
                    \tserver 192_168_2_26-5000_0 192.168.2.11:5000 check\n\
                    \tserver 192_168_2_26-5000_1 192.168.2.12:5000 check\n";
        assert!(text.unwrap().ends_with(rule));
    }

    #[test]
    fn the_states_are_read_by_the_names_of_the_columns() {
        let table = "# pxname,svname,scur,status,weight,\nl,FRONTEND,0,OPEN,1,\nl,l_0,0,UP,1,\nl,l_1,0,DOWN 1/2,1,\nl,BACKEND,0,UP,1,\n\n";
        assert_eq!(column_of(table, "status").unwrap(), ["UP", "DOWN 1/2"]);
        assert!(column_of("# pxname,svname\nl,a\n", "status").is_err());
    }
}
