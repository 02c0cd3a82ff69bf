//! Host: where the hosts of actors listen.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where an actor host listens: an [`Endpoint`], kept as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostAddress(Arc<str>);

/// How a host is reached: the scheme of its address, and what follows the scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// HTTP at an authority such as `127.0.0.1:8090`.
    Http(&'a str),
    /// HTTP over TLS, at an authority.
    Https(&'a str),
    /// HTTP over the Unix socket with this path.
    Unix(&'a Path),
}

const HTTP: &str = "http://";
const HTTPS: &str = "https://";
const UNIX: &str = "unix:";

impl HostAddress {
    /// Wraps `http://` or `https://` and an authority, or `unix:/path/to.sock`. Without a scheme it is an authority of HTTP,
    /// and that is how one of HTTP is kept.
    pub fn new(address: &str) -> Self {
        Self(address.strip_prefix(HTTP).unwrap_or(address).into())
    }

    /// The address as text. One of HTTP has no scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How the host is reached.
    pub fn endpoint(&self) -> Endpoint<'_> {
        if let Some(path) = self.0.strip_prefix(UNIX) {
            Endpoint::Unix(Path::new(path))
        } else if let Some(authority) = self.0.strip_prefix(HTTPS) {
            Endpoint::Https(authority)
        } else {
            Endpoint::Http(&self.0)
        }
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hosts of a definition: at least one, each once, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSet(Arc<[HostAddress]>);

impl HostSet {
    /// Makes a set; `None` without an address.
    pub fn new(addresses: impl IntoIterator<Item = HostAddress>) -> Option<Self> {
        let addresses: BTreeSet<HostAddress> = addresses.into_iter().collect();
        (!addresses.is_empty()).then(|| Self(addresses.into_iter().collect()))
    }

    /// Returns all addresses.
    pub fn all(&self) -> &[HostAddress] {
        &self.0
    }

    /// The host that is called. It is always the first: no call is spread over several hosts yet.
    ///
    /// # Panics
    /// Never: no set is empty.
    pub fn called(&self) -> &HostAddress {
        self.0.first().expect("a set of hosts is never empty")
    }
}

impl From<HostAddress> for HostSet {
    fn from(address: HostAddress) -> Self {
        Self([address].into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_one_spelling() {
        for (text, kept, endpoint) in [
            ("127.0.0.1:8090", "127.0.0.1:8090", Endpoint::Http("127.0.0.1:8090")),
            ("http://actors:8090", "actors:8090", Endpoint::Http("actors:8090")),
            ("https://actors:8443", "https://actors:8443", Endpoint::Https("actors:8443")),
            ("unix:/run/a.sock", "unix:/run/a.sock", Endpoint::Unix(Path::new("/run/a.sock"))),
        ] {
            let address = HostAddress::new(text);
            assert_eq!((address.as_str(), address.endpoint()), (kept, endpoint));
        }
    }

    #[test]
    fn a_set_of_hosts_has_each_once_and_is_never_empty() {
        let [a, b] = ["a:1", "b:1"].map(HostAddress::new);
        assert_eq!(HostSet::new([]), None);
        let set = HostSet::new([b.clone(), a.clone(), b.clone()]).unwrap();
        assert_eq!(set.all(), [a.clone(), b.clone()]);
        assert_eq!((set.called(), Some(&set)), (&a, HostSet::new([a.clone(), b]).as_ref()));
        assert_eq!(HostSet::from(a.clone()).all(), [a]);
    }
}
