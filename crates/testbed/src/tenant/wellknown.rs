//! The two public documents below `/.well-known/`.

use serde_json::json;

use crate::json::Members;

/// Returns the discovery document (OpenID Connect Discovery 1.0 section 4), with the members and order of a
/// tenant of 2026. Longer than a screen, because it is one document.
pub(super) fn discovery(issuer: &str) -> Members {
    let at = |path: &str| format!("{issuer}{path}");
    let revocation = at("oauth/global-token-revocation/connection/{connectionName}");
    Members::new()
        .with("issuer", issuer)
        .with("authorization_endpoint", at("authorize"))
        .with("token_endpoint", at("oauth/token"))
        .with("device_authorization_endpoint", at("oauth/device/code"))
        .with("userinfo_endpoint", at("userinfo"))
        .with("mfa_challenge_endpoint", at("mfa/challenge"))
        .with("jwks_uri", at(".well-known/jwks.json"))
        .with("registration_endpoint", at("oidc/register"))
        .with("revocation_endpoint", at("oauth/revoke"))
        .with(
            "scopes_supported",
            words(
                "openid profile offline_access name given_name family_name nickname email \
                 email_verified picture created_at identities phone address",
            ),
        )
        .with(
            "response_types_supported",
            json!([
                "code",
                "token",
                "id_token",
                "code token",
                "code id_token",
                "token id_token",
                "code token id_token"
            ]),
        )
        .with("code_challenge_methods_supported", words("S256 plain"))
        .with(
            "response_modes_supported",
            words("query fragment form_post"),
        )
        .with("subject_types_supported", words("public"))
        .with(
            "token_endpoint_auth_methods_supported",
            words("client_secret_basic client_secret_post private_key_jwt"),
        )
        .with(
            "token_endpoint_auth_signing_alg_values_supported",
            words("RS256 RS384 PS256"),
        )
        .with(
            "claims_supported",
            words(
                "aud auth_time created_at email email_verified exp family_name given_name iat \
                 identities iss name nickname phone_number picture sub",
            ),
        )
        .with("request_uri_parameter_supported", false)
        .with("request_parameter_supported", false)
        .with("backchannel_authentication_endpoint", at("bc-authorize"))
        .with("backchannel_token_delivery_modes_supported", words("poll"))
        .with(
            "id_token_signing_alg_values_supported",
            words("HS256 RS256 PS256"),
        )
        .with("end_session_endpoint", at("oidc/logout"))
        .with("global_token_revocation_endpoint", revocation)
        .with(
            "global_token_revocation_endpoint_auth_methods_supported",
            words("global-token-revocation+jwt"),
        )
        .with("dpop_signing_alg_values_supported", words("ES256"))
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}
