//! What can be wrong with a configuration, as data. `messages/` has the sentences.

use std::path::Path;

use acl::{
    policy_file::{Entry, Mistake, OptionalAttribute},
    rules::Malformed,
};

use super::{mosquitto_conf::ConfPlace, options};
use crate::{
    client_auth::assertion::AssertionKeyProblem, files::FileError, refusal::CertificateProblem,
    state_dir::FolderError,
};

/// The first thing that is wrong with a configuration. Displayed as one line.
#[derive(Debug)]
pub struct ConfigError {
    /// The option's name, as written.
    pub(crate) option: String,
    /// Its value; `None` if it is or may be a secret.
    pub(crate) value: Option<String>,
    /// The file of options that sets it, and the line there, if that is where it is set.
    pub(crate) place: Option<(String, usize)>,
    /// What is wrong.
    pub(crate) problem: Problem,
}

/// What is wrong with an option.
#[derive(Debug)]
pub(crate) enum Problem {
    /// There is no option with this name.
    Unknown {
        /// The option that may be meant.
        nearest: Option<&'static str>,
    },
    /// The value is empty.
    Empty,
    /// The value is in quotes, or has a comment behind it.
    QuotesOrComment,
    /// The option is set twice.
    SetTwice,
    /// The value is none of those that the option takes, as its row in the table says.
    Form,
    /// The address begins with `http://`.
    PlainHttp,
    /// The address holds a user name or a password, which requests do not send.
    LoginInAddress,
    /// The address of the proxy holds a user name or a password.
    CredentialsInAddress,
    /// The file with the proxy's credentials does not hold a user name and a password.
    NotCredentials,
    /// Another option is set that excludes this one.
    Excluded {
        /// The other option.
        by: &'static str,
    },
    /// The option means nothing without another one.
    Alone {
        /// The other option.
        without: &'static str,
    },
    /// The option is for credentials mode, which is off.
    CredentialsModeOff,
    /// Neither `domain` nor `issuer` is set.
    NoDomain,
    /// `audience` is not set.
    NoAudience,
    /// `client_id` is set and no client secret.
    NoClientSecret,
    /// The application is to prove who it is with its private key, and there is none.
    NoAssertionKey,
    /// The application has a private key, which cannot be sent as a secret is.
    KeyIsNoSecret,
    /// The application's private key cannot be used.
    AssertionKey(AssertionKeyProblem),
    /// A client secret or a private key is set and no `client_id`.
    NoClientId,
    /// There is a `domain`, with which nothing is discovered.
    DiscoveryWithDomain,
    /// `algorithms` has HS256, and there is no secret for it.
    NoHs256Secret,
    /// There is a secret for HS256, and `algorithms` does not have it.
    Hs256NotListed,
    /// The client secret is set, and a file with it, too.
    TwoSecrets,
    /// The client secret is not UTF-8 text.
    SecretNotText,
    /// The secret for HS256 is not base64.
    SecretNotBase64,
    /// The secret for HS256 is too short.
    SecretTooShort,
    /// `policy_file` is set, and `acl` leaves decisions to others.
    PolicyFileUnused,
    /// `rights` lists no claim that could have the permission of administrators.
    AdminNotRead,
    /// The template of client IDs is not well formed.
    Template(Malformed),
    /// The template of client IDs refers to the client ID.
    TemplateOfItself,
    /// The template of the user name has a placeholder that is no claim with one value.
    TemplateOfSeveral,
    /// The template of client IDs is the same for every device.
    TemplateWithoutClaim,
    /// The file of options is not TOML.
    NotToml {
        /// The line with the mistake.
        line: usize,
        /// The TOML reader's words, which quote nothing.
        message: String,
    },
    /// The file of options holds a secret, and others can read it.
    SecretInPublicFile(FileError),
    /// The file of options has an option whose value is of a wrong type.
    WrongType {
        /// The option in the file.
        name: String,
        /// Its line.
        line: usize,
    },
    /// The option is in an `[[issuer]]` table, and is about the whole broker.
    NotOfIssuer,
    /// The option is about one issuer, and there are only `[[issuer]]` tables.
    NeedsIssuer,
    /// Two issuers have this `iss`.
    IssuerTwice,
    /// A second issuer has an application.
    TwoApplications,
    /// There are more issuers than this.
    TooManyIssuers {
        /// The limit.
        most: usize,
    },
    /// The file of options names another one.
    Nested,
    /// The file cannot be used.
    File(FileError),
    /// The file that is to be written cannot be opened.
    NotLogged(FileError),
    /// The folder cannot be used.
    Folder(FolderError),
    /// The policy file has a mistake.
    Policy(Box<Mistake>),
    /// A rule or a requirement of the policy file has a condition that never holds, because the broker does not report
    /// what it is about.
    NeverHolds {
        /// The rule or the requirement.
        entry: Entry,
        /// The condition.
        condition: OptionalAttribute,
    },
    /// The file of keys has none that can be used. The sentence says why.
    Keys(String),
    /// The file of certificates is not PEM, for this reason.
    NotPem(String),
    /// The file of certificates has one that cannot be read, for this reason.
    BadCertificate(String),
    /// The file of certificates has none.
    NoCertificate,
    /// The tenant's certificate is not trusted with these authorities, for this reason, which the TLS library words so.
    Untrusted(CertificateProblem, String),
    /// `ca_file` is not set, and this machine trusts no authority.
    NoAuthority,
}

impl ConfigError {
    /// Returns the name of the option, as written.
    pub fn option(&self) -> &str {
        &self.option
    }

    /// Returns where it is, if that is in a file that the configuration names: in the file of options, or in the policy
    /// file.
    pub fn place(&self) -> Option<ConfPlace> {
        let at = |file: &str, line| ConfPlace {
            file: Path::new(file).into(),
            line,
        };
        match (&self.problem, &self.place, &self.value) {
            (Problem::Policy(mistake), _, Some(file)) => Some(at(file, mistake.line)),
            (Problem::NotToml { line, .. } | Problem::WrongType { line, .. }, _, Some(file)) => {
                Some(at(file, *line))
            }
            (_, Some((file, line)), _) => Some(at(file, *line)),
            _ => None,
        }
    }

    /// An option whose value is wrong. The value of a secret option is left out.
    pub(crate) fn new(option: &str, value: &str, problem: Problem) -> Self {
        let is_secret = options::find(option).is_some_and(|option| option.secret);
        Self {
            option: option.into(),
            value: (!is_secret).then(|| value.into()),
            place: None,
            problem,
        }
    }

    /// An option whose value is not shown, because it is or may be a secret, or is missing.
    pub(crate) fn hidden(option: &str, problem: Problem) -> Self {
        Self {
            option: option.into(),
            value: None,
            place: None,
            problem,
        }
    }

    /// Adds the line of the file of options that the option is in.
    pub(super) fn at(self, file: &str, line: usize) -> Self {
        let place = Some((file.to_owned(), line));
        Self { place, ..self }
    }
}

impl Problem {
    /// Whether it is that the option is not set.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::NoDomain
                | Self::NoAudience
                | Self::NoClientSecret
                | Self::NoAssertionKey
                | Self::NoClientId
                | Self::NoHs256Secret
                | Self::NoAuthority
        )
    }
}
