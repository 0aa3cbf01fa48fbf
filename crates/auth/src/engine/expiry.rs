//! When the rights of a client end, and what follows.
//!
//! A token lasts until its `exp` plus the leeway. A session never lasts longer, and often ends a little earlier:
//!
//! * **Jitter.** A fleet whose tokens were issued together would come back together, and ask the tenant together for
//!   the next ones. So each session gives up its own part of the time that its token has left. What is cached keeps the
//!   real end: a token stays as good as it is. Only a cached login ends with the session, because its device does not
//!   have the token: it is this plugin that asks the tenant for the next one.
//! * **`max_session`** counts from the sign-in or the renewal.
//!
//! Rights end in [`Engine::authorize`], by the time that a session has. Whatever a tick does later (disconnect, tell
//! the operator) may wait, so it is done to a few clients at a time.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use super::{Common, Engine, report::Report};
use crate::{
    client::ClientKey,
    clock::Unix,
    identity::Identity,
    refusal::{ConnectDetail, Reason, Refusal},
    sessions::{EndCause, EndedSession, Ending},
};

/// Rights end early by at most this part of the time that a token has left: a twentieth.
const JITTER_PART: u64 = 20;

/// The most clients that end at one tick. To disconnect one takes the broker a tenth of a millisecond.
const ENDS_AT_A_TICK: usize = 50;

/// The most clients that are warned at one tick.
const WARNINGS_AT_A_TICK: usize = 200;

/// What is needed to say when sessions end.
#[derive(Default)]
pub(super) struct SessionEnds {
    hashes: RandomState,
}

/// A message to a client whose rights are about to end.
#[derive(Debug, PartialEq, Eq)]
pub struct Warning {
    /// The client ID.
    pub client_id: Arc<str>,
    /// The message, a JSON object.
    pub payload: String,
}

impl Engine {
    /// Returns when the rights of a client with this identity end, and what follows.
    pub(super) fn end_of_session(
        &self,
        client_id: &str,
        identity: &Identity,
        now: Unix,
    ) -> (Unix, Ending) {
        let (config, token_ends) = (&self.config, identity.until);
        let latest = config.max_session.map(|most| now.plus(most));
        let (end, cause) = match latest {
            Some(latest) if latest < token_ends => (latest, EndCause::MaxSession),
            _ => (token_ends, EndCause::Token),
        };
        let until = self.end_early(client_id, end, now);
        // If a token lasts less than the time of the warning, its client is warned half-way, and not at once: it may
        // renew at every warning.
        let half = until.0.saturating_sub(now.0).div_ceil(2);
        let warning = u64::from(config.expiry_warning).min(half) as u32;
        let stays = config.stays_after_expiry;
        let ending = Ending {
            cause,
            warning,
            stays,
            signing_key: identity.signing_key,
        };
        (until, ending)
    }

    /// Returns an earlier end, so that clients with the same end do not come back together. It is the same whenever it
    /// is asked for.
    pub(super) fn end_early(&self, client_id: &str, end: Unix, now: Unix) -> Unix {
        let left = end.0.saturating_sub(now.0);
        let most = self.config.expiry_jitter.min(left / JITTER_PART);
        let hash = self.session_ends.hashes.hash_one((client_id, end.0));
        Unix(end.0 - hash % (most + 1))
    }

    /// Returns clients to disconnect, because their rights have ended or because they took over sessions of other
    /// users. There may be more, for the next tick.
    pub fn expire(&mut self, common: &mut Common, now: Unix) -> Vec<(ClientKey, Arc<str>)> {
        let ended = common.sessions.expired(now, ENDS_AT_A_TICK);
        let mut to_disconnect = self.seized(common);
        for EndedSession {
            key,
            client_id,
            ending,
        } in ended
        {
            let refusal = &end_refusal(ending.cause);
            let client_id_text = &*client_id;
            if ending.stays {
                self.tell(&Report::RightsEnded {
                    client_id: client_id_text,
                    refusal,
                });
            } else {
                self.tell_disconnected(client_id_text, refusal);
                to_disconnect.push((key, client_id));
            }
        }
        to_disconnect
    }

    /// Returns messages for clients whose rights end soon. There may be more, for the next tick.
    pub fn warnings(&mut self, common: &mut Common, now: Unix) -> Vec<Warning> {
        let to_warn = common
            .sessions
            .due_for_warning(now, WARNINGS_AT_A_TICK)
            .into_iter();
        let warning = |(client_id, until): (Arc<str>, Unix)| Warning {
            client_id,
            payload: format!(
                r#"{{"expires_at":{},"expires_in":{}}}"#,
                until.0,
                until.0.saturating_sub(now.0)
            ),
        };
        to_warn.map(warning).collect()
    }
}

/// Returns why the rights of a client have ended.
pub(super) fn end_reason(cause: EndCause) -> Reason {
    match cause {
        EndCause::Token | EndCause::MaxSession => Reason::RightsExpired,
        EndCause::KeyRevoked => Reason::KeyRevoked,
    }
}

/// Returns the refusal of a client whose rights have ended.
pub(super) fn end_refusal(cause: EndCause) -> Refusal {
    let detail = match cause {
        EndCause::Token => ConnectDetail::TokenExpired,
        EndCause::MaxSession => ConnectDetail::MaxSession,
        EndCause::KeyRevoked => ConnectDetail::KeyRevoked,
    };
    Refusal::new(end_reason(cause), detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::test_identity, engine::testing::engine_with};

    const NOW: Unix = Unix(1_000_000);

    fn engine(options: &[(&str, &str)]) -> Engine {
        engine_with(options).0
    }

    fn for_seconds(left: u64) -> Identity {
        test_identity(NOW.plus(left))
    }

    /// Returns the ends of a hundred clients whose tokens have this much time left.
    fn ends(engine: &Engine, left: u64) -> Vec<u64> {
        let end = |i| {
            let (until, _) = engine.end_of_session(&format!("c{i}"), &for_seconds(left), NOW);
            until.0 - NOW.0
        };
        (0..100).map(end).collect()
    }

    #[test]
    fn tokens_of_the_same_age_end_at_different_times_and_never_late() {
        let engine = engine(&[]);
        for (left, earliest) in [(0, 0), (19, 19), (20, 19), (600, 570), (86_400, 86_340)] {
            let ends = ends(&engine, left);
            assert!(
                ends.iter().all(|end| (earliest..=left).contains(end)),
                "{left}: {ends:?}"
            );
            let mut distinct = ends.clone();
            distinct.sort_unstable();
            distinct.dedup();
            // A hundred clients in 61 seconds leave few of them empty.
            let seconds = (left - earliest + 1) as usize;
            assert!(distinct.len() > seconds / 2, "{left}: {distinct:?}");
        }
        let same = |end: u64| engine.end_early("c", Unix(end), NOW);
        assert_eq!(same(2_000_000), same(2_000_000));
    }

    #[test]
    fn the_jitter_is_an_option_and_is_off_where_nobody_comes_back() {
        for options in [&[("expiry_jitter", "0")][..], &[("on_expiry", "deny")][..]] {
            assert_eq!(ends(&engine(options), 86_400), [86_400; 100]);
        }
        let wide = ends(&engine(&[("expiry_jitter", "3600")]), 86_400);
        assert!(wide.iter().any(|end| *end < 86_400 - 1000), "{wide:?}");
    }

    #[test]
    fn a_session_lasts_no_longer_than_the_option_allows() {
        let engine = engine(&[("max_session", "3600"), ("expiry_jitter", "0")]);
        let cause = |left| {
            let (until, ending) = engine.end_of_session("c", &for_seconds(left), NOW);
            (until.0 - NOW.0, ending.cause)
        };
        assert_eq!(cause(30 * 86_400), (3600, EndCause::MaxSession));
        assert_eq!(cause(3600), (3600, EndCause::Token));
        assert_eq!(cause(60), (60, EndCause::Token));
    }

    #[test]
    fn a_warning_leaves_at_least_half_of_the_time() {
        let engine = engine(&[("expiry_warning", "300"), ("expiry_jitter", "0")]);
        for (left, warning) in [(86_400, 300), (600, 300), (60, 30), (1, 1), (0, 0)] {
            let (_, ending) = engine.end_of_session("c", &for_seconds(left), NOW);
            assert_eq!(ending.warning, warning, "{left}");
        }
    }
}
