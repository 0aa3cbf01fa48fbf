//! The entry points: what the broker calls to load and to unload the plugin.

use std::ffi::{CStr, c_int, c_void};

use crate::{
    abi,
    callbacks::{on_acl_check, on_basic_auth},
    codes::{self, Generation},
    control, event,
    events::{on_client_offline, on_disconnect, on_reload, on_tick},
    extended_auth, guard,
    host::{self, Broker},
    messages::{LoadError, Notice},
    quirks::{lost_sighup, sighup},
    state, time,
};
use auth::{config::mosquitto_conf::MosquittoConf, log::Level, policy_file::BrokerFeatures};

/// The version of the plugin interface that is used.
const INTERFACE: c_int = 5;

/// Returns the version of the plugin interface, or -1 if the broker does not support it (mosquitto_plugin.h).
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
    // SAFETY: the broker passes an array of `count` numbers; it is neither NULL nor empty.
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
/// A broker calls it on its main thread, with the plugin's identifier, a place for the userdata and the options.
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
        // SAFETY: the broker passes the array of its options and their number.
        let options = unsafe { event::options(options, option_count) };
        match start(broker, identifier, options) {
            Ok(instance) => {
                state::write_log(broker, instance);
                // SAFETY: `userdata` is not NULL, and the broker passes a place that can be written to.
                unsafe { *userdata = instance };
                if broker.generation() == Generation::V2_1 {
                    sighup::block();
                }
                codes::SUCCESS
            }
            Err(why) => {
                broker.log(Level::Error, &why.to_string());
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

/// Builds the state, then registers the callbacks, then starts threads. Callbacks may come as soon as the first is
/// registered, because the broker logs, and with `log_dest topic` each line is checked. A thread must not outlive a
/// start that failed, after which 2.0 calls no cleanup.
fn start(
    broker: &Broker,
    identifier: *mut abi::mosquitto_plugin_id_t,
    options: Result<Vec<(String, String)>, LoadError>,
) -> Result<*mut c_void, LoadError> {
    provoke("init");
    let (userdata, shared) = state::obtain(broker, options?)?;
    match register(broker, identifier, userdata, shared) {
        Ok(()) => Ok(userdata),
        Err(why) => {
            // The broker exits, and 2.0 cleans up neither this instance nor those before it. Callbacks may still come
            // until the process ends: the broker logs the failure, and with `log_dest topic` that line is checked.
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
) -> Result<(), LoadError> {
    let register_for = |event, topic: Option<&CStr>, callback: host::Callback| {
        // SAFETY: the identifier is the broker's. The callbacks take any number as the userdata.
        unsafe { broker.register(identifier, event as c_int, topic, callback, userdata) }
    };
    let register = |event, callback: host::Callback| register_for(event, None, callback);
    // SAFETY: it only stores the address of the callback.
    let basic_auth = unsafe { abi::mosquitto_auth0_noting_caller(Some(on_basic_auth)) };
    match register(
        abi::MOSQ_EVT_BASIC_AUTH,
        basic_auth.unwrap_or(on_basic_auth),
    ) {
        codes::SUCCESS => {}
        // 2.0 has one set of plugins for all listeners, and two of them name this one.
        codes::ALREADY_EXISTS if shared => {
            let notice = Notice::NamedTwice;
            broker.log(notice.level(), &notice.to_string());
            return Ok(());
        }
        codes::ALREADY_EXISTS => return Err(LoadError::DifferentOptions),
        code => return Err(LoadError::NoBasicAuth(code)),
    }
    register_others(register)?;
    // 2.1 only. 2.0 answers NOT_SUPPORTED, and sends DISCONNECT in both cases.
    register(abi::MOSQUITTO_AUTH0_EVT_CLIENT_OFFLINE, on_client_offline);

    let others = control::register(|topic, callback| {
        register_for(abi::MOSQ_EVT_CONTROL, Some(topic), callback)
    });
    // 2.1 has one callback for each topic, so that of the first instance does it for all.
    if others && !shared && state::is_alone(broker) {
        let notice = Notice::NoControl;
        broker.log(notice.level(), &notice.to_string());
    }

    if shared {
        return Ok(());
    }
    let started = state::with(broker, userdata, |instance, common| {
        let conf = MosquittoConf::own();
        let users = instance.local_users(&conf);
        instance.engine.warn_of_local_users(&users);
        instance.engine.warn_of_missing_others(&users);
        instance.engine.set_local_users(&users);
        let features = BrokerFeatures {
            // 2.1 restores sessions for other plugins too, and says which it has.
            restores_nothing: broker.generation() == Generation::V2_0 && conf.has_no_persistence(),
            ..broker.features()
        };
        let started = instance.engine.start(common, features);
        started.map_err(|why| why.to_string())
    });
    Ok(started.expect("it was obtained above")?)
}

/// Registers for the events beside basic auth that every broker offers.
fn register_others(register: impl Fn(u32, host::Callback) -> c_int) -> Result<(), LoadError> {
    for (event, callback) in [
        (abi::MOSQ_EVT_ACL_CHECK, on_acl_check as host::Callback),
        (abi::MOSQ_EVT_EXT_AUTH_START, extended_auth::on_start),
        (abi::MOSQ_EVT_EXT_AUTH_CONTINUE, extended_auth::on_continue),
        (abi::MOSQ_EVT_DISCONNECT, on_disconnect),
        (abi::MOSQ_EVT_TICK, on_tick),
        (abi::MOSQ_EVT_RELOAD, on_reload),
    ] {
        match register(event, callback) {
            codes::SUCCESS => {}
            code => return Err(LoadError::NoEvent { event, code }),
        }
    }
    Ok(())
}

/// Stops the plugin (mosquitto_plugin.h). 2.1 calls this even after a start that failed.
///
/// # Safety
///
/// A broker calls it on its main thread.
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
                instance.engine.tell_last_repeats(time::now());
            });
            state::write_log(broker, userdata);
            state::release(broker, userdata);
            sighup::unblock();
            lost_sighup::let_go();
        }
        codes::SUCCESS
    })
}

/// Panics where a test wants it. Only in a build with the feature `provoke`, which no package has.
#[cfg(feature = "provoke")]
pub fn provoke(place: &str) {
    if std::env::var("MOSQUITTO_AUTH0_PROVOKE").is_ok_and(|wanted| wanted == place) {
        panic!("provoked in {place}");
    }
}

#[cfg(not(feature = "provoke"))]
pub fn provoke(_place: &str) {}
