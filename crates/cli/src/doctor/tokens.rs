//! What a token says about the API: its form, whether the plugin takes it, and which rights it carries.

use auth::{
    auth0::{answer::Tokens, examine::Examiner},
    clock::Unix,
    config::IssuerConfig,
    jwt::{Claims, jwks::KeySet},
    refusal::{Detail, Reason, Refusal, TokenDetail},
};
use input::recognise;

use super::finding::{Finding, Which};

/// Examines tokens with the tenant's keys.
pub(super) struct TokenExaminer<'a> {
    pub(super) examiner: &'a Examiner,
    pub(super) issuer: &'a IssuerConfig,
    /// How many seconds clocks may differ.
    pub(super) leeway: u64,
    pub(super) keys: &'a KeySet,
    pub(super) now: Unix,
}

impl TokenExaminer<'_> {
    /// Examines the tokens that the tenant issued for a login. The plugin takes the access token if it is for the
    /// API, and else the ID token.
    pub(super) fn issued(&self, tokens: &Tokens) -> Vec<Finding> {
        let beside_id = tokens.id.is_some();
        let mut findings = Vec::new();
        if let Some(access) = &tokens.access {
            match self.form(access, Which::Access, beside_id) {
                Some(finding) => findings.push(finding),
                None => match self.examiner.verify_access(access, self.keys, self.now) {
                    Ok(claims) => return self.right(Which::Access, &claims),
                    Err(refusal) if refusal.reason == Reason::TokenAudience && beside_id => {
                        findings.push(Finding::IdTokenCounts);
                    }
                    Err(refusal) => return vec![refused(Which::Access, refusal)],
                },
            }
        }
        if let Some(id) = &tokens.id {
            match self.examiner.verify_id(id, self.keys, self.now) {
                Ok(claims) => findings.extend(self.right(Which::Id, &claims)),
                Err(refusal) => findings.push(refused(Which::Id, refusal)),
            }
        }
        findings
    }

    /// Examines a token that a device would send.
    pub(super) fn of_file(&self, token: &str) -> Vec<Finding> {
        let which = Which::OfFile;
        if let Some(finding) = self.form_of_file(token) {
            return vec![finding];
        }
        match self.examiner.verify_access(token, self.keys, self.now) {
            Ok(claims) => self.right(which, &claims),
            Err(refusal) => vec![refused(which, refusal)],
        }
    }

    /// Returns a finding if what a device would send is no token that could be read.
    pub(super) fn form_of_file(&self, token: &str) -> Option<Finding> {
        self.form(token, Which::OfFile, false)
    }

    /// Returns a finding if the token is none that could be read.
    fn form(&self, token: &str, which: Which, beside_id: bool) -> Option<Finding> {
        if token.split('.').count() == 5 {
            return Some(Finding::Encrypted { which });
        }
        let is_opaque = !recognise::is_alone(token.as_bytes());
        is_opaque.then_some(Finding::Opaque { which, beside_id })
    }

    fn right(&self, which: Which, claims: &Claims) -> Vec<Finding> {
        let seconds = claims.until.0.saturating_sub(self.leeway);
        let seconds = seconds.saturating_sub(self.now.0);
        vec![Finding::TokenRight { which, seconds }, self.rights(claims)]
            .into_iter()
            .chain(self.scope(claims))
            .collect()
    }

    fn rights(&self, claims: &Claims) -> Finding {
        let (reading, members) = (&self.issuer.reading, claims.members());
        let names: Vec<_> = reading.members().collect();
        let present = names.iter().filter(|name| members.contains_key(*name));
        let present: Vec<_> = present.cloned().collect();
        if present.is_empty() {
            return Finding::NoRights {
                permissions: reading.permissions,
                claims: names,
            };
        }
        match reading.rules(members) {
            Err(why) => Finding::RightsWrong(why.to_string()),
            Ok(rules) if rules.is_empty() => Finding::EmptyRights { claims: present },
            Ok(rules) => Finding::Rights {
                claims: present,
                rules: rules.len(),
            },
        }
    }

    /// Without RBAC, Auth0 grants every application each scope that it asks for.
    fn scope(&self, claims: &Claims) -> Option<Finding> {
        let counts = self.issuer.reading.scope && claims.get("scope").is_some();
        (counts && claims.get("permissions").is_none()).then_some(Finding::ScopeWithoutRbac)
    }
}

fn refused(which: Which, refusal: Refusal) -> Finding {
    match refusal.detail() {
        Detail::Token(TokenDetail::Encrypted) => Finding::Encrypted { which },
        Detail::Token(TokenDetail::Opaque) => Finding::Opaque {
            which,
            beside_id: false,
        },
        _ => Finding::TokenRefused { which, refusal },
    }
}
