//! `wasagent back-off`, which the container's unit runs before podman.
//!
//! First the VM has to have the name for which the unit was written ([`own_name`]).
//!
//! An application that ends again and again is restarted after longer and longer pauses. systemd's own `RestartSteps=`
//! does not do: EL9's systemd lacks it. After some days it would also wait as long for an application that ends once a
//! day, and for a share that was late.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::own_name;
use crate::cli::Failure;
use crate::cli::exit::{self, Code};
use crate::error::Doing;
use crate::host::held_container;
use crate::host::mount;
use crate::host::recent_starts::{PAUSES, RecentStarts, Start};
use crate::host::systemd::mount_unit_name;
use crate::host::{Systemd, blocking, system_bus};

/// Starts of the last ten minutes count, except for the first few.
const WINDOW: Duration = Duration::from_secs(600);
const AT_ONCE: usize = 4;
/// The first pause. Each further pause is twice as long, up to the longest.
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct Options {
    /// Where the share is mounted
    #[arg(long)]
    mount: PathBuf,
    /// The VM for which the unit was written
    #[arg(long)]
    node: Option<String>,
    /// The container
    name: String,
}

pub async fn run(options: &Options) -> Result<Code, Failure> {
    // SIGCONT is the unit's `KillSignal=` where podman is older than 5.3: SIGTERM would end such a podman in the middle
    // of its work. From here on, SIGCONT ends a pause.
    let number = SignalKind::from_raw(libc::SIGCONT);
    let mut called_off = signal(number).doing("listen for SIGCONT")?;
    if let Some(node) = &options.node {
        let may_start = own_name::is_there(node, &options.name, &mut called_off).await;
        held_container::set(&options.name, !may_start)?;
        if !may_start {
            return Ok(exit::DONE);
        }
    }
    let starts = RecentStarts::of(&options.name);
    let at = options.mount.clone();
    let share = blocking(move || mount::mount_at(&at)).await?;
    if share.is_none_or(|share| share.fs_type != "cifs") {
        // The application ended because the share is gone, so it is not at fault. The unit's next command refuses this
        // start.
        starts.forget()?;
        return Ok(exit::DONE);
    }
    let systemd = Systemd::connect(&system_bus().await?).await?;
    let unit = format!("{}.service", options.name);
    let restarts = systemd.restarts(&unit).await?;
    let mounted = systemd.unit(&mount_unit_name(&options.mount)).await?;
    let start = Start::now(restarts, mounted.active_since)?;
    let mut before = starts.before(&start, WINDOW)?;
    let pause = pause_after(before.len());
    if !pause.is_zero() && !is_over(before.len(), pause, &mut called_off).await {
        return Ok(exit::DONE);
    }
    before.push(Start::now(restarts, mounted.active_since)?);
    starts.write(&before)?;
    Ok(exit::DONE)
}

/// How long the next start waits after this many starts.
fn pause_after(starts: usize) -> Duration {
    let Some(doubled) = starts.checked_sub(AT_ONCE) else {
        return Duration::ZERO;
    };
    let doubled = u32::try_from(doubled).unwrap_or(u32::MAX);
    let factor = 2_u32.checked_pow(doubled).unwrap_or(u32::MAX);
    SHORTEST.saturating_mul(factor).min(LONGEST)
}

/// Waits. Returns whether the start goes on: not if it was called off meanwhile.
async fn is_over(starts: usize, pause: Duration, called_off: &mut Signal) -> bool {
    let why = format!(
        "started {starts} times in {} minutes: {PAUSES} {} s",
        WINDOW.as_secs() / 60,
        pause.as_secs()
    );
    println!("{why}");
    // systemctl(1) status shows this text. From it, an apply that starts the unit sees that it need not wait. The start
    // also goes on without it.
    let _ = sd_notify::notify(&[NotifyState::Status(&why)]);
    let goes_on = tokio::select! {
        () = tokio::time::sleep(pause) => true,
        _ = called_off.recv() => false,
    };
    let _ = sd_notify::notify(&[NotifyState::Status("")]);
    goes_on
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let seconds = [0, 3, 4, 5, 6, 7, 100, usize::MAX].map(|n| pause_after(n).as_secs());
        assert_eq!(seconds, [0, 0, 10, 20, 40, 60, 60, 60]);
        // The pause stays at its longest: the window still holds enough starts at that pace.
        let held = WINDOW.as_secs() / (LONGEST.as_secs() + 10);
        assert_eq!(pause_after(usize::try_from(held).unwrap()), LONGEST);
    }
}
