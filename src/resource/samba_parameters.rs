//! The parameters of smb.conf(5) that can keep a client out of our share, or change names and files in it, and what
//! the agent does about each. Our section is written from this table, and an operator's [global] is judged by it.
//!
//! What our section does not set, [global] decides. So it sets every parameter of a share that matters. For a parameter
//! of the whole server there is a judgement. Everything else in smb.conf(5) is in
//! [`HARMLESS`](super::samba_harmless::HARMLESS), with the reason. A test compares the two with all parameters.

use super::samba_judge::{
    Judge, accounts, charset, clustering, configuration_file, credits, directory, encryption,
    encryption_algorithms, guest_account, highest_dialect, hosts, interfaces, largest, lookups,
    lowest_dialect, ntlm, open_files, patterns_of_a_name, plain_passwords, ports, processes,
    registry, root, server_addresses, server_role, user_map, user_map_script,
};

/// What the agent does about a parameter.
#[derive(Clone, Copy)]
pub enum Rule {
    /// The tier file decides. Our section says so.
    Tier,
    /// The tier file decides, and [global] can prevent it.
    TierUnless(Judge),
    /// Our section says this, whatever [global] says.
    Set(&'static str),
    /// The same. An operator who set it in [global] is told that it does not hold for our share.
    SetAndTell(&'static str),
    /// A parameter of the server. What [global] says is fine, is worth a note, or is refused.
    Judged(Judge),
}

/// One parameter.
pub struct Row {
    /// As smb.conf(5) writes it. `NAME` behind a colon stands for anything.
    pub name: &'static str,
    pub rule: Rule,
    /// What the parameter does to a client, and why the agent's rule is right.
    pub reason: &'static str,
}

const fn row(name: &'static str, rule: Rule, reason: &'static str) -> Row {
    Row { name, rule, reason }
}

use Rule::{Judged, Set, SetAndTell, Tier, TierUnless};

/// In the order in which our section has them.
#[rustfmt::skip]
pub static TABLE: &[Row] = &[
    // ---- who gets in
    row("path", Tier, "what is shared"),
    row("valid users", Tier, "nobody else gets in"),
    row("read only", Set("no"), "the WAS write uploads; Samba's default is yes"),
    row("guest ok", Set("no"), "a guest gets in without a password"),
    row("guest only", Set("no"), "whoever gets in is the guest account, which may not touch the files"),
    row("invalid users", Set(""), "wins over `valid users`"),
    row("read list", Set(""), "whoever is in it cannot write"),
    row("admin users", Set(""), "whoever is in it writes files as root"),
    row("available", Set("yes"), "no: every client is refused"),
    row("-valid", Set("yes"), "no: the share is neither seen nor served"),
    row("printable", Set("no"), "yes: the share is a print queue, in which nothing can be renamed"),
    row("max connections", Set("0"), "the WAS behind the last free place is refused"),
    row("preexec", SetAndTell(""), "a program at each connection; with `preexec close` it refuses clients"),
    row("preexec close", Set("no"), "yes: a preexec that fails refuses the client"),
    row("root preexec", SetAndTell(""), "as preexec, as root"),
    row("root preexec close", Set("no"), "as preexec close"),
    row("postexec", SetAndTell(""), "a program at each end of a connection may unmount what is shared"),
    row("root postexec", SetAndTell(""), "as postexec, as root"),
    row("msdfs root", Set("no"), "yes: the client resolves names in the share as DFS links"),
    row("msdfs proxy", Set(""), "the client is sent to another server"),

    // ---- who owns files, and their modes: what one WAS writes, the others may read and change, and nobody else
    row("create mask", Set("0660"), "takes bits from the mode of a new file"),
    row("directory mask", Set("2770"), "takes bits from the mode of a new directory"),
    row("force create mode", Set("0660"), "adds bits to the mode of a new file"),
    row("force directory mode", Set("2770"), "adds bits to the mode of a new directory"),
    row("force user", Set(""), "files are made by another account, which may not write"),
    row("force group", Set(""), "files belong to another group"),
    row("inherit permissions", Set("no"), "yes: the masks above do not count"),
    row("inherit acls", Set("no"), "yes: the default ACL of a directory counts in place of the masks"),
    row("inherit owner", Set("no"), "yes: a new file belongs to the owner of its directory"),
    row("nt acl support", Set("yes"), "no: no client can read or set permissions"),

    // ---- which names a client sees
    row("veto files", SetAndTell(""), "files that match are not there for a client, and cannot be made"),
    row("delete veto files", Set("no"), "yes: removing a directory removes what the client cannot see in it"),
    row("hide files", Set(""), "files that match bear the attribute `hidden`"),
    row("hide new files timeout", Set("0"), "a new file is not there for a client at first"),
    row("hide special files", Set("no"), "yes: sockets and devices are not there"),
    row("hide unreadable", Set("no"), "yes: what the account cannot read is not there"),
    row("hide unwriteable files", Set("no"), "yes: what the account cannot write is not there"),
    row("dont descend", Set(""), "directories in it look empty"),
    row("case sensitive", Set("auto"), "yes: `a` and `A` are two files, which a client of SMB may not expect"),
    row("default case", Set("lower"), "the case of new names, if the client's is not kept"),
    row("preserve case", Set("yes"), "no: a new file gets a name in another case than the client said"),
    row("short preserve case", Set("yes"), "the same for names of at most eight and three characters"),
    row("mangled names", Set("illegal"), "what becomes of names that SMB cannot carry"),
    row("mangling char", Set("~"), "how such a name is marked"),
    row("follow symlinks", Set("yes"), "no: links that a build makes (node_modules/.bin) lead nowhere"),
    row("wide links", Set("no"), "yes: a link leads a client out of the share"),

    // ---- what a client can do with a file
    row("vfs objects", SetAndTell(""), "modules between client and files; one that is missing refuses every client"),
    row("magic script", Set(""), "a file of this name is run when a client closes it, and removed"),
    row("map archive", Set("yes"), "a DOS attribute as a bit of the mode; `create mask` takes it away"),
    row("map hidden", Set("no"), "the same"),
    row("map system", Set("no"), "the same"),
    row("map readonly", Set("no"), "a file without the owner's write bit cannot be removed"),
    row("store dos attributes", Set("yes"), "no: DOS attributes become bits of the mode"),
    row("ea support", Set("yes"), "no: no extended attributes"),
    row("dos filetime resolution", Set("no"), "yes: times are rounded to two seconds, and a cache misses a change"),
    row("dos filetimes", Set("yes"), "no: only the owner of a file sets its time"),
    row("fake directory create times", Set("no"), "yes: directories are of 1980"),
    row("strict allocate", Set("no"), "yes: a sparse file takes all its space at once"),
    row("strict rename", Set("no"), "yes: a directory in which a file is open cannot be renamed"),
    row("strict sync", Set("yes"), "no: what a client has synced is lost with the power"),
    row("dfree command", Set(""), "a program says how much space is left, and may say none"),
    row("afs share", Set("no"), "yes: a login to AFS at each connection"),

    // ---- locks and caches: the start of a container and a change of revision wait for each other by a lock
    row("locking", Set("yes"), "no: every lock is granted"),
    row("strict locking", Set("auto"), "no: a locked file is read and written"),
    row("posix locking", Set("yes"), "no: a client's lock does not hold for programs on this VM"),
    row("kernel share modes", Set("no"), "yes: a file that is open on this VM cannot be opened by a client"),
    row("smbd force process locks", Set("no"), "yes: closing one file drops the locks of others"),
    // Files change beneath Samba with each revision. A client with a lease may keep what it has read, and would go on
    // with the old revision. If a lease outlives its smbd, the kernel's client also fails to open the file that has the
    // name by then (EINVAL).
    row("oplocks", Set("no"), "a client with a lease goes on with the old revision"),
    row("level2 oplocks", Set("no"), "the same"),
    row("kernel oplocks", Set("no"), "the same"),
    row("fake oplocks", Set("no"), "yes: every client is told that nobody else has the file"),

    // ---- encryption, and where clients come from
    row("server smb encrypt", TierUnless(encryption), "off for the server: a share that demands encryption lets nobody in"),
    row("hosts allow", TierUnless(hosts), "the server's list is looked at before the share's"),
    row("hosts deny", TierUnless(hosts), "the same"),

    // ---- parameters of the server
    row("config backend", Judged(registry), "registry: Samba reads no smb.conf"),
    row("config file", Judged(configuration_file), "Samba reads another file in place of smb.conf"),
    row("server max protocol", Judged(highest_dialect), "below SMB 3 nobody can mount the share"),
    row("server min protocol", Judged(lowest_dialect), "above the highest dialect there is none left"),
    row("server smb3 encryption algorithms", Judged(encryption_algorithms), "without one that the kernel's client has, nothing is encrypted"),
    row("ntlm auth", Judged(ntlm), "disabled: no password of an account of this server is taken"),
    row("encrypt passwords", Judged(plain_passwords), "no: passwords in plain text, which SMB 3 does not have"),
    row("smb ports", Judged(ports), "without 445 nobody is listening where clients look"),
    row("server smb transports", Judged(ports), "the same, from Samba 4.23 on"),
    row("bind interfaces only", Judged(interfaces), "smbd listens on `interfaces` alone"),
    row("server addresses", Judged(server_addresses), "shares are not served on other addresses"),
    row("root directory", Judged(root), "every path begins there; the share's is missing"),
    row("username map", Judged(user_map), "the account logs in under another name"),
    row("username map script", Judged(user_map_script), "a program decides under which name"),
    row("guest account", Judged(guest_account), "smbd does not start without this account"),
    row("passdb backend", Judged(accounts), "smbd does not start with a backend that it does not have"),
    row("server role", Judged(server_role), "a domain controller is another program; a member asks its domain first"),
    row("security", Judged(server_role), "the same"),
    row("clustering", Judged(clustering), "smbd does not start without ctdbd"),
    row("cache directory", Judged(directory), "smbd does not start if it cannot make it"),
    row("lock directory", Judged(directory), "the same"),
    row("ncalrpc dir", Judged(directory), "the same"),
    row("private dir", Judged(directory), "the same"),
    row("state directory", Judged(directory), "the same"),
    row("max smbd processes", Judged(processes), "each client is a process, and Samba has some of its own"),
    row("max open files", Judged(open_files), "smbd does not start with a few; with some more, Node.js finds no free one"),
    row("smb2 max credits", Judged(credits), "how many requests a client may have under way"),
    row("smb2 max read", Judged(largest), "a client cannot read"),
    row("smb2 max trans", Judged(largest), "a client cannot list a directory"),
    row("smb2 max write", Judged(largest), "a client cannot write"),
    row("unix charset", Judged(charset), "names with other letters than ASCII are other names for a client"),
    row("hostname lookups", Judged(lookups), "each connection waits for the name server"),
    row("veto files:NAME", Judged(patterns_of_a_name), "[global] adds to what a share says, so that no section can take it back"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::host::samba::parameters;
    use crate::resource::samba_harmless::HARMLESS;

    #[test]
    fn every_parameter_of_samba_has_one_place_in_the_tables() {
        let mut places: BTreeMap<&str, u32> = BTreeMap::new();
        let rows = TABLE.iter().map(|row| row.name);
        let harmless = HARMLESS.iter().flat_map(|(_, names)| names.iter().copied());
        for name in rows.chain(harmless) {
            *places.entry(name).or_default() += 1;
        }
        for parameter in parameters::all() {
            assert_eq!(places.remove(parameter.name), Some(1), "{}", parameter.name);
        }
        let left: Vec<&str> = places.into_keys().collect();
        assert_eq!(left, ["veto files:NAME"]);
    }

    #[test]
    fn our_section_sets_what_a_section_may_set_to_what_samba_takes() {
        for row in TABLE {
            let Some(parameter) = parameters::find(row.name) else {
                continue;
            };
            if let Set(value) | SetAndTell(value) = row.rule {
                assert!(parameter.of_shares, "{}", row.name);
                assert!(value.is_empty() || parameter.takes(value), "{}", row.name);
            }
            assert!(!row.reason.is_empty());
        }
    }
}
