//! The functions of the broker, which only its own thread may call.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    marker::PhantomData,
    sync::LazyLock,
};

use crate::{abi, codes::Generation};
use auth::{client::TextAddresses, log::Level, policy_file::BrokerFeatures, secret::sha256};
use input::text;

/// The broker, on its own thread. It is not `Send`: Mosquitto locks nothing, and a call from another thread corrupts it
/// (Mosquitto issue 3080).
pub struct Broker {
    functions: &'static abi::mosquitto_auth0_host,
    _not_send: PhantomData<*const ()>,
}

/// A client of the broker. It lives as long as the event that brought it.
#[derive(Clone, Copy)]
pub struct ClientRef<'e> {
    pointer: *mut abi::mosquitto,
    _event: PhantomData<&'e ()>,
}

/// The client that is connected, or kept, with a client ID, if there is one.
#[derive(Clone, Copy)]
pub struct Holder<'e>(Option<ClientRef<'e>>);

impl<'e> Holder<'e> {
    /// Whether nobody has the client ID.
    pub fn is_nobody(self) -> bool {
        self.0.is_none()
    }

    /// Returns who has the client ID.
    pub fn client(self) -> Option<ClientRef<'e>> {
        self.0
    }

    /// Whether it is the client at this address.
    pub fn is_at(self, address: usize) -> bool {
        self.0.map(ClientRef::address) == Some(address)
    }

    /// Returns its user name, if the broker restored its session from disk and its client has not come back.
    pub fn restored_for(self, broker: &Broker) -> Option<&'e str> {
        let client = self.0.filter(|client| broker.was_restored(*client))?;
        std::str::from_utf8(broker.username_bytes(client)?).ok()
    }
}

/// A callback of the plugin.
pub type Callback = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int;

impl<'e> ClientRef<'e> {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    ///
    /// A pointer that is not NULL is the broker's, from an event that lives for `'e`.
    pub unsafe fn new(pointer: *mut abi::mosquitto) -> Option<Self> {
        (!pointer.is_null()).then_some(Self {
            pointer,
            _event: PhantomData,
        })
    }

    /// Returns the client's address, which is only compared.
    pub fn address(self) -> usize {
        self.pointer as usize
    }
}

/// Returns a string of the broker, or `None` for NULL.
///
/// # Safety
///
/// `pointer` is NULL or ends with a NUL and lives for `'e`.
pub unsafe fn string<'e>(pointer: *const c_char) -> Option<&'e CStr> {
    // SAFETY: it is not NULL, so the caller promises a C string that lives for `'e`.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) })
}

/// Returns whether a string of the broker is this text. This takes one pass; to measure the string first would take
/// two.
///
/// # Safety
///
/// `pointer` is NULL or ends with a NUL.
#[inline]
unsafe fn is_text(pointer: *const c_char, text: &str) -> bool {
    // SAFETY: strncmp(3) reads no further than the first difference, the NUL or the length of `text`; if
    // all of that is the same there was no NUL in it (we have none), so one more byte is there.
    !pointer.is_null()
        && unsafe {
            libc::strncmp(pointer, text.as_ptr().cast(), text.len()) == 0
                && *pointer.add(text.len()) == 0
        }
}

impl Broker {
    /// # Safety
    ///
    /// The caller runs on the broker's main thread.
    pub unsafe fn on_its_thread() -> Self {
        static FUNCTIONS: LazyLock<abi::mosquitto_auth0_host> =
            // SAFETY: it only fills a table with the addresses that the loader resolved.
            LazyLock::new(|| unsafe { abi::mosquitto_auth0_host() });
        Self {
            functions: &FUNCTIONS,
            _not_send: PhantomData,
        }
    }

    /// Returns which codes and events the broker has. The function that is looked for came with 2.1.
    pub fn generation(&self) -> Generation {
        if self.functions.complete_basic_auth.is_some() {
            Generation::V2_1
        } else {
            Generation::V2_0
        }
    }

    /// Writes one line to the broker's log. With `log_dest topic` this calls back into the ACL check, so the state
    /// must be closed.
    pub fn log(&self, level: Level, line: &str) {
        let line = CString::new(format!("mosquitto-auth0: {}", text::line(line)));
        let line = line.expect("a NUL was escaped");
        let level = match level {
            Level::Info => abi::MOSQ_LOG_INFO,
            Level::Notice => abi::MOSQ_LOG_NOTICE,
            Level::Warning => abi::MOSQ_LOG_WARNING,
            Level::Error => abi::MOSQ_LOG_ERR,
        };
        // SAFETY: `line` is a C string for the length of the call; the broker copies it.
        unsafe { abi::mosquitto_auth0_log(level as c_int, line.as_ptr()) }
    }

    /// Returns the client ID, or `None` if the broker has freed it.
    pub fn client_id_bytes<'e>(&self, client: ClientRef<'e>) -> Option<&'e [u8]> {
        let function = self.functions.client_id?;
        // SAFETY: the client lives for 'e, and its strings with it.
        unsafe { string(function(client.pointer)) }.map(CStr::to_bytes)
    }

    /// Returns the client ID, or `None` if the broker has freed it or it is not UTF-8.
    pub fn client_id<'e>(&self, client: ClientRef<'e>) -> Option<&'e str> {
        std::str::from_utf8(self.client_id_bytes(client)?).ok()
    }

    /// Returns the user name.
    pub fn username_bytes<'e>(&self, client: ClientRef<'e>) -> Option<&'e [u8]> {
        let function = self.functions.client_username?;
        // SAFETY: the client lives for 'e, and its strings with it.
        unsafe { string(function(client.pointer)) }.map(CStr::to_bytes)
    }

    /// Returns where the broker keeps the client ID and the user name.
    #[inline]
    pub fn places(&self, client: ClientRef<'_>) -> TextAddresses {
        let (Some(id_of), Some(name_of)) =
            (self.functions.client_id, self.functions.client_username)
        else {
            return TextAddresses::default();
        };
        // SAFETY: the client lives; its strings are not looked at.
        unsafe {
            TextAddresses {
                client_id: id_of(client.pointer) as usize,
                username: name_of(client.pointer) as usize,
            }
        }
    }

    /// Returns whether these are the client ID and the user name.
    #[inline]
    pub fn is(&self, client: ClientRef<'_>, client_id: &str, username: &str) -> bool {
        let (Some(id_of), Some(name_of)) =
            (self.functions.client_id, self.functions.client_username)
        else {
            return false;
        };
        // SAFETY: the client lives, and its strings with it.
        unsafe {
            is_text(id_of(client.pointer), client_id) && is_text(name_of(client.pointer), username)
        }
    }

    /// Returns whether the client has a connection, and so an address.
    pub fn is_connected(&self, client: ClientRef<'_>) -> bool {
        // SAFETY: the client lives; the address is not looked at.
        self.functions
            .client_address
            .is_some_and(|function| unsafe { !function(client.pointer).is_null() })
    }

    /// Returns the address that the client connects from, or `None` for a client without a connection.
    pub fn address<'e>(&self, client: ClientRef<'e>) -> Option<&'e str> {
        let function = self.functions.client_address?;
        // SAFETY: the client lives for 'e, and its strings with it.
        unsafe { string(function(client.pointer)) }?.to_str().ok()
    }

    /// Returns the transport of a client, one of `mosquitto_protocol`.
    pub fn protocol(&self, client: ClientRef<'_>) -> Option<c_int> {
        let function = self.functions.client_protocol?;
        // SAFETY: the client lives.
        Some(unsafe { function(client.pointer) })
    }

    /// Returns what this broker tells and does beyond what every broker does.
    pub fn features(&self) -> BrokerFeatures {
        BrokerFeatures {
            port: self.functions.client_port.is_some(),
            // SAFETY: looks only at which references the loader resolved.
            certificate: unsafe { abi::mosquitto_auth0_tells_certificates() },
            removes_subscriptions: self.functions.subscription_delete.is_some(),
            restores_nothing: false,
        }
    }

    /// Returns the port of the client's listener, or `None` on 2.0, which does not tell it.
    pub fn port(&self, client: ClientRef<'_>) -> Option<u16> {
        // SAFETY: the client lives.
        let port = unsafe { self.functions.client_port?(client.pointer) };
        u16::try_from(port).ok().filter(|port| *port > 0)
    }

    /// Returns the SHA-256 fingerprint of the client's certificate, if it has one.
    pub fn certificate(&self, client: ClientRef<'_>) -> Option<[u8; 32]> {
        let mut der = std::ptr::null_mut();
        // SAFETY: the client lives. The plugin owns the bytes until it frees them.
        unsafe {
            let length = abi::mosquitto_auth0_certificate(client.pointer, &raw mut der);
            if length == 0 {
                return None;
            }
            let print = sha256(std::slice::from_raw_parts(der, length as usize));
            abi::mosquitto_auth0_certificate_free(der);
            Some(print)
        }
    }

    /// Returns the protocol version: 3, 4 or 5, or 0 for a client that never sent a CONNECT to this process.
    pub fn protocol_version(&self, client: ClientRef<'_>) -> c_int {
        // SAFETY: the client lives.
        self.functions
            .client_protocol_version
            .map_or(0, |function| unsafe { function(client.pointer) })
    }

    /// Returns Clean Session (MQTT 3.1.1) or Clean Start (MQTT 5).
    pub fn clean_session(&self, client: ClientRef<'_>) -> bool {
        // SAFETY: the client lives.
        self.functions
            .client_clean_session
            .is_some_and(|function| unsafe { function(client.pointer) })
    }

    /// Returns how many subscriptions the client has. Without any, nothing is queued for a session that is kept.
    pub fn subscriptions(&self, client: ClientRef<'_>) -> Option<c_int> {
        let function = self.functions.client_sub_count?;
        // SAFETY: the client lives.
        Some(unsafe { function(client.pointer) })
    }

    /// Sets the client's user name. Returns `false` if the broker does not take it.
    pub fn set_username(&self, client: ClientRef<'_>, username: &str) -> bool {
        let (Some(function), Ok(username)) = (self.functions.set_username, CString::new(username))
        else {
            return false;
        };
        // SAFETY: the client lives, and the broker copies the name.
        unsafe { function(client.pointer, username.as_ptr()) == crate::codes::SUCCESS }
    }

    /// Disconnects a connected client, whose will is sent. Returns `false` if there is no such client. This calls back
    /// into DISCONNECT and the ACL check, so the state must be closed. Call it only from a tick, and only for clients
    /// that are connected; otherwise 2.0 damages its own lists.
    pub fn kick(&self, client_id: &str) -> bool {
        let (Some(function), Ok(client_id)) = (
            self.functions.kick_client_by_clientid,
            CString::new(client_id),
        ) else {
            return false;
        };
        // SAFETY: the string lives for the length of the call.
        unsafe { function(client_id.as_ptr(), true) == crate::codes::SUCCESS }
    }

    /// Removes a subscription of a client, which may be away. Returns `false` if the broker cannot, as 2.0.
    pub fn unsubscribe(&self, client_id: &str, filter: &str) -> bool {
        let (Some(function), Ok(client_id), Ok(filter)) = (
            self.functions.subscription_delete,
            CString::new(client_id),
            CString::new(filter),
        ) else {
            return false;
        };
        // SAFETY: the strings live for the length of the call.
        unsafe { function(client_id.as_ptr(), filter.as_ptr()) == crate::codes::SUCCESS }
    }

    /// Returns whether the broker takes the empty string for a topic, as the first ones of 2.0 do.
    pub fn takes_empty_topics(&self) -> bool {
        // SAFETY: the string lives for the length of the call.
        self.functions
            .pub_topic_check
            .is_some_and(|function| unsafe { function(c"".as_ptr()) == crate::codes::SUCCESS })
    }

    /// Publishes a message with QoS 1 to one client, which needs neither a subscription nor the right to receive it.
    /// The broker queues the message and delivers it in its next round, so the state may be open. A client ID that the
    /// broker does not have is ignored. Returns `false` if the broker did not take the message.
    ///
    /// The broker does not check the topic: it must be one to publish to.
    pub fn publish_to(&self, client_id: &str, topic: &str, payload: &[u8]) -> bool {
        let Ok(client_id) = CString::new(client_id) else {
            return false;
        };
        self.publish(Some(&client_id), topic, payload, 1, false)
    }

    /// Publishes a message with QoS 0 to everybody who subscribes to its topic and may receive it, and has the broker
    /// keep it. An empty payload removes the message that is kept. Like [`Self::publish_to`], this only queues the
    /// message. Returns `false` if the broker did not take it.
    ///
    /// The broker does not check the topic: it must be one to publish to.
    pub fn publish_retained(&self, topic: &str, payload: &[u8]) -> bool {
        self.publish(None, topic, payload, 0, true)
    }

    fn publish(
        &self,
        client_id: Option<&CStr>,
        topic: &str,
        payload: &[u8],
        qos: c_int,
        retain: bool,
    ) -> bool {
        let (Some(publish), Some(malloc), Some(free)) = (
            self.functions.broker_publish,
            self.functions.malloc,
            self.functions.free,
        ) else {
            return false;
        };
        let (Ok(topic), Ok(length)) = (CString::new(topic), c_int::try_from(payload.len())) else {
            return false;
        };
        // SAFETY: the broker copies the strings. It owns the copy of the payload if it takes the message. The copy is
        // made with the broker's allocator, because 2.0 counts what it frees (src/plugin_public.c).
        unsafe {
            let copy = malloc(payload.len().max(1)).cast::<u8>();
            if copy.is_null() {
                return false;
            }
            copy.copy_from_nonoverlapping(payload.as_ptr(), payload.len());
            let code = publish(
                client_id.map_or(std::ptr::null(), CStr::as_ptr),
                topic.as_ptr(),
                length,
                copy.cast(),
                qos,
                retain,
                std::ptr::null_mut(),
            );
            if code != crate::codes::SUCCESS {
                free(copy.cast());
            }
            code == crate::codes::SUCCESS
        }
    }

    /// Returns who is connected, or kept, with this client ID. Returns `None` on 2.0, which cannot tell.
    pub fn holder<'e>(&'e self, client_id: &str) -> Option<Holder<'e>> {
        let function = self.functions.client?;
        let client_id = CString::new(client_id).ok()?;
        // SAFETY: the string lives for the length of the call. The broker frees no client while an event is handled, so
        // the result lives as long as the event.
        Some(Holder(unsafe {
            ClientRef::new(function(client_id.as_ptr()))
        }))
    }

    /// Returns whether the client at this address is connected, or kept, with this client ID. Returns `None` on 2.0,
    /// which cannot tell.
    pub fn has_client(&self, client_id: &str, address: usize) -> Option<bool> {
        self.holder(client_id).map(|holder| holder.is_at(address))
    }

    /// Returns whether the broker restored this session from disk, and its client has not come back yet.
    pub fn was_restored(&self, client: ClientRef<'_>) -> bool {
        !self.is_connected(client) && self.protocol_version(client) == 0
    }

    /// Answers a delayed CONNECT. The broker ignores this if nobody waits with this client ID. It calls back into the
    /// ACL check, DISCONNECT and more, so the state must be closed. Call it only from a tick.
    pub fn complete(&self, client_id: &str, code: c_int) {
        if let (Some(function), Ok(client_id)) =
            (self.functions.complete_basic_auth, CString::new(client_id))
        {
            // SAFETY: the string lives for the length of the call.
            unsafe { function(client_id.as_ptr(), code) };
        }
    }

    /// Registers a callback, and returns the broker's code. `topic` is that of a control callback, else `None`.
    ///
    /// # Safety
    ///
    /// `identifier` is the one that the broker gave the plugin. `userdata` is what `callback` takes, for as long as the
    /// broker may call it: until cleanup.
    pub unsafe fn register(
        &self,
        identifier: *mut abi::mosquitto_plugin_id_t,
        event: c_int,
        topic: Option<&CStr>,
        callback: Callback,
        userdata: *mut c_void,
    ) -> c_int {
        let Some(function) = self.functions.callback_register else {
            return crate::codes::UNKNOWN;
        };
        // SAFETY: the caller promises that the identifier is the broker's, and that the callback takes this userdata.
        unsafe {
            function(
                identifier,
                event,
                Some(callback),
                topic.map_or(std::ptr::null(), |topic| topic.as_ptr().cast()),
                userdata,
            )
        }
    }
}
