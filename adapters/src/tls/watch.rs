//! Watch: what is made of PEM files, made anew when their content changes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::certificate::Ending;
use super::files::{Contents, PemFile, TlsError};
use crate::reload::{Status, Watch, Watched};

/// How often a certificate that ends soon is warned of.
const WARN_EVERY: Duration = Duration::from_hours(24);

/// What is made of some files, as they are now. Cheap to clone.
#[derive(Debug)]
pub(super) struct Current<T>(Arc<RwLock<Option<Arc<T>>>>);

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Current<T> {
    /// It as it is now.
    pub(super) fn get(&self) -> Arc<T> {
        self.0.read().clone().expect("it is made before anybody has it")
    }
}

/// Certificates that are read again when their files change, and warned of when they end soon.
pub(crate) struct Certificates {
    watched: Watched<Contents, TlsError>,
    endings: Arc<Mutex<Vec<Ending>>>,
    warned: Instant,
}

/// Makes something of files, now and whenever they change. `make` also returns when the certificates in them end.
pub(super) fn watch<T: Send + Sync + 'static>(
    what: &'static str,
    files: Vec<PemFile>,
    make: impl Fn(&Contents) -> Result<(T, Vec<Ending>), TlsError> + Send + 'static,
) -> Result<(Current<T>, Certificates), TlsError> {
    let current = Current(Arc::default());
    let endings = Arc::<Mutex<Vec<Ending>>>::default();
    let (made_now, endings_now) = (current.clone(), Arc::clone(&endings));
    let apply = move |contents: &Contents| {
        let (value, ends) = make(contents)?;
        ends.iter().for_each(Ending::tell);
        *endings_now.lock() = ends;
        *made_now.0.write() = Some(Arc::new(value));
        Ok(())
    };
    let watched = Watched::start(what, move || Contents::read(&files), apply)?;
    Ok((current, Certificates { watched, endings, warned: Instant::now() }))
}

impl Watch for Certificates {
    fn look(&mut self) -> bool {
        if self.warned.elapsed() >= WARN_EVERY {
            self.warned = Instant::now();
            self.endings.lock().iter().for_each(Ending::tell);
        }
        self.watched.look()
    }

    fn status(&self) -> Status {
        self.watched.status()
    }
}
