//! The header lines that Auth0 and its edge put around a body.
//!
//! Names and values are those of a real tenant's responses, as Auth0's own Ruby SDK recorded them, without
//! the tracing headers.

use crate::http::{Framing, Response, date};
use crate::signing::{now, random_bytes};

/// `Cache-Control` of a refusal.
const REFUSED: &str =
    "private, no-store, no-cache, must-revalidate, post-check=0, pre-check=0, no-transform";

/// Returns a token response. Auth0's edge sends these chunked.
pub(super) fn granted(body: impl ToString) -> Response {
    let mut response = auth0(200, "application/json", Some("no-store"), body)
        .header("Set-Cookie", device_cookie("did", "; SameSite=None"))
        .header("Set-Cookie", device_cookie("did_compat", ""))
        .header("Pragma", "no-cache");
    response.framing = Framing::Chunked;
    response
}

/// Returns a refusal. The recorded 403s are chunked, the 400s are not.
pub(super) fn refused(status: u16, body: impl ToString) -> Response {
    let mut response = auth0(status, "application/json", Some(REFUSED), body)
        .header("Set-Cookie", device_cookie("did", "; SameSite=None"))
        .header("Set-Cookie", device_cookie("did_compat", ""));
    if status == 403 {
        response.framing = Framing::Chunked;
    }
    response
}

/// Returns a public document: the JWKS or the discovery document.
pub(super) fn document(cache_control: Option<&str>, body: impl ToString) -> Response {
    auth0(200, "application/json; charset=utf-8", cache_control, body)
        .header("Access-Control-Allow-Origin", "*")
}

/// Returns Auth0's response to a path or a method that it does not serve.
pub(super) fn not_found() -> Response {
    auth0(404, "text/plain; charset=utf-8", Some(REFUSED), "Not Found")
}

/// Returns the response for a used-up tenant rate limit (Auth0 docs, Rate Limit Policy).
pub(super) fn rate_limited(retry_after: Option<u64>) -> Response {
    let body =
        r#"{"error":"too_many_requests","error_description":"Global limit has been reached"}"#;
    let response = auth0(429, "application/json", Some(REFUSED), body);
    let response = with_rate_limit(response, 300, 0, now() + retry_after.unwrap_or(1));
    match retry_after {
        Some(seconds) => response.header("Retry-After", seconds.to_string()),
        None => response,
    }
}

/// Returns the error page of Auth0's edge when Auth0 does not respond properly.
pub(super) fn edge_page(status: u16) -> Response {
    let title = match status {
        502 => "502 Bad Gateway".to_owned(),
        503 => "503 Service Temporarily Unavailable".to_owned(),
        504 => "504 Gateway Time-out".to_owned(),
        520 => "520 Web server is returning an unknown error".to_owned(),
        522 => "522 Connection timed out".to_owned(),
        other => format!("{other} Error"),
    };
    let page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{title}</h1></center>\r\n<hr><center>cloudflare</center>\r\n\
         </body>\r\n</html>\r\n"
    );
    Response::new(status, page)
        .header("Date", date(now()))
        .header("Content-Type", "text/html; charset=UTF-8")
        .header("CF-Ray", ray())
        .header("Cache-Control", "private, max-age=0, no-store")
        .header("Server", "cloudflare")
}

/// Adds the three headers of a rate limit. `reset` is a Unix time in seconds.
pub(super) fn with_rate_limit(
    response: Response,
    limit: u32,
    remaining: u32,
    reset: u64,
) -> Response {
    response
        .header("X-RateLimit-Limit", limit.to_string())
        .header("X-RateLimit-Remaining", remaining.to_string())
        .header("X-RateLimit-Reset", reset.to_string())
}

fn auth0(
    status: u16,
    content_type: &str,
    cache_control: Option<&str>,
    body: impl ToString,
) -> Response {
    let mut response = Response::new(status, body.to_string())
        .header("Date", date(now()))
        .header("Content-Type", content_type)
        .header("CF-Ray", ray())
        .header("CF-Cache-Status", "DYNAMIC");
    if let Some(text) = cache_control {
        response = response.header("Cache-Control", text);
    }
    response
        .header("Strict-Transport-Security", "max-age=31536000")
        .header("Vary", "Accept-Encoding, Origin")
        .header("X-Auth0-RequestId", hex(&random_bytes::<10>()))
        .header("X-Content-Type-Options", "nosniff")
        .header("Server", "cloudflare")
        .header("Alt-Svc", r#"h3=":443"; ma=86400"#)
}

fn ray() -> String {
    format!("{}-LAX", hex(&random_bytes::<8>()))
}

/// Returns the device cookie, which API clients ignore.
fn device_cookie(name: &str, more: &str) -> String {
    let id = hex(&random_bytes::<16>());
    format!("{name}=s%3Av0%3A{id}; Max-Age=31557600; Path=/; HttpOnly; Secure{more}")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}
