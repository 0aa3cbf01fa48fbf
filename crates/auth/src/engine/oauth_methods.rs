//! Authentication methods of MQTT 5, and where the token is in their data.
//!
//! * `OAUTH2-JWT` and `CUSTOM-JWT`, as clients of Azure Event Grid use them: the data is the token.
//! * `OAUTHBEARER`, a SASL mechanism (RFC 7628): the token is in a message with other fields. A refusal is a message
//!   in JSON, which the client acknowledges before the server refuses it (section 3.2.3).

use std::sync::Arc;

use crate::refusal::{ConnackReason, ConnectDetail, Reason, Refusal, Responsible};

/// An authentication method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// The data is the token.
    Token,
    /// The data is a message of OAUTHBEARER.
    OAuthBearer,
}

/// What a client sent as authentication data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Presentation<'a> {
    /// The token: any bytes.
    pub token: &'a [u8],
    /// The identity that the client asks for, if it says so.
    pub authzid: Option<Arc<str>>,
}

impl Method {
    /// Returns the method of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "OAUTH2-JWT" | "CUSTOM-JWT" => Some(Self::Token),
            "OAUTHBEARER" => Some(Self::OAuthBearer),
            _ => None,
        }
    }

    /// Returns the token in this data.
    ///
    /// # Errors
    ///
    /// Returns [`Reason::AuthData`] if the data is not as the method says.
    pub(super) fn read(self, data: &[u8]) -> Result<Presentation<'_>, Refusal> {
        match self {
            Self::Token => Ok(Presentation {
                token: data,
                authzid: None,
            }),
            Self::OAuthBearer => oauth_bearer(data)
                .ok_or_else(|| Refusal::new(Reason::AuthData, ConnectDetail::NotOAuthBearer)),
        }
    }

    /// Returns the message that tells a client of a refusal, if the method has one.
    pub(super) fn failure(self, reason: Reason) -> Option<Vec<u8>> {
        if self == Self::Token {
            return None;
        }
        // Those of RFC 6750, section 3.1, and of the registry that RFC 7628 refers to.
        let status = match (reason.responsible(), reason.connack_reason()) {
            (Responsible::Passing, _) | (_, ConnackReason::Unavailable | ConnackReason::Busy) => {
                "temporarily_unavailable"
            }
            _ if reason == Reason::AuthData => "invalid_request",
            (_, ConnackReason::BadCredential) => "invalid_token",
            _ => "access_denied",
        };
        Some(format!("{{\"status\":\"{status}\"}}").into_bytes())
    }
}

/// Reads the first message of a client (RFC 7628, section 3.1):
/// `n,a=IDENTITY,` and then `KEY=VALUE` pairs, with a byte 1 before, between and twice after them.
fn oauth_bearer(message: &[u8]) -> Option<Presentation<'_>> {
    const SEPARATOR: u8 = 1;
    let pairs = message.strip_suffix(&[SEPARATOR, SEPARATOR])?;
    let mut fields = pairs.split(|byte| *byte == SEPARATOR);
    // Without channel binding: a broker has none to offer.
    let header = std::str::from_utf8(fields.next()?).ok()?;
    let header = header.strip_prefix("n,").or(header.strip_prefix("y,"))?;
    let authzid = match header.strip_suffix(',')? {
        "" => None,
        identity => Some(saslname(identity.strip_prefix("a=")?)?.into()),
    };
    let mut token = None;
    for field in fields {
        let at = field.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&field[..at], &field[at + 1..]);
        if name.is_empty() || !name.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        // `host` and `port` name a server, and this is the one that was reached.
        if name == b"auth" && token.replace(bearer(value)?).is_some() {
            return None;
        }
    }
    let token = token?;
    Some(Presentation { token, authzid })
}

/// Returns the token behind the scheme, which may be written in any case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token)
}

/// Decodes an identity: `=2C` stands for a comma, `=3D` for an equals sign (RFC 5801, section 4).
fn saslname(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (decoded, rest) = match part.split_at_checked(2)? {
            ("2C", rest) => (',', rest),
            ("3D", rest) => ('=', rest),
            _ => return None,
        };
        name.push(decoded);
        name.push_str(rest);
    }
    (!name.is_empty() && !text.contains(',')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str) -> Option<(String, Option<String>)> {
        let read = Method::OAuthBearer.read(message.as_bytes()).ok()?;
        let token = String::from_utf8(read.token.to_vec()).unwrap();
        Some((token, read.authzid.map(|identity| identity.to_string())))
    }

    #[test]
    fn messages_of_oauthbearer_are_read() {
        let plain = "n,,\x01auth=Bearer a.b.c\x01\x01";
        assert_eq!(read(plain), Some(("a.b.c".into(), None)));
        // The example of RFC 7628, section 4.1.
        let example = "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01\
                       auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        let (token, identity) = read(example).unwrap();
        assert_eq!(token, "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        assert_eq!(identity.unwrap(), "user@example.com");
        let odd = read("y,a=a=2Cb=3Dc,\x01auth=bEARER x\x01\x01");
        assert_eq!(odd, Some(("x".into(), Some("a,b=c".into()))));
    }

    #[test]
    fn what_is_no_message_of_oauthbearer_is_refused() {
        for message in [
            "",
            "a.b.c",
            "\x01",
            "\x01\x01",
            "n,,\x01\x01",
            "n,,\x01auth=Bearer a",
            "n,,\x01auth=Bearer a\x01",
            "n,\x01auth=Bearer a\x01\x01",
            "p=tls-unique,,\x01auth=Bearer a\x01\x01",
            "n,user,\x01auth=Bearer a\x01\x01",
            "n,a=b,c,\x01auth=Bearer a\x01\x01",
            "n,a=,\x01auth=Bearer a\x01\x01",
            "n,a=b=2,\x01auth=Bearer a\x01\x01",
            "n,a=b=2cd,\x01auth=Bearer a\x01\x01",
            "n,,\x01auth=Basic a\x01\x01",
            "n,,\x01auth=Bearer\x01\x01",
            "n,,\x01auth\x01\x01",
            "n,,\x01=x\x01auth=Bearer a\x01\x01",
            "n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
        ] {
            assert_eq!(read(message), None, "{message:?}");
        }
    }

    #[test]
    fn the_data_of_the_other_methods_is_the_token() {
        for name in ["OAUTH2-JWT", "CUSTOM-JWT"] {
            let method = Method::named(name).unwrap();
            assert_eq!(method.read(b"a.b.c").unwrap().token, b"a.b.c");
            assert_eq!(method.failure(Reason::TokenExpired), None);
        }
        assert_eq!(Method::named("SCRAM-SHA-256"), None);
        assert_eq!(Method::named("oauth2-jwt"), None, "names have a case");
    }

    #[test]
    fn failures_say_whether_to_try_again() {
        for (reason, status) in [
            (Reason::TokenExpired, "invalid_token"),
            (Reason::AuthData, "invalid_request"),
            (Reason::TokenAudience, "access_denied"),
            (Reason::TokenKeyPending, "temporarily_unavailable"),
            (Reason::TokenNotYet, "temporarily_unavailable"),
        ] {
            let message = Method::OAuthBearer.failure(reason).unwrap();
            assert_eq!(
                String::from_utf8(message).unwrap(),
                format!("{{\"status\":\"{status}\"}}")
            );
        }
    }
}
