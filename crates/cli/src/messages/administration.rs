//! Sentences of the commands that administer a running broker.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use serde_json::Value;

use auth::config::ConfigError;
use input::text::{self, Quoted};

use crate::{control::Target, output::Failure};

/// Why a request has no answer.
pub(crate) enum Unanswered {
    /// It could not be sent, or no answer came.
    Failed(io::Error),
    /// The answer is not one of the plugin's.
    Unreadable(String),
}

/// Returns why the socket could not be opened.
pub(crate) fn no_connection(path: &Path, why: &io::Error) -> Failure {
    let shown = path.display();
    match why.kind() {
        ErrorKind::PermissionDenied => Failure::new(format!(
            "only root and the broker's user may use the socket {shown}"
        ))
        .fix("run this command with sudo"),
        ErrorKind::NotFound => Failure::new(format!("there is no socket {shown}")).fix(
            "start the broker; if it runs, its log says which socket it has (\"administrators on this machine can \
             command at …\"), and --conf or --socket names another one",
        ),
        ErrorKind::ConnectionRefused => Failure::new(format!(
            "no broker answers at {shown}: the broker that made the socket was killed"
        ))
        .fix("start the broker"),
        _ => Failure::new(format!("the socket {shown} cannot be used: {why}"))
            .fix("name the socket that the broker's log names"),
    }
}

/// Returns that the broker refuses a command. `why` is the text of whoever has the socket.
pub(crate) fn nothing_done(why: &str) -> String {
    format!("Nothing was done: {}", text::line(why))
}

/// Returns why there is no answer.
pub(crate) fn no_answer(path: &Path, why: Unanswered) -> Failure {
    let shown = path.display();
    match why {
        Unanswered::Failed(why)
            if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
        {
            Failure::new(format!("the broker at {shown} has not answered in time"))
                .fix("look into the broker's log; the command may have been executed all the same")
        }
        Unanswered::Failed(why) => {
            Failure::new(format!("the broker at {shown} gave no answer: {why}"))
                .fix("look into the broker's log: it may have stopped")
        }
        Unanswered::Unreadable(answer) => Failure::new(format!(
            "{shown} answered {}, which is no answer of mosquitto-auth0",
            Quoted(answer.trim_end())
        ))
        .fix("name the socket that the broker's log names"),
    }
}

/// Returns why the folder is not known.
pub(crate) fn no_state_dir(conf: &Path) -> Failure {
    Failure::new(format!(
        "the plugin in {} has no option state_dir, and so no socket",
        conf.display()
    ))
    .fix("set plugin_opt_state_dir and restart the broker, or administer it with a token at $CONTROL/auth0/v1")
}

/// Returns why the options cannot be read.
pub(crate) fn bad_options(conf: &Path, why: &ConfigError) -> Failure {
    Failure::new(format!("{}: {why}", conf.display()))
}

/// Returns that clients were disconnected.
pub(crate) fn kicked(target: &Target, data: &Value) -> String {
    match (target, data["clients"].as_u64()) {
        (Target::Client(id), _) => format!("Client {} is disconnected.", Quoted(id)),
        (Target::Subject(subject), Some(1)) => {
            format!("1 client of subject {} is disconnected.", Quoted(subject))
        }
        (Target::Subject(subject), Some(count)) => {
            format!(
                "{count} clients of subject {} are disconnected.",
                Quoted(subject)
            )
        }
        _ => "Done.".to_owned(),
    }
}

/// Returns that logins were forgotten.
pub(crate) fn forgotten(target: &Target, data: &Value) -> String {
    let count = |member: &str| data[member].as_u64().unwrap_or(0);
    let numbered = |count: u64, one: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    };
    let whose = match target {
        Target::User(name) => format!("user {}", Quoted(name)),
        Target::Subject(subject) => format!("subject {}", Quoted(subject)),
        Target::Client(_) | Target::Keys => String::new(),
    };
    format!(
        "{} and {} of {whose} are forgotten.",
        numbered(count("logins"), "login"),
        numbered(count("tokens"), "token")
    )
}

/// Returns that a client ID was released.
pub(crate) fn released(target: &Target, data: &Value) -> String {
    let Target::Client(id) = target else {
        return "Done.".to_owned();
    };
    match data["known"].as_bool() {
        Some(true) => format!("Another account may have client ID {} now.", Quoted(id)),
        _ => format!(
            "The plugin knows no session of client ID {}. If Mosquitto has restored one from disk, another account may \
             have it now.",
            Quoted(id)
        ),
    }
}

/// Returns that the keys are fetched.
pub(crate) fn keys_refreshed(_: &Target, _: &Value) -> String {
    "The broker fetches the tenant's keys now, or has read jwks_file. Its log says with what result.".to_owned()
}
