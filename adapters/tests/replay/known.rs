//! The intended differences, each with its decision or requirement.

use crate::recording::{HostCall, Recording, Sdk, SdkCall};
use crate::support::proto::{Any, DEFAULT_ACTIONS, INIT_ACTIONS, Status};
use crate::verdict::{Decoded, Difference, Known};

/// The list. The first entry that fits a difference explains it.
pub(crate) const KNOWN: &[Known] = &[
    Known {
        because: "decision 24: an unknown action is 404, with the recorded text",
        shows_in: &[Sdk::Node, Sdk::Go, Sdk::Python, Sdk::Rust],
        is: |_, difference| match difference {
            Difference::Answer { recorded, observed, .. } => {
                recorded.text().starts_with("Action [")
                    && recorded.fails_with(500, Status::Error)
                    && observed.fails_with(404, Status::Error)
                    && recorded.text() == observed.text()
            }
            _ => false,
        },
    },
    Known {
        because: "REQ-CCO-42, decision 24: an unknown actor is 404 ACTOR_NOT_FOUND at once, with the recorded text",
        shows_in: &[Sdk::Node, Sdk::Go, Sdk::Python],
        is: |_, difference| match difference {
            Difference::Answer { recorded, observed, .. } => {
                recorded.text().starts_with("Actor ")
                    && recorded.fails_with(500, Status::Error)
                    && observed.fails_with(404, Status::ActorNotFound)
                    && recorded.text() == observed.text()
            }
            _ => false,
        },
    },
    Known {
        because: "REQ-CCO-34: a failing action runs once, not eleven times",
        shows_in: &[Sdk::Node, Sdk::Go, Sdk::Rust],
        is: |run, difference| match difference {
            Difference::NotCalled { call } => is_rerun(run, call),
            _ => false,
        },
    },
    Known {
        because: "decision 24: a failed host is 502 with a text, never an empty 500",
        shows_in: &[Sdk::Node, Sdk::Go, Sdk::Rust],
        is: |_, difference| match difference {
            Difference::Answer { recorded, observed, .. } => {
                is_empty_500(recorded) && observed.fails_with(502, Status::Error)
            }
            _ => false,
        },
    },
    Known {
        because: "REQ-CPR-06, REQ-HTI-03: an undecodable answer of the host is 502, not a hang",
        shows_in: &[Sdk::Python],
        is: |_, difference| match difference {
            Difference::Answer { call, observed, .. } => {
                call.answer.is_none() && observed.fails_with(502, Status::Error)
            }
            _ => false,
        },
    },
    Known {
        because: "wire-protocol 5.6, decision 26: no state is no state, never an empty Any",
        shows_in: &[Sdk::Go, Sdk::Python, Sdk::Rust],
        is: |_, difference| match difference {
            Difference::Called { call, fields, observed } => {
                let state = |invocation: &crate::support::proto::ActorInvocation| {
                    invocation.current_context.as_ref().and_then(|context| context.state.clone())
                };
                INIT_ACTIONS.contains(&call.invocation.action_name.as_str())
                    && fields == &["state"]
                    && state(&call.invocation) == Some(Any::default())
                    && state(observed).is_none()
            }
            _ => false,
        },
    },
    Known {
        because: "decision 28: warm-up waits for a host that registers before it listens, so its init action runs once more",
        shows_in: &[Sdk::Rust],
        is: |_, difference| match difference {
            Difference::Extra { observed } => {
                INIT_ACTIONS.contains(&observed.action_name.as_str())
                    && observed.actor.as_ref().is_some_and(|id| id.name == "life-rec-rust")
            }
            _ => false,
        },
    },
    Known {
        because: "a replay is shorter than its recording, and has fewer ticks of timers; actors_timers shows them",
        shows_in: &[Sdk::Node, Sdk::Python, Sdk::Rust],
        is: |run, difference| match difference {
            Difference::NotCalled { call } => {
                run.is_timer(call.id(), &call.invocation.action_name)
                    && call.invocation.caller.is_some()
            }
            _ => false,
        },
    },
    Known {
        because: "the same: what the ticks left in the state",
        shows_in: &[Sdk::Node, Sdk::Python],
        is: |run, difference| match difference {
            Difference::Answer { call, recorded, observed } => {
                let timed = run.actors.get(call.actor());
                reads_state(call)
                    && timed.is_some_and(|actor| !actor.timer_actions.is_empty())
                    && (recorded.http(), observed.http()) == (Some(200), Some(200))
            }
            _ => false,
        },
    },
    Known {
        because: "scheduled calls do not run in a replay, which moves their times a hundred years on; actors_due runs some",
        shows_in: &[Sdk::Node],
        is: |run, difference| match difference {
            Difference::NotCalled { call } => is_scheduled(run, call),
            _ => false,
        },
    },
    Known {
        because: "the same: what their run left in the state",
        shows_in: &[Sdk::Node],
        is: |run, difference| match difference {
            Difference::Answer { call, recorded, observed } => {
                reads_state(call)
                    && is_target_of_schedule(run, call.actor())
                    && (recorded.http(), observed.http()) == (Some(200), Some(200))
            }
            _ => false,
        },
    },
    Known {
        because: "decision 12: a definition spawned from itself stays what its host registered, its parent too",
        shows_in: &[Sdk::Go],
        is: |_, difference| match difference {
            Difference::Called { call, fields, observed } => {
                fields == &["actor", "context.self"]
                    && call.id().parent == call.id().name
                    && observed
                        .actor
                        .as_ref()
                        .is_some_and(|id| id.name == call.id().name && id.parent.is_empty())
            }
            _ => false,
        },
    },
    Known {
        because: "REQ-POO-05, decision 045: without `pooled`, the name of a pool is an actor of its own and not its last member",
        shows_in: &[Sdk::Node, Sdk::Go],
        is: |_, difference| match difference {
            Difference::Called { call, fields, observed } => {
                let member = &call.id().parent;
                fields == &["actor", "context.self"]
                    && member.starts_with(&format!("{}-", call.id().name))
                    && observed
                        .actor
                        .as_ref()
                        .is_some_and(|id| id.name == call.id().name && id.parent.is_empty())
            }
            _ => false,
        },
    },
];

/// Whether the original ran the same call before, for the same request, because it had failed.
fn is_rerun(run: &Recording, call: &HostCall) -> bool {
    call.response.is_none()
        && run.host_calls.iter().any(|earlier| {
            earlier.number < call.number
                && earlier.response.is_none()
                && earlier.invocation == call.invocation
        })
}

fn is_empty_500(outcome: &crate::verdict::Outcome) -> bool {
    use crate::verdict::Outcome::Answered;
    matches!(outcome, Answered { http: 500, message: Decoded::Empty })
}

fn reads_state(call: &SdkCall) -> bool {
    DEFAULT_ACTIONS.contains(&call.action())
}

/// Whether some call or side effect asked for this run at a later time.
fn is_scheduled(run: &Recording, call: &HostCall) -> bool {
    let action = &call.invocation.action_name;
    let direct = run.sdk_calls.iter().filter_map(|call| call.invocation.as_ref());
    let effects =
        run.host_calls.iter().filter_map(|call| call.response.as_ref()?.workflow.as_ref());
    let effects = effects.flat_map(|workflow| &workflow.effects);
    direct.chain(effects.filter_map(|effect| effect.request.as_ref())).any(|request| {
        let target = request.actor.as_ref().and_then(|actor| actor.id.as_ref());
        request.scheduled_to > 0
            && request.action_name == *action
            && target.is_some_and(|id| id.name == call.id().name)
            && payload_bytes(request) == host_payload_bytes(call)
    })
}

fn is_target_of_schedule(run: &Recording, actor: &str) -> bool {
    run.host_calls.iter().any(|call| call.id().name == actor && is_scheduled(run, call))
}

fn payload_bytes(request: &crate::support::proto::InvocationRequest) -> Option<&[u8]> {
    use crate::support::proto::invocation_request::Payload;
    match request.payload.as_ref()? {
        Payload::Value(any) => Some(&any.value),
        Payload::Noop(_) => None,
    }
}

fn host_payload_bytes(call: &HostCall) -> Option<&[u8]> {
    use crate::support::proto::actor_invocation::Payload;
    match call.invocation.payload.as_ref()? {
        Payload::Value(any) => Some(&any.value),
        Payload::Noop(_) => None,
    }
}
