//! A broker that sees its clients at addresses of their own, though all are on this machine: see
//! `addresses.c`. The loopback address is nobody's, so the plugin passes it on to no tenant.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::broker::Builder;
use crate::preload::compile;
use crate::scratch::Scratch;

/// The addresses.
#[derive(Debug)]
pub struct Addresses {
    library: PathBuf,
    _scratch: Scratch,
}

impl Addresses {
    /// For as many brokers as one likes.
    ///
    /// # Errors
    /// When there is no C compiler, which building the plugin needs as well.
    pub fn new() -> Result<Self, String> {
        let scratch = Scratch::new("addresses").map_err(|error| error.to_string())?;
        Ok(Self {
            library: compile(&scratch, "addresses", include_str!("addresses.c"))?,
            _scratch: scratch,
        })
    }

    /// The broker that sees them.
    #[must_use]
    pub fn of(&self, builder: Builder) -> Builder {
        builder.env("LD_PRELOAD", &self.library)
    }

    /// Where such a broker sees whoever connects from 127.0.0.`host`.
    #[must_use]
    pub fn seen(host: u8) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, host)
    }
}
