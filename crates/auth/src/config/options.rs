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
    /// Whether it is about one issuer, so that each `[[issuer]]` table of the file of options may have it.
    pub of_issuer: bool,
    /// What SIGHUP does about it.
    pub reread: Reread,
    /// The first version that has it.
    pub since: &'static str,
    /// What it does, as Markdown: paragraphs, and blocks of commands.
    pub text: &'static str,
}

/// What SIGHUP does about an option: about its value in the file that `config_file` names, and about the content of the
/// file that it names itself. A value in mosquitto.conf is read at the start only ([`super::on_disk`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reread {
    /// Nothing: the change takes a restart.
    Restart,
    /// The change applies to whatever happens from then on.
    Applies,
    /// The same, and no sign-in is answered from memory any more, because what is remembered came of the old value.
    Forgets,
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
    /// A file that the plugin writes.
    WrittenFile,
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

/// What most options are: no secret, read once, there from the first version on. (That SIGHUP applies a change is said
/// in a row, because somebody has to think about it.)
const ROW: Opt = Opt {
    name: "",
    kind: Kind::File,
    default: Unset(""),
    example: None,
    secret: false,
    of_issuer: false,
    reread: Reread::Restart,
    since: "0.1.0",
    text: "",
};

const BOOLEAN: Kind = Kind::OneOf(&["true", "false"]);

/// All options, by what they are about.
pub const GROUPS: &[Group] = &[
    TENANT,
    CREDENTIALS,
    RIGHTS,
    ADMINISTRATION,
    NAMES,
    OTHERS,
    TOKENS,
    SESSIONS,
    WAITING,
    KEYS,
    METRICS,
    LOGS,
    CONFIG_FILE,
];

const TENANT: Group = Group {
    title: "The tenant and the API",
    text: "",
    options: &[
        Opt {
            name: "domain",
            of_issuer: true,
            kind: Kind::Text(
                "the host name only, as in example.eu.auth0.com, or with a port, as in localhost:8443",
            ),
            default: Needed("required, unless `issuer` is set"),
            example: Some("example.eu.auth0.com"),
            text: "The tenant's domain, as shown in the settings of your application in the Auth0 dashboard. If \
                   devices get their tokens from a custom domain, use the custom domain.",
            ..ROW
        },
        Opt {
            name: "issuer",
            of_issuer: true,
            kind: Kind::List(
                "addresses, separated by commas, as in https://example.eu.auth0.com/, with the slash if the \
                tokens have it",
            ),
            default: Unset("`https://DOMAIN/`"),
            reread: Reread::Forgets,
            text: "The values of `iss` that are accepted, separated by commas. They are compared byte for byte; \
                   Auth0's end with a slash. If `domain` is not set, the plugin finds the endpoints and keys of the \
                   first issuer by OpenID Connect discovery, so any OpenID Connect provider can be used.",
            ..ROW
        },
        Opt {
            name: "discovery_url",
            of_issuer: true,
            kind: Kind::Text("an address that begins with https://"),
            default: Unset("`ISSUER/.well-known/openid-configuration`"),
            text: "Where the discovery document of the issuer is, if it is not below the issuer's own address. The \
                   document has to name one of the issuers in `issuer`. With `domain` nothing is discovered.",
            ..ROW
        },
        Opt {
            name: "jwks_uri",
            of_issuer: true,
            kind: Kind::Text("an address that begins with https://"),
            default: Unset(
                "what the discovery document says, or `https://DOMAIN/.well-known/jwks.json`",
            ),
            text: "Where the signing keys are fetched, if they are elsewhere. With this option devices with tokens need \
                   no discovery document.",
            ..ROW
        },
        Opt {
            name: "audience",
            of_issuer: true,
            kind: Kind::List("the identifiers of your APIs, separated by commas"),
            default: Needed("required"),
            example: Some("https://mqtt.example/"),
            reread: Reread::Forgets,
            text: "The values of `aud` that are accepted, separated by commas. With Auth0 this is the Identifier of \
                   your API (Applications > APIs), spelled exactly as in the dashboard. Tokens for other APIs of the \
                   tenant are refused. When a device signs in with a password, the plugin requests a token for the \
                   first audience.",
            ..ROW
        },
        Opt {
            name: "audience_claim",
            of_issuer: true,
            kind: Kind::List(PLACES),
            default: Unset("only `aud` counts"),
            reread: Reread::Forgets,
            text: "The claim that stands in for `aud`, for providers whose access tokens name no API: `client_id` for \
                   Cognito, `azp` for Keycloak without an audience mapper. A token is then accepted, too, if this claim \
                   is one of `audience`. Such a claim says which application asked for the token, not for whom the \
                   token is. So every API that gets a token of this application could use it here: name only \
                   applications that are for this broker alone. See [other \
                   providers](other-providers.md#tokens-without-aud).",
            ..ROW
        },
    ],
};

const CREDENTIALS: Group = Group {
    title: "Devices that sign in with a password",
    text: "With these options, devices may sign in with their user name and password, which the plugin exchanges for a \
           token at the tenant. This requires an application for which the Password grant is switched on (Applications \
           > your application > Advanced Settings > Grant Types).",
    options: &[
        Opt {
            name: "client_id",
            of_issuer: true,
            kind: Kind::Text("the Client ID of an application"),
            default: Unset("devices cannot sign in with passwords"),
            example: Some("abcdefghijklmnopqrstuvwxyz012345"),
            reread: Reread::Forgets,
            text: "The Client ID of the application that the plugin uses to check passwords.",
            ..ROW
        },
        Opt {
            name: "client_secret_file",
            of_issuer: true,
            kind: Kind::SecretFile,
            default: Needed("required with `client_id`"),
            example: Some("/etc/mosquitto/auth0.secret"),
            reread: Reread::Forgets,
            text: "The file that holds the Client Secret of the application. Only root and the broker may be able to \
                   read it. As root, create it with\n\n    \
                   touch /etc/mosquitto/auth0.secret\n    \
                   chown root:mosquitto /etc/mosquitto/auth0.secret\n    \
                   chmod 640 /etc/mosquitto/auth0.secret\n\n\
                   and then write the Client Secret, and nothing else, into it with an editor. In a container, a \
                   secret of Docker or Kubernetes will do as it is mounted.",
            ..ROW
        },
        Opt {
            name: "client_secret",
            of_issuer: true,
            kind: Kind::Text("the Client Secret of the application"),
            default: Unset("the secret is in `client_secret_file`"),
            secret: true,
            reread: Reread::Forgets,
            text: "The Client Secret itself. Prefer `client_secret_file`: everyone who can read mosquitto.conf can \
                   read this value, and the broker keeps it in memory.",
            ..ROW
        },
        Opt {
            name: "client_assertion_key_file",
            of_issuer: true,
            kind: Kind::SecretFile,
            default: Unset("the application has a Client Secret"),
            reread: Reread::Forgets,
            text: "The file that holds the private key of the application, as PEM (an RSA key, or one on the curve \
                   P-256), in place of a Client Secret. With it the application authenticates by an assertion \
                   that it signs anew for each request (`private_key_jwt`), and no secret is shared with the tenant. \
                   Protect it like `client_secret_file`. See [an application with a private \
                   key](connect-auth0.md#an-application-with-a-private-key).",
            ..ROW
        },
        Opt {
            name: "client_assertion_algorithm",
            of_issuer: true,
            kind: Kind::OneOf(&["RS256", "RS384", "PS256", "ES256"]),
            default: Unset("`RS256` with an RSA key, and `ES256` with one on the curve P-256"),
            reread: Reread::Forgets,
            text: "The algorithm with which the private key of the application signs.",
            ..ROW
        },
        Opt {
            name: "client_assertion_kid",
            of_issuer: true,
            kind: Kind::Text("the ID of the application's key, as the tenant shows it"),
            default: Unset("assertions name no key"),
            reread: Reread::Forgets,
            text: "The ID (`kid`) under which the tenant knows the public key of the application. Auth0 needs none; \
                   other providers may.",
            ..ROW
        },
        Opt {
            name: "token_endpoint_auth_method",
            of_issuer: true,
            kind: Kind::OneOf(&[
                "client_secret_post",
                "client_secret_basic",
                "private_key_jwt",
            ]),
            default: Unset("what fits the application and the discovery document"),
            reread: Reread::Forgets,
            text: "How the application authenticates: with its secret in the form or in the header `Authorization`, \
                   or with its private key (`client_assertion_key_file`). Without this option, an application with a \
                   private key uses that. A secret is sent in the form with `domain`, and otherwise as the discovery \
                   document offers: in the form if it offers both; in the header if it says nothing about it, which \
                   OpenID Connect makes the default.",
            ..ROW
        },
        Opt {
            name: "connection",
            of_issuer: true,
            kind: Kind::Text("the name of a connection"),
            default: Unset("the tenant's Default Directory"),
            example: Some("Thermostats"),
            reread: Reread::Forgets,
            text: "The database connection (realm) in which the devices' accounts are (Authentication > Database).",
            ..ROW
        },
        Opt {
            name: "scope",
            of_issuer: true,
            kind: Kind::Text("scopes separated by spaces"),
            default: Value("openid"),
            reread: Reread::Forgets,
            text: "The scopes that the plugin requests when a device signs in with a password.",
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
            of_issuer: true,
            kind: Kind::Text("the name of a claim"),
            default: Value("topics"),
            example: Some("https://mqtt.example/topics"),
            reread: Reread::Forgets,
            text: "The claim that lists the topics a device may publish and subscribe to, for example \
                   `[\"devices/d1/#\", \"config\"]`. With Auth0, an Action adds it to the token. The name is taken \
                   literally, including dots and slashes. A device whose token lists no topics can connect but has no \
                   rights.",
            ..ROW
        },
        Opt {
            name: "topics_pointer",
            of_issuer: true,
            kind: Kind::Text("a JSON pointer, as in /app/topics"),
            default: Unset("`topics_claim` names the claim"),
            reread: Reread::Forgets,
            text: "The place of the topics in the token, as a JSON pointer. Use it instead of `topics_claim` if the \
                   topics are nested inside another claim.",
            ..ROW
        },
        Opt {
            name: "permissions_claim",
            of_issuer: true,
            kind: Kind::List(PLACES),
            default: Value("permissions"),
            reread: Reread::Forgets,
            text: "Where the permissions are, if the provider does not call them `permissions`. A value that begins with \
                   a slash is a JSON pointer; one with dots, as in `realm_access.roles`, may be a path. If you list \
                   several, the first that the token has counts. The token is then read as if it had the claim \
                   `permissions` with this value, also by the policy file. See [other \
                   providers](other-providers.md#where-the-claims-are).",
            ..ROW
        },
        Opt {
            name: "scope_claim",
            of_issuer: true,
            kind: Kind::List(PLACES),
            default: Value("scope,scp"),
            reread: Reread::Forgets,
            text: "Where the scopes are, in the same way: a text with spaces, or a list. `scp` is what Okta and Entra ID \
                   send. They grant rights only if `rights` has `scope`.",
            ..ROW
        },
        Opt {
            name: "roles_claim",
            of_issuer: true,
            kind: Kind::List(PLACES),
            default: Value("roles"),
            reread: Reread::Forgets,
            text: "Where the roles or groups are, in the same way, as in `/realm_access/roles` or `cognito:groups`. A role \
                   that is written as a permission (`publish:devices/#`) grants that right if `rights` has \
                   `permissions`. Any other role grants nothing by itself: rules of the policy file ask for it, with \
                   `roles_claim = \"roles\"` there.",
            ..ROW
        },
        Opt {
            name: "rights",
            of_issuer: true,
            kind: Kind::SomeOf(&["topics", "permissions", "scope"]),
            default: Value("topics,permissions"),
            reread: Reread::Forgets,
            text: "The claims that grant rights. Read [Auth0's permissions and \
                   scopes](authorization.md#auth0s-permissions-and-scopes) before you add `scope`.",
            ..ROW
        },
        Opt {
            name: "permission_verbs",
            of_issuer: true,
            kind: Kind::Text(
                "three different words, for publishing, for subscribing and for both, as in write,read,readwrite",
            ),
            default: Value("publish,subscribe,pubsub"),
            reread: Reread::Forgets,
            text: "The verbs of permissions and scopes that grant rights on topics. Permissions and scopes with other \
                   verbs are ignored.",
            ..ROW
        },
        Opt {
            name: "claim_placeholders",
            of_issuer: true,
            kind: BOOLEAN,
            default: Value("false"),
            reread: Reread::Forgets,
            text: "With `true`, the placeholders `%c`, `%u`, `${claim}` and `${claim[*]}` in a token's topics are \
                   replaced by their values, as in the policy file. With `false`, a token that contains a placeholder \
                   is refused.",
            ..ROW
        },
        Opt {
            name: "policy_file",
            of_issuer: true,
            kind: Kind::File,
            default: Unset("only the token grants rights"),
            example: Some("/etc/mosquitto/auth0-policy.toml"),
            reread: Reread::Forgets,
            text: "A TOML file with rules that can have conditions, such as roles, hours or addresses. See [the \
                   policy file](authorization.md#the-policy-file).",
            ..ROW
        },
    ],
};

const ADMINISTRATION: Group = Group {
    title: "Administration",
    text: "",
    options: &[Opt {
        name: "admin_permission",
        of_issuer: true,
        kind: Kind::Text("the name of one permission, without spaces, as in mqtt:admin"),
        default: Unset("nobody"),
        example: Some("mqtt:admin"),
        reread: Reread::Forgets,
        text: "The permission that makes a client an administrator, who may [list sessions, disconnect clients and \
               more](operating.md#administration) by publishing to `$CONTROL/auth0/v1`. The plugin looks for its exact \
               text in the claims `permissions` and `scope`, as far as `rights` lists them. Give it to people or \
               programs that look after the whole fleet, never to devices.",
        ..ROW
    }],
};

const NAMES: Group = Group {
    title: "User names and client IDs",
    text: "",
    options: &[
        Opt {
            name: "username_claim",
            of_issuer: true,
            kind: Kind::List(PLACES),
            default: Value("sub"),
            example: Some("sub"),
            reread: Reread::Forgets,
            text: "The claim that becomes the user name of a device that signs in with a token. If you list several, the \
                   first that the token has counts, as in `preferred_username,sub`. A value that begins with a slash is \
                   a JSON pointer.",
            ..ROW
        },
        Opt {
            name: "username_template",
            of_issuer: true,
            kind: Kind::Text("a text with claims in it, as in ${tid}:${oid}"),
            default: Unset("`username_claim` names the claim"),
            reread: Reread::Forgets,
            text: "The user name of a device that signs in with a token, built from the token's claims. Use it instead of \
                   `username_claim` if no claim alone is the name. A value that is missing or empty, or that contains \
                   `/`, `+` or `#`, refuses the token (`[token-username]`).",
            ..ROW
        },
        Opt {
            name: "username_prefix",
            of_issuer: true,
            kind: Kind::Text("at most 64 bytes without spaces, /, + and #, as in auth0:"),
            default: Unset("nothing"),
            example: Some("auth0:"),
            reread: Reread::Applies,
            text: "A prefix for the user names that the plugin reports to the broker: with `auth0:`, the user `admin` \
                   becomes `auth0:admin`. Set it if the broker has [users of its \
                   own](beside-what-you-have.md#user-names) and authorizes clients itself (`acl defer`, \
                   dynamic-security), so that no user of the tenant gets the rights of a local user. The policy file \
                   and the topics in tokens use the name without the prefix.",
            ..ROW
        },
        Opt {
            name: "client_id_claim",
            of_issuer: true,
            kind: Kind::Text("the name of a claim"),
            default: Unset("any client ID that nobody else holds"),
            reread: Reread::Forgets,
            text: "The claim that holds the client ID for which the token is valid: a string, or an array of strings. \
                   A device can then not use the client ID of another device.",
            ..ROW
        },
        Opt {
            name: "client_id_template",
            of_issuer: true,
            kind: Kind::Text("a text with claims in it, as in device-${sub}"),
            default: Unset("any client ID that nobody else holds"),
            example: Some("device-${sub}"),
            reread: Reread::Forgets,
            text: "The client ID for which the token is valid, built from the token's claims. Use it instead of \
                   `client_id_claim` if no claim holds the client ID itself.",
            ..ROW
        },
        Opt {
            name: "takeover",
            kind: Kind::OneOf(&["subject", "any"]),
            default: Value("subject"),
            example: Some("subject"),
            reread: Reread::Applies,
            text: "With `subject`, a client ID that belongs to one account (issuer and `sub`) is refused to all other \
                   accounts while it is connected or has a kept session. With `any`, every client that can sign in \
                   may take over any client ID, as plain MQTT allows.",
            ..ROW
        },
    ],
};

const OTHERS: Group = Group {
    title: "Beside other authentication",
    text: "",
    options: &[
        Opt {
            name: "on_other",
            kind: Kind::OneOf(&["deny", "defer"]),
            default: Value("deny"),
            example: Some("defer"),
            text: "What happens to a client that sends neither a token nor, if `client_id` is set, a user name and a \
                   password. With `defer`, the next plugin decides, or the broker's `password_file` and `acl_file`, \
                   so that you can move a fleet to tokens one device at a time. User names in \
                   `password_file`, and users of dynamic-security with a password, are then [the \
                   broker's](beside-what-you-have.md#with-devices-that-send-passwords-to-auth0), even if `client_id` \
                   is set: their passwords are not sent to the tenant. With `deny`, the client is refused. A token \
                   [in the wrong form or field](security.md#a-token-in-the-wrong-form) is refused in both \
                   cases.",
            ..ROW
        },
        Opt {
            name: "acl",
            kind: Kind::OneOf(&["own", "defer"]),
            default: Value("own"),
            text: "Who authorizes messages and subscriptions. With `own`, the token and the policy file do. With \
                   `defer`, the broker's `acl_file` or another plugin such as dynamic-security does; if there is \
                   neither, everything is denied. With `defer`, the topics in the token are not read, and \
                   `policy_file` cannot be set.",
            ..ROW
        },
        Opt {
            name: "trusted_proxies",
            kind: Kind::List(
                "addresses or networks separated by commas, as in 127.0.0.1,10.0.0.0/8",
            ),
            default: Unset("none"),
            example: Some("127.0.0.1"),
            reread: Reread::Applies,
            text: "The [proxies](security.md#behind-a-proxy) through which devices connect (nginx, HAProxy, a load \
                   balancer). Their own addresses are never used as a device's address. On Mosquitto 2.0, a \
                   websockets client has the address that such a proxy writes into `X-Forwarded-For`. Make sure that \
                   nobody but the proxy can reach that listener.",
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
            of_issuer: true,
            kind: Kind::SomeOf(&[
                "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
                "HS256",
            ]),
            default: Value("RS256"),
            example: Some("RS256"),
            reread: Reread::Forgets,
            text: "The signature algorithms that are accepted. Auth0 signs with `RS256`, `PS256` or `HS256`, other \
                   providers also with the others. `HS256` requires `hs256_secret_file`. `EdDSA` is Ed25519, which \
                   some providers name `Ed25519`.",
            ..ROW
        },
        Opt {
            name: "hs256_secret_file",
            of_issuer: true,
            kind: Kind::SecretFile,
            default: Needed("required with `HS256`"),
            reread: Reread::Forgets,
            text: "The file that holds the API's signing secret, of at least 32 bytes. Everyone who knows the secret \
                   can create valid tokens.",
            ..ROW
        },
        Opt {
            name: "hs256_secret_encoding",
            of_issuer: true,
            kind: Kind::OneOf(&["utf8", "base64"]),
            default: Value("utf8"),
            reread: Reread::Forgets,
            text: "The encoding of the secret in `hs256_secret_file`. Use `base64` for tenants created before 2017, \
                   whose secrets are encoded.",
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
            reread: Reread::Forgets,
            text: "How far the clocks of this machine and of the tenant may differ, in seconds.",
            ..ROW
        },
    ],
};

const SESSIONS: Group = Group {
    title: "When a session ends",
    text: "",
    options: &[
        Opt {
            name: "on_expiry",
            kind: Kind::OneOf(&["disconnect", "deny"]),
            default: Value("disconnect"),
            example: Some("disconnect"),
            reread: Reread::Applies,
            text: "What happens to a connected device when its token expires. With `disconnect`, it is disconnected and \
                   has to sign in again. With `deny`, it stays connected, and everything that it publishes or would \
                   receive is denied until it renews its token or leaves; it may still unsubscribe.",
            ..ROW
        },
        Opt {
            name: "expiry_jitter",
            kind: Kind::Whole {
                unit: Unit::Seconds,
                least: 0,
                most: 3600,
            },
            default: Value("60"),
            example: Some("60"),
            reread: Reread::Applies,
            text: "By how many seconds at most a device is disconnected before its token expires, so that devices \
                   whose tokens were issued together do not all come back at once. Each session gets its own part of \
                   this time, and never more than a twentieth of what its token has left. With `0`, and with \
                   `on_expiry deny`, rights end exactly with the token.",
            ..ROW
        },
        Opt {
            name: "max_session",
            kind: Kind::Whole {
                unit: Unit::Seconds,
                least: 60,
                most: YEAR,
            },
            default: Unset("as long as the token lasts"),
            example: Some("86400"),
            reread: Reread::Applies,
            text: "How long a device may stay connected after it signed in or renewed its token, in seconds, however \
                   long the token lasts. After that, the same happens as when the token expires.",
            ..ROW
        },
        Opt {
            name: "offline_grace",
            kind: Kind::Whole {
                unit: Unit::Seconds,
                least: 0,
                most: YEAR,
            },
            default: Unset("until the device is back"),
            example: Some("604800"),
            reread: Reread::Applies,
            text: "How long messages are queued for a device that is away and whose token has expired, in seconds from \
                   the end of the token on. The default loses nothing that a sleeping device is waiting for. When the \
                   device is back, it needs a good token and receives what that grants.",
            ..ROW
        },
        Opt {
            name: "expiry_warning",
            kind: Kind::Whole {
                unit: Unit::Seconds,
                least: 1,
                most: 86_400,
            },
            default: Unset("no warning"),
            example: Some("300"),
            reread: Reread::Applies,
            text: "How many seconds before the rights of a connected device end the device gets a message on \
                   `$CONTROL/auth0/v1/expiry`, for which it needs no subscription. A device whose rights last less than \
                   twice as long gets the message when half of that time has passed. See [the \
                   warning](operating.md#the-warning-before-the-end).",
            ..ROW
        },
        Opt {
            name: "on_key_revoked",
            kind: Kind::OneOf(&["disconnect", "keep"]),
            default: Value("disconnect"),
            example: Some("disconnect"),
            text: "What happens to connected devices whose tokens are signed with a key that the tenant has revoked: \
                   one that is missing in a key set that was fetched successfully, or in `jwks_file` when it is read \
                   again. A secret for HS256 counts as revoked when another one replaces it. With `disconnect`, the \
                   rights of these devices end at once, and they are disconnected; for devices that are away it is as \
                   if their tokens expired (`offline_grace`). With `keep`, they stay until their tokens expire. New sign-ins with such tokens are refused in both cases. Devices whose tokens are \
                   signed with other keys are not affected.",
            reread: Reread::Applies,
            ..ROW
        },
    ],
};

/// How claims are named, of which the first that is present counts.
const PLACES: &str = "names of claims, or JSON pointers such as /app/roles, separated by commas";

/// A year, in seconds.
const YEAR: u64 = 365 * 86_400;

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
            reread: Reread::Applies,
            text: "How long a CONNECT may wait for the tenant, and how long fetching the tenant's keys may take, in \
                   seconds.",
            ..ROW
        },
        Opt {
            name: "login_wait",
            kind: Kind::Seconds { most: 60 },
            default: Value("1"),
            example: Some("1"),
            reread: Reread::Applies,
            text: "How long the broker may block for one CONNECT that it cannot answer later, in seconds. This \
                   concerns all clients on Mosquitto 2.0, and MQTT 5 clients on 2.1. With `0` the broker never \
                   blocks.",
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
            reread: Reread::Applies,
            text: "The share of any ten seconds, in percent, for which the broker may block for all CONNECTs \
                   together. When the budget is used up, a device that would have to wait is told to try again.",
            ..ROW
        },
        Opt {
            name: "delay_mqtt5",
            kind: BOOLEAN,
            default: Value("false"),
            reread: Reread::Applies,
            text: "With `true`, MQTT 5 clients on Mosquitto 2.1 are answered later, as MQTT 3 clients are. Set it \
                   only if you trust everyone who can connect: see \
                   [why](compatibility.md#why-mqtt-5-clients-are-not-answered-later).",
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
            reread: Reread::Applies,
            text: "The maximum number of concurrent requests to the tenant. If devices sign in with passwords, this \
                   many threads are started with the broker.",
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
            reread: Reread::Applies,
            text: "The maximum number of requests to the tenant per second in the long run. Up to a minute's worth \
                   may be sent at once. Auth0's free plan allows 5.",
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
            reread: Reread::Forgets,
            text: "How long a successful login is remembered, in seconds, but never beyond the expiry of its token. A \
                   remembered device signs in again without a request to the tenant. With `0`, the tenant is asked \
                   every time.",
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
            of_issuer: true,
            kind: Kind::File,
            default: Unset("the authorities that this machine trusts"),
            example: Some("/etc/ssl/certs/ca-certificates.crt"),
            reread: Reread::Applies,
            text: "A PEM file with the certificate authorities to trust for connections to the tenant. No other \
                   authority is trusted then.",
            ..ROW
        },
        Opt {
            name: "proxy",
            of_issuer: true,
            kind: Kind::Text("the address of an HTTP proxy, as in http://proxy.example:3128"),
            default: Unset("the plugin connects to the tenant directly"),
            reread: Reread::Applies,
            text: "The HTTP proxy through which the plugin connects to the tenant (HTTP CONNECT). TLS runs through it \
                   to the tenant, so the proxy sees the tenant's name, and no password and no token. The proxy looks \
                   the name up. Variables such as `HTTPS_PROXY` in the environment of the broker are ignored: see \
                   [through a proxy](operating.md#through-a-proxy).",
            ..ROW
        },
        Opt {
            name: "proxy_credentials_file",
            of_issuer: true,
            kind: Kind::SecretFile,
            default: Unset("the proxy asks for no credentials"),
            reread: Reread::Applies,
            text: "The file that holds what the proxy asks for, as `USER:PASSWORD` in one line (Basic). Only root and \
                   the broker may be able to read it, as with `client_secret_file`.",
            ..ROW
        },
        Opt {
            name: "jwks_file",
            of_issuer: true,
            kind: Kind::File,
            default: Unset("the plugin fetches the keys from the tenant"),
            reread: Reread::Applies,
            text: "A file with the tenant's signing keys (the JWK Set from `/.well-known/jwks.json`), for a machine \
                   that cannot reach the tenant.",
            ..ROW
        },
        Opt {
            name: "jwks_max_stale",
            of_issuer: true,
            kind: Kind::Whole {
                unit: Unit::Seconds,
                least: 0,
                most: MONTH,
            },
            default: Value("86400"),
            example: Some("86400"),
            reread: Reread::Applies,
            text: "How long fetched keys are used while the tenant cannot be reached, in seconds.",
            ..ROW
        },
        Opt {
            name: "state_dir",
            kind: Kind::Folder,
            default: Unset("nothing is kept over a restart"),
            example: Some("/var/lib/mosquitto/auth0"),
            text: "The directory in which the plugin keeps what must outlive a restart of the broker: the tenant's \
                   public keys, so that devices with tokens can sign in while the tenant cannot be reached; and, for \
                   each session that the broker keeps, its account and the claims that decide what is queued for it. \
                   If instances of the plugin name different directories, sessions are saved in the first. Each broker \
                   needs a directory of its own. The directory must belong to the broker's user, and no other user may \
                   be able to write to it. The plugin creates it if the directory above it belongs to the broker's \
                   user, as Debian's /var/lib/mosquitto does. Leave it there, beside the file in which the broker \
                   keeps its sessions: keep, move and delete both together.",
            ..ROW
        },
    ],
};

const METRICS: Group = Group {
    title: "Metrics",
    text: "What happens in the plugin, as numbers for a dashboard. [Metrics](metrics.md) lists them all.",
    options: &[
        Opt {
            name: "metrics_interval",
            kind: Kind::Whole {
                unit: Unit::Seconds,
                least: 0,
                most: 3600,
            },
            default: Value("10"),
            reread: Reread::Applies,
            text: "How often the plugin publishes its metrics below `$SYS/broker/auth0`, and writes `metrics_file`, in \
                   seconds. A message is published only if its value has changed. With `0`, neither is done.",
            ..ROW
        },
        Opt {
            name: "metrics_file",
            kind: Kind::WrittenFile,
            default: Unset("no file is written"),
            example: Some("/var/lib/prometheus/node-exporter/mosquitto-auth0.prom"),
            reread: Reread::Applies,
            text: "A file into which the plugin writes its metrics for Prometheus, for everybody to read. If its name \
                   ends with `.prom`, it is written for the textfile collector of the node exporter, and otherwise as \
                   OpenMetrics. The broker's user must be able to create files in its folder. When the broker stops, \
                   the file is deleted.",
            ..ROW
        },
    ],
};

const LOGS: Group = Group {
    title: "What is logged, and what is tried out",
    text: "",
    options: &[
        Opt {
            name: "decision_log",
            kind: Kind::WrittenFile,
            default: Unset("decisions are not logged one by one"),
            example: Some("/var/log/mosquitto/auth0-decisions.json"),
            text: "The file to which the plugin appends one line of JSON for each sign-in, each renewal and, as \
                   `decision_log_messages` says, each decision about a message or a subscription. See [the decision \
                   log](operating.md#the-decision-log). The broker's user must be able to create the file; nobody but \
                   its owner and group may read it. It holds client IDs, user names, addresses and the claims that \
                   rights come from. SIGHUP opens the file again, so that logrotate can move it away.",
            ..ROW
        },
        Opt {
            name: "decision_log_messages",
            kind: Kind::OneOf(&["denied", "all", "none"]),
            default: Value("denied"),
            example: Some("denied"),
            reread: Reread::Applies,
            text: "Which decisions about messages and subscriptions the decision log has: those that deny, all, or \
                   none. Where there is a `shadow_policy`, `denied` also has those about which the two policies \
                   differ. With `all`, each message costs several times as much, because every message and every \
                   delivery becomes a line.",
            ..ROW
        },
        Opt {
            name: "shadow_policy",
            kind: Kind::File,
            default: Unset("no other policy is tried out"),
            reread: Reread::Forgets,
            text: "A policy file that is tried out and decides nothing. For each sign-in, message and subscription \
                   the plugin also asks this file, together with the token's own rules, and reports where it would \
                   decide otherwise than `policy_file`. See [the shadow \
                   policy](operating.md#try-a-policy-out-the-shadow-policy). SIGHUP reads the file again. A mistake in \
                   it is reported, and stops neither the broker nor the reload of anything else.",
            ..ROW
        },
    ],
};

const CONFIG_FILE: Group = Group {
    title: "Options in a separate file",
    text: "",
    options: &[Opt {
        name: "config_file",
        kind: Kind::File,
        default: Unset("all options are in mosquitto.conf"),
        reread: Reread::Applies,
        text: "A TOML file with further options, each as `NAME = \"VALUE\"`. A list may be an array, and a number \
               needs no quotes. If the file holds a secret, it must not be readable by other users of the machine. \
               SIGHUP reads the file again, as it does with every file that an option names.\n\nThe file may have \
               `[[issuer]]` tables, one for each of several issuers \
               ([Several issuers](other-providers.md#several-issuers)).",
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
                write!(f, "one or more of {words}, separated by commas")
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
            Self::WrittenFile => f.write_str("the full path of a file to write"),
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
    fn every_option_is_described() {
        for option in all() {
            assert!(option.text.len() > 20, "{}", option.name);
            assert!(!option.since.is_empty(), "{}", option.name);
            assert!(
                !(option.secret && option.example.is_some()),
                "{}",
                option.name
            );
        }
    }
}
