//! What is wrong with a set of keys, or with one key, and what came of fetching keys.

use std::fmt;

use crate::jwt::{
    fetch_report::{FetchReport, JwksError, SavedJwksError, SavedJwksProblem},
    jwks::{IgnoredKey, JwksProblem, KeyProblem, MAX_KEYS},
};
use input::text::Quoted;

impl fmt::Display for JwksProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(why) => write!(f, "it {why}"),
            Self::NoArray => f.write_str("it has no array `keys`"),
            Self::TooMany(number) => write!(f, "it has {number} keys, more than {MAX_KEYS}"),
            Self::NoKeys => f.write_str("it has no keys"),
            Self::NoneUsable(first) => write!(f, "it has no usable key: {first}"),
        }
    }
}

impl fmt::Display for IgnoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("a key that is not an object"),
            Self::BadName => f.write_str("a key whose kid is not a text, or too long"),
            Self::Ambiguous { kid: Some(kid) } => write!(
                f,
                "two different keys for one algorithm, both named {}",
                Quoted(kid)
            ),
            Self::Ambiguous { kid: None } => {
                f.write_str("two different keys for one algorithm, both without a kid")
            }
            Self::Unusable {
                kid: Some(kid),
                problem,
            } => write!(f, "key {} {problem}", Quoted(kid)),
            Self::Unusable { kid: None, problem } => write!(f, "a key without a kid {problem}"),
        }
    }
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(found) => write!(f, "is of type {}, not RSA, EC or OKP", Quoted(found)),
            Self::Curve(found) => write!(
                f,
                "is on the curve {}, not P-256, P-384 or Ed25519",
                Quoted(found)
            ),
            Self::Private => f.write_str("is a private key"),
            Self::Use(found) => write!(f, "has the use {}, not sig", Quoted(found)),
            Self::NotForVerifying => f.write_str("is not for verifying (key_ops)"),
            Self::Algorithm(name) => write!(f, "is for {}, which is not supported", Quoted(name)),
            Self::AlgorithmOfOtherKind(algorithm) => {
                write!(
                    f,
                    "is for {}, which needs another kind of key",
                    algorithm.name()
                )
            }
            Self::CertificateAlone => {
                f.write_str("is only in a certificate (x5c), which is not read")
            }
            Self::AlgorithmNotText => f.write_str("has an alg that is not a string"),
            Self::BadNumber(name) => write!(f, "has an invalid {name}"),
            Self::Bits(bits) => write!(f, "has {bits} bits, not 2048 to 8192"),
            Self::EvenModulus => f.write_str("has an even modulus"),
            Self::BadExponent => f.write_str("has a bad exponent"),
            Self::Roca => f.write_str("was made by a broken generator (ROCA, CVE-2017-15361)"),
            Self::Rejected(why) => write!(f, "is not a valid key ({why})"),
        }
    }
}

impl fmt::Display for FetchReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetched { tenant, keys } => {
                write!(
                    f,
                    "the tenant's signing keys were fetched from {tenant} ({keys} keys)"
                )
            }
            Self::Ignored { tenant, key } => {
                write!(f, "ignored one of the tenant's keys at {tenant}: {key}")
            }
            Self::Failed {
                error,
                older_stay,
                seconds,
            } => {
                let (tenant, why) = (&error.tenant, &error.why);
                let meanwhile = match older_stay {
                    true => "the last good ones stay in use, and ",
                    false => "",
                };
                write!(
                    f,
                    "the tenant's signing keys could not be fetched from {tenant}: {why}; {meanwhile}the next attempt \
                     follows in {seconds} s; fix: check domain (or issuer), ca_file, proxy and this machine's \
                     network and time; if the discovery document or the keys are elsewhere, set discovery_url or jwks_uri"
                )
            }
            Self::EndpointsKept(JwksError { tenant, why, .. }) => write!(
                f,
                "the endpoints could not be discovered again at {tenant}: {why}; those that were discovered before \
                 stay in use; fix: reload the broker when the tenant answers"
            ),
            Self::Stale { tenant } => write!(
                f,
                "the tenant's signing keys could not be fetched from {tenant} for longer than jwks_max_stale: they are \
                 not used any more, and its tokens are refused; fix: see the line that says why they cannot be fetched",
            ),
        }
    }
}

impl fmt::Display for SavedJwksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { path, problem } => write!(
                f,
                "the keys kept in {} are not used: {problem}; fix: delete the file, it will be written again",
                Quoted(&path.display().to_string())
            ),
            Self::Save { path, why } => write!(
                f,
                "the tenant's keys cannot be kept over a restart in {}: {why}; fix: make room there, or let the \
                 broker's user write in state_dir",
                Quoted(&path.display().to_string())
            ),
        }
    }
}

impl fmt::Display for SavedJwksProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(why) => write!(f, "{why}"),
            Self::NotJson(why) => write!(f, "it {why}"),
            Self::NoFetchTime => f.write_str("it has no fetch time"),
            Self::Keys(why) => write!(f, "{why}"),
        }
    }
}
