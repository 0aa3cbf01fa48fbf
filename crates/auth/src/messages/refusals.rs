//! Why a client was refused, and the fix. What was found begins with "it" or "its" where it is about the client or
//! its token.

use std::fmt;

use crate::client_auth::ClientAuth;
use crate::refusal::{
    AccessToken, CertificateProblem, ClaimProblem, ConnectDetail, DelayObstacle, Detail, FailedFor,
    Field, IssuedToken, LimitDetail, LookAt, NoAnswer, Part, PendingDetail, ProxyProblem, Refusal,
    RenewalDetail, TenantAnswer, TenantBody, TokenDetail,
};
use input::text::Quoted;

use super::OF_AUTHORITY;

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}; fix: ", self.reason.code(), self.detail)?;
        if let Some(seconds) = self.wait {
            write!(f, "wait {seconds} s; if that does not help, ")?;
        }
        f.write_str(self.fix())
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Longer than a screen, because it is one sentence for each kind of detail.
        match self {
            Self::NotSignedIn { topic } => {
                write!(f, "it has not signed in, so {} is refused", Quoted(topic))
            }
            Self::NotAllowed { topic, why, empty } => {
                write!(f, "{} is not allowed: {why}", Quoted(topic))?;
                match empty {
                    Some(claim) => {
                        let claim = Quoted(claim);
                        write!(
                            f,
                            ", because its token lists no topic at all (claim {claim})"
                        )
                    }
                    None => Ok(()),
                }
            }
            Self::ControlTopic { topic } => {
                write!(
                    f,
                    "{} is the plugin's own, and not for this client",
                    Quoted(topic)
                )
            }
            Self::Connect(detail) => write!(f, "{detail}"),
            Self::AuthMethod(method) => {
                write!(
                    f,
                    "it asks for the authentication method {}",
                    Quoted(method)
                )
            }
            Self::Renewal(detail) => write!(f, "{detail}"),
            Self::Token(detail) => write!(f, "{detail}"),
            Self::Claim { name, problem } => {
                let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                match is_word {
                    true => write!(f, "its claim {name} {problem}"),
                    false => write!(f, "its claim {} {problem}", Quoted(name)),
                }
            }
            Self::ClientIds(ids) if ids.is_empty() => f.write_str("its token is for no client ID"),
            Self::ClientIds(ids) => {
                write!(
                    f,
                    "its token is for the client ID {}",
                    list(&ids[..ids.len().min(3)], " or ")
                )
            }
            Self::Misused { field, token } => write!(f, "its {field} {token}"),
            Self::Claims(why) => write!(f, "{why}"),
            Self::RestoredFor(owner) => write!(
                f,
                "the broker restored a session with this client ID that belongs to the user {}; with state_dir the \
                 plugin would also know the account",
                Quoted(owner)
            ),
            Self::Placeholder(why) => write!(f, "{why}"),
            Self::Policy(why) => write!(f, "{why}"),
            Self::Required(unmet) => write!(f, "{unmet}"),
            Self::Limit(detail) => write!(f, "{detail}"),
            Self::Pending(detail) => write!(f, "{detail}"),
            Self::Tenant(answer) => write!(f, "{answer}"),
            Self::NoAnswer(why) => write!(f, "{why}"),
            Self::Issued { token, why, access } => issued(f, *token, why, access.as_ref()),
            Self::NotIssued { access } => {
                write!(
                    f,
                    "the tenant let it in, but {access}, and there is no ID token"
                )
            }
            Self::KeysNotFetched {
                key,
                recently: true,
            } => {
                write!(f, "{key}, and the tenant's keys were fetched moments ago")
            }
            Self::KeysNotFetched { key, .. } => {
                write!(f, "{key}, and the tenant's keys cannot be fetched now")
            }
            Self::Boundary(fault) => f.write_str(fault),
        }
    }
}

/// Writes that the tenant let the client in, and issued a token that cannot be used.
fn issued(
    f: &mut fmt::Formatter<'_>,
    token: IssuedToken,
    why: &Detail,
    access: Option<&AccessToken>,
) -> fmt::Result {
    let token = match token {
        IssuedToken::Access => "access token",
        IssuedToken::Id => "ID token",
    };
    write!(
        f,
        "the tenant let it in, and its {token} cannot be used: {why}"
    )?;
    match access {
        Some(access) => write!(f, " ({access})"),
        None => Ok(()),
    }
}

impl fmt::Display for ConnectDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPassword => "it sent no password",
            Self::CredentialsModeOff => "it sent a password, and credentials mode is off",
            Self::NoUsername => "it sent a password and no user name",
            Self::TooLong { field, bytes, most } => {
                return write!(f, "its {field} has {bytes} bytes, more than {most}");
            }
            Self::NotUtf8(field) => return write!(f, "its {field} is not UTF-8 text"),
            Self::PasswordNul => "its password holds a NUL byte",
            Self::RightsEnded => "its rights have ended since it signed in",
            Self::TokenExpired => "its token has expired",
            Self::KeyRevoked => "the key that signed its token is no longer one of the tenant's",
            Self::MaxSession => "max_session has passed since it signed in or renewed its token",
            Self::ClientIdHeld => {
                "somebody else is connected with this client ID, or has a kept session under it"
            }
            Self::UsernameNotAccepted => "the broker does not take its user name",
            Self::OtherIdentity => "it asks for another identity (authzid) than its token is for",
            Self::NotOAuthBearer => {
                "its authentication data is not a message of the method OAUTHBEARER"
            }
            Self::AuthPacketOutOfPlace => {
                "it sent an AUTH packet that neither begins nor continues an authentication"
            }
        })
    }
}

impl fmt::Display for RenewalDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong { bytes, most } => {
                return write!(f, "its message has {bytes} bytes, more than {most}");
            }
            Self::NoToken => {
                "its message is a JSON object whose member token is missing or no text"
            }
            Self::Correlation => {
                "the member correlationData of its message is no text of at most 1024 bytes"
            }
            Self::TooFast => "it sends one new token after another",
            Self::NotSignedIn => "it is not signed in with a token or an account of the tenant",
            Self::RightsEnded => "its rights have ended already",
            Self::OtherAccount => "its new token belongs to another account than its session",
            Self::OtherUsername => "its new token gives another user name than its session has",
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Username => "user name",
            Self::Password => "password",
            Self::ClientId => "client ID",
            Self::AuthenticationData => "authentication data",
            Self::Renewal => "message with a new token",
        })
    }
}

impl fmt::Display for PendingDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokerWaitedEnough => {
                f.write_str("the tenant is being asked, and the broker may not wait longer")
            }
            Self::AskedTooOften { packets } => write!(
                f,
                "the tenant is being asked, and the device has sent {packets} AUTH packets meanwhile; let it wait a \
                 second before each"
            ),
            Self::MayNotWait(why) => write!(
                f,
                "the tenant is being asked, and the device may not wait for it: {why}"
            ),
            Self::HungUp { from } => {
                f.write_str("the broker hung up, because a login from ")?;
                match from {
                    Some(address) => write!(f, "{}", Quoted(address))?,
                    None => f.write_str("an unknown address")?,
                }
                f.write_str(" waits for the tenant under this client ID")
            }
            Self::TooMany { waiting: None } => f.write_str("too many sign-ins wait"),
            Self::TooMany {
                waiting: Some(number),
            } => write!(f, "{number} sign-ins wait already"),
            Self::OptionsChanged => f.write_str(
                "the options for asking the tenant were changed while the tenant was asked about it",
            ),
            Self::TurnTooLate => f.write_str("its turn to ask the tenant came too late"),
            Self::Stopping => f.write_str("the broker is stopping"),
        }
    }
}

impl fmt::Display for DelayObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "this client ID has a session",
            Self::UsedLately => "somebody used this client ID within the last day",
            Self::TriedBefore => "the last login that waited under this client ID did not come in",
            Self::TooMany => "more client IDs were used within the last day than are remembered",
        })
    }
}

impl fmt::Display for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no access token"),
            Self::Opaque => f.write_str("the access token is opaque"),
            Self::ForAnother(why) => write!(f, "of the access token, {why}"),
        }
    }
}

impl fmt::Display for TokenDetail {
    // Longer than a screen, because it is one sentence for each finding.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, most } => {
                write!(f, "it is {bytes} bytes long, more than {most}")
            }
            Self::HeaderTooLong { bytes, most } => {
                write!(f, "its header is {bytes} bytes long, more than {most}")
            }
            Self::JsonForm => f.write_str("it is a JWS in JSON form"),
            Self::Opaque => f.write_str(
                "it is opaque, no JSON Web Token: a request for a token must name the API (audience)",
            ),
            Self::Encrypted => f.write_str("it has five parts, so it is encrypted (JWE)"),
            Self::Parts { number: 2, bytes } => write!(
                f,
                "it has 2 parts, not three: it was cut off after {bytes} bytes, or its signature was left out"
            ),
            Self::Parts { number, .. } => write!(f, "it has {number} parts, not three"),
            Self::ForeignCharacter(part) => {
                write!(f, "its {part} holds a character that no token has (not base64url)")
            }
            Self::NotBase64(part) => write!(
                f,
                "its {part} is not base64url: it was cut off, or damaged on the way"
            ),
            Self::NotJson { part, problem } => write!(f, "its {part} {problem}"),
            Self::HeaderMember(name) => write!(f, "its header's {name} is not a string"),
            Self::NoAlgorithm => f.write_str("its header has no alg"),
            Self::Algorithm { found, accepted, .. } => {
                let accepted = accepted.join(", ");
                write!(f, "it is signed with {}, and only {accepted} is accepted", Quoted(found))
            }
            Self::NoHs256Secret => {
                f.write_str("it is signed with HS256 and hs256_secret_file is not set")
            }
            Self::Extension(name) => write!(f, "its header has the extension `{name}`"),
            Self::Type(found) => write!(f, "its type is {}", Quoted(found)),
            Self::NoKeys => f.write_str("the tenant's signing keys are not known yet"),
            Self::KeyNotNamed => {
                f.write_str("it does not say which of the tenant's keys signed it (no kid)")
            }
            Self::NoSuchKey(kid) => write!(f, "the tenant has no key {}", Quoted(kid)),
            Self::KeyForAnotherAlgorithm { kid, found, of_key } => write!(
                f,
                "it is signed with {found}, and its key {} is for {of_key} only",
                Quoted(kid)
            ),
            Self::NoSignature => f.write_str("its signature is missing"),
            Self::SignatureCutOff { bytes } => write!(
                f,
                "its signature ends too early: the token was cut off after {bytes} bytes"
            ),
            Self::WrongSignature => f.write_str("its signature is not the tenant's"),
            Self::Issuer { found, accepted } => {
                let (found, accepted) = (Quoted(found), list(accepted, " or "));
                write!(f, "its issuer is {found}, not {accepted}")
            }
            Self::Audience { found, accepted } => {
                let (found, accepted) = (list(found, ", "), list(accepted, " or "));
                write!(f, "its audience is {found}, not {accepted}")
            }
            Self::Bound => f.write_str("it is bound to a key (cnf)"),
            Self::Event => f.write_str("it is a logout or event token (claim events)"),
            Self::Kind { claim, found } => write!(f, "its claim {claim} is {}", Quoted(found)),
            Self::Expired { seconds } => write!(f, "it expired {seconds} s ago"),
            Self::NotYet { claim, seconds } => {
                write!(f, "it is valid {seconds} s from now ({claim})")
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

impl fmt::Display for ClaimProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::MissingOrNotText => "is missing or not a string",
            Self::Empty => "is empty",
            Self::NotText => "is not a string",
            Self::NotTexts => "is neither a string nor an array of strings",
            Self::NotANumber => "is not a number",
            Self::NotADate => "is no date between 1970 and 9999",
            Self::TooLong(most) => return write!(f, "is longer than {most} bytes"),
            Self::ControlCharacter => "holds a control character",
        })
    }
}

impl fmt::Display for LimitDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserRefused { times, seconds } => write!(
                f,
                "the tenant refused it {times} times in a row, as an earlier line says, and is asked again in \
                 {seconds} s"
            ),
            Self::PasswordsLost { times, seconds } => write!(
                f,
                "the tenant lost {times} of its passwords in a row, and may have counted them as wrong; the next is \
                 checked in {seconds} s"
            ),
            Self::WrongPasswords { times, seconds } => write!(
                f,
                "it sent {times} wrong passwords in a row; the next one is checked in {seconds} s"
            ),
            Self::WrongPasswordsAndMore { times, asking } => write!(
                f,
                "it sent {times} wrong passwords in a row, and {asking} more are being checked"
            ),
            Self::WrongPasswordsElsewhere { times } => write!(
                f,
                "{times} wrong passwords in a row came for its user from several addresses, and it connects from \
                 another address than at its last sign-in; one more is checked each day"
            ),
            Self::Rate {
                per_second,
                is_share: false,
            } => write!(f, "more than login_rate ({per_second}) logins a second"),
            Self::Rate { per_second, .. } => write!(
                f,
                "its address has used its share of login_rate ({per_second} logins a second), and so have all \
                 clients that never signed in from their address"
            ),
            Self::RetryAfter {
                seconds,
                is_address,
            } => {
                let from = if *is_address { " from its address" } else { "" };
                write!(f, "the tenant wants no logins{from} for {seconds} s")
            }
            Self::ApplicationRejected => f.write_str(
                "the tenant rejected the application (client_id), as an earlier line says, and is asked again in a moment",
            ),
            Self::TenantFailed { times, whose } => {
                write!(f, "the tenant failed {times} times in a row")?;
                f.write_str(match whose {
                    FailedFor::Everybody => " and gets no requests for a moment",
                    FailedFor::Address => {
                        " for users at its address, and is not asked for that address for a moment"
                    }
                    FailedFor::User => {
                        " for this user at its address, and is not asked about it for a moment"
                    }
                })
            }
        }
    }
}

impl fmt::Display for TenantAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the tenant answered {}", self.status)?;
        match &self.body {
            TenantBody::Ignored => {}
            TenantBody::NoToken => f.write_str(" without a token")?,
            TenantBody::Error {
                error,
                description,
                look_at,
            } => {
                if let Some(error) = error {
                    write!(f, " {}", Quoted(error))?;
                }
                if let Some(description) = description {
                    write!(f, ", {}", Quoted(description))?;
                }
                match look_at {
                    Some(LookAt::Application) => f.write_str(
                        ": look at the application's grant types (Password) and connections",
                    )?,
                    Some(LookAt::ClientSecret(ClientAuth::Assertion)) => f.write_str(
                        ": look at client_id, at the application's credentials in the tenant (private_key_jwt, with the \
                         public key of client_assertion_key_file), at client_assertion_algorithm and \
                         client_assertion_kid, and at this machine's clock",
                    )?,
                    Some(LookAt::ClientSecret(sent_by)) => {
                        let how = match sent_by {
                            ClientAuth::Basic => {
                                ", encoded; if the provider does not decode it, give the application a secret of \
                                 letters, digits, '-', '.' and '_'"
                            }
                            _ => "",
                        };
                        write!(
                            f,
                            ": look at client_id, client_secret_file and token_endpoint_auth_method (the secret was \
                             sent by {}{how})",
                            sent_by.name()
                        )?;
                    }
                    Some(LookAt::AudienceAndConnection) => {
                        f.write_str(": look at audience and connection")?;
                    }
                    None => {}
                }
            }
            TenantBody::BadJson => f.write_str(" with bad JSON")?,
            TenantBody::NotJson => f.write_str(" with something that is not JSON")?,
        }
        if let Some(after) = &self.retry_after {
            write!(f, ", retry after {}", Quoted(after))?;
        }
        if let Some(id) = &self.request_id {
            write!(f, ", request {}", Quoted(id))?;
        }
        Ok(())
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::WithoutProxy { variable, why } = self {
            return write!(
                f,
                "{why} ({variable} in the broker's environment is ignored: if the way out is through a proxy, name it \
                 with the option proxy)"
            );
        }
        f.write_str("the tenant ")?;
        match self {
            Self::WithoutProxy { .. } => Ok(()),
            Self::Proxy { address, why } => write!(
                f,
                "could not be reached through the proxy {}: {why}",
                Quoted(address)
            ),
            Self::Panicked => f.write_str("was being asked when the plugin panicked"),
            Self::Timeout => f.write_str("did not answer in time"),
            Self::Within(seconds) => write!(f, "did not answer within {seconds} s"),
            Self::UnknownHost => f.write_str("has a name that DNS does not know"),
            Self::Unreachable(None) => f.write_str("could not be reached"),
            Self::Unreachable(Some(why)) => write!(f, "could not be reached: {why}"),
            Self::Untrusted {
                problem: CertificateProblem::OfAuthority,
                ..
            } => write!(f, "could not be trusted: {OF_AUTHORITY}"),
            Self::Untrusted { why, .. } => write!(f, "could not be trusted: {why}"),
            Self::TooLong(most) => write!(f, "answered with more than {most} bytes"),
            Self::NotHttp(why) => write!(f, "sent an invalid HTTP response: {why}"),
            Self::Status(status) => write!(f, "answered {status}"),
            Self::BadDiscovery(why) => write!(f, "has a discovery document that {why}"),
            Self::AnotherIssuer(issuer) => {
                let (found, expected) = (Quoted(&issuer.found), list(&issuer.expected, " or "));
                write!(
                    f,
                    "calls itself {found} where the option issuer says {expected}; write it exactly so"
                )?;
                match &issuer.elsewhere {
                    // It is made of the operator's options, and to be copied: so it is not cut.
                    Some(url) => write!(f, ", and set discovery_url to '{url}'"),
                    None => Ok(()),
                }
            }
            Self::NoIssuer => f.write_str("has no issuer in its discovery document"),
            Self::WithoutTls { name, url } => {
                write!(f, "has a {name} without TLS, {}", Quoted(url))
            }
            Self::NoKeysAddress => f.write_str("has no jwks_uri in its discovery document"),
            Self::NotSigned => {
                f.write_str("was not asked, because the application's private key could not sign")
            }
            Self::NoTokenAddress => f.write_str("has no token_endpoint in its discovery document"),
            Self::BadKeys(why) => write!(f, "has a key set that cannot be used: {why}"),
        }
    }
}

impl fmt::Display for ProxyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost => f.write_str("DNS does not know its name"),
            Self::Unreachable(why) => f.write_str(why),
            Self::Timeout => f.write_str("it did not answer in time"),
            Self::Status(Self::ASKS_FOR_CREDENTIALS) => f.write_str(
                "it answered 407, because it asks for credentials; write USER:PASSWORD into proxy_credentials_file",
            ),
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::NotHttp => f.write_str("its answer is not HTTP, so it may be no HTTP proxy"),
        }
    }
}

fn list(texts: &[impl AsRef<str>], between: &str) -> String {
    let quoted: Vec<_> = texts
        .iter()
        .map(|text| Quoted(text.as_ref()).to_string())
        .collect();
    quoted.join(between)
}
