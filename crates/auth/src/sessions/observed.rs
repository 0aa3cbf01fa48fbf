//! What the decision log and the shadow policy need of a session.

use std::sync::Arc;

use crate::decision_log::SessionFacts;
use acl::{explanation::RuleName, rights::Rights};

/// What the decision log and the shadow policy need of a session.
#[derive(Debug)]
pub(crate) struct Observed {
    /// What is the same in all decisions about it.
    pub facts: Arc<SessionFacts>,
    /// What its client might do by the shadow policy, if there was one when it signed in. `Err` has the rule because of
    /// which that policy refuses the client.
    pub shadow: Option<Result<Rights, RuleName>>,
}
