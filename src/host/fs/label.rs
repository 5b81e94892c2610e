//! SELinux labels of files.

use std::path::Path;

use crate::error::{Doing, Error, Result};

/// Extended attribute in which SELinux keeps the label of a file (`xattr(7)`).
pub const SELINUX_XATTR: &str = "security.selinux";

/// SELinux label of a file, or of a link itself and not its target. `None` where the file system or
/// the kernel keeps no labels.
///
/// # Errors
/// When `lgetxattr(2)` fails otherwise, or the label is not UTF-8.
pub fn selinux_label(path: &Path) -> Result<Option<String>> {
    let doing = || format!("read the SELinux label of {}", path.display());
    // A label stays far below 4 KiB even with every category of a range; the policy caps it at this
    // page.
    let mut label = vec![0; 4096];
    match rustix::fs::lgetxattr(path, SELINUX_XATTR, &mut label[..]) {
        Ok(length) => {
            label.truncate(length);
            // The kernel stores and returns the terminating NUL.
            while label.last() == Some(&0) {
                label.pop();
            }
            String::from_utf8(label).map(Some).doing(doing())
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error).doing(doing()),
    }
}

/// Sets the SELinux label of a file, or of a link itself and not its target.
///
/// # Errors
/// When `lsetxattr(2)` fails. EINVAL means that the policy knows no such label.
pub fn set_selinux_label(path: &Path, label: &str) -> Result<()> {
    let mut value = label.as_bytes().to_vec();
    value.push(0);
    rustix::fs::lsetxattr(path, SELINUX_XATTR, &value, rustix::fs::XattrFlags::empty()).map_err(
        |error| {
            let failed = Error::new(format!(
                "set the SELinux label of {} to {label}: {error}",
                path.display()
            ));
            match error {
                rustix::io::Errno::INVAL => {
                    failed.hint("the loaded SELinux policy knows no such label")
                }
                _ => failed,
            }
        },
    )
}
