//! Lets devices into Eclipse Mosquitto with Auth0.
//!
//! A shared object that Mosquitto loads with a `plugin` line. A device proves who it is with a
//! token in the password field, or with the user name and password of its Auth0 account, and then
//! publishes and subscribes only to the topics in its profile claim `topics`.
//!
//! The README is for operators. This page is for whoever changes the code.
//!
//! # One way through
//!
//! ```text
//!  broker's thread                                            threads that may wait
//!  C event ─► event.rs ─► policy.authenticate ─► Step
//!             (null-safe,        │                    ├─ Admit, Refuse, Keep ─► codes.rs ─► C
//!              UTF-8 refused,    │                    └─ Wait ─► workers::pool ══► JobRunner.run
//!              not mended)       │                          ├─ 2.1: AUTH_DELAYED ─► C    ║ auth0, keys
//!                                │                          └─ 2.0: within the budget    ║
//!  tick ─► policy.collect ◄──────┴──────────────── FinishedJob ◄══════════════════════════════╝
//!          └─► admit, complete; reap, expire ─► kick; log   (the state is closed: they call back)
//!  C event ─► event.rs ─► policy.authorize (memory only) ─► codes ─► C
//! ```
//!
//! [`auth::policy`] decides and is read top to bottom (`authenticate.rs`, `verify.rs`, `admission.rs`, `access.rs`). It
//! knows neither broker nor network, and takes the time as an argument. What has to wait is a value, a [`auth::workers::Job`], done by a pool of
//! threads that never touch the broker. One path, two schedulers: where the broker takes the answer
//! later (2.1), the client waits and nobody else does; where it does not (2.0), the broker stands
//! still for a stated part of its time at most, and what comes too late is there when the device
//! tries again.
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
//! Each crate's first page says where its rules live. In this one:
//!
//! | question | file |
//! |---|---|
//! | How is the plugin loaded and unloaded? | `entry.rs` |
//! | What happens at a CONNECT, and at a message? | `callbacks.rs` |
//! | What happens when a client leaves, at a tick, and on SIGHUP? | `events.rs` |
//! | Which state is there, and who may touch it? | `state.rs`, `cell.rs` |
//! | What does an event say? | `event.rs` |
//! | Which functions of the broker do we call? | `host.rs`, `host.c` |
//! | Which number does the broker get as an answer? | `codes.rs` |
//! | Where do panics and foreign threads end? | `guard.rs` |
//! | Which bugs of Mosquitto does the plugin work around? | `quirks/mod.rs` |
//! | What was allowed a moment ago? | `answer_cache.rs` |
//! | What is wiped, what is in no core dump? | `memory.rs`, `auth::secret` |
//!
//! # Rules
//!
//! * `unsafe` is forbidden in every crate but this one, by the compiler. `src/abi.rs` is the only file that names
//!   Mosquitto's types.
//! * Crate boundaries hold the layers. What they cannot say, `tests/architecture.rs` does: one module knows HTTP, one
//!   knows time zones, one reads the clock, and the modules of `auth` depend on each other one way.
//!
//! # Choices, and what was turned down
//!
//! * **Weak references, not dlsym**, to reach the broker: the C compiler checks every signature
//!   against Mosquitto's header (`host.rs`, `host.c`).
//! * **Our own check of claims, not `jsonwebtoken`'s `Validation`**: that reads the clock, and
//!   checks `iss`, `aud` and `nbf` only where they are present.
//! * **A tenant's key is made ready once**, by `aws-lc-rs`, on which `jsonwebtoken` stands: that makes it
//!   ready at every signature, for a seventh of the price of a check. HS256 stays with `jsonwebtoken`, which is
//!   also the second opinion on the rest (`tests/attacks/second_opinion.rs`).
//! * **One table of refusals**, not an error type in each module: an operator sees one vocabulary,
//!   and every row has a fix.
//! * **A tree of levels for rules**, not a list: a check costs what the topic's levels cost, not
//!   what the number of rules would. (Rules with a name and a `+` beside each other at every level
//!   cost both ways; no check visits a node of the tree twice.) Its branches know their earliest rule,
//!   so "the first that fits" needs no list either. And what was allowed a moment ago is kept beside the
//!   broker's door, because most devices say the same again (`answer_cache.rs`).
//! * **The first rule that fits decides**, not "deny wins": lists in the form of EMQX's `acl` claim
//!   are read so, and one sentence is enough to predict it.
//! * **MQTT 5 is not answered later by default**: in 2.1.2 a client that hangs up while it waits
//!   leaves its delayed will in freed memory, and a plugin cannot see a will. Refusing such clients,
//!   or delaying them and hoping, were the alternatives; a bounded wait costs least.
//! * **SIGHUP waits until nobody waits**, on 2.1: in the round of a hang-up it makes 2.1.2 write into freed
//!   memory. Delaying nobody at all, or telling operators not to send it, were the alternatives
//!   (`quirks/sighup.rs`).
//! * **Nobody who is away is refused on SIGHUP**, however long away: it makes 2.0 use memory that it has freed.
//!   A session that is no longer in the table leaves a trace (`auth::sessions`). To keep all in the table
//!   was the alternative: a trace is a tenth of that.
//! * **Who asks is told by where it is asked from**, on 2.0: a CONNECT and SIGHUP's question are the same event,
//!   and what the second may have the first must not. The time after a reload was the alternative; it
//!   knows no end where there are no ticks (`quirks/recheck.rs`).
//! * **An answer belongs to a ticket**, not to a client id, by which 2.1 takes it: the broker tells
//!   nobody when a waiting client hangs up ([`auth::pending`]).
//! * **A login waits only under a client id that nobody has used lately**: while it does, 2.1 hangs up on everybody
//!   else with that client id. To let it wait where it comes from the last user's address was turned down:
//!   whoever shares that address could keep the device out ([`auth::pending::client_ids`]).
//! * **Wrong passwords are counted by user and address**, and more loosely by user: by user alone a stranger
//!   would lock devices out, by address alone a tenant that counts by user would ([`auth::limits::lockout`]).
//! * **Shares adjust themselves**: a source may use a multiple of what is free ([`auth::limits::fair_shares`]). Fixed shares
//!   would have to know how many sources there are, and a fleet behind one address would be held to one of them.
//! * **Threads for logins are there from the start**, where devices send passwords, and a name is looked up
//!   once for all who ask at the same time: made in the moment in which they are needed, threads cost the
//!   broker more than the sign-ins do ([`auth::workers::pool`], `auth::auth0`).
//! * **Log lines wait for the tick**: with `log_dest topic` a line becomes a message, which becomes
//!   a question to us.
//! * **Rights end with the token**: at `exp` a connected client is refused and disconnected, its will
//!   goes out, and it signs in again. Rights that last as long as a connection would make `exp`
//!   meaningless for devices that never hang up.
//! * **They last as long as the token had left at the sign-in, by the monotonic clock** (`time.rs`). By the
//!   wall clock a jump forward would disconnect a fleet, though it is set right a second later, and one back
//!   would prolong every right. What that costs: a clock that was behind at the sign-in ends rights late by as
//!   much, within the token's lifetime, as a token from the future is refused.
//! * **Each tick asks for the next one at a time long past** (`quirks/ticks.rs`), so that no clock stops 2.1's ticks. A
//!   thread that notices when they stop, and lets SIGHUP through then, was the alternative: it could answer nobody,
//!   and could not know whether the loop is where SIGHUP does no harm.

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
mod quirks;
mod signals;
mod state;
mod time;
