//! The plugin under test: the shared object, built when a test first asks for it.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The environment variable that names another build of the plugin, such as one with a sanitizer.
pub const OTHER_BUILD: &str = "MOSQUITTO_AUTH0_SO";

/// Returns the plugin's file. Cargo builds a shared object only on request. So this function requests it, and
/// no test uses an old one.
///
/// # Panics
///
/// Panics if the plugin does not build.
pub fn file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| match env::var_os(OTHER_BUILD) {
        Some(path) => path.into(),
        // Builds the whole workspace: for the plugin alone, cargo would build its libraries once more, with
        // fewer features.
        None => build(&target(), &["--workspace"]),
    })
}

/// Returns the file of a plugin that panics where a test wants it (feature `provoke`). It has a folder of its
/// own, because cargo would otherwise rebuild the ordinary plugin each time.
///
/// # Panics
///
/// Panics if the plugin does not build.
pub fn that_panics() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let options = ["--package", "mosquitto-auth0", "--features", "provoke"];
    FILE.get_or_init(|| build(&target().join("provoke"), &options))
}

fn build(target: &Path, options: &[&str]) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--locked", "--quiet", "--lib", "--target-dir"])
        .arg(target)
        .args(options)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo, which runs this test");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the plugin does not build:\n{said}"
    );
    target.join("debug").join("libmosquitto_auth0.so")
}

/// Returns cargo's target folder. Tests run from `target/debug/deps`.
fn target() -> PathBuf {
    let program = env::current_exe().expect("this program");
    let mut above = program.ancestors().skip(3);
    above.next().expect("three folders").to_owned()
}
