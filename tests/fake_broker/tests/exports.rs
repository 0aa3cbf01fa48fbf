//! Tests of the shared object with binutils.

use std::process::Command;

use testbed::plugin;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(plugin::file())
        .output();
    let output = output.unwrap_or_else(|why| panic!("{program}, of the package binutils: {why}"));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_shared_object_exports_three_functions() {
    let symbols = run("nm", &["--dynamic", "--defined-only", "--format=posix"]);
    let mut names: Vec<_> = symbols
        .lines()
        .map(|line| line.split(['@', ' ']).next().unwrap_or_default())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "mosquitto_plugin_cleanup",
            "mosquitto_plugin_init",
            "mosquitto_plugin_version"
        ]
    );
}

#[test]
fn the_shared_object_loads_without_a_broker() {
    let symbols = run("nm", &["--dynamic", "--undefined-only", "--format=posix"]);
    let ours: Vec<_> = symbols
        .lines()
        .filter(|line| line.starts_with("mosquitto_"))
        .collect();
    assert!(ours.len() >= 8, "it uses the broker: {ours:?}");
    for line in ours {
        assert_eq!(line.split_whitespace().nth(1), Some("w"), "{line}");
    }
}

#[test]
fn the_shared_object_is_never_unmapped() {
    let dynamic = run("readelf", &["--dynamic", "--wide"]);
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}

#[test]
fn the_shared_object_links_no_other_crypto_library() {
    let dynamic = run("readelf", &["--dynamic", "--wide"]);
    let needed: Vec<_> = dynamic
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .collect();
    assert!(!needed.is_empty());
    for line in needed {
        assert!(
            !line.contains("libssl") && !line.contains("libcrypto"),
            "{line}"
        );
    }
}
