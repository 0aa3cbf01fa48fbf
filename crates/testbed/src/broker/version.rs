//! Releases of Mosquitto, and where their programs are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A release of Mosquitto, with the clients that belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The release in Debian 12. With `per_listener_settings true` it never sends ticks.
    V2_0_11,
    /// The last release of the 2.0 series in Debian.
    V2_0_21,
    /// The first series that allows delayed authentication.
    V2_1_2,
    /// 2.1.2 with AddressSanitizer, from `tests/sanitized.sh`. It aborts on a memory error or a leak at exit,
    /// and writes the report to its log.
    Sanitized,
    /// 2.0.11 with AddressSanitizer.
    SanitizedV2_0_11,
    /// 2.0.21 with AddressSanitizer.
    SanitizedV2_0_21,
    /// The broker at this path, of any release; made by [`Version::system`].
    System(&'static Path),
}

impl Version {
    /// The releases that the tests cover.
    pub const ALL: [Version; 3] = [Version::V2_0_11, Version::V2_0_21, Version::V2_1_2];

    /// Returns those of [`Version::ALL`] that `tests/brokers.sh` has installed.
    #[must_use]
    pub fn installed() -> Vec<Version> {
        Self::ALL
            .into_iter()
            .filter(|version| version.program("mosquitto").is_ok())
            .collect()
    }

    /// Returns the broker at `path`, one that is installed on the machine. Its clients are searched beside
    /// it, where a distribution puts them, and then on the `PATH`.
    #[must_use]
    pub fn system(path: impl Into<PathBuf>) -> Version {
        // Leaked so that a version stays `Copy`. Tests and demo do this for one path.
        Version::System(Box::leak(path.into().into_boxed_path()))
    }

    /// Returns the release with this name, as in `--broker`.
    ///
    /// # Errors
    ///
    /// Returns the known names.
    pub fn named(name: &str) -> Result<Version, String> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Version::name).join(", ");
            format!("--broker {name}: choose one of {names}")
        })
    }

    /// Returns the name of the release's folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Version::V2_0_11 => "2.0.11",
            Version::V2_0_21 => "2.0.21",
            Version::V2_1_2 => "2.1.2",
            Version::Sanitized => "asan-2.1.2",
            Version::SanitizedV2_0_11 => "asan-2.0.11",
            Version::SanitizedV2_0_21 => "asan-2.0.21",
            Version::System(_) => "system",
        }
    }

    /// Returns the release of which this is a build with AddressSanitizer.
    fn sanitized_from(self) -> Option<Version> {
        match self {
            Version::Sanitized => Some(Version::V2_1_2),
            Version::SanitizedV2_0_11 => Some(Version::V2_0_11),
            Version::SanitizedV2_0_21 => Some(Version::V2_0_21),
            _ => None,
        }
    }

    /// Returns the path of the release's program `name` (`mosquitto`, `mosquitto_pub`, …).
    ///
    /// # Errors
    ///
    /// Returns what to do when the program is missing.
    pub fn program(self, name: &str) -> Result<PathBuf, String> {
        if let Version::System(broker) = self {
            if name == "mosquitto" {
                return match broker.exists() {
                    true => Ok(broker.to_owned()),
                    false => Err(format!("there is no broker at {}", broker.display())),
                };
            }
            let folder = broker.parent().unwrap_or(Path::new("/"));
            let candidates = [folder.join(name), folder.join("../bin").join(name)];
            return Ok(candidates
                .into_iter()
                .find(|path| path.exists())
                .unwrap_or_else(|| name.into()));
        }
        let script = match self.sanitized_from() {
            // Only the broker has such a build.
            Some(release) if name != "mosquitto" => return release.program(name),
            Some(_) => "tests/sanitized.sh",
            None => "tests/brokers.sh",
        };
        let folder = brokers_folder();
        let path = folder.join(self.name()).join(name);
        match path.exists() {
            true => Ok(path),
            false => Err(format!(
                "Mosquitto {self} is not in {}: run {script}, or name the folder it filled with the environment \
                 variable MOSQUITTO_BROKERS",
                folder.display()
            )),
        }
    }

    /// Returns the release that the broker itself states, such as `2.1.2`.
    ///
    /// # Errors
    ///
    /// Returns an error when the broker is missing, does not start, or states no release.
    pub fn release(self) -> Result<String, String> {
        let program = self.program("mosquitto")?;
        let output = Command::new(&program)
            .arg("-h")
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.split_once("mosquitto version ")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .map(str::to_owned)
            .ok_or_else(|| format!("{} -h states no version: {text}", program.display()))
    }

    /// Whether this release supports delayed authentication (2.1 and newer).
    ///
    /// # Panics
    ///
    /// Panics when [`Version::System`] does not state its release.
    #[must_use]
    pub fn can_delay_logins(self) -> bool {
        match self {
            Version::V2_0_11 | Version::SanitizedV2_0_11 => false,
            Version::V2_0_21 | Version::SanitizedV2_0_21 => false,
            Version::V2_1_2 | Version::Sanitized => true,
            Version::System(_) => {
                let release = self.release().unwrap_or_else(|error| panic!("{error}"));
                let mut numbers = release
                    .split('.')
                    .map(|part| part.parse::<u32>().unwrap_or(0));
                (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (2, 1)
            }
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn brokers_folder() -> PathBuf {
    match std::env::var_os("MOSQUITTO_BROKERS") {
        Some(folder) => folder.into(),
        None => {
            let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
            workspace
                .expect("this crate is in crates/testbed")
                .join("target/brokers")
        }
    }
}
