//! Renewal: a client that is in presents a new token, and stays connected.
//!
//! However the token arrives, [`Engine::renew`] decides. The session gets the rights of the new token and their end,
//! both or neither. A renewal that fails changes nothing: the client keeps what it has until that ends.
//!
//! What stays is who the session belongs to. The new token must be of the same account, give the same user name, and
//! allow the client ID. The credential of the session stays too, because on SIGHUP the broker presents the one of the
//! CONNECT.

use std::sync::Arc;

use super::{Common, Engine, authenticate, report::Attempt, verify::KeyFetch};
use crate::{
    client::{Client, ClientKey},
    clock::{Deadline, Unix, moment},
    identity::{self, Identity, Verdict},
    jwt::jws::PresentedToken,
    limits::source::SourceNetwork,
    refusal::{Field, PendingDetail, Reason, Refusal, RenewalDetail},
    secret::Fingerprint,
    sessions::denies_for_good,
    sign_in::{Presented, SignIn},
    workers::{Job, Task, UnverifiedTokens},
};

/// How many renewals may wait for keys. Each client has at most one.
const MAX_WAITING: usize = 512;

/// What happens next with a renewal.
#[must_use]
pub enum Renewal {
    /// The client has the rights of the new token. Forget what was answered for the client before.
    Renewed {
        /// When the new rights end.
        until: Unix,
    },
    /// Nothing has changed. The log says why.
    Refused(Refusal),
    /// The key of the token is unknown, and is being fetched: call [`Engine::delay_renewal`].
    Wait(Box<RenewalWait>),
}

/// A renewal that cannot be decided from memory.
#[must_use]
pub struct RenewalWait {
    pub(super) job: Job,
}

/// The end of a renewal that had to wait.
#[must_use]
pub struct FinishedRenewal {
    /// The broker's pointer to the client.
    pub key: ClientKey,
    /// The client ID.
    pub client_id: Arc<str>,
    /// When the new rights end, or why nothing has changed.
    pub result: Result<Unix, Refusal>,
}

/// A renewal that waits for the tenant's keys.
struct WaitingRenewal {
    sign_in: SignIn,
    token: Fingerprint,
    deadline: Deadline,
    /// Whether the client asks for its verdict.
    is_polled: bool,
}

/// The renewals that wait, and those whose token was verified or cannot be.
#[derive(Default)]
pub(super) struct Renewals {
    waiting: Vec<WaitingRenewal>,
    ready: Vec<(WaitingRenewal, Verdict)>,
}

impl Renewals {
    /// Gives a verdict to all that present this token. Returns how many they are.
    pub(super) fn resolve(&mut self, token: Fingerprint, verdict: &Verdict) -> usize {
        let before = self.ready.len();
        let resolved = self
            .waiting
            .extract_if(.., |waiting| waiting.token == token);
        let resolved = resolved.map(|waiting| (waiting, verdict.clone()));
        self.ready.extend(resolved);
        self.ready.len() - before
    }

    /// Whether the renewal of a client waits for the tenant's keys.
    pub(super) fn has_waiting(&self, key: ClientKey) -> bool {
        let mut waiting = self.waiting.iter();
        waiting.any(|waiting| waiting.sign_in.key == key)
    }

    /// Takes the refusal of a client's renewal that has waited.
    ///
    /// The client asks when it likes. By then a key may be revoked that was good, and an option may have changed. So a
    /// token that was accepted is verified again: usually that costs nothing, because the token is remembered.
    pub(super) fn take_refused(&mut self, key: ClientKey) -> Option<(SignIn, Refusal)> {
        let mut ready = self.ready.iter();
        let place = ready.position(|(waiting, _)| waiting.sign_in.key == key)?;
        let (waiting, verdict) = self.ready.swap_remove(place);
        Some((waiting.sign_in, verdict.err()?))
    }

    /// Forgets the renewals of a client: it presents another token, or is gone.
    pub(super) fn forget(&mut self, key: ClientKey) {
        self.waiting.retain(|waiting| waiting.sign_in.key != key);
        self.ready.retain(|(waiting, _)| waiting.sign_in.key != key);
    }
}

impl Engine {
    /// Renews the rights of a client with a new token, without waiting.
    ///
    /// `client` is as the broker describes it now, with its address: rules may ask for that.
    pub fn renew(
        &mut self,
        common: &mut Common,
        key: ClientKey,
        client: &Client<&str>,
        token: &[u8],
        now: Unix,
    ) -> Renewal {
        self.renew_by(common, key, client, token, Presented::Password, now)
    }

    /// Does the same with a token from an AUTH packet.
    pub(super) fn renew_by(
        &mut self,
        common: &mut Common,
        key: ClientKey,
        client: &Client<&str>,
        token: &[u8],
        presented: Presented,
        now: Unix,
    ) -> Renewal {
        self.renewals.forget(key);
        let print = self.fingerprinter.of(token);
        let source = SourceNetwork::of(client.address);
        let sign_in = SignIn {
            key,
            client: client.to_shared(),
            credential: print,
            user: None,
            login: None,
            caller: self.known_callers.caller(None, source, moment()),
            id_is_free: false,
            presented,
            token_id: self.token_id(print, token),
            restored_for: None,
            ends_with_connection: false,
        };
        match self.renewal_verdict(common, &sign_in, token, now) {
            Ok(Some(identity)) => self.finish_renewal(common, &sign_in, Ok(identity), now),
            Err(refusal) => self.finish_renewal(common, &sign_in, Err(refusal), now),
            Ok(None) => {
                // Only text is verified.
                let token = String::from_utf8_lossy(token).into_owned();
                // It names one of them, or it would have been refused.
                let issuer = self.issuers.of_token(&PresentedToken::new(&token));
                let issuer = issuer.unwrap_or_default();
                Renewal::Wait(Box::new(RenewalWait {
                    job: Job {
                        sign_in,
                        key: print,
                        deadline: Deadline::after(self.config.timeout),
                        task: Task::Keys(UnverifiedTokens::FromClient { issuer, token }),
                    },
                }))
            }
        }
    }

    /// Returns whose the token is, or `None` if the tenant's keys have to be fetched first.
    fn renewal_verdict(
        &mut self,
        common: &mut Common,
        sign_in: &SignIn,
        token: &[u8],
        now: Unix,
    ) -> Result<Option<Identity>, Refusal> {
        // Before anything is verified, so that nobody else can make the plugin work.
        renewable(common, sign_in, now)?;
        if let Some(identity) = self.cached_token(sign_in, now) {
            return Ok(Some(identity));
        }
        let token = &PresentedToken::new(authenticate::token_alone(token, Field::Renewal)?);
        let issuer = self.issuers.of_token(token)?;
        self.verify_presented(sign_in, (token, issuer), KeyFetch::NotTried, now)
            .transpose()
    }

    /// Has a renewal wait for the tenant's keys. [`Self::finished_renewals`] returns its end.
    ///
    /// # Errors
    ///
    /// Returns a refusal if too many renewals wait already.
    pub fn delay_renewal(
        &mut self,
        common: &mut Common,
        wait: Box<RenewalWait>,
        now: Unix,
    ) -> Result<(), Refusal> {
        self.wait_for_keys(common, wait, false, now)
    }

    /// Does the same. `is_polled` says that the client asks for the end of the renewal.
    pub(super) fn wait_for_keys(
        &mut self,
        common: &mut Common,
        wait: Box<RenewalWait>,
        is_polled: bool,
        now: Unix,
    ) -> Result<(), Refusal> {
        let RenewalWait { job } = *wait;
        let (token, deadline, sign_in) = (job.key, job.deadline, job.sign_in.clone());
        let submitted = match self.renewals.waiting.len() < MAX_WAITING {
            true => self.submit(common, job),
            false => Err(Refusal::new(
                Reason::LoginQueue,
                PendingDetail::TooMany { waiting: None },
            )),
        };
        if let Err(refusal) = submitted {
            self.report_refused_renewal(
                &sign_in.client.borrowed(),
                sign_in.token_id,
                &refusal,
                now,
            );
            return Err(refusal);
        }
        self.renewals.waiting.push(WaitingRenewal {
            sign_in,
            token,
            deadline,
            is_polled,
        });
        Ok(())
    }

    /// Ends the renewals whose token was verified meanwhile, or whose time is over. Call it at a tick, after
    /// [`Self::collect`].
    pub fn finished_renewals(&mut self, common: &mut Common, now: Unix) -> Vec<FinishedRenewal> {
        let Renewals { waiting, ready } = &mut self.renewals;
        if waiting.is_empty() && ready.is_empty() {
            return Vec::new();
        }
        let ready = ready.extract_if(.., |(waiting, _)| !waiting.is_polled);
        let mut ready: Vec<_> = ready.collect();
        let late =
            |waiting: &mut WaitingRenewal| !waiting.is_polled && waiting.deadline.has_passed();
        let late: Vec<_> = waiting.extract_if(.., late).collect();
        ready.extend(late.into_iter().map(|waiting| (waiting, self.too_late())));
        let ended = ready.into_iter().map(|(waiting, verdict)| {
            let sign_in = waiting.sign_in;
            let verdict = verdict.and_then(|_| self.still_good(&sign_in, now));
            let result = match self.finish_renewal(common, &sign_in, verdict, now) {
                Renewal::Renewed { until } => Ok(until),
                Renewal::Refused(refusal) => Err(refusal),
                Renewal::Wait(_) => unreachable!("a verdict waits for nothing"),
            };
            FinishedRenewal {
                key: sign_in.key,
                client_id: Arc::clone(&sign_in.client.id),
                result,
            }
        });
        ended.collect()
    }

    /// Returns the identity in a token that was verified before, if it is still good: since then a key may be revoked,
    /// or another configuration in force. Usually the token is remembered.
    ///
    /// # Errors
    ///
    /// Returns why the client has to try again.
    fn still_good(&mut self, sign_in: &SignIn, now: Unix) -> Verdict {
        let identity = self.cached_token(sign_in, now);
        identity
            .ok_or_else(|| Refusal::new(Reason::LoginPending, PendingDetail::BrokerWaitedEnough))
    }

    /// Gives a client the rights of a verified token, or reports why it keeps those that it has.
    pub(super) fn finish_renewal(
        &mut self,
        common: &mut Common,
        sign_in: &SignIn,
        verdict: Verdict,
        now: Unix,
    ) -> Renewal {
        match verdict.and_then(|identity| self.apply_renewal(common, sign_in, identity, now)) {
            Ok(until) => {
                // The next CONNECT with this token costs a signature check, but a device that renews every hour leaves
                // no more behind than one that does not.
                self.token_cache.client_left(sign_in.credential, now);
                self.counters.renewals.granted += 1;
                Renewal::Renewed { until }
            }
            Err(refusal) => {
                self.report_refused_renewal(
                    &sign_in.client.borrowed(),
                    sign_in.token_id,
                    &refusal,
                    now,
                );
                Renewal::Refused(refusal)
            }
        }
    }

    fn apply_renewal(
        &mut self,
        common: &mut Common,
        sign_in: &SignIn,
        identity: Identity,
        now: Unix,
    ) -> Result<Unix, Refusal> {
        renewable(common, sign_in, now)?;
        let session = common.sessions.connected(sign_in.key, &sign_in.client);
        let session = session.expect("it can be renewed");
        if session.account != identity.account {
            return Err(Refusal::new(
                Reason::RenewalAccount,
                RenewalDetail::OtherAccount,
            ));
        }
        let issuer = &self.issuers[identity.issuer].config;
        if issuer.username_for_broker(&identity.username) != session.username {
            return Err(Refusal::new(
                Reason::RenewalAccount,
                RenewalDetail::OtherUsername,
            ));
        }
        identity::check(&identity.client_ids, &sign_in.client.id)?;
        sign_in.presented.check(&identity)?;
        let (until, ending) = self.end_of_session(&sign_in.client.id, &identity, now);
        let to_save = self.to_save(&sign_in.client, &identity, until);
        let observed = self.observed(&sign_in.client, &identity, now);
        let rights = self.rights(&sign_in.client, identity, now)?;
        common.sessions.renew(sign_in.key, rights, until, ending);
        if let Some(observed) = observed {
            self.observe_admitted(Attempt::Renewal, sign_in, Some(&observed), until, now);
            if let Some(session) = common.sessions.newest(&sign_in.client.id) {
                session.observed = Some(observed);
            }
        }
        if let Some(to_save) = to_save {
            common.saved.renew(&sign_in.client.id, *to_save);
        }
        self.find_uncovered(common, sign_in, now);
        Ok(until)
    }

    /// Notes the subscriptions of a client that its new rights do not cover. Messages for them are denied already.
    fn find_uncovered(&mut self, common: &mut Common, sign_in: &SignIn, now: Unix) {
        if self.config.defer_acl {
            return;
        }
        let client_id = &sign_in.client.id;
        let denied = common.sessions.take_denied_filters(sign_in.key, now);
        let uncovered = denied
            .into_iter()
            .map(|filter| (Arc::clone(client_id), filter));
        self.uncovered.extend(uncovered);
    }

    /// Returns subscriptions that are no longer covered by the rights of their clients, as client ID and filter. Where
    /// the broker lets you, remove them.
    ///
    /// Since the renewal the client may have got other rights, or another policy file may be in force. So it is the
    /// rights that it has now that decide.
    pub fn take_uncovered(&mut self, common: &mut Common, now: Unix) -> Vec<(Arc<str>, Box<str>)> {
        let mut uncovered = std::mem::take(&mut self.uncovered);
        uncovered.retain(|(client_id, filter)| {
            let session = common.sessions.newest(client_id);
            let session = session.filter(|session| session.instance == self.id);
            let Some(session) = session.filter(|_| !self.config.defer_acl) else {
                return false;
            };
            self.follow_policy_file(&mut session.rights, session.issuer);
            let is_denied = denies_for_good(&session.rights, filter, now);
            if !is_denied {
                session.filters.insert(filter.as_bytes());
            }
            is_denied
        });
        uncovered
    }
}

/// Checks that a client is signed in and connected, and that its rights have not ended.
fn renewable(common: &Common, sign_in: &SignIn, now: Unix) -> Result<(), Refusal> {
    let session = common.sessions.connected(sign_in.key, &sign_in.client);
    let detail = match session {
        None => RenewalDetail::NotSignedIn,
        Some(session) if !session.may_stay(now) => RenewalDetail::RightsEnded,
        Some(_) => return Ok(()),
    };
    Err(Refusal::new(Reason::RenewalTooLate, detail))
}
