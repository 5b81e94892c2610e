//! What a setting of an operator's [global] means for our share: whether clients get in, as far as can be known without
//! trying. [`TABLE`](super::samba_parameters::TABLE) says which judgement belongs to which parameter.
//!
//! The file is long because it holds a judgement for each kind of setting, one short function after the other.

use std::net::IpAddr;

use super::samba_conflicts::OurShare;
use crate::host::samba::conf::{Setting, SmbConf, is_yes};
use crate::host::samba::hosts;
use crate::host::samba::parameters;
use crate::host::samba::server::Machine;

/// What a setting does to the clients of our share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// It may matter. The sentence goes behind the setting's place.
    Note(String),
    /// It shuts clients out. The sentence goes behind the setting's place.
    Refuse {
        why: String,
        way_out: String,
    },
}

use Verdict::{Fine, Note};

/// What there is to judge by.
pub struct View<'a> {
    pub conf: &'a SmbConf,
    pub ours: &'a OurShare,
    pub machine: &'a Machine,
}

impl<'a> View<'a> {
    /// The value in [global], unless it is empty.
    fn global(&self, key: &str) -> Option<&'a str> {
        let value = self.conf.global(key).map(|setting| setting.value.as_str());
        value.filter(|value| !value.is_empty())
    }
}

/// Judges the setting of [global] that counts.
pub type Judge = fn(&Setting, &View) -> Verdict;

fn refuse(why: impl Into<String>, way_out: impl Into<String>) -> Verdict {
    Verdict::Refuse {
        why: why.into(),
        way_out: way_out.into(),
    }
}

fn refuse_if(is_bad: bool, why: &str, way_out: &str) -> Verdict {
    if is_bad { refuse(why, way_out) } else { Fine }
}

fn is_one_of(setting: &Setting, words: &[&str]) -> bool {
    words
        .iter()
        .any(|word| parameters::is_word(&setting.value, word))
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    parameters::words(list)
        .map(|word| word.trim_matches('"'))
        .filter(|word| !word.is_empty())
}

// ---- where Samba reads its configuration

pub fn registry(setting: &Setting, _: &View) -> Verdict {
    refuse_if(
        is_one_of(setting, &["registry"]),
        "Samba takes its configuration from the registry and passes over the rest of smb.conf",
        "put `include = registry` in the place of that line: Samba then reads both",
    )
}

pub fn configuration_file(setting: &Setting, _: &View) -> Verdict {
    if setting.value.is_empty() {
        return Fine;
    }
    let why = format!(
        "Samba takes its configuration from {} and passes over smb.conf",
        setting.value
    );
    refuse(
        why,
        "put `include` in the place of `config file`: Samba then reads both",
    )
}

pub fn root(setting: &Setting, _: &View) -> Verdict {
    let value = setting.value.trim_end_matches('/');
    refuse_if(
        !value.is_empty(),
        "smbd looks for every file below that directory, and so for the one that is shared",
        "remove that line",
    )
}

// ---- the protocol

/// Dialects in the order of their age (`enum_protocol` of lib/param/param_table.c).
const DIALECTS: [&[&str]; 6] = [
    &["core", "coreplus", "core+", "lanman1", "lanman2", "nt1"],
    &["smb2_02"],
    &["smb2", "smb2_10", "smb2_22", "smb2_24"],
    &["smb3_00", "smb3_10"],
    &["smb3_02"],
    &["smb3", "smb3_11"],
];

/// SMB 3.0 among [`DIALECTS`].
const SMB3: usize = 3;

fn age(dialect: &str) -> Option<usize> {
    let dialect = parameters::compact(dialect);
    DIALECTS
        .iter()
        .position(|names| names.contains(&dialect.as_str()))
}

pub fn highest_dialect(setting: &Setting, _: &View) -> Verdict {
    match age(&setting.value) {
        // Samba takes `default` here for a dialect that no client speaks.
        _ if is_one_of(setting, &["default"]) => refuse(
            "the server then speaks no dialect at all",
            "remove that line: SMB 3 is Samba's own default",
        ),
        Some(highest) if highest < SMB3 => refuse(
            "the server speaks no SMB 3, without which the share cannot be mounted",
            "remove that line: SMB 3 is Samba's own default",
        ),
        Some(highest) if highest + 1 < DIALECTS.len() => {
            let vers = if highest == SMB3 { "3.0" } else { "3.0.2" };
            Note(format!(
                "a WAS VM mounts by SMB 3.1.1 unless the tier file says another; this server needs `vers = \"{vers}\"` in [was]"
            ))
        }
        _ => Fine,
    }
}

pub fn lowest_dialect(setting: &Setting, view: &View) -> Verdict {
    let highest = view.global("servermaxprotocol").and_then(age);
    let highest = highest.unwrap_or(DIALECTS.len() - 1);
    refuse_if(
        age(&setting.value).is_some_and(|lowest| lowest > highest),
        "the lowest dialect is above the highest, so that the server speaks none",
        "remove that line, or `server max protocol`",
    )
}

/// If encryption is off for the server, no share can have it, and a share that demands it lets nobody in (smb.conf(5),
/// `server smb encrypt`).
pub fn encryption(setting: &Setting, view: &View) -> Verdict {
    refuse_if(
        view.ours.encrypt && is_one_of(setting, &["off", "no", "false", "0", "disabled"]),
        "the server encrypts nothing, so that a share that demands encryption lets nobody in",
        "remove that line: each share can still say `smb encrypt` for itself",
    )
}

/// What the kernel's client offers (`build_encrypt_ctxt()` in fs/smb/client/smb2pdu.c).
const CIPHERS: [&str; 3] = ["aes-128-gcm", "aes-256-gcm", "aes-128-ccm"];

pub fn encryption_algorithms(setting: &Setting, view: &View) -> Verdict {
    let names: Vec<String> = words(&setting.value).map(str::to_lowercase).collect();
    // A list of names with signs changes the default, which has them all.
    let signed = names
        .first()
        .is_some_and(|name| name.starts_with(['+', '-']));
    let has = |cipher: &&str| {
        if signed {
            !names
                .iter()
                .any(|name| name.strip_prefix('-') == Some(cipher))
        } else {
            names.iter().any(|name| name == cipher)
        }
    };
    refuse_if(
        view.ours.encrypt && !CIPHERS.iter().any(has),
        "the kernel of a WAS VM has none of these algorithms, so that nothing can be encrypted",
        "add AES-128-GCM to that line",
    )
}

pub fn ntlm(setting: &Setting, _: &View) -> Verdict {
    refuse_if(
        is_one_of(setting, &["disabled"]),
        "the server takes no password of an account of its own, such as the share's",
        "remove that line: `ntlmv2-only` is Samba's own default",
    )
}

pub fn plain_passwords(setting: &Setting, _: &View) -> Verdict {
    refuse_if(
        !is_yes(&setting.value),
        "the server wants passwords in plain text, which no client of SMB 3 sends",
        "remove that line",
    )
}

// ---- where the server listens, and to whom

pub fn ports(setting: &Setting, _: &View) -> Verdict {
    let mut list = words(&setting.value).map(str::to_lowercase).peekable();
    // A list of names with signs changes the default, which has the port.
    let is_default = list.peek().is_some_and(|one| one.starts_with('+'));
    let ours = ["445", "tcp", "tcp:445"];
    refuse_if(
        !is_default && !list.any(|one| ours.contains(&one.as_str())),
        "the server does not listen on port 445, where the share is looked for",
        "add 445 to that line",
    )
}

pub fn hosts(setting: &Setting, view: &View) -> Verdict {
    let (allow, deny) = (view.global("hostsallow"), view.global("hostsdeny"));
    let is_deny = setting.key == "hostsdeny";
    if view.ours.clients.is_empty() {
        let nobody = match allow {
            Some(allow) => hosts::is_loopback_alone(allow) && !is_deny,
            None => deny.is_some_and(hosts::means_all),
        };
        return refuse_if(
            nobody,
            "the server shuts out every client that is not this VM",
            "name the clients in share.clients and in `hosts allow` of [global]",
        );
    }
    let shut_out = view.ours.clients.iter().find(|client| {
        if allow.is_some_and(|allow| hosts::may_mean(allow, client)) {
            return false;
        }
        match deny {
            Some(deny) if hosts::surely_means(deny, client) => is_deny,
            // With both lists, a host on neither is let in.
            Some(_) => false,
            None => allow.is_some() && !is_deny,
        }
    });
    match shut_out {
        Some(client) => refuse(
            format!("the server shuts out {client} of share.clients"),
            format!("add {client} to `hosts allow` in [global]"),
        ),
        None => Fine,
    }
}

/// The addresses of this VM that `interfaces` means; `None` if only Samba can tell (`interpret_interface()` in
/// source3/lib/interface.c).
fn bound(list: &str, machine: &Machine) -> Option<Vec<IpAddr>> {
    let mut all = Vec::new();
    for word in list.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        let word = word.trim_matches('"').split(';').next().unwrap_or_default();
        all.extend(bound_by(word, machine)?);
    }
    Some(all)
}

fn bound_by(word: &str, machine: &Machine) -> Option<Vec<IpAddr>> {
    let addresses = &machine.addresses;
    let named: Vec<IpAddr> = addresses
        .iter()
        .filter(|(interface, _)| matches(word.as_bytes(), interface.as_bytes()))
        .map(|(_, address)| *address)
        .collect();
    if !named.is_empty() {
        return Some(named);
    }
    let theirs = |is: &dyn Fn(&IpAddr) -> bool| {
        let own = addresses.iter().map(|(_, address)| *address);
        own.filter(|address| is(address)).collect()
    };
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(theirs(&|own| *own == address));
    }
    if let Some((address, network)) = hosts::network(word) {
        // An address with a mask is taken as it is, one of the network or the broadcast means all in it.
        let is_edge = address == network.network() || address == network.broadcast();
        return Some(theirs(&|own| {
            if is_edge {
                network.contains(own)
            } else {
                *own == address
            }
        }));
    }
    if word.eq_ignore_ascii_case("localhost") {
        return Some(theirs(&IpAddr::is_loopback));
    }
    // A name of an interface that is not there means nothing; a name of a host is looked up.
    (!word.contains('.')).then(Vec::new)
}

/// fnmatch(3) with `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, _) => name.is_empty(),
        (Some((b'*', rest)), _) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        (Some((b'?', rest)), Some((_, left))) => matches(rest, left),
        (Some((one, rest)), Some((other, left))) => one == other && matches(rest, left),
        (Some(_), None) => false,
    }
}

pub fn interfaces(setting: &Setting, view: &View) -> Verdict {
    let Some(list) = view.global("interfaces").filter(|_| is_yes(&setting.value)) else {
        return Fine;
    };
    let Some(bound) = bound(list, view.machine) else {
        return Note(format!(
            "smbd listens on `interfaces = {list}` alone; is {} among them?",
            view.ours.server
        ));
    };
    let server: Option<IpAddr> = view.ours.server.parse().ok();
    let own = |address: &IpAddr| view.machine.addresses.iter().any(|(_, one)| one == address);
    let wanted = server.filter(own);
    let reached = match wanted {
        Some(server) => bound.contains(&server),
        None => bound.iter().any(|address| !address.is_loopback()),
    };
    if reached {
        return Fine;
    }
    let where_to = wanted.map_or_else(
        || "an address that clients can reach".to_owned(),
        |server| server.to_string(),
    );
    refuse(
        format!("with `interfaces = {list}` smbd does not listen on {where_to}"),
        format!("add the interface of {where_to} to `interfaces`, or remove that line"),
    )
}

pub fn server_addresses(setting: &Setting, view: &View) -> Verdict {
    if setting.value.is_empty() {
        return Fine;
    }
    let server = &view.ours.server;
    if server.parse::<IpAddr>().is_err() {
        return Note(format!(
            "shares are served on these addresses alone; is the one of {server} among them?"
        ));
    }
    if words(&setting.value).any(|word| word == server) {
        return Fine;
    }
    refuse(
        format!("shares are not served on {server}, where the WAS VMs look for ours"),
        format!("add {server} to that line, or set it in the shares that it is meant for"),
    )
}

pub fn lookups(setting: &Setting, _: &View) -> Verdict {
    if is_yes(&setting.value) {
        Note(
            "Samba asks a name server for each client; if that does not answer, the client waits 20 s and gives up"
                .to_owned(),
        )
    } else {
        Fine
    }
}

// ---- accounts

/// The name under which `user` logs in by a map of smb.conf(5), `username map`: the last line that names the user
/// counts, or the first with `!`. `None` if only Samba can tell.
fn mapped<'a>(map: &'a str, user: &'a str) -> Option<&'a str> {
    let mut name = user;
    for line in map.lines() {
        let Some((left, right)) = line.split_once('=') else {
            continue;
        };
        let left = left.trim();
        let (is_last, left) = match left.strip_prefix('!') {
            Some(left) => (true, left.trim()),
            None => (false, left),
        };
        if left.is_empty() || left.starts_with(['#', ';']) {
            continue;
        }
        let names_user = words(right).any(|word| word.eq_ignore_ascii_case(user));
        if right.contains('*') || names_user {
            name = left;
            if is_last {
                break;
            }
        } else if right.contains(['@', '+', '&']) && !left.eq_ignore_ascii_case(user) {
            return None;
        }
    }
    Some(name)
}

pub fn user_map(setting: &Setting, view: &View) -> Verdict {
    let user = &view.ours.user;
    if setting.value.contains('%') {
        return Note(format!(
            "each client has a map of its own; does one map {user}?"
        ));
    }
    // The script comes first, and the map is not read then.
    if view.global("usernamemapscript").is_some() {
        return Fine;
    }
    let Some(map) = &view.machine.username_map else {
        return Fine;
    };
    match mapped(map, user) {
        Some(name) if name.eq_ignore_ascii_case(user) => Fine,
        Some(name) => refuse(
            format!(
                "{} makes {user} log in as {name}, who may not use the share",
                setting.value
            ),
            format!(
                "add a line `!{user} = {user}` at the top of {}",
                setting.value
            ),
        ),
        None => Note(format!(
            "{} maps the members of a group; {user} must not be in it",
            setting.value
        )),
    }
}

pub fn user_map_script(setting: &Setting, view: &View) -> Verdict {
    if setting.value.is_empty() {
        return Fine;
    }
    let user = &view.ours.user;
    Note(format!(
        "that program must print {user} or nothing for {user}, or nobody gets in"
    ))
}

pub fn guest_account(setting: &Setting, view: &View) -> Verdict {
    if view.machine.missing_guest.is_none() {
        return Fine;
    }
    refuse(
        format!(
            "there is no account {}, without which smbd does not start",
            setting.value
        ),
        "remove that line: `nobody` is Samba's own default",
    )
}

/// The backends that Samba or a domain brings, beside its own two (source3/passdb/wscript_build).
const BACKENDS: [&str; 4] = ["ldapsam", "samba_dsdb", "samba4", "ipasam"];

pub fn accounts(setting: &Setting, _: &View) -> Verdict {
    let name = setting.value.split(':').next().unwrap_or_default().trim();
    match name {
        "tdbsam" | "smbpasswd" => Fine,
        name if BACKENDS.contains(&name) => Note(
            "the share's account is kept in a directory, without which smbd does not start"
                .to_owned(),
        ),
        _ => refuse(
            "Samba has no such backend, and smbd does not start",
            "remove that line: `tdbsam` is Samba's own default",
        ),
    }
}

pub fn server_role(setting: &Setting, view: &View) -> Verdict {
    let is_controller = [
        "active directory domain controller",
        "domain controller",
        "dc",
    ];
    if is_one_of(setting, &is_controller) {
        return refuse(
            "smbd does not run by itself on a domain controller, which keeps accounts elsewhere",
            "serve the share from another VM",
        );
    }
    if is_one_of(setting, &["member", "member server", "domain", "ads"]) {
        if !view.machine.joined {
            return refuse(
                "this VM has joined no domain, and without one a member lets nobody in",
                "remove that line, or join the domain by `net ads join`",
            );
        }
        return Note(
            "a client that names a domain is sent to its controller; the WAS VMs name none, and log in with an account of this server"
                .to_owned(),
        );
    }
    Fine
}

// ---- what smbd needs to start

pub fn clustering(setting: &Setting, _: &View) -> Verdict {
    refuse_if(
        is_yes(&setting.value),
        "smbd then keeps its accounts and locks in a cluster (ctdb), which the agent does not know",
        "remove that line, or serve the share from another VM",
    )
}

pub fn directory(setting: &Setting, view: &View) -> Verdict {
    if !view.machine.unmakeable.contains(&setting.key.as_str()) {
        return Fine;
    }
    refuse(
        format!(
            "{} is missing and smbd cannot make it, so that it does not start",
            setting.value
        ),
        format!("run: mkdir -p {}", setting.value),
    )
}

// ---- limits

/// `strtol()` with base 0, as `lp_int()` in lib/param/loadparm.c reads numbers; a text without a number is 0.
fn number(value: &str) -> i64 {
    let value = value.trim_start_matches(parameters::is_blank);
    let (sign, largest, value) = match value.strip_prefix('-') {
        Some(value) => (-1, i64::MIN, value),
        None => (1, i64::MAX, value.strip_prefix('+').unwrap_or(value)),
    };
    let (radix, value) = match value.strip_prefix("0x").or(value.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if value.starts_with('0') => (8, value),
        None => (10, value),
    };
    let digits = value.split(|c: char| !c.is_digit(radix)).next();
    let digits = digits.filter(|digits| !digits.is_empty()).unwrap_or("0");
    // The largest number stands for one that is too large, and of a long one an `int` keeps the lower half.
    let long = i64::from_str_radix(digits, radix).map_or(largest, |number| sign * number);
    i64::from(long as i32)
}

/// Two processes are Samba's own (source3/smbd/server.c: notifyd, cleanupd). Two WAS VMs take two, and while they
/// connect anew two more.
pub fn processes(setting: &Setting, _: &View) -> Verdict {
    match number(&setting.value) {
        1..=3 => refuse(
            "Samba itself takes two of these processes, and each WAS VM one",
            "remove that line, or say 100",
        ),
        4..=19 => Note("each client takes one of these processes, and Samba itself two".to_owned()),
        _ => Fine,
    }
}

/// With about 100, smbd was seen to abort when it starts.
pub fn open_files(setting: &Setting, _: &View) -> Verdict {
    match number(&setting.value) {
        ..=199 => refuse(
            "with so few files smbd does not start, or a client runs out of them",
            "remove that line: 16384 is Samba's own default",
        ),
        200..=1023 => Note("a WAS VM may have no more files open than this".to_owned()),
        _ => Fine,
    }
}

/// Without two spare ones the kernel's client turns its echoes off (`change_conf()` in fs/smb/client/smb2ops.c).
pub fn credits(setting: &Setting, _: &View) -> Verdict {
    match number(&setting.value) {
        // What is not positive is the default.
        1..=9 => Note("with so few, a WAS VM waits for one answer before it asks again".to_owned()),
        _ => Fine,
    }
}

/// The least that a server offers ([MS-SMB2] 2.2.4).
const LEAST: u64 = 65536;

pub fn largest(setting: &Setting, _: &View) -> Verdict {
    refuse_if(
        parameters::size(&setting.value).unwrap_or_default() < LEAST,
        "a client needs at least 65536 bytes in a message",
        "remove that line",
    )
}

// ---- names

pub fn charset(setting: &Setting, _: &View) -> Verdict {
    /// Families of character sets that have ASCII in them.
    const FAMILIES: [&str; 12] = [
        "iso8859", "latin", "cp", "windows", "koi8", "euc", "sjis", "shiftjis", "big5", "gb",
        "uhc", "ascii",
    ];
    let name: String = setting.value.to_lowercase();
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    if name == "utf8" {
        return Fine;
    }
    if FAMILIES.iter().any(|family| name.starts_with(family)) {
        return Note(
            "names with other letters than ASCII are other names for a WAS VM than on this one"
                .to_owned(),
        );
    }
    refuse(
        "with this character set no client can log in",
        "remove that line: UTF-8 is Samba's own default",
    )
}

/// `veto files : NAME` of newer Samba (4.22 has it, 4.17 not). The name is of a user or a group.
pub fn patterns_of_a_name(setting: &Setting, view: &View) -> Verdict {
    let (_, name) = setting.key.split_once(':').unwrap_or_default();
    let user = &view.ours.user;
    if setting.value.trim_matches('/').is_empty() {
        return Fine;
    }
    // The account's own group has its name.
    if name.eq_ignore_ascii_case(user) {
        return refuse(
            format!(
                "{user} does not see files that match {}, and no share can take that back",
                setting.value
            ),
            "remove that line, or set it in the shares that it is meant for",
        );
    }
    Note(format!(
        "if {name} is a group with {user} in it, a WAS VM does not see files that match {}",
        setting.value
    ))
}
