//! Reads passdb.tdb, Samba's account database, without a helper: every plan checks an account's
//! password, and `pdbedit` takes longer than all the rest of a plan.
//!
//! Only certain answers are given. A file that is being written, that a crash left in need of
//! recovery, or that differs from the layout below in any way is [`Unclear`], and `pdbedit` is
//! asked. The layout of the file is in Samba's lib/tdb/common/tdb_private.h, and of a record in
//! `SAMU_BUFFER_FORMAT_V3` in source3/passdb/passdb.c; both are unchanged since Samba 3.2.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use zeroize::Zeroizing;

use super::nt_hash::NtHash;

/// A few accounts take 0.4 MB.
const LARGEST: u64 = 16 << 20;

/// `struct tdb_header`; after it comes the hash table, which begins with the free list.
const HEADER: u64 = 168;
const MAGIC_FOOD: &[u8; 10] = b"TDB file\n\0";
const VERSION: u32 = 0x2601_1967 + 6;

/// `struct tdb_record`, before the key and the data.
const RECORD: u64 = 24;
const RECORD_MAGIC: u32 = 0x2601_1999;
const DEAD_MAGIC: u32 = 0xFEE1_DEAD;
const RECOVERY_MAGIC: u32 = 0xf53b_c0e7;

/// The key of the records' version (source3/passdb/pdb_tdb.c), and the version that is read here.
const VERSION_KEY: &[u8] = b"INFO/version\0";
const TDBSAM_VERSION: [u8; 4] = 4_u32.to_le_bytes();

/// An account as Samba stores it.
pub struct SamAccount {
    /// `None` for an account without a password.
    pub nt_hash: Option<NtHash>,
    /// `ACB_…` in librpc/idl/samr.idl.
    pub flags: u32,
    /// When the account expires; seconds since 1970, as the next.
    pub kickoff: u32,
    /// When the password was set; 0: it must be changed.
    pub password_set: u32,
    /// Whether all hours of the week are open to it.
    pub all_hours: bool,
    /// The names of the only clients that may use it; empty: all may.
    pub workstations: String,
}

/// Why the file gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclear(pub &'static str);

pub type Answer<T> = Result<T, Unclear>;

/// The account `name` in the database at `path`; `None` if it does not exist.
pub fn account(path: &Path, name: &str) -> Answer<Option<SamAccount>> {
    find(&open(path)?, name)
}

/// The data of a record in any database of Samba's (tdb).
pub fn record(path: &Path, key: &[u8]) -> Answer<Option<Zeroizing<Vec<u8>>>> {
    open(path)?.get(key)
}

/// How long the policies of the database at `path` let a password be used; `None` if for ever.
pub fn oldest_password(path: &Path) -> Answer<Option<Duration>> {
    let value = record(path, b"maximum password age\0")?;
    let seconds = value.and_then(|value| word(&value, 0));
    Ok(seconds
        .filter(|&seconds| seconds != 0 && seconds != u32::MAX)
        .map(|seconds| Duration::from_secs(seconds.into())))
}

/// The database between two transactions: a shared lock on the hash table keeps writers out
/// (`tdb_lockall_read`) until it is dropped. The lock belongs to the open file, not to the process,
/// so it neither conflicts with nor releases another thread's lock.
fn open(path: &Path) -> Answer<Database<File>> {
    let unreadable = |_| Unclear("it cannot be read");
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(Unclear("it is no file of that kind"));
    }
    let table = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: HEADER as libc::off_t,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&table)).map_err(|_| Unclear("it is being written"))?;
    // The length is taken under the lock.
    let length = file.metadata().map_err(unreadable)?.len().min(LARGEST);
    Database::new(file, length)
}

fn find<F: FileExt>(database: &Database<F>, name: &str) -> Answer<Option<SamAccount>> {
    let version = database.get(VERSION_KEY)?;
    if version.is_none_or(|version| **version != TDBSAM_VERSION) {
        return Err(Unclear("its records are of another version"));
    }
    let key = format!("USER_{}\0", name.to_ascii_lowercase());
    match database.get(key.as_bytes())? {
        Some(record) => unpack(&record, name).map(Some),
        None => Ok(None),
    }
}

/// Reads only what a question needs: the file is large, of a few accounts as of many.
struct Database<F> {
    file: F,
    length: u64,
    hash_size: u32,
}

impl<F: FileExt> Database<F> {
    /// Checks that this module can read the file, and that no transaction was interrupted.
    fn new(file: F, length: u64) -> Answer<Self> {
        let mut database = Self {
            file,
            length,
            hash_size: 0,
        };
        let unknown = Unclear("its header is of another layout");
        let header = database.part(0, HEADER).ok_or(unknown)?;
        let word = |at| word(&header, at).ok_or(unknown);
        if !header.starts_with(MAGIC_FOOD) || word(32)? != VERSION {
            return Err(unknown);
        }
        let (hash_size, rwlocks, recovery) = (word(36)?, word(40)?, word(44)?);
        let magics = (word(52)?, word(56)?);
        // A different hash function, or mutexes in newer files, also change `rwlocks`.
        let ours = (hash(MAGIC_FOOD), hash(&RECORD_MAGIC.to_le_bytes()));
        if hash_size == 0 || rwlocks != 0 || magics != ours {
            return Err(unknown);
        }
        let magic_of = |record: u32| database.word(u64::from(record) + 20).ok_or(unknown);
        if recovery != 0 && magic_of(recovery)? == RECOVERY_MAGIC {
            return Err(Unclear("a crash left it in need of recovery"));
        }
        database.hash_size = hash_size;
        Ok(database)
    }

    /// The data of the record with this key.
    fn get(&self, key: &[u8]) -> Answer<Option<Zeroizing<Vec<u8>>>> {
        let broken = Unclear("one of its chains is broken");
        let hash = hash(key);
        let bucket = u64::from(hash % self.hash_size) + 1;
        let mut next = self.word(HEADER + bucket * 4).ok_or(broken)?;
        // A chain with more records than fit in the file is circular.
        for _ in 0..=self.length / RECORD {
            if next == 0 {
                return Ok(None);
            }
            let begin = u64::from(next) + RECORD;
            let header = self.part(next.into(), RECORD).ok_or(broken)?;
            let field = |at| word(&header, at).ok_or(broken);
            let magic = field(20)?;
            let belongs = field(16)? % self.hash_size == hash % self.hash_size;
            if !belongs || (magic != RECORD_MAGIC && magic != DEAD_MAGIC) {
                return Err(broken);
            }
            let [length, key_length, data_length] =
                [field(4)?, field(8)?, field(12)?].map(u64::from);
            if begin + length > self.length || key_length + data_length > length {
                return Err(broken);
            }
            if magic == RECORD_MAGIC && field(16)? == hash {
                let found = self.part(begin, key_length).ok_or(broken)?;
                if **found == *key {
                    let data = self.part(begin + key_length, data_length);
                    return data.map(Some).ok_or(broken);
                }
            }
            next = field(0)?;
        }
        Err(broken)
    }

    fn word(&self, at: u64) -> Option<u32> {
        word(&self.part(at, 4)?, 0)
    }

    /// `None` if it is not all in the file.
    fn part(&self, begin: u64, length: u64) -> Option<Zeroizing<Vec<u8>>> {
        if begin.checked_add(length)? > self.length {
            return None;
        }
        let mut part = Zeroizing::new(vec![0; usize::try_from(length).ok()?]);
        self.file.read_exact_at(&mut part, begin).ok()?;
        Some(part)
    }
}

/// Samba writes numbers in the machine's byte order. In a big-endian file the version does not match.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// `tdb_old_hash` in lib/tdb/common/hash.c.
fn hash(key: &[u8]) -> u32 {
    let start = 0x238F_13AF_u32.wrapping_mul(key.len() as u32);
    let value = key.iter().enumerate().fold(start, |value, (i, &byte)| {
        value.wrapping_add(u32::from(byte) << (i * 5 % 24))
    });
    value.wrapping_mul(1_103_515_243).wrapping_add(12345)
}

/// Unpacks `dddddddBBBBBBBBBBBBddBBBdwdBwwd`: `d` has four bytes, `w` has two, and `B` is a
/// four-byte length followed by that many bytes.
fn unpack(record: &[u8], name: &str) -> Answer<SamAccount> {
    let mut left = Packed(record);
    left.skip(2 * 4)?; // logon, logoff
    let kickoff = left.number()?;
    left.skip(4)?; // last bad password
    let password_set = left.number()?;
    left.skip(2 * 4)?; // password can change, must change
    let user = left.bytes()?;
    for _ in 0..8 {
        left.bytes()?; // domain … description
    }
    let workstations = text(left.bytes()?);
    for _ in 0..2 {
        left.bytes()?; // an unknown field, munged dial
    }
    left.skip(2 * 4)?; // RIDs
    left.bytes()?; // LM hash
    let nt_hash = left.bytes()?;
    left.bytes()?; // former hashes
    let flags = left.number()?;
    left.skip(2 + 4)?; // divisions of the week, and how many
    let hours = left.bytes()?;
    left.skip(2 + 2 + 4)?; // counts, and an unknown field
    let named = user
        .strip_suffix(b"\0")
        .is_some_and(|user| user.eq_ignore_ascii_case(name.as_bytes()));
    if !left.0.is_empty() || !named {
        return Err(Unclear("the account's record is of another layout"));
    }
    Ok(SamAccount {
        nt_hash: nt_hash.try_into().ok().map(NtHash::from_bytes),
        flags,
        kickoff,
        password_set,
        all_hours: hours.iter().take(WEEK).all(|&byte| byte == 0xff),
        workstations,
    })
}

/// A bit for each hour.
const WEEK: usize = 7 * 24 / 8;

/// A string that ends with a NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// The rest of a record that is still to be unpacked.
struct Packed<'a>(&'a [u8]);

impl<'a> Packed<'a> {
    fn skip(&mut self, count: usize) -> Answer<&'a [u8]> {
        let (taken, left) = self
            .0
            .split_at_checked(count)
            .ok_or(Unclear("the account's record is too short"))?;
        self.0 = left;
        Ok(taken)
    }

    fn number(&mut self) -> Answer<u32> {
        let bytes = self.skip(4)?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)))
    }

    fn bytes(&mut self) -> Answer<&'a [u8]> {
        let length = self.number()?;
        self.skip(length as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::host::samba::bar::{self, Bar};
    use std::io;

    const FILES: [&str; 2] = [
        include_str!("testdata/passdb-samba-4.17.hex"),
        include_str!("testdata/passdb-samba-4.22.hex"),
    ];

    fn database(dump: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in dump.lines().filter(|line| !line.starts_with('#')) {
            let (offset, digits) = line.split_once(' ').unwrap_or((line, ""));
            bytes.resize(usize::from_str_radix(offset, 16).unwrap(), 0);
            bytes.extend((0..digits.len()).step_by(2).map(|at| {
                let digits = digits.get(at..at + 2).unwrap();
                u8::from_str_radix(digits, 16).unwrap()
            }));
        }
        bytes
    }

    /// A file in memory.
    struct Bytes<'b>(&'b [u8]);

    impl FileExt for Bytes<'_> {
        fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
            io::Read::read(&mut self.0.get(offset as usize..).unwrap_or_default(), into)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        }
    }

    fn find(bytes: &[u8], name: &str) -> Answer<Option<SamAccount>> {
        super::find(&Database::new(Bytes(bytes), bytes.len() as u64)?, name)
    }

    const RECORD: usize = super::RECORD as usize;

    fn has(account: &SamAccount, password: &str) -> bool {
        account.nt_hash == Some(NtHash::of(&Secret::new(password.to_owned())))
    }

    fn bars_of(account: &SamAccount) -> Vec<Bar> {
        bar::bars(account, None, std::time::SystemTime::now())
    }

    /// Where the record of this key is. Behind its header and before its data stands the key itself.
    fn place_of(bytes: &[u8], key: &[u8]) -> usize {
        let live = |at: &usize| word(bytes, at - 4) == Some(RECORD_MAGIC);
        let mut keys = (RECORD..bytes.len()).filter(|&at| bytes[at..].starts_with(key));
        keys.find(live).unwrap() - RECORD
    }

    fn write(bytes: &mut [u8], at: usize, word: u32) {
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }

    #[test]
    fn accounts_are_found_as_samba_left_them() {
        for bytes in FILES.map(database) {
            let share = find(&bytes, "share1").ok().flatten().unwrap();
            assert!(has(&share, "Password") && bars_of(&share).is_empty());
            assert!(!has(&share, "password"));
            let other = find(&bytes, "Other").ok().flatten().unwrap();
            assert!(has(&other, "other one") && bars_of(&other) == [Bar::Disabled]);
            // This account was deleted: its record is still in the file, but in no chain.
            assert!(find(&bytes, "gone").ok().unwrap().is_none());
            assert!(find(&bytes, "share").ok().unwrap().is_none());
        }
    }

    #[test]
    fn a_file_that_was_not_finished_is_left_to_pdbedit() {
        let unclear = |bytes: &[u8]| find(bytes, "share1").err();
        for bytes in FILES.map(database) {
            let mut crashed = bytes.clone();
            let recovery = word(&crashed, 44).unwrap() as usize;
            assert_ne!(recovery, 0);
            write(&mut crashed, recovery + 20, RECOVERY_MAGIC);
            assert!(unclear(&crashed).unwrap().0.contains("recovery"));

            for at in [0, 32, 36, 40, 52, 56] {
                let mut other = bytes.clone();
                other[at] ^= 0x40;
                assert!(unclear(&other).is_some(), "byte {at} of the header");
            }
            let mut newer = bytes.clone();
            let version = place_of(&newer, VERSION_KEY) + RECORD + VERSION_KEY.len();
            write(&mut newer, version, 5);
            assert!(unclear(&newer).unwrap().0.contains("version"));
        }
    }

    #[test]
    fn a_chain_that_leads_anywhere_ends() {
        for bytes in FILES.map(database) {
            let record = place_of(&bytes, b"USER_share1\0");
            // Another key's record in the same chain.
            let mut other = bytes.clone();
            let hash = word(&bytes, record + 16).unwrap();
            write(&mut other, record + 16, hash.wrapping_add(131));
            other[record + RECORD] = b'X';
            assert!(find(&other, "share1").ok().unwrap().is_none());

            let mut circle = other.clone();
            write(&mut circle, record, record as u32);
            assert!(find(&circle, "share1").is_err());
            let mut lost = other.clone();
            write(&mut lost, record + 16, hash.wrapping_add(1));
            assert!(find(&lost, "share1").is_err());
            for field in [0, 4, 8, 12, 20] {
                for word in [bytes.len() as u32 - 8, u32::MAX] {
                    let mut odd = other.clone();
                    write(&mut odd, record + field, word);
                    assert!(find(&odd, "share1").is_err(), "{word:#x} in {field}");
                }
            }
        }
    }

    #[test]
    fn no_length_and_no_cut_makes_it_panic_or_lie() {
        for bytes in FILES.map(database) {
            let record = place_of(&bytes, b"USER_share1\0");
            let data = record + RECORD + b"USER_share1\0".len();
            let length = word(&bytes, record + 12).unwrap() as usize;
            let whole = &bytes[data..data + length];
            assert!(unpack(whole, "share1").is_ok());
            for cut in 0..length {
                assert!(unpack(&whole[..cut], "share1").is_err(), "cut at {cut}");
            }
            for at in 0..length {
                let mut odd = whole.to_vec();
                odd[at] = 0xff;
                let _ = unpack(&odd, "share1");
            }
            let mut longer = whole.to_vec();
            longer.push(0);
            assert!(unpack(&longer, "share1").is_err());
            assert!(unpack(whole, "share2").is_err());

            for cut in (0..data + length).step_by(7) {
                assert!(find(&bytes[..cut], "share1").is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_file_that_is_being_written_is_left_to_pdbedit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&database(FILES[1]), 0).unwrap();
        assert!(account(file.path(), "share1").ok().flatten().is_some());
        // The lock of tdb_transaction_commit: the hash table and everything after it.
        let all = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: HEADER as libc::off_t,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(file.as_file(), FcntlArg::F_SETLK(&all)).unwrap();
        assert_eq!(
            account(file.path(), "share1").err(),
            Some(Unclear("it is being written"))
        );
        assert!(account(Path::new("/no/such/file"), "share1").is_err());
        assert!(account(Path::new("/dev/null"), "share1").is_err());
    }
}
