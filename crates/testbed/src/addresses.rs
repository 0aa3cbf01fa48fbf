//! A broker that sees its clients at different addresses although all of them are on this machine: see
//! `addresses.c`. The plugin does not pass the loopback address on to a tenant.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::broker::MosquittoBuilder;
use crate::preload::compile;
use crate::scratch::Scratch;

/// The library that changes the addresses.
#[derive(Debug)]
pub struct Addresses {
    library: PathBuf,
    _scratch: Scratch,
}

impl Addresses {
    /// Compiles the library, for any number of brokers.
    ///
    /// # Errors
    ///
    /// Returns an error without a C compiler, which building the plugin needs as well.
    pub fn new() -> Result<Self, String> {
        let scratch = Scratch::new("addresses").map_err(|error| error.to_string())?;
        Ok(Self {
            library: compile(&scratch, "addresses", include_str!("addresses.c"))?,
            _scratch: scratch,
        })
    }

    /// Starts the broker with the library.
    #[must_use]
    pub fn of(&self, builder: MosquittoBuilder) -> MosquittoBuilder {
        builder.env("LD_PRELOAD", &self.library)
    }

    /// Returns the address at which such a broker sees a client that connects from 127.0.0.`host`.
    #[must_use]
    pub fn seen(host: u8) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, host)
    }
}
