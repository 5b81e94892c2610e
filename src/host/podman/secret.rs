//! podman's secrets (podman-secret(1)). To write a secret, the agent passes its value to podman on
//! standard input. To read a secret, the agent reads podman's own files: this saves starting podman,
//! and older versions never show a value.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::store::Store;
use super::sync_store;
use crate::error::{Doing, Error, Result};
use crate::host::blocking;
use crate::host::permit::Permit;
use crate::host::process::Helper;

/// The label of a secret that the agent made.
const LABEL: (&str, &str) = ("written-by", "wasagent");

/// A secret as podman keeps it.
pub struct StoredSecret {
    pub value: Zeroizing<Vec<u8>>,
    /// Whether the agent made it.
    pub is_ours: bool,
    /// When the secret got this value.
    pub set: Option<SystemTime>,
}

/// `secrets.json` (containers/common, pkg/secrets/secretsdb.go).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Database {
    secrets: HashMap<String, Entry>,
    #[serde(rename = "nameToID")]
    name_to_id: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    created_at: String,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
    driver: String,
    driver_options: HashMap<String, PathBuf>,
}

/// The secret `name`, if podman has it.
///
/// # Errors
/// When podman's files cannot be read, or another driver keeps the secret.
pub async fn look_up(name: &str) -> Result<Option<StoredSecret>> {
    let root = graph_root().await?;
    let name = name.to_owned();
    blocking(move || look_up_in(&root, &name)).await
}

async fn graph_root() -> Result<PathBuf> {
    let told = blocking(|| Ok(Store::of_this_guest().map(|store| store.root().to_owned()))).await?;
    if let Some(root) = told {
        return Ok(root);
    }
    let told = Helper::new("podman")
        .args(["info", "--format", "{{.Store.GraphRoot}}"])
        .run()
        .await?;
    Ok(String::from_utf8_lossy(&told).trim().into())
}

fn look_up_in(root: &Path, name: &str) -> Result<Option<StoredSecret>> {
    let Some(database) = read::<Database>(&root.join("secrets/secrets.json"))? else {
        return Ok(None);
    };
    let id = database.name_to_id.get(name);
    let Some((id, entry)) = id.and_then(|id| Some((id, database.secrets.get(id)?))) else {
        return Ok(None);
    };
    let directory = entry.driver_options.get("path");
    let (Some(directory), "file") = (directory, entry.driver.as_str()) else {
        return Err(Error::new(format!(
            "podman's secret {name} is kept by its driver {}, and was not made by wasagent",
            entry.driver
        ))
        .hint(format!("podman secret rm {name}, if nobody needs it")));
    };
    let values: Option<HashMap<String, Zeroizing<String>>> =
        read(&directory.join("secretsdata.json"))?;
    let value = values.as_ref().and_then(|values| values.get(id));
    let value = value.and_then(|value| STANDARD.decode(value.as_bytes()).ok());
    let mut labels = entry.labels.iter().flatten();
    // If podman has lost the value, it is empty here.
    Ok(Some(StoredSecret {
        value: Zeroizing::new(value.unwrap_or_default()),
        is_ours: labels.any(|(key, value)| (key.as_str(), value.as_str()) == LABEL),
        set: humantime::parse_rfc3339(&entry.created_at).ok(),
    }))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let doing = || format!("read {}", path.display());
    let text = match std::fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).doing(doing()),
    };
    // The parser's message is dropped: it could contain part of a value.
    let parsed = serde_json::from_slice(&text).map_err(|_| {
        Error::new(format!("{} is no list of podman's", path.display())).hint(
            "podman itself cannot read it: move it away, and make the secrets anew that were in it",
        )
    });
    parsed.map(Some)
}

/// Gives the secret `name` this value. An existing secret is removed and created again: podman
/// before 4.7 cannot change one.
pub async fn set(permit: &Permit, name: &str, value: &[u8], exists: bool) -> Result<()> {
    if exists {
        remove(permit, name).await?;
        permit.during()?;
    }
    let label = format!("--label={}={}", LABEL.0, LABEL.1);
    Helper::new("podman")
        .changes()
        .args(["secret", "create", "--driver=file", &label, name, "-"])
        .stdin(value)
        .run()
        .await?;
    blocking(sync_store).await
}

/// Removes the secret `name`. Running containers keep the value that they got.
pub async fn remove(_permit: &Permit, name: &str) -> Result<()> {
    Helper::new("podman")
        .changes()
        .args(["secret", "rm", name])
        .run()
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(driver: &str, values: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let secrets = root.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        // As podman 5.4.2 writes it.
        let text = format!(
            r#"{{"secrets": {{"c32b": {{"name": "a.TOKEN.secret", "id": "c32b", "labels": {{"written-by": "wasagent"}},
            "createdAt": "2026-11-23T12:54:38.57978289Z", "updatedAt": "2026-11-23T12:54:38.57978289Z",
            "driver": "{driver}", "driverOptions": {{"path": "{}"}} }} }},
            "nameToID": {{"a.TOKEN.secret": "c32b"}}, "idToName": {{"c32b": "a.TOKEN.secret"}} }}"#,
            secrets.display()
        );
        std::fs::write(secrets.join("secrets.json"), text).unwrap();
        std::fs::write(secrets.join("secretsdata.json"), values).unwrap();
        root
    }

    #[test]
    fn a_secret_is_read_as_podman_keeps_it() {
        let root = store("file", r#"{"c32b": "aHVudGVyMnNlY3JldA=="}"#);
        let found = look_up_in(root.path(), "a.TOKEN.secret").unwrap().unwrap();
        assert_eq!(*found.value, b"hunter2secret");
        assert!(found.set.is_some() && found.is_ours);
        assert!(look_up_in(root.path(), "b").unwrap().is_none());
        let none = tempfile::tempdir().unwrap();
        assert!(look_up_in(none.path(), "a.TOKEN.secret").unwrap().is_none());
    }

    #[test]
    fn what_is_torn_or_kept_elsewhere_is_refused_without_its_value() {
        for root in [
            store("pass", "{}"),
            store("file", r#"{"c32b": "aHVudGVyMnNl"#),
        ] {
            let error = look_up_in(root.path(), "a.TOKEN.secret").err().unwrap();
            assert!(error.hint.is_some() && !format!("{error:?}").contains("aHVu"));
        }
        let lost = store("file", "{}");
        let found = look_up_in(lost.path(), "a.TOKEN.secret").unwrap().unwrap();
        assert!(found.value.is_empty());
    }
}
