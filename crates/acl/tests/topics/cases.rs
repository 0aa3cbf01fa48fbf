//! One table of topic rules for every implementation: our code, the naive matcher, and the functions of real
//! brokers.

use acl::rules::AccessRequest;

/// `(granted, topic, allowed)`: may a message to this topic be sent or delivered?
pub const MATCH: &[(&str, &str, bool)] = &[
    ("temperature", "temperature", true),
    ("temperature", "config", false),
    ("temperature", "Temperature", false),
    ("temperature", "temperature/", false),
    ("temperature", "/temperature", false),
    ("temperature", "temperatures", false),
    ("a/b", "a/b", true),
    ("a/b", "a", false),
    ("a/b", "a/b/c", false),
    ("a/+", "a/b", true),
    ("a/+", "a/", true),
    ("a/+", "a", false),
    ("a/+", "a/b/c", false),
    ("a/+/c", "a/b/c", true),
    ("a/+/c", "a//c", true),
    ("a/+/c", "a/b/d", false),
    ("+", "a", true),
    ("+", "/a", false),
    ("+/+", "/a", true),
    ("/+", "/a", true),
    ("+", "/", false),
    ("+/+", "/", true),
    ("#", "a", true),
    ("#", "a/b/c", true),
    ("#", "/", true),
    ("a/#", "a", true),
    ("a/#", "a/", true),
    ("a/#", "a/b/c", true),
    ("a/#", "ab", false),
    ("a/#", "b/a", false),
    ("a/+/#", "a", false),
    ("a/+/#", "a/b", true),
    ("a/+/#", "a/b/c/d", true),
    ("/#", "/a", true),
    ("/#", "a", false),
    ("#", "$SYS/broker/uptime", false),
    ("+/broker/uptime", "$SYS/broker/uptime", false),
    ("+/#", "$SYS/broker/uptime", false),
    ("$SYS/#", "$SYS/broker/uptime", true),
    ("$SYS/+/uptime", "$SYS/broker/uptime", true),
    ("$SYS/#", "$SYSx/a", false),
    ("a/#", "a/$SYS", true),
    ("a/+", "a/$x", true),
    ("ä/+", "ä/🦀", true),
    ("a b", "a b", true),
];

/// `(granted, requested, allowed)`: may a client subscribe to this filter?
pub const COVER: &[(&str, &str, bool)] = &[
    ("config", "config", true),
    ("config", "+", false),
    ("config", "#", false),
    ("config", "config/#", false),
    ("a/+", "a/b", true),
    ("a/+", "a/+", true),
    ("a/+", "a/#", false),
    ("a/+", "+/b", false),
    ("a/+", "+/+", false),
    ("a/+", "a", false),
    ("a/#", "a", true),
    ("a/#", "a/b", true),
    ("a/#", "a/+", true),
    ("a/#", "a/#", true),
    ("a/#", "a/+/c/#", true),
    ("a/#", "#", false),
    ("a/#", "+/#", false),
    ("a/+/#", "a/#", false),
    ("a/+/#", "a/+", true),
    ("a/+/#", "a/b/c", true),
    ("a/+/c", "a/b/c", true),
    ("a/+/c", "a/+/c", true),
    ("a/+/c", "a/+/+", false),
    ("#", "#", true),
    ("#", "+/+/x", true),
    ("#", "/", true),
    ("+", "+", true),
    ("+", "#", false),
    ("+/#", "#", false),
    ("+/#", "+/#", true),
    ("+/+", "+/#", false),
    ("/+", "/a", true),
    ("+", "/a", false),
    ("#", "$SYS/#", false),
    ("#", "$SYS/broker/uptime", false),
    ("+/#", "$SYS/#", false),
    ("$SYS/#", "$SYS/#", true),
    ("$SYS/#", "$SYS/broker/+", true),
    ("$SYS/broker/#", "$SYS/#", false),
    ("$SYS/+", "$SYS/#", false),
];

/// `(granted, requested, allowed)` with a shared subscription: the group does not matter.
pub const SHARED: &[(&str, &str, bool)] = &[
    ("a/+", "$share/g/a/b", true),
    ("a/+", "$share/g/a/#", false),
    ("a/#", "$share/g/a", true),
    ("#", "$share/g/#", true),
    ("#", "$share/g/$SYS/#", false),
    ("a", "$share/other/group/a", false),
    ("group/a", "$share/other/group/a", true),
    ("#", "$share/g", false),
    ("#", "$share//a", false),
    ("#", "$share/g/", false),
    ("#", "$share/+/a", false),
];

const PUBLISH: AccessRequest = AccessRequest::Publish {
    qos: 1,
    retain: false,
    payload: 5,
};
const RETAINED: AccessRequest = AccessRequest::Publish {
    qos: 1,
    retain: true,
    payload: 5,
};
const SUBSCRIBE: AccessRequest = AccessRequest::Subscribe { qos: Some(1) };
const RECEIVE: AccessRequest = AccessRequest::Receive;

const CLOSED_DOOR: &str =
    r##"[{"permission": "deny", "action": "all", "topic": "a/door"}, "a/#"]"##;
const LATE_DENIAL: &str =
    r##"["a/#", {"permission": "deny", "action": "all", "topic": "a/door"}]"##;
const DENY_ALL: &str =
    r##"["$SYS/x", {"permission": "deny", "action": "all", "topic": "#"}, "$SYS/y", "a"]"##;
const NO_RETAIN: &str =
    r#"[{"permission": "deny", "action": "publish", "topic": "a", "retain": true}, "a"]"#;
const QOS_1: &str = r#"[{"permission": "allow", "action": "all", "topic": "a", "qos": 1}]"#;
const QOS_0: &str = r#"[{"permission": "allow", "action": "all", "topic": "a", "qos": 0}]"#;
const NO_QOS_2: &str = r##"[
    {"permission": "deny", "action": "subscribe", "topic": "a/#", "qos": [2]},
    {"permission": "allow", "action": "all", "topic": "a/#"}
]"##;
const NO_QOS: &str =
    r##"[{"permission": "deny", "action": "all", "topic": "a/#", "qos": "0,1,2"}, "a/#"]"##;

/// `(claim, access, topic, allowed)`: lists of rules, of which the first that matches decides.
pub const LISTS: &[(&str, AccessRequest, &str, bool)] = &[
    (CLOSED_DOOR, PUBLISH, "a/x", true),
    (CLOSED_DOOR, PUBLISH, "a/door", false),
    (CLOSED_DOOR, RECEIVE, "a/door", false),
    (CLOSED_DOOR, SUBSCRIBE, "a/door", false),
    (CLOSED_DOOR, SUBSCRIBE, "$share/g/a/door", false),
    // The denial covers only a part of the subscription: messages of that part are not delivered.
    (CLOSED_DOOR, SUBSCRIBE, "a/#", true),
    (CLOSED_DOOR, SUBSCRIBE, "a/+", true),
    (LATE_DENIAL, PUBLISH, "a/door", true),
    (LATE_DENIAL, RECEIVE, "a/door", true),
    (DENY_ALL, PUBLISH, "a", false),
    (DENY_ALL, SUBSCRIBE, "a", false),
    (DENY_ALL, SUBSCRIBE, "#", false),
    // A wildcard at the first level does not match `$`, and what no rule allows is denied anyway.
    (DENY_ALL, RECEIVE, "$SYS/x", true),
    (DENY_ALL, RECEIVE, "$SYS/y", true),
    (DENY_ALL, RECEIVE, "$SYS/z", false),
    (NO_RETAIN, PUBLISH, "a", true),
    (NO_RETAIN, RETAINED, "a", false),
    (NO_RETAIN, RECEIVE, "a", true),
    (QOS_1, PUBLISH, "a", true),
    (QOS_1, SUBSCRIBE, "a", true),
    (QOS_1, RECEIVE, "a", true),
    (QOS_0, PUBLISH, "a", false),
    (QOS_0, SUBSCRIBE, "a", false),
    (QOS_0, RECEIVE, "a", true),
    // A denial of QoS 2 does not stop deliveries to a client that subscribed with QoS 1.
    (NO_QOS_2, SUBSCRIBE, "a/x", true),
    (
        NO_QOS_2,
        AccessRequest::Subscribe { qos: Some(2) },
        "a/x",
        false,
    ),
    (NO_QOS_2, RECEIVE, "a/x", true),
    (NO_QOS, SUBSCRIBE, "a/x", false),
    (NO_QOS, RECEIVE, "a/x", false),
];
