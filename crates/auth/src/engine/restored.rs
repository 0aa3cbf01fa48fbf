//! Sessions that the broker restored from disk, and whose clients have not been back.
//!
//! The rights of such a session are made from the claims that were saved, with the rules and options of today: at a
//! tick, where the broker says which sessions it has (2.1), or else when it first asks about the session. They are made
//! again when a reload has changed something. Where that is not possible, every message is queued if the client was
//! allowed to subscribe to it before the restart: a denied message would be lost. Nobody receives it without the right
//! to. When a client resumes the session, the broker checks every queued message again, and the rights of that client's
//! own credential decide (2.0.11: src/handle_connect.c, connection_check_acl; 2.1: src/database.c,
//! db__check_acl_of_all_messages).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Common, Engine,
    access::{Access, Action, Decision},
};
use crate::{
    account::IssuerNumber,
    client::{ClientKey, ClientView},
    clock::Unix,
    policy_file::InForce,
    refusal::{Detail, Reason, Refusal},
    saved_sessions::{ClaimsHash, Saved, SavedSessions},
    secret::Fingerprint,
    sessions::{Ending, ReportedRefusals, Session, SessionView, SubscribedFilters},
};
use acl::{
    claims::{ClaimsError, TokenRules},
    client::ClientAttributes,
    rights::Rights,
};

/// Of how many claims the rules are kept. They are for fleets whose devices share them.
const MAX_SHARED: usize = 64;

/// What restored sessions with the same claims share.
#[derive(Default)]
pub(super) struct RestoredRules {
    /// The rules in saved claims, or none if such a token is refused.
    by_claims: HashMap<(IssuerNumber, ClaimsHash), Option<Arc<TokenRules>>>,
}

impl Engine {
    /// Decides about a restored session of which something is saved. Returns `None` if this is none.
    pub(super) fn decide_saved(
        &mut self,
        common: &mut Common,
        access: &Access<impl ClientView + Copy>,
        now: Unix,
    ) -> Option<Decision> {
        let mut session = self.saved_session(common, &access.client, now)?;
        if access.action == Action::Publish {
            // The broker asks about the publisher of a retained message, with a key that is made up for the question.
            let mut reported = ReportedRefusals::default();
            let found = SessionView {
                session: &mut session,
                reported: &mut reported,
                connected: false,
                superseded: false,
            };
            return Some(self.decide(access, found, now));
        }
        common.sessions.restore(access.key, session);
        common.sessions.look(access.key, &access.client, |found| {
            self.decide(access, found, now)
        })
    }

    /// Makes the rights of a session that the broker restored, before the broker asks about it.
    pub fn make_ready(
        &mut self,
        common: &mut Common,
        key: ClientKey,
        client: &impl ClientView,
        now: Unix,
    ) {
        // With several instances, the broker's question shows which one decides.
        if !common.is_shared()
            && let Some(session) = self.saved_session(common, client, now)
        {
            common.sessions.restore(key, session);
        }
    }

    /// Returns a restored session with its rights, if these still have to be made. Returns `None` if the client is not
    /// a restored session, if its rights are there, or if too little was saved.
    fn saved_session(
        &mut self,
        common: &Common,
        client: &impl ClientView,
        now: Unix,
    ) -> Option<Session> {
        if !client.is_restored() {
            return None;
        }
        let client_id = std::str::from_utf8(client.client_id()).ok()?;
        if common.sessions.is_ready(client_id) {
            return None;
        }
        self.restored_session(&common.saved, client_id, client, now)
    }

    /// Decides about a restored session of which nothing is known. Returns `None` if this is none.
    ///
    /// The broker's own topics begin with `$`. Log lines in a queue would displace messages.
    pub(super) fn decide_restored(&self, access: &Access<impl ClientView>) -> Option<Decision> {
        let is_queued = access.action == Action::Receive
            && access.topic.first() != Some(&b'$')
            && access.client.is_restored();
        is_queued.then_some(match self.config.defer_acl {
            // The broker knows the user name of a restored session, so an `acl_file` can decide.
            true => Decision::Defer,
            false => Decision::Allow,
        })
    }

    /// Records that the broker disconnects a session that it restored from disk, because another client has resumed it
    /// (2.0).
    pub fn restored_is_resumed(
        &self,
        common: &mut Common,
        old: ClientKey,
        client: &impl ClientView,
    ) {
        if !self.config.any_takeover {
            common.sessions.restored_is_resumed(old, client);
        }
    }

    /// Returns the clients to disconnect because they took over sessions of other users (2.0).
    pub(super) fn seized(&mut self, common: &mut Common) -> Vec<(ClientKey, Arc<str>)> {
        let seized = common.sessions.take_seized().into_iter();
        let told = seized.map(|seized| {
            let detail = Detail::RestoredFor(seized.owner);
            let refusal = &Refusal::new(Reason::ClientIdHeld, detail);
            self.tell_disconnected(&seized.client_id, refusal);
            (seized.key, seized.client_id)
        });
        told.collect()
    }

    /// Has restored sessions get their rights anew, because options or rules have changed.
    pub(super) fn remake_restored(&mut self, common: &mut Common) {
        self.restored_rules.by_claims.clear();
        common.sessions.remake_restored();
        common.saved.check_again();
    }

    /// Returns a session as it was saved, with the rights that its claims give today. `None` if nothing is saved, or
    /// not enough.
    fn restored_session(
        &mut self,
        sessions: &SavedSessions,
        client_id: &str,
        client: &impl ClientView,
        now: Unix,
    ) -> Option<Session> {
        let saved = sessions.get(client_id)?;
        let account = saved.account();
        let issuer = self.issuers.of_account(&account)?;
        let config = &self.issuers[issuer].config;
        let username = config.username_for_broker(&saved.session.username);
        if !client.is(client_id, &username) {
            return None;
        }
        let key = saved.session.signed_by;
        let key = key.map(|mark| self.saved_key(mark, issuer));
        let (signing_key, is_revoked) = key.unwrap_or_default();
        let until = match is_revoked {
            true => saved.session.until.min(now),
            false => saved.session.until,
        };
        Some(Session {
            client_id: client_id.into(),
            username,
            until,
            ending: Ending {
                signing_key,
                ..Ending::default()
            },
            // Nobody presents it.
            credential: Fingerprint::UNUSED,
            instance: self.id,
            issuer,
            is_by_method: false,
            filters: SubscribedFilters::default(),
            observed: None,
            rights: self.restored_rights(&saved, client_id, issuer)?,
            account,
        })
    }

    /// Returns the rights of a session by what was saved of it. `None` if that is not enough.
    fn restored_rights(
        &mut self,
        saved: &Saved<'_>,
        client_id: &str,
        issuer: IssuerNumber,
    ) -> Option<Rights> {
        let hash = saved.claims_hash();
        let shared = (issuer, hash);
        let rules = match self.restored_rules.by_claims.get(&shared) {
            Some(known) => known.clone(),
            None => {
                let rules = self.rules_of(saved, issuer)?;
                // A claim that counts only since an option has changed may differ from session to session.
                let reading = &self.issuers[issuer].config.reading;
                let are_shared = reading.members().all(|name| !saved.is_own(&name));
                let known = &mut self.restored_rules.by_claims;
                if are_shared && known.len() < MAX_SHARED {
                    known.insert(shared, rules.clone());
                }
                rules
            }
        };
        // Today such a token is refused.
        let Some(rules) = rules else {
            return Some(Rights::default());
        };
        let attributes = ClientAttributes {
            client_id: client_id.into(),
            username: Arc::clone(&saved.session.username),
            claims: saved.claims()?,
            address: saved.session.address,
            port: saved.session.port,
            certificate: saved.session.certificate,
        };
        let policy = self.policy_of(issuer).map(InForce::rules);
        Some(Rights::new(rules, policy, attributes).unwrap_or_default())
    }

    /// Returns the rules in saved claims, or no rules if such a token is refused today. Returns `None` if rules depend
    /// on a claim about which nothing is saved.
    fn rules_of(
        &mut self,
        saved: &Saved<'_>,
        number: IssuerNumber,
    ) -> Option<Option<Arc<TokenRules>>> {
        let reading = &self.issuers[number].config.reading;
        let policy = self.policy_of(number);
        let mut needed: BTreeSet<String> = reading.members().collect();
        needed.extend(policy.into_iter().flat_map(|file| file.members()).cloned());
        if !saved.covers(&needed) {
            return None;
        }
        let claims = saved.claims()?;
        let issuer = &mut self.issuers[number];
        let reading = &issuer.config.reading;
        let rules = issuer.interned_rules.obtain(reading.values(&claims), || {
            let rules = reading.rules(&claims)?;
            let administers = reading.administers(&claims);
            Ok::<_, ClaimsError>(TokenRules::compile(&rules).administering(administers))
        });
        let Ok(rules) = rules else {
            return Some(None);
        };
        let named = rules.claims().map(str::to_owned).collect();
        saved.covers(&named).then_some(Some(rules))
    }
}

#[cfg(test)]
mod tests;
