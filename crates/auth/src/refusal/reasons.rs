//! The table of reasons.
//!
//! `docs/refusals.md` is generated from the table (`tests/generated.rs`).

/// What the device is told: the MQTT 5 reason code of its CONNACK, where the broker can send it. `src/codes.rs`
/// says which broker can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnackReason {
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

impl ConnackReason {
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
pub enum Responsible {
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
        $($variant:ident, $code:literal, $connack:ident, $responsible:ident, $cause:literal, $fix:literal;)*
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
            pub const fn connack_reason(self) -> ConnackReason {
                match self { $($(Self::$variant => ConnackReason::$connack,)*)* }
            }

            /// Who has to act.
            pub const fn responsible(self) -> Responsible {
                match self { $($(Self::$variant => Responsible::$responsible,)*)* }
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
            "The client sent a password that is not a token, and no user name.",
            "send the device's Auth0 user name, or `JWT` with a token as the password";
        TooLong, "too-long", BadCredential, Device,
            "The user name or the password is longer than 1024 bytes.",
            "shorten it; no Auth0 credential is that long";
        NotUtf8, "not-utf8", BadCredential, Device,
            "The user name or the password is not UTF-8 text.",
            "send the user name and the password as UTF-8 text";
        PasswordNul, "password-nul", BadCredential, Device,
            "The password contains a NUL byte. Brokers before 2.1.3 silently truncate the password there.",
            "send a password without a NUL byte";
        CredentialsOff, "credentials-off", NotAuthorized, Device,
            "The client sent a password, and no application is configured to check it with.",
            "give the device a token, or set client_id and client_secret_file so that it can sign in with its \
            password";
        ClientId, "client-id", NotAuthorized, Device,
            "The token is valid for a different client ID (`client_id_claim`, `client_id_template`).",
            "let the device connect with the client ID that its token names, or correct client_id_claim or \
            client_id_template";
        ClientIdHeld, "client-id-held", NotAuthorized, Device,
            "Another account is connected with this client ID, or has a kept session with it.",
            "give each device a client ID of its own; if a device changed its account, let the old one connect \
            once with a clean session, or set takeover to any; on Mosquitto 2.0 a reload (SIGHUP) frees the \
            client IDs of sessions that have expired";
        ClientIdPending, "client-id-pending", Busy, Passing,
            "A login with this client ID is waiting for the tenant, so Mosquitto 2.1 closed the connection. It does \
            so without asking the plugin and without telling the device why.",
            "none needed if rare: the device can sign in when it tries again; otherwise find out who connects from \
            that address with this client ID";
    }
    "Authentication methods of MQTT 5" {
        AuthMethod, "auth-method", NotAuthorized, Device,
            "The client asks for an authentication method that this plugin does not have. If no other plugin has it, the \
            broker answers 0x8C (Bad authentication method).",
            "use the method OAUTH2-JWT, CUSTOM-JWT or OAUTHBEARER, or no method and the token as the password";
        AuthData, "auth-data", BadCredential, Device,
            "The method is OAUTHBEARER, and the authentication data is not as RFC 7628 says.",
            "send `n,,`, the byte 1, `auth=Bearer ` and the token, and the byte 1 twice; or send the token alone with the \
            method OAUTH2-JWT";
        AuthzId, "authzid", NotAuthorized, Device,
            "The method is OAUTHBEARER, and the client asks for an identity (`a=`) that is neither the user name nor the \
            subject of its token.",
            "leave the identity out: the token says whose it is";
        AuthPacket, "auth-packet", NotAuthorized, Device,
            "A connected device sent an empty AUTH packet, and is disconnected: the broker takes such a packet for \
            the next step of an authentication that was never begun.",
            "let the device renew with an AUTH packet of reason code 0x19, its authentication method and its new token";
    }
    "The token, until its signature is verified" {
        TokenMalformed, "token-malformed", BadCredential, Device,
            "The password is not a complete JSON Web Token. The tenant issues an opaque token if it was requested \
            without `audience`; or the token was truncated or changed.",
            "send the token as it came from the tenant: three base64url parts with dots between them";
        TokenWrapped, "token-wrapped", BadCredential, Device,
            "The password contains a token, but not the token alone: it is preceded by `Bearer`, quoted, surrounded \
            by white space, inside the tenant's whole response, or encoded again. The line says which.",
            "send the token alone in the password field: without `Bearer`, quotes, white space, JSON or another \
            encoding";
        TokenMisplaced, "token-misplaced", BadCredential, Device,
            "The user name or the client ID is a token.",
            "send the token in the password field, with the user name `JWT` and the device's own client ID";
        TokenDouble, "token-double", BadCredential, Device,
            "The header or the payload contains a member twice.",
            "fetch the token from the tenant; duplicate members are a sign of an attack";
        TokenEncrypted, "token-encrypted", BadCredential, Configuration,
            "The tenant encrypts its access tokens (JWE).",
            "turn off token encryption for this API in the tenant";
        TokenAlgorithm, "token-algorithm", BadCredential, Configuration,
            "The token is signed with an algorithm that the option `algorithms` does not list.",
            "make the API sign with an algorithm listed in the option algorithms, or list this one if you trust it";
        TokenType, "token-type", BadCredential, Device,
            "The header (`typ`) says that this is another kind of token.",
            "send an access token (typ `JWT` or `at+jwt`)";
        TokenExtension, "token-extension", BadCredential, Device,
            "The header contains `crit`, `b64` or `zip`.",
            "send a plain token: header extensions are not supported";
        TokenKeyMissing, "token-key-missing", BadCredential, Device,
            "The token does not name its key (`kid`), and the tenant has several keys.",
            "use a tenant that names its signing key (kid) in the token";
        TokenKeyUnknown, "token-key-unknown", BadCredential, Device,
            "The tenant has no key with this name: another tenant issued the token, or it is forged.",
            "check that the token comes from the tenant in the option domain or issuer";
        TokenKeyPending, "token-key-pending", Busy, Passing,
            "The key is unknown, and the tenant's keys were fetched less than 30 s ago.",
            "none needed: the tenant's keys are fetched again within 30 s, and the device may try again";
        TokenKeyUnfit, "token-key-unfit", BadCredential, Configuration,
            "The tenant publishes the key for another algorithm than the one that signed the token.",
            "in the tenant's settings turn off 'Include Signing Algorithms in JSON Web Key Set', or sign with the \
            key's own algorithm";
        TokenSignature, "token-signature", BadCredential, Device,
            "The signature is invalid: the token is forged or damaged, or `hs256_secret_file` does not hold the API's \
            secret.",
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
            "ask the tenant for a token with audience set to one listed in the option audience (in Keycloak, add an \
            audience mapper), or correct the option audience";
        TokenExpired, "token-expired", BadCredential, Device,
            "The token has expired.",
            "fetch a new token before connecting; if it is new, check this machine's clock";
        // ConnackReason so that the device keeps its token: it is good as soon as this machine's clock is right.
        TokenNotYet, "token-not-yet", Unavailable, Configuration,
            "`nbf` or `iat` is in the future: this machine's clock is slow, or the tenant's is fast. The device \
            should keep its token.",
            "check the clock of this machine";
        TokenBound, "token-bound", NotAuthorized, Device,
            "The token is bound to a key (`cnf`), and MQTT offers no way to prove possession of that key.",
            "ask for a token without DPoP or mTLS binding: MQTT cannot prove possession of its key";
        TokenKind, "token-kind", BadCredential, Device,
            "The token is a refresh token or a logout token.",
            "send an access token, not a refresh or logout token";
        TokenUsername, "token-username", NotAuthorized, Configuration,
            "The claim that `username_claim` names is missing or unusable, or one in `username_template` is.",
            "name claims in username_claim or username_template that every device's token has";
        TokenTopics, "token-topics", NotAuthorized, Account,
            "The claims that grant rights are malformed: an entry is not a topic filter, a rule has an unknown \
            member, or a placeholder is not allowed there or has no usable value. The line names the entry.",
            "correct the device's topics in the tenant (app_metadata) and fetch a new token";
    }
    "The policy file" {
        ClaimRequired, "claim-required", NotAuthorized, Account,
            "A requirement of the policy file (`[[require]]`) is not met. The line names the requirement, says what is \
            missing, and has the message that the operator wrote for it.",
            "give the account in the tenant what the requirement asks for, and let the device come back with a new \
            token; or change the requirement in the policy file";
        PolicyValue, "policy-value", NotAuthorized, Account,
            "A denying rule of the policy file contains a placeholder without a usable value: a missing claim, or a \
            client ID that contains `/`, `+` or `#`. Ignoring the rule would allow what it denies, so the device is \
            refused.",
            "give the device a client ID, user name and claims that can be a topic level, or remove the placeholder \
            from the rule";
    }
    "Sign-ins with a password, and the tenant" {
        LoginRefused, "login-refused", BadCredential, Device,
            "The user name or the password is wrong.",
            "correct the device's user name or password";
        LoginBlocked, "login-blocked", Banned, Account,
            "An administrator has blocked the user.",
            "unblock the user in the tenant (User Management > Users)";
        LoginLocked, "login-locked", Banned, Account,
            "Brute-force protection has locked the user, by default after ten failed logins.",
            "unblock the user in the tenant; it was locked by brute-force protection, so find who sends wrong \
            passwords";
        LoginLeaked, "login-leaked", NotAuthorized, Account,
            "Auth0 knows the password from a data breach elsewhere.",
            "give the device a new password: this one is known from a data breach";
        LoginMfa, "login-mfa", NotAuthorized, Account,
            "The tenant requires a second factor for this user.",
            "exempt the devices from MFA in the tenant: a device cannot answer it";
        LoginVerification, "login-verification", NotAuthorized, Account,
            "Bot detection requires a human to solve a challenge.",
            "add this broker's address to bot detection's IP allowlist in the tenant";
        LoginDenied, "login-denied", NotAuthorized, Account,
            "An Action denied the login, or the application may not use the API.",
            "read the tenant's message: an Action denied this device, or audience does not name an API that the \
            application may use";
        LoginConfiguration, "login-configuration", Unavailable, Configuration,
            "The tenant does not accept the application: secret, grant, connection or audience.",
            "correct the option or the application that the line names; if only one device is affected, check its \
            user name";
        LoginToken, "login-token", Unavailable, Configuration,
            "The tenant accepted the login, but neither the access token nor the ID token is usable. The line says \
            why, for example because of the issuer, the audience or this machine's clock.",
            "make the tenant return a usable token: set audience to an API of the tenant, or list client_id in \
            audience";
        LoginPending, "login-pending", Busy, Passing,
            "The request to the tenant is still running, and the broker may not block for longer.",
            "none needed: the request continues in the background, and the device can sign in when it tries again";
        LoginQueue, "login-queue", Busy, Passing,
            "Too many sign-ins are waiting for the tenant.",
            "none needed if rare; otherwise raise login_workers, or let devices use tokens";
        LoginBackoff, "login-backoff", Busy, Device,
            "The device sent several wrong passwords in a row, or was refused for another reason that an earlier line \
            names; or others did so with its user name from other addresses. The line says which.",
            "correct the device's password, or what an earlier line names, then reload the broker to retry at once; \
            after nine wrong passwords from one address, wait 30 days or restart the broker, because Auth0 locks a \
            user for 30 days after ten";
        LoginRate, "login-rate", Busy, Passing,
            "There are more logins per second than `login_rate` allows, or than one address may use of it.",
            "none needed if rare; otherwise raise login_rate to what your Auth0 plan allows, or let devices use \
            tokens";
        LoginThrottled, "login-throttled", Busy, Passing,
            "The tenant's rate limit is exhausted, for all or for the device's address.",
            "none needed if rare; otherwise raise the tenant's limits, or let devices use tokens";
        TenantUnreachable, "tenant-unreachable", Unavailable, Passing,
            "The tenant could not be reached, did not answer in time, or presented a certificate that is not trusted.",
            "check this machine's network, DNS and time, and that domain (and ca_file and proxy, if set) are right";
        TenantError, "tenant-error", Unavailable, Passing,
            "The tenant reported an internal error. A missing default connection is one cause.",
            "if the message mentions a default connection, set the option connection; otherwise check the tenant's \
            status page";
        TenantAnswer, "tenant-answer", Unavailable, Passing,
            "The response is not from a token endpoint, but for example from a proxy, a login page or an outage page.",
            "check the tenant's status page, and that domain names the tenant and nothing in between";
        KeysUnavailable, "keys-unavailable", Unavailable, Passing,
            "The tenant's keys have not been fetched successfully since the broker started.",
            "see the line that says why the keys could not be fetched; devices can sign in as soon as they are \
            fetched";
    }
    "Renewal" {
        RenewalAccount, "renewal-account", NotAuthorized, Device,
            "A device sent a new token for its session, and it belongs to another account, or gives another user name. \
            The session keeps the rights that it has.",
            "renew with a token of the same account; to change the account, let the device connect again";
        RenewalTooLate, "renewal-too-late", NotAuthorized, Device,
            "A device sent a new token, and has no session that could be renewed: its rights have ended, or others \
            than this plugin let it in.",
            "let the device connect again with the new token, and renew before the old token expires";
        RenewalMessage, "renewal-message", BadCredential, Device,
            "A device published something to `$CONTROL/auth0/v1/renew` that is neither a token alone nor a JSON object \
            with the member `token`.",
            "publish the token alone, or {\"token\":\"...\",\"correlationData\":\"...\"}";
        RenewalRate, "renewal-rate", Busy, Passing,
            "A device published more than 10 new tokens within 10 s. It is told so once; what it publishes until the \
            10 s are over is ignored.",
            "renew once, before the token expires, and wait for the answer before you send another token";
    }
    "The plugin and the broker" {
        ForeignThread, "foreign-thread", NotAuthorized, Configuration,
            "The broker called the plugin on another thread, as the HTTP API of 2.1 does.",
            "do not offer the broker's HTTP API behind this plugin";
        Internal, "internal", Unavailable, Configuration,
            "A bug in the plugin. The request was refused.",
            "report this line to the maintainers of mosquitto-auth0";
    }
    "Messages and subscriptions" {
        NotGranted, "not-granted", NotAuthorized, Account,
            "No rule allows the topic, or a rule denies it: the line says which. This is logged once for each topic \
            and connection.",
            "add the topic to the device's topics in the tenant and let it connect with a new token; or, if the \
            line names a rule, change that";
        ControlTopic, "control-topic", NotAuthorized, Device,
            "The client may not publish to this topic below `$CONTROL/auth0`, whatever its rules say. Commands are for \
            clients whose token has the permission in `admin_permission`, new tokens are for clients that signed in \
            with this plugin, and all other topics there are for the plugin's answers.",
            "publish a new token to $CONTROL/auth0/v1/renew; for commands, set admin_permission and give the \
            administrator that permission in the tenant";
        RightsExpired, "rights-expired", NotAuthorized, Device,
            "The token of a connected device has expired, or `max_session` has passed. The device is disconnected or, with \
            `on_expiry deny`, denied everything.",
            "let the device connect again with a new token";
        KeyRevoked, "key-revoked", NotAuthorized, Device,
            "The key that signed the token of a connected device has left the tenant's key set, and `on_key_revoked` is \
            `disconnect`.",
            "let the device connect again with a new token";
        UnknownClient, "unknown-client", NotAuthorized, Device,
            "The broker asks about a client that has not signed in since the broker started.",
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
        for reason in Reason::ALL
            .iter()
            .filter(|r| r.responsible() == Responsible::Passing)
        {
            assert!(
                matches!(
                    reason.connack_reason(),
                    ConnackReason::Unavailable | ConnackReason::Busy
                ),
                "{}",
                reason.code()
            );
        }
    }
}
