//! The application that the tier serves, as the git repository that the storage VM clones. It is our own, in the shape
//! of the guide's: Express on port 3000, the same object literal in two files, an unrelated sample beside it.
//! Most guests have no npm, so the repository carries the modules that `npm ci` lays out, less what no server reads;
//! another, for a guest that has, is without them, as the guide's is.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::image::hex;
use crate::process::{ok, ok_with};

/// The sub-directory of the repository that holds the application: `storage.content.subdir` of the tier file.
pub const SUBDIR: &str = "linux-3tier-example";

/// The branch of the repository: `storage.content.rev` of the tier file.
pub const BRANCH: &str = "main";

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sample-app");

/// A fixed moment, so that the same files give the same commit everywhere.
const FIRST_COMMIT_SECONDS: u64 = 1_700_000_000;

/// What `ejs` brings for its command line alone, with the dependencies of that.
const MODULES_OF_A_COMMAND_LINE: [&str; 7] = [
    "async",
    "balanced-match",
    "brace-expansion",
    "filelist",
    "jake",
    "minimatch",
    "picocolors",
];

/// Directories of a module that its `require` never enters.
const NEVER_REQUIRED: [&str; 8] = [
    ".github",
    "benchmark",
    "bin",
    "docs",
    "example",
    "examples",
    "test",
    "tests",
];

/// Until npm has fetched and laid out the modules.
const NPM: Duration = Duration::from_secs(300);

/// The bare repository of the sample application, made on the first call and kept in the cache under the hash of the
/// application's files. Needs `git` and, for the first call, `npm` with a registry.
///
/// The cached repository is shared: a test that commits works on its own [`copy`].
pub fn repository(cache: &Cache) -> Result<PathBuf> {
    let recipe = recipe(Path::new(SOURCE))?;
    let artefact = cache.artefact("sample-app", &recipe, |into| build(into, Modules::Laid))?;
    Ok(artefact.join("repository.git"))
}

/// The same without the modules, which `npm ci` on the guest is to bring. Needs `git` alone.
pub fn repository_to_build(cache: &Cache) -> Result<PathBuf> {
    let recipe = recipe(Path::new(SOURCE))?;
    let artefact = cache.artefact("sample-app-to-build", &recipe, |into| {
        build(into, Modules::Left)
    })?;
    Ok(artefact.join("repository.git"))
}

/// The lock file of the application, by which npm fetches its modules.
pub const LOCK_FILE: &str = include_str!("../sample-app/package-lock.json");

/// The tables of the application, in MariaDB's words.
pub(crate) const SCHEMA: &str = include_str!("../sample-app/schema.sql");

/// Whether a repository carries the application's modules.
enum Modules {
    Laid,
    Left,
}

fn build(into: &Path, modules: Modules) -> Result<()> {
    let work = tempfile::tempdir_in(into)?;
    let tree = work.path().join("tree");
    let application = tree.join(SUBDIR);
    copy_tree(Path::new(SOURCE), &application)?;
    if let Modules::Laid = modules {
        install_modules(&application)?;
    }
    write_decoy(&tree)?;

    let bare = into.join("repository.git");
    let mut init = git(&bare);
    init.args(["init", "--quiet", "--bare", "--template=", "-b", BRANCH]);
    ok(init)?;
    let index = work.path().join("index");
    let mut add = git(&bare);
    add.env("GIT_INDEX_FILE", &index)
        .arg("--work-tree")
        .arg(&tree)
        .args(["add", "--all", "--force", "."])
        .current_dir(&tree);
    ok(add)?;
    commit_index(&bare, &index, None, FIRST_COMMIT_SECONDS, "Add the samples")?;
    let mut repack = git(&bare);
    repack.args(["repack", "-a", "-d", "-q"]);
    ok(repack)?;
    Ok(())
}

/// A private copy of a bare repository, for a test that commits to it. `to` must not exist.
pub fn copy(repository: &Path, to: &Path) -> Result<()> {
    ensure!(!to.exists(), "{} exists", to.display());
    copy_tree(repository, to)
}

/// Adds a commit to the branch of a bare repository, which gives the file `path` (from the repository's root) these
/// contents, and returns the commit's name. The date is a minute after the parent's, so the name is the same each time.
pub fn commit_change(
    repository: &Path,
    path: &str,
    contents: &[u8],
    message: &str,
) -> Result<String> {
    let parent = ask(repository, &["rev-parse", &format!("refs/heads/{BRANCH}")])?;
    let date = ask(repository, &["show", "--no-patch", "--format=%ct", &parent])?;
    let date: u64 = date.parse().context("the date of the last commit")?;

    let work = tempfile::tempdir()?;
    let file = work.path().join("contents");
    fs::File::create(&file)?.write_all(contents)?;
    let file = file
        .to_str()
        .context("a temporary directory with a name in UTF-8")?;
    let blob = ask(
        repository,
        &["hash-object", "-w", "--no-filters", "--", file],
    )?;

    let index = work.path().join("index");
    let mut read = git(repository);
    read.env("GIT_INDEX_FILE", &index)
        .args(["read-tree", &parent]);
    ok(read)?;
    let mut update = git(repository);
    update
        .env("GIT_INDEX_FILE", &index)
        .args(["update-index", "--add", "--cacheinfo"])
        .arg(format!("100644,{blob},{path}"));
    ok(update)?;
    commit_index(repository, &index, Some(&parent), date + 60, message)
}

fn commit_index(
    repository: &Path,
    index: &Path,
    parent: Option<&str>,
    date: u64,
    message: &str,
) -> Result<String> {
    let mut write = git(repository);
    write.env("GIT_INDEX_FILE", index).arg("write-tree");
    let tree = ok(write)?.stdout.trim_end().to_owned();
    let mut commit = git(repository);
    for who in ["AUTHOR", "COMMITTER"] {
        commit
            .env(format!("GIT_{who}_NAME"), "Lab")
            .env(format!("GIT_{who}_EMAIL"), "lab@localhost")
            .env(format!("GIT_{who}_DATE"), format!("{date} +0000"));
    }
    commit.args(["commit-tree", &tree, "-m", message]);
    if let Some(parent) = parent {
        commit.args(["-p", parent]);
    }
    let commit = ok(commit)?.stdout.trim_end().to_owned();
    let branch = format!("refs/heads/{BRANCH}");
    ask(repository, &["update-ref", &branch, &commit])?;
    Ok(commit)
}

/// What git answers, without the end of the line.
fn ask(repository: &Path, question: &[&str]) -> Result<String> {
    let mut command = git(repository);
    command.args(question);
    Ok(ok(command)?.stdout.trim_end().to_owned())
}

/// Git on one repository, deaf to the configuration and the environment of whoever runs the lab.
fn git(repository: &Path) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "safe.directory=*", "--git-dir"])
        .arg(repository);
    command
}

fn install_modules(application: &Path) -> Result<()> {
    // No links: a CIFS mount without `mfsymlinks` cannot hold one.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--omit=dev", "--ignore-scripts", "--no-bin-links"])
        .args(["--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(application);
    ok_with(npm, b"", NPM)?;
    let modules = application.join("node_modules");
    for module in MODULES_OF_A_COMMAND_LINE {
        fs::remove_dir_all(modules.join(module)).with_context(|| format!("trimming {module}"))?;
    }
    // It lists what has just been removed.
    fs::remove_file(modules.join(".package-lock.json")).context("trimming npm's own lock file")?;
    trim(&modules)
}

/// Removes what no `require` reads. Licences stay, so do the modules' `package.json`.
fn trim(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if NEVER_REQUIRED.contains(&name(&path)) {
                fs::remove_dir_all(&path)?;
            } else {
                trim(&path)?;
            }
        } else if !is_read_by_a_server(name(&path)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn is_read_by_a_server(file: &str) -> bool {
    let lower = file.to_ascii_lowercase();
    if lower.starts_with("licen") || lower.starts_with("notice") {
        return true;
    }
    let configuration = file.starts_with('.') || file == "tsconfig.json" || file == "bower.json";
    let code = [".js", ".cjs", ".mjs", ".json"]
        .iter()
        .any(|ending| file.ends_with(ending));
    code && !configuration && !file.ends_with(".min.js")
}

/// A second sample beside the application, as in the guide's repository: nothing of it may reach the share.
fn write_decoy(tree: &Path) -> Result<()> {
    fs::write(tree.join("README.md"), "# Samples\n\nOne directory each.\n")?;
    let decoy = tree.join("linux-2tier-example");
    fs::create_dir_all(&decoy)?;
    fs::write(
        decoy.join("server.js"),
        "throw new Error('this is not the sample that the tier file names');\n",
    )?;
    Ok(())
}

/// What the repository follows from: the application's files, and the steps, which are this file.
fn recipe(source: &Path) -> Result<String> {
    let mut recipe = include_str!("sample_app.rs").to_owned();
    for path in files(source)? {
        let contents = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let hash = hex(&Sha256::digest(contents));
        recipe += &format!("{hash} {}\n", path.strip_prefix(source)?.display());
    }
    Ok(recipe)
}

/// The files of a directory and its sub-directories, sorted. What npm and git keep for themselves is no part of it.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        match name(&path) {
            "node_modules" | ".gitignore" => {}
            _ if path.is_dir() => found.extend(files(&path)?),
            _ => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    // Git does not know a repository without `refs/`, and that directory is empty once the references are packed.
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.is_dir() && name(&path) != "node_modules" {
            fs::create_dir_all(to.join(name(&path)))?;
        }
    }
    for file in files(from)? {
        let target = to.join(file.strip_prefix(from)?);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(&file, &target).with_context(|| format!("copying {}", file.display()))?;
    }
    Ok(())
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_reads_code_and_needs_the_licences() {
        for file in [
            "index.js",
            "require.mjs",
            "package.json",
            "LICENSE",
            "license.txt",
        ] {
            assert!(is_read_by_a_server(file), "{file}");
        }
        for file in [
            "README.md",
            "index.d.ts",
            ".eslintrc",
            "ejs.min.js",
            "x.map",
        ] {
            assert!(!is_read_by_a_server(file), "{file}");
        }
    }

    #[test]
    fn both_routers_hold_the_literal_of_the_guide() {
        let literal = "var connection = mysql.createPool({\n\thost: '10.10.1.80',\n\tuser: 'root',\n\tpassword: 'change-me',\n\tport: '3306',\n\tdatabase: 'galeradb'\n});\n";
        for router in ["login", "signUp"] {
            let file = Path::new(SOURCE)
                .join("router")
                .join(router)
                .join("index.js");
            assert!(fs::read_to_string(file).unwrap().contains(literal));
        }
    }

    #[test]
    fn the_lock_file_names_no_registry() {
        let lock = fs::read_to_string(Path::new(SOURCE).join("package-lock.json")).unwrap();
        assert!(!lock.contains("\"resolved\""));
    }

    #[test]
    fn a_change_is_one_commit_with_the_same_name_each_time() {
        let mut names = Vec::new();
        for _ in 0..2 {
            let work = tempfile::tempdir().unwrap();
            let bare = work.path().join("a.git");
            ask(
                &bare,
                &["init", "--quiet", "--bare", "--template=", "-b", BRANCH],
            )
            .unwrap();
            let index = work.path().join("index");
            let mut empty = git(&bare);
            empty
                .env("GIT_INDEX_FILE", &index)
                .args(["read-tree", "--empty"]);
            ok(empty).unwrap();
            commit_index(&bare, &index, None, FIRST_COMMIT_SECONDS, "Begin").unwrap();
            let copied = work.path().join("b.git");
            copy(&bare, &copied).unwrap();
            let commit = commit_change(&copied, "a/b.txt", b"one\n", "Add b").unwrap();
            let shown = ask(&copied, &["show", "main:a/b.txt"]).unwrap();
            assert_eq!(shown, "one");
            names.push(commit);
        }
        assert_eq!(names[0], names[1]);
    }
}
