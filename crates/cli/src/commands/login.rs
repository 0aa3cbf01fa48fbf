//! `login`: signs in as a device would, and shows what its token says and grants.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value, json};

use acl::{
    diagnosis::{Obstacle, RuleFor, RulesFor},
    rules::Actions,
};
use auth::{
    clock::Unix,
    config::{Config, TenantAddress},
    refusal::Detail,
};

use super::can::rule_json;
use crate::{
    arguments::{DEFAULT_CLIENT_ID, LoginArguments},
    configuration::{self, AtListener},
    device::{self, Credential, Device, Instance, NotIn, SignedIn, Tenant},
    doctor::finding::Finding,
    exit::Exit,
    messages::login as messages,
    output::{self, Failure, Outcome},
};

/// A device that is let in.
pub(crate) struct LetIn {
    /// The device.
    pub(crate) device: SignedIn,
    /// The client IDs that it may use; `None` if it may use all.
    pub(crate) client_ids: Option<Arc<[Box<str>]>>,
    /// The rules for it.
    pub(crate) rules: RulesFor,
    /// Where it could have rights from.
    pub(crate) sources: Finding,
    /// Whether the tenant is one of Auth0's.
    pub(crate) is_auth0: bool,
    /// Whether others decide about messages and subscriptions.
    pub(crate) others_decide: bool,
    /// When it signed in.
    pub(crate) now: Unix,
    /// Whether nobody has verified its claims.
    pub(crate) is_unverified: bool,
    /// The policy file.
    pub(crate) policy_file: Option<PathBuf>,
}

/// A device that is not let in.
pub(crate) struct TurnedAway {
    /// Why.
    pub(crate) not_in: NotIn,
    /// What its token says, if it has one that can be read. Nobody has verified it.
    pub(crate) claims: Option<Map<String, Value>>,
    /// Whether the tenant is one of Auth0's.
    pub(crate) is_auth0: bool,
    /// What the plugin would have logged beside the refusal.
    pub(crate) log: Vec<String>,
}

impl Outcome for LetIn {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        messages::let_in(self, out)
    }

    fn json(&self) -> Value {
        json!({
            "let_in": true,
            "verified": !self.is_unverified,
            "username": self.device.username,
            "client_id": self.device.client_id,
            "client_ids": self.client_ids.as_deref(),
            "rights_end": self.device.until.0,
            "claims": *self.device.attributes.claims,
            "others_decide": self.others_decide,
            "rules": self.rules.rules.iter().map(|rule| self.rule(rule)).collect::<Vec<_>>(),
            "no_rights_because": self.rules.unusable.as_ref().map(ToString::to_string),
        })
    }

    fn exit(&self) -> Exit {
        Exit::Yes
    }
}

impl LetIn {
    fn rule(&self, one: &RuleFor) -> Value {
        let mut shown = rule_json(&one.rule, self.policy_file.as_deref());
        shown["actions"] = json!(match one.actions {
            Actions::Publish => "publish",
            Actions::Subscribe => "subscribe",
            Actions::Both => "both",
        });
        shown["filters"] = json!(one.filters);
        shown["applies"] = json!(one.obstacles.is_empty());
        let obstacles = one.obstacles.iter().map(Obstacle::to_string);
        shown["obstacles"] = json!(obstacles.collect::<Vec<_>>());
        shown
    }
}

impl Outcome for TurnedAway {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        messages::turned_away(self, out)
    }

    fn json(&self) -> Value {
        json!({
            "let_in": match self.not_in {
                NotIn::Refused(_) => Some(false),
                NotIn::OthersDecide => None,
            },
            "refused": self.not_in.json(),
            "claims": self.claims,
            "log": self.log,
        })
    }

    fn exit(&self) -> Exit {
        self.not_in.exit()
    }
}

/// Signs in.
///
/// # Errors
///
/// Returns a failure if the configuration is wrong, or if a file cannot be read.
pub(crate) fn run(arguments: &LoginArguments) -> Result<Box<dyn Outcome>, Failure> {
    let at = &arguments.configuration.conf;
    let AtListener {
        config,
        local_users,
        ..
    } = configuration::at_listener(at, arguments.device.port)?;
    let mut device = Device::of(&arguments.device)?;
    let tenant = match arguments.device.offline {
        true => Tenant::LeftAlone,
        false => Tenant::Asked,
    };
    device::check_users(&config, &local_users, &device.credential)?;
    if tenant == Tenant::Asked {
        announce(&config, &device);
    }
    let issuer = device.credential.issuer(&config);
    let is_auth0 = matches!(issuer.tenant, TenantAddress::Domain(_));
    let sources = Finding::NoRights {
        claims: issuer.reading.members().collect(),
        permissions: issuer.reading.permissions,
    };
    let policy_file = config.policy_file_of(issuer).map(Path::to_owned);
    // Without a cache a second attempt would send the password to the tenant once more.
    let is_password = matches!(device.credential, Credential::Password { .. });
    let sends_again = is_password && !config.remembers_logins();
    let mut instance = Instance::new(config, &local_users, tenant)?;
    let now = device::time_of(&arguments.device);
    let mut result = instance.sign_in(&device, now);
    // A token that is bound to a client ID is fine with that one. The operator has named no other.
    if let Err(NotIn::Refused(refusal)) = &result
        && !sends_again
        && let Detail::ClientIds(ids) = refusal.detail()
        && let Some(first) = ids.first()
        && device.client_id == DEFAULT_CLIENT_ID
    {
        device.client_id = first.to_string();
        result = instance.sign_in(&device, now);
    }
    Ok(match result {
        Ok(signed_in) => Box::new(LetIn {
            client_ids: instance.client_ids(&signed_in),
            rules: instance.rules_for(&signed_in),
            sources,
            is_auth0,
            others_decide: instance.defers_acl(),
            device: signed_in,
            now,
            is_unverified: matches!(device.credential, Credential::Claims { .. }),
            policy_file,
        }),
        Err(not_in) => Box::new(TurnedAway {
            not_in,
            claims: match &device.credential {
                Credential::Token(token) => std::str::from_utf8(token.reveal())
                    .ok()
                    .and_then(device::peek),
                Credential::Claims { claims, .. } => Some(claims.clone()),
                Credential::Password { .. } => None,
            },
            is_auth0,
            log: besides(instance.lines()),
        }),
    })
}

/// Returns the lines that say something beside the refusal, such as why keys could not be fetched.
fn besides(mut lines: Vec<String>) -> Vec<String> {
    lines
        .retain(|line| !line.starts_with("refused CONNECT") && !line.contains("keys were fetched"));
    lines
}

/// Says what is sent to the tenant, before anything is sent.
fn announce(config: &Config, device: &Device) {
    let user = match &device.credential {
        Credential::Password { username, .. } => Some(username.as_str()),
        Credential::Token(_) => None,
        Credential::Claims { .. } => return,
    };
    let issuer = device.credential.issuer(config);
    let fetches_keys = issuer.fetches_keys();
    if user.is_some() || fetches_keys {
        output::announce(&messages::announcement(
            issuer.tenant.name(),
            user,
            fetches_keys,
        ));
    }
}
