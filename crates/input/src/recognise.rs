//! Recognises a token in a text that a client sent as user name, password or client ID.
//!
//! Devices and people send tokens wrongly in many ways: with `Bearer` in front, in quotes, as part of the
//! tenant's whole response, cut off, or in the wrong field. Such a text is not a password. It must not be
//! sent to the tenant as one, must not count as a wrong password, and must not appear in a log.
//!
//! Two signs identify a token.
//!
//! * Base64url whose JSON names a member of a token's header or payload, such as `"alg":`. A fragment of a
//!   token is enough, at any of the four offsets within a base64 group. A random password looks like this
//!   about once in 2^40.
//! * The text that the tenant or HTTP puts around a token, `"access_token":` or `Bearer`, followed by
//!   something long. This is the only sign of an opaque token, which alone looks like any password.

/// How many bytes of a text are examined. A token shows itself in its first hundred bytes, and a password of
/// more than 1024 bytes is refused in any case.
const MAX_EXAMINED: usize = 2 * 1024;

/// How many further encodings around a token are undone.
const MAX_DEPTH: u8 = 2;

/// The shortest base64 that can hold `"alg":`, in characters.
const MIN_RUN: usize = 8;

/// The shortest base64 of a text of [`MIN_RUN`] bytes, in characters.
const MIN_ENCODED_RUN: usize = (MIN_RUN * 8).div_ceil(6);

/// The shortest value that counts as a token where only its surroundings say so, in bytes.
const MIN_OPAQUE: usize = 16;

/// Members of a token's header (RFC 7515, RFC 7516).
const IN_HEADER: [&str; 5] = ["alg", "typ", "kid", "enc", "cty"];

/// Members of a token's payload (RFC 7519, OpenID Connect, Auth0).
const IN_PAYLOAD: [&str; 11] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "azp",
    "gty",
    "scope",
    "permissions",
];

/// The first half of the names that OAuth's tokens have in forms, URLs and JSON (RFC 6749, RFC 6750, OpenID
/// Connect).
const NAMES: [&str; 3] = ["access", "id", "refresh"];

/// A token, as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// The text is a token and nothing else: a header, a dot, and more. The token need not be valid.
    Alone,
    /// The text contains a token.
    Wrapped(Wrapping),
    /// The text is a fragment of a token.
    Piece(Fragment),
}

/// What surrounds a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrapping {
    /// Text.
    Text {
        /// The text before the token.
        before: Option<Surrounding>,
        /// The text behind it.
        after: Option<Surrounding>,
    },
    /// A further encoding, base64 or hexadecimal.
    Encoding,
    /// The standard alphabet of base64, with `+`, `/` or `=`, instead of base64url.
    Alphabet,
    /// Line breaks or spaces between the token's characters.
    Split,
}

/// The kind of text that surrounds a token. The text itself is not kept, because it may hold another secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Surrounding {
    /// White space or invisible characters.
    Invisible,
    /// Quotes.
    Quotes,
    /// The name of the HTTP header.
    Authorization,
    /// JSON.
    Json,
    /// A URL.
    Url,
    /// The fields of a form.
    Form,
    /// The scheme `Bearer`.
    Bearer,
    /// The word `JWT`.
    Jwt,
    /// The word `Token`.
    Token,
    /// The word `password`.
    Password,
    /// Punctuation.
    Punctuation,
    /// Other text.
    Other,
}

/// A fragment of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// The token's header or the beginning of it, with its length in bytes.
    Header(usize),
    /// A part of the token that lacks its beginning.
    Rest,
}

/// Looks for a token in a text.
pub fn token(text: &[u8]) -> Option<Token> {
    if is_alone(text) {
        return Some(Token::Alone);
    }
    find(text, MAX_DEPTH)
}

/// Whether a text is a token and nothing else: base64url and dots, with a header before the first dot. The
/// token need not be valid.
pub fn is_alone(text: &[u8]) -> bool {
    let Some(dot) = text.iter().position(|&byte| byte == b'.') else {
        return false;
    };
    begins_token(&text[..dot.min(MAX_EXAMINED)]) && is_base64url_and_dots(text)
}

/// Whether a text consists of the characters of a token. The loop neither stops early nor reads a table, so
/// that the compiler can vectorise it.
fn is_base64url_and_dots(text: &[u8]) -> bool {
    let others = text.iter().fold(0u8, |others, byte| {
        let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let is_digit = byte.wrapping_sub(b'0') < 10;
        let is_mark = (*byte == b'-') | (*byte == b'_') | (*byte == b'.');
        others | u8::from(!(is_letter | is_digit | is_mark))
    });
    others == 0
}

/// Returns the few characters that may stand in a log if the text is or contains a token.
pub fn shown(text: &str) -> Option<&str> {
    const SHOWN: usize = 8;
    token(text.as_bytes())?;
    let end = text
        .char_indices()
        .nth(SHOWN)
        .map_or(text.len(), |(at, _)| at);
    Some(&text[..end])
}

fn find(text: &[u8], depth: u8) -> Option<Token> {
    if text.len() < MIN_RUN {
        return None;
    }
    let looked_at = &text[..text.len().min(MAX_EXAMINED)];
    if let Some(start) = beginning(looked_at) {
        return Some(classify(text, start));
    }
    let mut decoded = Vec::new();
    for run in runs(looked_at) {
        for skipped in 0..4.min(run.len() - MIN_RUN + 1) {
            decode(&run[skipped..], &mut decoded);
            if names(&decoded, &[&IN_HEADER, &IN_PAYLOAD]) {
                return Some(Token::Piece(Fragment::Rest));
            }
        }
        if depth > 0 && run.len() >= MIN_ENCODED_RUN && is_encoded(run, &mut decoded, depth) {
            return Some(Token::Wrapped(Wrapping::Encoding));
        }
    }
    let opaque = opaque(looked_at)?;
    Some(Token::Wrapped(Wrapping::Text {
        before: surrounding(&text[..opaque]),
        after: None,
    }))
}

/// Classifies a text in which a token begins, with its header, at `start`.
fn classify(text: &[u8], start: usize) -> Token {
    let is_of_token = |byte: &u8| b".=".contains(byte) || is_base64(*byte);
    let (before, rest) = text.split_at(start);
    let length = rest.iter().take_while(|byte| is_of_token(byte)).count();
    let (token, after) = rest.split_at(length);
    // Some payloads also have members of a header.
    if before.ends_with(b".") {
        return Token::Piece(Fragment::Rest);
    }
    if !before.is_empty() || !after.trim_ascii().is_empty() {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace();
        let is_split = before.iter().all(is_blank)
            && after.iter().all(|byte| is_blank(byte) || is_of_token(byte));
        return Token::Wrapped(match is_split {
            true if !after.trim_ascii().is_empty() => Wrapping::Split,
            _ => text_around(before, after),
        });
    }
    if !after.is_empty() {
        Token::Wrapped(text_around(before, after))
    } else if token.contains(&b'.') {
        Token::Wrapped(Wrapping::Alphabet)
    } else {
        Token::Piece(Fragment::Header(text.len()))
    }
}

fn text_around(before: &[u8], after: &[u8]) -> Wrapping {
    Wrapping::Text {
        before: surrounding(before),
        after: surrounding(after),
    }
}

/// Returns where a token begins, with its header.
fn beginning(text: &[u8]) -> Option<usize> {
    /// One of a header's first members is known, and they are short.
    const MAX_EXAMINED_HEADER: usize = 160;
    /// Limits the work: a client may send thousands of false beginnings. Behind so many, a token counts as a
    /// fragment.
    const MAX_TRIES: usize = 8;
    // In base64, `{` becomes `e` and one of `w`, `x`, `y`, `z`; with a quote or white space behind it, `ew`
    // or `ey`.
    text.windows(2)
        .enumerate()
        .filter(|(_, pair)| matches!(pair, [b'e', b'w' | b'y']))
        .map(|(at, _)| at)
        .take(MAX_TRIES)
        .find(|&at| begins_token(&text[at..text.len().min(at + MAX_EXAMINED_HEADER)]))
}

/// Whether the base64url at the beginning of this text is an object that names a member of a header.
fn begins_token(text: &[u8]) -> bool {
    let run = runs(text).next();
    let Some(run) = run.filter(|run| text.starts_with(run)) else {
        return false;
    };
    // In base64, `{` becomes `e` and one of `w`, `x`, `y`, `z`.
    if !matches!(run, [b'e', b'w'..=b'z', ..]) {
        return false;
    }
    let mut decoded = Vec::new();
    decode(run, &mut decoded);
    (decoded[1] == b'"' || decoded[1].is_ascii_whitespace()) && names(&decoded, &[&IN_HEADER])
}

/// Returns the runs of base64, in either alphabet, that are long enough to be examined.
fn runs(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| !is_base64(byte))
        .filter(|run| run.len() >= MIN_RUN)
}

/// The value of each character of base64url. The two characters of the other alphabet have [`OTHER_ALPHABET`]
/// set beside their value, and all other characters are [`NONE`]. This is a table because every sign-in with
/// a token uses it.
static VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut value = 0;
    while value < alphabet.len() {
        values[alphabet[value] as usize] = value as u8;
        value += 1;
    }
    values[b'+' as usize] = 62 | OTHER_ALPHABET;
    values[b'/' as usize] = 63 | OTHER_ALPHABET;
    values
};
const OTHER_ALPHABET: u8 = 0x40;
const NONE: u8 = 0xff;

fn is_base64(byte: u8) -> bool {
    VALUES[usize::from(byte)] != NONE
}

/// Decodes a run as far as possible. The run may have been cut anywhere, so no ending is an error.
fn decode(run: &[u8], bytes: &mut Vec<u8>) {
    bytes.clear();
    // Reserved at once: growing would leave copies of what may be a secret in freed memory.
    bytes.reserve(run.len());
    let (mut waiting, mut bits) = (0u32, 0);
    for byte in run {
        let value = VALUES[usize::from(*byte)] & 63;
        (waiting, bits) = (waiting << 6 | u32::from(value), bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push((waiting >> bits) as u8);
        }
    }
}

/// Whether a text names one of these members, as in `"alg":`.
fn names(json: &[u8], members: &[&[&str]]) -> bool {
    const LONGEST: usize = "permissions".len();
    let mut rest = json;
    while let Some(quote) = rest.iter().position(|&byte| byte == b'"') {
        rest = &rest[quote + 1..];
        let near = &rest[..rest.len().min(LONGEST + 1)];
        let Some(length) = near.iter().position(|&byte| byte == b'"') else {
            continue;
        };
        let (name, behind) = (&rest[..length], rest[length + 1..].trim_ascii_start());
        let is_known = |name: &[u8]| {
            let mut members = members.iter().copied().flatten();
            members.any(|member| member.as_bytes() == name)
        };
        if behind.starts_with(b":") && is_known(name) {
            return true;
        }
    }
    false
}

/// Whether a run is the encoding of a text that contains a token.
fn is_encoded(run: &[u8], decoded: &mut Vec<u8>, depth: u8) -> bool {
    let holds_token = |decoded: &mut Vec<u8>| {
        // Some clients encode UTF-16, or put a byte order mark in front.
        decoded.retain(|byte| !b"\0\xef\xbb\xbf\xfe\xff".contains(byte));
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        decoded.iter().all(is_text) && find(decoded, depth - 1).is_some()
    };
    decode(run, decoded);
    if holds_token(decoded) {
        return true;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, _) = run.as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map_while(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8));
    decoded.clear();
    decoded.extend(bytes);
    decoded.len() > 8 && holds_token(decoded)
}

/// Returns where a value begins that is a token according to the text before it.
fn opaque(text: &[u8]) -> Option<usize> {
    if text.len() < MIN_OPAQUE {
        return None;
    }
    let begins = |at: usize, word: &str| {
        let there = text.get(at..at + word.len());
        there.is_some_and(|there| there.eq_ignore_ascii_case(word.as_bytes()))
    };
    let value = |from: usize| {
        let is_gap = |byte: &&u8| b"\"'`\\: \t\r\n=>+%".contains(byte);
        let is_value = |byte: &&u8| is_base64(**byte) || b".~".contains(byte);
        let gap = text[from..].iter().take_while(is_gap).count();
        let value = text[from + gap..].iter().take_while(is_value);
        (gap > 0 && value.count() >= MIN_OPAQUE).then_some(from + gap)
    };
    // Forms, URLs, JSON and programs write `access_token`, `accessToken` or `access-token`.
    let of_tokens = |at: usize| {
        let name = text[..at]
            .strip_suffix(b"_")
            .or(text[..at].strip_suffix(b"-"));
        let name = name.unwrap_or(&text[..at]);
        NAMES.iter().any(|kind| {
            let start = name.len().checked_sub(kind.len());
            start.is_some_and(|start| begins(start, kind))
        })
    };
    let named = (0..text.len()).find_map(|at| match begins(at, "token") && of_tokens(at) {
        true => value(at + "token".len()),
        false => None,
    });
    // RFC 6750, section 2.1. Without the header's name the scheme counts only at the start: elsewhere it is a
    // word in a sentence.
    let mut is_header = false;
    named.or_else(|| {
        (0..text.len()).find_map(|at| {
            is_header |= begins(at, "authorization");
            let start = begins(at, "bearer").then(|| value(at + "bearer".len()))??;
            let is_all = !text[..at].iter().any(u8::is_ascii_alphanumeric)
                && !text[start..].trim_ascii_end().contains(&b' ');
            (is_header || is_all).then_some(start)
        })
    })
}

/// Returns the kind of text that surrounds a token, or `None` if there is none.
fn surrounding(text: &[u8]) -> Option<Surrounding> {
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_EXAMINED)]).to_lowercase();
    let has = |word: &str| text.contains(word);
    let is_blank = |c: char| {
        c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2060}')
    };
    let is_quote = |c: char| "'\"`\\‘’“”„«»".contains(c);
    Some(if text.is_empty() {
        return None;
    } else if text.chars().all(is_blank) {
        Surrounding::Invisible
    } else if text.chars().all(|c| is_quote(c) || is_blank(c)) {
        Surrounding::Quotes
    } else if has("authorization") {
        Surrounding::Authorization
    } else if has("{") || has("}") {
        Surrounding::Json
    } else if has("://") {
        Surrounding::Url
    } else if has("&") || has("access_token") || has("id_token") || has("refresh_token") {
        Surrounding::Form
    } else if has("bearer") {
        Surrounding::Bearer
    } else if has("jwt") {
        Surrounding::Jwt
    } else if has("token") {
        Surrounding::Token
    } else if has("password") {
        Surrounding::Password
    } else if text
        .chars()
        .all(|c| c.is_ascii_punctuation() || is_blank(c))
    {
        Surrounding::Punctuation
    } else {
        Surrounding::Other
    })
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };

    use super::*;

    const HEADER: &str = r#"{"alg":"RS256","typ":"JWT","kid":"NjVBRjY5MDlCMUIwNzU4RTA2QzZFMDQ4"}"#;
    const PAYLOAD: &str = concat!(
        r#"{"https://mqtt.example/topics":["temperature?>"],"iss":"https://example.eu.auth0.com/","#,
        r#""sub":"auth0|5f7c8ec7c33c6c004bbafe82","aud":"https://mqtt.example/","iat":1700000000,"#,
        r#""exp":1700086400,"scope":"openid","azp":"my_client_id"}"#
    );

    fn good() -> String {
        let signature: Vec<u8> = (0..=255).map(|i: u8| i.wrapping_mul(151)).collect();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!(
            "{}.{}.{}",
            part(HEADER.as_bytes()),
            part(PAYLOAD.as_bytes()),
            part(&signature)
        )
    }

    fn sentence(text: &str) -> String {
        token(text.as_bytes()).map_or("none".into(), |token| token.to_string())
    }

    /// Mistakes that devices and people make with tokens, from public threads about clients that were
    /// refused.
    #[test]
    fn a_token_is_recognised_in_every_known_wrapping() {
        let good = good();
        let (header, rest) = good.split_once('.').unwrap();
        let (payload, signature) = rest.split_once('.').unwrap();
        let answer =
            format!(r#"{{"access_token":"{good}","expires_in":86400,"token_type":"Bearer"}}"#);
        let opaque = "PPlGNh1wLQbJznsdLCx5XFb04ZPKzPxL";
        let jwe = format!(
            "{}..48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX.XFBoMYUZodetZdvTiFvSkQ",
            URL_SAFE_NO_PAD
                .encode(r#"{"alg":"dir","enc":"A256GCM","iss":"https://example.eu.auth0.com/"}"#)
        );
        let lines: Vec<_> = good
            .as_bytes()
            .chunks(76)
            .map(|l| str::from_utf8(l).unwrap())
            .collect();
        let hex: String = good.bytes().map(|byte| format!("{byte:02x}")).collect();
        let wide: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let general = format!(
            r#"{{"payload":"{payload}","signatures":[{{"protected":"{header}","signature":"{signature}"}}]}}"#
        );
        for (how, text, said) in [
            // Correct tokens, and mistakes that the check of the token explains.
            ("as it came", good.clone(), "is a token"),
            (
                "without its signature",
                format!("{header}.{payload}"),
                "is a token",
            ),
            (
                "with an empty signature",
                format!("{header}.{payload}."),
                "is a token",
            ),
            ("cut after 255 bytes", good[..255].into(), "is a token"),
            (
                "cut after 1023 bytes",
                format!("{good}{}", "A".repeat(1000))[..1023].into(),
                "is a token",
            ),
            ("two tokens in one", format!("{good}.{good}"), "is a token"),
            ("an encrypted one", jwe, "is a token"),
            // HTTP's syntax in front of the token.
            (
                "scheme",
                format!("Bearer {good}"),
                "`Bearer` in front of it",
            ),
            (
                "scheme in small letters",
                format!("bearer {good}"),
                "`Bearer` in front of it",
            ),
            (
                "scheme in capitals",
                format!("BEARER {good}"),
                "`Bearer` in front of it",
            ),
            (
                "scheme without a space",
                format!("Bearer{good}"),
                "`Bearer` in front of it",
            ),
            (
                "scheme with a colon",
                format!("Bearer: {good}"),
                "`Bearer` in front of it",
            ),
            (
                "scheme, percent-encoded",
                format!("Bearer%20{good}"),
                "`Bearer` in front of it",
            ),
            (
                "scheme, encoded for a form",
                format!("Bearer+{good}"),
                "`Bearer` in front of it",
            ),
            (
                "scheme twice",
                format!("Bearer Bearer {good}"),
                "`Bearer` in front of it",
            ),
            (
                "Django's scheme",
                format!("JWT {good}"),
                "`JWT` in front of it",
            ),
            (
                "another scheme",
                format!("Token {good}"),
                "`Token` in front of it",
            ),
            (
                "a header",
                format!("Authorization: Bearer {good}"),
                "`Authorization:` in front of it",
            ),
            (
                "a header for curl",
                format!("-H 'authorization: bearer {good}'"),
                "`Authorization:` in front of it and quotes behind it",
            ),
            (
                "HTTP Basic",
                format!("Basic {}", STANDARD.encode(format!("JWT:{good}"))),
                "encoded once more",
            ),
            // Quotes, white space and invisible characters.
            ("quotes", format!("\"{good}\""), "quotes around it"),
            ("single quotes", format!("'{good}'"), "quotes around it"),
            (
                "a word processor's quotes",
                format!("“{good}”"),
                "quotes around it",
            ),
            ("one quote", format!("{good}\""), "quotes behind it"),
            (
                "escaped quotes",
                format!(r#"\"{good}\""#),
                "quotes around it",
            ),
            (
                "a scheme in quotes",
                format!("\"Bearer {good}\""),
                "`Bearer` in front of it and quotes behind it",
            ),
            (
                "a newline, from a file",
                format!("{good}\n"),
                "white space or an invisible character behind it",
            ),
            (
                "a newline of Windows",
                format!("{good}\r\n"),
                "white space or an invisible character behind it",
            ),
            (
                "spaces",
                format!("  {good} "),
                "white space or an invisible character around it",
            ),
            (
                "a byte order mark",
                format!("\u{feff}{good}"),
                "an invisible character in front of it",
            ),
            (
                "a zero width space",
                format!("\u{200b}{good}"),
                "an invisible character in front of it",
            ),
            (
                "lines",
                lines.join("\n"),
                "white space or line breaks in it",
            ),
            (
                "lines of Windows",
                lines.join("\r\n"),
                "white space or line breaks in it",
            ),
            (
                "spaces at the line breaks",
                lines.join(" "),
                "white space or line breaks in it",
            ),
            ("a comma", format!("{good},"), "punctuation behind it"),
            ("brackets", format!("<{good}>"), "punctuation around it"),
            // The tenant's response, and texts like it.
            ("the answer", answer.clone(), "JSON around it"),
            (
                "the answer, in lines",
                answer.replace(',', ",\n  "),
                "JSON around it",
            ),
            (
                "the answer, escaped",
                answer.replace('"', "\\\""),
                "JSON around it",
            ),
            (
                "the answer with an ID token",
                format!(r#"{{"id_token":"{good}"}}"#),
                "JSON around it",
            ),
            (
                "an opaque answer",
                format!(r#"{{"access_token":"{opaque}","scope":"openid"}}"#),
                "JSON in front of it",
            ),
            (
                "a refresh token",
                format!(r#"{{"refresh_token": "{opaque}"}}"#),
                "JSON in front of it",
            ),
            ("a list", format!("[\"{good}\"]"), "punctuation around it"),
            (
                "a field",
                format!("access_token={good}"),
                "a form's fields in front of it",
            ),
            (
                "a field with an opaque one",
                format!("access_token={opaque}"),
                "a form's fields in front of it",
            ),
            (
                "a fragment",
                format!("#access_token={good}&expires_in=86400&token_type=Bearer"),
                "a form's fields around it",
            ),
            (
                "a callback",
                format!("https://app.example/callback#access_token={good}"),
                "a URL in front of it",
            ),
            (
                "an opaque one with its scheme",
                format!("Bearer {opaque}"),
                "`Bearer` in front of it",
            ),
            (
                "an opaque one in a header for curl",
                format!("-H \"Authorization: Bearer {opaque}\""),
                "`Authorization:` in front of it",
            ),
            (
                "an opaque one in a list of headers",
                format!("{{\"Authorization\": \"Bearer {opaque}\"}}"),
                "`Authorization:` in front of it",
            ),
            (
                "an opaque one, percent-encoded",
                format!("Bearer%20{opaque}"),
                "`Bearer` in front of it",
            ),
            (
                "an opaque one with a space behind it",
                format!("Bearer {opaque} "),
                "`Bearer` in front of it",
            ),
            (
                "what a library made of the answer",
                format!("{{\"accessToken\":\"{opaque}\"}}"),
                "JSON in front of it",
            ),
            (
                "a library's refresh token",
                format!("refreshToken: '{opaque}'"),
                "`Token` in front of it",
            ),
            (
                "a header of a gateway's",
                format!("x-access-token: {opaque}"),
                "`Token` in front of it",
            ),
            (
                "an opaque answer, escaped",
                format!("{{\\\"access_token\\\": \\\"{opaque}\\\"}}"),
                "JSON in front of it",
            ),
            (
                "a program's text",
                format!("'access_token' => '{opaque}'"),
                "a form's fields in front of it",
            ),
            (
                "an assignment",
                format!("TOKEN={good}"),
                "`Token` in front of it",
            ),
            (
                "a shell's",
                format!("export ACCESS_TOKEN=\"{good}\""),
                "a form's fields in front of it and quotes behind it",
            ),
            (
                "a broker's password line",
                format!("password={good}"),
                "`password` in front of it",
            ),
            (
                "a user before it",
                format!("thermostat-1a:{good}"),
                "other text in front of it",
            ),
            (
                "a custom frame",
                format!("OPENID~~{good}~"),
                "other text in front of it and punctuation behind it",
            ),
            (
                "what was in the buffer",
                format!("{good}\u{fffd}\u{1}x"),
                "other text behind it",
            ),
            ("JWS in JSON", general, "JSON around it"),
            // Encoded again.
            ("base64", STANDARD.encode(&good), "encoded once more"),
            (
                "base64url",
                URL_SAFE_NO_PAD.encode(&good),
                "encoded once more",
            ),
            (
                "base64 twice",
                STANDARD.encode(STANDARD.encode(&good)),
                "encoded once more",
            ),
            (
                "base64 of UTF-16",
                STANDARD.encode(wide),
                "encoded once more",
            ),
            (
                "base64 of the answer",
                STANDARD.encode(&answer),
                "encoded once more",
            ),
            ("hexadecimal", hex, "encoded once more"),
            (
                "base64 of a file of Windows",
                STANDARD.encode(format!("\u{feff}{good}")),
                "encoded once more",
            ),
            (
                "plain base64",
                good.replace('-', "+").replace('_', "/"),
                "not in base64url",
            ),
            (
                "padding",
                format!("{header}=.{payload}=.{signature}="),
                "not in base64url",
            ),
            // Cut off.
            (
                "after 10 bytes",
                good[..10].into(),
                "cut off in its header after 10 bytes",
            ),
            (
                "after 31 bytes",
                good[..31].into(),
                "cut off in its header after 31 bytes",
            ),
            (
                "after 63 bytes",
                good[..63].into(),
                "cut off in its header after 63 bytes",
            ),
            ("the header alone", header.into(), "cut off in its header"),
            (
                "without its first letter",
                good[1..].into(),
                "without its beginning",
            ),
            (
                "without its first two",
                good[2..].into(),
                "without its beginning",
            ),
            (
                "without its first three",
                good[3..].into(),
                "without its beginning",
            ),
            ("without its header", rest.into(), "without its beginning"),
            ("the payload alone", payload.into(), "without its beginning"),
            (
                "half a payload",
                payload[150..].into(),
                "without its beginning",
            ),
            (
                "a cut one with its scheme",
                format!("Bearer {}", &good[..120]),
                "`Bearer` in front of it",
            ),
        ] {
            assert!(
                sentence(&text).contains(said),
                "{how}: {}: {text}",
                sentence(&text)
            );
            assert!(
                shown(&text).is_some_and(|shown| shown.chars().count() <= 8),
                "{how}"
            );
        }
    }

    #[test]
    fn every_fragment_of_a_token_is_recognised_unless_too_short() {
        let good = good();
        let step = if cfg!(miri) { 11 } else { 1 };
        for end in (10..good.len()).step_by(step) {
            assert!(token(&good.as_bytes()[..end]).is_some(), "the first {end}");
        }
        let signature = good.rfind('.').unwrap();
        for start in (0..signature - 40).step_by(step) {
            assert!(
                token(&good.as_bytes()[start..]).is_some(),
                "from {start} on"
            );
        }
    }

    #[test]
    fn a_header_is_recognised_with_any_white_space_and_member_order() {
        for header in [
            r#"{"alg":1}"#,
            r#"{ "alg" : "none" }"#,
            "{\r\n  \"typ\": \"JWT\"}",
            "{\t\"kid\":\"a\"}",
            r#"{"x5c":["MIIC"],"alg":"RS256"}"#,
        ] {
            let text = format!("{}.x.y", URL_SAFE_NO_PAD.encode(header));
            assert_eq!(token(text.as_bytes()), Some(Token::Alone), "{header}");
        }
        let long = format!(r#"{{"x5c":["{}"],"alg":"RS256"}}"#, "MIIC".repeat(200));
        let text = format!("{}.x.y", URL_SAFE_NO_PAD.encode(long));
        assert_eq!(token(text.as_bytes()), Some(Token::Alone));
    }

    #[test]
    fn passwords_and_names_are_not_tokens() {
        let uuid = "9b2f8a1e-5c3d-4f6a-8b7c-0d1e2f3a4b5c";
        let long = "correct horse battery staple ".repeat(40);
        let encoded = STANDARD.encode("a secret that somebody has written in base64, for safety");
        let json = STANDARD.encode(r#"{"user":"thermostat-1a","password":"secret"}"#);
        let sas = "SharedAccessSignature sr=hub.example&sig=Yx3b%2FkTqO1Jc8vZt5w%3D&se=1700000000";
        for text in [
            "",
            ".",
            "..",
            "a.b.c",
            "hunter2",
            "eyJ",
            "eyJ.",
            "eyJoey.2024",
            "eyJoeyJoey.Johnson.1999",
            "eyJhbGc",
            "e30.x.y",
            "ewww.that.hurts",
            "undefined",
            "null",
            "[object Object]",
            "<token>",
            "YOUR_TOKEN_HERE",
            "token",
            "Bearer",
            "bearer token",
            "Bearer of the ring and other long stories",
            "access_token",
            "access_token=",
            "my-access_token=short",
            "accessToken: short",
            "refresh_token_service_account_01",
            "use-token-auth",
            "my token: correcthorsebatterystaple",
            "No authorization for a bearer",
            "the bearer correcthorsebatterystaple",
            "JWT",
            "p+a&s=s%w.o/r?d#\u{e9}",
            "\u{e9}yJ.x",
            "\"alg\":\"RS256\"",
            r#"{"alg":"RS256","typ":"JWT"}"#,
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "thermostat-1a",
            "spiffe://example.org/ns/default/sa/device",
            "CN=device,O=Example",
            "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
            "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW",
            "PPlGNh1wLQbJznsdLCx5XFb04ZPKzPxL",
            uuid,
            &long,
            &encoded,
            &json,
            sas,
        ] {
            assert_eq!(token(text.as_bytes()), None, "{text}");
            assert_eq!(shown(text), None, "{text}");
        }
    }

    /// A small random number generator (SplitMix64) with a fixed seed, so that failures can be repeated.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as usize % end
        }
    }

    #[test]
    fn no_random_password_is_a_token() {
        const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let printable: Vec<u8> = (b' '..=b'~').collect();
        let mut random = Random(20);
        let rounds = if cfg!(miri) { 500 } else { 100_000 };
        for round in 0..rounds {
            let alphabet = [BASE64, printable.as_slice(), b"0123456789abcdef"][round % 3];
            let mut text: Vec<u8> = match round % 5 {
                0 => b"eyJ".to_vec(),
                1 => b"Bearer.".to_vec(),
                _ => Vec::new(),
            };
            for _ in 0..8 + random.below(72) {
                text.push(match random.below(16) {
                    0 => b'.',
                    _ => alphabet[random.below(alphabet.len())],
                });
            }
            assert_eq!(token(&text), None, "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic() {
        let mut random = Random(7);
        let step = if cfg!(miri) { 97 } else { 1 };
        for length in (0..2_000).step_by(step) {
            let bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            assert_eq!(token(&bytes), None);
        }
        for text in ["ey", "eyJ", "ewog", "e", "\"", "=", "."] {
            let longest = if cfg!(miri) { 2_000 } else { 65_535 };
            let _ = token(text.repeat(longest / text.len()).as_bytes());
        }
    }
}
