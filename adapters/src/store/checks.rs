//! Checks: compares the configured keys with the keys of a store, before anything is written.
//!
//! A store keeps a known text in the [note](Notes) `keys`, sealed once with every key that the store was
//! sealed with. The copy for the current key is written before anything else is sealed with that key. The
//! copies for former keys are removed after everything is sealed with the current key.
//!
//! A copy in the newer [layout](super::vault::Layout) means that the store may hold values in the newer layout. A Tidegate of a
//! release before that layout cannot open the copy, and ends at its start.

use bytes::Bytes;
use tidegate_stages::ports::StoreError;

use super::notes::Notes;
use super::place::Place;
use super::records;
use super::vault::{SealError, Vault};

const NAME: &str = "keys";
const TEXT: &[u8] = b"sealed by tidegate";

/// The configured keys do not fit the store, or the check failed; nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The store is sealed and no key is configured.
    #[error(
        "the states in this store are sealed and no key is set: SPAWN_STATESTORE_KEY is to hold the key"
    )]
    NoKey,
    /// At least one check record is sealed with a key that is not configured.
    #[error(
        "{failed} of the {known} keys that the states in this store are sealed with {} not among the {given} that are \
         set: SPAWN_STATESTORE_KEY seals, TIDEGATE_STATESTORE_OLD_KEYS holds former keys until `tidegate reseal` has \
         been run",
        if *failed == 1 { "is" } else { "are" }
    )]
    WrongKey {
        /// How many keys are missing.
        failed: usize,
        /// How many keys the store was sealed with.
        known: usize,
        /// How many keys are configured.
        given: usize,
    },
    /// The note is damaged.
    #[error("what the store notes of its keys is damaged: {0}")]
    Damaged(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The check records of a store; the configured keys open all of them.
#[derive(Debug)]
pub struct Checked(Vec<Bytes>);

/// Compares the configured keys with those of the store.
///
/// # Errors
/// When the store was sealed with a key that is not configured, when the note is damaged, or when the store
/// fails.
pub async fn check(notes: &dyn Notes, vault: &Vault) -> Result<Checked, KeyError> {
    let Some(note) = notes.note(NAME).await? else { return Ok(Checked(Vec::new())) };
    let checks = records::decode_checks(&note).map_err(KeyError::Damaged)?;
    let mut failed = 0;
    for check in &checks {
        match vault.open(check, Place::CHECK) {
            Ok(text) if text == TEXT => {}
            Ok(_) => return Err(KeyError::Damaged("a check record holds another text".into())),
            Err(SealError::NoKey) => return Err(KeyError::NoKey),
            Err(SealError::NoneFits(_)) => failed += 1,
            Err(error @ (SealError::Layout | SealError::Elsewhere)) => {
                return Err(KeyError::Damaged(error.to_string()));
            }
        }
    }
    if failed > 0 {
        return Err(KeyError::WrongKey { failed, known: checks.len(), given: vault.keys() });
    }
    Ok(Checked(checks))
}

impl Checked {
    /// Whether states in the store are sealed, at least some of them.
    pub fn is_sealed(&self) -> bool {
        !self.0.is_empty()
    }

    /// Writes a check record for the current key and layout, if there is a key. Call this before anything is sealed with
    /// them. A record of the same key in an older layout goes; one in a newer layout stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_current(mut self, notes: &dyn Notes, vault: &Vault) -> Result<(), KeyError> {
        let layout = |check: &Bytes| {
            let with = vault.sealed_with(check, Place::CHECK).ok();
            with.filter(|with| with.key == 0).map(|with| with.layout)
        };
        if self.0.iter().filter_map(layout).any(|layout| layout >= vault.layout()) {
            return Ok(());
        }
        let Some(check) = vault.seal(TEXT, Place::CHECK) else { return Ok(()) };
        self.0.retain(|check| layout(check).is_none());
        self.0.push(check);
        Ok(notes.put_note(NAME, Some(records::encode_checks(self.0))).await?)
    }
}

/// Runs [`check`], then [`Checked::note_current`].
///
/// # Errors
/// As [`check`].
pub async fn note_current(notes: &dyn Notes, vault: &Vault) -> Result<(), KeyError> {
    check(notes, vault).await?.note_current(notes, vault).await
}

/// Removes the check records of former keys and layouts. Call this once everything is sealed with the current ones.
///
/// # Errors
/// When the store fails.
pub async fn only_current(notes: &dyn Notes, vault: &Vault) -> Result<(), StoreError> {
    let note = vault.seal(TEXT, Place::CHECK).map(|check| records::encode_checks(vec![check]));
    notes.put_note(NAME, note).await
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, ready};
    use parking_lot::Mutex;

    use super::super::vault::{Key, Layout};
    use super::*;

    #[derive(Debug, Default)]
    struct One(Mutex<Option<Bytes>>);

    impl Notes for One {
        fn note(&self, _: &str) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
            ready(Ok(self.0.lock().clone())).boxed()
        }
        fn put_note(
            &self,
            _: &str,
            value: Option<Bytes>,
        ) -> BoxFuture<'static, Result<(), StoreError>> {
            *self.0.lock() = value;
            ready(Ok(())).boxed()
        }
    }

    fn vault(keys: &str) -> Vault {
        let key = |letter: char| Key::parse(&format!("{}=", letter.to_string().repeat(43)));
        Vault::new(&keys.chars().map(|letter| key(letter).unwrap()).collect::<Vec<_>>())
    }

    async fn open(notes: &One, keys: &str) -> Result<(), KeyError> {
        note_current(notes, &vault(keys)).await
    }

    #[tokio::test]
    async fn every_key_that_was_ever_used_is_asked_for_until_all_is_sealed_again() {
        let notes = One::default();
        open(&notes, "").await.unwrap();
        assert_eq!(*notes.0.lock(), None);
        open(&notes, "A").await.unwrap();
        let kept = notes.0.lock().clone();
        open(&notes, "A").await.unwrap();
        assert_eq!(*notes.0.lock(), kept, "one record per key");
        assert!(matches!(open(&notes, "").await, Err(KeyError::NoKey)));
        let wrong = open(&notes, "Q").await.unwrap_err();
        assert!(matches!(wrong, KeyError::WrongKey { failed: 1, known: 1, given: 1 }), "{wrong}");
        assert_eq!(*notes.0.lock(), kept, "a refusal writes nothing");
        open(&notes, "QA").await.unwrap();
        let wrong = open(&notes, "Q").await.unwrap_err();
        assert!(matches!(wrong, KeyError::WrongKey { failed: 1, known: 2, given: 1 }), "{wrong}");
        open(&notes, "AQ").await.unwrap();
        only_current(&notes, &vault("QA")).await.unwrap();
        open(&notes, "Q").await.unwrap();
        assert!(matches!(open(&notes, "A").await, Err(KeyError::WrongKey { .. })));
    }

    #[tokio::test]
    async fn the_record_of_a_key_tells_the_newest_layout_until_all_is_sealed_again() {
        let notes = One::default();
        let spawn = || vault("A").with_layout(Layout::Spawn);
        let layouts = async || {
            let note = notes.note(NAME).await.unwrap().unwrap();
            let checks = records::decode_checks(&note).unwrap();
            let of = |check: &Bytes| vault("AQ").sealed_with(check, Place::CHECK).unwrap().layout;
            checks.iter().map(of).collect::<Vec<_>>()
        };
        note_current(&notes, &spawn()).await.unwrap();
        assert_eq!(layouts().await, [Layout::Spawn]);
        open(&notes, "A").await.unwrap();
        assert_eq!(layouts().await, [Layout::Place]);
        note_current(&notes, &spawn()).await.unwrap();
        assert_eq!(layouts().await, [Layout::Place], "there may be values in it");
        only_current(&notes, &spawn()).await.unwrap();
        assert_eq!(layouts().await, [Layout::Spawn]);
        open(&notes, "QA").await.unwrap();
        assert_eq!(layouts().await, [Layout::Spawn, Layout::Place], "one of each key");
    }

    #[tokio::test]
    async fn a_note_that_is_not_what_was_written_is_damage() {
        let notes = One::default();
        let forged = vault("A").seal(b"another text", Place::CHECK).unwrap();
        for note in [
            Bytes::from_static(b""),
            Bytes::from_static(b"\x09"),
            records::encode_checks(vec![Bytes::from_static(b"short")]),
            records::encode_checks(vec![forged]),
        ] {
            notes.put_note(NAME, Some(note)).await.unwrap();
            let error = open(&notes, "A").await.unwrap_err();
            assert!(matches!(error, KeyError::Damaged(_)), "{error}");
        }
    }
}
