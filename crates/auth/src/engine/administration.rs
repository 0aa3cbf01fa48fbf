//! Commands of administrators.
//!
//! A command waits in [`Common`] until a tick calls [`administer`], which does a bounded part of what is to be done.
//! Where the broker does not tick, it is called when the command comes, and disconnects nobody.

use std::{ops::Bound, sync::Arc};

use super::{Common, Engine, report::Report};
use crate::{
    account::Account,
    client::{ClientKey, ClientView},
    clock::Unix,
    control::{
        command::{
            self, AccountFilter, AdminCommand, ClientIdFilter, CommandError, KickTarget,
            LoginOwner, ParsedCommand,
        },
        requests::{AdminRequest, Administrator, Progress},
        response::{CommandData, CommandResponse, ListedSession},
    },
    identity::Identity,
    sessions::{InstanceId, SessionOverview},
};

/// How many sessions one call looks at. To look at 1,000 takes about 0.2 ms.
const VISITS: usize = 2000;

/// The most clients that are disconnected at one tick. To disconnect one takes the broker a tenth of a millisecond.
const MAX_KICKS: usize = 50;

/// How many bytes of text a page of sessions has, before it ends early.
const MAX_PAGE: usize = 32 * 1024;

/// What came of commands.
#[derive(Default)]
#[must_use]
pub struct Administered {
    /// The clients to disconnect.
    pub kicks: Vec<(ClientKey, Arc<str>)>,
    /// The answers.
    pub answers: Vec<AdminAnswer>,
}

/// An answer, and who gets it. Displayed as JSON.
pub struct AdminAnswer {
    /// Who gets it.
    pub to: AnswerTo,
    /// What came of each command, or why none could be read.
    pub(crate) content: Result<Vec<CommandResponse>, CommandError>,
}

/// Who gets an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerTo {
    /// The client with this client ID.
    Client(Arc<str>),
    /// Whoever made the request with this number on this machine.
    Local(u64),
}

impl Common {
    /// Whether commands wait.
    pub fn has_commands(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Takes commands of root or the broker's user. `number` tells their answer apart from others.
    pub fn command_locally(&mut self, number: u64, request: &[u8]) -> Option<AdminAnswer> {
        self.take_commands(Administrator::Local(number), request)
    }

    /// Takes commands. Returns the answer if they cannot even be read.
    fn take_commands(&mut self, from: Administrator, request: &[u8]) -> Option<AdminAnswer> {
        let to = from.answer_to();
        let added = command::parse(request).and_then(|commands| self.requests.add(from, commands));
        let content = Err(added.err()?);
        Some(AdminAnswer { to, content })
    }
}

impl Administrator {
    fn answer_to(&self) -> AnswerTo {
        match self {
            Self::Client { client_id, .. } => AnswerTo::Client(Arc::clone(client_id)),
            Self::Local(number) => AnswerTo::Local(*number),
        }
    }

    /// Whether a session of this instance concerns the administrator.
    fn sees(&self, of: InstanceId) -> bool {
        match self {
            Self::Client { instance, .. } => *instance == of,
            Self::Local(_) => true,
        }
    }
}

impl Engine {
    /// Takes commands that a client has published. Whoever is no administrator gets no answer.
    pub fn command(
        &mut self,
        common: &mut Common,
        key: ClientKey,
        client: &impl ClientView,
        request: &[u8],
        now: Unix,
    ) -> Option<AdminAnswer> {
        let from = common.sessions.look(key, client, |found| {
            let session = found.session;
            let may = found.connected && now < session.until && session.rights.administers();
            may.then(|| Administrator::Client {
                key,
                client_id: Arc::clone(&session.client_id),
                username: Arc::clone(&session.username),
                instance: session.instance,
            })
        });
        common.take_commands(from.flatten()?, request)
    }

    /// Fetches the tenant's keys soon, or reads their file again.
    fn refresh_keys(&self) -> Result<(), CommandError> {
        match super::keys_from_file(&self.config) {
            Ok(Some(set)) => self.keys.replace(set),
            Ok(None) => self.keys.refresh_soon(),
            Err(why) => return Err(CommandError::Keys(why.to_string())),
        }
        Ok(())
    }

    /// Forgets the logins and the tokens of a user. Returns how many.
    fn forget_login(&mut self, owner: &LoginOwner) -> (usize, usize) {
        let is_owner = |identity: &Identity| match owner {
            // Auth0 takes `Device` for `device`.
            LoginOwner::Username(name) => {
                name.trim().to_lowercase() == identity.username.trim().to_lowercase()
            }
            LoginOwner::Account(account) => account.is(&identity.account),
        };
        let logins = self.login_cache.forget(is_owner);
        (logins, self.token_cache.forget(is_owner))
    }
}

/// Executes a part of the commands that wait. `ticks` says whether the broker ticks, so that clients can be
/// disconnected; without ticks all commands are executed at once.
pub fn administer(engines: &mut [&mut Engine], common: &mut Common, ticks: bool) -> Administered {
    let mut done = Administered::default();
    let mut visits = VISITS;
    while (visits > 0 || !ticks)
        && let Some(mut request) = common.requests.take_oldest()
    {
        let Some(next) = request.commands.pop_front() else {
            done.answers.extend(finished(common, request));
            continue;
        };
        let mut execution = Execution {
            engines,
            common,
            from: &request.from,
            ticks,
            visits: &mut visits,
            kicks: &mut done.kicks,
        };
        match execution.execute(&next, &mut request.progress) {
            Some(result) => {
                execution.tell(&next, &result);
                request.responses.push(CommandResponse {
                    name: next.name,
                    correlation: next.correlation,
                    result,
                });
                request.progress = Progress::default();
            }
            None => request.commands.push_front(next),
        }
        common.requests.put_back(request);
    }
    done
}

/// Returns the answer to a request, if the client that made it is still there.
fn finished(common: &Common, request: AdminRequest) -> Option<AdminAnswer> {
    if let Administrator::Client { key, client_id, .. } = &request.from
        && common.sessions.still_connected(*key, client_id).is_none()
    {
        return None;
    }
    Some(AdminAnswer {
        to: request.from.answer_to(),
        content: Ok(request.responses),
    })
}

/// What a command works with.
struct Execution<'e, 'a> {
    engines: &'e mut [&'a mut Engine],
    common: &'e mut Common,
    from: &'e Administrator,
    ticks: bool,
    /// How many sessions may still be looked at.
    visits: &'e mut usize,
    kicks: &'e mut Vec<(ClientKey, Arc<str>)>,
}

impl<'a> Execution<'_, 'a> {
    /// Executes a command. Returns `None` if it is to be continued.
    fn execute(
        &mut self,
        parsed: &ParsedCommand,
        progress: &mut Progress,
    ) -> Option<Result<CommandData, CommandError>> {
        let command = match &parsed.command {
            Ok(command) => command,
            Err(why) => return Some(Err(why.clone())),
        };
        *self.visits = self.visits.saturating_sub(1);
        Some(match command {
            AdminCommand::ListSessions {
                account,
                client_ids,
                count,
                cursor,
            } => Ok(self.list(account.as_ref(), client_ids, *count, cursor.as_deref())),
            AdminCommand::Kick(_) if !self.ticks => Err(CommandError::NoTicks),
            AdminCommand::Kick(KickTarget::ClientId(client_id)) => self.kick(client_id),
            AdminCommand::Kick(KickTarget::Account(account)) => {
                match self.kick_some(account, progress) {
                    true => Ok(CommandData::Kicked(progress.kicked)),
                    false => return None,
                }
            }
            AdminCommand::ForgetLogin(owner) => {
                *self.visits = 0;
                let (mut logins, mut tokens) = (0, 0);
                for engine in self.engines() {
                    let forgotten = engine.forget_login(owner);
                    logins += forgotten.0;
                    tokens += forgotten.1;
                }
                Ok(CommandData::Forgotten { logins, tokens })
            }
            AdminCommand::ReleaseClientId(client_id) => self.release(client_id),
            AdminCommand::RefreshKeys => {
                let refreshed = self.engines().try_for_each(|engine| engine.refresh_keys());
                refreshed.map(|()| CommandData::KeysRefreshed)
            }
        })
    }

    /// Returns the instances that concern the administrator.
    fn engines(&mut self) -> impl Iterator<Item = &mut &'a mut Engine> {
        let from = self.from;
        let engines = self.engines.iter_mut();
        engines.filter(move |engine| from.sees(engine.id))
    }

    /// Returns a page of sessions. It ends early if it is long, or if many others lie between those that are meant.
    fn list(
        &mut self,
        account: Option<&AccountFilter>,
        filter: &ClientIdFilter,
        count: usize,
        cursor: Option<&str>,
    ) -> CommandData {
        let first = filter.first();
        let from = match cursor {
            Some(cursor) if cursor >= first => Bound::Excluded(cursor),
            _ => Bound::Included(first),
        };
        let client_ids = self.common.sessions.in_order(from);
        let mut client_ids = client_ids.take_while(|(id, _)| filter.has(id)).peekable();
        let (mut sessions, mut bytes, mut visited) = (Vec::new(), 0, 0);
        let mut cursor = None;
        while let Some((client_id, found)) = client_ids.next() {
            visited += 1;
            if let Some(found) = found.filter(|found| self.from.sees(found.session.instance))
                && account.is_none_or(|account| account.is(&found.session.account))
            {
                let listed = ListedSession::from(found);
                bytes += listed.text_length();
                sessions.push(listed);
            }
            if sessions.len() >= count || bytes >= MAX_PAGE || visited >= VISITS {
                cursor = client_ids.peek().map(|_| Arc::clone(client_id));
                break;
            }
        }
        *self.visits = self.visits.saturating_sub(visited);
        CommandData::Sessions { sessions, cursor }
    }

    fn kick(&mut self, client_id: &str) -> Result<CommandData, CommandError> {
        match self.visible(client_id) {
            Some(found) if found.connected => {
                let kick = (found.key, Arc::clone(&found.session.client_id));
                self.kicks.push(kick);
                Ok(CommandData::Kicked(1))
            }
            _ => Err(CommandError::NotConnected(client_id.to_owned())),
        }
    }

    /// Disconnects the next clients of an account. Returns whether these were the last.
    fn kick_some(&mut self, account: &AccountFilter, progress: &mut Progress) -> bool {
        let cursor = progress.cursor.clone();
        let from = match cursor.as_deref() {
            Some(cursor) => Bound::Excluded(cursor),
            None => Bound::Unbounded,
        };
        for (client_id, found) in self.common.sessions.in_order(from) {
            if *self.visits == 0 || self.kicks.len() >= MAX_KICKS {
                *self.visits = 0;
                return false;
            }
            *self.visits -= 1;
            progress.cursor = Some(Arc::clone(client_id));
            if let Some(found) = found.filter(|found| self.from.sees(found.session.instance))
                && found.connected
                && account.is(&found.session.account)
            {
                let client_id = Arc::clone(&found.session.client_id);
                self.kicks.push((found.key, client_id));
                progress.kicked += 1;
            }
        }
        true
    }

    fn release(&mut self, client_id: &str) -> Result<CommandData, CommandError> {
        let connected = self.visible(client_id).map(|found| found.connected);
        if connected == Some(true) {
            return Err(CommandError::StillConnected(client_id.to_owned()));
        }
        if connected.is_none() && !self.sees_saved(client_id) {
            return Err(CommandError::NoSession(client_id.to_owned()));
        }
        self.common.sessions.release(client_id);
        self.common.saved.release(client_id);
        Ok(CommandData::Released)
    }

    /// Whether a session is saved under this client ID that concerns the administrator.
    fn sees_saved(&mut self, client_id: &str) -> bool {
        let saved = self.common.saved.get(client_id);
        let account = saved.map(|saved| saved.account());
        account.is_some_and(|account| self.engines().any(|engine| engine.trusts(&account)))
    }

    /// Returns the session with this client ID, if it concerns the administrator.
    fn visible(&self, client_id: &str) -> Option<SessionOverview<'_>> {
        let found = self.common.sessions.find(client_id)?;
        self.from.sees(found.session.instance).then_some(found)
    }

    /// Writes into the log who commanded what, and what came of it.
    fn tell(&mut self, parsed: &ParsedCommand, result: &Result<CommandData, CommandError>) {
        let from = self.from;
        if let Some(engine) = self.engines().next() {
            engine.tell(&Report::Commanded {
                from,
                command: parsed,
                result,
            });
        }
    }
}

impl AccountFilter {
    /// Whether this account is meant.
    fn is(&self, account: &Account) -> bool {
        *account.subject == *self.subject
            && self
                .issuer
                .as_deref()
                .is_none_or(|issuer| issuer == &*account.issuer)
    }
}

impl From<SessionOverview<'_>> for ListedSession {
    fn from(found: SessionOverview<'_>) -> Self {
        let session = found.session;
        Self {
            client_id: Arc::clone(&session.client_id),
            username: Arc::clone(&session.username),
            issuer: Arc::clone(&session.account.issuer),
            subject: Arc::clone(&session.account.subject),
            connected: found.connected,
            released: found.released,
            until: session.until,
        }
    }
}
