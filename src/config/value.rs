//! What a value of the tier file must look like, and what is wrong with a bad value. Pure functions
//! of a string.
//!
//! The file is long because it has a small function for each kind of value. They are looked up one at a time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::template::{self, Piece};
use super::{Device, Dialect, Filesystem, Image, Mode, Protocol, Publish};
use super::{address, place, reserved};

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) expected: Option<String>,
    pub(super) hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            expected: None,
            hint: None,
        }
    }

    pub(super) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Leaves no character that a terminal obeys. A hint that repeats such a value goes: a value of several lines may
    /// have swallowed a password that stood behind it.
    pub(super) fn on_one_line(self) -> Self {
        let has_control = |text: &str| text.contains(char::is_control);
        let shown = |text: String| match has_control(&text) {
            true => text.escape_debug().to_string(),
            false => text,
        };
        Self {
            what: shown(self.what),
            expected: self.expected.map(shown),
            hint: self.hint.filter(|hint| !has_control(hint)),
        }
    }
}

type Checked<T> = Result<T, Wrong>;

/// The time between two probes. A probe takes some milliseconds, and nobody waits longer than an
/// hour.
pub(super) const INTERVAL: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
/// A drain must end, or a shutdown of the VM would wait forever.
pub(super) const DRAIN: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

/// The ports that can be listened on.
pub(super) const PORTS: RangeInclusive<u16> = 1..=65535;
/// The statuses of a final answer. One of 1xx is none.
pub(super) const STATUSES: RangeInclusive<u16> = 200..=599;

pub(super) const FILESYSTEMS: [(&str, Filesystem); 2] =
    [("xfs", Filesystem::Xfs), ("ext4", Filesystem::Ext4)];
pub(super) const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("report", Mode::Report)];
pub(super) const DIALECTS: [(&str, Dialect); 4] = [
    ("3.0", Dialect::V3_0),
    ("3.0.2", Dialect::V3_0_2),
    ("3.1.1", Dialect::V3_1_1),
    ("3", Dialect::V3),
];
/// Sections of smb.conf with a meaning of their own, and shares that Samba makes.
pub(super) const SAMBAS_OWN: [&str; 7] = [
    "global", "globals", "homes", "printers", "print$", "ipc$", "admin$",
];

fn refuse_if(wrong: bool, what: &str, expected: &str) -> Checked<()> {
    if wrong {
        return Err(Wrong::new(what).expected(expected));
    }
    Ok(())
}

/// Any text on one line.
pub(super) fn text(text: &str) -> Checked<String> {
    refuse_if(text.is_empty(), "is empty", "some text")?;
    refuse_control(text)?;
    Ok(text.to_owned())
}

fn refuse_control(text: &str) -> Checked<()> {
    refuse_if(
        text.chars().any(char::is_control),
        "holds a control character",
        "a text on one line",
    )
}

/// The value of an environment variable: it may be empty. A single argument of a program, which podman
/// gets it as, has less than 128 KiB (`MAX_ARG_STRLEN`).
pub(super) fn environment_value(text: &str) -> Checked<String> {
    refuse_control(text)?;
    refuse_if(
        text.len() > 100_000,
        "too long for an environment variable",
        "at most 100000 bytes",
    )?;
    Ok(text.to_owned())
}

/// The name of an environment variable (POSIX, Base Definitions 8.1).
pub(super) fn environment_name(name: &str) -> Checked<()> {
    let good = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty();
    refuse_if(
        !good,
        "no name for an environment variable",
        "letters, digits and _, not beginning with a digit",
    )
}

/// A share's name ([MS-FSCC] 2.1.6), except for section names that have a special meaning in Samba.
pub(super) fn share_name(name: &str) -> Checked<String> {
    const FORBIDDEN: &str = "\"\\/[]:|<>+=;,*?%";
    let expected =
        "1 to 80 characters without control characters and \" \\ / [ ] : | < > + = ; , * ? %";
    refuse_if(name.is_empty(), "is empty", expected)?;
    refuse_if(
        name.chars().count() > 80,
        "longer than 80 characters",
        expected,
    )?;
    if let Some(bad) = name
        .chars()
        .find(|c| c.is_control() || FORBIDDEN.contains(*c))
    {
        return Err(Wrong::new(format!(
            "`{}` cannot be in a share's name",
            bad.escape_debug()
        ))
        .expected(expected));
    }
    refuse_if(
        name.trim() != name || name.starts_with('.'),
        "begins or ends with a blank, or begins with a dot",
        expected,
    )?;
    refuse_if(
        SAMBAS_OWN.contains(&name.to_lowercase().as_str()),
        "Samba keeps this name for itself",
        "another name",
    )?;
    Ok(name.to_owned())
}

/// A Linux account. At most 31 characters: systemd-sysusers takes no more
/// (`valid_user_group_name`).
pub(super) fn account(name: &str) -> Checked<String> {
    let good = (1..=31).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    refuse_if(
        !good,
        "no name for an account",
        "1 to 31 letters, digits, _ and -, beginning with a letter or _",
    )?;
    refuse_if(
        name.eq_ignore_ascii_case("root"),
        "root cannot own the share",
        "an account of its own for the share",
    )?;
    refuse_if(
        reserved::is_account(name),
        "an account or group of the system",
        "an account of its own for the share",
    )?;
    Ok(name.to_owned())
}

/// An IP address or a host name.
pub(super) fn host(host: &str) -> Checked<String> {
    let expected = "an IP address or a host name";
    refuse_if(host.is_empty(), "is empty", expected)?;
    if let Ok(address) = host.parse::<IpAddr>() {
        address::of_one_machine(address)?;
        return Ok(host.to_owned());
    }
    if host.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(
            Wrong::new("not an IP address: that is four numbers from 0 to 255")
                .expected("an address such as 192.168.2.13, or a host name"),
        );
    }
    if let Some(wrong) = written_as_in_a_url(host) {
        return Err(wrong.expected("an address such as fd00::13, or a host name"));
    }
    let mut wrong = Wrong::new("neither an IP address nor a host name").expected(expected);
    if host.contains("://") || host.contains('/') {
        wrong = wrong.hint("write the host alone, without scheme and path");
    } else if host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        wrong = wrong.hint("write the host alone, without a port");
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    if is_host_name(host, 253) && !last.chars().all(|c| c.is_ascii_digit()) {
        return Ok(host.to_owned());
    }
    Err(wrong)
}

/// What is wrong with an IPv6 address in brackets, or with the interface that it is valid on.
fn written_as_in_a_url(host: &str) -> Option<Wrong> {
    let (address, behind) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or((rest, "")),
        None => (host, ""),
    };
    let (plain, interface) = match address.split_once('%') {
        Some((plain, interface)) => (plain, Some(interface)),
        None => (address, None),
    };
    plain.parse::<std::net::Ipv6Addr>().ok()?;
    Some(match interface {
        Some(_) => Wrong::new("an address that is valid on one link only")
            .hint("give that machine an address that is valid everywhere, such as fd00::13"),
        None if behind.is_empty() => Wrong::new("an IPv6 address in brackets")
            .hint(format!("write {plain}, without brackets")),
        None => Wrong::new("an IPv6 address in brackets, with something behind it")
            .hint(format!("write {plain}, without brackets and port")),
    })
}

/// The host that the WAS VMs mount from.
pub(super) fn server(text: &str) -> Checked<String> {
    let host = host(text)?;
    address::of_another_machine(&host)?;
    Ok(host)
}

/// RFC 1123, 2.1.
fn is_host_name(name: &str, longest: usize) -> bool {
    name.len() <= longest
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// The container's host name: a template with `{index}`, at most 64 characters (`HOST_NAME_MAX`).
pub(super) fn hostname_template(template: &str) -> Checked<String> {
    placeholders(template, &template::HOSTNAME)?;
    let example = template::fill(template, |_| Some("1".into()));
    refuse_if(
        !is_host_name(&example, 64),
        "no host name",
        "letters, digits, - and dots, at most 64, with {index} for the number of the VM",
    )?;
    Ok(template.to_owned())
}

/// Refuses an unknown placeholder.
pub(super) fn placeholders(template: &str, known: &[&str]) -> Checked<()> {
    for piece in template::pieces(template) {
        let Piece::Placeholder(name) = piece else {
            continue;
        };
        if known.contains(&name) {
            continue;
        }
        let all: Vec<_> = known.iter().map(|name| format!("{{{name}}}")).collect();
        let mut wrong = Wrong::new(format!("unknown placeholder {{{name}}}"))
            .expected(format!("one of: {}", all.join(", ")));
        if let Some(meant) = super::keys::nearest(name, known) {
            wrong = wrong.hint(format!("did you mean {{{meant}}}?"));
        }
        return Err(wrong);
    }
    Ok(())
}

/// The name of a container, as podman takes it (`libpod/define`, `NameRegex`).
pub(super) fn container_name(name: &str) -> Checked<String> {
    let good = (1..=128).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    refuse_if(
        !good,
        "no name for a container",
        "1 to 128 letters, digits, _ . and -, beginning with a letter or digit",
    )?;
    refuse_if(
        reserved::is_service(name),
        "a service of the system has this name",
        "a name of the container's own, such as nodejs-server",
    )?;
    Ok(name.to_owned())
}

/// The name of one of firewalld's zones (at most 17 characters, `firewall.core.base`).
pub(super) fn zone(name: &str) -> Checked<String> {
    if name.is_empty() {
        return Err(Wrong::new("is empty").hint("for firewalld's default zone leave the key out"));
    }
    let good = name.len() <= 17
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-/".contains(c));
    refuse_if(
        !good,
        "no name for a firewalld zone",
        "at most 17 letters, digits, _ - and /",
    )?;
    Ok(name.to_owned())
}

/// The name of a file in the container's `/run/secrets`, and part of the secret's name in podman.
pub(super) fn secret_name(name: &str) -> Checked<()> {
    let good = (1..=100).contains(&name.len())
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    refuse_if(
        !good,
        "no name for a secret",
        "1 to 100 letters, digits, _ . and -, not beginning with a dot",
    )
}

/// Whether a name may be that of a file in `$CREDENTIALS_DIRECTORY`.
pub(super) fn is_credential(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-@".contains(c))
}

/// An absolute, tidy path.
pub(super) fn path(text: &str) -> Checked<PathBuf> {
    let expected = "an absolute path";
    refuse_if(text.is_empty(), "is empty", expected)?;
    refuse_control(text)?;
    if !text.starts_with('/') {
        let mut wrong = Wrong::new("not an absolute path").expected(expected);
        if text.starts_with('~') || text.contains('$') {
            wrong = wrong.hint("nothing is expanded here: write the whole path");
        }
        return Err(wrong);
    }
    refuse_parents(text)?;
    let tidy = format!("/{}", components(text).join("/"));
    if tidy != text {
        return Err(Wrong::new("not a tidy path")
            .expected("no `.`, no doubled and no trailing slash")
            .hint(format!("write {tidy}")));
    }
    refuse_if(
        text.len() > 4095 || text.split('/').any(|name| name.len() > 255),
        "too long for a path",
        "at most 4095 bytes, 255 a name",
    )?;
    Ok(PathBuf::from(text))
}

fn components(text: &str) -> Vec<&str> {
    text.split('/')
        .filter(|name| !name.is_empty() && *name != ".")
        .collect()
}

fn refuse_parents(text: &str) -> Checked<()> {
    refuse_if(
        text.split('/').any(|name| name == ".."),
        "holds `..`",
        "a path without `..`",
    )
}

/// A path that ends up in Samba's configuration, in unit files and in podman's `--volume`. Each of
/// them quotes in its own way, so characters that are special to any of them are refused.
fn plain_path(text: &str) -> Checked<PathBuf> {
    let path = path(text)?;
    match text
        .chars()
        .find(|c| !c.is_alphanumeric() && !"/._-+@~".contains(*c))
    {
        Some(bad) => Err(Wrong::new(format!("`{bad}` cannot be in this path"))
            .expected("letters, digits and / . _ - + @ ~: unit files, Samba and podman read the others each in their own way")),
        None => Ok(path),
    }
}

/// A directory that the agent may take over: mount a file system on it, change its owner, label
/// everything below it.
pub(super) fn directory(text: &str) -> Checked<PathBuf> {
    let path = plain_path(text)?;
    place::of_the_tier(&path)?;
    Ok(path)
}

/// Where the share appears in the container.
pub(super) fn workdir(text: &str) -> Checked<PathBuf> {
    let path = plain_path(text)?;
    place::in_the_container(&path)?;
    Ok(path)
}

/// A path within the content.
pub(super) fn relative_path(text: &str) -> Checked<PathBuf> {
    let expected = "a path relative to the content's root";
    refuse_if(text.is_empty(), "is empty", expected)?;
    refuse_control(text)?;
    refuse_if(text.starts_with('/'), "not a relative path", expected)?;
    refuse_parents(text)?;
    let tidy = components(text).join("/");
    if tidy.is_empty() {
        return Err(Wrong::new("names the root itself").hint("leave the key out"));
    }
    if tidy != text {
        return Err(Wrong::new("not a tidy path").hint(format!("write {tidy}")));
    }
    Ok(PathBuf::from(text))
}

/// How the data disk is found.
pub(super) fn device(text: &str) -> Checked<Device> {
    let expected = "\"auto\", a path below /dev, or a disk's serial";
    refuse_if(text.is_empty(), "is empty", expected)?;
    if text == "auto" {
        return Ok(Device::Auto);
    }
    if text.starts_with('/') {
        let path = path(text)?;
        refuse_if(
            !path.starts_with("/dev") || path == Path::new("/dev"),
            "not below /dev",
            expected,
        )?;
        return Ok(Device::Path(path));
    }
    if text.contains('/') {
        return Err(Wrong::new("neither a path nor a serial")
            .expected(expected)
            .hint(format!("a path begins with a slash: /{text}")));
    }
    if let Some(meant) = device_meant(text) {
        return Err(Wrong::new("neither \"auto\", a path nor a serial")
            .expected(expected)
            .hint(format!("did you mean \"{meant}\"?")));
    }
    let good = text.len() <= 255 && text.chars().all(|c| c.is_ascii_graphic());
    refuse_if(!good, "no serial of a disk", expected)?;
    Ok(Device::Serial(text.to_owned()))
}

/// What a word that is no serial was meant to be: a misspelt `auto`, a disk's name without `/dev`,
/// or a tag as in fstab(5).
fn device_meant(text: &str) -> Option<String> {
    let letters = text.chars().all(|c| c.is_ascii_alphabetic());
    if letters && super::keys::nearest(text, &["auto"]).is_some() {
        return Some("auto".to_owned());
    }
    if is_kernel_name(text) {
        return Some(format!("/dev/{text}"));
    }
    let (tag, value) = text.split_once('=')?;
    let directory = match tag.to_ascii_uppercase().as_str() {
        "UUID" => "by-uuid",
        "LABEL" => "by-label",
        "PARTUUID" => "by-partuuid",
        "PARTLABEL" => "by-partlabel",
        "ID" => "by-id",
        "SERIAL" | "ID_SERIAL" | "ID_SERIAL_SHORT" => return Some(unquoted(value)),
        _ => return None,
    };
    Some(format!("/dev/disk/{directory}/{}", unquoted(value)))
}

fn unquoted(text: &str) -> String {
    text.trim_matches(['"', '\'']).escape_debug().to_string()
}

/// Whether the kernel gives such names to disks and partitions (Documentation/admin-guide/devices.txt).
fn is_kernel_name(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let lettered = ["sd", "vd", "xvd", "hd"].iter().any(|kind| {
        text.strip_prefix(kind).is_some_and(|rest| {
            let rest = rest.trim_end_matches(|c: char| c.is_ascii_digit());
            (1..=2).contains(&rest.len()) && rest.chars().all(|c| c.is_ascii_lowercase())
        })
    });
    let numbered = ["dm-", "md", "loop", "sr", "nbd", "zram", "ram", "mmcblk"]
        .iter()
        .any(|kind| text.strip_prefix(kind).is_some_and(digits));
    let nvme = text
        .strip_prefix("nvme")
        .is_some_and(|rest| rest.split(['n', 'p']).all(digits));
    lettered || numbered || nvme
}

/// One of a few words.
fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Checked<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let mut wrong = Wrong::new("unknown value").expected(format!("one of: {}", names.join(", ")));
    if let Some(meant) = super::keys::nearest(text, &names) {
        wrong = wrong.hint(format!("did you mean \"{meant}\"?"));
    }
    Err(wrong)
}

pub(super) fn filesystem(text: &str) -> Checked<Filesystem> {
    one_of(text, &FILESYSTEMS)
}

pub(super) fn mode(text: &str) -> Checked<Mode> {
    one_of(text, &MODES)
}

pub(super) fn dialect(text: &str) -> Checked<Dialect> {
    one_of(text, &DIALECTS)
}

/// A network in CIDR notation, without host bits.
pub(super) fn network(text: &str) -> Checked<IpNet> {
    let expected = "a network such as 192.168.2.0/24";
    if let Ok(address) = text.parse::<IpAddr>() {
        let alone = IpNet::from(address);
        address::network_of_clients(&alone)?;
        return Err(Wrong::new("an address, not a network")
            .expected(expected)
            .hint(format!("for this address alone write {alone}")));
    }
    let network: IpNet = text
        .parse()
        .map_err(|_| Wrong::new("not a network").expected(expected))?;
    if network.addr() != network.network() {
        return Err(Wrong::new("has bits beyond the length of its prefix")
            .expected(expected)
            .hint(format!("the network is {}", network.trunc())));
    }
    address::network_of_clients(&network)?;
    Ok(network)
}

/// `[address:]host_port:container_port[/tcp|/udp]`.
pub(super) fn publish(text: &str) -> Checked<Publish> {
    let expected = "\"[ADDRESS:]HOST_PORT:CONTAINER_PORT[/tcp|/udp]\", such as \"5000:3000\"";
    let wrong = |what: &str| Wrong::new(what).expected(expected);
    let (ports, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return Err(wrong("unknown protocol")),
    };
    let Some((rest, container_port)) = ports.rsplit_once(':') else {
        return Err(wrong("only one port"));
    };
    let (address, host_port) = match rest.rsplit_once(':') {
        None => (None, rest),
        Some((address, port)) => {
            let address = publish_address(address).ok_or_else(|| match rest.rsplit_once(':') {
                Some((bare, _)) if bare.parse::<std::net::Ipv6Addr>().is_ok() => {
                    wrong("no IP address: IPv6 stands in brackets here")
                        .hint(format!("write [{bare}]:{}", &text[bare.len() + 1..]))
                }
                _ => wrong("no IP address"),
            })?;
            address::to_listen_on(address, expected)?;
            (Some(address), port)
        }
    };
    Ok(Publish {
        address,
        host_port: port(host_port).ok_or_else(|| wrong("no port of the VM"))?,
        container_port: port(container_port).ok_or_else(|| wrong("no port of the container"))?,
        protocol,
    })
}

fn publish_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().map(IpAddr::V6).ok(),
        None => text.parse().map(IpAddr::V4).ok(),
    }
}

fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Where the HTTP endpoint listens; empty: nowhere.
pub(super) fn listen(text: &str) -> Checked<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let expected = "\"ADDRESS:PORT\", such as \"0.0.0.0:9180\", or \"\" to turn it off";
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err(Wrong::new("port 0 is none to listen on").expected(expected))
        }
        Ok(address) => {
            address::to_listen_on(address.ip(), expected)?;
            Ok(Some(address))
        }
        Err(_) => {
            let mut wrong = Wrong::new("no address to listen on").expected(expected);
            if let Some((bare, port)) = text.rsplit_once(':')
                && bare.parse::<std::net::Ipv6Addr>().is_ok()
            {
                wrong = wrong.hint(format!("write \"[{bare}]:{port}\""));
            } else if let Some(port) = port(text.trim_start_matches([':', '*'])) {
                let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
                wrong = wrong.hint(format!("for every address write \"{address}\""));
            }
            Err(wrong)
        }
    }
}

/// Whether two listening sockets would conflict. `::` also takes IPv4 (`net.ipv6.bindv6only` is 0
/// by default).
pub(super) fn overlap(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return true;
    };
    let takes = |all: IpAddr, one: IpAddr| match all {
        IpAddr::V4(all) => all.is_unspecified() && one.is_ipv4(),
        IpAddr::V6(all) => all.is_unspecified(),
    };
    one == other || takes(one, other) || takes(other, one)
}

/// `1m30s`: whole numbers, each with its unit, the larger units first.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Checked<Duration> {
    let expected = "a duration, such as \"5s\", \"500ms\" or \"1m30s\"";
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return Err(Wrong::new("a number without a unit")
            .expected(expected)
            .hint(format!("for seconds write \"{text}s\"")));
    }
    let duration = parse_duration(text).ok_or_else(|| {
        Wrong::new("not a duration").expected(format!("{expected}; units: h, m, s, ms"))
    })?;
    if !range.contains(&duration) {
        return Err(Wrong::new("out of range").expected(format!(
            "{:?} to {:?}",
            range.start(),
            range.end()
        )));
    }
    Ok(duration)
}

fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut milliseconds = 0_u64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, size) = units.find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(*size)?;
        milliseconds = milliseconds.checked_add(part)?;
        rest = after;
    }
    Some(Duration::from_millis(milliseconds))
}

/// A fully qualified reference, or the path of an archive.
pub(super) fn image(text: &str) -> Checked<Image> {
    let expected = "REGISTRY/NAME[:TAG|@DIGEST], or docker-archive:/PATH";
    if let Some(archive) = text.strip_prefix("docker-archive:") {
        return plain_path(archive).map(Image::DockerArchive);
    }
    refuse_if(text.is_empty(), "is empty", expected)?;
    if let Some((transport, _)) = text.split_once("://") {
        return Err(Wrong::new("begins with a transport")
            .expected(expected)
            .hint(format!("leave `{}://` out", transport.escape_debug())));
    }
    let Some((registry, rest)) = text.split_once('/') else {
        return Err(short_name(text, expected));
    };
    let named = registry == "localhost" || registry.contains(['.', ':']);
    if !named {
        return Err(short_name(text, expected));
    }
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (rest, None),
    };
    let (name, tag) = match rest.split_once(':') {
        Some((name, tag)) => (name, Some(tag)),
        None => (rest, None),
    };
    refuse_if(!is_registry(registry), "no registry's host name", expected)?;
    refuse_if(
        name.len() > 255,
        "too long for an image's name",
        "at most 255 characters",
    )?;
    refuse_if(
        !name.split('/').all(is_repository),
        "no name of an image",
        "lower-case letters and digits, parted by . _ - and /",
    )?;
    refuse_if(
        !tag.is_none_or(is_tag),
        "no tag",
        "letters, digits, _ . and -, at most 128",
    )?;
    refuse_if(
        !digest.is_none_or(is_digest),
        "no digest",
        "sha256: and 64 hexadecimal digits",
    )?;
    Ok(Image::Registry(text.to_owned()))
}

/// The fault of a name without a registry: podman would search its registries for it, or ask.
fn short_name(text: &str, expected: &str) -> Wrong {
    let library = if text.contains('/') { "" } else { "library/" };
    Wrong::new("names no registry, so which image is meant is open")
        .expected(expected)
        .hint(format!(
            "on Docker Hub it would be docker.io/{library}{}",
            text.escape_debug()
        ))
}

fn is_registry(registry: &str) -> bool {
    let (host, port_good) = match registry.rsplit_once(':') {
        Some((host, text)) => (host, port(text).is_some()),
        None => (registry, true),
    };
    port_good && is_host_name(host, 253)
}

fn is_repository(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = name.split(edge).filter(|between| !between.is_empty());
    name.starts_with(edge)
        && name.ends_with(edge)
        // The `separator` of github.com/distribution/reference: one dot, one or two underscores, or hyphens.
        && separators.into_iter().all(|between| {
            matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-')
        })
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && tag
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        && !tag.starts_with(['.', '-'])
}

fn is_digest(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .chars()
                .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    })
}

/// Where git fetches from. It stands in argument lists and in a configuration. So it must not hold
/// a password, or anything that git takes for an option or a helper's command (`ext::`).
pub(super) fn git(text: &str) -> Checked<String> {
    let expected = "https://…, ssh://…, user@host:path, file:///path or an absolute path";
    refuse_if(text.is_empty(), "is empty", expected)?;
    refuse_if(text.starts_with('-'), "begins with a hyphen", expected)?;
    refuse_if(
        text.chars().any(|c| c.is_control() || c.is_whitespace()),
        "holds a blank or a control character",
        expected,
    )?;
    let no_password = |user: &str| {
        if user.contains(':') {
            return Err(
                Wrong::new("holds a password, which would show in argument lists")
                    .expected(expected)
                    .hint("use an ssh key or a repository that needs no password"),
            );
        }
        Ok(())
    };
    let good = match text.split_once("://") {
        Some(("https", rest)) => {
            if has_user(rest) {
                return Err(
                    Wrong::new("holds a user, and with it often a password or token")
                        .expected(expected)
                        .hint("use an ssh key or a repository that needs no password"),
                );
            }
            is_host_and_path(rest)
        }
        Some(("ssh", rest)) => {
            let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
            no_password(user)?;
            !user.starts_with('-') && is_host_and_path(rest)
        }
        Some(("file", rest)) => path(rest).is_ok(),
        Some((scheme @ ("http" | "git"), _)) => {
            return Err(Wrong::new(format!("{scheme}:// can be changed on its way"))
                .expected(expected)
                .hint("most servers have the same repository under https://"));
        }
        Some(_) => false,
        None if text.starts_with('/') => return path(text).map(|_| text.to_owned()),
        None => match text.rsplit_once('@') {
            Some((user, rest)) => {
                no_password(user)?;
                let host = rest.split_once(':').filter(|(_, path)| !path.is_empty());
                account_like(user) && host.is_some_and(|(host, _)| is_host_name(host, 253))
            }
            None => false,
        },
    };
    refuse_if(!good, "nothing that git fetches from", expected)?;
    Ok(text.to_owned())
}

fn account_like(user: &str) -> bool {
    !user.is_empty()
        && !user.starts_with('-')
        && user
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn has_user(after_scheme: &str) -> bool {
    after_scheme
        .split('/')
        .next()
        .is_some_and(|authority| authority.contains('@'))
}

fn is_host_and_path(after_scheme: &str) -> bool {
    let Some((authority, path)) = after_scheme.split_once('/') else {
        return false;
    };
    let (host, port_good) = match authority.rsplit_once(':') {
        Some((host, text)) if !host.ends_with(':') => (host, port(text).is_some()),
        _ => (authority, true),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>().is_ok();
    port_good && !path.is_empty() && (address || is_host_name(host, 253))
}

/// A branch, tag or commit (`man git-check-ref-format`).
pub(super) fn revision(rev: &str) -> Checked<String> {
    let expected = "a branch, a tag or a commit";
    refuse_if(rev.is_empty(), "is empty", expected)?;
    refuse_if(rev.starts_with('-'), "begins with a hyphen", expected)?;
    let bad = rev
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c))
        || ["..", "@{", "//"].iter().any(|part| rev.contains(part))
        || rev == "@"
        || rev.starts_with('/')
        || rev.ends_with(['/', '.'])
        || rev
            .split('/')
            .any(|part| part.starts_with('.') || part.ends_with(".lock"));
    refuse_if(bad, "no name that git knows a revision by", expected)?;
    Ok(rev.to_owned())
}

/// A word of `storage.content.build`.
pub(super) fn argument(word: &str) -> Checked<String> {
    refuse_if(
        word.is_empty(),
        "an empty word",
        "a program and its arguments",
    )?;
    refuse_if(
        word.contains('\0'),
        "holds a NUL",
        "a program and its arguments",
    )?;
    Ok(word.to_owned())
}

/// The call whose object literal is edited: names with dots between them. Instead of the first name,
/// what `require()` gives may stand there: `require('mysql').createPool`.
pub(super) fn javascript_call(text: &str) -> Checked<String> {
    if let Some((module, names)) = required_module(text) {
        javascript_call(names)?;
        return Ok(format!("require('{module}').{names}"));
    }
    let name = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || c == '_' || c == '$')
            && !part.starts_with(|c: char| c.is_ascii_digit())
    };
    refuse_if(
        !text.split('.').all(name),
        "no name of a JavaScript function",
        "names with dots between them, such as mysql.createPool or require('mysql').createPool",
    )?;
    Ok(text.to_owned())
}

/// The module and the names behind it, of `require("module").names`.
fn required_module(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("require(")?;
    let quote = rest.chars().next().filter(|c| "'\"".contains(*c))?;
    let (module, names) = rest[1..].split_once(quote)?;
    let plain = |c: char| !c.is_control() && !"'\"\\".contains(c);
    let names = names.strip_prefix(").")?;
    (!module.is_empty() && module.chars().all(plain)).then_some((module, names))
}

/// The path of an HTTP request.
pub(super) fn http_path(text: &str) -> Checked<String> {
    let expected = "a path that begins with a slash, such as /healthz";
    refuse_if(
        !text.starts_with('/'),
        "does not begin with a slash",
        expected,
    )?;
    refuse_if(
        !text.chars().all(|c| c.is_ascii_graphic()) || text.contains('#'),
        "holds what a request cannot carry",
        "visible ASCII characters without #; others as %XX",
    )?;
    Ok(text.to_owned())
}
