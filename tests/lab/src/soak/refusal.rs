//! Each way in which a server, or what lies before it, refuses a mount: a sentence of its own, a way out, in time,
//! nothing mounted, and what the next boot mounts by as it was.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::stage::{Image, Machine, Stage};
use super::{Scope, Tally};
use crate::agent;
use crate::kind::Need;
use crate::progress::say;
use crate::release::Release;
use crate::tier::{SHARE_PASSWORD, SHARE_PASSWORD_FILE, TIER_FILE, tier_file};
use crate::wasagent::Apply;

/// No refusal takes longer.
const LIMIT: Duration = Duration::from_secs(15);
/// What a boot mounts the share by.
const AT_BOOT: [&str; 3] = [
    "cat",
    "/etc/wasagent/share.cred",
    "/etc/systemd/system/mnt-data-shared_folder.mount",
];

/// One way to be refused.
struct Refusal {
    name: &'static str,
    /// What the tier file of the WAS VM says instead, from and to.
    tier: (&'static str, &'static str),
    /// What is done on the storage VM before, and undone after, by a shell.
    server: (&'static str, &'static str),
    /// The same on the WAS VM.
    guest: (&'static str, &'static str),
    /// The errno that stands behind it, as far as there is one.
    errno: &'static str,
    sentence: &'static str,
    hint: &'static str,
}

const NOTHING: (&str, &str) = ("", "");
const PLAIN: Refusal = Refusal {
    name: "",
    tier: NOTHING,
    server: NOTHING,
    guest: NOTHING,
    errno: "",
    sentence: "",
    hint: "",
};

/// What listens in smbd's place: says nothing, hangs up, or speaks another language.
const INSTEAD: &str = "import socket, sys, time
server = socket.create_server(('', 445))
while True:
    client = server.accept()[0]
    if sys.argv[1] == 'silent':
        time.sleep(60)
    elif sys.argv[1] == 'html':
        client.recv(512)
        client.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')
    client.close()
";
const INSTEAD_FILE: &str = "/root/instead.py";
const ENDS: &str = "systemctl stop instead.service || true; systemctl start smbd.service";
macro_rules! instead {
    ($how:literal) => {
        (
            concat!(
                "systemctl stop smbd.service && systemd-run --quiet --collect --unit=instead python3 /root/instead.py ",
                $how,
                " && sleep 1"
            ),
            ENDS,
        )
    };
}

/// A line at the top of [global]; smbd starts anew, since it reads these at its start.
macro_rules! global {
    ($line:literal) => {
        (
            concat!(
                "cp -p /etc/samba/smb.conf /root/smb.conf && sed -i '/^\\[global\\]/a ",
                $line,
                "' /etc/samba/smb.conf && systemctl restart smbd.service"
            ),
            "cp -p /root/smb.conf /etc/samba/smb.conf && systemctl restart smbd.service",
        )
    };
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal {
            name: "a wrong password",
            guest: (
                "printf 'not the password' >/etc/wasagent/share.password",
                "",
            ),
            errno: "EACCES",
            sentence: "refused the password of user1",
            hint: "share.password_file",
            ..PLAIN
        },
        Refusal {
            name: "a user that the server does not know",
            tier: ("user          = \"user1\"", "user          = \"user9\""),
            errno: "EAGAIN, its session being a guest's without a key",
            sentence: "does not know user9",
            hint: "share.user",
            ..PLAIN
        },
        Refusal {
            name: "the same without encryption",
            tier: (
                "user          = \"user1\"",
                "user          = \"user8\"\nencrypt = false",
            ),
            errno: "EACCES",
            sentence: "does not know user8",
            hint: "share.user",
            ..PLAIN
        },
        Refusal {
            name: "a user who is not among `valid users`",
            server: (
                "cp -p /etc/samba/wasagent.conf /root/wasagent.conf && \
                 sed -i 's/^\\(\\s*valid users\\s*=\\).*/\\1 root/' /etc/samba/wasagent.conf && systemctl restart smbd.service",
                "cp -p /root/wasagent.conf /etc/samba/wasagent.conf && systemctl restart smbd.service",
            ),
            errno: "EACCES",
            sentence: "let user1 in, and refuses the share",
            hint: "valid users",
            ..PLAIN
        },
        Refusal {
            name: "encryption that the server demands",
            tier: ("[storage]\n", "encrypt = false\n\n[storage]\n"),
            errno: "EACCES, or none: the kernel encrypts all the same",
            sentence: "demands encryption",
            hint: "share.encrypt = true",
            ..PLAIN
        },
        Refusal {
            name: "an account that is disabled",
            server: ("smbpasswd -d user1", "smbpasswd -e user1"),
            errno: "EKEYREVOKED, or EACCES",
            sentence: "the account user1 is disabled",
            hint: "smbpasswd -e user1",
            ..PLAIN
        },
        Refusal {
            name: "a password that is to be changed",
            // An account of the agent's has no such date (pwnoexp); undone is it by what the hint says.
            server: (
                "net sam set pwnoexp user1 no && net sam set pwdmustchangenow user1 yes",
                "net sam set pwnoexp user1 yes",
            ),
            errno: "EIO, or EKEYEXPIRED",
            sentence: "the password of user1 has expired",
            hint: "net sam set pwnoexp user1 yes",
            ..PLAIN
        },
        Refusal {
            name: "an account that is locked",
            server: (
                "pdbedit --account-policy='bad lockout attempt' --value=1 && \
                 for try in 1 2; do smbclient --user=user1%wrong --command=exit //127.0.0.1/user1 || true; done",
                "pdbedit --account-policy='bad lockout attempt' --value=0 && net sam set autolock user1 no",
            ),
            errno: "EACCES",
            sentence: "user1 is locked",
            hint: "net sam set autolock user1 no",
            ..PLAIN
        },
        Refusal {
            name: "a share that is not there",
            tier: ("name          = \"user1\"", "name          = \"user2\""),
            errno: "ENOENT",
            sentence: "the server has no such share",
            hint: "share.name",
            ..PLAIN
        },
        Refusal {
            name: "a mount point that is a file",
            guest: (
                "rmdir /mnt/data/shared_folder && touch /mnt/data/shared_folder",
                "rm /mnt/data/shared_folder && mkdir /mnt/data/shared_folder",
            ),
            errno: "ENOTDIR",
            sentence: "/mnt/data/shared_folder",
            hint: "",
            ..PLAIN
        },
        Refusal {
            name: "a dialect that the server does not speak",
            server: global!("server max protocol = SMB2_10"),
            errno: "EOPNOTSUPP",
            sentence: "does not speak SMB 3",
            hint: "server max protocol",
            ..PLAIN
        },
        Refusal {
            name: "a server that cannot encrypt",
            server: global!("server smb encrypt = off"),
            errno: "EOPNOTSUPP",
            sentence: "cannot encrypt",
            hint: "share.encrypt = false",
            ..PLAIN
        },
        Refusal {
            name: "a host name that nobody knows",
            tier: ("\"192.168.2.13\"", "\"nowhere.internal\""),
            errno: "EHOSTUNREACH without ip=",
            sentence: "nowhere.internal is not known here",
            hint: "share.server",
            ..PLAIN
        },
        Refusal {
            name: "no route",
            guest: (
                "ip route add unreachable 192.168.2.13/32",
                "ip route del unreachable 192.168.2.13/32",
            ),
            errno: "EHOSTUNREACH, ENETUNREACH",
            sentence: "no route to 192.168.2.13",
            hint: "ip route get",
            ..PLAIN
        },
        Refusal {
            name: "a port on which nothing listens",
            server: (
                "systemctl stop smbd.service",
                "systemctl start smbd.service",
            ),
            errno: "ECONNREFUSED",
            sentence: "nothing listens on 192.168.2.13:445",
            hint: "is smbd running",
            ..PLAIN
        },
        Refusal {
            name: "a network that is silent",
            guest: (
                "ip neigh replace 192.168.2.13 lladdr 02:00:00:00:00:99 dev $(ip -o route get 192.168.2.13 | sed 's/.* dev //;s/ .*//')",
                "ip neigh flush nud permanent to 192.168.2.13",
            ),
            errno: "EINPROGRESS after 10 s",
            sentence: "within 5 s",
            hint: "is the storage VM up",
            ..PLAIN
        },
        Refusal {
            name: "a server that accepts and says nothing",
            server: instead!("silent"),
            errno: "EHOSTDOWN after 21 to 43 s",
            sentence: "no SMB server answers",
            hint: "look at smbd",
            ..PLAIN
        },
        Refusal {
            name: "a server that hangs up",
            server: instead!("close"),
            errno: "ECONNRESET",
            sentence: "closes it without an answer",
            hint: "share.clients",
            ..PLAIN
        },
        Refusal {
            name: "a server that speaks another language",
            server: instead!("html"),
            errno: "EHOSTDOWN",
            sentence: "does not speak SMB 2 or 3",
            hint: "does share.server name the storage VM?",
            ..PLAIN
        },
    ]
}

pub fn run(scope: &Scope) -> Result<()> {
    let agent = agent::build()?;
    let mut tally = Tally::new("refusal");
    for release in Release::BOTH {
        if scope.release.is_some_and(|only| only != release) {
            continue;
        }
        let mut stage = None;
        let mut sentences = HashMap::new();
        for refusal in scope.size.of(refusals()) {
            let name = format!("{release}: {}", refusal.name);
            if !scope.means(&name) {
                continue;
            }
            let held = tally.point(&name, || {
                if stage.is_none() {
                    stage = Some(prepared(&agent, release)?);
                }
                let Some(stage) = &stage else { return Ok(()) };
                let sentence = refusal.is_told(stage)?;
                match sentences.insert(sentence.clone(), refusal.name) {
                    None => Ok(()),
                    Some(other) => anyhow::bail!("{other} has the same sentence: {sentence}"),
                }
            });
            if !held {
                stage = None;
            }
        }
        if let Some(stage) = stage {
            // What undid a refusal is often what its hint says.
            let name = format!("{release}: all of it undone");
            tally.point(&name, || stage.apply(None).map(drop));
        }
    }
    tally.end()
}

/// A WAS VM that was served once, and has neither mount nor container now.
fn prepared(agent: &std::path::Path, release: Release) -> Result<Stage> {
    // Which errno a refusal has is the kernel's to say: the distribution's.
    let needs = [Need::DistributionKernel];
    let stage = Stage::was_served_by(agent, Machine::Container, release, Image::There, &needs)?;
    let server = stage.server.as_ref().context("no server")?;
    server.write(INSTEAD_FILE, INSTEAD, 0o644)?;
    stage.apply(None)?;
    let guest = &stage.guest;
    guest.ok(["systemctl", "stop", "nodejs-server.service"])?;
    guest.ok(["systemctl", "stop", "mnt-data-shared_folder.mount"])?;
    Ok(stage)
}

impl Refusal {
    /// What the agent says of it.
    fn is_told(&self, stage: &Stage) -> Result<String> {
        let (guest, server) = (&stage.guest, stage.server.as_ref().context("no server")?);
        let good = tier_file();
        let (from, to) = self.tier;
        ensure!(good.contains(from), "{from:?} is not in the tier file");
        guest.write(TIER_FILE, good.replacen(from, to, 1), 0o644)?;
        server.shell(self.server.0)?;
        guest.shell(self.guest.0)?;
        let at_boot = guest.answer(AT_BOOT)?;
        let refused = Apply::on(guest).run_with(&["--timeout", "0s"]);
        guest.shell(self.guest.1)?;
        server.shell(self.server.1)?;
        guest.write(TIER_FILE, good, 0o644)?;
        guest.write(SHARE_PASSWORD_FILE, format!("{SHARE_PASSWORD}\n"), 0o600)?;

        let refused = refused?;
        let failed = refused.refused_mount();
        let failed = failed.with_context(|| format!("no failed mount: {}", refused.output))?;
        ensure!(
            guest.answer(AT_BOOT)? == at_boot,
            "the next boot would go by what was refused"
        );
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let sentence = word(&failed["error"]["message"]);
        let hint = word(&failed["error"]["hint"]);
        let took = Duration::from_secs_f64(failed["took_ms"].as_f64().unwrap_or(f64::MAX) / 1000.0);
        say(format!(
            "{} ({}): {:.1} s: {sentence} -- {hint}",
            self.name,
            self.errno,
            took.as_secs_f64()
        ));
        ensure!(took < LIMIT, "it took {took:?}");
        ensure!(sentence.contains(self.sentence), "{sentence}");
        ensure!(!hint.is_empty() && hint.contains(self.hint), "{hint}");
        let said = format!("{}{}", refused.output.stdout, refused.output.stderr);
        ensure!(!said.contains(SHARE_PASSWORD), "{said}");
        let mounted = guest.run(["findmnt", "--types", "cifs"])?;
        ensure!(mounted.stdout.is_empty(), "mounted: {mounted}");
        let running = guest.answer(["podman", "ps", "--quiet"])?;
        ensure!(running.is_empty(), "a container runs on no share");
        Ok(sentence)
    }
}
