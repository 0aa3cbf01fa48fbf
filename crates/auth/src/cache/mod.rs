//! What is remembered of earlier sign-ins.
//!
//! * [`logins`]: what the tenant said about a user name and password
//! * [`tokens`]: which tokens were verified
//! * [`expiring`]: the table behind both
//! * `generations`: a set that forgets its oldest members

pub(crate) mod expiring;
pub(crate) mod generations;
pub(crate) mod logins;
pub(crate) mod tokens;

#[cfg(test)]
pub(crate) fn test_identity(until: crate::clock::Unix) -> crate::identity::Identity {
    crate::identity::Identity {
        username: "u".into(),
        issuer: crate::account::IssuerNumber::default(),
        account: crate::account::Account {
            issuer: "https://tenant.example/".into(),
            subject: "u".into(),
        },
        client_ids: None,
        token_rules: Default::default(),
        claims: None,
        saved: None,
        until,
        signing_key: Default::default(),
        token_id: None,
    }
}
