//! Reads a tier file into a [`Tier`], collecting every fault on the way.
//!
//! The file is long because it has a function for each section, in the order of the tier file, which it is read beside.

use std::collections::BTreeMap;
use std::env;
use std::fs::Metadata;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use toml::de::DeTable;
use zeroize::Zeroizing;

use super::document::{Field, Report, Section};
use super::encoding;
use super::fault::{Fault, Faults};
use super::outline::{NamedSecret, Secrets, Way};
use super::secret::{self, Owner};
use super::source::{Source, Span};
use super::template::{self, Piece};
use super::value::{self, Wrong};
use super::{
    Container, Content, Database, Disk, Edit, Firewall, Health, HttpCheck, Protocol, Publish, Role,
    Secret, Serve, Share, Storage, Tier, Was, keys,
};

/// A tier file of a hundred lines has 5 KiB.
const LARGEST_FILE: u64 = 256 * 1024;

/// Reads and validates the tier file at `path`, and the secrets that it names. With a `role`, the
/// section of that role is required.
///
/// # Errors
/// All the faults of the file, sorted by place.
pub fn load(path: &Path, role: Option<Role>) -> Result<Tier, Faults> {
    load_text(path, role, Secrets::Read).map(|loaded| loaded.tier)
}

/// What a tier file says.
pub(super) struct Loaded {
    pub(super) text: Zeroizing<String>,
    pub(super) tier: Tier,
    /// Those that the role uses, and those that stand in the file itself.
    pub(super) secrets: Vec<NamedSecret>,
}

/// Reads a tier file, and its secrets if that is asked for.
pub(super) fn load_text(
    path: &Path,
    role: Option<Role>,
    secrets: Secrets,
) -> Result<Loaded, Faults> {
    let (text, metadata) = read(path)?;
    let mut source = Source::new(path, &text);
    let (document, errors) = DeTable::parse_recoverable(&text);
    source.hide_secrets(document.get_ref(), !errors.is_empty());
    let report = Report::new(source, secrets);
    errors.iter().for_each(|error| report.syntax(error));
    let root = Section::new(&report, String::new(), 0..0, document.get_ref());
    let tier = tier(&root, role, &metadata);
    drop(root);
    let secrets = report.into_result()?;
    let tier = tier.ok_or_else(|| whole_file(path, Wrong::new("cannot be understood")))?;
    drop(document);
    Ok(Loaded {
        text,
        tier,
        secrets,
    })
}

/// The file's text and its metadata.
fn read(path: &Path) -> Result<(Zeroizing<String>, Metadata), Faults> {
    let refuse = |what: String| whole_file(path, Wrong::new(what));
    let cannot = |error: std::io::Error| {
        let mut wrong = secret::unreadable(path, "the tier file", &error);
        if error.kind() == std::io::ErrorKind::NotFound {
            wrong = wrong.hint("write it, or name another with --config");
        }
        whole_file(path, wrong)
    };
    let (file, metadata) = secret::open(path).map_err(cannot)?;
    if !metadata.is_file() {
        let kind = secret::kind_in_words(&metadata);
        let wrong = Wrong::new(format!("the tier file is not a regular file, but {kind}"))
            .hint("name the file itself with --config");
        return Err(whole_file(path, wrong));
    }
    // A password may stand in it. Allocated once, so that no copy is left behind.
    let mut bytes = Vec::with_capacity(LARGEST_FILE as usize + 32);
    file.take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(refuse(format!(
            "the tier file is too large: more than {LARGEST_FILE} bytes"
        )));
    }
    Ok((Zeroizing::new(encoding::text(path, bytes)?), metadata))
}

/// A fault of the file as a whole.
pub(super) fn whole_file(path: &Path, wrong: Wrong) -> Faults {
    Faults(vec![Fault {
        file: path.to_owned(),
        line: 0,
        column: 0,
        text: String::new(),
        message: wrong.what,
        expected: wrong.expected,
        hint: wrong.hint,
        excerpt: None,
    }])
}

fn tier(root: &Section<'_>, role: Option<Role>, metadata: &Metadata) -> Option<Tier> {
    let share = root
        .required("share")
        .and_then(|field| share(&field, metadata));
    let storage_field = root.optional("storage");
    let database_field = root.optional("database");
    let was_field = root.optional("was");
    require_role(root, role);
    let has_database = database_field.is_some() || root.means("database");
    let storage = storage_field.map(|field| storage(&field, has_database));
    let puts_in = storage
        .as_ref()
        .is_some_and(|storage| storage.as_ref().is_none_or(uses_database_password));
    let used = Use::of(role != Some(Role::Was) && puts_in);
    let database = database_field.map(|field| database(&field, metadata, used));
    let used = Use::of(role != Some(Role::Storage));
    let was = was_field.map(|field| was(&field, metadata, used));
    let firewall = match root.section("firewall") {
        Some(section) => Firewall {
            zone: section
                .optional("zone")
                .and_then(|zone| zone.parsed(value::zone)),
        },
        None => Firewall::default(),
    };
    let serve = root.section("serve").and_then(|section| {
        let mode = section.optional("mode")?.parsed(value::mode)?;
        Some(Serve { mode })
    });
    let published = was.as_ref().map_or(&[][..], |(_, ports)| ports);
    let health = health(root, published);
    Some(Tier {
        share: share?,
        storage: transposed(storage)?,
        database: transposed(database)?,
        was: transposed(was.map(|(was, _)| was))?,
        firewall,
        serve: serve.unwrap_or_default(),
        health,
    })
}

/// A section that is present but faulty yields no tier.
fn transposed<T>(section: Option<Option<T>>) -> Option<Option<T>> {
    match section {
        Some(Some(section)) => Some(Some(section)),
        Some(None) => None,
        None => Some(None),
    }
}

fn require_role(root: &Section<'_>, role: Option<Role>) {
    match role {
        Some(role) => {
            let key = role.as_str();
            if !root.has(key) && !root.means(key) {
                root.missing(
                    format!("section [{key}], which the role {role} needs"),
                    None,
                );
            }
        }
        None => {
            let some = ["storage", "was"]
                .iter()
                .any(|key| root.has(key) || root.means(key));
            if !some {
                root.missing(
                    "section [storage] or [was]: no role has anything to do".to_owned(),
                    None,
                );
            }
        }
    }
}

fn share(field: &Field<'_>, metadata: &Metadata) -> Option<Share> {
    let section = field.section()?;
    let name = section
        .required("name")
        .and_then(|f| f.parsed(value::share_name));
    let server_field = section.required("server");
    let server = server_field.as_ref().and_then(|f| f.parsed(value::server));
    let user = section
        .required("user")
        .and_then(|f| f.parsed(value::account));
    let password = password(&section, metadata, Owner::Share, Use::Used).flatten();
    // An empty list would shut everybody out; leaving the key out lets everybody in.
    let clients = match section.optional("clients") {
        Some(field) => field.parsed_list("networks such as \"192.168.2.0/24\"", value::network),
        None => Some(Vec::new()),
    };
    if let (Some(field), Some(server), Some(clients)) = (&server_field, &server, &clients) {
        refuse_other_family(field, server, clients);
    }
    let encrypt = match section.optional("encrypt") {
        Some(field) => field.boolean(),
        None => Some(true),
    };
    Some(Share {
        name: name?,
        server: server?,
        user: user?,
        password: password?,
        clients: clients?,
        encrypt: encrypt?,
    })
}

/// From an IPv4 network nobody reaches an IPv6 address, nor the other way round.
fn refuse_other_family(field: &Field<'_>, server: &str, clients: &[IpNet]) {
    let Ok(address) = server.parse::<IpAddr>() else {
        return;
    };
    let reaches = |network: &IpNet| matches!(network, IpNet::V4(_)) == address.is_ipv4();
    if !clients.is_empty() && !clients.iter().any(reaches) {
        let (of_server, of_clients) = match address {
            IpAddr::V4(_) => ("IPv4", "IPv6"),
            IpAddr::V6(_) => ("IPv6", "IPv4"),
        };
        field.wrong(
            Wrong::new(format!(
                "an {of_server} address, and share.clients has only {of_clients} networks"
            ))
            .expected("an address that one of share.clients can reach"),
        );
    }
}

/// Whether the role that is loaded for needs a secret. One that it does not need is not read: its file need not be
/// there, and the VM need not know it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Used,
    Unused,
}

impl Use {
    fn of(used: bool) -> Self {
        if used { Self::Used } else { Self::Unused }
    }
}

/// The password of a section: exactly one of three keys gives it. `None` for a fault; `Some(None)` where it is right
/// as far as it can be told without reading it.
fn password(
    section: &Section<'_>,
    metadata: &Metadata,
    owner: Owner,
    used: Use,
) -> Option<Option<Secret>> {
    let mut secret = None;
    for (key, field) in ways_to_give(section) {
        let read = used == Use::Used && section.report().secrets() == Secrets::Read;
        secret = field.parsed(|text| match (key, read) {
            // A password that others may read is a fault whoever needs it.
            ("password", _) => secret::inline(text, metadata, owner).map(Some),
            ("password_credential", true) => {
                secret::from_credential(text, env::var_os("CREDENTIALS_DIRECTORY"), owner).map(Some)
            }
            ("password_credential", false) => secret::credential_name(text).map(|()| None),
            (_, true) => secret::from_file(&value::path(text)?, owner).map(Some),
            (_, false) => value::path(text).map(|_| None),
        });
        // One that stands in the file goes wherever the file goes, whoever uses it.
        let is_told = used == Use::Used || key == "password";
        if let Some(read) = secret.as_mut().filter(|_| is_told) {
            section.report().names(NamedSecret {
                key: field.name.clone(),
                way: way(key, &field),
                secret: read.clone(),
            });
            // Who only asks for the names needs no more of it than that it is there.
            read.get_or_insert_with(|| Secret::new(String::new()));
        }
    }
    secret
}

fn way(key: &str, field: &Field<'_>) -> Way {
    match key {
        "password" => Way::Inline,
        "password_credential" => Way::Credential,
        _ => Way::File(field.parsed(value::path).unwrap_or_default()),
    }
}

/// The keys of a section that give its password. It is a fault if there is not exactly one.
fn ways_to_give<'d>(section: &Section<'d>) -> Vec<(&'static str, Field<'d>)> {
    let given: Vec<_> = keys::PASSWORDS
        .into_iter()
        .filter(|key| section.has(key))
        .collect();
    if given.is_empty() && !keys::PASSWORDS.iter().any(|key| section.means(key)) {
        let expected = "one of `password_file`, `password`, `password_credential`";
        section.missing("the password".to_owned(), Some(expected.to_owned()));
    }
    let mut spans: Vec<_> = given
        .iter()
        .map(|key| (section.key_span(key), *key))
        .collect();
    spans.sort_by_key(|(span, _)| span.start);
    if let [(_, first), others @ ..] = &spans[..] {
        for (span, key) in others {
            let wrong = Wrong::new(format!("`{key}` beside `{first}`"))
                .expected("exactly one of `password_file`, `password`, `password_credential`")
                .hint(format!("keep one of them: `{first}` or `{key}`"));
            section.report().wrong(span, wrong);
        }
    }
    let fields = given
        .into_iter()
        .map(|key| Some((key, section.optional(key)?)));
    fields.flatten().collect()
}

fn storage(field: &Field<'_>, has_database: bool) -> Option<Storage> {
    let section = field.section()?;
    let path_field = section.required("path");
    let path = path_field.as_ref().and_then(|f| f.parsed(value::directory));
    let disk = section.optional("disk").map(|field| disk(&field));
    let content = section
        .optional("content")
        .map(|field| content(&field, has_database));
    if let (Some(field), Some(path), Some((_, Some(mount)))) = (&path_field, &path, &disk)
        && !path.starts_with(mount)
    {
        let mount = mount.display();
        field.wrong(
            Wrong::new(format!("not on the disk, which is mounted at {mount}"))
                .expected(format!("{mount} or a directory below it")),
        );
        return None;
    }
    if let (Some(field), Some(path), Some((_, Some(mount))), Some(_)) =
        (&path_field, &path, &disk, &content)
        && path == mount
    {
        // A revision takes the place of the one before in one step, and a mount point cannot be renamed.
        field.wrong(
            Wrong::new("the mount point of the disk, beside storage.content")
                .expected("a directory below the mount point")
                .hint(format!("write {}/shared_folder", mount.display())),
        );
        return None;
    }
    Some(Storage {
        path: path?,
        disk: transposed(disk.map(|(disk, _)| disk))?,
        content: transposed(content)?,
    })
}

/// The disk, and its mount point even where the rest is faulty.
fn disk(field: &Field<'_>) -> (Option<Disk>, Option<PathBuf>) {
    let Some(section) = field.section() else {
        return (None, None);
    };
    let device = section
        .required("device")
        .and_then(|f| f.parsed(value::device));
    let filesystem = section
        .required("filesystem")
        .and_then(|f| f.parsed(value::filesystem));
    let mount = section
        .required("mount")
        .and_then(|f| f.parsed(value::directory));
    let disk = match (device, filesystem, mount.clone()) {
        (Some(device), Some(filesystem), Some(mount)) => Some(Disk {
            device,
            filesystem,
            mount,
        }),
        _ => None,
    };
    (disk, mount)
}

fn content(field: &Field<'_>, has_database: bool) -> Option<Content> {
    let section = field.section()?;
    let git = section.required("git").and_then(|f| f.parsed(value::git));
    let rev = section
        .required("rev")
        .and_then(|f| f.parsed(value::revision));
    let subdir = section
        .optional("subdir")
        .map(|f| f.parsed(value::relative_path));
    let build = match section.optional("build") {
        Some(field) => field.parsed_list("words: a program and its arguments", value::argument),
        None => Some(Vec::new()),
    };
    let edits = match section.optional("edit") {
        Some(field) => field
            .list("tables, [[storage.content.edit]]")
            .and_then(|items| {
                let edits: Vec<_> = items.iter().map(|item| edit(item, has_database)).collect();
                edits.into_iter().collect()
            }),
        None => Some(Vec::new()),
    };
    Some(Content {
        git: git?,
        rev: rev?,
        subdir: transposed(subdir)?,
        build: build?,
        edit: edits?,
    })
}

fn edit(field: &Field<'_>, has_database: bool) -> Option<Edit> {
    let section = field.section()?;
    let files = section
        .required("files")
        .and_then(|f| f.parsed_list("paths", value::relative_path));
    let object = section
        .required("object")
        .and_then(|f| f.parsed(value::javascript_call));
    let set = section.required("set").and_then(|field| {
        entries(
            &field,
            |name| value::text(name).map(drop),
            |text| edit_value(text, has_database),
        )
    });
    if let (Some(field), Some(set)) = (section.optional("set"), &set)
        && set.is_empty()
    {
        field.wrong(Wrong::new("sets nothing").expected("at least one property"));
    }
    Some(Edit {
        files: files?,
        object: object?,
        set: set?,
    })
}

/// The value that a property gets.
fn edit_value(text: &str, has_database: bool) -> Result<String, Wrong> {
    value::placeholders(text, &template::DATABASE)?;
    let used = template::pieces(text)
        .into_iter()
        .find_map(|piece| match piece {
            Piece::Placeholder(name) => Some(name),
            Piece::Text(_) => None,
        });
    match used {
        Some(name) if !has_database => Err(Wrong::new(format!("{{{name}}} without a database"))
            .expected("a section [database] in this file")),
        _ => Ok(text.to_owned()),
    }
}

/// Whether an edit of the content puts the database's password in.
fn uses_database_password(storage: &Storage) -> bool {
    let edits = storage.content.iter().flat_map(|content| &content.edit);
    let mut texts = edits.flat_map(|edit| edit.set.values());
    texts.any(|text| {
        let password = Piece::Placeholder(template::DATABASE_PASSWORD);
        template::pieces(text).contains(&password)
    })
}

/// A table of the operator's own keys.
fn entries(
    field: &Field<'_>,
    check_name: impl Fn(&str) -> Result<(), Wrong>,
    parse: impl Fn(&str) -> Result<String, Wrong>,
) -> Option<BTreeMap<String, String>> {
    let mut entries = Some(BTreeMap::new());
    for (name, span, value) in field.entries()? {
        if let Err(wrong) = check_name(name) {
            let what = format!("{}: {}", field.name, wrong.what);
            field.report().wrong(&span, Wrong { what, ..wrong });
            entries = None;
        }
        match (value.parsed(&parse), &mut entries) {
            (Some(value), Some(entries)) => {
                entries.insert(name.to_owned(), value);
            }
            _ => entries = None,
        }
    }
    entries
}

/// Where MariaDB and MySQL listen unless they are told otherwise.
const MARIADB_PORT: u16 = 3306;

fn database(field: &Field<'_>, metadata: &Metadata, used: Use) -> Option<Database> {
    let section = field.section()?;
    let host = section.required("host").and_then(|f| f.parsed(value::host));
    let port = match section.optional("port") {
        Some(field) => field.number(&value::PORTS),
        None => Some(MARIADB_PORT),
    };
    let user = section.required("user").and_then(|f| f.parsed(value::text));
    let password = password(&section, metadata, Owner::Database, used);
    let name = section.required("name").and_then(|f| f.parsed(value::text));
    Some(Database {
        host: host?,
        port: port?,
        user: user?,
        password: password?,
        name: name?,
    })
}

/// A published port and where the file says so.
type Published = (Publish, Span);

/// The section, and the ports that could be read even where the rest is faulty.
fn was(field: &Field<'_>, metadata: &Metadata, used: Use) -> (Option<Was>, Vec<Published>) {
    let Some(section) = field.section() else {
        return (None, Vec::new());
    };
    let mount = section
        .required("mount")
        .and_then(|f| f.parsed(value::directory));
    let vers = match section.optional("vers") {
        Some(field) => field.parsed(value::dialect),
        None => Some(Default::default()),
    };
    let (container, ports) = match section.required("container") {
        Some(field) => container(&field, metadata, used),
        None => (None, Vec::new()),
    };
    let was = match (mount, vers, container) {
        (Some(mount), Some(vers), Some(container)) => Some(Was {
            mount,
            vers,
            container,
        }),
        _ => None,
    };
    (was, ports)
}

fn container(
    field: &Field<'_>,
    metadata: &Metadata,
    used: Use,
) -> (Option<Container>, Vec<Published>) {
    let Some(section) = field.section() else {
        return (None, Vec::new());
    };
    let name = section
        .required("name")
        .and_then(|f| f.parsed(value::container_name));
    let image = section
        .required("image")
        .and_then(|f| f.parsed(value::image));
    let hostname = match section.optional("hostname") {
        Some(field) => field.parsed(value::hostname_template),
        None => Some("{node}".to_owned()),
    };
    let ports = section
        .required("publish")
        .map(|f| published(&f))
        .unwrap_or_default();
    let workdir = section
        .required("workdir")
        .and_then(|f| f.parsed(value::workdir));
    let privileged = match section.optional("privileged") {
        Some(field) => field.boolean(),
        None => Some(false),
    };
    let env = match section.optional("env") {
        Some(field) => entries(&field, value::environment_name, value::environment_value),
        None => Some(BTreeMap::new()),
    };
    let read_only = match section.optional("read_only") {
        Some(field) => field.boolean(),
        None => Some(false),
    };
    let secrets = match section.optional("secrets") {
        Some(field) => secrets(&field, metadata, used),
        None => Some(BTreeMap::new()),
    };
    let publish = ports.iter().map(|(port, _)| *port).collect();
    let container = || {
        Some(Container {
            name: name?,
            image: image?,
            hostname: hostname?,
            publish,
            workdir: workdir?,
            privileged: privileged?,
            read_only: read_only?,
            env: env?,
            secrets: secrets?,
        })
    };
    (container(), ports)
}

/// The application's secrets, by the names that they have in the container; those that were read.
fn secrets(field: &Field<'_>, metadata: &Metadata, used: Use) -> Option<BTreeMap<String, Secret>> {
    let mut secrets = Some(BTreeMap::new());
    for (name, span, entry) in field.entries()? {
        let named = value::secret_name(name).map_err(|wrong| {
            let what = format!("{}: {}", field.name, wrong.what);
            field.report().wrong(&span, Wrong { what, ..wrong });
        });
        let section = entry.section_as(keys::SECRET);
        let secret =
            section.and_then(|section| password(&section, metadata, Owner::Application, used));
        match (named, secret, &mut secrets) {
            (Ok(()), Some(Some(secret)), Some(secrets)) => {
                secrets.insert(name.to_owned(), secret);
            }
            (Ok(()), Some(None), Some(_)) => {}
            _ => secrets = None,
        }
    }
    secrets
}

/// The ports that could be read. It is a fault if two of them are the same port of the VM, or if
/// the health check could ask none of them.
fn published(field: &Field<'_>) -> Vec<Published> {
    let mut ports: Vec<Published> = Vec::new();
    let Some(items) = field.list("ports, such as \"5000:3000\"") else {
        return ports;
    };
    let count = items.len();
    for item in items {
        let Some(port) = item.parsed(value::publish) else {
            continue;
        };
        let twice = ports.iter().find(|(other, _)| {
            other.host_port == port.host_port
                && other.protocol == port.protocol
                && value::overlap(other.address, port.address)
        });
        if let Some((other, _)) = twice {
            item.wrong(Wrong::new(format!(
                "`{port}` and `{other}` publish the same port {}/{}",
                port.host_port, port.protocol
            )));
        }
        ports.push((port, item.span));
    }
    let none_for_health = ports.iter().all(|(port, _)| port.protocol != Protocol::Tcp);
    if none_for_health && ports.len() == count {
        field
            .wrong(Wrong::new("no TCP port").expected("at least one, which the health check asks"));
    }
    ports
}

fn health(root: &Section<'_>, published: &[Published]) -> Health {
    let mut health = Health::default();
    let section = root.section("health");
    let field = |key: &str| section.as_ref().and_then(|section| section.optional(key));
    if let Some(interval) =
        field("interval").and_then(|f| f.duration(|text| value::duration(text, &value::INTERVAL)))
    {
        health.interval = interval;
    }
    let listen_field = field("listen");
    if let Some(listen) = listen_field.as_ref().and_then(|f| f.parsed(value::listen)) {
        health.listen = listen;
    }
    if let Some(http) = field("http") {
        health.http = http_check(&http);
    }
    if let Some(drain) =
        field("drain").and_then(|f| f.duration(|text| value::duration(text, &value::DRAIN)))
    {
        health.drain = drain;
    }
    refuse_shared_port(root, &health, listen_field.as_ref(), published);
    health
}

/// The endpoint's port may not be one that the container publishes.
fn refuse_shared_port(
    root: &Section<'_>,
    health: &Health,
    listen_field: Option<&Field<'_>>,
    published: &[Published],
) {
    let Some(listen) = health.listen else { return };
    let shared = published.iter().find(|(port, _)| {
        port.protocol == Protocol::Tcp
            && port.host_port == listen.port()
            && value::overlap(port.address, Some(listen.ip()))
    });
    let Some((port, span)) = shared else { return };
    match listen_field {
        Some(field) => field.wrong(Wrong::new(format!(
            "the container publishes this port as `{port}`"
        ))),
        None => root.report().wrong(
            span,
            Wrong::new(format!(
                "was.container.publish: `{port}` is where the health endpoint listens, {listen}"
            ))
            .hint("set health.listen to another port, or to \"\" to turn it off"),
        ),
    }
}

fn http_check(field: &Field<'_>) -> HttpCheck {
    let mut check = HttpCheck::default();
    let Some(section) = field.section() else {
        return check;
    };
    if let Some(path) = section
        .optional("path")
        .and_then(|f| f.parsed(value::http_path))
    {
        check.path = path;
    }
    if let Some(status) = section
        .optional("status")
        .and_then(|f| f.number(&value::STATUSES))
    {
        check.status = status;
    }
    check.contains = section.optional("contains").and_then(|f| {
        f.parsed(|text| {
            value::placeholders(text, &template::CONTAINS)?;
            Ok(text.to_owned())
        })
    });
    check.contains = check.contains.filter(|text| !text.is_empty());
    check
}
