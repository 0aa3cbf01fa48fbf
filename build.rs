//! Reads the broker's ABI from `include/host.h` (bindgen) and compiles the C part (cc).
//!
//! The headers are those of Debian's `mosquitto-dev` and `libmosquitto-dev`. Bindings are made at
//! build time, not checked in: `src/host.c` proves with `_Static_assert` that whatever
//! headers are installed describe the layout that Mosquitto 2.0.11 to 2.1.2 really use.

use std::{
    env,
    path::{Path, PathBuf},
};

fn main() {
    // `tests/panicking_plugin` is built by this script, too.
    let package = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let root = Path::new(&package)
        .ancestors()
        .find(|folder| folder.join("include/host.h").exists());
    env::set_current_dir(root.expect("include/host.h")).expect("a folder");
    for file in ["include/host.h", "src/host.c", "build.rs"] {
        let path = Path::new(file).canonicalize().expect(file);
        println!("cargo:rerun-if-changed={}", path.display());
    }

    cc::Build::new()
        .file("src/host.c")
        .include("include")
        .std("c11")
        .flag("-Werror=incompatible-pointer-types")
        .flag("-Werror=implicit-function-declaration")
        .compile("mosquitto_auth0_host");

    let bindings = bindgen::Builder::default()
        .header("include/host.h")
        .allowlist_type("mosquitto_auth0_.*")
        .allowlist_type(
            "mosquitto_evt_(reload|acl_check|basic_auth|extended_auth|control|tick|disconnect)",
        )
        .allowlist_type("mosquitto_(opt|plugin_event|protocol)")
        .allowlist_function("mosquitto_auth0_.*")
        .allowlist_var("MOSQUITTO_AUTH0_.*")
        .allowlist_var("MOSQ_(ACL|LOG)_.*")
        // Only named, never looked into: the broker owns them.
        .opaque_type("mosquitto")
        .prepend_enum_name(false)
        .layout_tests(true)
        .generate()
        .expect(
            "bindgen reads include/host.h (it needs libclang-dev, mosquitto-dev, libmosquitto-dev)",
        );
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings
        .write_to_file(out.join("abi.rs"))
        .expect("OUT_DIR is writable");

    // 2.0 unmaps the plugin after cleanup. A resolver thread of the HTTP client that is still
    // inside getaddrinfo would then return into nothing, so the code stays mapped for good.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // A function that is missing everywhere is found here, not when a broker loads us.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,defs");
    // The broker opens the plugin by its path, so the file needs no SONAME. rustc gives it one from 1.96 on, and
    // ldconfig would make a link with that name. (GNU ld keeps it; lld, which packages are linked with, does not.)
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname=");
}
