//! What `check` says.

use std::fmt;

use auth::config::mosquitto_conf::{ConfPlace, Unread};
use input::text::Quoted;

use super::doctor::{Words, seen};
use crate::check::flaw::{Flaw, NamedBy, Obstacle};

/// Returns where something is, as compilers write it.
pub(crate) fn place(place: &ConfPlace) -> String {
    format!("{}:{}", place.file.display(), place.line)
}

/// Returns what was found, what it means for devices, and how to fix it.
// Longer than a screen, because it has one entry for each flaw.
pub(crate) fn words(flaw: &Flaw) -> Words {
    match flaw {
        Flaw::Unread(why) => of_unread(why),
        Flaw::NotLoaded(path) => seen(format!(
            "{} and the files that it includes do not load mosquitto-auth0",
            path.display()
        ))
        .fix(
            "add the line `plugin /usr/lib/…/mosquitto_auth0.so`, or name the file \
                 that has it",
        ),
        Flaw::NoLibrary(path) => seen(format!("there is no file {}", path.display()))
            .means("the broker does not start")
            .fix("correct the path, or install the package"),
        Flaw::NeverUsed(name) => seen(format!(
            "the plugin is loaded as {}, and no listener uses it",
            Quoted(name)
        ))
        .means("nobody signs in with Auth0")
        .fix(format!("write `plugin_use {name}` below a listener")),
        Flaw::Option(text) => seen(text.clone()),
        Flaw::NoSuchUser(name) => seen(format!(
            "there is no user {} on this machine, so nothing says which files the \
                 broker may read",
            Quoted(name)
        ))
        .fix("run this where the broker runs"),
        Flaw::Access {
            named_by,
            path,
            user,
            obstacle,
        } => of_access(*named_by, &path.display(), user, obstacle),
        Flaw::CertificateSignsIn(word) => seen(format!("{word} makes the certificate the sign-in"))
            .means(
                "a device with a certificate of this authority comes in without a token \
                 or a password, and the plugin is not asked",
            )
            .fix(format!(
                "leave out {word}; a rule of the policy file can ask for the certificate \
                 (when.certificate)"
            )),
        Flaw::UsernameAsClientId => {
            seen("use_username_as_clientid makes the user name the client ID")
                .means(
                    "devices that send a token with the user name JWT all have the client ID \
                 JWT, and disconnect each other",
                )
                .fix(
                    "leave it out, and bind client IDs to tokens (client_id_claim or \
                 client_id_template)",
                )
        }
        Flaw::Plain { port, address } => {
            let at = address.as_ref().map_or_else(
                || "every address".to_owned(),
                |one| format!("{}", Quoted(one)),
            );
            seen(format!(
                "the listener on port {port} is bound to {at}, without TLS"
            ))
            .means("passwords and tokens can be read on their way")
            .fix(format!(
                "add certfile and keyfile. If all clients are on this machine, bind the listener to it: \
                 `listener {port} 127.0.0.1`"
            ))
        }
        Flaw::RetainSource => seen(
            "check_retain_source checks retained messages against the rights of \
                 whoever published them",
        )
        .means(
            "a retained message of a device that no longer has rights, or has not \
                 come back since a restart, is not delivered",
        )
        .fix("leave it out if that is not meant"),
        Flaw::MountPoint(value) => seen(format!(
            "the listener puts {} in front of each topic",
            Quoted(value)
        ))
        .means("rules are about the topic with the mount point")
        .fix(
            "begin the filters of rules with it; `can --port` does the same with its \
                 questions",
        ),
        Flaw::AskedBefore(path) => seen(format!(
            "the plugin {} is asked before this one",
            Quoted(path)
        ))
        .means("where it decides, this one is not asked")
        .fix("put the line of this plugin above it, unless that is meant"),
        Flaw::FileFirst(word) => seen(format!(
            "the {word} counts for all listeners, so it is asked before a plugin that plugin_use gives to one"
        ))
        .means(match *word {
            "password_file" => "a user name that is not in it is refused, and the plugin is not asked",
            _ => "it decides about all messages, and the plugin is not asked",
        })
        .fix(format!(
            "load the plugin with `plugin` in place of plugin_load and plugin_use; or begin with \
             `per_listener_settings true`, and move the {word} below the listener that it is for"
        )),
        Flaw::NobodyElse(option, port) => seen(format!(
            "{option} is defer, and {}there is no other plugin and no acl_file that could decide",
            port.map_or_else(String::new, |port| format!("on the listener on port {port} "))
        ))
        .means("the broker denies all that is left to others")
        .fix(format!(
            "add an acl_file or another plugin, or leave out {option}"
        )),
        Flaw::LocalUsersRefused => seen("there is a password_file, and on_other is deny")
            .means("the users in it cannot sign in, because this plugin refuses them first")
            .fix("set plugin_opt_on_other defer, or remove the password_file"),
        Flaw::AclFileIgnored => {
            seen("there is an acl_file, and this plugin decides about every client itself")
                .means("the acl_file is never asked")
                .fix("set plugin_opt_acl defer if it is to decide, or remove it")
        }
        Flaw::Anonymous => seen("allow_anonymous is true, and on_other is defer")
            .means("a client without a user name connects without signing in")
            .fix("set allow_anonymous false"),
        Flaw::SetTwice(word, before) => seen(format!(
            "{word} is set for the second time, after {}",
            place(before)
        ))
        .means("the broker does not start (Duplicate value in configuration)")
        .fix("remove one of the two lines"),
        Flaw::PortTwice(port, before) => seen(format!(
            "the listener at {} has the port {port} already",
            place(before)
        ))
        .means("the broker does not start (Address already in use)")
        .fix("remove one of the two listeners, or give one another port"),
        Flaw::Unprotected(port) => seen(format!(
            "the listener on port {port} has no line for this plugin, and nothing else that signs clients in"
        ))
        .means("nobody signs in with Auth0 there, and no rule of the plugin holds")
        .fix(
            "write the line `plugin …` and its options (2.1: or `plugin_use`) below this listener, too; or give it a \
             password_file and an acl_file of its own",
        ),
        Flaw::OtherSignIn(port) => seen(format!(
            "the listener on port {port} does not use this plugin; the broker's own settings or another plugin decide \
             about its clients"
        ))
        .means("nobody signs in with Auth0 there, and no rule of the plugin holds"),
        Flaw::AboveListeners => {
            seen("with per_listener_settings the plugin is named above the first listener")
                .means("it counts for no listener that is named below; 2.1 does not start")
                .fix("move it below the listener that it is for")
        }
        Flaw::PerListenerTooLate => {
            seen("per_listener_settings stands below settings that it is about")
                .means("the broker does not start")
                .fix("make it the first line")
        }
        Flaw::WebsocketAddress => {
            seen("a listener takes websockets, and trusted_proxies is not set")
                .means(
                    "2.0.15 and later read the address of such a device from a header that it \
                 writes itself, so the device counts as having none: limits by address \
                 and when.network do not reach it",
                )
                .fix(
                    "set plugin_opt_trusted_proxies to the proxies in front of it, or to \
                 127.0.0.1 if there are none",
                )
        }
        Flaw::ProxyProtocol => seen(
            "enable_proxy_protocol lets whoever connects tell the address of the \
                 device",
        )
        .means(
            "limits by address and when.network hold nobody back who reaches the \
                 listener past the proxy; 2.0 does not know the setting",
        )
        .fix("bind the listener to an address that only the proxy reaches"),
        Flaw::RightsLost => seen("persistence is true, and state_dir is not set")
            .means(
                "after a restart the broker has its sessions and the plugin does not have \
                 their rights: messages for devices that are away are lost",
            )
            .fix("set plugin_opt_state_dir /var/lib/mosquitto/auth0, or another folder of the broker's user"),
        Flaw::NothingToRestore => seen("state_dir is set, and persistence is not true")
            .means("the broker has no sessions after a restart, so only keys are kept"),
        Flaw::NotCollected(path) => seen(format!(
            "option metrics_file: the node exporter reads files only whose names end in .prom, and not {}",
            path.display()
        ))
        .fix(format!("write {}", path.with_extension("prom").display())),
        Flaw::RefusalsNotLogged => seen("log_type leaves out notice or warning")
            .means("the reasons of refusals are not in the log")
            .fix("add `log_type notice` and `log_type warning`"),
        Flaw::DefaultListener(word, port) => seen(format!(
            "{word} is set above the listeners, so Mosquitto also opens a default listener on port {port}"
        ))
        .means("devices can connect to a port that no line `listener` names")
        .fix("move it below the listener that it is for"),
        Flaw::NoListener => seen("there is no listener")
            .means("the broker can be reached from this machine only")
            .fix("add a line such as `listener 8883`"),
    }
}

/// Returns why not all of a configuration could be read, what that means, and how to fix it.
pub(crate) fn of_unread(why: &Unread) -> Words {
    let starts_not = "the broker does not start";
    match why {
        Unread::File(path, why) => seen(format!("{} cannot be read: {why}", path.display()))
            .means(starts_not)
            .fix("correct the path or the permissions, or run this with sudo"),
        Unread::TooManyFiles => {
            seen("there are more than 100 files; the others were not looked at")
        }
        Unread::IncludeInIncluded => seen("include_dir is allowed in the main file only")
            .means(starts_not)
            .fix("remove the line"),
        Unread::OptionWithoutPlugin(word) => seen(format!(
            "{} belongs to no plugin: the same file names none above it",
            Quoted(word)
        ))
        .means(starts_not)
        .fix("move it below the line `plugin …`, in the same file"),
        Unread::NoSuchPlugin(name) => seen(format!(
            "plugin_use names {}, which no plugin_load above it does",
            Quoted(name)
        ))
        .means(starts_not)
        .fix("correct the name"),
    }
}

fn of_access(named_by: NamedBy, path: &dyn fmt::Display, user: &str, obstacle: &Obstacle) -> Words {
    let name = match named_by {
        NamedBy::Option(name) => format!("option {name}"),
        NamedBy::Setting(name) => name.to_owned(),
    };
    let copy = format!(
        "copy it to where {user} can read it, again whenever it changes (a certificate that is renewed), and name the \
         copy; run: install -m 640 -g {user} {path} /etc/mosquitto/"
    );
    let words = match obstacle {
        Obstacle::Missing => seen(format!("{name}: there is no file {path}"))
            .fix("correct the path, or create the file"),
        // Others may need the folder, or the group of the file, as they are.
        Obstacle::Enter(folder) => seen(format!(
            "{name}: the user {user} cannot enter {}, so it cannot use {path}",
            folder.display()
        ))
        .fix(match named_by {
            NamedBy::Option("state_dir" | "metrics_file" | "decision_log") => {
                format!("choose a folder that {user} can enter, such as /var/lib/mosquitto")
            }
            _ => copy,
        }),
        Obstacle::Read => {
            seen(format!("{name}: the user {user} cannot read {path}")).fix(match named_by {
                NamedBy::Option(_) => format!("run: chgrp {user} {path} && chmod g+r {path}"),
                NamedBy::Setting(_) => copy,
            })
        }
        Obstacle::Append => seen(format!(
            "{name}: the user {user} cannot read and write {path}"
        ))
        .fix(format!("run: chown {user} {path} && chmod u+rw {path}")),
        Obstacle::Create(folder) => seen(format!(
            "{name}: there is no file {path}, and the user {user} cannot create it in {}",
            folder.display()
        ))
        .fix("name a file in a folder of that user, such as /var/log/mosquitto"),
        Obstacle::Replace(folder) => {
            let folder = folder.display();
            seen(format!(
                "{name}: the user {user} cannot write in {folder}, so it cannot write {path}"
            ))
            .fix(format!("run: chgrp {user} {folder} && chmod g+w {folder}"))
        }
        Obstacle::NoFolder(folder) => {
            let folder = folder.display();
            seen(format!("{name}: there is no folder {folder}")).fix(format!(
                "run: install -d -o {user} -g {user} -m 750 {folder}"
            ))
        }
        Obstacle::Write => seen(format!("{name}: the user {user} cannot write in {path}"))
            .fix(format!("run: install -d -o {user} -g {user} -m 700 {path}")),
    };
    words.means(match named_by {
        NamedBy::Option("metrics_file") => "the broker starts, and no metrics are written",
        _ => "the broker does not start",
    })
}
