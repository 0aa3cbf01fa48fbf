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
//! # SIGHUP, from start to end
//!
//! 1. **The signal waits** (2.1 only). The broker's thread keeps SIGHUP blocked. A tick lets it through when no CONNECT
//!    has been delayed for a moment (`quirks/sighup.rs`).
//! 2. **The broker reads mosquitto.conf again**, without the options of plugins, and sends RELOAD: `on_reload` in
//!    `events.rs`. [`auth::engine::Engine::reload`] forgets what held back sign-ins, and has the tenant's keys fetched
//!    soon. A thread reads `config_file` and the files that options name, and builds all that depends on them: the next
//!    generation of the configuration (`engine/reload.rs`). If rules, keys or options come from files, RELOAD waits for
//!    the thread for a moment. Options that are others in mosquitto.conf get one line in the log.
//! 3. **The broker rechecks every session that it has**, also those whose clients are away, before it serves anybody.
//!    The event is the same as for a CONNECT, and comes to `on_basic_auth`. `quirks/recheck.rs` tells the two apart by
//!    the place in the broker's code that the event comes from. A session that certainly is rechecked stays as it is,
//!    by its key and the addresses of its texts alone (`Sessions::stays` in [`auth::sessions`]). What cannot be decided
//!    so is authenticated (`recheck_session` in `engine/authenticate.rs`): a client whose rights have ended is refused,
//!    which disconnects it (but with `on_expiry deny` it stays), and so is one that the plugin does not know, but on
//!    2.0 no client that may be away.
//! 4. **The next tick ends it.** On 2.0 sessions that the broker did not ask about are gone, and their client IDs are
//!    free (`Sessions::end_recheck`); 2.1 can be asked which client IDs are free. A generation that RELOAD did not wait
//!    for takes effect in the tick after it is read (`Engine::finish_reload`).
//! 5. **New rules reach a client at its next message** (`engine/access.rs`). No client is disconnected because of them,
//!    and subscriptions stay: each delivery is checked.
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
//! | What happens at an AUTH packet (MQTT 5)? | `extended_auth.rs`; what an exchange is, `auth::engine` |
//! | What happens when a client leaves, at a tick, and at a RELOAD? | `events.rs` |
//! | What happens at a message to the plugin's own topics? | `control.rs` |
//! | Which state is there, and who may use it? | `state.rs`, `cell.rs` |
//! | What is in an event? | `event.rs` |
//! | Which functions of the broker are called? | `host.rs`, `host.c` |
//! | Which code does the broker get as an answer? | `codes.rs` |
//! | Where do panics and calls from other threads end? | `guard.rs` |
//! | Which bugs of Mosquitto does the plugin work around? | `quirks/mod.rs` |
//! | What do operators read, beside the sentences of `auth`? | `messages.rs` |
//! | What time is it, and what if the clock is set? | `time.rs`; who follows the clock, `state.rs` |
//! | How are threads started, and who gets the signals? | `signals.rs` |
//! | May the answer to a CONNECT come later? | `may_delay` in `callbacks.rs`; whether this client may wait, `auth::engine` |
//! | What is wiped, and what is kept out of core dumps? | `memory.rs`, `auth::secret` |
//! | When is free memory returned to the system? | `heap.rs` |
//!
//! # Rules
//!
//! * The compiler forbids `unsafe` in every crate but this one. `src/abi.rs` is the only file that names Mosquitto's
//!   types.
//! * Crate boundaries separate the layers. `tests/architecture.rs` checks what they cannot: one module uses HTTP, one
//!   knows time zones, one reads the clock, and the modules of `auth` depend on each other one way.
//!
//! The decisions, with the alternatives that were turned down, are in `docs/architecture.md`.

mod abi;
mod callbacks;
mod cell;
mod codes;
mod control;
mod entry;
mod event;
mod events;
mod extended_auth;
mod guard;
mod heap;
mod host;
mod memory;
mod messages;
mod quirks;
mod signals;
mod state;
mod time;
