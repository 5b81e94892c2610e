//! What a site has beside its VMs: a web server with packages and files, and CloudStack's virtual router, of which a
//! stand-in answers as far as cloud-init asks.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::balancer::http_get;
use crate::image::hex;
use crate::lab::Lab;
use crate::network::GATEWAY;
use crate::process::{Daemon, until};

const PORT: u16 = 8001;
/// Until a server has to answer.
const START: Duration = Duration::from_secs(20);

const ROUTER: &str = include_str!("virtual_router.py");

/// A web server on the guests' network. It is gone when this value goes.
#[derive(Debug)]
pub struct WebServer {
    _daemon: Daemon,
}

impl WebServer {
    /// Serves a directory at [`url`].
    pub fn start(lab: &Lab, directory: &Path) -> Result<WebServer> {
        let mut server = lab
            .network()
            .command(["/usr/bin/python3", "-m", "http.server"]);
        server
            .args(["--bind", GATEWAY, "--directory"])
            .arg(directory)
            .arg(PORT.to_string());
        let daemon = answering(lab, "web-server", server, &url(""))?;
        Ok(WebServer { _daemon: daemon })
    }
}

/// Where guests find a file of the web server.
pub fn url(path: &str) -> String {
    format!("http://{GATEWAY}:{PORT}/{path}")
}

/// The checksum of a file, as sha256sum(1) prints it.
pub fn sha256(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    Ok(hex(&Sha256::digest(bytes)))
}

/// A stand-in of CloudStack's virtual router. It is gone when this value goes.
#[derive(Debug)]
pub struct VirtualRouter {
    _daemon: Daemon,
}

/// What the router knows of a VM.
#[derive(Debug)]
pub struct Known<'a> {
    pub address: &'a str,
    pub hostname: &'a str,
    pub instance: &'a str,
    pub user_data: &'a str,
    /// The password of the VM's login, which the password server gives once.
    pub password: &'a str,
}

impl Known<'_> {
    fn entry(&self) -> Value {
        json!({
            "user-data": self.user_data,
            "password": self.password,
            "meta-data": {
                "availability-zone": "lab",
                "cloud-identifier": "CloudStack-{stand-in}",
                "instance-id": self.instance,
                "local-hostname": self.hostname,
                "local-ipv4": self.address,
                "public-hostname": self.hostname,
                "public-ipv4": self.address,
                "service-offering": "lab",
                "vm-id": self.instance,
            },
        })
    }
}

impl VirtualRouter {
    /// Answers these VMs at the gateway: user data and metadata on port 80, passwords on port 8080.
    pub fn start(lab: &Lab, vms: &[Known]) -> Result<VirtualRouter> {
        let directory = lab.directory_for("virtual-router")?;
        let known: serde_json::Map<String, Value> = vms
            .iter()
            .map(|vm| (vm.address.to_owned(), vm.entry()))
            .collect();
        let (program, data) = (directory.join("router.py"), directory.join("vms.json"));
        fs::write(&program, ROUTER)?;
        fs::write(&data, Value::from(known).to_string())?;
        let mut server = lab.network().command(["/usr/bin/python3"]);
        server.arg(&program).arg(GATEWAY).arg(&data);
        let daemon = answering(
            lab,
            "virtual-router",
            server,
            &format!("http://{GATEWAY}/latest/"),
        )?;
        Ok(VirtualRouter { _daemon: daemon })
    }
}

/// Starts a server, and waits until it answers at a URL, whatever it says.
fn answering(lab: &Lab, name: &str, mut server: Command, url: &str) -> Result<Daemon> {
    let (log, path) = lab.network().log(name)?;
    server.stdout(log.try_clone()?).stderr(log);
    let mut daemon = Daemon::start(server)?;
    until(name, START, || {
        if let Some(code) = daemon.ended() {
            let log = fs::read_to_string(&path).unwrap_or_default();
            bail!("the {name} ended with {code}: {}", log.trim_end());
        }
        let answer = http_get(lab.network().name(), url, Duration::from_secs(2));
        Ok(answer.is_ok().then_some(()))
    })?;
    Ok(daemon)
}
