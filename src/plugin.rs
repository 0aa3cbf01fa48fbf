//! The entry points and callbacks, and what each does in which order.
//!
//! Two rules hold everywhere in here. Nothing is locked while a function of the broker's runs,
//! because several of them call back (logging, kicking). And a callback answers only SUCCESS, a
//! refusal that the running broker understands, or ACL_DENIED.

use std::{
    ffi::{c_int, c_void},
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    abi,
    again::{Again, Question},
    codes::{self, Generation},
    event::{self, Reload},
    guard, heap,
    host::{self, Broker},
    local_users,
    quirks::{address_header, recheck, sighup, ticks},
    signals, time,
};
use auth::{
    clock::{Deadline, Unix},
    config::{Config, on_disk::OnDisk},
    keys::store::Pace,
    log::{Level, Log},
    policy::{Answer, Common, Connect, Decision, Policy, Step, Wait},
    proxies::AddressFrom,
    secret::{Fingerprint, Fingerprinter},
    sessions::Afterlife,
};

/// The plugin interface that we speak.
const INTERFACE: c_int = 5;

/// How long a SIGHUP may go on where no tick says that it is over, and nothing tells a CONNECT from its
/// questions. 100,000 sessions are asked about in less.
const RECHECK: Duration = Duration::from_secs(2);

/// The same where one of the two does.
const LONG_RECHECK: Duration = Duration::from_secs(600);

/// How often a tick looks at the time of things, in milliseconds.
const LOOK_MILLIS: u64 = 50;

/// A tick that is this old was the last one, for all we know.
const LATE_MILLIS: u64 = 1000;

/// How long nobody more has gone when a fleet has.
const SETTLED: Duration = Duration::from_secs(2);

/// One configuration at work. The broker loads the plugin once for each `plugin` line; lines with
/// the same options share one of these, and with it the keys and the sessions.
struct Core {
    policy: Policy,
    log: Log,
    /// What the broker's configuration said, if it can be found there.
    on_disk: Option<OnDisk>,
    /// 2.0.11 never ticks with `per_listener_settings true`.
    ticks: AtomicBool,
    /// When the broker began to ask again about everybody (SIGHUP), until the next tick.
    reloading: Mutex<Option<Deadline>>,
    /// Whether somebody has come or gone since the last tick that did something.
    stirred: AtomicBool,
    /// When a tick did something last, in milliseconds of the monotonic clock: rights end, and waits do,
    /// though nothing stirs.
    looked: AtomicU64,
    /// The time that messages are judged by.
    round: time::Round,
    /// What was allowed a moment ago.
    again: Again,
    /// When memory is to be given back to the system, since a fleet has gone.
    trim: Mutex<Option<Deadline>>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.policy.stop();
    }
}

/// The cores at work, by a fingerprint of their options (which may hold a secret).
static CORES: Mutex<Vec<(Fingerprint, Weak<Core>)>> = Mutex::new(Vec::new());

impl Core {
    /// The core for these options: one that is at work, or a new one, not yet started.
    fn obtain(
        broker: &Broker,
        options: Vec<(String, String)>,
    ) -> Result<(Arc<Self>, bool), String> {
        static PRINTS: LazyLock<Option<Fingerprinter>> =
            LazyLock::new(|| Fingerprinter::new().ok());
        let prints = PRINTS
            .as_ref()
            .ok_or("the operating system gave no random bytes")?;
        let print = prints.of(format!("{options:?}").as_bytes());
        let mut cores = CORES.lock().unwrap_or_else(PoisonError::into_inner);
        cores.retain(|(_, core)| core.strong_count() > 0);
        if let Some(core) = cores
            .iter()
            .find(|(of, _)| *of == print)
            .and_then(|(_, core)| core.upgrade())
        {
            return Ok((core, true));
        }
        let log = Log::default();
        let on_disk = Fingerprinter::new()
            .ok()
            .and_then(|prints| OnDisk::find(&options, prints));
        let config = Config::read(options).map_err(|e| e.to_string())?;
        let other = cores.iter().find_map(|(_, core)| core.upgrade());
        let common = other.map_or_else(Common::default, |core| core.policy.common().clone());
        let pace = Pace::default();
        let policy = Policy::new(config, pace, log.clone(), signals::spawn, &common)?;
        let core = Arc::new(Self {
            policy,
            log,
            on_disk,
            ticks: AtomicBool::new(false),
            reloading: Mutex::default(),
            stirred: AtomicBool::new(true),
            looked: AtomicU64::new(time::Coarse::now().millis()),
            round: time::Round::default(),
            again: Again::default(),
            trim: Mutex::default(),
        });
        // 2.0 says by itself when that cannot be: it takes no second callback. 2.1 takes it, and what it
        // makes of it only its configuration says.
        if !cores.is_empty() && broker.generation() == Generation::V2_1 {
            core.log.line(
                Level::Notice,
                "loaded again with other options: these count where the listener has them to itself, by \
                 per_listener_settings true or by plugin_use; with neither, those named first decide for every \
                 listener",
            );
        }
        cores.push((print, Arc::downgrade(&core)));
        Ok((core, false))
    }

    /// A reload begins.
    fn reloads(&self) {
        let ends = self.ticks.load(Ordering::Relaxed) || recheck::knows_connect();
        let most = if ends { LONG_RECHECK } else { RECHECK };
        self.set_reloading(Some(Deadline::after(most)));
    }

    /// Whether the broker may be asking again. It does so right after the reload, before the next
    /// tick; where there are no ticks, within moments.
    fn is_reloading(&self) -> bool {
        let reloading = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        reloading.is_some_and(|until| !until.has_passed())
    }

    fn set_reloading(&self, until: Option<Deadline>) {
        *self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Keeps the time for the messages to come. Not at every tick, because a busy broker ticks with every
    /// message: the time may be [`LOOK_MILLIS`] old.
    fn see_round(&self, broker: &Broker, now: time::Coarse) {
        if broker.generation() == Generation::V2_0 && self.ticks.load(Ordering::Relaxed) {
            self.round.set(now.unix());
        }
    }

    /// Whether a tick has anything to do. A busy 2.0 broker ticks with every message, so this is part of
    /// what a message costs.
    fn has_work(&self, now: time::Coarse) -> bool {
        let millis = now.millis();
        let due = millis >= self.looked.load(Ordering::Relaxed) + LOOK_MILLIS
            || self.stirred.load(Ordering::Relaxed)
            || self.policy.has_news()
            || !self.log.is_empty()
            || !guard::FAULTS.is_empty();
        if due {
            self.looked.store(millis, Ordering::Relaxed);
            self.stirred.store(false, Ordering::Relaxed);
        }
        due
    }

    /// Whether the broker has not ticked for so long that nobody can say when it will. Then no answer may
    /// depend on a tick.
    fn ticks_are_late(&self) -> bool {
        let looked = self.looked.load(Ordering::Relaxed);
        time::Coarse::now().millis() > looked + LATE_MILLIS
    }

    /// The broker stood still because we did, so it could not tick.
    fn stood_still(&self, since: time::Coarse) {
        let millis = time::Coarse::now().millis() - since.millis();
        self.looked.fetch_add(millis, Ordering::Relaxed);
    }

    /// Forgets who has gone. Of a fleet that leaves, the last go a while after the first: the memory is
    /// given back once.
    fn reap(&self, now: Unix) {
        let much = self.policy.reap(now);
        let mut trim = self.trim.lock().unwrap_or_else(PoisonError::into_inner);
        if much {
            *trim = Some(Deadline::after(SETTLED));
        } else if trim.is_some_and(Deadline::has_passed) {
            *trim = None;
            heap::give_back();
        }
    }

    /// Writes the lines that wait. Never while something is held, never in the middle of a
    /// message's delivery.
    fn write_log(&self, broker: &Broker) {
        write(&self.log, broker);
        write(&guard::FAULTS, broker);
    }
}

/// Follows the wall clock where it was set, in all instances at once: what they share is moved once.
fn follow_clock(broker: &Broker) {
    let by = time::follow();
    if by == 0 {
        return;
    }
    let cores = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let cores: Vec<_> = cores
        .iter()
        .filter_map(|(_, core)| core.upgrade())
        .collect();
    if let Some(first) = cores.first() {
        first.policy.common().clock_was_set(by);
        first.policy.report_clock(by);
    }
    for core in cores {
        core.policy.clock_was_set(by);
        core.again.forget_all(broker);
        core.see_round(broker, time::Coarse::now());
    }
}

fn write(log: &Log, broker: &Broker) {
    for (level, line) in log.take() {
        broker.log(level, &line);
    }
}

/// The core behind a callback's userdata.
///
/// # Safety
///
/// `userdata` is NULL or what [`mosquitto_plugin_init`] stored, before cleanup.
unsafe fn core<'a>(userdata: *mut c_void) -> Option<&'a Core> {
    // SAFETY: init stores Arc::into_raw, and cleanup alone takes it back.
    unsafe { userdata.cast::<Core>().as_ref() }
}

/// Asks for the plugin interface version (mosquitto_plugin.h).
///
/// # Safety
///
/// `supported` is NULL or points to `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_version(count: c_int, supported: *const c_int) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    if supported.is_null() || count == 0 {
        return -1;
    }
    // SAFETY: the caller's promise; neither NULL nor empty.
    let supported = unsafe { std::slice::from_raw_parts(supported, count) };
    if supported.contains(&INTERFACE) {
        INTERFACE
    } else {
        -1
    }
}

/// Starts the plugin (mosquitto_plugin.h).
///
/// # Safety
///
/// Called by a broker on its main thread, with its own identifier, a place for the userdata and
/// its options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_init(
    identifier: *mut abi::mosquitto_plugin_id_t,
    userdata: *mut *mut c_void,
    options: *mut abi::mosquitto_opt,
    option_count: c_int,
) -> c_int {
    guard::adopt_thread();
    time::start();
    let code = guard::enter(codes::UNKNOWN, |broker| {
        if userdata.is_null() {
            return codes::INVAL;
        }
        // SAFETY: the caller's promise.
        let options = unsafe { event::options(options, option_count) };
        match start(broker, identifier, options) {
            Ok(core) => {
                core.write_log(broker);
                // SAFETY: not NULL, and the caller's promise.
                unsafe { *userdata = Arc::into_raw(core).cast_mut().cast() };
                if broker.generation() == Generation::V2_1 {
                    sighup::block();
                }
                codes::SUCCESS
            }
            Err(why) => {
                broker.log(Level::Error, &format!("the broker does not start: {why}"));
                codes::INVAL
            }
        }
    });
    // After a panic the broker ends, and no tick comes that would say why.
    guard::enter(code, |broker| {
        write(&guard::FAULTS, broker);
        code
    })
}

/// Builds everything, then registers, then starts threads: callbacks can come as soon as the
/// first is registered (the broker logs, and `log_dest topic` asks), and a thread must not outlive
/// an init that failed, after which 2.0 calls no cleanup.
fn start(
    broker: &Broker,
    identifier: *mut abi::mosquitto_plugin_id_t,
    options: Result<Vec<(String, String)>, String>,
) -> Result<Arc<Core>, String> {
    provoke("init");
    let (core, shared) = Core::obtain(broker, options?)?;
    match register(broker, identifier, &core, shared) {
        Ok(()) => Ok(core),
        Err(why) => {
            // The broker exits, and 2.0 cleans nothing up: not this one nor any before it.
            for (_, core) in CORES.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                if let Some(core) = core.upgrade() {
                    core.policy.stop();
                }
            }
            // What was registered may still be called until the process ends: the broker logs
            // that we failed, and `log_dest topic` asks about that line.
            std::mem::forget(core);
            Err(why)
        }
    }
}

fn register(
    broker: &Broker,
    identifier: *mut abi::mosquitto_plugin_id_t,
    core: &Arc<Core>,
    shared: bool,
) -> Result<(), String> {
    let userdata: *mut c_void = Arc::as_ptr(core).cast_mut().cast();
    let register = |event, callback: host::Callback| {
        // SAFETY: the broker's identifier; the callbacks are ours, and so is the userdata, which
        // lives until cleanup, or for ever where a broker calls none.
        unsafe { broker.register(identifier, event as c_int, callback, userdata) }
    };
    // SAFETY: it only keeps the callback's address.
    let basic_auth = unsafe { abi::mosquitto_auth0_noting_caller(Some(on_basic_auth)) };
    match register(
        abi::MOSQ_EVT_BASIC_AUTH,
        basic_auth.unwrap_or(on_basic_auth),
    ) {
        codes::SUCCESS => {}
        // 2.0 with one set of plugins for all listeners, and this plugin named at two of them.
        codes::ALREADY_EXISTS if shared => {
            broker.log(
                Level::Info,
                "named twice with the same options for the same listeners: one of the two does the work",
            );
            return Ok(());
        }
        codes::ALREADY_EXISTS => {
            return Err(
                "the plugin is named twice with different options, and per_listener_settings is false, \
                 so only the first would be asked; give both lines the same options, leave one out, or \
                 set per_listener_settings true"
                    .into(),
            );
        }
        code => {
            return Err(format!(
                "the broker does not let it check logins (code {code}); use Mosquitto 2.0.11 or later"
            ));
        }
    }
    for (event, callback) in [
        (abi::MOSQ_EVT_ACL_CHECK, on_acl_check as host::Callback),
        (abi::MOSQ_EVT_DISCONNECT, on_disconnect),
        (abi::MOSQ_EVT_TICK, on_tick),
        (abi::MOSQ_EVT_RELOAD, on_reload),
    ] {
        match register(event, callback) {
            codes::SUCCESS => {}
            code => {
                return Err(format!(
                    "the broker does not offer event {event} (code {code}); use Mosquitto 2.0.11 or later"
                ));
            }
        }
    }
    // 2.1 only; 2.0 says NOT_SUPPORTED and uses DISCONNECT for both.
    register(abi::MOSQUITTO_AUTH0_EVT_CLIENT_OFFLINE, on_client_offline);

    if shared {
        return Ok(());
    }
    core.policy.warn_of_local_users(&local_users::find());
    core.policy.start(broker.tells())
}

/// Stops the plugin (mosquitto_plugin.h). 2.1 calls it even after an init that failed.
///
/// # Safety
///
/// `userdata` is what init stored, or NULL; it is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_cleanup(
    userdata: *mut c_void,
    _options: *mut abi::mosquitto_opt,
    _count: c_int,
) -> c_int {
    guard::enter(codes::SUCCESS, |broker| {
        provoke("cleanup");
        if !userdata.is_null() {
            // SAFETY: the reference that init gave away, taken back once.
            let core = unsafe { Arc::from_raw(userdata.cast_const().cast::<Core>()) };
            core.policy.tell_last_repeats(time::now());
            core.write_log(broker);
            drop(core);
            sighup::unblock();
        }
        codes::SUCCESS
    })
}

unsafe extern "C" fn on_basic_auth(
    _event: c_int,
    data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    guard::enter(codes::AUTH, |broker| {
        provoke("basic_auth");
        // SAFETY: the userdata that belongs to this callback.
        let Some(core) = (unsafe { core(userdata) }) else {
            return codes::AUTH;
        };
        core.stirred.store(true, Ordering::Relaxed);
        let reload = match core.is_reloading() && !recheck::is_connect() {
            true if broker.generation() == Generation::V2_0 && recheck::is_recheck() => {
                Reload::Certain
            }
            true => Reload::Perhaps,
            false => Reload::No,
        };
        // SAFETY: the event that belongs to this callback.
        let question = unsafe {
            event::connect(
                broker,
                data.cast(),
                reload,
                core.policy.looks_at_certificates(),
                core.policy.trusted_proxies(),
            )
        };
        // One restored from disk speaks no protocol yet: a SIGHUP that goes on for longer than is expected.
        if broker.generation() == Generation::V2_0
            && !core.is_reloading()
            && let Ok((client, connect)) = &question
            && !connect.restored
        {
            recheck::learn_connect(
                address_header::address_from(broker, *client) == AddressFrom::Transport,
            );
        }
        follow_clock(broker);
        let now = time::now();
        core.reap(now);
        core.policy.absorb(now);
        core.policy.tell_repeats(now);
        let code = match question {
            Ok((client, connect)) => basic_auth(broker, core, client, &connect),
            Err(event::Unreadable {
                client_id,
                address,
                refusal,
            }) => {
                core.policy
                    .report_unreadable(client_id, address, &refusal, now);
                codes::refusal(refusal.reason.told(), broker.generation())
            }
        };
        core.write_log(broker);
        // It may have waited.
        core.see_round(broker, time::Coarse::now());
        code
    })
}

fn basic_auth(
    broker: &Broker,
    core: &Core,
    client: host::ClientRef<'_>,
    connect: &Connect<'_>,
) -> c_int {
    core.again.forget(broker, connect.client.0);
    let mut step = core.policy.authenticate(connect, time::now());
    if let Step::Wait(wait) = step {
        let hindrance =
            may_delay(broker, core, client, connect).then(|| core.policy.hindrance(&wait));
        step = match hindrance {
            Some(None) => return delay(broker, core, client, connect.client_id, wait),
            Some(Some(why)) if wait.is_login() => {
                Step::Refuse(core.policy.postpone(wait, why, time::now()))
            }
            // Also a token that waits for its key: that is seldom, and does not take long.
            Some(Some(_)) | None => {
                let began = time::Coarse::now();
                let step = core.policy.wait(wait, time::now);
                core.stood_still(began);
                step
            }
        };
    }
    match step {
        Step::Keep => codes::SUCCESS,
        Step::Defer => codes::DEFER,
        Step::Refuse(refusal) => codes::refusal(refusal.reason.told(), broker.generation()),
        Step::Admit(admission) => {
            if !broker.set_username(client, admission.username()) {
                core.policy.refuse_username(connect.client_id, time::now());
                return codes::AUTH;
            }
            // 2.0 holds no CONNECT, so nothing waits under a client ID.
            if broker.generation() == Generation::V2_1 {
                core.policy.has_used(connect.client_id);
            }
            core.policy.admit(admission);
            codes::SUCCESS
        }
        Step::Wait(_) => unreachable!("a wait has an end"),
    }
}

/// Whether the broker takes the answer later; whether this client may wait for it is [`Policy::hindrance`]'s to say.
///
/// 2.1 does, but not on SIGHUP, where everything but SUCCESS disconnects (it asks then about clients
/// that it knows). And not for MQTT 5, unless an operator who trusts his network says so: a client
/// that hangs up while it waits leaves its delayed will behind in freed memory, and two of them end
/// the broker (2.1.2, src/context.c and src/will_delay.c). The plugin cannot see a will. Nor while a
/// reload is due ([`sighup`]), nor when the tick that would bring the answer may not come.
fn may_delay(
    broker: &Broker,
    core: &Core,
    client: host::ClientRef<'_>,
    connect: &Connect<'_>,
) -> bool {
    broker.generation() == Generation::V2_1
        && (broker.protocol_version(client) < 5 || core.policy.delays_mqtt5())
        && !connect.again
        && !sighup::is_due()
        && !core.ticks_are_late()
}

fn delay(
    broker: &Broker,
    core: &Core,
    client: host::ClientRef<'_>,
    client_id: &str,
    wait: Box<Wait>,
) -> c_int {
    // Now, because later nobody knows whether the client is still there. It comes in only if its
    // token turns out to be good, and then this is what it says.
    if let Some(username) = &wait.username
        && !broker.set_username(client, username)
    {
        core.policy.refuse_username(client_id, time::now());
        return codes::AUTH;
    }
    match core.policy.delay(wait, time::now()) {
        Ok(()) => codes::AUTH_DELAYED,
        Err(refusal) => codes::refusal(refusal.reason.told(), broker.generation()),
    }
}

/// Answers the clients that the broker holds.
fn answer_arrivals(broker: &Broker, core: &Core) {
    for Answer {
        client_id,
        admission,
    } in core.policy.collect(time::now())
    {
        let Some(admission) = admission else {
            broker.complete(&client_id, codes::AUTH);
            continue;
        };
        let client = admission.client;
        // It is in already: another connection at the address of one that hung up while it waited.
        if broker.has_client(&client_id, client.0) == Some(true) {
            continue;
        }
        core.policy.has_used(&client_id);
        // First its rights: the broker asks about messages that wait for it before we are back.
        let older = core.policy.admit(admission);
        broker.complete(&client_id, codes::SUCCESS);
        if broker.has_client(&client_id, client.0) != Some(true) {
            core.again.forget(broker, client.0);
            core.policy.retract(client, older);
        }
    }
}

unsafe extern "C" fn on_acl_check(
    _event: c_int,
    data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    guard::enter(codes::ACL_DENIED, |broker| {
        provoke("acl_check");
        // SAFETY: the userdata and the event that belong to this callback.
        let (Some(core), Some(access)) = (unsafe { core(userdata) }, unsafe {
            event::access(broker, data.cast())
        }) else {
            return codes::ACL_DENIED;
        };
        let now = core.round.now();
        let question = Question::of(&access);
        if let Some(question) = &question
            && core.again.allows(broker, question, now)
        {
            return codes::SUCCESS;
        }
        let decision = core.policy.authorise(&access, now);
        if let (Decision::Allow { until }, Some(question)) = (decision, &question) {
            core.again.keep(broker, question, now, until);
        }
        // Lines wait for the tick: logging from here comes back here with `log_dest topic`. On
        // the broker that never ticks, a client's own packet is the next best moment; a delivery
        // never is, because the broker is walking its tree of subscriptions.
        if decision == Decision::Deny
            && !core.ticks.load(Ordering::Relaxed)
            && access.action != auth::policy::Action::Receive
        {
            core.write_log(broker);
        }
        match decision {
            Decision::Allow { .. } => codes::SUCCESS,
            Decision::Deny => codes::ACL_DENIED,
            Decision::Defer => codes::DEFER,
        }
    })
}

unsafe extern "C" fn on_disconnect(
    _event: c_int,
    data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    // SAFETY: passed on.
    unsafe { gone(data, userdata, None) }
}

unsafe extern "C" fn on_client_offline(
    _event: c_int,
    data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    // SAFETY: passed on. The event has the layout of a DISCONNECT.
    unsafe { gone(data, userdata, Some(Afterlife::Kept)) }
}

/// # Safety
///
/// `data` and `userdata` belong to one callback of the broker's.
unsafe fn gone(data: *mut c_void, userdata: *mut c_void, afterlife: Option<Afterlife>) -> c_int {
    guard::enter(codes::SUCCESS, |broker| {
        provoke("disconnect");
        // SAFETY: the caller's promise.
        let (Some(core), Some(client)) = (unsafe { core(userdata) }, unsafe {
            event::gone(data.cast())
        }) else {
            return codes::SUCCESS;
        };
        core.stirred.store(true, Ordering::Relaxed);
        if let Some(client_id) = broker.client_id(client) {
            match broker.has_client(client_id, client.address()) {
                Some(true) => core.policy.has_used(client_id),
                Some(false) => {
                    let address = broker.address(client);
                    core.policy.hung_up(client_id, address, time::now());
                }
                // 2.0 holds nobody.
                None => {}
            }
        }
        let afterlife = afterlife.unwrap_or_else(|| match broker.generation() {
            // 2.1 says CLIENT_OFFLINE for a session that it keeps; of one that it does not keep it
            // may still send the will, after the delay that an MQTT 5 client asked for.
            Generation::V2_1 if broker.protocol_version(client) >= 5 => Afterlife::Will,
            Generation::V2_1 => Afterlife::Ended,
            Generation::V2_0 if !broker.clean_session(client) => Afterlife::Kept,
            Generation::V2_0 if broker.protocol_version(client) < 5 => Afterlife::Ended,
            Generation::V2_0 if !broker.has_subscriptions(client) => Afterlife::Will,
            Generation::V2_0 => Afterlife::Unsure,
        });
        core.again.forget(broker, client.address());
        core.policy.leave(
            auth::sessions::Client(client.address()),
            afterlife,
            time::now(),
        );
        codes::SUCCESS
    })
}

unsafe extern "C" fn on_tick(_event: c_int, data: *mut c_void, userdata: *mut c_void) -> c_int {
    guard::enter(codes::SUCCESS, |broker| {
        // SAFETY: the event that belongs to this callback.
        unsafe { ticks::request_next(data.cast()) };
        provoke("tick");
        // SAFETY: the userdata that belongs to this callback.
        let Some(core) = (unsafe { core(userdata) }) else {
            return codes::SUCCESS;
        };
        let round = time::Coarse::now();
        if !core.has_work(round) {
            return codes::SUCCESS;
        }
        core.ticks.store(true, Ordering::Relaxed);
        core.see_round(broker, round);
        // Before anybody is answered: who waits now may have hung up in this very round.
        if sighup::tick_begins(core.policy.somebody_waits()) {
            core.log.line(
                Level::Info,
                "SIGHUP is acted on when those are answered who wait for the tenant",
            );
        }
        // So that a fault below is explained at the next tick at the latest.
        core.write_log(broker);
        core.set_reloading(None);
        core.policy.end_census();
        follow_clock(broker);
        let now = time::now();
        core.reap(now);
        core.policy.tell_repeats(now);
        for (client, client_id) in core.policy.wills() {
            if broker.has_client(&client_id, client.0) == Some(false) {
                core.policy.forget(client);
            }
        }
        answer_arrivals(broker, core);
        for (client, client_id) in core.policy.expire(now) {
            // It is leaving from here on: the kick has the broker ask about each subscription of a
            // kept session, and drop those that are denied.
            core.again.forget(broker, client.0);
            core.policy.leave(client, Afterlife::Kept, now);
            if !broker.kick(&client_id) {
                core.policy.forget(client);
            }
        }
        core.write_log(broker);
        sighup::tick_ends();
        codes::SUCCESS
    })
}

unsafe extern "C" fn on_reload(_event: c_int, _data: *mut c_void, userdata: *mut c_void) -> c_int {
    // Anything but SUCCESS ends a 2.1 broker (src/plugin_reload.c).
    guard::enter(codes::SUCCESS, |broker| {
        provoke("reload");
        sighup::reloaded();
        // SAFETY: the userdata that belongs to this callback.
        if let Some(core) = unsafe { core(userdata) } {
            core.stirred.store(true, Ordering::Relaxed);
            core.reloads();
            if broker.generation() == Generation::V2_0 {
                core.policy.begin_census();
            }
            core.policy.reload();
            let changed = core.on_disk.as_ref().map(OnDisk::changed);
            if let Some(changed) = changed.filter(|changed| !changed.is_empty()) {
                core.log.line(
                    Level::Warning,
                    format!(
                        "the configuration on disk is not what runs, in {}: a reload changes no options; cure: \
                         restart the broker",
                        changed.join(", ")
                    ),
                );
            }
            core.again.forget_all(broker);
            core.write_log(broker);
        }
        codes::SUCCESS
    })
}

/// Panics where a test says so. Only in a build with the feature `provoke`, which no package has.
#[cfg(feature = "provoke")]
fn provoke(place: &str) {
    if std::env::var("MOSQUITTO_AUTH0_PROVOKE").is_ok_and(|wanted| wanted == place) {
        panic!("provoked in {place}");
    }
}

#[cfg(not(feature = "provoke"))]
fn provoke(_place: &str) {}
