//! Which logins may wait while the broker holds their CONNECT: [`crate::pending::client_ids`].

use super::{Common, Engine, Wait};
use crate::{
    client::Client,
    clock::{Unix, moment},
    refusal::{DelayObstacle, PendingDetail, Reason, Refusal},
};

impl Engine {
    /// Returns why this sign-in may not wait under its client ID, if it may not. [`Self::postpone`] is for it then, and
    /// not [`Self::delay`].
    pub fn delay_obstacle(&self, common: &mut Common, wait: &Wait) -> Option<DelayObstacle> {
        let sign_in = &wait.job.sign_in;
        let history = &mut common.client_ids;
        history.obstacle(&sign_in.client.id, sign_in.id_is_free, moment())
    }

    /// Refuses a login and asks the tenant all the same. The client comes in from the login cache when it tries again.
    pub fn postpone(
        &mut self,
        common: &mut Common,
        wait: Box<Wait>,
        why: DelayObstacle,
        now: Unix,
    ) -> Refusal {
        let Wait { job, .. } = *wait;
        let sign_in = job.sign_in.clone();
        let refusal = match self.submit(common, job) {
            Err(refusal) => refusal,
            Ok(()) => Refusal::new(Reason::LoginPending, PendingDetail::MayNotWait(why)),
        };
        self.report_refused_connect(&sign_in, &refusal, now);
        refusal
    }

    /// Reports that the broker hung up on a client that was not admitted. If a login waits under its client ID, the
    /// broker did not ask about this one.
    pub fn hung_up(&mut self, common: &Common, client_id: &str, address: Option<&str>, now: Unix) {
        let Some(ticket) = common.tickets.get(client_id) else {
            return;
        };
        let from = ticket.address.as_deref().map(str::to_owned);
        let refusal = Refusal::new(Reason::ClientIdPending, PendingDetail::HungUp { from });
        let client = Client {
            id: client_id,
            address,
            ..Client::default()
        };
        self.report(&client, &refusal, now);
    }
}
