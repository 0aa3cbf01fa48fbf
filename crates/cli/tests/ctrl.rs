//! `mosquitto_ctrl auth0 …`, with the real mosquitto_ctrl of each broker that has it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use testbed::broker::Version;

/// mosquitto_ctrl with our module where its loader looks.
fn commands(module_folder: &Path) -> Vec<(String, Command)> {
    let mut found = Vec::new();
    for version in Version::ALL {
        let Ok(launcher) = version.program("mosquitto_ctrl") else {
            eprintln!(
                "Mosquitto {version} has no mosquitto_ctrl here: run tests/brokers.sh into an empty folder"
            );
            continue;
        };
        // The launcher names the libraries by itself, and ours is not among them.
        let folder = launcher.parent().unwrap();
        let is_loader = |path: &PathBuf| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("ld-linux")
        };
        let libraries = fs::read_dir(folder.join("lib")).unwrap();
        let loader = libraries
            .map(|entry| entry.unwrap().path())
            .find(is_loader)
            .unwrap();
        let mut command = Command::new(loader);
        let path = format!(
            "{}:{}",
            folder.join("lib").display(),
            module_folder.display()
        );
        command.args(["--inhibit-cache", "--library-path", &path]);
        command.arg(folder.join("bin/mosquitto_ctrl"));
        found.push((version.to_string(), command));
    }
    // The one of this machine, which its package has put there.
    if Path::new("/usr/bin/mosquitto_ctrl").exists() {
        let mut command = Command::new("/usr/bin/mosquitto_ctrl");
        command.env("LD_LIBRARY_PATH", module_folder);
        found.push(("of this machine".to_owned(), command));
    }
    found
}

fn text(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!("{out}{err}")
}

#[test]
fn mosquitto_ctrl_runs_the_tool_and_returns_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let module = testbed::plugin::ctrl_module();
    fs::copy(module, folder.path().join("mosquitto_ctrl_auth0.so")).unwrap();
    let tool = Path::new(env!("CARGO_BIN_EXE_mosquitto-auth0"));
    let path = env::join_paths([
        tool.parent().unwrap(),
        Path::new("/usr/bin"),
        Path::new("/bin"),
    ])
    .unwrap();
    for (name, _) in commands(folder.path()) {
        let run = |arguments: &[&str], path: &std::ffi::OsStr| {
            let mut all = commands(folder.path());
            let (_, command) = all.iter_mut().find(|(other, _)| *other == name).unwrap();
            command
                .arg("auth0")
                .args(arguments)
                .env("PATH", path)
                .output()
                .unwrap()
        };
        for arguments in [
            &["--version"][..],
            &["sessions", "--socket", "/no/such/socket"],
            &["kick"],
        ] {
            let (ours, theirs) = (
                Command::new(tool).args(arguments).output().unwrap(),
                run(arguments, &path),
            );
            assert_eq!(text(&theirs), text(&ours), "{name}");
            assert_eq!(theirs.status.code(), ours.status.code(), "{name}");
        }
        let missing = run(&["sessions"], "/no/such/folder".as_ref());
        assert_eq!(
            missing.status.code(),
            Some(13),
            "{name}: {}",
            text(&missing)
        );
        assert!(
            text(&missing).contains("; fix: install the package"),
            "{name}: {}",
            text(&missing)
        );
    }
}
