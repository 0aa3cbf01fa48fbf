//! The signature algorithms of tokens (RFC 7518, section 3; RFC 8037), and the kind of key that each one needs.

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, Auth0's default.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on the curve P-256 with SHA-256.
    Es256,
    /// ECDSA on the curve P-384 with SHA-384.
    Es384,
    /// Ed25519. EdDSA with other curves is not supported.
    EdDsa,
    /// HMAC with SHA-256. Everyone who can verify a token can make one.
    Hs256,
}

/// The kind of key that an algorithm needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// An RSA key.
    Rsa,
    /// A point on the curve P-256.
    P256,
    /// A point on the curve P-384.
    P384,
    /// A point on the curve Ed25519.
    Ed25519,
    /// A shared secret.
    Secret,
}

impl Algorithm {
    /// All algorithms, in the order in which they are documented.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Hs256,
    ];

    /// Returns its name in a JOSE header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    /// Returns the algorithm with exactly this name: names are case-sensitive (RFC 7515, section 4.1.1). RFC 9864
    /// replaces the name `EdDSA` by `Ed25519` for this curve, and providers send both.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// Returns the only kind of key that it may be used with (RFC 8725, section 3.1).
    pub(crate) const fn key_kind(self) -> KeyKind {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 => KeyKind::Rsa,
            Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyKind::Rsa,
            Self::Es256 => KeyKind::P256,
            Self::Es384 => KeyKind::P384,
            Self::EdDsa => KeyKind::Ed25519,
            Self::Hs256 => KeyKind::Secret,
        }
    }

    /// Returns the length of the shortest signature, in bytes. One of RSA is as long as its key, so at least 2048
    /// bits.
    pub(crate) const fn shortest_signature(self) -> usize {
        match self.key_kind() {
            KeyKind::Rsa => 256,
            KeyKind::P256 | KeyKind::Ed25519 => 64,
            KeyKind::P384 => 96,
            KeyKind::Secret => 32,
        }
    }
}
