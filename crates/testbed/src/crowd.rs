//! Thousands of simultaneous connections, from few threads and several addresses.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::broker::PATIENCE;
use crate::clients::raw::{ConnectPacket, ConnectRefusal, Protocol};

/// The number of addresses that the connections come from. The port of a closed connection is free again
/// after a minute, and an address has some ten thousand ports.
const ADDRESSES: usize = 16;

/// Accepted connections, of any version of MQTT.
#[derive(Default)]
pub struct Crowd(Vec<TcpStream>);

impl Crowd {
    /// Connects one client after the other, each after the CONNACK of the one before. Accepted connections
    /// stay open.
    ///
    /// # Errors
    ///
    /// Returns the first refusal, with the client's number.
    ///
    /// # Panics
    ///
    /// Panics when the connection is refused.
    pub fn connect_in_turn(
        port: u16,
        connects: impl Iterator<Item = ConnectPacket>,
    ) -> Result<Self, (usize, ConnectRefusal)> {
        let mut crowd = Self::default();
        for (number, connect) in connects.enumerate() {
            let mut stream = send_connect(number, port, &connect);
            match connack(&mut stream) {
                Ok(()) => crowd.0.push(stream),
                Err(refusal) => return Err((number, refusal)),
            }
        }
        Ok(crowd)
    }

    /// Connects all clients at once: every CONNECT is sent before the first CONNACK is read. Returns the
    /// accepted connections, and the number and refusal of each other client.
    ///
    /// # Panics
    ///
    /// Panics when the connection is refused.
    pub fn connect_at_once(
        port: u16,
        connects: impl Iterator<Item = ConnectPacket>,
    ) -> (Self, Vec<(usize, ConnectRefusal)>) {
        let connecting: Vec<TcpStream> = connects
            .enumerate()
            .map(|(number, connect)| send_connect(number, port, &connect))
            .collect();
        let (mut crowd, mut refused) = (Self::default(), Vec::new());
        for (number, mut stream) in connecting.into_iter().enumerate() {
            match connack(&mut stream) {
                Ok(()) => crowd.0.push(stream),
                Err(refusal) => refused.push((number, refusal)),
            }
        }
        (crowd, refused)
    }

    /// Adds these connections.
    pub fn join(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Returns the number of connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no connections.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until the broker has closed each connection.
    ///
    /// # Panics
    ///
    /// Panics when one of them is silent for longer than this.
    pub fn wait_until_closed(self, within: Duration) {
        for mut stream in self.0 {
            let limited = stream.set_read_timeout(Some(within));
            limited.expect("a socket option");
            let ended = stream.read_to_end(&mut Vec::new());
            ended.expect("the broker hangs up");
        }
    }

    /// Disconnects all clients, and waits until the broker has closed each connection.
    ///
    /// # Panics
    ///
    /// Panics when it does not.
    pub fn leave(self) {
        for mut stream in &self.0 {
            let _ = stream.write_all(&[0xe0, 0]);
        }
        for mut stream in self.0 {
            let ended = stream.read_to_end(&mut Vec::new());
            ended.expect("the broker hangs up on who says goodbye");
        }
    }
}

/// Opens a connection from one of the addresses and sends the CONNECT.
fn send_connect(number: usize, port: u16, connect: &ConnectPacket) -> TcpStream {
    let own = Ipv4Addr::new(127, 0, 0, 1 + (number % ADDRESSES) as u8);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddrV4::new(own, 0).into())
        .expect("a free port");
    socket
        .connect(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())
        .expect("a listener");
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true).expect("a socket option");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    // A closed connection is noticed by the next read.
    let _ = stream.write_all(&connect.packet());
    stream
}

fn connack(stream: &mut TcpStream) -> Result<(), ConnectRefusal> {
    let mut answer = [0; 4];
    let read = stream.read_exact(&mut answer).and_then(|()| {
        // In MQTT 5, properties follow the code; their length is below 128.
        let more = usize::from(answer[1]).saturating_sub(2);
        stream.read_exact(&mut vec![0; more])
    });
    match read {
        Ok(()) if answer[0] == 0x20 && answer[3] == 0 => Ok(()),
        Ok(()) => Err(ConnectRefusal::Code(answer[3])),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(ConnectRefusal::Closed)
        }
        Err(_) => Err(ConnectRefusal::Silent),
    }
}

/// Sends a number of CONNECTs a second, each with another user and password, until it is dropped. Nobody
/// reads the CONNACKs.
pub struct Flood {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Starts the flood, from each of these addresses in turn.
    ///
    /// # Panics
    ///
    /// Panics without an address.
    #[must_use]
    pub fn start(
        port: u16,
        per_second: usize,
        addresses: Vec<Ipv4Addr>,
        protocol: Protocol,
    ) -> Self {
        /// A blocked broker keeps a connection waiting, which must not delay the others.
        const THREADS: usize = 4;
        let (over, sent) = (Arc::default(), Arc::default());
        let addresses: Arc<[_]> = addresses.into();
        let pause = Duration::from_secs(THREADS as u64) / u32::try_from(per_second).unwrap();
        let flow = |first: usize| {
            let (over, sent): (Arc<AtomicBool>, Arc<AtomicUsize>) =
                (Arc::clone(&over), Arc::clone(&sent));
            let addresses = Arc::clone(&addresses);
            move || {
                let mut open = VecDeque::new();
                let mut due = Instant::now() + pause * u32::try_from(first).unwrap() / 4;
                for number in (first..).step_by(THREADS) {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    // Missed CONNECTs are not made up for, so the rate is never exceeded.
                    due = (due + pause).max(Instant::now());
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let connect = ConnectPacket::new(protocol, &format!("junk{number}"))
                        .login(format!("stranger{number}"), format!("guess{number}"));
                    let from = addresses[number % addresses.len()];
                    if let Some(stream) = send(from, port, &connect) {
                        open.push_back(stream);
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    // Long enough for a response, and few enough that file descriptors do not run out.
                    if open.len() > 100 {
                        open.pop_front();
                    }
                }
            }
        };
        let threads = (0..THREADS)
            .map(|first| thread::spawn(flow(first)))
            .collect();
        Self {
            over,
            sent,
            threads,
        }
    }

    /// Returns the number of CONNECTs sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Opens a connection from this address and sends a CONNECT, unless the connection is refused.
fn send(from: Ipv4Addr, port: u16, connect: &ConnectPacket) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SocketAddrV4::new(from, 0).into()).ok()?;
    let broker = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    socket
        .connect_timeout(&broker.into(), Duration::from_secs(1))
        .ok()?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(&connect.packet()).ok()?;
    Some(stream)
}

/// How long the plugin may keep memory for disconnected clients: it caches verified tokens for a minute.
pub const FREED_WITHIN: Duration = Duration::from_secs(75);
