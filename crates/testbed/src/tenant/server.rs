//! Sockets, TLS and threads: one thread listens, and each connection has one. All of them end with the
//! tenant.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::faults::{Behaviour, Endpoint, ResponseGate, wait_until};
use super::{TenantShared, answers};
use crate::http::{Framing, Response, Wire};
use crate::lock;
use crate::pki::Leaf;

/// The maximum number of connections, far above what one broker opens. More are closed at once.
const MAX_CONNECTIONS: usize = 512;
/// The size that [`Behaviour::HugeBody`] announces, in bytes.
const HUGE: u64 = 1 << 30;
/// How long dropping a tenant waits for its threads. They are woken, so only a defect makes this time pass,
/// and then the test should end rather than hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the server's TLS configuration with this certificate: TLS 1.2 and 1.3, like Auth0's edge.
pub(super) fn tls(leaf: &Leaf) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .expect("the provider has both versions")
        .with_no_client_auth()
        .with_single_cert(leaf.chain(), leaf.key())
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// All open connections, and whether the tenant is ending.
#[derive(Debug, Default)]
pub(super) struct Life {
    stopping: AtomicBool,
    counter: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
    changed: Condvar,
}

impl Life {
    /// Registers a connection, unless there are too many or the tenant is ending.
    fn enter(&self, tcp: &TcpStream) -> Option<u64> {
        let copy = tcp.try_clone().ok()?;
        let mut open = lock(&self.open);
        if self.stopping.load(Ordering::SeqCst) || open.len() >= MAX_CONNECTIONS {
            return None;
        }
        let id = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        open.insert(id, copy);
        Some(id)
    }

    fn leave(&self, id: u64) {
        lock(&self.open).remove(&id);
        self.changed.notify_all();
    }

    /// Sleeps, at most until the tenant ends.
    fn pause(&self, time: Duration) -> io::Result<()> {
        let stopping = |_: &_| self.stopping.load(Ordering::SeqCst);
        wait_until(&self.changed, lock(&self.open), time, stopping);
        self.check()
    }

    /// Waits at a gate, at most until the tenant ends.
    fn hold(&self, gate: &ResponseGate) -> io::Result<()> {
        gate.hold(&self.stopping);
        self.check()
    }

    /// A request that was held when the tenant ended must not be answered.
    fn check(&self) -> io::Result<()> {
        match self.stopping.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    /// Closes every open connection in any state.
    pub(super) fn hang_up(&self) {
        for tcp in lock(&self.open).values() {
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }

    /// Ends every connection and waits for the threads. `wake` wakes those that wait for something other than
    /// their socket.
    pub(super) fn end(&self, wake: impl Fn()) {
        {
            let _open = lock(&self.open);
            self.stopping.store(true, Ordering::SeqCst);
            self.changed.notify_all();
        }
        wake();
        self.hang_up();
        wait_until(&self.changed, lock(&self.open), PATIENCE, HashMap::is_empty);
    }
}

/// A bound port and the thread that accepts from it.
#[derive(Debug)]
pub(super) struct Listening {
    address: SocketAddr,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    /// Accepts connections on a bound listener.
    pub(super) fn start(listener: TcpListener, shared: Arc<TenantShared>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let closing = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&closing);
        let thread = thread::Builder::new()
            .name("tenant".to_owned())
            .spawn(move || accept(&listener, &shared, &flag))?;
        Ok(Self {
            address,
            closing,
            thread: Some(thread),
        })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // `accept` cannot be interrupted, so a connection is made to wake it.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<TenantShared>, closing: &AtomicBool) {
    for tcp in listener.incoming() {
        if closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(tcp) = tcp else { continue };
        let Some(id) = shared.life.enter(&tcp) else {
            continue;
        };
        let theirs = Arc::clone(shared);
        let spawned = thread::Builder::new()
            .name(format!("tenant-{id}"))
            .spawn(move || {
                // A failed connection is visible to the client; there is nobody to report it to here.
                let _ = serve(&theirs, tcp, id);
                theirs.life.leave(id);
            });
        if spawned.is_err() {
            shared.life.leave(id);
        }
    }
}

fn serve(shared: &TenantShared, tcp: TcpStream, id: u64) -> io::Result<()> {
    let peer = tcp.peer_addr()?;
    tcp.set_nodelay(true)?;
    // Counted after its fault is taken, so that a test that waited for the count can set the next fault.
    let before_tls = lock(&shared.faults).take(Endpoint::Connection);
    shared.journal.connected();
    let performance = Performance::new(shared, before_tls, || None);
    let mut plain = tcp.try_clone()?;
    if performance.run(&mut plain, &tcp, false)? == NextStep::Close {
        return Ok(());
    }
    drop(plain);
    let config = Arc::clone(&lock(&shared.tls));
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let socket = tcp.try_clone()?;
    let mut wire = Wire::new(StreamOwned::new(session, tcp));
    while let Some(request) = wire.read_request()? {
        let endpoint = Endpoint::of(request.path());
        let behaviour = lock(&shared.faults).take(endpoint);
        // The response is made before the request is recorded, so that a test that waited for the request can
        // change the tenant without affecting the response.
        let normal = || Some(shared.answer(endpoint, &request, peer.ip()));
        let performance = Performance::new(shared, behaviour, normal);
        shared.journal.record(endpoint, &request, peer, id);
        let keep_alive = request.is_persistent();
        if performance.run(&mut wire.stream, &socket, keep_alive)? == NextStep::Close {
            return Ok(());
        }
        if !keep_alive {
            break;
        }
    }
    wire.stream.conn.send_close_notify();
    wire.stream.flush()
}

/// What happens to a connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextStep {
    KeepOpen,
    Close,
}

/// A behaviour with the response that it modifies.
struct Performance<'a> {
    shared: &'a TenantShared,
    steps: Vec<Behaviour>,
    answer: Option<Response>,
}

impl<'a> Performance<'a> {
    /// Requests the normal response only if the behaviour uses it: an outage must not count a failed login.
    fn new(
        shared: &'a TenantShared,
        behaviour: Behaviour,
        normal: impl FnOnce() -> Option<Response>,
    ) -> Self {
        let steps = behaviour.steps();
        let replaced = steps.iter().any(|step| {
            !matches!(
                step,
                Behaviour::Normal
                    | Behaviour::Delay(_)
                    | Behaviour::Gate(_)
                    | Behaviour::SlowBody(_)
                    | Behaviour::TruncatedBody
                    | Behaviour::WrongContentType(_)
                    | Behaviour::ExtraHeaders(_)
            )
        });
        let answer = if replaced { None } else { normal() };
        Self {
            shared,
            steps,
            answer,
        }
    }

    /// Does what each step says, then sends the response. This is a list with an arm for each behaviour, so it is as
    /// long as there are behaviours.
    fn run(
        self,
        stream: &mut (impl Read + Write),
        socket: &TcpStream,
        keep_alive: bool,
    ) -> io::Result<NextStep> {
        let life = &self.shared.life;
        let mut answer = self.answer;
        let mut pace = SendRate::Whole;
        for step in self.steps {
            match step {
                Behaviour::Normal | Behaviour::Then(..) => {}
                Behaviour::Delay(time) => life.pause(time)?,
                Behaviour::Gate(gate) => life.hold(&gate)?,
                Behaviour::Hang => {
                    io::copy(stream, &mut io::sink())?;
                    return Ok(NextStep::Close);
                }
                Behaviour::ResetConnection => {
                    // Closing with a linger of zero sends RST instead of FIN.
                    SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
                    return Ok(NextStep::Close);
                }
                Behaviour::Close => {
                    socket.shutdown(Shutdown::Both)?;
                    return Ok(NextStep::Close);
                }
                Behaviour::Garbage(bytes) => {
                    stream.write_all(&bytes)?;
                    stream.flush()?;
                    // Closing with unread data would send RST, which overtakes the bytes.
                    socket.shutdown(Shutdown::Write)?;
                    io::copy(&mut &*socket, &mut io::sink())?;
                    return Ok(NextStep::Close);
                }
                Behaviour::HugeBody => return huge_body(life, stream),
                Behaviour::Status {
                    code,
                    headers,
                    body,
                } => {
                    let mut response = Response::new(code, body);
                    response.headers = headers;
                    answer = Some(response);
                }
                Behaviour::Html(code) => answer = Some(answers::edge_page(code)),
                Behaviour::RateLimited { retry_after } => {
                    answer = Some(answers::rate_limited(retry_after));
                }
                Behaviour::Redirect(to) => {
                    answer = Some(Response::new(302, "").header("Location", to));
                }
                Behaviour::SlowBody(pause) => pace = SendRate::ByteByByte(pause),
                Behaviour::TruncatedBody => pace = SendRate::Half,
                Behaviour::WrongContentType(text) => {
                    if let Some(response) = &mut answer {
                        response.set_header("Content-Type", text);
                    }
                }
                Behaviour::ExtraHeaders(lines) => {
                    for (name, value) in lines {
                        if let Some(response) = &mut answer {
                            response.set_header(&name, value);
                        }
                    }
                }
            }
        }
        match answer {
            Some(response) => send(life, stream, response, pace, keep_alive),
            None => Ok(NextStep::KeepOpen),
        }
    }
}

/// How much of a body is sent, and how fast.
#[derive(Clone, Copy, Debug)]
enum SendRate {
    Whole,
    ByteByByte(Duration),
    Half,
}

fn send(
    life: &Life,
    stream: &mut impl Write,
    mut response: Response,
    pace: SendRate,
    keep_alive: bool,
) -> io::Result<NextStep> {
    let length = response.body.len() as u64;
    match pace {
        SendRate::Whole => response.write(stream, keep_alive)?,
        SendRate::ByteByByte(pause) => {
            stream.write_all(&response.head(length, keep_alive))?;
            stream.flush()?;
            for byte in response.framed_body() {
                life.pause(pause)?;
                stream.write_all(&[byte])?;
                stream.flush()?;
            }
        }
        SendRate::Half => {
            // Only an announced length can be wrong.
            response.framing = Framing::Length;
            stream.write_all(&response.head(length, keep_alive))?;
            stream.write_all(&response.body[..response.body.len() / 2])?;
            stream.flush()?;
            return Ok(NextStep::Close);
        }
    }
    Ok(NextStep::KeepOpen)
}

fn huge_body(life: &Life, stream: &mut impl Write) -> io::Result<NextStep> {
    let response = Response::new(200, "").header("Content-Type", "application/json");
    stream.write_all(&response.head(HUGE, false))?;
    // White space, so that only the size is wrong.
    let chunk = [b' '; 64 * 1024];
    for _ in 0..HUGE / chunk.len() as u64 {
        life.check()?;
        stream.write_all(&chunk)?;
    }
    Ok(NextStep::Close)
}
