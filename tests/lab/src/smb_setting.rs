//! What an operator can set on a Samba server, what a client of the share sees then, and what `plan` says of it: one
//! table. A client is smbclient(1) on another guest, with what the kernel of a WAS VM would offer.

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::process::Output;
use crate::release::Release;
use crate::tier::SHARE_PASSWORD;

/// Where a setting is made.
#[derive(Clone, Copy, Debug)]
pub enum Where {
    /// Lines of [global].
    Global(&'static str),
    /// A line of sh(1), and one that takes it back.
    Shell(&'static str, &'static str),
    /// Both.
    Both(&'static str, &'static str, &'static str),
}

/// What a client of the share sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// All that it does works, and it sees every file.
    Works,
    /// It is shut out.
    ShutOut,
}

/// What `wasagent plan` says.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// Nothing, and there is nothing to change.
    Silent,
    /// A note with these words. There is nothing to change.
    Notes(&'static str),
    /// Our section says otherwise, so that there is nothing to say. A client's session with a share that does not goes wrong
    /// with these words.
    Overrides(&'static str),
    /// Both.
    OverridesAndNotes(&'static str, &'static str),
    /// An error with these words, and the exit code 1.
    Refuses(&'static str),
    /// A change with these words.
    Mends(&'static str),
}

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub made: Where,
    pub client: Client,
    pub plan: Plan,
    /// The only release whose Samba knows it.
    pub only: Option<Release>,
}

use Client::{ShutOut, Works};
use Plan::{Mends, Notes, Overrides, OverridesAndNotes, Refuses, Silent};
use Where::{Both, Global, Shell};

const fn row(made: Where, client: Client, plan: Plan) -> Setting {
    Setting {
        made,
        client,
        plan,
        only: None,
    }
}

/// What a client does alone: a setting that shuts it out of a share that does not override it.
const fn over(lines: &'static str, alone: &'static str) -> Setting {
    row(Global(lines), Works, Overrides(alone))
}

const fn on(release: Release, setting: Setting) -> Setting {
    Setting {
        only: Some(release),
        ..setting
    }
}

#[rustfmt::skip]
pub static SETTINGS: &[Setting] = &[
    // ---- what shuts a client out of the whole server
    row(Global("interfaces = 127.0.0.0/8 eth0\nbind interfaces only = yes"), ShutOut, Refuses("does not listen on 192.168.2.13")),
    row(Global("interfaces = nosuch\nbind interfaces only = yes"), ShutOut, Refuses("does not listen on 192.168.2.13")),
    row(Global("interfaces = 192.168.3.13/24\nbind interfaces only = yes"), ShutOut, Refuses("does not listen on 192.168.2.13")),
    row(Global("smb ports = 139"), ShutOut, Refuses("port 445")),
    row(Global("smb ports ="), ShutOut, Refuses("port 445")),
    row(Global("protocol = SMB2_10"), ShutOut, Refuses("speaks no SMB 3")),
    row(Global("server max protocol = default"), ShutOut, Refuses("no dialect")),
    row(Global("server smb encrypt = off"), ShutOut, Refuses("encrypts nothing")),
    row(Global("server smb3 encryption algorithms = AES-256-CCM"), ShutOut, Refuses("none of these algorithms")),
    row(Global("ntlm auth = disabled"), ShutOut, Refuses("takes no password")),
    row(Global("encrypt passwords = no"), ShutOut, Refuses("plain text")),
    row(Global("hosts deny = ALL"), ShutOut, Refuses("shuts out 192.168.2.0/24")),
    row(Global("hosts allow = 127."), ShutOut, Refuses("shuts out 192.168.2.0/24")),
    row(Global("Root  Dir = /srv"), ShutOut, Refuses("below that directory")),
    row(Both("username map = /etc/samba/map", "echo 'nobody = user1' >/etc/samba/map", "rm /etc/samba/map"), ShutOut, Refuses("log in as nobody")),
    row(Global("guest account = nosuchuser"), ShutOut, Refuses("no account nosuchuser")),
    row(Global("max smbd processes = 1"), ShutOut, Refuses("processes")),
    row(Global("max open files = 20"), ShutOut, Refuses("so few files")),
    row(Global("smb2 max trans = 0"), ShutOut, Refuses("65536")),
    row(Global("smb2 max read = 0"), ShutOut, Refuses("65536")),
    row(Global("unix charset = nosuch"), ShutOut, Refuses("character set")),
    row(Global("server role = active directory domain controller"), ShutOut, Refuses("domain controller")),
    row(Global("server role = member server"), ShutOut, Refuses("joined no domain")),
    row(Global("passdb backend = nosuch"), ShutOut, Refuses("no such backend")),
    row(Global("clustering = yes"), ShutOut, Refuses("ctdb")),
    row(Global("lock dir = /srv/nowhere/x"), ShutOut, Refuses("mkdir -p /srv/nowhere/x")),
    row(Global("private dir = /srv/nowhere/x"), ShutOut, Refuses("mkdir -p /srv/nowhere/x")),
    on(Release::Trixie, row(Global("server addresses = 10.1.1.1"), ShutOut, Refuses("not served on 192.168.2.13"))),
    on(Release::Trixie, row(Global("veto files : user1 = /*.js/"), ShutOut, Refuses("does not see files"))),
    // ---- where Samba does not read smb.conf as it stands, or at all
    row(Global("config backend = registry"), ShutOut, Refuses("from the registry")),
    row(Both("config file = /etc/samba/other.conf", "echo '[global]' >/etc/samba/other.conf", "rm /etc/samba/other.conf"), ShutOut, Refuses("/etc/samba/other.conf")),
    row(Global("oplocks = maybe"), ShutOut, Refuses("Samba cannot read this")),
    row(Global("strict locking = required"), ShutOut, Refuses("Samba cannot read this")),
    row(Global("oplocks = \"no\""), ShutOut, Refuses("Samba cannot read this")),
    row(Global("encrypt passwords = n o"), ShutOut, Refuses("plain text")),
    row(Global("[unclosed"), ShutOut, Refuses("Samba cannot read this")),
    row(Global("workgroup = X\n[another]\ncreate mask = 99\n[global]"), ShutOut, Refuses("Samba cannot read this")),
    row(Both("include = registry", "net conf setparm global 'ntlm auth' disabled", "net conf drop"), ShutOut, Refuses("net conf list")),
    row(Both("include = /etc/samba/more.conf", "echo 'ntlm auth = disabled' >/etc/samba/more.conf", "rm /etc/samba/more.conf"), ShutOut, Refuses("/etc/samba/more.conf, line 1")),
    row(Shell("sharesec --configfile=/etc/samba/wasagent.conf user1 --replace=S-1-1-0:DENIED/0x0/FULL", "sharesec --configfile=/etc/samba/wasagent.conf user1 --delete"), ShutOut, Refuses("wasagent.conf user1 --delete")),
    // ---- what shuts a client out of a share, or changes what is in it, and what ours sets itself
    row(Global("vfs objects = nosuchmodule"), Works, OverridesAndNotes("NT_STATUS_BAD_NETWORK_NAME", "`vfs objects = nosuchmodule` does not hold")),
    row(Global("veto files = /*.js/"), Works, OverridesAndNotes("NT_STATUS_OBJECT_NAME_NOT_FOUND", "`veto files = /*.js/` does not hold")),
    row(Global("exec = /bin/false\npreexec close = yes"), Works, OverridesAndNotes("NT_STATUS_ACCESS_DENIED", "`exec = /bin/false` does not hold")),
    row(Global("root preexec = /bin/false\nroot preexec close = yes"), Works, OverridesAndNotes("NT_STATUS_ACCESS_DENIED", "`root preexec = /bin/false`")),
    over("available = no", "NT_STATUS"),
    over("-valid = no", "NT_STATUS"),
    over("printable = yes", "NT_STATUS"),
    over("guest ok = yes\nguest only = yes", "NT_STATUS_ACCESS_DENIED"),
    over("msdfs proxy = \\other\\share", "NT_STATUS_BAD_NETWORK_NAME"),
    over("invalid users = user1", "NT_STATUS_ACCESS_DENIED"),
    over("read list = user1", "NT_STATUS"),
    over("force user = nobody", "NT_STATUS_ACCESS_DENIED"),
    over("create mask = 0000", "NT_STATUS_ACCESS_DENIED"),
    over("hide new files timeout = 60", "NT_STATUS_NO_SUCH_FILE"),
    over("hide unwriteable files = yes", "NT_STATUS_NO_SUCH_FILE listing \\locked.js"),
    over("dont descend = ./D,D", ""),
    over("default case = upper\npreserve case = no\nshort preserve case = no", "BB.TXT"),
    over("magic script = x.js", "NT_STATUS"),
    over("kernel share modes = yes", "NT_STATUS_SHARING_VIOLATION"),
    over("follow symlinks = no", "NT_STATUS"),
    // ---- what keeps the account out
    row(Shell("pdbedit -r -u user1 -K 1000000000", "pdbedit -r -u user1 -K never"), ShutOut, Mends("expires: 2001-09-09T01:46:40Z -> never")),
    row(Shell("pdbedit -r -u user1 -c '[DX]'", "pdbedit -r -u user1 -c '[X]'"), ShutOut, Mends("disabled: true -> false")),
    row(Shell("pdbedit -r -u user1 -c '[LX]'", "pdbedit -r -u user1 -c '[X]'"), ShutOut, Mends("locked: true -> false")),
    row(Shell("net sam set workstations user1 PC1,PC2", "net sam set workstations user1 ''"), ShutOut, Mends("workstations: PC1,PC2")),
    row(Shell("pdbedit -r -u user1 -c '[]'; net sam set pwdmustchangenow user1 yes", "net sam set pwdmustchangenow user1 no; pdbedit -r -u user1 -c '[X]'"), ShutOut, Mends("password.expires: now -> never")),
    row(Shell("pdbedit -r -u user1 -c '[]'; pdbedit -P 'maximum password age' -C 1; sleep 2", "pdbedit -P 'maximum password age' -C -1; pdbedit -r -u user1 -c '[X]'"), ShutOut, Mends("password.expires: now -> never")),
    row(Shell("pdbedit -r -u user1 -K 2000000000", "pdbedit -r -u user1 -K never"), Works, Mends("expires: 2033-05-18T03:33:20Z -> never")),
    // ---- what may matter
    row(Global("server max protocol = SMB3_02"), Works, Notes("vers = \"3.0.2\"")),
    row(Global("hostname lookups = yes"), Works, Notes("name server")),
    row(Global("unix charset = ISO8859-1"), Works, Notes("other names for a WAS VM")),
    row(Global("username map script = /bin/false"), Works, Notes("/bin/false")),
    // ---- what shuts nobody out
    row(Global("server smb3 signing algorithms = AES-128-GMAC"), Works, Silent),
    row(Global("server smb3 encryption algorithms = AES-128-CCM"), Works, Silent),
    row(Global("interfaces = lo host0\nbind interfaces only = yes"), Works, Silent),
    row(Global("interfaces = 127.0.0.1 192.168.2.0/24\nbind interfaces only = yes"), Works, Silent),
    row(Global("bind interfaces only = yes"), Works, Silent),
    row(Global("interfaces = nosuch"), Works, Silent),
    row(Global("server signing = mandatory\nserver min protocol = SMB3"), Works, Silent),
    row(Global("restrict anonymous = 2\nmap to guest = bad password"), Works, Silent),
    row(Global("disable netbios = yes\nsmb ports = 445"), Works, Silent),
    row(Global("ntlm auth = mschapv2-and-ntlmv2-only"), Works, Silent),
    row(Global("hosts allow = 192.168.2. 127."), Works, Silent),
    row(Global("hosts deny = ALL EXCEPT 192.168.2.0/24"), Works, Silent),
    row(Global("netbios name = OTHER\nworkgroup = ELSEWHERE"), Works, Silent),
    row(Global("nonsense = 1\ndos charset = nosuch\nlog level = 3"), Works, Silent),
    row(Global("include = /etc/samba/nosuch.conf\ninclude = /etc/samba/for-%m.conf"), Works, Silent),
    row(Global("server multi channel support = no\ndeadtime = 1\nkeepalive = 1"), Works, Silent),
    row(Global("nt pipe support = no\ndisable spoolss = yes"), Works, Silent),
    row(Global("[ USER1 ]\npath = /srv\n[global]"), Works, Silent),
    row(Global(" \\\n = nothing"), Works, Silent),
    row(Global("max smbd processes = 1000\nmax open files = 4096"), Works, Silent),
    row(Global("smb2 leases = no\nuse mmap = no\nsocket options = TCP_NODELAY SO_KEEPALIVE"), Works, Silent),
    row(Both("username map = /etc/samba/map", "echo 'root = admin' >/etc/samba/map", "rm /etc/samba/map"), Works, Silent),
    row(Global("name resolve order = bcast\nwins support = yes"), Works, Silent),
    row(Global("valid users = root\nread only = yes\nmax connections = 1"), Works, Silent),
];

/// Files that are there before a client comes: a usual one, one that the account may not write, a link to the first.
const FILES: &str = "echo 1 >deployed.js; echo 2 >locked.js; ln -sf deployed.js linked.js; chown -h user1:user1 *.js; chmod 660 deployed.js; chmod 440 locked.js";

/// What a client does. It sees names as it gave them, and ends with nothing of its own left.
const COMMANDS: &str = "put /etc/hostname Aa.Txt; get Aa.Txt /tmp/got; mkdir D; put /etc/hostname D/x.js; rename Aa.Txt Bb.Txt; ls Bb.Txt; ls D/*; \
                        ls deployed.js; get linked.js /tmp/got; ls locked.js; del Bb.Txt; del D/x.js; rmdir D";

/// The share of the server that overrides nothing.
const BARE: &str = "[bare]\npath = /srv/bare\nvalid users = user1\nread only = no\n";

/// Where lines of [global] go.
const HERE: &str = "# lines of the table";

/// Puts the settings of a table on a server to which the storage role was applied, one after the other.
pub struct Server<'a> {
    guest: &'a Guest,
}

impl<'a> Server<'a> {
    /// Adds a share that overrides nothing, and remembers smb.conf.
    pub fn new(guest: &'a Guest) -> Result<Self> {
        // Lines at the end of [global] win over those before them. The share comes before ours, which stays the last.
        let script = format!(
            "mkdir -p /srv/bare; chown user1:user1 /srv/bare; chmod 2770 /srv/bare\n\
             for d in /srv/bare /mnt/data/shared_folder; do cd $d; {FILES}; done\n\
             sed 's|^# wasagent: the share.*|[global]\\n{HERE}\\n{}&|' /etc/samba/smb.conf >/root/smb.conf",
            BARE.replace('\n', "\\n")
        );
        guest.ok(["sh", "-ec", &script])?;
        Ok(Server { guest })
    }

    /// Makes one setting, starts Samba anew with it, and asks for a plan. Both may fail.
    pub fn make(&self, made: Where) -> Result<Output> {
        let (lines, shell) = match made {
            Global(lines) => (lines, ":"),
            Shell(shell, _) => ("", shell),
            Both(lines, shell, _) => (lines, shell),
        };
        self.guest
            .write("/root/lines", format!("{lines}\n"), 0o644)?;
        let script = format!(
            "sed '/^{HERE}$/r /root/lines' /root/smb.conf >/etc/samba/smb.conf\n\
             {{ {shell}; }} >/dev/null\n\
             rm -rf /srv/bare/D /srv/bare/[AB]* /mnt/data/shared_folder/D /mnt/data/shared_folder/[AB]*\n\
             systemctl reset-failed smbd; systemctl restart smbd 2>/dev/null\n\
             exec wasagent plan"
        );
        self.guest.run(["sh", "-c", &script])
    }

    /// What `health` says of the setting.
    pub fn health(&self) -> Result<Output> {
        self.guest.run(["wasagent", "health"])
    }

    /// Takes the setting back, as far as it is not in smb.conf.
    pub fn take_back(&self, made: Where) -> Result<()> {
        match made {
            Global(_) => Ok(()),
            Shell(_, back) | Both(_, _, back) => self
                .guest
                .ok(["sh", "-c", &format!("{back} >/dev/null")])
                .map(drop),
        }
    }

    /// Smb.conf as it was, with Samba started.
    pub fn restore(&self) -> Result<()> {
        let script = "cat /root/smb.conf >/etc/samba/smb.conf; systemctl reset-failed smbd; systemctl restart smbd";
        self.guest.ok(["sh", "-ec", script]).map(drop)
    }
}

/// A session of a client on another guest with a share of 192.168.2.13: what smbclient says, with its errors.
pub fn session(client: &Guest, share: &str) -> Result<String> {
    let output = client.run([
        "smbclient",
        &format!("//192.168.2.13/{share}"),
        &format!("--user=user1%{SHARE_PASSWORD}"),
        // As the kernel's client: no domain, no port but the usual, SMB 3, and its ciphers.
        "--workgroup=.",
        "--port=445",
        "--option=clientminprotocol=SMB3_00",
        "--option=clientsmb3encryptionalgorithms=AES-128-GCM,AES-256-GCM,AES-128-CCM",
        "--client-protection=encrypt",
        &format!("--command={COMMANDS}"),
    ])?;
    Ok(format!("{}{}", output.stdout, output.stderr))
}

/// Whether a session went as it should.
pub fn works(said: &str) -> bool {
    const FILES: [&str; 4] = ["Bb.Txt", "x.js", "deployed.js", "locked.js"];
    let lists = |file: &str| {
        said.lines()
            .any(|line| line.trim_start().starts_with(&format!("{file}  ")))
    };
    !said.contains("NT_STATUS")
        && !said.contains("Encryption required")
        && FILES.into_iter().all(lists)
}

/// Holds what a plan said against what it should.
pub fn said(plan: &Output, wanted: Plan) -> Result<()> {
    let text = format!("{}{}", plan.stdout, plan.stderr);
    let (code, words) = match wanted {
        Silent | Overrides(_) => (0, ""),
        Notes(words) | OverridesAndNotes(_, words) => (0, words),
        Refuses(words) => (1, words),
        Mends(words) => (2, words),
    };
    ensure!(
        plan.status == code,
        "plan exits with {}, not {code}: {text}",
        plan.status
    );
    ensure!(text.contains(words), "plan does not say {words:?}: {text}");
    let notes = text.contains("note:");
    ensure!(
        notes == matches!(wanted, Notes(_) | OverridesAndNotes(..)) || code != 0,
        "notes: {text}"
    );
    Ok(())
}
