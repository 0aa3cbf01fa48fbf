//! A signing key that is revoked ends the sessions that it admitted, and no others. Without a broker.

mod common;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use auth::{
    client::{Client, ClientKey, ClientView},
    clock::{self, Unix},
    engine::{Access, Action, Connect, Renewal, Step},
    jwt::jwks_cache::FetchSchedule,
    log::Log,
    policy_file::BrokerFeatures,
    sessions::{AfterDisconnect, Origin},
};
use common::TestInstance;
use serde_json::{Value, json};
use testbed::signing::{Alg, SigningKey, hs256, now, shared_key};

const ISSUER: &str = "https://t.example/";
const AUDIENCE: &str = "https://mqtt.example/";

/// The clients, by the number of their signing key.
const CLIENTS: [&str; 2] = ["of-key-0", "of-key-1"];

/// An instance that reads its keys from a file.
struct Rig {
    instance: TestInstance,
    log: Log,
    file: tempfile::NamedTempFile,
}

fn write(path: &Path, keys: &[Value]) {
    fs::write(path, json!({ "keys": keys }).to_string()).unwrap();
}

fn token(key: &SigningKey) -> String {
    let header = json!({"alg": "RS256", "kid": key.kid()});
    let claims =
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "u", "exp": now() + 3600, "topics": ["a"]});
    key.sign(Alg::Rs256, header, claims)
}

impl Rig {
    /// Admits a client for each of the two keys in the file.
    fn new(options: &[(&str, &str)]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), &[shared_key(0).jwk(), shared_key(1).jwk()]);
        let mut rig = Self::started(options, file);
        for number in 0..CLIENTS.len() {
            rig.admit(number, &token(&shared_key(number)));
        }
        assert!(rig.follow_keys().is_empty());
        rig
    }

    /// Starts an instance with the keys in this file.
    fn started(options: &[(&str, &str)], file: tempfile::NamedTempFile) -> Self {
        let always = [
            ("issuer", ISSUER),
            ("audience", AUDIENCE),
            ("jwks_file", file.path().to_str().unwrap()),
        ];
        let log = Log::default();
        let all = [&always, options].concat();
        let instance = common::instance(&all, FetchSchedule::default(), log.clone());
        let mut rig = Self {
            instance,
            log,
            file,
        };
        rig.instance
            .engine
            .start(&mut rig.instance.common, BrokerFeatures::default())
            .unwrap();
        rig
    }

    fn admit(&mut self, number: usize, token: &str) {
        let connect = Connect {
            key: ClientKey(1 + number),
            ..common::connect(CLIENTS[number], token)
        };
        match self.instance.authenticate(&connect, clock::now()) {
            Step::Admit(admission) => {
                let common = &mut self.instance.common;
                let admitted = common.admit(admission);
                common.confirm(admitted);
            }
            _ => panic!("its key is here"),
        }
    }

    /// Returns the client IDs of those that are to be disconnected now.
    fn follow_keys(&mut self) -> Vec<String> {
        let (engine, common) = (&mut self.instance.engine, &mut self.instance.common);
        engine.follow_keys(common, clock::now());
        let ended = engine.expire(common, clock::now()).into_iter();
        ended.map(|(_, client_id)| client_id.to_string()).collect()
    }

    /// Reads the file again, with these keys in it.
    fn reload(&mut self, keys: &[Value]) -> Vec<String> {
        write(self.file.path(), keys);
        self.read_again()
    }

    fn read_again(&mut self) -> Vec<String> {
        self.instance
            .engine
            .reload(&mut self.instance.common, false);
        self.follow_keys()
    }

    fn may_publish(&mut self, number: usize) -> bool {
        let access = Access {
            key: ClientKey(1 + number),
            client: client(number),
            action: Action::Publish,
            topic: b"a",
            qos: 0,
            retain: false,
            payload: 0,
        };
        self.instance.authorize(&access, clock::now()).allows()
    }

    fn lines_with(&self, text: &str) -> usize {
        let lines = self.log.take();
        lines.iter().filter(|(_, line)| line.contains(text)).count()
    }
}

fn client(number: usize) -> Client<&'static str> {
    Client {
        id: CLIENTS[number],
        username: Some("u"),
        address: Some("192.0.2.1"),
        ..Client::default()
    }
}

fn named(key: &SigningKey, kid: &str) -> Value {
    let mut jwk = key.jwk();
    jwk["kid"] = kid.into();
    jwk
}

#[test]
fn the_sessions_of_a_revoked_key_end_and_no_others() {
    let (first, second, third) = (shared_key(0), shared_key(1), shared_key(2));
    for (what, keys, ends) in [
        ("the same keys", vec![first.jwk(), second.jwk()], false),
        ("another order", vec![second.jwk(), first.jwk()], false),
        (
            "one more",
            vec![first.jwk(), second.jwk(), third.jwk()],
            false,
        ),
        (
            "another name",
            vec![named(&first, "renamed"), second.jwk()],
            false,
        ),
        ("gone", vec![second.jwk()], true),
        (
            "another key of its name",
            vec![named(&third, first.kid()), second.jwk()],
            true,
        ),
    ] {
        let mut rig = Rig::new(&[]);
        rig.log.take();
        let ended = rig.reload(&keys);
        let expected: &[&str] = if ends { &CLIENTS[..1] } else { &[] };
        assert_eq!(ended, expected, "{what}");
        assert_eq!(rig.may_publish(0), !ends, "{what}");
        assert!(rig.may_publish(1), "{what}");
        let lines = rig.log.take();
        let of = |text: &str| lines.iter().filter(|(_, line)| line.contains(text)).count();
        assert_eq!(
            of("a signing key was revoked"),
            usize::from(ends),
            "{lines:?}"
        );
        assert_eq!(
            of("disconnecting [key-revoked] 'of-key-0'"),
            usize::from(ends),
            "{lines:?}"
        );
        assert!(rig.reload(&keys).is_empty(), "{what}: once");
    }
}

#[test]
fn a_file_that_cannot_be_read_ends_nobody() {
    let mut rig = Rig::new(&[]);
    for text in ["", "{", r#"{"keys":[]}"#] {
        fs::write(rig.file.path(), text).unwrap();
        assert!(rig.read_again().is_empty(), "{text}");
    }
    fs::remove_file(rig.file.path()).unwrap();
    assert!(rig.read_again().is_empty());
    assert!(rig.may_publish(0) && rig.may_publish(1));
}

#[test]
fn sessions_may_be_kept_when_their_key_is_revoked() {
    let mut rig = Rig::new(&[("on_key_revoked", "keep")]);
    assert!(rig.reload(&[shared_key(1).jwk()]).is_empty());
    assert!(rig.may_publish(0) && rig.may_publish(1));
    assert_eq!(rig.lines_with("they stay until their tokens expire"), 1);
}

/// Also one that stays when its token expires.
#[test]
fn a_client_of_a_revoked_key_neither_renews_nor_stays() {
    let mut rig = Rig::new(&[("on_expiry", "deny")]);
    let new = token(&shared_key(1));
    write(rig.file.path(), &[shared_key(1).jwk()]);
    rig.instance.engine.reload(&mut rig.instance.common, false);
    let (engine, common) = (&mut rig.instance.engine, &mut rig.instance.common);
    engine.follow_keys(common, clock::now());
    let key = ClientKey(1);
    let renewal = engine.renew(common, key, &client(0), new.as_bytes(), clock::now());
    assert!(matches!(renewal, Renewal::Refused(_)));
    assert_eq!(rig.follow_keys(), [CLIENTS[0]]);
}

/// The secret for HS256 counts as a key. The same one in a new file is the same.
#[test]
fn a_secret_that_is_replaced_ends_its_sessions() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    let path = secret.path().to_str().unwrap();
    let (one, other) = ([b'x'; 32], [b'y'; 32]);
    fs::write(path, one).unwrap();
    let options = [("algorithms", "RS256,HS256"), ("hs256_secret_file", path)];
    let mut rig = Rig::new(&options);
    let claims =
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "u", "exp": now() + 3600, "topics": ["a"]});
    rig.admit(0, &hs256(&one, json!({"alg": "HS256"}), claims));
    fs::write(path, [&one[..], b"\n"].concat()).unwrap();
    assert!(rig.read_again().is_empty(), "the same secret");
    fs::write(path, other).unwrap();
    assert_eq!(rig.read_again(), [CLIENTS[0]]);
    assert!(rig.may_publish(1));
}

#[test]
fn a_renewal_with_another_key_counts() {
    let mut rig = Rig::new(&[]);
    let new = token(&shared_key(1));
    let (engine, common) = (&mut rig.instance.engine, &mut rig.instance.common);
    let renewal = engine.renew(
        common,
        ClientKey(1),
        &client(0),
        new.as_bytes(),
        clock::now(),
    );
    assert!(matches!(renewal, Renewal::Renewed { .. }));
    assert!(rig.reload(&[shared_key(1).jwk()]).is_empty());
    assert!(rig.may_publish(0));
}

/// It is queued for, and what it receives is decided when its client is back.
#[test]
fn an_absent_client_keeps_its_session() {
    let mut rig = Rig::new(&[]);
    let (engine, common) = (&mut rig.instance.engine, &mut rig.instance.common);
    engine.leave(common, ClientKey(1), AfterDisconnect::Kept, clock::now());
    engine.reap(common, clock::now());
    assert!(rig.reload(&[shared_key(1).jwk()]).is_empty());
    let absent = Client {
        address: None,
        ..client(0)
    };
    let access = Access {
        key: ClientKey(1),
        client: absent,
        action: Action::Receive,
        topic: b"a",
        qos: 1,
        retain: false,
        payload: 0,
    };
    assert!(rig.instance.authorize(&access, clock::now()).allows());
    let old = token(&shared_key(0));
    let connect = common::connect(CLIENTS[0], &old);
    let step = rig.instance.authenticate(&connect, clock::now());
    assert!(matches!(step, Step::Refuse(_)), "its token is none now");
}

/// SIGHUP asks about a session before the tick that disconnects it.
#[test]
fn a_recheck_refuses_a_client_of_a_revoked_key() {
    let mut rig = Rig::new(&[]);
    let old = token(&shared_key(0));
    rig.admit(0, &old);
    write(rig.file.path(), &[shared_key(1).jwk()]);
    rig.instance.engine.reload(&mut rig.instance.common, false);
    let (engine, common) = (&mut rig.instance.engine, &mut rig.instance.common);
    engine.follow_keys(common, clock::now());
    let mut connect = common::connect(CLIENTS[0], &old);
    connect.client.username = Some("u");
    connect.origin = Origin::Recheck { may_refuse: true };
    let step = rig.instance.authenticate(&connect, Unix(now()));
    assert!(matches!(step, Step::Refuse(_)));
}

/// A client that is away, as the broker asks about it.
#[derive(Clone, Copy)]
struct Away {
    number: usize,
    is_restored: bool,
}

impl ClientView for Away {
    fn client_id(&self) -> &[u8] {
        CLIENTS[self.number].as_bytes()
    }

    fn username(&self) -> Option<&[u8]> {
        Some(b"u")
    }

    fn is_connected(&self) -> bool {
        false
    }

    fn is_restored(&self) -> bool {
        self.is_restored
    }
}

impl Rig {
    /// Whether a message is queued for a client that is away.
    fn is_queued_for(&mut self, client: Away) -> bool {
        let access = Access {
            key: ClientKey(1 + client.number),
            client,
            action: Action::Receive,
            topic: b"a",
            qos: 1,
            retain: false,
            payload: 0,
        };
        self.instance.authorize(&access, clock::now()).allows()
    }
}

/// For a client that is away, it is as if its token expired now: `offline_grace` counts from here.
#[test]
fn the_session_of_an_absent_client_ends_with_its_key() {
    let mut rig = Rig::new(&[("offline_grace", "0")]);
    for number in 0..CLIENTS.len() {
        let (engine, common) = (&mut rig.instance.engine, &mut rig.instance.common);
        let key = ClientKey(1 + number);
        engine.leave(common, key, AfterDisconnect::Kept, clock::now());
        engine.reap(common, clock::now());
    }
    assert!(rig.reload(&[shared_key(1).jwk()]).is_empty());
    let away = |number| Away {
        number,
        is_restored: false,
    };
    assert!(!rig.is_queued_for(away(0)));
    assert!(rig.is_queued_for(away(1)));
}

/// The key is saved with the session, so it may be revoked before or after the restart.
#[test]
fn a_restored_session_ends_with_its_key() {
    for (keep, before) in [(false, true), (false, false), (true, true), (true, false)] {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = folder.path().to_str().unwrap();
        let mut options = vec![("state_dir", state_dir), ("offline_grace", "0")];
        if keep {
            options.push(("on_key_revoked", "keep"));
        }
        let Rig {
            mut instance, file, ..
        } = Rig::new(&options);
        instance.common.stop();
        drop(instance);
        // A busy machine may need longer than a stop waits.
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::read(folder.path().join("sessions")).is_err() {
            assert!(Instant::now() < deadline, "nothing is saved");
            thread::yield_now();
        }
        let only_second = [shared_key(1).jwk()];
        if before {
            write(file.path(), &only_second);
        }
        let mut rig = Rig::started(&options, file);
        assert!(rig.follow_keys().is_empty());
        let away = |number| Away {
            number,
            is_restored: true,
        };
        if !before {
            assert!(rig.is_queued_for(away(0)));
            assert!(rig.reload(&only_second).is_empty());
        }
        assert_eq!(
            rig.is_queued_for(away(0)),
            keep,
            "revoked before the restart: {before}"
        );
        assert!(rig.is_queued_for(away(1)));
        rig.instance.common.stop();
    }
}
