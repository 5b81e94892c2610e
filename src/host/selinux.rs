//! SELinux labels as the policy gives them. A label that is only set on a file is lost at the next
//! relabel. A lasting label is a rule in the policy's store, which libsemanage alone may write. Its
//! program is semanage(8). The rules are read here from the file that it generates.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fs::{selinux_label, set_selinux_label};
use super::permit::Permit;
use super::process::Helper;
use crate::error::{Doing, Error, Result};

/// The type of files that smbd may serve (samba_selinux(8)).
pub const SHARE_TYPE: &str = "samba_share_t";

const SELINUX: &str = "/etc/selinux";

/// Whether the kernel has a policy, enforcing or permissive.
pub fn is_on() -> bool {
    // selinuxfs exists once init(1) has loaded a policy.
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// semanage(8) is a Python program that rewrites the policy's store. It takes seconds, and minutes
/// on an emulated processor.
const DEADLINE: Duration = Duration::from_secs(600);

/// The regular expression of a rule for a directory and everything below it, in the form of
/// semanage-fcontext(8).
pub fn specification(tree: &Path) -> String {
    let mut specification = String::new();
    for character in tree.display().to_string().chars() {
        match character {
            // semanage accepts no blanks, and file_contexts(5) is split at them.
            ' ' => specification.push_str("\\x20"),
            '.' | '\\' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|' => {
                specification.extend(['\\', character]);
            }
            other => specification.push(other),
        }
    }
    specification.push_str("(/.*)?");
    specification
}

/// The type that a local rule of this VM gives to all files of a specification. `None` where there
/// is no such rule.
pub fn local_rule(specification: &str) -> Result<Option<String>> {
    rule_below(Path::new(SELINUX), specification)
}

/// Whether restorecon(8) leaves a file of this type as it is, because somebody chose the type by hand
/// (customizable_types(5)).
pub fn is_customizable(label: &str) -> Result<bool> {
    Ok(contexts(Path::new(SELINUX), "customizable_types")?
        .lines()
        .any(|line| line.trim() == label))
}

fn rule_below(selinux: &Path, specification: &str) -> Result<Option<String>> {
    let rules = contexts(selinux, "files/file_contexts.local")?;
    Ok(rules.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        // A word in between limits the rule to files of one kind (file_contexts(5)).
        let (Some(of), Some(context), None) = (words.next(), words.next(), words.next()) else {
            return None;
        };
        (of == specification).then(|| type_of(context).unwrap_or(context).to_owned())
    }))
}

/// A file of the policy's contexts; empty where there is none.
fn contexts(selinux: &Path, name: &str) -> Result<String> {
    let read = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).doing(format_args!("read {}", path.display())),
    };
    let config = read(selinux.join("config"))?;
    // selinux_config(5); libselinux has the same default.
    let policy = config
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("SELINUXTYPE=").map(str::trim))
        .unwrap_or("targeted");
    read(selinux.join(policy).join("contexts").join(name))
}

/// The type in `user:role:type:range`.
pub fn type_of(context: &str) -> Option<&str> {
    context.split(':').nth(2)
}

/// Adds a rule to the policy's store. The policy in the kernel has no labels by path, so it is not
/// loaded again.
pub async fn add_rule(_permit: &Permit, specification: &str, label: &str) -> Result<()> {
    semanage(&["--add", "--type", label, specification])
        .await
        .map_err(|error| error.or_hint("run: semanage fcontext --list --locallist"))
}

/// Removes a rule from the policy's store.
pub async fn remove_rule(_permit: &Permit, specification: &str) -> Result<()> {
    semanage(&["--delete", specification]).await
}

async fn semanage(arguments: &[&str]) -> Result<()> {
    Helper::new("semanage")
        .changes()
        .args(["fcontext", "--noreload"])
        .args(arguments)
        .deadline(DEADLINE)
        .run()
        .await
        .map(drop)
}

/// A library, which every domain may read by the policies of both Debian and EL
/// (`libs_read_lib_files(domain)` in domain.te of both).
const LIBRARIES: &str = "/usr/lib";

/// Lets helper programs of every domain inherit a file that is open for reading. Otherwise, when a
/// program starts in a domain of its own, the kernel closes the file for it and logs a denial
/// (`flush_unauthorized_files()` in security/selinux/hooks.c). If the label cannot be set, that
/// still happens.
pub fn let_all_domains_hold(file: &Path) {
    if !is_on() {
        return;
    }
    let set = || match selinux_label(Path::new(LIBRARIES))? {
        Some(wanted) if selinux_label(file)?.as_ref() != Some(&wanted) => {
            set_selinux_label(file, &wanted)
        }
        _ => Ok(()),
    };
    if let Err(error) = set() {
        tracing::debug!("{error}");
    }
}

/// Gives all files of a tree the labels that the policy has for them. A type that an operator chose
/// is kept if the policy lists it as customizable (customizable_types(5)).
pub async fn relabel(_permit: &Permit, tree: &Path) -> Result<()> {
    restorecon(tree).await
}

/// Makes a directory in /run that the next program would make itself, with the label that the
/// policy has for it. This needs no permit: nobody would undo it, and the next boot removes it.
pub async fn make_runtime_directory(directory: &Path) -> Result<()> {
    // The mode that Samba itself gives it (`directory_create_or_exist()` in source3/lib/util.c).
    let made = tokio::fs::DirBuilder::new()
        .mode(0o755)
        .create(directory)
        .await;
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).doing(format_args!("make {}", directory.display())),
        Ok(()) => restorecon(directory).await,
    }
}

async fn restorecon(tree: &Path) -> Result<()> {
    let output = Helper::new("restorecon")
        .changes()
        .args(["-R".as_ref(), tree.as_os_str()])
        .deadline(DEADLINE)
        .output()
        .await?;
    if output.success {
        return Ok(());
    }
    Err(Error::new(format!(
        "restorecon {}: {}: {}",
        tree.display(),
        output.exit,
        output.stderr.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(policy: &str, rules: &str) -> tempfile::TempDir {
        let selinux = tempfile::tempdir().unwrap();
        let files = selinux.path().join("default/contexts/files");
        std::fs::create_dir_all(&files).unwrap();
        std::fs::write(selinux.path().join("config"), policy).unwrap();
        std::fs::write(files.join("file_contexts.local"), rules).unwrap();
        selinux
    }

    #[test]
    fn a_rule_is_found_where_libsemanage_writes_it() {
        let rules = "# This file is auto-generated by libsemanage\n# Do not edit directly.\n\n\
            /srv/other(/.*)?    system_u:object_r:public_content_t:s0\n\
            /mnt/data(/.*)?  --  system_u:object_r:etc_t:s0\n\
            /mnt/data(/.*)?    system_u:object_r:samba_share_t:s0\n\
            /none(/.*)?    <<none>>\n";
        let selinux = machine(
            "SELINUX=enforcing\n# SELINUXTYPE=mls\nSELINUXTYPE=default\n",
            rules,
        );
        let rule =
            |path: &str| rule_below(selinux.path(), &specification(Path::new(path))).unwrap();
        assert_eq!(rule("/mnt/data").as_deref(), Some(SHARE_TYPE));
        assert_eq!(rule("/srv/other").as_deref(), Some("public_content_t"));
        assert_eq!(rule("/none").as_deref(), Some("<<none>>"));
        assert_eq!(rule("/mnt"), None);
    }

    #[test]
    fn without_a_store_there_is_no_rule() {
        let selinux = tempfile::tempdir().unwrap();
        assert_eq!(rule_below(selinux.path(), "/x(/.*)?").unwrap(), None);
        let other = machine(
            "SELINUXTYPE=targeted\n",
            "/x(/.*)? system_u:object_r:a_t:s0\n",
        );
        assert_eq!(rule_below(other.path(), "/x(/.*)?").unwrap(), None);
    }

    #[test]
    fn a_path_is_no_expression() {
        assert_eq!(
            specification(Path::new("/srv/a b/v1.0+(x)")),
            "/srv/a\\x20b/v1\\.0\\+\\(x\\)(/.*)?"
        );
    }
}
