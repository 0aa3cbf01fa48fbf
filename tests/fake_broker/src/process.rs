//! A process for each test, and the plugin that it loads.

use std::{
    any::type_name,
    env,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use lab::scratch::Scratch;

/// The plugin's file, for the process that loads it; and for a test run of another build.
const FILE: &str = "MOSQUITTO_AUTH0_SO";
/// Says to a process which test it is there for.
const ALONE: &str = "FAKE_BROKER_ALONE";
/// Where a plugin with the feature `provoke` panics.
const PROVOKE: &str = "MOSQUITTO_AUTH0_PROVOKE";

/// Has the C library overwrite what is freed, so that a use after free is a crash and not luck.
const FREED_IS_SPOILT: &str = "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0";

/// The longest that a test may take. Nothing waits this long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs a test in a process of its own: this very program again, with only this test.
///
/// # Panics
///
/// If the test fails there, or the process ends in any other way than well.
pub fn alone<F: FnOnce()>(test: F) {
    run(test, None);
}

/// The same, with a plugin that panics at this place: `init`, `basic_auth`, `acl_check`,
/// `disconnect`, `tick`, `reload` or `cleanup`.
///
/// # Panics
///
/// As [`alone`].
pub fn alone_provoked<F: FnOnce()>(place: &str, test: F) {
    run(test, Some(place));
}

/// The plugin to load.
///
/// # Panics
///
/// If it cannot be built.
pub fn plugin_file() -> PathBuf {
    env::var_os(FILE).map_or_else(|| built().to_owned(), PathBuf::from)
}

fn run<F: FnOnce()>(test: F, provoke: Option<&str>) {
    if env::var_os(ALONE).is_some() {
        return test();
    }
    // A closure's type is named after the function around it: `program::module::test::{{closure}}`.
    let path = type_name::<F>();
    let (_, name) = path.split_once("::").expect("a path");
    let name = name.strip_suffix("::{{closure}}").expect("a closure");

    let scratch = Scratch::new("fake-broker").expect("a temporary directory");
    let output = scratch.path().join("output");
    let file = File::create(&output).expect("a temporary file");
    let plugin = match provoke {
        None => plugin_file(),
        Some(_) => provoked().to_owned(),
    };
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, name)
        .env(FILE, plugin)
        .env_remove(PROVOKE)
        .env("GLIBC_TUNABLES", FREED_IS_SPOILT)
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file);
    if let Some(place) = provoke {
        command.env(PROVOKE, place);
    }

    let mut child = command.spawn().expect("a process");
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break Some(status);
        }
        if started.elapsed() > DEADLINE {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let said = std::fs::read(&output).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    match status {
        None => panic!("{name} hangs\n{said}"),
        // Also catches a name that names no test, of which none would fail.
        Some(status) if status.success() => assert!(said.contains("1 passed"), "{said}"),
        Some(status) => panic!("{name}: {status}\n{said}"),
    }
}

fn built() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| build(&target(), &[]))
}

/// A build of its own: cargo would otherwise build the ordinary one anew each time.
fn provoked() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| build(&target().join("provoke"), &["--features", "provoke"]))
}

/// Builds the plugin, so that what is tested is never an older one.
fn build(target: &Path, more: &[&str]) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "mosquitto-auth0", "--lib"])
        .args(more)
        .arg("--target-dir")
        .arg(target)
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

/// The directory of this program is `target/debug/deps`.
fn target() -> PathBuf {
    let program = env::current_exe().expect("this program");
    let mut above = program.ancestors().skip(3);
    above.next().expect("three directories").to_owned()
}
