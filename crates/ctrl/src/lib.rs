//! `mosquitto_ctrl auth0 …`: the operator's tool, `mosquitto-auth0 …`, by the name under which operators look for such
//! tools.
//!
//! `mosquitto_ctrl NAME …` loads `mosquitto_ctrl_NAME.so` from where the dynamic loader looks, and calls its
//! `ctrl_main` (apps/mosquitto_ctrl of Mosquitto 2.0 and 2.1). This one puts the tool in place of the process,
//! so the exit code is the tool's.

use std::{
    ffi::{CStr, OsStr, OsString, c_char, c_int, c_void},
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::Command,
};

/// The tool, which is looked for in PATH.
const TOOL: &str = "mosquitto-auth0";

/// MOSQ_ERR_UNKNOWN: mosquitto_ctrl ends with it, and adds no message of its own.
const MESSAGE_IS_PRINTED: c_int = 13;

/// Runs the tool with the arguments after the name of the module. Returns only if the tool cannot be run.
///
/// `ctrl` is not used: what it points at differs between Mosquitto 2.0 and 2.1.
///
/// # Safety
///
/// `argv` must be null or point at `argc` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ctrl_main(
    argc: c_int,
    argv: *const *const c_char,
    _ctrl: *mut c_void,
) -> c_int {
    let mut arguments: Vec<OsString> = Vec::new();
    if !argv.is_null() {
        for place in 0..usize::try_from(argc).unwrap_or(0) {
            // SAFETY: mosquitto_ctrl passes a part of main's argv, which has argc pointers.
            let argument = unsafe { *argv.add(place) };
            if argument.is_null() {
                break;
            }
            // SAFETY: each of them that is not null points at a string that ends with NUL, and nobody changes it.
            let argument = unsafe { CStr::from_ptr(argument) };
            arguments.push(OsStr::from_bytes(argument.to_bytes()).to_owned());
        }
    }
    let why = Command::new(TOOL).args(arguments).exec();
    eprintln!(
        "mosquitto_ctrl: {TOOL} cannot be run: {why}; fix: install the package mosquitto-auth0, or put the tool in PATH"
    );
    MESSAGE_IS_PRINTED
}
