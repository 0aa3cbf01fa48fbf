//! Extended authentication (MQTT 5): a client that presents its token by an authentication method, in its CONNECT, and
//! later in AUTH packets to renew its rights.
//!
//! An exchange begins with a CONNECT or with an AUTH packet that asks for re-authentication. Usually it ends at once.
//! Otherwise the client is asked to go on ([`ExchangeStep::Continue`]) and answers with another AUTH packet:
//!
//! * OAUTHBEARER: the client sent no data yet, or has to acknowledge a refusal (RFC 7628, section 3.2.3).
//! * A renewal whose token cannot be verified right now, because the tenant's keys are being fetched. A refusal would
//!   close the connection (MQTT 5, section 4.12.1), and no broker takes a later answer. So the client asks again, until
//!   the keys are here or its time is over. A CONNECT is refused in that case: its client has nothing to lose.
//!
//! # The packet that must be neither refused nor accepted
//!
//! An AUTH packet without any content means success, and no client sends one. If a connected client sends one all the
//! same, every broker takes it for the continuation of an exchange, even if there is none. Then a refusal makes the
//! broker use memory that it has freed, and so does a success on 2.0 (src/handle_auth.c). Only "go on" is safe. So that
//! is the answer wherever no exchange is known, and the client is disconnected at the next tick.

use std::{collections::HashMap, sync::Arc};

use super::{
    Common, Connect, Engine, Renewal,
    authenticate::Outcome,
    oauth_methods::{Method, Presentation},
};
use crate::{
    client::{Client, ClientKey},
    clock::{Deadline, Unix},
    refusal::{ConnectDetail, Detail, PendingDetail, Reason, Refusal, Responsible},
    sessions::Origin,
    sign_in::Presented,
};

/// How many AUTH packets one exchange may take. A client that asks for keys without a pause would load the broker.
const MAX_PACKETS: u32 = 5000;

/// A CONNECT with an authentication method, or an AUTH packet.
#[derive(Debug)]
pub struct AuthPacket<'a> {
    /// The broker's pointer to the client.
    pub key: ClientKey,
    /// The client. In a CONNECT its user name is unverified.
    pub client: Client<&'a str>,
    /// The authentication method. 2.0 tells it only where an exchange begins.
    pub method: Option<&'a str>,
    /// The authentication data: any bytes.
    pub data: &'a [u8],
    /// Whether the broker told an address that every client can make up.
    pub unverified_address: bool,
    /// Whether the broker says that this is the client that is connected under its client ID. 2.0 does not say.
    pub is_connected: Option<bool>,
    /// Whether the broker says that nobody has the client ID. 2.0 does not say.
    pub id_is_free: bool,
    /// The user name of the session that the broker restored from disk under this client ID, if it says so. 2.0 does
    /// not say.
    pub restored_for: Option<&'a str>,
}

impl<'a> AuthPacket<'a> {
    /// Returns the CONNECT in which the client presents this token.
    pub fn connect<'b>(&self, token: &'b [u8], presented: Presented) -> Connect<'b>
    where
        'a: 'b,
    {
        Connect {
            key: self.key,
            client: self.client,
            password: Some(token),
            unverified_address: self.unverified_address,
            origin: Origin::Connect,
            id_is_free: self.id_is_free,
            restored_for: self.restored_for,
            ends_with_connection: false,
            presented,
        }
    }
}

/// What happens next with an exchange.
#[must_use]
pub enum ExchangeStep {
    /// Another plugin decides. If none does, the broker refuses the method.
    Defer,
    /// The client presents a token to sign in: [authenticate](Engine::authenticate) it. If it is refused,
    /// [`Engine::refuse_exchange`] says how.
    SignIn(PresentedToken),
    /// The rights of the client are renewed. Forget what was answered for it before.
    Renewed,
    /// The client is asked to go on, with this data.
    Continue(Vec<u8>),
    /// The client is refused.
    Refuse {
        /// Whether it is in already.
        is_renewal: bool,
    },
}

/// A token that a client presents to sign in.
pub struct PresentedToken {
    /// The token: any bytes.
    pub token: Vec<u8>,
    /// Where it was.
    pub presented: Presented,
    exchange: Exchange,
}

/// An exchange that is not over.
struct Exchange {
    method: Method,
    is_renewal: bool,
    stage: Stage,
    deadline: Deadline,
    packets: u32,
}

/// What an exchange waits for.
enum Stage {
    /// The client's data.
    Data,
    /// The keys for a token. The client asks whether they are here.
    Keys(Vec<u8>, Presented),
    /// The client's acknowledgement that it is refused.
    Acknowledgement,
}

/// The exchanges that are not over, and the clients that sent an AUTH packet out of place.
#[derive(Default)]
pub(super) struct Exchanges {
    by_key: HashMap<ClientKey, Exchange>,
    out_of_place: Vec<(ClientKey, Arc<str>)>,
}

impl Exchanges {
    /// Forgets the exchange of a client that has gone, or of whoever had its key before.
    pub(super) fn forget(&mut self, key: ClientKey) {
        self.by_key.remove(&key);
        self.out_of_place.retain(|(of, _)| *of != key);
    }
}

impl Engine {
    /// Begins an exchange: a client connects, or wants to renew its rights.
    pub fn begin_exchange(
        &mut self,
        common: &mut Common,
        packet: &AuthPacket,
        now: Unix,
    ) -> ExchangeStep {
        self.exchanges.forget(packet.key);
        self.renewals.forget(packet.key);
        let Some(method) = packet.method.and_then(Method::named) else {
            return self.leave_to_others(common, packet, now);
        };
        let session = common.sessions.connected(packet.key, &packet.client);
        let exchange = Exchange {
            method,
            // Nobody else has the key of a client that is connected, because the broker tells when a client goes.
            is_renewal: packet.is_connected != Some(false)
                && session.is_some_and(|session| session.is_by_method),
            stage: Stage::Data,
            deadline: Deadline::after(self.config.timeout),
            packets: 0,
        };
        if packet.data.is_empty() && method == Method::OAuthBearer {
            return self.go_on(common, packet, exchange, Vec::new());
        }
        self.take_data(common, packet, exchange, now)
    }

    /// Continues an exchange with what the client sent next.
    pub fn continue_exchange(
        &mut self,
        common: &mut Common,
        packet: &AuthPacket,
        now: Unix,
    ) -> ExchangeStep {
        let Some(mut exchange) = self.exchanges.by_key.remove(&packet.key) else {
            return self.continue_nothing(common, packet);
        };
        exchange.packets += 1;
        match &exchange.stage {
            Stage::Data => self.take_data(common, packet, exchange, now),
            Stage::Keys(token, presented) => {
                let (token, presented) = (token.clone(), presented.clone());
                self.renew_by_auth(common, packet, exchange, token, presented, now)
            }
            Stage::Acknowledgement => ExchangeStep::Refuse {
                is_renewal: exchange.is_renewal,
            },
        }
    }

    /// Returns how a client is refused that presented a token to sign in.
    pub fn refuse_exchange(
        &mut self,
        common: &mut Common,
        packet: &AuthPacket,
        presented: PresentedToken,
        refusal: &Refusal,
    ) -> ExchangeStep {
        self.refuse(common, packet, presented.exchange, refusal)
    }

    /// Returns the clients that sent an AUTH packet out of place and are still connected. Disconnect them.
    pub fn take_out_of_place(&mut self, common: &Common) -> Vec<(ClientKey, Arc<str>)> {
        let mut clients = std::mem::take(&mut self.exchanges.out_of_place);
        clients.retain(|(key, client_id)| common.sessions.is_connected(*key, client_id));
        for (_, client_id) in &clients {
            let refusal = Refusal::new(Reason::AuthPacket, ConnectDetail::AuthPacketOutOfPlace);
            let refusal = &refusal;
            self.tell_disconnected(client_id, refusal);
        }
        clients
    }

    /// Decides about a client with another method, as about one that brought neither a token nor a login.
    fn leave_to_others(
        &mut self,
        common: &mut Common,
        packet: &AuthPacket,
        now: Unix,
    ) -> ExchangeStep {
        let method = packet.method.unwrap_or_default().to_owned();
        let refusal = Refusal::new(Reason::AuthMethod, Detail::AuthMethod(method));
        let sign_in = self.sign_in(&packet.connect(&[], Presented::default()));
        match self.defer_or_refuse(common, Origin::Connect, &sign_in, refusal) {
            Outcome::Verdict(Err(refusal)) => {
                self.report_refused_connect(&sign_in, &refusal, now);
                match refusal.reason {
                    // The broker has a code of its own for this.
                    Reason::AuthMethod => ExchangeStep::Defer,
                    _ => ExchangeStep::Refuse { is_renewal: false },
                }
            }
            _ => ExchangeStep::Defer,
        }
    }

    fn take_data(
        &mut self,
        common: &mut Common,
        packet: &AuthPacket,
        exchange: Exchange,
        now: Unix,
    ) -> ExchangeStep {
        let Presentation { token, authzid } = match exchange.method.read(packet.data) {
            Ok(presentation) => presentation,
            Err(refusal) => {
                match exchange.is_renewal {
                    true => self.report_refused_renewal(&packet.client, None, &refusal, now),
                    false => self.report(&packet.client, &refusal, now),
                }
                return self.refuse(common, packet, exchange, &refusal);
            }
        };
        let (token, presented) = (token.to_owned(), Presented::AuthenticationData { authzid });
        match exchange.is_renewal {
            true => self.renew_by_auth(common, packet, exchange, token, presented, now),
            false => ExchangeStep::SignIn(PresentedToken {
                token,
                presented,
                exchange,
            }),
        }
    }

    fn renew_by_auth(
        &mut self,
        common: &mut Common,
        packet: &AuthPacket,
        mut exchange: Exchange,
        token: Vec<u8>,
        presented: Presented,
        now: Unix,
    ) -> ExchangeStep {
        let (key, client) = (packet.key, &packet.client);
        let has_waited = matches!(exchange.stage, Stage::Keys(..));
        let renewal = if self.renewals.has_waiting(key) {
            None
        } else if let Some((sign_in, refusal)) = self.renewals.take_refused(key) {
            Some(self.finish_renewal(common, &sign_in, Err(refusal), now))
        } else if has_waited && exchange.deadline.has_passed() {
            None
        } else {
            Some(self.renew_by(common, key, client, &token, presented.clone(), now))
        };
        match renewal {
            Some(Renewal::Renewed { .. }) => return ExchangeStep::Renewed,
            // It may succeed in a moment.
            Some(Renewal::Refused(refusal))
                if refusal.reason.responsible() != Responsible::Passing =>
            {
                return self.refuse(common, packet, exchange, &refusal);
            }
            // If too many wait, the log says so, and the client asks again.
            Some(Renewal::Wait(wait)) => drop(self.wait_for_keys(common, wait, true, now)),
            Some(Renewal::Refused(_)) | None => {}
        }
        let refusal = if exchange.deadline.has_passed() {
            self.too_late().err()
        } else {
            let packets = exchange.packets;
            let detail = PendingDetail::AskedTooOften { packets };
            (packets >= MAX_PACKETS).then(|| Refusal::new(Reason::LoginPending, detail))
        };
        if let Some(refusal) = refusal {
            self.renewals.forget(key);
            let token_id = self.token_id(self.fingerprinter.of(&token), &token);
            self.report_refused_renewal(client, token_id, &refusal, now);
            return self.refuse(common, packet, exchange, &refusal);
        }
        exchange.stage = Stage::Keys(token, presented);
        self.go_on(common, packet, exchange, Vec::new())
    }

    /// Refuses a client: at once, or after it has acknowledged that.
    fn refuse(
        &mut self,
        common: &mut Common,
        packet: &AuthPacket,
        mut exchange: Exchange,
        refusal: &Refusal,
    ) -> ExchangeStep {
        match exchange.method.failure(refusal.reason) {
            Some(message) => {
                exchange.stage = Stage::Acknowledgement;
                self.go_on(common, packet, exchange, message)
            }
            None => ExchangeStep::Refuse {
                is_renewal: exchange.is_renewal,
            },
        }
    }

    fn go_on(
        &mut self,
        common: &mut Common,
        packet: &AuthPacket,
        exchange: Exchange,
        data: Vec<u8>,
    ) -> ExchangeStep {
        // If the client hangs up now, the broker asks whether its will may be published.
        if !exchange.is_renewal {
            common.sessions.never_came_in(packet.key, &packet.client);
        }
        self.exchanges.by_key.insert(packet.key, exchange);
        ExchangeStep::Continue(data)
    }

    /// Answers an AUTH packet that continues no exchange of ours. See the top of this file.
    fn continue_nothing(&mut self, common: &Common, packet: &AuthPacket) -> ExchangeStep {
        let sessions = &common.sessions;
        if sessions.connected(packet.key, &packet.client).is_some() {
            let client = (packet.key, packet.client.id.into());
            // Once each: 2.0 must not disconnect a client that is gone.
            let clients = &mut self.exchanges.out_of_place;
            if !clients.contains(&client) {
                clients.push(client);
            }
            return ExchangeStep::Continue(Vec::new());
        }
        let is_ours = sessions.is_forgotten(packet.key, &packet.client)
            || packet.method.and_then(Method::named).is_some();
        match is_ours {
            true => ExchangeStep::Continue(Vec::new()),
            false => ExchangeStep::Defer,
        }
    }
}
