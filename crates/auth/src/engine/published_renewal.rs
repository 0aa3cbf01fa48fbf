//! Renewal by publishing, for every version of MQTT: a client publishes its new token, and gets an answer.
//!
//! [`Engine::renew`] decides. This file reads the message, and says who gets the answer.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::{Common, Engine, FinishedRenewal, Renewal, RenewalWait, verify::KeyFetch};
use crate::{
    client::{Client, ClientKey},
    clock::{Unix, moment},
    control::pace::{Pace, RenewalPace},
    refusal::{PendingDetail, Reason, Refusal, RenewalDetail},
    workers::Task,
};
use input::json;
use serde_json::Value;

/// The longest message, in bytes: as long as a password in a CONNECT can be.
const MAX_MESSAGE: usize = 65_535;

/// The longest text that is repeated in the answer, in bytes.
const MAX_CORRELATION: usize = 1024;

/// The answer to a client that published a new token. Displayed as JSON.
#[derive(Debug)]
pub struct RenewalAnswer {
    /// The broker's pointer to the client.
    pub key: ClientKey,
    /// Its client ID.
    pub client_id: Arc<str>,
    /// Nothing if the client has the rights of the new token now, or why nothing has changed.
    pub result: Result<(), Refusal>,
    /// When the rights end that the client has now, and in how many seconds.
    pub(crate) end: (Unix, u64),
    /// What the message gave to be repeated.
    pub(crate) correlation: Option<String>,
}

/// Clients that publish new tokens.
#[derive(Default)]
pub(super) struct PublishedRenewals {
    pace: RenewalPace,
    /// Those that wait for the tenant's keys.
    waiting: HashMap<ClientKey, Asking>,
}

/// A client that waits for an answer.
struct Asking {
    /// The client ID of its very session.
    client_id: Arc<str>,
    correlation: Option<String>,
}

/// What a message says.
struct RenewalMessage<'m> {
    token: Cow<'m, [u8]>,
    correlation: Option<String>,
}

impl Engine {
    /// Takes a new token that a client has published. The answer may come later, from
    /// [`Self::finished_published_renewals`]. Where the broker does not tick, it comes at once.
    ///
    /// Whoever did not sign in gets no answer, and neither does a client that publishes without a pause.
    pub fn renew_published(
        &mut self,
        common: &mut Common,
        key: ClientKey,
        client: &Client<&str>,
        message: &[u8],
        ticks: bool,
        now: Unix,
    ) -> Option<RenewalAnswer> {
        let client_id = Arc::clone(&common.sessions.connected(key, client)?.client_id);
        let mut asking = Asking {
            client_id,
            correlation: None,
        };
        let pace = self.published.pace.count(key, moment());
        let read = match pace {
            Pace::Fine => read(message),
            Pace::TooFast | Pace::Ignored => {
                Err(Refusal::new(Reason::RenewalRate, RenewalDetail::TooFast))
            }
        };
        let message = match read {
            Ok(message) => message,
            Err(refusal) => {
                self.report_refused_renewal(client, None, &refusal, now);
                return match pace {
                    Pace::Ignored => None,
                    Pace::Fine | Pace::TooFast => answer(common, key, asking, Err(refusal), now),
                };
            }
        };
        asking.correlation = message.correlation;
        let result = match self.renew(common, key, client, &message.token, now) {
            Renewal::Renewed { .. } => Ok(()),
            Renewal::Refused(refusal) => Err(refusal),
            Renewal::Wait(wait) if ticks => match self.delay_renewal(common, wait, now) {
                Ok(()) => {
                    self.published.waiting.insert(key, asking);
                    return None;
                }
                Err(refusal) => Err(refusal),
            },
            Renewal::Wait(wait) => {
                let token = wait.job.sign_in.token_id;
                let refusal = self.refuse_to_wait(*wait, now);
                self.report_refused_renewal(client, token, &refusal, now);
                Err(refusal)
            }
        };
        answer(common, key, asking, result, now)
    }

    /// Has the missing key fetched. Returns why the client has to try again, because no tick will bring the answer.
    fn refuse_to_wait(&mut self, wait: RenewalWait, now: Unix) -> Refusal {
        let verdict = match &wait.job.task {
            Task::Keys(token) => {
                self.issuers[token.issuer()].keys.request();
                self.verify(&wait.job.sign_in, token, KeyFetch::Failed, now)
            }
            Task::Login(_) => None,
        };
        match verdict {
            Some(Err(refusal)) => refusal,
            // The keys have come this very moment.
            Some(Ok(_)) | None => {
                Refusal::new(Reason::LoginPending, PendingDetail::BrokerWaitedEnough)
            }
        }
    }

    /// Returns the answers to clients whose token had to wait for the tenant's keys. Call it at a tick, after
    /// [`Self::collect`].
    pub fn finished_published_renewals(
        &mut self,
        common: &mut Common,
        now: Unix,
    ) -> Vec<RenewalAnswer> {
        let finished = self.finished_renewals(common, now).into_iter();
        let answers = finished.filter_map(|FinishedRenewal { key, result, .. }| {
            let asking = self.published.waiting.remove(&key)?;
            answer(common, key, asking, result.map(drop), now)
        });
        answers.collect()
    }
}

/// Returns the answer, if the client is still there.
fn answer(
    common: &Common,
    key: ClientKey,
    asking: Asking,
    result: Result<(), Refusal>,
    now: Unix,
) -> Option<RenewalAnswer> {
    let Asking {
        client_id,
        correlation,
    } = asking;
    let session = common.sessions.still_connected(key, &client_id)?;
    let end = (session.until, session.until.0.saturating_sub(now.0));
    Some(RenewalAnswer {
        key,
        client_id,
        result,
        end,
        correlation,
    })
}

/// Reads a message: a token alone, or a JSON object with the member `token`.
fn read(message: &[u8]) -> Result<RenewalMessage<'_>, Refusal> {
    let refuse = |detail: RenewalDetail| Err(Refusal::new(Reason::RenewalMessage, detail));
    if message.len() > MAX_MESSAGE {
        return refuse(RenewalDetail::TooLong {
            bytes: message.len(),
            most: MAX_MESSAGE,
        });
    }
    let alone = RenewalMessage {
        token: Cow::Borrowed(message),
        correlation: None,
    };
    let Ok(mut members) = json::object(message) else {
        return Ok(alone);
    };
    let token = match members.remove("token") {
        Some(Value::String(token)) if !token.is_empty() => token,
        // The tenant's whole response is recognised as such, and the refusal says so.
        None if members.contains_key("access_token") => return Ok(alone),
        _ => return refuse(RenewalDetail::NoToken),
    };
    let correlation = match members.remove("correlationData") {
        None => None,
        Some(Value::String(text)) if text.len() <= MAX_CORRELATION => Some(text),
        Some(_) => return refuse(RenewalDetail::Correlation),
    };
    Ok(RenewalMessage {
        token: Cow::Owned(token.into_bytes()),
        correlation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_token_alone_or_an_object_with_it() {
        let of = |message: &str| {
            let message = read(message.as_bytes());
            message.map(|read| {
                (
                    String::from_utf8(read.token.into()).unwrap(),
                    read.correlation,
                )
            })
        };
        let read = |token: &str, correlation: Option<&str>| {
            Ok((token.to_owned(), correlation.map(str::to_owned)))
        };
        assert_eq!(of("a.b.c"), read("a.b.c", None));
        assert_eq!(of(r#"{"token":"a.b.c"}"#), read("a.b.c", None));
        assert_eq!(
            of(r#" {"correlationData":"7","token":"a.b.c"}"#),
            read("a.b.c", Some("7"))
        );
        // Whatever else it is, the token's own checks say.
        for other in [
            "",
            "7",
            "{",
            r#"{"access_token":"a.b.c"}"#,
            r#"{"token":"a","token":"b"}"#,
        ] {
            assert_eq!(of(other), read(other, None), "{other}");
        }
        for bad in [
            "{}",
            r#"{"token":""}"#,
            r#"{"token":7}"#,
            r#"{"tokn":"a.b.c"}"#,
            r#"{"token":"a","correlationData":7}"#,
            &format!(
                r#"{{"token":"a","correlationData":"{}"}}"#,
                "x".repeat(1025)
            ),
            &"x".repeat(MAX_MESSAGE + 1),
        ] {
            assert_eq!(of(bad).unwrap_err().reason, Reason::RenewalMessage);
        }
    }
}
