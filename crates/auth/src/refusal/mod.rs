//! Refusals: every reason to refuse a client, in one table, and what was found in one case.

mod detail;
mod reasons;

pub use detail::{
    AccessToken, AnotherIssuer, CertificateProblem, ClaimProblem, ConnectDetail, DelayObstacle,
    Detail, FailedFor, Field, IssuedToken, LimitDetail, LookAt, NoAnswer, Part, PendingDetail,
    ProxyProblem, RenewalDetail, TenantAnswer, TenantBody, TokenDetail,
};
pub use reasons::{ConnackReason, Reason, Responsible};

/// Why a client was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Refusal {
    /// Which row of the table.
    pub reason: Reason,
    /// What was found.
    pub(crate) detail: Detail,
    /// If the reason stands for another one: that one, whose fix helps.
    cause: Option<Reason>,
    /// For how many seconds there is nothing to do but wait.
    pub(crate) wait: Option<u64>,
}

impl Refusal {
    /// Returns a refusal for this reason.
    pub fn new(reason: Reason, detail: impl Into<Detail>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            cause: None,
            wait: None,
        }
    }

    /// Returns the same refusal, where waiting so many seconds is what to try first.
    pub(crate) fn wait_first(self, seconds: u64) -> Self {
        Self {
            wait: Some(seconds),
            ..self
        }
    }

    /// Returns a refusal whose fix is that of `cause`.
    pub(crate) fn caused_by(cause: Reason, reason: Reason, detail: impl Into<Detail>) -> Self {
        Self {
            cause: Some(cause),
            ..Self::new(reason, detail)
        }
    }

    /// Returns what was found.
    pub fn detail(&self) -> &Detail {
        &self.detail
    }

    /// Returns what to do about it.
    pub fn fix(&self) -> &'static str {
        match (self.reason, self.cause) {
            // The tenant has just issued the token, so there is nothing that the device could do.
            (Reason::LoginToken, Some(Reason::TokenExpired | Reason::TokenNotYet)) => {
                Reason::TokenNotYet.fix()
            }
            (Reason::TokenClaims, None) if self.detail.is_missing("aud") => {
                "let the provider put the API into `aud`, in Keycloak by an audience mapper; if it cannot, as Cognito \
                 cannot for access tokens, name the claim that says which application the token is for in \
                 audience_claim"
            }
            (Reason::LoginToken, Some(Reason::TokenIssuer)) => {
                "correct the option issuer: write the token's issuer exactly so (Auth0's ends with a slash)"
            }
            (Reason::TokenAlgorithm, None)
                if matches!(
                    self.detail,
                    Detail::Token(TokenDetail::Algorithm {
                        is_supported: false,
                        ..
                    })
                ) =>
            {
                "make the API sign with an algorithm listed in the option algorithms; this one is not supported"
            }
            (Reason::LoginToken, Some(Reason::TokenAudience)) | (_, None) => self.reason.fix(),
            (_, Some(cause)) => cause.fix(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_that_begins_with_a_wait_says_so_first() {
        let detail = LimitDetail::WrongPasswords {
            times: 3,
            seconds: 10,
        };
        let refusal = Refusal::new(Reason::LoginBackoff, detail).wait_first(10);
        let line = refusal.to_string();
        assert!(
            line.contains("; fix: wait 10 s; if that does not help, correct the device's password"),
            "{line}"
        );
    }
}
