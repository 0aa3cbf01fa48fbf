//! Topic filters with placeholders: `site/${site}/%c/#`.
//!
//! `%c` is the client id, `%u` the user name, `${claim}` a claim of the token, `${claim[*]}` each
//! element of one that is an array. A claim's name is literal, with its dots and slashes:
//! `${https://mqtt.example/site}`. `${clientid}` and `${username}` are `%c` and `%u`, as EMQX
//! spells them.

use std::fmt;

use super::{
    bind::{Binding, Unusable, Values, binding},
    filter::{self, Malformed},
};

/// What stands for a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// `%c`, the client id.
    ClientId,
    /// `%u`, the user name.
    Username,
    /// `${name}`, a claim.
    Claim(Box<str>),
    /// `${name[*]}`, each element of a claim: one filter for each.
    EachOf(Box<str>),
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientId => f.write_str("%c"),
            Self::Username => f.write_str("%u"),
            Self::Claim(name) => write!(f, "${{{name}}}"),
            Self::EachOf(name) => write!(f, "${{{name}[*]}}"),
        }
    }
}

/// A part of a level.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    /// As it is.
    Text(Box<str>),
    /// A value.
    Value(Placeholder),
}

/// One level of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TemplateLevel {
    /// A name, or a wildcard.
    Text(Box<str>),
    /// Mixed of values.
    Mixed(Vec<Piece>),
}

/// A filter, checked, perhaps with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    levels: Vec<TemplateLevel>,
}

impl Template {
    /// A filter in which `%` and `$` are nothing but characters.
    ///
    /// # Errors
    ///
    /// If it is no filter that can be granted.
    pub fn literal(text: &str) -> Result<Self, Malformed> {
        filter::check_grant(text)?;
        Ok(Self {
            text: text.into(),
            levels: text
                .split('/')
                .map(|name| TemplateLevel::Text(name.into()))
                .collect(),
        })
    }

    /// A filter in which placeholders count.
    ///
    /// # Errors
    ///
    /// If it is no filter that can be granted, whatever the values.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let pieces = pieces(text)?;
        let lists = pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Value(Placeholder::EachOf(_))))
            .count();
        // Two of them would be every pair of elements, or (of the same claim) not: nobody could tell.
        if lists > 1 {
            return Err(Malformed::TwoLists);
        }
        // With a letter for each value it must be a filter: a value holds no `/`, `+` or `#`.
        let example: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Value(_) => "x",
            })
            .collect();
        filter::check_grant(&example)?;

        let mut levels: Vec<Vec<Piece>> = vec![Vec::new()];
        for piece in pieces {
            match piece {
                Piece::Text(text) => {
                    for (i, name) in text.split('/').enumerate() {
                        if i > 0 {
                            levels.push(Vec::new());
                        }
                        if !name.is_empty() {
                            levels
                                .last_mut()
                                .expect("never empty")
                                .push(Piece::Text(name.into()));
                        }
                    }
                }
                value => levels.last_mut().expect("never empty").push(value),
            }
        }
        let levels = levels
            .into_iter()
            .map(|mut level| match level.as_mut_slice() {
                [] => TemplateLevel::Text("".into()),
                [Piece::Text(name)] => TemplateLevel::Text(std::mem::take(name)),
                _ => TemplateLevel::Mixed(level),
            })
            .collect();
        Ok(Self {
            text: text.into(),
            levels,
        })
    }

    /// What becomes of it with these values: one text, or one for each element of a list.
    ///
    /// # Errors
    ///
    /// If a value cannot stand in it.
    pub fn expand(&self, values: &Values) -> Result<Vec<Box<str>>, Unusable> {
        let mut texts = vec![String::new()];
        for (depth, part) in self.levels.iter().enumerate() {
            let slash = if depth == 0 { "" } else { "/" };
            texts.iter_mut().for_each(|text| text.push_str(slash));
            let pieces = match part {
                TemplateLevel::Text(name) => &[Piece::Text(name.clone())][..],
                TemplateLevel::Mixed(pieces) => pieces,
            };
            for (i, piece) in pieces.iter().enumerate() {
                let each = match piece {
                    Piece::Text(name) => Binding::One(name.clone()),
                    Piece::Value(placeholder) => {
                        binding(placeholder, depth == 0 && i == 0, values)?
                    }
                };
                texts = match each {
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

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn levels(&self) -> &[TemplateLevel] {
        &self.levels
    }

    /// Its placeholders, and whether each stands at the very front.
    pub fn placeholders(&self) -> impl Iterator<Item = (&Placeholder, bool)> {
        self.levels.iter().enumerate().flat_map(|(depth, part)| {
            let pieces = match part {
                TemplateLevel::Text(_) => &[][..],
                TemplateLevel::Mixed(pieces) => pieces,
            };
            pieces
                .iter()
                .enumerate()
                .filter_map(move |(i, piece)| match piece {
                    Piece::Text(_) => None,
                    Piece::Value(placeholder) => Some((placeholder, depth == 0 && i == 0)),
                })
        })
    }
}

/// Cuts placeholders out of a text.
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
    fn what_no_value_makes_a_filter_is_refused() {
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
