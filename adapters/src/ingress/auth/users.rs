//! Users: checks names and passwords with a file of bcrypt hashes, as `htpasswd -B` writes it.
//!
//! A hash takes long by design. So few are computed at once, on threads of their own, and credentials that were right
//! are remembered for a minute.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quick_cache::sync::Cache;
use tidegate_stages::actor::check_name;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::AuthFileError;
use crate::reload::Watched;

/// Size of the file at most, in bytes.
const MAX_BYTES: u64 = 4 << 20;
/// Credentials that are remembered, and for how long.
const REMEMBERED: usize = 1_024;
const REMEMBERED_FOR: Duration = Duration::from_mins(1);
/// Requests that wait until their password is checked, and for how long.
const MAX_WAITING: usize = 64;
const MAX_WAIT: Duration = Duration::from_secs(2);
/// bcrypt reads no more of a password; a longer one would be as good as its beginning.
const MAX_PASSWORD_BYTES: usize = 72;
/// Costs that are taken: beyond it, one check takes seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;

/// Why credentials are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PasswordError {
    #[error("the user or the password is wrong")]
    Wrong,
    #[error("too many passwords are being checked")]
    Busy,
}

/// The users of one version of the file.
#[derive(Debug)]
struct Known {
    hashes: BTreeMap<String, Arc<str>>,
    /// The hash of the highest cost; `None` as long as no file is read.
    dearest: Option<Arc<str>>,
    /// Credentials that were right, as keyed hashes, with the end of their time.
    remembered: Cache<[u8; 32], Instant>,
}

impl Default for Known {
    fn default() -> Self {
        Self::of(BTreeMap::new())
    }
}

impl Known {
    fn of(hashes: BTreeMap<String, Arc<str>>) -> Self {
        let cost = |hash: &str| hash.parse().map_or(0, |parts: bcrypt::HashParts| parts.get_cost());
        let dearest = hashes.values().max_by_key(|hash| cost(hash)).cloned();
        Self { hashes, dearest, remembered: Cache::new(REMEMBERED) }
    }

    /// The hash that a password of this user is compared with. For an unknown user it is the one that takes longest: how long
    /// a refusal takes does not tell that there is no such user.
    fn compared_with(&self, name: &str) -> Option<Arc<str>> {
        self.hashes.get(name).or(self.dearest.as_ref()).cloned()
    }
}

/// The users in effect, which a reload replaces. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Users {
    known: Arc<ArcSwap<Known>>,
    /// Keys the hashes of what is remembered; new in each process.
    secret: hmac::Key,
    waiting: Arc<Semaphore>,
    checking: Arc<Semaphore>,
}

/// Keeps the users up to date.
type WatchedUsers = Watched<String, AuthFileError>;

impl Users {
    /// Reads the users.
    pub(super) fn open(file: PathBuf) -> Result<(Self, WatchedUsers), AuthFileError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let users = Self {
            known: Arc::default(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            checking: Arc::new(Semaphore::new((cores / 4).max(1))),
        };
        let (known, path) = (users.known.clone(), file.clone());
        let watched = Watched::start(
            "users",
            move || read(&file, MAX_BYTES),
            move |text| {
                known.store(Arc::new(Known::of(parse(&path, text)?)));
                Ok(())
            },
        )?;
        Ok((users, watched))
    }

    /// The name of the user whose credentials these are, encoded as in the header.
    ///
    /// # Errors
    /// When they are wrong, or too many are being checked.
    pub(super) async fn name(&self, encoded: &str) -> Result<Arc<str>, PasswordError> {
        let shown = STANDARD.decode(encoded).map(Zeroizing::new);
        let shown = shown.map_err(|_| PasswordError::Wrong)?;
        let colon = shown.iter().position(|byte| *byte == b':').ok_or(PasswordError::Wrong)?;
        let (name, password) = shown.split_at(colon);
        let (name, password) = (std::str::from_utf8(name), password.get(1..).unwrap_or_default());
        let name: Arc<str> = name.map_err(|_| PasswordError::Wrong)?.into();
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::Wrong);
        }
        // With name and password apart: the colon is the first one.
        let mut digest = [0; 32];
        digest.copy_from_slice(hmac::sign(&self.secret, &shown).as_ref());
        let known = self.known.load_full();
        if is_remembered(&known, &digest) {
            return Ok(name);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| PasswordError::Busy)?;
        let checking = timeout(MAX_WAIT, Arc::clone(&self.checking).acquire_owned()).await;
        let Ok(Ok(checking)) = checking else { return Err(PasswordError::Busy) };
        if is_remembered(&known, &digest) {
            return Ok(name);
        }
        let hash = known.compared_with(&name);
        let is_known = known.hashes.contains_key(&*name);
        let password = Zeroizing::new(password.to_vec());
        let checked = tokio::task::spawn_blocking(move || {
            let is_right =
                hash.is_some_and(|hash| bcrypt::verify(&*password, &hash).unwrap_or(false));
            // It is held until the thread is done, also when the client has gone.
            drop(checking);
            is_right
        });
        if !checked.await.unwrap_or(false) || !is_known {
            return Err(PasswordError::Wrong);
        }
        known.remembered.insert(digest, Instant::now() + REMEMBERED_FOR);
        Ok(name)
    }
}

fn is_remembered(known: &Known, digest: &[u8; 32]) -> bool {
    known.remembered.get(digest).is_some_and(|until| Instant::now() < until)
}

/// Reads lines of `name:hash`; empty lines and lines that begin with `#` say nothing.
pub(super) fn parse(file: &Path, text: &str) -> Result<BTreeMap<String, Arc<str>>, AuthFileError> {
    let mut hashes = BTreeMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let wrong = |text: &str| AuthFileError {
            file: file.display().to_string(),
            line: Some(line),
            text: text.into(),
        };
        let (name, hash) =
            text.split_once(':').ok_or_else(|| wrong("must be a name, a colon and a hash"))?;
        check_name(name).map_err(|error| wrong(&format!("the name {error}")))?;
        let parts: bcrypt::HashParts = hash
            .parse()
            .map_err(|_| wrong("has no bcrypt hash after the colon; `htpasswd -B` writes one"))?;
        if !COSTS.contains(&parts.get_cost()) {
            return Err(wrong("has a hash whose cost is not 4 to 14"));
        }
        if hashes.insert(name.to_owned(), Arc::from(hash)).is_some() {
            return Err(wrong("names a user for the second time"));
        }
    }
    if hashes.is_empty() {
        let (file, text) = (file.display().to_string(), "holds no user".into());
        return Err(AuthFileError { file, line: None, text });
    }
    Ok(hashes)
}

/// Reads a file of text.
pub(super) fn read(file: &Path, max_bytes: u64) -> Result<String, AuthFileError> {
    let wrong = |text: String| AuthFileError { file: file.display().to_string(), line: None, text };
    // Opening a pipe would wait for its writer.
    if std::fs::metadata(file).is_ok_and(|it| !it.is_file()) {
        return Err(wrong("is no file".into()));
    }
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(max_bytes + 1).read_to_string(&mut text))
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if text.len() as u64 > max_bytes {
        return Err(wrong(format!("is larger than {max_bytes} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
