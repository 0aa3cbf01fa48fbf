//! Expectations of a policy: a TOML file that says which devices may do what, and what they may not.
//!
//! ```toml
//! [[device]]
//! name = "pump-1"
//! claims = { sub = "auth0|7", permissions = ["publish:pumps/1/#"] }   # or the path of a file
//! client_id = "pump-1"
//! may = ["publish pumps/1/level", "subscribe --qos 1 pumps/1/set"]
//! may_not = ["publish pumps/2/level"]
//! ```

use std::path::Path;

use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use auth::{clock::Unix, secret::Secret};
use input::text::Quoted;

use crate::{
    arguments::time,
    device::{self, Credential, Device},
    output::Failure,
    question::Question,
    secrets,
};

/// What is expected of a device.
#[derive(Debug)]
pub(crate) struct Expectation {
    /// Its name in the file.
    pub(crate) name: String,
    /// The line on which it begins.
    pub(crate) line: usize,
    /// The device.
    pub(crate) device: Device,
    /// When it does all this; `None` for the present.
    pub(crate) at: Option<Unix>,
    /// Whether it is let in.
    pub(crate) let_in: bool,
    /// What it does, whether it may, and the line that says so.
    pub(crate) deeds: Vec<(Question, bool, usize)>,
}

/// A value, and its place in the text.
type TomlNode<'t> = Spanned<DeValue<'t>>;

/// Parses a file. Paths in it are relative to its folder.
///
/// # Errors
///
/// Returns a failure with the first mistake.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Vec<Expectation>, Failure> {
    let reader = Reader { text, path };
    let document = DeTable::parse(text).map_err(|why| {
        let start = why.span().map_or(0, |span| span.start);
        reader.failure(
            start,
            &format!("this is not valid TOML ({})", why.message()),
        )
    })?;
    let mut expectations = Vec::new();
    for (key, value) in document.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("device", DeValue::Array(devices)) => {
                for device in devices {
                    expectations.push(reader.device(device)?);
                }
            }
            (name, _) => {
                let name = Quoted(name);
                return Err(reader.failure(
                    key.span().start,
                    &format!("there is no {name}; begin a device with [[device]]"),
                ));
            }
        }
    }
    match expectations.is_empty() {
        true => Err(reader.failure(0, "it expects nothing; begin a device with [[device]]")),
        false => Ok(expectations),
    }
}

struct Reader<'t> {
    text: &'t str,
    path: &'t Path,
}

impl Reader<'_> {
    fn line(&self, start: usize) -> usize {
        let before = self.text.get(..start).unwrap_or_default();
        before.matches('\n').count() + 1
    }

    fn failure(&self, start: usize, why: &str) -> Failure {
        Failure::new(format!(
            "{}:{}: {why}",
            self.path.display(),
            self.line(start)
        ))
    }

    fn device(&self, value: &TomlNode) -> Result<Expectation, Failure> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.failure(value.span().start, "begin a device with [[device]]"));
        };
        let mut name = None;
        let (mut token, mut claims, mut username, mut password_file) = (None, None, None, None);
        let (mut client_id, mut certificate) = (None, None);
        let (mut address, mut port, mut at, mut let_in) = (None, None, None, true);
        let mut deeds = Vec::new();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "name" => name = Some(self.string(value)?),
                "token_file" => token = Some(self.string(value)?),
                "claims" => claims = Some(self.claims(value)?),
                "username" => username = Some(self.string(value)?),
                "password_file" => password_file = Some(self.string(value)?),
                "client_id" => client_id = Some(self.string(value)?),
                "address" => {
                    let text = self.string(value)?;
                    let parsed: Result<std::net::IpAddr, _> = text.parse();
                    parsed
                        .map_err(|_| self.failure(value.span().start, "address is no address"))?;
                    address = Some(text);
                }
                "certificate" => {
                    let file = self.beside(&self.string(value)?);
                    certificate = Some(device::certificate(&file)?);
                }
                "port" => port = Some(self.port(value)?),
                "at" => at = Some(self.time(value)?),
                "let_in" => match value.get_ref().as_bool() {
                    Some(expected) => let_in = expected,
                    None => return Err(self.failure(value.span().start, "let_in is true or false")),
                },
                "may" => self.deeds(value, true, &mut deeds)?,
                "may_not" => self.deeds(value, false, &mut deeds)?,
                name => {
                    let why = format!(
                        "there is no {}; a device has name, claims, token_file, username, password_file, client_id, \
                         address, port, certificate, at, let_in, may and may_not",
                        Quoted(name)
                    );
                    return Err(self.failure(key.span().start, &why));
                }
            }
        }
        let start = value.span().start;
        let credential = match (token, claims, username) {
            (Some(file), None, None) => {
                let file = self.beside(&file);
                Credential::Token(Secret::new(secrets::token(&file)?))
            }
            (None, Some(claims), username) => Credential::Claims { claims, username },
            (None, None, Some(username)) => {
                let file = password_file.map(|file| self.beside(&file));
                let password = secrets::password(&username, file.as_deref())?;
                Credential::Password { username, password }
            }
            _ => {
                let why = "write claims (with username for a user with a password), token_file, or username and \
                           password_file";
                return Err(self.failure(start, why));
            }
        };
        let client_id = client_id.or_else(|| name.clone());
        let client_id = client_id.unwrap_or_else(|| "mosquitto-auth0".to_owned());
        Ok(Expectation {
            name: name.unwrap_or_else(|| client_id.clone()),
            line: self.line(start),
            device: Device {
                client_id,
                address: address.unwrap_or_else(|| "127.0.0.1".to_owned()),
                port,
                certificate,
                credential,
            },
            at,
            let_in,
            deeds,
        })
    }

    fn beside(&self, file: &str) -> std::path::PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }

    fn string(&self, value: &TomlNode) -> Result<String, Failure> {
        let text = value.get_ref().as_str().map(str::to_owned);
        text.ok_or_else(|| self.failure(value.span().start, "write text in quotes"))
    }

    fn port(&self, value: &TomlNode) -> Result<u16, Failure> {
        let number = json(value.get_ref()).as_u64();
        number
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| self.failure(value.span().start, "write a port, as in 8883"))
    }

    fn time(&self, value: &TomlNode) -> Result<Unix, Failure> {
        let text = match json(value.get_ref()) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        time(&text).map_err(|why| self.failure(value.span().start, &why))
    }

    /// Returns claims: those of a table, or of the file with this name.
    fn claims(&self, value: &TomlNode) -> Result<Map<String, Value>, Failure> {
        match json(value.get_ref()) {
            Value::Object(claims) => Ok(claims),
            Value::String(file) => {
                let file = self.beside(&file);
                let text = std::fs::read_to_string(&file)
                    .map_err(|why| Failure::new(format!("{}: {why}", file.display())))?;
                device::claims_of(&text, &file)
            }
            _ => Err(self.failure(value.span().start, "claims is a table, or a file of JSON")),
        }
    }

    fn deeds(
        &self,
        value: &TomlNode,
        may: bool,
        deeds: &mut Vec<(Question, bool, usize)>,
    ) -> Result<(), Failure> {
        let why = "write a list of texts, as in [\"publish a/b\"]";
        let list = value.get_ref().as_array();
        let list = list.ok_or_else(|| self.failure(value.span().start, why))?;
        for element in list {
            let start = element.span().start;
            let question = Question::parse(&self.string(element)?);
            let question = question.map_err(|why| self.failure(start, &why))?;
            deeds.push((question, may, self.line(start)));
        }
        Ok(())
    }
}

/// Returns a TOML value as JSON. A date becomes a text.
fn json(value: &DeValue) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or(Value::Null, Value::from),
        DeValue::Boolean(is_true) => Value::from(*is_true),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(list) => list.iter().map(|one| json(one.get_ref())).collect(),
        DeValue::Table(table) => {
            let members = table.iter();
            let members =
                members.map(|(name, value)| (name.get_ref().to_string(), json(value.get_ref())));
            Value::Object(members.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_found_by_its_line() {
        let why = |text: &str| parse(text, Path::new("x.toml")).unwrap_err().what;
        for (text, part) in [
            ("", "x.toml:1: it expects nothing"),
            ("[[device]]\nname = 'x'\n", "x.toml:1: write claims"),
            ("[[device]]\nclaims = 3\n", "x.toml:2: claims is a table"),
            (
                "[[device]]\nclaims = {}\n\nmay = [\n'publish a',\n'publsh b']\n",
                "x.toml:6: 'publsh b' is no question",
            ),
            ("[[device]]\nmust = []\n", "x.toml:2: there is no 'must'"),
            ("devices = []\n", "x.toml:1: there is no 'devices'"),
            (
                "[[device]]\nclaims = {}\naddress = 'x'\n",
                "x.toml:3: address is no address",
            ),
            ("[[device]\n", "x.toml:1: this is not valid TOML"),
        ] {
            assert!(why(text).starts_with(part), "{text}: {}", why(text));
        }
    }

    #[test]
    fn a_device_is_read_with_its_claims_and_its_time() {
        let text = "[[device]]\nname = 'p'\nclaims = { sub = 'u', n = 7, l = ['a'] }\nat = 2026-03-01T22:30:00Z\n\
                    may = ['publish a']\nmay_not = ['receive b']\n";
        let read = parse(text, Path::new("x.toml")).unwrap();
        let Credential::Claims { claims, .. } = &read[0].device.credential else {
            panic!("claims")
        };
        assert_eq!(
            Value::Object(claims.clone()),
            serde_json::json!({"sub": "u", "n": 7, "l": ["a"]})
        );
        assert_eq!(read[0].device.client_id, "p");
        assert_eq!(read[0].at, Some(Unix(1_772_404_200)));
        let deeds: Vec<_> = read[0]
            .deeds
            .iter()
            .map(|(one, may, line)| (one.to_string(), *may, *line))
            .collect();
        assert_eq!(
            deeds,
            [
                ("publish a".into(), true, 5),
                ("receive b".into(), false, 6)
            ]
        );
    }
}
