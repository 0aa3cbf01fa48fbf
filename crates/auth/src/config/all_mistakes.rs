//! Reads a configuration for a tool: nothing on disk is changed, and all mistakes are found and not only the first.
//!
//! The options are read as at the start of the plugin. Where one is wrong, a harmless value takes its place and all are
//! read again, until nothing is wrong any more. A mistake that only follows from another one is left out: if the file
//! with the client secret cannot be read, nothing says that there is no client secret.

use super::{Config, ConfigError, errors::Problem, given::Given, options, rules};

/// Reads `plugin_opt_` pairs.
///
/// # Errors
///
/// Returns everything that is wrong.
pub(super) fn read(pairs: &[(String, String)]) -> Result<Config, Vec<ConfigError>> {
    let mut mistakes = Vec::new();
    let mut lines = Given::looking();
    for (name, value) in pairs {
        mistakes.extend(lines.set(name, value).err());
    }
    let mut given = lines.clone();
    if let Some(path) = lines.given("config_file") {
        mistakes.extend(given.add_all_of_file(path));
    }
    // Each round fixes an option, so there are not more rounds than options that can be fixed in two ways.
    let tables = 1 + given.issuers.len();
    for _ in 0..2 * tables * options::all().count() {
        match rules::config(&given, &lines, None).map_err(|error| given.locate(error)) {
            Ok(config) if mistakes.is_empty() => return Ok(config),
            Ok(_) => break,
            Err(error) => {
                let line = error.place.as_ref().map(|(_, line)| *line);
                let table = line.and_then(|line| given.table_at(line));
                match table {
                    Some(table) => table.given.fix(&error, line),
                    None => given.fix(&error, None),
                }
                let is_known =
                    |one: &ConfigError| one.option == error.option && one.place == error.place;
                if !mistakes.iter().any(is_known) && !follows(&error, &mistakes) {
                    mistakes.push(error);
                }
            }
        }
    }
    Err(mistakes)
}

/// Whether an option is missing only because of an earlier mistake.
fn follows(error: &ConfigError, earlier: &[ConfigError]) -> bool {
    if !error.problem.is_missing() {
        return false;
    }
    let could_be: &[&str] = match error.problem {
        Problem::NoDomain => &["domain", "issuer"],
        Problem::NoClientSecret => &[
            "client_secret",
            "client_secret_file",
            "client_assertion_key_file",
        ],
        _ => &[],
    };
    earlier.iter().any(|one| {
        let meant = match &one.problem {
            Problem::Unknown { nearest } => nearest.unwrap_or_default(),
            _ => &one.option,
        };
        // Where the whole file of options is not read, anything may be in it.
        one.option == "config_file" || meant == error.option || could_be.contains(&meant)
    })
}

impl Given {
    /// Puts a harmless value in place of what is wrong. `line` tells tables of issuers apart.
    fn fix(&mut self, error: &ConfigError, line: Option<usize>) {
        let domain = format!("tenant-{}.example", line.unwrap_or_default());
        let is_free = |given: &Self, name| given.given(name).is_none();
        match error.problem {
            Problem::NoDomain => self.assume("domain", &domain),
            Problem::NoAudience => self.assume("audience", "https://mqtt.example/"),
            Problem::NoClientSecret => self.assume("client_secret", "unknown"),
            Problem::NoAssertionKey => self.remove("token_endpoint_auth_method"),
            Problem::NoClientId => self.assume("client_id", "unknown"),
            Problem::NoHs256Secret => {
                self.remove("algorithms");
                self.remove("hs256_secret_encoding");
            }
            _ => {
                self.remove(&error.option);
                // The issuer may be where the tenant is.
                if error.option == "issuer" && is_free(self, "domain") {
                    self.assume("domain", &domain);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn mistakes(options: &[(&str, &str)]) -> Vec<String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let options: Vec<_> = options.iter().map(owned).collect();
        match read(&options) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(|one| one.option.clone()).collect(),
        }
    }

    #[test]
    fn every_mistake_is_found_and_none_that_follows_from_another() {
        let good = [("domain", "t.example"), ("audience", "a")];
        assert_eq!(mistakes(&good), [""; 0]);
        for (options, wrong) in [
            (&[][..], &["domain", "audience"][..]),
            (&[("domian", "t.example"), ("audience", "a")], &["domian"]),
            (&[("domain", ""), ("audience", "a")], &["domain"]),
            (&[("domain", "http://x"), ("audience", "a")], &["domain"]),
            (&[("issuer", "http://x"), ("audience", "a")], &["issuer"]),
            (
                &[
                    ("domain", "t.example"),
                    ("client_id", "c"),
                    ("client_secret_file", "/gone"),
                    ("connection", "devices"),
                    ("timeout", "0"),
                    ("leeway", "x"),
                    ("algorithms", "HS256"),
                    ("hs256_secret_encoding", "base64"),
                    ("policy_file", "/gone"),
                    ("xyz", "1"),
                ],
                &[
                    "xyz",
                    "audience",
                    "hs256_secret_file",
                    "client_secret_file",
                    "policy_file",
                    "leeway",
                    "timeout",
                ],
            ),
        ] {
            let mut found = mistakes(options);
            let mut wrong = wrong.to_vec();
            found.sort_unstable();
            wrong.sort_unstable();
            assert_eq!(found, wrong, "{options:?}");
        }
    }

    #[test]
    fn the_mistakes_in_a_file_of_options_are_all_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        fs::write(
            file.path(),
            "domain = 'x'\nleway = 3\naudience = ['a']\ntimeout = 0\n",
        )
        .unwrap();
        assert_eq!(mistakes(&[("config_file", path)]), ["leway", "timeout"]);
        fs::write(file.path(), "domain = ").unwrap();
        assert_eq!(mistakes(&[("config_file", path)]), ["config_file"]);
    }

    #[test]
    fn reading_leaves_the_folder_of_state_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let path = state.to_str().unwrap();
        let options = [
            ("domain", "t.example"),
            ("audience", "a"),
            ("state_dir", path),
        ];
        assert_eq!(mistakes(&options), [""; 0]);
        assert!(!state.exists());
        fs::create_dir(&state).unwrap();
        let before = fs::metadata(&state).unwrap().modified().unwrap();
        assert_eq!(mistakes(&options), [""; 0]);
        assert_eq!(fs::metadata(&state).unwrap().modified().unwrap(), before);
    }
}
