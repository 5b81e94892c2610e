//! A guest of somebody else's making: a cloud image (Rocky Linux 9, say) with its own kernel and boot loader, made one
//! of the lab's by the seed of its first boot and nothing else.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use crate::root::Key;
use crate::user_data;

const PREPARE: &str = include_str!("cloud_image/prepare.sh");
const PREPARE_PATH: &str = "/run/lab-prepare";
/// How each qcow2 file begins (QEMU: docs/interop/qcow2.txt).
const MAGIC: [u8; 4] = *b"QFI\xfb";

/// A disk image in the format qcow2 that is never written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudImage {
    path: PathBuf,
}

impl CloudImage {
    /// Refuses what is no qcow2 file; whether it boots, only a boot can tell.
    pub fn open(path: &Path) -> Result<CloudImage> {
        let mut magic = [0; 4];
        File::open(path)
            .and_then(|mut file| file.read(&mut magic))
            .with_context(|| format!("read {}", path.display()))?;
        ensure!(magic == MAGIC, "{} is no qcow2 image", path.display());
        // Absolute, because an overlay looks for its base from its own directory.
        let path = path.canonicalize()?;
        Ok(CloudImage { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Who a guest is, and by which of its network cards.
pub(crate) struct Identity<'a> {
    pub name: &'a str,
    /// `ADDRESS/PREFIX` of the service card.
    pub address: &'a str,
    pub service_mac: &'a str,
    pub management_mac: &'a str,
}

impl Identity<'_> {
    /// The seed disk that gives a new guest this identity and lets the key's owner in as root.
    pub fn seed(&self, directory: &Path, key: &Key) -> Result<PathBuf> {
        fs::create_dir_all(directory)?;
        let network = directory.join("network-config");
        fs::write(&network, self.network_config())?;
        let public = fs::read_to_string(key.public())?;
        user_data::seed_disk(
            directory,
            self.name,
            &cloud_config(public.trim_end()),
            &[("network-config", &network)],
        )
    }

    /// Cards are told apart by their addresses: their names differ from image to image.
    fn network_config(&self) -> String {
        json!({
            "version": 2,
            "ethernets": {
                "management": { "match": { "macaddress": self.management_mac }, "dhcp4": true },
                "service": { "match": { "macaddress": self.service_mac }, "addresses": [self.address] },
            },
        })
        .to_string()
    }
}

/// The user data; JSON is YAML.
fn cloud_config(public_key: &str) -> String {
    let config = json!({
        "preserve_hostname": false,
        "disable_root": false,
        "ssh_authorized_keys": [public_key],
        "write_files": [{
            "path": PREPARE_PATH,
            "owner": "root:root",
            "permissions": "0700",
            "encoding": "b64",
            "content": BASE64.encode(PREPARE),
        }],
        // Through its interpreter: /run may forbid programs.
        "runcmd": [["/bin/sh", PREPARE_PATH]],
    });
    format!("#cloud-config\n{config}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_qcow2_file_is_taken() {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("image");
        assert!(CloudImage::open(&path).is_err());
        for text in [&b""[..], b"QFI", b"\x7fELF\0\0"] {
            fs::write(&path, text).unwrap();
            assert!(CloudImage::open(&path).is_err(), "{text:?}");
        }
        fs::write(&path, b"QFI\xfb\0\0\0\x03").unwrap();
        assert_eq!(
            CloudImage::open(&path).unwrap().path(),
            path.canonicalize().unwrap()
        );
    }

    #[test]
    fn the_seed_lets_root_in_and_names_no_card() {
        let text = cloud_config("ssh-ed25519 AAAA lab");
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, "#cloud-config");
        let config: serde_json::Value = serde_json::from_str(rest).unwrap();
        assert_eq!(config["disable_root"], false);
        assert_eq!(config["ssh_authorized_keys"][0], "ssh-ed25519 AAAA lab");
        let identity = Identity {
            name: "was-01",
            address: "192.168.2.11/24",
            service_mac: "52:54:00:01:00:01",
            management_mac: "52:54:00:00:00:02",
        };
        let network: serde_json::Value = serde_json::from_str(&identity.network_config()).unwrap();
        let service = &network["ethernets"]["service"];
        assert_eq!(service["addresses"], json!(["192.168.2.11/24"]));
        assert_eq!(service["match"]["macaddress"], "52:54:00:01:00:01");
        assert_eq!(network["ethernets"]["management"]["dhcp4"], true);
        assert!(service.get("set-name").is_none());
    }
}
