//! Commands of administrators. The judge knows which members each command takes.

use auth::fuzzing::admin_commands;
use serde_json::{Map, Value};

/// Takes a request. Returns whether each of its commands can be executed.
pub(crate) fn control(input: &[u8]) -> bool {
    let read = admin_commands(input);
    let commands = input::json::object(input).ok().and_then(|mut request| {
        let commands = request.remove("commands")?;
        let Value::Array(commands) = commands else {
            return None;
        };
        (request.is_empty() && (1..=16).contains(&commands.len())).then_some(commands)
    });
    let Some(commands) = commands else {
        let why = read.expect_err("nothing that can be read");
        assert!(
            !why.is_empty() && !why.contains(char::is_control),
            "{why:?}"
        );
        return false;
    };
    let read = read.expect("a request with commands");
    assert_eq!(read.len(), commands.len());
    let mut all_good = true;
    for (read, command) in read.iter().zip(&commands) {
        let is_good = command.as_object().is_some_and(is_good);
        assert_eq!(read.is_ok(), is_good, "{read:?} {command}");
        let (Ok(said) | Err(said)) = read;
        assert!(
            !said.is_empty() && !said.contains(char::is_control),
            "{said:?}"
        );
        all_good &= is_good;
    }
    all_good
}

/// Whether this command can be executed, as the documentation says.
fn is_good(command: &Map<String, Value>) -> bool {
    let name = command
        .get("command")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let takes: &[&str] = match name {
        "listSessions" => &[
            "subject",
            "issuer",
            "clientId",
            "clientIdPrefix",
            "count",
            "cursor",
        ],
        "kick" => &["clientId", "subject", "issuer"],
        "forgetLogin" => &["username", "subject", "issuer"],
        "releaseClientId" => &["clientId"],
        "refreshKeys" => &[],
        _ => return false,
    };
    let has = |name: &str| command.contains_key(name);
    let fits = |(name, value): (&String, &Value)| match name.as_str() {
        "command" | "correlationData" => value.as_str().is_some_and(|text| !text.is_empty()),
        name if !takes.contains(&name) => false,
        "count" => value
            .as_u64()
            .is_some_and(|count| (1..=1000).contains(&count)),
        _ => value.as_str().is_some_and(|text| !text.is_empty()),
    };
    let exactly_one = |one, other| has(one) != has(other);
    command.iter().all(fits)
        && (has("subject") || !has("issuer"))
        && match name {
            "listSessions" => !(has("clientId") && has("clientIdPrefix")),
            "kick" => exactly_one("clientId", "subject"),
            "forgetLogin" => exactly_one("username", "subject"),
            "releaseClientId" => has("clientId"),
            _ => true,
        }
}
