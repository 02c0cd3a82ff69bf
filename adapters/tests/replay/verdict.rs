//! The verdict: every exchange is equal, or differs for a documented reason.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use prost::Message;

use crate::play::Played;
use crate::recording::{HostCall, Recording, Sdk, SdkCall};
use crate::support::client::{NoAnswer, Reply};
use crate::support::proto::{
    ActorInvocation, Context, InvocationResponse, RegistrationResponse, SpawnResponse, Status,
};

/// An answer to an SDK, decoded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// HTTP status and message.
    Answered { http: u16, message: Decoded },
    /// No answer at all.
    None(String),
}

/// What the body of an answer holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decoded {
    Invocation(Box<InvocationResponse>),
    Spawn(SpawnResponse),
    Registration(RegistrationResponse),
    /// Nothing.
    Empty,
    /// Not the message of its route.
    Garbled(Bytes),
}

impl Outcome {
    pub(crate) fn http(&self) -> Option<u16> {
        match self {
            Outcome::Answered { http, .. } => Some(*http),
            Outcome::None(_) => None,
        }
    }

    /// The answer to an invocation.
    pub(crate) fn response(&self) -> Option<&InvocationResponse> {
        match self {
            Outcome::Answered { message: Decoded::Invocation(response), .. } => Some(response),
            _ => None,
        }
    }

    /// Whether it is a failed invocation under this HTTP status, with this protocol status and a text.
    pub(crate) fn fails_with(&self, http: u16, status: Status) -> bool {
        self.http() == Some(http)
            && self
                .response()
                .and_then(|response| response.status.as_ref())
                .is_some_and(|told| told.status == status as i32 && !told.message.is_empty())
    }

    /// Its text for people.
    pub(crate) fn text(&self) -> &str {
        let status = self.response().and_then(|response| response.status.as_ref());
        status.map_or("", |status| &status.message)
    }
}

/// What is not as it was recorded.
#[derive(Debug)]
pub(crate) enum Difference<'a> {
    /// An SDK call got another answer.
    Answer { call: &'a SdkCall, recorded: Outcome, observed: Outcome },
    /// A recorded host call did not come.
    NotCalled { call: &'a HostCall },
    /// A host call came otherwise than recorded, in these fields.
    Called { call: &'a HostCall, fields: Vec<&'static str>, observed: &'a ActorInvocation },
    /// A host call came that was not recorded.
    Extra { observed: &'a ActorInvocation },
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Answer { call, recorded, observed } => {
                let (number, actor, action) = (call.number, call.actor(), call.action());
                let (observed, recorded) = (start(observed), start(recorded));
                writeln!(f, "{number} {actor} {action}: answered\n    {observed}")?;
                write!(f, "  recorded\n    {recorded}")
            }
            Difference::NotCalled { call } => {
                let action = &call.invocation.action_name;
                write!(f, "{} {} {action}: the host was not called", call.number, call.id().name)
            }
            Difference::Called { call, fields, observed } => {
                let (number, recorded) = (call.number, &call.invocation);
                let (observed, recorded) = (start(observed), start(recorded));
                writeln!(f, "{number}: the host was called with other {fields:?}:")?;
                write!(f, "    {observed}\n  recorded\n    {recorded}")
            }
            Difference::Extra { observed } => {
                write!(f, "the host was called without a recorded call: {}", start(observed))
            }
        }
    }
}

/// Enough of a message to see what is wrong with it.
fn start(message: &impl fmt::Debug) -> String {
    format!("{message:?}").chars().take(1_000).collect()
}

/// A known difference.
#[derive(Debug)]
pub(crate) struct Known {
    /// Where it is written down that it is meant.
    pub(crate) because: &'static str,
    /// The runs in which it must show.
    pub(crate) shows_in: &'static [Sdk],
    /// Whether a difference is this one.
    pub(crate) is: fn(&Recording, &Difference<'_>) -> bool,
}

/// What a replay came to, in numbers and in words.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) exchanges: usize,
    pub(crate) equal: usize,
    pub(crate) documented: BTreeMap<&'static str, usize>,
    /// Each of them fails the test.
    pub(crate) complaints: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} exchanges, {} equal", self.exchanges, self.equal)?;
        for (reason, count) in &self.documented {
            writeln!(f, "  {count:4} differ as documented: {reason}")?;
        }
        for complaint in &self.complaints {
            writeln!(f, "WRONG {complaint}")?;
        }
        Ok(())
    }
}

/// Compares what was played with what was recorded.
pub(crate) fn judge(run: &Recording, played: &Played, known: &[Known]) -> Verdict {
    let mut verdict =
        Verdict { exchanges: run.sdk_calls.len() + run.host_calls.len(), ..Verdict::default() };
    let mut differences = answers(run, &played.replies);
    differences.extend(host_calls(run, played));
    verdict.equal = verdict.exchanges;

    let known: Vec<&Known> =
        known.iter().filter(|known| known.shows_in.contains(&run.sdk)).collect();
    let mut shown = vec![0; known.len()];
    for difference in &differences {
        match known.iter().position(|known| (known.is)(run, difference)) {
            Some(index) => {
                shown[index] += 1;
                *verdict.documented.entry(known[index].because).or_default() += 1;
            }
            None => verdict.complaints.push(difference.to_string()),
        }
        if !matches!(difference, Difference::Extra { .. }) {
            verdict.equal -= 1;
        }
    }
    for (known, shown) in known.iter().zip(shown) {
        if shown == 0 {
            verdict.complaints.push(format!("no longer differs: {:?}", known.because));
        }
    }
    verdict.complaints.extend(played.seen.transport.iter().cloned());
    verdict
}

/// Compares the answers to the SDK's calls. Calls that overlapped and were the same may have swapped their answers.
fn answers<'a>(run: &'a Recording, replies: &[Result<Reply, NoAnswer>]) -> Vec<Difference<'a>> {
    let mut observed: Vec<Outcome> =
        run.sdk_calls.iter().zip(replies).map(|(call, reply)| outcome_of(call, reply)).collect();
    let recorded: Vec<Outcome> = run.sdk_calls.iter().map(recorded_outcome).collect();
    for group in at_once(&run.sdk_calls) {
        for (place, index) in group.iter().enumerate() {
            let rest = &group[place..];
            if let Some(same) = rest.iter().find(|at| observed[**at] == recorded[*index]) {
                observed.swap(*index, *same);
            }
        }
    }
    let compared = run.sdk_calls.iter().zip(recorded.into_iter().zip(observed));
    compared
        .filter(|(_, (recorded, observed))| recorded != observed)
        .map(|(call, (recorded, observed))| Difference::Answer { call, recorded, observed })
        .collect()
}

/// Groups of equal calls of which each overlaps with the one before it.
fn at_once(calls: &[SdkCall]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(f64, Vec<usize>)> = vec![];
    for (index, call) in calls.iter().enumerate() {
        let group = groups.iter_mut().find(|(ends, members)| {
            let first = &calls[members[0]];
            *ends > call.started_ms && first.body == call.body && first.path == call.path
        });
        match group {
            Some((ends, members)) => {
                *ends = ends.max(call.ended_ms);
                members.push(index);
            }
            None => groups.push((call.ended_ms, vec![index])),
        }
    }
    groups.into_iter().map(|(_, members)| members).filter(|members| members.len() > 1).collect()
}

fn recorded_outcome(call: &SdkCall) -> Outcome {
    match &call.answer {
        Some(answer) => {
            Outcome::Answered { http: answer.status, message: decoded(call, &answer.body) }
        }
        None => Outcome::None("never answered".into()),
    }
}

fn outcome_of(call: &SdkCall, reply: &Result<Reply, NoAnswer>) -> Outcome {
    match reply {
        Ok(reply) => Outcome::Answered { http: reply.status, message: decoded(call, &reply.body) },
        Err(error) => Outcome::None(format!("{error:?}")),
    }
}

fn decoded(call: &SdkCall, body: &Bytes) -> Decoded {
    fn as_message<M: Message + Default>(body: &Bytes, wrap: fn(M) -> Decoded) -> Decoded {
        M::decode(body.clone()).map_or_else(|_| Decoded::Garbled(body.clone()), wrap)
    }
    if body.is_empty() {
        Decoded::Empty
    } else if call.path.ends_with("/invoke") {
        as_message(body, |response| Decoded::Invocation(Box::new(response)))
    } else if call.path.ends_with("/spawn") {
        as_message(body, Decoded::Spawn)
    } else {
        as_message(body, Decoded::Registration)
    }
}

fn host_calls<'a>(run: &'a Recording, played: &'a Played) -> Vec<Difference<'a>> {
    let mut differences = vec![];
    for call in &run.host_calls {
        match played.seen.recorded.get(&call.number) {
            None => differences.push(Difference::NotCalled { call }),
            Some(observed) => {
                let fields = differing_fields(&call.invocation, observed);
                if !fields.is_empty() {
                    differences.push(Difference::Called { call, fields, observed });
                }
            }
        }
    }
    differences.extend(played.seen.extra.iter().map(|observed| Difference::Extra { observed }));
    differences
}

/// Names of the fields in which two host calls differ.
fn differing_fields(recorded: &ActorInvocation, observed: &ActorInvocation) -> Vec<&'static str> {
    let none = Context::default();
    let before = recorded.current_context.as_ref().unwrap_or(&none);
    let now = observed.current_context.as_ref().unwrap_or(&none);
    // The number of an effect is the proxy's own addition (decision 18).
    let mut metadata = now.metadata.clone();
    metadata.remove("tidegate-effect-id");
    let fields = [
        ("context", recorded.current_context.is_some() == observed.current_context.is_some()),
        ("actor", recorded.actor == observed.actor),
        ("action", recorded.action_name == observed.action_name),
        ("payload", recorded.payload == observed.payload),
        ("caller", recorded.caller == observed.caller),
        ("state", before.state == now.state),
        ("tags", before.tags == now.tags),
        ("metadata", before.metadata == metadata),
        ("context.caller", before.caller == now.caller),
        ("context.self", before.self_ == now.self_),
    ];
    fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}
