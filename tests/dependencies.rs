//! Tests of `tests/dependencies.sh`, with which `make demo` and `make test` begin: it rejects a compiler that
//! is too old and explains how to get a newer one, before anything is fetched.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

/// The version that Cargo.toml asks for, such as `1.89`.
const NEEDED: &str = env!("CARGO_PKG_RUST_VERSION");

/// Runs the script on a machine where nothing is installed. These programs (a name and the output of
/// `--version`) come first in the path. Also returns whether apt was called.
fn run(programs: &[(&str, &str)]) -> (Output, bool) {
    run_with_apt(programs, "exit 1")
}

/// The same, where `apt-get` is this script.
fn run_with_apt(programs: &[(&str, &str)], apt: &str) -> (Output, bool) {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, script: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    for (name, version) in programs {
        put(name, &format!("echo '{version}'"));
    }
    let called = folder.path().join("apt-was-called");
    put("dpkg-query", "exit 1");
    put("apt-get", &format!("touch '{}'; {apt}", called.display()));
    put("sudo", "exec \"$@\"");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dependencies.sh");
    let output = Command::new(script)
        .arg("build")
        .env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()))
        .output()
        .unwrap();
    (output, called.exists())
}

#[track_caller]
fn is_refused(programs: &[(&str, &str)], found: &str) {
    let (output, fetched) = run(programs);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!fetched, "nothing may be fetched for {programs:?}: {text}");
    for part in [NEEDED, found, "https://rustup.rs", "apt install cargo-web"] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn an_old_compiler_is_rejected_before_anything_is_fetched() {
    let new = format!("{NEEDED}.0");
    let rustc = format!("rustc {new} (abc 2025-06-23)");
    // Debian 13's version, Debian 12's, and one that sorts after 1.89 as a text.
    for old in ["1.85.1", "1.65.0", "1.9.0"] {
        let cargo = format!("cargo {old}");
        is_refused(&[("cargo", &cargo), ("rustc", &rustc)], &cargo);
    }
    // They come in packages of their own.
    let cargo = format!("cargo {new}");
    is_refused(
        &[
            ("cargo", &cargo),
            ("rustc", "rustc 1.85.0 (built from a source tarball)"),
        ],
        "rustc 1.85.0",
    );
}

#[test]
fn a_compiler_that_does_not_run_is_quoted() {
    let why = "error: rustup could not choose a version of cargo to run";
    is_refused(&[("cargo", why), ("rustc", why)], why);
}

#[test]
fn a_new_enough_compiler_is_accepted() {
    for new in [
        format!("{NEEDED}.0"),
        "1.100.0".into(),
        "2.0.0-nightly".into(),
    ] {
        let (cargo, rustc) = (
            format!("cargo {new} (abc 2025-06-23)"),
            format!("rustc {new}"),
        );
        let (output, fetched) = run(&[("cargo", &cargo), ("rustc", &rustc)]);
        assert!(fetched, "{new}: {output:?}");
    }
}

#[test]
fn an_unreachable_archive_is_named_as_the_cause() {
    let version = format!("{NEEDED}.0");
    let (cargo, rustc) = (format!("cargo {version}"), format!("rustc {version}"));
    let programs = [("cargo", cargo.as_str()), ("rustc", rustc.as_str())];
    // What apt does without a network: it updates nothing, says so, and reports success.
    let offline = "echo 'W: Failed to fetch http://deb.debian.org/'";
    let (output, _) = run_with_apt(&programs, offline);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("no package archive can be reached: check"),
        "{text}"
    );
}

#[test]
fn the_readme_names_the_same_version() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    assert!(readme.contains(&format!("[Rust](https://rustup.rs) {NEEDED} or later")));
}
