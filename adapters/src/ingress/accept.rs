//! Accept: chooses the form of a response by the `Accept` header, where there is a choice.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use super::http::Refusal;
use crate::wire::Form;

/// What clients usually send.
const OCTET_STREAM: &str = "application/octet-stream";

/// The form for each media range. The highest weight wins; of equal weights, the first in the header.
const FORMS: [(&str, Form); 7] = [
    ("application/json", Form::Json),
    ("text/json", Form::Json),
    ("application/*", Form::Json),
    ("*/*", Form::Json),
    ("application/octet-stream", Form::Protobuf),
    ("application/x-protobuf", Form::Protobuf),
    ("application/protobuf", Form::Protobuf),
];

/// Returns the form that `Accept` asks for; JSON when the header is absent or accepts anything.
pub(super) fn form(headers: &HeaderMap) -> Result<Form, Refusal> {
    let mut best: Option<(Form, f32)> = None;
    let mut is_silent = true;
    for range in headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
    {
        let range = String::from_utf8_lossy(range);
        let mut parts = range.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        if essence.is_empty() {
            continue;
        }
        is_silent = false;
        let known = FORMS.iter().find(|(known, _)| known.eq_ignore_ascii_case(essence));
        let weight = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        if let Some((_, form)) = known
            && weight > best.map_or(0.0, |(_, weight)| weight)
        {
            best = Some((*form, weight));
        }
    }
    match best {
        Some((form, _)) => Ok(form),
        None if is_silent => Ok(Form::Json),
        None => {
            let text =
                "can answer with application/json, or with protobuf as application/octet-stream";
            Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, text))
        }
    }
}

/// Returns the form of an answer: the one of its request unless `Accept` takes the other one only.
pub(super) fn form_of_answer(headers: &HeaderMap) -> Form {
    form_of_answer_to(content_form(headers).unwrap_or(Form::Protobuf), headers)
}

/// The same; the request has the form `own`.
pub(super) fn form_of_answer_to(own: Form, headers: &HeaderMap) -> Form {
    let mut others = false;
    let ranges = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for range in ranges {
        let range = String::from_utf8_lossy(range);
        let mut parts = range.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        let is_refused = parts.any(|part| matches!(part, "q=0" | "q=0.0"));
        let known = FORMS.iter().find(|(known, _)| known.eq_ignore_ascii_case(essence));
        match known {
            Some(_) if is_refused => {}
            Some((known, form)) if *form == own || known.ends_with("/*") => return own,
            Some(_) => others = true,
            None => {}
        }
    }
    match own {
        own if !others => own,
        Form::Json => Form::Protobuf,
        Form::Protobuf => Form::Json,
    }
}

/// Returns the form of a body by its type: protobuf when there is no type (decision 25), `None` when it is another one.
pub(super) fn content_form(headers: &HeaderMap) -> Option<Form> {
    let Some(given) = headers.get(CONTENT_TYPE) else { return Some(Form::Protobuf) };
    if given == OCTET_STREAM {
        return Some(Form::Protobuf);
    }
    let essence = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let known = FORMS.iter().find(|(known, _)| known.eq_ignore_ascii_case(essence));
    known.filter(|(known, _)| !known.ends_with("/*")).map(|(_, form)| *form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(values: &[&str]) -> Option<Form> {
        let headers = values.iter().map(|value| (ACCEPT, value.parse().unwrap())).collect();
        form(&headers).ok()
    }

    #[test]
    fn the_form_that_is_liked_best_is_taken() {
        for json in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/json"],
            &["text/html,application/xhtml+xml,*/*;q=0.8"],
            &["application/protobuf;q=0.1, Application/JSON; q=0.2"],
            &["application/octet-stream;q=0, */*"],
        ] {
            assert_eq!(asked(json), Some(Form::Json), "{json:?}");
        }
        for protobuf in [
            &["application/octet-stream"][..],
            &["application/x-protobuf; charset=utf-8"],
            &["application/protobuf, application/json"],
            &["text/html", "application/json;q=0.5, application/protobuf"],
        ] {
            assert_eq!(asked(protobuf), Some(Form::Protobuf), "{protobuf:?}");
        }
        for (content, accept, form) in [
            (None, None, Form::Protobuf),
            (None, Some("*/*"), Form::Protobuf),
            // What axios sends, also inside the Node SDK.
            (None, Some("application/json, text/plain, */*"), Form::Protobuf),
            (Some("application/octet-stream"), Some("text/html"), Form::Protobuf),
            (Some("application/octet-stream"), Some("application/json"), Form::Json),
            (None, Some("application/json;q=0"), Form::Protobuf),
            (Some("Application/JSON; charset=utf-8"), None, Form::Json),
            (Some("application/json"), Some("*/*"), Form::Json),
            (Some("application/json"), Some("application/protobuf, text/json"), Form::Json),
            (Some("application/json"), Some("application/protobuf"), Form::Protobuf),
        ] {
            let named = [(CONTENT_TYPE, content), (ACCEPT, accept)].into_iter();
            let named = named.filter_map(|(name, value)| Some((name, value?.parse().unwrap())));
            assert_eq!(form_of_answer(&named.collect()), form, "{content:?} {accept:?}");
        }
        for neither in [&["text/html"][..], &["application/json;q=0"], &["*/*;q=x"]] {
            assert_eq!(asked(neither), None, "{neither:?}");
        }
    }
}
