//! The rules between options: which need each other, which exclude each other, and what they mean together.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Config, ConfigError, IssuerConfig, LoggedMessages, Result, TenantAddress,
    errors::Problem,
    given::{Given, wrong},
    options,
};
use crate::{account::MAX_ISSUERS, proxies::TrustedProxies, state_dir::StateDir};

/// Returns the configuration that these options are. `lines` are those of them that are in mosquitto.conf, and `before`
/// is the configuration in force, on SIGHUP.
pub(super) fn config(given: &Given, lines: &Given, before: Option<&Config>) -> Result<Config> {
    let defer_acl = defer_acl(given)?;
    let stays_after_expiry = given.one_of("on_expiry")? == "deny";
    let expiry_jitter = given.whole("expiry_jitter")?;
    Ok(Config {
        issuers: issuers(given, defer_acl)?,
        policy_file: given.file("policy_file")?,
        any_takeover: given.one_of("takeover")? == "any",
        defer_others: given.one_of("on_other")? == "defer",
        defer_acl,
        leeway: given.whole("leeway")?,
        stays_after_expiry,
        keeps_revoked: given.one_of("on_key_revoked")? == "keep",
        // Whoever stays does not come back.
        expiry_jitter: match stays_after_expiry {
            true => 0,
            false => expiry_jitter,
        },
        max_session: given.whole_if_set("max_session")?,
        offline_grace: given.whole_if_set("offline_grace")?,
        expiry_warning: given.whole_if_set("expiry_warning")?.unwrap_or(0) as u32,
        timeout: Duration::from_secs(given.whole("timeout")?),
        login_wait: given.seconds("login_wait")?,
        stall_budget: given.whole("stall_budget")? as u32,
        login_workers: given.whole("login_workers")? as usize,
        login_rate: given.whole("login_rate")? as u32,
        login_cache: given.whole("login_cache")?,
        trusted_proxies: trusted_proxies(given)?,
        delay_mqtt5: given.is_true("delay_mqtt5")?,
        state_dir: state_dir(given, before)?,
        metrics_interval: Duration::from_secs(given.whole("metrics_interval")?),
        metrics_file: given.written_file("metrics_file")?,
        decision_log: decision_log(given)?,
        logged_messages: match given.one_of("decision_log_messages")? {
            "all" => LoggedMessages::All,
            "none" => LoggedMessages::None,
            _ => LoggedMessages::Denied,
        },
        shadow_policy: shadow_policy(given, defer_acl)?,
        given: given.clone(),
        lines: lines.clone(),
    })
}

/// Returns the issuer that the plain options describe, if they do, and then those of the `[[issuer]]` tables.
fn issuers(given: &Given, defer_acl: bool) -> Result<Vec<Arc<IssuerConfig>>> {
    let mut issuers: Vec<Arc<IssuerConfig>> = Vec::new();
    let is_set = |name: &&str| given.given(name).is_some();
    if given.issuers.is_empty() || ["domain", "issuer"].iter().any(is_set) {
        issuers.push(Arc::new(IssuerConfig::of(given, defer_acl)?));
    } else {
        let of_issuer = options::all().filter(|option| option.of_issuer);
        // The policy file may be that of all issuers.
        let mut others = of_issuer.filter(|option| option.name != "policy_file");
        if let Some(option) = others.find(|option| is_set(&option.name)) {
            let value = given.given(option.name).unwrap_or_default();
            return Err(ConfigError::new(option.name, value, Problem::NeedsIssuer));
        }
    }
    for table in &given.issuers {
        let issuer = IssuerConfig::of_table(&table.given, defer_acl);
        let issuer = issuer.and_then(|issuer| match not_beside(&issuer, &issuers) {
            Some(error) => Err(error),
            None => Ok(issuer),
        });
        issuers.push(Arc::new(issuer.map_err(|error| table.locate(error))?));
    }
    Ok(issuers)
}

/// Returns why an issuer cannot be used beside these.
fn not_beside(issuer: &IssuerConfig, others: &[Arc<IssuerConfig>]) -> Option<ConfigError> {
    let has = |name: &&String| others.iter().any(|other| other.names.contains(name));
    if let Some(name) = issuer.names.iter().find(has) {
        let option = match &issuer.tenant {
            tenant @ TenantAddress::Domain(_) if *name == tenant.issuer() => "domain",
            _ => "issuer",
        };
        return Some(ConfigError::new(option, name, Problem::IssuerTwice));
    }
    if let Some(application) = &issuer.application
        && others.iter().any(|other| other.application.is_some())
    {
        let problem = Problem::TwoApplications;
        return Some(ConfigError::new(
            "client_id",
            &application.client_id,
            problem,
        ));
    }
    let most = MAX_ISSUERS;
    (others.len() == most).then(|| ConfigError::hidden("issuer", Problem::TooManyIssuers { most }))
}

/// Whether others decide about messages and subscriptions.
fn defer_acl(given: &Given) -> Result<bool> {
    let defer = given.one_of("acl")? == "defer";
    match given.given("policy_file") {
        Some(path) if defer => {
            let problem = Problem::PolicyFileUnused;
            Err(ConfigError::new("policy_file", path, problem))
        }
        _ => Ok(defer),
    }
}

/// Returns the path of the decision log. The file is opened when the broker starts, not here.
fn decision_log(given: &Given) -> Result<Option<PathBuf>> {
    const NAME: &str = "decision_log";
    match given.given(NAME) {
        None => match given.given("decision_log_messages") {
            Some(value) => {
                let problem = Problem::Alone { without: NAME };
                Err(ConfigError::new("decision_log_messages", value, problem))
            }
            None => Ok(None),
        },
        Some(_) => given.written_file(NAME),
    }
}

/// Returns the path of the policy that is tried out. Nothing about the file is a mistake of the configuration.
fn shadow_policy(given: &Given, defer_acl: bool) -> Result<Option<PathBuf>> {
    const NAME: &str = "shadow_policy";
    match given.given(NAME) {
        Some(path) if defer_acl => Err(ConfigError::new(NAME, path, Problem::PolicyFileUnused)),
        path => Ok(path.map(PathBuf::from)),
    }
}

fn trusted_proxies(given: &Given) -> Result<TrustedProxies> {
    const NAME: &str = "trusted_proxies";
    let list: Vec<_> = given.list(NAME).into_iter().map(str::to_owned).collect();
    match TrustedProxies::parse(&list) {
        Ok(proxies) if proxies.is_empty() && given.given(NAME).is_some() => Err(wrong(NAME, "")),
        Ok(proxies) => Ok(proxies),
        Err(bad) => Err(wrong(NAME, bad)),
    }
}

fn state_dir(given: &Given, before: Option<&Config>) -> Result<Option<StateDir>> {
    const NAME: &str = "state_dir";
    let Some(path) = given.given(NAME) else {
        return Ok(None);
    };
    // The folder stays open, so to speak. To look at it again would write into it.
    if let Some(before) = before.filter(|before| before.given.given(NAME) == Some(path)) {
        return Ok(before.state_dir.clone());
    }
    let path_given = Path::new(path);
    let dir = match given.only_looks {
        true => StateDir::look(path_given),
        false => StateDir::open(path_given).map(Some),
    };
    dir.map_err(|why| ConfigError::new(NAME, path, Problem::Folder(why)))
}
