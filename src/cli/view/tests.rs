//! A run of the role `was` with everything that a view has to show, at fixed times. The screens are
//! what a terminal displays, not the raw bytes.

use super::json::Json;
use super::plain::Plain;
use super::terminal::{Size, Terminal};
use super::text::{Page, Run};
use super::*;
use crate::config::Role;
use crate::engine::Work;
use crate::engine::{Address, Diff, Kind};
use crate::error::Error;

const PAGE: Page = Page {
    colour: false,
    colour_on_stderr: false,
    width: None,
    verbose: false,
};

const RUN: Run = Run {
    work: Work::Apply,
    role: Role::Was,
    rolls_back: false,
};

const IMAGE: &str = "registry.example.com:5000/ablecloud/three-tier/nodejs-server:linux-0.1";

/// Takes both streams, like a terminal, or like cloud-init when it sends both to one file.
#[derive(Clone)]
struct Screen(Arc<Mutex<(vt100::Parser, Vec<u8>)>>);

impl Screen {
    fn new(columns: u16) -> Self {
        let parser = vt100::Parser::new(40, columns, 0);
        Self(Arc::new(Mutex::new((parser, Vec::new()))))
    }

    fn streams(&self) -> Streams {
        Streams {
            out: Box::new(self.clone()),
            err: Box::new(self.clone()),
        }
    }

    fn rows(&self) -> String {
        let screen = self.0.lock().unwrap();
        let columns = screen.0.screen().size().1;
        let rows: Vec<String> = screen.0.screen().rows(0, columns).collect();
        rows.join("\n").trim_end().to_owned() + "\n"
    }

    fn written(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().1.clone()).unwrap()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut screen = self.0.lock().unwrap();
        for &byte in bytes {
            // As a terminal's ONLCR does.
            let shown: &[u8] = if byte == b'\n' { b"\r\n" } else { &[byte] };
            screen.0.process(shown);
        }
        screen.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn image() -> Address {
    Address::new(Kind::Image, IMAGE)
}

fn mount() -> Address {
    Address::new(Kind::Mount, "/mnt/data/shared_folder")
}

fn container() -> Address {
    Address::new(Kind::Container, "nodejs-server")
}

fn started() -> Address {
    Address::new(Kind::Unit, "nodejs-server.service")
}

fn silent() -> Error {
    Error::new("mount //192.168.2.13/user1: 192.168.2.13 does not answer on port 445: host is down")
}

fn refused() -> Error {
    Error::new(
        "mount //192.168.2.13/user1 on /mnt/data/shared_folder: permission denied: the server \
         refused the password of user1",
    )
    .hint(
        "compare share.password_file on this VM with the one on the storage VM, and apply there \
         first if the password was changed",
    )
}

fn secret() -> Diff {
    let mut diff = Diff::create("the credentials are not there");
    diff.secret("password", false);
    diff
}

fn unit() -> Diff {
    let mut diff = Diff::update("the unit is not the one wanted");
    diff.field("contents", Some("a\nb\nc\n"), "a\nb\nc\nd\n");
    diff.field("mode", Some("0600"), "0644");
    diff
}

fn pulled() -> Diff {
    let mut diff = Diff::create("podman does not have the image");
    diff.field("image", None, IMAGE);
    diff
}

/// The run up to where two resources are at work, one of them waiting for its next try.
fn first_half(form: &mut dyn Form) {
    let cred = Address::new(Kind::Secret, "/etc/wasagent/share.cred");
    let file = Address::new(Kind::File, "/etc/systemd/system/nodejs-server.service");
    let ready = Address::new(Kind::Directory, "/mnt/data/shared_folder");
    form.event(&Event::unchanged(&ready, ms(0), Vec::new()), ms(1));
    form.event(&Event::start(&cred), ms(2));
    form.event(&Event::start(&image()), ms(3));
    form.event(&Event::start(&file), ms(4));
    form.event(&Event::done(&cred, ms(12), &secret()), ms(14));
    form.event(&Event::start(&mount()), ms(15));
    form.event(&Event::done(&file, ms(48), &unit()), ms(52));
    for (at, layers) in [(900, "1 layer begun"), (2100, "6 layers begun")] {
        form.event(&Event::progress(&image(), layers.to_owned()), ms(at));
    }
    form.event(&Event::retry(&mount(), silent(), ms(1000)), ms(3000));
    form.event(&Event::retry(&mount(), silent(), ms(4000)), ms(7000));
    for at in (0..=10_200).step_by(200) {
        form.tick(ms(at));
    }
}

fn second_half(form: &mut dyn Form) {
    let need = "what it needs is not in place".to_owned();
    form.event(&Event::failed(&mount(), ms(12_300), refused()), ms(12_315));
    form.event(&Event::skipped(&container(), need.clone()), ms(12_316));
    form.event(&Event::skipped(&started(), need), ms(12_316));
    for at in (12_400..=72_000).step_by(200) {
        form.tick(ms(at));
    }
    let zone = Address::new(Kind::Firewall, "public");
    let note = vec!["5000/tcp is open to everybody".to_owned()];
    form.event(&Event::unchanged(&zone, ms(3), note), ms(72_000));
    form.event(&Event::done(&image(), ms(72_400), &pulled()), ms(72_403));
    form.summary(
        &Summary {
            changed: 3,
            unchanged: 2,
            failed: 1,
            skipped: 2,
            took: ms(72_410),
        },
        false,
    );
}

fn terminal(screen: &Screen, size: fn() -> Size) -> Terminal {
    Terminal::new(screen.streams(), PAGE, size, RUN)
}

#[test]
fn a_terminal_of_80_columns() {
    let screen = Screen::new(80);
    let mut form = terminal(&screen, || Size {
        columns: 80,
        rows: 40,
    });
    first_half(&mut form);
    insta::assert_snapshot!("terminal_80_at_work", screen.rows());
    second_half(&mut form);
    insta::assert_snapshot!("terminal_80_at_the_end", screen.rows());
}

#[test]
fn a_terminal_of_120_columns() {
    let screen = Screen::new(120);
    let mut form = terminal(&screen, || Size {
        columns: 120,
        rows: 40,
    });
    first_half(&mut form);
    insta::assert_snapshot!("terminal_120_at_work", screen.rows());
    second_half(&mut form);
    insta::assert_snapshot!("terminal_120_at_the_end", screen.rows());
}

#[test]
fn a_log() {
    let screen = Screen::new(80);
    let mut form = Plain::new(screen.streams(), PAGE, RUN);
    first_half(&mut form);
    second_half(&mut form);
    insta::assert_snapshot!("plain", screen.written());
}

#[test]
fn events_for_scripts() {
    let screen = Screen::new(80);
    let mut form = Json::new(screen.streams(), PAGE);
    first_half(&mut form);
    second_half(&mut form);
    insta::assert_snapshot!("json", screen.written());
}

#[test]
fn a_note_is_told_in_every_form() {
    let note = Event::note(&container(), "the application does not answer".to_owned());
    let screen = Screen::new(80);
    let mut form = Json::new(screen.streams(), PAGE);
    form.event(&note, ms(1));
    let written = screen.written();
    let line: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(line["event"], "note");
    assert_eq!(line["notes"][0], "the application does not answer");
    let screen = Screen::new(80);
    let mut form = Plain::new(screen.streams(), PAGE, RUN);
    form.event(&note, ms(1));
    let written = screen.written();
    assert!(written.starts_with("note    container:nodejs-server: the application does not"));
}

#[test]
fn a_hundred_amounts_a_second_are_one_event_for_scripts() {
    let screen = Screen::new(80);
    let mut form = Json::new(screen.streams(), PAGE);
    for percent in 0..100 {
        let amount = Event::progress(&image(), format!("{percent}%"));
        form.event(&amount, ms(10 * percent));
    }
    assert_eq!(screen.written().lines().count(), 1);
}

#[test]
fn a_run_that_was_stopped_says_how_to_go_on() {
    let screen = Screen::new(80);
    let mut form = terminal(&screen, || Size {
        columns: 80,
        rows: 40,
    });
    form.event(&Event::start(&mount()), ms(0));
    form.stopping(ms(500));
    form.event(&Event::done(&mount(), ms(900), &unit()), ms(900));
    let skipped = Event::skipped(&container(), "interrupted".to_owned());
    form.event(&skipped, ms(901));
    let summary = Summary {
        changed: 1,
        unchanged: 0,
        failed: 0,
        skipped: 1,
        took: ms(905),
    };
    form.summary(&summary, true);
    insta::assert_snapshot!("terminal_stopped", screen.rows());
}

#[test]
fn no_text_steers_the_terminal_and_wide_letters_count_twice() {
    let hostile = Error::new("podman said \x1b[2J\x07 and then: 그 파일이 없습니다 ".repeat(4));
    let korean = Address::new(
        Kind::File,
        "/mnt/data/공유 폴더/".to_owned() + &"파일".repeat(40),
    );
    let written = |form: &mut dyn Form| {
        form.event(&Event::start(&korean), ms(0));
        form.event(&Event::retry(&korean, hostile.clone(), ms(10)), ms(1));
        form.tick(ms(200));
    };
    let screen = Screen::new(80);
    written(&mut terminal(&screen, || Size {
        columns: 80,
        rows: 40,
    }));
    insta::assert_snapshot!("terminal_hostile", screen.rows());

    let screen = Screen::new(80);
    written(&mut Plain::new(screen.streams(), PAGE, RUN));
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!screen.written().contains(control));
}

#[test]
fn more_work_than_rows_leaves_the_screen_whole() {
    let screen = Screen::new(80);
    let mut form = terminal(&screen, || Size {
        columns: 80,
        rows: 4,
    });
    for number in 0..9 {
        let unit = Address::new(Kind::Unit, format!("{number}.service"));
        form.event(&Event::start(&unit), ms(number));
    }
    form.tick(ms(200));
    assert_eq!(screen.rows().lines().count(), 3, "{}", screen.rows());
}

/// For the eye: in a terminal, `cargo test --lib -- --ignored --nocapture shown_in_a_terminal`.
#[test]
#[ignore = "takes its time and asserts nothing"]
fn shown_in_a_terminal() {
    let output = Output::new(crate::cli::Format::Text, crate::cli::Color::Auto, false);
    let view = View::new(output, RUN);
    let pause = |milliseconds| std::thread::sleep(ms(milliseconds));
    view.event(&Event::start(&image()));
    view.event(&Event::start(&mount()));
    for layers in 1..=8 {
        pause(400);
        view.event(&Event::progress(&image(), format!("{layers} layers begun")));
        if layers == 2 {
            view.event(&Event::retry(&mount(), silent(), ms(1500)));
        }
        if layers == 4 {
            let file = Address::new(Kind::File, "/etc/systemd/system/nodejs-server.service");
            view.event(&Event::done(&file, ms(48), &unit()));
        }
    }
    pause(1500);
    view.event(&Event::failed(&mount(), ms(4700), refused()));
    let need = "what it needs is not in place".to_owned();
    view.event(&Event::skipped(&container(), need));
    pause(1500);
    view.event(&Event::done(&image(), ms(6200), &pulled()));
    let summary = Summary {
        changed: 2,
        unchanged: 9,
        failed: 1,
        skipped: 1,
        took: ms(6205),
    };
    view.summary(&summary, false);
}
