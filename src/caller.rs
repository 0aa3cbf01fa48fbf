//! Whether 2.0 asks because of a CONNECT or because of SIGHUP.
//!
//! The question is the same, in the same words, and on SIGHUP it must not be answered as a CONNECT is: see
//! [`auth::sessions`]. That a reload is under way says little where no tick says that it is over (2.0.11 with
//! `per_listener_settings true`), and over websockets CONNECTs come in between. But the two questions come from
//! two places in the broker's code: `mosquitto_unpwd_check` is called by `handle__connect` and by
//! `mosquitto_security_apply_default`. What the first looks like is learnt at a CONNECT while nothing is reloaded.
//!
//! Where the places cannot be seen (a broker built without unwind tables), nothing is taken for a CONNECT here.

use std::sync::OnceLock;

use crate::abi;

/// Two return addresses: neither is looked at.
#[derive(PartialEq, Eq)]
struct Place(usize, usize);

static CONNECT: OnceLock<Place> = OnceLock::new();

/// That of one over TCP. A compiler that puts the broker's functions into each other may make two of them.
static OVER_TCP: OnceLock<Place> = OnceLock::new();

fn here() -> Option<Place> {
    // SAFETY: it looks at this thread's stack only.
    let place = unsafe { abi::mosquitto_auth0_called_from() };
    (place.callers_caller != 0).then_some(Place(place.caller, place.callers_caller))
}

/// The question that is being answered is because of a CONNECT. Once that was seen, this costs nothing.
pub fn learn_connect(over_tcp: bool) {
    for learnt in [Some(&CONNECT), over_tcp.then_some(&OVER_TCP)] {
        if let Some(learnt) = learnt.filter(|learnt| learnt.get().is_none())
            && let Some(place) = here()
        {
            let _ = learnt.set(place);
        }
    }
}

/// Whether it is known how a CONNECT looks.
pub fn knows_connect() -> bool {
    CONNECT.get().is_some()
}

/// Whether the question that is being answered is because of a CONNECT, as far as can be seen.
pub fn is_connect() -> bool {
    CONNECT
        .get()
        .is_some_and(|connect| here().as_ref() == Some(connect))
}

/// Whether the question that is being answered, about a client that is not connected over websockets, is certainly
/// not because of a CONNECT.
pub fn is_recheck() -> bool {
    OVER_TCP
        .get()
        .is_some_and(|connect| here().is_some_and(|place| place != *connect))
}
