//! Objects of git in a bare repository, written byte by byte (gitformat-pack(5), gitrepository-layout(5)).

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

/// The name of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Name([u8; 20]);

impl Name {
    pub fn of(kind: &str, bytes: &[u8]) -> Self {
        let mut hash = Sha1::new();
        hash.update(header(kind, bytes));
        hash.update(bytes);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn header(kind: &str, bytes: &[u8]) -> String {
    format!("{kind} {}\0", bytes.len())
}

/// A bare repository, `repository` in a directory.
pub struct Repository {
    above: PathBuf,
    objects: Cell<u64>,
    number: Cell<u64>,
}

impl Repository {
    /// Makes it anew.
    pub fn new(above: &Path) -> Self {
        let repository = Self {
            above: above.to_owned(),
            objects: Cell::new(0),
            number: Cell::new(0),
        };
        let path = repository.path();
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("refs/heads")).unwrap();
        fs::create_dir_all(path.join("objects")).unwrap();
        fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(path.join("config"), "[core]\n\tbare = true\n").unwrap();
        repository
    }

    pub fn path(&self) -> PathBuf {
        self.above.join("repository")
    }

    /// How many were written.
    pub fn objects(&self) -> u64 {
        self.objects.get()
    }

    /// Bytes that nothing else has.
    pub fn unique(&self) -> Vec<u8> {
        self.number.set(self.number.get() + 1);
        format!("unique-{}", self.number.get()).into_bytes()
    }

    /// A file's name with its `@` filled in: the directory that the repository is in.
    pub fn named(&self, name: &[u8]) -> Vec<u8> {
        match name.strip_prefix(b"@/") {
            Some(name) => self
                .above
                .join(std::str::from_utf8(name).unwrap())
                .into_os_string()
                .into_encoded_bytes(),
            None => name.to_vec(),
        }
    }

    pub fn name(&self, kind: &str, bytes: &[u8]) -> Name {
        Name::of(kind, bytes)
    }

    pub fn write(&self, kind: &str, bytes: &[u8]) -> Name {
        self.write_as(&self.name(kind, bytes), Some((kind, bytes)))
    }

    /// Writes an object under a name, whether or not it is the name of these bytes. Without an object, the file is broken.
    pub fn write_as(&self, name: &Name, object: Option<(&str, &[u8])>) -> Name {
        let hex = name.to_string();
        let directory = self.path().join("objects").join(&hex[..2]);
        let path = directory.join(&hex[2..]);
        if !path.exists() {
            fs::create_dir_all(directory).unwrap();
            let file = match object {
                Some((kind, bytes)) => deflated(&[header(kind, bytes).as_bytes(), bytes].concat()),
                None => b"\x78\x01broken".to_vec(),
            };
            fs::write(path, file).unwrap();
            self.objects.set(self.objects.get() + 1);
        }
        name.clone()
    }

    /// Adds an entry to the bytes of a tree.
    pub fn entry(&self, tree: &mut Vec<u8>, mode: u32, name: &[u8], object: &Name) {
        tree.extend(format!("{mode:o} ").bytes());
        tree.extend(name);
        tree.push(0);
        tree.extend(object.0);
    }

    /// A commit of this tree, which becomes `main`.
    pub fn commit(&self, tree: &Name) -> Name {
        let text = format!(
            "tree {tree}\nauthor x <x@example.org> 0 +0000\ncommitter x <x@example.org> 0 +0000\n\nx\n"
        );
        let commit = self.write("commit", text.as_bytes());
        fs::write(self.path().join("refs/heads/main"), format!("{commit}\n")).unwrap();
        commit
    }
}

/// The bytes in the format of zlib (RFC 1950), in blocks that are not compressed (RFC 1951, 3.2.4).
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap();
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    out.extend((b << 16 | a).to_be_bytes());
    out
}
