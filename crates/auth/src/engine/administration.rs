//! Commands of administrators.
//!
//! A command waits in [`Common`] until a tick calls [`administer`], which does a bounded part of what is to be done.
//! Where the broker does not tick, it is called when the command comes, and disconnects nobody.

use std::{
    collections::HashMap,
    ops::Bound,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{Common, Engine, report::Report};
use crate::{
    account::Account,
    client::{ClientKey, ClientView},
    clock::{Deadline, Unix},
    control::{
        command::{
            self, AccountFilter, AdminCommand, ClientIdFilter, CommandError, KickTarget,
            LoginOwner, ParsedCommand,
        },
        requests::{AdminRequest, AdminRequests, Administrator, Progress},
        response::{CommandData, CommandResponse, ListedSession, Responses},
        socket::{LocalSocket, SocketReport},
    },
    identity::Identity,
    saved_sessions::Saved,
    sessions::{InstanceId, SessionOverview},
};

/// How many sessions one call looks at, while the broker serves nobody.
const VISITS: usize = 1000;

/// The most clients that are disconnected at one tick. To disconnect one takes the broker a tenth of a millisecond.
const MAX_KICKS: usize = 50;

/// How long a command waits for the file of keys. Other commands wait as long.
const KEYS_WITHIN: Duration = Duration::from_secs(5);

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

/// An answer for a client. Displayed as JSON.
pub struct AdminAnswer {
    /// The client ID.
    pub client_id: Arc<str>,
    /// What came of the request.
    pub(crate) content: Responses,
}

/// Commands of administrators that wait, and who waits for them on this machine.
#[derive(Default)]
pub(super) struct Administration {
    requests: AdminRequests,
    /// Where the answers to local requests go, by their numbers.
    local: HashMap<u64, mpsc::Sender<String>>,
    /// The folders whose socket is open, or has been.
    folders: Vec<PathBuf>,
}

impl Administration {
    /// Takes commands. Returns the answer if they cannot even be read.
    fn take(&mut self, from: Administrator, request: &[u8]) -> Option<AdminAnswer> {
        let parsed = command::parse(request);
        let why = parsed.and_then(|commands| self.requests.add(from.clone(), commands));
        self.answer(&from, Responses(Err(why.err()?)))
    }

    /// Answers whoever waits on this machine. Returns the answer for anybody else.
    fn answer(&mut self, to: &Administrator, content: Responses) -> Option<AdminAnswer> {
        match to {
            Administrator::Client { client_id, .. } => Some(AdminAnswer {
                client_id: Arc::clone(client_id),
                content,
            }),
            Administrator::Local(number) => {
                if let Some(answer) = self.local.remove(number) {
                    // Whoever asked may have gone.
                    let _ = answer.send(content.to_string());
                }
                None
            }
        }
    }
}

impl Common {
    /// Whether commands wait.
    pub fn has_commands(&self) -> bool {
        !self.administration.requests.is_empty()
    }
}

impl Administrator {
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
        common.administration.take(from.flatten()?, request)
    }

    /// Opens the socket in `state_dir`, if the option is set. Instances with the same folder share the socket of the
    /// first.
    pub(super) fn open_socket(&mut self, common: &mut Common) {
        let Some(dir) = &self.config.state_dir else {
            return;
        };
        let (folder, folders) = (dir.path_of(""), &mut common.administration.folders);
        if folders.contains(&folder) {
            return;
        }
        match LocalSocket::start(dir.clone(), self.spawn, self.log.clone()) {
            Ok(socket) => {
                folders.push(folder);
                self.socket = Some(socket);
            }
            Err(why) => {
                let report = SocketReport::Failed(folder, why);
                self.log.line(report.level(), report.to_string());
            }
        }
    }

    /// Whether commands have come through the socket.
    pub fn has_local_commands(&self) -> bool {
        self.socket.as_ref().is_some_and(LocalSocket::has_requests)
    }

    /// Takes the commands that have come through the socket.
    pub fn take_local_commands(&mut self, common: &mut Common) {
        let requests = self.socket.as_ref().map(LocalSocket::take_requests);
        for request in requests.unwrap_or_default() {
            let administration = &mut common.administration;
            administration.local.insert(request.number, request.answer);
            administration.take(Administrator::Local(request.number), &request.line);
        }
    }

    /// Forgets the logins and the tokens of a user. Returns how many.
    fn forget_login(&mut self, owner: &LoginOwner) -> (usize, usize) {
        let is_owner = |identity: &Identity| match owner {
            // Auth0 takes `Device` for `device`.
            LoginOwner::Username(name) => lower(name).eq(lower(&identity.username)),
            LoginOwner::Account(account) => account.is(&identity.account),
        };
        let logins = self.login_cache.forget(is_owner);
        (logins, self.token_cache.forget(is_owner))
    }
}

/// Returns a user name as the tenant compares it. All that is remembered is looked at, so nothing is allocated.
fn lower(username: &str) -> impl Iterator<Item = char> {
    username.trim().chars().flat_map(char::to_lowercase)
}

/// Executes a part of the commands that wait. `ticks` says whether the broker ticks, so that clients can be
/// disconnected; without ticks all commands are executed at once.
pub fn administer(engines: &mut [&mut Engine], common: &mut Common, ticks: bool) -> Administered {
    let mut done = Administered::default();
    let mut visits = VISITS;
    while (visits > 0 || !ticks)
        && let Some(mut request) = common.administration.requests.take_oldest()
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
        common.administration.requests.put_back(request);
    }
    done
}

/// Answers a request. A client that has gone gets no answer.
fn finished(common: &mut Common, request: AdminRequest) -> Option<AdminAnswer> {
    if let Administrator::Client { key, client_id, .. } = &request.from
        && common.sessions.still_connected(*key, client_id).is_none()
    {
        return None;
    }
    let content = Responses(Ok(request.responses));
    common.administration.answer(&request.from, content)
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
        if matches!(command, AdminCommand::Kick(_)) && self.kicks.len() >= MAX_KICKS {
            *self.visits = 0;
            return None;
        }
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
            AdminCommand::RefreshKeys => return self.refresh_keys(progress),
        })
    }

    /// Returns the instances that concern the administrator.
    fn engines(&mut self) -> impl Iterator<Item = &mut &'a mut Engine> {
        let from = self.from;
        let engines = self.engines.iter_mut();
        engines.filter(move |engine| from.sees(engine.id))
    }

    /// Has the keys of all instances fetched soon, or their files read. Returns `None` while a file is being read.
    fn refresh_keys(
        &mut self,
        progress: &mut Progress,
    ) -> Option<Result<CommandData, CommandError>> {
        // That is all for this tick: where there is no thread to be had, files are read at once.
        *self.visits = 0;
        let ticks = self.ticks;
        let deadline = progress.deadline.unwrap_or_else(|| {
            self.engines().for_each(|engine| engine.refresh_keys(ticks));
            Deadline::after(KEYS_WITHIN)
        });
        progress.deadline = Some(deadline);
        let mut refreshed = Ok(CommandData::KeysRefreshed);
        for engine in self.engines() {
            match engine.keys_refreshed() {
                None if deadline.has_passed() => refreshed = Err(CommandError::KeysSlow),
                None => return None,
                Some(Ok(())) => {}
                Some(Err(why)) => refreshed = Err(why),
            }
        }
        Some(refreshed)
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
        let of_table = self.common.sessions.in_order(from);
        let of_file = self.common.saved.in_order(from);
        let client_ids = in_order(of_table, of_file);
        let mut client_ids = client_ids.take_while(|(id, ..)| filter.has(id)).peekable();
        let (mut sessions, mut bytes, mut visited) = (Vec::new(), 0, 0);
        let mut cursor = None;
        while let Some((client_id, found, saved)) = client_ids.next() {
            visited += 1;
            let listed = match (found.flatten(), saved.flatten()) {
                (Some(found), _) => (self.from.sees(found.session.instance)).then(|| found.into()),
                (None, Some(saved)) => self.saved(client_id, &saved),
                (None, None) => None,
            };
            if let Some(listed) = listed
                && account.is_none_or(|account| account.is(&listed.account))
            {
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

    /// Returns a session that was saved before the broker started, if it concerns the administrator.
    fn saved(&self, client_id: &Arc<str>, saved: &Saved<'_>) -> Option<ListedSession> {
        let account = saved.account();
        let mut engines = self.engines.iter();
        let issuer = engines.find_map(|engine| {
            let issuer = engine.issuers.of_account(&account);
            let issuer = issuer.filter(|_| self.from.sees(engine.id))?;
            Some(&engine.issuers[issuer].config)
        })?;
        Some(ListedSession {
            client_id: Arc::clone(client_id),
            username: issuer.username_for_broker(&saved.session.username),
            account,
            connected: false,
            restored: true,
            released: false,
            until: saved.session.until,
        })
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
        let is_known = connected.is_some() || self.sees_saved(client_id);
        // The broker may have restored a session of which nothing is known, and whose instance neither.
        if !is_known && !self.sees_all() {
            return Err(CommandError::NoSession(client_id.to_owned()));
        }
        self.common.sessions.release(client_id);
        self.common.saved.release(client_id);
        Ok(CommandData::Released { is_known })
    }

    /// Whether the administrator has to do with all clients.
    fn sees_all(&self) -> bool {
        self.engines.iter().all(|engine| self.from.sees(engine.id))
    }

    /// Whether a session is saved under this client ID that concerns the administrator.
    fn sees_saved(&mut self, client_id: &str) -> bool {
        let saved = self.common.saved.get(client_id);
        let account = saved.map(|saved| saved.account());
        account.is_some_and(|account| {
            let issuer_in = |engine: &Engine| engine.issuers.of_account(&account);
            self.engines().any(|engine| issuer_in(engine).is_some())
        })
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

/// Merges two lists that are in the order of their client IDs.
fn in_order<'i, A, B>(
    one: impl Iterator<Item = (&'i Arc<str>, A)>,
    other: impl Iterator<Item = (&'i Arc<str>, B)>,
) -> impl Iterator<Item = (&'i Arc<str>, Option<A>, Option<B>)> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || {
        let ids = (
            one.peek().map(|(id, _)| *id),
            other.peek().map(|(id, _)| *id),
        );
        let first = ids.0.into_iter().chain(ids.1).min()?;
        let of_one = one.next_if(|(id, _)| *id == first);
        let of_other = other.next_if(|(id, _)| *id == first);
        Some((first, of_one.map(|(_, a)| a), of_other.map(|(_, b)| b)))
    })
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
            account: session.account.clone(),
            connected: found.connected,
            restored: found.restored,
            released: found.released,
            until: session.until,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex, thread::JoinHandle};

    use super::*;
    use crate::{
        config::Config,
        engine::testing::engine,
        jwt::{jwks::KeySet, jwks_cache::FetchSchedule},
        saved_sessions::{SavedClaims, SavedSessions, SessionToSave},
        sessions::{AfterDisconnect, Ending, Session, SubscribedFilters},
        state_dir::StateDir,
    };
    use acl::rights::Rights;
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    const LOCAL: u64 = 7;

    /// An instance with sessions, and an administrator on its machine.
    struct Fleet {
        engine: Engine,
        common: Common,
        log: crate::log::Log,
        ticks: bool,
    }

    impl Fleet {
        /// Sessions `d00000`, `d00001` and so on. Every third belongs to the account `third`.
        fn new(sessions: usize) -> Self {
            let (engine, log) = engine();
            let common = Common::default();
            let mut fleet = Self {
                engine,
                common,
                log,
                ticks: true,
            };
            for number in 0..sessions {
                let subject = if number % 3 == 0 { "third" } else { "other" };
                fleet.admit(number, &format!("d{number:05}"), subject);
            }
            fleet
        }

        fn admit(&mut self, number: usize, id: &str, subject: &str) {
            let session = Session {
                client_id: id.into(),
                username: "u".into(),
                account: Account {
                    issuer: "https://t.example/".into(),
                    subject: subject.into(),
                },
                rights: Rights::default(),
                until: Unix(2000),
                ending: Ending::default(),
                credential: self.engine.fingerprinter.of(b"password"),
                instance: self.engine.id(),
                issuer: crate::account::IssuerNumber::default(),
                filters: SubscribedFilters::default(),
                observed: None,
                is_by_method: false,
            };
            let key = ClientKey(1000 * (number + 1));
            self.common.sessions.admit(key, session);
        }

        /// Executes a command to its end. Returns its response, and the clients to disconnect at each tick.
        fn command(&mut self, command: Value) -> (Value, Vec<Vec<String>>) {
            let (sender, answer) = mpsc::channel();
            self.common.administration.local.insert(LOCAL, sender);
            let request = json!({"commands": [command]}).to_string();
            let from = Administrator::Local(LOCAL);
            self.common.administration.take(from, request.as_bytes());
            let mut kicks = Vec::new();
            for _ in 0..1000 {
                let wait = Duration::from_millis(u64::from(self.engine.is_rereading()));
                if let Ok(answer) = answer.recv_timeout(wait) {
                    let mut answer: Value = serde_json::from_str(&answer).unwrap();
                    return (answer["responses"][0].take(), kicks);
                }
                let done = administer(&mut [&mut self.engine], &mut self.common, self.ticks);
                assert!(done.answers.is_empty());
                let ids = done.kicks.into_iter();
                kicks.push(ids.map(|(_, id)| id.to_string()).collect());
            }
            panic!("no answer")
        }

        /// Lists sessions in pages until the last. Returns the client IDs, and how many pages there were.
        fn list(&mut self, mut command: Value) -> (Vec<String>, usize) {
            let mut all = Vec::new();
            for pages in 1..1000 {
                let (response, _) = self.command(command.clone());
                let data = &response["data"];
                let sessions = data["sessions"].as_array().unwrap().iter();
                let ids = sessions.map(|one| one["clientId"].as_str().unwrap().to_owned());
                all.extend(ids);
                match data.get("cursor") {
                    None => return (all, pages),
                    Some(cursor) => command["cursor"] = cursor.clone(),
                }
            }
            panic!("no end")
        }
    }

    #[test]
    fn pages_have_every_session_once_and_a_bounded_size() {
        let mut fleet = Fleet::new(2500);
        for (count, pages) in [(1000, 3), (500, 5), (7, 358), (2500 / 2, 2)] {
            if count > 1000 {
                continue;
            }
            let (ids, number) = fleet.list(json!({"command": "listSessions", "count": count}));
            assert_eq!((ids.len(), number), (2500, pages), "{count}");
            assert!(ids.is_sorted());
        }
        let (thirds, pages) =
            fleet.list(json!({"command": "listSessions", "subject": "third", "count": 1000}));
        assert_eq!(
            (thirds.len(), pages),
            (834, 3),
            "many others lie between them"
        );
        let (prefixed, pages) =
            fleet.list(json!({"command": "listSessions", "clientIdPrefix": "d000", "count": 60}));
        assert_eq!((prefixed.len(), pages), (100, 2));
        let list = |fleet: &mut Fleet, command| fleet.list(command).0;
        let one = json!({"command": "listSessions", "clientId": "d00007"});
        assert_eq!(list(&mut fleet, one), ["d00007"]);
        for nothing in [
            json!({"command": "listSessions", "clientId": "d0000"}),
            json!({"command": "listSessions", "clientIdPrefix": "e"}),
            json!({"command": "listSessions", "subject": "nobody"}),
            json!({"command": "listSessions", "subject": "third", "issuer": "https://other/"}),
            json!({"command": "listSessions", "clientIdPrefix": "d000", "cursor": "d1"}),
            json!({"command": "listSessions", "cursor": "z"}),
        ] {
            assert!(list(&mut fleet, nothing.clone()).is_empty(), "{nothing}");
        }
        let before = json!({"command": "listSessions", "clientIdPrefix": "d024", "cursor": "a"});
        assert_eq!(list(&mut fleet, before).len(), 100);
    }

    #[test]
    fn long_texts_end_a_page_early() {
        let mut fleet = Fleet::new(0);
        for number in 0..8 {
            let id = format!("{number}{}", "x".repeat(20_000));
            fleet.admit(number, &id, "s");
        }
        let (ids, pages) = fleet.list(json!({"command": "listSessions"}));
        assert_eq!((ids.len(), pages), (8, 4));
    }

    #[test]
    fn a_whole_account_is_disconnected_in_the_course_of_several_ticks() {
        let mut fleet = Fleet::new(600);
        let away = ClientKey(1000);
        fleet.common.sessions.leave(away, AfterDisconnect::Kept);
        fleet.common.sessions.reap(Unix(0));
        let (response, ticks) = fleet.command(json!({"command": "kick", "subject": "third"}));
        assert_eq!(response["data"], json!({"clients": 199}), "one is away");
        assert!(
            ticks.iter().all(|kicks| kicks.len() <= MAX_KICKS),
            "{ticks:?}"
        );
        let all: Vec<_> = ticks.concat();
        assert!(all.is_sorted() && all.len() == 199);
        let lines = fleet.log.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            lines[0].1,
            "an administrator on this machine: kick of subject 'third': 199 clients are disconnected"
        );
    }

    #[test]
    fn many_kicks_by_client_id_are_spread_over_several_ticks() {
        const REQUESTS: usize = 8;
        const CLIENTS: usize = REQUESTS * crate::control::MAX_COMMANDS;
        let mut fleet = Fleet::new(CLIENTS);
        let ids: Vec<_> = (0..CLIENTS).map(|number| format!("d{number:05}")).collect();
        for (number, ids) in (0..).zip(ids.chunks(crate::control::MAX_COMMANDS)) {
            let one = |id: &String| json!({"command": "kick", "clientId": id});
            let commands: Vec<_> = ids.iter().map(one).collect();
            let request = json!({"commands": commands}).to_string();
            let administration = &mut fleet.common.administration;
            administration.take(Administrator::Local(number), request.as_bytes());
        }
        let mut kicked = Vec::new();
        while fleet.common.has_commands() {
            let done = administer(&mut [&mut fleet.engine], &mut fleet.common, true);
            assert!(done.kicks.len() <= MAX_KICKS, "{}", done.kicks.len());
            kicked.extend(done.kicks.into_iter().map(|(_, id)| id.to_string()));
        }
        assert_eq!(kicked, ids, "each once");
    }

    #[test]
    fn files_are_read_once_a_tick() {
        let mut fleet = Fleet::new(0);
        let refresh = json!({"command": "refreshKeys"});
        let request = json!({"commands": [refresh, refresh, refresh]}).to_string();
        let administration = &mut fleet.common.administration;
        administration.take(Administrator::Local(1), request.as_bytes());
        for ticks in 0..4 {
            assert!(fleet.common.has_commands(), "{ticks}");
            let done = administer(&mut [&mut fleet.engine], &mut fleet.common, true);
            assert!(done.answers.is_empty());
            assert_eq!(fleet.log.take().len(), usize::from(ticks < 3), "{ticks}");
        }
        assert!(!fleet.common.has_commands());
    }

    /// The sessions that the broker restored are listed among the others, whether it has asked about them or not.
    #[test]
    fn sessions_that_were_saved_are_listed_in_their_order() {
        let mut fleet = Fleet::new(10);
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let save = |fleet: &Fleet, id: &str, issuer: &str, subject: &str| {
            let account = Account {
                issuer: issuer.into(),
                subject: subject.into(),
            };
            let nothing = Default::default;
            let claims = &serde_json::Map::new();
            let mut interner = acl::interner::Interner::default();
            let claims = SavedClaims::pick(claims, &account, nothing(), nothing(), &mut interner);
            let none = (None, None, None);
            let saved = SessionToSave::new(&claims, &"u".into(), &account, Unix(7), None, none);
            let mut sessions = SavedSessions::default();
            sessions.open(&dir, crate::threads::plain, &fleet.log);
            sessions.save(&id.into(), saved);
            sessions.finish();
        };
        let issuer = "https://t.example/";
        for (id, subject) in [("d00003b", "third"), ("a", "other"), ("z", "third")] {
            save(&fleet, id, issuer, subject);
        }
        save(&fleet, "y", "https://another.example/", "third");
        let common = &mut fleet.common;
        common.saved.open(&dir, crate::threads::plain, &fleet.log);

        let (ids, _) = fleet.list(json!({"command": "listSessions", "count": 3}));
        assert!(ids.is_sorted(), "{ids:?}");
        assert_eq!(
            ids.len(),
            13,
            "another tenant's session is none of ours: {ids:?}"
        );
        let thirds =
            json!({"command": "listSessions", "subject": "third", "clientIdPrefix": "d00003"});
        assert_eq!(fleet.list(thirds).0, ["d00003", "d00003b"]);
        let one = json!({"command": "listSessions", "clientId": "z"});
        let listed = fleet.command(one).0["data"]["sessions"][0].take();
        let expected = json!({
            "clientId": "z", "username": "u", "subject": "third", "issuer": issuer,
            "connected": false, "restored": true, "released": false, "until": 7,
        });
        assert_eq!(listed, expected);
        fleet.admit(50, "z", "third");
        let one = json!({"command": "listSessions", "clientId": "z"});
        let listed = fleet.command(one).0["data"]["sessions"].take();
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!(listed[0]["restored"], false, "its client is back");
    }

    /// A disk that hangs holds nobody up but the administrator.
    #[test]
    fn a_file_of_keys_is_read_by_a_thread() {
        static HELD: Mutex<()> = Mutex::new(());
        fn held(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
            let body = Box::new(move || {
                drop(HELD.lock());
                body();
            });
            crate::threads::plain(name, body)
        }
        let mut fleet = Fleet::new(0);
        let file = tempfile::NamedTempFile::new().unwrap();
        let jwks = |kid: &str| {
            let modulus = URL_SAFE_NO_PAD.encode([0xb1; 256]);
            format!(r#"{{"keys":[{{"kty":"RSA","kid":"{kid}","n":"{modulus}","e":"AQAB"}}]}}"#)
        };
        std::fs::write(file.path(), jwks("a")).unwrap();
        let options = [
            ("issuer", "https://t.example/"),
            ("audience", "https://mqtt.example/"),
            ("jwks_file", file.path().to_str().unwrap()),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::read(options.into()).unwrap();
        let log = fleet.log.clone();
        let schedule = FetchSchedule::default();
        fleet.engine = Engine::new(config, schedule, log, held, &mut Common::default()).unwrap();
        let has = |engine: &Engine, kid: &str| {
            let expected = KeySet::parse(jwks(kid).as_bytes()).unwrap();
            engine.keys().current().has_same_keys(&expected)
        };

        std::fs::write(file.path(), jwks("b")).unwrap();
        let disk = HELD.lock().unwrap();
        let (sender, answer) = mpsc::channel();
        let administration = &mut fleet.common.administration;
        administration.local.insert(LOCAL, sender);
        let request = json!({"commands": [{"command": "refreshKeys"}]}).to_string();
        administration.take(Administrator::Local(LOCAL), request.as_bytes());
        let mut ticks = 0;
        let answer = loop {
            let _ = administer(&mut [&mut fleet.engine], &mut fleet.common, true);
            ticks += 1;
            match answer.recv_timeout(Duration::from_millis(100)) {
                Ok(answer) => break answer,
                Err(_) => assert!(fleet.engine.is_rereading() && ticks < 1000),
            }
        };
        assert!(answer.contains("is still being read"), "{answer}");
        assert!(ticks > 10 && has(&fleet.engine, "a"), "{ticks} ticks");
        drop(disk);
        while fleet.engine.is_rereading() {
            fleet.engine.finish_reload(&mut fleet.common);
        }
        assert!(has(&fleet.engine, "b"), "it counts when it is read");
        std::fs::write(file.path(), "{}").unwrap();
        let mut done = json!({});
        while done.get("error").is_none() {
            done = fleet.command(json!({"command": "refreshKeys"})).0;
        }
        assert!(
            done["error"]
                .as_str()
                .unwrap()
                .contains("the keys read before"),
            "{done}"
        );
    }

    #[test]
    fn without_ticks_everything_but_a_kick_works() {
        let mut fleet = Fleet::new(5000);
        fleet.ticks = false;
        let (response, _) = fleet.command(json!({"command": "kick", "subject": "third"}));
        assert!(
            response["error"]
                .as_str()
                .unwrap()
                .contains("per_listener_settings")
        );
        let (ids, _) = fleet.list(json!({"command": "listSessions", "count": 1000}));
        assert_eq!(ids.len(), 5000);
    }

    #[test]
    fn a_client_id_is_released_only_while_its_client_is_away() {
        let mut fleet = Fleet::new(2);
        let (key, other) = (
            ClientKey(1000),
            Some(Account {
                issuer: "https://t.example/".into(),
                subject: "other".into(),
            }),
        );
        let release = |id: &str| json!({"command": "releaseClientId", "clientId": id});
        assert!(fleet.command(release("d00000")).0["error"].is_string());
        fleet.common.sessions.leave(key, AfterDisconnect::Kept);
        fleet.common.sessions.reap(Unix(0));
        let held = |fleet: &Fleet| {
            fleet
                .common
                .sessions
                .is_held_by_another("d00000", other.as_ref())
        };
        assert!(held(&fleet));
        let done = fleet.command(release("d00000")).0;
        assert_eq!(done["data"], json!({"known": true}));
        assert!(!held(&fleet));
        let listed = fleet
            .command(json!({"command": "listSessions", "clientId": "d00000"}))
            .0;
        assert_eq!(listed["data"]["sessions"][0]["released"], true);
        let done = fleet.command(release("nobody")).0;
        assert_eq!(
            done["data"],
            json!({"known": false}),
            "the broker may have restored it"
        );
        assert!(fleet.common.saved.is_released("nobody"));
    }

    #[test]
    fn requests_that_wait_are_limited() {
        let mut common = Common::default();
        let request = br#"{"commands":[{"command":"refreshKeys"}]}"#;
        for number in 0..100 {
            let from = Administrator::Client {
                key: ClientKey(1),
                client_id: "admin".into(),
                username: "admin".into(),
                instance: InstanceId::default(),
            };
            let refused = common.administration.take(from, request);
            assert_eq!(refused.is_some(), number >= 64, "{number}");
        }
    }
}
