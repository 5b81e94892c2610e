//! User and password for `mount.cifs`, which reads them from a file. In a unit's options everybody
//! could read them.

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Text of a credentials file for `mount.cifs` (its manual page, CREDENTIALS). `mount.cifs` takes
/// each value unchanged up to the end of the line, so a comma needs no escape.
///
/// # Errors
/// When user or password has a line break or NUL. The error shows neither user nor password.
pub fn credentials(user: &str, password: &str) -> Result<Zeroizing<String>> {
    let breaks = ['\n', '\r', '\0'];
    if user.contains(breaks) || password.contains(breaks) {
        return Err(Error::new(
            "credentials of the share: a line break or NUL in the user or the password",
        )
        .hint("mount.cifs reads one line for each: choose a password without"));
    }
    let mut text = Zeroizing::new(String::with_capacity(user.len() + password.len() + 24));
    for part in ["username=", user, "\npassword=", password, "\n"] {
        text.push_str(part);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cifs::samples::share;

    #[test]
    fn credentials_are_taken_as_they_are_or_refused_unseen() {
        // open_cred_file() in mount.cifs.c takes everything after the first `=` of a line as the value.
        let longest = "암".repeat(85);
        for password in [" a,b%=c", ",,", "=", "#;'\"`$\\", " \t ", &longest] {
            let text = credentials("user1", password).unwrap();
            let lines: Vec<&str> = text.split('\n').collect();
            assert_eq!(lines.len(), 3);
            assert_eq!(lines[0], "username=user1");
            assert_eq!(lines[1].split_once('='), Some(("password", password)));
            assert_eq!(share().check(password), Ok(()));
        }
        let error = credentials("user1", "hunter2\n").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
