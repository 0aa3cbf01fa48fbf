//! 2.0 asks about a CONNECT and about a recheck in the same words.
//!
//! **The bug.** On SIGHUP 2.0 checks every session again. It sends the same basic-auth event as for a CONNECT, and
//! nothing in the event tells the two apart. They must be answered differently: a recheck of a session whose client is
//! away must never be refused (see the table in [`super`]), and a CONNECT must not get what a session may keep. The
//! time since the reload does not tell either: over websockets CONNECTs come in between, and 2.0.11 with
//! `per_listener_settings true` never ticks, so nothing says that the reload is over.
//!
//! **The workaround.** The two events come from two places in the broker's code: `handle__connect` and
//! `mosquitto_security_apply_default` both call `mosquitto_unpwd_check`. The C shim notes the return addresses of the
//! current call. This file learns what a CONNECT looks like while nothing is being reloaded, and compares later.
//! A broker without unwind tables shows no return addresses. Then no event is taken for a CONNECT here.
//!
//! **Versions.** All of 2.0. 2.1 says which clients it has, so its events can be told apart.
//!
//! **Proof.** `cargo test --test e2e sanitized::sighup::connects_and_rechecks_come_from_different_callers`.
//!
//! **Delete it** when 2.0 is no longer supported.

use std::sync::OnceLock;

use crate::abi;

/// The return addresses of the broker's caller and of its caller. They are compared, never followed.
#[derive(PartialEq, Eq)]
struct CallSite(usize, usize);

/// The call site of a CONNECT.
static CONNECT: OnceLock<CallSite> = OnceLock::new();

/// The call site of a CONNECT over TCP. A compiler that inlines the broker's functions may make two of them.
static CONNECT_OVER_TCP: OnceLock<CallSite> = OnceLock::new();

fn call_site() -> Option<CallSite> {
    // SAFETY: it looks at this thread's stack only.
    let site = unsafe { abi::mosquitto_auth0_called_from() };
    (site.callers_caller != 0).then_some(CallSite(site.caller, site.callers_caller))
}

/// Notes that the current event is a CONNECT. After the first time this costs nothing.
pub fn learn_connect(over_tcp: bool) {
    for known in [Some(&CONNECT), over_tcp.then_some(&CONNECT_OVER_TCP)] {
        if let Some(known) = known.filter(|known| known.get().is_none())
            && let Some(site) = call_site()
        {
            let _ = known.set(site);
        }
    }
}

/// Returns whether the call site of a CONNECT is known.
pub fn knows_connect() -> bool {
    CONNECT.get().is_some()
}

/// Returns whether the current event is a CONNECT, as far as can be seen.
pub fn is_connect() -> bool {
    CONNECT
        .get()
        .is_some_and(|connect| call_site().as_ref() == Some(connect))
}

/// Returns whether the current event, about a client that is not connected over websockets, is certainly a recheck.
pub fn is_recheck() -> bool {
    CONNECT_OVER_TCP
        .get()
        .is_some_and(|connect| call_site().is_some_and(|site| site != *connect))
}
