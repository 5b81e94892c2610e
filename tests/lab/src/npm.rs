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
use crate::node;
use crate::process::{Daemon, command, ok, ok_with, until};

const PORT: u16 = 4873;

/// Bookworm's node 18 runs no later line of npm.
const NPM: &str = "npm@10.9.2";

/// Where `npm install --global` of an administrator would put it.
const INSTALLED: &str = "/usr/local/lib/node_modules/npm";

/// Beside the packages' descriptions, which have their names; no package's name begins so.
const TARBALLS: &str = "-";

/// How many packages the machine's npm fetches at once.
const AT_ONCE: usize = 16;
/// Until it has fetched them.
const FETCH: Duration = Duration::from_secs(300);
/// Until the registry has to answer.
const START: Duration = Duration::from_secs(10);

/// A running registry. It is killed when this value goes.
#[derive(Debug)]
pub struct NpmRegistry {
    _daemon: Daemon,
}

impl NpmRegistry {
    /// Serves the packages of these lock files, and no others, on the guests' network.
    pub fn start(lab: &Lab, lock_files: &[&str]) -> Result<Self> {
        let packages = packages(lab.cache(), lock_files)?;
        let (log, path) = lab.network().log("npm-registry")?;
        // npm asks for `@scope%2fname`, which not every server takes for a file in a directory.
        let mut server = lab
            .network()
            .command(["/usr/bin/python3", "-m", "http.server"]);
        server
            .args(["--bind", GATEWAY, "--directory"])
            .arg(&packages)
            .arg(PORT.to_string())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut daemon = Daemon::start(server)?;
        let page = format!("{}{TARBALLS}/", url());
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
    // Debian has node's headers below /usr, where node-gyp fetches them from node's own site otherwise.
    let configuration = format!("registry={}\naudit=false\nnodedir=/usr\n", url());
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
fn packages(cache: &Cache, lock_files: &[&str]) -> Result<PathBuf> {
    let recipe = [include_str!("npm.rs"), &lock_files.concat()].concat();
    cache.artefact("npm-registry", &recipe, |into| {
        let locked = locked(lock_files)?;
        let specifications: Vec<String> = locked
            .iter()
            .flat_map(|(name, versions)| versions.keys().map(move |v| format!("{name}@{v}")))
            .collect();
        let tarballs = into.join(TARBALLS);
        fs::create_dir(&tarballs)?;
        pack(&specifications, &tarballs)?;
        for (name, versions) in &locked {
            let file = into.join(name);
            if let Some((scope, _)) = name.split_once('/') {
                fs::create_dir_all(into.join(scope))?;
            }
            let description = File::create(file)?;
            serde_json::to_writer(description, &describe(name, versions)?)?;
        }
        Ok(())
    })
}

/// Fetches packages by the machine's npm, each as one file.
fn pack(specifications: &[String], into: &Path) -> Result<()> {
    for some in specifications.chunks(AT_ONCE) {
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
            .arg(into)
            .args(some)
            .current_dir(into);
        ok_with(npm, b"", FETCH)?;
    }
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
    let name = name.trim_start_matches('@').replace('/', "-");
    Ok(format!("{name}-{version}.tgz"))
}

/// Each package of some lock files, by its versions with what the lock files know of them.
type Locked = BTreeMap<String, BTreeMap<String, Value>>;

/// Reads lock files of version 3: `packages` has the places in `node_modules`.
fn locked(lock_files: &[&str]) -> Result<Locked> {
    let mut locked = Locked::new();
    for lock_file in lock_files {
        let lock_file: Value = serde_json::from_str(lock_file)?;
        let places = lock_file["packages"]
            .as_object()
            .context("a lock file without packages")?;
        for (place, package) in places.iter().filter(|(_, package)| runs_here(package)) {
            // Other places are the project's own directories, to which links in `node_modules` lead.
            let Some((_, name)) = place.rsplit_once("node_modules/") else {
                continue;
            };
            if package["link"] != true {
                let version = package["version"].as_str().context("a version")?;
                let versions = locked.entry(name.to_owned()).or_default();
                versions.insert(version.to_owned(), package.clone());
            }
        }
    }
    Ok(locked)
}

/// Whether npm would install a package on a guest: a program has a package for each kind of machine (package.json,
/// `os`, `cpu` and `libc`).
fn runs_here(package: &Value) -> bool {
    let cpu = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |field: &str, ours: &str| {
        let Some(list) = package[field].as_array() else {
            return true;
        };
        let mut list = list.iter().filter_map(Value::as_str);
        list.clone().any(|one| one == ours)
            || list.all(|one| one.starts_with('!') && &one[1..] != ours)
    };
    fits("os", "linux") && fits("cpu", cpu) && fits("libc", "glibc")
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
        let locked = locked(&[&lock_file.to_string()]).unwrap();
        assert_eq!(locked.len(), 1);
        let described = describe("ms", &locked["ms"]).unwrap();
        let dist = &described["versions"]["2.1.3"]["dist"];
        assert_eq!(dist["tarball"], "http://192.168.2.1:4873/-/ms-2.1.3.tgz");
        assert_eq!(dist["integrity"], "sha512-b");
        assert_eq!(described["versions"]["2.0.0"]["name"], "ms");
    }

    #[test]
    fn what_the_project_has_itself_and_what_runs_elsewhere_is_not_fetched() {
        let lock_file = json!({ "packages": {
            "packages/text": { "name": "@page/text", "version": "1.0.0" },
            "node_modules/@page/text": { "resolved": "packages/text", "link": true },
            "node_modules/@tool/program": { "version": "1.2.3" },
            "node_modules/@tool/windows": { "version": "1.2.3", "os": ["win32"] },
            "node_modules/@tool/unix": { "version": "1.2.3", "os": ["!win32"] },
            "node_modules/@tool/musl": { "version": "1.2.3", "os": ["linux"], "libc": ["musl"] },
            "node_modules/@tool/sparc": { "version": "1.2.3", "cpu": ["sparc"] },
        } });
        let locked = locked(&[&lock_file.to_string()]).unwrap();
        let names: Vec<&String> = locked.keys().collect();
        assert_eq!(names, ["@tool/program", "@tool/unix"]);
        let file = tarball("@tool/program@1.2.3").unwrap();
        assert_eq!(file, "tool-program-1.2.3.tgz");
    }
}
