//! What SELinux lets smbd serve. A rule of the policy labels the shared files, so a full relabel keeps
//! their label. No boolean is set that would open every file of the VM to smbd.

use std::path::{Path, PathBuf};

use super::data_disk::{self, DataDisk};
use crate::deploy::beside::path as staging_directory;
use crate::effect::file_context::OnFileContext;
use crate::engine::{Address, Diff, GuideStep, Kind, Requirement, Resource, Step};
use crate::error::{Error, Result};
use crate::host::fs::selinux_label;
use crate::host::selinux::{self, SHARE_TYPE};
use crate::host::{Host, blocking};

/// A shared directory with the label, on a VM where SELinux is on.
#[derive(Debug, Clone)]
pub struct Label {
    pub path: PathBuf,
    /// The disk that the directory is on. All of it is labelled: smbd has to pass through it.
    pub disk: Option<DataDisk>,
    /// Whether revisions take the directory's place.
    pub has_content: bool,
}

#[derive(Debug)]
pub struct Observed {
    trees: Vec<Tree>,
    /// The type that the shared directory has; `None` while it is missing.
    shared: Option<String>,
}

/// A tree that needs a rule.
#[derive(Debug)]
struct Tree {
    path: PathBuf,
    /// The type that a rule gives; `None` without a rule.
    rule: Option<String>,
    /// The type that its top directory has; `None` while that is missing.
    label: Option<String>,
}

impl Tree {
    fn is_labelled(&self) -> bool {
        self.label.as_deref() == Some(SHARE_TYPE)
    }

    fn specification(&self) -> String {
        selinux::specification(&self.path)
    }
}

impl Label {
    /// The trees to label. The first one holds the shared directory.
    ///
    /// Clients read a replaced tree for a while, and it holds links to the operator's files. Without a
    /// rule for that tree, a full relabel takes it from smbd. The operator's files go with it if the
    /// relabel reaches that tree last.
    fn trees(&self) -> Result<Vec<PathBuf>> {
        let disk = self.disk.as_ref().map(|disk| &disk.mount);
        let tree = disk
            .filter(|mount| self.path.starts_with(mount))
            .unwrap_or(&self.path);
        let mut trees = vec![tree.clone()];
        if self.has_content {
            let staging = staging_directory(&self.path)?;
            if !staging.starts_with(tree) {
                trees.push(staging);
            }
        }
        Ok(trees)
    }

    fn observe_tree(&self, path: PathBuf) -> Result<Tree> {
        Ok(Tree {
            rule: selinux::local_rule(&selinux::specification(&path))?,
            label: type_at(&path, self.disk.as_ref())?,
            path,
        })
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
            let trees = label.trees()?.into_iter();
            Ok(Observed {
                trees: trees
                    .map(|path| label.observe_tree(path))
                    .collect::<Result<_>>()?,
                shared: type_at(&label.path, label.disk.as_ref())?,
            })
        })
        .await
    }

    fn diff(&self, observed: &Observed) -> Result<Diff> {
        let mut diff = Diff::update("SELinux lets smbd serve no other files");
        for (index, tree) in observed.trees.iter().enumerate() {
            let rule = tree.rule.as_deref();
            if let Some(other) = rule.filter(|rule| *rule != SHARE_TYPE) {
                return Err(others_rule(tree, other));
            }
            let holds_share = index == 0;
            let name = if holds_share {
                "rule".to_owned()
            } else {
                format!("rule for {}", tree.path.display())
            };
            diff.field(&name, tree.rule.clone(), SHARE_TYPE.to_owned());
            // The staging directory is not always there, and the shared one has a field of its own.
            if tree.path != self.path && (holds_share || tree.label.is_some()) {
                let name = format!("label of {}", tree.path.display());
                diff.field(&name, tree.label.clone(), SHARE_TYPE.to_owned());
            }
        }
        diff.field("label", observed.shared.clone(), SHARE_TYPE.to_owned());
        Ok(diff)
    }

    async fn obstacles(&self, _host: &Host, observed: &Observed) -> Result<()> {
        let tops = observed.trees.iter().map(|tree| (&tree.path, &tree.label));
        let shared = [(&self.path, &observed.shared)];
        for (path, label) in tops.chain(shared) {
            let Some(label) = label.as_deref().filter(|label| *label != SHARE_TYPE) else {
                continue;
            };
            if selinux::is_customizable(label)? {
                return Err(chosen(path, label));
            }
        }
        Ok(())
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
        for tree in observed.trees.iter().filter(|tree| tree.rule.is_none()) {
            let specification = tree.specification();
            let effect = OnFileContext::AddFileContext {
                specification: specification.clone(),
                label: SHARE_TYPE.to_owned(),
            };
            step.effect(effect, |permit| async move {
                selinux::add_rule(&permit, &specification, SHARE_TYPE).await
            })
            .await?;
        }
        let shared_is_labelled = observed.shared.as_deref() == Some(SHARE_TYPE);
        for (index, tree) in observed.trees.iter().enumerate() {
            let is_wrong = match index {
                0 => !tree.is_labelled() || !shared_is_labelled,
                _ => tree.label.is_some() && !tree.is_labelled(),
            };
            if is_wrong {
                relabel(step, tree).await?;
                self.is_held(tree).await?;
            }
        }
        Ok(())
    }
}

impl Label {
    /// Fails if restorecon has left a type that somebody chose by hand.
    async fn is_held(&self, tree: &Tree) -> Result<()> {
        let (label, tree) = (self.clone(), tree.path.clone());
        blocking(move || {
            let tops = [&tree, &label.path];
            for path in tops.into_iter().filter(|path| path.starts_with(&tree)) {
                match type_at(path, label.disk.as_ref())? {
                    Some(found) if found != SHARE_TYPE => return Err(chosen(path, &found)),
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }
}

async fn relabel(step: &Step, tree: &Tree) -> Result<()> {
    let effect = OnFileContext::Relabel {
        tree: tree.path.clone(),
    };
    step.effect(effect, |permit| async move {
        selinux::relabel(&permit, &tree.path).await
    })
    .await
}

fn chosen(path: &Path, label: &str) -> Error {
    Error::new(format!(
        "{} has the SELinux type {label}, one of those that are chosen by hand (customizable_types(5)) and that restorecon leaves",
        path.display()
    ))
    .hint(format!("run: restorecon -R -F {}", path.display()))
}

fn others_rule(tree: &Tree, other: &str) -> Error {
    Error::new(format!(
        "a rule of this VM's own gives {} the SELinux type {other}, with which smbd cannot serve it",
        tree.path.display()
    ))
    .hint(format!(
        "run: semanage fcontext --delete '{}', or share another directory: storage.path",
        tree.specification()
    ))
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
            has_content: true,
        }
    }

    fn without_disk() -> Label {
        Label {
            disk: None,
            ..label()
        }
    }

    /// The trees of a resource with these rules and labels, and the label of the shared directory.
    fn observed(
        label: &Label,
        trees: &[(Option<&str>, Option<&str>)],
        shared: Option<&str>,
    ) -> Observed {
        let owned = |label: Option<&str>| label.map(str::to_owned);
        let paths = label.trees().unwrap();
        assert_eq!(paths.len(), trees.len());
        let trees = paths.into_iter().zip(trees);
        Observed {
            trees: trees
                .map(|(path, (rule, label))| Tree {
                    path,
                    rule: owned(*rule),
                    label: owned(*label),
                })
                .collect(),
            shared: owned(shared),
        }
    }

    fn fields(label: &Label, observed: &Observed) -> Vec<String> {
        let diff = label.diff(observed).unwrap();
        diff.fields.into_iter().map(|field| field.name).collect()
    }

    #[test]
    fn rule_and_labels_are_seen_each() {
        let ours = Some(SHARE_TYPE);
        for (tree, shared, wanted) in [
            ((ours, ours), ours, vec![]),
            ((None, ours), ours, vec!["rule"]),
            (
                (ours, Some("unlabeled_t")),
                ours,
                vec!["label of /mnt/data"],
            ),
            ((ours, ours), Some("mnt_t"), vec!["label"]),
            (
                (None, None),
                None,
                vec!["rule", "label of /mnt/data", "label"],
            ),
        ] {
            let found = observed(&label(), &[tree], shared);
            assert_eq!(fields(&label(), &found), wanted);
        }
    }

    #[test]
    fn somebody_elses_rule_is_refused_with_the_way_out() {
        let other = observed(&label(), &[(Some("public_content_t"), None)], None);
        let error = label().diff(&other).unwrap_err();
        assert!(error.message.contains("public_content_t"), "{error}");
        assert!(error.hint.unwrap().contains("--delete '/mnt/data(/.*)?'"));
    }

    #[test]
    fn without_a_disk_the_directories_alone_are_labelled() {
        let without_content = Label {
            has_content: false,
            ..without_disk()
        };
        for (label, wanted) in [
            (
                without_disk(),
                vec![
                    "/mnt/data/shared_folder",
                    "/mnt/data/.wasagent-shared_folder",
                ],
            ),
            (without_content, vec!["/mnt/data/shared_folder"]),
            (label(), vec!["/mnt/data"]),
        ] {
            let wanted: Vec<PathBuf> = wanted.into_iter().map(PathBuf::from).collect();
            assert_eq!(label.trees().unwrap(), wanted);
        }
    }

    #[test]
    fn a_staging_directory_beside_the_shared_one_is_labelled_while_it_is_there() {
        let ours = Some(SHARE_TYPE);
        let label = without_disk();
        for (staging, wanted) in [
            ((ours, None), vec![]),
            ((ours, ours), vec![]),
            (
                (None, None),
                vec!["rule for /mnt/data/.wasagent-shared_folder"],
            ),
            (
                (ours, Some("mnt_t")),
                vec!["label of /mnt/data/.wasagent-shared_folder"],
            ),
        ] {
            let found = observed(&label, &[(ours, ours), staging], ours);
            assert_eq!(fields(&label, &found), wanted);
        }
    }
}
