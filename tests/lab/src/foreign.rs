//! What may be on a disk that is not ours: one row for each kind, written by the real program where Debian has one that
//! needs no driver in the kernel.
//!
//! Two kinds are made by hand, from the documents of their formats: a ZFS label, for which Debian's main archive has no
//! program, and the superblocks of md, which mdadm(8) lets the kernel's driver write. blkid(8) is asked of both whether
//! they are what they say.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};

use crate::agent;
use crate::process::{command, ok};

/// How a row's disk is made.
#[derive(Clone, Copy, Debug)]
pub enum Made {
    /// By a line of sh(1), with the disk as `$1` and a directory with files as `$2`.
    By(&'static str),
    /// By hand: bytes and their places, for a disk of this size. The machine's blkid(8) is asked whether that is
    /// what it should be.
    ByHand(fn(u64) -> Vec<(u64, Vec<u8>)>),
}

/// A kind of disk that must be refused.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub what: &'static str,
    /// What the refusal has to say, in upper or lower case.
    pub named: &'static str,
    pub made: Made,
}

/// Enough for the smallest xfs.
pub const SIZE: u64 = 320 << 20;

const fn by(what: &'static str, named: &'static str, line: &'static str) -> Row {
    Row {
        what,
        named,
        made: Made::By(line),
    }
}

const fn by_hand(
    what: &'static str,
    named: &'static str,
    bytes: fn(u64) -> Vec<(u64, Vec<u8>)>,
) -> Row {
    Row {
        what,
        named,
        made: Made::ByHand(bytes),
    }
}

/// The programs are fast rather than careful: the key of LUKS is derived in no time.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    by("ext2", "ext2", "mkfs.ext2 -q -F $1"),
    by("ext3", "ext3", "mkfs.ext3 -q -F $1"),
    by("ext4", "ext4", "mkfs.ext4 -q -F -L old $1"),
    by("xfs", "xfs", "mkfs.xfs -q -L old $1"),
    by("btrfs", "btrfs", "mkfs.btrfs -q $1"),
    by("vfat", "vfat", "mkfs.vfat -F 32 $1"),
    by("exFAT", "exfat", "mkfs.exfat $1"),
    by("ntfs", "ntfs", "mkfs.ntfs -Q -q $1"),
    by("iso9660", "iso9660", "genisoimage -quiet $2 | dd of=$1 bs=1M conv=notrunc status=none"),
    by("squashfs", "squashfs", "mksquashfs $2 $1 -noappend -quiet -no-progress"),
    by("swap", "swap", "mkswap -q $1"),
    by("LVM physical volume", "LVM2_member", "pvcreate --devicesfile '' -ff -y -q $1"),
    by("LUKS1", "crypto_LUKS", "echo k | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --key-file - $1"),
    by("LUKS2", "crypto_LUKS", "echo k | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file - $1"),
    by("LUKS2 without its first header", "LUKS", "echo k | cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file - $1; dd if=/dev/zero of=$1 bs=4K count=1 conv=notrunc status=none"),
    by_hand("md 0.90", "linux_raid_member", md_0_90),
    by_hand("md 1.0", "linux_raid_member", md_1_0),
    by_hand("md 1.1", "linux_raid_member", md_1_1),
    by_hand("md 1.2", "linux_raid_member", md_1_2),
    // Of blkid of bookworm: trixie's wants more of a label than this one has, and there the agent names it by itself.
    by_hand("ZFS", "zfs", zfs),
    by("GPT", "gpt", "echo ',,L' | sfdisk -q --no-reread --no-tell-kernel --label gpt $1"),
    by("MBR", "dos", "echo ',,L' | sfdisk -q --no-reread --no-tell-kernel --label dos $1"),
    by("GPT without its primary header", "gpt", "echo ',,L' | sfdisk -q --no-reread --no-tell-kernel --label gpt $1; dd if=/dev/zero of=$1 bs=512 seek=1 count=1 conv=notrunc status=none"),
    by("GPT of which only the backup is left", "backup of a GPT", "echo ',,L' | sfdisk -q --no-reread --no-tell-kernel --label gpt $1; dd if=/dev/zero of=$1 bs=512 count=34 conv=notrunc status=none"),
    by("one MiB of noise at the start", "no known format", "dd if=/dev/urandom of=$1 bs=1M count=1 conv=notrunc status=none"),
    by("one MiB of noise at the end", "no known format", "dd if=/dev/urandom of=$1 bs=1M count=1 seek=319 conv=notrunc status=none"),
];

impl Row {
    /// Makes a disk of zeros what this row says, as the machine sees the device.
    pub fn make(&self, device: &str) -> Result<()> {
        // The row before leaves nothing to this one.
        ok(command(["blkdiscard", "--zeroout", "--force", device]))?;
        match self.made {
            Made::By(line) => {
                let mut shell = command(["sh", "-e", "-c", line, "sh", device]);
                shell.arg(agent::checkout().join("tests/lab/sample-app"));
                ok(shell).context(self.what)?;
            }
            Made::ByHand(bytes) => {
                let disk = OpenOptions::new().write(true).open(device)?;
                for (at, bytes) in bytes(SIZE) {
                    disk.write_all_at(&bytes, at)?;
                }
                disk.sync_all()?;
                let called = ok(command([
                    "blkid", "-p", "-o", "value", "-s", "TYPE", device,
                ]))?;
                ensure!(
                    called.stdout.contains(self.named),
                    "{}: blkid calls it {called}",
                    self.what
                );
            }
        }
        ok(command(["blockdev", "--flushbufs", device])).map(drop)
    }
}

/// The superblock of version 0.90 (include/uapi/linux/raid/md_p.h, `mdp_super_t`): 64 KiB of the end, aligned to as much.
fn md_0_90(size: u64) -> Vec<(u64, Vec<u8>)> {
    let mut words = vec![0_u32; 1024];
    words[..9].copy_from_slice(&[
        0xa92b_4efc, // magic
        0,           // major
        90,          // minor
        0,           // patch
        0,           // gvalid_words
        0x1234_5678, // set_uuid0
        1_700_000_000,
        1, // level
        (size / 1024 - 64) as u32,
    ]);
    // nr_disks, raid_disks, md_minor, not_persistent, set_uuid1 to 3
    words[9..16].copy_from_slice(&[2, 2, 0, 0, 1, 2, 3]);
    // utime, state, active_disks, working_disks
    words[32..36].copy_from_slice(&[1_700_000_000, 1, 2, 2]);
    words[38] = folded(words.iter().map(|&word| u64::from(word)).sum());
    let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    vec![(size / 65536 * 65536 - 65536, bytes)]
}

fn md_1_0(size: u64) -> Vec<(u64, Vec<u8>)> {
    vec![md_1(size / 4096 * 4096 - 8192)]
}

fn md_1_1(_size: u64) -> Vec<(u64, Vec<u8>)> {
    vec![md_1(0)]
}

fn md_1_2(_size: u64) -> Vec<(u64, Vec<u8>)> {
    vec![md_1(4096)]
}

/// The superblock of version 1 (`struct mdp_superblock_1` of the same file) of a mirror, at this byte.
fn md_1(at: u64) -> (u64, Vec<u8>) {
    let mut block = vec![0; 256 + 2 * 2];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &1_u32.to_le_bytes()); // major_version
    put(16, &[0x11; 16]); // set_uuid
    put(32, b"was-storage:0"); // set_name
    put(72, &1_u32.to_le_bytes()); // level
    put(80, &(128_u64 << 11).to_le_bytes()); // size, in sectors
    put(92, &2_u32.to_le_bytes()); // raid_disks
    let data = if at == 0 || at == 4096 { 2048_u64 } else { 0 };
    put(128, &data.to_le_bytes()); // data_offset
    put(136, &(128_u64 << 11).to_le_bytes()); // data_size
    put(144, &(at / 512).to_le_bytes()); // super_offset
    put(168, &[0x22; 16]); // device_uuid
    put(220, &2_u32.to_le_bytes()); // max_dev
    put(258, &1_u16.to_le_bytes()); // dev_roles
    let words = block.chunks(4).map(|word| {
        let word: [u8; 4] = word.try_into().unwrap_or_default();
        u64::from(u32::from_le_bytes(word))
    });
    let sum = folded(words.sum());
    block[216..220].copy_from_slice(&sum.to_le_bytes());
    (at, block)
}

/// As `calc_sb_1_csum` of drivers/md/md.c does.
fn folded(sum: u64) -> u32 {
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// Four labels of 256 KiB ("ZFS On-Disk Specification", chapter 1): name-value pairs in XDR after 16 KiB, and a ring of
/// uberblocks after 128 KiB.
fn zfs(size: u64) -> Vec<(u64, Vec<u8>)> {
    const LABEL: usize = 256 << 10;
    let mut label = vec![0; LABEL];
    let pairs = zfs_pairs();
    label[16 << 10..(16 << 10) + pairs.len()].copy_from_slice(&pairs);
    for (transaction, uberblock) in label[128 << 10..].chunks_mut(1024).enumerate() {
        uberblock[..8].copy_from_slice(&0x00ba_b10c_u64.to_le_bytes());
        uberblock[8..16].copy_from_slice(&5000_u64.to_le_bytes());
        uberblock[16..24].copy_from_slice(&(transaction as u64 + 4).to_le_bytes());
    }
    let end = size / LABEL as u64 * LABEL as u64;
    [0, 1, end / LABEL as u64 - 2, end / LABEL as u64 - 1]
        .map(|place| (place * LABEL as u64, label.clone()))
        .into()
}

fn zfs_pairs() -> Vec<u8> {
    // The encoding (XDR), the byte order of who wrote it, then the list's version and flags.
    let mut list = vec![1, 1, 0, 0];
    list.extend(0_u32.to_be_bytes());
    list.extend(1_u32.to_be_bytes());
    let text = |text: &str| {
        let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
        bytes.extend(text.bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let mut pair = |name: &str, kind: u32, value: &[u8]| {
        let mut body = text(name);
        body.extend(kind.to_be_bytes());
        body.extend(1_u32.to_be_bytes());
        body.extend(value);
        let length = (body.len() + 8) as u32;
        list.extend(length.to_be_bytes());
        list.extend(length.to_be_bytes());
        list.extend(body);
    };
    const UINT64: u32 = 8;
    const STRING: u32 = 9;
    pair("version", UINT64, &5000_u64.to_be_bytes());
    pair("name", STRING, &text("tank"));
    pair(
        "pool_guid",
        UINT64,
        &0x1234_5678_9abc_def0_u64.to_be_bytes(),
    );
    pair("guid", UINT64, &0x0fed_cba9_8765_4321_u64.to_be_bytes());
    list.extend([0; 8]);
    list
}
