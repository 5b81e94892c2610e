//! One real first boot: cloud-init installs the agent and applies the role from user data alone.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use wasagent_lab::tier::{REPOSITORY, SHARE_PASSWORD, SHARE_PASSWORD_FILE, tier_file};
use wasagent_lab::user_data::{self, RoleData};
use wasagent_lab::{Disk, Lab, Release, Spec, agent, progress, sample_app};

/// How long the boot may take on an emulated processor.
const BOOT: Duration = Duration::from_secs(900);

#[test]
fn a_first_boot_by_cloud_init() -> Result<()> {
    let lab = Lab::new()?;
    let binary = agent::build()?;
    let repository = sample_app::repository(lab.cache())?;
    let scratch = tempfile::tempdir()?;
    let packed = scratch.path().join("repository.tar");
    let tar = Command::new("tar")
        .arg("--create")
        .arg("--file")
        .arg(&packed)
        .arg("--directory")
        .arg(&repository)
        .arg(".")
        .status()?;
    ensure!(tar.success());

    let data = RoleData {
        role: "storage",
        tier_toml: &tier_file(),
        secrets: &[(SHARE_PASSWORD_FILE, SHARE_PASSWORD)],
        unpack: &[("repository.tar", REPOSITORY)],
    }
    .user_data();
    let seed = user_data::seed_disk(
        lab.network().run_directory(),
        "was-storage",
        &data,
        &[(user_data::AGENT, &binary), ("repository.tar", &packed)],
    )?;
    let spec = Spec::storage(Release::BookwormCloud)
        .disk(Disk::of_the_guide("5a0dd3f2c1b74e6a8f90"))
        .seed(&seed);
    let guest = progress::timed("a first boot with cloud-init", || {
        let guest = lab.first_boot(&spec)?;
        guest.wait_ready(BOOT)?;
        Ok(guest)
    })?;
    let log = guest.answer(["cat", "/var/log/cloud-init-output.log"])?;
    ensure!(
        guest.answer(["cloud-init", "status"])?.contains("done"),
        "{log}"
    );
    ensure!(log.contains("changed unit:smbd.service"), "{log}");
    guest.ok(["wasagent", "health"])?;
    let plan = guest.run(["wasagent", "plan"])?;
    ensure!(plan.status == 0, "{plan}");
    Ok(())
}
