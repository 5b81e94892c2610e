//! The octal escapes that the kernel and fstab(5) use for a space, a tab, a newline and a
//! backslash.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Decodes `\ooo` (`fs/proc_namespace.c`, `mangle`).
pub fn unescape(text: &str) -> OsString {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .filter(|digits| digits.iter().all(u8::is_ascii_digit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[3..];
            }
            None => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(decoded)
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
            ("", ""),
        ] {
            assert_eq!(unescape(text), plain);
        }
    }
}
