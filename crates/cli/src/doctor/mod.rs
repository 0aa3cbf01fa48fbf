//! Examines a tenant: one question after the other, from the name to the claims of a token, and what follows from each
//! answer.
//!
//! * this file: the questions and their order
//! * [`finding`]: what can be found · [`plan`]: what is sent · [`application`]: the token endpoint's answers ·
//!   [`tokens`]: what is in a token

mod application;
pub(crate) mod finding;
pub(crate) mod plan;
mod tokens;

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use auth::{
    algorithm::Algorithm,
    auth0::{
        answer::Tokens,
        examine::{Discovery, Examined, Examiner, Marks},
    },
    clock,
    config::{Config, IssuerConfig, TenantAddress},
    http_proxy,
    jwt::jwks::KeySet,
    refusal::{NoAnswer, ProxyProblem, Refusal},
    secret::Secret,
};

use application::User;
use finding::{Finding, Severity};
use plan::{Omitted, Sending};
use tokens::TokenExaminer;

/// What the operator wants to be examined about one issuer.
#[derive(Default)]
pub(crate) struct Wishes {
    /// Send nothing.
    pub(crate) offline: bool,
    /// Try logins of a user that does not exist.
    pub(crate) probe: bool,
    /// Whether this machine was looked at already.
    pub(crate) seen_around: bool,
    /// Sign this user in.
    pub(crate) user: Option<(String, Secret)>,
    /// Examine this token.
    pub(crate) token: Option<String>,
}

/// An examination.
pub(crate) struct Examination {
    config: Config,
    issuer: Arc<IssuerConfig>,
    conf: PathBuf,
    wishes: Wishes,
    nobody: (String, [IpAddr; 2]),
    /// Whether the tenant is one of Auth0's, as far as that is known.
    pub(crate) is_auth0: bool,
    /// What was found.
    pub(crate) findings: Vec<Finding>,
    /// What was not examined.
    pub(crate) omitted: Vec<Omitted>,
}

impl Examination {
    /// Prepares an examination of one of the issuers in a configuration.
    pub(crate) fn new(
        config: Config,
        issuer: &Arc<IssuerConfig>,
        conf: &Path,
        wishes: Wishes,
    ) -> Self {
        let issuer = Arc::clone(issuer);
        Self {
            is_auth0: matches!(issuer.tenant, TenantAddress::Domain(_)),
            issuer,
            config,
            conf: conf.to_owned(),
            wishes,
            nobody: plan::nobody(RandomState::new().hash_one(0)),
            findings: Vec::new(),
            omitted: Vec::new(),
        }
    }

    /// Returns the tenant's domain or issuer.
    pub(crate) fn tenant(&self) -> &str {
        self.issuer.tenant.name()
    }

    /// Examines everything.
    ///
    /// `announce` is told what will be sent before anything is sent.
    pub(crate) fn run(&mut self, announce: impl FnOnce(&[Sending])) {
        self.look_around();
        let examiner = match Examiner::new(&self.config, Arc::clone(&self.issuer)) {
            Ok(examiner) => examiner,
            Err(why) => return self.found(Finding::ConfigurationWrong(why.to_string())),
        };
        let kept = self.kept_keys(&examiner);
        if self.wishes.offline {
            announce(&[]);
            self.omitted.push(Omitted::Network);
            return self.examines_offline(&examiner, kept);
        }
        announce(&self.sends(&examiner));
        if !self.resolves() || !self.discovers(&examiner) {
            return self.omitted.push(Omitted::AfterWrong);
        }
        let keys = match kept {
            None if self.issuer.fetches_keys() => self.keys(&examiner),
            kept => kept,
        };
        let Some(keys) = keys else {
            return self.omitted.push(Omitted::AfterWrong);
        };
        let issued = self.signs_in(&examiner);
        let examiner = self.tokens(&examiner, &keys);
        let mut found = Vec::new();
        if let Some(tokens) = &issued {
            found.extend(examiner.issued(tokens));
        }
        if let Some(token) = &self.wishes.token {
            found.extend(examiner.of_file(token));
        } else if issued.is_none() {
            self.omitted.push(Omitted::Token);
        }
        self.findings.extend(found);
    }

    /// Examines a token with the keys on disk. Without keys only its form can be seen.
    fn examines_offline(&mut self, examiner: &Examiner, keys: Option<KeySet>) {
        let Some(token) = &self.wishes.token else {
            return;
        };
        let saved = || examiner.saved_keys().ok().flatten();
        let keys = keys.or_else(|| Some(saved()?.keys));
        let found = match &keys {
            Some(keys) => self.tokens(examiner, keys).of_file(token),
            None => {
                let keys = KeySet::default();
                let unreadable = self.tokens(examiner, &keys).form_of_file(token);
                unreadable.into_iter().collect()
            }
        };
        if found.is_empty() {
            self.omitted.push(Omitted::TokenWithoutKeys);
        }
        self.findings.extend(found);
    }

    fn tokens<'a>(&'a self, examiner: &'a Examiner, keys: &'a KeySet) -> TokenExaminer<'a> {
        TokenExaminer {
            examiner,
            issuer: &self.issuer,
            leeway: self.config.leeway,
            keys,
            now: clock::now(),
        }
    }

    /// Returns what [`Self::run`] sends, if each answer is the right one. After a wrong one it sends less.
    fn sends(&self, examiner: &Examiner) -> Vec<Sending> {
        let mut sends = vec![
            Sending::Resolve {
                host: self.first_hop().to_owned(),
            },
            Sending::Discovery {
                url: examiner.discovery_url(),
            },
        ];
        if self.issuer.fetches_keys() {
            let url = examiner.keys_url();
            sends.push(Sending::Keys { url });
        }
        let Some(application) = &self.issuer.application else {
            return sends;
        };
        let url = examiner.token_url();
        sends.push(Sending::Application {
            url: url.clone(),
            client_id: application.client_id.clone(),
        });
        if self.wishes.probe {
            let (username, addresses) = self.nobody.clone();
            sends.push(Sending::Probe {
                url: url.clone(),
                username,
                addresses,
            });
        }
        if let Some((username, _)) = &self.wishes.user {
            let username = username.clone();
            sends.push(Sending::SignIn { url, username });
        }
        sends
    }

    /// Looks at this machine: its clock and its proxy.
    fn look_around(&mut self) {
        /// The beginning of 2026. No clock that is right shows an earlier time.
        const BEFORE_ALL: u64 = 1_767_225_600;
        /// How far a file system's clock may be ahead.
        const TOLERANCE: u64 = 60;
        let now = clock::now().0;
        let written = fs::metadata(&self.conf).and_then(|metadata| metadata.modified());
        let written = written
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let ahead = written.map_or(0, |at| at.as_secs().saturating_sub(now));
        if !self.wishes.seen_around {
            self.found(match (now, ahead) {
                (..BEFORE_ALL, _) => Finding::ClockAbsurd { now },
                (_, TOLERANCE..) => Finding::ClockBehindFile {
                    file: self.conf.clone(),
                    seconds: ahead,
                },
                _ => Finding::ClockPlausible,
            });
        }
        if let Some(proxy) = &self.issuer.proxy {
            let address = proxy.address.clone();
            self.found(Finding::ProxyUsed { address });
        } else if let Some(variable) = http_proxy::variable_of_environment() {
            self.found(Finding::ProxyIgnored { variable });
        }
    }

    /// Returns the host and the port that connections go to: the tenant's, or the proxy's, which looks up the tenant.
    fn first_hop(&self) -> &str {
        match &self.issuer.proxy {
            Some(proxy) => &proxy.address,
            None => host(self.tenant()),
        }
    }

    /// Looks at the keys on disk. Returns the keys, if the plugin does not fetch them from the tenant.
    fn kept_keys(&mut self, examiner: &Examiner) -> Option<KeySet> {
        match examiner.saved_keys() {
            Ok(None) => {}
            Ok(Some(saved)) => self.found(Finding::SavedKeys {
                keys: saved.keys.len(),
                seconds: saved.age.as_secs(),
            }),
            Err(why) => self.found(Finding::SavedKeysUnusable(why)),
        }
        match examiner.keys_of_file() {
            Ok(Some(keys)) => {
                self.found(Finding::KeysOfFile { keys: keys.len() });
                self.key_algorithms(&keys);
                Some(keys)
            }
            Err(why) => {
                self.found(Finding::ConfigurationWrong(why.to_string()));
                None
            }
            Ok(None) if !self.issuer.fetches_keys() => {
                self.found(Finding::SecretOnly);
                Some(KeySet::default())
            }
            Ok(None) => None,
        }
    }

    /// Looks up the tenant's name, or the proxy's. Returns whether DNS knows it.
    fn resolves(&mut self) -> bool {
        let host = self.first_hop().to_owned();
        let with_port = match host.contains(':') && !host.ends_with(']') {
            true => host.clone(),
            false => format!("{host}:443"),
        };
        match with_port.to_socket_addrs() {
            Ok(found) => {
                let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
                addresses.dedup();
                self.found(Finding::Resolved { host, addresses });
                true
            }
            Err(why) => {
                let why = why.to_string();
                self.found(match self.issuer.proxy {
                    Some(_) => Finding::ProxyFailed {
                        address: host,
                        why: ProxyProblem::UnknownHost,
                    },
                    None => Finding::UnknownHost { host, why },
                });
                false
            }
        }
    }

    /// Fetches the discovery document. Returns whether it makes sense to ask more.
    fn discovers(&mut self, examiner: &Examiner) -> bool {
        let Examined { result, marks } = examiner.discovery();
        if let Some(marks) = &marks {
            let ca_file = self.issuer.ca_file.clone();
            self.found(Finding::Trusted { ca_file });
            self.compare_clocks(marks);
            let is_domain = matches!(self.issuer.tenant, TenantAddress::Domain(_));
            if is_domain && !marks.is_auth0 {
                let host = self.tenant().to_owned();
                self.found(Finding::NotAuth0 { host });
            }
            self.is_auth0 = marks.is_auth0;
        }
        let document = match result {
            Ok(document) => document,
            Err(why) => {
                let finding = self.unanswered(why);
                self.found(finding);
                return false;
            }
        };
        let goes_on = document.unusable.is_none();
        self.compare_issuers(&document);
        self.compare_offers(examiner, &document);
        goes_on
    }

    fn compare_clocks(&mut self, marks: &Marks) {
        /// A difference that no protocol minds.
        const NEGLIGIBLE: u64 = 2;
        let leeway = self.config.leeway;
        self.found(match marks.clock {
            None => return,
            Some(ahead) if ahead.unsigned_abs() <= NEGLIGIBLE => Finding::ClockRight,
            Some(ahead) => Finding::ClockOff { ahead, leeway },
        });
    }

    fn compare_issuers(&mut self, document: &Discovery) {
        let configured = &self.issuer.names;
        let finding = match (&document.unusable, &document.issuer) {
            (_, Some(issuer)) if configured.contains(issuer) => match &document.unusable {
                Some(why) => Finding::DiscoveryUnusable(why.clone()),
                None => Finding::IssuerRight {
                    issuer: issuer.clone(),
                },
            },
            (unusable, Some(issuer)) => {
                let bare = issuer.trim_end_matches('/');
                let near = |one: &&String| one.trim_end_matches('/') == bare;
                match configured.iter().find(near) {
                    Some(near) => Finding::IssuerSlash {
                        configured: near.clone(),
                        issuer: issuer.clone(),
                    },
                    None => Finding::IssuerOther {
                        configured: configured.clone(),
                        issuer: Some(issuer.clone()),
                        elsewhere: match unusable {
                            Some(NoAnswer::AnotherIssuer(other)) => other.elsewhere.clone(),
                            _ => None,
                        },
                    },
                }
            }
            (Some(why), None) => Finding::DiscoveryUnusable(why.clone()),
            (None, None) => Finding::IssuerOther {
                configured: configured.clone(),
                issuer: None,
                elsewhere: None,
            },
        };
        self.found(finding);
    }

    /// Compares what the document offers with what the plugin uses. A document need not list everything.
    fn compare_offers(&mut self, examiner: &Examiner, document: &Discovery) {
        let accepted = self.accepted();
        if let Some(offered) = &document.algorithms
            && !offered.iter().any(|one| accepted.contains(&one.as_str()))
        {
            let offered = offered.clone();
            self.found(Finding::AlgorithmsNotOffered { accepted, offered });
        }
        let Some(application) = &self.issuer.application else {
            return;
        };
        let grant = match application.connection {
            Some(_) => "http://auth0.com/oauth/grant-type/password-realm",
            None => "password",
        };
        let lacks = |offered: &Option<Vec<String>>, needed: &str| {
            offered
                .clone()
                .filter(|all| !all.iter().any(|one| one == needed))
        };
        if let Some(sent_by) = examiner.client_auth()
            && let Some(offered) = lacks(&document.auth_methods, sent_by.name())
        {
            self.found(Finding::SecretNotOffered { sent_by, offered });
        }
        if let Some(offered) = lacks(&document.grant_types, grant) {
            self.found(Finding::PasswordsNotOffered { offered });
        }
    }

    /// Fetches the keys, and returns them.
    fn keys(&mut self, examiner: &Examiner) -> Option<KeySet> {
        match examiner.keys().result {
            Ok(keys) => {
                let mut names: Vec<_> = keys
                    .names()
                    .map(|(kid, algorithms)| {
                        let only = match algorithms[..] {
                            [only] => Some(only.name()),
                            _ => None,
                        };
                        (kid.unwrap_or("without kid").to_owned(), only)
                    })
                    .collect();
                names.sort();
                self.found(Finding::Keys { keys: names });
                for ignored in keys.ignored() {
                    self.found(Finding::KeyIgnored(ignored.to_string()));
                }
                self.key_algorithms(&keys);
                Some(keys)
            }
            Err(why @ (NoAnswer::BadKeys(_) | NoAnswer::NoKeysAddress)) => {
                self.found(Finding::NoKeys(why));
                None
            }
            Err(why) => {
                let finding = self.unanswered(why);
                self.found(finding);
                None
            }
        }
    }

    /// Looks for a key that could sign with an accepted algorithm.
    fn key_algorithms(&mut self, keys: &KeySet) {
        let accepted = self.accepted();
        let mut offered = Vec::new();
        for name in keys
            .names()
            .flat_map(|(_, algorithms)| algorithms)
            .map(Algorithm::name)
        {
            if accepted.contains(&name) {
                return;
            }
            offered.push(name);
        }
        offered.dedup();
        // Tokens that are signed with the secret need no key.
        if !accepted.contains(&Algorithm::Hs256.name()) {
            self.found(Finding::KeysForOthers { accepted, offered });
        }
    }

    /// Asks the token endpoint. Returns the tokens of the user, if one was signed in.
    fn signs_in(&mut self, examiner: &Examiner) -> Option<Tokens> {
        if self.issuer.application.is_none() {
            self.found(Finding::TokensOnly);
            return None;
        }
        let without_user = examiner.application();
        let application = self.concludes(User::None, &without_user);
        if application > Severity::Warning {
            self.omitted.push(Omitted::AfterWrong);
            return None;
        }
        if self.wishes.probe && self.probe(examiner) > Severity::Warning {
            self.omitted.push(Omitted::AfterWrong);
            return None;
        }
        let Some((username, password)) = &self.wishes.user else {
            if !self.wishes.probe {
                self.omitted.push(Omitted::Login);
            }
            return None;
        };
        let login = examiner.log_in(username, password, None);
        self.concludes(User::Somebody, &login);
        login.result.ok()
    }

    /// Tries two logins of nobody, each with another address.
    fn probe(&mut self, examiner: &Examiner) -> Severity {
        let (username, [first, second]) = self.nobody.clone();
        // Nobody has this password either.
        let password = Secret::new(&username);
        let login = examiner.log_in(&username, &password, Some(first));
        let severity = self.concludes(User::Nobody, &login);
        if severity == Severity::Right {
            let again = examiner.log_in(&username, &password, Some(second));
            let (first, second) = (login.marks.as_ref(), again.marks.as_ref());
            self.findings.extend(application::protection(first, second));
        }
        severity
    }

    /// Adds what an answer of the token endpoint says. Returns how much it matters.
    fn concludes(&mut self, user: User, login: &Examined<Tokens, Refusal>) -> Severity {
        let finding = application::finding(&self.issuer, user, &login.result);
        let (_, severity) = finding.kind();
        self.found(finding);
        severity
    }

    /// Returns the finding if the tenant does not answer as it should.
    fn unanswered(&self, why: NoAnswer) -> Finding {
        let host = host(self.tenant()).to_owned();
        match why {
            NoAnswer::Untrusted { problem, why } => Finding::Untrusted {
                host,
                problem,
                why,
                ca_file: self.issuer.ca_file.clone(),
            },
            NoAnswer::Status(404) => Finding::NoSuchTenant { host },
            NoAnswer::Status(status @ (429 | 500..)) => Finding::Busy { status },
            NoAnswer::Proxy { address, why } => Finding::ProxyFailed { address, why },
            // That a proxy is ignored is a finding of its own.
            NoAnswer::WithoutProxy { why, .. } => Finding::NoConnection { host, why: *why },
            NoAnswer::Timeout | NoAnswer::UnknownHost | NoAnswer::Unreachable(_) => {
                Finding::NoConnection { host, why }
            }
            why => Finding::DiscoveryUnusable(why),
        }
    }

    fn accepted(&self) -> Vec<&'static str> {
        let accepted = self.issuer.algorithms.iter();
        accepted.map(|algorithm| algorithm.name()).collect()
    }

    fn found(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

/// Returns the host and the port in a domain or an issuer.
fn host(tenant: &str) -> &str {
    let rest = tenant.strip_prefix("https://").unwrap_or(tenant);
    rest.split('/').next().unwrap_or_default()
}
