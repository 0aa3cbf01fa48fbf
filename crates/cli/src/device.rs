//! A device that signs in and asks: the plugin's own engine, without a broker. It writes nothing to disk.
//!
//! Commands that sign in, or that ask what a device may do, do it here and nowhere else.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value, json};

use acl::{client::ClientAttributes, diagnosis::RulesFor};
use auth::{
    client::{Client, ClientKey},
    clock::{self, Unix},
    config::{Config, IssuerConfig, local_users::LocalUsers},
    engine::{
        Access, Action, Admission, Common, Connect, Decision, Engine, EngineError, Step, WhyDecided,
    },
    jwt::jwks_cache::FetchSchedule,
    log::Log,
    refusal::{ConnackReason, Refusal},
    secret::{Secret, sha256},
    sessions::Origin,
    sign_in::Presented,
    threads,
};

use crate::{arguments::DeviceArguments, exit::Exit, output::Failure, secrets};

/// A device, and what it presents.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// Its client ID.
    pub(crate) client_id: String,
    /// Its address.
    pub(crate) address: String,
    /// The port that it connects to, if that matters.
    pub(crate) port: Option<u16>,
    /// The SHA-256 fingerprint of the certificate that it shows, if it shows one.
    pub(crate) certificate: Option<[u8; 32]>,
    /// What it presents.
    pub(crate) credential: Credential,
}

/// What a device presents.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// A token, in the password field.
    Token(Secret),
    /// The name and the password of a user of the tenant.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Claims that nobody verifies, for the question what a token with them would grant.
    Claims {
        /// The claims.
        claims: Map<String, Value>,
        /// The user who signs in with a password, if these are claims of such a user.
        username: Option<String>,
    },
}

impl Credential {
    /// Returns the issuer that it concerns, as far as that can be seen without verifying anything.
    pub(crate) fn issuer<'c>(&self, config: &'c Config) -> &'c IssuerConfig {
        let claims = match self {
            Self::Token(token) => std::str::from_utf8(token.reveal()).ok().and_then(peek),
            Self::Claims {
                claims,
                username: None,
            } => Some(claims.clone()),
            Self::Password { .. } | Self::Claims { .. } => return config.password_issuer(),
        };
        let iss = claims.as_ref().and_then(|claims| claims.get("iss"));
        config.issuer_named(iss.and_then(Value::as_str))
    }
}

/// Returns the claims in a token, unverified.
pub(crate) fn peek(token: &str) -> Option<Map<String, Value>> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    input::json::object(&payload).ok()
}

/// Whether the tenant is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tenant {
    /// It is asked, where the plugin would ask it.
    Asked,
    /// It is not. Keys come from `jwks_file` or from those that the plugin has saved.
    LeftAlone,
}

/// The plugin's engine, beside the broker.
pub(crate) struct Instance {
    engine: Engine,
    common: Common,
    log: Log,
    devices: usize,
}

/// A device that is in.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    key: ClientKey,
    /// Its client ID.
    pub(crate) client_id: String,
    /// The user name that the broker is told.
    pub(crate) username: String,
    address: String,
    port: Option<u16>,
    certificate: Option<[u8; 32]>,
    /// The device as rules see it, with all claims of its token.
    pub(crate) attributes: Arc<ClientAttributes>,
    /// When its rights end.
    pub(crate) until: Unix,
}

/// Why a device is not in.
#[derive(Clone, Debug)]
pub(crate) enum NotIn {
    /// The plugin refuses it.
    Refused(Box<Refusal>),
    /// The plugin leaves it to others (`on_other`).
    OthersDecide,
}

/// What a device would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deed {
    /// What it does.
    pub(crate) action: Action,
    /// With this topic or filter, as the plugin is told: with the mount point of the listener.
    pub(crate) topic: String,
    /// With this QoS.
    pub(crate) qos: u8,
    /// With the retain flag.
    pub(crate) retain: bool,
    /// With a payload of so many bytes.
    pub(crate) payload: u32,
}

/// Makes sure that a password is not another's than the tenant's: one that the plugin would leave to the broker.
///
/// # Errors
///
/// Returns a failure if the broker has users that may not be read.
pub(crate) fn check_users(
    config: &Config,
    users: &LocalUsers,
    credential: &Credential,
) -> Result<(), Failure> {
    let is_password = matches!(credential, Credential::Password { .. });
    let mut unread = users
        .files()
        .filter_map(|file| Some((&file.path, file.names.as_ref().err()?)));
    match unread.next() {
        Some((path, why)) if is_password && config.defers_others() => Err(Failure::new(format!(
            "{} cannot be read: {why}; so it is not known whether the password is the tenant's or the broker's",
            path.display()
        ))
        .fix("run this as root or as the broker's user")),
        _ => Ok(()),
    }
}

impl Instance {
    /// Prepares an instance with these options, in a broker with users of its own.
    ///
    /// # Errors
    ///
    /// Returns a failure if the engine does not start with them.
    pub(crate) fn new(
        config: Config,
        local_users: &LocalUsers,
        tenant: Tenant,
    ) -> Result<Self, Failure> {
        let (log, mut common) = (Log::default(), Common::default());
        let pace = FetchSchedule::default();
        let engine = Engine::new(config, pace, log.clone(), threads::plain, &mut common);
        let started = engine.and_then(|mut engine| {
            engine.start_in_tool(tenant == Tenant::Asked)?;
            engine.set_local_users(local_users);
            Ok(engine)
        });
        let engine = started.map_err(|why| match why {
            EngineError::Config(mistake) => Failure::new(mistake.to_string())
                .fix("run `mosquitto-auth0 check` for all mistakes in the configuration"),
            EngineError::NoRandomness => Failure::new("the system gave no random bytes"),
            EngineError::NoThread(why) => Failure::new(format!("no thread can be started: {why}")),
        })?;
        Ok(Self {
            engine,
            common,
            log,
            devices: 0,
        })
    }

    /// Signs a device in at this time, as the plugin would.
    ///
    /// # Errors
    ///
    /// Returns why it is not in.
    pub(crate) fn sign_in(&mut self, device: &Device, now: Unix) -> Result<SignedIn, NotIn> {
        self.devices += 1;
        let key = ClientKey(self.devices);
        let (username, password) = match &device.credential {
            Credential::Token(token) => (Some("JWT"), Some(token.reveal())),
            Credential::Password { username, password } => {
                (Some(username.as_str()), Some(password.reveal()))
            }
            Credential::Claims { username, .. } => (username.as_deref(), None),
        };
        let connect = Connect {
            key,
            client: Client {
                id: &device.client_id,
                username,
                address: Some(&device.address),
                port: device.port,
                certificate: device.certificate,
            },
            password,
            unverified_address: false,
            origin: Origin::Connect,
            // No other device of this instance holds it: each is looked at by itself.
            id_is_free: true,
            presented: Presented::Password,
            restored_for: None,
            ends_with_connection: true,
        };
        let admission = match &device.credential {
            Credential::Claims { claims, .. } => {
                let claims = claims.clone();
                let common = &mut self.common;
                let admission = self.engine.admit_unverified(common, &connect, claims, now);
                admission.map_err(NotIn::refused)?
            }
            Credential::Token(_) | Credential::Password { .. } => self.admit(&connect, now)?,
        };
        let signed_in = SignedIn {
            key,
            client_id: device.client_id.clone(),
            username: admission.username().to_owned(),
            address: device.address.clone(),
            port: device.port,
            certificate: device.certificate,
            attributes: admission.client().cloned().unwrap_or_default(),
            until: admission.until(),
        };
        self.common.admit_in_tool(admission);
        Ok(signed_in)
    }

    fn admit(&mut self, connect: &Connect, now: Unix) -> Result<Admission, NotIn> {
        match self.engine.authenticate(&mut self.common, connect, now) {
            Step::Admit(admission) => Ok(admission),
            Step::Refuse(refusal) => Err(NotIn::refused(refusal)),
            Step::Wait(wait) => {
                let waited = self.engine.wait_in_tool(&mut self.common, wait, now);
                waited.map_err(NotIn::refused)
            }
            // Only a device that is in already stays as it is.
            Step::Keep | Step::Defer => Err(NotIn::OthersDecide),
        }
    }

    /// Returns whether a device that is in may do this, and why.
    pub(crate) fn may(
        &mut self,
        device: &SignedIn,
        deed: &Deed,
        now: Unix,
    ) -> (Decision, WhyDecided) {
        let access = Access {
            key: device.key,
            client: Client {
                id: device.client_id.as_str(),
                username: Some(device.username.as_str()),
                address: Some(device.address.as_str()),
                port: device.port,
                certificate: device.certificate,
            },
            action: deed.action,
            topic: deed.topic.as_bytes(),
            qos: deed.qos,
            retain: deed.retain,
            payload: deed.payload,
        };
        self.engine
            .explain(&mut self.common, &access, &device.attributes, now)
    }

    /// Returns the rules for a device that is in, and which of them apply to it now.
    pub(crate) fn rules_for(&mut self, device: &SignedIn) -> RulesFor {
        let client = Client {
            id: device.client_id.as_str(),
            username: Some(device.username.as_str()),
            address: Some(device.address.as_str()),
            port: device.port,
            certificate: device.certificate,
        };
        self.engine
            .rules_for(&mut self.common, device.key, &client, &device.attributes)
    }

    /// Returns the client IDs that a device may use; `None` if it may use all.
    pub(crate) fn client_ids(&self, device: &SignedIn) -> Option<Arc<[Box<str>]>> {
        // A device whose token names none is not in.
        self.engine
            .client_ids(&device.attributes)
            .unwrap_or_default()
    }

    /// Whether others decide about messages and subscriptions.
    pub(crate) fn defers_acl(&self) -> bool {
        self.engine.defers_acl()
    }

    /// Returns the lines that the plugin would have logged.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.take().into_iter().map(|(_, line)| line).collect()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.engine.stop();
    }
}

impl NotIn {
    fn refused(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }

    /// Returns the exit code: a refusal is an answer, unless the tenant gave none.
    pub(crate) fn exit(&self) -> Exit {
        let Self::Refused(refusal) = self else {
            return Exit::Unknown;
        };
        match refusal.reason.connack_reason() {
            ConnackReason::Unavailable | ConnackReason::Busy => Exit::Unknown,
            ConnackReason::BadCredential | ConnackReason::NotAuthorized | ConnackReason::Banned => {
                Exit::No
            }
        }
    }

    /// Returns it for programs.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Refused(refusal) => json!({
                "reason": refusal.reason.code(),
                "text": refusal.to_string(),
                "fix": refusal.fix(),
            }),
            Self::OthersDecide => json!({ "reason": null, "text": self.to_string(), "fix": null }),
        }
    }
}

impl Device {
    /// Returns the device that the command line describes. Asks for its password if that is in no file.
    ///
    /// # Errors
    ///
    /// Returns a failure if a file cannot be read, or if nothing says who the device is.
    pub(crate) fn of(arguments: &DeviceArguments) -> Result<Self, Failure> {
        let credential = match (&arguments.token, &arguments.claims, &arguments.username) {
            (Some(path), ..) => Credential::Token(token(path)?),
            (None, Some(path), username) => Credential::Claims {
                claims: claims_of(&text_of(path)?, path)?,
                username: username.clone(),
            },
            (None, None, Some(username)) => Credential::Password {
                username: username.clone(),
                password: secrets::password(username, arguments.password_file.as_deref())?,
            },
            (None, None, None) => {
                return Err(Failure::new("nothing says who the device is").fix(
                    "name its token (--token FILE), its user (--username U) or its claims \
                 (--claims FILE)",
                ));
            }
        };
        Ok(Self {
            client_id: arguments.client_id.clone(),
            address: arguments.address.to_string(),
            port: arguments.port,
            certificate: arguments
                .certificate
                .as_deref()
                .map(certificate)
                .transpose()?,
            credential,
        })
    }
}

/// Returns the time of a command line, or the present.
pub(crate) fn time_of(arguments: &DeviceArguments) -> Unix {
    arguments.at.unwrap_or_else(clock::now)
}

/// Parses claims: a JSON object.
///
/// # Errors
///
/// Returns a failure if the text is none.
pub(crate) fn claims_of(text: &str, path: &Path) -> Result<Map<String, Value>, Failure> {
    let shown = path.display();
    input::json::object(text.as_bytes()).map_err(|_| {
        Failure::new(format!("{shown} is not a JSON object"))
            .fix("write claims, as in {\"sub\": \"auth0|7\", \"permissions\": [\"publish:a/b\"]}")
    })
}

/// Reads a file, or the standard input for `-`.
///
/// # Errors
///
/// Returns a failure if it cannot be read.
pub(crate) fn text_of(path: &Path) -> Result<String, Failure> {
    /// A token has some kilobytes.
    const MOST: u64 = 1024 * 1024;
    let of_file = |why: io::Error| Failure::new(format!("{}: {why}", path.display()));
    let mut text = String::new();
    match path.as_os_str() == "-" {
        true => io::stdin().take(MOST).read_to_string(&mut text),
        false => fs::File::open(path)
            .map_err(of_file)?
            .take(MOST)
            .read_to_string(&mut text),
    }
    .map_err(of_file)?;
    Ok(text)
}

/// Returns the SHA-256 fingerprint of the certificate in a file.
///
/// # Errors
///
/// Returns a failure if the file cannot be read, or holds no certificate.
pub(crate) fn certificate(path: &Path) -> Result<[u8; 32], Failure> {
    let shown = path.display();
    let file = fs::read(path).map_err(|why| Failure::new(format!("{shown}: {why}")))?;
    fingerprint(&file).ok_or_else(|| {
        Failure::new(format!("{shown} holds no certificate"))
            .fix("name the file of the device's certificate, PEM or DER, and not that of its key")
    })
}

/// Returns the SHA-256 fingerprint of the first certificate in a file, PEM or DER. `None` if the file has none. Whether
/// the certificate is good is not looked at: that is the broker's affair.
fn fingerprint(file: &[u8]) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(file).unwrap_or_default();
    let der = match text.split_once("-----BEGIN CERTIFICATE-----") {
        Some((_, after)) => {
            let (lines, _) = after.split_once("-----END CERTIFICATE-----")?;
            let digits: String = lines.split_whitespace().collect();
            STANDARD.decode(digits).ok()?
        }
        None => file.to_owned(),
    };
    // A SEQUENCE that is the whole file, with its length in one or two bytes. Every certificate is one, and begins with
    // another one (RFC 5280, section 4.1). A private key begins with an INTEGER.
    let (length, content) = match &*der {
        [0x30, 0x81, length, content @ ..] => (usize::from(*length), content),
        [0x30, 0x82, high, low, content @ ..] => {
            (usize::from(u16::from_be_bytes([*high, *low])), content)
        }
        _ => return None,
    };
    (content.len() == length && content.first() == Some(&0x30)).then(|| sha256(&der))
}

/// Returns the token in a file.
fn token(path: &Path) -> Result<Secret, Failure> {
    /// No field of a CONNECT is longer.
    const MOST: usize = 65535;
    let token = secrets::token(path)?;
    match token.len() <= MOST {
        true => Ok(Secret::new(token)),
        false => Err(Failure::new(format!(
            "{} holds no token: it has more than {MOST} bytes",
            path.display()
        ))),
    }
}
