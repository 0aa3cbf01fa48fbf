//! Reads passwords and tokens: from a prompt or a file, never from an argument, which every user of the machine sees.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};

use auth::secret::{Secret, read_secret_file};

use crate::output::Failure;

/// The longest password, in bytes. The plugin examines no longer one.
const MAX_PASSWORD: usize = 1024;

/// How much of a file is read. A device such as /dev/zero has no end.
const MAX_READ: u64 = 1024 * 1024;

/// Returns the password of a user: the first line of the file (`-` is the standard input), or what is typed.
///
/// # Errors
///
/// Returns a failure if it cannot be read.
pub(crate) fn password(username: &str, file: Option<&Path>) -> Result<Secret, Failure> {
    let text = match file {
        Some(file) => first_line(file)?,
        None if io::stdin().is_terminal() => {
            let prompt = format!("Password of {}: ", username.escape_debug());
            let typed = rpassword::prompt_password(prompt);
            typed.map_err(|why| Failure::new(format!("the password could not be read: {why}")))?
        }
        None => {
            return Err(Failure::new("there is no terminal to type the password on")
                .fix("name a file that holds it: --password-file FILE"));
        }
    };
    match text.len() {
        0 => Err(Failure::new("the password is empty")),
        1..=MAX_PASSWORD => Ok(Secret::new(text)),
        _ => Err(Failure::new("the password is longer than 1024 bytes")),
    }
}

/// Returns a secret that only its owner and group may read, or the standard input if the file is called `-`.
///
/// # Errors
///
/// Returns a failure if it cannot be read.
pub(crate) fn secret(file: &Path) -> Result<Secret, Failure> {
    if file != Path::new("-") {
        return read_secret_file(file)
            .map_err(|why| Failure::new(format!("{} cannot be used: {why}", file.display())));
    }
    let text = start_of(io::stdin())
        .map_err(|why| Failure::new(format!("the standard input cannot be read: {why}")))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Failure::new("the standard input is empty")),
        text => Ok(Secret::new(text)),
    }
}

/// Returns the token in a file; `-` is the standard input.
///
/// # Errors
///
/// Returns a failure if there is none.
pub(crate) fn token(file: &Path) -> Result<String, Failure> {
    let token = first_line(file)?.trim().to_owned();
    match token.is_empty() {
        true => Err(Failure::new(format!("{} holds no token", file.display()))),
        false => Ok(token),
    }
}

fn first_line(file: &Path) -> Result<String, Failure> {
    let text = match file.as_os_str() == "-" {
        true => start_of(io::stdin()),
        false => File::open(file).and_then(start_of),
    };
    let text =
        text.map_err(|why| Failure::new(format!("{} cannot be read: {why}", file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Returns what is there, but not more than a password or a token can be.
fn start_of(input: impl Read) -> io::Result<String> {
    io::read_to_string(input.take(MAX_READ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_not_read_to_its_end() {
        assert_eq!(
            first_line(Path::new("/dev/zero")).unwrap().len() as u64,
            MAX_READ
        );
    }
}
