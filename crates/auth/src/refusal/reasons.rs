//! The table of reasons.
//!
//! `docs/refusals.md` is generated from the table (`tests/generated.rs`).

/// What the device is told: the MQTT 5 reason code of its CONNACK, where the broker can send it. `src/codes.rs`
/// says which broker can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Come back with another credential.
    BadCredential,
    /// The code for everything where the broker has no finer one.
    NotAuthorized,
    /// Keep the credential, and try again later.
    Unavailable,
    /// Keep the credential, and try again soon.
    Busy,
    /// An administrator has to act first.
    Banned,
}

impl Told {
    /// Returns the reason code and its name in the MQTT 5 specification.
    pub const fn mqtt5(self) -> (u8, &'static str) {
        match self {
            Self::BadCredential => (0x86, "Bad User Name or Password"),
            Self::NotAuthorized => (0x87, "Not authorized"),
            Self::Unavailable => (0x88, "Server unavailable"),
            Self::Busy => (0x89, "Server busy"),
            Self::Banned => (0x8A, "Banned"),
        }
    }
}

/// Who has to act. This also decides the severity of the log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Whoever set up the device.
    Device,
    /// Whoever looks after the device's account in the tenant.
    Account,
    /// The operator, in mosquitto.conf or in the tenant's application: every device is concerned.
    Configuration,
    /// Nobody: it passes, and devices that try again will be let in.
    Passing,
}

macro_rules! reasons {
    ($($group:literal {
        $($variant:ident, $code:literal, $told:ident, $fault:ident, $cause:literal, $fix:literal;)*
    })*) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = concat!("`", $code, "`: ", $cause)] $variant,)*)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$($(Self::$variant,)*)*];

            /// All of them, by what they are about.
            pub const GROUPS: &[(&str, &[Self])] = &[$(($group, &[$(Self::$variant,)*]),)*];

            /// The stable word for it in log lines and documents.
            pub const fn code(self) -> &'static str {
                match self { $($(Self::$variant => $code,)*)* }
            }

            /// What the device may be told.
            pub const fn told(self) -> Told {
                match self { $($(Self::$variant => Told::$told,)*)* }
            }

            /// Who has to act.
            pub const fn fault(self) -> Fault {
                match self { $($(Self::$variant => Fault::$fault,)*)* }
            }

            /// What happened, as a sentence for the documents.
            pub const fn cause(self) -> &'static str {
                match self { $($(Self::$variant => $cause,)*)* }
            }

            /// What to do about it.
            pub const fn fix(self) -> &'static str {
                match self { $($(Self::$variant => $fix,)*)* }
            }
        }
    };
}

reasons! {
    "The CONNECT" {
        NoPassword, "no-password", BadCredential, Device,
            "The CONNECT has no password.",
            "send a token, or the device's password, in the password field";
        NoUsername, "no-username", BadCredential, Device,
            "A password that is no token came without a user name.",
            "send the device's Auth0 user name, or `JWT` with a token as the password";
        TooLong, "too-long", BadCredential, Device,
            "User name or password has more than 1024 bytes.",
            "shorten it; no Auth0 credential is that long";
        NotUtf8, "not-utf8", BadCredential, Device,
            "User name or password is not UTF-8.",
            "send the password as UTF-8 text";
        PasswordNul, "password-nul", BadCredential, Device,
            "The password holds a NUL byte. (Brokers before 2.1.3 cut it there and do not say so.)",
            "send a password without a NUL byte";
        CredentialsOff, "credentials-off", NotAuthorized, Device,
            "A password came, and the plugin was given no application to check it with.",
            "give the device a token, or set client_id and client_secret_file to let it in with its password";
        ClientId, "client-id", NotAuthorized, Device,
            "The token is for another client ID (`client_id_claim`, `client_id_template`).",
            "let the device connect with the client ID that its token names, or correct client_id_claim or \
            client_id_template";
        ClientIdHeld, "client-id-held", NotAuthorized, Device,
            "Another account is connected under that client ID, or has a session under it.",
            "give each device a client ID of its own; if a device changed its account, let the old one connect \
            once with a clean session, or set takeover to any; on Mosquitto 2.0 a reload (SIGHUP) frees the \
            client IDs of sessions that have expired";
        ClientIdPending, "client-id-pending", Busy, Passing,
            "A login waits for the tenant under that client ID, so Mosquitto 2.1 hung up. It asks the plugin \
            nothing, and tells the device nothing.",
            "none needed if rare: the device is let in when it tries again; else find out who connects from that \
            address, and why under this client ID";
    }
    "The token, until its signature is verified" {
        TokenMalformed, "token-malformed", BadCredential, Device,
            "The password is no JSON Web Token (an opaque one comes from a request without `audience`), or a \
            piece of one, or it was edited on the way.",
            "send the token as it came from the tenant: three base64url parts with dots between them";
        TokenWrapped, "token-wrapped", BadCredential, Device,
            "The password is a token with `Bearer` in front, in quotes, with white space, in the tenant's whole \
            answer, or encoded once more. The line says what is around it.",
            "send the token alone in the password field: without `Bearer`, quotes, white space, JSON or another \
            encoding";
        TokenMisplaced, "token-misplaced", BadCredential, Device,
            "The user name or the client ID is a token.",
            "send the token in the password field, with the user name `JWT` and the device's own client ID";
        TokenDouble, "token-double", BadCredential, Device,
            "The header or the payload names a member twice.",
            "fetch the token from the tenant; one with two members of the same name is a sign of an attack";
        TokenEncrypted, "token-encrypted", BadCredential, Configuration,
            "The tenant encrypts its access tokens (JWE).",
            "turn off token encryption for this API in the tenant";
        TokenAlgorithm, "token-algorithm", BadCredential, Configuration,
            "The token is signed with an algorithm that is not configured.",
            "make the API sign with an algorithm listed in the option algorithms, or list this one if you trust it";
        TokenType, "token-type", BadCredential, Device,
            "The header says that it is another kind of token.",
            "send an access token (typ `JWT` or `at+jwt`)";
        TokenExtension, "token-extension", BadCredential, Device,
            "The header has `crit`, `b64` or `zip`.",
            "send a plain token: header extensions are not supported";
        TokenKeyMissing, "token-key-missing", BadCredential, Device,
            "The token does not name its key, and the tenant has several.",
            "use a tenant that names its signing key (kid) in the token";
        TokenKeyUnknown, "token-key-unknown", BadCredential, Device,
            "The tenant was asked and has no such key: the token is another tenant's, or forged.",
            "check that the token comes from the tenant in the option domain or issuer";
        TokenKeyPending, "token-key-pending", Busy, Passing,
            "The key is not known, and the tenant was asked less than 30 s ago.",
            "none needed: the tenant's keys are asked for again within 30 s, and the device may try again";
        TokenKeyUnfit, "token-key-unfit", BadCredential, Configuration,
            "The tenant lists the key for RS256, and the token is signed with PS256, or the other way round.",
            "in the tenant's settings turn off 'Include Signing Algorithms in JSON Web Key Set', or sign with the \
            key's own algorithm";
        TokenSignature, "token-signature", BadCredential, Device,
            "The signature is wrong: forged, or damaged, or an HS256 secret that is not the API's.",
            "fetch a new token; if all devices are refused, check domain and hs256_secret_file";
    }
    "The token's claims" {
        TokenClaims, "token-claims", BadCredential, Device,
            "`iss`, `aud` or `exp` is missing or of the wrong type.",
            "fetch the token from the tenant; do not make one by hand";
        TokenIssuer, "token-issuer", NotAuthorized, Device,
            "Another tenant, or another domain of the tenant, issued the token.",
            "use a token of this tenant, or add its issuer to the option issuer exactly as written (Auth0's ends \
            with a slash)";
        TokenAudience, "token-audience", NotAuthorized, Device,
            "The token is for another API, or it is an ID token.",
            "ask the tenant for a token with audience set to one listed in the option audience, or correct the \
            option audience";
        TokenExpired, "token-expired", BadCredential, Device,
            "The time of the token is over.",
            "fetch a new token before connecting; if it is new, check this machine's clock";
        // Told so that the device keeps its token: it is good as soon as this machine's clock is right.
        TokenNotYet, "token-not-yet", Unavailable, Configuration,
            "`nbf` or `iat` lies in the future: this machine's clock is behind, or the tenant's ahead. The device \
            is to keep its token.",
            "check the clock of this machine";
        TokenBound, "token-bound", NotAuthorized, Device,
            "The token is bound to a key (`cnf`), which MQTT cannot prove.",
            "ask for a token without DPoP or mTLS binding: MQTT cannot prove possession of its key";
        TokenKind, "token-kind", BadCredential, Device,
            "The token is a refresh token or a logout token.",
            "send an access token, not a refresh or logout token";
        TokenUsername, "token-username", NotAuthorized, Configuration,
            "The claim that becomes the user name is missing or unusable.",
            "name a claim in username_claim that every device's token has";
        TokenTopics, "token-topics", NotAuthorized, Account,
            "What a claim says that the device may do cannot be read: an entry is no topic filter, a rule has an \
            unknown member, a placeholder does not count here or its value cannot stand in a topic. The line \
            names it.",
            "correct the device's topics in the tenant (app_metadata) and fetch a new token";
    }
    "The policy file" {
        PolicyValue, "policy-value", NotAuthorized, Account,
            "A rule of the policy file that denies names a value that cannot stand in a topic: a claim that is \
            missing, a client ID with `/`, `+` or `#` in it. To leave the rule out would be to allow what it \
            denies.",
            "give the device a client ID, user name and claims that can be a level of a topic, or take the \
            placeholder out of the rule";
    }
    "Sign-ins with a password, and the tenant" {
        LoginRefused, "login-refused", BadCredential, Device,
            "Wrong user name or password.",
            "correct the device's user name or password";
        LoginBlocked, "login-blocked", Banned, Account,
            "An administrator blocked the user.",
            "unblock the user in the tenant (User Management > Users)";
        LoginLocked, "login-locked", Banned, Account,
            "Brute-force protection locked the user (10 failures by default).",
            "unblock the user in the tenant; it was locked by brute-force protection, so find who sends wrong \
            passwords";
        LoginLeaked, "login-leaked", NotAuthorized, Account,
            "Auth0 knows the password from a breach elsewhere.",
            "give the device a new password: this one is known from a data breach";
        LoginMfa, "login-mfa", NotAuthorized, Account,
            "The user would have to give a second factor.",
            "exempt the devices from MFA in the tenant: a device cannot answer it";
        LoginVerification, "login-verification", NotAuthorized, Account,
            "Bot detection wants a human.",
            "add this broker's address to bot detection's IP allowlist in the tenant";
        LoginDenied, "login-denied", NotAuthorized, Account,
            "An Action denied the login, or the application may not use the API.",
            "read the tenant's message: an Action denied this device, or audience names no API that the application \
            may use";
        LoginConfiguration, "login-configuration", Unavailable, Configuration,
            "The tenant does not accept the application: secret, grant, connection or audience.",
            "correct the option or the application that the line names; if only one device is refused so, look at \
            its user name";
        LoginToken, "login-token", Unavailable, Configuration,
            "The login was good, and neither the access token nor the ID token can be used. The line says why, \
            with the fix for that: the issuer, this machine's clock, the audience.",
            "make the tenant return a usable token: set audience to an API of the tenant, or list client_id in \
            audience";
        LoginPending, "login-pending", Busy, Passing,
            "The tenant is being asked, and the broker may not stand still any longer.",
            "none needed: the tenant is asked in the background, and the device is let in when it tries again";
        LoginQueue, "login-queue", Busy, Passing,
            "More sign-ins wait for the tenant than there is room for.",
            "none needed if rare; else raise login_workers, or let devices use tokens";
        LoginBackoff, "login-backoff", Busy, Device,
            "The device sent several wrong passwords in a row, or was refused for another reason that a line \
            before names; or others did so from other addresses with its user name. The line says which.",
            "correct the device's password, or what an earlier line names, and reload the broker, so that it is \
            looked at now; after nine wrong passwords from its address only 30 days or a restart help, because \
            Auth0 locks a user for 30 days after ten";
        LoginRate, "login-rate", Busy, Passing,
            "More logins a second than `login_rate`, or than its address may use of it.",
            "none needed if rare; else raise login_rate to what your Auth0 plan allows, or let devices use tokens";
        LoginThrottled, "login-throttled", Busy, Passing,
            "The tenant's rate limit is used up, or what it allows the device's address.",
            "none needed if rare; else raise the tenant's limits, or let devices use tokens";
        TenantUnreachable, "tenant-unreachable", Unavailable, Passing,
            "No connection, no answer in time, or a certificate that is not trusted.",
            "check this machine's network, DNS and time, and that domain (and ca_file) are right";
        TenantError, "tenant-error", Unavailable, Passing,
            "The tenant reports an error of its own; a missing default connection is one.",
            "if it speaks of a default connection, set the option connection; else check the tenant's status page";
        TenantAnswer, "tenant-answer", Unavailable, Passing,
            "Something answered that is no token endpoint: a proxy, a login page, an outage page.",
            "check the tenant's status page, and that domain names the tenant and nothing in between";
        KeysUnavailable, "keys-unavailable", Unavailable, Passing,
            "The tenant's keys could not be fetched since the broker started.",
            "see the line that says why the keys could not be fetched; devices are let in as soon as they are";
    }
    "The plugin and the broker" {
        ForeignThread, "foreign-thread", NotAuthorized, Configuration,
            "The broker asked on another thread: its HTTP API (2.1).",
            "do not offer the broker's HTTP API behind this plugin";
        Internal, "internal", Unavailable, Configuration,
            "A bug of the plugin. What was asked was refused.",
            "report this line to the makers of mosquitto-auth0";
    }
    "Messages and subscriptions" {
        NotGranted, "not-granted", NotAuthorized, Account,
            "No rule allows it, or one denies it: the line says which. It is logged once for each topic and \
            connection.",
            "add the topic to the device's topics in the tenant and let it connect with a new token; or, if the \
            line names a rule, change that";
        RightsExpired, "rights-expired", NotAuthorized, Device,
            "The token of a connected device expired. It is disconnected.",
            "let the device connect again with a new token";
        UnknownClient, "unknown-client", NotAuthorized, Device,
            "The broker asks about a client that has not signed in with this broker process.",
            "let the device connect again: this broker process has not seen it sign in";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_words_and_every_reason_has_a_cause_and_a_fix() {
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
            assert!(reason.cause().len() > 10, "{}", reason.code());
            assert!(reason.fix().len() > 10, "{}", reason.code());
        }
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
