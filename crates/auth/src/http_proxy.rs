//! The HTTP proxy through which the tenant is asked, if the way out is one. How it is used: `auth0/tunnel.rs`.

use std::env;

use crate::secret::Secret;

/// An HTTP proxy.
#[derive(Clone, Debug)]
pub struct HttpProxy {
    /// Its host and port.
    pub address: String,
    /// What it asks for: `USER:PASSWORD`.
    pub(crate) credentials: Option<Secret>,
}

impl PartialEq for HttpProxy {
    fn eq(&self, other: &Self) -> bool {
        fn credentials(one: &HttpProxy) -> Option<&[u8]> {
            one.credentials.as_ref().map(Secret::reveal)
        }
        self.address == other.address && credentials(self) == credentials(other)
    }
}

/// Returns the environment variable that names a proxy, if there is one. The plugin does not use that proxy: who may
/// set a variable must not decide where passwords go.
pub fn variable_of_environment() -> Option<&'static str> {
    let mut names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter();
    names.find(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}
