//! Long random sequences of what a broker does, beside a naive model of who may do what.
//!
//! One sequence is part of `cargo test`. `FAKE_BROKER_WALK=N` plays another one: the number is the seed, and the same
//! number gives the same sequence.

use std::{
    collections::{HashMap, HashSet},
    env,
};

use fake_broker::{
    AclAccess, ClientSpec, ClientState, FakeClient, InitOptions, PluginCall, SUCCESS, alone,
};
use serde_json::json;
use testbed::{signing::shared_key, tenant::DEVICE};

use super::{RELEASE, Scene};

const STEPS: usize = 3000;
const ACCOUNTS: usize = 3;
/// The topics of an account: with its first token, and with a newer one.
const TOPICS: [[&str; 2]; ACCOUNTS] = [["t/0", "new/0"], ["t/1", "new/1"], ["t/2", "new/2"]];
/// One client ID belongs to each account, and the rest are tried by all.
const CLIENT_IDS: [&str; ACCOUNTS + 2] = ["0", "1", "2", "x", "y"];
/// The most addresses at which there are clients: the others are used again.
const ADDRESSES: usize = 24;
const RENEW: &str = "$CONTROL/auth0/v1/renew";

/// A small generator, so that a seed means the same for ever (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn choose<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// What the model knows of the client at an address.
#[derive(Clone, Debug)]
struct Guest {
    id: &'static str,
    account: usize,
    /// The topic that its token grants; `None` before it is in.
    topic: Option<&'static str>,
}

/// What a client presents.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Credential {
    Good {
        account: usize,
        newer: bool,
    },
    Forged,
    Expired,
    OtherAudience,
    Nothing,
    /// The user name under which the plugin knows somebody, and no token.
    BareName {
        account: usize,
    },
}

struct Walk {
    scene: Scene,
    dice: Dice,
    /// By account, the older and the newer one.
    tokens: [[String; 2]; ACCOUNTS],
    forged: String,
    expired: String,
    other_audience: String,
    guests: HashMap<usize, (FakeClient, Guest)>,
    /// Addresses that were freed.
    free: Vec<FakeClient>,
    /// Client IDs and accounts of sessions that expired, which no broker reports.
    expired_sessions: HashSet<(&'static str, usize)>,
    /// How often something of each kind happened, so that the walk does not check nothing.
    seen: HashMap<&'static str, usize>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let scene = Scene::quiet_with(|options: InitOptions| options.with("leeway", "0"));
        let tenant = &scene.tenant;
        let mint = |account: usize, topic: &str| {
            let mint = tenant.mint(DEVICE).claim("sub", subject(account));
            mint.claim("topics", json!([topic]))
        };
        let pair = |account: usize| TOPICS[account].map(|topic| mint(account, topic).sign());
        Self {
            tokens: std::array::from_fn(pair),
            forged: mint(0, "t/0").forged_by(&shared_key(9)).sign(),
            expired: mint(0, "t/0").lifetime(-5).sign(),
            other_audience: mint(0, "t/0").claim("aud", "another").sign(),
            scene,
            dice: Dice(seed),
            guests: HashMap::new(),
            free: Vec::new(),
            expired_sessions: HashSet::new(),
            seen: HashMap::new(),
        }
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..=4 => self.connect(),
            5 | 6 => self.disconnect(),
            7 | 8 => self.scene.broker.tick(),
            9 => self.sighup(),
            11 => self.expire(),
            12 => self.renew(),
            13 => self.stranger(),
            14 => self.retained(),
            _ => self.ask(),
        }
        self.judge_calls();
        self.notice_who_is_gone();
    }

    /// Returns an address for a new client: a freed one, as an allocator does.
    fn place(&mut self, spec: &ClientSpec) -> FakeClient {
        let is_full = self.guests.len() + self.free.len() >= ADDRESSES;
        if !self.free.is_empty() && (is_full || self.dice.one_in(2)) {
            let which = self.dice.below(self.free.len());
            let client = self.free.swap_remove(which);
            self.scene.broker.reuse(client, spec);
            self.saw("reused address");
            return client;
        }
        self.scene.broker.client(spec)
    }

    fn credential(&mut self) -> (Credential, ClientSpec, &'static str) {
        let account = self.dice.below(ACCOUNTS);
        let credential = match self.dice.below(10) {
            0 => Credential::Forged,
            1 => Credential::Expired,
            2 => Credential::OtherAudience,
            3 => Credential::Nothing,
            4 => Credential::BareName { account },
            _ => Credential::Good {
                account,
                newer: self.dice.one_in(2),
            },
        };
        let id = match self.dice.one_in(2) {
            true => CLIENT_IDS[account],
            false => self.dice.choose(&CLIENT_IDS[ACCOUNTS..]),
        };
        let spec = ClientSpec::new(id);
        let spec = match credential {
            Credential::Good { account, newer } => {
                spec.token(self.tokens[account][usize::from(newer)].as_str())
            }
            Credential::Forged => spec.token(self.forged.as_str()),
            Credential::Expired => spec.token(self.expired.as_str()),
            Credential::OtherAudience => spec.token(self.other_audience.as_str()),
            Credential::Nothing => spec,
            Credential::BareName { account } => spec.username(subject(account)),
        };
        (credential, spec, id)
    }

    fn connect(&mut self) {
        let (credential, mut spec, id) = self.credential();
        if self.dice.one_in(2) {
            spec = spec.kept();
        }
        if self.dice.one_in(3) {
            spec = spec.v5();
        }
        if self.dice.one_in(4) {
            spec = spec.websocket();
        }
        if self.dice.one_in(3) {
            spec = spec.will(self.dice.choose(&TOPICS)[0]);
        }
        if self.dice.one_in(3) {
            spec = spec.queued(self.dice.choose(&TOPICS)[0]);
        }
        let good = match credential {
            Credential::Good { account, newer } => {
                Some((account, TOPICS[account][usize::from(newer)]))
            }
            _ => {
                spec = spec.address(&format!("198.51.100.{}", self.dice.below(250) + 1));
                None
            }
        };
        let holder = self.holder(id);
        let client = self.place(&spec);
        let account = good.map_or(0, |(account, _)| account);
        let guest = Guest {
            id,
            account,
            topic: good.map(|(_, topic)| topic),
        };
        self.guests
            .insert(client.address(), (client, guest.clone()));
        let is_in = self.scene.broker.connect(client) == SUCCESS;
        let log = || format!("{credential:?} {guest:?} {holder:?}");
        match (good, holder) {
            (None, _) => assert!(!is_in, "{}", log()),
            (Some((account, _)), Some(holder)) if holder != account => {
                assert!(!is_in, "another account has this client ID: {}", log());
                self.saw("refused takeover");
            }
            // An ID that only one account uses is free or its own.
            _ if id == CLIENT_IDS[account] => {
                assert!(is_in, "{} {:#?}", log(), self.scene.broker.log());
            }
            _ => {}
        }
        if !is_in {
            // Its rights count for nothing, whatever is asked about it.
            let place = self
                .guests
                .get_mut(&client.address())
                .expect("it was added");
            place.1.topic = None;
        }
        self.saw(if is_in { "admitted" } else { "refused" });
    }

    /// Returns the account that certainly has this client ID.
    fn holder(&self, id: &str) -> Option<usize> {
        let mut guests = self.guests.values().filter(|(client, guest)| {
            guest.id == id
                && matches!(
                    self.scene.broker.state(*client),
                    ClientState::Connected | ClientState::Offline
                )
        });
        guests.next().map(|(_, guest)| guest.account)
    }

    fn some_guest(&mut self, state: ClientState) -> Option<(FakeClient, Guest)> {
        let broker = &self.scene.broker;
        let there = self
            .guests
            .values()
            .filter(|(client, _)| broker.state(*client) == state);
        let mut there: Vec<_> = there.cloned().collect();
        there.sort_by_key(|(client, guest)| (guest.id, client.address()));
        if there.is_empty() {
            return None;
        }
        let which = self.dice.below(there.len());
        Some(there.swap_remove(which))
    }

    fn disconnect(&mut self) {
        if let Some((client, _)) = self.some_guest(ClientState::Connected) {
            self.scene.broker.disconnect(client);
        }
    }

    fn expire(&mut self) {
        if let Some((client, guest)) = self.some_guest(ClientState::Offline) {
            self.scene.broker.expire(client);
            self.expired_sessions.insert((guest.id, guest.account));
            self.saw("expired session");
        }
    }

    /// Nobody who is in is disconnected: nothing has changed.
    fn sighup(&mut self) {
        let is_in = |walk: &Self| {
            let broker = &walk.scene.broker;
            let guests = walk.guests.values();
            let connected =
                guests.filter(|(client, _)| broker.state(*client) == ClientState::Connected);
            connected.count()
        };
        let before = is_in(self);
        self.scene.broker.sighup();
        assert_eq!(is_in(self), before, "{:#?}", self.scene.broker.log());
        self.saw("sighup");
    }

    fn renew(&mut self) {
        let Some((client, guest)) = self.some_guest(ClientState::Connected) else {
            return;
        };
        let (account, newer) = (self.dice.below(ACCOUNTS), self.dice.one_in(2));
        let is_forged = self.dice.one_in(5);
        let token = match is_forged {
            true => self.forged.clone(),
            false => self.tokens[account][usize::from(newer)].clone(),
        };
        self.scene.broker.sent();
        self.scene.broker.control(client, RENEW, token);
        let sent = self.scene.broker.sent();
        let is_renewed = sent
            .iter()
            .any(|one| one.payload.contains(r#""result":"renewed""#));
        assert!(sent.iter().all(|one| one.client_id == guest.id), "{sent:?}");
        if is_renewed {
            assert!(!is_forged && account == guest.account, "{guest:?} {sent:?}");
            let topic = Some(TOPICS[account][usize::from(newer)]);
            let place = self.guests.get_mut(&client.address()).expect("it is there");
            place.1.topic = topic;
        }
        self.saw(if is_renewed { "renewed" } else { "not renewed" });
    }

    /// A client at the address of another one, with its client ID and name, of which the plugin was told nothing. (If
    /// there is a session with both, it may be the broker that asks about that session with a temporary client.)
    fn stranger(&mut self) {
        let (id, account) = (self.dice.choose(&CLIENT_IDS), self.dice.below(ACCOUNTS));
        if self.holder(id) == Some(account) || self.expired_sessions.contains(&(id, account)) {
            return;
        }
        let Some(client) = self.free.pop() else {
            return;
        };
        let spec = ClientSpec::new(id).username(subject(account));
        self.scene.broker.reuse(client, &spec);
        for access in AclAccess::ALL {
            for topic in TOPICS[account] {
                let allowed = self.scene.broker.allows(client, access, topic);
                assert!(!allowed, "{access:?} {topic} {id}");
            }
        }
        self.scene.broker.asked();
        self.free.push(client);
        self.saw("stranger");
    }

    fn retained(&mut self) {
        if let Some((client, guest)) = self.some_guest(ClientState::Connected) {
            let topic = self.dice.choose(&self.dice_topics());
            let allowed = self.scene.broker.retain_source(client, topic) == SUCCESS;
            assert_eq!(allowed, guest.topic == Some(topic), "{guest:?} {topic}");
            // The temporary client on the broker's stack is none of ours.
            self.scene.broker.asked();
        }
    }

    fn dice_topics(&self) -> [&'static str; 2 * ACCOUNTS] {
        let [[a, b], [c, d], [e, f]] = TOPICS;
        [a, b, c, d, e, f]
    }

    /// The broker asks about a session: about everything while its client is there, and otherwise about what is queued.
    fn ask(&mut self) {
        let state = self.dice.choose(&[
            ClientState::Connected,
            ClientState::Connected,
            ClientState::Offline,
        ]);
        let Some((client, guest)) = self.some_guest(state) else {
            return;
        };
        let access = match state {
            ClientState::Offline => AclAccess::Read,
            _ => self
                .dice
                .choose(&[AclAccess::Read, AclAccess::Write, AclAccess::Subscribe]),
        };
        let topic = self.dice.choose(&self.dice_topics());
        let allowed = self.scene.broker.allows(client, access, topic);
        assert_eq!(
            allowed,
            guest.topic == Some(topic),
            "{state:?} {access:?} {topic} {guest:?}"
        );
        self.saw(if allowed { "allowed" } else { "denied" });
    }

    /// Whatever the broker asked meanwhile: nobody was granted what is not theirs.
    fn judge_calls(&mut self) {
        for call in self.scene.broker.asked() {
            let PluginCall::Acl(client, access, topic, SUCCESS) = call else {
                continue;
            };
            if access == AclAccess::Unsubscribe || topic == RENEW {
                continue;
            }
            let guest = self.guests.get(&client.address()).map(|(_, guest)| guest);
            let may = guest.and_then(|guest| guest.topic);
            assert_eq!(may, Some(topic.as_str()), "{access:?} {guest:?}");
        }
        self.scene.broker.forget_log();
    }

    /// The addresses of clients that are gone may be used again after the next round of the loop.
    fn notice_who_is_gone(&mut self) {
        if !self.dice.one_in(4) {
            return;
        }
        self.scene.broker.tick();
        // The late disconnect event of a websocket comes at the end of a round.
        self.scene.broker.tick();
        let broker = &self.scene.broker;
        let gone = self
            .guests
            .extract_if(|_, (client, _)| broker.state(*client) == ClientState::Gone);
        let mut gone: Vec<_> = gone.map(|(_, (client, _))| client).collect();
        gone.sort_by_key(|client| client.address());
        self.free.extend(gone);
        self.judge_calls();
    }
}

fn subject(account: usize) -> String {
    format!("auth0|{account}")
}

#[test]
fn a_random_walk_grants_nothing_that_the_model_does_not() {
    alone(|| {
        let seed = env::var("FAKE_BROKER_WALK").map_or(1, |seed| seed.parse().expect("a number"));
        let mut walk = Walk::new(seed);
        for _ in 0..STEPS {
            walk.step();
        }
        for what in [
            "admitted",
            "refused",
            "refused takeover",
            "allowed",
            "denied",
            "reused address",
            "stranger",
            "expired session",
            "renewed",
            "not renewed",
            "sighup",
        ] {
            let times = walk.seen.get(what).copied().unwrap_or_default();
            assert!(times > 5, "{what}: {:?} {RELEASE:?}", walk.seen);
        }
        walk.scene.broker.cleanup();
    });
}
