//! Runs every target with its seeds: inputs worth keeping, including those of past failures.

use std::{fs, path::Path};

use auth::config::options;
use fuzz::{TARGETS, compare::Coverage};

/// Returns the seeds of a target, with their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), fs::read(&path).unwrap())
        })
        .collect()
}

/// A target that rejects all its seeds as invalid checks nothing.
#[test]
fn each_target_has_valid_and_invalid_seeds() {
    for (name, target) in TARGETS {
        let (good, bad): (Vec<_>, Vec<_>) =
            seeds(name).into_iter().partition(|(_, seed)| target(seed));
        assert!(!good.is_empty() && !bad.is_empty(), "{name}");
    }
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")).unwrap();
    assert_eq!(folders.count(), TARGETS.len(), "a folder without a target");
}

#[test]
fn tables_of_issuers_are_accepted_if_their_seed_names_no_mistake() {
    let tables = seeds("options").into_iter();
    let tables: Vec<_> = tables
        .filter(|(name, _)| name.contains("/issuer-tables"))
        .collect();
    assert_eq!(tables.len(), 4);
    for (name, seed) in tables {
        assert_eq!(
            fuzz::options(&seed),
            name.ends_with("/issuer-tables"),
            "{name}"
        );
    }
}

/// libFuzzer finds no name of an option by itself.
#[test]
fn the_dictionary_of_options_has_every_option() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("options.dict");
    let dictionary = fs::read_to_string(path).unwrap();
    for option in options::GROUPS.iter().flat_map(|group| group.options) {
        let entry = format!("\"\\x0a{} \"\n", option.name);
        assert!(dictionary.contains(&entry), "{entry}");
    }
}

#[test]
fn a_token_is_accepted_if_its_seed_is_called_good() {
    for (name, seed) in seeds("token") {
        let is_good = name.contains("/good-") || name.contains("/header-own-key");
        assert_eq!(fuzz::token(&seed), is_good, "{name}");
    }
}

#[test]
fn the_seeds_cover_every_decision() {
    let mut all = Coverage::default();
    for (_, seed) in seeds("rules") {
        let Coverage {
            by_file,
            by_token,
            undecided,
            unusable_value,
        } = fuzz::rules(&seed);
        for i in 0..2 {
            all.by_file[i] += by_file[i];
            all.by_token[i] += by_token[i];
        }
        all.undecided += undecided;
        all.unusable_value |= unusable_value;
    }
    let said = [all.by_file, all.by_token].concat();
    assert!(
        said.iter().all(|times| *times > 10) && all.undecided > 10 && all.unusable_value,
        "the seeds mean something else now? draw what is new at the end of Case::read: {all:?}"
    );
}
