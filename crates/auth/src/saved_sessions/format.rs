//! The file: a header, then frames. A frame is the length of its content, that length again with all bits inverted, a
//! hash of the content, and the content. Its content is one [`Entry`].
//!
//! A file that ends within a frame was cut off, as by a power cut while it was written: what is missing was not saved
//! yet. A frame that is there and wrong was changed. Nobody knows whose entry it was, so the sessions before it may
//! have got other rights since: they keep their owner, and their rights do not count.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{SavedSession, Uncertain, claims::ClaimsHash};
use crate::{clock::Unix, secret::sha256};

/// The first bytes of the file. The number is that of the format.
pub(super) const HEADER: &[u8] = b"mosquitto-auth0 sessions 2\n";

/// Those of the first format, which has no signing keys and no released client IDs. It is read, and never appended to:
/// the first write replaces the file.
pub(super) const FIRST_HEADER: &[u8] = b"mosquitto-auth0 sessions 1\n";

/// The generation of the file's format, which is in [`HEADER`]. This version of the plugin writes this one, and reads
/// it and the first.
pub const GENERATION: u32 = 2;

/// The longest content of a frame, in bytes. The claims of a token are shorter.
const MAX_CONTENT: usize = 1024 * 1024;

/// One statement of the file.
#[derive(Debug, PartialEq)]
pub(super) enum Entry<'a> {
    /// Claims that later entries name by their hash.
    Claims(&'a str),
    /// A session, whatever was said about its client ID before.
    Session(&'a str, SavedSession),
    /// The broker has no session with this client ID any more.
    Ended(&'a str),
    /// An administrator has released this client ID.
    Released(&'a str),
    /// Entries are missing here.
    Missing,
}

/// How the file ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it was read.
    Whole,
    /// It was cut off. This many bytes are good.
    CutOff(usize),
    /// What follows this many bytes was changed.
    Changed(usize),
}

/// A frame that was read.
pub(super) enum Frame<'a> {
    /// It is as it was written.
    Good(Entry<'a>),
    /// It was changed.
    Bad,
}

const CLAIMS: u8 = 1;
const SESSION: u8 = 2;
const ENDED: u8 = 3;
const MISSING: u8 = 4;
const RELEASED: u8 = 5;

/// What a session has, beside what each has.
mod has {
    pub(super) const UNCERTAIN: u8 = 1;
    pub(super) const SUBJECT: u8 = 2;
    pub(super) const IPV4: u8 = 4;
    pub(super) const IPV6: u8 = 8;
    pub(super) const PORT: u8 = 16;
    pub(super) const CERTIFICATE: u8 = 32;
    pub(super) const KEY: u8 = 64;
}

/// Appends a frame.
pub(super) fn write(entry: &Entry, file: &mut Vec<u8>) {
    let start = file.len();
    file.extend([0; 16]);
    match entry {
        Entry::Claims(text) => {
            file.push(CLAIMS);
            file.extend(text.as_bytes());
        }
        Entry::Session(client_id, session) => write_session(client_id, session, file),
        Entry::Ended(client_id) => {
            file.push(ENDED);
            file.extend(client_id.as_bytes());
        }
        Entry::Released(client_id) => {
            file.push(RELEASED);
            file.extend(client_id.as_bytes());
        }
        Entry::Missing => file.push(MISSING),
    }
    let length = (file.len() - start - 16) as u32;
    let hash = sha256(&file[start + 16..]);
    file[start..start + 4].copy_from_slice(&length.to_le_bytes());
    file[start + 4..start + 8].copy_from_slice(&(!length).to_le_bytes());
    file[start + 8..start + 16].copy_from_slice(&hash[..8]);
}

fn write_session(client_id: &str, session: &SavedSession, file: &mut Vec<u8>) {
    let with = |flag, present: bool| if present { flag } else { 0 };
    let subject = (session.subject != session.username).then_some(&session.subject);
    let flags = with(has::UNCERTAIN, session.uncertain == Uncertain::Yes)
        | with(has::SUBJECT, subject.is_some())
        | with(has::IPV4, session.address.is_some_and(|ip| ip.is_ipv4()))
        | with(has::IPV6, session.address.is_some_and(|ip| ip.is_ipv6()))
        | with(has::PORT, session.port.is_some())
        | with(has::CERTIFICATE, session.certificate.is_some())
        | with(has::KEY, session.signed_by.is_some());
    file.extend([SESSION, flags]);
    file.extend(session.until.0.to_le_bytes());
    file.extend(session.claims.0);
    write_text(client_id, file);
    write_text(&session.username, file);
    write_text(&session.own, file);
    if let Some(subject) = subject {
        write_text(subject, file);
    }
    match session.address {
        Some(IpAddr::V4(ip)) => file.extend(ip.octets()),
        Some(IpAddr::V6(ip)) => file.extend(ip.octets()),
        None => {}
    }
    if let Some(port) = session.port {
        file.extend(port.to_le_bytes());
    }
    if let Some(print) = session.certificate {
        file.extend(print);
    }
    if let Some(mark) = session.signed_by {
        file.extend(mark.to_le_bytes());
    }
}

fn write_text(text: &str, file: &mut Vec<u8>) {
    // One byte is enough for most texts.
    match u8::try_from(text.len()) {
        Ok(length) if length < u8::MAX => file.push(length),
        _ => {
            file.push(u8::MAX);
            file.extend((text.len() as u32).to_le_bytes());
        }
    }
    file.extend(text.as_bytes());
}

/// Reads the frames of a file, without its header, and calls `each` with them. `from` is the length of the header.
pub(super) fn read<'a>(mut rest: &'a [u8], from: usize, mut each: impl FnMut(Frame<'a>)) -> End {
    let whole = rest.len();
    let mut changed = None;
    while !rest.is_empty() {
        let at = from + whole - rest.len();
        let Some((head, after)) = rest.split_at_checked(16) else {
            return changed.map_or(End::CutOff(at), End::Changed);
        };
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let inverted = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if length != !inverted || length as usize > MAX_CONTENT {
            each(Frame::Bad);
            return End::Changed(changed.unwrap_or(at));
        }
        let Some((content, after)) = after.split_at_checked(length as usize) else {
            return changed.map_or(End::CutOff(at), End::Changed);
        };
        let is_good = sha256(content)[..8] == head[8..];
        match is_good.then(|| entry(content)).flatten() {
            Some(entry) => each(Frame::Good(entry)),
            None => {
                changed = changed.or(Some(at));
                each(Frame::Bad);
            }
        }
        rest = after;
    }
    changed.map_or(End::Whole, End::Changed)
}

fn entry(content: &[u8]) -> Option<Entry<'_>> {
    let (kind, rest) = content.split_first()?;
    match *kind {
        CLAIMS => Some(Entry::Claims(std::str::from_utf8(rest).ok()?)),
        SESSION => session(rest),
        ENDED => Some(Entry::Ended(std::str::from_utf8(rest).ok()?)),
        RELEASED => Some(Entry::Released(std::str::from_utf8(rest).ok()?)),
        MISSING if rest.is_empty() => Some(Entry::Missing),
        _ => None,
    }
}

fn session(content: &[u8]) -> Option<Entry<'_>> {
    let mut rest = Rest(content);
    let [flags] = rest.bytes()?;
    let until = Unix(u64::from_le_bytes(rest.bytes()?));
    let claims = ClaimsHash(rest.bytes()?);
    let client_id = rest.text()?;
    let username = rest.text()?.into();
    let own = rest.text()?.into();
    let subject = match flags & has::SUBJECT {
        0 => std::sync::Arc::clone(&username),
        _ => rest.text()?.into(),
    };
    let address = match flags & (has::IPV4 | has::IPV6) {
        0 => None,
        has::IPV4 => Some(Ipv4Addr::from(rest.bytes::<4>()?).into()),
        has::IPV6 => Some(Ipv6Addr::from(rest.bytes::<16>()?).into()),
        _ => return None,
    };
    let port = match flags & has::PORT {
        0 => None,
        _ => Some(u16::from_le_bytes(rest.bytes()?)),
    };
    let certificate = match flags & has::CERTIFICATE {
        0 => None,
        _ => Some(rest.bytes()?),
    };
    let signed_by = match flags & has::KEY {
        0 => None,
        _ => Some(u64::from_le_bytes(rest.bytes()?)),
    };
    let uncertain = match flags & has::UNCERTAIN {
        0 => Uncertain::No,
        _ => Uncertain::Yes,
    };
    let session = SavedSession {
        username,
        subject,
        until,
        claims,
        own,
        uncertain,
        address,
        port,
        certificate,
        signed_by,
    };
    rest.0
        .is_empty()
        .then_some(Entry::Session(client_id, session))
}

/// What is left of a content.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let [short] = self.bytes()?;
        let length = match short {
            u8::MAX => u32::from_le_bytes(self.bytes()?) as usize,
            short => usize::from(short),
        };
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_the_generation() {
        let expected = format!("mosquitto-auth0 sessions {GENERATION}\n");
        assert_eq!(HEADER, expected.as_bytes());
    }
}
