//! The sample application in its container: what it may do, and what it alone knows. Its image is read-only, and it is
//! given two secrets, one of which changes. On a guest that enforces SELinux's policy too.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::stage::{Image, Stage};
use super::{Scope, Size, Tally};
use crate::agent;
use crate::balancer::http_get;
use crate::confinement;
use crate::image::NAME;
use crate::progress::say;
use crate::release::Release;
use crate::selinux::{denials, nothing_is_denied};
use crate::tier::{Role, TIER_FILE, tier_file};
use crate::wasagent::Apply;

const TOKEN_FILE: &str = "/etc/wasagent/api-token";
const KEY_FILE: &str = "/etc/wasagent/signing-key";
const TOKEN: &str = "Token-of-the-lab's \"one\" $HOME %n 암호";
const OTHER_TOKEN: &str = "Token-of-the-lab's \"two\"";
const KEY: &str = "Key-of-the-lab, {json} \\n";
/// Parts that no quoting changes, of the share's password too.
const PARTS: [&str; 4] = ["Token-of-the-lab", "Key-of-the-lab", "Lab's, ", "암호"];

/// The sample application, with a page that tells what it was given and what it may write.
const SERVER: &str = include_str!("../../sample-app/server.js");
const TOLD: &str = r#"
require('http').createServer(app).listen(80);
app.get('/told', function (request, response) {
	var fs = require('fs');
	var writes = function (file) {
		try { fs.writeFileSync(file, 'x'); fs.unlinkSync(file); return 'ok'; } catch (error) { return error.code; }
	};
	response.json({
		token: fs.readFileSync('/run/secrets/API_TOKEN', 'utf8'),
		key: fs.readFileSync('/run/secrets/signing-1.key', 'utf8'),
		share: writes('/usr/src/app/written'),
		tmp: writes('/tmp/written'),
		root: writes('/written')
	});
});
"#;

const SECRETS: [&str; 2] = [
    "secret:nodejs-server.API_TOKEN.secret",
    "secret:nodejs-server.signing-1.key.secret",
];
const CONTAINER: &str = "container:nodejs-server";
const MOUNT: &str = "mount:/mnt/data/shared_folder";

/// How long the application may take to start on an emulated processor.
const SERVED: Duration = Duration::from_secs(300);

pub fn run(scope: &Scope) -> Result<()> {
    let agent = agent::build()?;
    let mut tally = Tally::new("confined");
    let enforcing = [Release::BookwormSelinux, Release::TrixieSelinux];
    for release in Release::BOTH.into_iter().chain(enforcing) {
        if scope.release.is_none_or(|only| only == release) {
            tally.point(
                &format!("{release}: a container that may do nothing"),
                || confined(&agent, release, scope.size),
            );
        }
    }
    tally.end()
}

fn confined(agent: &std::path::Path, release: Release, size: Size) -> Result<()> {
    let stage = Stage::was(agent, release, Image::There)?;
    let guest = &stage.guest;
    let server = stage.server.as_ref().context("no server")?;
    let application = SERVER.replace("\napp.listen(", &format!("{TOLD}\napp.listen("));
    ensure!(application.contains(TOLD), "{application}");
    server.write("/mnt/data/shared_folder/server.js", application, 0o644)?;
    guest.write(TIER_FILE, tier(), 0o644)?;
    guest.write(TOKEN_FILE, format!("{TOKEN}\n"), 0o600)?;
    guest.write(KEY_FILE, format!("{KEY}\n"), 0o600)?;

    if release.enforces() && size == Size::All {
        // What services of the distribution's own are denied at a boot is none of the agent's.
        guest.reboot()?;
    }
    let denied = release.enforces().then(|| denials(guest)).transpose()?;
    let applied = Apply::on(guest).role(Role::Was).ok()?;
    ensure!(
        SECRETS
            .iter()
            .all(|secret| applied.changed().contains(*secret)),
        "{}",
        applied.output
    );
    stage.is_told(TOKEN)?;
    confinement::is_confined(guest)?;
    confinement::is_silent(guest, &PARTS)?;
    if let Some(before) = &denied {
        confinement::is_in_its_domain(guest)?;
        nothing_is_denied(guest, before, "apply")?;
    }
    if size != Size::All {
        return Ok(());
    }
    ensure!(
        Apply::on(guest).ok()?.changed().is_empty(),
        "a second apply"
    );

    // The container has a copy of the old one.
    guest.write(TOKEN_FILE, format!("{OTHER_TOKEN}\n"), 0o600)?;
    let changed = Apply::on(guest).ok()?.changed();
    let wanted = [SECRETS[0], CONTAINER].map(str::to_owned).into();
    ensure!(changed == wanted, "{changed:?}");
    stage.is_told(OTHER_TOKEN)?;
    confinement::is_silent(guest, &PARTS)?;
    let kept = guest.run(["grep", "-rF", "Token-of-the-lab", "/var/lib/wasagent"])?;
    ensure!(kept.status == 1, "what was replaced is kept: {kept}");
    if let Some(before) = &denied {
        guest.reboot()?;
        stage.is_told(OTHER_TOKEN)?;
        confinement::is_in_its_domain(guest)?;
        nothing_is_denied(guest, before, "another token and a boot")?;
        stage.is_refused_without_its_label()?;
        stage.is_told(OTHER_TOKEN)?;
    }

    stage.revert()?;
    let left = guest.answer(["podman", "secret", "ls", "--quiet"])?;
    ensure!(left.is_empty(), "a revert left secrets: {left}");
    let files = "/var/lib/containers/storage/secrets/filedriver/secretsdata.json";
    let data = guest.answer(["cat", files])?;
    ensure!(data.trim() == "{}", "a revert left values in {files}");
    Ok(())
}

/// The guide's tier file, with all that confines the container further.
fn tier() -> String {
    let env = "env      = { NODE_ENV = \"production\" }\n";
    let guide = tier_file();
    assert!(guide.contains(env), "{guide}");
    let ports = "[\"5000:3000\"]";
    assert!(guide.contains(ports), "{guide}");
    guide
        .replace(ports, "[\"5000:3000\", \"5080:80\"]")
        .replace(
            env,
            &format!(
                "{env}read_only = true\n\n[was.container.secrets]\n\
             API_TOKEN = {{ password_file = \"{TOKEN_FILE}\" }}\n\
             \"signing-1.key\" = {{ password_file = \"{KEY_FILE}\" }}\n"
            ),
        )
}

impl Stage {
    /// It is the label of the mount that lets a container have the share: somebody takes it out of the unit, the policy
    /// refuses, and an apply puts it back.
    fn is_refused_without_its_label(&self) -> Result<()> {
        let guest = &self.guest;
        ensure!(self.container_reads_the_share()?, "refused with the label");
        let unit = "/etc/systemd/system/mnt-data-shared_folder.mount";
        let take_out = format!(
            "grep ,context= {unit} && sed -i 's/,context=.*//' {unit} && systemctl daemon-reload && \
             systemctl restart mnt-data-shared_folder.mount"
        );
        guest.ok(["sh", "-c", &take_out])?;
        ensure!(!self.container_reads_the_share()?, "not refused without it");
        let changed = Apply::on(guest).role(Role::Was).ok()?.changed();
        ensure!(changed.contains(MOUNT), "{changed:?}");
        Ok(())
    }

    /// Whether another container of the image may, told by how it ends: it may not write to what is sshd's.
    fn container_reads_the_share(&self) -> Result<bool> {
        const READS: &str = "try { fs.readdirSync('/share') } catch (error) { process.exit(error.code === 'EACCES' ? 13 : 14) }";
        let run = [
            "podman",
            "run",
            "--rm",
            "--network=none",
            "--volume=/mnt/data/shared_folder:/share",
            "--entrypoint=node",
            NAME,
            "--eval",
            READS,
        ];
        let output = self.guest.run(run)?;
        match output.status {
            0 => Ok(true),
            13 => Ok(false),
            _ => bail!("{output}"),
        }
    }

    /// The application serves its page, and has been told this token.
    fn is_told(&self, token: &str) -> Result<()> {
        let begun = Instant::now();
        let page = self.page("5000/")?;
        ensure!(page.contains("was-container-1"), "{page}");
        say(format!(
            "the page came after {:.0} s",
            begun.elapsed().as_secs_f64()
        ));
        let told: serde_json::Value = serde_json::from_str(&self.page("5080/told")?)?;
        let wanted = serde_json::json!({
            "token": token, "key": KEY, "share": "ok", "tmp": "ok", "root": "EROFS"
        });
        ensure!(told == wanted, "{told}");
        Ok(())
    }

    fn page(&self, port_and_path: &str) -> Result<String> {
        let url = format!("http://{}:{port_and_path}", self.guest.address());
        let begun = Instant::now();
        loop {
            let answer = http_get(self.lab.network().name(), &url, Duration::from_secs(60));
            match answer {
                Ok((200, page)) => return Ok(page),
                _ if begun.elapsed() < SERVED => thread::sleep(Duration::from_secs(1)),
                other => bail!("{url}: {other:?}"),
            }
        }
    }
}
