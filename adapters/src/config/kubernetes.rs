//! Kubernetes: names that it sets in the environment for a Service called `tidegate` or `tidegate-…`.

/// Whether Kubernetes sets a name for such a Service; `rest` is the part of the name after `TIDEGATE_`.
///
/// A name that ends in `_PORT` also needs a value such as `tcp://10.0.0.1:9001`: a plain number is a setting of the user.
pub(super) fn is_service_link(rest: &str, value: &str) -> bool {
    // The name of the Service may itself contain `_`.
    let after = rest.match_indices('_').map(|(at, _)| rest.split_at(at + 1).1);
    std::iter::once(rest).chain(after).any(|part| is_link(part, value))
}

fn is_link(part: &str, value: &str) -> bool {
    match part {
        "SERVICE_HOST" | "SERVICE_PORT" => true,
        "PORT" => ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)),
        _ => {
            let named = part.strip_prefix("SERVICE_PORT_").is_some_and(|name| !name.is_empty());
            named || part.strip_prefix("PORT_").is_some_and(is_of_a_port)
        }
    }
}

/// `9001_TCP`, or with `_PROTO`, `_PORT` or `_ADDR` behind it.
fn is_of_a_port(part: &str) -> bool {
    let words: Vec<&str> = part.split('_').collect();
    let ([number, protocol] | [number, protocol, "PROTO" | "PORT" | "ADDR"]) = *words.as_slice()
    else {
        return false;
    };
    number.parse::<u16>().is_ok() && matches!(protocol, "TCP" | "UDP" | "SCTP")
}
