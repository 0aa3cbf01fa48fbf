//! What `check` can find, as data.

use std::path::PathBuf;

use auth::config::mosquitto_conf::{ConfPlace, Unread};

use crate::doctor::finding::Severity;

use super::files::METRICS_FILE;

/// Something that was found, and where.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Where, if it is in a line.
    pub(crate) place: Option<ConfPlace>,
    /// What.
    pub(crate) flaw: Flaw,
}

/// What can be wrong.
#[derive(Clone, Debug)]
pub(crate) enum Flaw {
    /// A part of mosquitto.conf cannot be read.
    Unread(Unread),
    /// This file does not load the plugin.
    NotLoaded(PathBuf),
    /// There is no such file to load.
    NoLibrary(PathBuf),
    /// The plugin is loaded under this name, and no listener uses it.
    NeverUsed(String),
    /// An option of the plugin, in its own words.
    Option(String),
    /// The user that the broker runs as does not exist.
    NoSuchUser(String),
    /// The user that the broker runs as may not use a file or folder.
    Access {
        /// What names it.
        named_by: NamedBy,
        /// The file or folder.
        path: PathBuf,
        /// The user.
        user: String,
        /// What stands in the way.
        obstacle: Obstacle,
    },
    /// The node exporter does not read a file of this name.
    NotCollected(PathBuf),
    /// A listener takes this setting for a sign-in, so that the plugin is not asked.
    CertificateSignsIn(&'static str),
    /// A listener takes the user name as the client ID.
    UsernameAsClientId,
    /// Passwords and tokens cross a network without TLS.
    Plain {
        /// The port.
        port: u16,
        /// What the listener is bound to, if that is not every address.
        address: Option<String>,
    },
    /// Retained messages are checked against the rights of whoever published them.
    RetainSource,
    /// Rules see this in front of each topic.
    MountPoint(String),
    /// Another plugin is asked before.
    AskedBefore(String),
    /// A file of the broker that counts for all listeners is asked before a plugin that serves one.
    FileFirst(&'static str),
    /// Others are to decide (this option), and there are none: on the listener on this port, or on all.
    NobodyElse(&'static str, Option<u16>),
    /// Local users cannot sign in, because the plugin decides first.
    LocalUsersRefused,
    /// An `acl_file` is never asked.
    AclFileIgnored,
    /// Clients without a user name come in past the plugin.
    Anonymous,
    /// A listener has no plugin of its own, and nothing else that decides about its clients.
    Unprotected(u16),
    /// A listener has no plugin of its own, and something else that decides about its clients.
    OtherSignIn(u16),
    /// With `per_listener_settings` the plugin stands above the first listener.
    AboveListeners,
    /// `per_listener_settings` stands below a setting that it is about.
    PerListenerTooLate,
    /// The address of a websockets client counts only with `trusted_proxies`.
    WebsocketAddress,
    /// A proxy tells the addresses, and the listener is not on this machine only.
    ProxyProtocol,
    /// Sessions outlive a restart, and their rights do not.
    RightsLost,
    /// Rights are saved, and the broker saves no sessions.
    NothingToRestore,
    /// Refusals are not in the log.
    RefusalsNotLogged,
    /// A setting is there for the second time, after this place.
    SetTwice(String, ConfPlace),
    /// A listener has the port of another one, which is at this place.
    PortTwice(u16, ConfPlace),
    /// This setting makes a default listener on this port, beside those that are named.
    DefaultListener(String, u16),
    /// There is no listener, so the broker can be reached from this machine only.
    NoListener,
}

/// What names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// An option of the plugin.
    Option(&'static str),
    /// A setting of the broker.
    Setting(&'static str),
}

/// Why a user may not use a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// There is no such file.
    Missing,
    /// It may not enter this folder.
    Enter(PathBuf),
    /// It may not read the file.
    Read,
    /// It may not write in the folder.
    Write,
    /// It may not read and write the file.
    Append,
    /// There is no such file, and it may create none in this folder.
    Create(PathBuf),
    /// It may put no file in place of this one, because it may not write in this folder.
    Replace(PathBuf),
    /// There is no such folder.
    NoFolder(PathBuf),
}

impl Found {
    /// Returns a flaw at a place.
    pub(crate) fn at(place: Option<&ConfPlace>, flaw: Flaw) -> Self {
        Self {
            place: place.cloned(),
            flaw,
        }
    }

    /// Returns how much it matters.
    pub(crate) fn severity(&self) -> Severity {
        self.flaw.code().1
    }

    /// Returns what tells it from others at the same place.
    pub(super) fn text(&self) -> String {
        format!("{:?}", self.flaw)
    }
}

impl Flaw {
    /// Returns its name for programs, and how much it matters.
    pub(crate) fn code(&self) -> (&'static str, Severity) {
        use Severity::{Note, Warning, Wrong};
        match self {
            Self::Unread(_) => ("unread", Wrong),
            Self::NotLoaded(_) => ("not-loaded", Wrong),
            Self::NoLibrary(_) => ("no-library", Wrong),
            Self::NeverUsed(_) => ("never-used", Wrong),
            Self::Option(_) => ("option", Wrong),
            Self::NoSuchUser(_) => ("no-such-user", Warning),
            // The broker starts without a metrics_file that cannot be written.
            Self::Access { named_by, .. } if *named_by == NamedBy::Option(METRICS_FILE) => {
                ("access", Warning)
            }
            Self::Access { .. } => ("access", Wrong),
            Self::NotCollected(_) => ("metrics-not-collected", Warning),
            Self::CertificateSignsIn(_) => ("certificate-signs-in", Wrong),
            Self::UsernameAsClientId => ("username-as-client-id", Warning),
            Self::Plain { .. } => ("plain-listener", Warning),
            Self::RetainSource => ("retain-source", Note),
            Self::MountPoint(_) => ("mount-point", Note),
            Self::AskedBefore(_) => ("asked-before", Warning),
            Self::FileFirst(_) => ("file-first", Warning),
            Self::NobodyElse(..) => ("nobody-else", Wrong),
            Self::LocalUsersRefused => ("local-users-refused", Warning),
            Self::AclFileIgnored => ("acl-file-ignored", Note),
            Self::Anonymous => ("anonymous", Warning),
            Self::Unprotected(_) => ("unprotected-listener", Warning),
            Self::OtherSignIn(_) => ("other-sign-in", Note),
            Self::AboveListeners => ("above-listeners", Wrong),
            Self::PerListenerTooLate => ("per-listener-too-late", Wrong),
            Self::WebsocketAddress => ("websocket-address", Note),
            Self::ProxyProtocol => ("proxy-protocol", Warning),
            Self::RightsLost => ("rights-lost", Warning),
            Self::NothingToRestore => ("nothing-to-restore", Note),
            Self::RefusalsNotLogged => ("refusals-not-logged", Warning),
            Self::SetTwice(..) => ("set-twice", Wrong),
            Self::PortTwice(..) => ("port-twice", Wrong),
            Self::DefaultListener(..) => ("default-listener", Warning),
            Self::NoListener => ("no-listener", Note),
        }
    }
}
