//! The table of options: one row says all there is to say about an option.
//!
//! The configuration is read through it, so an option's default and range are stated here and nowhere else.
//! `docs/options.md` and the options in `packaging/auth0.conf` are generated from it (`tests/generated.rs`).

use std::fmt;

use DefaultValue::{Needed, Unset, Value};

/// An option: `plugin_opt_NAME` in mosquitto.conf, or `NAME` in the file that `config_file` names.
#[derive(Debug)]
pub struct Opt {
    /// Its name.
    pub name: &'static str,
    /// The values that it takes.
    pub kind: Kind,
    /// What holds where the option is not set.
    pub default: DefaultValue,
    /// The value in the commented line of `packaging/auth0.conf`; without it the option is not in that file.
    /// All these lines together are a configuration that starts.
    pub example: Option<&'static str>,
    /// Whether its value is a secret, which is never shown.
    pub secret: bool,
    /// Whether the file that it names is read again on SIGHUP. Everything else is read at the start only.
    pub reread: bool,
    /// The first version that has it.
    pub since: &'static str,
    /// What it does, as Markdown: paragraphs, and blocks of commands.
    pub text: &'static str,
}

/// The values that an option takes. Displayed as what follows "write …".
#[derive(Debug)]
pub enum Kind {
    /// Any text.
    Text(&'static str),
    /// Texts with commas between them.
    List(&'static str),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words, with commas between them.
    SomeOf(&'static [&'static str]),
    /// A whole number within a range.
    Whole {
        /// What is counted.
        unit: Unit,
        /// The lowest number.
        least: u64,
        /// The highest number.
        most: u64,
    },
    /// Seconds, with fractions.
    Seconds {
        /// The longest time.
        most: u32,
    },
    /// A file.
    File,
    /// A file that holds a secret.
    SecretFile,
    /// A folder.
    Folder,
}

/// What a whole number counts.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Hundredths.
    Percent,
    /// Things.
    Count,
}

/// What holds where an option is not set.
#[derive(Debug)]
pub enum DefaultValue {
    /// This value.
    Value(&'static str),
    /// The broker does not start. The text says when.
    Needed(&'static str),
    /// There is no value. The text says what that means.
    Unset(&'static str),
}

/// A group of options, which becomes a section of the documents.
#[derive(Debug)]
pub struct Group {
    /// Its heading.
    pub title: &'static str,
    /// What its options have in common, as Markdown; may be empty.
    pub text: &'static str,
    /// The options.
    pub options: &'static [Opt],
}

/// What most options are: no secret, read once, there from the first version on.
const ROW: Opt = Opt {
    name: "",
    kind: Kind::File,
    default: Unset(""),
    example: None,
    secret: false,
    reread: false,
    since: "0.1.0",
    text: "",
};

const BOOLEAN: Kind = Kind::OneOf(&["true", "false"]);

/// All options, by what they are about.
pub const GROUPS: &[Group] = &[
    TENANT,
    CREDENTIALS,
    RIGHTS,
    NAMES,
    OTHERS,
    TOKENS,
    WAITING,
    KEYS,
    CONFIG_FILE,
];

const TENANT: Group = Group {
    title: "The tenant and the API",
    text: "",
    options: &[
        Opt {
            name: "domain",
            kind: Kind::Text(
                "the host name only, as in example.eu.auth0.com, or with a port, as in localhost:8443",
            ),
            default: Needed("needed, unless `issuer` is set"),
            example: Some("example.eu.auth0.com"),
            text: "Your tenant: the Domain that the Auth0 dashboard shows in the settings of your application. If \
                   devices get their tokens from a custom domain, write that one.",
            ..ROW
        },
        Opt {
            name: "issuer",
            kind: Kind::List(
                "addresses, with commas between them, as in https://example.eu.auth0.com/, with the slash if the \
                tokens have it",
            ),
            default: Unset("`https://DOMAIN/`"),
            text: "The accepted `iss` values of tokens, with commas between them, compared byte for byte (Auth0's end \
                   with a slash). Without `domain`, the plugin finds the first one's addresses by OpenID Connect \
                   discovery: so any OpenID Connect provider can be used.",
            ..ROW
        },
        Opt {
            name: "audience",
            kind: Kind::List("the identifiers of your APIs, with commas between them"),
            default: Needed("needed"),
            example: Some("https://mqtt.example/"),
            text: "The accepted `aud` values of tokens, with commas between them: the Identifier of your API in the \
                   dashboard (Applications > APIs), letter by letter. Tokens for any other API of the tenant are \
                   refused. The first is the one that the plugin asks for where devices send passwords.",
            ..ROW
        },
    ],
};

const CREDENTIALS: Group = Group {
    title: "Devices that have a password and no token",
    text: "With these options the plugin asks the tenant for a token in the device's name. It takes an application \
           whose Password grant is on (Applications > your application > Advanced Settings > Grant Types).",
    options: &[
        Opt {
            name: "client_id",
            kind: Kind::Text("the Client ID of an application"),
            default: Unset("devices cannot sign in with passwords"),
            example: Some("abcdefghijklmnopqrstuvwxyz012345"),
            text: "The Client ID of the application.",
            ..ROW
        },
        Opt {
            name: "client_secret_file",
            kind: Kind::SecretFile,
            default: Needed("needed with `client_id`"),
            example: Some("/etc/mosquitto/auth0.secret"),
            text: "The file with the Client Secret of the application, which only root and the broker may be able to \
                   read. Make it, as root, with\n\n    \
                   touch /etc/mosquitto/auth0.secret\n    \
                   chown root:mosquitto /etc/mosquitto/auth0.secret\n    \
                   chmod 640 /etc/mosquitto/auth0.secret\n\n\
                   and then write the Client Secret, and nothing else, into it with an editor.",
            ..ROW
        },
        Opt {
            name: "client_secret",
            kind: Kind::Text("the Client Secret of the application"),
            default: Unset("`client_secret_file` has it"),
            secret: true,
            text: "The Client Secret itself. The broker keeps it in its memory, and whoever can read \
            mosquitto.conf can \
                   read it: `client_secret_file` is better.",
            ..ROW
        },
        Opt {
            name: "connection",
            kind: Kind::Text("the name of a connection"),
            default: Unset("the tenant's Default Directory"),
            example: Some("Thermostats"),
            text: "The connection (realm) of the devices (Authentication > Database).",
            ..ROW
        },
        Opt {
            name: "scope",
            kind: Kind::Text("scopes with spaces between them"),
            default: Value("openid"),
            text: "The scope that the plugin asks for.",
            ..ROW
        },
    ],
};

const RIGHTS: Group = Group {
    title: "What a device may do",
    text: "",
    options: &[
        Opt {
            name: "topics_claim",
            kind: Kind::Text("the name of a claim"),
            default: Value("topics"),
            example: Some("https://mqtt.example/topics"),
            text: "The claim of the token that lists the topics that a device may publish and subscribe to, such as \
                   `[\"devices/d1/#\", \"config\"]`. An Action in the tenant puts it there. The name is taken \
                   literally, with its dots and slashes. A device whose token lists nothing gets in and may do \
                   nothing.",
            ..ROW
        },
        Opt {
            name: "topics_pointer",
            kind: Kind::Text("a JSON pointer, as in /app/topics"),
            default: Unset("`topics_claim` names the claim"),
            text: "Instead of `topics_claim`: where in the token the topics are, if they are nested in another claim.",
            ..ROW
        },
        Opt {
            name: "rights",
            kind: Kind::SomeOf(&["topics", "permissions", "scope"]),
            default: Value("topics,permissions"),
            text: "The claims that say what a device may do. Read [Auth0's permissions and \
                   scopes](authorization.md#auth0s-permissions-and-scopes) before you add `scope`.",
            ..ROW
        },
        Opt {
            name: "permission_verbs",
            kind: Kind::Text(
                "three different words, for publishing, for subscribing and for both, as in write,read,readwrite",
            ),
            default: Value("publish,subscribe,pubsub"),
            text: "The words with which permissions and scopes begin that are about topics. Others are ignored.",
            ..ROW
        },
        Opt {
            name: "claim_placeholders",
            kind: BOOLEAN,
            default: Value("false"),
            text: "With `true`, `%c`, `%u`, `${claim}` and `${claim[*]}` in the topics of a token stand for values, as \
                   in the policy file. With `false`, a token that has one is refused.",
            ..ROW
        },
        Opt {
            name: "policy_file",
            kind: Kind::File,
            default: Unset("the token alone decides"),
            example: Some("/etc/mosquitto/auth0-policy.toml"),
            reread: true,
            text: "A TOML file with rules that have conditions (roles, hours, addresses and others): [the policy \
                   file](authorization.md#the-policy-file).",
            ..ROW
        },
    ],
};

const NAMES: Group = Group {
    title: "User names and client IDs",
    text: "",
    options: &[
        Opt {
            name: "username_claim",
            kind: Kind::Text("the name of a claim"),
            default: Value("sub"),
            example: Some("sub"),
            text: "The claim that becomes the user name of a device that brings a token.",
            ..ROW
        },
        Opt {
            name: "username_prefix",
            kind: Kind::Text("at most 64 bytes without spaces, /, + and #, as in auth0:"),
            default: Unset("nothing"),
            example: Some("auth0:"),
            text: "What the broker is told in front of the tenant's user names: with `auth0:`, the user `admin` \
            becomes \
                   `auth0:admin`. For brokers that have [users of their own](beside-what-you-have.md#user-names) and decide \
                   themselves (`acl defer`, dynamic-security), so that none of the tenant's users is taken for one of \
                   them. The policy file and the topics of tokens see the name without it.",
            ..ROW
        },
        Opt {
            name: "client_id_claim",
            kind: Kind::Text("the name of a claim"),
            default: Unset("any client ID that nobody else holds"),
            text: "The claim that says which client ID the token is for: a text, or a list of texts. A device cannot \
                   take another one's place then.",
            ..ROW
        },
        Opt {
            name: "client_id_template",
            kind: Kind::Text("a text with claims in it, as in device-${sub}"),
            default: Unset("any client ID that nobody else holds"),
            example: Some("device-${sub}"),
            text: "Instead of `client_id_claim`: the client ID that the token is for, made of its claims.",
            ..ROW
        },
        Opt {
            name: "takeover",
            kind: Kind::OneOf(&["subject", "any"]),
            default: Value("subject"),
            example: Some("subject"),
            text: "With `subject`, a client ID that one account (issuer and `sub`) holds, connected or with a kept \
                   session, is refused to every other. With `any`, whoever may sign in takes it over, as MQTT has it.",
            ..ROW
        },
    ],
};

const OTHERS: Group = Group {
    title: "Beside what is there already",
    text: "",
    options: &[
        Opt {
            name: "on_other",
            kind: Kind::OneOf(&["deny", "defer"]),
            default: Value("deny"),
            example: Some("defer"),
            text: "With `defer`, a client that brings neither a token nor (where `client_id` is set) a user name and a \
                   password is left to the next plugin, or to the broker's `password_file` and `acl_file`, so that a \
                   fleet can be moved to tokens device by device. With `deny`, it is refused. A token [in the wrong \
                   form or field](security.md#a-token-in-the-wrong-form) is refused in either case.",
            ..ROW
        },
        Opt {
            name: "acl",
            kind: Kind::OneOf(&["own", "defer"]),
            default: Value("own"),
            text: "With `own`, the token and the policy file decide about every message and subscription. With \
            `defer`, \
                   the broker's `acl_file` or another plugin, such as dynamic-security, does, and without either \
                   everything is denied; then what the token says about topics is not read, and `policy_file` cannot \
                   be set.",
            ..ROW
        },
        Opt {
            name: "trusted_proxies",
            kind: Kind::List(
                "addresses or networks with commas between them, as in 127.0.0.1,10.0.0.0/8",
            ),
            default: Unset("none"),
            example: Some("127.0.0.1"),
            text: "The [proxies](security.md#behind-a-proxy) through which devices come (nginx, HAProxy, a load \
                   balancer). Their own addresses do not count as a device's. On a 2.0 broker, the address counts \
                   that such a proxy writes into `X-Forwarded-For` for a websockets client. Let nobody but the proxy \
                   reach that listener.",
            ..ROW
        },
    ],
};

const TOKENS: Group = Group {
    title: "Tokens",
    text: "",
    options: &[
        Opt {
            name: "algorithms",
            kind: Kind::SomeOf(&["RS256", "PS256", "HS256"]),
            default: Value("RS256"),
            example: Some("RS256"),
            text: "The signature algorithms to accept. `HS256` needs `hs256_secret_file`.",
            ..ROW
        },
        Opt {
            name: "hs256_secret_file",
            kind: Kind::SecretFile,
            default: Needed("needed with `HS256`"),
            text: "The file with the API's signing secret, of at least 32 bytes. Whoever knows it can make tokens.",
            ..ROW
        },
        Opt {
            name: "hs256_secret_encoding",
            kind: Kind::OneOf(&["utf8", "base64"]),
            default: Value("utf8"),
            text: "How that file holds the secret. `base64` is for tenants from before 2017, whose secrets were \
            encoded \
                   so.",
            ..ROW
        },
        Opt {
            name: "leeway",
            kind: Kind::Whole {
                unit: Unit::Seconds,
                least: 0,
                most: 300,
            },
            default: Value("30"),
            example: Some("30"),
            text: "How many seconds the clocks of this machine and of the tenant may differ.",
            ..ROW
        },
    ],
};

const WAITING: Group = Group {
    title: "Waiting for the tenant",
    text: "",
    options: &[
        Opt {
            name: "timeout",
            kind: Kind::Whole {
                unit: Unit::Seconds,
                least: 1,
                most: 60,
            },
            default: Value("5"),
            example: Some("5"),
            text: "How many seconds a CONNECT may wait for the tenant, and how many a fetch of the tenant's keys may \
                   take.",
            ..ROW
        },
        Opt {
            name: "login_wait",
            kind: Kind::Seconds { most: 60 },
            default: Value("1"),
            example: Some("1"),
            text: "How many seconds Mosquitto may stand still for one CONNECT where it cannot be answered later (any \
                   client on 2.0, and MQTT 5 clients on 2.1). With `0` it never does.",
            ..ROW
        },
        Opt {
            name: "stall_budget",
            kind: Kind::Whole {
                unit: Unit::Percent,
                least: 0,
                most: 100,
            },
            default: Value("20"),
            example: Some("20"),
            text: "How many percent of any ten seconds Mosquitto may stand still for all CONNECTs together. Beyond \
                   that, a device that has to wait is told to try again.",
            ..ROW
        },
        Opt {
            name: "delay_mqtt5",
            kind: BOOLEAN,
            default: Value("false"),
            text: "With `true`, MQTT 5 clients, too, are answered later on 2.1. Only where you trust everyone who can \
                   connect: see [why](compatibility.md#why-mqtt-5-clients-are-not-answered-later).",
            ..ROW
        },
        Opt {
            name: "login_workers",
            kind: Kind::Whole {
                unit: Unit::Count,
                least: 1,
                most: 256,
            },
            default: Value("64"),
            example: Some("64"),
            text: "How many requests to the tenant there may be at a time. Where devices send passwords, as many \
                   threads are there from the start.",
            ..ROW
        },
        Opt {
            name: "login_rate",
            kind: Kind::Whole {
                unit: Unit::Count,
                least: 1,
                most: 10_000,
            },
            default: Value("5"),
            example: Some("5"),
            text: "How many requests to the tenant there may be a second in the long run; a minute's worth may come at \
                   once. Auth0's free plan allows 5.",
            ..ROW
        },
        Opt {
            name: "login_cache",
            kind: Kind::Whole {
                unit: Unit::Seconds,
                least: 0,
                most: MONTH,
            },
            default: Value("86400"),
            example: Some("86400"),
            text: "How many seconds a good login is remembered, at most until its token expires: the device comes in \
                   again without a question to the tenant. With `0` the tenant is asked each time.",
            ..ROW
        },
    ],
};

/// Thirty days, in seconds.
const MONTH: u64 = 30 * 86_400;

const KEYS: Group = Group {
    title: "The tenant's keys and certificates",
    text: "",
    options: &[
        Opt {
            name: "ca_file",
            kind: Kind::File,
            default: Unset("those that this machine trusts"),
            example: Some("/etc/ssl/certs/ca-certificates.crt"),
            text: "PEM certificates of the only authorities to trust for the connection to the tenant.",
            ..ROW
        },
        Opt {
            name: "jwks_file",
            kind: Kind::File,
            default: Unset("the plugin fetches the keys from the tenant"),
            reread: true,
            text: "The tenant's signing keys (a JWK Set, from the tenant's `/.well-known/jwks.json`) in a file, for a \
                   machine that cannot reach the tenant.",
            ..ROW
        },
        Opt {
            name: "jwks_max_stale",
            kind: Kind::Whole {
                unit: Unit::Seconds,
                least: 0,
                most: MONTH,
            },
            default: Value("86400"),
            example: Some("86400"),
            text: "How many seconds fetched keys stay good while the tenant cannot be reached.",
            ..ROW
        },
        Opt {
            name: "state_dir",
            kind: Kind::Folder,
            default: Unset("nothing is kept"),
            example: Some("/var/lib/mosquitto/auth0"),
            text: "A folder in which the tenant's public keys are kept, so that devices with tokens get in after a \
                   restart of the broker while the tenant cannot be reached. It belongs to the broker's user, and \
                   nobody else may write in it. Make it, as root, with\n\n    \
                   install -d -o mosquitto -g mosquitto -m 700 /var/lib/mosquitto/auth0",
            ..ROW
        },
    ],
};

const CONFIG_FILE: Group = Group {
    title: "A file of its own",
    text: "",
    options: &[Opt {
        name: "config_file",
        kind: Kind::File,
        default: Unset("all options are in mosquitto.conf"),
        text: "A TOML file with more options, each as `NAME = \"VALUE\"`; a list may be an array, and a number \
        needs no \
               quotes. A file that holds a secret must not be readable for every user of the machine.",
        ..ROW
    }],
};

/// All options.
pub fn all() -> impl Iterator<Item = &'static Opt> {
    GROUPS.iter().flat_map(|group| group.options)
}

/// Returns the option with this name.
pub fn find(name: &str) -> Option<&'static Opt> {
    all().find(|option| option.name == name)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(form) | Self::List(form) => f.write_str(form),
            Self::OneOf(words) => f.write_str(&words.join(" or ")),
            Self::SomeOf(words) => {
                let words = words.join(", ");
                write!(f, "one or more of {words}, with commas between them")
            }
            Self::Whole { unit, least, most } => {
                let what = match unit {
                    Unit::Seconds => "whole seconds",
                    Unit::Percent => "a whole number of percent",
                    Unit::Count => "a whole number",
                };
                write!(f, "{what} from {least} to {most}")
            }
            Self::Seconds { most } => write!(f, "seconds from 0 to {most}, as in 0.5"),
            Self::File => f.write_str("the path of a file"),
            Self::SecretFile => f.write_str(
                "the full path of a file that holds the secret, as in /etc/mosquitto/auth0.secret",
            ),
            Self::Folder => f.write_str("the full path of a folder"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_long_enough_for_the_broker_and_distinct() {
        let names: Vec<_> = all().map(|option| option.name).collect();
        for (i, name) in names.iter().enumerate() {
            // Mosquitto refuses a plugin_opt_ name of fewer than three characters.
            assert!(name.len() >= 3);
            assert!(!names[..i].contains(name), "{name}");
        }
    }

    #[test]
    fn every_option_is_described_and_only_files_are_read_again() {
        for option in all() {
            assert!(option.text.len() > 20, "{}", option.name);
            assert!(!option.since.is_empty(), "{}", option.name);
            assert!(
                !option.reread || matches!(option.kind, Kind::File),
                "{}",
                option.name
            );
            assert!(
                !(option.secret && option.example.is_some()),
                "{}",
                option.name
            );
        }
    }
}
