//! Many connections at once: more than threads, ports of one address, or patience would go round for.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::broker::PATIENCE;
use crate::clients::raw::{Connect, Protocol, Refusal};

/// From how many addresses the crowd comes. The port of a connection that has ended is free again a
/// minute later, and an address has some ten thousands of them.
const ADDRESSES: usize = 16;

/// Connections that are in, of any version of MQTT.
#[derive(Default)]
pub struct Crowd(Vec<TcpStream>);

impl Crowd {
    /// Connects one after the other, each with its answer. Whoever comes in stays.
    ///
    /// # Errors
    /// The first that is refused, with its number.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn enter(
        port: u16,
        connects: impl Iterator<Item = Connect>,
    ) -> Result<Self, (usize, Refusal)> {
        let mut crowd = Self::default();
        for (number, connect) in connects.enumerate() {
            let mut stream = knock(number, port, &connect);
            match connack(&mut stream) {
                Ok(()) => crowd.0.push(stream),
                Err(refusal) => return Err((number, refusal)),
            }
        }
        Ok(crowd)
    }

    /// All connect at once: everybody has said who they are before the first answer is read. With those
    /// who came in are the numbers of those who did not, and why.
    ///
    /// # Panics
    /// When nobody listens there.
    pub fn rush(
        port: u16,
        connects: impl Iterator<Item = Connect>,
    ) -> (Self, Vec<(usize, Refusal)>) {
        let knocking: Vec<TcpStream> = connects
            .enumerate()
            .map(|(number, connect)| knock(number, port, &connect))
            .collect();
        let (mut crowd, mut refused) = (Self::default(), Vec::new());
        for (number, mut stream) in knocking.into_iter().enumerate() {
            match connack(&mut stream) {
                Ok(()) => crowd.0.push(stream),
                Err(refusal) => refused.push((number, refusal)),
            }
        }
        (crowd, refused)
    }

    /// These come to those.
    pub fn join(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// How many are in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All say goodbye, and are gone when the broker has hung up on each.
    ///
    /// # Panics
    /// When it does not.
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

/// A connection from this one's share of the addresses, with the CONNECT on its way.
fn knock(number: usize, port: u16, connect: &Connect) -> TcpStream {
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
    // That the broker has hung up is noticed by whoever reads.
    let _ = stream.write_all(&connect.packet());
    stream
}

fn connack(stream: &mut TcpStream) -> Result<(), Refusal> {
    let mut answer = [0; 4];
    let read = stream.read_exact(&mut answer).and_then(|()| {
        // MQTT 5 has properties behind the code; their length is below 128.
        let more = usize::from(answer[1]).saturating_sub(2);
        stream.read_exact(&mut vec![0; more])
    });
    match read {
        Ok(()) if answer[0] == 0x20 && answer[3] == 0 => Ok(()),
        Ok(()) => Err(Refusal::Code(answer[3])),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Refusal::Closed),
        Err(_) => Err(Refusal::Silent),
    }
}

/// Strangers: so many CONNECTs a second, each with another user and password, until it is dropped. Nobody
/// reads the answers.
pub struct Flood {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// The flood begins, from each of these addresses in turn.
    ///
    /// # Panics
    /// When there is no address.
    #[must_use]
    pub fn start(
        port: u16,
        per_second: usize,
        addresses: Vec<Ipv4Addr>,
        protocol: Protocol,
    ) -> Self {
        /// A broker that stands still lets a connection wait, and the others shall not wait for it.
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
                    // It does not make up for what it missed, so that it is never more a second.
                    due = (due + pause).max(Instant::now());
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let connect = Connect::new(protocol, &format!("junk{number}"))
                        .login(format!("stranger{number}"), format!("guess{number}"));
                    let from = addresses[number % addresses.len()];
                    if let Some(stream) = send(from, port, &connect) {
                        open.push_back(stream);
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    // Long enough for an answer; and not so many that files run out.
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

    /// How many CONNECTs were sent.
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

/// A CONNECT from this address on its way, unless nobody takes it.
fn send(from: Ipv4Addr, port: u16, connect: &Connect) -> Option<TcpStream> {
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

/// How long the plugin may take to forget who has left: it keeps verified tokens for a minute, in case
/// that they are back.
pub const FORGOTTEN_WITHIN: Duration = Duration::from_secs(75);
