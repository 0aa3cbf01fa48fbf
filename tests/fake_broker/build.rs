//! Compiles the broker's C part, and exports the functions that a plugin expects from the test programs.

use std::{env, path::Path};

fn main() {
    let sources = ["fake.c", "fake.h", "fake_2_1.c", "linker.syms"];
    println!("cargo:rerun-if-changed=build.rs");
    for source in sources {
        println!("cargo:rerun-if-changed=src/{source}");
    }

    let compile = |source: &str, library: &str, link: bool| {
        cc::Build::new()
            .file(Path::new("src").join(source))
            .std("gnu11")
            .warnings(true)
            .extra_warnings(true)
            .flag("-Werror=incompatible-pointer-types")
            .flag("-Werror=implicit-function-declaration")
            .cargo_metadata(link)
            .compile(library);
    };
    compile("fake.c", "fake", true);
    // Only the test program of the 2.1 broker links this file. Without its functions the others are 2.0
    // brokers.
    compile("fake_2_1.c", "fake_2_1", false);
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    println!("cargo:rustc-link-search=native={out}");

    // Mosquitto is linked in the same way: the plugin's weak references find these names in the executable.
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rustc-link-arg-tests=-Wl,--dynamic-list={root}/src/linker.syms");
}
