//! What is wrong with a set of keys, or with one key.

use std::fmt;

use crate::jwt::jwks::{IgnoredKey, JwksProblem, KeyProblem, MAX_KEYS};
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
            Self::Unnamed => f.write_str("a key without a usable kid"),
            Self::Ambiguous { kid } => write!(f, "two keys named {}", Quoted(kid)),
            Self::Unusable { kid, problem } => write!(f, "key {} {problem}", Quoted(kid)),
        }
    }
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(found) => write!(f, "is of type {}, not RSA", Quoted(found)),
            Self::Private => f.write_str("is a private key"),
            Self::Use(found) => write!(f, "has the use {found}, not sig"),
            Self::NotForVerifying => f.write_str("is not for verifying (key_ops)"),
            Self::Algorithm(name) => write!(f, "is for {}, which is not supported", Quoted(name)),
            Self::AlgorithmNotText => f.write_str("has an alg that is not a string"),
            Self::BadNumber(name) => write!(f, "has no good {name}"),
            Self::Bits(bits) => write!(f, "has {bits} bits, not 2048 to 8192"),
            Self::EvenModulus => f.write_str("has an even modulus"),
            Self::BadExponent => f.write_str("has a bad exponent"),
            Self::Roca => f.write_str("was made by a broken generator (ROCA, CVE-2017-15361)"),
            Self::Rejected(why) => write!(f, "is no key ({why})"),
        }
    }
}
