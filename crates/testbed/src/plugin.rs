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
        None => build("libmosquitto_auth0.so"),
    })
}

/// Returns the file of a plugin that panics where a test wants it (`tests/panicking_plugin`).
///
/// # Panics
///
/// Panics if the plugin does not build.
pub fn that_panics() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| build("libpanicking_plugin.so"))
}

/// Returns the file of the module of mosquitto_ctrl (`crates/ctrl`).
///
/// # Panics
///
/// Panics if it does not build.
pub fn ctrl_module() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| build("libmosquitto_ctrl_auth0.so"))
}

/// Builds the whole workspace: for one plugin alone, cargo would build its libraries once more, with fewer
/// features.
fn build(file: &str) -> PathBuf {
    let target = target();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--locked",
            "--quiet",
            "--lib",
            "--workspace",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo, which runs this test");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the plugin does not build:\n{said}"
    );
    target.join("debug").join(file)
}

/// Returns cargo's target folder. Tests run from `target/debug/deps`.
fn target() -> PathBuf {
    let program = env::current_exe().expect("this program");
    let mut above = program.ancestors().skip(3);
    above.next().expect("three folders").to_owned()
}
