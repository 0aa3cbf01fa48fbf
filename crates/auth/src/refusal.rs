//! Every reason to say no, in one table: what the device may know, what the operator should do.
//!
//! The README's table of refusals lists the same codes; a test compares the two.

use std::fmt;

/// What the device is told: the MQTT 5 reason code of its CONNACK, where the broker can send it.
/// `broker::codes` says which broker can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// 0x86 Bad User Name or Password: come back with another credential.
    BadCredential,
    /// 0x87 Not authorized: what everything is where the broker has no finer code.
    NotAuthorized,
    /// 0x88 Server unavailable: keep the credential, try again later.
    Unavailable,
    /// 0x89 Server busy: keep the credential, try again soon.
    Busy,
    /// 0x8A Banned: an administrator has to act first.
    Banned,
}

/// Whose move it is, which also says how loudly to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device or the one who set it up.
    Device,
    /// Somebody has to look at the device's account in the tenant.
    Account,
    /// The operator: mosquitto.conf or the tenant's application. Concerns every device.
    Configuration,
    /// Nobody: it passes, and devices that come back will be let in.
    Passing,
}

macro_rules! reasons {
    ($($variant:ident, $code:literal, $told:ident, $fault:ident, $fix:literal;)*) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = concat!("`", $code, "`: ", $fix)] $variant,)*
        }

        impl Reason {
            /// All of them, in the order of the README's table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable word for it in log lines and in the README.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What the device may be told.
            pub const fn told(self) -> Told {
                match self { $(Self::$variant => Told::$told,)* }
            }

            /// Whose move it is.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }

            /// What to do about it.
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix,)* }
            }
        }
    };
}

reasons! {
    // What the device sent with its CONNECT.
    NoPassword, "no-password", BadCredential, Device,
        "send a token, or the device's password, in the password field";
    NoUsername, "no-username", BadCredential, Device,
        "send the device's Auth0 user name, or `JWT` with a token as the password";
    TooLong, "too-long", BadCredential, Device,
        "shorten it; no Auth0 credential is that long";
    NotUtf8, "not-utf8", BadCredential, Device,
        "send the password as UTF-8 text";
    PasswordNul, "password-nul", BadCredential, Device,
        "send a password without a NUL byte";
    CredentialsOff, "credentials-off", NotAuthorized, Device,
        "give the device a token, or set client_id and client_secret_file to let it in with its password";

    ClientId, "client-id", NotAuthorized, Device,
        "let the device connect with the client id that its token names, or correct client_id_claim or client_id_template";
    ClientIdHeld, "client-id-held", NotAuthorized, Device,
        "give each device a client id of its own; if a device changed its account, let the old one connect once with a clean session, or set takeover to any; on Mosquitto 2.0 a reload (SIGHUP) frees the client ids of sessions that have expired";

    ClientIdPending, "client-id-pending", Busy, Passing,
        "none needed if rare: the device is let in when it tries again; else find out who connects from that address, and why under this client id";

    // The token, before its signature is known to be good.
    TokenMalformed, "token-malformed", BadCredential, Device,
        "send the token as it came from the tenant: three base64url parts with dots between them";
    TokenWrapped, "token-wrapped", BadCredential, Device,
        "send the token alone in the password field: without `Bearer`, quotes, white space, JSON or another encoding";
    TokenMisplaced, "token-misplaced", BadCredential, Device,
        "send the token in the password field, with the user name `JWT` and the device's own client ID";
    TokenDouble, "token-double", BadCredential, Device,
        "fetch the token from the tenant; one that says two things at once was made to deceive";
    TokenEncrypted, "token-encrypted", BadCredential, Configuration,
        "turn off token encryption for this API in the tenant";
    TokenAlgorithm, "token-algorithm", BadCredential, Configuration,
        "make the API sign with an algorithm listed in the option algorithms, or list this one if you trust it";
    TokenType, "token-type", BadCredential, Device,
        "send an access token (typ `JWT` or `at+jwt`)";
    TokenExtension, "token-extension", BadCredential, Device,
        "send a plain token: header extensions are not supported";
    TokenKeyMissing, "token-key-missing", BadCredential, Device,
        "use a tenant that names its signing key (kid) in the token";
    TokenKeyUnknown, "token-key-unknown", BadCredential, Device,
        "check that the token comes from the tenant in the option domain or issuer";
    TokenKeyPending, "token-key-pending", Busy, Passing,
        "none needed: the tenant's keys are asked for again within 30 s, and the device may try again";
    TokenKeyUnfit, "token-key-unfit", BadCredential, Configuration,
        "in the tenant's settings turn off 'Include Signing Algorithms in JSON Web Key Set', or sign with the key's own algorithm";
    TokenSignature, "token-signature", BadCredential, Device,
        "fetch a new token; if all devices are refused, check domain and hs256_secret_file";

    // The token's claims.
    TokenClaims, "token-claims", BadCredential, Device,
        "fetch the token from the tenant; do not make one by hand";
    TokenIssuer, "token-issuer", NotAuthorized, Device,
        "use a token of this tenant, or add its issuer to the option issuer exactly as written (Auth0's ends with a slash)";
    TokenAudience, "token-audience", NotAuthorized, Device,
        "ask the tenant for a token with audience set to one listed in the option audience, or correct the option audience";
    TokenExpired, "token-expired", BadCredential, Device,
        "fetch a new token before connecting; if it is new, check this machine's clock";
    // Told so that the device keeps its token: it is good as soon as this machine's clock is right.
    TokenNotYet, "token-not-yet", Unavailable, Configuration,
        "check the clock of this machine";
    TokenBound, "token-bound", NotAuthorized, Device,
        "ask for a token without DPoP or mTLS binding: MQTT cannot prove possession of its key";
    TokenKind, "token-kind", BadCredential, Device,
        "send an access token, not a refresh or logout token";
    TokenUsername, "token-username", NotAuthorized, Configuration,
        "name a claim in username_claim that every device's token has";
    TokenTopics, "token-topics", NotAuthorized, Account,
        "correct the device's topics in the tenant (app_metadata) and fetch a new token";

    // The policy file.
    PolicyValue, "policy-value", NotAuthorized, Account,
        "give the device a client id, user name and claims that can be a level of a topic, or take the placeholder out of the rule";

    // The tenant's answer to a login.
    LoginRefused, "login-refused", BadCredential, Device,
        "correct the device's user name or password";
    LoginBlocked, "login-blocked", Banned, Account,
        "unblock the user in the tenant (User Management > Users)";
    LoginLocked, "login-locked", Banned, Account,
        "unblock the user in the tenant; it was locked by brute-force protection, so find who sends wrong passwords";
    LoginLeaked, "login-leaked", NotAuthorized, Account,
        "give the device a new password: this one is known from a data breach";
    LoginMfa, "login-mfa", NotAuthorized, Account,
        "exempt the devices from MFA in the tenant: a device cannot answer it";
    LoginVerification, "login-verification", NotAuthorized, Account,
        "add this broker's address to bot detection's IP allowlist in the tenant";
    LoginDenied, "login-denied", NotAuthorized, Account,
        "read the tenant's words: an Action denied this device, or audience names no API that the application may use";
    LoginConfiguration, "login-configuration", Unavailable, Configuration,
        "correct the option or the application that the line names; if only one device is refused so, look at its user name";
    LoginToken, "login-token", Unavailable, Configuration,
        "make the tenant return a usable token: set audience to an API of the tenant, or list client_id in audience";
    LoginPending, "login-pending", Busy, Passing,
        "none needed: the tenant is asked in the background, and the device is let in when it tries again";
    LoginQueue, "login-queue", Busy, Passing,
        "none needed if rare; else raise login_workers, or let devices use tokens";
    LoginBackoff, "login-backoff", Busy, Device,
        "correct the device's password, or what an earlier line names, and reload the broker, so that it is looked at now; after nine wrong passwords from its address only 30 days or a restart help, because Auth0 locks a user for 30 days after ten";
    LoginRate, "login-rate", Busy, Passing,
        "none needed if rare; else raise login_rate to what your Auth0 plan allows, or let devices use tokens";
    LoginThrottled, "login-throttled", Busy, Passing,
        "none needed if rare; else raise the tenant's limits, or let devices use tokens";
    TenantUnreachable, "tenant-unreachable", Unavailable, Passing,
        "check this machine's network, DNS and time, and that domain (and ca_file) are right";
    TenantError, "tenant-error", Unavailable, Passing,
        "if it speaks of a default connection, set the option connection; else check the tenant's status page";
    TenantAnswer, "tenant-answer", Unavailable, Passing,
        "check the tenant's status page, and that domain names the tenant and nothing in between";
    KeysUnavailable, "keys-unavailable", Unavailable, Passing,
        "see the line that says why the keys could not be fetched; devices are let in as soon as they are";

    // Where the broker asks about somebody it should not.
    ForeignThread, "foreign-thread", NotAuthorized, Configuration,
        "do not offer the broker's HTTP API behind this plugin";
    Internal, "internal", Unavailable, Configuration,
        "report the line before this one to the makers of mosquitto-auth0";

    // Messages and subscriptions.
    NotGranted, "not-granted", NotAuthorized, Account,
        "add the topic to the device's topics in the tenant and let it connect with a new token; or, if the line names a rule, change that";
    RightsExpired, "rights-expired", NotAuthorized, Device,
        "let the device connect again with a new token";
    UnknownClient, "unknown-client", NotAuthorized, Device,
        "let the device connect again: this broker process has not seen it sign in";
}

/// A refusal: the reason, and the sentence that says what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Refusal {
    /// Which row of the table.
    pub reason: Reason,
    /// What was found, for the operator's log. Never holds a secret; foreign text is quoted.
    pub detail: String,
    /// Where one reason stands inside another: the one whose fix helps.
    cause: Option<Reason>,
    /// For how many seconds there is nothing to do but wait.
    wait: Option<u64>,
}

impl Refusal {
    /// A refusal with its detail.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            cause: None,
            wait: None,
        }
    }

    /// The same, where waiting so many seconds is what to try first.
    pub fn wait_first(self, seconds: u64) -> Self {
        Self {
            wait: Some(seconds),
            ..self
        }
    }

    /// A refusal whose fix is that of `cause`.
    pub fn caused_by(cause: Reason, reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            cause: Some(cause),
            ..Self::new(reason, detail)
        }
    }

    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match (self.reason, self.cause) {
            // Of a token that the tenant has just issued, so there is nothing that the device could do.
            (Reason::LoginToken, Some(Reason::TokenExpired | Reason::TokenNotYet)) => {
                "check the clock of this machine"
            }
            (Reason::LoginToken, Some(Reason::TokenIssuer)) => {
                "correct the option issuer: write the token's issuer exactly so (Auth0's ends with a slash)"
            }
            (Reason::LoginToken, Some(Reason::TokenAudience)) | (_, None) => self.reason.fix(),
            (_, Some(cause)) => cause.fix(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}; fix: ", self.reason.code(), self.detail)?;
        if let Some(seconds) = self.wait {
            write!(f, "wait {seconds} s; if that does not help, ")?;
        }
        f.write_str(self.fix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_words_and_every_reason_has_a_cure() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(
                reason
                    .code()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            );
            assert!(reason.fix().len() > 10, "{}", reason.code());
        }
    }

    #[test]
    fn a_wait_is_the_first_thing_to_try() {
        let refusal =
            Refusal::new(Reason::LoginBackoff, "it sent 3 wrong passwords").wait_first(10);
        let line = refusal.to_string();
        assert!(
            line.contains("; fix: wait 10 s; if that does not help, correct the device's password"),
            "{line}"
        );
    }

    #[test]
    fn what_passes_never_tells_a_device_to_throw_its_credential_away() {
        for reason in Reason::ALL.iter().filter(|r| r.fault() == Fault::Passing) {
            assert!(
                matches!(reason.told(), Told::Unavailable | Told::Busy),
                "{}",
                reason.code()
            );
        }
    }
}
