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

/// What to do if the tenant shows the certificate of an authority as its own.
const OF_AUTHORITY: &str = "its certificate is that of an authority (CA:TRUE), which is no server certificate; have \
    that authority issue one for the server, or make the certificate again with basicConstraints=CA:FALSE";
