//! npm, for the one guest that builds the application, and a registry with the packages that it asks for there: guests
//! have no way out of their network. Both come from the registry that the machine's own npm is configured for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::balancer::http_get;
use crate::cache::Cache;
use crate::guest::Guest;
use crate::lab::Lab;
use crate::network::GATEWAY;
use crate::process::{Daemon, command, ok, ok_with, until};
use crate::{node, sample_app};

const PORT: u16 = 4873;

/// Bookworm's node 18 runs no later line of npm.
const NPM: &str = "npm@10.9.2";

/// Where `npm install --global` of an administrator would put it.
const INSTALLED: &str = "/usr/local/lib/node_modules/npm";

/// Beside the packages' descriptions, which have their names; no package's name begins so.
const TARBALLS: &str = "-";

/// Until the machine's npm has fetched the packages.
const FETCH: Duration = Duration::from_secs(300);
/// Until the registry has to answer.
const START: Duration = Duration::from_secs(10);

/// A running registry. It is killed when this value goes.
#[derive(Debug)]
pub struct NpmRegistry {
    _daemon: Daemon,
}

impl NpmRegistry {
    /// Serves the packages of the sample application's lock file, and no others, on the guests' network.
    pub fn start(lab: &Lab) -> Result<Self> {
        let packages = packages(lab.cache())?;
        let listen = format!("{GATEWAY}:{PORT}");
        let (log, path) = lab.network().log("npm-registry")?;
        let mut server = lab
            .network()
            .command(["busybox", "httpd", "-f", "-vv", "-p", &listen, "-h"]);
        server.arg(&packages).stdout(log.try_clone()?).stderr(log);
        let mut daemon = Daemon::start(server)?;
        let page = format!("{}express", url());
        until("the registry of npm", START, || {
            if let Some(code) = daemon.ended() {
                let log = fs::read_to_string(&path).unwrap_or_default();
                bail!("the registry of npm ended with {code}: {}", log.trim_end());
            }
            let answer = http_get(lab.network().name(), &page, Duration::from_secs(2));
            Ok(answer.is_ok_and(|(status, _)| status == 200).then_some(()))
        })?;
        Ok(Self { _daemon: daemon })
    }
}

/// Puts npm on a guest, with the node that runs it. It asks the lab's registry, as npm of a site would ask the site's.
pub fn install(cache: &Cache, guest: &Guest) -> Result<()> {
    node::install(cache, guest)?;
    guest.copy_tree(&program(cache)?, INSTALLED)?;
    // npm's own npmrc(5) is that of whoever packages npm. A registry without audits would be asked for one again and
    // again for half a minute.
    let configuration = format!("registry={}\naudit=false\n", url());
    guest.write(&format!("{INSTALLED}/npmrc"), configuration, 0o644)?;
    let entry = format!("{INSTALLED}/bin/npm-cli.js");
    guest.ok(["chmod", "755", &entry])?;
    guest
        .ok(["ln", "--symbolic", &entry, "/usr/local/bin/npm"])
        .map(drop)
}

fn url() -> String {
    format!("http://{GATEWAY}:{PORT}/")
}

/// npm's own files.
fn program(cache: &Cache) -> Result<PathBuf> {
    cache.artefact("npm", NPM, |into| {
        pack(&[NPM.to_owned()], into)?;
        let tarball = into.join(tarball(NPM)?);
        let mut unpack = command(["tar", "--extract", "--gzip", "--strip-components=1"]);
        unpack
            .arg("--file")
            .arg(&tarball)
            .arg("--directory")
            .arg(into);
        ok(unpack)?;
        fs::remove_file(tarball).context("remove npm's tarball")
    })
}

/// The files that the registry serves: a description of each package under its name, and the packages.
fn packages(cache: &Cache) -> Result<PathBuf> {
    let recipe = [include_str!("npm.rs"), sample_app::LOCK_FILE].concat();
    cache.artefact("npm-registry", &recipe, |into| {
        let locked = locked(sample_app::LOCK_FILE)?;
        let specifications: Vec<String> = locked
            .iter()
            .flat_map(|(name, versions)| versions.keys().map(move |v| format!("{name}@{v}")))
            .collect();
        let tarballs = into.join(TARBALLS);
        fs::create_dir(&tarballs)?;
        pack(&specifications, &tarballs)?;
        for (name, versions) in &locked {
            let description = File::create(into.join(name))?;
            serde_json::to_writer(description, &describe(name, versions)?)?;
        }
        Ok(())
    })
}

/// Fetches packages by the machine's npm, each as one file.
fn pack(specifications: &[String], into: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
        .arg(into)
        .args(specifications)
        .current_dir(into);
    ok_with(npm, b"", FETCH)?;
    for specification in specifications {
        let file = into.join(tarball(specification)?);
        ensure!(file.exists(), "npm pack made no {}", file.display());
    }
    Ok(())
}

/// What `npm pack` names the file of `NAME@VERSION`.
fn tarball(specification: &str) -> Result<String> {
    let (name, version) = specification
        .rsplit_once('@')
        .with_context(|| format!("{specification} is not NAME@VERSION"))?;
    Ok(format!("{name}-{version}.tgz"))
}

/// Each package of a lock file, by its versions with what the lock file knows of them.
type Locked = BTreeMap<String, BTreeMap<String, Value>>;

/// Reads a lock file of version 3: `packages` has the places in `node_modules`.
fn locked(lock_file: &str) -> Result<Locked> {
    let lock_file: Value = serde_json::from_str(lock_file)?;
    let places = lock_file["packages"]
        .as_object()
        .context("a lock file without packages")?;
    let mut locked = Locked::new();
    for (place, package) in places.iter().filter(|(place, _)| !place.is_empty()) {
        let name = place.rsplit("node_modules/").next().unwrap_or(place);
        // Such a name has a directory of its own, and is asked for with an encoded slash.
        ensure!(!name.contains('/'), "{name}: the lab serves no scopes");
        let version = package["version"].as_str().context("a version")?;
        let versions = locked.entry(name.to_owned()).or_default();
        versions.insert(version.to_owned(), package.clone());
    }
    Ok(locked)
}

/// What a registry says of a package (npm's registry documentation, `package-metadata.md`), as far as `npm ci` asks.
fn describe(name: &str, versions: &BTreeMap<String, Value>) -> Result<Value> {
    let latest = versions.keys().next_back().context("no version")?;
    let mut described = serde_json::Map::new();
    for (version, package) in versions {
        let file = tarball(&format!("{name}@{version}"))?;
        let mut one = json!({
            "name": name,
            "version": version,
            "dist": {
                "tarball": format!("{}{TARBALLS}/{file}", url()),
                "integrity": package["integrity"],
            },
        });
        for field in ["dependencies", "bin", "engines"] {
            if let Some(value) = package.get(field) {
                one[field] = value.clone();
            }
        }
        described.insert(version.clone(), one);
    }
    Ok(json!({ "name": name, "dist-tags": { "latest": latest }, "versions": described }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_at_two_places_has_two_versions() {
        let lock_file = json!({ "packages": {
            "": { "name": "application" },
            "node_modules/ms": { "version": "2.0.0", "integrity": "sha512-a" },
            "node_modules/send/node_modules/ms": { "version": "2.1.3", "integrity": "sha512-b" },
        } });
        let locked = locked(&lock_file.to_string()).unwrap();
        assert_eq!(locked.len(), 1);
        let described = describe("ms", &locked["ms"]).unwrap();
        let dist = &described["versions"]["2.1.3"]["dist"];
        assert_eq!(dist["tarball"], "http://192.168.2.1:4873/-/ms-2.1.3.tgz");
        assert_eq!(dist["integrity"], "sha512-b");
        assert_eq!(described["versions"]["2.0.0"]["name"], "ms");
    }
}
