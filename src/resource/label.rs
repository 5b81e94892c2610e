//! What SELinux lets smbd serve: the shared files labelled by a rule of the policy, which a full relabel
//! leaves as it is, and no boolean that would open every file of the VM to it.

use std::path::{Path, PathBuf};

use super::data_disk::{self, DataDisk};
use crate::engine::effect::Effect;
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::fs::selinux_label;
use crate::host::selinux::{self, SHARE_TYPE};
use crate::host::{Host, blocking};

/// A shared directory with the label, on a VM where SELinux is on.
#[derive(Debug, Clone)]
pub struct Label {
    pub path: PathBuf,
    /// The disk that it is on, all of which is labelled: smbd has to pass through it.
    pub disk: Option<DataDisk>,
}

#[derive(Debug, Default)]
pub struct Observed {
    /// The type that a rule gives.
    rule: Option<String>,
    /// The types that the top of the tree and the shared directory have; `None` while they are missing.
    tree: Option<String>,
    shared: Option<String>,
}

impl Label {
    /// What is labelled.
    fn tree(&self) -> &Path {
        let disk = self.disk.as_ref().map(|disk| disk.mount.as_path());
        disk.filter(|mount| self.path.starts_with(mount))
            .unwrap_or(&self.path)
    }

    fn specification(&self) -> String {
        selinux::specification(self.tree())
    }
}

/// The type of what is at `path`, wherever its disk is now.
fn type_at(path: &Path, disk: Option<&DataDisk>) -> Result<Option<String>> {
    let place = data_disk::find(path, disk)?;
    let Some(path) = place.path().filter(|path| path.exists()) else {
        return Ok(None);
    };
    let label = selinux_label(&path)?;
    Ok(label.and_then(|label| selinux::type_of(&label).map(str::to_owned)))
}

impl Resource for Label {
    type Observed = Observed;

    fn address(&self) -> Address {
        Address::new(Kind::Label, self.path.display())
    }

    fn requirements(&self) -> Vec<Requirement> {
        vec![
            Requirement::Program("semanage"),
            Requirement::Program("restorecon"),
        ]
    }

    async fn observe(&self, _host: &Host) -> Result<Observed> {
        let label = self.clone();
        blocking(move || {
            Ok(Observed {
                rule: selinux::local_rule(&label.specification())?,
                tree: type_at(label.tree(), label.disk.as_ref())?,
                shared: type_at(&label.path, label.disk.as_ref())?,
            })
        })
        .await
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        if let Some(other) = observed.rule.as_deref().filter(|rule| *rule != SHARE_TYPE) {
            return Err(Error::new(format!(
                "a rule of this VM's own gives {} the SELinux type {other}, with which smbd cannot serve it",
                self.tree().display()
            ))
            .hint(format!(
                "run: semanage fcontext --delete '{}', or share another directory: storage.path",
                self.specification()
            )));
        }
        let mut diff = Diff::update("SELinux lets smbd serve no other files");
        diff.field("rule", observed.rule.clone(), SHARE_TYPE.to_owned());
        if self.tree() != self.path {
            let name = format!("label of {}", self.tree().display());
            diff.field(&name, observed.tree.clone(), SHARE_TYPE.to_owned());
        }
        diff.field("label", observed.shared.clone(), SHARE_TYPE.to_owned());
        Ok(diff)
    }

    fn guide(&self, _diff: &Diff) -> Vec<GuideStep> {
        vec![
            GuideStep::new(11, "setsebool -P samba_enable_home_dirs on"),
            GuideStep::new(11, "setsebool -P samba_export_all_rw on"),
            GuideStep::new(
                11,
                format!("chcon -R -t {SHARE_TYPE} {}", self.path.display()),
            ),
        ]
    }

    async fn converge(&self, step: &Step, observed: &Observed) -> Result<()> {
        let specification = self.specification();
        if observed.rule.is_none() {
            let effect = Effect::AddFileContext {
                specification: specification.clone(),
                label: SHARE_TYPE.to_owned(),
            };
            step.effect(effect, |permit| async move {
                selinux::add_rule(&permit, &specification, SHARE_TYPE).await
            })
            .await?;
        }
        let is_labelled = |label: &Option<String>| label.as_deref() == Some(SHARE_TYPE);
        if is_labelled(&observed.tree) && is_labelled(&observed.shared) {
            return Ok(());
        }
        let tree = self.tree();
        let effect = Effect::Relabel {
            tree: tree.to_owned(),
        };
        step.effect(effect, |permit| async move {
            selinux::relabel(&permit, tree).await
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Device;

    fn label() -> Label {
        Label {
            path: "/mnt/data/shared_folder".into(),
            disk: Some(DataDisk {
                device: Device::Auto,
                mount: "/mnt/data".into(),
            }),
        }
    }

    fn observed(rule: Option<&str>, tree: Option<&str>, shared: Option<&str>) -> Observed {
        let owned = |label: Option<&str>| label.map(str::to_owned);
        Observed {
            rule: owned(rule),
            tree: owned(tree),
            shared: owned(shared),
        }
    }

    #[test]
    fn rule_and_labels_are_seen_each() {
        let ours = Some(SHARE_TYPE);
        for (observed, fields) in [
            (observed(ours, ours, ours), vec![]),
            (observed(None, ours, ours), vec!["rule"]),
            (
                observed(ours, Some("unlabeled_t"), ours),
                vec!["label of /mnt/data"],
            ),
            (observed(ours, ours, Some("mnt_t")), vec!["label"]),
            (
                Observed::default(),
                vec!["rule", "label of /mnt/data", "label"],
            ),
        ] {
            let diff = label().diff(&observed).unwrap();
            let found: Vec<&str> = diff.fields.iter().map(|f| f.name.as_str()).collect();
            assert_eq!(found, fields);
        }
    }

    #[test]
    fn somebody_elses_rule_is_refused_with_the_way_out() {
        let other = observed(Some("public_content_t"), None, None);
        let error = label().diff(&other).unwrap_err();
        assert!(error.message.contains("public_content_t"), "{error}");
        assert!(error.hint.unwrap().contains("--delete '/mnt/data(/.*)?'"));
    }

    #[test]
    fn without_a_disk_the_directory_alone_is_labelled() {
        let label = Label {
            disk: None,
            ..label()
        };
        assert_eq!(label.specification(), "/mnt/data/shared_folder(/.*)?");
    }
}
