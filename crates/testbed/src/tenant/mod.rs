//! A stand-in for an Auth0 tenant, over real HTTPS on 127.0.0.1.
//!
//! It responds as Auth0 does, and has faults on demand. Its responses are taken from recordings of Auth0's own
//! SDKs and from Auth0's documentation; no live tenant was used.
//!
//! ```no_run
//! use testbed::tenant::{Behaviour, DEVICE, Endpoint, Tenant};
//!
//! let tenant = Tenant::start();
//! let token = tenant.token(DEVICE);
//! tenant.once(Endpoint::Jwks, Behaviour::Html(502));
//! ```

mod answers;
mod device;
mod device_flow;
mod faults;
mod journal;
mod keys;
mod mint;
mod oauth;
mod protection;
mod refresh_tokens;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod wellknown;

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, fs, io};

use rustls::ServerConfig;
use serde_json::Value;

pub use device::{DEVICE, Device, DeviceState, PASSWORD};
pub use faults::{Behaviour, Endpoint, ResponseGate};
pub use journal::Recorded;
pub use mint::Mint;
pub use settings::{
    API_SECRET, AUDIENCE, CLIENT_ID, CLIENT_SECRET, CONNECTION, ClientAuth, Grant,
    OTHER_CONNECTION, Settings, Signing, TokenProfile, UnknownAudience,
};

use crate::http::{Request, Response};
use crate::lock;
use crate::pki::{Authority, Leaf};
use crate::scratch::Scratch;
use crate::signing::SigningKey;
use mint::{Holder, Issuer};

/// A running tenant. Dropping it closes every connection, ends every thread and removes its files.
pub struct Tenant {
    shared: Arc<TenantShared>,
    listening: Mutex<Option<server::Listening>>,
    port: u16,
    domain: String,
    authority: Authority,
    ca_file: PathBuf,
    _scratch: Option<Scratch>,
}

/// What the threads of a tenant share.
struct TenantShared {
    issuer: String,
    settings: Mutex<Settings>,
    devices: Mutex<Vec<Device>>,
    ring: Mutex<keys::KeyRing>,
    protection: Mutex<protection::Protection>,
    authorizations: Mutex<device_flow::Authorizations>,
    refresh_tokens: Mutex<refresh_tokens::RefreshTokens>,
    assertions: Mutex<std::collections::HashSet<String>>,
    faults: Mutex<faults::Faults>,
    journal: journal::Journal,
    life: server::Life,
    tls: Mutex<Arc<ServerConfig>>,
}

impl TenantShared {
    fn answer(&self, endpoint: Endpoint, request: &Request, peer: IpAddr) -> Response {
        let settings = lock(&self.settings).clone();
        let cache_control = settings.keys_cache_control.as_deref();
        match (endpoint, request.method.as_str()) {
            (Endpoint::Token, "POST") => oauth::token(self, request, peer),
            (Endpoint::DeviceCode, "POST") => oauth::device_code(self, request, peer),
            (Endpoint::Jwks, "GET") => {
                let body = lock(&self.ring).jwks(settings.alg_in_jwks);
                answers::document(cache_control, body)
            }
            (Endpoint::Discovery, "GET") => {
                answers::document(cache_control, wellknown::discovery(&self.issuer))
            }
            _ => answers::not_found(),
        }
    }

    fn find_device(&self, connection: &str, username: &str) -> Option<Device> {
        let devices = lock(&self.devices);
        let mut found = devices
            .iter()
            .filter(|device| device.connection == connection && device.username == username);
        found.next().cloned()
    }
}

/// What is configured before a tenant starts. Everything else is in [`Settings`].
#[derive(Clone, Debug)]
pub struct TenantBuilder {
    port: u16,
    names: Vec<String>,
    dir: Option<PathBuf>,
    fresh_keys: bool,
    settings: Settings,
    devices: Vec<Device>,
}

impl Default for TenantBuilder {
    fn default() -> Self {
        Self {
            port: 0,
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            dir: None,
            fresh_keys: false,
            settings: Settings::default(),
            devices: vec![Device::default()],
        }
    }
}

impl TenantBuilder {
    /// Sets the port. 0, the default, is any free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the names in the server's certificate. The first one becomes the domain, and the software under
    /// test must be able to resolve it to 127.0.0.1.
    #[must_use]
    pub fn names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Writes `ca.pem` into this directory, which stays, instead of a temporary one.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Generates signing keys that no other tenant of this process has. This takes a moment.
    #[must_use]
    pub fn fresh_keys(mut self) -> Self {
        self.fresh_keys = true;
        self
    }

    /// Changes the initial settings.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Adds a device beside [`Device::default`], or replaces it if both have the same name.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        put(&mut self.devices, device);
        self
    }

    /// Starts the tenant.
    pub fn start(self) -> io::Result<Tenant> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))?;
        let port = listener.local_addr()?.port();
        let authority = Authority::new("lab tenant CA");
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let host = names.first().copied().unwrap_or("localhost");
        let domain = format!("{host}:{port}");
        let (scratch, ca_file) = match self.dir {
            Some(dir) => {
                fs::create_dir_all(&dir)?;
                let file = dir.join("ca.pem");
                fs::write(&file, authority.pem())?;
                (None, file)
            }
            None => {
                let scratch = Scratch::new("tenant")?;
                let file = scratch.write("ca.pem", authority.pem())?;
                (Some(scratch), file)
            }
        };
        let shared = Arc::new(TenantShared {
            issuer: format!("https://{domain}/"),
            settings: Mutex::new(self.settings),
            devices: Mutex::new(self.devices),
            ring: Mutex::new(keys::KeyRing::new(self.fresh_keys)),
            protection: Mutex::default(),
            authorizations: Mutex::default(),
            refresh_tokens: Mutex::default(),
            assertions: Mutex::default(),
            faults: Mutex::default(),
            journal: journal::Journal::default(),
            life: server::Life::default(),
            tls: Mutex::new(server::tls(&authority.issue(&names))),
        });
        let listening = server::Listening::start(listener, Arc::clone(&shared))?;
        Ok(Tenant {
            shared,
            listening: Mutex::new(Some(listening)),
            port,
            domain,
            authority,
            ca_file,
            _scratch: scratch,
        })
    }
}

/// Adds a device, or replaces the one with this name in the same connection.
fn put(devices: &mut Vec<Device>, device: Device) {
    devices.retain(|known| {
        (&known.username, &known.connection) != (&device.username, &device.connection)
    });
    devices.push(device);
}

/// Start and addresses.
impl Tenant {
    /// Starts a tenant as the plugin's README describes it, with [`DEVICE`] in it.
    ///
    /// # Panics
    ///
    /// Panics when no port or temporary directory is available.
    pub fn start() -> Self {
        Self::builder().start().expect("a tenant on a free port")
    }

    /// Returns a builder for a tenant with another configuration.
    pub fn builder() -> TenantBuilder {
        TenantBuilder::default()
    }

    /// Returns `localhost:PORT`: the plugin's option `domain`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns `https://localhost:PORT/`: `iss`, with the slash at the end.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Returns the absolute address of a path such as `oauth/token`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{}", self.issuer(), path.trim_start_matches('/'))
    }

    /// Returns the TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns a file with the certificate of the tenant's authority, PEM: the plugin's option `ca_file`.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Returns the authority of the server's certificate, for issuing other ones.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

/// Configuration.
impl Tenant {
    /// Returns the current settings.
    pub fn settings(&self) -> Settings {
        lock(&self.shared.settings).clone()
    }

    /// Changes the settings, from the next request on.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.shared.settings));
    }

    /// Adds a device, or replaces the one with this name in the same connection.
    pub fn add_device(&self, device: Device) {
        put(&mut lock(&self.shared.devices), device);
    }

    /// Returns all devices.
    pub fn devices(&self) -> Vec<Device> {
        lock(&self.shared.devices).clone()
    }

    /// Returns the device with this name, in any connection.
    pub fn device(&self, username: &str) -> Option<Device> {
        let devices = lock(&self.shared.devices);
        let mut found = devices.iter().filter(|known| known.username == username);
        found.next().cloned()
    }

    /// Changes a device, from its next login on.
    ///
    /// # Panics
    ///
    /// Panics when there is no such device.
    pub fn change_device(&self, username: &str, change: impl FnOnce(&mut Device)) {
        let mut devices = lock(&self.shared.devices);
        let found = devices.iter_mut().find(|known| known.username == username);
        change(found.unwrap_or_else(|| panic!("no device {username}")));
    }

    /// Deletes the devices with this name.
    pub fn remove_device(&self, username: &str) {
        lock(&self.shared.devices).retain(|known| known.username != username);
    }

    /// Lets a user sign in at the page of the device flow with this code, as this device.
    ///
    /// # Panics
    ///
    /// Panics when no such code is waiting, or there is no such device.
    pub fn approve(&self, user_code: &str, username: &str) {
        let device = self.existing(username);
        lock(&self.shared.authorizations).decide(user_code, Some(device));
    }

    /// Lets a user cancel the device flow with this code.
    ///
    /// # Panics
    ///
    /// Panics when no such code is waiting.
    pub fn cancel(&self, user_code: &str) {
        lock(&self.shared.authorizations).decide(user_code, None);
    }

    /// Returns a refresh token of this device, for the API and with the scope `offline_access`.
    ///
    /// # Panics
    ///
    /// Panics when there is no such device.
    pub fn refresh_token(&self, username: &str) -> String {
        let device = self.existing(username);
        let token = crate::signing::random_text();
        let grant = refresh_tokens::RefreshGrant {
            username: device.username,
            connection: device.connection,
            scope: "offline_access".to_owned(),
            audience: Some(self.settings().audience),
        };
        lock(&self.shared.refresh_tokens).issue(&token, grant);
        token
    }

    /// Removes the blocks of attack protection for this user name and for every address.
    pub fn unblock(&self, username: &str) {
        lock(&self.shared.protection).unblock(username);
    }
}

/// Tokens.
impl Tenant {
    /// Returns the access token that a login of this device would yield, for the API and with scope `openid`.
    ///
    /// # Panics
    ///
    /// Panics when there is no such device.
    pub fn token(&self, username: &str) -> String {
        self.mint(username).sign()
    }

    /// Returns the ID token that a login of this device would yield.
    ///
    /// # Panics
    ///
    /// Panics when there is no such device.
    pub fn id_token(&self, username: &str) -> String {
        self.mint_id_token(username).sign()
    }

    /// Returns [`Tenant::token`] before it is signed, for changing it.
    ///
    /// # Panics
    ///
    /// Panics when there is no such device.
    pub fn mint(&self, username: &str) -> Mint {
        let device = self.existing(username);
        self.with_issuer(|issuer| {
            let scope = "openid profile email address phone";
            let audience = &issuer.settings.audience;
            issuer.access_token(Holder::Device(&device), audience, scope)
        })
    }

    /// Returns [`Tenant::id_token`] before it is signed, for changing it.
    ///
    /// # Panics
    ///
    /// Panics when there is no such device.
    pub fn mint_id_token(&self, username: &str) -> Mint {
        let device = self.existing(username);
        self.with_issuer(|issuer| issuer.id_token(&device))
    }

    /// Returns the token of the application itself, with the `sub` `CLIENT_ID@clients`.
    pub fn mint_machine_token(&self) -> Mint {
        self.with_issuer(|issuer| {
            issuer.access_token(Holder::Machine, &issuer.settings.audience, "")
        })
    }

    fn existing(&self, username: &str) -> Device {
        let device = self.device(username);
        device.unwrap_or_else(|| panic!("no device {username}"))
    }

    fn with_issuer<T>(&self, make: impl FnOnce(&Issuer<'_>) -> T) -> T {
        make(&Issuer {
            name: self.issuer(),
            settings: &self.settings(),
            key: self.current_key(),
        })
    }
}

/// Signing keys.
impl Tenant {
    /// Returns the key that signs now.
    pub fn current_key(&self) -> Arc<SigningKey> {
        Arc::clone(&lock(&self.shared.ring).current)
    }

    /// Returns the published key that will sign after the next [`Tenant::rotate`].
    pub fn next_key(&self) -> Arc<SigningKey> {
        Arc::clone(&lock(&self.shared.ring).next)
    }

    /// Returns the key that signed before, if it was not revoked.
    pub fn previous_key(&self) -> Option<Arc<SigningKey>> {
        lock(&self.shared.ring).previous.first().cloned()
    }

    /// Rotates as Auth0 does: the next key signs, a new next one is published, and the previous one stays
    /// published until [`Tenant::revoke_previous`].
    pub fn rotate(&self) {
        lock(&self.shared.ring).rotate();
    }

    /// Signs from now on with a key that no JWKS has contained before.
    pub fn rotate_unannounced(&self) {
        lock(&self.shared.ring).rotate_unannounced();
    }

    /// Removes every previous key from the JWKS.
    pub fn revoke_previous(&self) {
        lock(&self.shared.ring).revoke_previous();
    }

    /// Returns the published JWKS.
    pub fn jwks(&self) -> Value {
        let with_alg = self.settings().alg_in_jwks;
        lock(&self.shared.ring).jwks_value(with_alg)
    }

    /// Publishes this JWKS until [`Tenant::reset_jwks`].
    pub fn set_jwks(&self, jwks: &Value) {
        self.set_jwks_text(&jwks.to_string());
    }

    /// Publishes this text as the JWKS, whether it is JSON or not.
    pub fn set_jwks_text(&self, text: &str) {
        lock(&self.shared.ring).publish(Some(text.to_owned()));
    }

    /// Publishes the tenant's own keys again.
    pub fn reset_jwks(&self) {
        lock(&self.shared.ring).publish(None);
    }
}

/// Faults.
impl Tenant {
    /// Sets how this endpoint behaves from now on.
    pub fn on(&self, endpoint: Endpoint, behaviour: Behaviour) {
        lock(&self.shared.faults).set(endpoint, behaviour);
    }

    /// Sets how this endpoint behaves once. Several calls are queued.
    pub fn once(&self, endpoint: Endpoint, behaviour: Behaviour) {
        lock(&self.shared.faults).queue(endpoint, behaviour);
    }

    /// Removes all faults. Requests that are already held stay held.
    pub fn behave(&self) {
        lock(&self.shared.faults).clear();
    }

    /// Refuses connections from now on, and closes those that are open.
    pub fn stop_listening(&self) {
        lock(&self.listening).take();
        self.shared.life.hang_up();
    }

    /// Listens again, on the same port.
    pub fn listen_again(&self) -> io::Result<()> {
        let mut listening = lock(&self.listening);
        if listening.is_none() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))?;
            let shared = Arc::clone(&self.shared);
            *listening = Some(server::Listening::start(listener, shared)?);
        }
        Ok(())
    }

    /// Closes every open connection, as an edge does with idle ones.
    pub fn hang_up(&self) {
        self.shared.life.hang_up();
    }

    /// Serves this certificate from now on, and closes open connections so that clients see it.
    pub fn use_certificate(&self, leaf: &Leaf) {
        *lock(&self.shared.tls) = server::tls(leaf);
        self.hang_up();
    }
}

/// Recorded requests.
impl Tenant {
    /// Returns the requests so far, oldest first; of very many, the newest.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.journal.requests()
    }

    /// Returns the requests to one endpoint so far, oldest first.
    pub fn requests_to(&self, endpoint: Endpoint) -> Vec<Recorded> {
        let mut requests = self.requests();
        requests.retain(|request| request.endpoint == endpoint);
        requests
    }

    /// Returns the number of requests to this endpoint; for [`Endpoint::Connection`], of connections.
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.shared.journal.count(endpoint)
    }

    /// Waits until this endpoint has received that many requests. Returns `false` on timeout. A request
    /// counts when it is read, before the response.
    #[must_use]
    pub fn wait_for(&self, endpoint: Endpoint, count: usize, deadline: Duration) -> bool {
        self.shared.journal.wait_for(endpoint, count, deadline)
    }

    /// Clears the recorded requests and their counts.
    pub fn forget_requests(&self) {
        self.shared.journal.clear();
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        lock(&self.listening).take();
        let gates = lock(&self.shared.faults).gates();
        self.shared
            .life
            .end(|| gates.iter().for_each(faults::ResponseGate::wake));
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tenant({})", self.domain)
    }
}
