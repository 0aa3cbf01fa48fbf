//! `can` agrees with a real broker: random rules, random devices, random questions.
//!
//! A broker gets a policy file that allows everything, and some devices subscribe to everything. Then it gets random
//! rules. From there on each message that is published shows what each of these devices may receive, and others publish
//! and subscribe. `AGREEMENT` is the number of questions for each broker (480 without it), and `AGREEMENT_SEED` draws
//! others.

mod common;

use std::{collections::HashSet, env, fs, path::Path, time::Duration};

use common::auth0;
use serde_json::{Value, json};
use testbed::{
    broker::{Mosquitto, Version},
    clients::{
        Protocol,
        raw::{ConnectPacket, Properties, RawClient},
    },
    signing::{Alg, now, shared_key},
};

const ISSUER: &str = "https://t.example/";
const AUDIENCE: &str = "https://mqtt.example/";

/// How many devices publish and subscribe, and how many receive.
const DEVICES: usize = 8;

/// A rule by which the test itself sees and publishes everything.
const WATCHER: &str = "[[rule]]\nname = \"watcher\"\npriority = 1000\nwhen.client_id = \"watcher\"\n\
                       allow.both = [\"#\", \"$x/#\"]\n";

/// Random numbers that can be had again (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn happens(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn topic(&mut self) -> String {
        let first = self.one(&["a", "b", "dev", "", "$x"]);
        let names = ["a", "b", "c", "north", "south", "d0", "d1", "r1"];
        let more = (0..self.below(4)).map(|_| format!("/{}", self.one(&names)));
        let topic = format!("{first}{}", more.collect::<String>());
        if topic.is_empty() {
            "/".to_owned()
        } else {
            topic
        }
    }

    /// Returns a filter; with placeholders where rules may have them.
    fn filter(&mut self, placeholders: bool) -> String {
        let mut levels: Vec<String> = self.topic().split('/').map(str::to_owned).collect();
        for (place, level) in levels.iter_mut().enumerate() {
            if self.happens(4) {
                *level = "+".into();
            } else if placeholders && place > 0 && self.happens(4) {
                *level = self
                    .one(&["%c", "%u", "${site}", "${zones[*]}", "n-${site}"])
                    .into();
            }
        }
        // At most one list may be in a filter.
        let mut lists = 0;
        for level in &mut levels {
            lists += usize::from(level.contains("[*]"));
            if lists > 1 {
                *level = "x".into();
            }
        }
        if self.happens(3) {
            levels.push("#".into());
        }
        levels.join("/")
    }

    fn policy(&mut self) -> String {
        let rule = |number| {
            let word = if self.happens(3) { "deny" } else { "allow" };
            let action = self.one(&["publish", "subscribe", "both", "both"]);
            let filters: Vec<_> = (0..=self.below(2))
                .map(|_| {
                    let eq = if self.happens(8) { "eq " } else { "" };
                    json!(format!("{eq}{}", self.filter(true)))
                })
                .collect();
            let mut text = format!(
                "[[rule]]\nname = \"{number}\"\n{word}.{action} = {}\n",
                Value::from(filters)
            );
            if self.happens(3) {
                let when = self.one(&[
                    "permission = \"keep\"",
                    "permission = [\"keep\", \"water\"]",
                    "claim = { name = \"site\", is = \"north\" }",
                    "claim = { name = \"zones\", has = \"a\" }",
                    "client_id = [\"d*\", \"r1\"]",
                    "network = \"127.0.0.0/8\"",
                    "network = \"10.0.0.0/8\"",
                    "time = \"00:00-24:00\"",
                ]);
                text += &format!("when = {{ {when} }}\n");
            }
            if self.happens(4) {
                text += &format!("qos = {}\n", self.one(&["0", "[0, 1]", "[1, 2]"]));
            }
            if action == "publish" && self.happens(3) {
                text += &format!("retain = {}\n", self.one(&["true", "false"]));
            }
            if word == "allow" && action != "subscribe" && self.happens(4) {
                text += &format!("max_payload = {}\n", self.one(&["10", "30"]));
            }
            if self.happens(5) {
                text += &format!("priority = {}\n", self.one(&["-1", "1", "2"]));
            }
            text
        };
        (0..24).map(rule).collect()
    }

    fn claims(&mut self) -> Value {
        let mut permissions: Vec<_> = ["keep", "water"]
            .into_iter()
            .filter(|_| self.happens(2))
            .collect::<Vec<_>>()
            .into_iter()
            .map(str::to_owned)
            .collect();
        for _ in 0..self.below(3) {
            let verb = self.one(&["publish", "subscribe", "pubsub"]);
            permissions.push(format!("{verb}:{}", self.filter(false)));
        }
        let rule = |random: &mut Self| {
            json!({
                "permission": random.one(&["allow", "allow", "deny"]), "action": random.one(&["publish", "subscribe", "all"]),
                "topic": random.filter(false), "qos": if random.happens(3) { json!([0, 1]) } else { json!([0, 1, 2]) },
            })
        };
        let topics: Vec<_> = match self.happens(2) {
            true => (0..self.below(3)).map(|_| rule(self)).collect(),
            false => (0..self.below(3))
                .map(|_| json!(self.filter(false)))
                .collect(),
        };
        json!({
            "site": self.one(&["north", "south"]), "zones": ["a", self.one(&["b", "c"])],
            "permissions": permissions, "topics": topics,
        })
    }

    fn question(&mut self, number: usize) -> Asked {
        if self.happens(2) {
            let filter = match self.happens(6) {
                true => format!("$share/g/{}", self.filter(false)),
                false => self.filter(false),
            };
            let qos = self.below(3) as u8;
            return Asked {
                line: format!("subscribe --qos {qos} {filter}"),
                topic: filter,
                qos,
                retain: false,
                payload: String::new(),
            };
        }
        let (qos, retain) = (self.below(3) as u8, self.happens(4));
        let width = [8, 20, 50][self.below(3)];
        let topic = match self.happens(20) {
            true => "$SYS/x".to_owned(),
            false => self.topic(),
        };
        let flag = if retain { "--retain " } else { "" };
        Asked {
            line: format!("publish --qos {qos} {flag}--payload-bytes {width} {topic}"),
            topic,
            qos,
            retain,
            payload: format!("{number:0width$}"),
        }
    }
}

/// A question to a device that publishes and subscribes.
struct Asked {
    line: String,
    topic: String,
    qos: u8,
    retain: bool,
    payload: String,
}

struct Device {
    client_id: String,
    token: String,
    client: RawClient,
}

impl Device {
    fn connect(broker: &Mosquitto, client_id: &str, claims: &Value) -> Self {
        let mut all = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": format!("u-{client_id}"), "exp": now() + 3600});
        all.as_object_mut()
            .unwrap()
            .extend(claims.as_object().unwrap().clone());
        let header = json!({"alg": "RS256", "kid": shared_key(0).kid()});
        let token = shared_key(0).sign(Alg::Rs256, header, all);
        let packet = ConnectPacket::new(Protocol::V5, client_id).login("JWT", &token);
        let client = RawClient::connect(broker.port(), &packet);
        Self {
            client_id: client_id.to_owned(),
            token,
            client: client.unwrap_or_else(|why| panic!("{client_id}: {why:?}\n{}", broker.log())),
        }
    }

    /// Returns what the tool says to these questions.
    fn predicted(&self, conf: &Path, folder: &Path, port: u16, lines: &[String]) -> Vec<bool> {
        let (token, questions) = (folder.join("token"), folder.join("questions"));
        fs::write(&token, &self.token).unwrap();
        fs::write(&questions, lines.join("\n")).unwrap();
        let [conf, token, questions] =
            [conf, &token, &questions].map(|path| path.to_str().unwrap());
        let said = auth0(&[
            "can",
            conf,
            "--token",
            token,
            "--client-id",
            &self.client_id,
            "--port",
            &port.to_string(),
            "--offline",
            "--questions",
            questions,
            "--json",
        ])
        .json();
        assert_eq!(said["refused"], Value::Null, "{said:#}");
        let answers = said["answers"]
            .as_array()
            .unwrap_or_else(|| panic!("{said:#}"))
            .iter();
        let allowed: Vec<_> = answers
            .map(|answer| answer["decision"] == "allow")
            .collect();
        assert_eq!(allowed.len(), lines.len());
        allowed
    }
}

/// Returns the payloads of the messages that a client has.
fn received(client: &mut RawClient) -> HashSet<String> {
    let messages = client.messages_before_pong().unwrap();
    messages.iter().map(|message| message.text()).collect()
}

/// Whether the broker lets a device do something. `watcher` sees all messages.
fn does(device: &mut Device, watcher: &mut Device, asked: &Asked) -> bool {
    let (topic, client) = (asked.topic.as_str(), &mut device.client);
    if asked.payload.is_empty() {
        let code = client.subscribe(&[(topic, asked.qos)]).unwrap()[0];
        client.unsubscribe(&[topic]).unwrap();
        client.messages_before_pong().unwrap();
        return code < 0x80;
    }
    let code = client.publish_with(
        topic,
        &asked.payload,
        asked.qos,
        asked.retain,
        &Properties::new(),
    );
    let code = code.unwrap();
    client.ping().unwrap();
    let arrived = received(&mut watcher.client).contains(&asked.payload);
    assert!(
        asked.qos == 0 || arrived == (code < 0x80),
        "{}: {code:#x}",
        asked.line
    );
    arrived
}

/// The longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn agrees_on(version: Version, questions: usize, seed: u64) {
    println!("{version}: AGREEMENT_SEED={seed}");
    // Zero would stay zero.
    let mut random = Random(2 * seed + 1);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (keys, policy) = (file("keys.json"), file("policy.toml"));
    fs::write(&keys, json!({"keys": [shared_key(0).jwk()]}).to_string()).unwrap();
    let all = "[[rule]]\nname = \"all\"\nallow.both = [\"#\", \"$x/#\"]\n";
    fs::write(&policy, all).unwrap();
    let options = [
        ("issuer", ISSUER),
        ("audience", AUDIENCE),
        ("jwks_file", &keys),
        ("policy_file", &policy),
        ("topics_claim", "topics"),
        ("rights", "topics,permissions"),
    ];
    let broker = Mosquitto::builder(version).plugin(testbed::plugin::file(), &options);
    let broker = broker.start().unwrap();
    let conf = broker.folder().join("mosquitto.conf");

    let mut watcher = Device::connect(&broker, "watcher", &json!({"site": "north", "zones": []}));
    let mut connect = |kind: &str| -> Vec<Device> {
        let names = (0..DEVICES).map(|number| format!("{kind}{number}"));
        names
            .map(|name| Device::connect(&broker, &name, &random.claims()))
            .collect()
    };
    let (mut actors, mut receivers) = (connect("d"), connect("r"));
    for device in receivers.iter_mut().chain([&mut watcher]) {
        let codes = device.client.subscribe(&[("#", 0), ("$x/#", 0)]).unwrap();
        assert_eq!(codes, [0, 0]);
    }
    fs::write(&policy, format!("{WATCHER}{}", random.policy())).unwrap();
    let mark = broker.log_mark();
    broker.reload();
    let line = broker.wait_for_log_after(mark, "configuration generation", PATIENCE);
    assert!(
        line.is_some_and(|line| line.contains("generation 2 is in force")),
        "{}",
        broker.log()
    );

    let mut allowed = 0;
    let mut compare = |device: &Device, lines: &[String], did: &[bool]| {
        let predicted = device.predicted(&conf, folder.path(), broker.port(), lines);
        for ((line, predicted), did) in lines.iter().zip(predicted).zip(did) {
            allowed += usize::from(*did);
            let (name, rules) = (&device.client_id, fs::read_to_string(&policy).unwrap());
            assert_eq!(
                predicted, *did,
                "{version}, seed {seed}: {name}: {line}\n{}\n{rules}",
                device.token
            );
        }
    };
    let (each, mut number) = (questions / 2 / DEVICES, 0);
    for actor in &mut actors {
        let asked: Vec<_> = (0..each)
            .map(|_| {
                number += 1;
                random.question(number)
            })
            .collect();
        let did: Vec<_> = asked
            .iter()
            .map(|asked| does(actor, &mut watcher, asked))
            .collect();
        let lines: Vec<_> = asked.into_iter().map(|asked| asked.line).collect();
        compare(actor, &lines, &did);
    }
    for receiver in &mut receivers {
        received(&mut receiver.client);
    }
    let topics: Vec<_> = (0..each).map(|_| random.topic()).collect();
    let mut did = vec![Vec::new(); DEVICES];
    for topic in &topics {
        number += 1;
        let payload = format!("r{number}");
        watcher.client.publish(topic, &payload, 1).unwrap();
        for (receiver, did) in receivers.iter_mut().zip(&mut did) {
            did.push(received(&mut receiver.client).contains(&payload));
        }
    }
    let lines: Vec<_> = topics
        .iter()
        .map(|topic| format!("receive {topic}"))
        .collect();
    for (receiver, did) in receivers.iter().zip(&did) {
        compare(receiver, &lines, did);
    }
    // Else the test would show nothing.
    assert!(
        (1..questions).contains(&allowed),
        "{allowed} of {questions} were allowed"
    );
    println!(
        "{version}: {} questions, {allowed} allowed",
        2 * each * DEVICES
    );
}

fn agrees(version: Version) {
    let number = |name, default| env::var(name).map_or(default, |value| value.parse().unwrap());
    let most = number("AGREEMENT", 480) as usize;
    // Rules and devices are drawn anew for each part, because one draw says little.
    let parts = most.div_ceil(480);
    for part in 0..parts as u64 {
        agrees_on(version, most / parts, number("AGREEMENT_SEED", 7) + part);
    }
}

#[test]
fn can_agrees_with_2_0_11() {
    agrees(Version::V2_0_11);
}

#[test]
fn can_agrees_with_2_0_21() {
    agrees(Version::V2_0_21);
}

#[test]
fn can_agrees_with_2_1_2() {
    agrees(Version::V2_1_2);
}
