//! An HTTP proxy that passes bytes on after CONNECT (RFC 9110, section 9.3.6), on a free port of 127.0.0.1. Whatever
//! name a client asks for, the proxy connects to 127.0.0.1: so a test can use a name that this machine does not know,
//! and see that nobody looked it up.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    http::{Request, Response, Wire},
    lock,
    packaged_server::note_left_out,
    scratch::Scratch,
};

/// How the proxy answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyConduct {
    /// With a tunnel.
    Tunnel,
    /// With a tunnel, to whoever knows this `USER:PASSWORD`.
    TunnelFor(String),
    /// With this status.
    Status(u16),
    /// Not at all, and it keeps the connection open.
    Silence,
    /// With one byte of a header now and then, for ever.
    Drip,
    /// With something that is not HTTP.
    Noise,
}

/// A running proxy. Dropping it closes every connection.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    shared: Arc<ProxyShared>,
}

#[derive(Debug)]
struct ProxyShared {
    conduct: Mutex<ProxyConduct>,
    targets: Mutex<Vec<String>>,
    /// What clients sent, also through tunnels.
    sent: Mutex<Vec<u8>>,
    open: Mutex<Vec<TcpStream>>,
    is_over: AtomicBool,
}

impl ConnectProxy {
    /// Starts a proxy.
    ///
    /// # Panics
    ///
    /// Panics when no port is available.
    pub fn start(conduct: ProxyConduct) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(ProxyShared {
            conduct: Mutex::new(conduct),
            targets: Mutex::default(),
            sent: Mutex::default(),
            open: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || theirs.accept(&listener));
        Self { address, shared }
    }

    /// Returns its address as the plugin's option `proxy` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how it answers from now on.
    pub fn conduct(&self, conduct: ProxyConduct) {
        *lock(&self.shared.conduct) = conduct;
    }

    /// Returns what clients asked for: host and port.
    pub fn targets(&self) -> Vec<String> {
        lock(&self.shared.targets).clone()
    }

    /// Returns whether these bytes were in what clients sent, also through tunnels.
    pub fn has_seen(&self, bytes: &[u8]) -> bool {
        let sent = lock(&self.shared.sent);
        sent.windows(bytes.len()).any(|part| part == bytes)
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // `accept` cannot be interrupted, so a connection is made to wake it.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        for stream in lock(&self.shared.open).iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl ProxyShared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let theirs = Arc::clone(self);
            // A failed connection is visible to the client; there is nobody to report it to here.
            thread::spawn(move || theirs.serve(stream));
        }
    }

    /// Keeps a handle with which the connection is closed when the proxy ends.
    fn opens(&self, stream: &TcpStream) -> io::Result<()> {
        lock(&self.open).push(stream.try_clone()?);
        Ok(())
    }

    fn serve(self: &Arc<Self>, stream: TcpStream) -> io::Result<()> {
        self.opens(&stream)?;
        let mut client = stream.try_clone()?;
        let mut wire = Wire::new(Tee {
            stream,
            shared: Arc::clone(self),
        });
        let Some(request) = wire.read_request()? else {
            return Ok(());
        };
        lock(&self.targets).push(request.target.clone());
        let conduct = lock(&self.conduct).clone();
        let status = match &conduct {
            ProxyConduct::Silence => {
                io::copy(&mut client, &mut io::sink())?;
                return Ok(());
            }
            ProxyConduct::Drip => return drip(&mut client),
            ProxyConduct::Noise => return client.write_all(b"\x05\xff\r\n\r\n"),
            ProxyConduct::Status(status) => *status,
            ProxyConduct::TunnelFor(pair) if !knows(&request, pair) => 407,
            ProxyConduct::Tunnel | ProxyConduct::TunnelFor(_) if request.method != "CONNECT" => 405,
            ProxyConduct::Tunnel | ProxyConduct::TunnelFor(_) => {
                return self.passes_on(&request.target, client, wire.stream);
            }
        };
        Response::new(status, "no").write(&mut client, false)
    }

    fn passes_on(&self, target: &str, mut client: TcpStream, mut tee: Tee) -> io::Result<()> {
        let port = target
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port.unwrap_or(443)));
        let Ok(mut server) = server else {
            return Response::new(503, "no").write(&mut client, false);
        };
        self.opens(&server)?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let mut back = server.try_clone()?;
        let returning = thread::spawn(move || {
            let _ = io::copy(&mut back, &mut client);
            let _ = client.shutdown(Shutdown::Both);
        });
        let _ = io::copy(&mut tee, &mut server);
        let _ = server.shutdown(Shutdown::Both);
        let _ = returning.join();
        Ok(())
    }
}

fn knows(request: &Request, pair: &str) -> bool {
    let expected = format!("Basic {}", STANDARD.encode(pair));
    request.header("proxy-authorization") == Some(&expected)
}

fn drip(client: &mut TcpStream) -> io::Result<()> {
    client.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
    loop {
        client.write_all(b"x")?;
        thread::sleep(Duration::from_millis(100));
    }
}

/// A connection whose incoming bytes are kept.
struct Tee {
    stream: TcpStream,
    shared: Arc<ProxyShared>,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        lock(&self.shared.sent).extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// [Tinyproxy](https://tinyproxy.github.io), a proxy that is not ours, as Debian packages it. Dropping the value ends
/// the process.
#[derive(Debug)]
pub struct Tinyproxy {
    process: Child,
    port: u16,
    log: PathBuf,
    _scratch: Scratch,
}

impl Tinyproxy {
    const PROGRAM: &str = "/usr/bin/tinyproxy";

    /// Starts it with these credentials. Returns `None` if it is not installed.
    ///
    /// # Panics
    ///
    /// Panics if it does not start.
    pub fn start_if_installed(user: &str, password: &str) -> Option<Self> {
        if !Path::new(Self::PROGRAM).exists() {
            note_left_out("Tinyproxy", "install the package tinyproxy-bin");
            return None;
        }
        let scratch = Scratch::new("tinyproxy").expect("a folder");
        let log = scratch.path().join("log");
        // Its port is another one's if that is faster between these two lines. Then it ends at once.
        for _ in 0..16 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = free.local_addr().expect("it is bound").port();
            drop(free);
            let text = format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 60\nLogFile \"{}\"\nLogLevel Connect\nBasicAuth {user} {password}\n",
                log.display()
            );
            let conf = scratch.write("tinyproxy.conf", text).expect("a file");
            let process = Command::new(Self::PROGRAM)
                .args(["-d", "-c"])
                .arg(conf)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let mut process = process.expect("it is installed");
            if listens(&mut process, port) {
                return Some(Self {
                    process,
                    port,
                    log,
                    _scratch: scratch,
                });
            }
        }
        panic!("tinyproxy does not start");
    }

    /// Returns its address as the plugin's option `proxy` takes it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until the process listens on the port. Returns whether it does.
fn listens(process: &mut Child, port: u16) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        if !matches!(process.try_wait(), Ok(None)) {
            return false;
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}
