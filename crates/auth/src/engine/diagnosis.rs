//! What only the operator's tool uses: an instance beside the broker. It answers as the instance in the broker would,
//! writes nothing, opens nothing, and may say more.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    Access, Action, Admission, Common, Connect, Decision, Engine, EngineError, Wait,
    common::Admitted, expiry::end_refusal,
};
use crate::{
    auth0::TenantClient,
    client::{Client, ClientKey, ClientView},
    clock::Unix,
    config::{Config, ConfigError},
    control::ControlTopic,
    jwt::{self, jwks::KeySet},
    policy_file,
    refusal::Refusal,
};
use acl::{
    client::ClientAttributes,
    diagnosis::{Question, RulesFor, WhyRules},
};

/// Why an instance decides about a message or a subscription as it does.
#[derive(Clone, Debug)]
pub enum WhyDecided {
    /// The topic is one of the plugin's own, about which it decides whatever the rules say.
    OwnTopic,
    /// The rights of the client have ended.
    RightsEnded(Refusal),
    /// Others decide about messages and subscriptions (`acl`).
    OthersDecide,
    /// Whoever is in may always end a subscription.
    GivesUp,
    /// The rules decide.
    Rules(Box<WhyRules>),
}

impl Engine {
    /// Starts what a tool needs to sign in: the threads that ask the tenant, unless it is not to be asked. Unlike
    /// [`Self::start`], it leaves alone what belongs to the broker: the folder of state is only read, and no socket is
    /// opened.
    ///
    /// # Errors
    ///
    /// Returns an error if no thread can be started.
    pub fn start_in_tool(&mut self, asks_tenant: bool) -> Result<(), EngineError> {
        self.keeps_claims = true;
        if !asks_tenant {
            self.use_saved_keys();
            return Ok(());
        }
        if self.issuers.check_passwords() {
            self.pool.fill();
        }
        self.start_fetching(false)
    }

    /// Waits for the result of a sign-in as long as one may take in a broker that answers later. `now` is the time at
    /// which it is decided.
    ///
    /// # Errors
    ///
    /// Returns why the client is refused.
    pub fn wait_in_tool(
        &mut self,
        common: &mut Common,
        wait: Box<Wait>,
        now: Unix,
    ) -> Result<Admission, Refusal> {
        let Wait { job, .. } = *wait;
        let (key, deadline, sign_in) = (job.key, job.deadline, job.sign_in.clone());
        let verdict = match self.submit(common, job) {
            Err(refusal) => Err(refusal),
            Ok(()) => self
                .wait_until(common, key, deadline, || now)
                .unwrap_or_else(|| self.too_late()),
        };
        self.admit_or_refuse(common, &sign_in, verdict, now)
    }

    /// Admits a client as if it had a valid token with these claims. **Nobody has verified them**: this is for the
    /// question what a token would grant. A claim that every token must have is made up if it is missing; one that is
    /// there must be right. With a user name in `connect` the client is one that sent this name and its password, and
    /// otherwise one that sent the token.
    ///
    /// # Errors
    ///
    /// Returns why a client with such a token is refused.
    pub fn admit_unverified(
        &mut self,
        common: &mut Common,
        connect: &Connect,
        claims: Map<String, Value>,
        now: Unix,
    ) -> Result<Admission, Refusal> {
        let sign_in = self.sign_in(connect);
        let number = self.issuers.of_claims(&claims);
        let issuer = &self.issuers[number];
        let config = Arc::clone(&issuer.config);
        let claims = jwt::unverified(claims, &issuer.requirements, &config.audiences, now);
        let verdict = claims.and_then(|claims| {
            let username = match connect.client.username {
                // These are the claims of a user who signs in with a password.
                Some(username) => username.into(),
                None => config.usernames.of(claims.members())?.into(),
            };
            self.identity(claims, username, number)
        });
        self.admit_or_refuse(common, &sign_in, verdict, now)
    }

    /// Returns what [`Self::authorize`] decides, and why. `client` is what its [`Admission`] says of it.
    pub fn explain(
        &mut self,
        common: &mut Common,
        access: &Access<Client<&str>>,
        client: &ClientAttributes,
        now: Unix,
    ) -> (Decision, WhyDecided) {
        let decision = self.authorize(common, access, now);
        if access.topic.first() == Some(&b'$') && ControlTopic::of(access.topic).is_some() {
            return (decision, WhyDecided::OwnTopic);
        }
        let request = access.request(access.client.is_connected());
        let issuers = &self.issuers;
        let why = common.sessions.look(access.key, &access.client, |found| {
            let session = found.session;
            if found.connected && now >= session.until && access.action != Action::Unsubscribe {
                return WhyDecided::RightsEnded(end_refusal(session.ending.cause));
            }
            if decision == Decision::Defer {
                return WhyDecided::OthersDecide;
            }
            if access.action == Action::Unsubscribe {
                return WhyDecided::GivesUp;
            }
            let reading = &issuers[session.issuer].config.reading;
            let token = reading.named_rules(&client.claims);
            let question = Question {
                request,
                topic: access.topic,
                now,
            };
            WhyDecided::Rules(Box::new(session.rights.explain(&token, client, &question)))
        });
        (decision, why.unwrap_or(WhyDecided::OthersDecide))
    }
}

/// What a client that is in may do, as a whole.
impl Engine {
    /// Returns the rules for the client, and which of them apply to it now. `client` is what its [`Admission`] says of
    /// it.
    pub fn rules_for(
        &self,
        common: &mut Common,
        key: ClientKey,
        seen: &Client<&str>,
        client: &ClientAttributes,
    ) -> RulesFor {
        let rules = common.sessions.look(key, seen, |found| {
            let issuer = &self.issuers[found.session.issuer].config;
            let token = issuer.reading.named_rules(&client.claims);
            found.session.rights.rules_for(&token, client)
        });
        rules.unwrap_or_default()
    }

    /// Returns the client IDs that the client may use; `None` if it may use all.
    ///
    /// # Errors
    ///
    /// Returns why its token names none.
    pub fn client_ids(
        &self,
        client: &ClientAttributes,
    ) -> Result<Option<Arc<[Box<str>]>>, Refusal> {
        let issuer = &self.issuers[self.issuers.of_claims(&client.claims)];
        let client_ids = &issuer.config.client_ids;
        client_ids.of(&client.username, &client.claims)
    }

    /// Whether others decide about messages and subscriptions (`acl`).
    pub fn defers_acl(&self) -> bool {
        self.config.defer_acl
    }
}

impl Admission {
    /// Returns the client as rules see it, with all its claims, if the instance was
    /// [started in a tool](Engine::start_in_tool).
    pub fn client(&self) -> Option<&Arc<ClientAttributes>> {
        self.client.as_ref()
    }

    /// Returns when the rights end.
    pub fn until(&self) -> Unix {
        self.session.until
    }
}

/// Returns what is wrong with the files that an instance reads at its start, besides those that
/// [`Config::look`] reads: all mistakes in the keys, in the authorities and in the policy file.
pub fn mistakes_in_files(config: &Config) -> Vec<ConfigError> {
    let mut mistakes = Vec::new();
    for issuer in &config.issuers {
        let tenant = TenantClient::new(Arc::clone(issuer), config.timeout, 0, None);
        mistakes.extend(tenant.err());
        mistakes.extend(KeySet::of_file(issuer).err());
    }
    let of_issuers = config.issuers.iter();
    let of_issuers = of_issuers.map(|issuer| ("policy_file", &issuer.policy_file));
    let of_broker = [
        ("policy_file", &config.policy_file),
        ("shadow_policy", &config.shadow_policy),
    ];
    for (option, path) in of_broker.into_iter().chain(of_issuers) {
        let path = path.iter();
        mistakes.extend(path.flat_map(|path| policy_file::mistakes(option, path)));
    }
    mistakes
}

/// A client that a tool has admitted is in at once, because there is no broker that could refuse it.
impl Common {
    /// Admits a client, and lets it in.
    pub fn admit_in_tool(&mut self, admission: Admission) {
        let _: Admitted = self.admit(admission);
    }
}
