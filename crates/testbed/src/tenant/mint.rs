//! Tokens: as Auth0 would issue them, with any change that a test wants.

use std::sync::Arc;

use serde_json::{Value, json};

use super::device::Device;
use super::settings::{Settings, Signing, TokenProfile};
use crate::http::civil;
use crate::json::Members;
use crate::signing::{Alg, SigningKey, hs256, now, random_kid};

/// A token that is about to be signed. It starts as a valid one; later calls override earlier ones.
#[derive(Clone, Debug)]
#[must_use = "a token is only made by `sign`"]
pub struct Mint {
    header: Members,
    claims: Members,
    signer: Signer,
}

#[derive(Clone, Debug)]
enum Signer {
    Rsa(Arc<SigningKey>, Alg),
    Secret(Vec<u8>),
}

impl Mint {
    /// Sets a claim to a value of any type.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.set(name, value);
        self
    }

    /// Removes a claim.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Writes a claim a second time, after the others.
    pub fn repeat_claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.repeat(name, value);
        self
    }

    /// Sets a header parameter. This changes the text only: with `header("alg", "none")` the token is still
    /// signed as before.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.set(name, value);
        self
    }

    /// Removes a header parameter.
    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    /// Writes a header parameter a second time, after the others.
    pub fn repeat_header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.repeat(name, value);
        self
    }

    /// Signs with another key and names it in `kid`.
    pub fn key(self, key: &Arc<SigningKey>) -> Self {
        let kid = key.kid().to_owned();
        self.forged_by(key).header("kid", kid)
    }

    /// Signs with another key and leaves `kid` as it was.
    pub fn forged_by(mut self, key: &Arc<SigningKey>) -> Self {
        let alg = match &self.signer {
            Signer::Rsa(_, alg) => *alg,
            Signer::Secret(_) => Alg::Rs256,
        };
        self.header.set("alg", alg.name());
        self.signer = Signer::Rsa(Arc::clone(key), alg);
        self
    }

    /// Signs with another algorithm of the RSA key and names it in `alg`.
    ///
    /// # Panics
    ///
    /// Panics when the token is to be signed with a secret.
    pub fn alg(mut self, alg: Alg) -> Self {
        let Signer::Rsa(key, _) = self.signer else {
            panic!("a secret has no {}", alg.name());
        };
        self.header.set("alg", alg.name());
        self.signer = Signer::Rsa(key, alg);
        self
    }

    /// Signs with HS256 under this secret and says so in `alg`. `kid` stays.
    pub fn secret(mut self, secret: &[u8]) -> Self {
        self.header.set("alg", "HS256");
        self.signer = Signer::Secret(secret.to_vec());
        self
    }

    /// Sets `exp` this many seconds after `iat` (before it, if negative).
    pub fn lifetime(self, seconds: i64) -> Self {
        let issued = self.claims.get("iat").and_then(Value::as_u64);
        let expires = issued.unwrap_or_else(now).saturating_add_signed(seconds);
        self.claim("exp", expires)
    }

    /// Returns the header as it will be signed, for forging it further as text.
    pub fn header_members(&self) -> &Members {
        &self.header
    }

    /// Returns the claims as they will be signed, for forging them further as text.
    pub fn claim_members(&self) -> &Members {
        &self.claims
    }

    /// Returns the signed token.
    pub fn sign(&self) -> String {
        match &self.signer {
            Signer::Rsa(key, alg) => key.sign(*alg, &self.header, &self.claims),
            Signer::Secret(secret) => hs256(secret, &self.header, &self.claims),
        }
    }
}

/// The subject of a token.
#[derive(Clone, Copy)]
pub(super) enum Holder<'a> {
    Device(&'a Device),
    /// The application itself.
    Machine,
}

/// The issuer with its current configuration.
pub(super) struct Issuer<'a> {
    pub(super) name: &'a str,
    pub(super) settings: &'a Settings,
    pub(super) key: Arc<SigningKey>,
}

impl Issuer<'_> {
    /// Returns an access token for the API. `scope` is the granted scope.
    pub(super) fn access_token(&self, holder: Holder<'_>, audience: &str, scope: &str) -> Mint {
        let settings = self.settings;
        let issued = self.now();
        let openid = scope.split(' ').any(|word| word == "openid");
        let (mut claims, subject, grant) = match holder {
            Holder::Device(device) => (
                self.custom_claims(device, settings.topics_in_access_token),
                device.user_id.clone(),
                "password",
            ),
            Holder::Machine => (
                Members::new(),
                format!("{}@clients", settings.client_id),
                "client-credentials",
            ),
        };
        claims.set("iss", self.name);
        claims.set("sub", subject);
        claims.set(
            "aud",
            // The second audience is included only where userinfo could verify the token.
            match openid && settings.access_token_signing == Signing::Rs256 {
                true => json!([audience, format!("{}userinfo", self.name)]),
                false => json!(audience),
            },
        );
        claims.set("iat", issued);
        claims.set("exp", issued + settings.access_token_lifetime);
        if !scope.is_empty() {
            claims.set("scope", scope);
        }
        let typ = match settings.profile {
            TokenProfile::Auth0 => {
                claims.set("gty", grant);
                claims.set("azp", settings.client_id.as_str());
                "JWT"
            }
            TokenProfile::Rfc9068 => {
                claims.set("jti", random_kid());
                claims.set("client_id", settings.client_id.as_str());
                "at+jwt"
            }
        };
        let signing = settings.access_token_signing;
        self.mint(signing, typ, &settings.api_secret, claims)
    }

    /// Returns an ID token for the application.
    pub(super) fn id_token(&self, device: &Device) -> Mint {
        let settings = self.settings;
        let issued = self.now();
        let claims = self
            .custom_claims(device, settings.topics_in_id_token)
            .with("nickname", device.username.as_str())
            .with("name", device.username.as_str())
            .with("picture", "https://cdn.auth0.com/avatars/th.png")
            .with("updated_at", timestamp(issued))
            .with("iss", self.name)
            .with("sub", device.user_id.as_str())
            .with("aud", settings.client_id.as_str())
            .with("iat", issued)
            .with("exp", issued + settings.id_token_lifetime);
        let signing = settings.id_token_signing;
        self.mint(signing, "JWT", &settings.client_secret, claims)
    }

    fn now(&self) -> u64 {
        now().saturating_add_signed(self.settings.clock_offset)
    }

    /// Returns the claims that Actions set. Auth0 writes them before its own.
    fn custom_claims(&self, device: &Device, with_topics: bool) -> Members {
        let mut claims = Members::new();
        if let (true, Some(topics)) = (with_topics, &device.topics) {
            claims.set(&self.settings.topics_claim, topics.clone());
        }
        for (name, value) in device.claims.iter() {
            claims.set(name, value.clone());
        }
        claims
    }

    fn mint(&self, signing: Signing, typ: &str, secret: &str, claims: Members) -> Mint {
        let alg = match signing {
            Signing::Rs256 => Alg::Rs256,
            Signing::Ps256 => Alg::Ps256,
            Signing::Hs256 => {
                return Mint {
                    header: Members::new().with("alg", "HS256").with("typ", typ),
                    claims,
                    signer: Signer::Secret(secret.as_bytes().to_vec()),
                };
            }
        };
        Mint {
            header: Members::new()
                .with("alg", alg.name())
                .with("typ", typ)
                .with("kid", self.key.kid()),
            claims,
            signer: Signer::Rsa(Arc::clone(&self.key), alg),
        }
    }
}

/// Formats `updated_at` as Auth0 does: ISO 8601 in UTC with milliseconds.
fn timestamp(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / 86_400);
    let time = seconds % 86_400;
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_iso_8601() {
        assert_eq!(timestamp(1_630_700_174), "2021-09-03T20:16:14.000Z");
    }
}
