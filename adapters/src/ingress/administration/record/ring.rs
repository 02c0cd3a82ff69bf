//! Ring: the looks of the last ten minutes, bounded in number and bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_stages::mesh::WaitingFilter;
use tokio::time::sleep;

use super::super::super::control::Listed;
use super::super::super::{Calls, Ingress};
use super::super::{flow, waiting};

/// How often the proxy looks at itself.
pub(super) const PERIOD: Duration = Duration::from_secs(5);
/// Looks that are kept: ten minutes.
const LOOKS: usize = 120;
/// Bytes of all looks that are kept.
const BYTES: usize = 2 << 20;
/// Actors that wait, in one look: those that have waited longest.
const WAITING: usize = 20;

/// What stands where a content was.
pub(super) const MASKED: &str = "(not recorded)";

/// The newest looks, each as JSON. When it is full, the oldest go. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::ingress::administration) struct Ring(Arc<Mutex<Looks>>);

#[derive(Debug, Default)]
struct Looks {
    kept: VecDeque<Bytes>,
    bytes: usize,
    /// Looks that went before their ten minutes had passed, or had no place at all.
    left_out: u64,
}

impl Ring {
    /// Looks every five seconds, until it is dropped.
    pub(in crate::ingress::administration) async fn run<C: Calls>(self, ingress: Ingress<C>) {
        let mut since = flow::Since::default();
        loop {
            let flow = since.look(&ingress);
            if let (Some(flow), Some(mesh)) = (flow, ingress.0.controlled.get()) {
                let mut waiting = waiting::list(mesh, &WaitingFilter::default(), WAITING);
                mask(&mut waiting.actors);
                let waiting = waiting.encode();
                let parts: [&[u8]; 5] = [b"{\"flow\":", &flow, b",\"waiting\":", &waiting, b"}"];
                self.keep(parts.concat().into());
            }
            sleep(PERIOD).await;
        }
    }

    fn keep(&self, look: Bytes) {
        let mut looks = self.0.lock();
        if look.len() > BYTES {
            looks.left_out += 1;
            return;
        }
        looks.bytes += look.len();
        looks.kept.push_back(look);
        while looks.bytes > BYTES || looks.kept.len() > LOOKS {
            let is_early = looks.kept.len() <= LOOKS;
            let gone = looks.kept.pop_front().map_or(0, |look| look.len());
            looks.bytes -= gone;
            looks.left_out += u64::from(is_early);
        }
    }

    /// The looks that are kept, oldest first, and how many were left out for want of bytes.
    pub(super) fn looks(&self) -> (Vec<Bytes>, u64) {
        let looks = self.0.lock();
        (looks.kept.iter().cloned().collect(), looks.left_out)
    }
}

/// Masks the texts of errors, which actions may have made.
fn mask(actors: &mut [Listed]) {
    for error in actors.iter_mut().filter_map(|actor| actor.last_error.as_mut()) {
        error.text = MASKED.into();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_keeps_the_newest_looks_within_both_bounds(
            sizes in prop::collection::vec(0..=BYTES / 40, 0..300),
        ) {
            let ring = Ring::default();
            for size in &sizes {
                ring.keep(vec![0; *size].into());
            }
            let (mut bytes, mut fitting) = (0, 0);
            for size in sizes.iter().rev().take(LOOKS) {
                bytes += size;
                if bytes > BYTES {
                    break;
                }
                fitting += 1;
            }
            let kept: Vec<_> = ring.looks().0.iter().map(Bytes::len).collect();
            prop_assert_eq!(&kept[..], &sizes[sizes.len() - fitting..]);
        }
    }

    #[test]
    fn looks_that_have_no_place_are_counted_and_old_ones_are_not() {
        let ring = Ring::default();
        for _ in 0..LOOKS + 7 {
            ring.keep(Bytes::from_static(b"{}"));
        }
        assert_eq!((ring.looks().0.len(), ring.looks().1), (LOOKS, 0));
        ring.keep(vec![0; BYTES + 1].into());
        assert_eq!((ring.looks().0.len(), ring.looks().1), (LOOKS, 1));
        ring.keep(vec![0; BYTES].into());
        let (looks, left_out) = ring.looks();
        // The first of them went for its age.
        assert_eq!((looks.len(), left_out), (1, 1 + LOOKS as u64 - 1));
    }
}
