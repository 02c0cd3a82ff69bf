//! Proves that the verdict can find a difference: the recording agrees with itself and with nothing else.

use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;
use prost::Message;

use crate::known::KNOWN;
use crate::play::Played;
use crate::recording::{Recording, Sdk};
use crate::stand_in::Seen;
use crate::support::client::{NoAnswer, Reply};
use crate::support::proto::{
    ActorId, ActorInvocationResponse, Any, INIT_ACTIONS, InvocationResponse, invocation_response,
};
use crate::verdict::{Verdict, judge};

const ALL: [Sdk; 4] = [Sdk::Node, Sdk::Go, Sdk::Python, Sdk::Rust];

/// A proxy that does exactly what the original did.
fn as_recorded(run: &Recording) -> Played {
    let replies = run.sdk_calls.iter().map(|call| match &call.answer {
        Some(answer) => Ok(Reply {
            status: answer.status,
            headers: HeaderMap::new(),
            body: answer.body.clone(),
        }),
        None => Err(NoAnswer::Connection("as recorded".into())),
    });
    let recorded = run.host_calls.iter().map(|call| (call.number, call.invocation.clone()));
    let seen = Seen { recorded: recorded.collect(), ..Seen::default() };
    Played { replies: replies.collect(), seen }
}

/// The verdict without any known difference, less the calls that the original left unanswered.
fn complaints(run: &Recording, played: &Played) -> usize {
    let unanswered = run.sdk_calls.iter().filter(|call| call.answer.is_none()).count();
    judge(run, played, &[]).complaints.len() - unanswered
}

#[test]
fn a_recording_agrees_with_itself() {
    for sdk in ALL {
        let run = Arc::new(Recording::read(sdk));
        assert_eq!(complaints(&run, &as_recorded(&run)), 0, "{sdk:?}");
    }
}

/// Why an answer for another actor may be refused: where one succeeds, every SDK names whom it was asked; where one fails,
/// it names nobody else. Instances, init actions and ticks included.
#[test]
fn every_answer_of_every_sdk_names_the_actor_that_was_asked() {
    for sdk in ALL {
        let (mut instances, mut inits) = (0, 0);
        for call in &Recording::read(sdk).host_calls {
            let asked = (call.id().name.as_str(), call.id().system.as_str());
            if let Some(response) = &call.response {
                let named = (response.actor_name.as_str(), response.actor_system.as_str());
                assert_eq!(named, asked, "{sdk:?} {}", call.number);
                instances += usize::from(!call.id().parent.is_empty());
                inits += usize::from(INIT_ACTIONS.contains(&&*call.invocation.action_name));
            } else if let Ok(failed) = ActorInvocationResponse::decode(call.answer.body.clone()) {
                let named = (failed.actor_name.as_str(), failed.actor_system.as_str());
                assert!(named == asked || named == ("", ""), "{sdk:?} {}: {named:?}", call.number);
            }
        }
        // The Rust SDK does not find instances: it answers their calls with nothing.
        assert!(inits > 0 && (instances > 0) == (sdk != Sdk::Rust), "{sdk:?}: {instances} {inits}");
    }
}

#[test]
fn an_entry_that_no_longer_differs_is_a_complaint() {
    for sdk in ALL {
        let run = Recording::read(sdk);
        let Verdict { complaints, .. } = judge(&run, &as_recorded(&run), KNOWN);
        let stale = complaints.iter().filter(|text| text.starts_with("no longer differs")).count();
        assert_eq!(stale, KNOWN.iter().filter(|known| known.shows_in.contains(&sdk)).count());
    }
}

#[test]
fn every_changed_answer_is_found() {
    for sdk in ALL {
        let run = Recording::read(sdk);
        for index in 0..run.sdk_calls.len() {
            let mut played = as_recorded(&run);
            let Ok(reply) = &mut played.replies[index] else { continue };
            let mut body = reply.body.to_vec();
            // A status of its own at the end wins over the one before it: the message says more now.
            body.extend([0x0a, 0x03, 0x12, 0x01, b'?']);
            reply.body = body.into();
            assert_eq!(complaints(&run, &played), 1, "{sdk:?} {index}");

            let mut played = as_recorded(&run);
            played.replies[index] = Err(NoAnswer::Silence);
            assert_eq!(complaints(&run, &played), 1, "{sdk:?} {index}");
        }
    }
}

#[test]
fn every_changed_payload_is_found() {
    for sdk in ALL {
        let run = Recording::read(sdk);
        for (index, call) in run.sdk_calls.iter().enumerate() {
            let mut played = as_recorded(&run);
            let Ok(reply) = &mut played.replies[index] else { continue };
            let Ok(mut response) = InvocationResponse::decode(reply.body.clone()) else { continue };
            if call.invocation.is_none() || reply.body.is_empty() {
                continue;
            }
            response.payload = Some(invocation_response::Payload::Value(Any {
                type_url: "type.googleapis.com/Other".into(),
                value: Bytes::new(),
            }));
            reply.body = response.encode_to_vec().into();
            assert_eq!(complaints(&run, &played), 1, "{sdk:?} {}", call.number);
        }
    }
}

#[test]
fn every_changed_host_call_is_found() {
    for sdk in ALL {
        let run = Recording::read(sdk);
        for call in &run.host_calls {
            let mut missing = as_recorded(&run);
            missing.seen.recorded.remove(&call.number);
            assert_eq!(complaints(&run, &missing), 1, "{sdk:?} {}", call.number);

            let change: [fn(&mut crate::support::proto::ActorInvocation); 6] = [
                |call| call.actor.as_mut().expect("an actor").parent.push('x'),
                |call| call.caller = Some(ActorId { name: "x".into(), ..ActorId::default() }),
                |call| call.payload = None,
                |call| call.current_context.get_or_insert_default().state = Some(other()),
                |call| {
                    call.current_context
                        .get_or_insert_default()
                        .tags
                        .insert("x".into(), "y".into());
                },
                |call| {
                    let context = call.current_context.get_or_insert_default();
                    context.metadata.insert("x".into(), "y".into());
                },
            ];
            for change in change {
                let mut changed = as_recorded(&run);
                let observed = changed.seen.recorded.get_mut(&call.number).expect("it is there");
                change(observed);
                let expected = usize::from(*observed != call.invocation);
                assert_eq!(complaints(&run, &changed), expected, "{sdk:?} {}", call.number);
            }
        }
    }
}

fn other() -> Any {
    Any { type_url: "type.googleapis.com/Other".into(), value: Bytes::from_static(b"x") }
}
