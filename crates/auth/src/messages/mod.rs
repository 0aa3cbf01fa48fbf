//! The sentences that operators read.
//!
//! Other modules say what happened as data, which can be shown in another form as well; here it is displayed.

mod config;
mod control;
mod decision_log;
mod files;
mod keys;
mod metrics;
mod refusals;
mod reports;
mod saved_sessions;
