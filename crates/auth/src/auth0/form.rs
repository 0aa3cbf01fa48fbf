//! The body of a token request (RFC 6749, section 4.3.2), the credentials of the application in it, and whether any of
//! it was sent.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    client_auth::{
        ApplicationCredential, ClientAuth,
        assertion::{self, AssertionKeyProblem},
    },
    clock::Unix,
    config::{Application, IssuerConfig},
    secret::Secret,
};

/// Returns the form of a password grant, without the user's name and password and without the application. With a
/// connection (a "realm") Auth0 has a grant type of its own, because the plain `password` grant has no realm (Auth0,
/// "Resource Owner Password Flow", realm support).
pub(super) fn password_form<'a>(
    application: &'a Application,
    issuer: &'a IssuerConfig,
) -> Vec<(&'a str, &'a str)> {
    let mut form = vec![
        ("audience", issuer.audiences[0].as_str()),
        ("scope", application.scope.as_str()),
    ];
    match &application.connection {
        Some(realm) => form.extend([
            (
                "grant_type",
                "http://auth0.com/oauth/grant-type/password-realm",
            ),
            ("realm", realm),
        ]),
        None => form.push(("grant_type", "password")),
    }
    form
}

/// What a request has to prove who the application is.
#[derive(Default)]
pub(super) struct ApplicationProof<'a> {
    fields: Vec<(&'static str, Cow<'a, str>)>,
    /// The header `Authorization`.
    pub(super) authorization: Option<String>,
}

impl<'a> ApplicationProof<'a> {
    /// Returns the credentials of the application. `sent_by` is how a secret is sent, and `issuer` is whom an assertion
    /// is for.
    ///
    /// # Errors
    ///
    /// Returns an error if the private key cannot sign.
    pub(super) fn new(
        client_id: &'a str,
        credential: &'a ApplicationCredential,
        sent_by: ClientAuth,
        issuer: &str,
        now: Unix,
    ) -> Result<Self, AssertionKeyProblem> {
        let mut fields = vec![("client_id", client_id.into())];
        match (credential, sent_by) {
            (ApplicationCredential::None, _) => {}
            (ApplicationCredential::Secret(secret), ClientAuth::Basic) => {
                let authorization = Some(basic_authorization(client_id, text_of(secret)));
                return Ok(Self {
                    authorization,
                    ..Self::default()
                });
            }
            (ApplicationCredential::Secret(secret), _) => {
                fields.push(("client_secret", text_of(secret).into()));
            }
            (ApplicationCredential::Key(key), _) => {
                let assertion = key.assertion(client_id, issuer, now)?;
                fields.push(("client_assertion_type", assertion::KIND.into()));
                fields.push(("client_assertion", assertion.into()));
            }
        }
        Ok(Self {
            fields,
            authorization: None,
        })
    }

    /// Returns the fields of the form.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (*name, &**value))
    }
}

fn text_of(secret: &Secret) -> &str {
    let text = secret.reveal_str();
    text.expect("only text is taken for a secret")
}

/// Returns the header `Authorization` with the application's ID and secret, each encoded like a field of a form
/// (RFC 6749, section 2.3.1).
fn basic_authorization(client_id: &str, secret: &str) -> String {
    let mut both = Vec::new();
    encode(client_id, &mut both);
    both.push(b':');
    encode(secret, &mut both);
    format!("Basic {}", STANDARD.encode(both))
}

/// A form that is being sent.
///
/// A password that the tenant has received may have been counted as a wrong one, so after a failed request it
/// matters whether it was sent. The HTTP library only says that the request failed; the kind of error does
/// not tell, because a connection can be reset before and after. But the library reads the body only when the
/// connection stands, TLS included. So this type records whether the body was read.
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    taken: usize,
}

impl Outgoing {
    /// Encodes a form (WHATWG URL, "application/x-www-form-urlencoded serializing").
    pub(super) fn new(form: &[(&str, &str)]) -> Self {
        let longest: usize = form
            .iter()
            .map(|(name, value)| 3 * (name.len() + value.len()) + 2)
            .sum();
        // Reserved at once: a buffer that grows would leave copies of the password in freed memory.
        let mut bytes = Vec::with_capacity(longest);
        for (name, value) in form {
            if !bytes.is_empty() {
                bytes.push(b'&');
            }
            encode(name, &mut bytes);
            bytes.push(b'=');
            encode(value, &mut bytes);
        }
        Self { bytes, taken: 0 }
    }

    /// Returns the length in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether any part of the form may have been sent.
    pub(super) fn was_taken(&self) -> bool {
        self.taken > 0
    }
}

impl Read for Outgoing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = &self.bytes[self.taken..];
        let count = rest.read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

fn encode(text: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend([
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_survives_encoding() {
        let mut form = Outgoing::new(&[("user name", "a&b=c"), ("password", "p+%/ é#\0*-._~")]);
        let mut text = String::new();
        assert!(!form.was_taken() && form.len() > 0);
        assert_eq!(form.read_to_string(&mut text).unwrap(), form.len());
        assert_eq!(
            text,
            "user+name=a%26b%3Dc&password=p%2B%25%2F+%C3%A9%23%00*-._%7E"
        );
        assert!(form.was_taken());
    }

    #[test]
    fn a_partly_read_form_counts_as_sent() {
        let mut form = Outgoing::new(&[("password", "secret")]);
        assert_eq!(form.read(&mut [0; 4]).unwrap(), 4);
        assert!(form.was_taken());
    }
}
