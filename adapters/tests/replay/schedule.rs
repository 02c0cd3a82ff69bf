//! Schedules: recorded times are long past; times that were in the future are moved to the future again.

use bytes::Bytes;
use prost::Message;

use crate::support::proto::{ActorInvocationResponse, InvocationRequest};

/// A hundred years, in milliseconds: later than any replay.
const LATER_MS: i64 = 100 * 365 * 24 * 3600 * 1000;

/// A request as recorded, its time still to come.
pub(crate) fn postpone_request(
    mut request: InvocationRequest,
    body: Bytes,
) -> (InvocationRequest, Bytes) {
    if !postpone(&mut request) {
        return (request, body);
    }
    let body = request.encode_to_vec().into();
    (request, body)
}

/// An answer as recorded, the times of its side effects still to come.
pub(crate) fn postpone_effects(
    mut response: ActorInvocationResponse,
    body: Bytes,
) -> (ActorInvocationResponse, Bytes) {
    let effects = response.workflow.iter_mut().flat_map(|workflow| &mut workflow.effects);
    let requests = effects.filter_map(|effect| effect.request.as_mut());
    let postponed = requests.fold(false, |any, request| postpone(request) | any);
    if !postponed {
        return (response, body);
    }
    let body = response.encode_to_vec().into();
    (response, body)
}

fn postpone(request: &mut InvocationRequest) -> bool {
    let scheduled = request.scheduled_to > 0;
    if scheduled {
        request.scheduled_to += LATER_MS;
    }
    scheduled
}
