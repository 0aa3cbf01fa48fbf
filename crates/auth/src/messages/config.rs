//! What is wrong with the configuration.

use std::fmt;

use crate::{
    client_auth::assertion::AssertionKeyProblem,
    config::{ConfigError, errors::Problem, options},
    engine::EngineError,
    refusal::CertificateProblem,
    secret::NoRandomness,
};
use acl::policy_file::OptionalAttribute;
use input::text::Quoted;

use super::OF_AUTHORITY;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = options::find(&self.option);
        match option {
            Some(option) => write!(f, "option {}", option.name)?,
            None => write!(f, "option {}", Quoted(&self.option))?,
        }
        match &self.value {
            _ if self.problem.is_missing() => f.write_str(" is missing")?,
            Some(value) => write!(f, ", value {}", Quoted(value))?,
            None => f.write_str(", value (not shown)")?,
        }
        if let Some((file, line)) = &self.place {
            write!(f, ", line {line} of {}", Quoted(file))?;
        }
        f.write_str(": ")?;
        match option {
            Some(option) if matches!(self.problem, Problem::Form) => {
                write!(f, "write {}", option.kind)
            }
            Some(option) if matches!(self.problem, Problem::PlainHttp) => {
                write!(f, "{}; write {}", self.problem, option.kind)
            }
            _ => write!(f, "{}", self.problem),
        }
    }
}

impl fmt::Display for Problem {
    // Longer than a screen, because it is one sentence for each kind of problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::Unknown {
                nearest: Some(near),
            } => {
                return write!(f, "there is no such option; did you mean {near}?");
            }
            Self::Excluded { by } => return write!(f, "{by} is set too; leave one of the two out"),
            Self::Alone { without } => {
                return write!(f, "it needs {without}; set that or leave this out");
            }
            Self::Template(malformed) => return write!(f, "{malformed}"),
            Self::NotToml { line, message } => {
                return write!(
                    f,
                    "line {line} is not good TOML ({message}); write NAME = \"VALUE\""
                );
            }
            Self::SecretInPublicFile(why) => return write!(f, "it holds a secret, and {why}"),
            Self::WrongType { name, line } if name == "issuer" => {
                return write!(
                    f,
                    "line {line}: issuer is one table; write issuer = \"VALUE\", or begin each table of an issuer with \
                     [[issuer]]"
                );
            }
            Self::WrongType { name, line } => {
                let name = Quoted(name);
                return write!(
                    f,
                    "line {line}: its option {name} is neither text nor a number nor a list of texts; write {name} = \
                     \"VALUE\""
                );
            }
            Self::TooManyIssuers { most } => {
                return write!(f, "there are more than {most} issuers; leave some out");
            }
            Self::NotOfIssuer => {
                "it is about the whole broker; write it above the first [[issuer]] table, or into mosquitto.conf"
            }
            Self::NeedsIssuer => {
                "it is about one issuer, and there are only [[issuer]] tables; write it into one of them, or set \
                 domain or issuer, too"
            }
            Self::IssuerTwice => {
                "another issuer has the same iss, so nobody could tell whose token it is; leave one of the two out"
            }
            Self::TwoApplications => {
                "another issuer has an application already, and a password goes to one issuer only; leave the \
                 application out of one of them"
            }
            Self::File(why) => return write!(f, "{why}"),
            Self::NotLogged(why) => {
                return write!(
                    f,
                    "{why}; let the broker's user (usually `mosquitto`) create files in its folder"
                );
            }
            Self::Folder(why) => return write!(f, "{why}"),
            Self::Policy(mistake) => return write!(f, "{mistake}"),
            Self::NeverHolds { entry, condition } => {
                let (name, fix) = match condition {
                    OptionalAttribute::Port => (
                        "port",
                        "use Mosquitto 2.1, or per_listener_settings true and a policy file for each listener",
                    ),
                    OptionalAttribute::Certificate => {
                        ("certificate", "use a broker that was built with TLS")
                    }
                };
                return write!(
                    f,
                    "{entry} has the condition {name}, which this broker does not tell; {fix}"
                );
            }
            Self::AssertionKey(why) => return write!(f, "{why}"),
            Self::Keys(why) => {
                return write!(f, "{why}; save the tenant's /.well-known/jwks.json there");
            }
            Self::NotPem(why) => return write!(f, "it is not good PEM ({why})"),
            Self::BadCertificate(why) => {
                return write!(f, "it holds a certificate that cannot be read ({why})");
            }
            Self::Untrusted(CertificateProblem::OfAuthority, _) => {
                return write!(f, "the tenant cannot be trusted with it: {OF_AUTHORITY}");
            }
            Self::Untrusted(_, why) => {
                return write!(
                    f,
                    "with it the tenant's certificate is not trusted ({why}); add the authority that signed that"
                );
            }
            Self::NoCertificate => {
                "it holds no certificate; name the PEM file of the authority that signed the tenant's"
            }
            Self::NoAuthority => {
                "this machine trusts no certificate authority; install the package ca-certificates, or set ca_file"
            }
            Self::Unknown { nearest: None } => {
                "there is no such option; docs/options.md lists the options"
            }
            Self::Empty => "it is empty; give it a value or leave the line out",
            Self::QuotesOrComment => {
                "mosquitto.conf takes the whole rest of a line as the value; leave quotes and comments out"
            }
            Self::SetTwice => "it is set twice; leave one of the two out",
            Self::Form => "the option does not take this value",
            Self::PlainHttp => {
                "plain http would let an attacker on the network read passwords and forge keys"
            }
            Self::LoginInAddress => {
                "it has a user name or a password in front of the host, which is not sent, or a port that is no \
                 number; write https://HOST or https://HOST:PORT, and the path"
            }
            Self::CredentialsInAddress => {
                "everyone who can read mosquitto.conf could read the proxy's password; write USER:PASSWORD into \
                 proxy_credentials_file, and only http://HOST:PORT here"
            }
            Self::NotCredentials => "write USER:PASSWORD into it, in one line of UTF-8 text",
            Self::CredentialsModeOff => {
                "it is for credentials mode, which is off; set client_id and client_secret_file, or leave it out"
            }
            Self::NoDomain => "add the line: plugin_opt_domain YOUR-TENANT.eu.auth0.com",
            Self::NoAudience => {
                "add the line: plugin_opt_audience IDENTIFIER-OF-YOUR-API (in Auth0: Applications > APIs)"
            }
            Self::NoClientSecret => {
                "client_id is set; add the file with its secret (or with its private key, client_assertion_key_file), or leave \
                 client_id out to turn credentials mode off"
            }
            Self::NoClientId => {
                "a client secret or a private key is set; add the client ID of the same application"
            }
            Self::NoAssertionKey => {
                "token_endpoint_auth_method is private_key_jwt; add the file with the application's private key"
            }
            Self::KeyIsNoSecret => {
                "client_assertion_key_file is set, and a private key is never sent; write private_key_jwt or leave this out"
            }
            Self::NoHs256Secret => {
                "algorithms lists HS256; add a file with the API's signing secret"
            }
            Self::DiscoveryWithDomain => {
                "with domain nothing is discovered; leave this option out, or leave domain out and set issuer"
            }
            Self::Hs256NotListed => "algorithms does not list HS256; add it, or leave the file out",
            Self::TwoSecrets => "client_secret_file is set too; keep the file and leave this out",
            Self::SecretNotText => {
                "the client secret is not UTF-8 text; copy it from the application's settings again"
            }
            Self::SecretNotBase64 => {
                "the secret in hs256_secret_file is not base64; write utf8 unless the tenant is from before 2017"
            }
            Self::SecretTooShort => {
                "the secret has fewer than 32 bytes, which HS256 forbids (RFC 7518, section 3.2); use a longer one"
            }
            Self::PolicyFileUnused => {
                "acl is defer, so it would not be used; leave one of the two out"
            }
            Self::AdminNotRead => {
                "rights lists neither permissions nor scope, so no token could have it; add one of the two to rights, or \
                 leave this out"
            }
            Self::TemplateOfSeveral => {
                "it may only name claims that have one value, as in ${tid}:${oid}"
            }
            Self::TemplateOfItself => {
                "it asks for the client ID itself; name a claim, as in device-${sub}"
            }
            Self::TemplateWithoutClaim => {
                "every device would need the same client ID; name a claim, as in device-${sub}"
            }
            Self::Nested => "it names another config_file; put everything in one",
        };
        f.write_str(sentence)
    }
}

impl fmt::Display for AssertionKeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FIX: &str = "give a key in PEM that is not encrypted, RSA as `openssl genrsa 2048` makes it, or P-256";
        match self {
            Self::NotPem(why) => write!(f, "it holds no private key in PEM ({why}); {FIX}"),
            Self::Kind => write!(
                f,
                "it holds neither an RSA key nor one on the curve P-256; {FIX}"
            ),
            Self::Invalid(why) => write!(f, "its key is not valid ({why}); {FIX}"),
            Self::OtherAlgorithm(algorithm) => write!(
                f,
                "{} needs another kind of key; use RS256, RS384 or PS256 with an RSA key, and ES256 with one on P-256",
                algorithm.name()
            ),
            Self::CannotSign => write!(f, "its key cannot sign; {FIX}"),
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => write!(f, "{why}"),
            Self::NoRandomness => write!(f, "{NoRandomness}"),
            Self::NoThread(why) => {
                write!(f, "cannot start a thread to fetch the tenant's keys: {why}")
            }
        }
    }
}

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system gave no random bytes")
    }
}
