//! MQTT over a websocket (RFC 6455), as far as a test of one CONNECT needs it.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::raw::ConnectPacket;
use crate::broker::PATIENCE;

/// Sends one CONNECT through a websocket that is opened with these additional header lines. Returns the code
/// of the CONNACK, or `None` if the broker closes instead, and closes the connection.
///
/// # Errors
///
/// Returns an error when the broker cannot be reached, or does not open a websocket.
pub fn connect(port: u16, headers: &[&str], connect: &ConnectPacket) -> io::Result<Option<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = String::from(
        "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n",
    );
    headers
        .iter()
        .for_each(|line| request += &format!("{line}\r\n"));
    stream.write_all((request + "\r\n").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(byte(&mut stream)?);
    }
    if !answer.starts_with(b"HTTP/1.1 101") {
        return Err(io::Error::other(String::from_utf8_lossy(&answer)));
    }
    stream.write_all(&frame(&connect.packet()))?;
    // The frame's header, then the CONNACK's: 0x20, its length, its flags.
    let mut head = [0; 2 + 3];
    match stream.read_exact(&mut head) {
        Ok(()) if head[0] == 0x82 && head[2] == 0x20 => byte(&mut stream).map(Some),
        // The broker closed, with or without a close frame.
        _ => Ok(None),
    }
}

fn byte(stream: &mut TcpStream) -> io::Result<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Returns one binary frame, masked with zeros.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a CONNECT of a test is short");
    let mut frame = vec![0x82, 0x80 | 126];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}
