//! What a name means in a local git repository, read from its files: every plan asks this, and a run without a change
//! starts no program.
//!
//! Only plain names are read, in the order of gitrevisions(7), from the files of
//! gitrepository-layout(5). Everything else is left to git.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

pub fn is_commit(rev: &str) -> bool {
    rev.len() == 40 && rev.bytes().all(|b| b.is_ascii_hexdigit())
}

/// In this order, the first one that exists (gitrevisions(7), `<refname>`).
const PLACES: [(&str, &str); 6] = [
    ("", ""),
    ("refs/", ""),
    ("refs/tags/", ""),
    ("refs/heads/", ""),
    ("refs/remotes/", ""),
    ("refs/remotes/", "/HEAD"),
];

/// How many symbolic refs git follows (`SYMREF_MAXDEPTH` of its refs.c).
const SYMBOLIC_DEPTH: u32 = 5;

/// A line of packed-refs of a large repository has some 60 bytes.
const LARGEST: u64 = 16 << 20;

/// What a ref holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    Object(String),
    Symbolic(String),
}

/// Something that git has to be asked about.
struct Unclear;

/// The object that `rev` names in the repository `directory`: a commit, or a tag that was not
/// packed. `None` where only git can tell.
pub fn named_by(directory: &Path, rev: &str) -> Option<String> {
    // gitrevisions(7): a whole hash means that object, whatever refs are called.
    if is_commit(rev) {
        return Some(rev.to_ascii_lowercase());
    }
    // Another store of refs, or refs that are shared with another work tree.
    let other = ["reftable", "commondir"];
    if !is_plain(rev) || other.iter().any(|o| directory.join(o).exists()) {
        return None;
    }
    let packed = packed_refs(directory).ok()?;
    PLACES
        .iter()
        .find_map(|(before, after)| {
            let name = format!("{before}{rev}{after}");
            held_by(directory, &packed, &name).transpose()
        })
        .and_then(|held| object(directory, &packed, held.ok()?))
}

/// Follows symbolic refs to an object.
fn object(directory: &Path, packed: &str, mut held: Held) -> Option<String> {
    for _ in 0..SYMBOLIC_DEPTH {
        match held {
            Held::Object(object) => return Some(object),
            Held::Symbolic(name) if name.starts_with("refs/") && is_plain(&name) => {
                held = held_by(directory, packed, &name).ok()??;
            }
            Held::Symbolic(_) => return None,
        }
    }
    None
}

/// What the ref `name` holds; `None` where there is no such ref.
fn held_by(directory: &Path, packed: &str, name: &str) -> Result<Option<Held>, Unclear> {
    let path = directory.join(name);
    match fs::symlink_metadata(&path) {
        // A file of the repository that is no ref may have that name: `config`, `description`.
        Ok(found) if found.is_file() && (name.starts_with("refs/") || name == "HEAD") => {
            let text = fs::read_to_string(&path).map_err(|_| Unclear)?;
            loose(&text).map(Some)
        }
        Ok(found) if found.is_dir() => in_packed(packed, name),
        Err(error) if error.kind() == ErrorKind::NotFound => in_packed(packed, name),
        _ => Err(Unclear),
    }
}

fn loose(text: &str) -> Result<Held, Unclear> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    match text.strip_prefix("ref: ") {
        Some(name) => Ok(Held::Symbolic(name.to_owned())),
        None if is_hash(text) => Ok(Held::Object(text.to_owned())),
        None => Err(Unclear),
    }
}

fn packed_refs(directory: &Path) -> Result<String, Unclear> {
    let path = directory.join("packed-refs");
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() && found.len() <= LARGEST => {
            fs::read_to_string(&path).map_err(|_| Unclear)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        _ => Err(Unclear),
    }
}

/// A line of packed-refs is `object SP name`; below a tag is `^` and the commit that it names.
fn in_packed(packed: &str, name: &str) -> Result<Option<Held>, Unclear> {
    let mut lines = packed.lines();
    let Some(object) = lines.find_map(|line| line.strip_suffix(name)?.strip_suffix(' ')) else {
        return Ok(None);
    };
    let object = lines
        .next()
        .and_then(|line| line.strip_prefix('^'))
        .unwrap_or(object);
    if is_hash(object) {
        Ok(Some(Held::Object(object.to_owned())))
    } else {
        Err(Unclear)
    }
}

/// SHA-1 as git writes it.
fn is_hash(text: &str) -> bool {
    is_commit(text) && !text.contains(|c: char| c.is_ascii_uppercase())
}

/// A name and no expression (`main~1`, `@{upstream}`), which leads nowhere but below its place.
fn is_plain(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    name.chars().all(good)
        && name.split('/').all(|part| {
            !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(".lock")
        })
        && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    #[test]
    fn the_first_place_with_the_name_is_meant() {
        let (a, b) = (format!("{A}\n"), format!("{B}\n"));
        let packed =
            format!("# pack-refs with: peeled\n{A} refs/heads/main\n{A} refs/tags/v1\n^{B}\n");
        for (files, rev, named) in [
            (vec![("refs/heads/main", a.as_str())], "main", Some(A)),
            (vec![("refs/heads/f/x", a.as_str())], "f/x", Some(A)),
            (vec![("refs/heads/f/x", a.as_str())], "f", None),
            (vec![("packed-refs", packed.as_str())], "main", Some(A)),
            (vec![("packed-refs", packed.as_str())], "ain", None),
            // What is loose is newer than what is packed.
            (
                vec![("packed-refs", packed.as_str()), ("refs/heads/main", &b)],
                "main",
                Some(B),
            ),
            // A tag comes before a branch, and names what it was put on.
            (
                vec![("refs/heads/v1", a.as_str()), ("refs/tags/v1", &b)],
                "v1",
                Some(B),
            ),
            (vec![("packed-refs", packed.as_str())], "v1", Some(B)),
            (vec![("packed-refs", packed.as_str())], "tags/v1", Some(B)),
            (
                vec![("HEAD", "ref: refs/heads/x\n"), ("refs/heads/x", &a)],
                "HEAD",
                Some(A),
            ),
            (vec![("HEAD", a.as_str())], "HEAD", Some(A)),
            (vec![], "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Some(A)),
        ] {
            let directory = repository(&files);
            assert_eq!(
                named_by(directory.path(), rev).as_deref(),
                named,
                "{rev} in {files:?}"
            );
        }
    }

    #[test]
    fn what_is_not_certain_is_left_to_git() {
        let a = format!("{A}\n");
        let main = ("refs/heads/main", a.as_str());
        for (files, rev) in [
            (vec![main], "main~0"),
            (vec![main], "@{0}"),
            (vec![main], "../x/refs/heads/main"),
            (vec![main], "./main"),
            (vec![main], "-main"),
            (vec![main], ""),
            (vec![main], "aaaaaaa"),
            (vec![main, ("main", "")], "main"),
            (vec![main, ("reftable/tables.list", "")], "main"),
            (vec![main, ("commondir", "..")], "main"),
            (vec![("refs/heads/main", "")], "main"),
            (vec![("refs/heads/main", &A[1..])], "main"),
            (vec![("refs/heads/main", &a.to_uppercase())], "main"),
            (
                vec![("refs/heads", "this repository uses reftable")],
                "main",
            ),
            (vec![("refs/heads/main", "ref: refs/heads/main")], "main"),
            (vec![("HEAD", "ref: ../../etc/x")], "HEAD"),
            (vec![("HEAD", "ref: config"), ("config", &a)], "HEAD"),
            (vec![("packed-refs", "x refs/heads/main")], "main"),
            (vec![("packed-refs", " refs/heads/main")], "main"),
        ] {
            let directory = repository(&files);
            assert_eq!(
                named_by(directory.path(), rev),
                None,
                "{rev:?} in {files:?}"
            );
        }
        let linked = repository(&[]);
        fs::create_dir_all(linked.path().join("refs/heads")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", linked.path().join("refs/heads/main")).unwrap();
        assert_eq!(named_by(linked.path(), "main"), None);
    }

    #[test]
    fn git_agrees() {
        let directory = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let output = Command::new("git")
                .current_dir(directory.path())
                .args(["-c", "user.name=x", "-c", "user.email=x@example.org"])
                .args(arguments)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .output()
                .unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "--quiet", "--initial-branch=main"]);
        git(&["commit", "--quiet", "--allow-empty", "--message=one"]);
        git(&["tag", "--annotate", "--message=x", "packed"]);
        git(&["branch", "both"]);
        git(&["branch", "feature/x"]);
        git(&["pack-refs", "--all"]);
        git(&["commit", "--quiet", "--allow-empty", "--message=two"]);
        git(&["tag", "both"]);
        for rev in [
            "main",
            "HEAD",
            "both",
            "heads/both",
            "packed",
            "feature/x",
            "refs/heads/main",
        ] {
            let expected = git(&[
                "rev-parse",
                "--verify",
                "--quiet",
                &format!("{rev}^{{commit}}"),
            ]);
            let named = named_by(&directory.path().join(".git"), rev);
            assert_eq!(named, Some(expected), "{rev}");
        }
        git(&["tag", "--annotate", "--message=x", "loose"]);
        let commit = git(&["rev-parse", "loose^{commit}"]);
        // The tag itself, which no deployed commit equals: git is asked for what it names.
        assert_ne!(
            named_by(&directory.path().join(".git"), "loose"),
            Some(commit)
        );
    }
}
