//! Context: the trace context that a call carries from its caller to its host, as W3C Trace Context writes it.
//!
//! It is one text: the `traceparent`, then, after a line feed, the `tracestate`, if there is one. In this form it travels with an
//! invocation and is stored with effects and calls for a later time. Empty: there is none.

/// Longest `tracestate` that is carried, in bytes: what W3C asks for. A longer one is left out.
pub const MAX_STATE_BYTES: usize = 512;

/// Longest `traceparent` that is carried. The one of today has 55 bytes; later versions may add to it.
const MAX_PARENT_BYTES: usize = 128;

const PARENT_BYTES: usize = 55;
const SAMPLED: u8 = 1;

/// The span that a trace context names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanContext {
    pub(crate) trace_id: u128,
    /// 0: no span. Only a context that the mesh itself begins has none.
    pub(crate) span_id: u64,
    pub(crate) is_sampled: bool,
}

/// Joins the headers of a request. Returns an empty text when there is no valid `traceparent`.
pub fn join(traceparent: &str, tracestate: &str) -> String {
    let parent = traceparent.trim_matches([' ', '\t']);
    let is_valid = SpanContext::parse(parent).is_some_and(|span| span.span_id != 0);
    if !is_valid || parent.len() > MAX_PARENT_BYTES || parent.contains('\n') {
        return String::new();
    }
    let state = tracestate.trim_matches([' ', '\t']);
    if state.is_empty() || state.len() > MAX_STATE_BYTES || state.contains('\n') {
        return parent.to_owned();
    }
    format!("{parent}\n{state}")
}

/// Splits a trace context into its `traceparent` and its `tracestate`; each may be empty.
pub fn split(context: &str) -> (&str, &str) {
    context.split_once('\n').unwrap_or((context, ""))
}

/// The trace id of a trace context, as a field of a line of the log.
pub(crate) fn trace_id(context: &str) -> Option<&str> {
    // Whatever travels as a context was read before.
    context.get(3..35)
}

impl SpanContext {
    /// Reads the `traceparent` of a trace context. `None` when it is empty or not valid.
    pub(crate) fn parse(context: &str) -> Option<Self> {
        // Most calls have none.
        if context.is_empty() {
            return None;
        }
        let (parent, _) = split(context);
        let (known, rest) = parent.split_at_checked(PARENT_BYTES)?;
        let mut fields = known.split('-');
        let mut field = |digits: usize| {
            let field = fields.next().filter(|field| field.len() == digits)?;
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            field.bytes().all(is_hex).then_some(field)
        };
        let version = u8::from_str_radix(field(2)?, 16).ok()?;
        let trace_id = u128::from_str_radix(field(32)?, 16).ok()?;
        let span_id = u64::from_str_radix(field(16)?, 16).ok()?;
        let flags = u8::from_str_radix(field(2)?, 16).ok()?;
        let may_be_longer = version > 0 && rest.starts_with('-');
        let is_valid = version != 0xff && trace_id != 0 && (rest.is_empty() || may_be_longer);
        is_valid.then_some(Self { trace_id, span_id, is_sampled: flags & SAMPLED != 0 })
    }

    /// The trace context that names this span, with the `tracestate` of `other`.
    pub(crate) fn with_state_of(self, other: &str) -> String {
        let Self { trace_id, span_id, is_sampled } = self;
        let (flags, (_, state)) = (u8::from(is_sampled), split(other));
        let parent = format!("00-{trace_id:032x}-{span_id:016x}-{flags:02x}");
        if state.is_empty() { parent } else { format!("{parent}\n{state}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_and_written() {
        let span = SpanContext::parse(PARENT).unwrap();
        assert_eq!(span.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(span.span_id, 0xb7ad_6b71_6920_3331);
        assert!(span.is_sampled);
        assert_eq!(span.with_state_of(""), PARENT);
        let both = join(PARENT, " a=1,b=2 ");
        assert_eq!(both, format!("{PARENT}\na=1,b=2"));
        assert_eq!(span.with_state_of(&both), both);
        assert_eq!(SpanContext::parse(&both), Some(span));
        assert_eq!(split(&both), (PARENT, "a=1,b=2"));
        assert_eq!(split(PARENT), (PARENT, ""));
    }

    #[test]
    fn what_is_not_valid_is_left_out() {
        let longer = format!("01{}-more", &PARENT[2..]);
        assert!(SpanContext::parse(&longer).is_some(), "a later version");
        assert_eq!(join(&longer, ""), longer);
        for wrong in [
            String::new(),
            "00-zz".into(),
            PARENT.to_uppercase(),
            PARENT.replace('-', "_"),
            format!("ff{}", &PARENT[2..]),
            format!("{PARENT}-more"),
            PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            PARENT.replace("b7ad6b7169203331", &"0".repeat(16)),
            PARENT.replace("b7ad6b7169203331", "+7ad6b7169203331"),
            format!("01{}-{}", &PARENT[2..], "m".repeat(200)),
            format!("01{}-\nm", &PARENT[2..]),
            "é".repeat(40),
        ] {
            assert_eq!(join(&wrong, "a=1"), "", "{wrong}");
        }
        assert_eq!(join(PARENT, &"s".repeat(513)), PARENT, "W3C asks for 512 bytes");
    }
}
