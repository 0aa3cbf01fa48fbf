//! Reads the broker's events into Rust values. NULL is handled everywhere.
//!
//! Text that is not UTF-8 is refused and never repaired: a decision about rights must not be about another text than
//! the broker's.

use std::ffi::CStr;

use crate::{
    abi,
    host::{Broker, ClientRef, Holder, string},
    messages::{BoundaryFault, LoadError},
    quirks::address_header,
};
use auth::{
    client::{Client, ClientKey, ClientView, TextAddresses},
    engine::{Access, Action, AuthPacket, Connect},
    proxies::{AddressFrom, TrustedProxies},
    refusal::{ConnectDetail, Field, Reason, Refusal},
    sessions::Origin,
    sign_in::Presented,
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

impl From<BoundaryFault<'_>> for Unreadable<'_> {
    fn from(fault: BoundaryFault) -> Self {
        Self {
            client_id: "",
            address: None,
            refusal: fault.into(),
        }
    }
}

/// Returns the client of a basic-auth event.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
#[inline]
pub unsafe fn client<'e>(event: *const abi::mosquitto_evt_basic_auth) -> Option<ClientRef<'e>> {
    // SAFETY: the caller promises that a pointer that is not NULL is a live event. The broker keeps its client for at
    // least as long.
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
    brings_no_password && client.is_some_and(|client| broker.was_restored(client))
}

/// Reads a basic-auth event. What it is about, and who has its client ID, is known by [`crate::quirks::recheck`].
/// `certificates` says whether to read the client's certificate. `proxies` are the proxies
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
    broker: &'e Broker,
    event: *const abi::mosquitto_evt_basic_auth,
    (origin, holder): (Origin, Option<Holder<'e>>),
    certificates: bool,
    proxies: &TrustedProxies,
) -> Result<(ClientRef<'e>, Connect<'e>), Unreadable<'e>> {
    // SAFETY: the caller promises that a pointer that is not NULL is a live event.
    let event = unsafe { event.as_ref() }.ok_or(BoundaryFault::NoEvent)?;
    // SAFETY: the broker keeps the event's client for at least as long as the event.
    let client = unsafe { ClientRef::new(event.client) }.ok_or(BoundaryFault::NoClient)?;
    let client_id = broker.client_id(client).ok_or(BoundaryFault::NoClientId)?;
    let described = describe(broker, client, client_id, certificates, proxies);
    // SAFETY: this is a live event.
    let (username, password) = unsafe { login(event) }.map_err(|(reason, detail)| Unreadable {
        client_id,
        address: described.client.address,
        refusal: Refusal::new(reason, detail),
    })?;
    let holder = holder.filter(|_| origin == Origin::Connect);
    let connect = Connect {
        key: ClientKey(client.address()),
        client: Client {
            username,
            ..described.client
        },
        password,
        unverified_address: described.has_unverified_address,
        origin,
        id_is_free: holder.is_some_and(Holder::is_nobody),
        restored_for: holder.and_then(|holder| holder.restored_for(broker)),
        ends_with_connection: broker.protocol_version(client) < 5 && broker.clean_session(client),
        presented: Presented::Password,
    };
    Ok((client, connect))
}

/// A client, as the broker describes it.
pub struct Described<'e> {
    pub client: Client<&'e str>,
    /// Whether the broker told an address that every client can make up. The client has none then.
    pub has_unverified_address: bool,
}

/// Asks the broker about a client. `certificates` says whether to read its certificate. `proxies` are the proxies that
/// may tell its address. A user name that is not text is left out.
pub fn describe<'e>(
    broker: &Broker,
    client: ClientRef<'e>,
    client_id: &'e str,
    certificates: bool,
    proxies: &TrustedProxies,
) -> Described<'e> {
    let from = address_header::address_from(broker, client);
    let username = broker.username_bytes(client);
    Described {
        client: Client {
            id: client_id,
            username: username.and_then(|name| std::str::from_utf8(name).ok()),
            address: broker
                .address(client)
                .and_then(|told| proxies.client(told, from)),
            port: broker.port(client),
            certificate: certificates.then(|| broker.certificate(client)).flatten(),
        },
        has_unverified_address: from == AddressFrom::Header && proxies.is_empty(),
    }
}

/// Reads an event of extended authentication: a CONNECT with an authentication method, or an AUTH packet. Returns
/// `None` if it cannot be understood.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
pub unsafe fn auth_packet<'e>(
    broker: &'e Broker,
    event: *const abi::mosquitto_evt_extended_auth,
    certificates: bool,
    proxies: &TrustedProxies,
) -> Option<(ClientRef<'e>, AuthPacket<'e>)> {
    // SAFETY: the caller promises that a pointer that is not NULL is a live event.
    let event = unsafe { event.as_ref() }?;
    // SAFETY: the broker keeps the event's client for at least as long as the event.
    let client = unsafe { ClientRef::new(event.client) }?;
    let client_id = broker.client_id(client)?;
    let described = describe(broker, client, client_id, certificates, proxies);
    // SAFETY: the method is NULL or a C string that lives as long as the event.
    let method = unsafe { string(event.auth_method) };
    let data = match event.data_in.is_null() {
        true => &[][..],
        // SAFETY: the broker passes the data and its length, and keeps it as long as the event.
        false => unsafe {
            std::slice::from_raw_parts(event.data_in.cast(), event.data_in_len.into())
        },
    };
    let holder = broker.holder(client_id);
    let packet = AuthPacket {
        key: ClientKey(client.address()),
        client: described.client,
        method: method.and_then(|method| method.to_str().ok()),
        data,
        unverified_address: described.has_unverified_address,
        is_connected: holder.map(|holder| holder.is_at(client.address())),
        id_is_free: holder.is_some_and(Holder::is_nobody),
        restored_for: holder.and_then(|holder| holder.restored_for(broker)),
    };
    Some((client, packet))
}

/// Puts the data of an answer into an event of extended authentication. The broker frees its copy with free(3).
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
pub unsafe fn answer_auth_packet(event: *mut abi::mosquitto_evt_extended_auth, data: &[u8]) {
    // SAFETY: the caller promises that a pointer that is not NULL is a live event.
    let Some(event) = (unsafe { event.as_mut() }) else {
        return;
    };
    let Ok(length @ 1..) = u16::try_from(data.len()) else {
        return;
    };
    // SAFETY: the copy has as many bytes as `data`. The broker owns it from here on.
    unsafe {
        let copy = libc::malloc(data.len()).cast::<u8>();
        if !copy.is_null() {
            copy.copy_from_nonoverlapping(data.as_ptr(), data.len());
            (event.data_out, event.data_out_len) = (copy.cast(), length);
        }
    }
}

/// A user name and a password: any bytes.
type LoginFields<'e> = (Option<&'e str>, Option<&'e [u8]>);

/// Reads the user name and the password of a basic-auth event.
///
/// # Errors
///
/// Returns why the login is refused if one of them cannot be read whole.
///
/// # Safety
///
/// `event` is a live event of the broker's, and lives for `'e`.
unsafe fn login<'e>(
    event: &abi::mosquitto_evt_basic_auth,
) -> Result<LoginFields<'e>, (Reason, ConnectDetail)> {
    // SAFETY: both are NULL or C strings that live as long as the event.
    let (username, password) = unsafe { (string(event.username), string(event.password)) };
    let username = username.map(CStr::to_str).transpose();
    let username =
        username.map_err(|_| (Reason::NotUtf8, ConnectDetail::NotUtf8(Field::Username)))?;
    let password = password.map(CStr::to_bytes);
    // SAFETY: a live event; the function reads two of its reserved bytes.
    let length = unsafe { abi::mosquitto_auth0_password_length(event) };
    if length != 0 && password.map_or(0, <[u8]>::len) != usize::from(length) {
        return Err((Reason::PasswordNul, ConnectDetail::PasswordNul));
    }
    Ok((username, password))
}

/// The client of an event. The broker is asked for what the event does not contain.
#[derive(Clone, Copy)]
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
        self.broker.was_restored(self.client)
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
    // SAFETY: the caller promises that a pointer that is not NULL is a live event.
    let event = unsafe { event.as_ref() }?;
    // SAFETY: the broker keeps the event's client for at least as long as the event.
    let client = unsafe { ClientRef::new(event.client) }?;
    let action = match event.access.cast_unsigned() {
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

/// A message to one of the plugin's control topics.
pub struct ControlMessage<'e> {
    /// The broker's pointer to the client.
    pub key: ClientKey,
    /// The client that published it.
    pub client: EventClient<'e>,
    /// The topic.
    pub topic: &'e [u8],
    /// The payload.
    pub payload: &'e [u8],
}

/// Reads a CONTROL event. Returns `None` if it cannot be understood.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
pub unsafe fn control<'e>(
    broker: &'e Broker,
    event: *const abi::mosquitto_evt_control,
) -> Option<ControlMessage<'e>> {
    // SAFETY: the caller promises that a pointer that is not NULL is a live event.
    let event = unsafe { event.as_ref() }?;
    // SAFETY: the broker keeps the event's client for at least as long as the event.
    let client = unsafe { ClientRef::new(event.client) }?;
    // SAFETY: the event's topic lives as long as the event.
    let topic = unsafe { string(event.topic) }?.to_bytes();
    let payload: &[u8] = match event.payload.is_null() {
        // A message without a payload.
        true => &[],
        // SAFETY: the payload has this length, and lives as long as the event.
        false => unsafe {
            std::slice::from_raw_parts(event.payload.cast(), event.payloadlen as usize)
        },
    };
    Some(ControlMessage {
        key: ClientKey(client.address()),
        client: EventClient { broker, client },
        topic,
        payload,
    })
}

/// Returns the client of a DISCONNECT or CLIENT_OFFLINE event.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
pub unsafe fn gone<'e>(event: *const abi::mosquitto_evt_disconnect) -> Option<ClientRef<'e>> {
    // SAFETY: the caller promises that a pointer that is not NULL is a live event. Only `client` is read: 2.0 leaves
    // the rest of the event as it was on the stack when per_listener_settings is true.
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
/// Returns an error if an option is not UTF-8.
///
/// # Safety
///
/// `options` is NULL or points to `count` options.
pub unsafe fn options(
    options: *const abi::mosquitto_opt,
    count: i32,
) -> Result<Vec<(String, String)>, LoadError> {
    let count = usize::try_from(count).unwrap_or(0);
    if options.is_null() || count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the caller promises an array of `count` options; it is neither NULL nor empty.
    let options = unsafe { std::slice::from_raw_parts(options, count) };
    options
        .iter()
        .map(|option| {
            // SAFETY: the broker's options are C strings, or NULL.
            let (key, value) = unsafe { (string(option.key), string(option.value)) };
            let text = |part: Option<&CStr>| part.unwrap_or_default().to_str().map(str::to_owned);
            match (text(key), text(value)) {
                (Ok(key), Ok(value)) => Ok((key, value)),
                (Ok(key), Err(_)) => Err(LoadError::OptionValue(key)),
                (Err(_), _) => Err(LoadError::OptionName),
            }
        })
        .collect()
}
