//! A broker that drives the real plugin, the shared object, through every entry point.
//!
//! The functions that a plugin calls are in `fake.c`; this is the safe side of it. What no plugin
//! may do, because a real broker would be damaged, ends the process with a sentence on stderr:
//! calling from another thread, kicking outside a tick, answering with a code that the broker does
//! not understand, touching a client that was freed, flooding the log or writing control
//! characters into it. So every test checks all of that as well.
//!
//! A process is one broker, and the plugin has state of its own for the process, so [`alone`] runs
//! every test in a process of its own. A crash or an abort is then one failed test.

mod ffi;
mod process;

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
    ptr,
    time::{Duration, Instant},
};

pub use process::{alone, alone_provoked};

/// Which broker this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Debian 12's. Frees a refused client's id before it says goodbye; ticks only without
    /// `per_listener_settings`.
    V2_0_11,
    /// Debian 13's.
    V2_0_21,
    /// The first with more than one way to say no.
    V2_1_2,
}

impl Release {
    /// Whether it has 2.1's functions, codes and events.
    pub fn is_2_1(self) -> bool {
        self == Self::V2_1_2
    }

    /// The code by which this broker is told what 2.1 knows as `code`.
    pub fn refusal(self, code: c_int) -> c_int {
        if self.is_2_1() { code } else { AUTH }
    }
}

/// The answers, as mosquitto.h and 2.1's defs.h number them.
#[allow(missing_docs)]
mod codes {
    use std::ffi::c_int;

    pub const AUTH_DELAYED: c_int = -5;
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

/// An event, as mosquitto_broker.h numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(i32)]
pub enum Event {
    Reload = 1,
    AclCheck = 2,
    BasicAuth = 3,
    Tick = 9,
    Disconnect = 10,
    ClientOffline = 28,
}

impl Event {
    /// The events that this broker has.
    pub fn all(release: Release) -> &'static [Self] {
        const ALL: [Event; 6] = [
            Event::Reload,
            Event::AclCheck,
            Event::BasicAuth,
            Event::Tick,
            Event::Disconnect,
            Event::ClientOffline,
        ];
        &ALL[..if release.is_2_1() { 6 } else { 5 }]
    }

    /// The answer to a question that cannot be understood: no. And to what is no question: yes.
    pub fn refusal(self) -> c_int {
        match self {
            Self::BasicAuth => AUTH,
            Self::AclCheck => ACL_DENIED,
            _ => SUCCESS,
        }
    }
}

/// What somebody wants to do, as mosquitto_broker.h numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(i32)]
pub enum Access {
    Read = 1,
    Write = 2,
    Subscribe = 4,
    Unsubscribe = 8,
}

impl Access {
    /// All four.
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
pub struct Client(*mut ffi::Mosquitto);

impl Client {
    /// Its address, for events made by hand.
    pub fn address(self) -> usize {
        self.0 as usize
    }
}

/// What a client has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    New,
    Connected,
    Offline,
    Gone,
}

/// Something that the broker asked or said, with the plugin's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Asked {
    Login(Client, c_int),
    Acl(Client, Access, String, c_int),
    Disconnect(Client),
    Offline(Client),
    Reload(c_int),
}

/// A client before it connects: MQTT 3.1.1, clean session, from 192.0.2.1.
#[derive(Clone)]
pub struct Spec {
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
    // The broker's strings end at the first NUL, whatever came after it.
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    Some(CString::new(bytes).expect("NULs were cut off"))
}

fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(ptr::null(), |text| text.as_ptr())
}

impl Spec {
    /// A client with this id and nothing else.
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

    /// Without a client id, as 2.0.11 leaves those that it refuses.
    #[must_use]
    pub fn without_id(mut self) -> Self {
        self.id = None;
        self
    }

    /// The user name of its CONNECT.
    #[must_use]
    pub fn username(mut self, username: impl Into<Vec<u8>>) -> Self {
        self.username = text(username);
        self
    }

    /// The password of its CONNECT; cut at the first NUL, as every broker does.
    #[must_use]
    pub fn password(mut self, password: impl Into<Vec<u8>>) -> Self {
        self.password = text(password);
        self
    }

    /// As 2.1.3 does it: the event also tells how long the password really is.
    #[must_use]
    pub fn password_with_length(mut self, password: impl Into<Vec<u8>>) -> Self {
        let password = password.into();
        self.password_len = u16::try_from(password.len()).expect("MQTT's limit");
        self.password = text(password);
        self
    }

    /// `JWT` and a token: the user name and password of token mode.
    #[must_use]
    pub fn token(self, token: impl Into<Vec<u8>>) -> Self {
        self.username("JWT").password(token)
    }

    /// Where it connects from.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        self.address = text(address);
        self
    }

    /// The topic of its will.
    #[must_use]
    pub fn will(mut self, topic: &str) -> Self {
        self.will = text(topic);
        self
    }

    /// A filter to which it is subscribed.
    #[must_use]
    pub fn subscribed(mut self, filter: &str) -> Self {
        self.subscription = text(filter);
        self
    }

    /// A topic of which a message is queued while it is away.
    #[must_use]
    pub fn queued(mut self, topic: &str) -> Self {
        self.queued = text(topic);
        self
    }

    /// MQTT 5.
    #[must_use]
    pub fn v5(mut self) -> Self {
        self.protocol_version = 5;
        self
    }

    /// Not a clean session: the broker keeps it.
    #[must_use]
    pub fn kept(mut self) -> Self {
        self.kept = true;
        self.clean_start = false;
        self
    }

    /// MQTT 5 with Clean Start and a Session Expiry Interval: kept all the same.
    #[must_use]
    pub fn kept_for_a_while(mut self) -> Self {
        self.protocol_version = 5;
        self.kept = true;
        self
    }

    /// The listener, for `per_listener_settings true`.
    #[must_use]
    pub fn listener(mut self, listener: c_int) -> Self {
        self.listener = listener;
        self
    }

    /// Over libwebsockets: when it is taken over its DISCONNECT comes late.
    #[must_use]
    pub fn websocket(mut self) -> Self {
        self.websocket = true;
        self
    }

    /// Not over a websocket after all.
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

/// `plugin_opt_` lines.
#[derive(Clone, Default)]
pub struct Options(Vec<(CString, CString)>);

impl Options {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        let pair = (text(name), text(value));
        if let (Some(name), Some(value)) = pair {
            self.0.push((name, value));
        }
        self
    }
}

/// A line of the broker's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `MOSQ_LOG_…`.
    pub level: c_int,
    /// The text.
    pub text: String,
}

/// A plugin that was started and not yet stopped.
#[derive(Debug)]
pub struct Plugin {
    identifier: *mut c_void,
    userdata: *mut c_void,
}

type VersionFn = unsafe extern "C" fn(c_int, *const c_int) -> c_int;
type InitFn = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *mut ffi::Opt, c_int) -> c_int;
type CleanupFn = unsafe extern "C" fn(*mut c_void, *mut ffi::Opt, c_int) -> c_int;

/// The broker of this process, with the plugin loaded.
pub struct Broker {
    release: Release,
    handle: *mut c_void,
    version: VersionFn,
    init: InitFn,
    cleanup: CleanupFn,
    plugins: Vec<Plugin>,
    forgotten_lines: usize,
    forgotten_answers: usize,
}

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

impl Broker {
    /// Starts the broker and loads the plugin as this release does. Call it once, on the thread
    /// that goes on with it.
    ///
    /// # Panics
    ///
    /// If the plugin cannot be loaded.
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
        }
    }

    /// Which broker this is.
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
        // SAFETY: what is tested is that NULL is not followed.
        unsafe { (self.version)(count, ptr::null()) }
    }

    /// Starts the plugin for all listeners; the code if it does not start.
    ///
    /// # Errors
    ///
    /// The code.
    pub fn init(&mut self, options: &Options) -> Result<(), c_int> {
        self.init_for(0, options)
    }

    /// Starts the plugin for one listener, as with `per_listener_settings true`.
    ///
    /// # Errors
    ///
    /// The code.
    ///
    /// # Panics
    ///
    /// If a plugin that did not start left something behind in the broker's hands.
    pub fn init_for(&mut self, listener: c_int, options: &Options) -> Result<(), c_int> {
        // The broker's strings, which are changed afterwards: a plugin has to copy what it keeps.
        let mut texts: Vec<[Vec<u8>; 2]> = options
            .0
            .iter()
            .map(|(key, value)| [key, value].map(|text| text.to_bytes_with_nul().to_vec()))
            .collect();
        let mut opts: Vec<ffi::Opt> = texts
            .iter_mut()
            .map(|[key, value]| ffi::Opt {
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
            self.plugins.push(Plugin {
                identifier,
                userdata,
            });
            return Ok(());
        }
        assert!(userdata.is_null(), "it did not start and left userdata");
        // Every release says so before it ends, and with `log_dest topic` a line is a question.
        // SAFETY: on the broker's thread.
        unsafe { ffi::fake_log_init_failure(code) };
        if self.release.is_2_1() {
            // src/mosquitto.c of 2.1: post_shutdown_cleanup, although init failed.
            self.stop(Plugin {
                identifier,
                userdata,
            });
        }
        Err(code)
    }

    /// Starts the plugin with these very arguments and nothing around it.
    pub fn init_raw(&mut self, userdata: bool, options: bool, count: c_int) -> c_int {
        // SAFETY: allocates.
        let identifier = unsafe { ffi::fake_identifier(0) };
        let mut place = ptr::null_mut();
        let mut none = [ffi::Opt {
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
        // SAFETY: NULL, or what mosquitto_plugin.h says; the only option has NULL for its name
        // and its value, which is what is tested.
        unsafe { (self.init)(identifier, userdata, options, count) }
    }

    /// Stops the plugin that was started first.
    ///
    /// # Panics
    ///
    /// If there is none, or if it says that it could not.
    pub fn cleanup(&mut self) {
        let plugin = self.plugins.remove(0);
        self.stop(plugin);
    }

    fn stop(&mut self, plugin: Plugin) {
        // SAFETY: the userdata is what init stored, and is not used again.
        let code = unsafe { (self.cleanup)(plugin.userdata, ptr::null_mut(), 0) };
        assert_eq!(code, SUCCESS, "cleanup");
        if self.release.is_2_1() {
            // SAFETY: an identifier from fake_identifier.
            unsafe { ffi::fake_unregister(plugin.identifier) };
        }
    }

    /// What 2.0 does by ending: no callback is left.
    pub fn forget_callbacks(&mut self) {
        // SAFETY: NULL stands for all.
        unsafe { ffi::fake_unregister(ptr::null()) };
    }

    /// Stops a plugin that never started.
    pub fn cleanup_nothing(&self) -> c_int {
        // SAFETY: NULL is what 2.1 passes after an init that failed.
        unsafe { (self.cleanup)(ptr::null_mut(), ptr::null_mut(), 0) }
    }

    /// Unloads the plugin as 2.0 does, and says whether its code is still there.
    pub fn unload(&mut self, file: &Path) -> bool {
        let file = CString::new(file.as_os_str().as_encoded_bytes()).expect("a path without NUL");
        // SAFETY: the handle came from dlopen and is closed once; nothing in it is called again
        // unless it is still mapped, which is what the second call finds out.
        unsafe {
            libc::dlclose(self.handle);
            let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD;
            self.handle = libc::dlopen(file.as_ptr(), flags);
        }
        !self.handle.is_null()
    }

    /// A new client, not yet connected.
    pub fn client(&mut self, spec: &Spec) -> Client {
        // SAFETY: the strings live through the call and are copied.
        Client(spec.with(|spec| unsafe { ffi::fake_client_new(spec) }))
    }

    /// Another client at the address of one that is gone, as an allocator likes to have it.
    pub fn reuse(&mut self, client: Client, spec: &Spec) {
        // SAFETY: as above; the client lives as long as the process.
        spec.with(|spec| unsafe { ffi::fake_client_refill(client.0, spec) });
    }

    /// A session that was saved by the broker's last process, whose client has not come back. It is
    /// subscribed to this filter.
    pub fn restored(&mut self, id: &str, username: &str, filter: &str) -> Client {
        let texts = [id, username, filter].map(text);
        let [id, username, filter] = texts.each_ref().map(|text| pointer(text.as_ref()));
        // SAFETY: the strings live through the call and are copied.
        Client(unsafe { ffi::fake_client_restored(id, username, filter) })
    }

    /// A client connects, with all that follows for an older session of its id.
    pub fn connect(&mut self, client: Client) -> c_int {
        // SAFETY: a living client, on the broker's thread.
        unsafe { ffi::fake_connect(client.0) }
    }

    /// [`Broker::client`] and [`Broker::connect`].
    pub fn connect_new(&mut self, spec: &Spec) -> (Client, c_int) {
        let client = self.client(spec);
        (client, self.connect(client))
    }

    /// A client connects. Where the answer comes later, this is [`AUTH_DELAYED`], and ticks bring the answer.
    pub fn knock(&mut self, spec: &Spec) -> (Client, c_int) {
        let client = self.client(spec);
        // SAFETY: a living client, on the broker's thread.
        (client, unsafe { ffi::fake_knock(client.0) })
    }

    /// A client that waits for its answer hangs up.
    pub fn hang_up(&mut self, client: Client) {
        // SAFETY: as above.
        unsafe { ffi::fake_hang_up(client.0) };
    }

    /// Only the question whether a client may come in.
    pub fn basic_auth(&mut self, client: Client) -> c_int {
        // SAFETY: as above.
        unsafe { ffi::fake_basic_auth(client.0) }
    }

    /// The question whether a client may do something.
    pub fn acl(&mut self, client: Client, access: Access, topic: impl Into<Vec<u8>>) -> c_int {
        let topic = text(topic);
        // SAFETY: as above; the topic lives through the call.
        unsafe { ffi::fake_acl(client.0, access as c_int, pointer(topic.as_ref())) }
    }

    /// Whether a client may do something.
    pub fn allows(&mut self, client: Client, access: Access, topic: &str) -> bool {
        self.acl(client, access, topic) == SUCCESS
    }

    /// `check_retain_source`: whether who retained a message may still write it.
    pub fn retain_source(&mut self, source: Client, topic: &str) -> c_int {
        let topic = text(topic);
        // SAFETY: as above.
        unsafe { ffi::fake_retain_source(source.0, pointer(topic.as_ref())) }
    }

    /// 2.1's HTTP API asks for a login and for a right, on a thread of its own.
    ///
    /// # Panics
    ///
    /// If that thread panics.
    pub fn http_api(&mut self, username: &str, password: &str) -> (c_int, c_int) {
        let (username, password) = (text(username), text(password));
        let asks = move || {
            let (username, password) = (pointer(username.as_ref()), pointer(password.as_ref()));
            // SAFETY: the strings are copied; the callbacks are the plugin's, which must bear
            // another thread than the broker's. This one is joined before anything else happens.
            unsafe {
                (
                    ffi::fake_http_api(username, password, false),
                    ffi::fake_http_api(username, password, true),
                )
            }
        };
        std::thread::spawn(asks).join().expect("no panic")
    }

    /// The connection ends; the will goes out.
    pub fn disconnect(&mut self, client: Client) {
        // SAFETY: a living client, on the broker's thread.
        unsafe { ffi::fake_disconnect(client.0, true) };
    }

    /// A kept session's time is over, of which no broker says a word.
    pub fn expire(&mut self, client: Client) {
        // SAFETY: a client, on the broker's thread.
        unsafe { ffi::fake_expire(client.0) };
    }

    /// One round of the broker's loop.
    pub fn tick(&mut self) {
        // SAFETY: on the broker's thread.
        unsafe { ffi::fake_tick() };
    }

    /// Only the RELOAD event.
    pub fn reload(&mut self) -> c_int {
        // SAFETY: on the broker's thread.
        unsafe { ffi::fake_reload() }
    }

    /// SIGHUP: RELOAD, and then every session is asked about again.
    pub fn sighup(&mut self) {
        // SAFETY: on the broker's thread.
        unsafe { ffi::fake_sighup() };
    }

    /// An event with these very bytes as its data, `None` for NULL.
    pub fn raw(&mut self, event: Event, data: Option<&mut [usize; 11]>) -> c_int {
        let data = data.map_or(ptr::null_mut(), |data| data.as_mut_ptr().cast());
        // SAFETY: 88 bytes are as many as the largest event has; the rest is what is tested.
        unsafe { ffi::fake_raw(0, event as c_int, data) }
    }

    /// The same with NULL for the userdata.
    pub fn raw_without_userdata(&mut self, event: Event, data: Option<&mut [usize; 11]>) -> c_int {
        let data = data.map_or(ptr::null_mut(), |data| data.as_mut_ptr().cast());
        // SAFETY: as above.
        unsafe { ffi::fake_raw_userdata(0, event as c_int, data, ptr::null_mut()) }
    }

    /// From now on the broker does not have this event.
    pub fn refuse_event(&mut self, event: Event) {
        // SAFETY: sets variables.
        unsafe { ffi::fake_refuse_event(event as c_int, NOT_SUPPORTED) };
    }

    /// From now on the broker takes no user name and says this.
    pub fn refuse_usernames(&mut self, code: c_int) {
        // SAFETY: sets a variable.
        unsafe { ffi::fake_set_username_result(code) };
    }

    /// From now on the broker's wall clock is ahead of ours by this many seconds, or behind.
    pub fn set_clock(&mut self, seconds: i64) {
        // SAFETY: sets a variable.
        unsafe { ffi::fake_set_clock(seconds) };
    }

    /// `log_dest topic`: each line is a message, and the plugin is asked who may read it.
    pub fn log_to_topic(&mut self) {
        // SAFETY: sets a variable.
        unsafe { ffi::fake_log_to_topic(true) };
    }

    /// How deep lines about lines went with [`Broker::log_to_topic`].
    pub fn log_depth(&self) -> usize {
        // SAFETY: reads a variable.
        unsafe { ffi::fake_log_depth() }
    }

    /// How often the plugin kicked somebody.
    pub fn kicks(&self) -> usize {
        // SAFETY: reads a variable.
        unsafe { ffi::fake_kick_count() }
    }

    /// What a client has come to.
    pub fn state(&self, client: Client) -> State {
        // SAFETY: a client lives as long as the process.
        match unsafe { ffi::fake_state(client.0) } {
            0 => State::New,
            1 => State::Connected,
            2 => State::Offline,
            _ => State::Gone,
        }
    }

    /// The user name that a client has now.
    pub fn username(&self, client: Client) -> Option<String> {
        // SAFETY: a client lives as long as the process, and its strings are C strings.
        unsafe {
            let name = ffi::fake_username(client.0);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }

    /// How many callbacks there are for an event.
    pub fn registered(&self, event: Event) -> usize {
        // SAFETY: counts.
        unsafe { ffi::fake_registered(0, event as c_int) }
    }

    /// What was asked since the last [`Broker::asked`].
    pub fn asked(&mut self) -> Vec<Asked> {
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
            let client = Client(answer.client.cast_mut());
            match answer.event {
                1 => Asked::Reload(answer.code),
                2 => Asked::Acl(
                    client,
                    Access::of(answer.access),
                    topic.to_string_lossy().into_owned(),
                    answer.code,
                ),
                3 => Asked::Login(client, answer.code),
                10 => Asked::Disconnect(client),
                28 => Asked::Offline(client),
                other => panic!("nobody records event {other}"),
            }
        })
        .collect()
    }

    /// The plugin's lines in the log since [`Broker::forget_log`].
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

    /// How many of those lines hold this.
    pub fn lines_with(&self, part: &str) -> usize {
        self.log()
            .iter()
            .filter(|line| line.text.contains(part))
            .count()
    }

    /// Starts a new page of the log.
    pub fn forget_log(&mut self) {
        // SAFETY: reads a variable.
        self.forgotten_lines = unsafe { ffi::fake_log_count() };
    }

    /// Runs the broker's loop until something is so.
    ///
    /// # Panics
    ///
    /// If it does not come true in good time.
    pub fn run_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let started = Instant::now();
        loop {
            self.tick();
            if is_so(self) {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "still not: {what}; the log: {:#?}",
                self.log()
            );
            // A real broker ticks every 100 ms when nothing happens.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs the broker's loop until a line holds this.
    pub fn run_until_said(&mut self, part: &str) {
        self.run_until(part, |broker| broker.lines_with(part) > 0);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // What is already failing must not be buried under a second failure.
        if std::thread::panicking() {
            return;
        }
        while !self.plugins.is_empty() {
            self.cleanup();
        }
        // A thread that was joined may be on the system's list for a moment longer.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while plugin_threads() > 0 {
            assert!(
                std::time::Instant::now() < deadline,
                "threads outlive the plugin"
            );
            std::thread::yield_now();
        }
    }
}

/// How many threads the plugin has: those that fetch keys.
///
/// # Panics
///
/// If the system does not say.
pub fn plugin_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux lists the threads here");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("auth0-"))
        .count()
}

/// Waits until the plugin has this many threads: a thread gives itself its name, a moment after it
/// was made.
///
/// # Panics
///
/// If that takes too long.
pub fn wait_for_threads(count: usize) {
    let started = Instant::now();
    while plugin_threads() != count {
        assert!(
            started.elapsed() < PATIENCE,
            "{} threads, not {count}",
            plugin_threads()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn open(file: &Path, release: Release) -> *mut c_void {
    let path = CString::new(file.as_os_str().as_encoded_bytes()).expect("a path without NUL");
    // lib_load.h of each.
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
