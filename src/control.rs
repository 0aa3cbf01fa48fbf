//! Messages to the plugin's control topics, and what comes of them.
//!
//! The broker calls [`on_control`] after the ACL check, and passes the message on to nobody. On 2.1 only the instance
//! that registers first is called, for the clients of all instances. So the callback ignores its userdata, and goes to
//! the instance that admitted the client.

use std::ffi::{CStr, CString, c_int, c_void};

use crate::{
    codes,
    entry::provoke,
    event::{self, ControlMessage},
    events, guard,
    host::{Broker, Callback},
    state::{self, Instance},
    time,
};
use auth::{
    clock::Unix,
    control::{COMMANDS, COMMANDS_RESPONSE, RENEW, RENEW_RESPONSE},
    engine::{AdminAnswer, Administered, Common, RenewalAnswer, administer},
};

/// Registers for the control topics with `register`, which returns the broker's code. Returns whether another plugin
/// has one of them, or the broker none at all.
pub fn register(register: impl Fn(&CStr, Callback) -> c_int) -> bool {
    let topics = [COMMANDS, RENEW].map(|topic| CString::new(topic).expect("a topic has no NUL"));
    let codes = topics.map(|topic| register(&topic, on_control));
    codes.into_iter().any(|code| code != codes::SUCCESS)
}

/// # Safety
///
/// Only the broker calls it, with the event of this callback.
pub unsafe extern "C" fn on_control(
    _event: c_int,
    data: *mut c_void,
    _userdata: *mut c_void,
) -> c_int {
    // Anything but SUCCESS disconnects the client.
    guard::enter(codes::SUCCESS, |broker| {
        provoke("control");
        // SAFETY: the broker calls this with a CONTROL event, or with NULL.
        if let Some(message) = unsafe { event::control(broker, data.cast()) } {
            take(broker, &message);
        }
        codes::SUCCESS
    })
}

/// Takes a message. One of a client that this plugin did not admit is ignored.
fn take(broker: &Broker, message: &ControlMessage<'_>) {
    let Some(userdata) = state::admitted_by(broker, message.key, &message.client) else {
        return;
    };
    let now = time::now();
    state::follow_clock(broker);
    let ticks = state::with(broker, userdata, |instance, common| {
        instance.has_news = true;
        let ticks = instance.ticks;
        if message.topic == COMMANDS.as_bytes() {
            let (key, client) = (message.key, &message.client);
            let engine = &mut instance.engine;
            let answer = engine.command(common, key, client, message.payload, now);
            send(broker, answer);
        } else if message.topic == RENEW.as_bytes() {
            let answer = renew(broker, instance, common, message, now);
            send_renewals(broker, answer);
        }
        ticks
    });
    if ticks == Some(false) {
        let done = state::with_all(broker, |engines, common| administer(engines, common, false));
        send(broker, done.unwrap_or_default().answers);
        // It is the client's own packet, so this is no delivery.
        state::write_log(broker, userdata);
    }
}

/// Renews the rights of a client with the token that it has published.
fn renew(
    broker: &Broker,
    instance: &mut Instance,
    common: &mut Common,
    message: &ControlMessage<'_>,
    now: Unix,
) -> Option<RenewalAnswer> {
    let engine = &mut instance.engine;
    let client = message.client.client;
    let described = event::describe(
        broker,
        client,
        broker.client_id(client)?,
        engine.looks_at_certificates(),
        engine.trusted_proxies(),
    );
    let (key, payload) = (message.key, message.payload);
    engine.renew_published(common, key, &described.client, payload, instance.ticks, now)
}

/// Answers clients whose new token had to wait, and executes a part of the commands that wait. Call it from a tick.
pub fn tick(broker: &Broker, userdata: *mut c_void, now: Unix) {
    state::with(broker, userdata, |instance, common| {
        let answers = instance.engine.finished_published_renewals(common, now);
        send_renewals(broker, answers);
    });
    let done = state::with_all(broker, |engines, common| {
        for engine in engines.iter_mut() {
            engine.take_local_commands(common);
        }
        let waits = common.has_commands();
        waits.then(|| administer(engines, common, true))
    });
    let Some(Administered { kicks, answers }) = done.flatten() else {
        return;
    };
    // More may wait.
    state::with(broker, userdata, |instance, _| instance.has_news = true);
    send(broker, answers);
    events::disconnect(broker, userdata, kicks, now);
}

/// Sends answers to clients that published a new token.
fn send_renewals(broker: &Broker, answers: impl IntoIterator<Item = RenewalAnswer>) {
    for answer in answers {
        let json = answer.to_string();
        broker.publish_to(&answer.client_id, RENEW_RESPONSE, json.as_bytes());
    }
}

/// Sends answers, each to the administrator that it is for.
fn send(broker: &Broker, answers: impl IntoIterator<Item = AdminAnswer>) {
    for answer in answers {
        let json = answer.to_string();
        broker.publish_to(&answer.client_id, COMMANDS_RESPONSE, json.as_bytes());
    }
}
