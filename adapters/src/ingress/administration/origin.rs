//! Origin: whether a request comes from a page of the admin port itself, such as the console.

use http::header::{HOST, HeaderValue, ORIGIN};
use http::request;

/// Whether the page that sends the request was read from the name and port that the request is for. That name may still be a
/// foreign one that stands for this machine: the rule of trust looks at it.
pub(super) fn is_own(head: &request::Parts, is_tls: bool) -> bool {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let host = head.uri.authority().map(ToString::to_string);
    let host = host.or_else(|| head.headers.get(HOST).and_then(text));
    let (Some(host), Some(origin)) = (host, head.headers.get(ORIGIN).and_then(text)) else {
        return false;
    };
    let scheme = if is_tls { "https" } else { "http" };
    let from = origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    from.is_some_and(|from| from.eq_ignore_ascii_case(&host))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn only_a_page_of_the_same_scheme_name_and_port_is_its_own() {
        let own = |origin: &str, host: &str, is_tls| {
            let request = Request::get("/").header(ORIGIN, origin).header(HOST, host).body(());
            is_own(&request.expect("a request").into_parts().0, is_tls)
        };
        assert!(own("http://127.0.0.1:9002", "127.0.0.1:9002", false));
        assert!(own("https://Proxy.example", "proxy.example", true));
        for (origin, host, is_tls) in [
            ("http://127.0.0.1:9001", "127.0.0.1:9002", false),
            ("https://127.0.0.1:9002", "127.0.0.1:9002", false),
            ("http://127.0.0.1:9002", "127.0.0.1:9002", true),
            ("http://127.0.0.1:9002.example", "127.0.0.1:9002", false),
            ("null", "127.0.0.1:9002", false),
        ] {
            assert!(!own(origin, host, is_tls), "{origin} {host} {is_tls}");
        }
    }
}
