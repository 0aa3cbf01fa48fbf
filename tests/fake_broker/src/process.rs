//! Runs each test in a process of its own, and chooses the plugin that it loads.

use std::{
    any::type_name,
    env,
    fs::File,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use testbed::{plugin, scratch::Scratch};

/// Names the test that a process runs.
const ALONE: &str = "FAKE_BROKER_ALONE";
/// Where `tests/panicking_plugin` panics.
const PROVOKE: &str = "MOSQUITTO_AUTH0_PROVOKE";

/// Makes the C library overwrite freed memory, so that a use after free crashes reliably.
const FREED_IS_SPOILT: &str = "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0";

/// The longest time that a test may take. Nothing waits this long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(120);
/// How many times slower the machine is than usual (`tests/valgrind.sh`).
const SLOW: &str = "FAKE_BROKER_SLOW";

/// Returns how long something may take on this machine that takes less than this elsewhere.
///
/// A limit that is there to be shorter than one of the plugin's own proves nothing when only it becomes longer.
///
/// # Panics
///
/// Panics if the environment says something else than how many times slower this machine is.
pub fn allowed(usual: Duration) -> Duration {
    usual * env::var(SLOW).map_or(1, |times| times.parse().expect("a number"))
}

/// Runs a test in a process of its own: this program, with only this test.
///
/// # Panics
///
/// Panics if the test fails there, or the process does not exit with success.
pub fn alone<F: FnOnce()>(test: F) {
    run(test, None);
}

/// The same, with a plugin that panics at this place: `init`, `basic_auth`, `acl_check`, `disconnect`,
/// `tick`, `reload` or `cleanup`.
///
/// # Panics
///
/// Panics like [`alone`].
pub fn alone_provoked<F: FnOnce()>(place: &str, test: F) {
    run(test, Some(place));
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
    let file_of_plugin = match provoke {
        None => plugin::file(),
        Some(_) => plugin::that_panics(),
    };
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, name)
        .env(plugin::OTHER_BUILD, file_of_plugin)
        .env_remove(PROVOKE)
        .env("GLIBC_TUNABLES", FREED_IS_SPOILT)
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file);
    if let Some(place) = provoke {
        command.env(PROVOKE, place);
    }

    let mut child = command.spawn().expect("a process");
    let (started, deadline) = (Instant::now(), allowed(DEADLINE));
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break Some(status);
        }
        if started.elapsed() > deadline {
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
        // Without this a name that matches no test would pass.
        Some(status) if status.success() => assert!(said.contains("1 passed"), "{said}"),
        Some(status) => panic!("{name}: {status}\n{said}"),
    }
}
