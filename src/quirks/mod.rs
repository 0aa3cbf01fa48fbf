//! Bugs of Mosquitto that the plugin works around, one file each.
//!
//! Each file says which versions have the bug, which test shows it, and when the file can be deleted. A workaround is
//! switched on by what the running broker does or offers, not by its version number, wherever that can be seen.
//!
//! Some workarounds are rules of the sign-in rather than calls at the boundary. They live where those rules live:
//!
//! | bug | versions | workaround | proof |
//! |---|---|---|---|
//! | SIGHUP asks about sessions whose clients are away. Refusing one puts it on the list of expired sessions twice, and it is freed twice. | 2.0 before 2.0.23 | `auth::sessions`: such a session is kept, also one that has left the table (`dropped.rs`) | `sanitized::sighup` |
//! | While a CONNECT is delayed, the broker drops every other CONNECT with its client ID without asking. | 2.1.0 to 2.1.2 | `auth::pending::client_ids`: a CONNECT is delayed only under a client ID that nobody uses | `client_ids` |
//! | An MQTT 5 client that hangs up while its CONNECT is delayed leaves its delayed will in freed memory. | 2.1.0 to 2.1.2 | `may_delay` in `callbacks.rs`: MQTT 5 is not delayed unless `delay_mqtt5` says so | `sanitized` |
//! | With `check_retain_source` the broker asks about the publisher of a retained message by a pointer that it made up for the question. | 2.0, 2.1 | `auth::sessions`: found by client ID and user name | story `order::check_retain_source_uses_the_publishers_rights` |
//! | An AUTH packet without content from a connected client counts as the continuation of an exchange. A refusal makes the broker use freed memory, and so does success on 2.0. | 2.0, 2.1 | `auth::engine`, `exchange.rs`: the client is asked to go on, and disconnected at the next tick | `sanitized::extended_auth` |
//! | With `per_listener_settings true` the broker never ticks. | 2.0.11 | `callbacks.rs`: what a tick does is also done at each CONNECT, and so are metrics published | story `reentry::log_lines_are_written_without_ticks` |

pub mod address_header;
pub mod lost_sighup;
pub mod recheck;
pub mod second_connack;
pub mod sighup;
pub mod ticks;
