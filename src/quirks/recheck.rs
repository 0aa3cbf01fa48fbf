//! A CONNECT and a recheck look alike.
//!
//! **The bug.** On SIGHUP the broker checks every session again. It sends the same basic-auth event as for a CONNECT,
//! and nothing in the event tells the two apart. They must be answered differently: a recheck of a session whose client
//! is away must never be refused (see the table in [`super`]), and a CONNECT must not get what a session may keep. On
//! 2.0 the time since the reload does not tell either: over websockets CONNECTs come in between, and 2.0.11 with
//! `per_listener_settings true` never ticks, so nothing says that the reload is over.
//!
//! 2.1 can be asked which clients it has. That is a search by client ID, and takes longer than all the rest of a
//! recheck. A SIGHUP checks a whole fleet while nobody is served.
//!
//! **The workaround.** The two events come from two places in the broker's code, `handle__connect` and
//! `mosquitto_security_apply_default`. The C shim tells from which place the current event comes. This file learns the
//! two places and compares. A place counts as that of a recheck only when a CONNECT was seen to come from another one.
//!
//! * 2.0: an event while nothing is reloaded is a CONNECT. An event during a reload that comes from another place than
//!   a CONNECT over TCP does, about a client that is not connected over websockets, is a recheck. So is one about a
//!   client with subscriptions.
//! * 2.1: the broker is asked, until both places are known. After that it is asked about CONNECTs only.
//!
//! To learn a place, the stack is unwound. To compare with one that is known, a few words of the stack are read, on
//! x86-64. On other machines 2.0's stack is unwound at each recheck, and 2.1 is asked each time. A broker without
//! unwind tables shows no places: then no event of 2.0 is certainly a recheck.
//!
//! **Versions.** All of 2.0 and 2.1.
//!
//! **Proof.** `cargo test --test e2e sanitized::sighup::connects_and_rechecks_come_from_different_places`.
//!
//! **Delete it** when the oldest supported broker says in the event, or at little cost, that it is a recheck.

use std::time::Duration;

use auth::{clock::Deadline, proxies::AddressFrom, sessions::Origin};

use super::address_header;
use crate::{
    abi,
    cell::BrokerCell,
    codes::Generation,
    host::{Broker, ClientRef, Holder},
};

/// How long 2.0 may check its sessions after SIGHUP, where neither a tick ends that nor the place of a CONNECT is
/// known. 100,000 sessions take less.
const RELOAD: Duration = Duration::from_secs(2);

/// How long it may, where one of them is.
const LONG_RELOAD: Duration = Duration::from_secs(600);

static PLACES: BrokerCell<Places> = BrokerCell::new(Places::new());

/// Notes that SIGHUP has come: the broker rechecks its sessions from now on. `ticks` says whether a tick ends that.
pub fn begin(broker: &Broker, ticks: bool) {
    let mut places = PLACES.open(broker);
    let ends = ticks || !places.connects.is_empty();
    let longest = if ends { LONG_RELOAD } else { RELOAD };
    places.reload_ends = Some(Deadline::after(longest));
}

/// Notes that the broker ticks: it has checked all its sessions.
pub fn end(broker: &Broker) {
    PLACES.open(broker).reload_ends = None;
}

/// Returns what the current event about this client is about, and who has its client ID, if the broker was asked: 2.1
/// is asked about every CONNECT. Whether a session was restored from disk is not seen here.
#[inline]
pub fn origin<'e>(broker: &'e Broker, client: ClientRef<'_>) -> (Origin, Option<Holder<'e>>) {
    PLACES.open(broker).origin(broker, client)
}

/// Only 2.0 must not refuse a session whose client is away.
#[inline]
fn recheck(broker: &Broker) -> Origin {
    let may_refuse = broker.generation() == Generation::V2_1;
    Origin::Recheck { may_refuse }
}

/// A place in the broker's code.
#[derive(Clone, Copy)]
struct CallSite {
    site: abi::mosquitto_auth0_call_site,
    /// How many levels are compared.
    levels: usize,
}

impl CallSite {
    /// Returns the place that the current event comes from, if that can be seen.
    fn current(broker: &Broker) -> Option<Self> {
        // In 2.1 the first two levels are the same, because there is one function more on the way.
        let levels = match broker.generation() {
            Generation::V2_0 => 2,
            Generation::V2_1 => 3,
        };
        // SAFETY: it looks at this thread's stack only, inside the callback that the shim calls.
        let site = unsafe { abi::mosquitto_auth0_called_from() };
        (site.levels >= levels).then_some(Self { site, levels })
    }

    /// Returns whether the current event comes from here. `false` where that takes longer to find out.
    #[inline]
    fn is_current(&self) -> bool {
        // SAFETY: it reads this thread's stack only, inside the callback that the shim calls.
        unsafe { abi::mosquitto_auth0_is_called_from(&raw const self.site, self.levels) }
    }
}

impl PartialEq for CallSite {
    fn eq(&self, other: &Self) -> bool {
        self.site.returns_to[..self.levels] == other.site.returns_to[..other.levels]
    }
}

/// The places that are known.
struct Places {
    /// Those of a CONNECT. A compiler that inlines the broker's functions may make several of them.
    connects: Vec<CallSite>,
    /// Whether that of a CONNECT over TCP is one of them.
    knows_tcp: bool,
    recheck: Option<CallSite>,
    /// Whether the broker's stack shows no places, or CONNECTs and rechecks come from the same one.
    is_blind: bool,
    /// When 2.0 has checked all its sessions after SIGHUP, unless a tick comes before.
    reload_ends: Option<Deadline>,
}

impl Places {
    const fn new() -> Self {
        Self {
            connects: Vec::new(),
            knows_tcp: false,
            recheck: None,
            is_blind: false,
            reload_ends: None,
        }
    }

    fn origin<'e>(
        &mut self,
        broker: &'e Broker,
        client: ClientRef<'_>,
    ) -> (Origin, Option<Holder<'e>>) {
        if self.recheck.as_ref().is_some_and(CallSite::is_current) {
            return (recheck(broker), None);
        }
        match broker.generation() {
            Generation::V2_0 => match self.origin_2_0(broker, client) {
                // A client that connects gets its subscriptions when it is in.
                Origin::Unknown if broker.subscriptions(client) > Some(0) => {
                    (recheck(broker), None)
                }
                origin => (origin, None),
            },
            Generation::V2_1 => {
                let id = broker.client_id(client);
                let holder = id.and_then(|id| broker.holder(id));
                let has_it = holder.is_some_and(|holder| holder.is_at(client.address()));
                (self.origin_2_1(broker, has_it), holder)
            }
        }
    }

    fn origin_2_0(&mut self, broker: &Broker, client: ClientRef<'_>) -> Origin {
        let over_tcp = address_header::address_from(broker, client) == AddressFrom::Transport;
        if self.reload_ends.is_none_or(Deadline::has_passed) {
            // One that was restored from disk speaks no protocol yet: a SIGHUP that takes longer than is expected.
            let is_new = self.connects.is_empty() || over_tcp && !self.knows_tcp;
            if is_new && broker.protocol_version(client) != 0 {
                self.learn_connect(broker);
                self.knows_tcp |= over_tcp && !self.is_blind;
            }
            return Origin::Connect;
        }
        if self.connects.iter().any(CallSite::is_current) {
            return Origin::Connect;
        }
        let Some(site) = CallSite::current(broker) else {
            return Origin::Unknown;
        };
        if self.connects.contains(&site) {
            return Origin::Connect;
        }
        if self.recheck == Some(site) {
            return recheck(broker);
        }
        if !self.knows_tcp || !over_tcp {
            return Origin::Unknown;
        }
        self.recheck = Some(site);
        recheck(broker)
    }

    /// `has_it` says whether the broker has this client.
    fn origin_2_1(&mut self, broker: &Broker, has_it: bool) -> Origin {
        if !has_it {
            if self.connects.is_empty() {
                self.learn_connect(broker);
            }
            return Origin::Connect;
        }
        if self.recheck.is_none() && !self.connects.is_empty() && !self.is_blind {
            self.recheck = CallSite::current(broker).filter(|site| !self.connects.contains(site));
            self.is_blind = self.recheck.is_none();
        }
        recheck(broker)
    }

    /// Learns that a CONNECT comes from where the current event comes from.
    fn learn_connect(&mut self, broker: &Broker) {
        if self.is_blind {
            return;
        }
        match CallSite::current(broker) {
            Some(site) if !self.connects.contains(&site) => self.connects.push(site),
            Some(_) => {}
            None => self.is_blind = true,
        }
    }
}
