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
    state, time,
};
use auth::{
    clock::Unix,
    control::{COMMANDS, COMMANDS_RESPONSE, RENEW},
    engine::{AdminAnswer, Administered, AnswerTo, administer},
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
    let answer = state::with(broker, userdata, |instance, common| {
        instance.has_news = true;
        let (key, client) = (message.key, &message.client);
        let engine = &mut instance.engine;
        let answer = match message.topic == COMMANDS.as_bytes() {
            true => engine.command(common, key, client, message.payload, now),
            false => None,
        };
        (answer, instance.ticks)
    });
    let Some((answer, ticks)) = answer else {
        return;
    };
    send(broker, answer);
    if !ticks {
        let done = state::with_all(broker, |engines, common| administer(engines, common, false));
        send(broker, done.unwrap_or_default().answers);
        // It is the client's own packet, so this is no delivery.
        state::write_log(broker, userdata);
    }
}

/// Executes a part of the commands that wait. Call it from a tick.
pub fn tick(broker: &Broker, userdata: *mut c_void, now: Unix) {
    let done = state::with_all(broker, |engines, common| {
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

/// Sends answers, each to the client that it is for.
fn send(broker: &Broker, answers: impl IntoIterator<Item = AdminAnswer>) {
    for answer in answers {
        match &answer.to {
            AnswerTo::Client(client_id) => {
                let json = answer.to_string();
                broker.publish_to(client_id, COMMANDS_RESPONSE, json.as_bytes());
            }
            AnswerTo::Local(_) => {}
        }
    }
}
