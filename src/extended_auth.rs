//! The callbacks of extended authentication (MQTT 5): a CONNECT with an authentication method, and AUTH packets.
//!
//! [`auth::engine`] (`exchange.rs`) says what an exchange is, and why some packets must not be refused. The broker
//! compares the method of each AUTH packet with that of the CONNECT.

use std::ffi::{c_int, c_void};

use crate::{
    callbacks, codes,
    entry::provoke,
    event, guard,
    host::Broker,
    quirks::second_connack,
    state::{self, Instance},
    time,
};
use auth::engine::{AuthPacket, Common, ExchangeStep, PresentedToken};

/// # Safety
///
/// Only the broker calls it, with the event and the userdata of this callback.
pub unsafe extern "C" fn on_start(
    _event: c_int,
    data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    // An exchange begins, so a refusal is always safe.
    guard::enter(codes::AUTH, |broker| {
        provoke("ext_auth_start");
        // SAFETY: the broker calls this with an event of extended authentication, or with NULL.
        let code = unsafe { exchange(broker, data.cast(), userdata, true) };
        code.unwrap_or(codes::AUTH)
    })
}

/// # Safety
///
/// Only the broker calls it, with the event and the userdata of this callback.
pub unsafe extern "C" fn on_continue(
    _event: c_int,
    data: *mut c_void,
    userdata: *mut c_void,
) -> c_int {
    // Where it is unknown whether there is an exchange, every other answer is unsafe.
    guard::enter(codes::AUTH_CONTINUE, |broker| {
        provoke("ext_auth_continue");
        // SAFETY: the broker calls this with an event of extended authentication, or with NULL.
        let code = unsafe { exchange(broker, data.cast(), userdata, false) };
        code.unwrap_or(codes::AUTH_CONTINUE)
    })
}

/// Begins or continues an exchange. Returns `None` if the event cannot be read.
///
/// # Safety
///
/// `event` is NULL or a live event of the broker's.
unsafe fn exchange(
    broker: &Broker,
    event: *mut crate::abi::mosquitto_evt_extended_auth,
    userdata: *mut c_void,
    begins: bool,
) -> Option<c_int> {
    state::follow_clock(broker);
    let step = state::with(broker, userdata, |instance, common| {
        instance.has_news = true;
        let engine = &instance.engine;
        // SAFETY: the caller promises that `event` is a live event or NULL.
        let packet = unsafe {
            event::auth_packet(
                broker,
                event,
                engine.looks_at_certificates(),
                engine.trusted_proxies(),
            )
        };
        let (client, packet) = packet?;
        callbacks::prepare(instance, common);
        let engine = &mut instance.engine;
        let now = time::now();
        let step = match begins {
            true => engine.begin_exchange(common, &packet, now),
            false => engine.continue_exchange(common, &packet, now),
        };
        let step = match step {
            ExchangeStep::SignIn(presented) => {
                match sign_in(broker, instance, common, client, &packet, presented) {
                    Ok(code) => return Some(Err(code)),
                    Err(refused) => refused,
                }
            }
            step => step,
        };
        instance.refresh_message_time(broker, time::Coarse::now());
        Some(Ok(step))
    });
    let code = match step.flatten()? {
        Err(code) => code,
        Ok(ExchangeStep::Defer) => codes::DEFER,
        Ok(ExchangeStep::Renewed) => codes::SUCCESS,
        Ok(ExchangeStep::Continue(data)) => {
            // SAFETY: the caller promises that `event` is a live event or NULL.
            unsafe { event::answer_auth_packet(event, &data) };
            codes::AUTH_CONTINUE
        }
        Ok(ExchangeStep::Refuse { is_renewal: true }) => second_connack::refusal(broker),
        Ok(ExchangeStep::Refuse { .. } | ExchangeStep::SignIn(_)) => codes::AUTH,
    };
    // Not before the answer is known: with `log_dest topic` logging calls back.
    state::write_log(broker, userdata);
    Some(code)
}

/// Signs a client in that presented a token. Returns the broker's code.
///
/// # Errors
///
/// Returns how the client is refused.
fn sign_in(
    broker: &Broker,
    instance: &mut Instance,
    common: &mut Common,
    client: crate::host::ClientRef<'_>,
    packet: &AuthPacket,
    presented: PresentedToken,
) -> Result<c_int, ExchangeStep> {
    let connect = packet.connect(&presented.token, presented.presented.clone());
    let result = callbacks::sign_in(broker, instance, common, client, &connect);
    drop(connect);
    result.map_err(|refusal| {
        let engine = &mut instance.engine;
        engine.refuse_exchange(common, packet, presented, &refusal)
    })
}
