//! The callbacks that answer: basic auth (may this client come in?) and the ACL check (may it do this?). Clients that
//! come with an authentication method are in [`extended_auth`](crate::extended_auth).
//!
//! Two rules hold here and in [`events`]. The state is closed while a function of the broker runs that
//! may call back: logging, disconnecting a client, letting a delayed client in. And a callback returns only SUCCESS,
//! a refusal that the running broker understands, ACL_DENIED, or DEFER.

use std::ffi::{c_int, c_void};

use crate::{
    codes::{self, Generation},
    entry::provoke,
    event::{self, EventClient},
    events, guard,
    host::{self, Broker},
    quirks::{recheck, sighup},
    state::{self, Instance},
    time,
};
use auth::{
    client::ClientKey,
    engine::{Action, Common, Connect, Decision, Step, Wait},
    refusal::Refusal,
    sessions::Origin,
};

/// # Safety
///
/// Only the broker calls it, with the event and the userdata of this callback.
pub unsafe extern "C" fn on_basic_auth(
    _event: c_int,
    data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    guard::enter(codes::AUTH, |broker| {
        provoke("basic_auth");
        // SAFETY: the broker calls this with a basic-auth event, or with NULL.
        let client = unsafe { event::client(data.cast()) };
        let (origin, holder) = client.map_or((Origin::Connect, None), |client| {
            recheck::origin(broker, client)
        });
        let is_recheck = matches!(origin, Origin::Recheck { .. });
        if is_recheck && client.is_some_and(|client| stays(broker, userdata, client)) {
            return codes::SUCCESS;
        }
        // On 2.0 a recheck of many sessions may take longer than it can be told from a CONNECT.
        let may_be_recheck =
            broker.generation() == Generation::V2_0 || !matches!(origin, Origin::Connect);
        // SAFETY: the broker calls this with a basic-auth event, or with NULL.
        if may_be_recheck && unsafe { event::is_about_restored_session(broker, data.cast()) } {
            // It has no rights until its client signs in.
            if let Some(client) = client {
                state::with(broker, userdata, |_, common| {
                    common.asked_about_restored(&EventClient { broker, client });
                });
            }
            return codes::SUCCESS;
        }
        state::follow_clock(broker);
        let code = state::with(broker, userdata, |instance, common| {
            instance.has_news = true;
            let engine = &mut instance.engine;
            // SAFETY: the broker calls this with a basic-auth event, or with NULL.
            let connect = unsafe {
                event::connect(
                    broker,
                    data.cast(),
                    (origin, holder),
                    engine.looks_at_certificates(),
                    engine.trusted_proxies(),
                )
            };
            prepare(instance, common);
            let code = match connect {
                Ok((client, connect)) => {
                    let result = sign_in(broker, instance, common, client, &connect);
                    result.unwrap_or_else(|refusal| {
                        codes::refusal(refusal.reason.connack_reason(), broker.generation())
                    })
                }
                Err(event::Unreadable {
                    client_id,
                    address,
                    refusal,
                }) => {
                    let engine = &mut instance.engine;
                    engine.report_unreadable(client_id, address, &refusal, time::now());
                    codes::refusal(refusal.reason.connack_reason(), broker.generation())
                }
            };
            // The sign-in may have waited.
            instance.refresh_message_time(broker, time::Coarse::now());
            code
        });
        state::write_log(broker, userdata);
        events::publish_metrics_without_ticks(broker, userdata, time::now());
        code.unwrap_or(codes::AUTH)
    })
}

/// Returns whether a session that the broker certainly rechecks stays as it is.
fn stays(broker: &Broker, userdata: *mut c_void, client: host::ClientRef<'_>) -> bool {
    let stays = state::with(broker, userdata, |instance, common| {
        instance.has_news = true;
        let key = ClientKey(client.address());
        common.stays(key, &EventClient { broker, client }, time::now())
    });
    stays == Some(true)
}

/// Does what has to be done before somebody signs in: ends what has ended, and takes what the tenant said meanwhile.
pub fn prepare(instance: &mut Instance, common: &mut Common) {
    let now = time::now();
    instance.reap(common, now);
    instance.engine.take_results(common, now);
    // Else a tick does it.
    if !instance.ticks {
        instance.engine.follow_keys(common, now);
    }
    instance.engine.tell_repeats(now);
}

/// Decides about a client that connects, and returns the broker's code for the decision.
///
/// # Errors
///
/// Returns why the client is refused.
pub fn sign_in(
    broker: &Broker,
    instance: &mut Instance,
    common: &mut Common,
    client: host::ClientRef<'_>,
    connect: &Connect<'_>,
) -> Result<c_int, Refusal> {
    let admission = match instance.engine.authenticate(common, connect, time::now()) {
        Step::Keep => return Ok(codes::SUCCESS),
        Step::Defer => return Ok(codes::DEFER),
        Step::Admit(admission) => admission,
        Step::Refuse(refusal) => return Err(refusal),
        Step::Wait(wait) => {
            let delay_obstacle = may_delay(broker, instance, client, connect)
                .then(|| instance.engine.delay_obstacle(common, &wait));
            match delay_obstacle {
                Some(None) => {
                    return delay(broker, instance, common, client, connect.client.id, wait);
                }
                Some(Some(why)) if wait.is_login() => {
                    return Err(instance.engine.postpone(common, wait, why, time::now()));
                }
                // This is also the way of a token that waits for its key, which is rare and short.
                Some(Some(_)) | None => {
                    let began = time::Coarse::now();
                    let result = instance.engine.wait(common, wait, time::now);
                    instance.exclude_wait(began);
                    result?
                }
            }
        }
    };
    if !broker.set_username(client, admission.username()) {
        let engine = &mut instance.engine;
        return Err(engine.refuse_username(connect.client.id, time::now()));
    }
    // 2.0 delays no CONNECT, so nobody waits under a client ID.
    if broker.generation() == Generation::V2_1 {
        common.has_used(connect.client.id);
    }
    let admitted = common.admit(admission);
    common.confirm(admitted);
    Ok(codes::SUCCESS)
}

/// Returns whether the broker can take the answer to this CONNECT later. Whether the client may wait for it is decided
/// by [`Engine::delay_obstacle`](auth::engine::Engine::delay_obstacle).
///
/// 2.0 cannot. 2.1 can, with these exceptions:
///
/// * On SIGHUP, where every answer but SUCCESS disconnects the client.
/// * For MQTT 5, unless the operator trusts the network and sets `delay_mqtt5`. A client that hangs up while it waits
///   leaves its delayed will in freed memory, and two of them crash the broker (2.1.2, src/context.c and
///   src/will_delay.c). The plugin cannot see a will.
/// * For extended authentication, whose answer cannot come later.
/// * While a reload is due ([`sighup`]).
/// * While the tick that would bring the answer may not come.
fn may_delay(
    broker: &Broker,
    instance: &Instance,
    client: host::ClientRef<'_>,
    connect: &Connect<'_>,
) -> bool {
    broker.generation() == Generation::V2_1
        && (broker.protocol_version(client) < 5 || instance.engine.delays_mqtt5())
        && connect.origin == Origin::Connect
        && !connect.presented.is_authentication_data()
        && !sighup::is_due()
        && !instance.ticks_are_late()
}

/// Has the client wait for the answer. Returns the broker's code for that.
///
/// # Errors
///
/// Returns why the client is refused.
fn delay(
    broker: &Broker,
    instance: &mut Instance,
    common: &mut Common,
    client: host::ClientRef<'_>,
    client_id: &str,
    wait: Box<Wait>,
) -> Result<c_int, Refusal> {
    // The user name is set now, because later nobody knows whether the client is still there. It comes in only if its
    // token is valid, and then this is the token's user name.
    if let Some(username) = &wait.username
        && !broker.set_username(client, username)
    {
        return Err(instance.engine.refuse_username(client_id, time::now()));
    }
    instance.engine.delay(common, wait, time::now())?;
    Ok(codes::AUTH_DELAYED)
}

/// # Safety
///
/// Only the broker calls it, with the event and the userdata of this callback.
pub unsafe extern "C" fn on_acl_check(
    _event: c_int,
    data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    guard::enter(codes::ACL_DENIED, |broker| {
        provoke("acl_check");
        // SAFETY: the event belongs to this callback.
        let Some(access) = (unsafe { event::access(broker, data.cast()) }) else {
            return codes::ACL_DENIED;
        };
        let answer = state::with(broker, userdata, |instance, common| {
            let now = instance.message_time.now();
            let decision = instance.engine.authorize(common, &access, now);
            (decision, instance.ticks)
        });
        let Some((decision, ticks)) = answer else {
            return codes::ACL_DENIED;
        };
        // Log lines wait for the tick, because with `log_dest topic` logging comes back here. On the broker that never
        // ticks they are written while it handles a client's own packet. During a delivery they are never written,
        // because the broker is walking its tree of subscriptions.
        if decision == Decision::Deny && !ticks && access.action != Action::Receive {
            state::write_log(broker, userdata);
        }
        match decision {
            Decision::Allow => codes::SUCCESS,
            Decision::Deny => codes::ACL_DENIED,
            Decision::Defer => codes::DEFER,
        }
    })
}
