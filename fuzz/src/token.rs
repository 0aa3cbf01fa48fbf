//! Tokens: a set of keys, a token that one of them has signed or that somebody has forged, and what was done to its
//! text afterwards.
//!
//! The judge knows who signed what. It accepts a token exactly if nobody has touched it, the key that the token names
//! has signed it with the algorithm that the token names, and its claims are good. `jsonwebtoken` is asked as well.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use auth::{
    algorithm::Algorithm,
    clock::Unix,
    jwt::{self, Requirements, jwks::KeySet, jws::HmacSecret},
    refusal::Reason,
    secret::Secret,
};
use jsonwebtoken::{DecodingKey, crypto};
use serde_json::{Value, json};
use testbed::{
    elliptic::{Curve, EllipticKey},
    signing::{Alg, SigningKey, hs256, shared_key, unsigned},
};

use crate::draw::Draw;

const NOW: u64 = 1_700_000_000;
const LEEWAY: u64 = 30;
const ISSUER: &str = "https://tenant.example/";
const AUDIENCE: &str = "https://mqtt.example/";
const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

/// How a key set names a key.
const NAMES: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];

/// A pair of keys.
enum Pair {
    Rsa(std::sync::Arc<SigningKey>),
    Elliptic(EllipticKey, Curve),
}

/// All pairs: two of each kind that is easily confused.
static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let elliptic = |curve| Pair::Elliptic(EllipticKey::generate("", curve), curve);
    vec![
        Pair::Rsa(shared_key(0)),
        Pair::Rsa(shared_key(1)),
        elliptic(Curve::P256),
        elliptic(Curve::P256),
        elliptic(Curve::P384),
        elliptic(Curve::Ed25519),
        elliptic(Curve::Ed25519),
    ]
});

const PAIR_COUNT: usize = 7;

impl Pair {
    /// Returns the public key, without `kid` and `alg`.
    fn jwk(&self) -> Value {
        let mut jwk = match self {
            Self::Rsa(key) => key.jwk(),
            Self::Elliptic(key, _) => key.jwk(),
        };
        let members = jwk.as_object_mut().expect("an object");
        for name in ["kid", "alg"] {
            members.remove(name);
        }
        jwk
    }

    /// Returns the names of the algorithms that it can sign with.
    fn algorithms(&self) -> Vec<&'static str> {
        match self {
            Self::Rsa(_) => Alg::ALL.iter().map(|algorithm| algorithm.name()).collect(),
            Self::Elliptic(_, curve) => vec![curve.algorithm()],
        }
    }
}

/// A key of the set.
#[derive(Clone, Debug, PartialEq)]
struct Listed {
    pair: usize,
    kid: Option<&'static str>,
    /// The algorithm that it states.
    stated: Option<&'static str>,
}

impl Listed {
    fn algorithms(&self) -> Vec<&'static str> {
        self.stated
            .map_or_else(|| PAIRS[self.pair].algorithms(), |only| vec![only])
    }

    fn jwk(&self) -> Value {
        let mut jwk = PAIRS[self.pair].jwk();
        if let Some(kid) = self.kid {
            jwk["kid"] = kid.into();
        }
        if let Some(algorithm) = self.stated {
            jwk["alg"] = algorithm.into();
        }
        jwk
    }
}

/// Who signs, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Signer {
    /// The owner of this pair, with the algorithm at this place of [`Alg::ALL`].
    Pair(usize, usize),
    /// Somebody who knows the secret.
    Secret,
    /// Somebody who uses a public key as the secret of HS256: the classic forgery.
    PublicKeyAsSecret,
    /// Somebody with another secret.
    OtherSecret,
    /// Nobody.
    Nobody,
}

impl Signer {
    fn draw(draw: &mut Draw) -> Self {
        match draw.below(PAIR_COUNT + 4) {
            pair if pair < PAIR_COUNT => Self::Pair(pair, draw.below(Alg::ALL.len())),
            7 => Self::Secret,
            8 => Self::PublicKeyAsSecret,
            9 => Self::OtherSecret,
            _ => Self::Nobody,
        }
    }

    /// Returns the algorithm that it really uses.
    fn algorithm(self) -> &'static str {
        match self {
            Self::Pair(pair, which) => match &PAIRS[pair] {
                Pair::Rsa(_) => Alg::ALL[which].name(),
                Pair::Elliptic(_, curve) => curve.algorithm(),
            },
            Self::Nobody => "none",
            _ => "HS256",
        }
    }

    fn sign(self, header: &str, claims: &str) -> String {
        match self {
            Self::Pair(pair, which) => match &PAIRS[pair] {
                Pair::Rsa(key) => key.sign(Alg::ALL[which], header, claims),
                Pair::Elliptic(key, _) => key.sign(header, claims),
            },
            Self::Secret => hs256(SECRET, header, claims),
            Self::PublicKeyAsSecret => hs256(shared_key(0).public_pem().as_bytes(), header, claims),
            Self::OtherSecret => hs256(&[b'x'; 40], header, claims),
            Self::Nobody => unsigned(header, claims),
        }
    }

    /// Like [`Self::sign`], and remembers the result: an RSA signature takes a millisecond.
    fn token(self, header: &str, claims: &str) -> String {
        type Signed = HashMap<(Signer, String, String), String>;
        static SIGNED: Mutex<Option<Signed>> = Mutex::new(None);
        const MOST: usize = 20_000;
        let mut signed = SIGNED.lock().unwrap_or_else(PoisonError::into_inner);
        let signed = signed.get_or_insert_default();
        if signed.len() > MOST {
            signed.clear();
        }
        let made = signed.entry((self, header.to_owned(), claims.to_owned()));
        made.or_insert_with(|| self.sign(header, claims)).clone()
    }
}

/// A token before anybody touches it, and whether each part of it is good.
struct Token {
    signer: Signer,
    header: String,
    claims: String,
    /// `alg` of its header.
    named: &'static str,
    /// `kid` of its header; `None` if it is neither a text nor absent.
    kid: Option<Option<&'static str>>,
    has_good_extras: bool,
    has_good_claims: bool,
}

impl Token {
    fn draw(draw: &mut Draw) -> Self {
        const NAMED: [&str; 17] = [
            "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
            "HS256", "Ed25519", "none", "None", "hs256", "ES512", "HS512", "",
        ];
        // Most tokens say what they are, or few would be accepted.
        let signer = Signer::draw(draw);
        let named = match draw.byte() {
            byte if byte < 160 => signer.algorithm(),
            byte => NAMED[usize::from(byte) % NAMED.len()],
        };
        let mut header = json!({ "alg": named });
        let kid = match draw.below(8) {
            name if name < NAMES.len() => Some(NAMES[name]),
            4 => Some(Some("unknown")),
            5 => {
                header["kid"] = Value::Null;
                None
            }
            6 => {
                header["kid"] = json!(["a"]);
                None
            }
            _ => Some(None),
        };
        if let Some(Some(kid)) = kid {
            header["kid"] = kid.into();
        }
        let (header, has_good_extras) = extras(draw, header);
        let (claims, has_good_claims) = claims(draw);
        Self {
            signer,
            header,
            claims,
            named,
            kid,
            has_good_extras,
            has_good_claims,
        }
    }
}

/// Adds a further member to a header. Returns its text, and whether such a token may be accepted.
fn extras(draw: &mut Draw, mut header: Value) -> (String, bool) {
    let (name, value, is_good) = match draw.below(16) {
        1 => ("typ", json!("JWT"), true),
        2 => ("typ", json!("at+jwt"), true),
        3 => ("typ", json!("application/AT+JWT"), true),
        4 => ("typ", json!("dpop+jwt"), false),
        5 => ("typ", json!(7), false),
        6 => ("crit", json!(["exp"]), false),
        7 => ("b64", json!(false), false),
        8 => ("zip", json!("DEF"), false),
        // A token brings its own key: it is ignored.
        9 => ("jwk", PAIRS[2].jwk(), true),
        10 => ("jku", json!("https://attacker.example/keys"), true),
        11 => {
            let doubled = header.to_string().replacen('{', "{\"alg\":\"none\",", 1);
            return (doubled, false);
        }
        _ => return (header.to_string(), true),
    };
    header[name] = value;
    (header.to_string(), is_good)
}

/// Draws claims. Returns their text, and whether they are good.
fn claims(draw: &mut Draw) -> (String, bool) {
    let mut all = serde_json::Map::new();
    let mut is_good = true;
    // The first choice and those behind the list are the good one, so that most claims are good.
    let mut add =
        |name: &str, most: usize, cases: &[(Option<Value>, bool)], good: Option<Value>| {
            let drawn = draw
                .below(most)
                .checked_sub(1)
                .and_then(|case| cases.get(case));
            let (value, fine) = drawn.cloned().unwrap_or((good, true));
            is_good &= fine;
            if let Some(value) = value {
                all.insert(name.to_owned(), value);
            }
        };
    let wrong = |value: Value| (Some(value), false);
    let right = |value: Value| (Some(value), true);
    add(
        "iss",
        16,
        &[
            wrong(json!("https://tenant.example")),
            wrong(json!([ISSUER])),
            (None, false),
        ],
        Some(json!(ISSUER)),
    );
    add(
        "aud",
        16,
        &[
            right(json!(["other", AUDIENCE])),
            wrong(json!(["other"])),
            wrong(json!([])),
            wrong(json!([AUDIENCE, 7])),
            wrong(json!("https://mqtt.example")),
            (None, false),
        ],
        Some(json!(AUDIENCE)),
    );
    add(
        "exp",
        16,
        &[
            wrong(json!(NOW - LEEWAY)),
            right(json!(NOW - LEEWAY + 1)),
            right(json!(NOW as f64 + 0.5)),
            wrong(json!(1e300)),
            wrong(json!(-1)),
            wrong(json!("1800000000")),
            (None, false),
        ],
        Some(json!(NOW + 3600)),
    );
    for name in ["nbf", "iat"] {
        add(
            name,
            16,
            &[
                right(json!(NOW + LEEWAY)),
                wrong(json!(NOW + LEEWAY + 1)),
                wrong(json!(null)),
                right(json!(0)),
            ],
            None,
        );
    }
    for (name, value) in [
        ("cnf", json!({})),
        ("events", json!({})),
        ("token_use", json!("Refresh")),
        ("typ", json!("Logout")),
    ] {
        add(name, 16, &[wrong(value)], None);
    }
    (Value::Object(all).to_string(), is_good)
}

/// Does things to the text of a token, as long as there are bytes to draw.
fn tamper(draw: &mut Draw, token: &str) -> String {
    const ALPHABET: &[u8] = b"ABCZabcz0189-_.=+/ \n{}\"";
    const MOST: usize = 8;
    let mut text = token.as_bytes().to_vec();
    for _ in 0..MOST {
        if !draw.has_more() || text.is_empty() {
            break;
        }
        let what = draw.below(8);
        let at = usize::from(draw.word()) % text.len();
        match what {
            0 => text[at] = draw.choose(ALPHABET),
            1 => text.insert(at, draw.choose(ALPHABET)),
            2 => drop(text.remove(at)),
            3 => text.truncate(at),
            // Another signature, or none.
            4 | 5 => {
                let end = text
                    .iter()
                    .rposition(|byte| *byte == b'.')
                    .map_or(0, |dot| dot + 1);
                text.truncate(end);
                if what == 5 {
                    text.extend(vec![draw.choose(ALPHABET); 86]);
                }
            }
            6 => {
                let other = draw.below(text.len().min(256));
                text.swap(at, other);
            }
            _ => text.push(draw.choose(ALPHABET)),
        }
    }
    String::from_utf8(text).expect("the alphabet and tokens are ASCII")
}

/// What a reader of the documentation expects of the set: equal entries are one, and different keys with one name and
/// a common algorithm are left out.
fn usable(listed: &[Listed]) -> Vec<Listed> {
    let mut once: Vec<Listed> = Vec::new();
    for one in listed {
        if !once.contains(one) {
            once.push(one.clone());
        }
    }
    let conflicts = |one: &Listed, other: &Listed| {
        one.kid == other.kid
            && one.pair != other.pair
            && one
                .algorithms()
                .iter()
                .any(|name| other.algorithms().contains(name))
    };
    let all = once.clone();
    once.retain(|one| !all.iter().any(|other| conflicts(one, other)));
    once
}

/// Returns the pair whose key verifies a token with this header.
fn verifier(keys: &[Listed], kid: Option<&str>, algorithm: &str) -> Option<usize> {
    let fits = |one: &&Listed| one.algorithms().contains(&algorithm);
    let named: Vec<&Listed> = keys.iter().filter(|one| one.kid == kid).collect();
    match (named.iter().copied().find(fits), kid, keys) {
        (Some(found), ..) => Some(found.pair),
        (None, None, [only]) if named.is_empty() => Some(only).filter(fits).map(|only| only.pair),
        _ => None,
    }
}

/// Takes keys, a token and what is done to it. Returns whether the token was accepted.
pub(crate) fn token(input: &[u8]) -> bool {
    let mut draw = Draw::new(input);
    let mut listed = Vec::new();
    for pair in 0..PAIR_COUNT {
        let byte = usize::from(draw.byte());
        let algorithms = PAIRS[pair].algorithms();
        let one = Listed {
            pair,
            kid: NAMES[byte >> 1 & 3],
            stated: (byte & 8 != 0).then(|| algorithms[(byte >> 4 & 7) % algorithms.len()]),
        };
        if byte & 1 != 0 {
            listed.extend(vec![one; 1 + (byte >> 7)]);
        }
    }
    let mask = draw.word();
    let allowed = |(place, _): &(usize, Algorithm)| mask & 1 << place == 0;
    let algorithms: Vec<Algorithm> = Algorithm::ALL
        .into_iter()
        .enumerate()
        .filter(allowed)
        .map(|(_, algorithm)| algorithm)
        .collect();
    let has_secret = draw.flag();
    let token = Token::draw(&mut draw);
    let original = token.signer.token(&token.header, &token.claims);
    let text = tamper(&mut draw, &original);

    let keys = usable(&listed);
    let jwks: Vec<Value> = listed.iter().map(Listed::jwk).collect();
    let set = KeySet::parse(json!({ "keys": jwks }).to_string().as_bytes());
    assert_eq!(set.is_ok(), !keys.is_empty(), "{listed:?}");
    let requirements = Requirements {
        audience_claim: Default::default(),
        sources: Default::default(),
        issuers: vec![ISSUER.into()],
        secret: has_secret
            .then(|| HmacSecret::new(&Secret::new(SECRET)).expect("it is long enough")),
        algorithms,
        leeway: LEEWAY,
    };
    let verdict = jwt::verify(
        &text,
        &requirements,
        &[AUDIENCE.to_owned()],
        &set.unwrap_or_default(),
        Unix(NOW),
    );

    let algorithm =
        Algorithm::parse(token.named).filter(|one| requirements.algorithms.contains(one));
    let chosen = algorithm
        .zip(token.kid)
        .and_then(|(algorithm, kid)| verifier(&keys, kid, algorithm.name()));
    let is_signed = match (token.signer, algorithm) {
        (Signer::Secret, Some(Algorithm::Hs256)) => has_secret && token.kid.is_some(),
        (Signer::Pair(pair, _), Some(algorithm)) => {
            algorithm.name() == token.signer.algorithm() && chosen == Some(pair)
        }
        _ => false,
    };
    let expected = text == original && is_signed && token.has_good_extras && token.has_good_claims;
    assert_eq!(
        verdict.is_ok(),
        expected,
        "{verdict:?} {:?} {} {} {listed:?} {text}",
        token.signer,
        token.header,
        token.claims
    );
    if let (Some(algorithm), Some(pair)) = (algorithm, chosen) {
        let refused_signature = verdict
            .as_ref()
            .is_err_and(|why| why.reason == Reason::TokenSignature);
        match second_opinion(pair, &text, algorithm.name()) {
            Some(good) if verdict.is_ok() || refused_signature => {
                assert_eq!(good, verdict.is_ok(), "jsonwebtoken: {text}");
            }
            _ => {}
        }
    }
    if let Err(refusal) = &verdict {
        assert!(!refusal.to_string().contains(char::is_control), "{refusal}");
    }
    verdict.is_ok()
}

/// Returns whether `jsonwebtoken` accepts the signature, if the header still names this algorithm.
fn second_opinion(pair: usize, token: &str, algorithm: &str) -> Option<bool> {
    static KEYS: LazyLock<Vec<DecodingKey>> = LazyLock::new(|| {
        let jwk = |pair: &Pair| serde_json::from_value(pair.jwk()).expect("a key");
        let keys = PAIRS.iter().map(|pair| DecodingKey::from_jwk(&jwk(pair)));
        keys.map(|key| key.expect("a public key")).collect()
    });
    let (message, signature) = token.rsplit_once('.')?;
    let (header, _) = testbed::signing::peek(token)?;
    if Algorithm::parse(header["alg"].as_str()?)?.name() != algorithm {
        return None;
    }
    let algorithm = algorithm.parse().ok()?;
    let verified = crypto::verify(signature, message.as_bytes(), &KEYS[pair], algorithm);
    Some(verified.is_ok_and(|good| good))
}
