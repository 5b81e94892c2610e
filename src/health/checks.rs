//! The checks. Each has a deadline of its own: a dead share hangs every process that touches it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use super::share;
use crate::config::{Protocol, Role, Tier, Was, template};
use crate::engine::plan::milliseconds;
use crate::engine::{Address, Graph, Kind};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::http;
use crate::role::{self, Options};

/// How long one check may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// One check and what it found.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    pub name: String,
    pub resource: Address,
    pub ok: bool,
    pub detail: String,
    pub hint: Option<String>,
    pub took_ms: f64,
}

/// What a check found: a detail, or an error.
pub type Finding = Result<String>;

/// Runs all the checks of a role at the same time; the result is in the order of the role.
pub async fn run(role: Role, tier: &Tier, host: &Arc<Host>) -> Result<Vec<Check>> {
    let graph = role::resources(role, tier, &host.facts, &Options::default())?;
    let mut tasks = JoinSet::new();
    let mut order = 0_usize;
    let mut spawn = |name: &str, address: Address, finding: BoxedFinding| {
        let name = name.to_owned();
        let place = order;
        order += 1;
        tasks.spawn(async move { (place, check(name, address, finding).await) });
    };

    for (address, finding) in as_the_tier_file_says(&graph, host) {
        spawn(&address.kind.to_string(), address, finding);
    }
    match role {
        Role::Storage => {
            if let Some(storage) = &tier.storage {
                spawn(
                    "smb",
                    Address::new(Kind::File, "/etc/samba/wasagent.conf"),
                    Box::pin(share::serves_clients(
                        tier.clone(),
                        storage.clone(),
                        host.facts.node.clone(),
                        host.facts.packages,
                    )),
                );
                spawn(
                    "files",
                    Address::new(Kind::Directory, storage.path.display()),
                    Box::pin(share::has_room(storage.path.clone())),
                );
            }
        }
        Role::Was => {
            if let Some(was) = &tier.was {
                spawn(
                    "files",
                    Address::new(Kind::Mount, was.mount.display()),
                    Box::pin(share::can_be_used(was.clone(), host.facts.node.clone())),
                );
                spawn(
                    "http",
                    Address::new(Kind::Container, &was.container.name),
                    Box::pin(application_answers(
                        tier.clone(),
                        was.clone(),
                        host.facts.node.clone(),
                    )),
                );
            }
        }
    }

    let mut checks = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        if let Ok(found) = joined {
            checks.push(found);
        }
    }
    checks.sort_by_key(|(place, _)| *place);
    Ok(checks.into_iter().map(|(_, check)| check).collect())
}

/// Whether the application answers now, as the balancer's clients would see it. `None` for a role without one.
pub async fn application(role: Role, tier: &Tier, node: &str) -> Option<Check> {
    let was = tier.was.as_ref().filter(|_| role == Role::Was)?;
    let address = Address::new(Kind::Container, &was.container.name);
    let answers = application_answers(tier.clone(), was.clone(), node.to_owned());
    Some(check("http".to_owned(), address, Box::pin(answers)).await)
}

type BoxedFinding = std::pin::Pin<Box<dyn Future<Output = Finding> + Send>>;

async fn check(name: String, resource: Address, finding: BoxedFinding) -> Check {
    let started = Instant::now();
    let finding = tokio::time::timeout(DEADLINE, finding)
        .await
        .unwrap_or_else(|_| {
            let seconds = DEADLINE.as_secs();
            Err(Error::new(format!("no answer within {seconds} s"))
                .hint("this VM is too busy, or a disk or server hangs: see uptime and dmesg"))
        });
    let took_ms = milliseconds(started.elapsed());
    let (ok, detail, hint) = match finding {
        Ok(detail) => (true, detail, None),
        Err(error) => (false, error.message, error.hint),
    };
    Check {
        name,
        resource,
        ok,
        detail,
        hint,
        took_ms,
    }
}

/// Checks the resources without which nothing is served, as plan and apply see them. Drift of an
/// image or an account disturbs nobody who is being served.
fn as_the_tier_file_says(graph: &Graph, host: &Arc<Host>) -> Vec<(Address, BoxedFinding)> {
    graph
        .nodes()
        .iter()
        .filter(|node| {
            matches!(
                node.address.kind,
                Kind::Mount | Kind::Firewall | Kind::Unit | Kind::Container
            )
        })
        .map(|node| {
            let resource = Arc::clone(&node.resource);
            let host = Arc::clone(host);
            let name = node.address.name.clone();
            let finding: BoxedFinding = Box::pin(async move {
                let diff = resource.inspect(&host).await?;
                let differing = diff.harmful();
                if differing.is_empty() {
                    return Ok(format!("{name} is as the tier file says"));
                }
                Err(
                    Error::new(format!("{name}: {} ({})", diff.why, differing.join(", ")))
                        .hint("run: wasagent plan"),
                )
            });
            (node.address.clone(), finding)
        })
        .collect()
}

/// Asks the application as the load balancer's clients do.
async fn application_answers(tier: Tier, was: Was, node: String) -> Finding {
    let Some(publish) = was
        .container
        .publish
        .iter()
        .find(|publish| publish.protocol == Protocol::Tcp)
    else {
        return Ok("no TCP port is published".to_owned());
    };
    let wanted = &tier.health.http;
    let answer = http::get(publish.reached_at(), &wanted.path).await?;
    if answer.status != wanted.status {
        return Err(Error::new(format!(
            "GET {} answered {} and should answer {}",
            wanted.path, answer.status, wanted.status
        ))
        .hint(format!("see journalctl -u {}.service", was.container.name)));
    }
    let status = answer.status;
    let hostname = role::container_hostname(&was, &node)?;
    if let Some(contains) = &wanted.contains {
        let text = template::fill(contains, |name| {
            (name == "container.hostname").then(|| hostname.as_str().into())
        });
        if !answer.contains(&text).await? {
            return Err(Error::new(format!(
                "the answer to GET {} does not contain {text:?}",
                wanted.path
            ))
            .hint("compare health.http.contains with the page"));
        }
    }
    Ok(format!("GET {} answers {status}", wanted.path))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::role::samples;

    /// The guide's tier, whose application answers with this, if at all.
    fn tier_with(answer: Option<&'static str>) -> Tier {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut tier = samples::tier();
        let was = tier.was.as_mut().unwrap();
        was.container.publish[0].host_port = listener.local_addr().unwrap().port();
        if let Some(answer) = answer {
            std::thread::spawn(move || {
                let (mut client, _) = listener.accept().unwrap();
                let _ = client.read(&mut [0; 1024]);
                client.write_all(answer.as_bytes()).unwrap();
            });
        }
        tier
    }

    #[tokio::test]
    async fn an_application_that_does_not_serve_is_told() {
        let broken = "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n";
        let serves = "HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n";
        for (answer, said) in [
            (None, Some("connect to 127.0.0.1:")),
            (Some(broken), Some("GET / answered 500")),
            (Some(serves), None),
        ] {
            let tier = tier_with(answer);
            let check = application(Role::Was, &tier, "was-01").await.unwrap();
            assert_eq!(check.ok, said.is_none(), "{}", check.detail);
            assert!(check.detail.contains(said.unwrap_or_default()));
            assert_eq!(check.resource.to_string(), "container:nodejs-server");
        }
        let storage = application(Role::Storage, &tier_with(None), "storage").await;
        assert!(storage.is_none());
    }
}
