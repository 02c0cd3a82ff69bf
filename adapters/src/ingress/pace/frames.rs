//! Frames: whether the head of a request over HTTP/2 has begun and not ended, by the frames that have come.
//!
//! While a head is not complete, no frame of anything else may come. Payloads are not looked at.

/// Bytes before the payload of a frame: its length (3), its type, its flags, its stream (4).
const START: usize = 9;
/// The type of a frame that begins a head.
const HEADERS: u8 = 1;
/// The type of a frame that goes on with one.
const CONTINUATION: u8 = 9;
/// The flag of the frame that ends one.
const END_HEADERS: u8 = 4;

/// See the [module](self).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// What comes before the payload of this frame, as far as it has come.
    start: [u8; START],
    came: usize,
    /// Bytes of the payload that have not come.
    left: usize,
    /// Whether the frame before this one left a head open.
    is_open: bool,
}

impl Frames {
    pub(super) fn saw(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            if let Some(next) = self.start.get_mut(self.came) {
                *next = *byte;
                bytes = rest;
                self.came += 1;
                let [a, b, c, ..] = self.start;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            } else {
                let taken = self.left.min(bytes.len());
                bytes = bytes.split_at(taken).1;
                self.left -= taken;
            }
            if self.came == START && self.left == 0 {
                let [_, _, _, kind, flags, ..] = self.start;
                if is_of_head(kind) {
                    self.is_open = flags & END_HEADERS == 0;
                }
                self.came = 0;
            }
        }
    }

    /// Whether the rest of a head is waited for.
    pub(super) fn is_in_head(&self) -> bool {
        let [_, _, _, kind, ..] = self.start;
        self.is_open || (self.came > 3 && is_of_head(kind))
    }
}

fn is_of_head(kind: u8) -> bool {
    matches!(kind, HEADERS | CONTINUATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], payload].concat()
    }

    #[test]
    fn a_head_is_open_from_its_first_frame_to_the_end_of_its_last_one() {
        let head = frame(HEADERS, END_HEADERS, &[HEADERS; 20]);
        let parts = [
            frame(HEADERS, 0, &[0; 7]),
            frame(CONTINUATION, 0, &[]),
            frame(CONTINUATION, END_HEADERS, &[9; 30]),
        ];
        // Its payload looks like the start of a head.
        let data = frame(0, 0, &[HEADERS; 40]);
        let ping = frame(6, 0, &[0; 8]);
        let bytes = [&ping[..], &head, &data, &parts.concat(), &ping].concat();
        let (first, second) = (ping.len(), ping.len() + head.len() + data.len());
        let ends = [first + head.len(), second + parts.concat().len()];
        let is_open = |at: usize| {
            [first, second].iter().zip(ends).any(|(begin, end)| (begin + 4..end).contains(&at))
        };
        let mut by_byte = Frames::default();
        for at in 0..=bytes.len() {
            let mut at_once = Frames::default();
            at_once.saw(&bytes[..at]);
            assert_eq!(at_once.is_in_head(), is_open(at), "{at} bytes of {bytes:?}");
            assert_eq!(by_byte, at_once);
            by_byte.saw(bytes.get(at..=at).unwrap_or_default());
        }
    }
}
