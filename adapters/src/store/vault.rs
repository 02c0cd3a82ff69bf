//! Vault: seals states at rest with AES-256-GCM, in one of two layouts.
//!
//! ```text
//! 01 0A "TIDEGATE.1"   mark of the place (8)   nonce (16)   tag (16)   ciphertext
//! 01 0A "AES.GCM.V1"   nonce (16)   tag (16)   ciphertext
//! ```
//! The associated data of the first is the label and the [place](Place) of the value: it opens in its place only. The mark is
//! the xxh3 of that data; it only tells a value that was moved from one that is damaged or sealed with another key. The
//! second is the original's (`behaviour` REQ-STO-06), whose associated data is always `AES256GCM`: it opens everywhere.
//!
//! The first key seals; any key may open, in either layout. A flag beside a stored value says whether the value is sealed.
//! Only states and undelivered workflow are sealed: names, tags, type URLs, numbers and times stay readable.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::aead::consts::U16;
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInOut, AesGcm, KeyInit, Nonce, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::place::Place;

type Cipher = AesGcm<Aes256, U16>;

const SPAWN_LABEL: &[u8] = b"\x01\x0AAES.GCM.V1";
const SPAWN_ASSOCIATED: &[u8] = b"AES256GCM";
const PLACE_LABEL: &[u8] = b"\x01\x0ATIDEGATE.1";
const MARK_BYTES: usize = 8;
const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// Bytes that sealing adds at most.
pub const SEAL_BYTES: usize = PLACE_LABEL.len() + MARK_BYTES + NONCE_BYTES + TAG_BYTES;

/// How a value is sealed. Later ones are greater; the number stands beside a sealed value in the embedded store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// As Spawn seals: not bound to a place.
    Spawn = 1,
    /// Bound to the [place](Place) of the value.
    #[default]
    Place = 2,
}

impl Layout {
    /// Returns the bytes before the nonce, and the associated data.
    fn begin(self, place: Place<'_>) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Spawn => (SPAWN_LABEL.into(), SPAWN_ASSOCIATED.into()),
            Self::Place => {
                let mut associated = PLACE_LABEL.to_vec();
                place.write_to(&mut associated);
                let mark = xxh3_64(&associated).to_be_bytes();
                ([PLACE_LABEL, &mark].concat(), associated)
            }
        }
    }
}

/// A key of 32 bytes; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// Parses a key in the format of `SPAWN_STATESTORE_KEY`.
    ///
    /// # Errors
    /// When the text is not 32 bytes in base64. The error does not show the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| "must be base64".to_owned())?;
        let len = bytes.len();
        let bytes = bytes.try_into().map_err(|_| format!("must be 32 bytes in base64, has {len}"));
        bytes.map(Self)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(masked)")
    }
}

/// Why a sealed value cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The value is sealed and no key is configured.
    #[error("it is sealed, and no key is set (SPAWN_STATESTORE_KEY)")]
    NoKey,
    /// No key opens the value: it is sealed with another key, or damaged.
    #[error(
        "none of the {0} keys that are set opens it (SPAWN_STATESTORE_KEY, TIDEGATE_STATESTORE_OLD_KEYS)"
    )]
    NoneFits(usize),
    /// The value was sealed for another place: it was moved or exchanged.
    #[error(
        "it does not belong here: it was sealed for another actor, another kind of record or another number"
    )]
    Elsewhere,
    /// The value is not sealed in a known layout.
    #[error("it is not sealed in a layout that this version knows")]
    Layout,
}

/// Seals values in one layout and opens them in every one. Without keys, values stay in the clear.
#[derive(Default)]
pub struct Vault {
    ciphers: Vec<Cipher>,
    layout: Layout,
    /// Values read that are not sealed with the first key in this layout, although there is a key.
    stale: AtomicU64,
}

/// How an opened value was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Index of the key; 0 is the one that seals.
    pub(super) key: usize,
    pub(super) layout: Layout,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("keys", &self.ciphers.len()).finish_non_exhaustive()
    }
}

impl Vault {
    /// Seals with the first key, each value for its place, and opens with any key; without keys, seals nothing.
    pub fn new(keys: &[Key]) -> Self {
        let ciphers = keys.iter().map(|key| Cipher::new((&key.0).into())).collect();
        Self { ciphers, ..Self::default() }
    }

    /// Seals in this layout from now on.
    #[must_use]
    pub fn with_layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    /// The layout of new values.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the number of keys.
    pub fn keys(&self) -> usize {
        self.ciphers.len()
    }

    /// Returns how many of the values read so far would change if written again: values that an old key opened, values
    /// in another layout, and values in the clear while there is a key.
    pub fn stale(&self) -> u64 {
        self.stale.load(Ordering::SeqCst)
    }

    /// Whether new values are sealed.
    pub fn seals(&self) -> bool {
        !self.ciphers.is_empty()
    }

    /// Seals a value for its place; returns `None` when values stay in the clear.
    ///
    /// # Panics
    /// Never: a value of more than 64 GiB is refused long before.
    pub fn seal(&self, value: &[u8], place: Place<'_>) -> Option<Bytes> {
        let cipher = self.ciphers.first()?;
        let nonce = Nonce::<U16>::from(rand::random::<[u8; NONCE_BYTES]>());
        let (mut sealed, associated) = self.layout.begin(place);
        sealed.reserve_exact(NONCE_BYTES + TAG_BYTES + value.len());
        sealed.extend_from_slice(&nonce);
        let tag_at = sealed.len();
        sealed.extend_from_slice(&[0; TAG_BYTES]);
        sealed.extend_from_slice(value);
        let (head, body) = sealed.split_at_mut(tag_at + TAG_BYTES);
        let tag = cipher.encrypt_inout_detached(&nonce, &associated, body.into());
        let tag = tag.expect("a state is far smaller than the cipher's limit");
        head[tag_at..].copy_from_slice(&tag);
        Some(sealed.into())
    }

    /// Opens a sealed value that was read in a place.
    ///
    /// # Errors
    /// When no key opens the value there.
    pub fn open(&self, sealed: &[u8], place: Place<'_>) -> Result<Bytes, SealError> {
        let (value, with) = self.open_with(sealed, place)?;
        if with != self.current() {
            self.stale.fetch_add(1, Ordering::SeqCst);
        }
        Ok(value)
    }

    /// Returns a value that was stored in the clear, and counts it as [stale](Self::stale) if there is a
    /// key.
    pub fn pass(&self, value: Bytes) -> Bytes {
        if self.seals() {
            self.stale.fetch_add(1, Ordering::SeqCst);
        }
        value
    }

    /// Returns how a value that was read in a place is sealed.
    ///
    /// # Errors
    /// When no key opens the value there.
    pub(super) fn sealed_with(&self, sealed: &[u8], place: Place<'_>) -> Result<Sealed, SealError> {
        self.open_with(sealed, place).map(|(_, with)| with)
    }

    /// How new values are sealed.
    fn current(&self) -> Sealed {
        Sealed { key: 0, layout: self.layout }
    }

    fn open_with(&self, sealed: &[u8], place: Place<'_>) -> Result<(Bytes, Sealed), SealError> {
        if self.ciphers.is_empty() {
            return Err(SealError::NoKey);
        }
        let is_placed = sealed.starts_with(PLACE_LABEL);
        let layout = if is_placed { Layout::Place } else { Layout::Spawn };
        let (begin, associated) = layout.begin(place);
        let Some(rest) = sealed.strip_prefix(begin.as_slice()) else {
            return Err(if is_placed { SealError::Elsewhere } else { SealError::Layout });
        };
        let (nonce, rest) = rest.split_first_chunk().ok_or(SealError::Layout)?;
        let (tag, body) = rest.split_first_chunk().ok_or(SealError::Layout)?;
        let (nonce, tag) = (Nonce::<U16>::from(*nonce), Tag::<U16>::from(*tag));
        for (key, cipher) in self.ciphers.iter().enumerate() {
            let mut value = body.to_vec();
            let value_out = value.as_mut_slice().into();
            if cipher.decrypt_inout_detached(&nonce, &associated, value_out, &tag).is_ok() {
                return Ok((value.into(), Sealed { key, layout }));
            }
        }
        Err(SealError::NoneFits(self.ciphers.len()))
    }
}
