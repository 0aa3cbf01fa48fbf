//! A fake broker that calls every entry point of the real plugin, the shared object.
//!
//! `fake.c` has the functions that a plugin calls; this file is the safe interface to it. If the plugin does
//! something that would damage a real broker, the process aborts with a message: a call from another thread,
//! a kick outside a tick, a return code that the broker does not understand, use of a freed client, a flood
//! of log lines, or control characters in the log. So every test checks all of that as well.
//!
//! A process is one broker, and the plugin has global state, so [`alone`] runs every test in a process of its
//! own. A crash or an abort is then one failed test.

mod ffi;
mod process;

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
    ptr,
    time::{Duration, Instant},
};

pub use process::{allowed, alone, alone_provoked};

/// The release that the fake broker imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Debian 12's release. It frees a refused client's ID before the disconnect event, and has ticks only
    /// without `per_listener_settings`.
    V2_0_11,
    /// Debian 13's release.
    V2_0_21,
    /// The first release with several return codes for a refusal.
    V2_1_2,
}

impl Release {
    /// Whether it has 2.1's functions, codes and events.
    pub fn is_2_1(self) -> bool {
        self == Self::V2_1_2
    }

    /// Returns the code that this broker gets for 2.1's `code`.
    pub fn refusal(self, code: c_int) -> c_int {
        if self.is_2_1() { code } else { AUTH }
    }
}

/// Return codes, with the numbers of mosquitto.h and 2.1's defs.h.
#[allow(missing_docs)]
mod codes {
    use std::ffi::c_int;

    pub const AUTH_DELAYED: c_int = -5;
    pub const AUTH_CONTINUE: c_int = -4;
    pub const SUCCESS: c_int = 0;
    pub const INVAL: c_int = 3;
    pub const NOT_SUPPORTED: c_int = 10;
    pub const AUTH: c_int = 11;
    pub const ACL_DENIED: c_int = 12;
    pub const UNKNOWN: c_int = 13;
    pub const MALFORMED_UTF8: c_int = 18;
    pub const BAD_USERNAME_OR_PASSWORD: c_int = 134;
    pub const SERVER_UNAVAILABLE: c_int = 136;
    pub const SERVER_BUSY: c_int = 137;
    pub const BANNED: c_int = 138;
}
pub use codes::*;

/// An event, with its number in mosquitto_broker.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(i32)]
pub enum Event {
    Reload = 1,
    AclCheck = 2,
    BasicAuth = 3,
    ExtAuthStart = 4,
    ExtAuthContinue = 5,
    Control = 6,
    Tick = 9,
    Disconnect = 10,
    ClientOffline = 28,
}

impl Event {
    /// Returns the events that this broker has.
    pub fn all(release: Release) -> &'static [Self] {
        const ALL: [Event; 9] = [
            Event::Reload,
            Event::AclCheck,
            Event::BasicAuth,
            Event::ExtAuthStart,
            Event::ExtAuthContinue,
            Event::Control,
            Event::Tick,
            Event::Disconnect,
            Event::ClientOffline,
        ];
        &ALL[..if release.is_2_1() { 9 } else { 8 }]
    }

    /// Returns the answer to an event without usable data: a refusal for a check, and success for anything
    /// else.
    pub fn refusal(self) -> c_int {
        match self {
            Self::BasicAuth | Self::ExtAuthStart => AUTH,
            // Anything else may make the broker use memory that it has freed.
            Self::ExtAuthContinue => AUTH_CONTINUE,
            Self::AclCheck => ACL_DENIED,
            _ => SUCCESS,
        }
    }
}

/// A kind of access, with its number in mosquitto_broker.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(i32)]
pub enum AclAccess {
    Read = 1,
    Write = 2,
    Subscribe = 4,
    Unsubscribe = 8,
}

impl AclAccess {
    /// All four kinds.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Subscribe, Self::Unsubscribe];

    fn of(number: c_int) -> Self {
        let found = Self::ALL
            .into_iter()
            .find(|access| *access as c_int == number);
        found.expect("the fake broker asks about four things only")
    }
}

/// A client, which lives as long as the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FakeClient(*mut ffi::ClientStruct);

impl FakeClient {
    /// Returns its address, for events that a test builds.
    pub fn address(self) -> usize {
        self.0 as usize
    }
}

/// The state of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ClientState {
    New,
    Connected,
    Offline,
    Gone,
}

/// A call of the plugin, with its result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PluginCall {
    Login(FakeClient, c_int),
    Auth(FakeClient, c_int),
    Acl(FakeClient, AclAccess, String, c_int),
    Disconnect(FakeClient),
    Offline(FakeClient),
    Reload(c_int),
}

/// A client before it connects: MQTT 3.1.1, clean session, from 192.0.2.1.
#[derive(Clone)]
pub struct ClientSpec {
    id: Option<CString>,
    username: Option<CString>,
    password: Option<CString>,
    address: Option<CString>,
    will: Option<CString>,
    subscription: Option<CString>,
    queued: Option<CString>,
    protocol_version: c_int,
    listener: c_int,
    password_len: u16,
    clean_start: bool,
    kept: bool,
    websocket: bool,
}

fn text(bytes: impl Into<Vec<u8>>) -> Option<CString> {
    let mut bytes = bytes.into();
    // The broker's strings end at the first NUL.
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    Some(CString::new(bytes).expect("NULs were cut off"))
}

fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

impl ClientSpec {
    /// Returns a client with this ID and nothing else.
    pub fn new(id: impl Into<Vec<u8>>) -> Self {
        Self {
            id: text(id),
            username: None,
            password: None,
            address: text("192.0.2.1"),
            will: None,
            subscription: None,
            queued: None,
            protocol_version: 4,
            listener: 0,
            password_len: 0,
            clean_start: true,
            kept: false,
            websocket: false,
        }
    }

    /// Removes the client ID, as 2.0.11 does for refused clients.
    #[must_use]
    pub fn without_id(mut self) -> Self {
        self.id = None;
        self
    }

    /// Sets the user name of its CONNECT.
    #[must_use]
    pub fn username(mut self, username: impl Into<Vec<u8>>) -> Self {
        self.username = text(username);
        self
    }

    /// Sets the password of its CONNECT, which is cut at the first NUL as in every broker.
    #[must_use]
    pub fn password(mut self, password: impl Into<Vec<u8>>) -> Self {
        self.password = text(password);
        self
    }

    /// Sets the password and its real length, which the event contains since 2.1.3.
    #[must_use]
    pub fn password_with_length(mut self, password: impl Into<Vec<u8>>) -> Self {
        let password = password.into();
        self.password_len = u16::try_from(password.len()).expect("MQTT's limit");
        self.password = text(password);
        self
    }

    /// Sets user name and password of token mode: `JWT` and a token.
    #[must_use]
    pub fn token(self, token: impl Into<Vec<u8>>) -> Self {
        self.username("JWT").password(token)
    }

    /// Sets the address that it connects from.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        self.address = text(address);
        self
    }

    /// Sets the topic of its will.
    #[must_use]
    pub fn will(mut self, topic: &str) -> Self {
        self.will = text(topic);
        self
    }

    /// Adds a filter that it is subscribed to.
    #[must_use]
    pub fn subscribed(mut self, filter: &str) -> Self {
        self.subscription = text(filter);
        self
    }

    /// Adds a topic of which a message is queued while it is absent.
    #[must_use]
    pub fn queued(mut self, topic: &str) -> Self {
        self.queued = text(topic);
        self
    }

    /// Uses MQTT 5.
    #[must_use]
    pub fn v5(mut self) -> Self {
        self.protocol_version = 5;
        self
    }

    /// Connects without a clean session, so that the broker keeps the session.
    #[must_use]
    pub fn kept(mut self) -> Self {
        self.kept = true;
        self.clean_start = false;
        self
    }

    /// Uses MQTT 5 with Clean Start and a Session Expiry Interval, so that the session is kept nevertheless.
    #[must_use]
    pub fn kept_for_a_while(mut self) -> Self {
        self.protocol_version = 5;
        self.kept = true;
        self
    }

    /// Sets the listener, for `per_listener_settings true`.
    #[must_use]
    pub fn listener(mut self, listener: c_int) -> Self {
        self.listener = listener;
        self
    }

    /// Connects over libwebsockets: its disconnect event after a takeover comes late.
    #[must_use]
    pub fn websocket(mut self) -> Self {
        self.websocket = true;
        self
    }

    /// Connects without a websocket.
    #[must_use]
    pub fn transport(mut self) -> Self {
        self.websocket = false;
        self
    }

    fn with<T>(&self, body: impl FnOnce(&ffi::FakeSpec) -> T) -> T {
        body(&ffi::FakeSpec {
            id: pointer(self.id.as_ref()),
            username: pointer(self.username.as_ref()),
            password: pointer(self.password.as_ref()),
            address: pointer(self.address.as_ref()),
            will: pointer(self.will.as_ref()),
            subscription: pointer(self.subscription.as_ref()),
            queued: pointer(self.queued.as_ref()),
            protocol_version: self.protocol_version,
            listener: self.listener,
            password_len: self.password_len,
            clean_start: self.clean_start,
            kept: self.kept,
            websocket: self.websocket,
        })
    }
}

/// The plugin's options, from `plugin_opt_` lines.
#[derive(Clone, Default)]
pub struct InitOptions(Vec<(CString, CString)>);

impl InitOptions {
    /// Returns no options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an option.
    #[must_use]
    pub fn with(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        let pair = (text(name), text(value));
        if let (Some(name), Some(value)) = pair {
            self.0.push((name, value));
        }
        self
    }

    /// Sets an option that may have another value already.
    #[must_use]
    pub fn instead(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.0
            .retain(|(other, _)| other.as_bytes() != name.as_bytes());
        self.with(name, value)
    }
}

/// A message that the plugin published to one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentMessage {
    /// The client ID that it is for.
    pub client_id: String,
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: String,
}

/// A line of the broker's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `MOSQ_LOG_…`.
    pub level: c_int,
    /// The text.
    pub text: String,
}

/// A plugin that was started and not stopped yet.
#[derive(Debug)]
pub struct LoadedPlugin {
    identifier: *mut c_void,
    userdata: *mut c_void,
}

type VersionFn = unsafe extern "C" fn(c_int, *const c_int) -> c_int;
type InitFn =
    unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *mut ffi::MosquittoOpt, c_int) -> c_int;
type CleanupFn = unsafe extern "C" fn(*mut c_void, *mut ffi::MosquittoOpt, c_int) -> c_int;

/// The broker of this process, with the plugin loaded.
pub struct FakeBroker {
    release: Release,
    handle: *mut c_void,
    version: VersionFn,
    init: InitFn,
    cleanup: CleanupFn,
    plugins: Vec<LoadedPlugin>,
    forgotten_lines: usize,
    forgotten_answers: usize,
    forgotten_messages: usize,
}

/// How long to wait for an expected event.
const PATIENCE: Duration = Duration::from_secs(20);

impl FakeBroker {
    /// Starts the broker and loads the plugin as this release does. A process calls it once, on the thread
    /// that uses the broker.
    ///
    /// # Panics
    ///
    /// Panics if the plugin cannot be loaded.
    pub fn load(release: Release) -> Self {
        let number = match release {
            Release::V2_0_11 => 0,
            Release::V2_0_21 => 1,
            Release::V2_1_2 => 2,
        };
        // SAFETY: sets two variables, before anything else reads them.
        unsafe { ffi::fake_start(number) };
        let handle = open(testbed::plugin::file(), release);
        Self {
            release,
            handle,
            // SAFETY: the three types are those of mosquitto_plugin.h.
            version: unsafe {
                std::mem::transmute::<*mut c_void, VersionFn>(symbol(
                    handle,
                    c"mosquitto_plugin_version",
                ))
            },
            // SAFETY: as above.
            init: unsafe {
                std::mem::transmute::<*mut c_void, InitFn>(symbol(handle, c"mosquitto_plugin_init"))
            },
            // SAFETY: as above.
            cleanup: unsafe {
                std::mem::transmute::<*mut c_void, CleanupFn>(symbol(
                    handle,
                    c"mosquitto_plugin_cleanup",
                ))
            },
            plugins: Vec::new(),
            forgotten_lines: 0,
            forgotten_answers: 0,
            forgotten_messages: 0,
        }
    }

    /// Returns the release.
    pub fn release(&self) -> Release {
        self.release
    }

    /// Asks for the interface version; `None` passes NULL.
    pub fn version(&self, offered: Option<&[c_int]>) -> c_int {
        let (count, list) = offered.map_or((0, ptr::null()), |list| (list.len(), list.as_ptr()));
        // SAFETY: NULL, or a list of that many numbers.
        unsafe { (self.version)(count as c_int, list) }
    }

    /// Asks for the interface version with any count and NULL for the list.
    pub fn version_of_nothing(&self, count: c_int) -> c_int {
        // SAFETY: the plugin must not follow NULL, which is what the test checks.
        unsafe { (self.version)(count, ptr::null()) }
    }

    /// Starts the plugin for all listeners.
    ///
    /// # Errors
    ///
    /// Returns the plugin's code if it does not start.
    pub fn init(&mut self, options: &InitOptions) -> Result<(), c_int> {
        self.init_for(0, options)
    }

    /// Starts the plugin for one listener, as with `per_listener_settings true`.
    ///
    /// # Errors
    ///
    /// Returns the plugin's code if it does not start.
    ///
    /// # Panics
    ///
    /// Panics if a plugin that did not start left something registered.
    pub fn init_for(&mut self, listener: c_int, options: &InitOptions) -> Result<(), c_int> {
        // The broker's strings are overwritten afterwards: a plugin has to copy what it keeps.
        let mut texts: Vec<[Vec<u8>; 2]> = options
            .0
            .iter()
            .map(|(key, value)| [key, value].map(|text| text.to_bytes_with_nul().to_vec()))
            .collect();
        let mut opts: Vec<ffi::MosquittoOpt> = texts
            .iter_mut()
            .map(|[key, value]| ffi::MosquittoOpt {
                key: key.as_mut_ptr().cast(),
                value: value.as_mut_ptr().cast(),
            })
            .collect();
        // SAFETY: allocates.
        let identifier = unsafe { ffi::fake_identifier(listener) };
        let mut userdata = ptr::null_mut();
        // SAFETY: everything is as mosquitto_plugin.h has it, and lives through the call.
        let code = unsafe {
            (self.init)(
                identifier,
                &mut userdata,
                opts.as_mut_ptr(),
                opts.len() as c_int,
            )
        };
        for text in texts.iter_mut().flatten() {
            let end = text.len() - 1;
            text[..end].fill(b'?');
        }
        if code == SUCCESS {
            assert!(!userdata.is_null(), "it started and left no userdata");
            self.plugins.push(LoadedPlugin {
                identifier,
                userdata,
            });
            return Ok(());
        }
        assert!(userdata.is_null(), "it did not start and left userdata");
        // Every release logs this before it exits, and with `log_dest topic` a line causes ACL checks.
        // SAFETY: on the broker's thread.
        unsafe { ffi::fake_log_init_failure(code) };
        if self.release.is_2_1() {
            // src/mosquitto.c of 2.1 calls cleanup (post_shutdown_cleanup) although init failed.
            self.stop(LoadedPlugin {
                identifier,
                userdata,
            });
        }
        Err(code)
    }

    /// Starts the plugin with exactly these arguments.
    pub fn init_raw(&mut self, userdata: bool, options: bool, count: c_int) -> c_int {
        // SAFETY: allocates.
        let identifier = unsafe { ffi::fake_identifier(0) };
        let mut place = ptr::null_mut();
        let mut none = [ffi::MosquittoOpt {
            key: ptr::null_mut(),
            value: ptr::null_mut(),
        }];
        let userdata = if userdata {
            &raw mut place
        } else {
            ptr::null_mut()
        };
        let options = if options {
            none.as_mut_ptr()
        } else {
            ptr::null_mut()
        };
        // SAFETY: NULL, or what mosquitto_plugin.h says. The only option has NULL for its name and its value,
        // which is what the test checks.
        unsafe { (self.init)(identifier, userdata, options, count) }
    }

    /// Stops the plugin that was started first.
    ///
    /// # Panics
    ///
    /// Panics if there is none, or if it reports an error.
    pub fn cleanup(&mut self) {
        let plugin = self.plugins.remove(0);
        self.stop(plugin);
    }

    fn stop(&mut self, plugin: LoadedPlugin) {
        // SAFETY: the userdata is what init stored, and is not used again.
        let code = unsafe { (self.cleanup)(plugin.userdata, ptr::null_mut(), 0) };
        assert_eq!(code, SUCCESS, "cleanup");
        if self.release.is_2_1() {
            // SAFETY: an identifier from fake_identifier.
            unsafe { ffi::fake_unregister(plugin.identifier) };
        }
    }

    /// Removes all callbacks, as 2.0 does when it exits.
    pub fn forget_callbacks(&mut self) {
        // SAFETY: NULL stands for all.
        unsafe { ffi::fake_unregister(ptr::null()) };
    }

    /// Stops a plugin that never started.
    pub fn cleanup_nothing(&self) -> c_int {
        // SAFETY: NULL is what 2.1 passes after an init that failed.
        unsafe { (self.cleanup)(ptr::null_mut(), ptr::null_mut(), 0) }
    }

    /// Unloads the plugin as 2.0 does, and returns whether its code is still mapped.
    pub fn unload(&mut self, file: &Path) -> bool {
        let file = CString::new(file.as_os_str().as_encoded_bytes()).expect("a path without NUL");
        // SAFETY: the handle came from dlopen and is closed once. Nothing in it is called again unless it is
        // still mapped, which the second call finds out.
        unsafe {
            libc::dlclose(self.handle);
            let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD;
            self.handle = libc::dlopen(file.as_ptr(), flags);
        }
        !self.handle.is_null()
    }

    /// Creates a client that is not connected yet.
    pub fn client(&mut self, spec: &ClientSpec) -> FakeClient {
        // SAFETY: the strings live through the call and are copied.
        FakeClient(spec.with(|spec| unsafe { ffi::fake_client_new(spec) }))
    }

    /// Creates another client at the address of a freed one, as an allocator does.
    pub fn reuse(&mut self, client: FakeClient, spec: &ClientSpec) {
        // SAFETY: as above; the client lives as long as the process.
        spec.with(|spec| unsafe { ffi::fake_client_refill(client.0, spec) });
    }

    /// Creates a session that the broker's last process saved, and whose client has not come back. It is
    /// subscribed to this filter.
    pub fn restored(&mut self, id: &str, username: &str, filter: &str) -> FakeClient {
        let texts = [id, username, filter].map(text);
        let [id, username, filter] = texts.each_ref().map(|text| pointer(text.as_ref()));
        // SAFETY: the strings live through the call and are copied.
        FakeClient(unsafe { ffi::fake_client_restored(id, username, filter) })
    }

    /// Connects a client, with all consequences for an older session with its ID.
    pub fn connect(&mut self, client: FakeClient) -> c_int {
        // SAFETY: a living client, on the broker's thread.
        unsafe { ffi::fake_connect(client.0) }
    }

    /// Calls [`FakeBroker::client`] and [`FakeBroker::connect`].
    pub fn connect_new(&mut self, spec: &ClientSpec) -> (FakeClient, c_int) {
        let client = self.client(spec);
        (client, self.connect(client))
    }

    /// Connects a client. If the answer comes later, this returns [`AUTH_DELAYED`], and ticks bring the
    /// answer.
    pub fn start_connect(&mut self, spec: &ClientSpec) -> (FakeClient, c_int) {
        let client = self.client(spec);
        // SAFETY: a living client, on the broker's thread.
        (client, unsafe { ffi::fake_start_connect(client.0) })
    }

    /// Connects a client with an authentication method and this data.
    pub fn connect_by(
        &mut self,
        client: FakeClient,
        method: &str,
        data: impl AsRef<[u8]>,
    ) -> c_int {
        let (method, data) = (text(method), data.as_ref());
        let (at, length) = (data.as_ptr().cast(), data.len());
        // SAFETY: a living client, on the broker's thread; method and data live through the call.
        unsafe { ffi::fake_connect_by(client.0, pointer(method.as_ref()), at, length) }
    }

    /// Sends an AUTH packet of a client, with this reason code; 0 stands for a packet without content.
    pub fn auth(&mut self, client: FakeClient, reason: c_int, data: impl AsRef<[u8]>) -> c_int {
        let data = data.as_ref();
        // SAFETY: as above.
        unsafe { ffi::fake_auth(client.0, reason, data.as_ptr().cast(), data.len()) }
    }

    /// Returns the data in the last answer to a CONNECT with a method, or to an AUTH packet.
    pub fn auth_data(&self) -> String {
        let mut data = [0u8; 256];
        // SAFETY: writes at most as many bytes as there are.
        let length = unsafe { ffi::fake_auth_data(data.as_mut_ptr().cast(), data.len()) };
        String::from_utf8_lossy(&data[..length]).into_owned()
    }

    /// Closes the connection of a client that waits for its answer.
    pub fn hang_up(&mut self, client: FakeClient) {
        // SAFETY: as above.
        unsafe { ffi::fake_hang_up(client.0) };
    }

    /// Only checks whether a client may connect.
    pub fn basic_auth(&mut self, client: FakeClient) -> c_int {
        // SAFETY: as above.
        unsafe { ffi::fake_basic_auth(client.0) }
    }

    /// Checks whether a client may do something.
    pub fn acl(
        &mut self,
        client: FakeClient,
        access: AclAccess,
        topic: impl Into<Vec<u8>>,
    ) -> c_int {
        let topic = text(topic);
        // SAFETY: as above; the topic lives through the call.
        unsafe { ffi::fake_acl(client.0, access as c_int, pointer(topic.as_ref())) }
    }

    /// Whether a client may do something.
    pub fn allows(&mut self, client: FakeClient, access: AclAccess, topic: &str) -> bool {
        self.acl(client, access, topic) == SUCCESS
    }

    /// Publishes to a control topic. Returns whether the message came to the plugin.
    pub fn control(&mut self, client: FakeClient, topic: &str, payload: impl AsRef<[u8]>) -> bool {
        let (topic, payload) = (text(topic), payload.as_ref());
        let (data, length) = (payload.as_ptr().cast(), payload.len());
        // SAFETY: as above; topic and payload live through the call.
        unsafe { ffi::fake_control(client.0, pointer(topic.as_ref()), data, length) }
    }

    /// Returns how many retained messages the plugin has published.
    pub fn retained_published(&self) -> usize {
        // SAFETY: reads a variable.
        unsafe { ffi::fake_retained_published() }
    }

    /// Returns the payload of the retained message with this topic.
    pub fn retained(&self, topic: &str) -> Option<String> {
        let topic = text(topic);
        // SAFETY: the topic lives through the call; the result is NULL or a C string that stays until the next one.
        let payload = unsafe { ffi::fake_retained(pointer(topic.as_ref())) };
        if payload.is_null() {
            return None;
        }
        // SAFETY: it is not NULL.
        let payload = unsafe { CStr::from_ptr(payload) };
        Some(payload.to_string_lossy().into_owned())
    }

    /// Returns the messages that the plugin has published since the last call.
    pub fn sent(&mut self) -> Vec<SentMessage> {
        // SAFETY: reads a variable.
        let count = unsafe { ffi::fake_message_count() };
        let news = self.forgotten_messages..count;
        self.forgotten_messages = count;
        news.map(|index| {
            // SAFETY: an index below the count; its texts are C strings that stay.
            let [client_id, topic, payload] = unsafe {
                let message = &*ffi::fake_message_at(index);
                [message.client_id, message.topic, message.payload]
                    .map(|text| CStr::from_ptr(text).to_string_lossy().into_owned())
            };
            SentMessage {
                client_id,
                topic,
                payload,
            }
        })
        .collect()
    }

    /// `check_retain_source`: checks whether the publisher of a retained message may still write it.
    pub fn retain_source(&mut self, source: FakeClient, topic: &str) -> c_int {
        let topic = text(topic);
        // SAFETY: as above.
        unsafe { ffi::fake_retain_source(source.0, pointer(topic.as_ref())) }
    }

    /// Checks a login and an access for 2.1's HTTP API, on a thread of its own.
    ///
    /// # Panics
    ///
    /// Panics if that thread panics.
    pub fn http_api(&mut self, username: &str, password: &str) -> (c_int, c_int) {
        let (username, password) = (text(username), text(password));
        let asks = move || {
            let (username, password) = (pointer(username.as_ref()), pointer(password.as_ref()));
            // SAFETY: the strings are copied; the callbacks are the plugin's, which must tolerate a thread
            // other than the broker's. It is joined before anything else happens.
            unsafe {
                (
                    ffi::fake_http_api(username, password, false),
                    ffi::fake_http_api(username, password, true),
                )
            }
        };
        std::thread::spawn(asks).join().expect("no panic")
    }

    /// Ends the connection; the will is sent.
    pub fn disconnect(&mut self, client: FakeClient) {
        // SAFETY: a living client, on the broker's thread.
        unsafe { ffi::fake_disconnect(client.0, true) };
    }

    /// Ends a kept session, which no broker reports.
    pub fn expire(&mut self, client: FakeClient) {
        // SAFETY: a client, on the broker's thread.
        unsafe { ffi::fake_expire(client.0) };
    }

    /// Runs one iteration of the broker's loop.
    pub fn tick(&mut self) {
        // SAFETY: on the broker's thread.
        unsafe { ffi::fake_tick() };
    }

    /// Sends the RELOAD event only.
    pub fn reload(&mut self) -> c_int {
        // SAFETY: on the broker's thread.
        unsafe { ffi::fake_reload() }
    }

    /// SIGHUP: sends RELOAD, and then asks about every session again.
    pub fn sighup(&mut self) {
        // SAFETY: on the broker's thread.
        unsafe { ffi::fake_sighup() };
    }

    /// Sends an event with exactly these bytes as its data, `None` for NULL.
    pub fn raw(&mut self, event: Event, data: Option<&mut [usize; 11]>) -> c_int {
        let data = data.map_or(ptr::null_mut(), |data| data.as_mut_ptr().cast());
        // SAFETY: 88 bytes are as many as the largest event has; the rest is what the test checks.
        unsafe { ffi::fake_raw(0, event as c_int, data) }
    }

    /// The same with NULL for the userdata.
    pub fn raw_without_userdata(&mut self, event: Event, data: Option<&mut [usize; 11]>) -> c_int {
        let data = data.map_or(ptr::null_mut(), |data| data.as_mut_ptr().cast());
        // SAFETY: as above.
        unsafe { ffi::fake_raw_userdata(0, event as c_int, data, ptr::null_mut()) }
    }

    /// Removes an event from the broker.
    pub fn refuse_event(&mut self, event: Event) {
        // SAFETY: sets variables.
        unsafe { ffi::fake_refuse_event(event as c_int, NOT_SUPPORTED) };
    }

    /// Makes the broker refuse user names with this code.
    pub fn refuse_usernames(&mut self, code: c_int) {
        // SAFETY: sets a variable.
        unsafe { ffi::fake_set_username_result(code) };
    }

    /// Sets how many seconds the broker's wall clock is ahead; negative if it is behind.
    pub fn set_clock(&mut self, seconds: i64) {
        // SAFETY: sets a variable.
        unsafe { ffi::fake_set_clock(seconds) };
    }

    /// `log_dest topic`: each line is a message, and the plugin is asked who may read it.
    pub fn log_to_topic(&mut self) {
        // SAFETY: sets a variable.
        unsafe { ffi::fake_log_to_topic(true) };
    }

    /// Returns how deep log lines were nested with [`FakeBroker::log_to_topic`].
    pub fn log_depth(&self) -> usize {
        // SAFETY: reads a variable.
        unsafe { ffi::fake_log_depth() }
    }

    /// Returns how often the plugin kicked a client.
    pub fn kicks(&self) -> usize {
        // SAFETY: reads a variable.
        unsafe { ffi::fake_kick_count() }
    }

    /// Returns a client's state.
    pub fn state(&self, client: FakeClient) -> ClientState {
        // SAFETY: a client lives as long as the process.
        match unsafe { ffi::fake_state(client.0) } {
            0 => ClientState::New,
            1 => ClientState::Connected,
            2 => ClientState::Offline,
            _ => ClientState::Gone,
        }
    }

    /// Returns a client's current user name.
    pub fn username(&self, client: FakeClient) -> Option<String> {
        // SAFETY: a client lives as long as the process, and its strings are C strings.
        unsafe {
            let name = ffi::fake_username(client.0);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }

    /// Returns the number of callbacks for an event.
    pub fn registered(&self, event: Event) -> usize {
        self.registered_for(0, event)
    }

    /// The same for one listener.
    pub fn registered_for(&self, listener: c_int, event: Event) -> usize {
        // SAFETY: counts.
        unsafe { ffi::fake_registered(listener, event as c_int) }
    }

    /// Returns the calls since the last [`FakeBroker::asked`].
    pub fn asked(&mut self) -> Vec<PluginCall> {
        // SAFETY: reads variables.
        let count = unsafe { ffi::fake_answer_count() };
        let news = self.forgotten_answers..count;
        self.forgotten_answers = count;
        news.map(|index| {
            // SAFETY: an index below the count; its text ends with NUL.
            let (answer, topic) = unsafe {
                let answer = &*ffi::fake_answer_at(index);
                (answer, CStr::from_ptr(answer.topic.as_ptr()))
            };
            let client = FakeClient(answer.client.cast_mut());
            match answer.event {
                1 => PluginCall::Reload(answer.code),
                2 => PluginCall::Acl(
                    client,
                    AclAccess::of(answer.access),
                    topic.to_string_lossy().into_owned(),
                    answer.code,
                ),
                3 => PluginCall::Login(client, answer.code),
                4 | 5 => PluginCall::Auth(client, answer.code),
                10 => PluginCall::Disconnect(client),
                28 => PluginCall::Offline(client),
                other => panic!("nobody records event {other}"),
            }
        })
        .collect()
    }

    /// Returns the plugin's log lines since [`FakeBroker::forget_log`].
    pub fn log(&self) -> Vec<Line> {
        // SAFETY: reads a variable.
        let count = unsafe { ffi::fake_log_count() };
        (self.forgotten_lines..count)
            .filter_map(|index| {
                let mut level = 0;
                // SAFETY: an index below the count; lines are C strings that stay.
                let line = unsafe { CStr::from_ptr(ffi::fake_log_line(index, &mut level)) };
                let text = line.to_str().expect("lines are UTF-8");
                let text = text.strip_prefix("mosquitto-auth0: ")?.to_owned();
                Some(Line { level, text })
            })
            .collect()
    }

    /// Returns how many of these lines contain a text.
    pub fn lines_with(&self, part: &str) -> usize {
        self.log()
            .iter()
            .filter(|line| line.text.contains(part))
            .count()
    }

    /// Clears the log.
    pub fn forget_log(&mut self) {
        // SAFETY: reads a variable.
        self.forgotten_lines = unsafe { ffi::fake_log_count() };
    }

    /// Runs the broker's loop until a condition is true.
    ///
    /// # Panics
    ///
    /// Panics if it does not become true in time.
    pub fn run_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let started = Instant::now();
        loop {
            self.tick();
            if is_so(self) {
                return;
            }
            assert!(
                started.elapsed() < allowed(PATIENCE),
                "still not: {what}; the log: {:#?}",
                self.log()
            );
            // An idle broker ticks every 100 ms.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs the broker's loop until a log line contains this text.
    pub fn run_until_said(&mut self, part: &str) {
        self.run_until(part, |broker| broker.lines_with(part) > 0);
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        // A failing test must not be hidden by a second failure.
        if std::thread::panicking() {
            return;
        }
        while !self.plugins.is_empty() {
            self.cleanup();
        }
        // A joined thread may stay on the system's list for a moment.
        let deadline = Instant::now() + allowed(Duration::from_secs(10));
        while plugin_threads() > 0 {
            assert!(Instant::now() < deadline, "threads outlive the plugin");
            std::thread::yield_now();
        }
    }
}

/// Returns the number of the plugin's threads that fetch keys.
///
/// # Panics
///
/// Panics if the system does not tell.
pub fn plugin_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux lists the threads here");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("auth0-"))
        .count()
}

/// Waits until the plugin has this many threads: a thread sets its name a moment after its start.
///
/// # Panics
///
/// Panics if that takes too long.
pub fn wait_for_threads(count: usize) {
    let started = Instant::now();
    while plugin_threads() != count {
        assert!(
            started.elapsed() < allowed(PATIENCE),
            "{} threads, not {count}",
            plugin_threads()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn open(file: &Path, release: Release) -> *mut c_void {
    let path = CString::new(file.as_os_str().as_encoded_bytes()).expect("a path without NUL");
    // As in lib_load.h of each release.
    let scope = if release.is_2_1() {
        libc::RTLD_LOCAL
    } else {
        libc::RTLD_GLOBAL
    };
    // SAFETY: loads code, as the broker does.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | scope) };
    if handle.is_null() {
        // SAFETY: after a failure dlerror returns a C string.
        let why = unsafe { CStr::from_ptr(libc::dlerror()) };
        panic!("{}: {}", file.display(), why.to_string_lossy());
    }
    handle
}

fn symbol(handle: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: an open handle and a C string.
    let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
    assert!(
        !found.is_null(),
        "the plugin has no {}",
        name.to_string_lossy()
    );
    found
}
