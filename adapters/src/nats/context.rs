//! Context: the trace context of a message, in the headers of W3C.

use tidegate_stages::ports::BusMessage;
use tidegate_stages::traces::context;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// The headers that carry a trace context.
pub(super) fn headers(context: &str) -> Vec<(String, String)> {
    let (parent, state) = context::split(context);
    let all = [(PARENT, parent), (STATE, state)].into_iter();
    all.filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name.into(), text.into()))
        .collect()
}

/// The trace context of a message; empty when it has none that is valid.
pub(super) fn of(message: &BusMessage) -> String {
    let header = |name| message.header(name).unwrap_or_default();
    context::join(header(PARENT), header(STATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_read_as_it_was_sent_and_what_w3c_does_not_allow_is_left_out() {
        const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let of = |headers| super::of(&BusMessage { headers, ..BusMessage::default() });
        for context in [PARENT.to_owned(), format!("{PARENT}\na=1,b=2"), String::new()] {
            let headers = headers(&context);
            // No header can carry a line feed.
            assert!(headers.iter().all(|(_, text)| !text.contains('\n')), "{headers:?}");
            assert_eq!(of(headers), context);
        }
        assert_eq!(of(headers(&"x".repeat(100_000))), "");
    }
}
