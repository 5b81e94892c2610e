//! What no undo brings back, and what is said of it: whoever reverts a role does not lose the data that came to be
//! under it.

use super::Undone;
use crate::engine::effect::Effect;

/// Data is never undone.
pub(super) fn kept_for_good(effects: &[&Effect]) -> Undone {
    match effects.first() {
        Some(Effect::Format { device, .. }) => Undone::Kept(format!(
            "{} stays formatted, with the files on it",
            device.display()
        )),
        Some(Effect::Relabel { tree }) => Undone::Kept(format!(
            "the files in {} keep their SELinux labels until restorecon -R gives them others",
            tree.display()
        )),
        Some(Effect::Grow {
            mount_point,
            filesystem,
            ..
        }) => Undone::Kept(format!(
            "the {filesystem} of {} keeps its new size: it cannot shrink while it holds files",
            mount_point.display()
        )),
        Some(Effect::DeployContent { path, .. }) => {
            Undone::Kept(format!("the files in {} stay", path.display()))
        }
        _ => Undone::Already,
    }
}
