use super::{options::Kind, *};
use crate::username::Usernames;
use acl::claims::Verbs;
use input::json::{Place, Places};
use std::{fs, os::unix::fs::PermissionsExt};

fn read(pairs: &[(&str, &str)]) -> Result<Config> {
    Config::read(
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
    )
}

/// The two options without which nothing starts, and more.
fn with(pairs: &[(&str, &str)]) -> Result<Config> {
    let mut all = vec![
        ("domain", "example.eu.auth0.com"),
        ("audience", "https://mqtt.example/"),
    ];
    all.extend(pairs);
    read(&all)
}

fn file(content: &str, mode: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// An error is one line, names the option and the value, and says what to do.
#[track_caller]
fn refuses(result: Result<Config>, option: &str, parts: &[&str]) {
    let error = result.expect_err(option).to_string();
    assert!(error.starts_with(&format!("option {option}")), "{error}");
    assert!(!error.contains('\n'), "{error}");
    for part in parts {
        assert!(error.contains(part), "{error} lacks {part}");
    }
}

#[test]
fn two_options_are_a_full_set_up_for_tokens() {
    let config = with(&[]).unwrap();
    assert_eq!(
        config.issuers[0].tenant,
        TenantAddress::Domain("example.eu.auth0.com".into())
    );
    assert_eq!(config.issuers[0].names, ["https://example.eu.auth0.com/"]);
    assert_eq!(config.issuers[0].audiences, ["https://mqtt.example/"]);
    assert!(config.issuers[0].application.is_none());
    assert_eq!(
        (
            &config.issuers[0].reading.topics,
            &config.issuers[0].usernames
        ),
        (
            &Some(Place::Name("topics".into())),
            &Usernames::Claims(Places::parse(["sub"]))
        )
    );
    assert_eq!(config.issuers[0].algorithms, [Algorithm::Rs256]);
    assert_eq!(
        (config.leeway, config.timeout),
        (30, Duration::from_secs(5))
    );
    assert_eq!(config.issuers[0].keys, KeySource::Tenant);
}

#[test]
fn credentials_mode_needs_an_application_whole() {
    let secret = file("s3cret\n", 0o640);
    let config = with(&[
        ("client_id", "abc"),
        ("client_secret_file", path(&secret)),
        ("connection", "Thermostats"),
    ])
    .unwrap();
    let application = config.issuers[0].application.clone().unwrap();
    assert_eq!(application.client_id, "abc");
    let ApplicationCredential::Secret(found) = &application.credential else {
        panic!("{application:?}");
    };
    assert_eq!(found.reveal(), b"s3cret");
    assert_eq!(
        (
            application.connection.as_deref(),
            application.scope.as_str()
        ),
        (Some("Thermostats"), "openid")
    );

    refuses(
        with(&[("client_id", "abc")]),
        "client_secret_file is missing",
        &["client_id is set"],
    );
    refuses(with(&[("client_secret", "x")]), "client_id is missing", &[]);
    refuses(
        with(&[("connection", "Thermostats")]),
        "connection",
        &["'Thermostats'", "credentials mode"],
    );
    refuses(with(&[("scope", "openid")]), "scope", &["credentials mode"]);
    refuses(
        with(&[
            ("client_id", "a"),
            ("client_secret", "x"),
            ("client_secret_file", path(&secret)),
        ]),
        "client_secret",
        &["keep the file"],
    );
}

#[test]
fn what_is_missing_is_named_with_a_line_to_add() {
    refuses(read(&[]), "domain is missing", &["plugin_opt_domain"]);
    refuses(
        read(&[("domain", "t.example")]),
        "audience is missing",
        &["plugin_opt_audience"],
    );
}

#[test]
fn unknown_double_and_empty_options_are_refused() {
    refuses(
        with(&[("audiance", "x")]),
        "'audiance'",
        &["value 'x'", "did you mean audience?"],
    );
    refuses(
        with(&[("nonsense", "x")]),
        "'nonsense'",
        &["docs/options.md"],
    );
    refuses(
        with(&[("audience", "again")]),
        "audience",
        &["set twice", "'again'"],
    );
    refuses(with(&[("connection", " ")]), "connection", &["empty"]);
}

#[test]
fn quotes_and_comments_are_no_part_of_a_value() {
    for value in [
        "\"https://mqtt.example/\"",
        "https://mqtt.example/ # our API",
    ] {
        refuses(
            read(&[("domain", "t.example"), ("audience", value)]),
            "audience",
            &["leave quotes and comments out"],
        );
    }
}

#[test]
fn a_domain_is_a_host_name_and_never_plain_http() {
    refuses(
        read(&[("domain", "http://t.example"), ("audience", "a")]),
        "domain",
        &["'http://t.example'", "plain http", "host name only"],
    );
    for bad in [
        "https://t.example",
        "t.example/",
        "t.example/x",
        "t example",
        "t.example:",
        "t.example:0",
        "t.example:99999",
        "ex\u{e4}mple",
        "[::1]",
    ] {
        refuses(
            read(&[("domain", bad), ("audience", "a")]),
            "domain",
            &["example.eu.auth0.com"],
        );
    }
    let config = read(&[("domain", "Localhost:8443"), ("audience", "a")]).unwrap();
    assert_eq!(config.issuers[0].names, ["https://localhost:8443/"]);
}

#[test]
fn issuers_are_a_list_taken_as_written() {
    let config = with(&[("issuer", "https://a.example/, https://b.example")]).unwrap();
    assert_eq!(
        config.issuers[0].names,
        ["https://a.example/", "https://b.example"]
    );
    assert_eq!(
        config.issuers[0].tenant,
        TenantAddress::Domain("example.eu.auth0.com".into())
    );
    let config = read(&[("issuer", "https://id.example/realm"), ("audience", "a")]).unwrap();
    assert_eq!(
        config.issuers[0].tenant,
        TenantAddress::Issuer("https://id.example/realm".into())
    );
    refuses(
        with(&[("issuer", "http://a.example/")]),
        "issuer",
        &["'http://a.example/'", "plain http"],
    );
    for bad in [
        "a.example",
        "https://",
        "https:///x",
        "https://a.example/?x",
        ",",
    ] {
        refuses(with(&[("issuer", bad)]), "issuer", &["https://"]);
    }
}

#[test]
fn options_choose_the_claims_that_give_rights() {
    let reading = |pairs: &[(&str, &str)]| with(pairs).unwrap().issuers[0].reading.clone();
    let default = reading(&[]);
    assert!(default.permissions && !default.scope && !default.placeholders);
    assert_eq!(default.verbs, Verbs::default());
    let all = reading(&[
        ("rights", "scope, topics"),
        ("topics_pointer", "/app/topics"),
        ("permission_verbs", "write, read, readwrite"),
        ("claim_placeholders", "true"),
    ]);
    assert_eq!(all.topics, Some(Place::Pointer("/app/topics".into())));
    assert!(!all.permissions && all.scope && all.placeholders);
    assert_eq!(
        (
            all.verbs.publish.as_str(),
            all.verbs.subscribe.as_str(),
            all.verbs.both.as_str()
        ),
        ("write", "read", "readwrite")
    );
    assert_eq!(reading(&[("rights", "permissions")]).topics, None);

    for name in [
        "permissions_claim",
        "scope_claim",
        "roles_claim",
        "username_claim",
    ] {
        assert!(with(&[(name, "a, /b/c,d.e")]).is_ok(), "{name}");
        refuses(
            with(&[(name, ",")]),
            name,
            &["names of claims, or JSON pointers"],
        );
    }
    assert!(with(&[("username_template", "${tid}:${oid}")]).is_ok());
    for (text, part) in [
        ("%u", "it may only name claims that have one value"),
        (
            "x-${list[*]}",
            "it may only name claims that have one value",
        ),
        ("%c", "it asks for the client ID itself"),
        ("x", "'x'"),
    ] {
        refuses(
            with(&[("username_template", text)]),
            "username_template",
            &[part],
        );
    }
    let both = [("username_template", "${a}"), ("username_claim", "b")];
    refuses(
        with(&both),
        "username_template",
        &["username_claim is set too"],
    );

    refuses(
        with(&[("topics_claim", "a"), ("topics_pointer", "/a")]),
        "topics_pointer",
        &["'/a'", "topics_claim is set too"],
    );
    refuses(
        with(&[("topics_pointer", "a")]),
        "topics_pointer",
        &["'a'", "as in /app/topics"],
    );
    for bad in ["roles", "topics permissions", ","] {
        refuses(
            with(&[("rights", bad)]),
            "rights",
            &["topics, permissions, scope"],
        );
    }
    for bad in ["write,read", "a,a,b", "a,b:,c", "a,,b", "a b,c,d"] {
        refuses(
            with(&[("permission_verbs", bad)]),
            "permission_verbs",
            &[bad, "three different words"],
        );
    }
    refuses(
        with(&[("claim_placeholders", "yes")]),
        "claim_placeholders",
        &["true or false"],
    );
    refuses(
        with(&[("policy_file", "/nonexistent")]),
        "policy_file",
        &["cannot be read"],
    );
}

#[test]
fn algorithms_come_from_a_short_list() {
    assert_eq!(
        with(&[("algorithms", "PS256, RS256,RS256")])
            .unwrap()
            .issuers[0]
            .algorithms,
        [Algorithm::Ps256, Algorithm::Rs256]
    );
    for bad in ["none", "rs256", "ES512", "RS256 PS256", ","] {
        refuses(
            with(&[("algorithms", bad)]),
            "algorithms",
            &["ES256, ES384, EdDSA, HS256"],
        );
    }
}

#[test]
fn hs256_needs_a_long_secret_from_a_file() {
    let text = file("0123456789abcdef0123456789abcdef\n", 0o600);
    let config = with(&[("algorithms", "HS256"), ("hs256_secret_file", path(&text))]).unwrap();
    assert_eq!(
        config.issuers[0].hs256_secret.as_ref().unwrap().reveal(),
        b"0123456789abcdef0123456789abcdef"
    );

    // 33 bytes, in both alphabets and with and without padding.
    for encoded in [
        "-_-_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "+/+/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "+/+/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ] {
        let encoded = file(encoded, 0o600);
        let options = [
            ("algorithms", "HS256"),
            ("hs256_secret_file", path(&encoded)),
            ("hs256_secret_encoding", "base64"),
        ];
        assert_eq!(
            with(&options).unwrap().issuers[0]
                .hs256_secret
                .as_ref()
                .unwrap()
                .reveal()[..3],
            [0xfb, 0xff, 0xbf]
        );
    }

    let short = file("too short", 0o600);
    refuses(
        with(&[("algorithms", "HS256"), ("hs256_secret_file", path(&short))]),
        "hs256_secret_file",
        &["32 bytes"],
    );
    refuses(
        with(&[("algorithms", "HS256")]),
        "hs256_secret_file is missing",
        &[],
    );
    refuses(
        with(&[("hs256_secret_file", path(&text))]),
        "hs256_secret_file",
        &["does not list HS256"],
    );
    refuses(
        with(&[("hs256_secret_encoding", "base64")]),
        "hs256_secret_encoding",
        &["needs hs256_secret_file"],
    );
    let options = |encoding| {
        [
            ("algorithms", "HS256"),
            ("hs256_secret_file", path(&text)),
            ("hs256_secret_encoding", encoding),
        ]
    };
    refuses(
        with(&options("hex")),
        "hs256_secret_encoding",
        &["'hex'", "utf8"],
    );
    let broken = file("!!!!0123456789abcdef0123456789abcdef", 0o600);
    let options = [
        ("algorithms", "HS256"),
        ("hs256_secret_file", path(&broken)),
        ("hs256_secret_encoding", "base64"),
    ];
    refuses(with(&options), "hs256_secret_encoding", &["not base64"]);
}

#[test]
fn a_secret_file_that_others_may_read_is_refused() {
    let secret = file("s3cret", 0o644);
    refuses(
        with(&[("client_id", "a"), ("client_secret_file", path(&secret))]),
        "client_secret_file",
        &["mode 0644", "chmod 640"],
    );
}

#[test]
fn a_config_file_that_others_may_read_holds_no_secret() {
    let text = "client_id = \"a\"\nclient_secret = \"b\"\n";
    let open = file(text, 0o644);
    refuses(
        with(&[("config_file", path(&open))]),
        "config_file",
        &["holds a secret", "mode 0644", "chmod 640"],
    );
    assert!(with(&[("config_file", path(&file(text, 0o640)))]).is_ok());
}

#[test]
fn a_mistake_in_the_file_is_found_by_its_line() {
    for (text, line) in [
        ("leeway = 1\nx\n", 2),
        ("leeway = 1\n\nleeway = 2\n", 3),
        ("a = [", 1),
    ] {
        let toml = file(text, 0o644);
        refuses(
            with(&[("config_file", path(&toml))]),
            "config_file",
            &[&format!("line {line} ")],
        );
    }
}

#[test]
fn a_secret_is_in_no_error() {
    for options in [
        &[
            ("client_id", "a"),
            ("client_secret_file", "hunter2-hunter2"),
        ][..],
        &[
            ("algorithms", "HS256"),
            ("hs256_secret_file", "hunter2-hunter2"),
        ],
    ] {
        let error = with(options).unwrap_err().to_string();
        assert!(
            !error.contains("hunter2") && error.contains("path"),
            "{error}"
        );
    }
    for options in [
        &[("client_secret", "hunter2-hunter2")][..],
        &[("issuer", "https://user:hunter2@t.example/")],
        &[("jwks_uri", "http://hunter2@t.example/")],
        &[("issuer", "https://user:hunter2/x@t.example/")],
        &[
            ("issuer", "https://t.example/"),
            ("discovery_url", "https://user:hunter2@t.example/document"),
        ],
        &[
            ("client_id", "a"),
            ("client_secret", "hunter2-hunter2"),
            ("client_secret", "hunter2-hunter2"),
        ],
        &[("client_secrit", "hunter2-hunter2")],
        &[("client_secrets", "hunter2-hunter2")],
    ] {
        let error = with(options).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    let domain = [("domain", "user:hunter2@t.example"), ("audience", "a")];
    let error = read(&domain).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
    let toml = file(
        "client_id = \"a\"\nclient_secret = \"hunter2\" oops\n",
        0o600,
    );
    refuses(
        with(&[("config_file", path(&toml))]),
        "config_file",
        &["line 2"],
    );
    assert!(
        !with(&[("config_file", path(&toml))])
            .unwrap_err()
            .to_string()
            .contains("hunter2")
    );
    assert!(
        !format!(
            "{:?}",
            with(&[("client_id", "a"), ("client_secret", "hunter2")]).unwrap()
        )
        .contains("hunter2")
    );
}

#[test]
fn numbers_have_limits() {
    assert_eq!(with(&[("leeway", "0")]).unwrap().leeway, 0);
    let ends = |pairs: &[(&str, &str)]| {
        let config = with(pairs).unwrap();
        let warning = config.expiry_warning;
        (config.expiry_jitter, config.max_session, warning)
    };
    let grace = |pairs: &[(&str, &str)]| with(pairs).unwrap().offline_grace;
    assert_eq!(grace(&[]), None);
    assert_eq!(grace(&[("offline_grace", "0")]), Some(0));
    assert_eq!(ends(&[]), (60, None, 0));
    let set = [("max_session", "60"), ("expiry_warning", "300")];
    assert_eq!(ends(&set), (60, Some(60), 300));
    assert_eq!(ends(&[("on_expiry", "deny")]), (0, None, 0));
    refuses(with(&[("on_expiry", "allow")]), "on_expiry", &["deny"]);
    for (option, bad) in [
        ("leeway", "301"),
        ("expiry_jitter", "3601"),
        ("max_session", "59"),
        ("max_session", "0"),
        ("expiry_warning", "0"),
        ("offline_grace", "1 day"),
        ("expiry_warning", "1.5"),
        ("leeway", "-1"),
        ("leeway", "30s"),
        ("timeout", "0"),
        ("timeout", "61"),
        ("timeout", "1.5"),
    ] {
        refuses(with(&[(option, bad)]), option, &["whole seconds", bad]);
    }
    for (option, bad, range) in [
        ("login_wait", "60.5", "seconds from 0 to 60"),
        ("stall_budget", "101", "percent from 0 to 100"),
        ("login_workers", "0", "number from 1 to 256"),
        ("login_rate", "10001", "number from 1 to 10000"),
        ("login_cache", "2592001", "seconds from 0 to 2592000"),
        ("jwks_max_stale", "2592001", "seconds from 0 to 2592000"),
    ] {
        refuses(with(&[(option, bad)]), option, &[range, bad]);
    }
}

#[test]
fn files_must_be_there() {
    for option in ["ca_file", "jwks_file"] {
        refuses(
            with(&[(option, "/nonexistent/x.pem")]),
            option,
            &["'/nonexistent/x.pem'", "cannot be read", "mosquitto"],
        );
    }
}

#[test]
fn the_file_holds_the_same_options_and_both_may_be_used() {
    let toml = file(
        "# ours\naudience = [\"https://a/\", \"https://b/\"]\nleeway = 5\ntopics_claim = \"https://mqtt.example/topics\"\n",
        0o644,
    );
    let config = read(&[("domain", "t.example"), ("config_file", path(&toml))]).unwrap();
    assert_eq!(config.issuers[0].audiences, ["https://a/", "https://b/"]);
    assert_eq!(
        (config.leeway, config.issuers[0].reading.topics.clone()),
        (5, Some(Place::Name("https://mqtt.example/topics".into())))
    );

    refuses(
        with(&[("config_file", path(&toml))]),
        "audience",
        &["set twice"],
    );
    refuses(
        with(&[("config_file", "/nonexistent")]),
        "config_file",
        &["cannot be read"],
    );
    for (text, part) in [
        ("x = 1", "'x'"),
        ("leeway = true", "'leeway'"),
        ("config_file = \"y\"", "another config_file"),
        ("leeway 5", "line 1"),
        ("[auth0]\ndomain=\"x\"", "'auth0'"),
    ] {
        let toml = file(text, 0o644);
        let error = with(&[("config_file", path(&toml))])
            .unwrap_err()
            .to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn an_application_has_a_private_key_or_a_secret() {
    let key = testbed::signing::shared_key(0).private_pem();
    let key = file(&key, 0o640);
    let key_file = ("client_assertion_key_file", path(&key));
    let id = ("client_id", "abc");
    let application =
        |options: &[(&str, &str)]| with(options).unwrap().issuers[0].application.clone();
    let signs = |options: &[(&str, &str)]| {
        let application = application(options).unwrap();
        assert!(matches!(
            application.credential,
            ApplicationCredential::Key(_)
        ));
        assert_eq!(application.auth, Some(ClientAuth::Assertion));
    };
    signs(&[id, key_file]);
    signs(&[
        id,
        key_file,
        ("token_endpoint_auth_method", "private_key_jwt"),
    ]);
    signs(&[
        id,
        key_file,
        ("client_assertion_algorithm", "PS256"),
        ("client_assertion_kid", "k"),
    ]);
    for (options, option, why) in [
        (&[key_file][..], "client_id is missing", "private key"),
        (
            &[id, key_file, ("client_secret", "x")],
            "client_assertion_key_file",
            "client_secret is set too",
        ),
        (
            &[
                id,
                key_file,
                ("token_endpoint_auth_method", "client_secret_basic"),
            ],
            "token_endpoint_auth_method",
            "never sent",
        ),
        (
            &[
                id,
                ("client_secret", "x"),
                ("token_endpoint_auth_method", "private_key_jwt"),
            ],
            "client_assertion_key_file is missing",
            "the application's private key",
        ),
        (
            &[id, ("token_endpoint_auth_method", "private_key_jwt")],
            "client_assertion_key_file is missing",
            "the application's private key",
        ),
        (
            &[id, ("client_secret", "x"), ("client_assertion_kid", "k")],
            "client_assertion_kid",
            "it needs client_assertion_key_file",
        ),
        (
            &[id, key_file, ("client_assertion_algorithm", "ES256")],
            "client_assertion_key_file",
            "P-256",
        ),
        (
            &[id, key_file, ("client_assertion_algorithm", "none")],
            "client_assertion_algorithm",
            "RS256",
        ),
    ] {
        refuses(with(options), option, &[why]);
    }
    let text = file("no key", 0o640);
    let none = ("client_assertion_key_file", path(&text));
    refuses(
        with(&[id, none]),
        "client_assertion_key_file",
        &["openssl genrsa"],
    );
    let open = file(&testbed::signing::shared_key(0).private_pem(), 0o644);
    let open = ("client_assertion_key_file", path(&open));
    refuses(
        with(&[id, open]),
        "client_assertion_key_file",
        &["chmod 640"],
    );
}

#[test]
fn a_proxy_is_an_http_address_whose_credentials_are_in_a_file() {
    let pair = file("user:a:b\n", 0o640);
    let base = [("domain", "t.example"), ("audience", "a")];
    let proxy = |options: &[(&str, &str)]| {
        let config = read(&[&base[..], options].concat())?;
        Ok(config.issuers[0].proxy.clone())
    };
    let error = |options: &[(&str, &str)]| -> String {
        let result: Result<_> = proxy(options);
        result.unwrap_err().to_string()
    };
    let good = |options: &[(&str, &str)]| proxy(options).unwrap().unwrap();
    assert_eq!(proxy(&[]).unwrap(), None);
    for (value, address) in [
        ("http://proxy.example:3128", "proxy.example:3128"),
        ("http://192.0.2.1:8080/", "192.0.2.1:8080"),
        ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128"),
    ] {
        assert_eq!(good(&[("proxy", value)]).address, address);
    }
    for value in [
        "proxy.example:3128",
        "https://proxy.example:3128",
        "socks5://proxy.example:1080",
        "http://proxy.example",
        "http://proxy.example:0",
        "http://proxy.example:+1",
        "http://proxy.example:3128/path",
        "http://:3128",
        "http://[proxy]:3128",
        "http://2001:db8::1:3128",
    ] {
        let error = error(&[("proxy", value)]);
        assert!(error.contains("http://proxy.example:3128"), "{error}");
    }
    let in_address = error(&[("proxy", "http://user:hidden@proxy.example:3128")]);
    assert!(in_address.contains("proxy_credentials_file") && !in_address.contains("hidden"));

    let address = ("proxy", "http://proxy.example:3128");
    let credentials = ("proxy_credentials_file", path(&pair));
    let secret = good(&[address, credentials]).credentials.unwrap();
    assert_eq!(secret.reveal(), b"user:a:b");
    assert!(error(&[credentials]).contains("it needs proxy"));
    for (text, mode, why) in [
        ("only-a-user", 0o640, "USER:PASSWORD"),
        ("user:two\nlines", 0o640, "USER:PASSWORD"),
        ("user:password", 0o644, "chmod 640"),
    ] {
        let file = file(text, mode);
        let error = error(&[address, ("proxy_credentials_file", path(&file))]);
        assert!(error.contains(why) && !error.contains(text), "{error}");
    }
}

/// Every commented line of `packaging/auth0.conf`, with files that are there.
#[test]
fn the_examples_together_are_a_configuration() {
    let secret = file("s3cret", 0o640);
    let policy = file("", 0o644);
    let mut pairs = Vec::new();
    for option in options::all() {
        let Some(example) = option.example else {
            continue;
        };
        pairs.push(match option.kind {
            Kind::SecretFile => (option.name, path(&secret)),
            Kind::File => (option.name, path(&policy)),
            Kind::Folder => continue,
            _ => (option.name, example),
        });
    }
    assert!(pairs.len() > 20);
    read(&pairs).unwrap();
}
