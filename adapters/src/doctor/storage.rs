//! Storage: the data directory and its disk, or the database.

use std::io;
use std::path::Path;

use rustix::fs::{Access, access};

use super::Finding;
use crate::app::StartError;
use crate::app::stores::{self, Purpose};
use crate::clock::SystemClock;
use crate::config::{Database, Settings};
use crate::store::{
    CqlOptions, FreeSpace, OpenError, Options, check_space, examine as examine_dir,
};

const STORE: &str = "store";
const DISK: &str = "disk";

/// Also whether a running proxy holds the data directory.
pub(super) async fn examine(settings: &Settings) -> Result<(Vec<Finding>, bool), StartError> {
    match &settings.database {
        Database::Embedded => {
            let dir = settings.data_dir.clone();
            let examined = tokio::task::spawn_blocking(move || directory(&dir)).await;
            Ok(examined.map_err(anyhow::Error::from)?)
        }
        Database::Scylla(options) => Ok((database(settings, options).await, false)),
        Database::Memory => {
            let text = "PROXY_DATABASE_TYPE=memory: every state is lost when the proxy ends; embedded and scylla keep them";
            Ok((vec![Finding::warning(STORE, text)], false))
        }
    }
}

fn directory(dir: &Path) -> (Vec<Finding>, bool) {
    let shown = dir.display();
    let examined = examine_dir(dir);
    let is_in_use = matches!(examined, Err(OpenError::Locked { .. }));
    let store = match examined {
        Ok(found) if found.is_older() => Finding::warning(
            STORE,
            format!(
                "{shown} has format {}: `serve` migrates it; make an export with the old version first, to be able to go back",
                found.format
            ),
        ),
        Ok(found) => Finding::ok(
            STORE,
            format!("{shown}: format {}, {} commits", found.format, found.commits),
        ),
        Err(OpenError::Missing { .. }) => {
            Finding::ok(STORE, format!("{shown} holds no store yet; `serve` makes one there"))
        }
        Err(error @ OpenError::Locked { .. }) => {
            Finding::ok(STORE, format!("{error}, which has checked it"))
        }
        Err(error) => {
            Finding::error(STORE, format!("{error}; TIDEGATE_DATA_DIR says where states are kept"))
        }
    };
    (vec![store, disk(dir)], is_in_use)
}

/// The device of the directory, or of where it will be made.
fn disk(dir: &Path) -> Finding {
    let there = dir.ancestors().find(|at| at.exists()).unwrap_or_else(|| Path::new("."));
    let there = if there == Path::new("") { Path::new(".") } else { there };
    if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
        let (shown, error) = (there.display(), io::Error::from(error));
        return Finding::error(
            DISK,
            format!(
                "{shown} cannot be written: {error}; give it to the user that runs the proxy, or mount it writable"
            ),
        );
    }
    let options = Options::default();
    if let Err(error) = check_space(there, &options, 0) {
        let text =
            format!("{error}: changes are refused with 503; make free space, or use a larger disk");
        return Finding::error(DISK, text);
    }
    match FreeSpace::of(there) {
        Ok(space) => free(space, options.reserve_of(space.total)),
        Err(error) => Finding::error(DISK, format!("{}: {error}", there.display())),
    }
}

/// Less than twice the reserve is little, as in `/admin/warnings`; the size of the device says nothing.
fn free(FreeSpace { free, total }: FreeSpace, reserve: u64) -> Finding {
    let (free_mib, total_mib) = (free >> 20, total >> 20);
    let text = format!("{free_mib} of {total_mib} MiB are free");
    if free < reserve.saturating_mul(2) {
        return Finding::warning(DISK, format!("{text}; soon changes are refused with 503"));
    }
    Finding::ok(DISK, text)
}

/// Opens the database to read: version, keys and an unfinished import are checked as at a start.
async fn database(settings: &Settings, options: &CqlOptions) -> Vec<Finding> {
    let store = match stores::open(settings, Purpose::Read).await {
        Ok(store) => store,
        Err(error @ StartError::NoStore(_)) => {
            return vec![Finding::ok(STORE, format!("{error} yet; `serve` makes it"))];
        }
        Err(error) => return vec![Finding::error(STORE, error.to_string())],
    };
    let concerns = store.concerns(options, &SystemClock).await;
    store.close(stores::CLOSING).await;
    let mut found = vec![Finding::ok(STORE, "the database answers, and its tables and keys fit")];
    found.extend(concerns.into_iter().map(|concern| Finding::warning("database", concern)));
    found
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn a_disk_has_little_below_twice_the_reserve_however_large_it_is() {
        let reserve = 64 << 20;
        let free = |free| super::free(FreeSpace { free, total: 1 << 40 }, reserve).severity;
        assert_eq!(free(2 * reserve), Severity::Ok);
        assert_eq!(free(2 * reserve - 1), Severity::Warning);
    }
}
