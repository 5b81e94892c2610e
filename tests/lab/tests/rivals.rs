//! What else starts the container of a WAS, and where the agent's own program is: what `plan` says, and a way out that
//! works when it is typed. A WAS needs a kernel with cifs to be applied, but none to be planned.

use anyhow::{Result, ensure};
use wasagent_lab::tier::{TIER_FILE, install_tier_file, tier_file};
use wasagent_lab::{Guest, Lab, Output, Release, Spec, agent, progress, way_out};

/// Files, made by lines of sh(1), and what is said of them.
struct Case {
    made: &'static str,
    /// Nothing for what starts no container by itself.
    said: Option<&'static str>,
    /// Takes away what the way out leaves.
    gone: &'static str,
}

const fn rival(made: &'static str, said: &'static str, gone: &'static str) -> Case {
    let said = Some(said);
    Case { made, said, gone }
}

const fn none(made: &'static str, gone: &'static str) -> Case {
    let said = None;
    Case { made, said, gone }
}

/// Writes a unit with a start command of podman, and whatever else it is given.
const UNIT: &str = r#"unit() { printf "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=$2\n[Install]\nWantedBy=multi-user.target\n" >/etc/systemd/system/$1; systemctl daemon-reload; }
RUN='-/usr/bin/podman run --replace --name nodejs-server no.such/image'
timer() { printf "[Timer]\nOnCalendar=yearly\n${2:-}\n[Install]\nWantedBy=timers.target\n" >/etc/systemd/system/$1; systemctl daemon-reload; }
"#;

const NO_UNITS: &str = "cd /etc/systemd/system; rm -rf web* x.* box* multi-user.target.wants/web* multi-user.target.wants/box* timers.target.wants/web*; systemctl daemon-reload; systemctl reset-failed";

#[rustfmt::skip]
const CASES: &[Case] = &[
    rival("unit web.service \"$RUN\"; systemctl -q enable web.service", "web.service starts a container nodejs-server, too, at every boot", NO_UNITS),
    rival("unit web.service \"$RUN\"; timer web.timer; systemctl -q enable --now web.timer", "too, by web.timer", NO_UNITS),
    rival("unit web.service \"$RUN\"; timer x.timer Unit=web.service; systemctl -q start x.timer", "too, by x.timer", NO_UNITS),
    rival("unit box@.service '-/usr/bin/podman start -a %%i'; systemctl -q enable box@nodejs-server.service", "too, at every boot", NO_UNITS),
    rival("unit web.service /bin/true; systemctl -q enable web.service; mkdir web.service.d; printf \"[Service]\\nExecStart=$RUN\\n\" >web.service.d/x.conf; systemctl daemon-reload", "web.service.d/x.conf starts a container", NO_UNITS),
    rival("printf '#!/bin/sh\\nN=nodejs-server\\npodman run -d --name $N image\\n' >/opt/start.sh; unit web.service '-/bin/sh /opt/start.sh'; systemctl -q enable web.service", "too, at every boot", NO_UNITS),
    rival("printf '#!/bin/sh\\npodman start nodejs-server\\n' >/opt/start.sh; echo '@reboot root /opt/start.sh' >/etc/cron.d/web", "/etc/cron.d/web starts a container", "rm -f /etc/cron.d/web /opt/start.sh"),
    rival("unit web.service \"$RUN\"; echo '@reboot root systemctl start web' >/etc/cron.d/web", "/etc/cron.d/web starts a container", "rm -f /etc/cron.d/web; cd /etc/systemd/system; rm web.service"),
    rival("mkdir -p /root/.config/systemd/user/default.target.wants; cd /root/.config/systemd/user; printf \"[Service]\\nExecStart=$RUN\\n\" >web.service; ln -s ../web.service default.target.wants", "too, when root logs in", "rm -rf /root/.config/systemd"),
    // What starts nothing by itself.
    none("unit web.service \"$RUN\"", NO_UNITS),
    none("unit web.service \"$RUN\"; timer web.timer; systemctl status web.timer || true", NO_UNITS),
    none("unit web.service \"$RUN\"; systemctl -q enable web.service; systemctl -q mask --runtime web.service; rm web.service; ln -s /dev/null web.service; systemctl daemon-reload", "systemctl unmask --runtime web.service; cd /etc/systemd/system; rm -f web.service multi-user.target.wants/web.service; systemctl daemon-reload"),
    none("unit web.service '/bin/true nodejs-server'; sed -i '1i [Unit]\\nDescription=podman run --name nodejs-server' web.service; systemctl -q enable web.service", NO_UNITS),
    none("unit web.service /bin/true; sed -i '2a #ExecStart=/usr/bin/podman start nodejs-server' web.service; systemctl -q enable web.service", NO_UNITS),
    none("unit web.service \"$RUN\"; mkdir web.service.d; printf '[Service]\\nExecStart=\\nExecStart=/bin/true\\n' >web.service.d/x.conf; systemctl -q enable web.service", NO_UNITS),
    none("unit web.service '-/usr/bin/podman exec other systemctl restart nodejs-server'; systemctl -q enable web.service", NO_UNITS),
    none("printf '# podman start nodejs-server\\n1 1 * * * root true # podman start nodejs-server\\n' >/etc/cron.d/web", "rm /etc/cron.d/web"),
];

/// Where the agent's program is run from, and whether units may name it.
#[rustfmt::skip]
const PROGRAMS: &[(&str, &str, Option<&str>)] = &[
    ("/usr/local/bin", "true", None),
    ("/opt/x", "true", None),
    ("/tmp/x", "true", Some("/tmp does not keep its files")),
    ("/run/x", "true", Some("/run does not keep its files")),
    ("/home/me", "mountpoint -q /home || mount -t tmpfs tmpfs /home", Some("/home is tmpfs")),
];

#[test]
fn what_else_starts_the_container_is_told_on_bookworm() -> Result<()> {
    on(Release::Bookworm)
}

#[test]
fn what_else_starts_the_container_is_told_on_trixie() -> Result<()> {
    on(Release::Trixie)
}

fn on(release: Release) -> Result<()> {
    let lab = Lab::new()?;
    let guest = lab.container(&Spec::was(1, release))?;
    guest.install_agent(&agent::build()?)?;
    install_tier_file(&guest, &tier_file())?;
    let free = plan(&guest, "wasagent")?;
    ensure!(free.status == 2, "{free}");
    let mut wrong = Vec::new();
    for case in CASES {
        if let Err(error) = try_case(&guest, case) {
            wrong.push(format!("{}: {error:#}", case.made));
        }
        guest.shell(case.gone)?;
    }
    for (directory, mounted, said) in PROGRAMS {
        if let Err(error) = try_program(&guest, directory, mounted, *said) {
            wrong.push(format!("{directory}: {error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{release}: {}", wrong.join("\n\n"));
    progress::say(format!(
        "{release}: {} cases told",
        CASES.len() + PROGRAMS.len()
    ));
    Ok(())
}

fn plan(guest: &Guest, program: &str) -> Result<Output> {
    guest.run([program, "--config", TIER_FILE, "plan", "--role", "was"])
}

fn try_case(guest: &Guest, case: &Case) -> Result<()> {
    guest.shell(&format!("{UNIT}cd /etc/systemd/system; {}", case.made))?;
    let told = plan(guest, "wasagent")?;
    let Some(said) = case.said else {
        ensure!(told.status == 2, "a false alarm: {told}");
        return Ok(());
    };
    ensure!(
        told.status == 1 && told.stderr.contains(said),
        "{said:?} is not said: {told}"
    );
    progress::say(told.stderr.trim());
    way_out::take(guest, &told)?;
    let free = plan(guest, "wasagent")?;
    ensure!(
        free.status == 2,
        "the way out does not help: {told}\n{free}"
    );
    Ok(())
}

fn try_program(guest: &Guest, directory: &str, mounted: &str, said: Option<&str>) -> Result<()> {
    let program = format!("{directory}/wasagent");
    let make = format!("{mounted}; mkdir -p {directory}; cp /usr/bin/wasagent {program}");
    guest.shell(&make)?;
    let told = plan(guest, &program)?;
    match said {
        None => ensure!(
            told.status == 2 && told.stdout.contains(&program),
            "the units do not name it: {told}"
        ),
        Some(said) => ensure!(
            told.status == 1
                && told.stderr.contains(said)
                && told.stderr.contains("a boot may not find it")
                && told.stderr.contains("/usr/bin/wasagent"),
            "{said:?} is not said: {told}"
        ),
    }
    guest.shell(&format!("rm {program}")).map(drop)
}
