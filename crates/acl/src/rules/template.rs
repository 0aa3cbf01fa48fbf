//! Topic filters with placeholders: `site/${site}/%c/#`.
//!
//! `%c` is the client ID, `%u` the user name, `${claim}` a claim of the token, and `${claim[*]}` each element of a
//! claim that is an array. The name of a claim is literal, with its dots and slashes: `${https://mqtt.example/site}`.
//! `${clientid}` and `${username}` are `%c` and `%u`, as EMQX spells them.

use super::{
    bind::{Binding, UnusableValue, binding},
    filter::{self, Malformed},
};
use crate::client::ClientAttributes;

/// A placeholder. Its value depends on the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// `%c`, the client ID.
    ClientId,
    /// `%u`, the user name.
    Username,
    /// `${name}`, a claim.
    Claim(Box<str>),
    /// `${name[*]}`, each element of a claim: one filter for each.
    EachOf(Box<str>),
}

impl Placeholder {
    /// Returns the name of the claim that it stands for, if it stands for one.
    pub(crate) fn claim(&self) -> Option<&str> {
        match self {
            Self::Claim(name) | Self::EachOf(name) => Some(name),
            Self::ClientId | Self::Username => None,
        }
    }
}

/// A part of a level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Piece {
    Text(Box<str>),
    Value(Placeholder),
}

/// One level of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TemplateLevel {
    /// A name, or a wildcard.
    Text(Box<str>),
    /// Text and placeholders in one level.
    Mixed(Vec<Piece>),
}

/// A valid filter, perhaps with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    levels: Vec<TemplateLevel>,
}

impl Template {
    /// Takes a filter in which `%` and `$` are ordinary characters.
    ///
    /// # Errors
    ///
    /// Returns why the filter cannot be granted.
    pub(crate) fn literal(text: &str) -> Result<Self, Malformed> {
        filter::check_grant(text)?;
        let levels = text.split('/');
        let levels = levels.map(|name| TemplateLevel::Text(name.into()));
        Ok(Self {
            text: text.into(),
            levels: levels.collect(),
        })
    }

    /// Parses a filter with placeholders.
    ///
    /// # Errors
    ///
    /// Returns why the filter cannot be granted, whatever the values of its placeholders are.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let pieces = pieces(text)?;
        let is_list = |piece: &&Piece| matches!(piece, Piece::Value(Placeholder::EachOf(_)));
        // Two lists are refused: it would be ambiguous whether their elements are paired or combined.
        if pieces.iter().filter(is_list).count() > 1 {
            return Err(Malformed::TwoLists);
        }
        // A value has no `/`, `+` or `#`, so any letter can take its place in this check.
        let example: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Value(_) => "x",
            })
            .collect();
        filter::check_grant(&example)?;
        let levels = split_levels(pieces).into_iter();
        let levels = levels.map(|mut level| match level.as_mut_slice() {
            [] => TemplateLevel::Text("".into()),
            [Piece::Text(name)] => TemplateLevel::Text(std::mem::take(name)),
            _ => TemplateLevel::Mixed(level),
        });
        Ok(Self {
            text: text.into(),
            levels: levels.collect(),
        })
    }

    /// Replaces the placeholders by the values of this client. Returns one text, or one for each element of a list.
    ///
    /// # Errors
    ///
    /// Returns the first value that cannot be part of a topic.
    pub fn expand(&self, client: &ClientAttributes) -> Result<Vec<Box<str>>, UnusableValue> {
        let mut texts = vec![String::new()];
        for (depth, level) in self.levels.iter().enumerate() {
            let slash = if depth == 0 { "" } else { "/" };
            texts.iter_mut().for_each(|text| text.push_str(slash));
            let pieces = match level {
                TemplateLevel::Text(name) => &[Piece::Text(name.clone())][..],
                TemplateLevel::Mixed(pieces) => pieces,
            };
            for (i, piece) in pieces.iter().enumerate() {
                let value = match piece {
                    Piece::Text(name) => Binding::One(name.clone()),
                    Piece::Value(placeholder) => {
                        binding(placeholder, depth == 0 && i == 0, client)?
                    }
                };
                texts = match value {
                    Binding::One(value) => texts.into_iter().map(|text| text + &value).collect(),
                    // At most one of them is a list.
                    Binding::Each(list) => texts
                        .iter()
                        .flat_map(|text| list.iter().map(move |value| format!("{text}{value}")))
                        .collect(),
                };
            }
        }
        Ok(texts.into_iter().map(Into::into).collect())
    }

    /// Returns the filter as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn levels(&self) -> &[TemplateLevel] {
        &self.levels
    }

    /// Returns the placeholders, each with whether it begins the filter.
    pub fn placeholders(&self) -> impl Iterator<Item = (&Placeholder, bool)> {
        self.levels.iter().enumerate().flat_map(|(depth, level)| {
            let pieces = match level {
                TemplateLevel::Text(_) => &[][..],
                TemplateLevel::Mixed(pieces) => pieces,
            };
            let pieces = pieces.iter().enumerate();
            pieces.filter_map(move |(i, piece)| match piece {
                Piece::Text(_) => None,
                Piece::Value(placeholder) => Some((placeholder, depth == 0 && i == 0)),
            })
        })
    }
}

/// Splits the pieces of a filter at its slashes.
fn split_levels(pieces: Vec<Piece>) -> Vec<Vec<Piece>> {
    let (mut levels, mut level) = (Vec::new(), Vec::new());
    for piece in pieces {
        let Piece::Text(text) = &piece else {
            level.push(piece);
            continue;
        };
        for (i, name) in text.split('/').enumerate() {
            if i > 0 {
                levels.push(std::mem::take(&mut level));
            }
            if !name.is_empty() {
                level.push(Piece::Text(name.into()));
            }
        }
    }
    levels.push(level);
    levels
}

/// Splits a text into placeholders and what is between them.
fn pieces(text: &str) -> Result<Vec<Piece>, Malformed> {
    let mut pieces = Vec::new();
    let (mut rest, mut plain) = (text, String::new());
    while let Some(c) = rest.chars().next() {
        let (placeholder, length) = if rest.starts_with("%c") {
            (Placeholder::ClientId, 2)
        } else if rest.starts_with("%u") {
            (Placeholder::Username, 2)
        } else if let Some(inner) = rest.strip_prefix("${") {
            let end = inner.find('}').ok_or(Malformed::OpenPlaceholder)?;
            (claim(&inner[..end])?, end + 3)
        } else {
            plain.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
        }
        pieces.push(Piece::Value(placeholder));
        rest = &rest[length..];
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain.into()));
    }
    Ok(pieces)
}

fn claim(name: &str) -> Result<Placeholder, Malformed> {
    match (name, name.strip_suffix("[*]")) {
        ("" | "[*]", _) => Err(Malformed::NamelessPlaceholder),
        ("clientid", _) => Ok(Placeholder::ClientId),
        ("username", _) => Ok(Placeholder::Username),
        (_, Some(list)) => Ok(Placeholder::EachOf(list.into())),
        (name, None) => Ok(Placeholder::Claim(name.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_and_named() {
        for (text, found) in [
            ("a/b", ""),
            ("a/%c", "%c"),
            ("%u/x", "%u^"),
            ("dev-%c/x", "%c"),
            ("%c-%u", "%c^ %u"),
            ("x/${site}/+", "${site}"),
            (
                "${https://mqtt.example/site}/#",
                "${https://mqtt.example/site}^",
            ),
            ("x/${sites[*]}", "${sites[*]}"),
            ("${clientid}/${username}", "%c^ %u"),
            ("100%/%d/$x", ""),
        ] {
            let template = Template::parse(text).unwrap();
            let names: Vec<_> = template
                .placeholders()
                .map(|(p, front)| format!("{p}{}", if front { "^" } else { "" }))
                .collect();
            assert_eq!(names.join(" "), found, "{text}");
            assert_eq!(template.text(), text);
            assert_eq!(
                template.levels().len(),
                text.replace("https://mqtt.example/site", "x")
                    .split('/')
                    .count()
            );
        }
        assert_eq!(
            Template::literal("%c/${x}").unwrap().placeholders().count(),
            0
        );
    }

    #[test]
    fn a_filter_that_no_value_makes_valid_is_refused() {
        use Malformed::*;
        for (text, why) in [
            ("a/${site", OpenPlaceholder),
            ("a/${}", NamelessPlaceholder),
            ("a/${[*]}", NamelessPlaceholder),
            ("${a[*]}/${a[*]}", TwoLists),
            ("%c+", SingleLevelNotAlone),
            ("#%c", MultiLevelNotLast),
            ("#/%c", MultiLevelNotLast),
            ("$share/g/%c", SharedSubscription),
            ("", Empty),
        ] {
            assert_eq!(Template::parse(text), Err(why), "{text}");
        }
    }
}
