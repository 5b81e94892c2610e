//! The bytes of a tier file as text. A file that an editor or a transfer wrote in another form is one fault, with the
//! command that mends it. The parser would report nearly every line of it.

use std::path::Path;

use super::fault::Faults;
use super::load::whole_file;
use super::source::Source;
use super::value::Wrong;

/// The text of UTF-8 with lines that end in LF or CR LF, as TOML has it.
///
/// # Errors
/// The first thing that TOML does not take. Its line is not shown, since it is not yet known which
/// part of it is a secret.
pub(super) fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Faults> {
    if let Some(name) = utf16(&bytes) {
        let file = path.display();
        let wrong = Wrong::new("the tier file is in UTF-16")
            .expected("UTF-8 text")
            .hint(format!(
                "run: (umask 077; iconv -f {name} -t UTF-8 {file} >{file}.new && mv {file}.new {file})"
            ));
        return Err(whole_file(path, wrong));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..at]);
        let wrong = Wrong::new("a byte that is not UTF-8")
            .expected("UTF-8 text")
            .hint("save the file in UTF-8");
        at_end_of(path, &before, wrong)
    })?;
    if let Some(at) = text.find('\0') {
        let wrong = Wrong::new("a NUL, which no text holds")
            .expected("UTF-8 text")
            .hint("is this the tier file, and was it copied whole? write it anew");
        return Err(at_end_of(path, &text[..at], wrong));
    }
    if let Some(at) = lone_carriage_return(&text) {
        let wrong = Wrong::new("a line ends with a carriage return (CR) alone")
            .expected("lines that end with LF or CR LF")
            .hint(format!("run: sed -i 's/\\r/\\n/g' {}", path.display()));
        return Err(at_end_of(path, &text[..at], wrong));
    }
    Ok(text)
}

/// The name by which iconv(1) knows the encoding of a text in UTF-16. Without a byte order mark, ASCII
/// in UTF-16 shows by its zeros.
fn utf16(bytes: &[u8]) -> Option<&'static str> {
    let zeros = |from: usize| {
        let every_second = bytes.iter().skip(from).step_by(2);
        bytes.len() >= 4 && every_second.filter(|byte| **byte == 0).count() * 4 > bytes.len()
    };
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        _ if zeros(1) => Some("UTF-16LE"),
        _ if zeros(0) => Some("UTF-16BE"),
        _ => None,
    }
}

fn lone_carriage_return(text: &str) -> Option<usize> {
    let mut found = text.match_indices('\r').map(|(at, _)| at);
    found.find(|at| !text[at + 1..].starts_with('\n'))
}

/// A fault behind `before`, the beginning of the file.
fn at_end_of(path: &Path, before: &str, wrong: Wrong) -> Faults {
    let (line, column) = Source::new(path, before).place(before.len());
    let mut faults = whole_file(path, wrong);
    for fault in &mut faults.0 {
        (fault.line, fault.column) = (line, column);
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: impl Into<Vec<u8>>) -> Result<String, Faults> {
        text(Path::new("/t.toml"), bytes.into())
    }

    #[test]
    fn a_file_in_another_form_is_one_fault_with_its_command() {
        let lines = "[share]\nname = \"user1\"\npassword = \"SeCrEt\"\n";
        let utf16 = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
            lines.encode_utf16().flat_map(order).collect()
        };
        let with_mark = |mark: [u8; 2], text: Vec<u8>| [mark.to_vec(), text].concat();
        for (bytes, place, said) in [
            (
                lines.replace('\n', "\r").into_bytes(),
                (1, 8),
                "sed -i 's/\\r/\\n/g' /t.toml",
            ),
            (
                lines.replace('\n', "\r\r\n").into_bytes(),
                (1, 8),
                "(CR) alone",
            ),
            (
                lines.replace("1\"\n", "1\"\r").into_bytes(),
                (2, 15),
                "(CR) alone",
            ),
            (
                utf16(u16::to_le_bytes),
                (0, 0),
                "iconv -f UTF-16LE -t UTF-8 /t.toml",
            ),
            (
                utf16(u16::to_be_bytes),
                (0, 0),
                "iconv -f UTF-16BE -t UTF-8 /t.toml",
            ),
            (
                with_mark([0xff, 0xfe], utf16(u16::to_le_bytes)),
                (0, 0),
                "iconv -f UTF-16 ",
            ),
            (
                with_mark([0xfe, 0xff], utf16(u16::to_be_bytes)),
                (0, 0),
                "iconv -f UTF-16 ",
            ),
            (
                lines.replace("user1", "us\0er1").into_bytes(),
                (2, 11),
                "NUL",
            ),
            (
                lines
                    .replace("user1", "\u{e9}")
                    .chars()
                    .map(|c| c as u8)
                    .collect(),
                (2, 9),
                "not UTF-8",
            ),
        ] {
            let faults = read(bytes).unwrap_err();
            let [fault] = &faults.0[..] else {
                panic!("{faults}");
            };
            assert_eq!((fault.line, fault.column), place, "{faults}");
            assert!(faults.to_string().contains(said), "{faults}");
            assert!(!faults.to_string().contains("SeCrEt"), "{faults}");
        }
        for good in [lines.to_owned(), lines.replace('\n', "\r\n"), String::new()] {
            assert_eq!(read(good.clone()).unwrap(), good);
        }
    }
}
