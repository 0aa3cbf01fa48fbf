//! Strict JSON: an object that names a member twice is an error.
//!
//! RFC 7519, section 4 lets a parser take the last of two equal claims. Then one verifier sees `"sub":"a"` and the next
//! one sees `"sub":"b"`. RFC 8725 asks verifiers to refuse such tokens; `serde_json::Value` silently takes the last
//! member.

use std::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

/// Why a text was not accepted as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JsonError {
    /// An object in the text names a member twice.
    DuplicateMember,
    /// The text is not UTF-8.
    NotUtf8,
    /// The text is JSON, and not an object.
    NotAnObject,
    /// The text is not JSON. This is what the parser says, which is nothing of the text.
    Syntax(String),
}

/// Parses one JSON object. `serde_json` limits its depth to 128 levels.
///
/// # Errors
///
/// Returns an error if the text is not UTF-8, not JSON, not an object, or names a member twice.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, JsonError> {
    // One check of the whole text is cheaper than the check that serde_json would make of every string.
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
    match value(text)? {
        Value::Object(members) => Ok(members),
        _ => Err(JsonError::NotAnObject),
    }
}

/// Parses one JSON value of any kind, as strictly as [`object`].
///
/// # Errors
///
/// Returns an error if the text is not JSON or names a member twice.
pub fn value(text: &str) -> Result<Value, JsonError> {
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(value)) => Ok(value),
        // The visitor below accepts every value, so its only data error is the duplicate member.
        Err(e) if e.is_data() => Err(JsonError::DuplicateMember),
        Err(e) => Err(JsonError::Syntax(e.to_string())),
    }
}

/// Returns the first member with this name of a JSON object, if it is there and a text. What follows it is not read, so
/// this is fast, and says nothing about whether the whole is JSON.
///
/// # Errors
///
/// Returns an error if the text is not UTF-8, or not a JSON object as far as it was read.
pub fn first_text(bytes: &[u8], name: &str) -> Result<Option<String>, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
    let mut found = None;
    let visitor = FirstMember {
        name,
        found: &mut found,
    };
    let read = serde_json::Deserializer::from_str(text).deserialize_any(visitor);
    // The parser calls it an error that the rest was not read.
    match (found, read) {
        (Some(Value::String(text)), _) => Ok(Some(text)),
        (Some(_), _) | (None, Ok(())) => Ok(None),
        (None, Err(why)) if why.is_data() => Err(JsonError::NotAnObject),
        (None, Err(why)) => Err(JsonError::Syntax(why.to_string())),
    }
}

struct FirstMember<'n, 'f> {
    name: &'n str,
    found: &'f mut Option<Value>,
}

impl<'de> Visitor<'de> for FirstMember<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(is_meant) = map.next_key_seed(IsNamed(self.name))? {
            if is_meant {
                *self.found = Some(map.next_value()?);
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Whether a member has this name. A name that is only compared needs no memory of its own.
struct IsNamed<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for IsNamed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsNamed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// Where in an object a value is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A member of the object, by its exact name: names of claims contain dots and slashes.
    Name(String),
    /// A value at any depth, by its JSON pointer (RFC 6901), which begins with a slash.
    Pointer(String),
    /// A value at any depth, by names with dots between them, as in `realm_access.roles`. A member whose whole name
    /// this is comes first.
    Path(String),
}

impl Place {
    /// Returns the place that an operator writes: a JSON pointer if it begins with a slash, or a name. Names with dots
    /// may be paths, unless a colon or a slash shows that they are addresses.
    pub fn parse(text: &str) -> Self {
        let text = text.to_owned();
        match text.starts_with('/') {
            true => Self::Pointer(text),
            false if text.contains('.') && !text.contains([':', '/']) => Self::Path(text),
            false => Self::Name(text),
        }
    }

    /// Returns the value at this place.
    pub fn find<'v>(&self, members: &'v Map<String, Value>) -> Option<&'v Value> {
        match self {
            Self::Name(name) => members.get(name),
            Self::Pointer(path) => {
                let rest = path.strip_prefix('/')?;
                let rest = &rest[rest.find('/').unwrap_or(rest.len())..];
                members.get(&first_of_pointer(path)?)?.pointer(rest)
            }
            Self::Path(path) => members.get(path).or_else(|| {
                let mut names = path.split('.');
                let first = members.get(names.next()?)?;
                names.try_fold(first, |value, name| value.get(name))
            }),
        }
    }

    /// Returns the names of the members of the object in which the value may be. There is none for a pointer that finds
    /// nothing.
    pub fn members(&self) -> Vec<String> {
        match self {
            Self::Name(name) => vec![name.clone()],
            Self::Pointer(path) => first_of_pointer(path).into_iter().collect(),
            Self::Path(path) => {
                let first = path.split('.').next().unwrap_or_default();
                vec![path.clone(), first.to_owned()]
            }
        }
    }

    /// Whether this is the member with this name.
    pub fn is_name(&self, name: &str) -> bool {
        matches!(self, Self::Name(one) if one == name)
    }

    /// Returns the name or the pointer.
    pub fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Pointer(text) | Self::Path(text) => text,
        }
    }
}

/// Returns the name that a JSON pointer begins with.
fn first_of_pointer(path: &str) -> Option<String> {
    let first = path.strip_prefix('/')?.split('/').next()?;
    Some(first.replace("~1", "/").replace("~0", "~"))
}

/// Places of which the first counts where there is a value. A member that is null counts as missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(Vec<Place>);

impl Places {
    /// Returns the places that an operator writes.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        Self(texts.into_iter().map(Place::parse).collect())
    }

    /// Returns the first value, and where it is.
    pub fn find<'s, 'v>(
        &'s self,
        members: &'v Map<String, Value>,
    ) -> Option<(&'s Place, &'v Value)> {
        let values = self.0.iter().map(|place| (place, place.find(members)));
        let mut values = values.filter_map(|(place, value)| Some((place, value?)));
        values.find(|(_, value)| !value.is_null())
    }

    /// Whether the member with this name is one of the places.
    pub fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|place| place.is_name(name))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names and pointers, for a sentence.
    pub fn text(&self) -> String {
        let texts: Vec<_> = self.0.iter().map(Place::text).collect();
        texts.join(" or ")
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(Strict(element)) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let Strict(value) = map.next_value()?;
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a member is named twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_without_duplicate_members_is_parsed_as_serde_json_does() {
        for text in [
            r"{}",
            r#"{"a":null,"b":[true,1,-2,1.5,"x",{"c":{}}]}"#,
            r#"{"\u0061":"\ud83e\udd80"}"#,
            r#"{"n":18446744073709551615}"#,
        ] {
            assert_eq!(
                Value::Object(object(text.as_bytes()).unwrap()),
                serde_json::from_str::<Value>(text).unwrap()
            );
        }
    }

    #[test]
    fn the_first_member_with_a_name_is_found() {
        let found = |text: &str| first_text(text.as_bytes(), "iss");
        assert_eq!(
            found(r#"{"a":{"iss":"no"},"iss":"yes","b":[1,"iss"]}"#),
            Ok(Some("yes".into()))
        );
        assert_eq!(
            found(r#"{"\u0069ss":"y\u00e9s"}"#),
            Ok(Some("y\u{e9}s".into()))
        );
        for without in [
            r#"{}"#,
            r#"{"iss":7}"#,
            r#"{"iss":null}"#,
            r#"{"ISS":"no"}"#,
        ] {
            assert_eq!(found(without), Ok(None), "{without}");
        }
        for first in [
            r#"{"iss":"a","iss":"b"}"#,
            r#"{"iss":"a""#,
            r#"{"iss":"a"}x"#,
        ] {
            assert_eq!(found(first), Ok(Some("a".into())), "{first}");
        }
        assert_eq!(found(r#"["iss"]"#), Err(JsonError::NotAnObject));
        assert_eq!(
            first_text(b"{\"iss\":\"\xff\"}", "iss"),
            Err(JsonError::NotUtf8)
        );
        for cut in [r#"{"iss":"a"#, r#"{"sub":"a""#, ""] {
            assert!(matches!(found(cut), Err(JsonError::Syntax(_))), "{cut}");
        }
    }

    #[test]
    fn duplicate_members_are_refused_at_every_depth_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
        ] {
            assert!(
                object(text.as_bytes()) == Err(JsonError::DuplicateMember),
                "{text}"
            );
        }
    }

    #[test]
    fn a_place_is_a_name_or_a_pointer() {
        let members = object(br#"{"a/b": {"~": [7]}, "a": {"b": 1}, "x": 2}"#).unwrap();
        let find = |place: Place| place.find(&members).cloned();
        let pointer = |path: &str| find(Place::Pointer(path.into()));
        assert_eq!(find(Place::Name("a/b".into())), pointer("/a~1b"));
        assert_eq!(pointer("/a~1b/~0/0"), Some(7.into()));
        assert_eq!(pointer("/a/b"), Some(1.into()));
        assert_eq!(pointer("/x"), Some(2.into()));
        for nowhere in ["", "x", "/", "/a/c", "/x/0", "/a~1b/~0/1"] {
            assert_eq!(pointer(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn invalid_json_is_refused() {
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for text in [
            "",
            "[]",
            "7",
            "{",
            "{}x",
            "{} {}",
            r#"{"a":1e400}"#,
            r#"{"a":NaN}"#,
            r#"{"a":"\ud800"}"#,
            "{'a':1}",
            "{\"a\":\"\u{1}\"}",
            "\u{feff}{}",
            r#"{"a":01}"#,
            r#"{"a":1,}"#,
            "/**/{}",
            deep.as_str(),
        ] {
            assert!(
                matches!(
                    object(text.as_bytes()),
                    Err(JsonError::Syntax(_) | JsonError::NotAnObject)
                ),
                "{text}"
            );
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(JsonError::NotUtf8));
    }
}
