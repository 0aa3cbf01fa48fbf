//! The options that an operator has set, and how one of them is read by its row in the table.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    ConfigError, Result,
    errors::Problem,
    nearest::nearest,
    options::{self, DefaultValue, Kind, Opt},
};
use crate::{
    files::{self, FileError},
    secret::{MAX_SECRET, Secret, read_secret_file},
};

/// The longest configuration file read, in bytes: room for every option many times over.
const MAX_CONFIG_FILE: u64 = 256 * 1024;

/// The longest file that another option may name, in bytes. The system's whole bundle of certificates has a
/// quarter of a megabyte.
const MAX_NAMED_FILE: u64 = 4 * 1024 * 1024;

/// The options that are set, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    values: HashMap<&'static str, GivenValue>,
    /// The `[[issuer]]` tables of the file of options.
    pub(super) issuers: Vec<IssuerTable>,
    /// Whether they are read for a tool, so that nothing on disk may be changed.
    pub(super) only_looks: bool,
}

/// An `[[issuer]]` table.
#[derive(Clone, Debug)]
pub(super) struct IssuerTable {
    /// The options in it.
    pub(super) given: Given,
    /// The file that it is in.
    file: String,
    /// The line with its heading.
    line: usize,
}

impl IssuerTable {
    /// Says where the option stands, or would have to stand.
    pub(super) fn locate(&self, error: ConfigError) -> ConfigError {
        let value = self.given.values.get(error.option.as_str());
        let line = value.and_then(|value| value.line);
        error.at(&self.file, line.unwrap_or(self.line))
    }
}

#[derive(Clone, Debug)]
struct GivenValue {
    text: GivenText,
    /// The line of the file of options that has it; `None` for a line of mosquitto.conf.
    line: Option<usize>,
}

/// A value is kept for as long as the plugin runs, to be compared with a later one.
#[derive(Clone, Debug)]
enum GivenText {
    Plain(String),
    Secret(Secret),
}

impl GivenText {
    fn as_str(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(text) => text.reveal_str().expect("it was made of text"),
        }
    }
}

impl Given {
    /// Returns none, to be read without changing anything on disk.
    pub(super) fn looking() -> Self {
        Self {
            only_looks: true,
            ..Self::default()
        }
    }

    /// Sets an option that is not set.
    pub(super) fn assume(&mut self, name: &str, value: &str) {
        // The caller knows that the value is right.
        let _ = self.set(name, value);
    }

    /// Forgets an option.
    pub(super) fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// Adds an option of mosquitto.conf.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.set_at(None, name, value)
    }

    fn set_at(&mut self, line: Option<usize>, name: &str, value: &str) -> Result<()> {
        let Some(option) = options::find(name) else {
            return Err(unknown(name, value));
        };
        let error = |problem| Err(ConfigError::new(name, value, problem));
        let trimmed = value.trim();
        if trimmed.is_empty() {
            return error(Problem::Empty);
        }
        let is_quoted = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
        if is_quoted || (value.contains(" #") && !option.secret) {
            return error(Problem::QuotesOrComment);
        }
        if self.values.contains_key(name) {
            return error(Problem::SetTwice);
        }
        let text = match option.secret {
            true if trimmed.len() > MAX_SECRET => return error(Problem::Form),
            true => GivenText::Secret(Secret::new(trimmed)),
            false => GivenText::Plain(trimmed.to_owned()),
        };
        self.values.insert(option.name, GivenValue { text, line });
        Ok(())
    }

    /// Adds the options of a file.
    pub(super) fn add_file(&mut self, path: &str) -> Result<()> {
        let mistakes = self.add_all_of_file(path);
        mistakes.into_iter().next().map_or(Ok(()), Err)
    }

    /// Adds the options of a file. Returns what is wrong with it, in the order of the file.
    pub(super) fn add_all_of_file(&mut self, path: &str) -> Vec<ConfigError> {
        let error = |problem| vec![ConfigError::new("config_file", path, problem)];
        let content = match files::read(Path::new(path), MAX_CONFIG_FILE) {
            Ok(content) => content,
            Err(why) => return error(Problem::File(why)),
        };
        let Ok(text) = std::str::from_utf8(&content.bytes) else {
            return error(Problem::File(FileError::NotText));
        };
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(why) => return error(not_toml(text, &why)),
        };
        let mut mistakes = Vec::new();
        let plain = in_order(table.get_ref());
        let (issuers, plain): (Vec<_>, _) = plain
            .into_iter()
            .partition(|(name, value)| name.get_ref() == ISSUER && tables_of(value).is_some());
        self.add_table(&plain, (path, text), &mut mistakes);
        for (_, value) in issuers {
            for (heading, members) in tables_of(value).into_iter().flatten() {
                let mut table = IssuerTable {
                    given: Self {
                        only_looks: self.only_looks,
                        ..Self::default()
                    },
                    file: path.to_owned(),
                    line: line_of(text, heading),
                };
                let members = in_order(members);
                table.given.add_table(&members, (path, text), &mut mistakes);
                let others = table.given.values.keys().copied();
                let others =
                    others.filter(|name| options::find(name).is_some_and(|o| !o.of_issuer));
                for name in others.collect::<Vec<_>>() {
                    let value = table.given.text(name).unwrap_or_default();
                    let problem = Problem::NotOfIssuer;
                    mistakes.push(table.locate(ConfigError::new(name, value, problem)));
                    table.given.remove(name);
                }
                self.issuers.push(table);
            }
        }
        let tables = self.issuers.iter().map(|table| &table.given);
        let mut all = std::iter::once(&*self).chain(tables);
        if all.any(|given| given.has_secret_in_file())
            && let Err(why) = content.is_private(Path::new(path))
        {
            mistakes.extend(error(Problem::SecretInPublicFile(why)));
        }
        mistakes
    }

    /// Adds the options of a table of a file, with this path and content.
    fn add_table(
        &mut self,
        members: &[Member<'_, '_>],
        (path, text): (&str, &str),
        mistakes: &mut Vec<ConfigError>,
    ) {
        let error = |problem| ConfigError::new("config_file", path, problem);
        for (name, value) in members {
            let line = line_of(text, name.span().start);
            let name = name.get_ref().as_ref();
            if name == "config_file" {
                mistakes.push(error(Problem::Nested));
            } else if let Some(value) = value_of(value.get_ref()) {
                let set = self.set_at(Some(line), name, &value);
                mistakes.extend(set.map_err(|error| error.at(path, line)).err());
            } else {
                let name = name.to_owned();
                mistakes.push(error(Problem::WrongType { name, line }));
            }
        }
    }

    /// Whether the value of an option in the file is a secret.
    fn has_secret_in_file(&self) -> bool {
        let mut values = self.values.values();
        values.any(|value| value.line.is_some() && matches!(value.text, GivenText::Secret(_)))
    }

    /// Returns the `[[issuer]]` table that has this line.
    pub(super) fn table_at(&mut self, line: usize) -> Option<&mut IssuerTable> {
        let tables = self.issuers.iter_mut();
        tables.rev().find(|table| table.line <= line)
    }

    /// Says where the option stands, if it stands in the file of options.
    pub(super) fn locate(&self, error: ConfigError) -> ConfigError {
        if error.place.is_some() {
            return error;
        }
        let line = self
            .values
            .get(error.option.as_str())
            .and_then(|value| value.line);
        match (self.given("config_file"), line) {
            (Some(file), Some(line)) => error.at(file, line),
            _ => error,
        }
    }

    /// Returns the value, if the option is set.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.text.as_str())
    }

    /// Returns the value that holds: the one that is set, or the default.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.given(name).or(match row(name).default {
            DefaultValue::Value(value) => Some(value),
            DefaultValue::Needed(_) | DefaultValue::Unset(_) => None,
        })
    }

    /// Returns the parts between commas, without empty ones.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        let parts = self.text(name).unwrap_or_default().split(',');
        parts
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// Returns which of the option's words the value is.
    pub(super) fn one_of(&self, name: &str) -> Result<&'static str> {
        let Kind::OneOf(words) = row(name).kind else {
            unreachable!("{name} is one of some words")
        };
        let value = self.text(name).unwrap_or_default();
        let word = words.iter().find(|word| **word == value);
        word.copied().ok_or_else(|| wrong(name, value))
    }

    /// Returns whether the value is `true`.
    pub(super) fn is_true(&self, name: &str) -> Result<bool> {
        Ok(self.one_of(name)? == "true")
    }

    /// Returns those of the option's words that are in the list: at least one, each once.
    pub(super) fn some_of(&self, name: &str) -> Result<Vec<&'static str>> {
        let Kind::SomeOf(words) = row(name).kind else {
            unreachable!("{name} is a list of some words")
        };
        let mut found = Vec::new();
        for part in self.list(name) {
            match words.iter().find(|word| **word == part) {
                Some(word) if !found.contains(word) => found.push(*word),
                Some(_) => {}
                None => return Err(wrong(name, part)),
            }
        }
        if found.is_empty() {
            return Err(wrong(name, ""));
        }
        Ok(found)
    }

    /// Returns a whole number within the option's range.
    pub(super) fn whole(&self, name: &str) -> Result<u64> {
        let Kind::Whole { least, most, .. } = row(name).kind else {
            unreachable!("{name} is a whole number")
        };
        let value = self.text(name).unwrap_or_default();
        let number = value.parse().ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| wrong(name, value))
    }

    /// Returns a whole number within the option's range, if the option is set.
    pub(super) fn whole_if_set(&self, name: &str) -> Result<Option<u64>> {
        self.given(name).map(|_| self.whole(name)).transpose()
    }

    /// Returns a time within the option's range, with fractions of a second.
    pub(super) fn seconds(&self, name: &str) -> Result<Duration> {
        let Kind::Seconds { most } = row(name).kind else {
            unreachable!("{name} is a time in seconds")
        };
        let value = self.text(name).unwrap_or_default();
        let seconds = value.parse().ok();
        seconds
            .filter(|seconds| (0.0..=f64::from(most)).contains(seconds))
            .map(Duration::from_secs_f64)
            .ok_or_else(|| wrong(name, value))
    }

    /// Returns the path of a file that can be read. Whoever needs its content reads it again: here it is only
    /// read so that the error names the option.
    pub(super) fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let Some(value) = self.given(name) else {
            return Ok(None);
        };
        let path = PathBuf::from(value);
        files::read(&path, MAX_NAMED_FILE)
            .map_err(|why| ConfigError::new(name, value, Problem::File(why)))?;
        Ok(Some(path))
    }

    /// Returns the path of a file that the plugin writes. Whether it can is seen when it does: a broker without it is
    /// better than no broker.
    pub(super) fn written_file(&self, name: &str) -> Result<Option<PathBuf>> {
        let Some(value) = self.given(name) else {
            return Ok(None);
        };
        let path = Path::new(value);
        // The broker may have another folder than whoever wrote this.
        let is_full = path.is_absolute() && path.file_name().is_some() && !value.ends_with('/');
        if !is_full || path.is_dir() {
            return Err(wrong(name, value));
        }
        Ok(Some(path.to_owned()))
    }

    /// Returns the secret that a file holds.
    pub(super) fn secret_file(&self, name: &str) -> Result<Option<Secret>> {
        let Some(value) = self.given(name) else {
            return Ok(None);
        };
        // The value may be the secret itself, pasted where its file belongs.
        if !value.contains('/') {
            return Err(ConfigError::hidden(name, Problem::Form));
        }
        let secret = read_secret_file(Path::new(value));
        secret
            .map(Some)
            .map_err(|why| ConfigError::new(name, value, Problem::File(why)))
    }
}

/// The name of the tables of issuers.
const ISSUER: &str = "issuer";

/// A member of a table, and where it is.
type Member<'t, 'd> = (&'t Spanned<Cow<'d, str>>, &'t Spanned<DeValue<'d>>);

/// Returns the members of a table in the order of the file.
fn in_order<'t, 'd>(table: &'t DeTable<'d>) -> Vec<Member<'t, 'd>> {
    let mut members: Vec<_> = table.iter().collect();
    members.sort_by_key(|(name, _)| name.span().start);
    members
}

/// Returns the tables in an array of tables, and where each begins. `None` for every other value.
fn tables_of<'t, 'd>(value: &'t Spanned<DeValue<'d>>) -> Option<Vec<(usize, &'t DeTable<'d>)>> {
    let DeValue::Array(list) = value.get_ref() else {
        return None;
    };
    let table = |one: &'t Spanned<DeValue<'d>>| match one.get_ref() {
        DeValue::Table(table) => Some((one.span().start, table)),
        _ => None,
    };
    let tables: Option<Vec<_>> = list.iter().map(table).collect();
    tables.filter(|tables| !tables.is_empty())
}

/// The error for a value that does not have the option's form.
pub(super) fn wrong(name: &str, value: &str) -> ConfigError {
    ConfigError::new(name, value, Problem::Form)
}

fn row(name: &str) -> &'static Opt {
    options::find(name).expect("the table has every option that is read")
}

fn unknown(name: &str, value: &str) -> ConfigError {
    let nearest = nearest(name);
    let problem = Problem::Unknown { nearest };
    // The value of a misspelt `client_secret` is still the secret.
    let is_secret = nearest
        .and_then(options::find)
        .is_some_and(|meant| meant.secret);
    if is_secret || name.contains("secret") {
        ConfigError::hidden(name, problem)
    } else {
        ConfigError::new(name, value, problem)
    }
}

/// Only the place and the kind of a mistake: a quoted line could be the one with the secret.
fn not_toml(text: &str, error: &toml::de::Error) -> Problem {
    Problem::NotToml {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    }
}

/// Returns the number of the line that this byte is in.
fn line_of(text: &str, start: usize) -> usize {
    let before = text.get(..start).unwrap_or_default();
    before.matches('\n').count() + 1
}

/// Returns a value of the file of options as it would stand in mosquitto.conf.
fn value_of(value: &DeValue) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.as_ref().to_owned()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.ok().map(|number| number.to_string())
        }
        DeValue::Array(list) => {
            let texts = list.iter().map(|one| one.get_ref().as_str());
            Some(texts.collect::<Option<Vec<_>>>()?.join(","))
        }
        _ => None,
    }
}
