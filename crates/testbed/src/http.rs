//! HTTP/1.1 as far as a token endpoint needs it, over any stream.

use std::io::{self, Read, Write};

use serde_json::Value;

/// The largest accepted request head, in bytes: twice what common servers allow.
const MAX_HEAD: usize = 64 * 1024;
/// The maximum number of header lines.
const MAX_HEADERS: usize = 100;
/// The largest accepted request body, in bytes. A token request has a few hundred.
const MAX_BODY: usize = 1024 * 1024;

/// A complete request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The request target as sent, including the query.
    pub target: String,
    /// The header lines in order, with names as sent.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
    persistent: bool,
}

impl Request {
    /// Returns the target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the first header line with this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// Returns the fields of the body: a form (WHATWG URL section 5.1) or a JSON object, which Auth0 accepts
    /// alike. Returns `None` for any other body.
    pub fn fields(&self) -> Option<Vec<(String, String)>> {
        let kind = self.header("content-type").unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/x-www-form-urlencoded" => form_fields(&self.body),
            "application/json" => json_fields(&self.body),
            _ => None,
        }
    }

    /// Whether the client expects the connection to stay open (RFC 9112 section 9.3).
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }
}

/// How a body is delimited (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    #[default]
    Length,
    /// `Transfer-Encoding: chunked`, which Auth0's edge uses for most token responses.
    Chunked,
}

/// A complete response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines in order, without those of the framing and `Connection`.
    pub headers: Vec<(String, String)>,
    /// The body, before framing.
    pub body: Vec<u8>,
    /// How the body is framed.
    pub framing: Framing,
}

impl Response {
    /// Returns a response without header lines.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Replaces a header line in its place, or adds it.
    pub fn set_header(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        let mut lines = self.headers.iter_mut();
        match lines.find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some(line) => line.1 = value,
            None => self.headers.push((name.to_owned(), value)),
        }
    }

    /// Returns status line and header lines. `length` is the value of `Content-Length`.
    pub fn head(&self, length: u64, keep_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &match self.framing {
            Framing::Length => format!("Content-Length: {length}\r\n"),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        head += match keep_alive {
            true => "Connection: keep-alive\r\n\r\n",
            false => "Connection: close\r\n\r\n",
        };
        head.into_bytes()
    }

    /// Returns the body as it is sent.
    pub fn framed_body(&self) -> Vec<u8> {
        match self.framing {
            Framing::Length => self.body.clone(),
            Framing::Chunked if self.body.is_empty() => b"0\r\n\r\n".to_vec(),
            Framing::Chunked => {
                let mut wire = format!("{:x}\r\n", self.body.len()).into_bytes();
                wire.extend_from_slice(&self.body);
                wire.extend_from_slice(b"\r\n0\r\n\r\n");
                wire
            }
        }
    }

    /// Writes the whole response.
    pub fn write(&self, out: &mut impl Write, keep_alive: bool) -> io::Result<()> {
        let mut wire = self.head(self.body.len() as u64, keep_alive);
        wire.extend(self.framed_body());
        out.write_all(&wire)?;
        out.flush()
    }
}

/// One end of a connection, with the bytes that were read ahead.
#[derive(Debug)]
pub struct Wire<S> {
    /// The stream below.
    pub stream: S,
    buffer: Vec<u8>,
}

impl<S: Read + Write> Wire<S> {
    /// Wraps a stream.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Reads one request. Returns `None` when the client closed the connection between requests.
    pub fn read_request(&mut self) -> io::Result<Option<Request>> {
        let (mut request, body_at, length) = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(malformed("a request head over the limit"));
            }
            if self.fill()? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        };
        let end = body_at + length;
        while self.buffer.len() < end {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        request.body = self.buffer[body_at..end].to_vec();
        self.buffer.drain(..end);
        Ok(Some(request))
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 8 * 1024];
        let read = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read)
    }
}

/// Parses a request without its body. Also returns where the body starts and how long it is.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Request, usize, usize)>> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut lines);
    let body_at = match parsed.parse(bytes).map_err(malformed)? {
        httparse::Status::Complete(body_at) => body_at,
        httparse::Status::Partial => return Ok(None),
    };
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|line| {
            let value = String::from_utf8_lossy(line.value);
            (line.name.to_owned(), value.into_owned())
        })
        .collect();
    // No client of the test bed sends a chunked request, so reading one is not implemented.
    if find_header(&headers, "transfer-encoding").is_some() {
        return Err(malformed("a chunked request"));
    }
    let length = match find_header(&headers, "content-length") {
        Some(text) => text.parse().map_err(malformed)?,
        None => 0,
    };
    if length > MAX_BODY {
        return Err(malformed("a request body over the limit"));
    }
    let connection = find_header(&headers, "connection").unwrap_or_default();
    let persistent = match parsed.version {
        Some(1) => !connection.eq_ignore_ascii_case("close"),
        _ => connection.eq_ignore_ascii_case("keep-alive"),
    };
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        headers,
        body: Vec::new(),
        persistent,
    };
    Ok(Some((request, body_at, length)))
}

fn malformed(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

pub(crate) fn find_header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let line = headers
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    line.map(|(_, value)| value.as_str())
}

fn form_fields(body: &[u8]) -> Option<Vec<(String, String)>> {
    body.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = percent_decode(halves.next()?)?;
            let value = percent_decode(halves.next().unwrap_or_default())?;
            Some((name, value))
        })
        .collect()
}

pub(crate) fn percent_decode(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                let value = digit()? * 16 + digit()?;
                u8::try_from(value).ok()?
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn json_fields(body: &[u8]) -> Option<Vec<(String, String)>> {
    let Value::Object(members) = serde_json::from_slice(body).ok()? else {
        return None;
    };
    let fields = members.into_iter().map(|(name, value)| match value {
        Value::String(text) => (name, text),
        other => (name, other.to_string()),
    });
    Some(fields.collect())
}

/// Returns the reason phrase of the statuses that Auth0 and its edge send.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        // Cloudflare's own statuses have no registered phrase.
        _ => "",
    }
}

/// Formats `Date` in the only format that may be sent (RFC 9110 section 5.6.7), from Unix time in seconds.
pub fn date(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let month = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ][month - 1];
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Returns year, month and day of a number of days since 1970, counted month by month.
pub(crate) fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(text: &str) -> io::Result<Vec<Request>> {
        let mut wire = Wire::new(Cursor::new(text.as_bytes().to_vec()));
        let mut requests = Vec::new();
        while let Some(request) = wire.read_request()? {
            requests.push(request);
        }
        Ok(requests)
    }

    #[test]
    fn requests_follow_each_other_on_one_connection() {
        let requests = read(
            "POST /oauth/token?a=b HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             content-length: 27\r\n\r\np=%2b%26+%3D%25&q=%C3%A9&&r\
             GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].path(), "/oauth/token");
        assert!(requests[0].is_persistent() && !requests[1].is_persistent());
        let fields = requests[0].fields().unwrap();
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(pairs, [("p", "+& =%"), ("q", "é"), ("r", "")]);
    }

    #[test]
    fn a_json_body_gives_the_same_fields_as_a_form() {
        let body = r#"{"scope":"openid","n":1}"#;
        let head = "POST / HTTP/1.1\r\nContent-Type: application/json; charset=utf-8\r\n";
        let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let fields = read(&text).unwrap()[0].fields().unwrap();
        assert!(fields.contains(&("scope".into(), "openid".into())));
        assert!(fields.contains(&("n".into(), "1".into())));
    }

    #[test]
    fn truncated_malformed_and_oversized_requests_are_errors() {
        for bad in [
            "GET / HTTP/1.1\r\nHost",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc",
            "POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "\u{16}\u{3}\u{1}\r\n\r\n",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(read(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(70_000))).is_err());
        assert!(form_fields(b"a=%zz").is_none() && form_fields(b"a=%ff").is_none());
        assert!(form_fields(b"a=%4").is_none());
    }

    #[test]
    fn both_framings_follow_the_rfc() {
        let mut response = Response::new(403, "{}").header("A", "b");
        let mut wire = Vec::new();
        response.write(&mut wire, true).unwrap();
        assert_eq!(
            String::from_utf8(wire).unwrap(),
            "HTTP/1.1 403 Forbidden\r\nA: b\r\nContent-Length: 2\r\n\
             Connection: keep-alive\r\n\r\n{}"
        );
        response.framing = Framing::Chunked;
        response.set_header("a", "c");
        let mut wire = Vec::new();
        response.write(&mut wire, false).unwrap();
        assert_eq!(
            String::from_utf8(wire).unwrap(),
            "HTTP/1.1 403 Forbidden\r\nA: c\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        );
    }

    #[test]
    fn dates_are_calendar_dates() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(date(1_630_700_174), "Fri, 03 Sep 2021 20:16:14 GMT");
    }
}
