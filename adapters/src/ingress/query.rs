//! Query: the parameters of requests that read or change by a choice. A parameter that is not understood is refused.

use std::borrow::Cow;

use http::StatusCode;
use percent_encoding::percent_decode_str;
use tidegate_stages::state::Timestamp;

use super::http::Refusal;
use crate::moment;

/// Default number of items in a response.
const LIMIT: usize = 100;
/// Most items in a response.
pub(super) const MOST: usize = 1_000;

/// The parameters, percent-decoded.
pub(crate) struct Query<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Parses a query.
    pub(crate) fn read(query: Option<&'a str>) -> Result<Self, Refusal> {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8();
            Ok((key, value.map_err(|_| wrong(format!("{key} in the query is not UTF-8")))?))
        });
        Ok(Self(pairs.collect::<Result<_, Refusal>>()?))
    }

    /// Refuses unknown parameters: a misspelt parameter must not go unnoticed.
    pub(super) fn knows(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.iter().find(|(key, _)| !known.contains(key)) {
            None => Ok(()),
            Some((key, _)) if known.is_empty() => {
                Err(wrong(format!("{key:?} in the query is not known, no parameter is")))
            }
            Some((key, _)) => {
                let known = known.join(", ");
                Err(wrong(format!("{key:?} in the query is not known, use {known}")))
            }
        }
    }

    /// Returns a parameter. An empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let last = self.0.iter().rfind(|(key, _)| *key == name)?;
        Some(&*last.1).filter(|value| !value.is_empty())
    }

    /// Returns a parameter that is one of these words.
    pub(super) fn word(&self, name: &str, known: &[&str]) -> Result<Option<&str>, Refusal> {
        let given = self.get(name);
        match given.filter(|given| !known.contains(given)) {
            None => Ok(given),
            Some(given) => {
                let known = known.join(", ");
                Err(wrong(format!("{name} in the query must be one of {known}, not {given:?}")))
            }
        }
    }

    /// Returns a parameter that holds a time.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Refusal> {
        let parsed = self.get(name).map(moment::parse).transpose();
        parsed.map_err(|text| wrong(format!("{name} in the query {text}")))
    }

    /// Returns a parameter that is true or false.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        let parsed = self.get(name).map(|given| {
            given.parse().map_err(|_| {
                wrong(format!("{name} in the query must be true or false, not {given:?}"))
            })
        });
        parsed.transpose()
    }

    /// Returns how many items are asked for.
    pub(super) fn limit(&self) -> Result<usize, Refusal> {
        let Some(given) = self.get("limit") else { return Ok(LIMIT) };
        let limit = given.parse().ok().filter(|limit| (1..=MOST).contains(limit));
        limit.ok_or_else(|| wrong(format!("limit in the query must be 1 to {MOST}, not {given:?}")))
    }
}

/// A parameter that is not understood.
pub(super) fn wrong(text: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, text)
}
