//! Reads revisions with git: which commit a name means, which files the commit holds, and their bytes.
//!
//! A repository on a local path is read in place. A repository behind a URL is fetched, one commit
//! deep, into a bare repository of the agent's own. Neither runs a hook, a filter or a shell.

mod objects;
mod refs;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::objects::{Revision, TreeEntry};
use self::refs::is_commit;
use crate::error::{Doing, Error, Result};
use crate::host::blocking;
use crate::host::permit::Permit;
use crate::host::process::{Helper, Tell, over_network};

/// Where fetched commits are kept.
const STORE: &str = "/var/lib/wasagent/content.git";

/// How long a fetch may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(600);

/// A repository and the name of a revision in it.
#[derive(Debug, Clone)]
pub struct Source {
    pub git: String,
    pub rev: String,
}

impl Source {
    /// Whether git runs ssh(1) to reach the repository: `ssh://host/path`, `user@host:path`.
    pub fn is_over_ssh(&self) -> bool {
        self.git.starts_with("ssh://") || (!self.git.contains("://") && self.local_path().is_none())
    }

    fn local_path(&self) -> Option<&Path> {
        let path = self.git.strip_prefix("file://").unwrap_or(&self.git);
        path.starts_with('/').then(|| Path::new(path))
    }

    /// The commit that the revision's name means now. Changes nothing on this machine.
    ///
    /// `deployed` is the commit that was deployed last. If the name still means that commit in a
    /// local repository, git is not run.
    pub async fn resolve(&self, deployed: Option<&str>) -> Result<String> {
        if let Some(directory) = self.local_path() {
            let (refs, rev) = (git_directory(directory), self.rev.clone());
            let named = blocking(move || Ok(refs::named_by(&refs, &rev))).await?;
            // The deployed commit is known to be a commit, and complete.
            if named.is_some() && named.as_deref() == deployed {
                return Ok(named.unwrap_or_default());
            }
            return self.rev_parse(directory, &self.rev).await;
        }
        if is_commit(&self.rev) {
            return Ok(self.rev.clone());
        }
        let listing = git()
            .args(["ls-remote", "--", &self.git])
            .args(refs(&self.rev).into_iter().flat_map(|name| {
                let peeled = format!("{name}^{{}}");
                [name, peeled]
            }))
            .run()
            .await
            .map_err(|e| with_way_out(over_network(e)).elsewhere())?;
        named_in(&String::from_utf8_lossy(&listing), &self.rev)
            .ok_or_else(|| self.no_such_revision())
    }

    /// `commit` read in place, if the repository is on this VM.
    pub fn in_place(&self, commit: &str) -> Option<Revision> {
        self.local_path().map(|directory| Revision {
            directory: git_directory(directory),
            commit: commit.to_owned(),
        })
    }

    /// A commit that was obtained before. Nothing is fetched.
    pub fn known(&self, commit: &str) -> Revision {
        self.in_place(commit).unwrap_or_else(|| Revision {
            directory: PathBuf::from(STORE),
            commit: commit.to_owned(),
        })
    }

    /// Fetches the objects of `commit` into the agent's own repository, and reports progress to `tell`.
    pub async fn fetch(&self, _permit: &Permit, commit: &str, tell: Tell<'_>) -> Result<Revision> {
        let directory = PathBuf::from(STORE);
        git()
            .changes()
            .args(["init", "--quiet", "--bare", "--template=", STORE])
            .run()
            .await?;
        // A killed fetch leaves this lock, and git would fail at once on it. No other fetch is running.
        match tokio::fs::remove_file(directory.join("shallow.lock")).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).doing(format_args!("remove {STORE}/shallow.lock"));
            }
            _ => {}
        }
        git()
            .changes()
            .args([
                "--git-dir",
                STORE,
                "fetch",
                "--progress",
                "--depth=1",
                "--no-tags",
                "--no-write-fetch-head",
                "--",
                &self.git,
                commit,
            ])
            .watch(&|line| is_progress(line, tell))
            .deadline(FETCH_DEADLINE)
            .run()
            .await
            .map_err(|e| with_way_out(over_network(e)))?;
        let revision = Revision {
            directory,
            commit: commit.to_owned(),
        };
        match kind_of(&revision.directory, commit).await.as_deref() {
            Some("commit") | None => Ok(revision),
            Some(kind) => Err(no_commit(&self.rev, kind)),
        }
    }

    async fn rev_parse(&self, directory: &Path, rev: &str) -> Result<String> {
        let at = directory.to_owned();
        let (exists, is_directory) = blocking(move || Ok((at.exists(), at.is_dir()))).await?;
        if !is_directory {
            let what = if exists {
                "is not a directory"
            } else {
                "is missing"
            };
            return Err(Error::new(format!("{} {what}", directory.display()))
                .hint("storage.content.git names a repository on this VM, or a URL"));
        }
        let output = reading_git()
            .args(["--git-dir".as_ref(), git_directory(directory).as_os_str()])
            .args([
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                &format!("{rev}^{{commit}}"),
            ])
            .output()
            .await?;
        if output.success {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        if let Some(kind) = kind_of(&git_directory(directory), &format!("{rev}^{{}}")).await {
            return Err(no_commit(rev, &kind));
        }
        if output.stderr.trim().is_empty() {
            return Err(self.no_such_revision());
        }
        Err(Error::new(output.stderr.trim().to_owned())
            .hint("storage.content.git must name a git repository"))
    }

    fn no_such_revision(&self) -> Error {
        Error::new(format!("{} has no revision {:?}", self.git, self.rev))
            .hint("compare storage.content.rev with the repository's branches and tags")
    }
}

/// The refs that a name may mean, in the order of gitrevisions(7): a tag before a branch. `heads/x`
/// names the branch even if a tag has the same name.
fn refs(rev: &str) -> Vec<String> {
    if rev.starts_with("refs/") || rev == "HEAD" {
        return vec![rev.to_owned()];
    }
    ["refs/", "refs/tags/", "refs/heads/"]
        .map(|before| format!("{before}{rev}"))
        .to_vec()
}

/// The commit that `rev` names in a listing of git-ls-remote(1): `object TAB ref`. For an annotated
/// tag, a line with `ref^{}` gives the tagged commit.
fn named_in(listing: &str, rev: &str) -> Option<String> {
    let object = |name: &str| {
        let mut lines = listing.lines().filter_map(|line| line.split_once('\t'));
        lines
            .find(|(_, listed)| *listed == name)
            .map(|(object, _)| object.to_owned())
    };
    refs(rev)
        .iter()
        .find_map(|name| object(&format!("{name}^{{}}")).or_else(|| object(name)))
}

/// What `object` is: `commit`, `tree`, `blob` or `tag`. `None` where there is no such object.
async fn kind_of(directory: &Path, object: &str) -> Option<String> {
    let told = reading_git()
        .args(["--git-dir".as_ref(), directory.as_os_str()])
        .args(["cat-file", "-t", object])
        .output()
        .await;
    let told = told.ok().filter(|told| told.success)?;
    Some(String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

/// The error for a name, mostly a tag, of something else than a commit.
fn no_commit(rev: &str, kind: &str) -> Error {
    let what = match kind {
        "blob" => "a blob: the contents of one file",
        "tree" => "a tree: a directory without a commit",
        other => other,
    };
    Error::new(format!("{rev:?} names {what}, and no commit"))
        .hint("name a branch, a commit or a tag of a commit in storage.content.rev")
}

/// Adds a hint for the most common errors of ssh(1) and git. Nobody is there to enter a password.
fn with_way_out(error: Error) -> Error {
    let says = |words: &str| error.message.contains(words);
    let hint = if says("cannot run ssh") {
        "install ssh: apt-get install openssh-client, or dnf install openssh-clients"
    } else if says("SSL certificate problem") || says("certificate verification failed") {
        "install ca-certificates, and the certificate of the authority that signed the server's"
    } else if says("Could not resolve host") {
        "no name server that this VM asks knows that host: see /etc/resolv.conf, and storage.content.git"
    } else if says("Host key verification failed") {
        "this VM does not know the server's key: get it by ssh-keyscan, compare it with what the server's operator says, and add it to /etc/ssh/ssh_known_hosts"
    } else if says("Permission denied (publickey") {
        "give root's key (/root/.ssh) read access to the repository: a deploy key"
    } else if says("could not read Username") || says("Authentication failed") {
        "the repository is not open to everybody, or is not there: use its ssh address with a deploy key of root's"
    } else {
        "is storage.content.git right, and reachable from this VM?"
    };
    error.hint(hint)
}

/// git that fetches nothing. Otherwise git would fetch a missing object as the repository's own
/// configuration says, with a command of its choice (gitprotocol, partial clones).
fn reading_git() -> Helper<'static> {
    git().args(["-c", "protocol.allow=never"])
}

/// git without hooks and without background work. It trusts a repository of another owner, because
/// it only reads objects.
fn git() -> Helper<'static> {
    Helper::new("git").args([
        "-c",
        "safe.directory=*",
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "gc.auto=0",
        "-c",
        "maintenance.auto=false",
        "-c",
        "core.fsmonitor=false",
        "-c",
        "transfer.fsckObjects=true",
        // Larger files go through git piece by piece. Otherwise git holds files of up to 512 MiB in
        // memory as a whole.
        "-c",
        "core.bigFileThreshold=1m",
        "-c",
        "core.deltaBaseCacheLimit=16m",
        // Nor is the whole pack mapped.
        "-c",
        "core.packedGitWindowSize=1m",
        "-c",
        "core.packedGitLimit=16m",
    ])
}

/// Whether `line` is a progress line of git or the server, such as `Receiving objects:  42% (5/12),
/// 1.20 MiB | 600.00 KiB/s` (git's progress.c). Its amount goes to `tell`.
fn is_progress(line: &str, tell: Tell<'_>) -> bool {
    let line = line.strip_prefix("remote: ").unwrap_or(line).trim_end();
    if let Some(amount) = amount(line) {
        tell(amount);
        return true;
    }
    line.ends_with(", done.") || line.starts_with("Total ")
}

fn amount(line: &str) -> Option<String> {
    let (title, rest) = line.split_once(": ")?;
    let (percent, rest) = rest.split_once("% (")?;
    let (counts, rest) = rest.split_once(')')?;
    let (_, total) = counts.split_once('/')?;
    let percent: u8 = percent.trim().parse().ok()?;
    let total: u64 = total.parse().ok()?;
    let size = rest
        .strip_prefix(", ")
        .and_then(|rest| rest.split_once(" | "))
        .map(|(size, _)| format!(", {size}"))
        .unwrap_or_default();
    Some(format!(
        "{} {percent}% of {total}{size}",
        title.to_lowercase()
    ))
}

/// Where git's own files of a repository are. `.git` of a linked work tree (git-worktree(1)) or of a
/// repository with a separate directory is a file that names the place, and git follows it.
fn git_directory(repository: &Path) -> PathBuf {
    let inner = repository.join(".git");
    if inner.exists() {
        inner
    } else {
        repository.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_deployed_commit_is_known_without_git() {
        let commit = "a".repeat(40);
        let directory = tempfile::tempdir().unwrap();
        let heads = directory.path().join("refs/heads");
        std::fs::create_dir_all(&heads).unwrap();
        std::fs::write(heads.join("main"), format!("{commit}\n")).unwrap();
        let source = Source {
            git: directory.path().display().to_string(),
            rev: "main".to_owned(),
        };
        // git itself would refuse: a repository has a HEAD and objects.
        assert_eq!(source.resolve(Some(&commit)).await.unwrap(), commit);
        for deployed in [None, Some("b".repeat(40).as_str())] {
            assert!(source.resolve(deployed).await.is_err());
        }
    }

    /// A repository with a commit of these files, and a tag on a blob and on a tree of it.
    fn repository(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let file = directory.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "x").unwrap();
        }
        for arguments in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["add", "."],
            &["commit", "--quiet", "--message=one"],
            &["tag", "light", "HEAD:a.js"],
            &["tag", "--annotate", "--message=x", "heavy", "HEAD:a.js"],
            &["tag", "tree", "HEAD:app"],
        ] {
            let status = std::process::Command::new("git")
                .current_dir(directory.path())
                .args(["-c", "user.name=x", "-c", "user.email=x@example.org"])
                .args(arguments)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .status();
            assert!(status.unwrap().success(), "{arguments:?}");
        }
        directory
    }

    #[tokio::test]
    async fn what_is_no_commit_and_no_directory_is_told_with_what_is_meant() {
        let repository = repository(&["a.js", "app/server.js", "lib/db/pool.js"]);
        let source = |rev: &str| Source {
            git: repository.path().display().to_string(),
            rev: rev.to_owned(),
        };
        for (rev, said) in [
            ("light", "\"light\" names a blob"),
            ("heavy", "\"heavy\" names a blob"),
            ("tree", "\"tree\" names a tree"),
            ("mian", "has no revision \"mian\""),
        ] {
            let error = source(rev).resolve(None).await.unwrap_err();
            assert!(error.message.contains(said), "{error}");
            assert!(error.hint.unwrap().contains("storage.content.rev"), "{rev}");
        }
        let commit = source("main").resolve(None).await.unwrap();
        let revision = source("main").known(&commit);
        for (subdir, said) in [
            ("ap", "no directory ap; the nearest is app"),
            ("App", "no directory App; the nearest is app"),
            ("db", "no directory db; the nearest is lib/db"),
            ("app/server.js", "app/server.js is a file or a link"),
        ] {
            let error = revision.files(Some(Path::new(subdir))).await.unwrap_err();
            assert!(error.message.contains(said), "{error}");
            assert!(error.hint.unwrap().contains("subdir = \""), "{subdir}");
        }
        let files = revision.files(Some(Path::new("app"))).await.unwrap();
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn ssh_is_needed_only_where_git_runs_it() {
        for (git, needs) in [
            ("ssh://git@example.org/a.git", true),
            ("git@example.org:a.git", true),
            ("https://example.org/a.git", false),
            ("/srv/a.git", false),
            ("file:///srv/a.git", false),
        ] {
            let rev = "main".to_owned();
            let source = Source {
                git: git.to_owned(),
                rev,
            };
            assert_eq!(source.is_over_ssh(), needs, "{git}");
        }
    }

    fn git_in(directory: &Path, arguments: &[&str]) {
        let output = std::process::Command::new("git")
            .current_dir(directory)
            .args(["-c", "user.name=x", "-c", "user.email=x@example.org"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    #[tokio::test]
    async fn a_repository_is_read_wherever_its_git_directory_is() {
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        let init = ["init", "--quiet", "--initial-branch=main"];
        let separate = [&init[..], &["--separate-git-dir=away", "plain"]].concat();
        git_in(work.path(), &separate);
        std::fs::write(at("plain/file"), "text").unwrap();
        git_in(&at("plain"), &["add", "file"]);
        git_in(&at("plain"), &["commit", "--quiet", "--message=one"]);
        let worktree = ["worktree", "add", "--quiet", "-b", "other", "../linked"];
        git_in(&at("plain"), &worktree);
        git_in(
            work.path(),
            &["clone", "--quiet", "--bare", "plain", "bare"],
        );
        for (repository, rev) in [
            ("plain", "main"),
            ("linked", "main"),
            ("linked", "other"),
            ("linked", "HEAD"),
            ("away", "main"),
            ("bare", "other"),
        ] {
            let source = Source {
                git: at(repository).display().to_string(),
                rev: rev.to_owned(),
            };
            let commit = source.resolve(None).await.unwrap();
            assert_eq!(source.resolve(Some(&commit)).await.unwrap(), commit);
            let revision = source.in_place(&commit).unwrap();
            let files = revision.files(None).await.unwrap();
            assert_eq!(files[0].path, Path::new("file"), "{repository}");
            assert_eq!(revision.blob(&files[0].blob).await.unwrap(), b"text");
        }
    }

    #[test]
    fn a_tag_and_a_branch_of_one_name_are_told_apart() {
        let listing = "1\trefs/heads/both\n2\trefs/tags/both\n3\trefs/tags/both^{}\n\
            4\trefs/heads/main\n5\trefs/tags/light\n6\trefs/remotes/x/refs/heads/other\n";
        for (rev, commit) in [
            ("both", Some("3")),
            ("tags/both", Some("3")),
            ("heads/both", Some("1")),
            ("refs/heads/both", Some("1")),
            ("main", Some("4")),
            ("light", Some("5")),
            ("other", None),
        ] {
            assert_eq!(named_in(listing, rev).as_deref(), commit, "{rev}");
        }
    }

    #[test]
    fn what_git_says_comes_with_the_way_out() {
        let hint = |message: &str| with_way_out(Error::new(message)).hint.unwrap();
        assert!(hint("git: Host key verification failed.").contains("ssh_known_hosts"));
        assert!(hint("git@x: Permission denied (publickey).").contains("deploy key"));
        assert!(hint("error: cannot run ssh: No such file or directory").contains("install"));
        assert!(hint("fatal: could not read Username for 'https://x'").contains("ssh"));
    }

    #[test]
    fn a_fetch_is_told_by_its_objects_and_its_error_is_kept() {
        let said = [
            "remote: Enumerating objects: 12, done.",
            "remote: Compressing objects:  50% (4/8)        ",
            "Receiving objects:  42% (5/12), 1.20 MiB | 600.00 KiB/s",
            "Resolving deltas: 100% (3/3), done.",
            "remote: Total 12 (delta 0), reused 0 (delta 0), pack-reused 0",
            "fatal: early EOF",
        ];
        let told = std::sync::Mutex::new(Vec::new());
        let tell = |amount| told.lock().unwrap().push(amount);
        let kept: Vec<&str> = said
            .into_iter()
            .filter(|line| !is_progress(line, &tell))
            .collect();
        assert_eq!(kept, ["fatal: early EOF"]);
        assert_eq!(
            *told.lock().unwrap(),
            [
                "compressing objects 50% of 8",
                "receiving objects 42% of 12, 1.20 MiB",
                "resolving deltas 100% of 3"
            ]
        );
    }
}
