//! What `doctor` says. The names of Auth0's dashboard are those of `docs/connect-auth0.md`.

use std::{fmt, net::IpAddr};

use auth::refusal::{CertificateProblem, ProxyProblem, Reason, Refusal, TenantAnswer};
use input::text::Quoted;

use super::duration;
use crate::doctor::{
    finding::{Finding, Severity, Which},
    plan::{Omitted, Sending},
};

/// A finding for people.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// What was seen.
    pub(crate) seen: String,
    /// What it means for devices, if it is not as it should be.
    pub(crate) means: Option<String>,
    /// How to fix it.
    pub(crate) fix: Option<String>,
}

/// Returns words of which there is only the first part.
pub(super) fn seen(seen: impl Into<String>) -> Words {
    Words {
        seen: seen.into(),
        ..Words::default()
    }
}

impl Words {
    pub(super) fn means(mut self, means: impl Into<String>) -> Self {
        self.means = Some(means.into());
        self
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Returns the advice for Auth0's dashboard, or the one for another provider.
fn page(is_auth0: bool, auth0: &str, other: &str) -> String {
    if is_auth0 { auth0 } else { other }.to_owned()
}

const PASSWORDS_REFUSED: &str =
    "every sign-in with a password is refused with [login-configuration]; tokens work";

/// Returns a finding for people.
pub(crate) fn words(finding: &Finding, is_auth0: bool) -> Words {
    if let Some(words) = machine(finding) {
        return words;
    }
    if let Some(words) = connection(finding, is_auth0) {
        return words;
    }
    if let Some(words) = application(finding, is_auth0) {
        return words;
    }
    if let Some(words) = login(finding, is_auth0) {
        return words;
    }
    token(finding, is_auth0)
}

/// Findings about the configuration and this machine.
fn machine(finding: &Finding) -> Option<Words> {
    Some(match finding {
        Finding::ConfigurationWrong(sentence) => seen(format!("Configuration: {sentence}."))
            .means("the broker does not start")
            .fix("correct the option; `mosquitto-auth0 check` reads the whole configuration"),
        Finding::ClockAbsurd { now } => {
            seen(format!("Clock: this machine's time is {now} s after 1970, which cannot be right."))
                .means("the tenant's certificate is not trusted, and tokens are refused with [token-not-yet]")
                .fix("set the time: `timedatectl set-ntp true`")
        }
        Finding::ClockBehindFile { file, seconds } => seen(format!(
            "Clock: {} was written {} from now, so this machine's clock was set back.",
            file.display(),
            duration(*seconds)
        ))
        .means("tokens may be refused with [token-not-yet]")
        .fix("set the time: `timedatectl set-ntp true`"),
        Finding::ClockPlausible => seen("Clock: plausible, without asking anybody."),
        Finding::ProxyUsed { address } => {
            seen(format!("Proxy: the tenant is asked through {}.", Quoted(address)))
        }
        Finding::ProxyIgnored { variable } => seen(format!(
            "Proxy: {variable} is set here. The plugin ignores it, and so did this examination."
        ))
        .fix("if the broker's machine cannot connect to the tenant directly, name the proxy with the option `proxy`"),
        Finding::SavedKeys { keys, seconds } => seen(format!(
            "Saved keys: {keys}, fetched {} ago. Devices with tokens can sign in while the tenant is down.",
            duration(*seconds)
        )),
        Finding::SavedKeysUnusable(sentence) => {
            seen(format!("Saved keys: {sentence}."))
                .means("none can sign in if the broker starts while the tenant is down")
        }
        Finding::KeysOfFile { keys } => {
            seen(format!("Keys: {keys} in jwks_file. The tenant is not asked for any."))
        }
        Finding::SecretOnly => {
            seen("Keys: tokens are checked with hs256_secret_file only. The tenant is not asked for keys.")
        }
        _ => return None,
    })
}

/// Findings on the way to the tenant, in its discovery document and its keys.
// Longer than a screen, because it is one paragraph for each kind of finding.
fn connection(finding: &Finding, is_auth0: bool) -> Option<Words> {
    Some(match finding {
        Finding::Resolved { host, addresses } => {
            let addresses: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
            seen(format!("DNS: {host} is {}.", addresses.join(", ")))
        }
        Finding::UnknownHost { host, why } => {
            seen(format!("DNS: {} is not known: {why}.", Quoted(host)))
                .means("[tenant-unreachable] with a password, [keys-unavailable] with a token")
                .fix(page(
                    is_auth0,
                    "compare `domain` with Domain under Applications > Applications > (your application) > Settings; \
                     if it is right, look at this machine's DNS",
                    "compare `issuer` with the provider's address; if it is right, look at this machine's DNS",
                ))
        }
        Finding::ProxyFailed { address, why } => proxy(address, why),
        Finding::NoConnection { host, why } => {
            seen(format!("Connection: {}: {why}.", Quoted(host)))
                .means("[tenant-unreachable] with a password, [keys-unavailable] with a token")
                .fix("let this machine connect to the tenant on port 443, in firewalls too; if the only way out is an HTTP \
                       proxy, name it with the option `proxy`")
        }
        Finding::Untrusted {
            host,
            problem,
            why,
            ca_file,
        } => untrusted(host, *problem, why, ca_file.as_deref()),
        Finding::Trusted { ca_file } => seen(match ca_file {
            Some(file) => format!("TLS: the certificate is trusted, with ca_file {}.", file.display()),
            None => "TLS: the certificate is trusted, with this machine's authorities.".to_owned(),
        }),
        Finding::ClockRight => seen("Clock: agrees with the tenant's."),
        Finding::ClockOff { ahead, leeway } => clock(*ahead, *leeway),
        Finding::NoSuchTenant { host } => {
            seen(format!("Discovery: {} answers 404: it has no tenant of this name.", Quoted(host)))
                .means("[tenant-answer] with a password, [keys-unavailable] with a token")
                .fix(page(
                    is_auth0,
                    "compare `domain` with Domain under Applications > Applications > (your application) > Settings, \
                     with its region (.eu., .us. …)",
                    "`issuer` must be the address under which /.well-known/openid-configuration answers; if tokens \
                     have another issuer, write that, and set `discovery_url` to the document's address",
                ))
        }
        Finding::NotAuth0 { host } => {
            seen(format!("Discovery: {} answers, and not as Auth0 does.", Quoted(host)))
                .means("passwords and keys are asked for at Auth0's paths, which this server may not have")
                .fix("for another provider than Auth0, set `issuer` in place of `domain`")
        }
        Finding::Busy { status } => {
            seen(format!("Tenant: it answers {status}."))
                .means("it passes; remembered logins and keys stay in use meanwhile")
                .fix(page(
                    is_auth0,
                    "try again in a moment; see https://status.auth0.com",
                    "try again in a moment, and read the provider's log",
                ))
        }
        Finding::IssuerRight { issuer } => seen(format!("Issuer: {}.", Quoted(issuer))),
        Finding::IssuerSlash { configured, issuer } => seen(format!(
            "Issuer: the option is {}, and the tenant's is {}. They differ by the slash at the end.",
            Quoted(configured),
            Quoted(issuer)
        ))
        .means("every token is refused with [token-issuer], or keys cannot be fetched ([keys-unavailable])")
        .fix(format!("write `plugin_opt_issuer {}`", shown(issuer))),
        Finding::IssuerOther {
            configured,
            issuer,
            elsewhere,
        } => {
            let also = elsewhere.as_ref().map(|url| format!(", and set `discovery_url` to '{url}'"));
            let found = issuer.as_deref().unwrap_or("nothing");
            seen(format!(
                "Issuer: {} accepted, and the tenant calls itself {}.",
                listed(configured),
                Quoted(found)
            ))
            .means("tokens of this tenant are refused with [token-issuer], or keys cannot be fetched")
            .fix(page(
                is_auth0,
                "use the domain that devices get their tokens from: with a custom domain (Branding > Custom Domains) \
                 `domain` must be that one, or `issuer` must list both",
                &format!(
                    "write `issuer` letter by letter as the document at /.well-known/openid-configuration has it{}",
                    also.unwrap_or_default()
                ),
            ))
        }
        Finding::DiscoveryUnusable(why) => seen(format!("Discovery: {why}."))
            .means("[tenant-unreachable] with a password, [keys-unavailable] with a token")
            .fix(page(
                is_auth0,
                "look for what answers in the tenant's place: a proxy, a portal, a firewall that inspects TLS",
                "look at the document at /.well-known/openid-configuration: `issuer`, `jwks_uri` and \
                 `token_endpoint` must be https addresses",
            )),
        Finding::AlgorithmsNotOffered { accepted, offered } => seen(format!(
            "Algorithms: {} accepted, and the tenant signs ID tokens with {}.",
            words_of(accepted),
            words_of(offered)
        ))
        .means("tokens may be refused with [token-algorithm]")
        .fix("list the tenant's algorithm in `algorithms`"),
        Finding::SecretNotOffered { sent_by, offered } => seen(format!(
            "Client authentication: the application authenticates by {}, and the tenant offers {}.",
            sent_by.name(),
            words_of(offered)
        ))
        .means(PASSWORDS_REFUSED)
        .fix(page(
            is_auth0,
            "Applications > Applications > (your application) > Credentials: the same method, Client Secret (Post or Basic) or \
             Private Key JWT",
            "allow this method for this client, or set token_endpoint_auth_method to another one",
        )),
        Finding::PasswordsNotOffered { offered } => seen(format!(
            "Grant: the tenant's document lists no grant for passwords, only {}.",
            words_of(offered)
        ))
        .means("sign-ins with a password may be refused with [login-configuration]; tokens work")
        .fix("allow the grant `password` for this client, or let devices bring tokens"),
        Finding::Keys { keys } => {
            let list = |(kid, algorithm): &(String, Option<&str>)| match algorithm {
                Some(algorithm) => format!("{} ({algorithm})", Quoted(kid)),
                None => Quoted(kid).to_string(),
            };
            let listed: Vec<_> = keys.iter().take(4).map(list).collect();
            let more = if keys.len() > 4 { ", …" } else { "" };
            seen(format!("Keys: {}: {}{more}.", keys.len(), listed.join(", ")))
        }
        Finding::KeyIgnored(sentence) => seen(format!("Keys: ignored {sentence}."))
            .means("tokens that are signed with this key are refused with [token-key-unknown]")
            .fix(page(
                is_auth0,
                "Settings > Signing Keys: Rotate Signing Key, then Revoke the previous one",
                "look at the provider's key set: each key needs a `kid` of its own, and RSA with 2048 bits or more",
            )),
        Finding::KeysForOthers { accepted, offered } => seen(format!(
            "Keys: they are for {}, and {} accepted.",
            words_of(offered),
            words_of(accepted)
        ))
        .means("every token is refused with [token-algorithm] or [token-key-unfit]")
        .fix(page(
            is_auth0,
            "Applications > APIs > (your API) > Settings > Signing Algorithm: RS256; or list the other one in \
             `algorithms`",
            "list the provider's algorithm in `algorithms`",
        )),
        Finding::NoKeys(why) => seen(format!("Keys: {why}."))
            .means("every token is refused with [keys-unavailable]")
            .fix(page(
                is_auth0,
                "look for what answers in the tenant's place; Auth0 always lists two keys at /.well-known/jwks.json",
                "look at the document that `jwks_uri` names: it must list an RSA key for signatures",
            )),
        _ => return None,
    })
}

fn proxy(address: &str, why: &ProxyProblem) -> Words {
    let fix = match why {
        ProxyProblem::Status(ProxyProblem::ASKS_FOR_CREDENTIALS) => {
            "write USER:PASSWORD for this machine into the file that `proxy_credentials_file` names"
        }
        ProxyProblem::Status(403 | 405) => {
            "have the proxy's administrator allow CONNECT from this machine to the tenant, port 443"
        }
        ProxyProblem::Status(_) => "see whether the proxy can reach the tenant, in the proxy's log",
        ProxyProblem::NotHttp => {
            "compare `proxy` with the address and port of the HTTP proxy; SOCKS and HTTPS proxies are none"
        }
        ProxyProblem::UnknownHost | ProxyProblem::Unreachable(_) | ProxyProblem::Timeout => {
            "compare `proxy` with the proxy's address and port, and let this machine connect to it"
        }
    };
    seen(format!("Proxy: no way through {}: {why}.", Quoted(address)))
        .means("[tenant-unreachable] with a password, [keys-unavailable] with a token")
        .fix(fix)
}

fn untrusted(
    host: &str,
    problem: CertificateProblem,
    why: &str,
    ca_file: Option<&std::path::Path>,
) -> Words {
    let by = match ca_file {
        Some(file) => format!("the authorities in ca_file {}", file.display()),
        None => "this machine's authorities".to_owned(),
    };
    let host = Quoted(host);
    let (what, fix) = match problem {
        CertificateProblem::Expired => (
            format!("TLS: the certificate of {host} has expired, by this machine's clock ({why})."),
            "compare this machine's time with the real one (`date -u`); if it is right, the tenant has to renew its \
             certificate"
                .to_owned(),
        ),
        CertificateProblem::NotYet => (
            format!("TLS: the certificate of {host} is not valid yet, by this machine's clock ({why})."),
            "set this machine's time: `timedatectl set-ntp true`".to_owned(),
        ),
        CertificateProblem::AnotherName => (
            format!("TLS: the certificate of {host} is for another name ({why})."),
            "correct `domain` (or `issuer`): write the name that the certificate has, and no CNAME or address".into(),
        ),
        CertificateProblem::UnknownAuthority => (
            format!("TLS: no authority that is trusted has issued the certificate of {host}: {by} ({why})."),
            match ca_file {
                Some(_) => "leave `ca_file` out for Auth0, whose certificates come from public authorities; or put the \
                            right authority into it"
                    .to_owned(),
                None => "install the authorities (`apt install ca-certificates`); behind a firewall that inspects TLS, \
                         name its authority with `ca_file`"
                    .to_owned(),
            },
        ),
        CertificateProblem::OfAuthority => (
            format!(
                "TLS: {host} shows the certificate of an authority (CA:TRUE), which is no server certificate ({why})."
            ),
            "have that authority issue a certificate for the server, and name the authority with `ca_file`; or make the \
             certificate again with `-addext basicConstraints=critical,CA:FALSE`, and name that with `ca_file`"
                .to_owned(),
        ),
        CertificateProblem::Other => (
            format!("TLS: no connection to {host}: {why}."),
            "the tenant must speak TLS 1.2 or 1.3; look for a proxy or a firewall in between".to_owned(),
        ),
    };
    seen(what)
        .means("[tenant-unreachable] with a password, [keys-unavailable] with a token")
        .fix(fix)
}

fn clock(ahead: i64, leeway: u64) -> Words {
    let far = duration(ahead.unsigned_abs());
    let side = if ahead > 0 { "behind" } else { "ahead of" };
    let seen = seen(format!("Clock: this machine is {far} {side} the tenant."));
    let fixed =
        "set the time: `timedatectl set-ntp true`; `timedatectl` says whether it is synchronised";
    match (ahead.unsigned_abs() > leeway, ahead > 0) {
        (false, _) => seen
            .means(format!("none yet: `leeway` ({leeway} s) covers it"))
            .fix(fixed),
        (true, true) => seen
            .means(format!(
                "new tokens are refused with [token-not-yet], because `leeway` is {leeway} s"
            ))
            .fix(fixed),
        (true, false) => seen
            .means(format!(
                "tokens are refused with [token-expired] {far} too early, because `leeway` is {leeway} s"
            ))
            .fix(fixed),
    }
}

/// Findings about the application and the API.
fn application(finding: &Finding, is_auth0: bool) -> Option<Words> {
    Some(match finding {
        Finding::TokensOnly => {
            seen("Application: none is configured (client_id), so devices sign in with tokens only.")
        }
        Finding::ApplicationRight => seen(
            "Application: the tenant accepts client_id, client_secret and the grant, as far as a request without a \
             user tells.",
        ),
        Finding::ApplicationRejected(answer) => {
            seen(format!("Application: {}.", said(answer)))
                .means(PASSWORDS_REFUSED)
                .fix(page(
                    is_auth0,
                    "Applications > Applications > (your application) > Settings: compare Client ID with `client_id`, \
                     and copy Client Secret into `client_secret_file` again; tab Credentials: Client Secret (Post or Basic), or \
                     Private Key JWT with the public key of `client_assertion_key_file`",
                    "compare `client_id`, the secret or the key, and token_endpoint_auth_method with the client's \
                     registration",
                ))
        }
        Finding::GrantOff(answer) => {
            seen(format!("Grant: the application may not sign users in: {}.", said(answer)))
                .means(PASSWORDS_REFUSED)
                .fix(page(
                    is_auth0,
                    "Applications > Applications > (your application) > Settings > Advanced Settings > Grant Types: \
                     switch on Password",
                    "allow the grant `password` for this client; a provider without that grant can be used with \
                     tokens only",
                ))
        }
        Finding::ConnectionOff(answer) => {
            seen(format!("Connection: {}.", said(answer)))
                .means(PASSWORDS_REFUSED)
                .fix(page(
                    is_auth0,
                    "Applications > Applications > (your application) > Connections: switch on the one that \
                     `connection` names, letter by letter",
                    "leave `connection` out: it is Auth0's",
                ))
        }
        Finding::NotAllowed(answer) => {
            seen(format!("Application: {}.", said(answer)))
                .means(PASSWORDS_REFUSED)
                .fix(page(
                    is_auth0,
                    "Applications > Applications > (your application): Advanced Settings > Grant Types needs Password, \
                     Connections needs the one of `connection`, and the application must be first-party",
                    "allow this client the grant `password`",
                ))
        }
        Finding::NoDefaultDirectory(answer) => seen(format!(
            "Connection: `connection` is not set, and the tenant has no default directory: {}.",
            said(answer)
        ))
        .means("every sign-in with a password is refused with [tenant-error]; tokens work")
        .fix(
            "set `connection` to the name under Authentication > Database; or Settings > General > API Authorization \
             Settings > Default Directory",
        ),
        Finding::AudienceUnknown { audience, answer } => seen(format!(
            "Audience: the tenant knows no API {}: {}.",
            Quoted(audience),
            said(answer)
        ))
        .means("every sign-in with a password is refused, and no device gets a token for this API")
        .fix(page(
            is_auth0,
            "Applications > APIs > (your API) > Settings: copy Identifier into `audience`, letter by letter, with its \
             slash at the end if it has one",
            "compare `audience` with what the provider calls the resource",
        )),
        Finding::NotAuthorized { audience, answer } => seen(format!(
            "Audience: the application is not authorized for {}: {}.",
            Quoted(audience),
            said(answer)
        ))
        .means("every sign-in with a password is refused")
        .fix(page(
            is_auth0,
            "Applications > APIs > (your API) > Application Access (or Machine to Machine Applications): authorize it",
            "authorize the client for this resource",
        )),
        Finding::ProofAsked(answer) => seen(format!(
            "Sender constraining: the tenant wants a proof of possession (DPoP): {}.",
            said(answer)
        ))
        .means("every sign-in with a password is refused. MQTT has no way to prove possession of a key")
        .fix(page(
            is_auth0,
            "Applications > APIs > (your API) > Settings > Token Sender-Constraining: None, or not required",
            "switch DPoP off for this client and this resource",
        )),
        Finding::RateLimited(answer) => seen(format!("Rate limit: {}.", said(answer)))
            .means("sign-ins with a password are refused with [login-throttled] until the limit is full again")
            .fix(page(
                is_auth0,
                "wait, and look at Monitoring > Logs for what uses the limit up; lower `login_rate` (Auth0 Free \
                 allows 5 requests a second in the long run), or let devices bring tokens, which cost no request",
                "wait, and lower `login_rate`",
            )),
        Finding::TenantFailed(refusal) => seen(format!("Token endpoint: {}.", refusal.detail()))
            .means(format!("sign-ins with a password are refused with [{}]", refusal.reason.code()))
            .fix(page(
                is_auth0,
                "try again in a moment; see https://status.auth0.com and Monitoring > Logs",
                "try again in a moment, and read the provider's log",
            )),
        Finding::Unclear(refusal) => seen(format!("Token endpoint: {}.", refusal.detail()))
            .means(format!("sign-ins with a password are refused with [{}]", refusal.reason.code()))
            .fix(page(
                is_auth0,
                "look up this request under Monitoring > Logs",
                "read the provider's log",
            )),
        _ => return None,
    })
}

/// Findings about logins, and what protects them.
fn login(finding: &Finding, is_auth0: bool) -> Option<Words> {
    Some(match finding {
        Finding::ProbeRight => seen(
            "Login: one of a user that does not exist was refused as it should be, so grant, secret, connection and \
             audience are right.",
        ),
        Finding::AddressBlocked(answer) => seen(format!(
            "Attack protection: the tenant blocks logins from this machine's address: {}.",
            said(answer)
        ))
        .means("sign-ins with a password are refused with [login-locked], also right ones")
        .fix(page(
            is_auth0,
            "Security > Attack Protection > Suspicious IP Throttling: wait (an attempt comes back every 15 minutes), \
             or allowlist this address for now; then switch on Trust Token Endpoint IP Header (Applications > \
             Applications > (your application) > Settings > Advanced Settings > OAuth)",
            "wait, or lift the block in the provider",
        )),
        Finding::AddressTrusted => seen(
            "Attack protection: the tenant counts failed logins by the device's address, which the plugin passes on.",
        ),
        Finding::AddressIgnored => seen(
            "Attack protection: the tenant ignores the device's address, which the plugin passes on, and counts all \
             failed logins for the broker's.",
        )
        .means("ten wrong passwords of anybody lock a device's account for all ([login-locked]), for 30 days")
        .fix(page(
            is_auth0,
            "Applications > Applications > (your application) > Settings > Advanced Settings > OAuth: switch on Trust \
             Token Endpoint IP Header. It counts only with a client secret, in an application of the type Regular Web \
             or Machine to Machine",
            "the header auth0-forwarded-for is Auth0's; let the provider exempt the broker's address from its limits",
        )),
        Finding::AddressUnseen => seen(
            "Attack protection: the answers do not tell whether the tenant trusts the device's address.",
        )
        .fix(page(
            is_auth0,
            "Monitoring > Logs: an entry of a device (sepft or fepft) must have the device's address as its IP. If it \
             has the broker's, switch on Trust Token Endpoint IP Header",
            "make sure that the provider does not lock users by the broker's address",
        )),
        Finding::FailuresAllowed { limit, left: 0 } => seen(format!(
            "Attack protection: all {limit} failed logins that one address may have in a day are used up."
        ))
        .means("sign-ins with a password are refused with [login-locked]")
        .fix("Security > Attack Protection > Suspicious IP Throttling: wait, or allowlist this address for now"),
        Finding::FailuresAllowed { limit, left } => seen(format!(
            "Attack protection: one address may have {limit} failed logins in a day, and {left} are left."
        )),
        Finding::LockoutUnseen => seen(
            "Attack protection: after how many wrong passwords an account is locked cannot be seen from here.",
        )
        .fix(page(
            is_auth0,
            "Security > Attack Protection > Brute-force Protection shows it (10 unless it was changed)",
            "look it up in the provider's settings",
        )),
        Finding::AccountRefused(refusal) => {
            seen(format!("Login: {}.", refusal.detail()))
                .means(format!("this device is refused with [{}]", refusal.reason.code()))
                .fix(account(refusal, is_auth0))
        }
        Finding::SignedIn => seen("Login: the tenant lets the user in."),
        _ => return None,
    })
}

/// Returns where the cause of a refused sign-in is fixed.
pub(crate) fn fixed(refusal: &Refusal, is_auth0: bool) -> String {
    match refusal.reason.code().starts_with("token-") {
        true => refused(refusal, is_auth0),
        false => account(refusal, is_auth0),
    }
}

/// Returns where an account is fixed.
fn account(refusal: &Refusal, is_auth0: bool) -> String {
    let auth0 = match refusal.reason {
        Reason::LoginRefused => {
            "the user name or the password is wrong, or the user is in another connection: User Management > Users > \
             (the device)"
        }
        Reason::LoginLocked => {
            "User Management > Users > (the device) > Actions > Unblock; then find out who sends wrong passwords \
             (Monitoring > Logs)"
        }
        Reason::LoginMfa => {
            "Security > Multi-factor Auth: leave devices out, with an Action if others need it. A device has no second \
             factor"
        }
        Reason::LoginLeaked => {
            "give the device another password (User Management > Users); Security > Attack Protection > Breached \
             Password Detection"
        }
        Reason::LoginVerification => {
            "Security > Attack Protection > Bot Detection: add the broker's address to the allowlist"
        }
        Reason::LoginBlocked => "User Management > Users > (the device) > Actions > Unblock",
        Reason::LoginDenied => {
            "an Action denies it (Actions > Triggers > post-login): look up the request under Monitoring > Logs"
        }
        reason => reason.fix(),
    };
    page(is_auth0, auth0, refusal.fix())
}

/// Findings about a token.
// Longer than a screen, because it is one paragraph for each kind of finding.
fn token(finding: &Finding, is_auth0: bool) -> Words {
    match finding {
        Finding::TokenRight { which, seconds } => {
            let left = duration(*seconds);
            seen(format!("Token: the plugin takes {which}, for {left} more."))
        }
        Finding::Opaque { which, beside_id } => {
            let what = seen(format!("Token: {which} is opaque, so it is not for an API and nobody here can read it."));
            match beside_id {
                true => what.means("the ID token counts instead, so its claims decide"),
                false => what.means("devices with such tokens are refused with [credentials-off] or [login-token]"),
            }
            .fix(page(
                is_auth0,
                "get tokens with an audience: the Identifier under Applications > APIs > (your API) > Settings; or set \
                 Settings > General > API Authorization Settings > Default Audience",
                "ask for tokens in the form of JWT, or use the ID token: `audience` is then the client ID",
            ))
        }
        Finding::Encrypted { which } => seen(format!("Token: {which} is encrypted (JWE, five parts)."))
            .means("it is refused with [token-encrypted]")
            .fix(page(
                is_auth0,
                "Applications > APIs > (your API) > Settings > Token Encryption: switch it off",
                "switch encryption of access tokens off for this resource",
            )),
        Finding::TokenRefused { which, refusal } => {
            seen(format!("Token: {which} is refused: {}.", refusal.detail()))
                .means(format!("it is refused with [{}]", refusal.reason.code()))
                .fix(refused(refusal, is_auth0))
        }
        Finding::IdTokenCounts => {
            seen("Token: the access token is for another API, so the plugin takes the ID token.")
        }
        Finding::Rights { claims, rules } => seen(format!(
            "Rights: {rules} {} in the {} {}.",
            if *rules == 1 { "rule" } else { "rules" },
            if claims.len() == 1 { "claim" } else { "claims" },
            listed(claims)
        )),
        Finding::NoRights { claims, permissions } => {
            let auth0 = match permissions {
                true => {
                    "either: an Action that sets the claim (Actions > Triggers > post-login) and app_metadata of the \
                     user (User Management > Users > (the device)); or: Applications > APIs > (your API) > Settings > \
                     RBAC Settings: Enable RBAC and Add Permissions in the Access Token, and roles of the user"
                }
                false => {
                    "an Action that sets the claim (Actions > Triggers > post-login), with the same name as \
                     `topics_claim`, and app_metadata of the user (User Management > Users > (the device))"
                }
            };
            seen(format!("Rights: the token has none of the claims {}.", listed(claims)))
                .means(
                    "devices connect, and their messages and subscriptions are refused ([not-granted]), unless the \
                     policy file allows them",
                )
                .fix(page(
                    is_auth0,
                    auth0,
                    "let the provider put one of these claims into the token, or name the claim that it has with \
                     `topics_claim` or `topics_pointer`",
                ))
        }
        Finding::EmptyRights { claims } => seen(format!(
            "Rights: the claims {} are there, and none of their entries names a topic.",
            listed(claims)
        ))
        .means("devices connect, and their messages and subscriptions are refused ([not-granted])")
        .fix(page(
            is_auth0,
            "User Management > Users > (the device): app_metadata needs topics, or Roles and Permissions need entries \
             such as `publish:greenhouse/+/temperature` (Applications > APIs > (your API) > Permissions)",
            "entries of permissions look like `publish:greenhouse/+/temperature`",
        )),
        Finding::RightsWrong(sentence) => seen(format!("Rights: {sentence}."))
            .means("the token is refused with [token-topics]")
            .fix(page(
                is_auth0,
                "correct app_metadata of the user (User Management > Users > (the device)), or the Action that copies \
                 it",
                "correct the claim in the provider",
            )),
        Finding::ScopeWithoutRbac => {
            seen("Rights: `rights` counts scope, and nothing shows that the API enforces RBAC.")
                .means("without RBAC every application gets each scope that it asks for, so scope is no device's own")
                .fix(page(
                    is_auth0,
                    "Applications > APIs > (your API) > Settings > RBAC Settings: Enable RBAC; or leave scope out of \
                     `rights`",
                    "make sure that the provider grants scopes by user",
                ))
        }
        // Every kind of finding has its sentence above. A test examines each.
        other => seen(format!("{}.", other.kind().0)),
    }
}

/// Returns where a refused token is fixed.
fn refused(refusal: &Refusal, is_auth0: bool) -> String {
    let auth0 = match refusal.reason {
        Reason::TokenAudience => {
            "the device must ask for its token with `audience`, the Identifier under Applications > APIs > (your API) \
             > Settings; or `audience` here must list what the token has"
        }
        Reason::TokenIssuer => {
            "write `issuer` letter by letter as the token has it; Auth0's ends with a slash, and with a custom domain \
             it is that domain"
        }
        Reason::TokenAlgorithm | Reason::TokenKeyUnfit => {
            "Applications > APIs > (your API) > Settings > Signing Algorithm: RS256; or list the other one in \
             `algorithms`"
        }
        Reason::TokenBound => {
            "Applications > APIs > (your API) > Settings > Token Sender-Constraining: None"
        }
        _ => refusal.fix(),
    };
    page(is_auth0, auth0, refusal.fix())
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OfFile => "the token in the file",
            Self::Access => "the access token",
            Self::Id => "the ID token",
        })
    }
}

impl fmt::Display for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |url: &Option<String>, name: &str| match url {
            Some(url) => url.clone(),
            None => format!("the address that the document names as {name}"),
        };
        match self {
            Self::Resolve { host } => write!(f, "a question to DNS: {host}"),
            Self::Discovery { url } => write!(f, "GET {url}"),
            Self::Keys { url } => write!(f, "GET {}", at(url, "jwks_uri")),
            Self::Application { url, client_id } => write!(
                f,
                "POST {} with client_id {} and its credentials, without a user: no login is counted",
                at(url, "token_endpoint"),
                shown(client_id)
            ),
            Self::Probe {
                url,
                username,
                addresses: [first, second],
            } => write!(
                f,
                "POST {} twice, a login of the user {username}, who does not exist, as if from {first} and {second}: \
                 two failed logins of nobody are counted",
                at(url, "token_endpoint")
            ),
            Self::SignIn { url, username } => write!(
                f,
                "POST {}, a login of the user {} with the password",
                at(url, "token_endpoint"),
                Quoted(username)
            ),
        }
    }
}

/// Returns what is said before anything is sent.
pub(crate) fn announcement(sends: &[Sending]) -> String {
    if sends.is_empty() {
        return "This sends nothing.".to_owned();
    }
    let lines: Vec<_> = sends.iter().map(|one| format!("\n  {one}")).collect();
    format!("This sends, and nothing else:{}\n", lines.concat())
}

/// Returns what was not examined, and how to examine it.
pub(crate) fn omitted(omitted: Omitted) -> &'static str {
    match omitted {
        Omitted::Network => "the tenant, because of --offline",
        Omitted::Login => {
            "audience, connection and attack protection: --probe-login tries the login of a user that does not \
             exist, and --username U signs one in"
        }
        Omitted::Token => {
            "what is in a token: --username U signs in, and --token FILE examines one"
        }
        Omitted::TokenWithoutKeys => {
            "the token, because no keys are on disk to verify it with: leave out --offline, or set jwks_file"
        }
        Omitted::AfterWrong => "what comes after the first thing that is wrong",
    }
}

/// Returns the last line.
pub(crate) fn summary<'f>(findings: impl Iterator<Item = &'f Finding>) -> String {
    let severities: Vec<_> = findings.map(|one| one.kind().1).collect();
    let count = |severity| severities.iter().filter(|one| **one == severity).count();
    let (wrong, warnings) = (count(Severity::Wrong), count(Severity::Warning));
    let of = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        number => format!("{number} {word}s"),
    };
    if count(Severity::Unreached) > 0 && wrong == 0 {
        return "The tenant could not be asked.".to_owned();
    }
    match (wrong, warnings) {
        (0, 0) => "Nothing is wrong.".to_owned(),
        (0, warnings) => format!("Nothing is wrong; {}.", of(warnings, "warning")),
        (wrong, 0) => format!("{}.", of(wrong, "problem")),
        (wrong, warnings) => format!("{}, {}.", of(wrong, "problem"), of(warnings, "warning")),
    }
}

fn said(answer: &TenantAnswer) -> String {
    answer.to_string()
}

/// Returns a text of somebody else's that is to be copied: without its quotes.
fn shown(text: &str) -> String {
    Quoted(text).to_string().trim_matches('\'').to_owned()
}

fn listed(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| Quoted(text).to_string()).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        _ => quoted.join(", "),
    }
}

fn words_of(texts: &[impl AsRef<str>]) -> String {
    let shown: Vec<_> = texts.iter().map(|text| shown(text.as_ref())).collect();
    match shown.as_slice() {
        [] => "nothing".to_owned(),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_in_brackets_exist() {
        let source = include_str!("doctor.rs");
        let (sentences, _) = source.split_once("#[cfg(test)]").unwrap();
        let named = sentences.split('[').skip(1).filter_map(|rest| {
            let (word, _) = rest.split_once(']')?;
            let is_reason =
                word.contains('-') && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
            is_reason.then_some(word)
        });
        let named: Vec<_> = named.collect();
        assert!(named.len() > 20);
        for word in named {
            let exists = Reason::ALL.iter().any(|reason| reason.code() == word);
            assert!(exists, "there is no reason {word}");
        }
    }
}
