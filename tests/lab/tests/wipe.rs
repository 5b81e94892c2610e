//! What of the user data's secrets is left in cloud-init's copies, on a tree like `/var/lib/cloud`, with a stub of
//! cloud-init's own module. On the real one, `first_boot` looks.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// `hunter2`, as it stands in a script.
const SECRET: &str = "aHVudGVyMg";

/// cloud-init's names, as far as the program uses them.
const STUB: &str = r#"
import pickle

class Source:
    def __init__(self, raw):
        self.userdata = self.userdata_raw = raw

def pkl_load(path):
    with open(path, "rb") as file:
        return pickle.load(file)

def pkl_store(source, path):
    with open(path, "wb") as file:
        pickle.dump(source, file)
"#;

/// Makes the copies, in all forms in which cloud-init may have got the user data.
const COPIES: &str = r##"
import base64, gzip, os, sys
from cloudinit import sources
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

script = """#!/bin/sh
echo before
# wasagent secrets begin
base64 -d >/etc/wasagent/share.password <<'end'
aHVudGVyMg==
end
# wasagent secrets end
echo after
"""
plain = "Content-Type: multipart/mixed; boundary=\"x\"\n\n--x\nContent-Type: text/x-shellscript\n\n" + script + "\n--x--\n"
joined = MIMEMultipart()
joined.attach(MIMEText("bootcmd: [date]\n", "cloud-config", "utf-8"))
joined.attach(MIMEText(script, "x-shellscript", "utf-8"))
joined = joined.as_bytes()
assert b"hunter2" not in joined and b"aHVudGVyMg" not in joined
mixed = plain.replace("--x--", "--x\nContent-Type: text/x-shellscript\nContent-Transfer-Encoding: base64\n\n"
                      + base64.b64encode(script.encode()).decode() + "\n--x--")
raw = {"mixed": mixed, "plain": plain, "bytes": plain.encode(), "gzip": gzip.compress(plain.encode()), "joined": joined,
       "packed": gzip.compress(joined), "other": "#cloud-config\n{}\n"}
for name, data in raw.items():
    instance = sys.argv[1] + "/instances/" + name
    os.makedirs(instance + "/scripts/vendor")
    data_file = data.encode() if isinstance(data, str) else data
    for file, content in (("user-data.txt", data_file), ("user-data.txt.i", data_file),
                          ("scripts/wasagent-was", script.encode()), ("scripts/vendor/mine", b"#!/bin/sh\n"),
                          ("scripts/cut", gzip.compress(b"#!/bin/sh\n")[:12]), ("cloud-config.txt", b"{}\n")):
        if name == "other" and file == "scripts/wasagent-was":
            continue
        with open(instance + "/" + file, "wb") as written:
            written.write(content)
        os.chmod(instance + "/" + file, 0o700 if "scripts" in file else 0o600)
    sources.pkl_store(sources.Source(data), instance + "/obj.pkl")
os.makedirs(sys.argv[1] + "/instances/without-a-source")
"##;

/// Prints everything that is left, decoded as far as it can be.
const LEFT: &str = r##"
import email, glob, gzip, os, sys
from cloudinit import sources

def decoded(data):
    data = data.encode() if isinstance(data, str) else data
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except EOFError:
        return b""
    parts = [part.get_payload(decode=True) for part in email.message_from_bytes(data).walk() if not part.is_multipart()]
    return data + b"".join(parts)

for name in sorted(glob.glob(sys.argv[1] + "/instances/*/**", recursive=True)):
    if name.endswith(".pkl"):
        source = sources.pkl_load(name)
        text = decoded(source.userdata_raw) + decoded(source.userdata or b"")
    elif os.path.isfile(name):
        text = decoded(open(name, "rb").read())
    else:
        continue
    print("==", name[len(sys.argv[1]):])
    print(text.decode())
"##;

fn python(work: &Path, program: &str) -> String {
    let output = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .arg(work.join("cloud"))
        .env("PYTHONPATH", work)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Every file with what would show that it was written.
fn state(directory: &Path) -> Vec<(String, u64, u32, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(state(&path));
            continue;
        }
        let meta = fs::metadata(&path).unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        all.push((
            path.display().to_string(),
            meta.ino(),
            mode,
            fs::read(&path).unwrap(),
        ));
    }
    all.sort();
    all
}

#[test]
fn no_form_of_the_user_data_keeps_the_secrets() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    fs::create_dir_all(work.join("cloudinit")).unwrap();
    fs::write(work.join("cloudinit/__init__.py"), "").unwrap();
    fs::write(work.join("cloudinit/sources.py"), STUB).unwrap();
    python(work, COPIES);
    let before = state(&work.join("cloud"));
    // Six forms of the user data, and four copies of each.
    let sections = |left: &str| left.split("== ").filter(|one| one.contains(SECRET)).count();
    assert_eq!(sections(&python(work, LEFT)), 24);

    let wipe = include_str!("../../../src/cli/userdata/wipe.py");
    python(work, wipe);
    let left = python(work, LEFT);
    assert_eq!(sections(&left), 0, "{left}");
    // What else was in it is there, and the scripts are still scripts.
    assert!(left.matches("bootcmd: [date]").count() >= 6, "{left}");
    assert_eq!(
        left.matches("echo before").count(),
        left.matches("echo after").count()
    );
    assert!(left.contains("# wasagent secrets wiped"));

    let after = state(&work.join("cloud"));
    for (was, is) in before.iter().zip(&after) {
        assert_eq!((&was.0, was.2), (&is.0, is.2), "the mode of a file");
        let had_none = ["/other/", "cloud-config.txt", "vendor/mine", "scripts/cut"]
            .iter()
            .any(|part| was.0.contains(part));
        if had_none {
            assert_eq!(was, is, "a file without secrets");
        }
    }
    // cloud-init writes its copies anew at each boot, and the program runs at each.
    python(work, wipe);
    assert_eq!(state(&work.join("cloud")), after, "a second time");
}
