//! Commands of root and of the broker's user on this machine: through a Unix socket in `state_dir`, one line of JSON
//! for each request and one for each answer.
//!
//! Whoever can connect needs no token. The socket is private (mode 600), and nobody else can put another one in its
//! place, because the folder is as safe as its own check says ([`StateDir::open`]). The kernel lets nobody but root and
//! the owner connect, so nothing more is asked about who it is (SO_PEERCRED): root and the broker's user are equally
//! trusted, and each of them can become the other.
//!
//! A thread accepts one connection at a time, and reads and writes. The broker's thread takes the requests at a tick,
//! and never waits.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::{
    SOCKET,
    command::{CommandError, MAX_REQUEST},
    response::Responses,
};
use crate::{
    clock::Deadline,
    log::{Level, Log},
    state_dir::StateDir,
    threads::{self, Spawn, lock},
};

/// How long a connection may be silent, and how long it may take an answer to be written.
const IDLE: Duration = Duration::from_secs(2);

/// How long a request may take to arrive, and how long the broker may take to answer it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a thread that waits for an answer looks whether it has to stop.
const LOOK: Duration = Duration::from_millis(100);

/// What the operator is told about the socket.
#[derive(Debug)]
pub(crate) enum SocketReport {
    /// It is there.
    Open(PathBuf),
    /// Another broker has one in the same folder.
    OfAnother(PathBuf),
    /// It cannot be created.
    Failed(PathBuf, io::Error),
}

impl SocketReport {
    pub(crate) fn level(&self) -> Level {
        match self {
            Self::Open(_) => Level::Info,
            Self::OfAnother(_) | Self::Failed(..) => Level::Warning,
        }
    }
}

/// A request, and where its answer goes.
pub(crate) struct LocalRequest {
    /// The number that tells it apart from others.
    pub number: u64,
    /// The JSON.
    pub line: Vec<u8>,
    /// Where the answer goes.
    pub answer: mpsc::Sender<String>,
}

/// The socket. Dropping it does not close it: [`Self::stop`] does.
pub(crate) struct LocalSocket {
    shared: Arc<SocketState>,
    thread: JoinHandle<()>,
    ended: mpsc::Receiver<()>,
}

/// What the broker's thread and the thread of the socket share.
#[derive(Default)]
struct SocketState {
    /// Whether there are requests. The tick reads this flag thousands of times a second, without a lock.
    has_requests: AtomicBool,
    requests: Mutex<Vec<LocalRequest>>,
    stops: AtomicBool,
    /// The listening socket, as what can be shut down: that wakes the thread.
    listening: Mutex<Option<UnixStream>>,
}

impl LocalSocket {
    /// Has a thread open the socket.
    ///
    /// # Errors
    ///
    /// Returns an error if no thread can be started.
    pub(crate) fn start(dir: StateDir, spawn: Spawn, log: Log) -> io::Result<Self> {
        let shared = Arc::new(SocketState::default());
        let (has_ended, ended) = mpsc::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            let body = move || {
                shared.run(&dir, &log);
                drop(has_ended);
            };
            spawn("auth0-control", Box::new(body))?
        };
        Ok(Self {
            shared,
            thread,
            ended,
        })
    }

    /// Whether requests wait.
    pub(crate) fn has_requests(&self) -> bool {
        self.shared.has_requests.load(Ordering::Acquire)
    }

    /// Takes the requests that wait.
    pub(crate) fn take_requests(&self) -> Vec<LocalRequest> {
        if !self.has_requests() {
            return Vec::new();
        }
        let mut requests = lock(&self.shared.requests);
        self.shared.has_requests.store(false, Ordering::Release);
        std::mem::take(&mut requests)
    }

    /// Closes the socket, and waits for a moment until the thread has ended.
    pub(crate) fn stop(self) {
        self.shared.stops.store(true, Ordering::Release);
        if let Some(listening) = lock(&self.shared.listening).take() {
            let _ = listening.shutdown(Shutdown::Both);
        }
        let left = threads::last_moment().remaining();
        match self.ended.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) => threads::leave_behind(),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(self.thread.join()),
        }
    }
}

impl SocketState {
    fn stops(&self) -> bool {
        self.stops.load(Ordering::Acquire)
    }

    fn run(&self, dir: &StateDir, log: &Log) {
        let path = dir.path_of(SOCKET);
        let tell = |report: SocketReport| log.line(report.level(), report.to_string());
        let listener = match open(dir) {
            Ok(Some(listener)) => listener,
            Ok(None) => return tell(SocketReport::OfAnother(path)),
            Err(why) => return tell(SocketReport::Failed(path, why)),
        };
        tell(SocketReport::Open(path.clone()));
        let inode = fs::symlink_metadata(&path)
            .map(|metadata| metadata.ino())
            .ok();
        if let Ok(twin) = listener.try_clone() {
            *lock(&self.listening) = Some(UnixStream::from(OwnedFd::from(twin)));
            // A stop that came before has shut nothing down.
            while !self.stops() {
                match listener.accept() {
                    Ok((stream, _)) => self.serve(stream),
                    Err(why) if why.kind() == ErrorKind::Interrupted => {}
                    Err(_) if self.stops() => {}
                    // So many files are open that another one cannot be, for instance.
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        }
        // Another broker may have put its own there.
        let now = fs::symlink_metadata(&path)
            .map(|metadata| metadata.ino())
            .ok();
        if now == inode {
            let _ = fs::remove_file(&path);
        }
    }

    /// Answers the requests of one connection until it ends, or is silent for too long.
    fn serve(&self, mut stream: UnixStream) {
        let limited = stream
            .set_read_timeout(Some(IDLE))
            .and_then(|()| stream.set_write_timeout(Some(IDLE)));
        if limited.is_err() {
            return;
        }
        let mut rest = Vec::new();
        while !self.stops() {
            let line = match read_line(&mut stream, &mut rest) {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(why) => {
                    let _ = writeln!(stream, "{}", Responses(Err(why)));
                    return;
                }
            };
            let answer = self.ask(line);
            if writeln!(stream, "{answer}").is_err() {
                return;
            }
        }
    }

    /// Has the broker's thread execute a request. Returns the answer.
    fn ask(&self, line: Vec<u8>) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = mpsc::channel();
        {
            let mut requests = lock(&self.requests);
            requests.push(LocalRequest {
                number,
                line,
                answer,
            });
            self.has_requests.store(true, Ordering::Release);
        }
        let deadline = Deadline::after(PATIENCE);
        loop {
            match answered.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) if !self.stops() && !deadline.has_passed() => {}
                Err(_) => break,
            }
        }
        // What is executed later would surprise.
        lock(&self.requests).retain(|request| request.number != number);
        Responses(Err(CommandError::NoAnswer(PATIENCE.as_secs()))).to_string()
    }
}

/// Reads one line, without its end. `rest` holds what came after the line before. Returns `None` at the end of the
/// stream, or if nothing comes.
///
/// # Errors
///
/// Returns an error if the line is too long.
fn read_line(stream: &mut UnixStream, rest: &mut Vec<u8>) -> Result<Option<Vec<u8>>, CommandError> {
    let deadline = Deadline::after(PATIENCE);
    let mut looked_at = 0;
    loop {
        if let Some(end) = rest[looked_at..].iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = rest.drain(..=looked_at + end).collect();
            line.pop();
            return Ok(Some(line));
        }
        looked_at = rest.len();
        if looked_at > MAX_REQUEST {
            return Err(CommandError::TooLong(looked_at));
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            // The last line needs no end.
            Ok(0) if !rest.is_empty() => return Ok(Some(std::mem::take(rest))),
            Ok(read) if read > 0 && !deadline.has_passed() => {
                rest.extend_from_slice(&bytes[..read]);
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return Ok(None),
        }
    }
}

/// Opens the socket, in place of one that a killed broker has left behind. Returns `None` if another broker answers
/// there.
fn open(dir: &StateDir) -> io::Result<Option<UnixListener>> {
    let path = dir.path_of(SOCKET);
    if UnixStream::connect(&path).is_ok() {
        return Ok(None);
    }
    // In a folder of its own until its mode is set: nobody can connect before.
    let folder = dir.path_of(&format!(".control-{}", std::process::id()));
    // A killed process with the same process ID may have left it behind.
    let _ = fs::remove_dir_all(&folder);
    DirBuilder::new().mode(0o700).create(&folder)?;
    let new = folder.join("s");
    let opened = UnixListener::bind(&new).and_then(|listener| {
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        fs::rename(&new, &path)?;
        Ok(Some(listener))
    });
    let _ = fs::remove_dir_all(&folder);
    opened
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        os::unix::fs::symlink,
        path::Path,
    };

    const LONG: Duration = Duration::from_secs(20);

    fn folder() -> (tempfile::TempDir, StateDir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        (folder, dir)
    }

    fn socket(dir: &StateDir) -> (LocalSocket, Log) {
        let log = Log::default();
        let socket = LocalSocket::start(dir.clone(), threads::plain, log.clone()).unwrap();
        (socket, log)
    }

    fn said(log: &Log) -> String {
        let deadline = Deadline::after(LONG);
        while log.is_empty() {
            assert!(!deadline.has_passed());
            std::thread::yield_now();
        }
        log.take().remove(0).1
    }

    /// Plays the broker's thread until the request is there.
    fn request(socket: &LocalSocket) -> LocalRequest {
        let deadline = Deadline::after(LONG);
        loop {
            if let Some(request) = socket.take_requests().pop() {
                return request;
            }
            assert!(!deadline.has_passed());
            std::thread::yield_now();
        }
    }

    fn connect(path: &Path) -> BufReader<UnixStream> {
        BufReader::new(UnixStream::connect(path).unwrap())
    }

    fn line(stream: &mut BufReader<UnixStream>) -> String {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn a_line_is_answered_with_a_line_and_the_socket_is_private() {
        let (folder, dir) = folder();
        let (socket, log) = socket(&dir);
        assert!(said(&log).contains("control.sock"));
        let path = folder.path().join(SOCKET);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            1,
            "no folder is left"
        );
        let mut client = connect(&path);
        client.get_mut().write_all(b"one\ntwo\nthree").unwrap();
        client.get_mut().shutdown(Shutdown::Write).unwrap();
        for expected in ["one", "two", "three"] {
            let request = request(&socket);
            assert_eq!(request.line, expected.as_bytes());
            request.answer.send(format!("to {expected}")).unwrap();
            assert_eq!(line(&mut client), format!("to {expected}\n"));
        }
        assert_eq!(line(&mut client), "");
        socket.stop();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_long_line_is_refused_and_nothing_of_it_is_kept() {
        let (folder, dir) = folder();
        let (socket, log) = socket(&dir);
        said(&log);
        let mut client = connect(&folder.path().join(SOCKET));
        // The thread may have hung up meanwhile.
        let _ = client.get_mut().write_all(&vec![b'x'; 8 * MAX_REQUEST]);
        let answer = line(&mut client);
        assert!(answer.contains("bytes; fix: send at most"), "{answer}");
        assert!(!socket.has_requests());
        socket.stop();
    }

    #[test]
    fn a_stop_ends_a_connection_that_waits_and_one_that_is_silent() {
        for text in [&b"waits\n"[..], b"unfinished"] {
            let (folder, dir) = folder();
            let (socket, log) = socket(&dir);
            said(&log);
            let mut client = connect(&folder.path().join(SOCKET));
            client.get_mut().write_all(text).unwrap();
            if text.ends_with(b"\n") {
                drop(request(&socket));
            }
            socket.stop();
            // It may have been reset with what it had sent.
            let _ = client.read_line(&mut String::new());
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_that_of_another_broker_is_left_alone() {
        let (folder, dir) = folder();
        let path = folder.path().join(SOCKET);
        // A killed broker does not remove its socket.
        drop(UnixListener::bind(&path).unwrap());
        let (first, log) = socket(&dir);
        assert!(
            said(&log).contains("administrators on this machine"),
            "replaced"
        );
        let (second, log) = socket(&dir);
        let line = said(&log);
        assert!(
            line.contains("another broker") && line.contains("fix: "),
            "{line}"
        );
        second.stop();
        assert!(UnixStream::connect(&path).is_ok());
        first.stop();
        assert!(!path.exists());
    }

    #[test]
    fn what_cannot_be_created_is_told_once() {
        let (folder, dir) = folder();
        // A rename cannot replace a folder by a socket.
        fs::create_dir(folder.path().join(SOCKET)).unwrap();
        let (socket, log) = socket(&dir);
        let line = said(&log);
        assert!(
            line.contains("cannot be created") && line.contains("fix: "),
            "{line}"
        );
        socket.stop();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        // A path that is too long for a socket.
        let long = folder.path().join("x".repeat(120));
        fs::create_dir(&long).unwrap();
        let (socket, log) = super::tests::socket(&StateDir::open(&long).unwrap());
        assert!(said(&log).contains("cannot be created"));
        socket.stop();
        // A link that somebody has put there is replaced, not followed.
        let (folder, dir) = super::tests::folder();
        symlink("/dev/null", folder.path().join(SOCKET)).unwrap();
        let (socket, log) = super::tests::socket(&dir);
        said(&log);
        assert!(
            !fs::symlink_metadata(folder.path().join(SOCKET))
                .unwrap()
                .is_symlink()
        );
        socket.stop();
    }
}
