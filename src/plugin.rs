//! The entry points and callbacks, and what each does in which order.
//!
//! Two rules hold everywhere in here. The state is closed while a function of the broker's runs that may call back:
//! logging, kicking, letting a delayed client in. And a callback returns only SUCCESS, a refusal that the running
//! broker understands, or ACL_DENIED.

use std::ffi::{c_int, c_void};

use crate::{
    abi,
    answer_cache::MessageCheck,
    codes::{self, Generation},
    event, guard,
    host::{self, Broker},
    local_users,
    quirks::{
        recheck::{self, Origin},
        sighup, ticks,
    },
    state::{self, Instance},
    time,
};
use auth::{
    clock::Unix,
    config::on_disk::OnDisk,
    log::Level,
    policy::{Action, Common, Connect, Decision, DelayedAnswer, Step, Wait},
    sessions::AfterDisconnect,
};

/// The plugin interface that we speak.
const INTERFACE: c_int = 5;

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
            Ok(instance) => {
                state::write_log(broker, instance);
                // SAFETY: not NULL, and the caller's promise.
                unsafe { *userdata = instance };
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
        state::write_faults(broker);
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
) -> Result<*mut c_void, String> {
    provoke("init");
    let (userdata, shared) = state::obtain(broker, options?)?;
    match register(broker, identifier, userdata, shared) {
        Ok(()) => Ok(userdata),
        Err(why) => {
            // The broker exits, and 2.0 cleans nothing up: not this instance nor any before it. What was registered
            // may still be called until the process ends: the broker logs that we failed, and `log_dest topic` asks
            // about that line.
            state::stop_all(broker);
            Err(why)
        }
    }
}

fn register(
    broker: &Broker,
    identifier: *mut abi::mosquitto_plugin_id_t,
    userdata: *mut c_void,
    shared: bool,
) -> Result<(), String> {
    let register = |event, callback: host::Callback| {
        // SAFETY: the broker's identifier; the callbacks are ours, and take any number for the userdata.
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
    register_others(register)?;
    // 2.1 only; 2.0 says NOT_SUPPORTED and uses DISCONNECT for both.
    register(abi::MOSQUITTO_AUTH0_EVT_CLIENT_OFFLINE, on_client_offline);

    if shared {
        return Ok(());
    }
    let started = state::with(broker, userdata, |instance, _| {
        instance.policy.warn_of_local_users(&local_users::find());
        instance.policy.start(broker.tells())
    });
    started.expect("it was obtained above")
}

/// Registers for the events that every broker offers beside the check of logins.
fn register_others(register: impl Fn(u32, host::Callback) -> c_int) -> Result<(), String> {
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
    Ok(())
}

/// Stops the plugin (mosquitto_plugin.h). 2.1 calls it even after an init that failed.
///
/// # Safety
///
/// Called on the broker's main thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_cleanup(
    userdata: *mut c_void,
    _options: *mut abi::mosquitto_opt,
    _count: c_int,
) -> c_int {
    guard::enter(codes::SUCCESS, |broker| {
        provoke("cleanup");
        if !userdata.is_null() {
            state::with(broker, userdata, |instance, _| {
                instance.policy.tell_last_repeats(time::now());
            });
            state::write_log(broker, userdata);
            state::release(broker, userdata);
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
        // SAFETY: the event that belongs to this callback.
        let client = unsafe { event::client(data.cast()) };
        let origin = client.map_or(Origin::Connect, |client| recheck::origin(broker, client));
        // SAFETY: the event that belongs to this callback.
        if origin != Origin::Connect && unsafe { stays(broker, userdata, data.cast(), origin) } {
            return codes::SUCCESS;
        }
        state::follow_clock(broker);
        let code = state::with(broker, userdata, |instance, common| {
            instance.stirred = true;
            let policy = &mut instance.policy;
            // SAFETY: the event that belongs to this callback.
            let question = unsafe {
                event::connect(
                    broker,
                    data.cast(),
                    origin,
                    policy.looks_at_certificates(),
                    policy.trusted_proxies(),
                )
            };
            let now = time::now();
            instance.reap(common, now);
            instance.policy.take_results(common, now);
            instance.policy.tell_repeats(now);
            let code = match question {
                Ok((client, connect)) => basic_auth(broker, instance, common, client, &connect),
                Err(event::Unreadable {
                    client_id,
                    address,
                    refusal,
                }) => {
                    let policy = &mut instance.policy;
                    policy.report_unreadable(client_id, address, &refusal, now);
                    codes::refusal(refusal.reason.told(), broker.generation())
                }
            };
            // It may have waited.
            instance.see_round(broker, time::Coarse::now());
            code
        });
        state::write_log(broker, userdata);
        code.unwrap_or(codes::AUTH)
    })
}

/// Returns whether an event is about a session that stays as it is: one that the broker certainly rechecks, or one that
/// was restored from disk. The latter has no rights until its client signs in.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
unsafe fn stays(
    broker: &Broker,
    userdata: *mut c_void,
    event: *const abi::mosquitto_evt_basic_auth,
    origin: Origin,
) -> bool {
    // SAFETY: the caller's promise.
    let Some(session) = (unsafe { event::session(broker, event) }) else {
        return false;
    };
    let stays = state::with(broker, userdata, |instance, common| {
        instance.stirred = true;
        let (id, name) = (session.client_id, session.username);
        session.is_restored
            || origin == Origin::Recheck && common.stays(session.key, id, name, time::now())
    });
    stays == Some(true)
}

fn basic_auth(
    broker: &Broker,
    instance: &mut Instance,
    common: &mut Common,
    client: host::ClientRef<'_>,
    connect: &Connect<'_>,
) -> c_int {
    instance.answers.forget(connect.key.0);
    let mut step = instance.policy.authenticate(common, connect, time::now());
    if let Step::Wait(wait) = step {
        let delay_obstacle = may_delay(broker, instance, client, connect)
            .then(|| instance.policy.delay_obstacle(common, &wait));
        step = match delay_obstacle {
            Some(None) => {
                return delay(broker, instance, common, client, connect.client.id, wait);
            }
            Some(Some(why)) if wait.is_login() => {
                let policy = &mut instance.policy;
                Step::Refuse(policy.postpone(common, wait, why, time::now()))
            }
            // Also a token that waits for its key: that is seldom, and does not take long.
            Some(Some(_)) | None => {
                let began = time::Coarse::now();
                let step = instance.policy.wait(common, wait, time::now);
                instance.stood_still(began);
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
                let policy = &mut instance.policy;
                policy.refuse_username(connect.client.id, time::now());
                return codes::AUTH;
            }
            // 2.0 holds no CONNECT, so nothing waits under a client ID.
            if broker.generation() == Generation::V2_1 {
                common.has_used(connect.client.id);
            }
            common.admit(admission);
            codes::SUCCESS
        }
        Step::Wait(_) => unreachable!("a wait has an end"),
    }
}

/// Whether the broker takes the answer later; whether this client may wait for it is
/// [`Engine::delay_obstacle`](auth::policy::Engine::delay_obstacle)'s to say.
///
/// 2.1 does, but not on SIGHUP, where everything but SUCCESS disconnects (it asks then about clients
/// that it knows). And not for MQTT 5, unless an operator who trusts his network says so: a client
/// that hangs up while it waits leaves its delayed will behind in freed memory, and two of them end
/// the broker (2.1.2, src/context.c and src/will_delay.c). The plugin cannot see a will. Nor while a
/// reload is due ([`sighup`]), nor when the tick that would bring the answer may not come.
fn may_delay(
    broker: &Broker,
    instance: &Instance,
    client: host::ClientRef<'_>,
    connect: &Connect<'_>,
) -> bool {
    broker.generation() == Generation::V2_1
        && (broker.protocol_version(client) < 5 || instance.policy.delays_mqtt5())
        && !connect.may_be_recheck
        && !sighup::is_due()
        && !instance.ticks_are_late()
}

fn delay(
    broker: &Broker,
    instance: &mut Instance,
    common: &mut Common,
    client: host::ClientRef<'_>,
    client_id: &str,
    wait: Box<Wait>,
) -> c_int {
    // Now, because later nobody knows whether the client is still there. It comes in only if its
    // token turns out to be good, and then this is what it says.
    if let Some(username) = &wait.username
        && !broker.set_username(client, username)
    {
        instance.policy.refuse_username(client_id, time::now());
        return codes::AUTH;
    }
    match instance.policy.delay(common, wait, time::now()) {
        Ok(()) => codes::AUTH_DELAYED,
        Err(refusal) => codes::refusal(refusal.reason.told(), broker.generation()),
    }
}

/// Answers the clients whose CONNECT the broker holds. It asks about messages that wait for them before it returns.
fn answer_pending(broker: &Broker, userdata: *mut c_void, answers: Vec<DelayedAnswer>) {
    for DelayedAnswer {
        client_id,
        admission,
    } in answers
    {
        let Some(admission) = admission else {
            broker.complete(&client_id, codes::AUTH);
            continue;
        };
        let client = admission.key;
        // It is in already: another connection at the address of one that hung up while it waited.
        if broker.has_client(&client_id, client.0) == Some(true) {
            continue;
        }
        let older = state::with(broker, userdata, |_, common| {
            common.has_used(&client_id);
            common.admit(admission)
        });
        broker.complete(&client_id, codes::SUCCESS);
        if broker.has_client(&client_id, client.0) != Some(true) {
            state::with(broker, userdata, |instance, common| {
                instance.answers.forget(client.0);
                common.retract(client, older.flatten());
            });
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
        // SAFETY: the event that belongs to this callback.
        let Some(access) = (unsafe { event::access(broker, data.cast()) }) else {
            return codes::ACL_DENIED;
        };
        let check = MessageCheck::of(&access);
        let answer = state::with(broker, userdata, |instance, common| {
            let now = instance.round.now();
            if let Some(check) = &check
                && instance.answers.allows(check, now)
            {
                return (Decision::Allow { until: now }, true);
            }
            let decision = instance.policy.authorize(common, &access, now);
            if let (Decision::Allow { until }, Some(check)) = (decision, &check) {
                instance.answers.keep(check, now, until);
            }
            (decision, instance.ticks)
        });
        let Some((decision, ticks)) = answer else {
            return codes::ACL_DENIED;
        };
        // Lines wait for the tick: logging from here comes back here with `log_dest topic`. On
        // the broker that never ticks, a client's own packet is the next best moment; a delivery
        // never is, because the broker is walking its tree of subscriptions.
        if decision == Decision::Deny && !ticks && access.action != Action::Receive {
            state::write_log(broker, userdata);
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
    unsafe { gone(data, userdata, Some(AfterDisconnect::Kept)) }
}

/// # Safety
///
/// `data` and `userdata` belong to one callback of the broker's.
unsafe fn gone(
    data: *mut c_void,
    userdata: *mut c_void,
    after_disconnect: Option<AfterDisconnect>,
) -> c_int {
    guard::enter(codes::SUCCESS, |broker| {
        provoke("disconnect");
        // SAFETY: the caller's promise.
        let Some(client) = (unsafe { event::gone(data.cast()) }) else {
            return codes::SUCCESS;
        };
        let after_disconnect = after_disconnect.unwrap_or_else(|| match broker.generation() {
            // 2.1 says CLIENT_OFFLINE for a session that it keeps; of one that it does not keep it
            // may still send the will, after the delay that an MQTT 5 client asked for.
            Generation::V2_1 if broker.protocol_version(client) >= 5 => AfterDisconnect::Will,
            Generation::V2_1 => AfterDisconnect::Ended,
            Generation::V2_0 if !broker.clean_session(client) => AfterDisconnect::Kept,
            Generation::V2_0 if broker.protocol_version(client) < 5 => AfterDisconnect::Ended,
            Generation::V2_0 if !broker.has_subscriptions(client) => AfterDisconnect::Will,
            Generation::V2_0 => AfterDisconnect::Unsure,
        });
        state::with(broker, userdata, |instance, common| {
            let now = time::now();
            instance.stirred = true;
            if let Some(client_id) = broker.client_id(client) {
                match broker.has_client(client_id, client.address()) {
                    Some(true) => common.has_used(client_id),
                    Some(false) => {
                        let address = broker.address(client);
                        instance.policy.hung_up(common, client_id, address, now);
                    }
                    // 2.0 holds nobody.
                    None => {}
                }
            }
            instance.answers.forget(client.address());
            let client = auth::client::ClientKey(client.address());
            instance.policy.leave(common, client, after_disconnect, now);
        });
        codes::SUCCESS
    })
}

unsafe extern "C" fn on_tick(_event: c_int, data: *mut c_void, userdata: *mut c_void) -> c_int {
    guard::enter(codes::SUCCESS, |broker| {
        // SAFETY: the event that belongs to this callback.
        unsafe { ticks::request_next(data.cast()) };
        provoke("tick");
        let due = state::with(broker, userdata, |instance, _| {
            let round = time::Coarse::now();
            let due = instance.has_work(round);
            if due {
                instance.ticks = true;
                instance.see_round(broker, round);
            }
            due
        });
        if due == Some(true) {
            tick(broker, userdata);
        }
        codes::SUCCESS
    })
}

/// What a tick does, if there is anything to do.
fn tick(broker: &Broker, userdata: *mut c_void) {
    // Before anybody is answered: a client that waits may have hung up in this very round.
    state::with(broker, userdata, |instance, common| {
        if sighup::tick_begins(common.somebody_waits()) {
            instance.log.line(
                Level::Info,
                "SIGHUP is acted on when those are answered who wait for the tenant",
            );
        }
    });
    // So that a fault below is explained at the next tick at the latest.
    state::write_log(broker, userdata);
    state::follow_clock(broker);
    let now = time::now();
    let answers = state::with(broker, userdata, |instance, common| {
        recheck::end(broker);
        instance.policy.end_recheck(common);
        if instance.policy.finish_reload() {
            instance.answers.forget_all();
            instance.trim_soon();
        }
        instance.reap(common, now);
        instance.policy.tell_repeats(now);
        for (client, client_id) in common.wills() {
            if broker.has_client(&client_id, client.0) == Some(false) {
                common.forget(client);
            }
        }
        instance.policy.collect(common, time::now())
    });
    answer_pending(broker, userdata, answers.unwrap_or_default());
    disconnect_expired(broker, userdata, now);
    state::write_log(broker, userdata);
    sighup::tick_ends();
}

/// Disconnects the clients whose rights have ended.
fn disconnect_expired(broker: &Broker, userdata: *mut c_void, now: Unix) {
    let expired = state::with(broker, userdata, |instance, common| {
        instance.policy.expire(common, now)
    });
    for (client, client_id) in expired.unwrap_or_default() {
        // It is leaving from here on: the kick has the broker ask about each subscription of a
        // kept session, and drop those that are denied.
        state::with(broker, userdata, |instance, common| {
            instance.answers.forget(client.0);
            let policy = &mut instance.policy;
            policy.leave(common, client, AfterDisconnect::Kept, now);
        });
        if !broker.kick(&client_id) {
            state::with(broker, userdata, |_, common| common.forget(client));
        }
    }
}

unsafe extern "C" fn on_reload(_event: c_int, _data: *mut c_void, userdata: *mut c_void) -> c_int {
    // Anything but SUCCESS ends a 2.1 broker (src/plugin_reload.c).
    guard::enter(codes::SUCCESS, |broker| {
        provoke("reload");
        sighup::reloaded();
        state::with(broker, userdata, |instance, common| {
            instance.stirred = true;
            recheck::begin(broker, instance.ticks);
            if broker.generation() == Generation::V2_0 {
                common.begin_recheck();
            }
            instance.policy.reload(common, instance.ticks);
            instance.trim_soon();
            let changed = instance.on_disk.as_ref().map(OnDisk::changed);
            if let Some(changed) = changed.filter(|changed| !changed.is_empty()) {
                instance.log.line(
                    Level::Warning,
                    format!(
                        "the configuration on disk is not what runs, in {}: a reload changes no options; fix: \
                         restart the broker",
                        changed.join(", ")
                    ),
                );
            }
            instance.answers.forget_all();
        });
        state::write_log(broker, userdata);
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
