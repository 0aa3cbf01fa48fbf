//! A small MQTT client for tests that need exact bytes: any user name and password, exact reason codes, and
//! packets that no correct client sends. It does not check what it sends, and speaks plain TCP only.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

pub use super::{Message, Protocol};
use crate::broker::PATIENCE;

/// Properties of MQTT 5, as encoded in a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<u8>);

/// The property identifiers that tests use.
pub mod property {
    #![allow(missing_docs)] // the names are the standard's
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const REASON_STRING: u8 = 0x1f;
    pub const USER_PROPERTY: u8 = 0x26;
}

impl Properties {
    /// Returns no properties.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a four-byte number.
    #[must_use]
    pub fn u32(mut self, identifier: u8, value: u32) -> Self {
        self.0.push(identifier);
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Adds a string or binary data.
    #[must_use]
    pub fn bytes(mut self, identifier: u8, value: impl AsRef<[u8]>) -> Self {
        self.0.push(identifier);
        put_bytes(&mut self.0, value.as_ref());
        self
    }

    /// Adds a user property.
    #[must_use]
    pub fn user(self, name: &str, value: &str) -> Self {
        let mut with_name = self.bytes(property::USER_PROPERTY, name);
        put_bytes(&mut with_name.0, value.as_bytes());
        with_name
    }

    fn put(&self, protocol: Protocol, packet: &mut Vec<u8>) {
        if protocol == Protocol::V5 {
            put_length(packet, self.0.len());
            packet.extend(&self.0);
        }
    }
}

/// A will: the message that the broker publishes when the client vanishes.
#[derive(Clone, Debug, Default)]
pub struct Will {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its quality of service.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// Its properties, in MQTT 5.
    pub properties: Properties,
}

/// A CONNECT packet.
#[derive(Clone, Debug)]
pub struct ConnectPacket {
    /// The version of MQTT.
    pub protocol: Protocol,
    /// The client ID.
    pub client_id: String,
    /// The user name: any bytes, at most 65535.
    pub username: Option<Vec<u8>>,
    /// The password: any bytes, at most 65535.
    pub password: Option<Vec<u8>>,
    /// Clean session (MQTT 3) or clean start (MQTT 5).
    pub clean: bool,
    /// The keep-alive interval in seconds.
    pub keepalive: u16,
    /// Its properties, in MQTT 5.
    pub properties: Properties,
    /// The will.
    pub will: Option<Will>,
}

impl ConnectPacket {
    /// Returns a CONNECT with a clean session and without user name, password and will.
    #[must_use]
    pub fn new(protocol: Protocol, client_id: &str) -> Self {
        Self {
            protocol,
            client_id: client_id.into(),
            username: None,
            password: None,
            clean: true,
            keepalive: 60,
            properties: Properties::new(),
            will: None,
        }
    }

    /// Sets user name and password.
    #[must_use]
    pub fn login(mut self, username: impl AsRef<[u8]>, password: impl AsRef<[u8]>) -> Self {
        self.username = Some(username.as_ref().into());
        self.password = Some(password.as_ref().into());
        self
    }

    /// Encodes the packet.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        let (name, level) = match self.protocol {
            Protocol::V31 => ("MQIsdp", 3),
            Protocol::V311 => ("MQTT", 4),
            Protocol::V5 => ("MQTT", 5),
        };
        let mut flags = u8::from(self.clean) << 1;
        flags |= u8::from(self.username.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        if let Some(will) = &self.will {
            flags |= u8::from(will.retain) << 5 | will.qos << 3 | 1 << 2;
        }
        let mut body = Vec::new();
        put_bytes(&mut body, name.as_bytes());
        body.extend([level, flags]);
        body.extend(self.keepalive.to_be_bytes());
        self.properties.put(self.protocol, &mut body);
        put_bytes(&mut body, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            will.properties.put(self.protocol, &mut body);
            put_bytes(&mut body, will.topic.as_bytes());
            put_bytes(&mut body, &will.payload);
        }
        for field in [&self.username, &self.password].into_iter().flatten() {
            put_bytes(&mut body, field);
        }
        frame(0x10, &body)
    }
}

/// A packet from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK.
    Connack {
        /// Whether the broker had a session for this client.
        session_present: bool,
        /// The return code or reason code.
        code: u8,
        /// Its properties, in MQTT 5.
        properties: Properties,
    },
    /// PUBLISH, with the packet identifier of QoS 1 and 2.
    Publish(Message, Option<u16>),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP: its type (4 to 7), packet identifier and reason code.
    Ack(u8, u16, u8),
    /// SUBACK: packet identifier and one code for each filter.
    Suback(u16, Vec<u8>),
    /// UNSUBACK: packet identifier and, in MQTT 5, one code for each filter.
    Unsuback(u16, Vec<u8>),
    /// PINGRESP.
    Pong,
    /// DISCONNECT, with its reason code.
    Disconnect(u8),
    /// AUTH, with its reason code and properties.
    Auth(u8, Properties),
}

/// Why no packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The broker closed the connection.
    Closed,
    /// The wait timed out; the connection is still open.
    Silent,
}

/// Why a CONNECT did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// The broker sent a CONNACK with this code.
    Code(u8),
    /// The broker closed the connection without a CONNACK.
    Closed,
    /// The broker did not respond in time.
    Silent,
}

/// A connection to a broker.
pub struct RawClient {
    stream: TcpStream,
    protocol: Protocol,
    received: Vec<u8>,
    /// Messages that arrived during the wait for another packet.
    inbox: VecDeque<Message>,
    next_id: u16,
    /// Whether the broker had a session for this client.
    pub session_present: bool,
    /// The properties of the CONNACK.
    pub properties: Properties,
}

impl RawClient {
    /// Opens a connection to a listener on 127.0.0.1 and sends nothing.
    ///
    /// # Panics
    ///
    /// Panics when the connection is refused.
    #[must_use]
    pub fn open(port: u16, protocol: Protocol) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
        Self::over(stream, protocol)
    }

    /// Opens a connection from 127.0.0.`host`.
    ///
    /// # Panics
    ///
    /// Panics when the connection is refused.
    #[must_use]
    pub fn open_from(host: u8, port: u16, protocol: Protocol) -> Self {
        let address = |host, port| SocketAddr::from(([127, 0, 0, host], port)).into();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .bind(&address(host, 0))
            .expect("an address of loopback");
        socket.connect(&address(1, port)).expect("a listener");
        Self::over(socket.into(), protocol)
    }

    fn over(stream: TcpStream, protocol: Protocol) -> Self {
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream,
            protocol,
            received: Vec::new(),
            inbox: VecDeque::new(),
            next_id: 0,
            session_present: false,
            properties: Properties::new(),
        }
    }

    /// Connects and waits for the CONNACK.
    ///
    /// # Errors
    ///
    /// Returns an error when it is not a success.
    pub fn connect(port: u16, connect: &ConnectPacket) -> Result<Self, ConnectRefusal> {
        let mut client = Self::open(port, connect.protocol);
        client.send(&connect.packet());
        client.wait_connack(PATIENCE)?;
        Ok(client)
    }

    /// Waits for the CONNACK after [`RawClient::send`].
    ///
    /// # Errors
    ///
    /// Returns an error when it is not a success.
    ///
    /// # Panics
    ///
    /// Panics when another packet comes.
    pub fn wait_connack(&mut self, within: Duration) -> Result<(), ConnectRefusal> {
        match self.read(within) {
            Ok(Packet::Connack {
                session_present,
                code: 0,
                properties,
            }) => {
                (self.session_present, self.properties) = (session_present, properties);
                Ok(())
            }
            Ok(Packet::Connack { code, .. }) => Err(ConnectRefusal::Code(code)),
            Ok(other) => panic!("{other:?} in place of CONNACK"),
            Err(End::Closed) => Err(ConnectRefusal::Closed),
            Err(End::Silent) => Err(ConnectRefusal::Silent),
        }
    }

    /// Sends any bytes. A closed connection is not noticed here but by the next read.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Returns the next packet of any type. Nothing is acknowledged.
    ///
    /// # Errors
    ///
    /// Returns an error when none comes.
    ///
    /// # Panics
    ///
    /// Panics when the bytes are not MQTT.
    pub fn read(&mut self, within: Duration) -> Result<Packet, End> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(packet) = self.take_packet() {
                return Ok(packet);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(End::Silent);
            }
            self.stream
                .set_read_timeout(Some(left))
                .expect("a socket option");
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(End::Closed),
                Ok(length) => self.received.extend(&buffer[..length]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    _ => return Err(End::Closed),
                },
            }
        }
    }

    fn take_packet(&mut self) -> Option<Packet> {
        let mut header = Cursor(self.received.get(1..)?);
        let length = header.length()?;
        let start = self.received.len() - header.0.len();
        let body: Vec<u8> = self.received.get(start..start + length)?.into();
        let first = self.received[0];
        self.received.drain(..start + length);
        let packet = parse(self.protocol, first, &body);
        Some(packet.unwrap_or_else(|| panic!("not a packet: {first:#04x} {body:02x?}")))
    }

    /// Reads until a packet is `wanted`. Acknowledges other messages and keeps them for
    /// [`RawClient::next_message`].
    ///
    /// # Errors
    ///
    /// Returns an error when the packet does not come. An unexpected DISCONNECT counts as [`End::Closed`].
    fn read_until<T>(
        &mut self,
        within: Duration,
        wanted: impl Fn(&Packet) -> Option<T>,
    ) -> Result<T, End> {
        let deadline = Instant::now() + within;
        loop {
            let packet = self.read(deadline.saturating_duration_since(Instant::now()))?;
            if let Some(found) = wanted(&packet) {
                return Ok(found);
            }
            self.take_in(packet)?;
        }
    }

    /// Keeps a message for later, and acknowledges packets that need it.
    fn take_in(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Publish(message, id) => {
                if let Some(id) = id {
                    self.send_ack(if message.qos == 1 { 0x40 } else { 0x50 }, id);
                }
                self.inbox.push_back(message);
            }
            Packet::Ack(6, id, _) => self.send_ack(0x70, id),
            Packet::Disconnect(_) => return Err(End::Closed),
            _ => {}
        }
        Ok(())
    }

    fn send_ack(&mut self, first: u8, id: u16) {
        self.send(&frame(first, &id.to_be_bytes()));
    }

    fn id(&mut self) -> u16 {
        // 0 is not a valid identifier.
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }

    /// Publishes a message. Returns the reason code of the PUBACK or PUBREC, which in MQTT 3 is always 0; for
    /// QoS 0 returns 0 at once.
    ///
    /// # Errors
    ///
    /// Returns an error when no acknowledgement comes.
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> Result<u8, End> {
        self.publish_with(topic, payload, qos, false, &Properties::new())
    }

    /// Publishes a message, with every field of a PUBLISH.
    ///
    /// # Errors
    ///
    /// Returns an error when no acknowledgement comes.
    pub fn publish_with(
        &mut self,
        topic: &str,
        payload: impl AsRef<[u8]>,
        qos: u8,
        retain: bool,
        properties: &Properties,
    ) -> Result<u8, End> {
        let id = self.id();
        let mut body = Vec::new();
        put_bytes(&mut body, topic.as_bytes());
        if qos > 0 {
            body.extend(id.to_be_bytes());
        }
        properties.put(self.protocol, &mut body);
        body.extend(payload.as_ref());
        self.send(&frame(0x30 | qos << 1 | u8::from(retain), &body));
        let answer_of = |kind: u8| {
            move |packet: &Packet| match packet {
                Packet::Ack(found, of, code) if *found == kind && *of == id => Some(*code),
                _ => None,
            }
        };
        match qos {
            0 => Ok(0),
            1 => self.read_until(PATIENCE, answer_of(4)),
            _ => {
                let code = self.read_until(PATIENCE, answer_of(5))?;
                if code < 0x80 {
                    self.send_ack(0x62, id);
                    self.read_until(PATIENCE, answer_of(7))?;
                }
                Ok(code)
            }
        }
    }

    /// Subscribes, and returns the code for each filter.
    ///
    /// # Errors
    ///
    /// Returns an error when no SUBACK comes.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Result<Vec<u8>, End> {
        let mut body = self.numbered();
        for (filter, qos) in filters {
            put_bytes(&mut body, filter.as_bytes());
            body.push(*qos);
        }
        self.send(&frame(0x82, &body));
        let id = self.next_id;
        self.read_until(PATIENCE, |packet| match packet {
            Packet::Suback(of, codes) if *of == id => Some(codes.clone()),
            _ => None,
        })
    }

    /// Unsubscribes, and returns the code for each filter; MQTT 3 has none.
    ///
    /// # Errors
    ///
    /// Returns an error when no UNSUBACK comes.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Result<Vec<u8>, End> {
        let mut body = self.numbered();
        for filter in filters {
            put_bytes(&mut body, filter.as_bytes());
        }
        self.send(&frame(0xa2, &body));
        let id = self.next_id;
        self.read_until(PATIENCE, |packet| match packet {
            Packet::Unsuback(of, codes) if *of == id => Some(codes.clone()),
            _ => None,
        })
    }

    fn numbered(&mut self) -> Vec<u8> {
        let mut body = self.id().to_be_bytes().to_vec();
        Properties::new().put(self.protocol, &mut body);
        body
    }

    /// Sends an AUTH packet (MQTT 5).
    pub fn auth(&mut self, code: u8, properties: &Properties) {
        let mut body = vec![code];
        properties.put(Protocol::V5, &mut body);
        self.send(&frame(0xf0, &body));
    }

    /// Returns the next message, acknowledged.
    ///
    /// # Errors
    ///
    /// Returns an error when none comes.
    pub fn next_message(&mut self, within: Duration) -> Result<Message, End> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(message);
            }
            let packet = self.read(deadline.saturating_duration_since(Instant::now()))?;
            self.take_in(packet)?;
        }
    }

    /// Sends a PINGREQ and waits for the PINGRESP. The broker handles a client's packets in order, so it has
    /// then handled everything that was sent here before.
    ///
    /// # Errors
    ///
    /// Returns an error when the PINGRESP does not come.
    pub fn ping(&mut self) -> Result<(), End> {
        self.send(&[0xc0, 0]);
        self.read_until(PATIENCE, |packet| (*packet == Packet::Pong).then_some(()))
    }

    /// Returns all messages that the broker had for this client when it answered a ping, and that were not
    /// returned before. A message whose publisher had its acknowledgement (a PUBACK or a PINGRESP) before
    /// this call, and that is not among them, will never arrive. This holds for up to 20 messages of QoS 1
    /// and 2, the broker's own limit of messages in flight.
    ///
    /// # Errors
    ///
    /// Returns an error when the ping is not answered.
    pub fn messages_before_pong(&mut self) -> Result<Vec<Message>, End> {
        self.ping()?;
        Ok(self.inbox.drain(..).collect())
    }

    /// Sends DISCONNECT, in MQTT 5 with this reason (0: no will; 4: with will), and closes the connection.
    pub fn disconnect(mut self, reason: u8) {
        match self.protocol {
            Protocol::V5 => self.send(&[0xe0, 1, reason]),
            _ => self.send(&[0xe0, 0]),
        }
    }

    /// Closes the connection without a DISCONNECT, so that the broker publishes the will.
    pub fn abort(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits until the broker closes the connection. Returns the reason code of its DISCONNECT, or `None` if
    /// it sent none.
    ///
    /// # Errors
    ///
    /// Returns [`End::Silent`] when the connection stays open.
    pub fn wait_end(&mut self, within: Duration) -> Result<Option<u8>, End> {
        let disconnect = |packet: &Packet| match packet {
            Packet::Disconnect(code) => Some(*code),
            _ => None,
        };
        match self.read_until(within, disconnect) {
            Ok(code) => Ok(Some(code)),
            Err(End::Closed) => Ok(None),
            Err(End::Silent) => Err(End::Silent),
        }
    }
}

/// Returns the body with the fixed header in front.
#[must_use]
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    put_length(&mut packet, body.len());
    packet.extend(body);
    packet
}

fn put_length(packet: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        packet.push(length as u8 | 0x80);
        length >>= 7;
    }
    packet.push(length as u8);
}

fn put_bytes(packet: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("MQTT has 16 bits for the length");
    packet.extend(length.to_be_bytes());
    packet.extend(bytes);
}

fn parse(protocol: Protocol, first: u8, body: &[u8]) -> Option<Packet> {
    let v5 = protocol == Protocol::V5;
    let mut body = Cursor(body);
    Some(match first >> 4 {
        2 => Packet::Connack {
            session_present: body.byte()? & 1 == 1,
            code: body.byte()?,
            properties: body.properties(v5 && !body.0.is_empty())?,
        },
        3 => {
            let (qos, retain) = (first >> 1 & 3, first & 1 == 1);
            let topic = String::from_utf8(body.bytes()?.into()).ok()?;
            let id = if qos > 0 { Some(body.u16()?) } else { None };
            body.properties(v5)?;
            Packet::Publish(
                Message {
                    topic,
                    payload: body.0.into(),
                    qos,
                    retain,
                },
                id,
            )
        }
        kind @ 4..=7 => Packet::Ack(kind, body.u16()?, body.byte().unwrap_or(0)),
        kind @ (9 | 11) => {
            let id = body.u16()?;
            body.properties(v5)?;
            if kind == 9 {
                Packet::Suback(id, body.0.into())
            } else {
                Packet::Unsuback(id, body.0.into())
            }
        }
        13 => Packet::Pong,
        14 => Packet::Disconnect(body.byte().unwrap_or(0)),
        15 => Packet::Auth(
            body.byte().unwrap_or(0),
            body.properties(!body.0.is_empty())?,
        ),
        _ => return None,
    })
}

/// Bytes that are not parsed yet.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|one| one[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|two| u16::from_be_bytes([two[0], two[1]]))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    fn length(&mut self) -> Option<usize> {
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(length);
            }
        }
        None
    }

    fn properties(&mut self, present: bool) -> Option<Properties> {
        if !present {
            return Some(Properties::new());
        }
        let length = self.length()?;
        self.take(length).map(|bytes| Properties(bytes.into()))
    }
}
