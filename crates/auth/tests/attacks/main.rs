//! The known attacks on token verifiers, each by name with the test that shows its result (RFC 8725, RFC
//! 9700, RFC 7515 to 7519, and vulnerabilities of other implementations).

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod second_opinion;
mod wycheproof;

use auth::refusal::Reason::*;
use bench::TokenResult::{In, Out};
use bench::*;
use serde_json::{Value, json};
use testbed::signing::{Alg, hs256_raw, now, unsigned, url64};

/// `test: attack => [result, expected result], ...;`
macro_rules! attacks {
    ($($test:ident: $attack:literal => $([$met:expr, $must:expr]),+ ;)*) => {
        $(#[test] fn $test() { $(assert_eq!($met, $must, $attack);)+ })*

        /// Prints the table: `cargo test -p auth --test attacks -- --nocapture the_table`.
        #[test]
        fn the_table() {
            $(println!("{:<44} {}", stringify!($test), $attack);)*
        }
    };
}

attacks! {
    // Not an attack: without this row every one below could be right for the wrong reason.
    a_good_token_comes_in: "none" =>
        [by_default(&signed(&header().to_string(), &claims().to_string())), In("auth0|1a".into())],
        [with_all(&hs256_with(SECRET)), In("auth0|1a".into())],
        [with_all(&ps256()), In("auth0|1a".into())];

    // The algorithm.
    alg_none: "alg none in four spellings, with and without a signature" =>
        [by_default(&unsigned(json!({"alg": "none"}), claims())), Out(TokenAlgorithm)],
        [by_default(&unsigned(json!({"alg": "None"}), claims())), Out(TokenAlgorithm)],
        [by_default(&unsigned(json!({"alg": "nOnE"}), claims())), Out(TokenAlgorithm)],
        [with_all(&unsigned(json!({"alg": "NONE"}), claims())), Out(TokenAlgorithm)],
        [with_all(&with_header("alg", json!("none"))), Out(TokenAlgorithm)];
    alg_absent: "no alg" => [by_default(&without_header("alg")), Out(TokenMalformed)];
    alg_not_a_string: "alg of another type" =>
        [by_default(&with_header("alg", json!(["RS256"]))), Out(TokenMalformed)],
        [by_default(&with_header("alg", json!(256))), Out(TokenMalformed)],
        [by_default(&with_header("alg", json!(null))), Out(TokenMalformed)];
    alg_in_another_case: "rs256" => [by_default(&with_header("alg", json!("rs256"))), Out(TokenAlgorithm)];
    alg_not_configured: "an algorithm that is good but not configured" =>
        [by_default(&ps256()), Out(TokenAlgorithm)],
        [by_default(&with_header("alg", json!("RS512"))), Out(TokenAlgorithm)],
        [with_all(&with_header("alg", json!("ES256"))), Out(TokenAlgorithm)];
    public_key_as_hmac_secret: "HS256 with the public key as the secret: PEM, DER, modulus" =>
        [by_default(&hs256_with(key().public_pem().as_bytes())), Out(TokenAlgorithm)],
        [with_all(&hs256_with(key().public_pem().as_bytes())), Out(TokenSignature)],
        [with_all(&hs256_with(&key().public_der())), Out(TokenSignature)],
        [with_all(&hs256_with(&key().modulus())), Out(TokenSignature)],
        [with_all(&hs256_with(url64(&key().modulus()).as_bytes())), Out(TokenSignature)];
    empty_hmac_secret: "HS256 with no secret" => [with_all(&hs256_with(b"")), Out(TokenSignature)];
    rs_ps_swap: "an RS256 signature called PS256, and the other way round" =>
        [with_all(&with_header("alg", json!("PS256"))), Out(TokenSignature)],
        [with_all(&key().sign(Alg::Ps256, header(), claims())), Out(TokenSignature)];
    rsa_signature_called_hs256: "an RSA signature called HS256" => [with_all(&with_header("alg", json!("HS256"))), Out(TokenSignature)];

    // The key.
    another_key: "signed by somebody else under the tenant's kid" =>
        [by_default(&evil_key().sign(Alg::Rs256, header(), claims())), Out(TokenSignature)];
    kid_missing: "no kid: the only key is tried" =>
        [by_default(&without_header("kid")), In("auth0|1a".into())],
        [by_default(&evil_key().sign(Alg::Rs256, json!({"alg": "RS256"}), claims())), Out(TokenSignature)];
    kid_empty: "an empty kid" => [by_default(&with_header("kid", json!(""))), Out(TokenKeyUnknown)];
    kid_huge: "a kid of 1 MB, and one that only just fits a header" =>
        [by_default(&with_header("kid", json!("k".repeat(1 << 20)))), Out(TokenMalformed)],
        [by_default(&with_header("kid", json!("k".repeat(2000)))), Out(TokenKeyUnknown)];
    kid_injection: "a path, SQL, a NUL, a URL in kid" =>
        [by_default(&with_header("kid", json!("../../dev/null"))), Out(TokenKeyUnknown)],
        [by_default(&with_header("kid", json!("x' UNION SELECT 'secret"))), Out(TokenKeyUnknown)],
        [by_default(&with_header("kid", json!(format!("{}\0", key().kid())))), Out(TokenKeyUnknown)],
        [by_default(&with_header("kid", json!("https://evil.example/k"))), Out(TokenKeyUnknown)];
    kid_not_a_string: "kid of another type" => [by_default(&with_header("kid", json!([key().kid()]))), Out(TokenMalformed)];
    key_in_the_token: "jwk, jku, x5u and x5c that bring the attacker's key" =>
        [by_default(&evil_key().sign(Alg::Rs256, header_with_key(), claims())), Out(TokenKeyUnknown)],
        [by_default(&evil_key().sign(Alg::Rs256, header_with_addresses(), claims())), Out(TokenSignature)],
        [by_default(&with_header("jku", json!("https://127.0.0.1:1/"))), In("auth0|1a".into())];

    // The header.
    crit: "extensions marked critical" =>
        [by_default(&with_header("crit", json!(["exp"]))), Out(TokenExtension)],
        [by_default(&with_header("crit", json!([]))), Out(TokenExtension)];
    unencoded_payload: "b64: false" => [by_default(&with_header("b64", json!(false))), Out(TokenExtension)];
    compressed: "zip" => [by_default(&with_header("zip", json!("DEF"))), Out(TokenExtension)];
    typ: "another type of token; both that are good, in other spellings" =>
        [by_default(&with_header("typ", json!("logout+jwt"))), Out(TokenType)],
        [by_default(&with_header("typ", json!("dpop+jwt"))), Out(TokenType)],
        [by_default(&with_header("typ", json!(""))), Out(TokenType)],
        [by_default(&with_header("typ", json!(7))), Out(TokenMalformed)],
        [by_default(&with_header("typ", json!("at+jwt"))), In("auth0|1a".into())],
        [by_default(&with_header("typ", json!("application/AT+JWT"))), In("auth0|1a".into())],
        [by_default(&without_header("typ")), In("auth0|1a".into())];
    double_header_member: "a header that names alg twice" =>
        [by_default(&signed(&format!(r#"{{"alg":"RS256","kid":"{}","alg":"none"}}"#, key().kid()), &claims().to_string())), Out(TokenDouble)],
        [by_default(&signed(&format!(r#"{{"alg":"RS256","kid":"{}","x":1,"x":1}}"#, key().kid()), &claims().to_string())), Out(TokenDouble)];
    header_is_no_object: "a header that is an array, text, nothing" =>
        [by_default(&signed("[]", &claims().to_string())), Out(TokenMalformed)],
        [by_default(&signed("", &claims().to_string())), Out(TokenMalformed)];

    // The form.
    encrypted: "a JWE of five parts" => [by_default("eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d"), Out(TokenEncrypted)];
    json_serialization: "a JWS in JSON form" => [by_default(r#"{"payload":"","signatures":[]}"#), Out(TokenMalformed)];
    two_parts: "two parts" => [by_default("eyJhbGciOiJSUzI1NiJ9.e30"), Out(TokenMalformed)];
    four_parts: "four parts" => [by_default(&format!("{}.", good())), Out(TokenMalformed)];
    empty_parts: "empty parts" =>
        [by_default(".."), Out(TokenMalformed)],
        [by_default(&format!("{}.", good().rsplit_once('.').unwrap().0)), Out(TokenSignature)];
    white_space: "white space around and inside" =>
        [by_default(&format!(" {}", good())), Out(TokenWrapped)],
        [by_default(&format!("{}\n", good())), Out(TokenWrapped)],
        [by_default(&good().replacen('.', ". ", 1)), Out(TokenWrapped)];
    padding: "padded base64" =>
        [by_default(&format!("{}=", good())), Out(TokenWrapped)],
        [by_default(&good().replacen('.', "=.", 1)), Out(TokenWrapped)];
    other_alphabet: "+ and / in base64" =>
        [by_default(&other_signature(good(), "+")), Out(TokenWrapped)],
        [by_default(&other_signature(good(), "/")), Out(TokenWrapped)];
    stray_bits: "base64 whose last character has bits that mean nothing" => [by_default(&with_stray_bits(&good())), Out(TokenMalformed)];
    damaged_payload: "a damaged payload: nobody looks for its key" =>
        [by_default(&with_header("kid", json!("unknown"))), Out(TokenKeyUnknown)],
        [by_default(&damaged(&with_header("kid", json!("unknown")))), Out(TokenMalformed)],
        [by_default(&damaged(&good())), Out(TokenMalformed)];
    too_long: "a token beyond the limit" => [by_default(&with_claim("x", json!("x".repeat(160 * 1024)))), Out(TokenMalformed)];
    long_but_allowed: "a token with all the claims that Auth0 allows (100 KB)" => [by_default(&with_claim("x", json!("x".repeat(100 * 1024)))), In("auth0|1a".into())];
    deep_nesting: "claims nested fifty thousand deep" =>
        [by_default(&with_raw_claim("x", &("[".repeat(50_000) + &"]".repeat(50_000)))), Out(TokenMalformed)];
    one_bit: "each of the signature's and payload's ends changed by a bit" =>
        [by_default(&other_signature(good(), "")), Out(TokenSignature)],
        [by_default(&signed(&header().to_string(), &claims().to_string()).replacen(".eyJ", ".eyK", 1)), Out(TokenSignature)];

    // The claims.
    double_claim: "a payload that names sub twice, in two spellings" =>
        [by_default(&signed(&header().to_string(), &claims().to_string().replacen('{', r#"{"sub":"auth0|admin","#, 1))), Out(TokenDouble)],
        [by_default(&signed(&header().to_string(), &claims().to_string().replacen('{', r#"{"s\u0075b":"auth0|admin","#, 1))), Out(TokenDouble)];
    payload_is_no_object: "a payload that is no JSON object" =>
        [by_default(&signed(&header().to_string(), "[]")), Out(TokenMalformed)],
        [by_default(&signed(&header().to_string(), "foo")), Out(TokenMalformed)],
        [by_default(&key().sign_raw(Alg::Rs256, header().to_string().as_bytes(), b"{\"sub\":\"\xff\"}")), Out(TokenMalformed)];
    exp_absent: "no exp" => [by_default(&without_claim("exp")), Out(TokenClaims)];
    exp_of_another_kind: "exp as text, negative, beyond all numbers, beyond all dates" =>
        [by_default(&with_claim("exp", json!((now() + 3600).to_string()))), Out(TokenClaims)],
        [by_default(&with_claim("exp", json!(null))), Out(TokenClaims)],
        [by_default(&with_claim("exp", json!(-1))), Out(TokenClaims)],
        [by_default(&with_raw_claim("exp", "1e400")), Out(TokenMalformed)],
        [by_default(&with_raw_claim("exp", "1e300")), Out(TokenClaims)],
        [by_default(&with_claim("exp", json!(1u64 << 63))), Out(TokenClaims)],
        [by_default(&with_raw_claim("exp", "99999999999999999999999")), Out(TokenClaims)];
    exp_fraction: "exp with a fraction is a date" =>
        [by_default(&with_raw_claim("exp", &format!("{}.5", now() + 3600))), In("auth0|1a".into())],
        [by_default(&with_raw_claim("exp", &format!("{}.5", now() - 3600))), Out(TokenExpired)];
    expired: "a token past its time, within and beyond the leeway of 30 s" =>
        [by_default(&with_claim("exp", json!(now() - 5))), In("auth0|1a".into())],
        [by_default(&with_claim("exp", json!(now() - 31))), Out(TokenExpired)],
        [by_default(&with_claim("exp", json!(0))), Out(TokenExpired)];
    from_the_future: "nbf and iat to come" =>
        [by_default(&with_claim("nbf", json!(now() + 5))), In("auth0|1a".into())],
        [by_default(&with_claim("nbf", json!(now() + 90))), Out(TokenNotYet)],
        [by_default(&with_claim("iat", json!(now() + 90))), Out(TokenNotYet)],
        [by_default(&with_claim("nbf", json!("soon"))), Out(TokenClaims)],
        [by_default(&without_claim("iat")), In("auth0|1a".into())];
    aud_of_another_kind: "aud missing, empty, a number, an object, mixed" =>
        [by_default(&without_claim("aud")), Out(TokenClaims)],
        [by_default(&with_claim("aud", json!(""))), Out(TokenAudience)],
        [by_default(&with_claim("aud", json!([]))), Out(TokenClaims)],
        [by_default(&with_claim("aud", json!(7))), Out(TokenClaims)],
        [by_default(&with_claim("aud", json!({AUDIENCE: true}))), Out(TokenClaims)],
        [by_default(&with_claim("aud", json!([AUDIENCE, 7]))), Out(TokenClaims)];
    another_audience: "a token for another API, or one whose name begins like ours" =>
        [by_default(&with_claim("aud", json!("https://other.example/"))), Out(TokenAudience)],
        [by_default(&with_claim("aud", json!("https://mqtt.example"))), Out(TokenAudience)],
        [by_default(&with_claim("aud", json!("https://mqtt.example/x"))), Out(TokenAudience)],
        [by_default(&with_claim("aud", json!(AUDIENCE))), In("auth0|1a".into())];
    another_issuer: "an issuer without slash, in other case, that begins like ours, of another type" =>
        [by_default(&with_claim("iss", json!("https://t.auth0.com"))), Out(TokenIssuer)],
        [by_default(&with_claim("iss", json!("https://T.auth0.com/"))), Out(TokenIssuer)],
        [by_default(&with_claim("iss", json!("https://t.auth0.com.evil/"))), Out(TokenIssuer)],
        [by_default(&with_claim("iss", json!("https://t.auth0.com/ "))), Out(TokenIssuer)],
        [by_default(&with_claim("iss", json!(["https://t.auth0.com/"]))), Out(TokenClaims)],
        [by_default(&without_claim("iss")), Out(TokenClaims)];
    bound_token: "a token bound to a key, whatever is in cnf" =>
        [by_default(&with_claim("cnf", json!({"jkt": "x"}))), Out(TokenBound)],
        [by_default(&with_claim("cnf", json!(null))), Out(TokenBound)];
    id_token_as_access_token: "an ID token: its audience is the application" =>
        [by_default(&with_claim("aud", json!("the-client-id"))), Out(TokenAudience)];
    refresh_token: "a refresh token that is a JWT" =>
        [by_default(&with_claim("typ", json!("Refresh"))), Out(TokenKind)],
        [by_default(&with_claim("token_use", json!("refresh"))), Out(TokenKind)],
        [by_default(&with_claim("token_type", json!("refresh_token"))), Out(TokenKind)];
    logout_token: "a back-channel logout token" =>
        [by_default(&with_claim("events", json!({"http://schemas.openid.net/event/backchannel-logout": {}}))), Out(TokenKind)];
    machine_as_device: "a machine's token (sub ...@clients): it is that machine and no device" =>
        [by_default(&with_claim("sub", json!("abc@clients"))), In("abc@clients".into())];
    subject_of_another_kind: "sub missing, empty, a number, with a NUL, half a surrogate, very long" =>
        [by_default(&without_claim("sub")), Out(TokenUsername)],
        [by_default(&with_claim("sub", json!(""))), Out(TokenUsername)],
        [by_default(&with_claim("sub", json!(7))), Out(TokenUsername)],
        [by_default(&with_claim("sub", json!("a\0b"))), Out(TokenUsername)],
        [by_default(&with_claim("sub", json!("a\nb"))), Out(TokenUsername)],
        [by_default(&with_raw_claim("sub", r#""\ud800""#)), Out(TokenMalformed)],
        [by_default(&with_claim("sub", json!("x".repeat(2000)))), Out(TokenUsername)];

    // The topics.
    topics_of_another_kind: "topics that are no list of filters" =>
        [by_default(&with_claim("topics", json!(null))), Out(TokenTopics)],
        [by_default(&with_claim("topics", json!(7))), Out(TokenTopics)],
        [by_default(&with_claim("topics", json!({"#": true}))), Out(TokenTopics)],
        [by_default(&with_claim("topics", json!(["a", 7]))), Out(TokenTopics)],
        [by_default(&with_claim("topics", json!(["a", "b\0"]))), Out(TokenTopics)],
        [by_default(&with_claim("topics", json!(["a/#/b"]))), Out(TokenTopics)],
        [by_default(&with_claim("topics", json!(["$share/g/#"]))), Out(TokenTopics)],
        [by_default(&with_claim("topics", json!(["%u/x"]))), Out(TokenTopics)],
        [by_default(&with_claim("topics", json!("[\"a\""))), Out(TokenTopics)],
        [by_default(&with_claim("topics", json!(["publish:a"]))), Out(TokenTopics)],
        [by_default(&with_raw_claim("topics", r#"["\ud800"]"#)), Out(TokenMalformed)];
    topics_that_are_only_odd: "the broker's own topics, a list as text, ten thousand entries, none" =>
        [by_default(&with_claim("topics", json!(["$SYS/#"]))), In("auth0|1a".into())],
        [by_default(&with_claim("topics", json!("[\"temperature\",\"config\"]"))), In("auth0|1a".into())],
        [by_default(&with_claim("topics", json!((0..10_000).map(|i| format!("t/{i}")).collect::<Vec<_>>()))), In("auth0|1a".into())],
        [by_default(&without_claim("topics")), In("auth0|1a".into())];
}

fn good() -> String {
    signed(&header().to_string(), &claims().to_string())
}

/// Returns a token with a good signature of an algorithm that is only accepted where it is configured.
fn ps256() -> String {
    key().sign(
        Alg::Ps256,
        json!({"alg": "PS256", "kid": key().kid()}),
        claims(),
    )
}

/// Returns a header that brings the attacker's key.
fn header_with_key() -> Value {
    json!({"alg": "RS256", "jwk": evil_key().jwk(), "kid": evil_key().kid()})
}

/// Returns a header that says where the attacker's key is, and brings its certificate.
fn header_with_addresses() -> Value {
    let here = "https://127.0.0.1:1/";
    json!({"alg": "RS256", "jku": here, "x5u": here, "x5c": evil_key().jwk()["x5c"], "kid": key().kid()})
}

/// Replaces the first character of the signature.
fn other_signature(token: String, with: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let with = if with.is_empty() { other } else { with };
    format!("{message}.{with}{}", &signature[1..])
}

/// Damages the payload so that it is not base64.
fn damaged(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (_, payload) = message.split_once('.').unwrap();
    // No base64 has 4n + 1 characters.
    let more = "A".repeat((5 - payload.len() % 4) % 4);
    format!("{message}{more}.{signature}")
}

/// Sets unused bits: a 256-byte signature ends in a character of which only two bits count.
fn with_stray_bits(token: &str) -> String {
    let last = token.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).unwrap();
    let stray = alphabet.as_bytes()[place | 1] as char;
    assert_ne!(stray, last);
    format!("{}{stray}", &token[..token.len() - 1])
}

/// A secret or key is used for one family of algorithms only (RFC 8725, section 3.1).
#[test]
fn a_key_is_used_for_one_algorithm_family_only() {
    let token = hs256_raw(
        SECRET,
        json!({"alg": "RS256", "kid": key().kid()})
            .to_string()
            .as_bytes(),
        claims().to_string().as_bytes(),
    );
    assert_eq!(with_all(&token), Out(TokenSignature));
}
