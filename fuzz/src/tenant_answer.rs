//! Responses of the token endpoint: any status, headers and body.

use crate::draw::Draw;
use auth::fuzzing::{AnyResponse, interpret};
use serde_json::{Map, Value};

/// Takes a response. Returns whether it has a token.
pub(crate) fn tenant_answer(input: &[u8]) -> bool {
    let mut draw = Draw::new(input);
    let mut response = AnyResponse {
        status: draw.word(),
        json: draw.flag(),
        ..AnyResponse::default()
    };
    let mut header = |most| {
        let text = draw.flag().then(|| draw.bytes(most));
        text.map(|text| String::from_utf8_lossy(text).into_owned())
    };
    response.retry_after = header(40);
    response.request_id = header(40);
    response.used_up_until = header(20).and_then(|text| text.parse().ok());
    response.body = draw.rest().to_vec();

    let (tokens, feedback) = interpret(&response);
    assert_eq!(
        (&tokens, feedback),
        (&interpret(&response).0, interpret(&response).1)
    );
    let members = input::json::object(&response.body)
        .ok()
        .filter(|_| response.json);
    let text = |name: &str| members.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let (access, id) = (text("access_token"), text("id_token"));
    let is_grant = response.status == 200 && (access.is_some() || id.is_some());
    assert_eq!(tokens.is_ok(), is_grant, "{response:?}");
    match tokens {
        Ok(tokens) => {
            assert_eq!(tokens, (access, id), "another token than the tenant's");
            assert!(!feedback.application_rejected);
        }
        Err(said) => {
            assert!(
                said.len() < 8192 && !said.contains(char::is_control),
                "{said:?}"
            );
            if let Some(members) = members {
                shows_no_token(response, members);
            }
        }
    }
    is_grant
}

/// Puts a mark in front of the tokens, so that nothing else can look like one, and checks that no error shows it.
fn shows_no_token(mut response: AnyResponse, mut members: Map<String, Value>) {
    const MARK: &str = "7f3a9c51d2e8";
    for name in ["access_token", "id_token"] {
        if let Some(Value::String(token)) = members.get_mut(name) {
            token.insert_str(0, MARK);
        }
    }
    let shown = ["error", "error_description"].map(|name| members.get(name));
    let headers = [&response.retry_after, &response.request_id];
    if format!("{shown:?}{headers:?}").contains(MARK) {
        return;
    }
    response.body = Value::Object(members).to_string().into_bytes();
    if let Err(said) = interpret(&response).0 {
        assert!(!said.contains(MARK), "a token in the log: {said}");
    }
}
