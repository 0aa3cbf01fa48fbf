//! What was found in one case, as data. `messages/refusals.rs` displays it.
//!
//! Texts that others wrote are kept as they are here. Where they are displayed, they are quoted.

use std::sync::Arc;

use crate::client_auth::ClientAuth;
use acl::{
    claims::ClaimsError,
    explanation::{Explanation, RuleName},
    policy_file::{UnmetRequirement, UnusableRule},
    rules::UnusableValue,
};
use input::{json::JsonError, recognise::Token};

/// What was found. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    /// The client has not signed in, and this topic was asked about.
    NotSignedIn {
        /// The topic.
        topic: String,
    },
    /// No rule allows the client to use this topic.
    NotAllowed {
        /// The topic.
        topic: String,
        /// The rule that decides.
        why: Box<Explanation>,
        /// The claim that should list topics, if the client has no rule at all.
        empty: Option<Box<str>>,
    },
    /// The client may not publish to this topic of the plugin's own.
    ControlTopic {
        /// The topic.
        topic: String,
    },
    /// Something about the CONNECT.
    Connect(ConnectDetail),
    /// The client asks for this authentication method.
    AuthMethod(String),
    /// Something about a renewal.
    Renewal(RenewalDetail),
    /// Something about the token itself.
    Token(TokenDetail),
    /// Something about a claim of the token.
    Claim {
        /// The claim.
        name: String,
        /// What is wrong with it.
        problem: ClaimProblem,
    },
    /// The token is for these client IDs only.
    ClientIds(Vec<Box<str>>),
    /// A token arrived in another form or in another field than it should.
    Misused {
        /// The field that holds the token.
        field: Field,
        /// The form of the token.
        token: Token,
    },
    /// The claims of the token have a mistake.
    Claims(Box<ClaimsError>),
    /// The broker restored a session with this client ID for this user, and the client is another one.
    RestoredFor(Arc<str>),
    /// A placeholder in the token, or in an option, has no usable value.
    Placeholder(UnusableValue),
    /// The client does not meet a requirement of the policy file.
    Required(Box<UnmetRequirement>),
    /// The policy file cannot be applied to the client.
    Policy(Box<UnusableRule>),
    /// The tenant is not asked now.
    Limit(LimitDetail),
    /// The tenant is being asked, or will be.
    Pending(PendingDetail),
    /// The tenant's answer.
    Tenant(Box<TenantAnswer>),
    /// The tenant gave no answer that is any good.
    NoAnswer(NoAnswer),
    /// The tenant let the client in, and the token that it issued cannot be used.
    Issued {
        /// Which token.
        token: IssuedToken,
        /// Why not.
        why: Box<Detail>,
        /// What is wrong with the access token, if the other token is the ID token.
        access: Option<AccessToken>,
    },
    /// The tenant let the client in, and issued no token that can be used.
    NotIssued {
        /// What is wrong with the access token.
        access: AccessToken,
    },
    /// The tenant's keys do not have the token's key, and cannot be fetched again now.
    KeysNotFetched {
        /// What was found about the key.
        key: Box<Detail>,
        /// Whether they were fetched a moment ago.
        recently: bool,
    },
    /// A fault at the boundary to the broker, in the words of that crate.
    Boundary(String),
}

impl Detail {
    /// Returns how many bytes of text of the client it holds, if these may be many.
    pub(crate) fn text_len(&self) -> usize {
        match self {
            Self::NotSignedIn { topic: text }
            | Self::NotAllowed { topic: text, .. }
            | Self::ControlTopic { topic: text }
            | Self::AuthMethod(text) => text.len(),
            _ => 0,
        }
    }

    /// Whether it is that this claim is missing.
    pub(crate) fn is_missing(&self, claim: &str) -> bool {
        matches!(self, Self::Claim { name, problem: ClaimProblem::Missing } if name == claim)
    }

    /// Returns the rule that decides, if one does.
    pub(crate) fn rule(&self) -> Option<RuleName> {
        match self {
            Self::NotAllowed { why, .. } => why.rule(),
            Self::Policy(unusable) => Some(RuleName::Policy(unusable.rule.clone())),
            Self::Required(unmet) => Some(RuleName::Requirement(unmet.name.clone())),
            _ => None,
        }
    }
}

/// What was found about a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectDetail {
    /// It has no password.
    NoPassword,
    /// It has a password, and credentials mode is off.
    CredentialsModeOff,
    /// It has a password and no user name.
    NoUsername,
    /// A field is too long.
    TooLong {
        /// The field.
        field: Field,
        /// Its length in bytes.
        bytes: usize,
        /// The longest that is examined.
        most: usize,
    },
    /// A field is not UTF-8 text.
    NotUtf8(Field),
    /// The password holds a NUL byte.
    PasswordNul,
    /// The rights of a connected client have ended.
    RightsEnded,
    /// The token of a connected client has expired.
    TokenExpired,
    /// The key that signed the token of a connected client was revoked.
    KeyRevoked,
    /// A client has been connected for `max_session`.
    MaxSession,
    /// Somebody else has the client ID.
    ClientIdHeld,
    /// The broker does not accept the user name.
    UsernameNotAccepted,
    /// It asks for another identity than its own.
    OtherIdentity,
    /// Its authentication data is not a message of the method OAUTHBEARER.
    NotOAuthBearer,
    /// It sent an AUTH packet that neither begins nor continues an exchange.
    AuthPacketOutOfPlace,
}

/// What was found about a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RenewalDetail {
    /// The client is not signed in with a token or an account of the tenant.
    NotSignedIn,
    /// Its rights have ended already.
    RightsEnded,
    /// The token is of another account.
    OtherAccount,
    /// The token gives another user name.
    OtherUsername,
    /// The message is too long.
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The longest that is read.
        most: usize,
    },
    /// The message is an object without a usable token.
    NoToken,
    /// What the message gives to be repeated in the answer cannot be.
    Correlation,
    /// The client has renewed too often within a moment.
    TooFast,
}

/// A field of a CONNECT, or of what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The user name.
    Username,
    /// The password.
    Password,
    /// The client ID.
    ClientId,
    /// The authentication data of a CONNECT or an AUTH packet.
    AuthenticationData,
    /// What a client sends to renew its rights.
    Renewal,
}

/// Why a client has to try again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PendingDetail {
    /// The tenant is being asked, and the broker may not wait longer.
    BrokerWaitedEnough,
    /// The tenant is being asked, and the client has asked for the end so many times, in AUTH packets.
    AskedTooOften {
        /// How many.
        packets: u32,
    },
    /// The tenant is being asked, and the client may not wait.
    MayNotWait(DelayObstacle),
    /// The broker hung up, because a login waits under the client ID.
    HungUp {
        /// From where that login came.
        from: Option<String>,
    },
    /// Too many sign-ins wait.
    TooMany {
        /// How many, if that is known.
        waiting: Option<usize>,
    },
    /// The options for asking the tenant were changed while it was asked.
    OptionsChanged,
    /// The client waited too long for its turn.
    TurnTooLate,
    /// The broker is stopping.
    Stopping,
}

/// Why a login may not hold its client ID while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DelayObstacle {
    /// A client is connected under it, or has a session.
    InUse,
    /// A client that came in used it.
    UsedLately,
    /// The last login that waited under it has not come in.
    TriedBefore,
    /// Some of those that were used lately are forgotten.
    TooMany,
}

/// A token that the tenant issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IssuedToken {
    /// The access token.
    Access,
    /// The ID token.
    Id,
}

/// What is wrong with the access token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessToken {
    /// There is none.
    Missing,
    /// It is opaque.
    Opaque,
    /// It is for another API.
    ForAnother(Box<Detail>),
}

/// What was found about a token, before its claims.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TokenDetail {
    /// It is too long.
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The longest that is examined.
        most: usize,
    },
    /// Its header is too long.
    HeaderTooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The longest that is examined.
        most: usize,
    },
    /// It is a JWS in JSON form.
    JsonForm,
    /// It has one part, so it is no JSON Web Token.
    Opaque,
    /// It has five parts, so it is encrypted.
    Encrypted,
    /// It has another number of parts than three.
    Parts {
        /// How many.
        number: usize,
        /// Its length in bytes.
        bytes: usize,
    },
    /// A part holds a character that is not base64url.
    ForeignCharacter(Part),
    /// A part has a length that base64url does not have.
    NotBase64(Part),
    /// A part is no JSON object, or a bad one.
    NotJson {
        /// The part.
        part: Part,
        /// What is wrong.
        problem: JsonError,
    },
    /// This member of the header is not a string.
    HeaderMember(&'static str),
    /// The header names no algorithm.
    NoAlgorithm,
    /// The header names an algorithm that is not accepted.
    Algorithm {
        /// The algorithm.
        found: String,
        /// Whether the option `algorithms` may list it.
        is_supported: bool,
        /// Those that are accepted.
        accepted: Vec<&'static str>,
    },
    /// It is signed with HS256, for which there is no secret.
    NoHs256Secret,
    /// The header has this extension.
    Extension(&'static str),
    /// The header says that it is of this type.
    Type(String),
    /// The tenant's keys are not known yet.
    NoKeys,
    /// It does not name its key.
    KeyNotNamed,
    /// The tenant does not have the key with this ID.
    NoSuchKey(String),
    /// Its key is for another algorithm.
    KeyForAnotherAlgorithm {
        /// The key's ID.
        kid: String,
        /// The algorithm in the header.
        found: &'static str,
        /// The key's algorithm.
        of_key: &'static str,
    },
    /// It has no signature.
    NoSignature,
    /// Its signature is too short.
    SignatureCutOff {
        /// The token's length in bytes.
        bytes: usize,
    },
    /// The signature is wrong.
    WrongSignature,
    /// Another issuer issued it.
    Issuer {
        /// The issuer.
        found: String,
        /// Those that are accepted.
        accepted: Vec<Arc<str>>,
    },
    /// It is for another audience.
    Audience {
        /// The first few of its audiences.
        found: Vec<String>,
        /// The first few that are accepted.
        accepted: Vec<String>,
    },
    /// It is bound to a key.
    Bound,
    /// It is a logout token or another event.
    Event,
    /// A claim says that it is of another kind.
    Kind {
        /// The claim.
        claim: &'static str,
        /// Its value.
        found: String,
    },
    /// It has expired.
    Expired {
        /// How many seconds ago.
        seconds: u64,
    },
    /// It is not valid yet.
    NotYet {
        /// The claim that says so.
        claim: &'static str,
        /// In how many seconds it is.
        seconds: u64,
    },
}

/// A part of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The first.
    Header,
    /// The second.
    Payload,
    /// The third.
    Signature,
}

/// What is wrong with a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClaimProblem {
    /// It is missing.
    Missing,
    /// It is missing or not a string.
    MissingOrNotText,
    /// It is empty.
    Empty,
    /// It is not a string.
    NotText,
    /// It is neither a string nor an array of strings.
    NotTexts,
    /// It is not a number.
    NotANumber,
    /// It is a number, and no date.
    NotADate,
    /// It is longer than this many bytes.
    TooLong(usize),
    /// It holds a control character.
    ControlCharacter,
}

/// Why the tenant is not asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitDetail {
    /// The tenant refused the user several times for another reason than a wrong password.
    UserRefused {
        /// How often.
        times: u32,
        /// In how many seconds it is asked again.
        seconds: u64,
    },
    /// The tenant gave no answer about several passwords, and may have counted them as wrong.
    PasswordsLost {
        /// How many.
        times: u32,
        /// In how many seconds the next is tried.
        seconds: u64,
    },
    /// Several passwords were wrong.
    WrongPasswords {
        /// How many.
        times: u32,
        /// In how many seconds the next is tried.
        seconds: u64,
    },
    /// Several passwords were wrong, and others are being tried.
    WrongPasswordsAndMore {
        /// How many were wrong.
        times: u32,
        /// How many are being tried.
        asking: u32,
    },
    /// Several passwords for the user were wrong that came from several addresses.
    WrongPasswordsElsewhere {
        /// How many.
        times: u32,
    },
    /// There are more logins than `login_rate` allows.
    Rate {
        /// The option's value.
        per_second: u32,
        /// Whether it is only the share of this client that is used up.
        is_share: bool,
    },
    /// The tenant wants no requests.
    RetryAfter {
        /// For how many seconds.
        seconds: u64,
        /// Whether that is about the client's address only.
        is_address: bool,
    },
    /// The tenant did not accept the application.
    ApplicationRejected,
    /// The tenant failed several times.
    TenantFailed {
        /// How often.
        times: u32,
        /// For whom.
        whose: FailedFor,
    },
}

/// For whom the tenant failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailedFor {
    /// For clients everywhere.
    Everybody,
    /// For users at the client's address.
    Address,
    /// For the client's user at its address.
    User,
}

/// An answer of the tenant that is not the one asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TenantAnswer {
    /// The HTTP status.
    pub status: u16,
    /// What the body is.
    pub body: TenantBody,
    /// The beginning of the header `Retry-After`.
    pub retry_after: Option<String>,
    /// The beginning of the tenant's ID of the request.
    pub request_id: Option<String>,
}

/// A discovery document that is another issuer's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AnotherIssuer {
    /// The issuer in the document.
    pub found: String,
    /// Those in the option `issuer`.
    pub expected: Vec<String>,
    /// Where the document is, if nobody would look there for the document of `found`.
    pub elsewhere: Option<String>,
}

/// Why there is no answer of the tenant that is any good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NoAnswer {
    /// The plugin panicked while it asked.
    Panicked,
    /// It did not answer in time.
    Timeout,
    /// It did not answer within so many seconds.
    Within(u64),
    /// DNS does not know its name.
    UnknownHost,
    /// There is no connection to it, for this reason.
    Unreachable(Option<String>),
    /// There is no way to it through the proxy.
    Proxy {
        /// The proxy's host and port.
        address: String,
        /// Why not.
        why: ProxyProblem,
    },
    /// There is no way to it, and the environment names a proxy, which is not used.
    WithoutProxy {
        /// The environment variable.
        variable: &'static str,
        /// Why there is no way.
        why: Box<NoAnswer>,
    },
    /// Its certificate is not trusted.
    Untrusted {
        /// What is wrong with it.
        problem: CertificateProblem,
        /// The same in the words of the TLS library.
        why: String,
    },
    /// Its answer is longer than this many bytes.
    TooLong(u64),
    /// Its answer is not HTTP, for this reason.
    NotHttp(String),
    /// It answered with this status.
    Status(u16),
    /// Its discovery document is not a JSON object, for this reason.
    BadDiscovery(JsonError),
    /// Its discovery document is another issuer's.
    AnotherIssuer(Box<AnotherIssuer>),
    /// Its discovery document does not name an issuer.
    NoIssuer,
    /// Its discovery document names an address without TLS.
    WithoutTls {
        /// What is there.
        name: &'static str,
        /// The address.
        url: String,
    },
    /// Its discovery document does not say where its keys are.
    NoKeysAddress,
    /// Its discovery document has no token endpoint.
    NoTokenAddress,
    /// It was not asked, because the application's private key could not sign.
    NotSigned,
    /// Its key set cannot be used, for this reason.
    BadKeys(String),
}

/// Why a proxy does not let a request through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProblem {
    /// DNS does not know its name.
    UnknownHost,
    /// There is no connection to it, for this reason.
    Unreachable(String),
    /// It did not answer in time.
    Timeout,
    /// It answered with this status.
    Status(u16),
    /// Its answer is not HTTP.
    NotHttp,
}

impl ProxyProblem {
    /// The status with which a proxy asks for credentials.
    pub const ASKS_FOR_CREDENTIALS: u16 = 407;
}

/// Why a certificate is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateProblem {
    /// It is no longer valid, by this machine's clock.
    Expired,
    /// It is not valid yet, by this machine's clock.
    NotYet,
    /// It is for another name.
    AnotherName,
    /// No authority that is trusted has issued it.
    UnknownAuthority,
    /// It is an authority's own, and not a server's.
    OfAuthority,
    /// Something else, also about TLS as a whole.
    Other,
}

/// The body of a [`TenantAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantBody {
    /// It does not matter.
    Ignored,
    /// JSON that should hold a token.
    NoToken,
    /// An error (RFC 6749, section 5.2).
    Error {
        /// The beginning of its code.
        error: Option<String>,
        /// The beginning of its description.
        description: Option<String>,
        /// What to check in the configuration.
        look_at: Option<LookAt>,
    },
    /// Bad JSON.
    BadJson,
    /// Something else than JSON.
    NotJson,
}

/// What to check if the tenant does not accept the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookAt {
    /// The application's settings in the tenant.
    Application,
    /// `client_id`, and the credentials of the application, which were sent in this way.
    ClientSecret(ClientAuth),
    /// `audience` and `connection`.
    AudienceAndConnection,
}

impl From<String> for Detail {
    fn from(fault: String) -> Self {
        Self::Boundary(fault)
    }
}

impl From<TokenDetail> for Detail {
    fn from(detail: TokenDetail) -> Self {
        Self::Token(detail)
    }
}

impl From<LimitDetail> for Detail {
    fn from(detail: LimitDetail) -> Self {
        Self::Limit(detail)
    }
}

impl From<ConnectDetail> for Detail {
    fn from(detail: ConnectDetail) -> Self {
        Self::Connect(detail)
    }
}

impl From<RenewalDetail> for Detail {
    fn from(detail: RenewalDetail) -> Self {
        Self::Renewal(detail)
    }
}

impl From<PendingDetail> for Detail {
    fn from(detail: PendingDetail) -> Self {
        Self::Pending(detail)
    }
}

impl From<NoAnswer> for Detail {
    fn from(why: NoAnswer) -> Self {
        Self::NoAnswer(why)
    }
}

impl From<TenantAnswer> for Detail {
    fn from(answer: TenantAnswer) -> Self {
        Self::Tenant(Box::new(answer))
    }
}
