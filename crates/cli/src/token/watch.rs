//! Keeps the token in a file fresh: a file of its own, or the `remote_password` of a bridge.
//!
//! Mosquitto reads the password of a bridge from its configuration only. 2.0 reads bridges when it starts and skips
//! them on SIGHUP; 2.1 reads them again on SIGHUP, and uses what it has read when the bridge connects the next time
//! (`bridge_reload_type lazy`), or at once (`immediate`).

use std::{path::Path, process::Command, thread, time::Duration};

use auth::clock;

use super::Source;
use crate::{
    messages::token as messages,
    output::Failure,
    private_file::{self, Replacement},
};

/// The setting that holds the password of a bridge.
const PASSWORD: &str = "remote_password";

/// How long a failure is waited out, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The longest sleep. A machine that was suspended notices by then.
const NAP: Duration = Duration::from_secs(30);

/// What is kept fresh.
pub(crate) struct Watched<'a> {
    /// The file.
    pub(crate) file: &'a Path,
    /// The bridge in it, if it has several.
    pub(crate) connection: Option<&'a str>,
    /// What the shell runs after each change.
    pub(crate) on_change: Option<&'a str>,
}

/// Keeps the file fresh, for ever.
///
/// # Errors
///
/// Returns a failure if the first token cannot be got or written. Later ones are tried again.
pub(crate) fn run(
    source: &Source,
    watched: &Watched<'_>,
) -> Result<std::convert::Infallible, Failure> {
    let mut due = refresh(source, watched)?;
    let mut retry = RETRY.0;
    loop {
        while clock::now().0 < due {
            thread::sleep(Duration::from_secs(due.saturating_sub(clock::now().0)).min(NAP));
        }
        match refresh(source, watched) {
            Ok(next) => (due, retry) = (next, RETRY.0),
            Err(failure) => {
                messages::try_again(&failure, retry);
                thread::sleep(retry);
                retry = (retry * 2).min(RETRY.1);
            }
        }
    }
}

/// Writes a token that is good for long enough, and returns when the next one is due (Unix time).
fn refresh(source: &Source, watched: &Watched<'_>) -> Result<u64, Failure> {
    let content = || private_file::read(watched.file).map(Option::unwrap_or_default);
    // Not asked for before it is sure that the file can be written.
    drop(Replacement::prepare(watched.file)?);
    with_password(watched, &content()?, "")?;
    let tokens = source.tokens_early(clock::now())?;
    let due = source.is_due_early(&tokens).0;
    if due <= clock::now().0 {
        return Err(messages::too_short());
    }
    // Read again, because somebody may have edited the file meanwhile.
    let before = content()?;
    let after = with_password(watched, &before, &tokens.access_token)?;
    if after != before {
        Replacement::prepare(watched.file)?.commit(&after)?;
        messages::written(watched.file, tokens.expires);
        if let Some(command) = watched.on_change {
            let status = Command::new("/bin/sh").arg("-c").arg(command).status();
            messages::ran(command, status);
        }
    }
    Ok(due)
}

/// Returns the content of the file with this token in it.
fn with_password(watched: &Watched<'_>, before: &str, token: &str) -> Result<String, Failure> {
    let mut connection = None;
    let mut places = Vec::new();
    let mut has_bridge = false;
    for (number, line) in before.lines().enumerate() {
        let (word, value) = line
            .trim_start_matches(' ')
            .split_once(' ')
            .unwrap_or((line, ""));
        match word {
            "connection" => (connection, has_bridge) = (Some(value.trim()), true),
            PASSWORD
                if watched
                    .connection
                    .is_none_or(|wanted| connection == Some(wanted)) =>
            {
                places.push(number)
            }
            _ => {}
        }
    }
    match (
        places.as_slice(),
        has_bridge || watched.connection.is_some(),
    ) {
        // Nothing, or the token before: every other content would be lost.
        (_, false) if before.split_whitespace().count() <= 1 => Ok(format!("{token}\n")),
        (_, false) => Err(messages::no_connection_line(watched.file)),
        ([place], true) => {
            let lines = before
                .lines()
                .enumerate()
                .map(|(number, line)| match number == *place {
                    true => format!("{PASSWORD} {token}\n"),
                    false => format!("{line}\n"),
                });
            Ok(lines.collect())
        }
        ([], true) => Err(messages::no_password_line(watched.file, watched.connection)),
        (_, true) => Err(messages::several_bridges(watched.file)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(before: &str, connection: Option<&str>) -> Result<String, Failure> {
        let file = Path::new("bridge.conf");
        let on_change = None;
        with_password(
            &Watched {
                file,
                connection,
                on_change,
            },
            before,
            "new",
        )
    }

    #[test]
    fn only_the_password_of_the_bridge_changes() {
        let one = "# a comment\nconnection a\naddress b\nremote_password old\ntopic # out\n";
        let expected = one.replace(" old", " new");
        assert_eq!(written(one, None).unwrap(), expected);
        assert_eq!(written(one, Some("a")).unwrap(), expected);
        let two = format!("{one}connection b\n  remote_password old\n");
        assert_eq!(
            written(&two, Some("b")).unwrap(),
            two.replace("  remote_password old", "remote_password new")
        );
        assert!(written(&two, None).is_err());
        for (text, connection) in [("connection a\n", None), (one, Some("b")), ("", Some("a"))] {
            assert!(
                written(text, connection)
                    .unwrap_err()
                    .what
                    .contains("remote_password"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_without_a_bridge_holds_the_token_alone() {
        for before in ["", "old\n", "old"] {
            assert_eq!(written(before, None).unwrap(), "new\n");
        }
        let listener = "listener 1883\nremote_password old\n";
        for before in ["two words", "two\nlines\n", "# a comment", listener] {
            let failure = written(before, None).unwrap_err();
            assert!(failure.what.contains("has no connection line"), "{before}");
        }
    }
}
