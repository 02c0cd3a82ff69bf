//! Reads a trace of system calls and finds responses that were sent before their state was durable.
//!
//! The tracer stops a thread before and after each call, one thread at a time, so the lines are in a
//! possible order of events: what a thread did because another's call had returned comes after that return.
//! Each state carries a mark with its actor's name and the count of its values. A response with value n is
//! covered under three conditions: state n, or a later state of the same actor, was written to a file; a
//! sync of that file began after the write returned; that sync returned before the response began to be
//! sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::support::counter::marks;

/// What a trace holds.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Answers that tell of a state.
    pub(crate) answers: u32,
    /// Writes of states to files.
    pub(crate) commits: u32,
    /// Syncs that returned without an error.
    pub(crate) syncs: u32,
    /// Answers that left too early, in words.
    pub(crate) early: Vec<String>,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answers, commits, syncs, early } = self;
        write!(
            f,
            "{answers} answers, {commits} writes of states, {syncs} syncs, {} too early",
            early.len()
        )?;
        early.iter().take(5).try_for_each(|early| write!(f, "\n  {early}"))
    }
}

/// The newest value of each actor.
type Values = BTreeMap<String, u32>;

/// A call that began, by what it means once it has returned.
#[derive(Debug)]
enum Begun {
    /// States on their way into a file.
    Write { file: String, states: Values },
    /// A sync, with what had been written to the file when it began.
    Sync { covers: Values },
    /// Nothing to this test.
    Other,
}

/// What is known while reading.
#[derive(Debug, Default)]
struct Reader {
    findings: Findings,
    /// By thread.
    begun: BTreeMap<String, Begun>,
    /// By file: what was written to it.
    written: BTreeMap<String, Values>,
    durable: Values,
    told: BTreeSet<(String, u32)>,
}

/// Reads the output of `strace -f -y -s <much>`.
pub(crate) fn read(trace: &str) -> Findings {
    let mut reader = Reader::default();
    for line in trace.lines() {
        reader.line(line);
    }
    reader.findings
}

impl Reader {
    fn line(&mut self, line: &str) {
        let Some((thread, rest)) = line.split_once(' ') else { return };
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            self.returned(thread, rest);
        } else if let Some((name, arguments)) = rest.split_once('(') {
            let begun = self.began(name, arguments);
            self.begun.insert(thread.to_owned(), begun);
            if !rest.ends_with("<unfinished ...>") {
                self.returned(thread, rest);
            }
        }
    }

    /// A call enters the kernel.
    fn began(&mut self, name: &str, arguments: &str) -> Begun {
        // `12</path/of/the/file>, …` or `12<socket:[345]>, …`
        let target = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        let Some((target, data)) = target else { return Begun::Other };
        let is_file = target.starts_with('/') && !target.starts_with("/dev/");
        match name {
            "fsync" | "fdatasync" => {
                Begun::Sync { covers: self.written.get(target).cloned().unwrap_or_default() }
            }
            _ if is_file => Begun::Write { file: target.to_owned(), states: newest(data) },
            _ => {
                if data.contains("HTTP/1.1 200") {
                    self.told_of(data);
                }
                Begun::Other
            }
        }
    }

    /// A call comes back from the kernel.
    fn returned(&mut self, thread: &str, line: &str) {
        let result = line.rsplit_once(" = ").map(|(_, result)| result);
        let succeeded = result.is_some_and(|result| !result.starts_with(['-', '?']));
        match self.begun.remove(thread) {
            Some(Begun::Write { file, states }) if succeeded && !states.is_empty() => {
                self.findings.commits += 1;
                raise(self.written.entry(file).or_default(), &states);
            }
            Some(Begun::Sync { covers }) if succeeded => {
                self.findings.syncs += 1;
                raise(&mut self.durable, &covers);
            }
            _ => {}
        }
    }

    /// An answer begins to leave.
    fn told_of(&mut self, data: &str) {
        for (actor, value) in newest(data) {
            if !self.told.insert((actor.clone(), value)) {
                continue;
            }
            self.findings.answers += 1;
            let durable = self.durable.get(&actor).copied().unwrap_or_default();
            if durable < value {
                let early = format!("{actor} was told of {value}, durable was {durable}");
                self.findings.early.push(early);
            }
        }
    }
}

fn newest(data: &str) -> Values {
    let mut values = Values::new();
    for (actor, value) in marks(data) {
        raise_one(&mut values, actor, value);
    }
    values
}

fn raise(values: &mut Values, by: &Values) {
    for (actor, value) in by {
        raise_one(values, actor, *value);
    }
}

fn raise_one(values: &mut Values, actor: &str, value: u32) {
    let known = values.entry(actor.to_owned()).or_default();
    *known = value.max(*known);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::counter::mark;

    /// A trace of one call in the given order of its parts.
    fn early(parts: &[&str]) -> usize {
        let mark = mark("a00", 1);
        let lines = parts.iter().map(|part| match *part {
            "write" => format!("7  write(9</d/journal>, \"\\1\\0{mark}\\0\", 90) = 90"),
            "elsewhere" => format!("7  write(9</d/other>, \"\\1\\0{mark}\\0\", 90) = 90"),
            "failed write" => format!("7  write(9</d/journal>, \"{mark}\", 90) = -1 ENOSPC (No space)"),
            "sync" => "7  fdatasync(9</d/journal>) = 0".to_owned(),
            "sync begins" => "7  fdatasync(9</d/journal> <unfinished ...>".to_owned(),
            "sync returns" => "7  <... fdatasync resumed>) = 0".to_owned(),
            "sync fails" => "7  <... fdatasync resumed>) = -1 EIO (Input/output error)".to_owned(),
            "other thread" => format!("8  pwrite64(9</d/journal>, \"{mark}\", 90, 0) = 90"),
            "answer" => format!("8  writev(5<socket:[1]>, [{{iov_base=\"HTTP/1.1 200 OK\\r\\n{mark}\", iov_len=9}}], 1) = 9"),
            part => panic!("no part {part}"),
        });
        let findings = read(&lines.collect::<Vec<_>>().join("\n"));
        assert_eq!(findings.answers, 1);
        findings.early.len()
    }

    #[test]
    fn an_answer_after_its_sync_is_in_time() {
        assert_eq!(early(&["write", "sync", "answer"]), 0);
        assert_eq!(early(&["write", "sync begins", "sync returns", "answer"]), 0);
    }

    #[test]
    fn an_answer_that_no_sync_covers_is_early() {
        assert_eq!(early(&["answer"]), 1);
        assert_eq!(early(&["write", "answer"]), 1);
        assert_eq!(early(&["sync", "write", "answer"]), 1);
        assert_eq!(early(&["write", "answer", "sync"]), 1);
        assert_eq!(early(&["write", "sync begins", "answer", "sync returns"]), 1);
        assert_eq!(early(&["sync begins", "other thread", "sync returns", "answer"]), 1);
        assert_eq!(early(&["write", "sync begins", "sync fails", "answer"]), 1);
        assert_eq!(early(&["elsewhere", "sync", "answer"]), 1);
        assert_eq!(early(&["failed write", "sync", "answer"]), 1);
    }
}
