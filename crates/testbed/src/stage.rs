//! The setting of the article's story: a tenant with a thermostat, and a broker that listens with TLS and has
//! the plugin. The demo and the samples of device code use it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::broker::{Listener, Mosquitto, Version};
use crate::clients::MosquittoClient;
use crate::pki::Authority;
use crate::tenant::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, Device, Tenant};

/// A second device, which may see everything: the greenhouse's control room.
pub const CONTROL_ROOM: &str = "control-room";
/// Its password.
pub const CONTROL_ROOM_PASSWORD: &str = "the control room's password";

/// A running tenant and broker.
pub struct Stage {
    /// The tenant.
    pub tenant: Tenant,
    /// The broker.
    pub broker: Mosquitto,
    /// The authority that signed the broker's certificate, PEM, which devices trust.
    pub broker_ca: PathBuf,
    /// The lines of mosquitto.conf that load the plugin.
    pub plugin_lines: String,
}

impl Stage {
    /// Starts tenant and broker.
    ///
    /// # Errors
    ///
    /// Returns what did not start, and why.
    pub fn set(version: Version, plugin: &Path) -> Result<Self, String> {
        let tenant = Tenant::start();
        let control = Device::new(CONTROL_ROOM, CONTROL_ROOM_PASSWORD).topics(json!(["#"]));
        tenant.add_device(control);

        let builder = Mosquitto::builder(version);
        let write = |name: &str, text: &str| {
            let path = builder.folder().join(name);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>(path)
        };
        // Not the tenant's authority: in production a broker's certificate and Auth0's come from different
        // ones.
        let authority = Authority::new("The broker's authority");
        let leaf = authority.issue(&["localhost", "127.0.0.1"]);
        let broker_ca = write("broker-ca.pem", authority.pem())?;
        let certificate = write("broker.pem", &leaf.cert_pem)?;
        let key = write("broker.key", &leaf.key_pem)?;
        let secret = write("auth0.secret", CLIENT_SECRET)?;
        restrict(&secret)?;

        let paths = [
            secret.display().to_string(),
            tenant.ca_file().display().to_string(),
        ];
        let options = [
            ("domain", tenant.domain()),
            ("audience", AUDIENCE),
            ("client_id", CLIENT_ID),
            ("client_secret_file", &paths[0]),
            ("connection", CONNECTION),
            ("ca_file", &paths[1]),
        ];
        let lines = options
            .iter()
            .map(|(name, value)| format!("plugin_opt_{name} {value}\n"));
        let plugin_lines = format!("plugin {}\n{}", plugin.display(), lines.collect::<String>());
        let started = builder
            .listener(Listener::tls(certificate, key))
            .plugin(plugin, &options)
            .start();
        let broker =
            started.map_err(|error| format!("the broker did not start:\n{}", error.log))?;
        Ok(Self {
            tenant,
            broker,
            broker_ca,
            plugin_lines,
        })
    }

    /// Returns mosquitto_pub and mosquitto_sub as a device would use them: over TLS.
    pub fn client(&self, username: &str, password: &str) -> MosquittoClient {
        let client = MosquittoClient::of(&self.broker)
            .host("localhost")
            .ca_file(&self.broker_ca);
        client.username(username).password(password)
    }
}

fn restrict(secret: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(secret, fs::Permissions::from_mode(0o600))
        .map_err(|error| format!("{}: {error}", secret.display()))
}
