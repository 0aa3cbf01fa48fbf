//! Verification of tokens: whose they are, and what they allow.

use std::sync::Arc;

use super::Engine;
use crate::{
    account::{Account, IssuerNumber},
    auth0::answer::Tokens,
    clock::Unix,
    identity::{Identity, Verdict},
    jwt::{self, Claims, jwks::KeySet, jws::PresentedToken},
    refusal::{AccessToken, Detail, IssuedToken, Reason, Refusal},
    saved_sessions::SavedClaims,
    sign_in::SignIn,
    workers::UnverifiedTokens,
};
use acl::claims::TokenRules;
use input::{json::Place, recognise};

/// Whether the tenant's keys were fetched for a token whose key was missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFetch {
    /// They were not.
    NotTried,
    /// They could not be fetched.
    Failed,
    /// They were fetched.
    Done,
}

impl Engine {
    /// Verifies the tokens that a job brought. Returns `None` if the keys have to be fetched first.
    pub(super) fn verify(
        &mut self,
        sign_in: &SignIn,
        unverified: &UnverifiedTokens,
        key_fetch: KeyFetch,
        now: Unix,
    ) -> Option<Verdict> {
        match unverified {
            UnverifiedTokens::FromClient { issuer, token } => {
                let token = &PresentedToken::new(token);
                self.verify_presented(sign_in, (token, *issuer), key_fetch, now)
            }
            UnverifiedTokens::FromTenant {
                issuer,
                username,
                tokens,
                asked_by,
                ..
            } => {
                let (claims, _) = self.verify_under_keys(*issuer, key_fetch, |keys| {
                    self.verify_issued((tokens, *issuer), *asked_by, keys, now)
                })?;
                let username = username.as_str().into();
                Some(claims.and_then(|claims| self.identity(claims, username, *issuer)))
            }
        }
    }

    /// Verifies a token from a client, with what the issuer has that it names. The token says who the client is; the
    /// user name that it sent does not count. Returns `None` if the keys have to be fetched first.
    pub(super) fn verify_presented(
        &mut self,
        sign_in: &SignIn,
        (token, number): (&PresentedToken, IssuerNumber),
        key_fetch: KeyFetch,
        now: Unix,
    ) -> Option<Verdict> {
        let issuer = &self.issuers[number];
        let (claims, keys) = self.verify_under_keys(number, key_fetch, |keys| {
            let audiences = &issuer.config.audiences;
            jwt::verify_presented(token, &issuer.requirements, audiences, keys, now)
        })?;
        let verdict = claims.and_then(|claims| {
            let usernames = &self.issuers[number].config.usernames;
            let username = usernames.of(claims.members())?.into();
            let identity = self.identity(claims, username, number)?;
            Ok(Identity {
                token_id: sign_in.token_id,
                ..identity
            })
        });
        self.counters.token_cache.count(false);
        if let Ok(identity) = &verdict {
            let print = sign_in.credential;
            self.token_cache.insert(print, identity, keys, now);
        }
        Some(verdict)
    }

    /// Verifies a token with the current keys of an issuer, and returns these too. Returns `None` if a fetch may bring
    /// the missing key.
    fn verify_under_keys(
        &self,
        issuer: IssuerNumber,
        key_fetch: KeyFetch,
        check: impl Fn(&KeySet) -> Result<Claims, Refusal>,
    ) -> Option<(Result<Claims, Refusal>, Arc<KeySet>)> {
        let cache = &self.issuers[issuer].keys;
        loop {
            let keys = cache.current();
            let claims = check(&keys);
            // A missing key may have been published since. One fetch for all clients finds out.
            if let Err(refusal) = &claims
                && matches!(
                    refusal.reason,
                    Reason::TokenKeyUnknown | Reason::KeysUnavailable
                )
            {
                if key_fetch == KeyFetch::NotTried && cache.may_fetch() {
                    return None;
                }
                // New keys came in the meantime.
                if !Arc::ptr_eq(&keys, &cache.current()) {
                    continue;
                }
                // Only a fetch that brought keys proves that the key is none of the tenant's.
                if refusal.reason == Reason::TokenKeyUnknown
                    && key_fetch != KeyFetch::Done
                    && cache.is_live()
                {
                    let detail = Detail::KeysNotFetched {
                        key: Box::new(refusal.detail.clone()),
                        recently: key_fetch == KeyFetch::NotTried,
                    };
                    let pending = Err(Refusal::new(Reason::TokenKeyPending, detail));
                    return Some((pending, keys));
                }
            }
            return Some((claims, keys));
        }
    }

    /// Verifies tokens from the tenant: the access token if it is for our API, else the ID token. If neither can be
    /// used, that is never the fault of the device.
    fn verify_issued(
        &self,
        (tokens, number): (&Tokens, IssuerNumber),
        asked_by: u64,
        keys: &KeySet,
        now: Unix,
    ) -> Result<Claims, Refusal> {
        let issuer = &self.issuers[number];
        let unusable = |token, refusal: Refusal, access| match refusal.reason {
            Reason::KeysUnavailable | Reason::TokenKeyUnknown => refusal,
            cause => {
                let why = Box::new(refusal.detail);
                let detail = Detail::Issued { token, why, access };
                let refusal = Refusal::caused_by(cause, Reason::LoginToken, detail);
                self.unless_outdated(refusal, asked_by)
            }
        };
        let verify = |token: &str, audiences: &[String]| -> Result<Claims, Refusal> {
            jwt::verify(token, &issuer.requirements, audiences, keys, now)
        };
        let access = match &tokens.access {
            None => AccessToken::Missing,
            Some(token) if !recognise::is_alone(token.as_bytes()) => AccessToken::Opaque,
            Some(token) => match verify(token, &issuer.config.audiences) {
                Ok(claims) => return Ok(claims),
                Err(refusal)
                    if refusal.reason == Reason::TokenAudience
                        && asked_by == issuer.client_number =>
                {
                    AccessToken::ForAnother(Box::new(refusal.detail))
                }
                Err(refusal) => return Err(unusable(IssuedToken::Access, refusal, None)),
            },
        };
        let (Some(application), Some(id)) = (&issuer.config.application, &tokens.id) else {
            let refusal = Refusal::new(Reason::LoginToken, Detail::NotIssued { access });
            return Err(self.unless_outdated(refusal, asked_by));
        };
        let client_id = std::slice::from_ref(&application.client_id);
        verify(id, client_id).map_err(|refusal| unusable(IssuedToken::Id, refusal, Some(access)))
    }

    /// Returns the identity in claims that were verified.
    pub(super) fn identity(
        &mut self,
        claims: Claims,
        username: Arc<str>,
        number: IssuerNumber,
    ) -> Verdict {
        // Longer than a screen, because each field needs some of the claims before others take them.
        let issuer = &mut self.issuers[number];
        let config = Arc::clone(&issuer.config);
        let reading = &config.reading;
        let token_rules = issuer
            .interned_rules
            .obtain(reading.values(claims.members()), || {
                let rules = reading.rules(claims.members())?;
                let administers = reading.administers(claims.members());
                Ok(TokenRules::compile(&rules).administering(administers))
            })
            .map_err(|why| Refusal::new(Reason::TokenTopics, Detail::Claims(Box::new(why))))?;
        let account = Account {
            issuer: Arc::clone(&claims.issuer),
            subject: match claims.subject() {
                Some(sub) if *sub != *username => sub.into(),
                _ => Arc::clone(&username),
            },
        };
        let until = claims.until;
        let signing_key = self.signing_keys.number(number, claims.signed_by);
        let topics = match &reading.topics {
            Some(Place::Name(name)) => Some(name.as_str()),
            _ => None,
        };
        let token_names = |one: &str| token_rules.claims().any(|claim| claim == one);
        // The largest claim. A policy file may use it, also one that is read later; rules in a token seldom do.
        let keeps = self.keeps_claims
            || self.policy_of(number).is_some()
            || self.observer.needs_claims(&self.config);
        let spare = topics.filter(|one| !keeps && !token_names(one));
        let named = keeps || token_rules.claims().next().is_some();
        let saved = self.config.state_dir.is_some().then(|| {
            let counting = reading.members().collect();
            let policy = self.policy_of(number);
            let of_policy = policy.map(|file| file.members().iter().cloned());
            let of_token = token_rules.claims().map(str::to_owned);
            let named = of_policy.into_iter().flatten().chain(of_token).collect();
            let (members, interned) = (claims.members(), &mut self.interned_claims);
            Box::new(SavedClaims::pick(
                members, &account, counting, named, interned,
            ))
        });
        let mut claims = Arc::new(claims.into_members());
        let client_ids = config.client_ids.of(&username, &claims)?;
        if let Some(topics) = spare
            && let Some(claims) = Arc::get_mut(&mut claims)
        {
            claims.remove(topics);
        }
        let claims = named.then_some(claims);
        Ok(Identity {
            username,
            issuer: number,
            account,
            client_ids,
            token_rules,
            claims,
            saved,
            until,
            signing_key,
            token_id: None,
        })
    }
}
