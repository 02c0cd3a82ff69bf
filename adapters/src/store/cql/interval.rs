//! Interval: a page of an actor's history between two times.
//!
//! Only buckets within the interval are read, a few at a time: as many as the page will probably need, and
//! only the first part of each. So memory is bounded, whatever the size of the history.

use std::collections::VecDeque;

use futures_util::future::try_join_all;
use scylla::response::PagingState;
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::{Interval, PAGE_BYTES, Page};
use tidegate_stages::ports::StoreError;
use tidegate_stages::state::Revision;

use super::bucket::Bucket;
use super::database::Rows;
use super::reader::Position;
use super::rows::{Key, RevisionIn, bound};
use super::shared::Shared;

/// Buckets that are read at the same time.
const ABREAST: usize = 4;
/// Buckets that one read of the index returns.
const WINDOW: i32 = 16;

/// The interval to read.
#[derive(Clone, Copy)]
struct Span<'a> {
    key: Key<'a>,
    from: Position,
    to: Position,
}

impl<'a> Span<'a> {
    /// Returns `None` when no revision can be in the interval.
    fn of(key: Key<'a>, interval: &Interval) -> Option<Self> {
        let from = (interval.from.map_or(0, |from| bound(from.0)), i64::MIN);
        let after = interval.after.map(|after| match (bound(after.at.0), bound(after.revision)) {
            (at, i64::MAX) => (at.saturating_add(1), i64::MIN),
            (at, revision) => (at, revision + 1),
        });
        let from = after.map_or(from, |after| from.max(after));
        let to = (interval.to.map_or(i64::MAX, |to| bound(to.0)), i64::MAX);
        (from <= to).then_some(Self { key, from, to })
    }

    fn holds(&self, place: &Position) -> bool {
        (self.from..=self.to).contains(place)
    }
}

/// The page while it is filled.
struct Growing {
    /// The key of the actor as sealed values are bound to it.
    actor: Vec<u8>,
    items: Vec<Revision>,
    last: Option<Position>,
    limit: usize,
    bytes: usize,
    more: bool,
}

impl Growing {
    fn is_full(&self) -> bool {
        self.items.len() >= self.limit || self.bytes >= PAGE_BYTES
    }

    fn capacity(&self) -> (usize, usize) {
        (self.limit - self.items.len(), PAGE_BYTES.saturating_sub(self.bytes))
    }
}

impl Shared {
    /// Returns a page of an interval, oldest first.
    pub(super) async fn load_by_interval(
        &self,
        actor: &ActorId,
        interval: Interval,
        limit: usize,
    ) -> Result<Page<Revision>, StoreError> {
        let span = Span::of(Key::of(actor)?, &interval).filter(|_| limit > 0);
        let Some(span) = span else { return Ok(Page::EMPTY) };
        let (actor, items) = (span.key.named(), Vec::new());
        let mut page = Growing { actor, items, last: None, limit, bytes: 0, more: false };
        let (first, next, newest) = tokio::join!(
            self.buckets_until(&span.key, span.from.0, 1),
            self.buckets_after(&span.key, span.from.0, span.to.0, WINDOW),
            self.newest_position(&span.key),
        );
        let (mut buckets, next, newest) = (VecDeque::from(first?), next?, newest?);
        let mut has_more = next.len() >= usize::try_from(WINDOW).unwrap_or(0);
        buckets.extend(next);
        while !buckets.is_empty() {
            if page.is_full() {
                page.more = true;
                break;
            }
            let count = abreast(&buckets, span.from.0, page.capacity());
            let taken: Vec<Bucket> = buckets.drain(..count).collect();
            self.fill(&span, &taken, &mut page).await?;
            let last = taken.last().map(|bucket| bucket.start).filter(|_| buckets.is_empty());
            if let Some(last) = last.filter(|_| has_more) {
                buckets.extend(self.buckets_after(&span.key, last, span.to.0, WINDOW).await?);
                has_more = buckets.len() >= usize::try_from(WINDOW).unwrap_or(0);
            }
        }
        // The newest revision may have expired in its bucket; its copy is kept.
        if let Some(newest) = newest
            && span.holds(&newest)
            && page.last.is_none_or(|last| last < newest)
        {
            if page.is_full() {
                page.more = true;
            } else if let Some(found) = self.newest(&span.key).await?
                && found.place() == newest
            {
                self.push(&mut page, found)?;
            }
        }
        Ok(Page { more: page.more && !page.items.is_empty(), items: page.items })
    }

    /// Reads some buckets concurrently and adds their revisions in order.
    async fn fill(
        &self,
        span: &Span<'_>,
        buckets: &[Bucket],
        page: &mut Growing,
    ) -> Result<(), StoreError> {
        let capacity = page.capacity();
        let first =
            buckets.iter().map(|bucket| self.part(span, bucket, capacity, PagingState::start()));
        let first = try_join_all(first).await?;
        for (bucket, part) in buckets.iter().zip(first) {
            let Rows { mut rows, mut next } = part;
            loop {
                for row in rows {
                    if page.is_full() {
                        page.more = true;
                        return Ok(());
                    }
                    self.push(page, row)?;
                }
                let Some(from) = next else { break };
                if page.is_full() {
                    page.more = true;
                    return Ok(());
                }
                Rows { rows, next } = self.part(span, bucket, page.capacity(), from).await?;
            }
        }
        Ok(())
    }

    async fn part(
        &self,
        span: &Span<'_>,
        bucket: &Bucket,
        (count, bytes): (usize, usize),
        from: PagingState,
    ) -> Result<Rows<RevisionIn>, StoreError> {
        let Key { system, actor, parent } = span.key;
        let (first, last) = (span.from, span.to);
        let values = (system, actor, parent, bucket.start, first.0, first.1, last.0, last.1);
        let size = count.min(bytes / bucket.average().max(1) + 1);
        self.database.read_page(&self.database.cql.interval, values, size, from).await
    }

    fn push(&self, page: &mut Growing, row: RevisionIn) -> Result<(), StoreError> {
        page.last = Some(row.place());
        let revision = row.open(&page.actor, &self.vault)?;
        page.bytes += revision.content.bytes();
        page.items.push(revision);
        Ok(())
    }
}

/// Returns how many of the buckets a page will probably need, at most as many as are read at the same time.
fn abreast(buckets: &VecDeque<Bucket>, from: i64, (count, bytes): (usize, usize)) -> usize {
    let (mut expected, mut expected_bytes) = (0_usize, 0_usize);
    let mut number = 0;
    for bucket in buckets.iter().take(ABREAST) {
        if number > 0 && (expected >= count || expected_bytes >= bytes) {
            break;
        }
        let kept = bucket.kept_from(from);
        expected = expected.saturating_add(kept);
        expected_bytes = expected_bytes.saturating_add(kept.saturating_mul(bucket.average()));
        number += 1;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(start: i64, bytes: usize) -> Bucket {
        let mut bucket = Bucket::open(start, start);
        for at in start..start + 1_000 {
            bucket.add(at, at, bytes);
        }
        bucket
    }

    #[test]
    fn no_more_buckets_are_read_abreast_than_a_page_needs() {
        let small: VecDeque<_> = (0..9).map(|number| full(number * 1_000, 10)).collect();
        assert_eq!(abreast(&small, 0, (256, PAGE_BYTES)), 1);
        assert_eq!(abreast(&small, 900, (256, PAGE_BYTES)), 2, "little of the first one counts");
        assert_eq!(abreast(&small, 0, (100_000, PAGE_BYTES)), ABREAST);
        let large: VecDeque<_> = (0..9).map(|number| full(number * 1_000, 8_000)).collect();
        assert_eq!(abreast(&large, 0, (100_000, PAGE_BYTES)), 1);
    }
}
