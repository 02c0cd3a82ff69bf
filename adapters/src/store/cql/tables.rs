//! Tables of schema 2.
//!
//! ```text
//! heads            one partition per actor; its rows, by kind:
//!                  0 head              epoch                the owner's; the highest is the latest state
//!                  2 bucket by time    place = its start
//!                  3 bucket by number  place = number of its first revision
//!                  4 newest revision   place = its number   only while revisions expire
//!                  5 outbox            epoch, place         an effect that is not delivered yet
//!                  6 seen              epoch, place = hash of a source
//!                  7 owner             epoch                since when rows of older epochs do not count
//! revisions        one partition per bucket of an actor's history, by time, then number
//! actors           one partition per shard of a system: which actors there are
//! pending          which actors may have rows in their outbox, over 16 partitions
//! due, due_minutes calls to be made later, a partition per minute and shard; which partitions there are
//! registrations    what is registered, by name and change, over 64 partitions
//! visible          the last change of each epoch that counts: the row that flips
//! meta             version of the schema, newest epoch with the ceiling of write timestamps, notes
//! members          the owner's heartbeat, one row
//! ```
//!
//! The other tables are there for parts of Tidegate to come, so that the schema need not change again:
//! `docs/decisions/019-cql-schema-2.md` says what each is for.

/// Tables, each with its name first.
pub(super) const TABLES: [&str; 17] = [
    "meta (name text PRIMARY KEY, number bigint, value blob)",
    "heads (system text, actor text, parent text, kind tinyint, epoch bigint, place bigint, \
     format tinyint, version bigint, revision bigint, incarnation bigint, status tinyint, at bigint, \
     tags frozen<map<text, text>>, type_url text, value blob, sealed boolean, outbox int, owner bigint, \
     bucket bigint, written int, dropped int, size bigint, first bigint, last bigint, \
     effect frozen<tuple<bigint, bigint, bigint>>, \
     seen map<frozen<tuple<tinyint, text, text>>, frozen<tuple<bigint, bigint, bigint>>>, \
     taken frozen<map<bigint, bigint>>, \
     PRIMARY KEY ((system, actor, parent), kind, epoch, place)) \
     WITH CLUSTERING ORDER BY (kind ASC, epoch DESC, place ASC)",
    "revisions (system text, actor text, parent text, bucket bigint, at bigint, revision bigint, \
     format tinyint, version bigint, incarnation bigint, epoch bigint, status tinyint, \
     tags frozen<map<text, text>>, type_url text, value blob, sealed boolean, \
     PRIMARY KEY ((system, actor, parent, bucket), at, revision)) \
     WITH CLUSTERING ORDER BY (at ASC, revision ASC)",
    "actors (system text, shard tinyint, actor text, parent text, \
     PRIMARY KEY ((system, shard), actor, parent))",
    // Rows come and go with each effect. One that comes back names an actor whose outbox is empty, no more.
    "pending (shard tinyint, system text, actor text, parent text, epoch bigint, \
     PRIMARY KEY ((shard), system, actor, parent, epoch)) WITH gc_grace_seconds = 0",
    "registrations (shard tinyint, system text, name text, epoch bigint, change bigint, record blob, \
     PRIMARY KEY ((shard), system, name, epoch, change)) \
     WITH CLUSTERING ORDER BY (system ASC, name ASC, epoch DESC, change DESC)",
    "visible (part tinyint, epoch bigint, change bigint, PRIMARY KEY ((part), epoch))",
    "dead_letters (system text, day int, at bigint, kind tinyint, source text, \
     effect frozen<tuple<bigint, bigint, bigint>>, record blob, sealed boolean, \
     PRIMARY KEY ((system, day), at, kind, source, effect))",
    "due (minute bigint, shard smallint, at bigint, id text, record blob, sealed boolean, \
     PRIMARY KEY ((minute, shard), at, id))",
    "due_minutes (day int, minute bigint, shard smallint, PRIMARY KEY ((day), minute, shard))",
    "schedules (shard tinyint, system text, name text, next bigint, runs bigint, record blob, \
     PRIMARY KEY ((shard), system, name))",
    "topics (system text, topic text, bucket bigint, position bigint, at bigint, record blob, sealed boolean, \
     PRIMARY KEY ((system, topic, bucket), position))",
    "positions (system text, topic text, subscriber text, position bigint, record blob, \
     PRIMARY KEY ((system, topic), subscriber))",
    "pauses (part tinyint, kind tinyint, system text, name text, at bigint, record blob, \
     PRIMARY KEY ((part), kind, system, name))",
    "hosts (system text, name text, address text, at bigint, record blob, \
     PRIMARY KEY ((system, name), address))",
    "members (part tinyint, member text, address text, epoch bigint, heartbeat bigint, record blob, \
     PRIMARY KEY ((part), member))",
    "shards (part tinyint, shard int, epoch bigint, owner text, record blob, \
     PRIMARY KEY ((part), shard))",
];

/// Columns of `heads` that schema 1 does not have.
pub(super) const NEW_IN_HEADS: [&str; 3] = [
    "effect frozen<tuple<bigint, bigint, bigint>>",
    "seen map<frozen<tuple<tinyint, text, text>>, frozen<tuple<bigint, bigint, bigint>>>",
    "taken frozen<map<bigint, bigint>>",
];

/// The table of schema 1 that [`registrations`](TABLES) replaces.
pub(super) const OLD_REGISTRY: &str = "registry";

/// Returns the name of a table or column: the first word.
pub(super) fn name_of(definition: &str) -> &str {
    definition.split(' ').next().unwrap_or_default()
}
