//! The outer layer of a signed token: JWS Compact Serialization (RFC 7515) and the signature.

use std::{
    cell::OnceCell,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use aws_lc_rs::signature::ParsedPublicKey;
use base64::{DecodeError, Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    algorithm::Algorithm,
    config::HS256_MIN_SECRET,
    jwt::jwks::{KeyLookupError, KeyMark, KeySet},
    refusal::{ClaimProblem, Part, Reason, Refusal, TokenDetail},
    secret::Secret,
};
use input::json;

/// The longest token that is examined, in bytes. Auth0 lets a tenant add 100 KB of claims, base64 adds a
/// third, and the rest is small. (MQTT's password field ends at 64 KB anyway.)
const MAX_TOKEN: usize = 160 * 1024;

/// The longest header, in bytes of base64. A header holds a few short names; a long one is an attack.
const MAX_HEADER: usize = 4 * 1024;

/// The secret of HS256 tokens. It has a type of its own so that it is never used to verify anything else.
#[derive(Clone)]
pub struct HmacSecret(Secret);

impl HmacSecret {
    /// Returns `None` if the secret is shorter than [`HS256_MIN_SECRET`].
    pub fn new(secret: &Secret) -> Option<Self> {
        (secret.reveal().len() >= HS256_MIN_SECRET).then(|| Self(secret.clone()))
    }

    /// Returns a mark of the secret, which is the same for the same secret as long as the process runs.
    pub(crate) fn mark(&self) -> SignedBy {
        // With a random key, so that nobody can try secrets on the mark alone.
        static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        SignedBy::Secret(HASHES.hash_one(self.0.reveal()))
    }

    /// Whether the signature of a token in three parts is correct under this secret.
    fn has_signed(&self, token: &str) -> bool {
        let hs256 = jsonwebtoken::Algorithm::HS256;
        // The decoding key is built for each check: it holds a copy of the secret that a core dump would
        // contain.
        let key = jsonwebtoken::DecodingKey::from_secret(self.0.reveal());
        token.rsplit_once('.').is_some_and(|(message, signature)| {
            let good = jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, hs256);
            good.is_ok_and(|good| good)
        })
    }
}

impl std::fmt::Debug for HmacSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// What a token was signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedBy {
    /// One of the tenant's keys.
    Key(KeyMark),
    /// The secret with this mark.
    Secret(u64),
}

/// The payload of a token whose signature is correct.
#[derive(Debug)]
pub struct Signed<'t> {
    /// The payload.
    pub payload: &'t [u8],
    /// What it was signed with.
    pub by: SignedBy,
}

/// A token as it was presented. Its payload is decoded once, though its issuer has to be known before it is verified.
pub struct PresentedToken<'t> {
    text: &'t str,
    payload: OnceCell<Vec<u8>>,
}

impl<'t> PresentedToken<'t> {
    /// Returns a token of which nothing is decoded yet.
    pub fn new(text: &'t str) -> Self {
        Self {
            text,
            payload: OnceCell::new(),
        }
    }

    /// Returns the payload, of which nothing is verified.
    fn payload(&self, part: &str) -> Result<&[u8], Refusal> {
        if self.payload.get().is_none() {
            let decoded = decode(part, Part::Payload)?;
            self.payload.get_or_init(|| decoded);
        }
        Ok(self.payload.get().map_or(&[], Vec::as_slice))
    }

    /// Returns the `iss`, which is not verified, so that the token is verified with what this issuer has. If there are
    /// several, it is the first, and the token will be refused.
    ///
    /// # Errors
    ///
    /// Returns a refusal if the token is malformed, or has no `iss`.
    pub fn issuer(&self) -> Result<String, Refusal> {
        let (_, payload, _) = parts(self.text)?;
        let iss = json::first_text(self.payload(payload)?, "iss");
        let iss = iss.map_err(|problem| super::not_json(Part::Payload, problem))?;
        iss.ok_or_else(|| super::unfit("iss", ClaimProblem::MissingOrNotText))
    }
}

/// Returns the claims of a token that is not verified.
///
/// They give the user name of a client whose token is verified later. The client is admitted only if the verified
/// claims give the same.
pub(crate) fn unverified_claims(token: &str) -> Option<Map<String, Value>> {
    let payload = token.split('.').nth(1)?;
    super::object(&decode(payload, Part::Payload).ok()?, Part::Payload).ok()
}

/// Verifies the signature, and returns the payload and the key.
///
/// The algorithm comes from `algorithms`, the key from `keys` or `secret`; the token only chooses among them
/// (RFC 8725, sections 3.1 and 3.2). `jku`, `x5u`, `jwk` and `x5c` in its header are ignored.
///
/// # Errors
///
/// Returns a reason between [`Reason::TokenMalformed`] and [`Reason::TokenSignature`].
pub fn verify<'t>(
    token: &'t PresentedToken<'_>,
    algorithms: &[Algorithm],
    keys: &KeySet,
    secret: Option<&HmacSecret>,
) -> Result<Signed<'t>, Refusal> {
    let Jws {
        header,
        message,
        payload,
        signature,
    } = parse(token)?;
    check_header(&header)?;
    let algorithm = algorithm(&header, algorithms)?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.as_str()),
        Some(_) => return Err(malformed(TokenDetail::HeaderMember("kid"))),
    };

    let (good, by) = match algorithm {
        Algorithm::Hs256 => {
            let secret = secret
                .ok_or_else(|| Refusal::new(Reason::TokenAlgorithm, TokenDetail::NoHs256Secret))?;
            (secret.has_signed(token.text), secret.mark())
        }
        _ => {
            let (key, mark) = public_key(keys, kid, algorithm)?;
            let good = key.verify_sig(message.as_bytes(), &signature).is_ok();
            (good, SignedBy::Key(mark))
        }
    };
    if good {
        return Ok(Signed { payload, by });
    }
    let detail = match signature.len() {
        0 => TokenDetail::NoSignature,
        length if length < algorithm.shortest_signature() => TokenDetail::SignatureCutOff {
            bytes: token.text.len(),
        },
        _ => TokenDetail::WrongSignature,
    };
    Err(Refusal::new(Reason::TokenSignature, detail))
}

/// The parts of a token. Nothing in it is verified.
struct Jws<'t> {
    header: Map<String, Value>,
    /// The signed text: the first two parts and the dot between them.
    message: &'t str,
    payload: &'t [u8],
    signature: Vec<u8>,
}

/// Splits `header.payload.signature` and reads the header.
fn parse<'t>(token: &'t PresentedToken<'_>) -> Result<Jws<'t>, Refusal> {
    let (header, payload, signature) = parts(token.text)?;
    // The header is checked before any cryptography: RFC 7515, section 5.2, steps 2, 6 and 7.
    Ok(Jws {
        message: &token.text[..header.len() + 1 + payload.len()],
        payload: token.payload(payload)?,
        signature: decode(signature, Part::Signature)?,
        header: super::object(&decode(header, Part::Header)?, Part::Header)?,
    })
}

/// Splits `header.payload.signature`, if none of it is too long.
fn parts(token: &str) -> Result<(&str, &str, &str), Refusal> {
    if token.len() > MAX_TOKEN {
        return Err(malformed(TokenDetail::TooLong {
            bytes: token.len(),
            most: MAX_TOKEN,
        }));
    }
    if token.starts_with('{') {
        return Err(malformed(TokenDetail::JsonForm));
    }
    let (header, payload, signature) = three_parts(token)?;
    if header.len() > MAX_HEADER {
        return Err(malformed(TokenDetail::HeaderTooLong {
            bytes: header.len(),
            most: MAX_HEADER,
        }));
    }
    Ok((header, payload, signature))
}

fn three_parts(token: &str) -> Result<(&str, &str, &str), Refusal> {
    let mut parts = token.split('.');
    if let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    {
        return Ok((header, payload, signature));
    }
    Err(match token.split('.').count() {
        1 => malformed(TokenDetail::Opaque),
        5 => Refusal::new(Reason::TokenEncrypted, TokenDetail::Encrypted),
        number => malformed(TokenDetail::Parts {
            number,
            bytes: token.len(),
        }),
    })
}

/// Decodes strict base64url: no padding, no white space, no `+` or `/`, no stray bits at the end.
fn decode(text: &str, part: Part) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|why| {
        malformed(match why {
            DecodeError::InvalidByte(..) => TokenDetail::ForeignCharacter(part),
            // No base64url has this length, so its end is missing.
            _ => TokenDetail::NotBase64(part),
        })
    })
}

fn check_header(header: &Map<String, Value>) -> Result<(), Refusal> {
    // RFC 7515, section 4.1.11: an extension that the verifier does not understand must be refused, and this
    // verifier understands none. b64 (RFC 7797) and zip (RFC 7516) change what is signed even if crit does
    // not list them.
    for name in ["crit", "b64", "zip"] {
        if header.contains_key(name) {
            let detail = TokenDetail::Extension(name);
            return Err(Refusal::new(Reason::TokenExtension, detail));
        }
    }
    // RFC 9068, section 4, and RFC 8725, section 3.11. Auth0's own profile says JWT. RFC 7519 makes the
    // member optional, so it may be absent.
    match header.get("typ") {
        None => Ok(()),
        Some(Value::String(typ)) => {
            let short = typ
                .get(..12)
                .filter(|p| p.eq_ignore_ascii_case("application/"))
                .map_or(typ.as_str(), |_| &typ[12..]);
            if short.eq_ignore_ascii_case("JWT") || short.eq_ignore_ascii_case("at+jwt") {
                Ok(())
            } else {
                let detail = TokenDetail::Type(typ.clone());
                Err(Refusal::new(Reason::TokenType, detail))
            }
        }
        Some(_) => Err(malformed(TokenDetail::HeaderMember("typ"))),
    }
}

fn algorithm(header: &Map<String, Value>, allowed: &[Algorithm]) -> Result<Algorithm, Refusal> {
    let Some(Value::String(name)) = header.get("alg") else {
        return Err(malformed(TokenDetail::NoAlgorithm));
    };
    let known = Algorithm::parse(name);
    known.filter(|one| allowed.contains(one)).ok_or_else(|| {
        let detail = TokenDetail::Algorithm {
            found: name.clone(),
            is_supported: known.is_some(),
            accepted: allowed.iter().map(|one| one.name()).collect(),
        };
        Refusal::new(Reason::TokenAlgorithm, detail)
    })
}

fn public_key<'k>(
    keys: &'k KeySet,
    kid: Option<&str>,
    algorithm: Algorithm,
) -> Result<(&'k ParsedPublicKey, KeyMark), Refusal> {
    keys.find(kid, algorithm).map_err(|error| {
        let kid = || kid.unwrap_or_default().to_owned();
        let (reason, detail) = match error {
            KeyLookupError::Empty => (Reason::KeysUnavailable, TokenDetail::NoKeys),
            KeyLookupError::Unnamed => (Reason::TokenKeyMissing, TokenDetail::KeyNotNamed),
            KeyLookupError::Unknown => (Reason::TokenKeyUnknown, TokenDetail::NoSuchKey(kid())),
            KeyLookupError::Algorithm(of_key) => (
                Reason::TokenKeyUnfit,
                TokenDetail::KeyForAnotherAlgorithm {
                    kid: kid(),
                    found: algorithm.name(),
                    of_key: of_key.name(),
                },
            ),
        };
        Refusal::new(reason, detail)
    })
}

fn malformed(detail: TokenDetail) -> Refusal {
    Refusal::new(Reason::TokenMalformed, detail)
}
