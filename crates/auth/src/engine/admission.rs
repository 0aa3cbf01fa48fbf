//! The way from a verified credential to a session: whether the client ID is free, and which rights the client gets.

use std::{net::IpAddr, sync::Arc};

use super::{Common, Engine, report::Attempt};
use crate::{
    account::{Account, IssuerNumber},
    client::{Client, ClientKey},
    clock::Unix,
    identity::{self, Identity, Verdict},
    policy_file::InForce,
    refusal::{ConnectDetail, Detail, Reason, Refusal},
    saved_sessions::SessionToSave,
    sessions::{Session, SubscribedFilters},
    sign_in::SignIn,
};
use acl::{
    client::ClientAttributes,
    rights::{Rights, RightsError},
};
use input::json::Place;

/// A session for a client that is admitted.
#[must_use]
#[derive(Debug)]
pub struct Admission {
    /// The broker's pointer to the client.
    pub key: ClientKey,
    pub(super) session: Session,
    /// What is saved of the session. `None` if the broker does not keep it, or nothing is saved.
    pub(super) to_save: Option<Box<SessionToSave>>,
    /// The client as rules see it, for a tool.
    pub(super) client: Option<Arc<ClientAttributes>>,
}

impl Admission {
    /// Returns the user name that the client gets.
    pub fn username(&self) -> &str {
        &self.session.username
    }
}

impl Engine {
    /// Admits a client whose credential was checked, or reports why it is refused.
    pub(super) fn admit_or_refuse(
        &mut self,
        common: &Common,
        sign_in: &SignIn,
        verdict: Verdict,
        now: Unix,
    ) -> Result<Admission, Refusal> {
        let token_ends = verdict.as_ref().ok().map(|identity| identity.until);
        let attributes = match &verdict {
            Ok(identity) if self.keeps_claims => {
                Some(Arc::new(attributes(&sign_in.client, identity)))
            }
            _ => None,
        };
        let session = verdict.and_then(|identity| self.session(common, sign_in, identity, now));
        match session {
            Ok((session, to_save)) => {
                if let (Some(login), Some(token_ends)) = (sign_in.login, token_ends) {
                    // Else all devices would ask the tenant again when their tokens expire together.
                    let early = self.end_early(&sign_in.client.id, token_ends, now);
                    self.login_cache.end_by(login, early);
                }
                self.counters.logins.granted += 1;
                self.known_callers
                    .came_in(sign_in.user, sign_in.caller.source);
                if session.rights.is_empty() && !self.config.defer_acl {
                    self.report_no_rights(&sign_in.client, session.issuer, now);
                }
                let (observed, until) = (session.observed.as_deref(), session.until);
                self.observe_admitted(Attempt::Connect, sign_in, observed, until, now);
                Ok(Admission {
                    key: sign_in.key,
                    session,
                    to_save,
                    client: attributes,
                })
            }
            Err(refusal) => {
                self.report_refused_connect(sign_in, &refusal, now);
                Err(refusal)
            }
        }
    }

    /// Returns the session for a verified identity, and what to save of it.
    fn session(
        &self,
        common: &Common,
        sign_in: &SignIn,
        identity: Identity,
        now: Unix,
    ) -> Result<(Session, Option<Box<SessionToSave>>), Refusal> {
        identity::check(&identity.client_ids, &sign_in.client.id)?;
        sign_in.presented.check(&identity)?;
        let issuer = &self.issuers[identity.issuer].config;
        let username = issuer.username_for_broker(&identity.username);
        self.client_id_is_available(common, sign_in, Some((&identity.account, &username)))?;
        let (until, ending) = self.end_of_session(&sign_in.client.id, &identity, now);
        let to_save = match sign_in.ends_with_connection {
            true => None,
            false => self.to_save(&sign_in.client, &identity, until),
        };
        let session = Session {
            client_id: Arc::clone(&sign_in.client.id),
            username,
            account: identity.account.clone(),
            until,
            ending,
            credential: sign_in.credential,
            instance: self.id,
            issuer: identity.issuer,
            is_by_method: sign_in.presented.is_authentication_data(),
            filters: SubscribedFilters::default(),
            observed: self.observed(&sign_in.client, &identity, now),
            rights: self.rights(&sign_in.client, identity, now)?,
        };
        Ok((session, to_save))
    }

    /// Returns the claim that should list topics.
    pub(super) fn topics_claim(&self, issuer: IssuerNumber) -> &str {
        let topics = self.issuers[issuer].config.reading.topics.as_ref();
        topics.map_or("permissions", Place::text)
    }

    /// Checks that no other account holds the client ID. `client` is the account of the client that signs in, and the
    /// user name that the broker is told. `None` stands for a client without an account.
    pub(super) fn client_id_is_available(
        &self,
        common: &Common,
        sign_in: &SignIn,
        client: Option<(&Account, &Arc<str>)>,
    ) -> Result<(), Refusal> {
        if self.config.any_takeover || sign_in.id_is_free {
            return Ok(());
        }
        let refuse = |detail| Err(Refusal::new(Reason::ClientIdHeld, detail));
        let (sessions, saved, id) = (&common.sessions, &common.saved, &*sign_in.client.id);
        let account = client.map(|(account, _)| account);
        if sessions.is_held_by_another(id, account) || saved.is_held_by_another(id, account) {
            return refuse(ConnectDetail::ClientIdHeld.into());
        }
        // The broker knows the user name of a session that it restored. An account may have another one by now, so this
        // counts only where nothing better is known.
        let owner = match sessions.has_id(id) || saved.has(id) || saved.is_released(id) {
            true => None,
            false => sign_in.restored_for.as_ref(),
        };
        let owner = owner.or_else(|| sessions.owner(id));
        match (owner, client) {
            (Some(owner), Some((_, username))) if owner != username => {
                refuse(Detail::RestoredFor(Arc::clone(owner)))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a client, and reports it, because the broker does not accept its user name.
    pub fn refuse_username(&mut self, client_id: &str, now: Unix) -> Refusal {
        let refusal = Refusal::new(Reason::TokenUsername, ConnectDetail::UsernameNotAccepted);
        let client = Client {
            id: client_id,
            ..Client::default()
        };
        self.report(&client, &refusal, now);
        refusal
    }

    /// Returns what to save of a session with this identity, whose rights end then. `None` if sessions are not saved.
    pub(super) fn to_save(
        &self,
        client: &Client,
        identity: &Identity,
        until: Unix,
    ) -> Option<Box<SessionToSave>> {
        let claims = identity.saved.as_ref()?;
        Some(Box::new(SessionToSave::new(
            claims,
            &identity.username,
            &identity.account,
            until,
            self.mark_to_save(identity.signing_key),
            (address(client), client.port, client.certificate),
        )))
    }

    /// Returns what this client may do with this identity.
    ///
    /// # Errors
    ///
    /// Returns why it may not sign in: it does not meet a requirement of the policy file, or it cannot be determined
    /// what it may do.
    pub(super) fn rights(
        &self,
        client: &Client,
        identity: Identity,
        now: Unix,
    ) -> Result<Rights, Refusal> {
        let attributes = attributes(client, &identity);
        let policy = self.policy_of(identity.issuer).map(InForce::rules);
        if let Some(unmet) = policy.and_then(|file| file.unmet_requirement(&attributes, now)) {
            let detail = Detail::Required(Box::new(unmet));
            return Err(Refusal::new(Reason::ClaimRequired, detail));
        }
        Rights::new(identity.token_rules, policy, attributes).map_err(|why| match why {
            RightsError::Token(why) => Refusal::new(Reason::TokenTopics, Detail::Placeholder(why)),
            RightsError::Policy(why) => {
                Refusal::new(Reason::PolicyValue, Detail::Policy(Box::new(why)))
            }
        })
    }
}

/// Returns a client as rules see it.
fn attributes(client: &Client, identity: &Identity) -> ClientAttributes {
    ClientAttributes {
        client_id: Arc::clone(&client.id),
        username: Arc::clone(&identity.username),
        claims: identity.claims.clone().unwrap_or_default(),
        address: address(client),
        port: client.port,
        certificate: client.certificate,
    }
}

/// Returns the address of a client.
pub(super) fn address(client: &Client) -> Option<IpAddr> {
    // IPv6 addresses may name the interface (RFC 4007, section 11).
    client.address.as_deref()?.split('%').next()?.parse().ok()
}
