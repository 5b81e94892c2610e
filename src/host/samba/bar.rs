//! What in a Samba account's entry refuses the right password (`sam_account_ok()` in source3/auth/check_samsec.c).

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::passdb::SamAccount;

/// `ACB_…` in librpc/idl/samr.idl.
const DISABLED: u32 = 0x1;
const NO_PASSWORD_NEEDED: u32 = 0x4;
const NORMAL: u32 = 0x10;
const PASSWORD_NEVER_EXPIRES: u32 = 0x200;
const LOCKED: u32 = 0x400;

/// Samba's word for "never" (`get_time_t_max()`), as it stands in an entry: a second of the year 2036.
const NEVER: u32 = 2_085_923_199;

/// One thing that keeps a client out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bar {
    Disabled,
    /// After wrong passwords, or by hand.
    Locked,
    /// Since then, or from then on.
    Expires {
        at: SystemTime,
        expired: bool,
    },
    /// The password must be changed before it is taken again, which no mount can do.
    PasswordExpires,
    /// There are hours in the week in which nobody gets in.
    Hours,
    /// Only clients with these names get in.
    Workstations(String),
    /// A machine's or a domain's account.
    NoUser,
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("it is disabled"),
            Self::Locked => f.write_str("it is locked"),
            Self::Expires { at, expired } => {
                let verb = if *expired { "expired" } else { "expires" };
                write!(f, "it {verb} on {}", humantime::format_rfc3339_seconds(*at))
            }
            Self::PasswordExpires => f.write_str("its password has to be changed"),
            Self::Hours => f.write_str("its logon hours are restricted"),
            Self::Workstations(names) => {
                write!(f, "only clients with these names may use it: {names}")
            }
            Self::NoUser => f.write_str("it is not the account of a user"),
        }
    }
}

/// What bars `account`. `oldest` is how long a password is taken by the account policies.
pub fn bars(account: &SamAccount, oldest: Option<Duration>, now: SystemTime) -> Vec<Bar> {
    let is = |flag: u32| account.flags & flag != 0;
    let mut bars = of_flags(is(DISABLED), is(LOCKED), is(NORMAL));
    if account.kickoff != 0 && account.kickoff < NEVER {
        let at = UNIX_EPOCH + Duration::from_secs(account.kickoff.into());
        let expired = at < now;
        bars.push(Bar::Expires { at, expired });
    }
    let set = UNIX_EPOCH + Duration::from_secs(account.password_set.into());
    let too_old = oldest.is_some_and(|oldest| set + oldest < now);
    if !is(PASSWORD_NEVER_EXPIRES | NO_PASSWORD_NEEDED) && (account.password_set == 0 || too_old) {
        bars.push(Bar::PasswordExpires);
    }
    if !account.all_hours {
        bars.push(Bar::Hours);
    }
    if !account.workstations.is_empty() {
        bars.push(Bar::Workstations(account.workstations.clone()));
    }
    bars
}

fn of_flags(disabled: bool, locked: bool, normal: bool) -> Vec<Bar> {
    let all = [
        (disabled, Bar::Disabled),
        (locked, Bar::Locked),
        (!normal, Bar::NoUser),
    ];
    let is = all.into_iter().filter(|(is, _)| *is);
    is.map(|(_, bar)| bar).collect()
}

/// The same from what `pdbedit --list --verbose` prints, to the day.
pub fn printed(text: &str, now: SystemTime) -> Vec<Bar> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("", |line| line.trim_start_matches([' ', ':']).trim())
    };
    let flags = field("Account Flags");
    let mut bars = of_flags(
        flags.contains('D'),
        flags.contains('L'),
        flags.is_empty() || flags.contains('U'),
    );
    let expires = day(field("Kickoff time"));
    let never = UNIX_EPOCH + Duration::from_secs(u64::from(NEVER) - 86400);
    if let Some(at) = expires.filter(|at| *at < never) {
        let expired = at < now;
        bars.push(Bar::Expires { at, expired });
    }
    let must_change = field("Password must change");
    let is_too_old = day(must_change).is_some_and(|at| at < now);
    if !flags.contains(['X', 'N']) && (must_change == "0" || is_too_old) {
        bars.push(Bar::PasswordExpires);
    }
    if field("Logon hours").contains(|digit: char| digit.is_ascii_hexdigit() && digit != 'F') {
        bars.push(Bar::Hours);
    }
    let workstations = field("Workstations");
    if !workstations.is_empty() {
        bars.push(Bar::Workstations(workstations.to_owned()));
    }
    bars
}

/// The beginning of the day of `Sun, 09 Sep 2001 01:46:40 UTC`.
fn day(printed: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = printed.split_whitespace().skip(1);
    let day: u8 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = 1 + MONTHS.iter().position(|one| *one == month)?;
    let year: u16 = words.next()?.parse().ok()?;
    humantime::parse_rfc3339(&format!("{year:04}-{month:02}-{day:02}T00:00:00Z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> SamAccount {
        SamAccount {
            nt_hash: None,
            flags: NORMAL,
            kickoff: NEVER,
            password_set: 1_700_000_000,
            all_hours: true,
            workstations: String::new(),
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn an_entry_lets_its_account_in_unless_something_bars_it() {
        let long = Some(Duration::from_secs(200_000_000));
        assert_eq!(bars(&account(), None, now()), []);
        assert_eq!(bars(&account(), long, now()), []);
        let with = |change: &dyn Fn(&mut SamAccount)| {
            let mut account = account();
            change(&mut account);
            bars(&account, Some(Duration::from_secs(86400)), now())
        };
        for (change, bar) in [
            (
                (&|a: &mut SamAccount| a.flags |= DISABLED) as &dyn Fn(&mut SamAccount),
                "disabled",
            ),
            (&|a| a.flags |= LOCKED, "locked"),
            (&|a| a.flags = 0x80, "not the account of a user"),
            (
                &|a| a.kickoff = 1_000_000_000,
                "expired on 2001-09-09T01:46:40Z",
            ),
            (&|a| a.kickoff = 1_900_000_000, "expires on 2030-03-17"),
            (&|a| a.password_set = 0, "password has to be changed"),
            (&|_| {}, "password has to be changed"),
            (&|a| a.all_hours = false, "hours"),
            (&|a| a.workstations = "PC1".to_owned(), "PC1"),
        ] {
            // The password of this account is older than the policy allows, unless it never expires.
            let is_of_age = bar.contains("password");
            let said = with(&|account| {
                change(account);
                account.flags |= if is_of_age { 0 } else { PASSWORD_NEVER_EXPIRES };
            });
            assert_eq!(said.len(), 1, "{bar}: {said:?}");
            assert!(said[0].to_string().contains(bar), "{bar}: {said:?}");
        }
        assert_eq!(with(&|a| a.kickoff = 0).len(), 1);
        assert_eq!(with(&|a| a.flags |= PASSWORD_NEVER_EXPIRES).len(), 0);
    }

    #[test]
    fn what_pdbedit_prints_says_the_same() {
        let open = "Account Flags:        [UX         ]\nWorkstations:         \n\
                    Kickoff time:         Wed, 06 Feb 2036 15:06:39 UTC\nPassword must change: never\n\
                    Logon hours         : FFFFFFFFFFFF\n";
        assert_eq!(printed(open, now()), []);
        for (from, to, bar) in [
            ("[UX ", "[DUX", "disabled"),
            ("[UX ", "[LUX", "locked"),
            ("[UX ", "[WX ", "not the account of a user"),
            (
                "Wed, 06 Feb 2036",
                "Sun, 09 Sep 2001",
                "expired on 2001-09-09",
            ),
            (": never", ": 0", "password has to be changed"),
            ("FFF\n", "FF0\n", "hours"),
            ("Workstations:", "Workstations: PC1,PC2", "PC1,PC2"),
        ] {
            let mut text = open.replacen(from, to, 1);
            if bar.contains("password") {
                text = text.replace("[UX ", "[U  ");
            }
            let said = printed(&text, now());
            assert_eq!(said.len(), 1, "{bar}: {said:?}");
            assert!(said[0].to_string().contains(bar), "{bar}: {said:?}");
        }
    }
}
