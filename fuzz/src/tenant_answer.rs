//! Responses of the token endpoint: any status, headers and body.

use crate::draw::Draw;
use auth::fuzzing::{AnyResponse, interpret};

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
            let shown = ["error", "error_description"].map(|name| text(name).unwrap_or_default());
            let headers = [&response.retry_after, &response.request_id];
            let shown = shown.iter().chain(headers.into_iter().flatten());
            let shown: Vec<&String> = shown.collect();
            for token in [access, id]
                .into_iter()
                .flatten()
                .filter(|token| token.len() > 8)
            {
                let is_elsewhere = shown.iter().any(|text| text.contains(&token));
                assert!(
                    is_elsewhere || !said.contains(&token),
                    "a token in the log: {said}"
                );
            }
        }
    }
    is_grant
}
