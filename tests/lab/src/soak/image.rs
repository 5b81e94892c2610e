//! The image of a WAS VM's container: a tag that moves is told and taken only when asked for, and neither a registry that is
//! down, an archive that is cut off nor an image that cannot serve takes the page away for longer than a restart.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::outage::{APPLICATION, PAGE};
use super::stage::{Image, Stage};
use super::{Scope, Size, Tally};
use crate::balancer::http_get;
use crate::guest::Guest;
use crate::process::{Output, until};
use crate::progress::say;
use crate::random::new_seed;
use crate::release::Release;
use crate::tier::{TIER_FILE, registry, tier_file};
use crate::{agent, image};

const ASKED: &str = "http://192.168.2.11:5000/";
const SERVED: Duration = Duration::from_secs(180);
const LIMIT: Duration = Duration::from_secs(300);
const ARCHIVE: &str = "/root/image.tar";

pub fn run(scope: &Scope) -> Result<()> {
    let agent = agent::build()?;
    let mut tally = Tally::new("image");
    for release in Release::BOTH {
        if scope.release.is_some_and(|only| only != release) {
            continue;
        }
        let mut tag = None;
        tally.point(&format!("{release}: a tag that moves"), || {
            let seen = Moving::served(&agent, release)?;
            seen.is_told_and_left()?;
            tag = Some(seen);
            Ok(())
        });
        let Some(mut seen) = tag else { continue };
        if scope.size == Size::All {
            tally.point(&format!("{release}: a registry that is down"), || {
                seen.registry_is_down()
            });
            tally.point(&format!("{release}: an image that ends at once"), || {
                seen.new_one_ends_at_once()
            });
        }
        tally.point(&format!("{release}: taken when asked for"), || {
            seen.is_taken()
        });
        if scope.size == Size::All {
            tally.point(&format!("{release}: an archive"), || seen.archive());
        }
        tally.point(&format!("{release}: reverted"), || seen.is_reverted());
        if scope.size == Size::All {
            tally.point(&format!("{release}: reverted after a pull by hand"), || {
                seen.is_reverted_but_for_a_pull_by_hand()
            });
        }
    }
    tally.end()
}

/// A WAS VM that serves from an image whose tag nobody else uses.
struct Moving {
    stage: Stage,
    /// Repository and tag.
    name: String,
    /// The id of the image that it was pulled as.
    first: String,
}

impl Moving {
    fn served(agent: &Path, release: Release) -> Result<Moving> {
        let stage = Stage::was(agent, release, Image::Absent)?;
        let server = stage.server.as_ref().context("no server")?;
        server.write("/mnt/data/shared_folder/server.js", APPLICATION, 0o644)?;
        server.write(PAGE, "whole\n", 0o644)?;
        let name = format!("lab/moving-{}:1", new_seed());
        let mut moving = Moving {
            stage,
            name,
            first: String::new(),
        };
        moving.first = moving.push("first", None)?;
        let guest = &moving.stage.guest;
        // By hand before the first apply: a revert has to come back to it.
        guest.ok(["podman", "pull", "--quiet", &moving.reference()])?;
        moving.use_image(&moving.reference())?;
        moving.stage.apply(None)?;
        moving.serves(&moving.first)?;
        Ok(moving)
    }

    fn reference(&self) -> String {
        format!("docker.io/{}", self.name)
    }

    /// Gives the tag another meaning; returns the image's id.
    fn push(&self, label: &str, command: Option<&[&str]>) -> Result<String> {
        let registry = self.stage.registry.as_ref().context("no registry")?;
        registry.push_changed(image::NAME_IN_REGISTRY, &self.name, |config| {
            config["config"]["Labels"] = json!({ "lab": label });
            if let Some(command) = command {
                config["config"]["Cmd"] = json!(command);
            }
        })
    }

    fn use_image(&self, image: &str) -> Result<()> {
        let text = tier_file().replacen(image::NAME, image, 1);
        self.stage.guest.write(TIER_FILE, text, 0o644)
    }

    fn asked(&self, words: &[&str]) -> Result<Output> {
        let words = [&["wasagent"], words].concat();
        self.stage.guest.run_unchecked(&words, b"", LIMIT)
    }

    fn id_of(&self, image: &str) -> Result<String> {
        let inspect = ["podman", "image", "inspect", "--format", "{{.Id}}", image];
        self.stage.guest.answer(inspect)
    }

    /// The page is there, from a container of this image.
    fn serves(&self, id: &str) -> Result<()> {
        let netns = self.stage.lab.network().name();
        until("the page", SERVED, || {
            let asked = http_get(netns, ASKED, Duration::from_secs(2));
            if matches!(&asked, Ok((200, text)) if text == "whole") {
                return Ok(Some(()));
            }
            thread::sleep(Duration::from_millis(200));
            Ok(None)
        })?;
        let inspect = [
            "podman",
            "inspect",
            "--format",
            "{{.Image}}",
            "nodejs-server",
        ];
        let runs = self.stage.guest.answer(inspect)?;
        ensure!(runs == id, "the container runs {runs}, and not {id}");
        Ok(())
    }

    fn is_told_and_left(&self) -> Result<()> {
        let plan = self.asked(&["plan"])?;
        ensure!(
            plan.status == 0 && !plan.stdout.contains("another image"),
            "{plan}"
        );
        let second = self.push("second", None)?;
        let plan = self.asked(&["plan"])?;
        let told = format!("means another image by now ({};", &second[..12]);
        ensure!(
            plan.status == 0 && plan.stdout.contains(&told),
            "no {told:?}: {plan}"
        );
        ensure!(plan.stdout.contains("wasagent apply --pull"), "{plan}");
        let applied = self.asked(&["apply"])?;
        ensure!(applied.success(), "{applied}");
        self.serves(&self.first)
    }

    fn registry_is_down(&mut self) -> Result<()> {
        self.stage.registry = None;
        let began = Instant::now();
        let plan = self.asked(&["plan"])?;
        let took = began.elapsed();
        ensure!(
            plan.status == 0 && plan.stdout.contains("cannot be told"),
            "{plan}"
        );
        say(format!(
            "plan with the registry down: {:.1} s",
            took.as_secs_f64()
        ));
        let applied = self.asked(&["apply"])?;
        ensure!(applied.success(), "{applied}");
        let refused = self.asked(&["apply", "--pull"])?;
        ensure!(
            refused.status == 1 && refused.stderr.contains("podman manifest inspect"),
            "{refused}"
        );
        say(refused.stderr.trim());
        self.serves(&self.first)?;
        self.stage.registry = Some(registry(&self.stage.lab)?);
        Ok(())
    }

    fn new_one_ends_at_once(&self) -> Result<()> {
        let ends = [
            "node",
            "-e",
            "console.error('no such table'); process.exit(3)",
        ];
        self.push("ends", Some(&ends))?;
        let failed = self.asked(&["apply", "--pull"])?;
        ensure!(
            failed.status == 1
                && failed.stderr.contains("no such table")
                && failed.stderr.contains("of before runs again"),
            "{failed}"
        );
        self.serves(&self.first)?;
        let named = self.id_of(&self.reference())?;
        ensure!(named == self.first, "{} is {named} now", self.name);
        let applied = self.asked(&["apply"])?;
        ensure!(applied.success(), "{applied}");
        self.serves(&self.first)
    }

    fn is_taken(&self) -> Result<()> {
        let second = self.push("second", None)?;
        let plan = self.asked(&["plan", "--pull"])?;
        ensure!(
            plan.status == 2
                && plan.stdout.contains(&second[..12])
                && plan.stdout.contains("restart nodejs-server"),
            "{plan}"
        );
        let applied = self.asked(&["apply", "--pull"])?;
        ensure!(
            applied.success() && applied.stdout.contains("sha256:"),
            "{applied}"
        );
        self.serves(&second)?;
        for words in [&["plan"][..], &["plan", "--pull"], &["apply", "--pull"]] {
            let again = self.asked(words)?;
            ensure!(
                again.status == 0 && !again.stdout.contains("another image"),
                "{again}"
            );
        }
        let history = self.asked(&["history"])?;
        ensure!(history.stdout.contains("digest"), "{history}");
        // Somebody pulls by hand: the container is of an older image than its tag.
        let third = self.push("third", None)?;
        self.stage
            .guest
            .ok(["podman", "pull", "--quiet", &self.reference()])?;
        let plan = self.asked(&["plan"])?;
        ensure!(
            plan.status == 2 && plan.stdout.contains(&third[..12]),
            "{plan}"
        );
        let applied = self.asked(&["apply"])?;
        ensure!(applied.success(), "{applied}");
        self.serves(&third)?;
        let fourth = self.push("fourth", None)?;
        let applied = self.asked(&["apply", "--pull"])?;
        ensure!(applied.success(), "{applied}");
        self.serves(&fourth)
    }

    fn archive(&self) -> Result<()> {
        let guest = &self.stage.guest;
        let third = self.id_of(&self.reference())?;
        self.save(&third)?;
        guest.ok(["truncate", "--size=-1M", ARCHIVE])?;
        self.use_image(&format!("docker-archive:{ARCHIVE}"))?;
        let refused = self.asked(&["apply"])?;
        ensure!(
            refused.status == 1 && refused.stderr.contains("the archive is cut off"),
            "{refused}"
        );
        say(refused.stderr.trim());
        self.serves(&third)?;

        self.save(&self.first)?;
        let applied = self.asked(&["apply"])?;
        ensure!(applied.success(), "{applied}");
        self.serves(&self.first)?;
        // Another one is copied over it.
        self.save(&third)?;
        let plan = self.asked(&["plan"])?;
        ensure!(
            plan.status == 0 && plan.stdout.contains("means another image by now"),
            "{plan}"
        );
        let applied = self.asked(&["apply", "--pull"])?;
        ensure!(applied.success(), "{applied}");
        self.serves(&third)?;
        self.use_image(&self.reference())?;
        let applied = self.asked(&["apply"])?;
        ensure!(applied.success(), "{applied}");
        self.serves(&third)
    }

    fn save(&self, id: &str) -> Result<()> {
        let guest: &Guest = &self.stage.guest;
        guest.ok(["rm", "-f", ARCHIVE])?;
        let save = [
            "podman",
            "save",
            "--quiet",
            "--format",
            "docker-archive",
            "--output",
            ARCHIVE,
            id,
        ];
        guest.ok(save).map(drop)
    }

    /// The name is the image's again that it was before the first apply.
    fn is_reverted(&self) -> Result<()> {
        self.stage.revert()?;
        let named = self.id_of(&self.reference())?;
        ensure!(
            named == self.first,
            "{} is {named}, and was {}",
            self.name,
            self.first
        );
        Ok(())
    }

    /// What somebody has pulled since the last apply keeps the name.
    fn is_reverted_but_for_a_pull_by_hand(&self) -> Result<()> {
        let taken = self.push("taken", None)?;
        let applied = self.asked(&["apply", "--role", "was", "--pull"])?;
        ensure!(applied.success(), "{applied}");
        self.serves(&taken)?;
        let by_hand = self.push("by hand", None)?;
        self.stage
            .guest
            .ok(["podman", "pull", "--quiet", &self.reference()])?;
        self.stage.revert()?;
        let named = self.id_of(&self.reference())?;
        ensure!(
            named == by_hand,
            "{} is {named}, and was pulled by hand as {by_hand}",
            self.name
        );
        Ok(())
    }
}
