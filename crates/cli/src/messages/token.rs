//! Sentences of `token`.

use std::{io, path::Path, process::ExitStatus, time::Duration};

use auth::{
    auth0::token_client::TokenClientError, client_auth::assertion::AssertionKeyProblem,
    clock::Unix, refusal::NoAnswer,
};
use input::text::Quoted;

use crate::{
    output::{Failure, announce, time},
    token::TokenRefusal,
};

pub(crate) fn no_tenant(why: Failure) -> Failure {
    why.fix("name the tenant (--domain or --issuer, --audience, --client-id), or the broker's configuration (--conf)")
}

pub(crate) fn no_audience() -> Failure {
    Failure::new("no API is named, so the tenant would issue a token that no broker can check")
        .fix("give --audience, the identifier of the API")
}

pub(crate) fn no_client_id() -> Failure {
    Failure::new("no application is named").fix("give --client-id, or set the option client_id")
}

pub(crate) fn no_credential() -> Failure {
    Failure::new(
        "the client credentials grant needs the secret or the private key of the application",
    )
    .fix("give --client-secret-file or --private-key-file")
}

pub(crate) fn no_refresh_token() -> Failure {
    Failure::new("there is no refresh token").fix("give --refresh-token-file")
}

pub(crate) fn empty_refresh_token(path: &Path) -> Failure {
    Failure::new(format!("{} holds no refresh token", path.display()))
        .fix("write one into it that the tenant has issued for the scope offline_access")
}

pub(crate) fn secret_is_no_text() -> Failure {
    Failure::new("the client secret is not UTF-8")
}

pub(crate) fn key_cannot_be_used(file: &Path, why: &AssertionKeyProblem) -> Failure {
    Failure::new(format!(
        "the private key in {} cannot be used: {why}",
        file.display()
    ))
}

pub(crate) fn no_client(why: TokenClientError) -> Failure {
    match why {
        TokenClientError::Option(error) => Failure::new(error.to_string()),
        TokenClientError::Discovery(why) => no_answer(&why),
    }
}

pub(crate) fn no_answer(why: &NoAnswer) -> Failure {
    Failure::new(why.to_string()).fix("check the network, the domain and --ca-file, and try again")
}

pub(crate) fn no_token() -> Failure {
    Failure::new("the tenant has answered without a token")
}

pub(crate) fn too_short() -> Failure {
    Failure::new("the tenant issues tokens that end at once")
        .fix("raise the token's lifetime in the API's settings")
}

pub(crate) fn no_device_flow() -> Failure {
    Failure::new("the provider has no device_authorization_endpoint in its discovery document")
        .fix("use another grant: --client-secret-file, --private-key-file or --refresh-token-file")
}

pub(crate) fn nobody_signed_in() -> Failure {
    Failure::new("nobody has signed in before the code ended").fix("run the command again")
}

pub(crate) fn cancelled(refusal: &TokenRefusal) -> Failure {
    Failure::new(format!(
        "the sign-in was cancelled: {}",
        Quoted(&refusal.description)
    ))
    .fix("run the command again, and confirm the code in the browser")
}

/// Returns the tenant's refusal, and how it is fixed in Auth0's dashboard.
pub(crate) fn refused(refusal: TokenRefusal) -> Failure {
    let TokenRefusal {
        status,
        error,
        description,
    } = refusal;
    let what = match (error.as_str(), description.as_str()) {
        ("", _) => format!("the tenant has answered {status}"),
        (error, "") => format!("the tenant refuses: {}", Quoted(error)),
        (error, text) => format!("the tenant refuses: {} ({})", Quoted(text), Quoted(error)),
    };
    let fix = match error.as_str() {
        "unauthorized_client" => {
            "switch the grant on: Applications > Applications > (the application) > Settings > Advanced Settings > \
             Grant Types"
        }
        "access_denied" if description.starts_with("Service not found") => {
            "give the API's identifier as --audience, exactly as Applications > APIs has it, with its slash"
        }
        "access_denied" if status == 403 => {
            "let the application use the API: Applications > APIs > (the API) > Machine to Machine Applications"
        }
        "access_denied" | "invalid_client" => {
            "check the client ID, the secret or key, and the method: Applications > Applications > (the application) > \
             Credentials"
        }
        "invalid_grant" => {
            "get a new refresh token: this one has ended, was revoked, or somebody else has used it (Auth0 then revokes \
             all that came of the same sign-in)"
        }
        _ => return Failure::new(what),
    };
    Failure::new(what).fix(fix)
}

pub(crate) fn no_password_line(file: &Path, connection: Option<&str>) -> Failure {
    let bridge = connection
        .map(|name| format!(" {}", Quoted(name)))
        .unwrap_or_default();
    Failure::new(format!(
        "the bridge{bridge} in {} has no line remote_password",
        file.display()
    ))
    .fix("add the line `remote_password x` to it")
}

pub(crate) fn no_connection_line(file: &Path) -> Failure {
    let file = file.display();
    Failure::new(format!(
        "{file} has no connection line, and more in it than a token"
    ))
    .fix("name the file that has the bridge, or one that is empty or missing")
}

pub(crate) fn same_file(file: &Path) -> Failure {
    Failure::new(format!("{} is named twice", file.display()))
        .fix("give --refresh-token-file, --cache and --watch a file each")
}

pub(crate) fn several_bridges(file: &Path) -> Failure {
    Failure::new(format!(
        "{} has several lines remote_password",
        file.display()
    ))
    .fix("name the bridge with --connection")
}

/// Shows where to sign in, while the command waits.
pub(crate) fn show_code(user_code: &str, page: &str, complete: Option<&str>) {
    let shown = |text: &str| input::text::line(text);
    announce(&format!(
        "To sign in, open {} and enter the code {}",
        shown(page),
        shown(user_code)
    ));
    if let Some(complete) = complete {
        announce(&format!("or open {}", shown(complete)));
    }
}

/// Tells that the file has a new token.
pub(crate) fn written(file: &Path, ends: Unix) {
    let end = time(ends.0.cast_signed());
    announce(&format!(
        "mosquitto-auth0: {} has a new token, which ends at {end}",
        file.display()
    ));
}

/// Tells how the command ended, if it did not end well.
pub(crate) fn ran(command: &str, status: io::Result<ExitStatus>) {
    let why = match status {
        Ok(status) if status.success() => return,
        Ok(status) => status.to_string(),
        Err(why) => why.to_string(),
    };
    announce(&format!(
        "mosquitto-auth0: {} failed: {why}",
        Quoted(command)
    ));
}

/// Tells why there is no new token, and when the next attempt is.
pub(crate) fn try_again(failure: &Failure, wait: Duration) {
    let fix = failure
        .fix
        .as_ref()
        .map(|fix| format!("; fix: {fix}"))
        .unwrap_or_default();
    let what = &failure.what;
    announce(&format!(
        "mosquitto-auth0: {what}{fix}; the next attempt is in {} s",
        wait.as_secs()
    ));
}
