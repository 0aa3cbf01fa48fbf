//! Keeps the last good set of keys on disk, so that a broker that starts during an outage of the tenant can
//! verify tokens.
//!
//! The keys are public. What matters is that nobody else can have written the file: whoever chooses the keys
//! decides who can sign in ([`crate::state_dir`]).

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    fetch_report::{SavedJwksError, SavedJwksProblem},
    jwks::KeySet,
};
use crate::{
    clock::{self, Unix},
    config::IssuerConfig,
    secret::sha256,
    state_dir::StateDir,
};
use input::json;

/// The file with one tenant's keys.
pub(crate) struct SavedJwks {
    dir: StateDir,
    tenant: String,
    /// The options that say where the keys are fetched, if any do. Keys from elsewhere are not the tenant's.
    source: Map<String, Value>,
    file: String,
    /// What is on disk, as far as this process knows.
    written: Mutex<Option<(KeySet, Unix)>>,
}

impl SavedJwks {
    /// Returns the file for the tenant of this issuer.
    pub(crate) fn new(dir: StateDir, issuer: &IssuerConfig) -> Self {
        let options = [
            ("jwks_uri", &issuer.jwks_uri),
            ("discovery_url", &issuer.discovery_url),
        ];
        let options = options.into_iter();
        let set = |(name, url): (&str, &Option<String>)| Some((name.into(), url.clone()?.into()));
        Self::of(dir, issuer.tenant.name(), options.filter_map(set).collect())
    }

    fn of(dir: StateDir, tenant: &str, source: Map<String, Value>) -> Self {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
                c
            } else {
                '_'
            }
        };
        let mut name: String = tenant.chars().take(128).map(safe).collect();
        // A domain can be the name of a file. Two addresses may differ only in characters that are replaced here.
        if name != tenant {
            let [a, b, c, d, ..] = sha256(tenant.as_bytes());
            name += &format!("-{:08x}", u32::from_be_bytes([a, b, c, d]));
        }
        Self {
            dir,
            tenant: tenant.into(),
            source,
            file: format!("keys-{name}.json"),
            written: Mutex::default(),
        }
    }

    /// Returns the saved keys and their age, if there are any that are still valid. Keys stay valid for `good_for`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub(crate) fn load(
        &self,
        good_for: Duration,
    ) -> Result<Option<(KeySet, Duration)>, SavedJwksError> {
        self.load_at(good_for, clock::now())
    }

    fn load_at(
        &self,
        good_for: Duration,
        now: Unix,
    ) -> Result<Option<(KeySet, Duration)>, SavedJwksError> {
        let not_used = |problem| SavedJwksError::Load {
            path: self.dir.path_of(&self.file),
            problem,
        };
        let bytes = self.dir.read(&self.file);
        let Some(bytes) = bytes.map_err(|why| not_used(SavedJwksProblem::File(why)))? else {
            return Ok(None);
        };
        let document =
            json::object(&bytes).map_err(|why| not_used(SavedJwksProblem::NotJson(why)))?;
        let fetched = document.get("fetched").and_then(Value::as_u64);
        let fetched = fetched.ok_or_else(|| not_used(SavedJwksProblem::NoFetchTime))?;
        // The file may have been copied from another tenant's.
        if document.get("tenant").and_then(Value::as_str) != Some(&self.tenant) {
            return Ok(None);
        }
        // A file without this member names no source.
        let source = document.get("source").and_then(Value::as_object);
        if source.unwrap_or(&Map::new()) != &self.source {
            return Ok(None);
        }
        let keys = KeySet::parse(&bytes).map_err(|why| not_used(SavedJwksProblem::Keys(why)))?;
        // A date in the future means that a clock was wrong, then or now, and that the keys' age is unknown.
        let age = now.0.saturating_sub(fetched);
        let age = Duration::from_secs(age);
        Ok((age < good_for).then_some((keys, age)))
    }

    /// Saves the keys, unless the same ones were saved recently: a write every eight minutes would wear out
    /// an SD card. Keys stay valid for `good_for`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the file.
    pub(crate) fn save(&self, keys: &KeySet, good_for: Duration) -> Result<(), SavedJwksError> {
        self.save_at(keys, good_for, clock::now())
    }

    fn save_at(&self, keys: &KeySet, good_for: Duration, now: Unix) -> Result<(), SavedJwksError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((same, since)) = &*written
            && same.has_same_keys(keys)
            && (*since..since.plus(good_for.as_secs() / 8)).contains(&now)
        {
            return Ok(());
        }
        let mut document = keys.to_jwks();
        document.insert("tenant".into(), self.tenant.clone().into());
        document.insert("source".into(), self.source.clone().into());
        document.insert("fetched".into(), now.0.into());
        let text = serde_json::to_vec_pretty(&document).expect("a document of texts");
        let written_to = self.dir.write(&self.file, &text);
        written_to.map_err(|why| SavedJwksError::Save {
            path: self.dir.path_of(&self.file),
            why,
        })?;
        let copy = KeySet::parse(&text).expect("what was just written");
        *written = Some((copy, now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::{fs, os::unix::fs::PermissionsExt};

    const DAY: Duration = Duration::from_secs(86_400);

    fn keys(kid: &str) -> KeySet {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let modulus = URL_SAFE_NO_PAD.encode([0xb1; 256]);
        let jwks =
            format!(r#"{{"keys":[{{"kty":"RSA","kid":"{kid}","n":"{modulus}","e":"AQAB"}}]}}"#);
        KeySet::parse(jwks.as_bytes()).unwrap()
    }

    fn at(folder: &tempfile::TempDir, tenant: &str) -> SavedJwks {
        SavedJwks::of(StateDir::open(folder.path()).unwrap(), tenant, Map::new())
    }

    #[test]
    fn saved_keys_load_with_their_age_until_stale() {
        let folder = tempfile::tempdir().unwrap();
        let saved = at(&folder, "t.auth0.com:8443");
        assert!(saved.load_at(DAY, Unix(1)).unwrap().is_none());
        saved.save_at(&keys("a"), DAY, Unix(1_000_000)).unwrap();
        let later = at(&folder, "t.auth0.com:8443");
        let (set, age) = later.load_at(DAY, Unix(1_000_100)).unwrap().unwrap();
        assert!(set.has_same_keys(&keys("a")));
        assert_eq!(age, Duration::from_secs(100));
        assert!(
            later
                .load_at(DAY, Unix(1_000_000 + 86_399))
                .unwrap()
                .is_some()
        );
        assert!(
            later
                .load_at(DAY, Unix(1_000_000 + 86_400))
                .unwrap()
                .is_none()
        );
        let (_, age) = later.load_at(DAY, Unix(500)).unwrap().unwrap();
        assert_eq!(age, Duration::ZERO, "a clock that was set back");
        assert_eq!(
            at(&folder, "t.eu.auth0.com").file,
            "keys-t.eu.auth0.com.json"
        );
    }

    #[test]
    fn tenants_whose_names_differ_in_one_character_have_separate_files() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "https://id.example/a",
            "https://id.example/a/",
            "t:8443",
            "t_8443",
        ];
        for name in names {
            at(&folder, name)
                .save_at(&keys(name), DAY, Unix(1000))
                .unwrap();
        }
        for name in names {
            let loaded = at(&folder, name).load_at(DAY, Unix(1001)).unwrap();
            assert!(loaded.unwrap().0.has_same_keys(&keys(name)), "{name}");
        }
    }

    #[test]
    fn a_file_that_was_copied_from_another_tenant_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        at(&folder, "a")
            .save_at(&keys("a"), DAY, Unix(1000))
            .unwrap();
        let file = |name| folder.path().join(format!("keys-{name}.json"));
        fs::rename(file("a"), file("b")).unwrap();
        let loaded = at(&folder, "b").load_at(DAY, Unix(1001)).unwrap();
        assert!(loaded.is_none());
    }

    #[test]
    fn keys_from_elsewhere_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let with = |option: Option<(&str, &str)>| {
            let options = [
                ("issuer", "https://t.example/"),
                ("audience", "https://mqtt.example/"),
            ];
            let options = options.into_iter().chain(option);
            let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let config = Config::read(options.collect()).unwrap();
            SavedJwks::new(StateDir::open(folder.path()).unwrap(), &config.issuers[0])
        };
        let (one, other) = ("https://one.example/", "https://other.example/");
        let sources = [
            None,
            Some(("jwks_uri", one)),
            Some(("jwks_uri", other)),
            Some(("discovery_url", one)),
        ];
        for saved in sources {
            with(saved).save_at(&keys("a"), DAY, Unix(1000)).unwrap();
            for configured in sources {
                let loaded = with(configured).load_at(DAY, Unix(1001)).unwrap();
                assert_eq!(
                    loaded.is_some(),
                    saved == configured,
                    "{saved:?} {configured:?}"
                );
            }
        }
        // A file from before the member was written.
        let path = folder.path().join(&with(None).file);
        let mut document = json::object(&fs::read(&path).unwrap()).unwrap();
        document.remove("source");
        fs::write(&path, serde_json::to_vec(&document).unwrap()).unwrap();
        assert!(with(None).load_at(DAY, Unix(1001)).unwrap().is_some());
        assert!(with(sources[1]).load_at(DAY, Unix(1001)).unwrap().is_none());
    }

    #[test]
    fn unchanged_keys_are_rewritten_rarely() {
        let folder = tempfile::tempdir().unwrap();
        let saved = at(&folder, "t");
        let fetched = |now| {
            let (_, age) = at(&folder, "t").load_at(DAY, Unix(now)).unwrap().unwrap();
            now - age.as_secs()
        };
        saved.save_at(&keys("a"), DAY, Unix(1000)).unwrap();
        saved.save_at(&keys("a"), DAY, Unix(1480)).unwrap();
        assert_eq!(fetched(1480), 1000);
        saved.save_at(&keys("b"), DAY, Unix(1500)).unwrap();
        assert_eq!(fetched(1500), 1500, "others are");
        saved
            .save_at(&keys("b"), DAY, Unix(1500 + 86_400 / 8))
            .unwrap();
        assert_eq!(fetched(20_000), 1500 + 86_400 / 8, "and so are old ones");
        saved.save_at(&keys("b"), DAY, Unix(100)).unwrap();
        assert_eq!(fetched(100), 100, "after the clock was set back");
    }

    #[test]
    fn a_damaged_or_foreign_file_is_reported_and_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let saved = at(&folder, "t");
        saved.save_at(&keys("a"), DAY, Unix(1000)).unwrap();
        let path = folder.path().join("keys-t.json");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let why = saved.load_at(DAY, Unix(1001)).unwrap_err().to_string();
        assert!(
            why.contains("keys-t.json") && why.contains("others"),
            "{why}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for bad in [
            "",
            "{",
            r#"{"tenant":"t"}"#,
            r#"{"tenant":"t","fetched":1000,"keys":[]}"#,
        ] {
            fs::write(&path, bad).unwrap();
            let why = saved.load_at(DAY, Unix(1001)).unwrap_err().to_string();
            assert!(why.contains("fix: delete the file"), "{why}");
        }
        saved.save_at(&keys("b"), DAY, Unix(1002)).unwrap();
        assert!(
            saved.load_at(DAY, Unix(1003)).unwrap().is_some(),
            "a good one takes its place"
        );
    }

    /// An option that was changed and read again counts for the next write.
    #[test]
    fn keys_are_written_as_often_as_their_validity_demands_now() {
        let folder = tempfile::tempdir().unwrap();
        let saved = at(&folder, "t");
        let age_at = |now: u64| at(&folder, "t").load_at(DAY, Unix(now)).unwrap().unwrap().1;
        saved.save_at(&keys("a"), DAY, Unix(10_000)).unwrap();
        saved.save_at(&keys("a"), DAY / 2, Unix(16_000)).unwrap();
        assert_eq!(age_at(16_000), Duration::ZERO);
        saved.save_at(&keys("a"), DAY, Unix(22_000)).unwrap();
        assert_eq!(age_at(22_000), Duration::from_secs(6000));
    }
}
