//! The numbers by which the kernel writes characters that would break its lines.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Decodes `\ooo`, which stands for a space, a tab, a newline or a backslash in mountinfo and fstab(5)
/// (`fs/proc_namespace.c`, `mangle`).
pub fn octal(text: &str) -> OsString {
    OsString::from_vec(decode(text, "\\", 3, 8))
}

/// Decodes `\xNN`, which stands for a backslash or an unprintable byte in the kernel's log. The UNC names of CIFS
/// begin with two backslashes.
pub fn hexadecimal(text: &str) -> String {
    String::from_utf8_lossy(&decode(text, "\\x", 2, 16)).into_owned()
}

/// A path in one line that no terminal obeys, whatever characters and bytes it has.
pub fn shown(path: &Path) -> String {
    let mut shown = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
        }
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown
}

/// Replaces each `prefix` that is followed by so many digits with the byte that they name.
fn decode(text: &str, prefix: &str, digits: usize, radix: u32) -> Vec<u8> {
    // Every prefix begins with a backslash.
    if !text.as_bytes().contains(&b'\\') {
        return text.as_bytes().to_vec();
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let number = rest
            .strip_prefix(prefix.as_bytes())
            .and_then(|number| std::str::from_utf8(number.get(..digits)?).ok())
            .filter(|number| number.chars().all(|digit| digit.is_digit(radix)));
        match number.and_then(|number| u32::from_str_radix(number, radix).ok()) {
            Some(number) => {
                // `\777` too is one byte, to libmount as to C.
                decoded.push(number.to_le_bytes()[0]);
                rest = &rest[prefix.len() + digits..];
            }
            None => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_stays() {
        for (text, plain) in [
            ("a\\040b\\011c\\134d", "a b\tc\\d"),
            ("\\04", "\\04"),
            ("\\9", "\\9"),
            ("\\541", "a"),
            ("", ""),
        ] {
            assert_eq!(octal(text), plain);
        }
    }

    #[test]
    fn a_log_has_hexadecimal_numbers() {
        assert_eq!(hexadecimal("\\x5c\\x5cserver\\x5cx"), "\\\\server\\x");
        assert_eq!(hexadecimal("\\x5"), "\\x5");
        assert_eq!(hexadecimal("\\x+5"), "\\x+5");
    }
}
