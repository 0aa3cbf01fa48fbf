use super::{
    record::{DecisionPath, DecisionRecord, TokenId},
    *,
};
use crate::{
    account::Account,
    client::Client,
    clock::{Deadline, Unix},
    log::Level,
    refusal::{ConnectDetail, Detail, Reason, Refusal},
};
use serde_json::json;
use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

fn facts(number: u64) -> Arc<SessionFacts> {
    let claims = json!({"topics": ["a/#"], "role": "pump", "email": "a@b.example"});
    let names = ["topics", "role", "site"].map(str::to_owned);
    Arc::new(SessionFacts {
        number,
        client: Client {
            id: "pump-1".into(),
            username: Some("auth0|1".into()),
            ..Client::default()
        },
        account: Account {
            issuer: "https://t.example/".into(),
            subject: "auth0|1".into(),
        },
        token_id: Some(TokenId([1; 8])),
        claims: Arc::new(claims.as_object().unwrap().clone()),
        named: names.into(),
    })
}

fn published(who: Who, topic: impl AsRef<[u8]>) -> Decided {
    Decided {
        at: Unix(1_795_795_277),
        path: DecisionPath::Publish,
        who,
        message: Some(DecidedMessage {
            topic: topic.as_ref().into(),
            qos: 1,
            retain: false,
            payload: 3,
        }),
        refusal: None,
        rule: None,
        until: None,
        shadow: None,
        places: PolicyPlaces::default(),
        repeats: None,
    }
}

fn of_session(number: u64, topic: &str) -> Decided {
    published(Who::Session(facts(number)), topic)
}

fn records(path: &Path) -> Vec<DecisionRecord> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| DecisionRecord::parse(line).unwrap())
        .collect()
}

fn wait_for(what: impl Fn() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(30));
    while !what() {
        assert!(!deadline.has_passed(), "it never happens");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn decisions_become_lines_and_claims_stand_once_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let mut log = DecisionLog::open(&path, threads::plain, Log::default()).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
    for topic in ["a/1", "a/2"] {
        log.push(of_session(1, topic));
    }
    log.push(of_session(2, "a/3"));
    wait_for(|| log.counts().written == 3);
    fs::rename(&path, &moved).unwrap();
    log.push(of_session(1, "a/4"));
    log.reopen();
    log.push(of_session(1, "a/5"));
    log.stop();
    let before = records(&moved);
    let topics: Vec<_> = before
        .iter()
        .map(|record| record.input.message.as_ref().unwrap().topic.as_str())
        .collect();
    assert_eq!(topics, ["a/1", "a/2", "a/3", "a/4"]);
    let with_claims: Vec<_> = before
        .iter()
        .map(|record| record.input.claims.is_some())
        .collect();
    assert_eq!(with_claims, [true, false, true, false]);
    let claims = before[0].input.claims.as_ref().unwrap();
    assert_eq!(claims.present["role"], "pump");
    assert_eq!(claims.missing, ["site"]);
    assert!(!claims.present.contains_key("email"), "no rule asks for it");
    let after = records(&path);
    assert_eq!(after.len(), 1);
    assert!(after[0].input.claims.is_some(), "each file stands alone");
    let mut ids: Vec<_> = before
        .iter()
        .chain(&after)
        .map(|record| &record.decision_id)
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert!(
        before
            .iter()
            .chain(&after)
            .all(|record| record.process == before[0].process)
    );
    assert_eq!(
        log.counts(),
        DecisionLogCounts {
            written: 5,
            left_out: 0
        }
    );
}

#[test]
fn a_line_has_no_token_and_no_control_character() {
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2VjcmV0";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut log = DecisionLog::open(&path, threads::plain, Log::default()).unwrap();
    let client = |id: &str, username: &str| Who::Client {
        client: Client {
            id: id.into(),
            username: Some(username.into()),
            address: Some("x\ny".into()),
            ..Client::default()
        },
        token_id: None,
    };
    log.push(published(
        client("a\n\u{9b}2J\u{202e}", token),
        format!("t/{token}"),
    ));
    log.push(published(client(token, "u"), b"\xff\r\n"));
    let detail = ConnectDetail::NoPassword;
    log.push(Decided {
        refusal: Some(Refusal::new(Reason::NoPassword, detail)),
        message: None,
        path: DecisionPath::Connect,
        ..published(client("b", "u"), "")
    });
    log.stop();
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        !text.contains("c2VjcmV0") && !text.contains(['\u{9b}', '\u{202e}', '\r']),
        "{text}"
    );
    assert_eq!(text.lines().count(), 3);
    let records = records(&path);
    assert_eq!(records[0].input.client_id, "a\n\u{9b}2J\u{202e}");
    assert_eq!(
        records[0].input.username.as_deref(),
        Some("eyJhbGci... (a token)")
    );
    assert_eq!(records[2].result.reason.as_deref(), Some("no-password"));
    assert!(!records[2].result.allowed);
}

/// Whoever can connect could fill the disk with 64 KB in each field.
#[test]
fn long_texts_of_a_client_that_is_not_in_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut log = DecisionLog::open(&path, threads::plain, Log::default()).unwrap();
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2VjcmV0";
    let long = "\u{e4}".repeat(30_000);
    let refused = |who, topic: &str| Decided {
        refusal: Some(Refusal::new(
            Reason::UnknownClient,
            Detail::NotSignedIn {
                topic: topic.into(),
            },
        )),
        ..published(who, topic)
    };
    let stranger = |username: String| Who::Client {
        client: Client {
            id: long.as_str().into(),
            username: Some(username.into()),
            ..Client::default()
        },
        token_id: None,
    };
    log.push(refused(stranger(long.clone()), &long));
    log.push(refused(stranger(format!("{token}{long}")), "a"));
    log.push(refused(Who::Session(facts(1)), &long));
    log.stop();
    let size = fs::metadata(&path).unwrap().len();
    let records = records(&path);
    let input = &records[0].input;
    let topic = &input.message.as_ref().unwrap().topic;
    for text in [&input.client_id, input.username.as_ref().unwrap(), topic] {
        assert!(
            (1000..=1024).contains(&text.len()) && text.ends_with("..."),
            "{text}"
        );
    }
    let username = records[1].input.username.as_deref();
    assert_eq!(username, Some("eyJhbGci... (a token)"));
    let topic = &records[2].input.message.as_ref().unwrap().topic;
    assert_eq!(*topic, long, "who is in is known");
    assert!(size < 200_000, "{size}");
}

#[test]
fn a_sign_in_counts_with_its_claims_and_a_message_without() {
    let claims = json!({"topics": vec!["t".repeat(100); 100], "role": {"of": "r".repeat(1000)}});
    let mut facts = Arc::into_inner(facts(1)).unwrap();
    facts.claims = Arc::new(claims.as_object().unwrap().clone());
    let message = published(Who::Session(Arc::new(facts)), "a");
    assert!(message.size() < 1000);
    let sign_in = Decided {
        path: DecisionPath::Connect,
        message: None,
        ..message
    };
    assert!(
        (11_000..20_000).contains(&sign_in.size()),
        "{}",
        sign_in.size()
    );
}

#[test]
fn what_finds_no_room_is_counted_and_told() {
    /// Starts no thread, so that nobody takes anything.
    fn never(_: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().spawn(move || {
            std::thread::park();
            drop(body);
        })
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = DecisionLog::open(&path, never, Log::default()).unwrap();
    let mut pushed = 0;
    while log.counts().left_out < 10 {
        log.push(of_session(1, &"t".repeat(60_000)));
        pushed += 1;
    }
    assert!((50..200).contains(&pushed), "{pushed}");
    let shared = Arc::clone(&log.shared);
    log.thread.as_ref().unwrap().thread().unpark();
    drop(log);

    // The thread that takes them later tells how many are missing.
    let lines = Log::default();
    let file = LogFile::open(&path).ok().unwrap();
    lock(&shared.queue).stopping = true;
    Writer::new(path.clone(), file, lines.clone()).run(&shared);
    assert_eq!(records(&path).len() as u64, pushed - 10);
    let told = lines.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0]
            .1
            .starts_with("10 decisions are missing in the decision log '"),
        "{told:?}"
    );
}

#[test]
fn a_full_disk_is_told_once_and_what_is_missing_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let lines = Log::default();
    let full = LogFile::of(File::options().append(true).open("/dev/full").unwrap());
    let start = DecisionLog::start(&path, full, threads::plain, lines.clone());
    let mut log = start.ok().unwrap();
    for i in 1..4 {
        log.push(of_session(1, "a"));
        wait_for(|| log.counts().left_out == i);
    }
    let told = lines.take();
    assert!(
        matches!(&told[..], [(Level::Error, line)] if line.contains("No space left on device")),
        "{told:?}"
    );
    // Room is made, and the file is opened again.
    log.reopen();
    log.push(of_session(1, "b"));
    log.stop();
    let told = lines.take();
    assert!(
        matches!(&told[..], [(Level::Info, line)] if line.contains("3 decisions are missing")),
        "{told:?}"
    );
    let records = records(&path);
    assert_eq!(records.len(), 1);
    assert!(
        records[0].input.claims.is_some(),
        "no line with them was written"
    );
    assert_eq!(
        log.counts(),
        DecisionLogCounts {
            written: 1,
            left_out: 3
        }
    );
}

#[test]
fn a_torn_line_takes_no_other_line_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let append = |text: &str| {
        let mut file = File::options().append(true).open(&path).unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    fs::write(&path, "{\"torn\": ").unwrap();
    let mut log = DecisionLog::open(&path, threads::plain, Log::default()).unwrap();
    log.push(of_session(1, "a/1"));
    wait_for(|| log.counts().written == 1);
    append("{\"torn too\"");
    log.reopen();
    log.push(of_session(1, "a/2"));
    log.stop();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().map(DecisionRecord::parse).collect();
    let are_whole: Vec<_> = lines.iter().map(Result::is_ok).collect();
    assert_eq!(are_whole, [false, true, false, true], "{text}");
    fs::rename(&path, &moved).unwrap();
    let mut log = DecisionLog::open(&path, threads::plain, Log::default()).unwrap();
    for topic in ["a/3", "a/4"] {
        log.push(of_session(1, topic));
        log.reopen();
    }
    log.stop();
    assert_eq!(records(&path).len(), 2, "no line is empty");
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none").join("log");
    for (path, why) in [
        (Path::new("/dev/null"), "regular file"),
        (folder.path(), "cannot be written"),
        (&missing, "cannot be written"),
    ] {
        match DecisionLog::open(path, threads::plain, Log::default()) {
            Err(OpenError::File(error)) => assert!(error.to_string().contains(why), "{error}"),
            _ => panic!("{} is opened", path.display()),
        }
    }
}

#[test]
fn a_file_that_cannot_be_opened_again_is_told_and_the_old_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let lines = Log::default();
    let mut log = DecisionLog::open(&inside.join("log"), threads::plain, lines.clone()).unwrap();
    let moved = folder.path().join("moved");
    fs::rename(&inside, &moved).unwrap();
    log.reopen();
    log.push(of_session(1, "a"));
    log.stop();
    assert_eq!(records(&moved.join("log")).len(), 1);
    let told = lines.take();
    assert!(
        matches!(&told[..], [(Level::Error, line)] if line.contains("cannot be opened again")),
        "{told:?}"
    );
}

#[test]
fn ids_are_uuids() {
    let keys = std::hash::RandomState::new();
    let id = writer::uuid(&keys, 7);
    let parts: Vec<_> = id.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
    assert!(id[14..15] == *"8" && "89ab".contains(&id[19..20]), "{id}");
    assert_ne!(id, writer::uuid(&keys, 8));
}
