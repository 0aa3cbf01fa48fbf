//! Options, as lines of mosquitto.conf and as a file of options, with tables of issuers.

use std::{fs, os::unix::fs::PermissionsExt};

use auth::config::{Config, ConfigError, options};

/// What the value of each secret option begins with, so that nothing else can look like a secret.
const MARK: &str = "7f3a9c51d2e8";

/// Takes a line `name value` for each option, and behind a line `---` a file of options. Returns whether a broker would
/// start with them.
pub(crate) fn options(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let (lines, file) = match text.split_once("\n---\n") {
        Some((lines, file)) => (lines, Some(file)),
        None => (text, None),
    };
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        let mark = if is_secret(name) { MARK } else { "" };
        (name.to_owned(), format!("{mark}{value}"))
    };
    let mut pairs: Vec<(String, String)> = lines.lines().map(pair).collect();
    // Other paths are read at most. This one would be created, and TOML may write its name in a roundabout way.
    let may_create =
        text.contains("state_dir") || ["\\u", "\\U", "\\x"].iter().any(|code| text.contains(code));
    if may_create || pairs.len() > 64 || text.contains(MARK) {
        return false;
    }
    let written = file.map(|file| {
        let place = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&place, mark_secrets(file)).expect("a written file");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o600)).expect("a private file");
        pairs.push(("config_file".to_owned(), place.path().display().to_string()));
        place
    });

    let (read, looked) = (Config::read(pairs.clone()), Config::look(&pairs));
    drop(written);
    let shows_none = |said: &str| assert!(!said.contains(MARK), "a secret is shown: {said:?}");
    match (read, looked) {
        (Ok(config), Ok(again)) => {
            for config in [config, again] {
                shows_none(&format!("{config:?}"));
                assert!(!config.issuers.is_empty());
                for issuer in &config.issuers {
                    assert!(!issuer.audiences.is_empty() && !issuer.algorithms.is_empty());
                    assert!(!issuer.names.is_empty());
                }
                let mut names: Vec<&str> = (config.issuers.iter())
                    .flat_map(|issuer| issuer.names.iter().map(String::as_str))
                    .collect();
                names.sort_unstable();
                let distinct = names.windows(2).all(|two| two[0] != two[1]);
                assert!(distinct, "an iss selects one issuer: {names:?}");
                let applications = config.issuers.iter();
                let applications = applications.filter(|issuer| issuer.application.is_some());
                assert!(applications.count() <= 1, "passwords go to one issuer");
            }
            true
        }
        (Err(first), Err(all)) => {
            assert!(!all.is_empty());
            for error in [&first].into_iter().chain(&all) {
                let said = error.to_string();
                assert!(
                    !said.is_empty() && !said.contains(char::is_control),
                    "{said:?}"
                );
                shows_none(&said);
                shows_none(&format!("{error:?}"));
            }
            let is_first = |error: &ConfigError| error.to_string() == first.to_string();
            assert!(all.iter().any(is_first), "{first} is not among {all:?}");
            false
        }
        (read, looked) => panic!("a plugin and a tool read differently: {read:?} {looked:?}"),
    }
}

fn is_secret(name: &str) -> bool {
    options::find(name.trim()).is_some_and(|option| option.secret)
}

/// Returns a file of options with the mark in each quoted value of a secret option.
fn mark_secrets(file: &str) -> String {
    let mark = |line: &str| match line.split_once(['"', '\'']) {
        Some((name, value)) if is_secret(name.trim_end().trim_end_matches('=')) => {
            let quote = &line[name.len()..=name.len()];
            format!("{name}{quote}{MARK}{value}\n")
        }
        _ => format!("{line}\n"),
    };
    file.lines().map(mark).collect()
}
