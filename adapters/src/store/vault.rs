//! Vault: seals states at rest, in the byte layout of the original (AES-256-GCM, `behaviour` REQ-STO-06).
//!
//! ```text
//! 01 0A "AES.GCM.V1"   nonce (16)   tag (16)   ciphertext          associated data: "AES256GCM"
//! ```
//! The first key seals; any key may open. A flag beside a stored value says whether the value is sealed;
//! the bytes are not inspected. Only states and undelivered workflow are sealed: names, tags, type URLs,
//! numbers and times stay readable, as in the original.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::aead::consts::U16;
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInOut, AesGcm, KeyInit, Nonce, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

type Cipher = AesGcm<Aes256, U16>;

const LABEL: &[u8] = b"\x01\x0AAES.GCM.V1";
const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const ASSOCIATED: &[u8] = b"AES256GCM";
/// Bytes that sealing adds.
pub const SEAL_BYTES: usize = LABEL.len() + NONCE_BYTES + TAG_BYTES;

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
    /// The value does not have the layout of a sealed value.
    #[error("it has not the layout of a sealed value")]
    Layout,
}

/// Seals and opens values, in the original's byte layout. Without keys, values stay in the clear.
#[derive(Default)]
pub struct Vault {
    ciphers: Vec<Cipher>,
    /// Values read that are not sealed with the first key, although there is one.
    stale: AtomicU64,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("keys", &self.ciphers.len()).finish_non_exhaustive()
    }
}

impl Vault {
    /// Seals with the first key and opens with any of them; without keys, seals nothing.
    pub fn new(keys: &[Key]) -> Self {
        let ciphers = keys.iter().map(|key| Cipher::new((&key.0).into())).collect();
        Self { ciphers, stale: AtomicU64::new(0) }
    }

    /// Returns the number of keys.
    pub fn keys(&self) -> usize {
        self.ciphers.len()
    }

    /// Returns how many of the values read so far would change if written again: values that an old key
    /// opened, and values in the clear while there is a key.
    pub fn stale(&self) -> u64 {
        self.stale.load(Ordering::SeqCst)
    }

    /// Whether new values are sealed.
    pub fn seals(&self) -> bool {
        !self.ciphers.is_empty()
    }

    /// Seals a value; returns `None` when values stay in the clear.
    ///
    /// # Panics
    /// Never: a value of more than 64 GiB is refused long before.
    pub fn seal(&self, value: &[u8]) -> Option<Bytes> {
        let cipher = self.ciphers.first()?;
        let nonce = Nonce::<U16>::from(rand::random::<[u8; NONCE_BYTES]>());
        let mut sealed = Vec::with_capacity(SEAL_BYTES + value.len());
        sealed.extend_from_slice(LABEL);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&[0; TAG_BYTES]);
        sealed.extend_from_slice(value);
        let (head, body) = sealed.split_at_mut(SEAL_BYTES);
        let tag = cipher.encrypt_inout_detached(&nonce, ASSOCIATED, body.into());
        let tag = tag.expect("a state is far smaller than the cipher's limit");
        head[SEAL_BYTES - TAG_BYTES..].copy_from_slice(&tag);
        Some(sealed.into())
    }

    /// Opens a sealed value.
    ///
    /// # Errors
    /// When no key opens the value.
    pub fn open(&self, sealed: &[u8]) -> Result<Bytes, SealError> {
        let (value, place) = self.open_with(sealed)?;
        if place > 0 {
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

    /// Whether a value is sealed with the key that seals new values.
    ///
    /// # Errors
    /// When no key opens the value.
    pub fn is_current(&self, sealed: &[u8]) -> Result<bool, SealError> {
        self.open_with(sealed).map(|(_, place)| place == 0)
    }

    /// Returns the value and the index of the key that opened it.
    fn open_with(&self, sealed: &[u8]) -> Result<(Bytes, usize), SealError> {
        if self.ciphers.is_empty() {
            return Err(SealError::NoKey);
        }
        let rest = sealed.strip_prefix(LABEL).ok_or(SealError::Layout)?;
        let (nonce, rest) = rest.split_first_chunk().ok_or(SealError::Layout)?;
        let (tag, body) = rest.split_first_chunk().ok_or(SealError::Layout)?;
        let (nonce, tag) = (Nonce::<U16>::from(*nonce), Tag::<U16>::from(*tag));
        for (place, cipher) in self.ciphers.iter().enumerate() {
            let mut value = body.to_vec();
            let value_out = value.as_mut_slice().into();
            if cipher.decrypt_inout_detached(&nonce, ASSOCIATED, value_out, &tag).is_ok() {
                return Ok((value.into(), place));
            }
        }
        Err(SealError::NoneFits(self.ciphers.len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> Key {
        Key([byte; 32])
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    /// Made by OpenSSL's AES-256-GCM (through Node's `crypto`) with key 00…1f and nonce a0…af.
    #[test]
    fn a_value_that_another_implementation_sealed_in_this_layout_opens() {
        let sealed = from_hex(
            "010a4145532e47434d2e5631a0a1a2a3a4a5a6a7a8a9aaabacadaeaf\
             a1701bf0f0d9967e76cbe05d39fdc7155ecb469c6bb9ac02a6be70d7cd7ee2f5",
        );
        let key = Key::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        assert_eq!(Vault::new(&[key]).open(&sealed).unwrap(), "the state of joe");
    }

    #[test]
    fn an_old_key_opens_and_the_new_one_seals() {
        let sealed = Vault::new(&[key(1)]).seal(b"state").unwrap();
        let rotated = Vault::new(&[key(2), key(1)]);
        assert_eq!(rotated.open(&sealed).unwrap(), "state");
        assert!(!rotated.is_current(&sealed).unwrap());
        let again = rotated.seal(b"state").unwrap();
        assert!(rotated.is_current(&again).unwrap());
        assert_eq!(rotated.stale(), 1);
        rotated.open(&again).unwrap();
        assert_eq!(rotated.stale(), 1, "sealed with the current key");
        rotated.pass(Bytes::new());
        assert_eq!(rotated.stale(), 2, "in the clear");
        assert_eq!(Vault::new(&[key(1)]).open(&again), Err(SealError::NoneFits(1)));
        assert_eq!(Vault::default().open(&again), Err(SealError::NoKey));
        assert_eq!(Vault::default().seal(b"state"), None);
    }

    #[test]
    fn a_key_is_32_bytes_of_base64_and_is_never_shown() {
        for wrong in ["", "no base64!", "c2hvcnQ="] {
            let error = Key::parse(wrong).unwrap_err();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
        let vault = Vault::new(&[key(7)]);
        assert!(!format!("{:?} {vault:?}", key(7)).contains('7'));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_to_the_same_and_a_flipped_bit_does_not(
            value in proptest::collection::vec(any::<u8>(), 0..500),
            at in any::<proptest::sample::Index>(),
            bit in 0_u32..8,
        ) {
            let vault = Vault::new(&[key(3)]);
            let sealed = vault.seal(&value).unwrap();
            prop_assert_eq!(sealed.len(), value.len() + SEAL_BYTES);
            prop_assert_eq!(&vault.open(&sealed).unwrap()[..], &value[..]);
            let mut damaged = sealed.to_vec();
            let at = at.index(damaged.len());
            damaged[at] ^= 1_u8 << bit;
            prop_assert!(vault.open(&damaged).is_err());
        }
    }
}
