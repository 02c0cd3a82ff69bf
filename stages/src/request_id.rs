//! Request id: what a call and all lines of the log about it share, from its request to its end.

use std::fmt::{self, Display};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tracing::field::DisplayValue;

/// Longest id that is taken from a request, in bytes.
const MOST_BYTES: usize = 128;

/// The id of a request. Made without an allocation; one that a client chose is shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RequestId {
    /// No request: the mesh makes the call itself.
    #[default]
    None,
    /// The proxy made it.
    Made(u64),
    /// The client chose it.
    Given(Arc<str>),
}

impl RequestId {
    /// Makes an id that no other request of this process has, and hardly one of another process.
    pub fn make() -> Self {
        static BASE: LazyLock<u64> =
            LazyLock::new(|| std::hash::RandomState::new().hash_one("request"));
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Odd, so that each number gives another id.
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self::Made(BASE.wrapping_add(step))
    }

    /// The id that a client chose; `None` when it is empty, too long, or has characters that could look like another field of a
    /// line.
    pub fn given(given: &[u8]) -> Option<Self> {
        let is_sane = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        let is_taken = !given.is_empty() && given.len() <= MOST_BYTES && given.iter().all(is_sane);
        let text = std::str::from_utf8(given).ok().filter(|_| is_taken)?;
        Some(Self::Given(text.into()))
    }

    /// Whether the client chose it.
    pub fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }

    /// As a field of a line; a call without a request has none.
    pub fn field(&self) -> Option<DisplayValue<&Self>> {
        (*self != Self::None).then(|| tracing::field::display(self))
    }
}

impl Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Made(id) => write!(f, "{id:016x}"),
            Self::Given(id) => f.write_str(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_made_differ_and_have_16_digits() {
        let (one, other) = (RequestId::make(), RequestId::make());
        assert_ne!(one, other);
        assert_eq!(one.to_string().len(), 16, "{one}");
        assert!(one.field().is_some() && RequestId::None.field().is_none());
    }

    #[test]
    fn ids_of_clients_are_taken_unless_they_could_forge_a_line() {
        let longest = "x".repeat(MOST_BYTES);
        for sane in ["a", "0af7-65:19/cd43_dd.84", &longest] {
            assert_eq!(RequestId::given(sane.as_bytes()).unwrap().to_string(), sane);
        }
        let too_long = "x".repeat(MOST_BYTES + 1);
        for wrong in ["", "a b", "a\"b", "a\\b", "a\nb", "é", &too_long] {
            assert_eq!(RequestId::given(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
