//! `wasagent apply`: brings this VM to the state that the tier file describes.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::exit::{self, Code};
use super::output::Output;
use super::view::View;
use crate::config::{Role, Tier};
use crate::engine::apply::{Listener, apply};
use crate::engine::report::Work;
use crate::engine::{Plan, entry, record};
use crate::error::{Doing, Error, Result};
use crate::host::Host;
use crate::role;

/// Held by one apply at a time; gone with the process that holds it, however that ends.
const LOCK: &str = "/run/wasagent.lock";

/// Takes the lock, or tells that another apply has it.
pub fn lock() -> Result<Flock<File>, Failure> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(Path::new(LOCK))
        .doing(format_args!("open {LOCK}"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(Failure {
            code: exit::LOCKED,
            error: Some(
                Error::new("another apply is at work on this VM").hint("try again when it is done"),
            ),
        }),
        Err((_, errno)) => Err(Error::new(format!("lock {LOCK}: {errno}")).into()),
    }
}

pub async fn run(role: Role, tier: &Tier, output: &Output) -> Result<Code, Failure> {
    let host = Arc::new(Host::connect().await?);
    let graph = role::resources(role, tier, &host.facts)?;
    // All is observed, and all refused that must be, before the first change.
    let started = Instant::now();
    let plan = Plan::make(&graph, &host).await.map_err(|refusals| {
        output.refusals(&refusals, started.elapsed());
        Failure {
            code: exit::FAILED,
            error: None,
        }
    })?;

    let stop = Arc::new(AtomicBool::new(false));
    let view = View::new(*output, Work::Apply, role);
    stop_on_signals(&stop, &view)?;
    let run = entry::Run {
        work: Work::Apply,
        role,
        number: None,
    };
    let listener: Listener = {
        let (view, run) = (Arc::clone(&view), run);
        Arc::new(move |event| {
            view.event(event);
            entry::send(event, &run);
        })
    };
    let applied = apply(&graph, &host, plan, &stop, &listener).await;

    let summary = applied.summary;
    let succeeded = summary.failed == 0 && summary.skipped == 0;
    view.summary(&summary, stop.load(Ordering::Relaxed));
    let before = record::read()?;
    record::write(before.as_ref(), role, succeeded, &applied.changes)?;
    Ok(if succeeded { exit::DONE } else { exit::FAILED })
}

/// SIGINT and SIGTERM let the steps at hand finish, and begin no other.
fn stop_on_signals(stop: &Arc<AtomicBool>, view: &Arc<View>) -> Result<()> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).doing("listen for signals")?;
        let (stop, view) = (Arc::clone(stop), Arc::clone(view));
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if !stop.swap(true, Ordering::Relaxed) {
                    view.stopping();
                }
            }
        });
    }
    Ok(())
}
