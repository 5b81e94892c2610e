//! The tier around the guests, for real: the image in the registry, the page out of the image, the balancer before two
//! servers, the seed disk as a guest would read it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use wasagent_lab::balancer::{Balancer, http_get};
use wasagent_lab::cache::Cache;
use wasagent_lab::process::{Daemon, command, ok, until};
use wasagent_lab::registry::Registry;
use wasagent_lab::{image, sample_app, user_data};

const SHORT: Duration = Duration::from_secs(5);

/// A namespace of its own with the addresses of the guide, gone with the value.
struct Namespace(String);

impl Namespace {
    fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("lab-tier-{}-{count}", std::process::id()));
        ok(command(["ip", "netns", "add", &namespace.0])).unwrap();
        for words in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", "tier0", "type", "bridge"],
            &["address", "add", "192.168.2.1/24", "dev", "tier0"],
            &["address", "add", "192.168.2.11/24", "dev", "tier0"],
            &["address", "add", "192.168.2.12/24", "dev", "tier0"],
            &["address", "add", "192.168.2.26/24", "dev", "tier0"],
            &["link", "set", "tier0", "up"],
        ] {
            let mut ip = command(["ip", "-n", &namespace.0]);
            ip.args(words);
            ok(ip).unwrap();
        }
        namespace
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut inside = command(["ip", "netns", "exec", &self.0]);
        inside.args(words);
        inside
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ok(command(["ip", "netns", "delete", &self.0]));
    }
}

/// A server that answers every request with its name, until it is dropped.
struct Answering {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    fn start(namespace: &Namespace, name: &'static str, address: &'static str) -> Self {
        let handle = File::open(Path::new("/run/netns").join(&namespace.0)).unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let (bound, is_bound) = channel();
        let thread = thread::spawn(move || {
            // It moves this thread alone, and the sockets that it opens from now on.
            setns(handle, CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind(address).unwrap();
            listener.set_nonblocking(true).unwrap();
            bound.send(()).unwrap();
            while !told.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => answer(stream, name),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        is_bound.recv().unwrap();
        let thread = Some(thread);
        Self { ends, thread }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A check of the balancer connects and says nothing, so neither reading nor writing has to succeed.
fn answer(mut stream: TcpStream, name: &str) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(SHORT));
    if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
        let length = name.len();
        let _ = write!(
            stream,
            "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{name}"
        );
    }
}

/// The tree that a guest would unpack from the image.
fn unpack_layer(archive: &Path, into: &Path) {
    let mut layer = String::new();
    for entry in tar::Archive::new(File::open(archive).unwrap())
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        if name == "manifest.json" {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
            layer = manifest[0]["Layers"][0].as_str().unwrap().to_owned();
        } else if name == layer {
            tar::Archive::new(entry).unpack(into).unwrap();
            return;
        }
    }
    panic!("the archive holds no layer");
}

/// The sample application as the storage guest checks it out.
fn check_out(repository: &Path, into: &Path) -> PathBuf {
    let mut clone = command(["git", "clone", "--quiet"]);
    clone.arg(repository).arg(into);
    ok(clone).unwrap();
    into.join(sample_app::SUBDIR)
}

#[test]
fn the_registry_serves_the_image_and_keeps_it() {
    let cache = Cache::open().unwrap();
    let archive = image::container_image(&cache).unwrap();
    let namespace = Namespace::create();
    let work = tempfile::tempdir().unwrap();
    let storage = work.path().join("storage");
    let start =
        || Registry::start(&namespace.0, work.path(), &storage, "192.168.2.1:5001").unwrap();

    let registry = start();
    assert!(registry.push(&archive, image::NAME_IN_REGISTRY).unwrap());
    let digest = image::manifest_digest(&archive).unwrap();
    assert_eq!(registry.digest(image::NAME_IN_REGISTRY).unwrap(), digest);
    drop(registry);

    let registry = start();
    assert!(!registry.push(&archive, image::NAME_IN_REGISTRY).unwrap());

    // Both ways of reading the archive itself lead to the same configuration.
    for way in [
        format!("oci-archive:{}:{}", archive.display(), image::TAG),
        format!("docker-archive:{}", archive.display()),
    ] {
        let inspected = ok(command([
            "skopeo",
            "--insecure-policy",
            "inspect",
            "--config",
            &way,
        ]));
        let config: serde_json::Value = serde_json::from_str(&inspected.unwrap().stdout).unwrap();
        assert_eq!(config["config"]["WorkingDir"], "/usr/src/app", "{way}");
        assert_eq!(
            config["config"]["Cmd"],
            serde_json::json!(["node", "server.js"]),
            "{way}"
        );
    }
}

#[test]
fn the_image_serves_the_page() {
    let cache = Cache::open().unwrap();
    let archive = image::container_image(&cache).unwrap();
    let repository = sample_app::repository(&cache).unwrap();
    let work = tempfile::tempdir().unwrap();
    let root = work.path().join("root");
    unpack_layer(&archive, &root);
    let application = check_out(&repository, &work.path().join("clone"));
    fs::remove_dir(root.join("usr/src/app")).unwrap();
    fs::rename(application, root.join("usr/src/app")).unwrap();

    let namespace = Namespace::create();
    let root = root.to_str().unwrap();
    let node = [
        "unshare",
        "--root",
        root,
        "--wd=/usr/src/app",
        "/usr/bin/node",
        "server.js",
    ];
    let mut node = namespace.command(&node);
    node.env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    // It is made to end with an error below, and what it says of that would look like a failure of the test.
    node.stderr(Stdio::null());
    let mut server = Daemon::start(node).unwrap();
    let page = |path: &str| {
        http_get(
            &namespace.0,
            &format!("http://192.168.2.11:3000{path}"),
            SHORT,
        )
    };
    let (status, body) = until("the page", Duration::from_secs(30), || Ok(page("/").ok())).unwrap();
    assert_eq!(status, 200);
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let line = format!("Current WAS Container Host Name: {}", hostname.trim());
    assert!(body.contains(&line), "{body}");
    for path in ["/style.css", "/login", "/signUp"] {
        assert_eq!(page(path).unwrap().0, 200, "{path}");
    }
    assert_eq!(page("/no-such-page").unwrap().0, 404);

    // Like the original: a form without a database ends the process.
    let form = [
        "curl",
        "--silent",
        "--max-time",
        "20",
        "--data",
        "name=a&password=b",
    ];
    let mut post = namespace.command(&form);
    post.arg("http://192.168.2.11:3000/signUp");
    assert!(!ok(post).is_ok_and(|output| output.stdout.contains("Signed up")));
    until("the end of node", SHORT, || Ok(server.ended())).unwrap();
}

#[test]
fn the_balancer_alternates_and_sees_a_refused_connection_only() {
    let namespace = Namespace::create();
    let work = tempfile::tempdir().unwrap();
    let _first = Answering::start(&namespace, "was-01", "192.168.2.11:5000");
    let second = Answering::start(&namespace, "was-02", "192.168.2.12:5000");
    let servers = [
        ("was-01", "192.168.2.11:5000"),
        ("was-02", "192.168.2.12:5000"),
    ];
    let balancer =
        Balancer::start(&namespace.0, work.path(), "192.168.2.26:5000", &servers).unwrap();
    let ask = || {
        http_get(&namespace.0, "http://192.168.2.26:5000/", SHORT)
            .unwrap()
            .1
    };
    let mut answers: Vec<String> = (0..6).map(|_| ask()).collect();
    answers.sort();
    assert_eq!(
        answers,
        ["was-01", "was-01", "was-01", "was-02", "was-02", "was-02"]
    );
    for (name, _) in servers {
        balancer.wait_for(name, "UP", SHORT).unwrap();
    }

    drop(second);
    let took = balancer
        .wait_for("was-02", "DOWN", Duration::from_secs(15))
        .unwrap();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!((0..4).all(|_| ask() == "was-01"));
    let _second = Answering::start(&namespace, "was-02", "192.168.2.12:5000");
    balancer
        .wait_for("was-02", "UP", Duration::from_secs(15))
        .unwrap();
}

#[test]
fn the_seed_disk_carries_everything_unchanged() {
    let work = tempfile::tempdir().unwrap();
    let agent = work.path().join("some=agent");
    fs::write(&agent, b"\x7fELF\0\xff").unwrap();
    let text = "#!/bin/sh\necho \"a'b\"c: #\n";
    let extra: [(&str, &Path); 1] = [("agent", &agent)];
    let seed = user_data::seed_disk(work.path(), "was-01", text, &extra).unwrap();
    let read = |name: &str| {
        let mut isoinfo = command(["isoinfo", "-R", "-x", &format!("/{name}"), "-i"]);
        isoinfo.arg(&seed);
        isoinfo.output().unwrap().stdout
    };
    assert_eq!(read("user-data"), text.as_bytes());
    assert_eq!(read("agent"), b"\x7fELF\0\xff");
    assert!(
        String::from_utf8(read("meta-data"))
            .unwrap()
            .contains("local-hostname: \"was-01\"")
    );
    let mut blkid = command([
        "blkid",
        "--probe",
        "--match-tag",
        "LABEL",
        "--output",
        "value",
    ]);
    blkid.arg(&seed);
    assert_eq!(ok(blkid).unwrap().stdout.trim(), user_data::NO_CLOUD);
}
