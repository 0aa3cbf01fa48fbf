//! Tests of the measuring tools, as far as they get without a broker.

use std::process::Command;

use testbed::scratch::Scratch;

/// In a file the tools write whole lines only: progress is for a terminal.
#[test]
fn progress_does_not_go_into_a_file() {
    let no_brokers = Scratch::new("no-brokers").unwrap();
    for (tool, arguments) in [
        (env!("CARGO_BIN_EXE_silence"), ""),
        (env!("CARGO_BIN_EXE_connects"), "--rounds 1"),
        (env!("CARGO_BIN_EXE_memory"), "--devices 1"),
        (env!("CARGO_BIN_EXE_instructions"), ""),
        (env!("CARGO_BIN_EXE_scale"), "--sessions 1 --runs 1"),
    ] {
        let output = Command::new(tool)
            .args(["--plugin", tool]) // any file: no broker loads it
            .args(arguments.split_whitespace())
            .env("MOSQUITTO_BROKERS", no_brokers.path())
            .output()
            .unwrap();
        let written = [output.stdout, output.stderr].concat();
        let written = String::from_utf8(written).unwrap();
        assert!(!output.status.success(), "{tool}: {written}");
        // The tool got as far as it can without a broker.
        assert!(written.contains("tests/brokers.sh"), "{tool}: {written}");
        assert!(!written.contains(['\r', '\x1b']), "{tool}: {written:?}");
        assert!(written.ends_with('\n'), "{tool}: {written:?}");
    }
}
