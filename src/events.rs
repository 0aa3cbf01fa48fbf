//! The callbacks that only tell: a client has gone, the broker ticks, SIGHUP has come.

use std::{
    ffi::{c_int, c_void},
    sync::Arc,
    time::Duration,
};

use crate::{
    codes::{self, Generation},
    control,
    entry::provoke,
    event::{self, EventClient},
    guard,
    host::Broker,
    messages::Notice,
    quirks::{lost_sighup, recheck, sighup, ticks},
    state::{self, Instance},
    time,
};
use auth::{
    client::ClientKey,
    clock::{Deadline, Unix},
    config::{mosquitto_conf::MosquittoConf, on_disk::OnDisk},
    control::EXPIRY,
    engine::{Common, DelayedAnswer, Warning, collect_metrics},
    metrics::sys_topics::MetricMessage,
    sessions::AfterDisconnect,
};

/// How long a tick may spend on saved sessions before it stops taking further ones. One takes about 2 µs if devices
/// share their rights.
const SAVED_SESSIONS_BUDGET: Duration = Duration::from_millis(1);

/// # Safety
///
/// Only the broker calls it, with the event and the userdata of this callback.
pub unsafe extern "C" fn on_disconnect(
    _event: c_int,
    data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    // SAFETY: the broker calls this with a DISCONNECT event, or with NULL.
    unsafe { gone(data, userdata, None) }
}

/// # Safety
///
/// Only the broker calls it, with the event and the userdata of this callback.
pub unsafe extern "C" fn on_client_offline(
    _event: c_int,
    data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    // SAFETY: the broker calls this with a CLIENT_OFFLINE event, which has the layout of DISCONNECT, or with NULL.
    unsafe { gone(data, userdata, Some(AfterDisconnect::Kept)) }
}

/// # Safety
///
/// `data` is NULL or a live DISCONNECT event of the broker's, or another one with that layout.
unsafe fn gone(
    data: *mut c_void,
    userdata: *mut c_void,
    after_disconnect: Option<AfterDisconnect>,
) -> c_int {
    guard::enter(codes::SUCCESS, |broker| {
        provoke("disconnect");
        // SAFETY: the caller promises that `data` is such an event or NULL.
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
            Generation::V2_0 if broker.subscriptions(client) == Some(0) => AfterDisconnect::Will,
            Generation::V2_0 => AfterDisconnect::Unsure,
        });
        state::with(broker, userdata, |instance, common| {
            let now = time::now();
            instance.has_news = true;
            if let Some(client_id) = broker.client_id(client) {
                match broker.has_client(client_id, client.address()) {
                    Some(true) => common.has_used(client_id),
                    Some(false) => {
                        let address = broker.address(client);
                        instance.engine.hung_up(common, client_id, address, now);
                    }
                    // 2.0 holds nobody.
                    None => {}
                }
            }
            let key = ClientKey(client.address());
            // 2.1 was asked before.
            if broker.generation() == Generation::V2_0 && broker.was_restored(client) {
                let engine = &instance.engine;
                engine.restored_is_resumed(common, key, &EventClient { broker, client });
            }
            common.will_be_rechecked(key, &EventClient { broker, client });
            instance.engine.leave(common, key, after_disconnect, now);
        });
        codes::SUCCESS
    })
}

/// # Safety
///
/// Only the broker calls it, with the event and the userdata of this callback.
pub unsafe extern "C" fn on_tick(_event: c_int, data: *mut c_void, userdata: *mut c_void) -> c_int {
    guard::enter(codes::SUCCESS, |broker| {
        // SAFETY: the broker calls this with a TICK event, or with NULL.
        unsafe { ticks::request_next(data.cast()) };
        provoke("tick");
        let due = state::with(broker, userdata, |instance, _| {
            let now = time::Coarse::now();
            let due = instance.has_work(now);
            if due {
                instance.ticks = true;
                instance.refresh_message_time(broker, now);
            }
            due
        });
        if due == Some(true) {
            tick(broker, userdata);
        }
        codes::SUCCESS
    })
}

/// What a tick does, if there is anything to do. On a busy 2.0 broker most ticks do not get here.
#[inline(never)]
fn tick(broker: &Broker, userdata: *mut c_void) {
    lost_sighup::let_go();
    // Before anybody is answered: a client that waits may have hung up in this very round.
    state::with(broker, userdata, |instance, common| {
        if sighup::tick_begins(common.somebody_waits()) {
            instance.tell(&Notice::SighupDelayed);
        }
    });
    // So that a fault below is explained at the next tick at the latest.
    state::write_log(broker, userdata);
    state::follow_clock(broker);
    let now = time::now();
    let answers = state::with(broker, userdata, |instance, common| {
        recheck::end(broker);
        instance.reloaded = false;
        instance.engine.end_recheck(common);
        if instance.engine.finish_reload(common) {
            instance.trim_soon();
        }
        instance.reap(common, now);
        instance.engine.tell_repeats(now);
        for (client, client_id) in common.wills() {
            if broker.has_client(&client_id, client.0) == Some(false) {
                common.forget(client);
            }
        }
        check_saved(broker, instance, common, now);
        instance.engine.collect(common, time::now())
    });
    answer_pending(broker, userdata, answers.unwrap_or_default());
    warn(broker, userdata, now);
    control::tick(broker, userdata, now);
    follow_keys(broker, userdata, now);
    disconnect_expired(broker, userdata, now);
    disconnect_out_of_place(broker, userdata, now);
    remove_uncovered(broker, userdata, now);
    publish_metrics(broker, userdata, now);
    state::write_log(broker, userdata);
    sighup::tick_ends();
}

/// Checks some of the sessions that were saved before the broker started. Forgets those that the broker does not have,
/// and makes the rights of the others, so that a message to all of them does not have to. Does nothing on 2.0, which
/// does not say which sessions it has.
fn check_saved(broker: &Broker, instance: &mut Instance, common: &mut Common, now: Unix) {
    let end = Deadline::after(SAVED_SESSIONS_BUDGET);
    while !end.has_passed()
        && let Some(client_id) = common.next_saved()
        && let Some(holder) = broker.holder(&client_id)
    {
        match holder.client() {
            None => common.forget_saved(&client_id),
            Some(client) => {
                let key = ClientKey(client.address());
                let client = EventClient { broker, client };
                instance.engine.make_ready(common, key, &client, now);
            }
        }
    }
}

/// Ends the rights of clients whose signing key was revoked. It comes after delayed clients are let in: what they
/// brought may have been verified before that.
fn follow_keys(broker: &Broker, userdata: *mut c_void, now: Unix) {
    state::with(broker, userdata, |instance, common| {
        instance.engine.follow_keys(common, now);
    });
}

/// Tells clients that their rights end soon.
fn warn(broker: &Broker, userdata: *mut c_void, now: Unix) {
    let warnings = state::with(broker, userdata, |instance, common| {
        instance.engine.warnings(common, now)
    });
    for Warning { client_id, payload } in warnings.unwrap_or_default() {
        broker.publish_to(&client_id, EXPIRY, payload.as_bytes());
    }
}

/// Disconnects clients whose rights have ended.
fn disconnect_expired(broker: &Broker, userdata: *mut c_void, now: Unix) {
    let expired = state::with(broker, userdata, |instance, common| {
        instance.engine.expire(common, now)
    });
    disconnect(broker, userdata, expired.unwrap_or_default(), now);
}

/// Disconnects the clients that sent an AUTH packet where the broker must not answer it.
fn disconnect_out_of_place(broker: &Broker, userdata: *mut c_void, now: Unix) {
    let clients = state::with(broker, userdata, |instance, common| {
        instance.engine.take_out_of_place(common)
    });
    disconnect(broker, userdata, clients.unwrap_or_default(), now);
}

/// Removes the subscriptions that renewed rights no longer cover. 2.0 cannot: there each message is denied.
fn remove_uncovered(broker: &Broker, userdata: *mut c_void, now: Unix) {
    let uncovered = state::with(broker, userdata, |instance, common| {
        instance.engine.take_uncovered(common, now)
    });
    for (client_id, filter) in uncovered.unwrap_or_default() {
        broker.unsubscribe(&client_id, &filter);
    }
}

/// Publishes the metrics of all instances, when it is time. The broker delivers the messages in its next round, and
/// forgets them when it stops.
fn publish_metrics(broker: &Broker, userdata: *mut c_void, now: Unix) {
    let is_due = state::with(broker, userdata, |_, common| common.metrics_are_due());
    if is_due == Some(true) {
        publish(broker, now);
    }
}

/// Does the same at a CONNECT, where no tick does it. A broker that never ticks publishes its metrics late while no
/// client comes.
pub fn publish_metrics_without_ticks(broker: &Broker, userdata: *mut c_void, now: Unix) {
    let is_due = state::with(broker, userdata, |instance, common| {
        !instance.ticks && common.metrics_are_due()
    });
    if is_due == Some(true) {
        publish(broker, now);
    }
}

fn publish(broker: &Broker, now: Unix) {
    let messages = state::with_all(broker, |engines, common| {
        collect_metrics(engines, common, now)
    });
    for MetricMessage { topic, payload } in messages.unwrap_or_default() {
        broker.publish_retained(&topic, payload.as_bytes());
    }
}

/// Disconnects clients. One that is not connected any more is left alone: an earlier kick of this tick may have been of
/// the same client. Call it from a tick.
pub fn disconnect(
    broker: &Broker,
    userdata: *mut c_void,
    clients: Vec<(ClientKey, Arc<str>)>,
    now: Unix,
) {
    for (client, client_id) in clients {
        // It is leaving from here on: the kick has the broker ask about each subscription of a
        // kept session, and drop those that are denied.
        let leaves = state::with(broker, userdata, |instance, common| {
            let is_connected = common.is_connected(client, &client_id);
            if is_connected {
                let engine = &mut instance.engine;
                engine.leave(common, client, AfterDisconnect::Kept, now);
            }
            is_connected
        });
        if leaves == Some(true) && !broker.kick(&client_id) {
            state::with(broker, userdata, |_, common| common.forget(client));
        }
    }
}

/// Answers the clients whose CONNECT is delayed. The broker checks the messages that are queued for them before it
/// returns.
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
        // This client is in already. It has the address of one that hung up while it waited.
        if broker.has_client(&client_id, client.0) == Some(true) {
            continue;
        }
        let admitted = state::with(broker, userdata, |_, common| {
            common.has_used(&client_id);
            common.admit(admission)
        });
        broker.complete(&client_id, codes::SUCCESS);
        let is_in = broker.has_client(&client_id, client.0) == Some(true);
        state::with(broker, userdata, |_, common| match admitted {
            None => {}
            Some(admitted) if is_in => common.confirm(admitted),
            Some(admitted) => common.retract(admitted),
        });
    }
}

/// # Safety
///
/// Only the broker calls it, with the event and the userdata of this callback.
pub unsafe extern "C" fn on_reload(
    _event: c_int,
    _data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    // Anything but SUCCESS ends a 2.1 broker (src/plugin_reload.c).
    guard::enter(codes::SUCCESS, |broker| {
        provoke("reload");
        sighup::reloaded();
        state::with(broker, userdata, |instance, common| {
            instance.has_news = true;
            // The broker reads its files again, too.
            if instance.engine.leaves_users_to_others() {
                let users = instance.local_users(&MosquittoConf::own());
                instance.engine.set_local_users(&users);
            }
            recheck::begin(broker, instance.ticks);
            if broker.generation() == Generation::V2_0 {
                common.begin_recheck();
            }
            if broker.generation() == Generation::V2_0 && instance.ticks {
                lost_sighup::hold();
            }
            // Two SIGHUPs have a tick between them, where there are ticks.
            if instance.ticks && std::mem::replace(&mut instance.reloaded, true) {
                return;
            }
            instance.engine.reload(common, instance.ticks);
            instance.trim_soon();
            let changed = instance.on_disk.as_ref().map(OnDisk::changed);
            if let Some(changed) = changed.filter(|changed| !changed.is_empty()) {
                instance.tell(&Notice::OptionsChanged(changed));
            }
        });
        state::write_log(broker, userdata);
        codes::SUCCESS
    })
}
