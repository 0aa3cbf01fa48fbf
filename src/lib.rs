//! Lets devices into Eclipse Mosquitto with Auth0.
//!
//! This is a shared object that Mosquitto loads with a `plugin` line. A device signs in with a token in the password
//! field, or with the user name and password of its Auth0 account. Then it may publish and subscribe only to the
//! topics in its profile claim `topics`.
//!
//! The README is for operators. This page is for those who change the code.
//!
//! # The path of a sign-in
//!
//! ```text
//!  broker's thread                                            threads that may wait
//!  C event ─► event.rs ─► engine.authenticate ─► Step
//!             (NULL handled,     │                    ├─ Admit, Refuse, Keep ─► codes.rs ─► C
//!              UTF-8 required)   │                    └─ Wait ─► workers::pool ══► a thread of it
//!                                │                          ├─ 2.1: AUTH_DELAYED ─► C    ║ auth0, keys
//!                                │                          └─ 2.0: within the budget    ║
//!  tick ─► engine.collect ◄──────┴──────────────── FinishedJob ◄══════════════════════════════╝
//!          └─► admit, complete; reap, expire ─► kick; log   (state closed: these call back)
//!  C event ─► event.rs ─► engine.authorize (memory only) ─► codes.rs ─► C
//! ```
//!
//! [`auth::engine`] decides. Read it from top to bottom: `authenticate.rs`, `verify.rs`, `admission.rs`, `access.rs`.
//! It knows neither the broker nor the network, and takes the time as an argument. Work that has to wait is a value, a
//! [`auth::workers::Job`]. A pool of threads runs jobs; those threads never touch the broker.
//!
//! Both generations of Mosquitto share this path. They differ in how a sign-in waits. 2.1 takes an answer later: the
//! client waits, and nobody else does. 2.0 does not: it waits for at most a stated part of its time, and an answer that
//! comes too late is used when the device tries again.
//!
//! # Where things live
//!
//! | crate | what it is | may not |
//! |---|---|---|
//! | this one, `src/` | the boundary to Mosquitto: entry points, callbacks, events | decide anything |
//! | `crates/auth` | everything between a CONNECT and the rights that a client gets | have unsafe code, know the broker |
//! | `crates/acl` | topic rules: claims, policy file, matching | do I/O, have threads or a clock, have unsafe code |
//! | `crates/input` | JSON, quoting, tokens inside other texts, networks | depend on any of the others |
//! | `crates/testbed` | a local tenant, certificates, tokens, brokers and clients for the tests | be in the plugin |
//!
//! The first page of each crate says where its rules live. In this one:
//!
//! | question | file |
//! |---|---|
//! | How is the plugin loaded and unloaded? | `entry.rs` |
//! | What happens at a CONNECT, and at a message? | `callbacks.rs` |
//! | What happens when a client leaves, at a tick, and on SIGHUP? | `events.rs` |
//! | Which state is there, and who may use it? | `state.rs`, `cell.rs` |
//! | What is in an event? | `event.rs` |
//! | Which functions of the broker are called? | `host.rs`, `host.c` |
//! | Which code does the broker get as an answer? | `codes.rs` |
//! | Where do panics and calls from other threads end? | `guard.rs` |
//! | Which bugs of Mosquitto does the plugin work around? | `quirks/mod.rs` |
//! | What do operators read, beside the sentences of `auth`? | `messages.rs` |
//! | Which messages were allowed a moment ago? | `answer_cache.rs` |
//! | What is wiped, and what is kept out of core dumps? | `memory.rs`, `auth::secret` |
//!
//! # Rules
//!
//! * The compiler forbids `unsafe` in every crate but this one. `src/abi.rs` is the only file that names Mosquitto's
//!   types.
//! * Crate boundaries separate the layers. `tests/architecture.rs` checks what they cannot: one module uses HTTP, one
//!   knows time zones, one reads the clock, and the modules of `auth` depend on each other one way.
//!
//! # Decisions, and the alternatives
//!
//! * **The broker is reached by weak references, not by dlsym.** So the C compiler checks every signature against
//!   Mosquitto's header (`host.rs`, `host.c`).
//! * **The plugin checks claims itself, without the `Validation` of `jsonwebtoken`.** That one reads the clock, and
//!   checks `iss`, `aud` and `nbf` only if they are present.
//! * **A tenant's key is parsed once**, by `aws-lc-rs`, which `jsonwebtoken` uses as well. `jsonwebtoken` itself
//!   parses a key at every signature, which costs a seventh of a check. HS256 stays with `jsonwebtoken`, which is also
//!   the second opinion on the rest (`tests/attacks/second_opinion.rs`).
//! * **There is one table of refusals**, and not an error type in each module. Operators see one vocabulary, and every
//!   row has a fix.
//! * **Rules are a tree of topic levels**, not a list. The cost of a check depends on the levels of the topic, not on
//!   the number of rules. (Where a name and a `+` lie beside each other at a level, both are searched. No check visits
//!   a node twice.) Each branch knows its earliest rule, so that the first matching rule is found without a list.
//!   Messages that were allowed a moment ago are cached, because most devices repeat themselves (`answer_cache.rs`).
//! * **The first matching rule decides.** The alternative is that a denying rule always wins. But lists in the form of
//!   EMQX's `acl` claim are read this way, and one sentence is enough to predict it.
//! * **MQTT 5 clients are not answered later by default.** In 2.1.2 a client that hangs up while it waits leaves its
//!   delayed will in freed memory, and a plugin cannot see a will. The alternatives were to refuse such clients, or to
//!   delay them all the same. A bounded wait costs least.
//! * **On 2.1 SIGHUP waits until no client waits.** In the round in which a waiting client hangs up, SIGHUP makes 2.1.2
//!   write into freed memory. The alternatives were to delay nobody, or to tell operators not to send it
//!   (`quirks/sighup.rs`).
//! * **No absent client is refused on SIGHUP**, however long it is away, because that makes 2.0 use memory that it has
//!   freed. A session that is no longer in the table leaves a trace (`auth::sessions`). The alternative was to keep all
//!   in the table; a trace takes a tenth of that.
//! * **A recheck is recognised by the place in the broker's code that it comes from.** A CONNECT and a recheck on
//!   SIGHUP are the same event, and a CONNECT must not get what a session may keep. The alternative was the time since
//!   the reload, which has no end where there are no ticks (`quirks/recheck.rs`).
//! * **A delayed answer belongs to a ticket**, not to a client ID, by which 2.1 takes it. The broker does not tell
//!   when a waiting client hangs up (`auth::pending`).
//! * **A login waits only under a client ID that nobody has used lately.** While it waits, 2.1 hangs up on everybody
//!   else with that client ID. The alternative was to let it wait if it comes from the last user's address. But then
//!   everybody who shares that address could keep the device out (`auth::pending::client_ids`).
//! * **Wrong passwords are counted by user and address**, and more loosely by user. By user alone, a stranger could
//!   lock devices out. By address alone, a tenant that counts by user would do so (`auth::limits::lockout`).
//! * **Shares adjust themselves.** A source may use a multiple of what is free (`auth::limits::fair_shares`). Fixed
//!   shares would depend on the number of sources, and a fleet behind one address would get only one of them.
//! * **The threads for logins start with the broker**, where devices send passwords. To start them when they are needed
//!   costs the broker more than the sign-ins do (`auth::workers::pool`).
//! * **The policy file is read again by a thread**, and the finished rules are swapped whole. To read ten thousand
//!   rules on the broker's thread would silence everybody for a tenth of a second (`auth::policy_file`).
//! * **Log lines wait for the tick.** With `log_dest topic` a line becomes a message, which is checked by the plugin.
//! * **Rights end with the token.** At `exp` a connected client is disconnected, its will is sent, and it signs in
//!   again. If rights lasted as long as a connection, `exp` would mean nothing for devices that never hang up.
//! * **Rights last as long as the token had left at the sign-in, by the monotonic clock** (`time.rs`). By the wall
//!   clock, a jump forward would disconnect a fleet, even if the clock is set right a second later, and a jump back
//!   would prolong every right. The price: if the clock was behind at the sign-in, rights end late by as much. That is
//!   less than the token's lifetime, because a token from the future is refused.
//! * **Each tick asks for the next one at a time long past** (`quirks/ticks.rs`), so that no clock stops the ticks of
//!   2.1. The alternative was a thread that notices when they stop and lets SIGHUP through. It could answer nobody,
//!   and could not know whether the loop is at a point where SIGHUP does no harm.

mod abi;
mod answer_cache;
mod callbacks;
mod cell;
mod codes;
mod entry;
mod event;
mod events;
mod guard;
mod heap;
mod host;
mod local_users;
mod memory;
mod messages;
mod quirks;
mod signals;
mod state;
mod time;
