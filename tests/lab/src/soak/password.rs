//! Passwords of every kind, one after the other, on a storage guest of each release: after the apply that sets it a
//! client gets in with it, and with the one before no longer; nothing else is changed by such an apply.

use anyhow::{Context, Result, ensure};

use super::stage::{Machine, Stage};
use super::{Scope, Size, Tally};
use crate::agent;
use crate::progress::say;
use crate::random::{Random, new_seed};
use crate::smb;
use crate::tier::{Role, SHARE_PASSWORD, SHARE_PASSWORD_FILE};

/// How many are tried on each release.
const PASSWORDS: usize = 50;

/// What the kernel's cifs takes: NTLM's UTF-16 units, and the bytes of an option of fsconfig(2).
const MOST_UNITS: usize = 128;
const MOST_BYTES: usize = 255;

/// What somebody has to escape somewhere: in smb.conf, shells, option strings, credentials files, printf, INI and TOML.
const SPECIAL: &str = " '\"`,#%$\\=;:&|<>()[]{}~^*?!@/+-_.";

pub fn run(scope: &Scope) -> Result<()> {
    let agent = agent::build()?;
    let seed = scope.seed.unwrap_or_else(new_seed);
    say(format!("password: --seed {seed}"));
    let count = match scope.size {
        Size::Sample(count) => count,
        Size::All => scope.rounds.unwrap_or(PASSWORDS),
    };
    let mut tally = Tally::new("password");
    let guests = scope.guests().into_iter();
    for (_, release) in guests.filter(|(role, _)| *role == Role::Storage) {
        let stage = Stage::storage(&agent, Machine::Container, release)?;
        stage.apply(None)?;
        let mut before = SHARE_PASSWORD.to_owned();
        for (index, password) in passwords(seed, count).into_iter().enumerate() {
            let name = format!("{} of {count} on {release}", index + 1);
            if password == before {
                continue;
            }
            tally.point(&name, || {
                replaced(&stage, &before, &password)
                    .with_context(|| format!("{password:?} after {before:?}, --seed {seed}"))
            });
            before = password;
        }
    }
    tally.end()
}

fn replaced(stage: &Stage, before: &str, password: &str) -> Result<()> {
    let guest = &stage.guest;
    guest.write(SHARE_PASSWORD_FILE, format!("{password}\n"), 0o600)?;
    let applied = stage.apply(None)?;
    let changed: Vec<String> = applied.changed().into_iter().collect();
    ensure!(changed == ["samba-user:user1"], "{}", applied.output);
    let said = format!("{}{}", applied.output.stdout, applied.output.stderr);
    // One of a few characters may stand anywhere.
    ensure!(
        password.len() < 8 || !said.contains(password),
        "the password is told"
    );
    let listing = smb::client(guest, "user1", ("user1", password), "ls")?;
    ensure!(
        listing.success() && listing.stdout.contains("server.js"),
        "{listing}"
    );
    smb::refused(guest, "user1", ("user1", before))
}

/// Passwords of each of the kinds in turn, so that a sample has some of each as well.
fn passwords(seed: u64, count: usize) -> Vec<String> {
    let mut random = Random(seed);
    (0..count).map(|index| one(&mut random, index)).collect()
}

fn one(random: &mut Random, index: usize) -> String {
    let length = 1 + random.below(MOST_UNITS);
    let mut password = match index % 7 {
        0 => text(random, length, special),
        1 => text(random, MOST_UNITS, any),
        2 => format!(" {} ", text(random, length, any)),
        3 => text(random, 1, special),
        4 => text(random, MOST_UNITS, korean),
        5 => format!("user1%{}\\", text(random, length, special)),
        _ => text(random, length, any),
    };
    while password.len() > MOST_BYTES || password.encode_utf16().count() > MOST_UNITS {
        password.pop();
    }
    password
}

fn text(random: &mut Random, length: usize, kind: fn(&mut Random) -> char) -> String {
    (0..length).map(|_| kind(random)).collect()
}

fn special(random: &mut Random) -> char {
    let index = random.below(SPECIAL.len());
    char::from(SPECIAL.as_bytes()[index])
}

/// A syllable of Hangul.
fn korean(random: &mut Random) -> char {
    char::from_u32(0xac00 + random.below(11_172) as u32).unwrap_or('가')
}

fn any(random: &mut Random) -> char {
    match random.below(4) {
        0 => special(random),
        1 => korean(random),
        _ => char::from(b'!' + random.below(94) as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_character_and_length_is_among_them() {
        let all = passwords(1, PASSWORDS);
        assert_eq!(all, passwords(1, PASSWORDS));
        assert_ne!(all, passwords(2, PASSWORDS));
        for of_the_issue in "'\",#%$\\ ".chars() {
            assert!(all.iter().any(|password| password.contains(of_the_issue)));
        }
        let has = |good: &dyn Fn(&String) -> bool| all.iter().any(good);
        assert!(has(&|p| p.starts_with(' ') && p.ends_with(' ')));
        assert!(has(&|p| p.chars().count() == 1) && has(&|p| p.chars().count() == 128));
        assert!(has(&|p| p.len() == MOST_BYTES) && has(&|p| p.contains(|c| c > '가')));
        for password in &all {
            let units = password.encode_utf16().count();
            assert!((1..=MOST_UNITS).contains(&units) && password.len() <= MOST_BYTES);
            assert!(!password.contains(char::is_control));
        }
    }
}
