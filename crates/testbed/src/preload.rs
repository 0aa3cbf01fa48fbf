//! Small libraries in C. Most of them are loaded into a broker with LD_PRELOAD and replace functions of the C
//! library, where a test must observe or change what no configuration can.

use std::path::PathBuf;
use std::process::Command;

use crate::scratch::Scratch;

/// Compiles a library.
pub(crate) fn compile(scratch: &Scratch, name: &str, source: &str) -> Result<PathBuf, String> {
    compile_with(scratch, name, source, &[])
}

fn compile_with(
    scratch: &Scratch,
    name: &str,
    source: &str,
    libraries: &[&str],
) -> Result<PathBuf, String> {
    let source = scratch
        .write(&format!("{name}.c"), source)
        .map_err(|error| error.to_string())?;
    let library = source.with_extension("so");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(&compiler)
        .args(["-std=gnu11", "-O2", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .args(libraries)
        .output()
        .map_err(|error| format!("{}: {error}", compiler.display()))?;
    match output.status.success() {
        true => Ok(library),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Compiles a plugin that allows everything, which shows what any plugin costs the broker.
///
/// # Errors
///
/// Returns an error without a C compiler.
pub fn null_plugin(scratch: &Scratch) -> Result<PathBuf, String> {
    compile(scratch, "null", include_str!("null.c"))
}

/// Compiles a minimal plugin with delayed authentication, which shows how short the silence of other clients can
/// be while devices sign in.
///
/// # Errors
///
/// Returns an error without a C compiler and the headers of libcurl and Mosquitto.
pub fn delayed_plugin(scratch: &Scratch) -> Result<PathBuf, String> {
    let libraries = ["-lcurl", "-lpthread"];
    compile_with(scratch, "delayed", include_str!("delayed.c"), &libraries)
}
