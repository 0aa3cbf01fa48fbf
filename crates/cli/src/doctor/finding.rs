//! What `doctor` finds, as data. `messages/doctor.rs` has the sentences.

use std::{net::IpAddr, path::PathBuf};

use auth::client_auth::ClientAuth;
use auth::refusal::{CertificateProblem, NoAnswer, ProxyProblem, Refusal, TenantAnswer};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// It is as it should be.
    Right,
    /// It is worth knowing.
    Note,
    /// Devices can sign in, and something is not as it should be.
    Warning,
    /// The tenant could not be asked.
    Unreached,
    /// Devices are refused.
    Wrong,
}

impl Severity {
    /// Returns the word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Unreached => "unreached",
            Self::Wrong => "wrong",
        }
    }
}

/// A token that was examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one in the file that the operator named.
    OfFile,
    /// The access token that the tenant issued.
    Access,
    /// The ID token that the tenant issued.
    Id,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    // The configuration and this machine.
    /// The configuration has a mistake. The plugin's sentence says which.
    ConfigurationWrong(String),
    /// The clock shows a year in which the plugin did not exist.
    ClockAbsurd {
        /// The time that it shows, in seconds since 1970.
        now: u64,
    },
    /// A file of the configuration is from the future.
    ClockBehindFile {
        /// The file.
        file: PathBuf,
        /// How far, in seconds.
        seconds: u64,
    },
    /// The clock is plausible.
    ClockPlausible,
    /// The tenant is asked through a proxy.
    ProxyUsed {
        /// The proxy's host and port.
        address: String,
    },
    /// This machine has a proxy, which the plugin does not use.
    ProxyIgnored {
        /// The variable that names it.
        variable: &'static str,
    },
    /// Keys are kept on disk.
    SavedKeys {
        /// How many.
        keys: usize,
        /// When they were fetched: so many seconds ago.
        seconds: u64,
    },
    /// The keys on disk cannot be used.
    SavedKeysUnusable(String),
    /// Keys come from a file.
    KeysOfFile {
        /// How many.
        keys: usize,
    },
    /// Tokens are checked with a secret only.
    SecretOnly,

    // The way to the tenant.
    /// DNS knows the tenant.
    Resolved {
        /// Its name.
        host: String,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// DNS does not know the tenant.
    UnknownHost {
        /// Its name.
        host: String,
        /// What the system says.
        why: String,
    },
    /// There is no way to the tenant through the proxy.
    ProxyFailed {
        /// The proxy's host and port.
        address: String,
        /// Why not.
        why: ProxyProblem,
    },
    /// There is no connection to the tenant.
    NoConnection {
        /// Its name.
        host: String,
        /// Why not.
        why: NoAnswer,
    },
    /// The tenant's certificate is not trusted.
    Untrusted {
        /// The tenant's name.
        host: String,
        /// What is wrong.
        problem: CertificateProblem,
        /// The same in the words of the TLS library.
        why: String,
        /// The option `ca_file`.
        ca_file: Option<PathBuf>,
    },
    /// The tenant's certificate is trusted.
    Trusted {
        /// The option `ca_file`.
        ca_file: Option<PathBuf>,
    },
    /// Both clocks agree.
    ClockRight,
    /// The clocks do not agree.
    ClockOff {
        /// By how many seconds the tenant's clock is ahead.
        ahead: i64,
        /// The option `leeway`.
        leeway: u64,
    },

    // The discovery document.
    /// There is no tenant under the name.
    NoSuchTenant {
        /// The name.
        host: String,
    },
    /// Another server than one of Auth0's answers under `domain`.
    NotAuth0 {
        /// The name.
        host: String,
    },
    /// The tenant cannot answer now.
    Busy {
        /// The status of its answer.
        status: u16,
    },
    /// The tenant's issuer is accepted.
    IssuerRight {
        /// The issuer.
        issuer: String,
    },
    /// The option `issuer` differs from the tenant's by a slash at the end.
    IssuerSlash {
        /// The option.
        configured: String,
        /// The tenant's issuer.
        issuer: String,
    },
    /// The tenant's issuer is not accepted.
    IssuerOther {
        /// The accepted ones.
        configured: Vec<String>,
        /// The tenant's issuer.
        issuer: Option<String>,
        /// Where its document is, if nobody would look for it there.
        elsewhere: Option<String>,
    },
    /// The discovery document cannot be used.
    DiscoveryUnusable(NoAnswer),
    /// The tenant offers none of the accepted algorithms.
    AlgorithmsNotOffered {
        /// The accepted ones.
        accepted: Vec<&'static str>,
        /// The tenant's.
        offered: Vec<String>,
    },
    /// The tenant does not take the client secret where the plugin sends it.
    SecretNotOffered {
        /// How the plugin sends it.
        sent_by: ClientAuth,
        /// What it offers.
        offered: Vec<String>,
    },
    /// The tenant does not offer the grant for passwords.
    PasswordsNotOffered {
        /// What it offers.
        offered: Vec<String>,
    },

    // The keys.
    /// The tenant's keys.
    Keys {
        /// Their names and algorithms.
        keys: Vec<(String, Option<&'static str>)>,
    },
    /// A key is not used.
    KeyIgnored(String),
    /// No key is for an accepted algorithm.
    KeysForOthers {
        /// The accepted algorithms.
        accepted: Vec<&'static str>,
        /// The algorithms of the keys.
        offered: Vec<&'static str>,
    },
    /// There is no key that can be used.
    NoKeys(NoAnswer),

    // The application.
    /// No application is configured, so devices sign in with tokens only.
    TokensOnly,
    /// The tenant accepts the application, as far as a request without a user can tell.
    ApplicationRight,
    /// The tenant does not accept the client ID and the secret.
    ApplicationRejected(Box<TenantAnswer>),
    /// The application may not use the grant for passwords.
    GrantOff(Box<TenantAnswer>),
    /// The connection is not enabled for the application.
    ConnectionOff(Box<TenantAnswer>),
    /// The application may not do this, and the answer does not say what.
    NotAllowed(Box<TenantAnswer>),
    /// The tenant has no default directory, and `connection` is not set.
    NoDefaultDirectory(Box<TenantAnswer>),
    /// The tenant has no API with the identifier.
    AudienceUnknown {
        /// The identifier.
        audience: String,
        /// What it answered.
        answer: Box<TenantAnswer>,
    },
    /// The application is not authorized for the API.
    NotAuthorized {
        /// The API's identifier.
        audience: String,
        /// What it answered.
        answer: Box<TenantAnswer>,
    },
    /// The API or the application asks for tokens that are bound to a key.
    ProofAsked(Box<TenantAnswer>),
    /// The tenant's rate limit is used up.
    RateLimited(Box<TenantAnswer>),
    /// The tenant fails.
    TenantFailed(Refusal),
    /// Another answer than one that was expected.
    Unclear(Refusal),

    // A login of nobody.
    /// A login of an unknown user fails as it should, so all else is right.
    ProbeRight,
    /// The tenant blocks logins from this machine's address.
    AddressBlocked(Box<TenantAnswer>),
    /// The tenant counts failed logins by the address that the plugin passes on.
    AddressTrusted,
    /// The tenant ignores the address that the plugin passes on.
    AddressIgnored,
    /// The answers do not tell whether the tenant trusts the address.
    AddressUnseen,
    /// So many failed logins from one address are allowed.
    FailuresAllowed {
        /// The limit.
        limit: u32,
        /// What is left for this machine.
        left: u32,
    },
    /// Other settings of attack protection cannot be seen.
    LockoutUnseen,

    // A login of a user.
    /// The tenant refuses the user.
    AccountRefused(Refusal),
    /// The tenant lets the user in.
    SignedIn,

    // A token.
    /// The token is right.
    TokenRight {
        /// Which one.
        which: Which,
        /// In how many seconds it ends.
        seconds: u64,
    },
    /// The token is opaque.
    Opaque {
        /// Which one.
        which: Which,
        /// Whether there is an ID token beside it.
        beside_id: bool,
    },
    /// The token is encrypted.
    Encrypted {
        /// Which one.
        which: Which,
    },
    /// The token is refused.
    TokenRefused {
        /// Which one.
        which: Which,
        /// Why.
        refusal: Refusal,
    },
    /// The ID token counts, because the access token is for another API.
    IdTokenCounts,
    /// The token has the claim `permissions`, and its topics are in it or in another claim.
    Rights {
        /// The names of the claims that count and that it has.
        claims: Vec<String>,
        /// How many rules they make.
        rules: usize,
    },
    /// The token has none of the claims that count.
    NoRights {
        /// The names of the claims that count.
        claims: Vec<String>,
        /// Whether `permissions` is one of them.
        permissions: bool,
    },
    /// The claims that count are there, and grant nothing.
    EmptyRights {
        /// Their names.
        claims: Vec<String>,
    },
    /// A claim that counts has a mistake. The plugin's sentence says which.
    RightsWrong(String),
    /// `scope` counts, and the token does not show that the API enforces RBAC.
    ScopeWithoutRbac,
}

impl Finding {
    /// Returns a stable word for it, and how much it matters.
    // Longer than a screen, because it is one line for each kind of finding.
    pub(crate) fn kind(&self) -> (&'static str, Severity) {
        use Severity::{Note, Right, Unreached, Warning, Wrong};
        match self {
            Self::ConfigurationWrong(_) => ("configuration", Wrong),
            Self::ClockAbsurd { .. } => ("clock-absurd", Wrong),
            Self::ClockBehindFile { .. } => ("clock-behind-file", Warning),
            Self::ClockPlausible => ("clock-plausible", Right),
            Self::ProxyUsed { .. } => ("proxy-used", Right),
            Self::ProxyIgnored { .. } => ("proxy-ignored", Note),
            Self::SavedKeys { .. } => ("saved-keys", Right),
            Self::SavedKeysUnusable(_) => ("saved-keys-unusable", Warning),
            Self::KeysOfFile { .. } => ("keys-of-file", Right),
            Self::SecretOnly => ("secret-only", Note),
            Self::Resolved { .. } => ("resolved", Right),
            Self::UnknownHost { .. } => ("unknown-host", Unreached),
            Self::ProxyFailed { why, .. } => match why {
                ProxyProblem::Status(ProxyProblem::ASKS_FOR_CREDENTIALS) => {
                    ("proxy-credentials", Wrong)
                }
                ProxyProblem::Status(403 | 405) => ("proxy-refuses", Wrong),
                ProxyProblem::NotHttp => ("proxy-no-http", Wrong),
                ProxyProblem::Status(_) => ("proxy-unable", Unreached),
                ProxyProblem::UnknownHost
                | ProxyProblem::Unreachable(_)
                | ProxyProblem::Timeout => ("proxy-unreachable", Unreached),
            },
            Self::NoConnection { .. } => ("no-connection", Unreached),
            Self::Untrusted { problem, .. } => match problem {
                CertificateProblem::Expired => ("certificate-expired", Wrong),
                CertificateProblem::NotYet => ("certificate-not-yet", Wrong),
                CertificateProblem::AnotherName => ("certificate-name", Wrong),
                CertificateProblem::UnknownAuthority => ("certificate-authority", Wrong),
                CertificateProblem::OfAuthority => ("certificate-of-authority", Wrong),
                CertificateProblem::Other => ("tls", Wrong),
            },
            Self::Trusted { .. } => ("trusted", Right),
            Self::ClockRight => ("clock-right", Right),
            Self::ClockOff { ahead, leeway } if ahead.unsigned_abs() > *leeway => {
                ("clock-off", Wrong)
            }
            Self::ClockOff { .. } => ("clock-off", Warning),
            Self::NoSuchTenant { .. } => ("no-such-tenant", Wrong),
            Self::NotAuth0 { .. } => ("not-auth0", Warning),
            Self::Busy { .. } => ("busy", Unreached),
            Self::IssuerRight { .. } => ("issuer-right", Right),
            Self::IssuerSlash { .. } => ("issuer-slash", Wrong),
            Self::IssuerOther { .. } => ("issuer-other", Wrong),
            Self::DiscoveryUnusable(_) => ("discovery-unusable", Wrong),
            Self::AlgorithmsNotOffered { .. } => ("algorithms-not-offered", Warning),
            Self::SecretNotOffered { .. } => ("secret-not-offered", Warning),
            Self::PasswordsNotOffered { .. } => ("passwords-not-offered", Warning),
            Self::Keys { .. } => ("keys", Right),
            Self::KeyIgnored(_) => ("key-ignored", Warning),
            Self::KeysForOthers { .. } => ("keys-for-others", Wrong),
            Self::NoKeys(_) => ("no-keys", Wrong),
            Self::TokensOnly => ("tokens-only", Note),
            Self::ApplicationRight => ("application-right", Right),
            Self::ApplicationRejected(_) => ("application-rejected", Wrong),
            Self::GrantOff(_) => ("grant-off", Wrong),
            Self::ConnectionOff(_) => ("connection-off", Wrong),
            Self::NotAllowed(_) => ("not-allowed", Wrong),
            Self::NoDefaultDirectory(_) => ("no-default-directory", Wrong),
            Self::AudienceUnknown { .. } => ("audience-unknown", Wrong),
            Self::NotAuthorized { .. } => ("not-authorized", Wrong),
            Self::ProofAsked(_) => ("proof-asked", Wrong),
            Self::RateLimited(_) => ("rate-limited", Wrong),
            Self::TenantFailed(_) => ("tenant-failed", Unreached),
            Self::Unclear(_) => ("unclear", Wrong),
            Self::ProbeRight => ("probe-right", Right),
            Self::AddressBlocked(_) => ("address-blocked", Wrong),
            Self::AddressTrusted => ("address-trusted", Right),
            Self::AddressIgnored => ("address-ignored", Warning),
            Self::AddressUnseen => ("address-unseen", Note),
            Self::FailuresAllowed { left: 0, .. } => ("failures-used-up", Wrong),
            Self::FailuresAllowed { .. } => ("failures-allowed", Note),
            Self::LockoutUnseen => ("lockout-unseen", Note),
            Self::AccountRefused(_) => ("account-refused", Wrong),
            Self::SignedIn => ("signed-in", Right),
            Self::TokenRight { .. } => ("token-right", Right),
            Self::Opaque { beside_id, .. } => match beside_id {
                true => ("opaque", Warning),
                false => ("opaque", Wrong),
            },
            Self::Encrypted { .. } => ("encrypted", Wrong),
            Self::TokenRefused { .. } => ("token-refused", Wrong),
            Self::IdTokenCounts => ("id-token-counts", Note),
            Self::Rights { .. } => ("rights", Right),
            Self::NoRights { .. } => ("no-rights", Wrong),
            Self::EmptyRights { .. } => ("empty-rights", Wrong),
            Self::RightsWrong(_) => ("rights-wrong", Wrong),
            Self::ScopeWithoutRbac => ("scope-without-rbac", Warning),
        }
    }
}
