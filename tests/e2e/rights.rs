//! Rules from every kind of claim and from the policy file, on every path to the broker.

use std::{
    fs,
    time::{Duration, Instant},
};

use auth::secret::sha256;
use serde_json::{Value, json};
use testbed::{
    broker::{Listener, Mosquitto, Version},
    clients::{
        MosquittoClient, Protocol,
        raw::{self, Properties},
    },
    pki::Authority,
    tenant::{DEVICE, Device, Tenant},
};

use crate::{helpers::*, on_each_broker, renewal::renew};

const DENIED: u8 = 0x87;

/// Starts a broker with this policy file.
fn with_policy(version: Version, tenant: &Tenant, policy: &str) -> (Mosquitto, std::path::PathBuf) {
    let builder = Mosquitto::builder(version);
    let path = builder.folder().join("policy.toml");
    fs::write(&path, policy).unwrap();
    let options = PluginOptions::tokens(tenant)
        .with("policy_file", path.to_str().unwrap())
        .with("leeway", "0");
    let broker = builder.plugin(plugin(), &options.pairs()).start();
    (broker.unwrap_or_else(|e| panic!("{version}: {e}")), path)
}

/// Connects a device with its own claims, with MQTT 5, which reports refusals.
fn connected(
    broker: &Mosquitto,
    tenant: &Tenant,
    name: &str,
    claims: &[(&str, Value)],
) -> raw::RawClient {
    let mut device = Device::new(name, "pass");
    for (claim, value) in claims {
        device = device.claim(claim, value.clone());
    }
    tenant.add_device(device);
    raw(broker, tenant, name, name, Protocol::V5)
}

/// Publishes with QoS 1 and checks the reason code. Whether a subscriber gets the message is not checked
/// here.
#[track_caller]
fn publishes(client: &mut raw::RawClient, topic: &str, allowed: bool) {
    let code = client.publish(topic, "x", 1).unwrap();
    assert_eq!(code != DENIED, allowed, "{topic}: {code:#x}");
}

#[track_caller]
fn subscribes(client: &mut raw::RawClient, filter: &str, allowed: bool) {
    let code = client.subscribe(&[(filter, 1)]).unwrap()[0];
    assert_eq!(code, if allowed { 1 } else { DENIED }, "{filter}");
}

on_each_broker! {
    fn publish_and_subscribe_rights_are_separate(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        device(&tenant, "pump", json!({"publish": ["state/pump"], "subscribe": ["command/pump/#"]}));
        let mut pump = raw(&broker, &tenant, "pump", "pump", Protocol::V5);
        publishes(&mut pump, "state/pump", true);
        publishes(&mut pump, "command/pump/on", false);
        subscribes(&mut pump, "command/pump/#", true);
        subscribes(&mut pump, "state/pump", false);
        let line = expect_refusal(&broker, "'pump'", "not-granted");
        assert!(line.contains("'command/pump/on' is not allowed: no rule applies"), "{line}");
    }

    /// The example of EMQX's page on the `acl` claim, in a token whose claim has that name.
    fn an_emqx_acl_claim_is_understood(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant).with("topics_claim", "acl").with("claim_placeholders", "true"));
        let acl = json!([
            {"permission": "allow", "action": "publish", "topic": "up/${clientid}"},
            {"permission": "allow", "action": "subscribe", "topic": "eq down/1/#", "qos": [1]},
            {"permission": "deny", "action": "publish", "topic": "state", "retain": true},
            {"permission": "deny", "action": "all", "topic": "closed"},
            {"permission": "allow", "action": "all", "topics": ["state", "closed"]},
        ]);
        let mut pump = connected(&broker, &tenant, "pump", &[("acl", acl)]);
        publishes(&mut pump, "up/pump", true);
        publishes(&mut pump, "up/other", false);
        subscribes(&mut pump, "down/1/#", true);
        subscribes(&mut pump, "down/1/x", false);
        assert_eq!(pump.subscribe(&[("down/1/#", 0)]), Ok(vec![DENIED]));
        publishes(&mut pump, "state", true);
        assert_eq!(pump.publish_with("state", "x", 1, true, &Properties::new()), Ok(DENIED));
        publishes(&mut pump, "closed", false);
        subscribes(&mut pump, "closed", false);

        let mut watcher = connected(&broker, &tenant, "sender", &[("acl", json!(["#"]))]);
        watcher.publish("down/1/x", "it comes", 1).unwrap();
        assert_eq!(pump.next_message(PATIENCE).unwrap().text(), "it comes");

        // Conditions on the client.
        let acl = json!([
            {"permission": "deny", "action": "all", "topic": "far", "ipaddr": "127.0.0.0/8"},
            {"permission": "allow", "action": "all", "topic": "near", "ipaddr": "127.0.0.1"},
            {"permission": "allow", "action": "all", "topic": "far", "clientid_re": "^fan-[0-9]+$"},
            {"permission": "allow", "action": "all", "topic": "open", "clientid_re": "^fan-[0-9]+$", "username_re": "^auth0.[0-9a-f]+$"},
        ]);
        let mut fan = connected(&broker, &tenant, "fan-1", &[("acl", acl)]);
        publishes(&mut fan, "near", true);
        publishes(&mut fan, "far", false);
        publishes(&mut fan, "open", true);

        // A rule with a member that is not supported is refused as a whole.
        let acl = json!([{"permission": "allow", "action": "all", "topic": "#", "zone": "external"}]);
        tenant.add_device(Device::new("more", "pass").claim("acl", acl));
        let connect = token_connect(Protocol::V5, "more", &tenant.token("more"));
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, DENIED));
        assert!(expect_refusal(&broker, "'more'", "token-topics").contains("'zone'"));
    }

    /// Auth0's Application Metadata can hold texts only.
    fn the_topics_claim_may_be_json_in_a_string(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let mut pump = connected(&broker, &tenant, "pump", &[("topics", json!(r#"["temperature","config"]"#))]);
        publishes(&mut pump, "temperature", true);
        publishes(&mut pump, r#"["temperature""#, false);
        subscribes(&mut pump, "config", true);
    }

    /// An entry that is not a filter is not granted as a topic of that name.
    fn an_invalid_filter_in_a_claim_refuses_the_token(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        for (id, claim, value, part) in [
            ("placeholder", "topics", json!(["up/%c"]), "claim_placeholders is false; set it to true"),
            ("emqx", "topics", json!(["up/${clientid}"]), "claim_placeholders is false; set it to true"),
            ("verb", "topics", json!(["publish:up"]), "which counts in permissions and scopes"),
            ("half", "topics", json!(r#"["up""#), "looks like a list"),
            ("quotes", "topics", json!("'up','down'"), "begins with `'`"),
            ("permission", "permissions", json!(["publish:up/%u"]), "claim_placeholders is false; set it to true"),
        ] {
            let token = tenant.mint(testbed::tenant::DEVICE).claim(claim, value).sign();
            for protocol in [Protocol::V311, Protocol::V5] {
                let connect = token_connect(protocol, id, &token);
                assert_eq!(answer(&broker, &connect), expected_refusal(version, protocol, DENIED), "{id}");
            }
            let line = broker.wait_for_log(&format!("'{id}'"), PATIENCE).unwrap();
            assert!(line.contains("[token-topics]") && line.contains(part), "{line}");
        }
    }

    fn permissions_and_scopes_give_rights(version) {
        let tenant = tenant();
        let broker = broker(version, &PluginOptions::tokens(&tenant));
        let granted = json!(["publish:a/+", "subscribe:b", "read:users", "pubsub:c"]);
        let mut pump = connected(&broker, &tenant, "pump", &[("permissions", granted.clone())]);
        for (topic, publish, subscribe) in [
            ("a/x", true, false),
            ("b", false, true),
            ("c", true, true),
            ("d", false, false),
        ] {
            publishes(&mut pump, topic, publish);
            subscribes(&mut pump, topic, subscribe);
        }

        let scope = |broker: &Mosquitto| {
            let token = tenant.mint("pump").claim("scope", "openid publish:s").sign();
            raw::RawClient::connect(broker.port(), &token_connect(Protocol::V5, "scope", &token)).unwrap()
        };
        // An application may ask for any scope, so scopes count only if the operator says so.
        publishes(&mut scope(&broker), "s", false);
        let options = PluginOptions::tokens(&tenant).with("rights", "scope").with("permission_verbs", "publish,read,both");
        let broker = crate::helpers::broker(version, &options);
        let mut scoped = scope(&broker);
        publishes(&mut scoped, "s", true);
        publishes(&mut scoped, "a/x", false);
    }

    /// Denials, limits, placeholders, roles, and which rule decides.
    fn policy_file_rules_apply(version) {
        let tenant = tenant();
        let (broker, _) = with_policy(version, &tenant, r##"
            roles_claim = "https://mqtt.example/roles"
            [[rule]]
            name = "own state"
            allow = { publish = ["state/%c"], subscribe = ["command/%c/#", "site/${https://mqtt.example/sites[*]}/news"] }
            qos = [0, 1]
            retain = false
            max_payload = 10
            [[rule]]
            name = "gardeners"
            when.role = "gardener"
            allow.both = "valves/#"
            [[rule]]
            name = "not the main valve"
            priority = 1
            deny.both = "valves/main"
            [[rule]]
            name = "in the end"
            priority = -1
            deny.both = "#"
        "##);
        let sites = |list: &[&str]| ("https://mqtt.example/sites", json!(list));
        let roles = ("https://mqtt.example/roles", json!(["gardener"]));
        let mut pump = connected(&broker, &tenant, "pump", &[sites(&["north", "south"]), roles]);
        publishes(&mut pump, "state/pump", true);
        publishes(&mut pump, "state/other", false);
        subscribes(&mut pump, "command/pump/#", true);
        subscribes(&mut pump, "site/south/news", true);
        subscribes(&mut pump, "site/west/news", false);
        publishes(&mut pump, "valves/7", true);
        publishes(&mut pump, "valves/main", false);
        // A part of the subscription is denied, and messages of that part are not delivered.
        subscribes(&mut pump, "valves/#", true);
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V5);
        publishes(&mut watcher, "valves/main", false);
        publishes(&mut watcher, "valves/8", true);
        assert_eq!(pump.next_message(PATIENCE).unwrap().topic, "valves/8");

        for (topic, payload, qos, retain, why) in [
            ("state/pump", "x", 2, false, "but not with QoS 2"),
            ("state/pump", "x", 1, true, "but not with the retain flag"),
            ("state/pump", "eleven byte", 1, false, "its payload has 11 bytes, more than the 10 that rule 'own state' of the policy file allows"),
            ("valves/main", "x", 1, false, "rule 'not the main valve' of the policy file denies it"),
            ("else", "x", 1, false, "rule 'in the end' of the policy file denies it"),
        ] {
            // Each refusal is logged once for a connection, and an immediate repetition is only counted.
            let mut fresh = raw(&broker, &tenant, "pump", "pump", Protocol::V5);
            assert_eq!(fresh.publish_with(topic, payload, qos, retain, &Properties::new()), Ok(DENIED));
            assert!(broker.wait_for_log(why, PATIENCE).is_some(), "{why}: {}", broker.log());
        }
        assert_eq!(pump_subscribe_qos2(&broker, &tenant), DENIED);

        let mut guest = connected(&broker, &tenant, "guest", &[sites(&[])]);
        publishes(&mut guest, "valves/7", false);
        publishes(&mut guest, "state/guest", true);
    }

    /// A client chooses its client ID: it must not act as a wildcard, nor escape a denial.
    fn a_client_id_never_acts_as_a_wildcard(version) {
        let tenant = tenant();
        let (broker, _) = with_policy(version, &tenant, "[[rule]]\nname = \"own\"\nallow.both = \"dev/%c/#\"\n[[rule]]\nname = \"front\"\nallow.both = \"%c/x\"");
        tenant.add_device(Device::new("pump", "pass"));
        for id in ["+", "#", "a/b", "$SYS"] {
            let mut client = raw(&broker, &tenant, "pump", id, Protocol::V5);
            for filter in ["dev/+/#", "dev/#", "dev/a/b/#", "$SYS/x"] {
                subscribes(&mut client, filter, id == "$SYS" && filter == "dev/$SYS/#");
            }
            publishes(&mut client, "dev/a/x", false);
        }
        drop(broker);

        let (broker, _) = with_policy(version, &tenant, "[[rule]]\nname = \"not its own\"\ndeny.publish = \"config/%c\"\n[[rule]]\nname = \"all\"\nallow.both = \"#\"");
        let connect = token_connect(Protocol::V5, "a/b", &tenant.token("pump"));
        assert_eq!(answer(&broker, &connect), expected_refusal(version, Protocol::V5, DENIED));
        let line = expect_refusal(&broker, "'a/b'", "policy-value");
        assert!(line.contains("rule 'not its own' of the policy file: its client ID is 'a/b'"), "{line}");
        let connect = token_connect(Protocol::V5, "a", &tenant.token("pump"));
        assert_eq!(answer(&broker, &connect), None);
    }

    /// A requirement decides who comes in, at a CONNECT and at a renewal, and its message is told. It is no rule.
    fn a_requirement_is_checked_at_sign_in(version) {
        let tenant = tenant();
        let required = "[[require]]\nname = \"site\"\nthat.claim = { name = \"site\", is = \"north\" }\nmessage = \"only the north is served here\"";
        let (broker, path) = with_policy(version, &tenant, required);
        let token = |site: &str| tenant.mint(DEVICE).claim("topics", json!(["a"])).claim("site", json!(site)).sign();
        let connect = |site: &str| token_connect(Protocol::V5, "pump", &token(site));
        assert_eq!(answer(&broker, &connect("south")), expected_refusal(version, Protocol::V5, DENIED));
        let line = expect_refusal(&broker, "'pump'", "claim-required");
        assert!(line.contains("requirement 'site'") && line.contains(": only the north is served here; fix: "), "{line}");

        let mut pump = raw::RawClient::connect(broker.port(), &connect("north")).unwrap();
        publishes(&mut pump, "a", true);
        publishes(&mut pump, "b", false);
        let answered = renew(&mut pump, token("south"));
        assert_eq!((&answered["result"], &answered["reason"]), (&json!("refused"), &json!("claim-required")), "{answered}");
        assert!(answered["error"].as_str().unwrap().contains("only the north is served here"), "{answered}");
        publishes(&mut pump, "a", true);

        // Who is in stays in, also when the file asks for more.
        fs::write(&path, required.replace("north", "west")).unwrap();
        broker.sighup();
        assert!(broker.wait_for_log("(the policy file has 0 rules and 1 requirements)", PATIENCE).is_some());
        publishes(&mut pump, "a", true);
        assert_eq!(answer(&broker, &connect("north")), expected_refusal(version, Protocol::V5, DENIED));
        assert_eq!(answer(&broker, &connect("west")), None);
    }

    /// On SIGHUP the rights of connected clients change at once, and a file with a mistake changes nothing.
    fn sighup_reloads_the_policy_file(version) {
        let tenant = tenant();
        let (broker, path) = with_policy(version, &tenant, "[[rule]]\nname = \"old\"\nallow.both = \"old\"");
        let mut pump = connected(&broker, &tenant, "pump", &[("site", json!("north"))]);
        subscribes(&mut pump, "old", true);
        publishes(&mut pump, "new/north", false);

        fs::write(&path, "[[rule]]\nname = \"new\"\nallow.both = \"new/${site}\"").unwrap();
        broker.sighup();
        assert!(broker.wait_for_log("configuration generation 2 is in force: changed are policy_file (the policy file has 1 rules)", PATIENCE).is_some());
        publishes(&mut pump, "new/north", true);
        publishes(&mut pump, "old", false);
        // The client stays subscribed, and messages are no longer delivered.
        let mut watcher = raw(&broker, &tenant, WATCHER, "watcher", Protocol::V5);
        watcher.publish("old", "no", 1).unwrap();
        assert_eq!(pump.messages_before_pong(), Ok(vec![]));

        fs::write(&path, "[[rule]]\nname = \"new\"\n\nallow.both = \"new/#/x\"").unwrap();
        broker.sighup();
        let line = broker.wait_for_log("configuration generation 2 stays in force", PATIENCE).unwrap();
        assert!(line.contains("option policy_file, value '") && line.contains("line 4, rule 'new': the filter 'new/#/x' has a `#`"), "{line}");
        publishes(&mut pump, "new/north", true);
    }

    /// A large policy file is read beside the broker's thread. Meanwhile clients are served by the old rules, SIGHUP
    /// may come again, and the broker may be stopped.
    fn a_large_policy_file_keeps_nobody_waiting(version) {
        let tenant = tenant();
        let (broker, path) = with_policy(version, &tenant, "[[rule]]\nname = \"old\"\nallow.both = \"old\"");
        let mut pump = connected(&broker, &tenant, "pump", &[]);
        publishes(&mut pump, "old", true);

        const RULES: usize = 3_000;
        let rule = |i: usize| format!("[[rule]]\nname = \"{i}\"\nwhen.claim = {{ name = \"site\", is = \"{i}\" }}\nallow.both = \"{i}/#\"\n");
        let large: String = (0..RULES).map(rule).collect();
        fs::write(&path, format!("[[rule]]\nname = \"new\"\nallow.both = \"new\"\n{large}")).unwrap();
        // Messages are checked from here on, and not answered from before.
        broker.sighup();
        let (began, mut longest) = (Instant::now(), Duration::ZERO);
        let line = format!("generation 2 is in force: changed are policy_file (the policy file has {} rules)", RULES + 1);
        while !broker.log().contains(&line) {
            let asked = Instant::now();
            assert_eq!(pump.ping(), Ok(()));
            longest = longest.max(asked.elapsed());
            assert!(began.elapsed() < PATIENCE, "{}", broker.log());
        }
        assert!(longest * 2 < began.elapsed(), "{longest:?} of {:?}", began.elapsed());
        publishes(&mut pump, "new", true);
        publishes(&mut pump, "old", false);

        fs::write(&path, &large).unwrap();
        broker.sighup();
        broker.sighup();
        let stopped = broker.stop();
        assert!(stopped.status.unwrap().success(), "{}", stopped.log);
    }

    fn a_policy_file_with_a_mistake_prevents_the_start(version) {
        let tenant = tenant();
        let builder = Mosquitto::builder(version);
        let path = builder.folder().join("policy.toml");
        fs::write(&path, "[[rule]]\nname = \"x\"\nalow.both = \"a\"").unwrap();
        let options = PluginOptions::tokens(&tenant).with("policy_file", path.to_str().unwrap());
        let failed = builder.plugin(plugin(), &options.pairs()).start_expecting_failure();
        assert!(failed.log.contains("line 3, rule 'x': there is no 'alow'"), "{}", failed.log);
    }

    /// By the hour (a window around now, and one that is hours away), the address, the listener's port and
    /// the certificate.
    fn rules_can_depend_on_what_the_broker_tells(version) {
        let tenant = tenant();
        let authority = Authority::new("the broker's authority");
        let builder = Mosquitto::builder(version);
        let file = |name: &str, content: &str| {
            let path = builder.folder().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let ca = file("ca.pem", authority.pem());
        let server = authority.issue(&["localhost", "127.0.0.1"]);
        let server = (file("server.pem", &server.cert_pem), file("server.key", &server.key_pem));
        let (known, other) = (authority.issue_client("known"), authority.issue_client("other"));
        let print: String = sha256(&known.chain()[0]).iter().map(|byte| format!("{byte:02X}")).collect();
        let files = |name: &str, leaf: &testbed::pki::Leaf| {
            (file(&format!("{name}.pem"), &leaf.cert_pem), file(&format!("{name}.key"), &leaf.key_pem))
        };
        let (known, other) = (files("known", &known), files("other", &other));
        let minute = |ahead: u64| {
            let now = auth::clock::now().0;
            let of_day = (now + 86_400 * 60 + ahead * 60 - 10 * 60) / 60 % 1440;
            format!("{:02}:{:02}", of_day / 60, of_day % 60)
        };
        let policy = file("policy.toml", &format!(r#"
            [[rule]]
            name = "now"
            when.time = "{}-{}"
            allow.publish = "now"
            [[rule]]
            name = "later"
            when.time = "{}-{}"
            allow.publish = "later"
            [[rule]]
            name = "here"
            when.network = ["127.0.0.0/8", "::1"]
            allow.publish = "here"
            [[rule]]
            name = "elsewhere"
            when.network = "192.0.2.0/24"
            allow.publish = "elsewhere"
            [[rule]]
            name = "known"
            when.certificate = "{print}"
            allow.publish = "known"
            [[rule]]
            name = "nowhere"
            when.port = 1
            allow.publish = "nowhere"
        "#, minute(0), minute(60), minute(600), minute(660)));
        let options = PluginOptions::tokens(&tenant).with("policy_file", policy.to_str().unwrap());
        let broker = builder
            .plugin(plugin(), &options.pairs())
            .listener(Listener::tcp())
            .listener(Listener::tls(&server.0, &server.1).client_ca(&ca))
            .start()
            .unwrap_or_else(|e| panic!("{e}"));
        let mut pump = connected(&broker, &tenant, "pump", &[]);
        for (topic, allowed) in [("now", true), ("later", false), ("here", true), ("elsewhere", false), ("known", false), ("nowhere", false)] {
            publishes(&mut pump, topic, allowed);
        }
        let publish_as = |(certificate, key): &(std::path::PathBuf, std::path::PathBuf), topic: &str| {
            let client = MosquittoClient::of(&broker).port(broker.ports()[1]).ca_file(&ca);
            let client = client.certificate(certificate, key);
            let client = client.username("JWT").password(&tenant.token("pump")).protocol(Protocol::V5).qos(1);
            let outcome = client.publish(topic, "x");
            !format!("{outcome:?}").contains("Not authorized")
        };
        assert!(publish_as(&known, "known") && !publish_as(&other, "known"));
        assert!(publish_as(&other, "here"));
        let warned = broker.log().contains("rule 'nowhere' has the condition port, which this broker does not tell");
        assert_eq!(warned, !version.can_delay_logins(), "{}", broker.log());
        if version.can_delay_logins() {
            let text = fs::read_to_string(&policy).unwrap();
            fs::write(&policy, text.replace("when.port = 1", &format!("when.port = [{}, 1]", broker.port()))).unwrap();
            broker.sighup();
            assert!(broker.wait_for_log("is in force: changed are policy_file", PATIENCE).is_some());
            publishes(&mut pump, "nowhere", true);
            assert!(!publish_as(&known, "nowhere"));
        }
    }

    /// The broker asks about the messages of a kept session with QoS 0 after its client was disconnected.
    fn a_qos_limit_applies_to_a_kept_session(version) {
        let tenant = tenant();
        let (broker, _) = with_policy(version, &tenant, "[[rule]]\nname = \"x\"\nallow.subscribe = \"a\"\nqos = 1\n[[rule]]\nname = \"y\"\nallow.publish = \"a\"");
        tenant.add_device(Device::new("pump", "pass"));
        let soon = tenant.mint("pump").lifetime(2).sign();
        let mut connect = token_connect(Protocol::V311, "pump", &soon);
        connect.clean = false;
        let mut client = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(client.subscribe(&[("a", 1)]), Ok(vec![1]));
        assert!(client.wait_end(PATIENCE).is_ok());
        raw(&broker, &tenant, "pump", "sender", Protocol::V311).publish("a", "kept", 1).unwrap();
        connect.password = Some(tenant.token("pump").into_bytes());
        let mut client = raw::RawClient::connect(broker.port(), &connect).unwrap();
        assert_eq!(client.next_message(PATIENCE).unwrap().text(), "kept");
    }
}

/// Returns the code of a subscription with QoS 2 where a rule allows at most 1.
fn pump_subscribe_qos2(broker: &Mosquitto, tenant: &Tenant) -> u8 {
    let mut client = raw(broker, tenant, "pump", "pump", Protocol::V5);
    client.subscribe(&[("command/pump/#", 2)]).unwrap()[0]
}
