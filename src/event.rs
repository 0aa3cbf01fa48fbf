//! Reads the broker's events into Rust values. NULL is handled everywhere.
//!
//! Text that is not UTF-8 is refused and never repaired: a decision about rights must not be about another text than
//! the broker's.

use std::ffi::CStr;

use crate::{
    abi,
    codes::Generation,
    host::{Broker, ClientRef, string},
    quirks::{address_header, recheck::Origin},
};
use auth::{
    client::{Client, ClientKey, ClientView, TextAddresses},
    engine::{Access, Action, Connect},
    proxies::{AddressFrom, TrustedProxies},
    refusal::{Reason, Refusal},
};

/// A CONNECT that cannot be decided, because the broker's event lacks something or has something that is not text.
pub struct Unreadable<'e> {
    /// The client ID; empty where the broker does not tell it.
    pub client_id: &'e str,
    /// The address that counts as the client's.
    pub address: Option<&'e str>,
    /// What is wrong with the event.
    pub refusal: Refusal,
}

/// Returns the client of a basic-auth event.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
#[inline]
pub unsafe fn client<'e>(event: *const abi::mosquitto_evt_basic_auth) -> Option<ClientRef<'e>> {
    // SAFETY: the caller's promise; the event's client lives as long as the event.
    unsafe {
        event
            .as_ref()
            .and_then(|event| ClientRef::new(event.client))
    }
}

/// Returns whether an event is about a session that the broker restored from disk, and whose client has not come back
/// yet. It brings no password.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
pub unsafe fn is_about_restored_session(
    broker: &Broker,
    event: *const abi::mosquitto_evt_basic_auth,
) -> bool {
    // SAFETY: the caller promises that a pointer that is not NULL is a live event.
    let brings_no_password =
        unsafe { event.as_ref() }.is_some_and(|event| event.password.is_null());
    // SAFETY: the same promise.
    let client = unsafe { client(event) };
    brings_no_password && client.is_some_and(|client| was_restored(broker, client))
}

/// Returns whether the broker restored this session from disk, and its client has not come back yet.
fn was_restored(broker: &Broker, client: ClientRef<'_>) -> bool {
    !broker.is_connected(client) && broker.protocol_version(client) == 0
}

/// Reads a basic-auth event. `certificates` says whether to read the client's certificate. `proxies` are the proxies
/// that may tell a client's address.
///
/// # Errors
///
/// Returns an error if the event cannot be understood.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
pub unsafe fn connect<'e>(
    broker: &Broker,
    event: *const abi::mosquitto_evt_basic_auth,
    origin: Origin,
    certificates: bool,
    proxies: &TrustedProxies,
) -> Result<(ClientRef<'e>, Connect<'e>), Unreadable<'e>> {
    let internal = |what: &str| Unreadable {
        client_id: "",
        address: None,
        refusal: Refusal::new(Reason::Internal, what),
    };
    // SAFETY: the caller's promise; NULL is handled.
    let event = unsafe { event.as_ref() }.ok_or_else(|| internal("the broker sent no event"))?;
    // SAFETY: the event's client lives as long as the event.
    let client = unsafe { ClientRef::new(event.client) }
        .ok_or_else(|| internal("the broker named no client"))?;
    let client_id = broker
        .client_id(client)
        .ok_or_else(|| internal("the client has no client ID"))?;
    let told = broker.address(client);
    let from = address_header::address_from(broker, client);
    let address = told.and_then(|told| proxies.client(told, from));
    let unreadable = |reason, what: &str| Unreadable {
        client_id,
        address,
        refusal: Refusal::new(reason, what),
    };
    // SAFETY: the event's strings live as long as the event.
    let (username, password) = unsafe { (string(event.username), string(event.password)) };
    let username = username
        .map(CStr::to_str)
        .transpose()
        .map_err(|_| unreadable(Reason::NotUtf8, "its user name is not UTF-8 text"))?;
    let password = password.map(CStr::to_bytes);

    // SAFETY: a live event; the function reads two reserved bytes of it.
    let length = unsafe { abi::mosquitto_auth0_password_length(event) };
    if length != 0 && password.map_or(0, <[u8]>::len) != usize::from(length) {
        return Err(unreadable(
            Reason::PasswordNul,
            "its password holds a NUL byte",
        ));
    }

    Ok((
        client,
        Connect {
            key: ClientKey(client.address()),
            client: Client {
                id: client_id,
                username,
                address,
                port: broker.port(client),
                certificate: certificates.then(|| broker.certificate(client)).flatten(),
            },
            password,
            unverified_address: from == AddressFrom::Header && proxies.is_empty(),
            id_is_free: origin == Origin::Connect && broker.has_session(client_id) == Some(false),
            may_be_recheck: origin != Origin::Connect,
            is_restored: password.is_none() && was_restored(broker, client),
            is_recheck: origin == Origin::Recheck && broker.generation() == Generation::V2_0,
        },
    ))
}

/// The client of an event. The broker is asked for what the event does not contain.
pub struct EventClient<'e> {
    pub broker: &'e Broker,
    pub client: ClientRef<'e>,
}

impl ClientView for EventClient<'_> {
    fn client_id(&self) -> &[u8] {
        self.broker.client_id_bytes(self.client).unwrap_or_default()
    }

    fn username(&self) -> Option<&[u8]> {
        self.broker.username_bytes(self.client)
    }

    fn is_connected(&self) -> bool {
        self.broker.is_connected(self.client)
    }

    fn is_restored(&self) -> bool {
        was_restored(self.broker, self.client)
    }

    #[inline]
    fn text_addresses(&self) -> TextAddresses {
        self.broker.places(self.client)
    }

    #[inline]
    fn is(&self, client_id: &str, username: &str) -> bool {
        self.broker.is(self.client, client_id, username)
    }
}

/// Reads an ACL event. Returns `None` if it cannot be understood.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
pub unsafe fn access<'e>(
    broker: &'e Broker,
    event: *const abi::mosquitto_evt_acl_check,
) -> Option<Access<'e, EventClient<'e>>> {
    // SAFETY: the caller's promise; NULL is handled.
    let event = unsafe { event.as_ref() }?;
    // SAFETY: the event's client lives as long as the event.
    let client = unsafe { ClientRef::new(event.client) }?;
    let action = match u32::try_from(event.access).ok()? {
        abi::MOSQ_ACL_READ => Action::Receive,
        abi::MOSQ_ACL_WRITE => Action::Publish,
        abi::MOSQ_ACL_SUBSCRIBE => Action::Subscribe,
        abi::MOSQ_ACL_UNSUBSCRIBE => Action::Unsubscribe,
        _ => return None,
    };
    // SAFETY: the event's topic lives as long as the event.
    let topic = unsafe { string(event.topic) }?.to_bytes();
    Some(Access {
        key: ClientKey(client.address()),
        client: EventClient { broker, client },
        action,
        topic,
        qos: event.qos,
        retain: event.retain,
        payload: event.payloadlen,
    })
}

/// Returns the client of a DISCONNECT or CLIENT_OFFLINE event.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
pub unsafe fn gone<'e>(event: *const abi::mosquitto_evt_disconnect) -> Option<ClientRef<'e>> {
    // SAFETY: the caller's promise. Only `client` is read: 2.0 leaves the rest of the event as it
    // was on the stack when per_listener_settings is true.
    unsafe {
        event
            .as_ref()
            .and_then(|event| ClientRef::new(event.client))
    }
}

/// Reads `plugin_opt_` lines.
///
/// # Errors
///
/// Returns a sentence if an option is not text.
///
/// # Safety
///
/// `options` is NULL or points to `count` options.
pub unsafe fn options(
    options: *const abi::mosquitto_opt,
    count: i32,
) -> Result<Vec<(String, String)>, String> {
    let count = usize::try_from(count).unwrap_or(0);
    if options.is_null() || count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the caller's promise; neither NULL nor empty.
    let options = unsafe { std::slice::from_raw_parts(options, count) };
    options
        .iter()
        .map(|option| {
            // SAFETY: the broker's options are C strings, or NULL.
            let (key, value) = unsafe { (string(option.key), string(option.value)) };
            let text = |part: Option<&CStr>| part.unwrap_or_default().to_str().map(str::to_owned);
            match (text(key), text(value)) {
                (Ok(key), Ok(value)) => Ok((key, value)),
                (Ok(key), Err(_)) => Err(format!("option {key}: its value is not UTF-8 text")),
                (Err(_), _) => Err("an option's name is not UTF-8 text".into()),
            }
        })
        .collect()
}
